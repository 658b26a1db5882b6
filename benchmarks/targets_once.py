"""What it gains to compute features of the recordings once: updates with and without, in turns.

    python benchmarks/targets_once.py --size tiny --features logmel prosody --json targets.json
    python benchmarks/targets_once.py --train data/train.jsonl --crop-s 3 --turns 0

Both sides make the same updates on the same batches: features from the file (``kept``), computed of
each batch (``batch``), and as in a first epoch, computed and written (``first``). Printed are the
seconds of an update, and of the features alone, medians over the turns; the size of the files a
hour of audio; and how alike a feature of a crop and the crop of the whole utterance's feature are
(correlation, and the mean difference in standard deviations, within the crop and in its first and
last frame). Without ``--train`` the recordings are noise.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.checkpoint_cost import _noise
from benchmarks.comparison import write_comparison
from speechssl.data.dataset import Batch, Waves
from speechssl.data.manifest import read_manifest
from speechssl.device import finished_s, keep_freed_memory, pick_device
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import FEATURE_VERSIONS
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.training.optim import Part, build_optimizer
from speechssl.training.pretrain import PretrainConfig, PretrainWork, preset

KINDS = ("kept", "batch", "first")


class Side:
    """A model, and where its features come from."""

    def __init__(self, config: PretrainConfig, waves: Waves, kind: str, folder: Path) -> None:
        self.kind, self.cache = kind, folder / kind / "cache"
        self.cache.mkdir(parents=True, exist_ok=True)
        config = replace(config, keep_features=kind != "batch")
        torch.manual_seed(0)
        model, device = SpeechModel(config.model), pick_device(config.device)
        self.work = PretrainWork(
            config, model, waves, waves, device, run=self.cache.parent, fit=False
        )
        self.optimizer = build_optimizer(config.optim, [Part((self.work.modules,))])
        self.update_s: list[float] = []
        self.features_s: list[float] = []

    def step(self, number: int, batch: Batch, names: Sequence[str]) -> None:
        """An update, and the features of its batch alone."""
        if self.kind == "first":
            self._forget()
        begun = finished_s(self.work.device)
        self.work.backward(number, 10**6, [batch])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.update_s.append(finished_s(self.work.device) - begun)
        if self.kind == "first":
            self._forget()
        x = self.work.inputs(batch)
        begun = finished_s(self.work.device)
        for name in names:
            x.features(name)  # type: ignore[arg-type]
        self.features_s.append(finished_s(self.work.device) - begun)

    def _forget(self) -> None:
        """As if no batch had been seen."""
        for path in self.cache.glob("features-*"):
            path.unlink()
        kept = self.work._train_features
        assert kept is not None
        kept._files.clear()
        kept._of_batch = (None, {})


def likeness(config: PretrainConfig, waves: Waves, folder: Path) -> dict[str, dict[str, float]]:
    """Of each feature: crops of the whole utterance's against those of the crop."""
    one, other = (Side(config, waves, kind, folder).work for kind in ("kept", "batch"))
    data = one.dataset(waves, shuffle=True)
    found = {}
    for name in FEATURE_VERSIONS:
        rows: list[tuple[np.ndarray, np.ndarray]] = []
        for index in range(min(data.plan.num_batches, 20)):
            batch = data[index]
            pair = [work.inputs(batch).features(name).cpu().numpy() for work in (one, other)]
            frames = one.inputs(batch).frames.tolist()
            rows += [
                (pair[0][row, :num], pair[1][row, :num])
                for row, num in enumerate(frames)
                if batch.cropped[row]
            ]
        if not rows:
            return {}
        inner, edges = (
            [np.concatenate([each[side][cut].ravel() for each in rows]) for side in (0, 1)]
            for cut in (slice(1, -1), [0, -1])
        )
        found[name] = {
            "crops": len(rows),
            "correlation": float(np.corrcoef(*inner)[0, 1]),
            "difference": float(np.abs(inner[0] - inner[1]).mean() / inner[1].std()),
            "edge_correlation": float(np.corrcoef(*edges)[0, 1]),
            "edge_difference": float(np.abs(edges[0] - edges[1]).mean() / edges[1].std()),
        }
    return found


def measure(
    config: PretrainConfig, waves: Waves, folder: Path, turns: int, names: Sequence[str]
) -> dict[str, Any]:
    """All sides in turns, batch by batch."""
    sides = [Side(config, waves, kind, folder) for kind in KINDS]
    data = sides[0].work.dataset(waves, shuffle=True)
    for index in range(data.plan.num_batches):  # fill the file
        x = sides[0].work.inputs(data[index])
        for name in names:
            x.features(name)  # type: ignore[arg-type]
    for turn in range(turns + 1):
        batch = data[turn]
        for side in sides if turn % 2 else sides[::-1]:
            side.step(turn, batch, names)
    files = [path for name in names for path in sides[0].cache.glob(f"features-{name}-*")]
    hours = float(waves.lengths_s().sum()) / 3600
    update, features = (
        {side.kind: statistics.median(getattr(side, kind)[1:]) for side in sides}
        for kind in ("update_s", "features_s")
    )
    kept, batch_s = (sides[number].update_s[1:] for number in (0, 1))
    return {
        "update_s": update,
        "features_s": features,
        "ratio": statistics.median(b / k for k, b in zip(kept, batch_s, strict=True)),
        "mb_per_hour": sum(path.stat().st_size for path in files) / hours / 1e6,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, help="manifest (default: two minutes of noise)")
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--features", nargs="+", default=["logmel"], choices=FEATURE_VERSIONS)
    parser.add_argument("--batch-s", type=float, default=30.0)
    parser.add_argument("--crop-s", type=float, default=15.6)
    parser.add_argument("--turns", type=int, default=20, help="updates of each kind; 0: none")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_freed_memory()
    config = preset(args.size)
    task = ReconstructionConfig(features=tuple(args.features))
    config = replace(
        config,
        batch_s=args.batch_s,
        max_crop_s=args.crop_s,
        tasks=config.tasks.having(task),
        device=args.device,
        precision=args.precision,
    )
    folder = Path(tempfile.mkdtemp(prefix="targets-once-"))
    try:
        utterances = (
            read_manifest(args.train)[: args.utterances]
            if args.train
            else [_noise(folder / f"{number}.wav", number) for number in range(24)]
        )
        waves = Waves.open(utterances, folder / "waves", config.model.sample_rate, False)
        result: dict[str, Any] = {"likeness": likeness(config, waves, folder)}
        if args.turns:
            result |= measure(config, waves, folder, args.turns, args.features)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(result, indent=2))
    if args.json and args.turns:
        write_comparison(
            args.json,
            ratio=result["ratio"],
            ours=result["update_s"]["kept"],
            peer=result["update_s"]["batch"],
            unit="seconds of an update; ours: features kept, peer: computed of each batch",
            conditions={**{k: str(v) for k, v in vars(args).items()}, "at": time.strftime("%F")},
            rows=result,
        )


if __name__ == "__main__":
    main()
