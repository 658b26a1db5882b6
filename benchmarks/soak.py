"""Let a small model pretrain for long, killed with SIGKILL at random moments and started again, and
watch what must not grow: the memory of the run and of its loader, the files of the run folder.

    python benchmarks/soak.py --minutes 120 --json soak.json

A tenth of the minutes goes to measuring the machine, a third to a run that nobody disturbs, the
rest to one of the same updates that is killed again and again; in the end both must be the same
byte for byte. The corpus
is noise unless a manifest is given. Linux only: memory is read from /proc.

Exit code 0: the same bytes, no file and no process left over.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.kill_resume import LOADERS, Job, finish, result, small_job, start
from speechssl.data.manifest import read_manifest
from speechssl.rng import rng
from speechssl.runlog import read_metrics

WARM_UP_S = 60.0
"""After this age of a process its memory counts: before, libraries and caches are still filled."""

MEASURED, ALONE = 0.1, 0.35
"""Shares of the minutes: to see how fast the machine is, and for the run that nobody disturbs."""


@dataclass(frozen=True)
class Memory:
    """What a run's process and its loader processes hold at one moment, in MiB."""

    age_s: float
    """Since the process began."""
    main_rss: float
    main_anonymous: float
    """Without the pages of files (the wave cache, libraries): what a leak is made of."""
    loader_rss: float
    """All loader processes together; 0: there is none."""
    loader_anonymous: float


@dataclass(frozen=True)
class Life:
    """A process of a run, from its start to its end."""

    ended: bool
    """By itself; else it was killed."""
    lived_s: float
    step: int
    """The run's last logged update at its end."""
    files: int
    """In the run folder at its end."""
    memory: list[Memory]
    processes: frozenset[int]
    """All that it started, itself included."""


class Sampler:
    """Reads the memory of a process and of its children every `every_s` seconds in a thread."""

    def __init__(self, process: int, every_s: float) -> None:
        self.memory: list[Memory] = []
        self.seen = {process}
        self._process, self._every_s, self._stop = process, every_s, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Until the next process is forked no thread may be left."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(self._every_s):
            loaders = children(self._process)
            self.seen.update(loaders)
            main = resident(self._process)
            if main is None:
                return
            held = [found for loader in loaders if (found := resident(loader))]
            self.memory.append(
                Memory(
                    round(time.monotonic() - began, 2),
                    *main,
                    loader_rss=sum(rss for rss, _ in held),
                    loader_anonymous=sum(anonymous for _, anonymous in held),
                )
            )


def resident(process: int) -> tuple[float, float] | None:
    """MiB in memory, and those of them that are no pages of a file; None: it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    if "VmRSS" not in sizes:  # it has ended and waits for its parent
        return None
    rss, anonymous = (int(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
    return rss, anonymous


def children(process: int) -> list[int]:
    """The processes that any thread of `process` started and that still run."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [int(number) for number in path.read_text(encoding="utf-8").split()]
        except OSError:
            continue  # the thread has ended
    return sorted(found)


def live(job: Job, run: Path, num_workers: int, within_s: float, every_s: float) -> Life:
    """One process of the run, killed after `within_s` seconds where it has not ended by then."""
    began = time.monotonic()
    child = start(job, run, num_workers)
    sampler = Sampler(child, every_s)
    try:
        ended = finish(child, within_s)
    finally:
        sampler.stop()
    lines = read_metrics(run)
    return Life(
        ended,
        time.monotonic() - began,
        lines[-1]["step"] if lines else 0,
        len(files(run)),
        sampler.memory,
        frozenset(sampler.seen),
    )


def disturb(job: Job, run: Path, longest_s: float, seed: int, every_s: float) -> list[Life]:
    """Kill the run after up to `longest_s` seconds, again and again, until it has come to its
    end; a life that brought it no further makes the next ones half as long again."""
    run.parent.mkdir(parents=True, exist_ok=True)
    lives: list[Life] = []
    while not lives or not lives[-1].ended:
        number = len(lives)
        after_s = float(rng(seed, "soak", number).uniform(0, longest_s))
        lives.append(live(job, run, LOADERS[number % len(LOADERS)], after_s, every_s))
        if not lives[-1].ended and lives[-1].step <= max((e.step for e in lives[:-1]), default=0):
            longest_s *= 1.5
        print(f"life {number}: update {lives[-1].step} of {job.config.loop.max_steps}", flush=True)
    return lives


def files(run: Path) -> set[str]:
    """Every file below the run folder."""
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def slope(lives: Iterable[Life], name: str) -> float | None:
    """MiB an hour within processes: one line for all, each process with a height of its own.

    None where no process grew older than :data:`WARM_UP_S` by ten samples.
    """
    above = below = 0.0
    for life in lives:
        old = [m for m in life.memory if m.age_s >= WARM_UP_S and getattr(m, name) > 0]
        if len(old) < 10:
            continue
        age = np.array([m.age_s for m in old])
        held = np.array([getattr(m, name) for m in old])
        above += float(((age - age.mean()) * (held - held.mean())).sum())
        below += float(((age - age.mean()) ** 2).sum())
    return 3600 * above / below if below else None


def alive(processes: Iterable[int], within_s: float) -> list[int]:
    """Those that still run after `within_s` seconds: loaders see after 5 s that nobody is left."""
    deadline = time.monotonic() + within_s
    left = sorted(processes)
    while left and time.monotonic() < deadline:
        time.sleep(0.5)
        left = [number for number in left if resident(number)]
    return left


def facts(alone: Life, lives: Sequence[Life], runs: tuple[Path, Path]) -> dict[str, object]:
    """What is reported of the undisturbed and the disturbed run."""
    whole, again = (result(run) for run in runs)
    everything = [alone, *lives]
    peak = max((m.main_rss + m.loader_rss for life in everything for m in life.memory), default=0.0)
    return {
        "updates": alone.step,
        "restarts": len(lives) - 1,
        "undisturbed_s": round(alone.lived_s, 1),
        "disturbed_s": round(sum(life.lived_s for life in lives), 1),
        "longest_life_s": round(max(life.lived_s for life in lives), 1),
        "samples": sum(len(life.memory) for life in everything),
        "peak_mib": round(peak, 1),
        "mib_per_h": {
            f"{which} {part}": None if found is None else round(found, 2)
            for which, some in (("undisturbed", [alone]), ("disturbed", lives))
            for part in ("main_rss", "main_anonymous", "loader_rss", "loader_anonymous")
            for found in [slope(some, part)]
        },
        "most_files": max(life.files for life in lives),
        "leftover_files": sorted(files(runs[1]) - files(runs[0])),
        "leftover_processes": alive({n for e in everything for n in e.processes}, 30),
        "same": {name: whole[name] == again[name] for name in whole},
    }


def table(found: dict[str, object]) -> str:
    """The facts, one a line."""
    rows = []
    for name, value in found.items():
        if isinstance(value, dict):
            rows += [(f"{name}: {part}", each) for part, each in value.items()]
        else:
            rows.append((name, value))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def build_job(folder: Path, args: argparse.Namespace, max_steps: int) -> Job:
    """The run: the small model of `kill_resume`, with states far enough apart that it also
    learns."""
    job = small_job(folder, args.precision, max_steps)
    loop = replace(job.config.loop, checkpoint_every=25, log_every=5, num_validations=20)
    job = replace(job, config=replace(job.config, loop=loop))
    if args.manifest is None:
        return job
    utterances = read_manifest(args.manifest)
    held_out = max(len(utterances) // 10, 1)
    return replace(job, train_set=utterances[held_out:], valid_set=utterances[:held_out])


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--kill-within-s", type=float, default=90.0, help="longest life")
    parser.add_argument("--every-s", type=float, default=1.0, help="between two looks at memory")
    parser.add_argument("--manifest", type=Path, help="recordings to learn from (default: noise)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.minutes <= 0:
        parser.error(f"--minutes must be above 0, got {args.minutes:g}.")
    if not os.path.isdir("/proc/self/task"):
        parser.error("memory is read from /proc, which only Linux has.")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = measure(folder, args)
        job = build_job(folder, args, steps)
        print(f"{steps} updates, first undisturbed", flush=True)
        alone = live(job, folder / "whole", 1, 1e9, args.every_s)
        lives = disturb(job, folder / "killed", args.kill_within_s, args.seed, args.every_s)
        found = facts(alone, lives, (folder / "whole", folder / "killed"))
    print(table(found))
    if args.json:
        samples = {
            "undisturbed": [asdict(m) for m in alone.memory],
            "disturbed": [[asdict(m) for m in life.memory] for life in lives],
        }
        conditions = {"minutes": args.minutes, "seed": args.seed, "precision": args.precision}
        whole = {**conditions, **found, "samples_mib": samples}
        args.json.write_text(json.dumps(whole) + "\n", encoding="utf-8")
    same = found["same"]
    assert isinstance(same, dict)
    clean = not found["leftover_files"] and not found["leftover_processes"]
    return 0 if all(same.values()) and clean else 1


def measure(folder: Path, args: argparse.Namespace) -> int:
    """Updates that fill the undisturbed run's share of the minutes, by the clock of a run that is
    stopped after a tenth of them."""
    job = build_job(folder, args, 1_000_000)
    job = replace(job, config=replace(job.config, loop=replace(job.config.loop, log_every=1)))
    run = folder / "measured"
    live(job, run, 1, MEASURED * 60 * args.minutes, args.every_s)
    lines = [line for line in read_metrics(run) if "speed/audio_s_per_s" in line]
    if len(lines) < 2:
        raise SystemExit("The machine did not come to two updates in a tenth of the minutes.")
    first, last = lines[0], lines[-1]
    per_update_s = max(last["time_s"] - first["time_s"], 1e-3) / (last["step"] - first["step"])
    return max(round(ALONE * 60 * args.minutes / per_update_s), 10)


if __name__ == "__main__":
    sys.exit(main())
