"""Swap transcripts of a manifest at random, and see how many of them `speechssl check` finds.

    python benchmarks/label_errors.py runs/finetune data/dev.jsonl --swaps 20 --json found.json

Prints the precision among as many as were swapped and among the most suspicious 5 %, and the area
under the ROC curve, for the score that `check` ranks by and for the others that it writes.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from speechssl.data.manifest import Utterance, read_manifest
from speechssl.inference.check import Judged, check
from speechssl.interop.sources import open_model
from speechssl.rng import rng

SCORES = {
    "suspicion": lambda j: j.suspicion,
    "cer": lambda j: j.cer,
    "loss": lambda j: j.loss,
    "alignment": lambda j: -j.alignment,
}
"""Higher is more suspicious."""


def swap(utterances: Sequence[Utterance], num: int, seed: int) -> tuple[list[Utterance], set[str]]:
    """The utterances with `num` transcripts moved round in a ring, and the ids of these."""
    transcribed = [i for i, u in enumerate(utterances) if u.is_labeled]
    if not 2 <= num <= len(transcribed):
        raise ValueError(f"--swaps must be between 2 and {len(transcribed)}, got {num}.")
    chosen = rng(seed, "swap").permutation(transcribed)[:num].tolist()
    swapped = list(utterances)
    for i, other in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        swapped[i] = replace(utterances[i], text=utterances[other].text)
    wrong = {swapped[i].id for i in chosen if swapped[i].text != utterances[i].text}
    return swapped, wrong


def rate(judged: Sequence[Judged], wrong: set[str]) -> dict[str, dict[str, float]]:
    """For each score: precision among the first len(wrong), among the first 5 %, and the AUC."""
    found = {}
    is_wrong = np.array([j.id in wrong for j in judged])
    num = len(judged)
    for name, of in SCORES.items():
        order = np.argsort([-of(j) for j in judged], kind="stable")
        hits = is_wrong[order]
        ranks = np.flatnonzero(hits)
        below = (num - len(ranks)) - (ranks - np.arange(len(ranks)))  # right ones after each
        top = max(round(0.05 * num), 1)
        found[name] = {
            "precision_at_swaps": float(hits[: len(wrong)].mean()),
            "precision_top_5_percent": float(hits[:top].mean()),
            "recall_top_5_percent": float(hits[:top].sum() / len(wrong)),
            "auc": float(below.mean() / (num - len(ranks))),
        }
    return found


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    checkpoint, utterances = open_model(args.model), read_manifest(args.manifest)
    began = time.monotonic()
    rated = []
    for seed in range(args.seeds):
        swapped, wrong = swap(utterances, args.swaps, seed)
        rated.append(rate(check(checkpoint, swapped).judged, wrong))
    mean = {
        name: {k: round(float(np.mean([r[name][k] for r in rated])), 4) for k in rated[0][name]}
        for name in SCORES
    }
    facts = {
        "manifest": str(args.manifest),
        "num_utterances": len(utterances),
        "swaps": args.swaps,
        "seeds": args.seeds,
        "scores": mean,
        "elapsed_s": round(time.monotonic() - began, 1),
    }
    print(f"  {'score':<11}{'P@swaps':>9}{'P@5 %':>9}{'R@5 %':>9}{'AUC':>9}")
    for name, values in mean.items():
        print(f"  {name:<11}" + "".join(f"{v:>9.3f}" for v in values.values()))
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
