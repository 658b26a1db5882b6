"""``speechssl doctor``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE

SUMMARY = (
    "What a run's curves say: healthy, or what is wrong and what to change. Without a run: "
    "what is installed, what is missing, and the machine; with --speed how fast it is."
)
EXAMPLE = "speechssl doctor runs/pretrain"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run folders")
    parser.add_argument(
        "--speed",
        action="store_true",
        help="measure how fast this machine trains and transcribes, beside known ones",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="of the measurement, about (default 30)"
    )
    parser.add_argument(
        "--device", metavar="NAME", help="where to measure, as in training (default: auto)"
    )


def run(args: argparse.Namespace) -> int:
    if args.speed:
        print(_speed(args))
        return EXIT_DONE
    given = {"--seconds": args.seconds, "--device": args.device}
    if unused := [name for name, value in given.items() if value is not None]:
        raise ValueError(f"{' and '.join(unused)} change nothing without --speed: add it.")
    from speechssl.doctor import describe_machine, describe_run

    texts = [describe_run(run) for run in args.runs] or [describe_machine()]
    print("\n\n".join(texts))
    return EXIT_DONE


def _speed(args: argparse.Namespace) -> str:
    if args.runs:
        raise ValueError("--speed measures the machine and no run: leave RUN or --speed out.")
    if args.seconds is not None and not 0 < args.seconds <= 3600:
        raise ValueError(f"--seconds must be above 0 and at most 3600, got {args.seconds:g}.")
    from speechssl.speed import SECONDS, describe_speed

    return describe_speed(args.device or "auto", args.seconds or SECONDS)
