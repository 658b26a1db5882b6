"""``speechssl prepare``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import folder

SUMMARY = "Probe recordings, cut long ones, drop and name unusable ones, split, write manifests."
EXAMPLE = "speechssl prepare recordings --out data"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="folder, table, Kaldi or fairseq data")
    parser.add_argument("--out", type=folder, required=True, help="folder for the manifests")
    parser.add_argument(
        "--layout", choices=("auto", "folder", "tsv", "kaldi", "fairseq", "shards"), default="auto"
    )
    parser.add_argument(
        "--max-duration-s",
        type=float,
        default=30.0,
        help="longer recordings without a transcript are cut (default %(default)s)",
    )
    parser.add_argument(
        "--max-labeled-duration-s",
        type=float,
        default=60.0,
        help="longer ones with a transcript, which cannot be cut, are dropped (default "
        "%(default)s)",
    )
    parser.add_argument("--dev-share", type=float, default=0.1, help="default %(default)s")
    parser.add_argument("--test-share", type=float, default=0.1, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    from speechssl.data.layouts import READ_AS, detect_layout, read_layout
    from speechssl.data.prepare import PrepareConfig, prepare

    config = PrepareConfig(
        max_duration_s=args.max_duration_s,
        max_labeled_duration_s=args.max_labeled_duration_s,
        dev_share=args.dev_share,
        test_share=args.test_share,
        seed=args.seed,
    )
    layout = detect_layout(args.source) if args.layout == "auto" else args.layout
    summary = prepare(read_layout(args.source, layout), args.out, config)
    print(f"layout {layout}: {READ_AS[layout]}")
    print(summary.describe())
    return EXIT_DONE
