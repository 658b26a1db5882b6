"""THE loop: pretraining and fine-tuning run through it, from top to bottom.

Set the learning rate, fetch, forward and backward, clip, check, step, log, perhaps validate,
perhaps save. Everything random is drawn from (seed, purpose, step), so that a run that was stopped
goes on to the same numbers.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Protocol

import torch
from torch import nn

from speechssl import distributed
from speechssl.config.bounds import AtMost, Count, Positive, Share, Whole, check_fields
from speechssl.config.json import differences
from speechssl.config.names import nearest
from speechssl.data.dataset import Batch, PlannedBatches, load_batches
from speechssl.runlog import RunLog
from speechssl.training.budget import Budget, Clock
from speechssl.training.diagnosis import gradient_norms, level_db
from speechssl.training.faults import FaultTally
from speechssl.training.inputs import changed
from speechssl.training.optim import OptimConfig, lr_at, set_lr
from speechssl.training.parallel import Parallel
from speechssl.training.resume import (
    Progress,
    StateWriter,
    clear_leftovers,
    newest_progress,
    newest_state,
)
from speechssl.training.runfolder import write_config
from speechssl.training.version_0_1 import upgraded_config

_INTERRUPTED, _PREEMPTED = 1, 2
_MOST_WORKERS = 1024
_FREE_TO_CHANGE = {
    "num_workers",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_every",
    "max_fault_share",
    "parallel",
}
"""Fields of :class:`LoopConfig` that change no number of a run (``parallel`` but for rounding)."""


@dataclass(frozen=True)
class LoopConfig:
    """How long a run goes, and what it writes on the way."""

    max_steps: Count = 100_000
    """Updates; with a budget, the fewer of both."""
    budget_minutes: Positive | None = None
    """Wall time of the whole run; the schedule is laid out to end inside it."""
    accumulate: Count = 1
    """Micro-batches per update."""
    log_every: Count = 20
    """Updates between two lines of metrics.jsonl."""
    num_validations: Count = 12
    """Validations over the run, evenly spread, the last at its end."""
    checkpoint_every: Count = 500
    """Updates between two states on the disk; they are written while the training goes on."""
    keep_checkpoints: Count = 2
    """The newest states, which are kept; that of the best validation, where it has one, is kept
    too."""
    keep_every: Whole = 0
    """States of every so many updates are kept for good; 0: none."""
    select_by: str = ""
    """The metric of the validation by which the best model is chosen, e.g. ``masked_units`` or
    ``cer``; '': the weighted loss in pretraining, the character error rate in fine-tuning."""
    patience: Whole = 0
    """Validations without a better score after which the run ends; 0: never."""
    num_workers: Annotated[Whole, AtMost(_MOST_WORKERS)] = 1
    """Loader processes."""
    parallel: Parallel = "ddp"
    """What several processes hold: ``ddp`` each a whole model, ``fsdp`` each a part of it, its
    gradients and its optimizer (less memory, more traffic)."""
    max_fault_share: Share = 0.01
    """Share of the utterances that may become unreadable (vanish, be cut off, change) before the
    run stops; each is replaced by another one of its length, counted and named."""
    seed: Whole = 0
    """Of the fresh weights, the order of the data, masks, distortions and dropout."""

    def __post_init__(self) -> None:
        check_fields(self, "loop")
        between, kept = self.checkpoint_every, self.keep_every
        if kept and kept % between and between % kept:
            raise ValueError(
                "loop.keep_every must be a multiple of loop.checkpoint_every, or divide it, got "
                f"{kept} and {between}."
            )


class Work(Protocol):
    """What is trained: a loss, a validation, a model to write."""

    @property
    def modules(self) -> nn.Module:
        """Everything with parameters or buffers, the heads of the objectives too."""
        ...

    @property
    def valid_batches(self) -> PlannedBatches:
        """What it validates on."""
        ...

    def backward(
        self, step: int, max_steps: int, batches: Sequence[Batch]
    ) -> dict[str, torch.Tensor]:
        """Accumulate the gradients of update `step` of `max_steps`; the named scalars to log.

        What it draws at random depends on the step and on each batch's number, not on the process.
        """
        ...

    def validate(self, step: int) -> tuple[float, dict[str, float]]:
        """``(score, metrics)``; a lower score is better."""
        ...

    @property
    def higher_is_better(self) -> frozenset[str]:
        """Metrics of the validation of which a higher value is better."""
        ...

    def counts(self) -> dict[str, list[int]]:
        """How often each code was seen in the last validation, by kind; may be empty."""
        ...

    def sample(self) -> str:
        """Something of the last validation for a person to look at; may be empty."""
        ...

    def save(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the model folder; called by every process, the first one writes."""
        ...


class NonFiniteLossError(RuntimeError):
    """The loss or gradient of an update was NaN or infinite; nothing was changed by it."""


class InterruptedRunError(Exception):
    """The run was told to stop and has saved its state."""


class PreemptedRunError(InterruptedRunError):
    """The same, told by a cluster that needs the machine and will start the command again."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    elapsed_s: float
    best_step: int
    best_score: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last validation."""


def starting_point(
    run: Path, loop: LoopConfig, config: dict[str, Any], inputs: dict[str, str], *, resume: bool
) -> Progress:
    """Where a run that begins anew is; every process calls this before the folder is changed.

    Args:
        run: folder of the run.
        loop, config: its settings, and the resolved config that they are a part of.
        inputs: digests of what it is started on, by name.
        resume: whether it goes on from what lies in `run`.

    Raises ValueError where that is a run with other settings or of other inputs.
    """
    config = json.loads(json.dumps(config))  # tuples as lists, as they will be read back
    micro_batches = loop.accumulate * distributed.world()
    fresh = Progress(
        max_steps=loop.max_steps, micro_batches=micro_batches, config=config, inputs=inputs
    )
    before = distributed.from_first(lambda: newest_progress(run) if resume else None)
    if before is not None:
        _check_same(run, before, fresh)
    return fresh


def train(
    run: Path,
    work: Work,
    optimizer: torch.optim.Optimizer,
    dataset: PlannedBatches,
    *,
    fresh: Progress,
    loop: LoopConfig,
    optim: OptimConfig,
    started: float,
    resume: bool = True,
    update_s: float | None = None,
) -> Outcome:
    """Train until the steps or the minutes are used up.

    Args:
        run: folder of the run.
        work: what is trained.
        optimizer: over its parameters.
        dataset: the micro-batches of the run, by number.
        fresh: the :func:`starting_point`; a state of another run is refused.
        loop, optim: how.
        started: ``time.monotonic()`` when the command began, from which the budget is counted.
        resume: go on from the newest checkpoint of `run`, if there is one.
        update_s: seconds an update takes, where a run that begins was measured.

    Raises:
        NonFiniteLossError: before the update, naming the utterances.
        FaultyDataError: more utterances cannot be read than `loop.max_fault_share` allows.
        InterruptedRunError: on SIGINT, after saving; PreemptedRunError on SIGTERM and SIGUSR1.
    """
    progress = _begin(run, work, optimizer, fresh, resume)
    accumulate = -(-progress.micro_batches // distributed.world())
    dataset = dataset.accumulating(accumulate)
    clock = Clock(progress.elapsed_s, started)
    budget = Budget(loop.budget_minutes, loop.max_steps, loop.num_validations, clock)
    device = next(work.modules.parameters()).device
    if not progress.step:
        progress.max_steps = distributed.least(budget.first_plan(update_s), device)
    metrics: dict[str, float] = {}
    window = _Window(progress.windows)
    with (
        RunLog(run, resume_step=progress.step, quiet=distributed.rank() > 0) as log,
        StateWriter(run, keep=loop.keep_checkpoints, keep_every=loop.keep_every) as writer,
        closing(
            load_batches(
                dataset,
                progress.step * accumulate,
                loop.max_steps * accumulate,
                num_workers=loop.num_workers,
            )
        ) as fetched,
        _stop_signals() as stop,
    ):
        waves, known = dataset.waves, progress.faults | dataset.waves.faults()
        tally = FaultTally(run, log, known, len(waves.utterances), loop.max_fault_share)
        if progress.step:
            log.say(f"Going on from step {progress.step} of {progress.max_steps}.")
            if accumulate != loop.accumulate:
                log.say(
                    f"An update was {progress.micro_batches} micro-batches, and there are now "
                    f"{distributed.world()} processes: each takes {accumulate} of them."
                )
        while progress.step < progress.max_steps:
            step = progress.step
            lr = lr_at(optim, step, progress.max_steps)
            set_lr(optimizer, lr)
            waiting = time.monotonic()
            micro_batches = [next(fetched) for _ in range(accumulate)]
            waiting = time.monotonic() - waiting
            num_replaced = tally.add(micro_batches, device)

            optimizer.zero_grad(set_to_none=True)
            losses = work.backward(step, progress.max_steps, micro_batches)
            if loop.parallel == "ddp":  # fsdp's backward pass has done it
                distributed.average_gradients(work.modules)
            logs = (step + 1) % loop.log_every == 0
            norms = gradient_norms(work.modules) if logs else {}
            norm = nn.utils.clip_grad_norm_(work.modules.parameters(), optim.clip_norm)
            losses["grad_norm"] = norm = distributed.whole(norm)
            if num_replaced:
                losses["faults/replaced"] = torch.tensor(float(num_replaced))
            scalars = _on_host(losses)  # the one place where an update waits for the device
            if wrong := [name for name, value in scalars.items() if not math.isfinite(value)]:
                log.metrics(step + 1, clock.elapsed_s, {"faults/not_finite": 1.0})
                raise NonFiniteLossError(_explain(wrong, micro_batches, step))
            optimizer.step()

            if distributed.world() > 1:
                scalars["data/imbalance"] = dataset.plan.imbalance(step)
            progress.step += 1
            samples = sum(b.num_samples for b in micro_batches) * distributed.world()
            audio_s = samples / dataset.waves.sample_rate
            progress.audio_s += audio_s
            window.add(
                scalars, audio_s, waiting, sum(_padding(b) for b in micro_batches) / accumulate
            )
            planned = budget.plan(progress.step, progress.max_steps)
            progress.max_steps = distributed.least(planned, device)
            stopping = distributed.most(stop.asked, device)
            writer.check()
            if logs:
                means = window.close(device)
                level = {"data/level_db": level_db(micro_batches)}
                log.metrics(progress.step, clock.elapsed_s, {**means, **norms, **level, "lr": lr})
                log.progress(progress.step, progress.max_steps, _shown(means, clock, progress))
            if progress.step >= progress.max_steps or _due(progress, loop):
                metrics = _validate(work, progress, run, log, clock, loop.select_by)
                budget.validated()
                if loop.patience and _stale(progress, loop):
                    log.say(f"No better score in {loop.patience} validations: the run ends here.")
                    progress.max_steps = progress.step
            if (
                stopping
                or progress.step % loop.checkpoint_every == 0
                or progress.step >= progress.max_steps
            ):
                progress.elapsed_s = clock.elapsed_s
                progress.windows = distributed.gather(window.state())
                progress.faults |= tally.found
                log.sync()
                writer.save(work.modules, optimizer, progress)
            if stopping and progress.step < progress.max_steps:
                writer.wait()
                error = PreemptedRunError if stopping == _PREEMPTED else InterruptedRunError
                raise error(
                    f"Stopped at step {progress.step} of {progress.max_steps}; the state is saved "
                    f"in {run}. The same command goes on from there."
                )
        writer.wait()
        distributed.barrier()
    return Outcome(progress.step, clock.elapsed_s, progress.best_step, progress.best_score, metrics)


def _begin(
    run: Path, work: Work, optimizer: torch.optim.Optimizer, fresh: Progress, resume: bool
) -> Progress:
    """Where the run is: its newest state, restored, else `fresh`; the folder is made ready."""
    if distributed.rank() == 0:
        clear_leftovers(run, resume=resume)
    distributed.barrier()
    state = distributed.from_first(lambda: newest_state(run) if resume else None)
    progress = fresh
    if state is not None:
        before = state.progress
        _check_same(run, before, fresh)
        before.micro_batches = before.micro_batches or fresh.micro_batches
        state.restore(work.modules, optimizer)
        progress = before
        progress.config, progress.inputs = fresh.config, fresh.inputs
    if distributed.rank() == 0:
        write_config(run, fresh.config)
    return progress


def _check_same(run: Path, before: Progress, fresh: Progress) -> None:
    """ValueError where a run has other inputs or settings than the one that lies in its folder."""
    if others := changed(before.inputs, fresh.inputs):
        raise ValueError(
            f"{run} holds a run that was started on other inputs ({', '.join(others)}): give "
            "those, another --out, or --resume never to begin anew."
        )
    same_update = before.micro_batches in (0, fresh.micro_batches)
    free = _FREE_TO_CHANGE | ({"accumulate"} if same_update else set())
    old, new = (_deciding(p.config, free) for p in (before, fresh))
    if old != new:
        raise ValueError(
            f"{run} holds a run with other settings ({differences(old, new)}): give those "
            "settings, another --out, or --resume never to begin anew."
        )


def _deciding(config: dict[str, Any], free: set[str]) -> dict[str, Any]:
    """The settings on which a run's numbers depend: those of the loop that are `free` may change
    when it goes on."""
    config = upgraded_config(config)
    loop = {"select_by": "", **config.get("loop", {})}  # version 0.1 had none
    return {**config, "loop": {k: v for k, v in loop.items() if k not in free}}


def _validate(
    work: Work, progress: Progress, run: Path, log: RunLog, clock: Clock, select_by: str
) -> dict[str, float]:
    """Score the model, keep it as the latest and perhaps as the best; the metrics."""
    work.modules.eval()
    score, metrics = work.validate(progress.step)
    middle = work.valid_batches.plan.num_batches // 2
    metrics["data/level_db"] = level_db([work.valid_batches[middle]])
    if select_by:
        score = _chosen_score(select_by, metrics, work.higher_is_better)
    work.modules.train()
    best = progress.best_score is None or score < progress.best_score
    if best:
        progress.best_score, progress.best_step = score, progress.step
    work.save(run / "model", progress.step, metrics)
    if best:
        work.save(run / "best", progress.step, metrics)
    if distributed.rank() > 0:
        return metrics
    if counts := work.counts():
        named = {f"codes/{k}": v for k, v in counts.items()}
        log.counts(progress.step, clock.elapsed_s, named)
    log.metrics(progress.step, clock.elapsed_s, {f"valid/{k}": v for k, v in metrics.items()})
    shown = {name: value for name, value in metrics.items() if "/" not in name}
    listed = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
    log.say(
        f"[{clock.elapsed_s / 60:6.1f} min] step {progress.step}/{progress.max_steps}: {listed}"
    )
    if sample := work.sample():
        log.say(sample)
    return metrics


def _chosen_score(name: str, metrics: dict[str, float], higher: frozenset[str]) -> float:
    """The metric that `select_by` names, negated where a higher one is better."""
    if name not in metrics:
        raise ValueError(
            f"loop.select_by {name!r} is not a metric of the validation. {nearest(name, metrics)}"
        )
    return -metrics[name] if name in higher else metrics[name]


def _due(progress: Progress, loop: LoopConfig) -> bool:
    """Whether a share of the run that ends with a validation has just been completed."""
    share = loop.num_validations / progress.max_steps
    return math.floor(progress.step * share) > math.floor((progress.step - 1) * share)


def _stale(progress: Progress, loop: LoopConfig) -> bool:
    apart = max(progress.max_steps / loop.num_validations, 1)  # updates from one to the next
    return progress.step - progress.best_step >= loop.patience * apart


class _Window:
    """Means of what was logged since the last line."""

    _sums: dict[str, float]

    def __init__(self, before: Sequence[dict[str, Any]]) -> None:
        """`before` is the :meth:`state` of each process of the session that was stopped, if it was
        one of as many processes."""
        self._begin()
        if len(before) == distributed.world():
            mine = before[distributed.rank()]
            self._sums, self._steps = dict(mine["sums"]), mine["steps"]
            self._audio_s, self._padding = mine["audio_s"], mine["padding"]

    def _begin(self) -> None:
        self._sums = {}
        self._steps, self._audio_s, self._wait_s, self._padding = 0, 0.0, 0.0, 0.0
        self._since = time.monotonic()

    def state(self) -> dict[str, Any]:
        """What a run that goes on needs to log the same means; seconds are not among it."""
        return {
            "sums": self._sums,
            "steps": self._steps,
            "audio_s": self._audio_s,
            "padding": self._padding,
        }

    def add(self, scalars: dict[str, float], audio_s: float, wait_s: float, padding: float) -> None:
        for name, value in scalars.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._audio_s += audio_s
        self._wait_s += wait_s
        self._padding += padding

    def close(self, device: torch.device) -> dict[str, float]:
        spent = max(time.monotonic() - self._since, 1e-9)
        means = {name: value / self._steps for name, value in self._sums.items()}
        losses = sorted(name for name in means if name.startswith("loss/"))
        # Each process logged its own frames' share of the loss.
        shared = distributed.all_reduce_sum(torch.tensor([means[n] for n in losses]).to(device))
        means |= dict(zip(losses, shared.tolist(), strict=True))
        means["speed/audio_s_per_s"] = self._audio_s / spent
        means["speed/wait_share"] = self._wait_s / spent
        means["speed/padding_share"] = self._padding / self._steps
        self._begin()
        return means


def _padding(batch: Batch) -> float:
    return 1 - batch.num_samples / max(batch.distorted.numel(), 1)


def _shown(means: dict[str, float], clock: Clock, progress: Progress) -> dict[str, str]:
    left_s = clock.elapsed_s / progress.step * (progress.max_steps - progress.step)
    loss = {k.removeprefix("loss/"): f"{v:.3f}" for k, v in means.items() if k.startswith("loss/")}
    return {
        **loss,
        "audio/s": f"{means['speed/audio_s_per_s']:.0f}",
        "left": f"{left_s / 60:.0f} min",
    }


def _on_host(scalars: dict[str, torch.Tensor]) -> dict[str, float]:
    """All of them, those of a device in one transfer."""
    here = {name: float(value) for name, value in scalars.items() if value.is_cpu}
    there = {n: value.detach().float() for n, value in scalars.items() if not value.is_cpu}
    if there:
        here |= dict(zip(there, torch.stack(list(there.values())).tolist(), strict=True))
    return {name: here[name] for name in scalars}


def _explain(wrong: Sequence[str], batches: Sequence[Batch], step: int) -> str:
    ids = [i for b in batches for i in b.ids]
    return (
        f"Step {step + 1}: {', '.join(wrong)} is not finite, in a batch of the utterances "
        f"{', '.join(ids)}. The update was not made; lower --optim.lr or look at these recordings."
    )


class _Stop:
    asked = 0
    """`_INTERRUPTED`, `_PREEMPTED`, or 0 while nobody has asked."""


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """SIGINT, SIGTERM and SIGUSR1 ask for a stop after the present step; a second SIGINT stops at
    once."""
    stop = _Stop()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = _INTERRUPTED if number == signal.SIGINT else _PREEMPTED

    with _handling(ask, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)):
        yield stop


@contextmanager
def preemptible() -> Iterator[None]:
    """Around the loop, where sound is decoded and plans are made, SIGTERM and SIGUSR1 end the run
    at once: there is nothing to save, and to the cluster it has not failed."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise PreemptedRunError("Stopped outside of the updates. The same command goes on.")

    with _handling(end, (signal.SIGTERM, signal.SIGUSR1)):
        yield


@contextmanager
def _handling(
    handler: Callable[[int, FrameType | None], None], numbers: Sequence[signal.Signals]
) -> Iterator[None]:
    """Let `handler` take these signals."""
    try:
        old = {number: signal.signal(number, handler) for number in numbers}
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)
