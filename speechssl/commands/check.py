"""``speechssl check``."""

import argparse
import sys
from functools import partial
from pathlib import Path

from speechssl.commands.exits import exit_code_of
from speechssl.commands.options import MODEL, add_precision
from speechssl.files import output_file, output_folder

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
    parser.add_argument(
        "--queue",
        type=output_folder,
        metavar="DESK",
        help="write those that are shown as a queue to correct, as `speechssl next` does",
    )
    parser.add_argument(
        "--eaf",
        type=output_folder,
        metavar="DIR",
        help="write them as a tier of ELAN, into a copy of the .eaf beside each recording, else "
        "into a new one",
    )
    add_precision(parser, auto=False)


def run(args: argparse.Namespace) -> int:
    from speechssl.data.manifest import read_manifest
    from speechssl.desk.suspicious import TIER, queue_suspicious, write_tiers
    from speechssl.inference.check import check, check_suffix, describe, write_check
    from speechssl.inference.done import model_digest
    from speechssl.interop.sources import open_model

    if args.out:
        check_suffix(args.out)
    utterances = [u for path in args.manifests for u in read_manifest(path)]
    say = partial(print, file=sys.stderr, flush=True)
    checkpoint = open_model(args.model)
    digest = model_digest(checkpoint) if args.queue else ""
    found = check(checkpoint, utterances, precision=args.precision, say=say)
    if args.out:
        write_check(args.out, found)
    print(describe(found, args.top))
    suspicious = list(found.judged[: max(args.top, 0)])
    if args.queue:
        items = queue_suspicious(args.queue, suspicious, utterances, digest)
        print(f"\nQueue of {len(items)}: {args.queue}")
    if args.eaf:
        for path in write_tiers(args.eaf, suspicious, utterances):
            print(f"Tier {TIER!r}: {path}")
    for unreadable in found.unreadable:
        print(f"speechssl: {unreadable}", file=sys.stderr)
    return exit_code_of(len(found.unreadable), len(found.judged) + len(found.unreadable))
