"""What hotwords find, and what they put in where nobody said it.

    python benchmarks/hotwords.py --rows rows.npz --text data/train.jsonl --json hotwords.json

``--rows`` are those of ``benchmarks/beam_search.py``. Lists of words of the text (of `--letters` or
more) are drawn; half of each are words that some utterance holds, half are said nowhere. For each
weight: of the times that a hotword is said, the share that is found; how many are found where they
are not said, by those lists and without any, for an hour of speech; and the WER. With and without a
language model of the text (6-gram of characters).

The JSON's `ratio` is the share found with the usual weight over that without hotwords, with the
language model.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beam_search import wer
from benchmarks.comparison import write_comparison
from speechssl.data.manifest import read_texts
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.hotwords import DEFAULT_WEIGHT
from speechssl.decoding.lm import train_lm
from speechssl.text import CharTokenizer

WEIGHTS = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0)


def main() -> None:
    """Decode with each weight, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--words", type=int, default=50, help="in a list")
    parser.add_argument("--lists", type=int, default=3)
    parser.add_argument("--letters", type=int, default=4)
    parser.add_argument("--beam", type=int, default=16)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = np.load(args.rows)
    texts = [str(text) for text in data["texts"]]
    rows = [data[f"rows_{i}"] for i in range(len(texts))]
    hours = sum(map(len, rows)) * float(data["hop_s"]) / 3600
    tokenizer = CharTokenizer([str(symbol) for symbol in data["symbols"]])
    lm = train_lm(read_texts(args.text), order=6, unit="char")
    lists = draw(texts, list(read_texts(args.text)), args)
    found = []
    for model in (None, lm):
        decoder = BeamDecoder(tokenizer, BeamConfig(width=args.beam), model)
        for weight in WEIGHTS:
            row = {"lm": model is not None, "weight": weight}
            row |= measure(decoder, tokenizer, rows, texts, lists, weight, hours)
            found.append(row)
            print(row, flush=True)
    if args.json:
        shares = {row["weight"]: row["found"] for row in found if row["lm"]}
        conditions = {name: getattr(args, name) for name in ("words", "lists", "letters", "beam")}
        write_comparison(
            args.json,
            ratio=round(shares[DEFAULT_WEIGHT] / max(shares[0.0], 1e-9), 2),
            ours=shares[DEFAULT_WEIGHT],
            peer=shares[0.0],
            unit="share of the said hotwords that is found",
            conditions=conditions | {"hours": round(hours, 3), "utterances": len(rows)},
            rows=found,
        )


def draw(
    texts: Sequence[str], other_texts: Sequence[str], args: argparse.Namespace
) -> list[list[str]]:
    """Lists of words, one half of each said in `texts`, the other half not."""
    said = {word for text in texts for word in text.split()}
    others = {word for text in other_texts for word in text.split()} - said
    generator = np.random.default_rng(0)
    lists = []
    for _ in range(args.lists):
        chosen: list[str] = []
        for words in (said, others):
            long = sorted(word for word in words if len(word) >= args.letters)
            num = min(args.words // 2, len(long))
            chosen += generator.choice(long, num, replace=False).tolist()
        lists.append(chosen)
    return lists


def measure(
    decoder: BeamDecoder,
    tokenizer: CharTokenizer,
    rows: Sequence[np.ndarray],
    texts: Sequence[str],
    lists: Sequence[Sequence[str]],
    weight: float,
    hours: float,
) -> dict[str, Any]:
    """Means over the lists; a weight of 0 is no hotwords at all."""
    num_said = num_found = num_false = 0
    rates = []
    for words in lists:
        decode = decoder.with_hotwords(dict.fromkeys(words, weight)) if weight else decoder
        hypotheses = [tokenizer.decode(decode.search(each)) for each in rows]
        rates.append(wer(texts, hypotheses))
        for text, hypothesis in zip(texts, hypotheses, strict=True):
            said, got = (Counter(w for w in t.split() if w in words) for t in (text, hypothesis))
            num_said += said.total()
            num_found += (said & got).total()
            num_false += (got - said).total()
    return {
        "found": round(num_found / max(num_said, 1), 4),
        "false_per_hour": round(num_false / hours / len(lists), 1),
        "wer": round(float(np.mean(rates)), 4),
        "said": num_said,
    }


if __name__ == "__main__":
    main()
