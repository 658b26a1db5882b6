"""Open speech of many languages, with a licence that lets a model be shared, for a seed model.

Each SOURCE is a folder that holds the sources as folders: OWNER+NAME for a GitHub repository,
PACKAGE for an unpacked Debian package. What is not there is named and left out. OUT gets
train.jsonl and dev.jsonl (transcripts romanised), train-ipa.jsonl and dev-ipa.jsonl (those that are
known as phones), audio/, dropped.jsonl and summary.json. An interrupted call goes on where it was.
"""

import argparse
import sys
from pathlib import Path

from data_prep.open_speech.build import Settings, build, find
from data_prep.open_speech.clip import TERMS
from data_prep.open_speech.sources import SOURCES
from data_prep.open_speech.summary import table
from speechssl.files import output_folder
from speechssl.system import utf8_streams


def main(argv: list[str] | None = None) -> int:
    """0 done, 2 the input was wrong (one sentence)."""
    utf8_streams()
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [source.name for source in SOURCES]
    parser.add_argument("source", type=Path, nargs="*", help="folders that hold sources")
    parser.add_argument("--out", type=output_folder, help="where the crops and manifests go")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these sources")
    parser.add_argument(
        "--terms",
        nargs="+",
        choices=TERMS,
        default=TERMS,
        help="licences that ask for nothing (free), for names (notice), for the same terms (alike)",
    )
    parser.add_argument("--seed", type=int, default=0, help="draws crops, caps and dev")
    parser.add_argument("--processes", type=int, default=1, help="at work at once")
    parser.add_argument(
        "--list", action="store_true", help="print the parts of the sources and end"
    )
    args = parser.parse_args(argv)
    chosen = [
        source
        for source in SOURCES
        if source.name in (args.only or names) and source.terms in args.terms
    ]
    if args.list:
        print("\n".join(part for source in chosen for part in source.parts))
        return 0
    if not args.source or args.out is None:
        parser.error("give the folders that hold the sources, and --out")
    try:
        if args.processes < 1:
            raise ValueError(f"--processes must be at least 1, and is {args.processes}.")
        found = find(chosen, args.source)
        for part in found.missing:
            print(f"not there: {part}", file=sys.stderr)
        settings = Settings(seed=args.seed, processes=args.processes)
        summary = build(found, args.out, settings)
    except (ValueError, OSError) as error:
        print(f"seed.py: {error}", file=sys.stderr)
        return 2
    print(table(summary))
    return 0
