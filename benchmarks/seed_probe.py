"""How good a model is for a language that it has not learned: decides what is kept of a long run.

    python benchmarks/seed_probe.py RUN --train held/train.jsonl --dev held/dev.jsonl --log FILE

Prints one JSON line, and appends it to the log:

- `probe`: for each held-out language the error rate of a linear CTC layer on the best of the
  model's frozen layers, learned from some minutes of labels: of phones where both manifests have
  `ipa`, else of characters. `score` is the mean over languages.
- `cer`: of the model's own CTC head, where it has one, without any label of the language. Both
  sides are compared without case, marks and letters that ASCII lacks, since the head writes a
  romanisation.
- `improved`: the score is the best of the log so far. `flat`: over the last fifth of the updates
  (`--at`) the best score fell by less than 1 %.
"""

import argparse
import json
import sys
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.inference.evaluate import evaluate
from speechssl.interop.sources import open_model
from speechssl.model.speech_model import CTCModel
from speechssl.probing.characters import Characters
from speechssl.probing.representation import of_model
from speechssl.rng import rng
from speechssl.scoring.wer import score
from speechssl.spelling import is_blank
from speechssl.text import PhoneTokenizer
from speechssl.training.labels import take_minutes

_LETTERS = str.maketrans(
    {"ɛ": "e", "ε": "e", "ə": "e", "ɔ": "o", "ŋ": "ng", "ɲ": "ny", "ɓ": "b", "ɗ": "d", "ʼ": "'"}
)
_FLAT = 0.01
"""A smaller share of the score is no gain."""


def romanised(text: str) -> str:
    """Lower case, without marks, in ASCII letters."""
    plain = unicodedata.normalize("NFD", text.lower().translate(_LETTERS))
    kept = "".join(c for c in plain if c.isascii() and (c.isalpha() or c in " '"))
    return " ".join(kept.split())


def as_phones(*sets: Sequence[Utterance]) -> list[list[Utterance]]:
    """The sets with one character for each phone in the place of the text."""
    tokenizer = PhoneTokenizer.train([u.ipa or "" for u in sets[0]])
    return [
        [
            replace(u, text="".join(chr(0x4E00 + i) for i in tokenizer.encode(u.ipa or "")))
            for u in own
        ]
        for own in sets
    ]


def some(utterances: Sequence[Utterance], num: int) -> list[Utterance]:
    """At most `num` transcribed ones, always the same."""
    labeled = [u for u in utterances if u.is_labeled]
    chosen = rng(0, "seed-probe").permutation(len(labeled))[:num]
    return [labeled[i] for i in sorted(chosen.tolist())]


def probe(
    checkpoint: Checkpoint, train: Sequence[Utterance], dev: Sequence[Utterance], steps: int
) -> dict[str, Any]:
    """The best layer's error rate on `dev`, learned from `train`, and of which symbols."""
    symbols = "characters"
    if all(not is_blank(u.ipa) for u in [*train, *dev]):
        train, dev = as_phones(train, dev)
        symbols = "phones"
    rates = list(Characters(train, dev, 0, steps).judge(of_model("model", checkpoint)))
    best = min(range(len(rates)), key=lambda layer: rates[layer].value)
    return {
        "of": symbols,
        "layer": best,
        "rate": round(rates[best].value, 4),
        "low": round(rates[best].low, 4),
        "high": round(rates[best].high, 4),
        "layers": [round(rate.value, 4) for rate in rates],
    }


def own_cer(checkpoint: Checkpoint, dev: Sequence[Utterance]) -> float | None:
    """Of the model's own head, both sides romanised; None where it has none."""
    if not isinstance(checkpoint.model, CTCModel):
        return None
    found = evaluate(checkpoint, dev)
    hypotheses = [romanised(utterance.hypothesis) for utterance in found.utterances]
    references = [romanised(utterance.reference) for utterance in found.utterances]
    kept = [(r, h) for r, h in zip(references, hypotheses, strict=True) if r]
    if not kept:
        return None
    result = score([r for r, _ in kept], [h for _, h in kept], ids=list(map(str, range(len(kept)))))
    return round(result.cer, 4)


def judge_log(lines: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """What the last line of a log says: whether it is the best, and whether nothing was gained over
    the last fifth of the updates."""
    scores = [line["score"] for line in lines]
    improved = scores[-1] <= min(scores)
    begin = 0.8 * lines[-1]["at"]
    before = [line["score"] for line in lines if line["at"] <= begin]
    after = [line["score"] for line in lines if line["at"] > begin]
    flat = bool(before) and min(after) > (1 - _FLAT) * min(before)
    return {"improved": improved, "flat": flat}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 2 where what was given is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="a run or model folder, or seed")
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="MANIFEST")
    parser.add_argument("--dev", type=Path, nargs="+", required=True, metavar="MANIFEST")
    parser.add_argument("--minutes", type=float, default=8.0, help="labels (default %(default)s)")
    parser.add_argument("--utterances", type=int, default=120, help="of --dev (%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="of the probe (%(default)s)")
    parser.add_argument("--at", type=int, help="updates so far (default: those of the model)")
    parser.add_argument("--log", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    began = time.monotonic()
    try:
        if len(args.train) != len(args.dev):
            raise ValueError(
                f"--train names {len(args.train)} manifests and --dev {len(args.dev)}: give both "
                "for each language, in the same order."
            )
        checkpoint = open_model(args.model)
        languages = {}
        for train, dev in zip(args.train, args.dev, strict=True):
            learned = take_minutes(read_manifest(train), args.minutes, 0)
            judged = some(read_manifest(dev), args.utterances)
            languages[str(dev.parent.name or dev.stem)] = {
                "probe": probe(checkpoint, learned, judged, args.steps),
                "cer": own_cer(checkpoint, judged),
            }
        old = _read_log(args.log)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    at = args.at if args.at is not None else int(checkpoint.meta.get("steps", 0))
    rates = [found["probe"]["rate"] for found in languages.values()]
    line = {"model": args.model, "at": at, "score": round(sum(rates) / len(rates), 4)}
    line |= judge_log([*old, line])
    line |= {"languages": languages, "elapsed_s": round(time.monotonic() - began, 1)}
    text = json.dumps(line, ensure_ascii=False)
    print(text)
    if args.log is not None:
        args.log.parent.mkdir(parents=True, exist_ok=True)
        with args.log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    return 0


def _read_log(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return [{"at": found["at"], "score": found["score"]} for found in map(json.loads, lines)]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no log of this script: name another --log.") from None


if __name__ == "__main__":
    sys.exit(main())
