"""How long a run goes, and what it writes on the way."""

from dataclasses import dataclass
from typing import Annotated

from speechssl.config.bounds import AtMost, Count, Positive, Share, Whole, check_fields
from speechssl.training.budget import ClockKind
from speechssl.training.parallel import Parallel

_MOST_WORKERS = 1024
FREE_TO_CHANGE = {
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
    """Of the whole run; the schedule is laid out to end inside it."""
    budget_clock: ClockKind = "wall"
    """What counts the minutes: ``wall``, or ``processor``, the processor time of each thread (on a
    CPU only): runs beside other work are then as long as on an idle machine."""
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
    ``cer``; '': the character error rate in fine-tuning, the weighted loss in pretraining, of the
    tasks whose targets do not move with the model (where there is none, the newest is the best)."""
    patience: Whole = 0
    """Validations without a better score after which the run ends; 0: never."""
    num_workers: Annotated[Whole, AtMost(_MOST_WORKERS)] | None = None
    """Loader processes; where not given, one, or none where the training takes every processor."""
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
