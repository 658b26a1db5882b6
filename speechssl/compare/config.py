"""What is compared, and how: one frozen config, whose fields are the options of the command."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from speechssl.config.bounds import Count, NotEmpty, Positive, Whole, check_fields

ALL = "all"
"""The label budget that takes every transcript."""

Condition = Literal["clean", "snr-20", "snr-10", "snr-5", "snr-0", "reverb", "8khz", "clipping"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
"""What is done to the test set, in the order in which it is shown."""

ProbeTask = Literal["auto", "character", "digit", "speaker", "none"]
Normalizer = Literal["none", "lower", "basic"]


@dataclass(frozen=True)
class CompareConfig:
    """A comparison of pretext tasks."""

    tasks: tuple[str, ...] = ()
    """What is pretrained, each by itself: a task (``wav2vec``) or a weighted set of tasks
    (``masked_units+reconstruction=0.5``)."""
    models: tuple[str, ...] = ()
    """Models that are pretrained already and take part as they are."""
    labels: Annotated[tuple[str, ...], NotEmpty(distinct=True)] = ("10", "60")
    """Label budgets: minutes of transcribed speech to fine-tune on, or ``all``."""
    scratch_labels: tuple[str, ...] = ()
    """More budgets, for the models from scratch alone: the further their curve reaches, the more
    label minutes saved can be measured."""
    seeds: Annotated[tuple[Whole, ...], NotEmpty(distinct=True)] = (0, 1)
    """Of the choice of labels and of the fine-tuning; the first is that of the pretraining."""
    minutes: Positive | None = None
    """Of each pretraining: processor time of one core, or wall time on a GPU."""
    max_steps: Count | None = None
    """In place of the minutes: updates of each pretraining."""
    finetune_steps: tuple[Count, ...] = ()
    """Updates of each fine-tuning, one number for all label budgets or one for each; default: 500
    at 2 minutes of labels, 1000 at 10, 2000 at 60."""
    size: str = "tiny"
    """Of the models."""
    recipe: str | None = None
    """Settings of pretraining and fine-tuning to begin with: a folder of recipes/."""
    pretrain: tuple[str, ...] = ()
    """Settings of every pretraining as in `speechssl pretrain --help-all`: ``optim.lr=5e-4``. A
    task's settings are those of each entry that has the task."""
    finetune: tuple[str, ...] = ()
    """Settings of every fine-tuning as in `speechssl finetune --help-all`: ``upsample=2``."""
    causal_baseline: bool = True
    """Compare causal models with a causal one from scratch; false: with the one that all others are
    compared with."""
    model_baseline: bool = True
    """Compare a model of another form than `size` with one of that form from scratch; false: with
    the one that all others are compared with."""
    pretrain_each_seed: bool = False
    """Pretrain anew for each seed, in place of once."""
    conditions: Annotated[tuple[Condition, ...], NotEmpty(distinct=True)] = CONDITIONS
    """What is done to the test set; ``clean`` is always among it."""
    probe: ProbeTask = "auto"
    """What linear probes on each frozen layer tell: auto takes ``digit`` where the corpus has at
    most 100 different transcripts, else ``character``; none: no probes."""
    probe_minutes: Positive = 10.0
    """Transcribed minutes that probes of characters and digits learn from."""
    lm: bool = False
    """Decode with a language model of 6 characters that is learned from the same labels."""
    normalize: Normalizer = "none"
    """Of both texts before they are compared."""
    processes: Count | None = None
    """Jobs at once, each with one thread; default: one for each physical core."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.tasks and not self.models:
            raise ValueError("There is nothing to compare: name --tasks, --models or both.")
        if self.tasks and (self.minutes is None) == (self.max_steps is None):
            raise ValueError(
                "Give either --minutes (time of each pretraining) or --max-steps (updates of "
                "each pretraining)."
            )
        for name, budgets in (("labels", self.labels), ("scratch-labels", self.scratch_labels)):
            for budget in budgets:
                _check_budget(name, budget)
        if len(self.finetune_steps) not in (0, 1, len(self.labels)):
            raise ValueError(
                f"--finetune-steps needs one number, or one for each of the {len(self.labels)} "
                f"--labels, got {len(self.finetune_steps)}."
            )
        if self.scratch_labels and len(self.finetune_steps) > 1:
            raise ValueError(
                "--scratch-labels needs one number of --finetune-steps for all, or none."
            )

    @property
    def seed(self) -> int:
        """Of the pretraining and the probes."""
        return self.seeds[0]


def _check_budget(option: str, text: str) -> None:
    """ValueError where that is no number of minutes and not ``all``."""
    is_number = re.fullmatch(r"\d+(\.\d+)?", text) is not None
    if text != ALL and not (is_number and 0 < float(text) < 1e6):
        raise ValueError(
            f"--{option} must be minutes above 0, or {ALL}, got {text!r}: for example 10 60 all."
        )


def default_steps(minutes: float) -> int:
    """Updates of a fine-tuning on so many minutes of labels.

    500 at 2 minutes, 1000 at 10, 2000 at 60, as in results/label_efficiency.json; at least 300 and
    at most 8000.
    """
    return int(min(max(50 * round(1000 * (minutes / 10) ** 0.39 / 50), 300), 8000))
