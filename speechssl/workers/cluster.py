"""Groups shared with the workers of a Ray cluster: the ordered map of :mod:`.sharing`, on machines.

Each worker is an actor of Ray Data, which begins its job once (opens the model) and then takes a
group at a time. It writes nothing: results come back to this process, which has them in the order
of the groups and alone writes files. So a worker that is killed leaves no half of anything; Ray
starts another one, which is given the group again. Recordings and models are read where they lie,
under the same path on each machine.
"""

import contextlib
import itertools
import os
import pickle
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from speechssl.workers.cluster_connection import checked_address, connection
from speechssl.workers.cluster_worker import (
    Answer,
    Attempts,
    ClusterWorker,
    RemoteAttempts,
    versions,
)
from speechssl.workers.process import outcome_of
from speechssl.workers.sharing import Group, Job, Processes

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_BLOCKS = 10_000
"""Parts in which Ray holds the groups; beyond, several are given to a worker at a time."""

_JOBS = itertools.count()


class Cluster:
    """``with Cluster("auto") as cluster`` connects to a cluster; at the end the connection is
    closed, and with ``local`` the cluster is too. Where this program is connected already, that
    connection is used and stays.

    Args:
        address: ``local``: processes of this machine, which listen on its loopback address only.
            ``auto``: the cluster of which this machine is a part. ``HOST:PORT``: the same, where it
            is a part of several.
        workers: how many; ``auto``: one for each core, or GPU, that the cluster has.

    Entering raises ValueError where there is no such cluster, and ImportError without Ray.
    """

    def __init__(self, address: str = "local", workers: Processes = "auto") -> None:
        self.address, self.workers = checked_address(address), workers
        self._ray: Any = None
        self._attempts: Any = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Cluster":
        workers = 1 if self.workers == "auto" else self.workers
        ray = self._ray = self._open.enter_context(connection(self.address, workers))
        here = ray.get_runtime_context().get_node_id()
        beside = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        actor = ray.remote(num_cpus=0, scheduling_strategy=beside)(Attempts)
        self._attempts = actor.options(name="speechssl-attempts", get_if_exists=True).remote()
        return self

    def __exit__(self, *_: object) -> None:
        self._ray = self._attempts = None
        self._open.close()

    def share(
        self,
        groups: Iterable[Group[Item]],
        work: Callable[[tuple[Item, ...]], Result],
        job: Job[Item, Result],
        *,
        cpus: int = 1,
        gpus: int = 0,
        say: Callable[[str], None],
    ) -> Generator[Result]:
        """What :func:`speechssl.workers.share` gives, with the same results and errors.

        Args:
            groups: all are made before the first is worked on.
            work: what this process does, with a group only that has ended MOST_ATTEMPTS workers
                (:mod:`.cluster_worker`), or for which one of them was short of memory.
            job: the same in a worker.
            cpus: cores that a worker takes.
            gpus: GPUs that it takes.
            say: gets a sentence for each worker that is lost.

        Raises ValueError where a worker cannot begin, and RuntimeError where the cluster fails.
        """
        tasks = list(groups)
        early: dict[int, Answer] = {}
        following = 0
        with contextlib.closing(self._answers(tasks, job, cpus, gpus)) as answers:
            for answer in answers:
                if not answer.has_begun:
                    raise ValueError(f"The worker on {answer.host} cannot begin: {answer.reason()}")
                early[answer.number] = answer
                while (found := early.pop(following, None)) is not None:
                    if sentence := found.sentence(tasks[following].name):
                        say(sentence)
                    outcome = found.outcome
                    if outcome.is_for_others:
                        outcome = outcome_of(work, tasks[following].items)
                    following += 1
                    yield outcome.value()
        if following < len(tasks):
            raise RuntimeError(f"The cluster has lost {len(tasks) - following} groups of work.")

    def _answers(
        self, tasks: Sequence[Group[Any]], job: Job[Any, Any], cpus: int, gpus: int
    ) -> Generator["Answer"]:
        """The answer to each task, in any order."""
        if not tasks:
            return
        ray = self._ray
        if ray is None:
            raise RuntimeError("A Cluster is used in a with statement.")
        workers, cpus = self._room(len(tasks), cpus, gpus)
        attempts = RemoteAttempts(self._attempts, next(_JOBS))
        begin = ray.cloudpickle.dumps(job), os.getcwd(), gpus, versions(), attempts
        rows = [{"number": n, "items": pickle.dumps(t.items)} for n, t in enumerate(tasks)]
        dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        dataset.context.enable_progress_bars = False
        dataset.context.target_max_block_size = 1 << 20  # answers are small: room for all workers
        answers = dataset.map(
            ClusterWorker,
            fn_constructor_args=begin,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        try:
            for row in answers.iter_rows():
                yield pickle.loads(row["answer"])
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            raise RuntimeError(f"The Ray cluster has failed: {reason[:500]}") from error

    def _room(self, num_tasks: int, cpus: int, gpus: int) -> tuple[int, int]:
        """How many workers, and how many cores for each: a machine has to have them."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        cpus = int(min(cpus, max([1.0, *(node.get("CPU", 0.0) for node in nodes)])))
        room = sum(
            int(node.get("GPU", 0.0) // gpus if gpus else node.get("CPU", 0.0) // cpus)
            for node in nodes
        )
        if gpus and not room and self.workers == "auto":
            raise ValueError(
                "This machine has a GPU and the cluster has none, so that results would not be the "
                "same: give the cluster GPUs, or hide this one (CUDA_VISIBLE_DEVICES=)."
            )
        most = room if self.workers == "auto" else self.workers
        return max(min(most, num_tasks), 1), cpus


def check_missing(path: Path) -> None:
    """ValueError where a file that a worker has not found is there on this machine."""
    if path.exists():
        raise ValueError(
            f"A worker of the cluster does not find {path}, which is there on this machine: "
            "recordings must lie where all machines see them, under one path."
        )
