"""``speechssl transcribe``."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechssl.commands.annotation_output import add_annotation_output, eaf_files
from speechssl.commands.decoding import add_decoding, add_tuning, decoder_of
from speechssl.commands.exits import EXIT_DONE, tell
from speechssl.commands.live import add_live, is_live, run_live
from speechssl.commands.options import (
    FORMATS,
    MODEL,
    add_cluster,
    add_file_processes,
    add_precision,
    cluster_of,
    expect_processes,
    suffix_of,
)
from speechssl.commands.progress import Progress
from speechssl.commands.subtitles import SUBTITLES, add_subtitles, subtitle_config
from speechssl.commands.transcripts import Job, Written
from speechssl.files import output_folder

if TYPE_CHECKING:
    from speechssl.audio import Piped
    from speechssl.inference.done import DoneRecord
    from speechssl.inference.recordings import Clip
    from speechssl.inference.subtitles import SubtitleConfig
    from speechssl.workers import Cluster

SUMMARY = "Text for recordings of any length: files, folders, or - for standard input."
ONE_EACH = (*SUBTITLES, "textgrid", "eaf", "flextext", "audacity")
"""Formats whose files hold one recording."""
EXAMPLE = "speechssl transcribe runs/finetune interview.mp3 --format srt --out subtitles"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "audio",
        nargs="+",
        metavar="AUDIO|DIR|MANIFEST|-",
        help="recordings, folders of them, manifests (.jsonl), whose utterances are named by id",
    )
    parser.add_argument(
        "--format",
        choices=(*FORMATS, "jsonl"),
        default="txt",
        help="of the output (default %(default)s); jsonl is of live text",
    )
    parser.add_argument(
        "--out",
        type=output_folder,
        metavar="DIR",
        help="folder for a file for each recording (default: all to standard output)",
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out recordings whose transcript lies in --out already, made of the same "
        "recording, model and options; what was made of others is made again, what was changed by "
        "hand since is kept",
    )
    parser.add_argument(
        "--channels",
        choices=("mix", "first", "split"),
        default="mix",
        help="of a recording: mixed (default), the first one, or a transcript for each, on one "
        "clock, as of a call with a person on each channel",
    )
    parser.add_argument(
        "--batch-s", type=float, default=60.0, metavar="S", help="seconds in a batch (default 60)"
    )
    add_decoding(parser)
    add_tuning(parser)
    parser.add_argument(
        "--n-best",
        type=int,
        metavar="N",
        help="the N best texts of each stretch of speech, in json",
    )
    add_precision(parser, auto=True)
    add_file_processes(parser)
    add_cluster(parser)
    add_subtitles(parser)
    add_annotation_output(parser)
    add_live(parser)


def run(args: argparse.Namespace) -> int:
    if is_live(args):
        return run_live(args)
    expect_processes(args)
    from speechssl.inference.standard_input import standard_input

    if args.cluster and "-" in args.audio:
        raise ValueError("Standard input is on this machine only: give --cluster files or folders.")
    once = args.audio.count("-") == 1 and args.channels != "split" and not args.skip_existing
    with standard_input(sys.stdin.buffer if "-" in args.audio else None, once=once) as stdin:
        jobs = _planned(args, _found(args.audio, stdin))
        subtitles = subtitle_config(args)
        with cluster_of(args) as cluster:
            return _transcribe(args, jobs, subtitles, cluster)


def _found(places: "Sequence[str]", stdin: "bytes | Path | Piped") -> "list[Clip]":
    """The recordings, in the order given."""
    from speechssl.inference.manifest_clips import is_manifest, manifest_clips
    from speechssl.inference.recordings import find_clips

    found = []
    for place in places:
        found += manifest_clips(place) if is_manifest(place) else find_clips([place], stdin)
    return found


def _planned(args: argparse.Namespace, found: "list[Clip]") -> list[Job]:
    """What is to be transcribed; ValueError for options that do not go with it."""
    if args.skip_existing and not args.out:
        raise ValueError("--skip-existing needs --out DIR, where the transcripts lie.")
    named = _jobs(found, args.out, suffix_of(args.format), saymore=args.tiers == "saymore")
    jobs = [job for each in named for job in _channels(each, args)]
    if len(jobs) > 1 and args.format in ONE_EACH and not args.out:
        raise ValueError(
            f"{len(jobs)} recordings cannot be in one {args.format}: give --out DIR, which gets a "
            "file for each."
        )
    if args.n_best is not None and args.format != "json":
        raise ValueError("--n-best gives several texts, which only --format json holds.")
    return jobs


def _transcribe(
    args: argparse.Namespace,
    jobs: list[Job],
    subtitles: "SubtitleConfig",
    cluster: "Cluster | None",
) -> int:
    from speechssl.inference.confidence import calibration_of, why_not_calibrated
    from speechssl.inference.done import RECORD, DoneRecord
    from speechssl.inference.transcribe import transcribe_files
    from speechssl.interop.sources import open_model

    eafs = eaf_files(args)
    total = len(jobs)
    checkpoint = open_model(args.model)
    decode = decoder_of(checkpoint, args)
    if args.format in ("json", "tsv", "ctm") and calibration_of(checkpoint, decode) is None:
        tell(why_not_calibrated(checkpoint))
    record: DoneRecord | None = None
    if args.skip_existing or (args.out and (args.out / RECORD).exists()):
        record = DoneRecord(args.out, checkpoint, _what_matters(args, decode, subtitles))
    if record and args.skip_existing:
        jobs = _to_do(jobs, record)
        if not jobs:
            return EXIT_DONE
    progress = Progress(
        [_size(job.clip) for job in jobs], bar=bool(args.out) or not sys.stdout.isatty()
    )
    written = Written(
        args.format,
        subtitles,
        progress.tell,
        record,
        many=total > 1,
        eafs=eafs,
        language=args.language or "und",
    )
    results = transcribe_files(
        checkpoint,
        [job.clip for job in jobs],
        source=args.model,
        decode=decode,
        precision=args.precision,
        batch_s=args.batch_s,
        processes=args.processes,
        say=progress.tell,
        cluster=cluster,
    )
    with closing(results):
        for job, result in zip(jobs, progress.over(results), strict=True):
            written.add(job, result)
    return written.end(total)


def _jobs(
    clips: "Sequence[Clip]", out: Path | None, suffix: str, *, saymore: bool = False
) -> list[Job]:
    """Each clip with the file for its result; None for stdout."""
    from speechssl.inference.manifest_clips import named_by_id
    from speechssl.inference.recordings import output_names

    if out is None:
        return [Job(clip, None) for clip in clips]
    names = output_names([named_by_id(clip) for clip in clips])
    if saymore:  # x.wav.annotations.eaf
        endings = [f"{Path(clip.name).suffix}.annotations.{suffix}" for clip in clips]
        return [
            Job(clip, out / f"{name.removesuffix(Path(clip.name).suffix)}{ending}", name)
            for clip, name, ending in zip(clips, names, endings, strict=True)
        ]
    return [
        Job(clip, out / f"{name}.{suffix}", name) for clip, name in zip(clips, names, strict=True)
    ]


def _channels(job: Job, args: argparse.Namespace) -> list[Job]:
    """The job, or one for each channel, whose files end in ``.channel-1.txt`` and so on."""
    from dataclasses import replace

    from speechssl.inference.recordings import split_channels

    if args.channels == "mix":
        return [job]
    if args.channels == "first":
        return [replace(job, clip=replace(job.clip, channel=0))]
    found = []
    for clip in split_channels(job.clip):
        target = job.target
        if target is not None and clip.channel is not None:
            target = target.with_name(
                f"{job.name_in_folder}.channel-{clip.channel + 1}.{suffix_of(args.format)}"
            )
        found.append(replace(job, clip=clip, target=target))
    return found


_CHANGES_NOTHING = frozenset(
    (
        "model",
        "audio",
        "out",
        "skip_existing",
        "batch_s",
        "processes",
        "cluster",
        "channels",
        "debug",
    )
)
"""Options on which no transcript depends, or whose effect is known otherwise: the model and the
channel are digested themselves, subtitles only where they are written."""


def _what_matters(
    args: argparse.Namespace, decode: object, subtitles: "SubtitleConfig"
) -> dict[str, Any]:
    """The options that a transcript may depend on; files as digests of their content."""
    from dataclasses import asdict

    from speechssl.inference.done import digest_of

    options: dict[str, Any] = {}
    for name, value in vars(args).items():
        if name in _CHANGES_NOTHING or name.startswith("subtitle_"):
            continue
        if not isinstance(value, str | int | float | list | Path | None):
            continue  # what the command line is made of
        if isinstance(value, Path) and value.is_file():
            options[name] = digest_of(value)
        else:
            options[name] = str(value)
    if args.format in SUBTITLES:
        options["subtitles"] = asdict(subtitles)
    if (config := getattr(decode, "config", None)) is not None:  # what was tuned for the model, too
        options["decoder"] = asdict(config)
    return options


def _to_do(jobs: Iterable[Job], record: "DoneRecord") -> list[Job]:
    """Those whose transcript is not there yet, or was made of something else; says what became of
    the others."""
    from dataclasses import replace

    left: list[Job] = []
    done, edited, unknown, total = 0, [""] * 0, 0, 0
    for job in jobs:
        assert job.target is not None
        total += 1
        work = record.work_of(job.clip)
        state = record.state(job.target, work)
        if state == "done":
            done += 1
        elif state == "edited":
            edited.append(str(job.target))
        else:
            unknown += state == "unknown"
            left.append(replace(job, work=work))
    if done:
        tell(f"{done:,} of {total:,} recordings are transcribed already.")
    if edited:
        tell(
            f"{len(edited):,} transcripts were changed by hand since they were made, and are kept "
            f"(the first: {edited[0]}); remove those that are to be made again."
        )
    if unknown:
        tell(
            f"Of {unknown:,} transcripts that lie there it is not known what they were made of (it "
            "was without --skip-existing): they are made again."
        )
    return left


def _size(clip: "Clip") -> int:
    """Bytes, by which the time left is estimated; of a part of a file as 16 bits at 16 kHz."""
    if clip.duration_s is not None:
        return int(32_000 * clip.duration_s)
    if isinstance(clip.source, Path):
        try:
            return clip.source.stat().st_size
        except OSError:  # said where it is read
            return 0
    return len(clip.source) if isinstance(clip.source, bytes) else 0
