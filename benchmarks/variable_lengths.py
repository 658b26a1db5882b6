"""Do utterances of all lengths slow the pretraining step? Real batches against fixed shapes.

    python benchmarks/variable_lengths.py --train data/train.jsonl --size tiny --json lengths.json

Real batches of a manifest, as a run plans them, and the same audio cut into pieces of one length,
as many seconds in a batch. Both take turns, batch by batch; data is loaded before. Prints the
audio seconds per second of both, their ratio, and which share of the real batches is padding.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.comparison import write_comparison
from speechssl import shapes
from speechssl.data.dataset import Batch, Waves
from speechssl.data.manifest import read_manifest
from speechssl.device import keep_freed_memory
from speechssl.model.speech_model import SpeechModel
from speechssl.training.optim import Part, build_optimizer
from speechssl.training.pretrain import PretrainWork, preset


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch-s", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    config = replace(preset(args.size), batch_s=args.batch_s)
    model = SpeechModel(config.model)
    utterances = read_manifest(args.train)[:600]
    with tempfile.TemporaryDirectory() as folder:
        waves = Waves.open(utterances, Path(folder), config.model.sample_rate, False)
        work = PretrainWork(config, model, waves, waves, torch.device("cpu"))
        dataset = work.dataset(waves, shuffle=True)
        real = [dataset[index] for index in range(args.batches)]
    fixed = [cut(batch, index, args.batch_s) for index, batch in enumerate(real)]
    optimizer = build_optimizer(config.optim, [Part((work.modules,))])

    def step(batch: Batch) -> float:
        start = time.perf_counter()
        work.backward(0, 1, [batch])
        torch.nn.utils.clip_grad_norm_(work.modules.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    speeds: dict[str, list[float]] = {"real": [], "fixed": []}
    for turn in range(args.turns + 1):
        spent = {"real": 0.0, "fixed": 0.0}
        for one, other in zip(real, fixed, strict=True):
            spent["real"] += step(one)
            spent["fixed"] += step(other)
        if turn:  # the first warms up
            speeds["real"].append(seconds(real) / spent["real"])
            speeds["fixed"].append(seconds(fixed) / spent["fixed"])
    ratios = [a / b for a, b in zip(speeds["real"], speeds["fixed"], strict=True)]
    result: dict[str, Any] = {
        "size": args.size,
        "batches": args.batches,
        "audio_s_per_s": {name: statistics.median(values) for name, values in speeds.items()},
        "ratio": statistics.median(ratios),
        "padding_share": 1
        - sum(b.num_samples for b in real) / sum(b.distorted.numel() for b in real),
    }
    print(json.dumps(result, indent=2))
    if args.json:
        write_comparison(
            args.json,
            ratio=result["ratio"],
            ours=result["audio_s_per_s"]["real"],
            peer=result["audio_s_per_s"]["fixed"],
            unit="seconds of audio per second; ours: batches of all lengths, peer: of one length",
            conditions={k: result[k] for k in ("size", "batches", "padding_share")},
        )


def seconds(batches: Sequence[Batch]) -> float:
    """Of audio, padding excluded."""
    return sum(batch.num_samples for batch in batches) / 16000


def cut(batch: Batch, index: int, batch_s: float) -> Batch:
    """The batch's audio as ten pieces of one length, `batch_s` together."""
    samples = round(batch_s * 16000 / 10)

    def pieces(waves: torch.Tensor) -> torch.Tensor:
        rows = [row[:length].numpy() for row, length in zip(waves, batch.lengths, strict=True)]
        whole = np.resize(np.concatenate(rows), 10 * samples)
        return shapes.pad_waves(whole.reshape(10, samples))[0]

    lengths = torch.full((10,), samples)
    return replace(
        batch,
        distorted=pieces(batch.distorted),
        clean=pieces(batch.clean),
        lengths=lengths,
        index=index,
    )


if __name__ == "__main__":
    main()
