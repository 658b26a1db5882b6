"""``speechssl next``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE, tell
from speechssl.commands.options import MODEL, add_file_processes, expect_processes
from speechssl.files import output_folder

SUMMARY = "What to correct first: the stretches of recordings from which a model learns most."
EXAMPLE = "speechssl next result/pretrained recordings --minutes 30 --out desk"
SHOWN = 10
"""Stretches of the list that are shown; all are in its file."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "pool", nargs="+", metavar="AUDIO|DIR|MANIFEST", help="recordings without transcripts"
    )
    parser.add_argument(
        "--out",
        type=output_folder,
        required=True,
        metavar="DESK",
        help="folder for the queue and the files of corrections; those that lie there are kept",
    )
    parser.add_argument(
        "--minutes", type=float, default=30.0, metavar="M", help="to choose (default %(default)g)"
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        nargs="+",
        default=[],
        metavar="MANIFEST",
        help="recordings that must not be corrected: held-out sets, and whatever else is wanted; "
        "those of the run that made MODEL are found by themselves",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("csv", "eaf", "srt"),
        default=[],
        help="write the same for a spreadsheet, ELAN or an editor of subtitles too; `speechssl "
        "correct --take` reads what became of it",
    )
    add_file_processes(parser)


def run(args: argparse.Namespace) -> int:
    expect_processes(args)
    from speechssl.desk.exchange import write_formats
    from speechssl.desk.held_out import HeldOut, known_sets
    from speechssl.desk.pool import find_recordings
    from speechssl.desk.propose import LEFT_OUT, counts, propose, speakers
    from speechssl.desk.queue import LIST, listing
    from speechssl.interop.sources import open_model

    if not args.minutes > 0:
        raise ValueError(f"--minutes must be above 0, got {args.minutes:g}.")
    records = find_recordings(args.pool)
    held, transcribed = known_sets(args.model)
    held_out = HeldOut(args.exclude, found=held, labels=transcribed)
    if held:
        others = "" if args.exclude else " Give other sets that you score on as --exclude."
        tell(f"Held out, and not to be corrected: {', '.join(map(str, held))}.{others}")
    elif not args.exclude:
        tell(
            "No held-out set is known: what is corrected must not be scored on. Give the manifests "
            "that you score on as --exclude."
        )
    found = propose(
        open_model(args.model),
        records,
        args.out,
        args.minutes,
        held_out,
        source=args.model,
        processes=args.processes,
        say=tell,
    )
    write_formats(args.out, found.items, args.format)
    minutes = sum(item.duration_s for item in found.items) / 60
    print(
        f"{len(found.items)} of {found.num_stretches} stretches, {minutes:.1f} of "
        f"{found.pool_s / 60:.1f} minutes; the first of them:"
    )
    print(listing(found.items[:SHOWN]), end="")
    if by_speaker := speakers(found.items):
        print("Minutes: " + ", ".join(f"{name} {m}" for name, m in by_speaker.items()))
    if found.left_out:
        print(f"Left out: {counts(found.left_out)} (see {args.out / LEFT_OUT}).")
    print(f"All of them: {args.out / LIST}. Then: speechssl correct {args.out}")
    return EXIT_DONE
