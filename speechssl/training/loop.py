"""The training loop: pretraining and fine-tuning run through it, from top to bottom.

Set the learning rate, fetch, forward and backward, clip, check, step, log, perhaps validate,
perhaps save. Everything random is drawn from (seed, purpose, step), so that a run that was stopped
goes on to the same numbers. `train` is one long function on purpose: the loop reads from top to
bottom.
"""

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from speechssl import distributed
from speechssl.config.names import nearest
from speechssl.data.dataset import Batch, PlannedBatches, load_batches
from speechssl.runlog import RunLog
from speechssl.training.budget import Budget, Clock
from speechssl.training.diagnosis import gradient_norms, level_db
from speechssl.training.faults import FaultTally
from speechssl.training.interrupts import PREEMPTED, stop_signals
from speechssl.training.interrupts import InterruptedRunError as InterruptedRunError
from speechssl.training.interrupts import PreemptedRunError as PreemptedRunError
from speechssl.training.loaders import num_loaders
from speechssl.training.loop_config import LoopConfig as LoopConfig
from speechssl.training.optim import OptimConfig, lr_at, set_lr
from speechssl.training.resume import StateWriter
from speechssl.training.start import begin
from speechssl.training.states import Progress
from speechssl.training.window import Window
from speechssl.training.work import Work as Work


class NonFiniteLossError(RuntimeError):
    """The loss or gradient of an update was NaN or infinite; nothing was changed by it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    elapsed_s: float
    best_step: int
    best_score: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last validation."""


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
    progress = begin(run, work, optimizer, fresh, resume)
    sharers = progress.processes = distributed.sharers()
    own = -(-progress.micro_batches * sharers // distributed.world())  # of an update
    dataset = dataset.accumulating(own)
    if sharers > 1:
        dataset = dataset.shared(distributed.rank(), sharers)
    accumulate = dataset.plan.accumulate
    device = next(work.modules.parameters()).device
    clock = Clock(progress.elapsed_s, started, loop.budget_clock)
    budget = Budget(loop.budget_minutes, loop.max_steps, loop.num_validations, clock)
    if not progress.step:
        progress.max_steps = distributed.agree_on_steps(budget.first_plan(update_s), device)
    metrics: dict[str, float] = {}
    window = Window(progress.windows)
    with (
        RunLog(run, resume_step=progress.step, quiet=distributed.rank() > 0) as log,
        StateWriter(run, keep=loop.keep_checkpoints, keep_every=loop.keep_every) as writer,
        closing(
            load_batches(
                dataset,
                progress.step * accumulate,
                loop.max_steps * accumulate,
                num_workers=num_loaders(loop, device, sharers),
            )
        ) as fetched,
        stop_signals() as stop,
    ):
        waves, known = dataset.waves, progress.faults | dataset.waves.faults()
        tally = FaultTally(run, log, known, len(waves.utterances), loop.max_fault_share)
        if progress.step:
            ended = progress.step >= progress.max_steps
            doing = "The run has ended at" if ended else "Going on from"
            log.say(f"{doing} step {progress.step} of {progress.max_steps}.")
            if own != loop.accumulate:
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

            work.modules.zero_grad(set_to_none=True)  # also what no optimizer group holds
            losses = work.backward(step, progress.max_steps, micro_batches)
            if loop.parallel == "ddp":  # fsdp's backward pass has done it
                distributed.average_gradients(work.modules)
            logs = (step + 1) % loop.log_every == 0
            norms = gradient_norms(work.modules) if logs else {}
            norm = nn.utils.clip_grad_norm_(work.modules.parameters(), optim.clip_norm)
            losses["grad_norm"] = distributed.whole(norm)
            if num_replaced:
                losses["faults/replaced"] = torch.tensor(float(num_replaced))
            scalars = _on_host(losses)  # in one process the only wait for the device
            if wrong := [name for name, value in scalars.items() if not math.isfinite(value)]:
                log.metrics(step + 1, clock.elapsed_s, {"faults/not_finite": 1.0})
                raise NonFiniteLossError(_explain(wrong, micro_batches, step))
            optimizer.step()

            if distributed.world() > 1:
                scalars["data/imbalance"] = dataset.plan.imbalance(step)
            progress.step += 1
            samples = _num_samples(micro_batches)
            audio_s = samples / dataset.waves.sample_rate
            progress.audio_s += audio_s
            window.add(
                scalars, audio_s, waiting, sum(_padding(b) for b in micro_batches) / accumulate
            )
            planned = budget.plan(progress.step, progress.max_steps)
            progress.max_steps = distributed.agree_on_steps(planned, device)
            stopping = distributed.all_reduce_max(stop.asked, device)
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
                error = PreemptedRunError if stopping == PREEMPTED else InterruptedRunError
                raise error(
                    f"Stopped at step {progress.step} of {progress.max_steps}; the state is saved "
                    f"in {run}. The same command goes on from there."
                )
        writer.wait()
        distributed.barrier()
    return Outcome(progress.step, clock.elapsed_s, progress.best_step, progress.best_score, metrics)


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
    own = score
    score = distributed.broadcast(lambda: own)  # all choose the same best, and end together
    before = progress.best_score
    best = before is None or math.isnan(before) or score < before
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


def _num_samples(batches: Sequence[Batch]) -> int:
    """Of an update, in all processes: those of `torchrun` have about equally many."""
    own = sum(batch.num_samples for batch in batches)
    if distributed.sharers() > 1:
        return int(distributed.all_reduce_sum(torch.tensor(own)))
    return own * distributed.world()


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
