"""The settings of self-training."""

from dataclasses import dataclass, field, replace
from typing import Annotated

from speechssl.config.bounds import AtLeast, Between, Count, Share, Weight, check_fields
from speechssl.training import finetune as finetuning
from speechssl.training.finetune import FinetuneConfig


def preset(size: str) -> "SelfTrainConfig":
    """Self-training of a model of a size: the student is a noisy one, as in noisy student training
    (arXiv:1911.04252, section 2; for speech arXiv:2005.09629, section 2)."""
    student = finetuning.preset(size)
    updates = min(student.loop.max_steps, 4000)
    student = replace(
        student,
        speeds=(0.9, 1.0, 1.1),
        ema_decay=0.999,
        loop=replace(student.loop, max_steps=updates, patience=0),
    )
    return SelfTrainConfig(student=student)


@dataclass(frozen=True)
class SelfTrainConfig:
    """Rounds of labelling and training."""

    rounds: Count = 3
    """Rounds, at most."""
    min_confidence: Share | None = None
    """Keep every pseudo-label at least as confident, exp(log p(text | speech) / characters), in
    place of the share `keep`. None: the share decides."""
    keep: Annotated[float, Between(0, 1, "(]")] = 0.5
    """Share of the pool, the most confident of it, that the first round keeps."""
    keep_growth: Share = 0.25
    """Added to the share with each further round, up to 1."""
    rate_margin: Annotated[float, AtLeast(1)] = 1.2
    """A pseudo-label with fewer characters a second than any transcript of --labeled, divided by
    this, or with more than any, times this, is refused."""
    max_repeats: Count = 4
    """A pseudo-label in which something stands more often than this in a row is a loop and refused,
    unless a transcript of --labeled has as many."""
    weight_power: Weight = 1.0
    """The weight of a pseudo-label in the loss is its confidence to this power. 0: all count as
    much as true labels."""
    labeled_share: Annotated[float, Between(0, 1, "[)")] = 0.3
    """Share of the seconds that a student learns from which is of --labeled: its utterances are
    repeated until they are that much. At the least each is there once."""
    min_gain: Share = 0.01
    """Relative reduction of the character error rate below which a round gains nothing."""
    patience: Count = 1
    """Rounds in a row that gain nothing after which it ends."""
    student: FinetuneConfig = field(default_factory=FinetuneConfig)
    """The training of a round."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_confidence is not None and self.keep != SelfTrainConfig.keep:
            raise ValueError("min_confidence takes the place of keep: give one of them.")

    def share(self, number: int) -> float:
        """Of the pool that round `number` (from 1) keeps."""
        return min(self.keep + (number - 1) * self.keep_growth, 1.0)
