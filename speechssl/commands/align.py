"""``speechssl align``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from speechssl.commands.exits import EXIT_DONE, tell
from speechssl.commands.options import MODEL, add_precision, suffix_of
from speechssl.files import output_folder

if TYPE_CHECKING:
    from speechssl.inference.align import AlignedText
    from speechssl.inference.recordings import Clip

SUMMARY = (
    "Times of a known text in its recording, of any length; words that were not said, and speech "
    "that is not in the text, are named."
)
EXAMPLE = "speechssl align runs/finetune chapter.mp3 chapter.txt --format srt --out subtitles"
FORMATS = (*("json", "srt", "vtt", "textgrid", "eaf", "ctm", "stm", "tsv", "audacity", "flextext"),)
WITHOUT_REST = ("srt", "vtt", "ctm", "stm", "audacity", "flextext")
"""Formats that hold the aligned words alone."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("audio", metavar="AUDIO|-", help="a recording, or - for standard input")
    parser.add_argument(
        "text",
        type=Path,
        metavar="TEXT",
        help="what is said in it: a file of text, an utterance a line, or a transcript (.srt, "
        ".vtt, .json, .tsv, .ctm, .TextGrid), whose times are not looked at",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="json", help="of the output (default %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=output_folder,
        metavar="DIR",
        help="folder for a file named after the recording (default: standard output)",
    )
    add_precision(parser, auto=True)


def run(args: argparse.Namespace) -> int:
    from speechssl.files import check_writable
    from speechssl.inference.known_text import read_known_text
    from speechssl.inference.recordings import find_clips
    from speechssl.inference.standard_input import standard_input

    if Path(args.audio).is_dir():
        raise ValueError(f"{args.audio} is a folder: give one recording, whose text TEXT is.")
    if args.out is not None:
        check_writable(args.out)
    lines = read_known_text(args.text)
    with standard_input(sys.stdin.buffer if args.audio == "-" else None, once=True) as stdin:
        return _align(args, find_clips([args.audio], stdin), lines)


def _align(args: argparse.Namespace, clips: "list[Clip]", lines: list[str]) -> int:
    from speechssl.files import writing
    from speechssl.inference.align import Aligner
    from speechssl.inference.aligned_writers import ALIGNED_WRITERS
    from speechssl.inference.known_text import known_text
    from speechssl.inference.recordings import output_names
    from speechssl.interop.sources import open_model

    aligner = Aligner(open_model(args.model), precision=args.precision)
    known = known_text(lines, aligner.tokenizer, str(args.text))
    if known.unknown:
        listed = ", ".join(f"{c} ({n})" for c, n in list(known.unknown.items())[:20])
        tell(
            f"{args.text} has letters that the model does not know and that are aligned as any "
            f"sound: {listed}."
        )
    aligned = aligner(clips[0], known)
    made = ALIGNED_WRITERS[args.format](aligned)
    if args.out is None:
        sys.stdout.write(made)
    else:
        (name,) = output_names(clips)
        with writing(args.out / f"{name}.{suffix_of(args.format)}") as file:
            file.write(made)
    for note in (*aligned.transcript.notes, *_notes(aligned, args.format)):
        tell(note)
    return EXIT_DONE


def _notes(aligned: "AlignedText", form: str) -> list[str]:
    """What of the text and of the recording is not in the other."""
    notes = []
    if aligned.transcript.narrow_band:
        notes.append(
            f"{aligned.transcript.audio} carries nothing above 4 kHz, as over a telephone; a model "
            "that learned from wider recordings makes more errors on it."
        )
    if runs := aligned.unaligned:
        first = runs[0].text if len(runs[0].text) <= 60 else f"{runs[0].text[:57]}..."
        where = " and are not in the output (json, tsv and textgrid name them)"
        notes.append(
            f"{sum(run.num_words for run in runs)} of {len(aligned.words)} words were not found in "
            f"the recording{where * (form in WITHOUT_REST)}; the first: {first!r} in line "
            f"{runs[0].line}, between {runs[0].after_s:.1f} and {runs[0].before_s:.1f} s."
        )
    if extra := aligned.extra:
        seconds = sum(each.end_s - each.start_s for each in extra)
        notes.append(
            f"{seconds:.1f} s of speech in {len(extra)} stretches are not in the text; the first "
            f"from {extra[0].start_s:.1f} to {extra[0].end_s:.1f} s."
        )
    return notes
