"""``speechssl report``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE
from speechssl.files import output_file

SUMMARY = "One static HTML page that shows one or several runs: curves, sound, codes, errors."
EXAMPLE = "speechssl report runs/pretrain runs/finetune --out report.html"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument(
        "--out",
        type=output_file,
        metavar="FILE",
        help="page to write (default: report.html in the first run)",
    )


def run(args: argparse.Namespace) -> int:
    from speechssl.report.page import write_report

    print(write_report(args.runs, args.out or args.runs[0] / "report.html"))
    return EXIT_DONE
