"""A corpus of any size, made up: seconds and memory to open its manifest, to hold out a validation
set, to plan an epoch, and to reach any step; and how long a tiny step waits for its data.

    python benchmarks/data.py --utterances 1000000 --json data.json
    python benchmarks/data.py --utterances 10000000 --mix_temperature 0.5

Each part runs in a process of its own, so that the memory is that part's.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechssl import audio
from speechssl.data.batching import BatchPlan, MixedPlan
from speechssl.data.index import Corpora, ManifestIndex, durations_s
from speechssl.data.manifest import Utterance
from speechssl.rng import rng
from speechssl.runlog import read_metrics
from speechssl.training.loop import LoopConfig
from speechssl.training.pretrain import hold_out_valid, pretrain, tiny

BATCH_S = 87.5
RANDOM_READS = 1000


def write_made_up(path: Path, num: int) -> None:
    """A manifest of `num` utterances of 1 to 16 s."""
    with path.open("w", encoding="utf-8") as file:
        for first in range(0, num, 100_000):
            count = min(100_000, num - first)
            seconds = rng(0, "durations", first).uniform(1, 16, count)
            file.writelines(
                f'{{"id": "u{first + i}", "audio": "wav/{(first + i) % 1000}/{first + i}.flac", '
                f'"start_s": 0.0, "duration_s": {s:.2f}, "sample_rate": 16000, '
                f'"speaker": "s{(first + i) % 2311}", "text": "a transcript of some words"}}\n'
                for i, s in enumerate(seconds)
            )


def index(path: Path, _temperature: float | None) -> dict[str, float]:
    """Make the index, which is done once."""
    began = time.monotonic()
    ManifestIndex.open(path)
    return {"index_s": time.monotonic() - began}


def plan(path: Path, temperature: float | None) -> dict[str, float]:
    """Open the manifest, hold out, plan, and read utterances here and there."""
    began = time.monotonic()
    whole = ManifestIndex.open(path)
    facts = {"open_s": time.monotonic() - began}
    began = time.monotonic()
    sets: Corpora | ManifestIndex = whole
    if temperature is not None:
        parts = np.array_split(np.arange(len(whole)), [len(whole) // 100, len(whole) // 10])
        keep = [np.isin(np.arange(len(whole)), part) for part in parts]
        sets = Corpora([Corpora([whole]).choose(k) for k in keep])
    train_set, _ = hold_out_valid(sets, seed=0)
    facts["hold_out_s"] = time.monotonic() - began
    began = time.monotonic()
    lengths_s = durations_s(train_set).clip(max=15.6)
    planned: BatchPlan | MixedPlan
    if temperature is None:
        planned = BatchPlan(lengths_s, batch_s=BATCH_S, seed=0)
    else:
        assert isinstance(train_set, Corpora)
        sizes = train_set.sizes()
        planned = MixedPlan(lengths_s, sizes, temperature=temperature, batch_s=BATCH_S, seed=0)
    planned.batch(0)
    facts["plan_epoch_s"] = time.monotonic() - began
    began = time.monotonic()
    planned.batch(7 * planned.num_batches + planned.num_batches // 2)
    facts["resume_in_epoch_8_s"] = time.monotonic() - began
    began = time.monotonic()
    for number in rng(0, "reads").integers(len(train_set), size=RANDOM_READS).tolist():
        train_set[number]
    facts["read_utterance_us"] = (time.monotonic() - began) / RANDOM_READS * 1e6
    return {**facts, "batches_an_epoch": planned.num_batches}


def wait(folder: Path, _temperature: float | None) -> dict[str, float]:
    """A short run of `tiny` on noise, one loader process, cached and decoded as it is heard."""
    utterances = []
    for number in range(120):
        path = folder / f"{number}.flac"
        wave = 0.1 * rng(0, "data-wave", number).standard_normal(16000 * (2 + number % 9))
        audio.write(path, wave.astype(np.float32), 16000)
        utterances.append(Utterance(str(number), path, 0.0, len(wave) / 16000, 16000))
    shares = {}
    for name, cache in (("cached", True), ("decoded", False)):
        loop = LoopConfig(max_steps=30, log_every=1, num_validations=1, num_workers=1)
        config = replace(tiny(), loop=loop, cache=cache)
        pretrain(config, utterances[8:], folder / name, valid_set=utterances[:8], resume=False)
        logged = [m for m in read_metrics(folder / name) if "speed/wait_share" in m]
        waited = [m["speed/wait_share"] for m in logged if m["step"] > 5]
        shares[f"wait_share_{name}"] = float(np.mean(waited))
    return shares


def alone(work: Callable[..., dict[str, float]], *arguments: object) -> dict[str, float]:
    """What `work` says, in a process of its own, with the memory it took at most."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, arguments).result()


def _measured(
    work: Callable[..., dict[str, float]], arguments: tuple[Any, ...]
) -> dict[str, float]:
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = work(*arguments)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **facts,
        f"{work.__name__}_rss_mb": most / 1024,
        f"{work.__name__}_added_mb": (most - before) / 1024,
    }


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--mix_temperature", type=float, help="of three corpora, 1 : 9 : 90")
    parser.add_argument("--no-wait", action="store_true", help="leave out the training steps")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    facts: dict[str, float | None] = {
        "utterances": args.utterances,
        "mix_temperature": args.mix_temperature,
    }
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "train.jsonl"
        write_made_up(path, args.utterances)
        facts["manifest_mb"] = path.stat().st_size / 1e6
        for work in (index, plan):
            facts |= alone(work, path, args.mix_temperature)
        if not args.no_wait:
            facts |= alone(wait, Path(name), None)
    facts = {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}
    for key, value in facts.items():
        print(f"  {key:<24}{value}")
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
