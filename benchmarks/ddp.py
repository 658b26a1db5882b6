"""Two processes with a core each against one process with two threads: the same updates, in turns.

    python benchmarks/ddp.py --size tiny --rounds 3 --json ddp.json

`ratio` is the throughput of the processes over that of the threads, the median of the rounds. Run
it on a quiet machine: two of its cores should have nothing else to do.
"""

import argparse
import json
import os
import socket
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.kill_resume import finish
from speechssl import audio
from speechssl.data.manifest import Utterance
from speechssl.model.config import SIZES
from speechssl.rng import rng
from speechssl.runlog import read_metrics
from speechssl.training.loop import LoopConfig
from speechssl.training.parallel import Parallel
from speechssl.training.pretrain import PretrainConfig, preset, pretrain

_LOG_EVERY = 5
_WARM_UP_LINES = 2
"""Logged lines that are not counted: the first updates compile and fill caches."""


def throughput(
    config: PretrainConfig, data: list[Utterance], run: Path, processes: int, threads: int
) -> float:
    """Seconds of audio a second, of a run in so many processes with so many threads each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            _train(config, data, run, {"RANK": rank, "WORLD_SIZE": processes}, port, threads)
        children.append(child)
    for child in children:
        finish(child, 3600)
    speeds = [m["speed/audio_s_per_s"] for m in read_metrics(run) if "speed/audio_s_per_s" in m]
    return statistics.median(speeds[_WARM_UP_LINES:])


def _train(
    config: PretrainConfig,
    data: list[Utterance],
    run: Path,
    place: dict[str, int],
    port: int,
    threads: int,
) -> None:
    """The work of one process, which ends with it."""
    code = 1
    try:
        os.environ |= {name: str(value) for name, value in place.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        torch.set_num_threads(threads)
        pretrain(config, data[4:], run, valid_set=data[:4])
        code = 0
    finally:
        os._exit(code)


def _configured(size: str, parallel: Parallel, steps: int) -> PretrainConfig:
    loop = LoopConfig(
        max_steps=steps, log_every=_LOG_EVERY, num_validations=1, parallel=parallel, num_workers=0
    )
    return replace(preset(size), loop=replace(loop, checkpoint_every=steps), batch_s=15.0)


def _speechlike(path: Path, number: int) -> Utterance:
    duration_s = float(rng(0, "ddp-length", number).uniform(2, 12))
    wave = 0.1 * rng(0, "ddp-wave", number).standard_normal(int(duration_s * 16000))
    audio.write(path, wave.astype(np.float32), 16000)
    return Utterance(str(number), path, 0.0, len(wave) / 16000, 16000)


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--parallel", choices=("ddp", "fsdp"), default="ddp")
    parser.add_argument("--steps", type=int, default=40, help="updates of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = _configured(args.size, args.parallel, args.steps)
    alone = replace(config, loop=replace(config.loop, accumulate=2))
    ours, peer = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = [_speechlike(folder / f"{number}.wav", number) for number in range(200)]
        for number in range(args.rounds):
            ours.append(throughput(config, data, folder / f"processes-{number}", 2, 1))
            peer.append(throughput(alone, data, folder / f"threads-{number}", 1, 2))
    facts = {
        "ratio": statistics.median(o / p for o, p in zip(ours, peer, strict=True)),
        "ours": ours,
        "peer": peer,
        "unit": "seconds of audio a second; ours: 2 processes, peer: 1 process with 2 threads",
        "size": args.size,
        "parallel": args.parallel,
        "batch_s": config.batch_s,
        "cores": os.cpu_count(),
    }
    print(json.dumps(facts, indent=2))
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
