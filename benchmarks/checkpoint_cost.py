"""What writing states costs a training run: how long updates wait for the copy, and how much slower
they are while a thread writes it.

    python benchmarks/checkpoint_cost.py --size base --batch-s 10 --json cost.json

`share` is the cost of one state over the time of `--every` updates without.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from speechssl import audio
from speechssl.data.dataset import PlannedBatches, Waves
from speechssl.data.manifest import Utterance
from speechssl.device import pick_device
from speechssl.model.config import SIZES
from speechssl.model.speech_model import SpeechModel
from speechssl.rng import rng
from speechssl.training.optim import Part, build_optimizer
from speechssl.training.pretrain import PretrainWork, preset
from speechssl.training.resume import Progress, StateWriter


class Training:
    """Updates of a model on noise."""

    def __init__(self, size: str, batch_s: float, folder: Path, device: str) -> None:
        config = replace(preset(size), batch_s=batch_s, noise_dir=None)
        utterances = [
            _noise(folder / f"{number}.wav", number) for number in range(24)
        ]  # whole batches
        waves = Waves.open(utterances, folder / "cache", config.model.sample_rate, False)
        self.device = pick_device(device)
        self.work = PretrainWork(config, SpeechModel(config.model), waves, waves, self.device)
        self.optimizer = build_optimizer(config.optim, [Part((self.work.modules,))])
        self.data: PlannedBatches = self.work.dataset(waves, shuffle=True)
        self.done = 0

    def update_s(self, look: Callable[[nn.Module], object] | None = None) -> float:
        """Make an update; its seconds, the batch not counted. `look` is called on the modules when
        they have their gradients."""
        batch = self.data[self.done]
        begun = time.monotonic()
        self.optimizer.zero_grad(set_to_none=True)
        self.work.backward(self.done, 10**6, [batch])
        if look is not None:
            look(self.work.modules)
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.done += 1
        return time.monotonic() - begun


def measure(training: Training, folder: Path, rounds: int, every: int) -> dict[str, float]:
    """Alternate updates in peace with updates while a state is written."""
    peace, waits, disturbed, written = [], [], [], []
    with StateWriter(folder, keep=1) as writer:
        for number in range(rounds + 1):
            calm = [training.update_s() for _ in range(3)]
            begun = time.monotonic()
            writer.save(training.work.modules, training.optimizer, Progress(step=training.done))
            waited = time.monotonic() - begun
            during = []
            while not writer.idle:
                during.append(training.update_s())
            if number:  # the first one takes its memory from the system
                peace += calm
                waits.append(waited)
                disturbed.append(during)
                written.append(time.monotonic() - begun)
    update_s = statistics.median(peace)
    slowed = [sum(max(s - update_s, 0) for s in during) for during in disturbed]
    cost_s = statistics.median(w + s for w, s in zip(waits, slowed, strict=True))
    return {
        "update_s": update_s,
        "copy_s": statistics.median(waits),
        "slowed_s": statistics.median(slowed),
        "written_in_s": statistics.median(written),
        "share": cost_s / (every * update_s),
    }


def _noise(path: Path, number: int) -> Utterance:
    wave = 0.1 * rng(0, "cost-wave", number).standard_normal(5 * 16000)
    audio.write(path, wave.astype(np.float32), 16000)
    return Utterance(str(number), path, 0.0, 5.0, 16000)


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="base")
    parser.add_argument("--batch-s", type=float, default=10.0)
    parser.add_argument("--every", type=int, default=100, help="updates between two states")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, help="where states are written (default: temporary)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        training = Training(args.size, args.batch_s, folder, args.device)
        facts = measure(training, folder / "run", args.rounds, args.every)
    conditions = {
        "size": args.size,
        "batch_s": args.batch_s,
        "every": args.every,
        "device": str(training.device),
        "threads": torch.get_num_threads(),
    }
    facts |= conditions
    print(json.dumps(facts, indent=2))
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
