"""``speechssl demo``."""

import argparse
from pathlib import Path

SUMMARY = "The whole job on synthetic speech, no download: pretrain, fine-tune, compare."
EXAMPLE = "speechssl demo --out demo --minutes 9"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("speechssl-demo"), help="folder (default %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="time to spend (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from speechssl.experiment import demo

    return demo(args.out, args.minutes)
