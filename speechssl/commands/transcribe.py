"""``speechssl transcribe``."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechssl.commands.decoding import add_decoding, decoder_of
from speechssl.commands.exits import exit_code_of, tell
from speechssl.commands.options import FORMATS, MODEL, add_file_processes, add_precision, is_renamed
from speechssl.files import output_folder

if TYPE_CHECKING:
    from speechssl.inference.batching import Unreadable
    from speechssl.inference.recordings import Clip
    from speechssl.inference.transcript import Transcript

SUMMARY = "Text for recordings of any length: files, folders, or - for standard input."
ONE_EACH = ("srt", "vtt", "textgrid")
"""Formats whose files hold one recording."""
EXAMPLE = "speechssl transcribe runs/finetune interview.mp3 --format srt --out subtitles"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("audio", nargs="+", metavar="AUDIO|DIR|-", help="recordings")
    parser.add_argument(
        "--format", choices=FORMATS, default="txt", help="of the output (default %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=output_folder,
        metavar="DIR",
        help="folder for a file for each recording (default: all to standard output)",
    )
    parser.add_argument(
        "--batch-s", type=float, default=60.0, metavar="S", help="seconds in a batch (default 60)"
    )
    add_decoding(parser)
    add_precision(parser, auto=True)
    add_file_processes(parser)


def run(args: argparse.Namespace) -> int:
    from speechssl.inference.recordings import find_clips
    from speechssl.inference.standard_input import standard_input

    with standard_input(sys.stdin.buffer if "-" in args.audio else None) as stdin:
        return _transcribe(args, find_clips(args.audio, stdin))


def _transcribe(args: argparse.Namespace, clips: "list[Clip]") -> int:
    from speechssl.inference.transcribe import transcribe_files
    from speechssl.interop.sources import open_model

    if len(clips) > 1 and args.format in ONE_EACH and not args.out:
        raise ValueError(
            f"{len(clips)} recordings cannot be in one {args.format}: give --out DIR, which gets a "
            "file for each."
        )
    checkpoint = open_model(args.model)
    results = transcribe_files(
        checkpoint,
        clips,
        source=args.model,
        decode=decoder_of(checkpoint, args),
        precision=args.precision,
        batch_s=args.batch_s,
        processes=args.processes,
        say=tell,
    )
    with closing(results):
        failed, narrow = _write(args, clips, results)
    if narrow:
        tell(
            f"{len(narrow)} of {len(clips)} recordings (the first: {narrow[0]}) carry nothing "
            "above 4 kHz, as over a telephone; a model that learned from wider recordings makes "
            "more errors on them."
        )
    return exit_code_of(failed, len(clips))


def _write(
    args: argparse.Namespace, clips: "Sequence[Clip]", results: "Iterable[Transcript | Unreadable]"
) -> tuple[int, list[str]]:
    """Write each result as it comes -> how many cannot be read, and which are of narrow band."""
    from speechssl.files import writing
    from speechssl.inference.batching import Unreadable
    from speechssl.inference.writers import WRITERS

    failed = header = 0
    narrow: list[str] = []
    for target, result in zip(
        _targets(clips, args.out, args.format), _bar(results, clips), strict=True
    ):
        if isinstance(result, Unreadable):
            failed += 1
            tell(str(result))
            continue
        if result.narrow_band:
            narrow.append(result.audio)
        for note in result.notes:
            tell(note)
        text = WRITERS[args.format](result)
        if target is not None:
            with writing(target) as file:
                file.write(text)
            if is_renamed(target.stem, result.audio):
                print(f"{target}: {result.audio}")
            continue
        if args.format == "txt" and len(clips) > 1:
            text = f"{result.audio}\t{text}"
        if args.format == "tsv":
            text, header = text.split("\n", 1)[1] if header else text, 1
        sys.stdout.write(text)
        sys.stdout.flush()
    return failed, narrow


def _targets(clips: "Sequence[Clip]", out: Path | None, suffix: str) -> list[Path | None]:
    """A file for each clip's result; None for stdout."""
    from speechssl.inference.recordings import output_names

    if out is None:
        return [None] * len(clips)
    return [out / f"{name}.{suffix}" for name in output_names(clips)]


def _bar(results: Iterable[Any], clips: "Sequence[Clip]") -> Iterable[Any]:
    """`results` with a progress bar, where there is someone to see it."""
    from tqdm import tqdm

    hidden = len(clips) == 1 or not sys.stderr.isatty() or sys.stdout.isatty()
    bar: Iterable[Any] = tqdm(results, total=len(clips), unit="rec", disable=hidden)
    return bar
