"""``speechssl demo``."""

import argparse

from speechssl.commands.options import add_processes, add_start
from speechssl.files import output_folder

SUMMARY = "The whole job on synthetic speech, no download: pretrain, fine-tune, compare."
EXAMPLE = "speechssl demo --out demo --minutes 9"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=output_folder,
        default="speechssl-demo",
        metavar="DIR",
        help="folder for everything that is made (default %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=9.0,
        metavar="M",
        help="wall time to spend, in minutes (default %(default)g)",
    )
    add_start(parser)
    add_processes(parser)


def run(args: argparse.Namespace) -> int:
    from importlib.util import find_spec

    if find_spec("espeakng_loader") is None:  # before anything is made
        raise ValueError(
            "The demo's speech is made by espeak-ng, which is not installed: "
            "pip install 'speechssl[demo]'. Recordings of your own need no more: speechssl run."
        )
    from speechssl.experiment import demo

    return demo(args.out, args.minutes, args.processes, args.init)
