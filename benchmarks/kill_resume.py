"""Kill a run with SIGKILL again and again, let it go on, and compare its end with that of a run
that nobody disturbed: weights, optimizer, metrics.

    python benchmarks/kill_resume.py --kills 50 --precision bf16 --json kills.json

Exit code 0: byte for byte the same.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from speechssl import audio
from speechssl.data.manifest import Utterance
from speechssl.model.config import ContextConfig, FilterbankEncoderConfig, ModelConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.rng import rng
from speechssl.runlog import read_metrics
from speechssl.training.loop import LoopConfig
from speechssl.training.optim import OptimConfig
from speechssl.training.pretrain import PretrainConfig, pretrain

LOADERS = (0, 1, 2)
"""Loader processes, in turns: the numbers must not depend on them."""


@dataclass(frozen=True)
class Job:
    """A pretraining run."""

    config: PretrainConfig
    train_set: Sequence[Utterance]
    valid_set: Sequence[Utterance]


def start(job: Job, run: Path, num_workers: int) -> int:
    """Run it in a child process; the child's number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with (run.parent / f"{run.name}.log").open("a") as log:
            os.dup2(log.fileno(), 2)
        torch.set_num_threads(1)
        loop = replace(job.config.loop, num_workers=num_workers)
        config = replace(job.config, loop=loop)
        pretrain(config, job.train_set, run, valid_set=job.valid_set)
        code = 0
    except BaseException:  # nobody else would say it
        traceback.print_exc()
    finally:
        os._exit(code)


def finish(child: int, within_s: float) -> bool:
    """Wait; False where the child had to be killed. Raises where it failed by itself."""
    deadline = time.monotonic() + within_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(f"The run failed by itself, with status {status}.")
            return True
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.001)


def disturb(job: Job, run: Path, kills: int, longest_s: float, seed: int) -> int:
    """Kill the run `kills` times after up to `longest_s` seconds each, then let it end.

    Returns how often it was killed: fewer where it had come to its end.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    for number in range(kills):
        after_s = float(rng(seed, "kill", number).uniform(0, longest_s))
        if finish(start(job, run, LOADERS[number % len(LOADERS)]), after_s):
            return number
    if not finish(start(job, run, 0), 3600):
        raise RuntimeError("The run that was killed did not come to its end within an hour.")
    return kills


def result(run: Path) -> dict[str, object]:
    """What must be the same: the bytes of the last state and of the best model, and the metrics
    without what the clock says."""
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    places = [newest / "model.safetensors", newest / "optimizer.safetensors"]
    places += [run / name / "model.safetensors" for name in ("best", "model")]
    metrics = [
        {k: v for k, v in m.items() if k not in ("time_s", *_CLOCKED)} for m in read_metrics(run)
    ]
    files = {str(p.relative_to(run)): p.read_bytes() for p in places}
    return {**files, "metrics": metrics}


_CLOCKED = ("speed/audio_s_per_s", "speed/wait_share")


def small_job(folder: Path, precision: str, max_steps: int) -> Job:
    """A few seconds of a small model, a state after every second update."""
    context = ContextConfig(
        dim=32, num_layers=2, num_heads=2, ffn_dim=64, norm_order="pre", pos_kernel=7, pos_groups=4
    )
    config = PretrainConfig(
        model=ModelConfig(FilterbankEncoderConfig(num_filters=24), context),
        tasks=TaskConfigs((MaskedUnitsConfig(num_units=16, target_dim=16), ReconstructionConfig())),
        batch_s=4.0,
        optim=OptimConfig(lr=3e-3, warmup_steps=5),
        loop=LoopConfig(
            max_steps=max_steps, num_validations=6, checkpoint_every=2, log_every=3, num_workers=0
        ),
        precision=precision,  # type: ignore[arg-type]
    )
    utterances = []
    for number in range(24):
        path = folder / f"{number}.wav"
        wave = 0.1 * rng(0, "kill-wave", number).standard_normal(16000)
        audio.write(path, wave.astype(np.float32), 16000)
        utterances.append(Utterance(str(number), path, 0.0, 1.0, 16000))
    return Job(config, utterances[4:], utterances[:4])


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = small_job(folder, args.precision, max_steps=60 * args.kills)
        began = time.monotonic()
        short = replace(job, config=replace(job.config, loop=replace(job.config.loop, max_steps=2)))
        finish(start(short, folder / "short", 0), 600)
        start_s = time.monotonic() - began
        finish(start(job, folder / "whole", 0), 3600)
        killed = disturb(job, folder / "killed", args.kills, 2.5 * start_s, args.seed)
        whole, again = result(folder / "whole"), result(folder / "killed")
    same = {name: whole[name] == again[name] for name in whole}
    facts = {"kills": killed, "precision": args.precision, "same": same}
    print(json.dumps(facts, indent=2))
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0 if all(same.values()) and killed == args.kills else 1


if __name__ == "__main__":
    sys.exit(main())
