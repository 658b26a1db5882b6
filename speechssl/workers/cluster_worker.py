"""What runs on the machines of a cluster: see :mod:`.cluster`."""

import contextlib
import os
import pickle
import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from speechssl import __version__
from speechssl.workers.process import Outcome, outcome_of, portable
from speechssl.workers.sharing import Job

MOST_ATTEMPTS = 3
"""Workers that a group may end before the process that asks does it itself."""


@dataclass(frozen=True)
class Answer:
    """What a worker says of a group."""

    number: int
    outcome: Outcome
    host: str
    attempt: int = 1
    """How many workers have begun it."""
    has_begun: bool = True
    """Whether the worker has: the outcome is else why it could not."""

    def reason(self) -> str:
        return " ".join(str(self.outcome.error).split()) or type(self.outcome.error).__name__

    def sentence(self, name: str) -> str:
        """What is to be said of a group of this `name`; empty: nothing."""
        if self.attempt == 1 and not self.outcome.is_for_others:
            return ""
        first = f"A worker of the cluster ended at work on {name}"
        if self.outcome.error is not None and self.outcome.is_for_others:
            first = f"A worker of the cluster was short of memory at work on {name}"
        elif self.attempt > 2:
            first = f"{self.attempt - 1} workers of the cluster ended at work on {name}"
        return (
            f"{first}; {'this process' if self.outcome.is_for_others else 'another one'} does it."
        )


class Attempts:
    """An actor beside this process that knows which groups were begun, however the workers end."""

    def __init__(self) -> None:
        self._begun: dict[tuple[int, int], int] = {}

    def begin(self, job: int, number: int) -> int:
        """How many workers have begun a group of a job, the one that asks included."""
        self._begun[job, number] = self._begun.get((job, number), 0) + 1
        return self._begun[job, number]

    def end(self, job: int, number: int) -> None:
        self._begun.pop((job, number), None)


@dataclass(frozen=True)
class RemoteAttempts:
    """The same for a worker at a job."""

    actor: Any
    job: int

    def begin(self, number: int) -> int:
        import ray

        counted: int = ray.get(self.actor.begin.remote(self.job, number))
        return counted

    def end(self, number: int) -> None:
        self.actor.end.remote(self.job, number)


class ClusterWorker:
    """An actor of Ray Data: begins its job with the first group, then takes one at a time."""

    def __init__(
        self,
        job: bytes,
        folder: str,
        gpus: int,
        theirs: dict[str, str],
        attempts: RemoteAttempts,
    ) -> None:
        """`folder` is the one in which the command runs, `theirs` the :func:`versions` there."""
        self._job, self._folder, self._gpus, self._theirs = job, folder, gpus, theirs
        self._attempts = attempts
        self._work: Callable[[Any], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        """A row of a group's number and items -> one of its :class:`Answer`."""
        return {"answer": pickle.dumps(self._answer(int(row["number"]), row["items"]))}

    def _answer(self, number: int, items: bytes) -> Answer:
        host = socket.gethostname()
        attempt = self._attempts.begin(number)
        if attempt > MOST_ATTEMPTS:
            return Answer(number, Outcome(is_for_others=True), host, attempt)
        if self._work is None:
            begun = outcome_of(lambda _: self._begin(), None)
            if begun.error is not None:
                return Answer(number, portable(begun), host, has_begun=False)
            self._work = begun.result
        outcome = portable(outcome_of(self._work, pickle.loads(items)))
        self._attempts.end(number)
        return Answer(number, outcome, host, attempt)

    def _begin(self) -> Callable[[Any], Any]:
        ours = versions()
        for package, version in self._theirs.items():
            if ours[package] != version:
                raise ValueError(
                    f"it has {package} {ours[package] or 'not at all'}, and the command {version}: "
                    "install the same on all machines."
                )
        with contextlib.suppress(OSError):  # paths may be absolute
            os.chdir(self._folder)
        if not self._gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        job: Job[Any, Any] = pickle.loads(self._job)
        return job.start()


def versions() -> dict[str, str]:
    """Of what results depend on."""
    found = {"speechssl": __version__}
    for package in ("torch", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return found
