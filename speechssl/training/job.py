"""What the processes of a training share: the whole run, ready to begin, and what each does in it.

The first process gives orders through a store that all of them see: to measure together, or to
train together. Those that an order has no place for wait for the next one.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store

from speechssl import distributed
from speechssl.data.dataset import PlannedBatches
from speechssl.training.loaders import num_loaders
from speechssl.training.loop import LoopConfig, Outcome, Work, train
from speechssl.training.optim import OptimConfig
from speechssl.training.planner import untrained_step
from speechssl.training.states import Progress, newest_state

HOST = "127.0.0.1"
_LONGEST = timedelta(days=1)
"""A process waits for its orders until the first one gives them or is gone."""
_CPU = torch.device("cpu")
_TURNS, _LEAST_TURNS, _MEASURED_S = 6, 3, 4.0
"""Updates of a measurement at most and at least, the first of which does not count; and seconds
after which no other is begun."""


@dataclass(frozen=True)
class Order:
    """What the processes are to do next."""

    do: Literal["measure", "train"]
    world: int
    """Of the processes, the first so many are meant; the others wait, or end with the training."""
    threads: int
    """That each of them computes with."""


@dataclass(frozen=True)
class Speeds:
    """Seconds of audio a second, of the same updates."""

    together: float
    alone: float
    """In the first process, with all threads."""


def open_store(port: int, *, is_first: bool) -> TCPStore:
    """Where the processes find each other and their orders; `port` 0: a free one is taken."""
    return TCPStore(
        HOST,
        port,
        is_master=is_first,
        wait_for_workers=False,
        timeout=_LONGEST,
        use_libuv=sys.platform != "win32",  # not a part of every build there
    )


@dataclass
class Job:
    """A run that is ready to begin: it pickles with its weights, its optimizer and the places of
    its data, so that a process that gets it needs nothing else."""

    run: Path
    work: Work
    optimizer: torch.optim.Optimizer
    dataset: PlannedBatches
    fresh: Progress
    loop: LoopConfig
    optim: OptimConfig
    resume: bool
    started: float
    """``time.monotonic()`` when the command began."""
    update_s: float | None = None
    """Seconds an update takes in one process, where it was measured."""
    elapsed_s: float = field(default=0.0, init=False)

    def train(self) -> Outcome:
        """The loop, in this process; every process of a group calls it."""
        return train(
            self.run,
            self.work,
            self.optimizer,
            self.dataset,
            fresh=self.fresh,
            loop=self.loop,
            optim=self.optim,
            started=self.started,
            resume=self.resume,
            update_s=self.update_s,
        )

    def restore(self) -> None:
        """Go on from the newest state, where there is one: what other processes are given, and what
        is measured, depends on the weights (units are made with centroids that were fitted)."""
        if self.resume and (state := newest_state(self.run)) is not None:
            state.restore(self.work.modules, self.optimizer)

    def follow_orders(self, rank: int, store: Store) -> None:
        """As one of the further processes, from its start to the end of the run."""
        self.started = time.monotonic() - self.elapsed_s  # clocks may differ
        number = 0
        while True:
            order = Order(**json.loads(store.get(f"order-{number}")))
            if rank < order.world:
                with self.together(order, rank, PrefixStore(f"group-{number}", store)):
                    self.train() if order.do == "train" else self.measure(order.threads)
            if order.do == "train":
                return
            number += 1

    @contextmanager
    def together(self, order: Order, rank: int, store: Store) -> Iterator[None]:
        """In here the processes share every update; they begin with the first one's weights."""
        usual = torch.get_num_threads()
        torch.set_num_threads(order.threads)
        try:
            with distributed.sharing_group(store, rank, order.world):
                for value in self.work.modules.state_dict().values():
                    distributed.copy_from_first(value)
                yield
        finally:
            torch.set_num_threads(usual)

    def measure(self, threads: int, all_threads: int = 0) -> Speeds:
        """Time some updates by all processes, and in between the same ones by the first alone with
        `all_threads`; the speeds are right in the first process.

        What makes a micro-batch is counted with them, as it is spent: for one process by a loader
        beside it, which takes its share of the cores, and for several by each for itself.
        """
        alone, together = self.dataset, self.dataset.shared(distributed.rank(), distributed.world())
        is_first = distributed.rank() == 0
        audio_s, ours, theirs = [], [], []
        begun, turn, goes_on = time.monotonic(), 0, True
        while goes_on:
            if is_first:
                seconds, samples = self._time_alone(alone, turn, all_threads)
                theirs.append(seconds)
                audio_s.append(samples / alone.waves.sample_rate)
                torch.set_num_threads(threads)
            distributed.barrier()
            ours.append(self._time_together(together, turn))
            turn += 1
            late = turn >= _LEAST_TURNS and time.monotonic() - begun > _MEASURED_S
            goes_on = bool(distributed.agree_on_steps(not late and turn < _TURNS, _CPU))
        if not is_first:
            return Speeds(0.0, 0.0)
        pairs = list(zip(audio_s, ours, theirs, strict=True))[1:]  # the first one warms up
        return Speeds(
            statistics.median(audio / own for audio, own, _ in pairs),
            statistics.median(audio / other for audio, _, other in pairs),
        )

    def _time_alone(self, dataset: PlannedBatches, turn: int, threads: int) -> tuple[float, int]:
        torch.set_num_threads(threads)
        num = dataset.plan.accumulate
        begun = time.perf_counter()
        batches = [dataset[turn * num + i] for i in range(num)]
        made = time.perf_counter()
        with distributed.alone():
            untrained_step(self.work, batches)
        computed = time.perf_counter()
        loaders = num_loaders(self.loop, _CPU)
        beside = threads if loaders else 1
        samples = sum(batch.num_samples for batch in batches)
        return computed - made + (made - begun) / beside, samples

    def _time_together(self, dataset: PlannedBatches, turn: int) -> float:
        num = dataset.plan.accumulate
        begun = time.perf_counter()
        batches = [dataset[turn * num + i] for i in range(num)]
        untrained_step(self.work, batches, average=True)
        distributed.barrier()
        return time.perf_counter() - begun

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "elapsed_s": time.monotonic() - self.started}
