"""What a run will cost, measured before it starts: memory, seconds an update, when it ends.

Memory is weights, gradients and Adam's moments, and what the backward pass keeps of a micro-batch.
The latter is counted on the longest utterance alone and grows in proportion to the seconds, since
utterances do not see each other; so a plan that does not fit is refused before it is tried.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import torch
from torch import Tensor

from speechssl import distributed, torchrun
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import Batch, PlannedBatches
from speechssl.device import UNKNOWN, Memory, finished_s, memory
from speechssl.durations import duration_text
from speechssl.model.ema import EMA
from speechssl.training.loop import LoopConfig, Work

_MEASURED = 3
_MOST_OF_FREE = 0.95
_TRANSIENT = {"cpu": 2.0, "cuda": 1.5, "mps": 2.0}
"""Peak over what the backward pass keeps: what layers make on their way, gradients, the allocator's
gaps. On a CPU the peak was 1.2 (``small``) to 2.5 (``tiny-conv``) times that."""
_CONSTANT_BYTES = 0.2e9
"""Features of the clean wave, the next batches."""
_LEAST_S = 2.0
"""No plan with less audio in a micro-batch is proposed."""
_LAST = 1000
"""An update at the end of a run is measured: nothing is frozen any more, everything is masked."""
_BYTES_PER_WEIGHT = 12
"""A gradient and Adam's two moments, float32; the weight itself is there already."""


@dataclass(frozen=True)
class Plan:
    """A run as it will be."""

    num_parameters: int
    """Without those of moving averages, which are copies."""
    num_learning: int
    """Those that are not frozen."""
    state_bytes: int
    """Gradients and optimizer, and the weights: what this process holds of them."""
    bytes_per_s: float
    """Of a second of audio in a micro-batch, at the peak."""
    batch_s: float
    """Seconds of the largest micro-batch."""
    longest_s: float
    """Of the longest utterance, after cropping, at its slowest speed."""
    crops: bool
    """Whether longer utterances can be cropped (``max_crop_s``)."""
    free: Memory
    """What this process may use, weights included."""
    update_s: float = 0.0
    """Seconds an update takes: forward and backward of all its micro-batches."""
    updates_per_epoch: float = 0.0

    def needs(self, batch_s: float) -> float:
        """Bytes with so many seconds in a micro-batch."""
        return self.state_bytes + _CONSTANT_BYTES + self.bytes_per_s * batch_s


class Settings(Protocol):
    """What a plan needs of a run's config."""

    @property
    def loop(self) -> LoopConfig: ...

    @property
    def batch_s(self) -> float: ...


def announce_run(
    work: Work, dataset: PlannedBatches, config: Settings, device: torch.device
) -> Plan:
    """Measure a run that is about to start (:func:`plan_run`) and say on stderr what it will
    cost; every process calls this, the first one speaks."""
    plan = plan_run(work, dataset, config.loop, config.batch_s, device)
    if distributed.rank() == 0:
        print(describe(plan, config.loop, datetime.now()), file=sys.stderr, flush=True)
    return plan


def plan_run(
    work: Work, dataset: PlannedBatches, loop: LoopConfig, batch_s: float, device: torch.device
) -> Plan:
    """Measure a run that is about to start, without changing it.

    Args:
        work: what is trained; only its gradients are touched, and left empty.
        dataset: the run's micro-batches.
        loop: how long it goes.
        batch_s: seconds in a micro-batch, at most.
        device: where.

    Raises ValueError with a plan that fits, where this one does not fit in memory.
    """
    parameters = list(work.modules.parameters())
    averages = [m for m in work.modules.modules() if isinstance(m, EMA)]
    copied = {id(p) for average in averages for p in average.parameters()}
    weights = sum(p.numel() for p in parameters if id(p) not in copied)
    held = sum(distributed.part(p).numel() for p in parameters)
    learned = sum(distributed.part(p).numel() for p in parameters if p.requires_grad)
    free = memory(device)
    if device.type == "cpu":
        free = Memory(free.free // torchrun.num_on_this_machine(), free.total)
    free = Memory(min(distributed.gather(free.free)), free.total)
    longest = _longest(dataset)
    tried_s = longest.num_samples / dataset.waves.sample_rate
    longest_s = max(tried_s, float(dataset.plan.lengths_s.max()))  # at its slowest
    kept = _kept_bytes(work, longest)
    plan = Plan(
        num_parameters=weights,
        num_learning=sum(p.numel() for p in parameters if p.requires_grad),
        state_bytes=4 * held + _BYTES_PER_WEIGHT * learned,
        bytes_per_s=_TRANSIENT[device.type] * max(distributed.gather(kept / tried_s)),
        batch_s=max(min(batch_s, longest_s * len(dataset.plan.lengths_s)), longest_s),
        longest_s=longest_s,
        crops=dataset.max_crop is not None,
        free=Memory(free.free + 4 * held, free.total),
    )
    _check_fits(plan, loop.accumulate)
    update_s = loop.accumulate * _seconds(work, [dataset[i] for i in range(_MEASURED)], device)
    per_epoch = dataset.plan.num_batches / loop.accumulate
    return replace(plan, update_s=update_s, updates_per_epoch=per_epoch)


def describe(plan: Plan, loop: LoopConfig, now: datetime) -> str:
    """The plan for a person: parameters, memory, speed, when it ends."""
    batch, state = plan.needs(plan.batch_s) - plan.state_bytes, plan.state_bytes
    times = f"{loop.accumulate} x " if loop.accumulate > 1 else ""
    seconds, updates = _length(plan, loop)
    epochs = updates / max(plan.updates_per_epoch, 1e-9)
    ends = now + timedelta(seconds=seconds)
    day = "" if ends.date() == now.date() else f"{ends:%a %d %b} "
    budget = "" if loop.budget_minutes is None else f" (budget {loop.budget_minutes:g} min)"
    return "\n".join(
        (
            f"Parameters: {plan.num_parameters / 1e6:.3g} M{_learning(plan)}.",
            f"Memory: about {_gb(batch + state)}: {_gb(state)} for weights, gradients and "
            f"optimizer, {_gb(batch)} for a micro-batch of {plan.batch_s:g} s; "
            f"{_free(plan.free)}.",
            f"Speed: {plan.update_s:.2g} s an update of {times}{plan.batch_s:g} s of audio "
            f"(measured on {_MEASURED}).",
            f"End: {day}{ends:%H:%M}, after {duration_text(seconds)}{budget} and about {updates:,} "
            f"updates; about {epochs:.2g} epochs.",
        )
    )


def _learning(plan: Plan) -> str:
    """Said where not all of them learn."""
    if plan.num_learning == plan.num_parameters:
        return ""
    return f", of which {plan.num_learning / 1e6:.3g} M learn"


def _length(plan: Plan, loop: LoopConfig) -> tuple[float, int]:
    """Seconds and updates of the run."""
    seconds, updates = loop.max_steps * plan.update_s, loop.max_steps
    if loop.budget_minutes is not None and seconds > 60 * loop.budget_minutes:
        seconds = 60 * loop.budget_minutes
        updates = int(0.95 * seconds / plan.update_s)  # the rest is for validations
    return seconds, max(updates, 1)


def _check_fits(plan: Plan, accumulate: int) -> None:
    """ValueError with what to do where the plan does not fit."""
    most = _MOST_OF_FREE * plan.free.free
    if plan.needs(plan.batch_s) <= most:
        return
    reason = (
        f"A micro-batch of {plan.batch_s:g} s needs about {_gb(plan.needs(plan.batch_s))} of "
        f"memory ({_gb(plan.state_bytes)} of it for weights, gradients and optimizer), and "
        f"{_gb(plan.free.free)} are free."
    )
    parts = 2
    least_s = _LEAST_S if plan.crops else max(plan.longest_s, _LEAST_S)
    while (batch_s := plan.batch_s / parts) >= least_s:
        if plan.needs(batch_s) <= most:
            crop = f" --max_crop_s {batch_s:g}" if batch_s < plan.longest_s else ""
            settings = f"--batch_s {batch_s:g} --loop.accumulate {accumulate * parts}{crop}"
            raise ValueError(
                f"{reason} Give {settings}: as much audio in an update, in about "
                f"{_gb(plan.needs(batch_s))}."
            )
        parts *= 2
    raise ValueError(
        f"{reason} Not even {least_s:.2g} s at a time fit: take a smaller --size, or a machine "
        "with more memory."
    )


def _longest(dataset: PlannedBatches) -> Batch:
    """The longest utterance, in a batch of its own."""
    alone = BatchPlan(dataset.plan.lengths_s, batch_s=1e-3, seed=dataset.seed, shuffle=False)
    hop = 1 / dataset.waves.sample_rate
    single = PlannedBatches(
        dataset.waves,
        alone,
        seed=dataset.seed,
        max_crop_s=None if dataset.max_crop is None else dataset.max_crop * hop,
        distortion=dataset.distortion,
        pool=dataset.pool,
    )
    return single[alone.num_batches - 1]


def _kept_bytes(work: Work, batch: Batch) -> int:
    """Bytes of all tensors that the backward pass of a micro-batch keeps, weights excluded."""
    own = {distributed.part(p).untyped_storage().data_ptr() for p in work.modules.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _tried(work):
        work.backward(_LAST - 1, _LAST, [batch])
    return sum(size for place, size in kept.items() if place not in own)


@contextmanager
def _tried(work: Work) -> Iterator[None]:
    """Leave no gradient behind, and every weight as free to learn as it was."""
    learns = [(p, p.requires_grad) for p in work.modules.parameters()]
    try:
        yield
    finally:
        for parameter, flag in learns:
            parameter.grad = None
            parameter.requires_grad_(flag)


def untrained_step(work: Work, batches: Sequence[Batch], *, average: bool = False) -> None:
    """Forward and backward of an update, without a trace; with `average` what several processes
    add to it."""
    with _tried(work):
        work.backward(_LAST - 1, _LAST, batches)
        if average:
            distributed.average_gradients(work.modules)


def _seconds(work: Work, batches: Sequence[Batch], device: torch.device) -> float:
    """Mean seconds of a micro-batch, forward and backward."""
    begun = finished_s(device)
    for batch in batches:
        untrained_step(work, [batch])
    spent = (finished_s(device) - begun) / len(batches)
    return max(distributed.gather(spent))


def _free(memory: Memory) -> str:
    known = memory.total < UNKNOWN
    return f"{_gb(memory.free)} are free" if known else "how much is free is not known"


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g} GB"
