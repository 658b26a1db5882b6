"""One process with a thread for each core against several with few: the same updates, in turns.

    python benchmarks/processes.py --rounds 3 --json processes.json

Pretraining and fine-tuning of ``tiny`` on noise of 2 to 6 seconds by the commands themselves, as a
person gives them: ``--processes 1`` and ``--processes N``. `ratio` is the speed of N processes over
that of one (the median of the rounds of the pretraining). Beside it: what the average of the
gradients costs, the memory of a further process that it shares with no other, and the speed on
paper of 8 cores with a process each. Run it on a quiet machine.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from benchmarks.comparison import write_comparison
from speechssl import audio, distributed
from speechssl.config.json import to_json
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.files import writing
from speechssl.rng import rng
from speechssl.runlog import read_metrics
from speechssl.training import finetune, pretrain
from speechssl.training.job import open_store

_LOG_EVERY = 5
_WARM_UP_LINES = 1
"""Logged lines that are not counted: the first updates compile and fill caches."""
_REDUCTIONS = 20
_PAPER_CORES = 8
_MEMORY_EVERY_S = 0.5


def make_data(folder: Path, num: int) -> tuple[Path, Path]:
    """Manifests for training and validation, of noise with transcripts."""
    made = []
    for number in range(num):
        duration_s = float(rng(0, "length", number).uniform(2, 6))
        wave = 0.1 * rng(0, "wave", number).standard_normal(int(duration_s * 16000))
        path = folder / f"{number}.wav"
        audio.write(path, wave.astype(np.float32), 16000)
        text = "".join("abcdef "[i] for i in rng(0, "text", number).integers(0, 7, 20)).strip()
        made.append(Utterance(str(number), path, 0.0, len(wave) / 16000, 16000, None, text))
    paths = folder / "train.jsonl", folder / "valid.jsonl"
    for path, part in zip(paths, (made[4:], made[:4]), strict=True):
        write_manifest(path, part)
    return paths


def command_of(kind: str, data: tuple[Path, Path], folder: Path, steps: int) -> list[str]:
    """The command, without ``--out`` and ``--processes``."""
    module: Any = {"pretrain": pretrain, "finetune": finetune}[kind]
    config = module.preset("tiny")
    loop = replace(config.loop, max_steps=steps, log_every=_LOG_EVERY, num_validations=1)
    path = folder / f"{kind}.json"
    with writing(path) as file:
        file.write(json.dumps(to_json(replace(config, loop=loop))))
    command = [sys.executable, "-m", "speechssl", kind, "--recipe", str(path)]
    command += ["--train", str(data[0]), "--valid", str(data[1])]
    return command + (["--init", "scratch"] if kind == "finetune" else [])


def measured(command: Sequence[str], run: Path, processes: int, threads: int) -> dict[str, float]:
    """Speed of a run in seconds of audio a second, and MB of a further process of its own."""
    full = [*command, "--out", str(run), "--processes", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    own: list[float] = []
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(full, env=environment, **quiet) as job:
        while job.poll() is None:
            time.sleep(_MEMORY_EVERY_S)
            own += [_own_memory(child) for child in _children(job.pid)]
    if job.returncode:
        raise RuntimeError(f"{' '.join(full)} ended with {job.returncode}.")
    name = "speed/audio_s_per_s"
    speeds = [line[name] for line in read_metrics(run) if name in line]
    return {"speed": statistics.median(speeds[_WARM_UP_LINES:]), "memory": max(own, default=0.0)}


def _children(pid: int) -> list[int]:
    """Further processes of a command; none where the system does not say (Linux does)."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return [
            int(child)
            for child in listed
            if b"training.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except OSError:
        return []


def _own_memory(pid: int) -> float:
    """MB that a process shares with no other."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def reduction_s(num_parameters: int, processes: int) -> float:
    """Seconds that the average of so many gradients takes, median."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "seconds"
        multiprocessing.spawn(_reduce, (processes, port, num_parameters, out), processes)
        return float(out.read_text(encoding="utf-8"))


def _reduce(rank: int, world: int, port: int, num_parameters: int, out: Path) -> None:
    torch.set_num_threads(1)
    module = torch.nn.Linear(num_parameters // 64, 64)
    spent = []
    store = open_store(port, is_first=rank == 0)
    with distributed.sharing_group(dist.PrefixStore("reduce", store), rank, world):
        for _ in range(_REDUCTIONS):
            for parameter in module.parameters():
                parameter.grad = torch.ones_like(parameter)
            distributed.barrier()
            begun = time.perf_counter()
            distributed.average_gradients(module)
            spent.append(time.perf_counter() - begun)
        if rank == 0:
            out.write_text(str(statistics.median(spent)), encoding="utf-8")
        distributed.barrier()


def on_paper(one: float, several: float, processes: int, audio_s: float, reduce_s: float) -> float:
    """Seconds of audio a second of 8 processes with a core each.

    Args:
        one: speed of a process with one thread.
        several: speed of `processes` with one thread each.
        audio_s: of an update.
        reduce_s: for the gradients of 2 processes; a ring of N moves 2 (N - 1) / N times the
            gradients, so 8 take 1.75 times that.

    What the processes do not divide (the optimizer, the waiting for the longest part) is what is
    measured with `processes` beyond the share of each and the reduction.
    """
    whole, parts = audio_s / one, audio_s / several
    rest = max(parts - whole / processes - reduce_s, 0.0)
    return audio_s / (whole / _PAPER_CORES + rest + 1.75 * reduce_s)


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=60, help="updates of each run")
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["pretrain", "finetune"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = make_data(folder, args.utterances)
        ways = {"threads": (1, args.threads), "processes": (args.processes, args.threads)}
        ways["one thread"] = (1, 1)
        for kind in args.kinds:
            command = command_of(kind, data, folder, args.steps)
            found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
            for number in range(args.rounds):
                for way, (processes, threads) in ways.items():
                    run = folder / f"{kind}-{way.replace(' ', '-')}-{number}"
                    found[way].append(measured(command, run, processes, threads))
            rows[kind] = _row(found, args.processes)
            print(json.dumps({kind: rows[kind]}, indent=2), flush=True)
    first = rows[args.kinds[0]]
    if args.json:
        write_comparison(
            args.json,
            ratio=first["ratio"],
            ours=first["processes"],
            peer=first["threads"],
            unit="seconds of audio a second; peer: one process with threads",
            conditions={"size": "tiny", "processes": args.processes, "threads": args.threads},
            rows=rows,
        )
    return 0


def _row(found: dict[str, list[dict[str, float]]], processes: int) -> dict[str, Any]:
    speeds = {way: [one["speed"] for one in rounds] for way, rounds in found.items()}
    pairs = zip(speeds["processes"], speeds["threads"], strict=True)
    reduce_s = reduction_s(4_700_000, 2)
    one, several = (statistics.median(speeds[way]) for way in ("one thread", "processes"))
    return {
        "ratio": statistics.median(ours / peer for ours, peer in pairs),
        **speeds,
        "memory of a further process, MB": max(one["memory"] for one in found["processes"]),
        "average of the gradients, s": reduce_s,
        f"{_PAPER_CORES} cores on paper": on_paper(one, several, processes, 30.0, reduce_s),
    }


if __name__ == "__main__":
    raise SystemExit(main())
