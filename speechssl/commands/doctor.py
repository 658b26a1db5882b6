"""``speechssl doctor``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE

SUMMARY = (
    "What a run's curves say: healthy, or what is wrong and what to change. Without a run: "
    "what is installed, what is missing, and the machine."
)
EXAMPLE = "speechssl doctor runs/pretrain"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run folders")


def run(args: argparse.Namespace) -> int:
    from speechssl.doctor import describe_machine, describe_run

    texts = [describe_run(run) for run in args.runs] or [describe_machine()]
    print("\n\n".join(texts))
    return EXIT_DONE
