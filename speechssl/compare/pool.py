"""Several jobs at once, each a process with one thread; what ends them ends all of them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from speechssl.compare.jobs import LOG, Job, last_sentence, minutes_of_jobs
from speechssl.durations import duration_text
from speechssl.system import ask_to_end, kill, own_group
from speechssl.training.interrupts import (
    PREEMPTED,
    InterruptedRunError,
    PreemptedRunError,
    stop_signals,
)

_POLL_S = 0.1
_LINE_EVERY_S = 1.0
_GRACE_S = 60.0
"""In which a training saves its state when it is asked to stop."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Command = Callable[[Path, Job], Sequence[str]]


def command_of(out: Path, job: Job) -> list[str]:
    """What a job is run with."""
    return [sys.executable, "-m", "speechssl.compare.work", str(out), job.name]


@dataclass
class Pool:
    """The state of a comparison's jobs."""

    out: Path
    num_processes: int
    command: Command = command_of
    waiting: list[Job] = field(default_factory=list)
    running: dict[str, tuple[Job, subprocess.Popen[bytes], float]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by the job's name."""
    spent: list[tuple[float, float]] = field(default_factory=list)
    """(planned, real) minutes of the jobs that have ended."""

    def run(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Run what is left of the jobs; those that failed, and why.

        On SIGINT and signals of preemption all processes are asked to stop, save and end, and
        InterruptedRunError (or PreemptedRunError) is raised; a second SIGINT kills them.
        """
        self.done = {job.name for job in jobs if job.is_done(self.out)}
        self.waiting = [job for job in jobs if job.name not in self.done]
        if self.done:
            self._say(f"{len(self.done)} of {len(jobs)} jobs are done already.")
        last = 0.0
        with stop_signals() as stop:
            try:
                while (self.waiting or self.running) and not stop.asked:
                    self._start()
                    self._collect()
                    if sys.stderr.isatty() and time.monotonic() - last > _LINE_EVERY_S:
                        last = time.monotonic()
                        print(f"\r\x1b[K{self.line()}", end="", file=sys.stderr, flush=True)
                    if self.running:
                        time.sleep(_POLL_S)
            finally:
                self._stop()
        if stop.asked:
            kind = PreemptedRunError if stop.asked == PREEMPTED else InterruptedRunError
            raise kind("Stopped, the states of the jobs are saved. The same command goes on.")
        return self.failed

    def line(self) -> str:
        """How far it is, for a person."""
        done, failed = len(self.done), len(self.failed)
        total = done + failed + len(self.waiting) + len(self.running)
        names = ", ".join(name.partition("/")[2] for name in self.running)
        wrong = f", {failed} failed" if failed else ""
        return (
            f"{done} of {total} jobs done{wrong}, about "
            f"{duration_text(60 * self.minutes_left())} left; "
            f"at work: {names}"
        )[:160]

    def minutes_left(self) -> float:
        """By the plan, corrected by how long the jobs so far took."""
        planned = sum(plan for plan, _ in self.spent)
        slower = sum(real for _, real in self.spent) / planned if planned > 0 else 1.0
        now = time.monotonic()
        begun = sum(
            max(slower * job.minutes - (now - since) / 60, 0.05)
            for job, _, since in self.running.values()
        )
        longest = slower * minutes_of_jobs(self.waiting, self.num_processes)
        return begun / self.num_processes + longest

    def _start(self) -> None:
        """Fill the free places with jobs that need not wait."""
        for job in list(self.waiting):
            missing = [name for name in job.after if name in self.failed]
            if missing:
                self.waiting.remove(job)
                self.failed[job.name] = f"not begun, as {missing[0]} failed."
                self._say(f"{job.name}: {self.failed[job.name]}")
            elif len(self.running) < self.num_processes and self.done.issuperset(job.after):
                self.waiting.remove(job)
                self._begin(job)

    def _begin(self, job: Job) -> None:
        job.write(self.out)
        environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "TQDM_DISABLE": "1"}
        with (job.folder(self.out) / LOG).open("ab") as log:
            process = subprocess.Popen(
                self.command(self.out, job),
                stdin=subprocess.PIPE,  # which ends with this process, and the job with it
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                **own_group(),  # Ctrl-C is for the comparison, which stops its jobs
            )
        self.running[job.name] = job, process, time.monotonic()

    def _collect(self) -> None:
        """Take in what has ended."""
        for name, (job, process, since) in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[name]
            _close(process)
            minutes = (time.monotonic() - since) / 60
            if code == 0 and job.is_done(self.out):
                self.done.add(name)
                self.spent.append((job.minutes, minutes))
                self._say(f"{name}: done in {minutes:.1f} min. {self.line()}")
                continue
            why = last_sentence(self.out, name) if code >= 0 else f"ended by signal {-code}."
            self.failed[name] = why
            self._say(f"{name} failed: {why} See {job.folder(self.out) / LOG}.")

    def _stop(self) -> None:
        """End all processes: ask, wait, kill."""
        for _, process, _ in self.running.values():
            ask_to_end(process)
        if self.running:
            self._say(f"Stopping {len(self.running)} jobs, which save their states ...")
        deadline = time.monotonic() + _GRACE_S
        try:
            for _, process, _ in self.running.values():
                process.wait(max(deadline - time.monotonic(), 0.1))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # too slow, or asked again
            pass
        finally:
            for _, process, _ in self.running.values():
                if process.poll() is None:
                    kill(process)
                    process.wait()
                _close(process)

    @staticmethod
    def _say(line: str) -> None:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(f"{clear}{line}", file=sys.stderr, flush=True)


def _close(process: "subprocess.Popen[bytes]") -> None:
    """The pipe to a job that has ended."""
    if process.stdin is not None:
        process.stdin.close()
