"""``speechssl lm``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE
from speechssl.files import output_file

SUMMARY = "An n-gram language model of text (modified Kneser-Ney), as an ARPA file."
EXAMPLE = "speechssl lm data/train.jsonl --order 6 --out lm.arpa"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        type=Path,
        nargs="+",
        metavar="TEXT",
        help="a sentence a line, or a manifest (.jsonl) or a table (.tsv, .csv) of recordings, "
        "of which the transcripts are taken",
    )
    parser.add_argument(
        "--unit",
        choices=("char", "word"),
        default="char",
        help="n-grams of characters (default), better for a few hours of transcripts, or words",
    )
    parser.add_argument(
        "--order", type=int, metavar="N", help="longest n-gram (default: 6 characters, 3 words)"
    )
    parser.add_argument(
        "--prune",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="leave out what comes up N times at most: of 1-grams (0: all are kept), 2-grams, ..., "
        "the last for all longer ones, as 0 0 1; the probabilities still sum to one",
    )
    parser.add_argument(
        "--normalize",
        default="none",
        metavar="NAME",
        help="of the text: none (default), lower or basic",
    )
    parser.add_argument(
        "--label-minutes",
        type=float,
        metavar="N",
        help="use only N minutes of the manifests, those that finetune uses with the same --seed",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--out",
        type=output_file,
        required=True,
        metavar="ARPA",
        help="file to write; compressed where its name ends in .gz",
    )


def run(args: argparse.Namespace) -> int:
    from speechssl.data.manifest import read_manifest, read_texts
    from speechssl.decoding.lm import estimate, write_arpa
    from speechssl.text import normalize

    if args.label_minutes is None:
        lines = [text for path in args.text for text in read_texts(path)]
    else:
        from speechssl.training.labels import take_minutes

        utterances = [utterance for path in args.text for utterance in read_manifest(path)]
        chosen = take_minutes(utterances, args.label_minutes, args.seed)
        lines = [utterance.text or "" for utterance in chosen]
    texts = [normalize(line, args.normalize) for line in lines]
    order = args.order if args.order is not None else {"char": 6, "word": 3}[args.unit]
    lm = estimate(texts, order=order, unit=args.unit, prune=args.prune)
    write_arpa(lm, args.out)
    print(
        f"{args.out}: {sum(lm.sizes()):,} n-grams of up to {order} {args.unit}s, from "
        f"{sum(map(bool, texts)):,} sentences."
    )
    return EXIT_DONE
