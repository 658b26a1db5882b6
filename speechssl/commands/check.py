"""``speechssl check``."""

import argparse
import sys
from functools import partial
from pathlib import Path

from speechssl.commands.exits import exit_code_of
from speechssl.commands.options import MODEL, add_precision
from speechssl.files import output_file

SUMMARY = "Transcripts that look wrong, the most suspicious first."
EXAMPLE = "speechssl check runs/finetune data/train.jsonl --out suspicious.tsv"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "manifests", type=Path, nargs="+", metavar="MANIFEST", help="transcribed speech"
    )
    parser.add_argument(
        "--out",
        type=output_file,
        metavar="FILE",
        help="all transcripts in this order, as .tsv or .jsonl",
    )
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="how many to show (default 10)"
    )
    add_precision(parser, auto=False)


def run(args: argparse.Namespace) -> int:
    from speechssl.data.manifest import read_manifest
    from speechssl.inference.check import check, check_suffix, describe, write_check
    from speechssl.interop.sources import open_model

    if args.out:
        check_suffix(args.out)
    utterances = [u for path in args.manifests for u in read_manifest(path)]
    say = partial(print, file=sys.stderr, flush=True)
    found = check(open_model(args.model), utterances, precision=args.precision, say=say)
    if args.out:
        write_check(args.out, found)
    print(describe(found, args.top))
    for unreadable in found.unreadable:
        print(f"speechssl: {unreadable}", file=sys.stderr)
    return exit_code_of(len(found.unreadable), len(found.judged) + len(found.unreadable))
