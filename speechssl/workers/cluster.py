"""Groups shared with the workers of a Ray cluster: the ordered map of :mod:`.sharing`, on machines.

Each worker is an actor of Ray Data, which begins its job once (opens the model) and then takes a
group at a time. It writes nothing: results come back to this process, which has them in the order
of the groups and alone writes files. So a worker that is killed leaves no half of anything; Ray
starts another one, which is given the group again. Recordings and models are read where they lie,
under the same path on each machine.

Ray is imported here only, when a cluster is used.
"""

import contextlib
import logging
import os
import pickle
import signal
import socket
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from speechssl import __version__, system
from speechssl.workers.process import Outcome, outcome_of, portable
from speechssl.workers.sharing import Group, Job, Processes

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_ATTEMPTS = 3
"""Workers that a group may end before the process that asks does it itself."""
_MOST_BLOCKS = 10_000
"""Parts in which Ray holds the groups; beyond, several are given to a worker at a time."""
_LOCAL_STORE_BYTES = 512 << 20
"""Of shared memory for what goes to local workers and back; taken when it is needed."""
_REACH_S = 5.0
"""Seconds within which the machine of a cluster's address has to answer."""

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # tell nobody of what is run
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what matters is raised
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning about what will change
}
_LOCAL_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system: only the loopback address
    "RAY_worker_niceness": "0",
}
"""Of the environment, where it does not say otherwise; Ray reads them when it is imported."""
_FOR_WORKERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Variables that workers on other machines get, as they count for speed."""


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
        self._close = contextlib.ExitStack()

    def __enter__(self) -> "Cluster":
        self._ray = _import_ray(is_local=self.address == "local")
        with contextlib.ExitStack() as undo:
            undo.enter_context(_quiet(self._ray))
            if not self._ray.is_initialized():
                undo.enter_context(_same_sigterm())
                place = ""
                if self.address == "local":
                    place = undo.enter_context(_short_temporary_folder())
                undo.callback(self._ray.shutdown)
                self._connect(place)
            self._close = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def _connect(self, place: str) -> None:
        common = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if place:
            workers = self.workers if isinstance(self.workers, int) else 1
            with _no_stderr():
                self._ray.init(
                    address="local",
                    num_cpus=max(workers, system.num_cpus()),
                    include_dashboard=False,
                    object_store_memory=_LOCAL_STORE_BYTES,
                    _temp_dir=place,
                    **common,
                )
            return
        _reach(self.address)
        variables = {name: os.environ[name] for name in _FOR_WORKERS if name in os.environ}
        try:
            with _no_stderr():
                self._ray.init(self.address, runtime_env={"env_vars": variables}, **common)
        except Exception as error:  # of several kinds, of which none is documented
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"No Ray cluster can be used at {self.address} ({reason[:300]}). Run this on a "
                "machine of the cluster, which `ray start` has made one; local starts a cluster of "
                "this machine alone."
            ) from error

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
            work: what this process does, with a group only that has ended MOST_ATTEMPTS workers.
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
        if ray is None or not ray.is_initialized():
            raise RuntimeError("A Cluster is used in a with statement.")
        workers, cpus = self._room(len(tasks), cpus, gpus)
        at_home = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        attempts = ray.remote(num_cpus=0, scheduling_strategy=at_home)(Attempts).remote()
        theirs = versions()
        begin = (
            ray.cloudpickle.dumps(job), os.getcwd(), gpus, theirs, RemoteAttempts(attempts)
        )
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


def checked_address(text: str) -> str:
    """An address as `Cluster` takes it; ValueError for another."""
    host, _, port = text.rpartition(":")
    if text in ("local", "auto") or (host and "/" not in host and port.isdecimal()):
        return text
    why = ""
    if text.startswith("ray://"):
        why = "; a Ray Client cannot read the recordings: run this on a machine of the cluster"
    raise ValueError(f"must be local, auto or HOST:PORT, got {text!r}{why}")


def check_missing(path: Path) -> None:
    """ValueError where a file that a worker has not found is there on this machine."""
    if path.exists():
        raise ValueError(
            f"A worker of the cluster does not find {path}, which is there on this machine: "
            "recordings must lie where all machines see them, under one path."
        )


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
        self._begun: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """How many workers have begun a group, the one that asks included."""
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number]

    def end(self, number: int) -> None:
        self._begun.pop(number, None)


@dataclass(frozen=True)
class RemoteAttempts:
    """The same for a worker."""

    actor: Any

    def begin(self, number: int) -> int:
        import ray

        counted: int = ray.get(self.actor.begin.remote(number))
        return counted

    def end(self, number: int) -> None:
        self.actor.end.remote(number)


class ClusterWorker:
    """An actor of Ray Data."""

    def __init__(
        self,
        job: bytes,
        folder: str,
        gpus: int,
        theirs: dict[str, str],
        attempts: Attempts | RemoteAttempts,
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


def _import_ray(*, is_local: bool) -> Any:
    """Raises ImportError with the name of the extra."""
    for name, value in (_SETTINGS | (_LOCAL_SETTINGS if is_local else {})).items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            # Of its own parts, also where its defaults are made for the first time.
            warnings.simplefilter("ignore")
            import ray
            import ray.data
            import ray.util.scheduling_strategies

            ray.data.DataContext.get_current()
    except ImportError as error:
        if error.name == "ray":
            raise
        raise ImportError(
            f"--cluster needs Ray Data ({error}): pip install 'speechssl[ray]'."
        ) from error
    return ray


def _reach(address: str) -> None:
    """ValueError where nobody listens; Ray would try for a minute."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"Nobody answers at {address} ({error}): give the address that `ray start` has printed."
        ) from error


@contextlib.contextmanager
def _short_temporary_folder() -> Iterator[str]:
    """For Ray's files of a local cluster; names of sockets in it may have 107 bytes."""
    usual = tempfile.gettempdir()
    base = "/tmp" if len(usual) > 24 and os.path.isdir("/tmp") else usual
    with tempfile.TemporaryDirectory(prefix="ray-", dir=base, ignore_cleanup_errors=True) as folder:
        yield folder


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Nothing of what Ray tells on its way; errors are raised. Of workers that were lost it would
    tell on stdout, among the transcripts."""
    logger, module = logging.getLogger("ray.data"), ray._private.worker
    before = logger.level, getattr(module, "print_to_stdstream", None)
    logger.setLevel(logging.CRITICAL + 1)
    module.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        logger.setLevel(before[0])
        module.print_to_stdstream = before[1]


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """What is not of Python tells there that it tells nothing (RAY_BACKEND_LOG_LEVEL)."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextlib.contextmanager
def _same_sigterm() -> Iterator[None]:
    """Ray sets a handler of SIGTERM that stays behind it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, TypeError):  # not the main thread; not of Python
            signal.signal(signal.SIGTERM, before)
