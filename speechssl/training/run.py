"""What pretraining and fine-tuning share around the loop: the session, and the run itself."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch

from speechssl import distributed
from speechssl.data.dataset import PlannedBatches
from speechssl.device import Precision, keep_freed_memory, pick_device
from speechssl.training.interrupts import preemptible
from speechssl.training.job import Job
from speechssl.training.loop import Outcome
from speechssl.training.loop_config import LoopConfig
from speechssl.training.optim import OptimConfig, Part, build_optimizer
from speechssl.training.parallel import shard
from speechssl.training.planner import announce_run
from speechssl.training.processes import Sharing, train_shared
from speechssl.training.profile import profile_steps
from speechssl.training.runfolder import run_lock
from speechssl.training.states import Progress
from speechssl.training.work import Work

ALONE = Sharing()
"""One process."""


class RunConfig(Protocol):
    """What the configs of all runs have."""

    @property
    def loop(self) -> LoopConfig: ...

    @property
    def optim(self) -> OptimConfig: ...

    @property
    def batch_s(self) -> float: ...

    @property
    def precision(self) -> Precision: ...

    @property
    def device(self) -> str: ...


@contextmanager
def session(config: RunConfig, run: Path) -> Iterator[torch.device]:
    """Around a run: its device, its process group, its folder locked."""
    keep_freed_memory()
    device = pick_device(config.device)
    if config.loop.budget_clock == "processor" and device.type != "cpu":
        raise ValueError(
            f"loop.budget_clock processor is for training on a CPU, and the device is {device}: "
            "give loop.budget_clock wall."
        )
    with preemptible(), distributed.process_group(device), run_lock(run):
        yield device


def train_run(
    run: Path,
    config: RunConfig,
    work: Work,
    parts: Callable[[], Sequence[Part]],
    dataset: PlannedBatches,
    *,
    fresh: Progress,
    started: float,
    resume: bool,
    announce: bool = False,
    profile: bool = False,
    sharing: Sharing = ALONE,
) -> Outcome:
    """Shard the weights, build the optimizer, say what the run will cost, and train it.

    Args:
        run: its folder.
        config: its settings.
        work: what is trained.
        parts: what the optimizer learns and how fast, asked for when the weights are sharded.
        dataset: its micro-batches.
        fresh: the :func:`starting_point`.
        started: ``time.monotonic()`` when the command began.
        resume: go on from its newest state.
        announce: measure the run, and say on stderr what it will cost.
        profile: say also where the time of a step goes, and write a trace to `run/profile`.
        sharing: how many processes share the updates, of which this is the first.
    """
    shard(work.modules, config.loop.parallel)
    optimizer = build_optimizer(config.optim, parts())
    device = next(work.modules.parameters()).device
    plan = announce_run(work, dataset, config, device) if announce else None
    if profile:
        spent = profile_steps(work, optimizer, dataset, config.loop, config.optim, run / "profile")
        if distributed.rank() == 0:
            print(spent.table(), file=sys.stderr, flush=True)
    update_s = plan.update_s if plan else None
    job = Job(
        run, work, optimizer, dataset, fresh, config.loop, config.optim, resume, started, update_s
    )
    return train_shared(job, config, sharing, plan)
