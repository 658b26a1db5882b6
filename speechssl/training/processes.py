"""How many processes share the updates of a training on a CPU, and training in them.

Several processes with few threads each often compute more than one with many: most operations of a
small model are too small to be divided. Which number is fastest is measured on the run's own
updates, once for a machine, a model and its data, and kept in the user's cache folder.
"""

import contextlib
import json
import math
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from speechssl import torchrun
from speechssl.caches import cache_folder, kept_object
from speechssl.config.json import to_json
from speechssl.data.batching import SharedPlan
from speechssl.device import pick_device
from speechssl.files import writing
from speechssl.precision import surroundings
from speechssl.training.job import Job, Order, Speeds
from speechssl.training.loop import LoopConfig, Outcome
from speechssl.training.states import newest_progress
from speechssl.training.team import LostProcessError, Team, TeamError

if TYPE_CHECKING:
    from speechssl.training.planner import Plan

Processes = int | Literal["auto"]

_LEAST_GAIN = 1.05
"""Several processes must be so much faster: they take more memory."""
_SHORT_S = 60.0
"""A run that takes less is not worth the seconds in which processes start and are measured."""
_PROCESS_BYTES = 0.3e9
"""What a process takes before it trains anything."""
_MOST_OF_FREE = 0.9
_MOST_TRIALS = 3


class Settings(Protocol):
    """What this needs of a run's config."""

    @property
    def loop(self) -> LoopConfig: ...

    @property
    def device(self) -> str: ...


@dataclass(frozen=True)
class Sharing:
    """What a person asked for, and what stands in its way."""

    processes: Processes = 1
    whole: str = ""
    """Why micro-batches of this run cannot be cut into parts; '' where they can."""

    def check(self, config: Settings, micro_batches: int | None = None) -> None:
        """ValueError where the number that was asked for cannot be; `micro_batches` of an update,
        where they are not those of the config."""
        num = self.processes
        if num in ("auto", 1):
            return
        if reason := _not_ours(config):
            raise ValueError(f"--processes {num}: {reason}")
        own = micro_batches or config.loop.accumulate
        if self.whole and own % int(num):
            raise ValueError(
                f"--processes {num} would cut a micro-batch into parts, but {self.whole}. Give "
                f"--processes 1, or a --loop.accumulate that {num} divides (with as much less "
                "--batch-s), so that each process has whole ones."
            )

    def possible(self, num: int, config: Settings, micro_batches: int) -> bool:
        """Whether :meth:`check` would let that number pass."""
        try:
            replace(self, processes=num).check(config, micro_batches)
        except ValueError:
            return False
        return True


def _not_ours(config: Settings) -> str:
    """Why the processes of a run are not this command's to start; '' where they are."""
    if (num := torchrun.num_processes()) > 1:
        return (
            f"this is one of {num} processes that torchrun has started "
            "(WORLD_SIZE). Leave --processes out, or start the command without torchrun."
        )
    if (device := pick_device(config.device)).type != "cpu":
        return f"they share the cores of a CPU, and the device is {device}. Leave --processes out."
    if config.loop.parallel == "fsdp":
        return "each of them holds the whole model: leave --parallel fsdp out."
    return ""


def train_shared(job: Job, config: Settings, sharing: Sharing, plan: "Plan | None") -> Outcome:
    """Train a job, in as many processes as are asked for or are fastest.

    Args:
        job: ready to begin.
        config: the run's, for what is possible.
        sharing: what was asked for.
        plan: of the run where it begins and was measured.

    Raises LostProcessError where a process ends before its work is done, TeamError where the number
    that was asked for does not start.
    """
    before = newest_progress(job.run) if job.resume else None
    micro_batches = (before and before.micro_batches) or job.fresh.micro_batches
    sharing.check(config, micro_batches)
    job.dataset = job.dataset.accumulating(micro_batches)
    has_ended = before is not None and before.step >= before.max_steps
    if sharing.processes == 1 or has_ended:
        return job.train()
    if sharing.processes != "auto":
        job.restore()
        return _train(job, int(sharing.processes))
    trials = _trials(config, sharing, micro_batches, plan)
    if not trials:
        return job.train()
    job.restore()
    if before is not None and before.processes:  # the same numbers, to the last bit
        return _train_if_possible(job, before.processes if before.processes in trials else 1)
    if _length_s(job) < _SHORT_S:
        return job.train()
    cache = Choices(_cache_file(), _key(job, config))
    if known := cache.read(trials):
        _announce(job, known, " (measured before)")
        return _train_if_possible(job, known.processes)
    with _measured(job, trials) as (choice, team):
        if choice is not None:
            cache.write(choice)
            _announce(job, choice)
        if team is not None and choice is not None and choice.processes > 1:
            with team.following(_order("train", choice.processes)):
                return job.train()
    return job.train()


def _train(job: Job, num: int) -> Outcome:
    if num == 1:
        return job.train()
    with _team(job, num) as team, team.following(_order("train", num)):
        return job.train()


def _train_if_possible(job: Job, num: int) -> Outcome:
    """In one process where the others do not start."""
    with contextlib.ExitStack() as held:
        try:
            team = held.enter_context(_team(job, num)) if num > 1 else None
        except (TeamError, OSError) as error:
            _say_alone(error)
            team = None
        if team is not None:
            held.enter_context(team.following(_order("train", num)))
        return job.train()


def _say_alone(error: Exception) -> None:
    reason = str(error).rstrip(".")
    print(f"1 process: others could not help ({reason}).", file=sys.stderr, flush=True)


def _order(do: Literal["measure", "train"], num: int) -> Order:
    return Order(do, num, max(torch.get_num_threads() // num, 1))


@contextmanager
def _team(job: Job, num: int) -> Iterator[Team]:
    team = Team(job, num, max(torch.get_num_threads() // num, 1))
    try:
        yield team
    finally:
        team.end()


def _trials(
    config: Settings, sharing: Sharing, micro_batches: int, plan: "Plan | None"
) -> list[int]:
    """Numbers of processes among which is chosen, beside 1, the largest first."""
    cores = torch.get_num_threads()
    numbers = [num for num in range(cores, 1, -1) if cores % num == 0]
    if plan is not None:
        numbers = [num for num in numbers if _fits(plan, num, math.gcd(num, micro_batches))]
    possible = [num for num in numbers if sharing.possible(num, config, micro_batches)]
    return possible[:_MOST_TRIALS]


def _fits(plan: "Plan", num: int, groups: int) -> bool:
    """Whether so many processes fit in memory; those of a group take a part of a micro-batch
    each."""
    each = plan.needs(plan.batch_s * groups / num) + _PROCESS_BYTES
    return num * each <= _MOST_OF_FREE * plan.free.free


def _length_s(job: Job) -> float:
    """About how long the run takes in one process, at most."""
    minutes, update_s = job.loop.budget_minutes, job.update_s
    budget_s = float("inf") if minutes is None else 60 * minutes
    return min(budget_s, float("inf") if update_s is None else job.loop.max_steps * update_s)


@contextmanager
def _measured(job: Job, trials: Sequence[int]) -> Iterator[tuple["Choice | None", Team | None]]:
    """The fastest number of processes, and the processes, which wait for their orders. Neither
    where they do not start: then one process has to do."""
    weights = {n: v.clone() for n, v in job.work.modules.state_dict().items()}
    choice = team = None
    with contextlib.ExitStack() as held:
        try:
            team = held.enter_context(_team(job, max(trials)))
            choice = _compare(job, team, trials)
        except (TeamError, LostProcessError, OSError) as error:
            held.close()
            team = None
            _say_alone(error)
        with torch.no_grad():
            for name, value in job.work.modules.state_dict().items():
                value.copy_(weights[name])
        yield choice, team


def _compare(job: Job, team: Team, trials: Sequence[int]) -> "Choice":
    cores = torch.get_num_threads()
    speeds: dict[int, Speeds] = {}
    for num in trials:
        order = _order("measure", num)
        with team.following(order):
            speeds[num] = job.measure(order.threads, cores)
    return choose(cores, speeds)


@dataclass(frozen=True)
class Choice:
    """How many processes, and why."""

    processes: int
    threads: int
    speed: float
    """Seconds of audio a second with that many."""
    other: int
    """The number of processes that it was compared with: 1, or the best one beside it."""
    other_speed: float

    def sentence(self) -> str:
        """For the person."""
        many = "processes" if self.processes > 1 else "process"
        threads = "threads" if self.threads > 1 else "thread"
        line = (
            f"{self.processes} {many} of {self.threads} {threads}: {self.speed:.0f} against "
            f"{self.other_speed:.0f} seconds of audio a second"
        )
        return line if self.other == 1 else f"{line} in {self.other} processes"


def choose(cores: int, speeds: Mapping[int, Speeds]) -> Choice:
    """The fastest number of processes; 1 where no other is faster by 5 %.

    Args:
        cores: to be shared out as threads.
        speeds: of each number that was tried. Each was compared with one process in turns, so that
            it is their ratios that count, also where other work came and went.
    """
    best = max(speeds, key=lambda num: speeds[num].together / speeds[num].alone)
    found = speeds[best]
    if found.together < _LEAST_GAIN * found.alone:
        return Choice(1, cores, found.alone, best, found.together)
    return Choice(best, max(cores // best, 1), found.together, 1, found.alone)


class Choices:
    """What was measured before, in a file: a JSON object of choices by key."""

    def __init__(self, path: Path | None, key: str) -> None:
        """`path` None: nothing is kept."""
        self._path, self._key = path, key

    def read(self, trials: Sequence[int]) -> Choice | None:
        """What was chosen for the key; None where nothing was, or what is no longer possible."""
        with contextlib.suppress(TypeError):
            choice = Choice(**self._all().get(self._key, {}))
            if choice.processes == 1 or choice.processes in trials:
                return choice
        return None

    def write(self, choice: Choice) -> None:
        """Keep a choice; where nothing can be written it is measured again next time."""
        if self._path is None:
            return
        with contextlib.suppress(OSError), writing(self._path) as file:
            file.write(json.dumps(self._all() | {self._key: choice.__dict__}, indent=1) + "\n")

    def _all(self) -> dict[str, Any]:
        return {} if self._path is None else kept_object(self._path)


def _cache_file() -> Path | None:
    folder = cache_folder()
    return folder and folder / "processes.json"


def _key(job: Job, config: Settings) -> str:
    """Of the machine, the versions, the run's settings but for its length, and its utterances."""
    settings = to_json(config)
    loop = settings.pop("loop")
    settings.pop("optim", None)
    plan = job.dataset.plan
    assert not isinstance(plan, SharedPlan)
    rows = np.mean([len(plan.batch(i)) for i in range(min(plan.num_batches, 20))])
    about = (
        (platform.node(), platform.python_version(), surroundings(torch.device("cpu"))),
        (settings, loop["accumulate"], loop["num_workers"], round(float(np.log2(rows)))),
    )
    return blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=12).hexdigest()


def _announce(job: Job, choice: Choice, note: str = "") -> None:
    """Say it, and go by it in what is planned."""
    if choice.processes > 1 and job.update_s is not None:
        job.update_s *= choice.other_speed / choice.speed
    print(f"{choice.sentence()}{note}.", file=sys.stderr, flush=True)
