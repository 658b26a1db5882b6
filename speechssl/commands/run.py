"""``speechssl run``."""

import argparse
from pathlib import Path

from speechssl.commands.options import SIZES, add_processes, add_start
from speechssl.files import output_folder

SUMMARY = "The whole job on a folder of recordings, a few of them transcribed in a table."
EXAMPLE = "speechssl run recordings --transcripts texts.tsv --out result --budget-minutes 120"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="recordings, in any sub-folders"
    )
    parser.add_argument(
        "--transcripts",
        type=Path,
        required=True,
        metavar="TABLE",
        help="TSV or CSV whose header names path and text",
    )
    parser.add_argument(
        "--out",
        type=output_folder,
        required=True,
        metavar="DIR",
        help="folder for everything that is made",
    )
    parser.add_argument(
        "--budget-minutes",
        type=float,
        default=60.0,
        metavar="M",
        help="wall time of the whole job, in minutes (default %(default)g)",
    )
    parser.add_argument(
        "--size", choices=SIZES, help="model size (default: that of the seed, else tiny)"
    )
    parser.add_argument(
        "--more-labels",
        type=Path,
        nargs="+",
        default=[],
        metavar="DESK|MANIFEST",
        help="what was corrected since (folders of `speechssl next`, or manifests): with the same "
        "--out the models learn anew from it too, what is held out stays as it is, and the change "
        "of the error rate is said",
    )
    add_start(parser)
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    from speechssl.experiment import run_folder

    return run_folder(
        args.folder,
        args.transcripts,
        args.out,
        args.budget_minutes,
        args.size,
        args.processes,
        args.init,
        args.more_labels,
    )
