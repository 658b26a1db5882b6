"""Future units: GPT's idea on speech. A causal context predicts the next units.

With u_t the unit of frame t (k-means of cepstra, or a random projection: units.py) and c_t the
context of frame t, the loss is the cross-entropy of a language model, of units instead of words
(GPT: Radford et al. 2018, "Improving language understanding by generative pre-training", section
3.1)::

    - sum over t and k of log p(u_(t + ahead + k) | c_t),  k = 0 ... steps - 1

Adapted: the input of a language model are the units; here it is the wave, so that the network
learns what units are made of. Frames overlap, so that the very next one is partly in the input: the
default is the least ``ahead`` for which no sample of the target is (ahead.py), for cepstra 2 frames
of 40 ms or 3 of 20 ms, and less is refused. With ``steps`` above 1 a linear map for each step comes
before the common codebook, as W_k in contrastive predictive coding (arXiv:1807.03748, section 2.2).
The input is the clean wave without masks: distortions filter with zero phase, through which the
input would hold a part of its future.

Chance is the entropy of the units. What needs no learning is logged beside the accuracy: a copy,
the unit of the present frame.

Shapes: B batch, T frames, P pairs of a frame and a later one, D width.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from speechssl.config.bounds import Between, Count, NotEmpty, Positive, Weight, check_fields
from speechssl.device import take
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.ahead import LocalFeature, checked_ahead, num_pairs, pairs
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import Needs, Panel, Resources, TaskConfig, TaskLoss, View
from speechssl.pretext.units import UnitTask

NAME = "future_units"
CLEAN = View("clean", None)


@dataclass(frozen=True)
class FutureUnitsConfig(TaskConfig):
    """Which later units a causal model predicts, and how predictions are compared with them."""

    name: ClassVar[str] = NAME
    has_codes: ClassVar[bool] = True
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    ahead: Count | None = None
    """Frames from the present one to the first predicted unit. None: the least for which no sample
    of it is in the input, for cepstra 2 frames of 40 ms (`tiny`) or 3 of 20 ms (`tiny-conv`)."""
    steps: Count = 1
    """How many units that follow each other are predicted, each by a linear map of its own."""
    quantizer: Literal["kmeans", "random"] = "kmeans"
    """``kmeans``: centroids (arXiv:2106.07447). ``random``: a random projection and codebook
    (arXiv:2202.01855)."""
    features: Annotated[tuple[LocalFeature, ...], NotEmpty(distinct=True)] = ("mfcc",)
    """What units are made of, a codebook for each. Prosody is not among them: pitch is smoothed
    over more than half a second, so that a part of its future is always in the input."""
    target_dim: Count = 256
    """E, the width in which predictions and units are compared."""
    temperature: Positive = 0.1
    """The cosine similarities are divided by this."""
    num_units: Annotated[int, Between(1, 65_536)] = 256
    """V, units of a codebook."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                NAME,
                "future unit loss",
                "Nats per predicted unit. Dotted: chance, the entropy of the units.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="a model that knows how frequent each unit is and ignores its input",
            ),
            Signal(
                f"{NAME}/accuracy",
                "future unit accuracy",
                "Units that were predicted.",
                "share",
                "higher",
            ),
            Signal(
                f"{NAME}/copy_accuracy",
                "future unit accuracy of a copy",
                "Units that are the present frame's again: what needs no learning.",
                "share",
                "higher",
            ),
            Signal(
                f"{NAME}/predicted_perplexity",
                "future units predicted",
                "How many units the predictions are spread over (perplexity). Near 1 it always "
                "predicts the same.",
                "count",
                "higher",
            ),
        )

    def frames_needed(self) -> tuple[int, str]:
        """K-means begins with a frame for each unit."""
        if self.quantizer == "kmeans" and self.num_units > (self.ahead or 3) + self.steps:
            return self.num_units, f"{NAME}.num_units"
        return (self.ahead or 3) + self.steps, f"{NAME}.steps"

    def build(self, model: SpeechModel, resources: Resources) -> "FutureUnitsTask":
        del resources
        return FutureUnitsTask(self, model)


class FutureUnitsTask(UnitTask):
    """Cross-entropy over all units of each codebook, of later frames."""

    name = NAME
    title = "prediction of future units"
    needs = Needs(views=(CLEAN,), causal=True)

    def __init__(self, config: FutureUnitsConfig, model: SpeechModel) -> None:
        super().__init__(config, model)
        first = checked_ahead(NAME, config.ahead, model.config, *config.features)
        self.distances = range(first, first + config.steps)
        """Frames from the present one to each predicted one."""
        dim = model.config.context.dim
        self.maps = nn.ModuleList(
            nn.Linear(dim, dim) if config.steps > 1 else nn.Identity() for _ in self.distances
        )

    def counts(self, x: Inputs) -> dict[str, int]:
        return {f"{NAME}_pairs": sum(num_pairs(x.frames, ahead) for ahead in self.distances)}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss over all frames and steps that have a target, summed, a term for each
        codebook."""
        places = [pairs(x.frames, ahead, x.num_frames) for ahead in self.distances]
        context = x.encode(CLEAN).context
        with torch.autocast(context.device.type, enabled=False):
            steps = zip(self.maps, places, strict=True)
            predicting = [step(take(context, now).float()) for step, (now, _) in steps]
        units = [x.units(name) for name in self.unit_names]  # (B, T) of each codebook
        now, then = (
            [torch.cat([take(each, place[which]) for place in places]) for each in units]
            for which in (0, 1)
        )
        result = self.loss(torch.cat(predicting), then, f"{NAME}_pairs")
        for present, later, suffix in zip(now, then, self.suffixes, strict=True):
            result.metrics[f"{NAME}/copy_accuracy{suffix}"] = _share_equal(present, later)
        return result

    def panels(self, x: Inputs) -> tuple[Panel, ...]:
        metrics, num = self(x).metrics, sum(self.counts(x).values())
        right, copied = (
            round(float(metrics[f"{NAME}/{which}"]) * num)
            for which in ("accuracy", "copy_accuracy")
        )
        return (Panel("", f"{right} of {num} future units predicted, {copied} by a copy."),)


def _share_equal(ours: Tensor, theirs: Tensor) -> Tensor:
    """(P,), (P,) int64 -> the share of equal ones; 0 of none."""
    equal = (ours == theirs).float()
    return equal.mean() if len(equal) else equal.sum()
