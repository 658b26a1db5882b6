"""What pretraining is worth: error rates on few labels, pretrained against from scratch.

    python benchmarks/label_efficiency.py --pretrained runs/pretrain --train data/train.jsonl
    --valid data/dev.jsonl --test data/test.jsonl --labels 10 60 --steps 800 1800 --seeds 0 1
    --out runs/labels

For each number of minutes and each seed (of the choice of labels and of the training): fine-tune
the pretrained model and one from scratch, score both, compare them on the same utterances. The one
from scratch gets as many updates, times ``--scratch-steps``. Both write greedily; with ``--lm``
both by beam search with a language model of 6 characters, learned from the same labels and nothing
else. What is done is not done again; several such commands with different ``--labels`` or
``--seeds``, with and without ``--lm``, may share a folder, and the table shows all of its kind.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechssl.checkpoint import load_model
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.decoding.beam import BeamDecoder
from speechssl.decoding.greedy import greedy_decode
from speechssl.decoding.lm import train_lm
from speechssl.inference.evaluate import evaluate
from speechssl.scoring.wer import EvalResult, compare
from speechssl.training.finetune import finetune, preset
from speechssl.training.labels import take_minutes
from speechssl.training.loop import Outcome


def main() -> None:
    """Fine-tune, score, write a JSON per pair, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pretrained", type=Path, required=True, help="model or run folder")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--test", type=Path, help="default: that of --valid")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", nargs="+", default=["10", "60"], help="minutes, or 'all'")
    parser.add_argument("--steps", nargs="+", type=int, required=True, help="one per --labels")
    parser.add_argument("--scratch-steps", type=float, default=1.0, help="factor")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--size", default="tiny", help="of the model from scratch")
    parser.add_argument("--lm", action="store_true", help="write with a language model")
    args = parser.parse_args()
    if len(args.steps) != len(args.labels):
        parser.error("--steps needs one number for each of --labels")
    train, valid = read_manifest(args.train), read_manifest(args.valid)
    test = read_manifest(args.test) if args.test else valid
    for labels, steps in zip(args.labels, args.steps, strict=True):
        for seed in args.seeds:
            place = args.out / f"{kind(args.lm)}-{labels}-seed-{seed}.json"
            if place.exists():
                continue
            labeled = train if labels == "all" else take_minutes(train, float(labels), seed)
            tuned = [
                tune(
                    args.out / f"{name}-{labels}-{seed}",
                    init,
                    labeled,
                    valid,
                    test,
                    args.size,
                    round(steps * factor),
                    seed,
                    args.lm,
                )
                for name, init, factor in (
                    ("scratch", None, args.scratch_steps),
                    ("pretrained", args.pretrained, 1.0),
                )
            ]
            place.write_text(json.dumps(as_data(labels, seed, *tuned), indent=2) + "\n")
    print(table(args.out, args.lm))


def kind(with_lm: bool) -> str:
    """How the files of pairs begin."""
    return "lm-labels" if with_lm else "labels"


def tune(
    run: Path,
    init: Path | None,
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    test: Sequence[Utterance],
    size: str,
    steps: int,
    seed: int,
    with_lm: bool,
) -> tuple[EvalResult, Outcome]:
    """One fine-tuning and its scores on `test`."""
    config = preset(size)
    config = replace(config, loop=replace(config.loop, max_steps=steps, seed=seed, patience=0))
    outcome = finetune(config, labeled, valid, run, init=None if init is None else load_model(init))
    checkpoint, decode = load_model(run), greedy_decode
    if with_lm:
        lm = train_lm([u.text or "" for u in labeled], order=6, unit="char")
        _, tokenizer = checkpoint.require_ctc()
        decode = BeamDecoder(tokenizer, lm=lm)
    return evaluate(checkpoint, test, decode=decode), outcome


def as_data(
    labels: str,
    seed: int,
    scratch: tuple[EvalResult, Outcome],
    pretrained: tuple[EvalResult, Outcome],
) -> dict[str, Any]:
    """A pair as plain JSON types."""
    gain = compare(scratch[0], pretrained[0])
    data: dict[str, Any] = {"labels": labels, "seed": seed}
    for name, (result, outcome) in (("scratch", scratch), ("pretrained", pretrained)):
        data[name] = {
            "cer": [result.cer, result.cer_low, result.cer_high],
            "wer": [result.wer, result.wer_low, result.wer_high],
            "steps": outcome.steps,
            "minutes": outcome.elapsed_s / 60,
        }
    for name, part in (("cer", gain.cer), ("wer", gain.wer)):
        data[f"{name}_reduction"] = [part.reduction, part.reduction_low, part.reduction_high]
    return data


def table(out: Path, with_lm: bool = False) -> str:
    """Markdown, a row per pair in `out`."""
    lines = [
        "| labels | seed | from scratch: CER | WER | steps, min "
        "| pretrained: CER | WER | steps, min | CER reduced by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    pairs = [json.loads(path.read_text()) for path in sorted(out.glob(f"{kind(with_lm)}-*.json"))]
    for pair in sorted(pairs, key=lambda p: (float(p["labels"].replace("all", "inf")), p["seed"])):
        cells = [
            cell
            for name in ("scratch", "pretrained")
            for cell in (
                rate(*pair[name]["cer"]),
                rate(*pair[name]["wer"]),
                f"{pair[name]['steps']}, {pair[name]['minutes']:.1f}",
            )
        ]
        share, low, high = (100 * value for value in pair["cer_reduction"])
        gain = f"{share:.0f} % [{low:.0f}, {high:.0f}]"
        labels = pair["labels"] if pair["labels"] == "all" else f"{pair['labels']} min"
        lines.append("| " + " | ".join([labels, str(pair["seed"]), *cells, gain]) + " |")
    return "\n".join(lines)


def rate(value: float, low: float, high: float) -> str:
    """A rate with its interval."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
