"""Synthetic English: made here by espeak-ng, nothing is fetched.

``python recipes/synthetic/prepare.py --out DIR`` writes the corpus of ``speechssl demo``:
unlabeled.jsonl, train.jsonl, dev.jsonl and test.jsonl.
"""

import argparse
import sys
from pathlib import Path

from speechssl.data.synthetic import make_corpus


def main(argv: list[str] | None = None) -> int:
    """0: done; 2: the input was wrong (one sentence on stderr)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for sound and manifests")
    parser.add_argument("--unlabeled-minutes", type=float, default=60.0, help="default %(default)s")
    parser.add_argument("--labeled-minutes", type=float, default=5.0, help="default %(default)s")
    args = parser.parse_args(argv)
    try:
        corpus = make_corpus(
            args.out,
            unlabeled_minutes=args.unlabeled_minutes,
            labeled_minutes=args.labeled_minutes,
            dev_minutes=3,
            test_minutes=6,
        )
    except (ValueError, OSError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    print(f"{corpus.unlabeled.parent}: sha256 of the samples {corpus.sha256[:16]}")
    if corpus.note:
        print(corpus.note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
