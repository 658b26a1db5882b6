"""Lengths that come back: how many shapes an epoch shows, how much padding, and how fast it is.

    python benchmarks/length_grid.py --train data/train.jsonl --size tiny --turns 0
    python benchmarks/length_grid.py --train data/train.jsonl --size base --json grid.json

For each manifest the distinct shapes (utterances, samples) among the batches of an epoch and the
share of padding, with each batch as long as its longest utterance and with the grid. Then updates
on the same batches in both forms, in turns, and on the same audio cut into pieces of one length
(``fixed``); `ratio` is the speed with the grid over that without. The first half of the batches
warms up.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.comparison import write_comparison
from benchmarks.variable_lengths import cut, seconds
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import Batch, Waves
from speechssl.data.length_grid import LengthGrid, length_grid
from speechssl.data.manifest import read_manifest
from speechssl.device import finished_s, keep_freed_memory, pick_device
from speechssl.model.speech_model import SpeechModel
from speechssl.training.optim import Part, build_optimizer
from speechssl.training.pretrain import PretrainConfig, PretrainWork, preset


def grid_of(config: PretrainConfig) -> LengthGrid:
    """The grid of a run that has one."""
    grid = length_grid(
        "on",
        torch.device("cpu"),
        sample_rate=config.model.sample_rate,
        hop_samples=config.model.hop_samples,
        batch_s=config.batch_s,
        max_crop_s=config.max_crop_s,
    )
    assert grid is not None
    return grid


def epoch(lengths_s: np.ndarray, config: PretrainConfig) -> dict[str, Any]:
    """Shapes and padding of an epoch, by the lengths alone."""
    rate, grid = config.model.sample_rate, grid_of(config)
    samples = np.round(lengths_s.clip(max=config.max_crop_s) * rate).astype(np.int64)
    plan = BatchPlan(samples / rate, batch_s=config.batch_s, seed=config.loop.seed)
    batches = [samples[plan.batch(index)] for index in range(plan.num_batches)]
    shapes = {
        "without": [(len(own), int(own.max())) for own in batches],
        "grid": [(len(own), grid.fitting(int(own.max()), len(own))) for own in batches],
    }
    valid = sum(int(own.sum()) for own in batches)
    return {
        "batches": len(batches),
        "distinct_shapes": {name: len(set(own)) for name, own in shapes.items()},
        "padding_share": {
            name: round(1 - valid / sum(a * b for a, b in own), 4) for name, own in shapes.items()
        },
    }


def speeds(config: PretrainConfig, waves: Waves, turns: int, num: int) -> dict[str, list[float]]:
    """Audio seconds per second of both forms and of fixed shapes, of each turn."""
    device = pick_device(config.device)
    torch.manual_seed(0)
    work = PretrainWork(config, SpeechModel(config.model), waves, waves, device, fit=False)
    optimizer = build_optimizer(config.optim, [Part((work.modules,))])
    data = work.dataset(waves, shuffle=True)
    data.grid = None
    real = [data[index] for index in range(num)]
    data.grid = grid_of(config)
    forms = {
        "without": real,
        "grid": [data[index] for index in range(num)],
        "fixed": [cut(batch, index, config.batch_s) for index, batch in enumerate(real)],
    }

    def step(batch: Batch) -> float:
        begun = finished_s(device)
        work.backward(0, 1, [batch])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return finished_s(device) - begun

    found: dict[str, list[float]] = {name: [] for name in forms}
    for _turn in range(turns):
        spent = dict.fromkeys(forms, 0.0)
        for index in range(num):
            for name, batches in forms.items():
                took = step(batches[index])
                spent[name] += took if index >= num // 2 else 0
        for name, batches in forms.items():
            found[name].append(seconds(batches[num // 2 :]) / spent[name])
    return found


def lengths_of(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """(N,) seconds of each manifest's utterances."""
    return {str(path): np.array([u.duration_s for u in read_manifest(path)]) for path in paths}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch-s", type=float, help="default: that of the size")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3, help="0: count shapes only")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_freed_memory()
    config = replace(preset(args.size), device=args.device, precision=args.precision)
    config = replace(config, batch_s=args.batch_s or config.batch_s)
    result: dict[str, Any] = {
        "epochs": {path: epoch(own, config) for path, own in lengths_of(args.train).items()}
    }
    if args.turns:
        with tempfile.TemporaryDirectory(prefix="length-grid-") as folder:
            utterances = read_manifest(args.train[0])[:600]
            waves = Waves.open(utterances, Path(folder), config.model.sample_rate, False)
            found = speeds(config, waves, args.turns, args.batches)
        medians = {name: statistics.median(own) for name, own in found.items()}
        result |= {
            "audio_s_per_s": medians,
            "ratio": statistics.median(
                a / b for a, b in zip(found["grid"], found["without"], strict=True)
            ),
            "of_fixed_shapes": {n: medians[n] / medians["fixed"] for n in ("without", "grid")},
        }
    print(json.dumps(result, indent=2))
    if args.json and args.turns:
        write_comparison(
            args.json,
            ratio=result["ratio"],
            ours=result["audio_s_per_s"]["grid"],
            peer=result["audio_s_per_s"]["without"],
            unit="seconds of audio per second; ours: lengths of a grid, peer: of each batch",
            conditions={k: str(v) for k, v in vars(args).items()},
            rows=result,
        )


if __name__ == "__main__":
    main()
