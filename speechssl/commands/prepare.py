"""``speechssl prepare``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE, tell
from speechssl.commands.options import add_file_processes
from speechssl.files import output_folder

SUMMARY = (
    "Make manifests of recordings: look into every file, cut long ones, leave out and name "
    "unusable ones, split into train, dev and test."
)
EXAMPLE = "speechssl prepare recordings --out data"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a folder, a recording, a table, Kaldi or fairseq data",
    )
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="DIR", help="folder for the manifests"
    )
    parser.add_argument(
        "--layout",
        choices=("auto", "folder", "tsv", "kaldi", "fairseq", "shards"),
        default="auto",
        help="what SOURCE is; auto looks (default)",
    )
    parser.add_argument(
        "--max-duration-s",
        type=float,
        default=30.0,
        metavar="S",
        help="recordings of more seconds without a transcript are cut (default %(default)g)",
    )
    parser.add_argument(
        "--max-labeled-duration-s",
        type=float,
        default=60.0,
        metavar="S",
        help="those of more seconds with a transcript, which cannot be cut, are left out "
        "(default %(default)g)",
    )
    parser.add_argument(
        "--dev-share",
        type=float,
        default=0.1,
        metavar="X",
        help="part of the speech that becomes dev.jsonl (default %(default)s)",
    )
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.1,
        metavar="X",
        help="part that becomes test.jsonl (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the split (default %(default)s)"
    )
    add_file_processes(parser)


def run(args: argparse.Namespace) -> int:
    from speechssl.data.layouts import read_source
    from speechssl.data.prepare import PrepareConfig, prepare

    config = PrepareConfig(
        max_duration_s=args.max_duration_s,
        max_labeled_duration_s=args.max_labeled_duration_s,
        dev_share=args.dev_share,
        test_share=args.test_share,
        seed=args.seed,
    )
    source = read_source(args.source, args.layout)
    summary = prepare(
        source.recordings,
        args.out,
        config,
        unused=source.unused,
        processes=args.processes,
        say=tell,
    )
    print(source.describe())
    print(summary.describe())
    return EXIT_DONE
