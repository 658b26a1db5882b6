"""Whether what `speechssl next` chooses teaches more than as many random minutes.

    python benchmarks/active_labels.py --init runs/pretrain --train data/train.jsonl \\
        --valid data/dev.jsonl --out active --seeds 0 1 --json active.json

For each seed a model is fine-tuned on a few random minutes of the training set (`--first-minutes`).
With it `next` chooses `--minutes` of the rest; as many are drawn at random. Both are corrected by
the true transcripts, and a model learns from the first labels and these, in the same number of
updates with the same settings and seed (`--start first`: from the model of the first labels;
`pretrained`: from `--init`, as `speechssl run --more-labels` does). The models are chosen on a
third of `--valid` and scored on the others of it, or on `--test`.

The JSON's `ours` and `peer` are the CER of chosen and random minutes over all seeds; `change` holds
their difference with its 95 % interval, by paired bootstrap over utterances (the errors of an
utterance with all seeds together are one unit). A run that was stopped goes on with the same
command.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparison import write_comparison
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.data.layouts import Recording
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.desk.held_out import HeldOut
from speechssl.desk.propose import propose
from speechssl.inference.evaluate import evaluate
from speechssl.interop.sources import open_model
from speechssl.scoring.bootstrap import interval, resample
from speechssl.scoring.wer import EvalResult, compare
from speechssl.text import normalize
from speechssl.training.finetune import FinetuneConfig, finetune, preset
from speechssl.training.labels import take_minutes

ARMS = ("next", "random")


@dataclass(frozen=True)
class Sets:
    """The utterances of a benchmark, all with transcripts."""

    train: list[Utterance]
    valid: list[Utterance]
    test: list[Utterance]


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--init", required=True, help="a pretrained model")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-minutes", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=2000, help="updates of each fine-tuning")
    parser.add_argument("--size", default="tiny", help="whose fine-tuning settings are taken")
    parser.add_argument("--start", choices=("first", "pretrained"), default="first")
    parser.add_argument("--max-train", type=int, help="utterances, for a quick try")
    parser.add_argument("--max-test", type=int, help="the same")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sets = read_sets(args)
    results: dict[str, list[EvalResult]] = {arm: [] for arm in ARMS}
    rows = []
    for seed in args.seeds:
        found, facts = one_seed(args, sets, seed)
        for arm in ARMS:
            results[arm].append(found[arm])
        rows.append(facts)
        print(f"seed {seed}: {facts}", flush=True)
    change = over_seeds(results["random"], results["next"])
    print(
        f"next {100 * change['next']:.2f} %, random {100 * change['random']:.2f} % CER: "
        f"{100 * change['difference']:+.2f} points [{100 * change['low']:+.2f}, "
        f"{100 * change['high']:+.2f}]"
    )
    if args.json:
        names = ("train", "valid", "test", "init", "first_minutes", "minutes", "steps", "start")
        given = {name: str(getattr(args, name)) for name in (*names, "size", "seeds")}
        write_comparison(
            args.json,
            ratio=round(change["random"] / max(change["next"], 1e-9), 4),
            ours=change["next"],
            peer=change["random"],
            unit="CER",
            conditions={**given, "change": change, "num_test": len(sets.test)},
            rows=rows,
        )
    return 0


def read_sets(args: argparse.Namespace) -> Sets:
    """Without --test a third of --valid, evenly spread, is for validation."""
    train = [u for u in read_manifest(args.train) if u.is_labeled][: args.max_train]
    valid = [u for u in read_manifest(args.valid) if u.is_labeled]
    if args.test:
        test = [u for u in read_manifest(args.test) if u.is_labeled]
    else:
        test = [u for i, u in enumerate(valid) if i % 3]
        valid = valid[::3]
    return Sets(train, valid[: args.max_test], test[: args.max_test])


def one_seed(
    args: argparse.Namespace, sets: Sets, seed: int
) -> tuple[dict[str, EvalResult], dict[str, Any]]:
    """The scores of both arms, and what is to be known of their labels."""
    out = args.out / f"seed-{seed}"
    first = take_minutes(sets.train, args.first_minutes, seed)
    known = {u.id for u in first}
    pool = [u for u in sets.train if u.id not in known]
    base = tune(args, first, sets.valid, out / "first", seed, open_model(args.init))
    chosen = {
        "next": choose(base, pool, out / "desk", args.minutes),
        "random": take_minutes(pool, args.minutes, seed + 1000),
    }
    results, facts = {}, {"seed": seed, "first_cer": evaluate(base, sets.test).cer}
    for arm, labels in chosen.items():
        init = load_model(out / "first") if args.start == "first" else open_model(args.init)
        model = tune(args, [*first, *labels], sets.valid, out / arm, seed, init)
        results[arm] = evaluate(model, sets.test)
        facts[arm] = {"cer": results[arm].cer, "wer": results[arm].wer, **describe(labels)}
    found = compare(results["random"], results["next"]).cer
    facts["change"] = {
        "difference": found.difference,
        "low": found.difference_low,
        "high": found.difference_high,
    }
    return results, facts


def choose(
    model: Checkpoint, pool: Sequence[Utterance], desk: Path, minutes: float
) -> list[Utterance]:
    """What `next` chooses of a pool whose transcripts it does not see, with these."""
    records = [Recording(u.id, u.audio, u.start_s, u.duration_s, u.speaker) for u in pool]
    say = partial(print, file=sys.stderr)
    found = propose(model, records, desk, minutes, HeldOut([]), source="", processes=1, say=say)
    whole = {(str(u.audio), round(u.start_s, 2), round(u.duration_s, 2)): u for u in pool}
    keys = [(str(i.audio), round(i.start_s, 2), round(i.duration_s, 2)) for i in found.items]
    return [whole[key] for key in keys if key in whole]  # of a part the transcript is not known


def tune(
    args: argparse.Namespace,
    labels: Sequence[Utterance],
    valid: Sequence[Utterance],
    run: Path,
    seed: int,
    init: Checkpoint,
) -> Checkpoint:
    """The best model of a fine-tuning of `--steps` updates."""
    config: FinetuneConfig = preset(args.size)
    warmup = min(config.optim.warmup_steps, max(args.steps // 5, 1))
    loop = replace(
        config.loop, max_steps=args.steps, patience=0, seed=seed, num_workers=0, num_validations=12
    )
    config = replace(
        config,
        model=init.speech.config,
        loop=replace(loop, num_validations=min(12, args.steps)),
        optim=replace(config.optim, warmup_steps=warmup),
    )
    finetune(config, labels, valid, run, init=init)
    return load_model(run)


def describe(labels: Sequence[Utterance]) -> dict[str, Any]:
    """What tells one choice of labels from another."""
    texts = [normalize(u.text or "", "none") for u in labels]
    trigrams = {text[i : i + 3] for text in texts for i in range(len(text) - 2)}
    minutes: Counter[str] = Counter()
    for u in labels:
        minutes[u.speaker or ""] += u.duration_s / 60  # type: ignore[assignment]
    return {
        "utterances": len(labels),
        "minutes": round(sum(u.duration_s for u in labels) / 60, 2),
        "characters": sum(map(len, texts)),
        "trigrams": len(trigrams),
        "words": len({word for text in texts for word in text.split()}),
        "minutes_of_speakers": {name: round(m, 1) for name, m in minutes.most_common()},
    }


def over_seeds(a: Sequence[EvalResult], b: Sequence[EvalResult]) -> dict[str, float]:
    """CER of b and a over all seeds, and their difference with its interval: utterances are
    resampled, each with its errors of all seeds."""
    counts = np.array(
        [
            [sum(r.utterances[i].characters.length for r in a)]
            + [sum(r.utterances[i].characters.errors for r in results) for results in (a, b)]
            for i in range(len(a[0].utterances))
        ],
        dtype=np.float64,
    )  # (N, 3): characters, errors of a, errors of b
    sums = resample(counts, 0)  # (R, 3)
    low, high = interval((sums[:, 2] - sums[:, 1]) / sums[:, 0])
    total = counts.sum(axis=0)
    first, second = float(total[1] / total[0]), float(total[2] / total[0])
    return {
        "next": second,
        "random": first,
        "difference": second - first,
        "low": low,
        "high": high,
    }


if __name__ == "__main__":
    sys.exit(main())
