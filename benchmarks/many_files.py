"""A command over many short files, in one process against several, and the memory of another one.

    python benchmarks/many_files.py --size base --json many_files.json

Random weights of a size and noise like speech, written as files. The whole command is timed, from
its start to its end, in one process and in several in turns; what they print must be equal. While
it runs, Linux tells what memory belongs to a worker alone (USS: the private pages) and its share
of what several hold (PSS); the largest are shown. ``--pace auto`` lets the command itself say
whether and when to start workers.

The JSON's `ratio` is the time of one process over that of several, medians over the turns.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.comparison import write_comparison
from benchmarks.transcribe import RATE, random_checkpoint, speechlike
from speechssl import audio
from speechssl.checkpoint import save_model


def main() -> None:
    """Time both in turns, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base")
    parser.add_argument("--command", choices=("transcribe", "extract"), default="transcribe")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seconds", type=float, nargs=2, default=(2.0, 8.0), metavar=("A", "B"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pace", choices=("given", "auto"), default="given")
    parser.add_argument("--precision", choices=("auto", "fp32"), default="auto")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    several = "auto" if args.pace == "auto" else str(args.processes)
    found: dict[str, list[Measured]] = {"1": [], several: []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_model(folder / "model", random_checkpoint(args.size))
        total_s = make_files(folder / "files", args.files, *args.seconds)
        command = [args.command, str(folder / "model"), str(folder / "files")]
        if args.command == "transcribe":
            command += ["--precision", args.precision]
        else:
            command += ["--out", str(folder / "features")]
        for turn in range(args.turns):
            for processes in [*found][:: -1 if turn % 2 else 1]:
                measured = measure([*command, "--processes", processes], args.processes)
                found[processes].append(measured)
                print(f"{processes:>5} processes: {measured}", flush=True)
    outputs = {each.output for turns in found.values() for each in turns}
    if len(outputs) > 1:
        raise SystemExit("The outputs differ.")
    one, more = (statistics.median(each.wall_s for each in turns) for turns in found.values())
    print(
        f"{args.files} files, {total_s:.0f} s of sound: {one:.1f} s in one process, {more:.1f} s "
        f"in {several}: {one / more:.2f} times as fast, the same output"
    )
    if args.json:
        write_comparison(
            args.json,
            ratio=one / more,
            ours=total_s / more,
            peer=total_s / one,
            unit="seconds of audio per second, the whole command; several processes and one",
            conditions={
                k: getattr(args, k)
                for k in ("size", "command", "files", "seconds", "processes", "pace", "turns")
            },
            rows={name: [each.row() for each in turns] for name, turns in found.items()},
        )


def make_files(folder: Path, num: int, least_s: float, most_s: float) -> float:
    """Recordings of these lengths, in seconds -> the seconds of all."""
    folder.mkdir()
    made = np.random.default_rng(0)
    waves = [speechlike(made, float(s)) for s in made.uniform(least_s, most_s, num)]
    for number, wave in enumerate(waves):
        audio.write(folder / f"{number:04}.wav", wave, RATE)
    return sum(map(len, waves)) / RATE


LOOK_S = 1.0
"""Between two looks at the memory: each holds up a worker for the time of a walk over its pages."""


@dataclass
class Measured:
    """What a command took."""

    wall_s: float
    cpu_s: float
    output: str
    workers: dict[int, dict[str, int]] = field(default_factory=dict)
    """Process -> the largest ``Private``, ``Pss`` and ``Rss``, in MB."""

    def row(self) -> dict[str, object]:
        return {"wall_s": self.wall_s, "cpu_s": self.cpu_s, "workers_mb": [*self.workers.values()]}

    def __str__(self) -> str:
        memory = "; ".join(
            f"a worker's own {each['Private']} MB (PSS {each['Pss']}, RSS {each['Rss']})"
            for each in self.workers.values()
        )
        return f"{self.wall_s:.1f} s, {self.cpu_s:.1f} s of processor time; {memory or 'alone'}"


def measure(arguments: list[str], processes: int) -> Measured:
    """Run a command with `processes` cores."""
    env = {**os.environ, "OMP_NUM_THREADS": str(processes)}
    before = os.times()
    began = time.monotonic()
    workers: dict[int, dict[str, int]] = {}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "speechssl.cli", *arguments], env=env, stdout=output
        )
        next_look = began
        while process.poll() is None:
            if time.monotonic() >= next_look:
                for worker, origin in workers_of(process.pid):
                    look(worker, origin, workers)
                next_look = time.monotonic() + LOOK_S
            time.sleep(0.02)
        wall_s = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"The command failed ({process.returncode}).")
        output.seek(0)
        digest = hashlib.sha256(output.read()).hexdigest()
    after = os.times()
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    return Measured(wall_s, cpu_s, digest, workers)


def workers_of(parent: int) -> list[tuple[int, int]]:
    """Those that were spawned, and those that a server forked, each with the process that it came
    from; of Linux, elsewhere none."""
    found = []
    for child in children(parent):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"forkserver" in command:
            found += [(worker, child) for worker in children(child)]
        elif b"spawn_main" in command:
            found.append((child, parent))
    return found


def children(parent: int) -> list[int]:
    try:
        threads = Path(f"/proc/{parent}/task").iterdir()
        return [int(n) for each in threads for n in (each / "children").read_text().split()]
    except OSError:
        return []


def look(process: int, origin: int, found: dict[int, dict[str, int]]) -> None:
    """Keep the largest memory that a process had, while that which it was forked from is there: of
    pages that no other process has any more, all would be its own."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        if Path(f"/proc/{origin}/statm").read_text().split()[1] == "0":
            return
    except OSError:
        return
    now = {"Private": 0, "Pss": 0, "Rss": 0}
    for line in lines:
        name, kilobytes = line.split()[:2]
        name = "Private" if name.startswith("Private_") else name.rstrip(":")
        if name in now:
            now[name] += int(kilobytes)
    largest = found.setdefault(process, dict.fromkeys(now, 0))
    for name, kilobytes in now.items():
        largest[name] = max(largest[name], kilobytes // 1024)


if __name__ == "__main__":
    main()
