"""Masked unit prediction: BERT's idea on speech, with fixed units as targets.

At every masked frame the context predicts the unit of the clean wave, among all units (HuBERT,
arXiv:2106.07447, section 3; BEST-RQ, arXiv:2202.01855, section 3.1). What units are stands in
units.py. Fixed targets learn from few updates and cannot collapse.

Shapes: B batch, T frames, M masked frames, D width, E width of a target, V units.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from speechssl import shapes
from speechssl.config.bounds import Between, Count, NotEmpty, Positive, Weight, check_fields
from speechssl.device import take
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import FeatureName
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import (
    LossTerm,
    Needs,
    Panel,
    Resources,
    TaskConfig,
    TaskLoss,
    View,
)
from speechssl.pretext.units import UnitTask

NAME = "masked_units"


@dataclass(frozen=True)
class MaskedUnitsConfig(TaskConfig):
    """Which units are predicted, and how predictions are compared with them."""

    name: ClassVar[str] = NAME
    has_codes: ClassVar[bool] = True
    quantizer: Literal["kmeans", "random"] = "kmeans"
    """``kmeans``: centroids (arXiv:2106.07447). ``random``: a random projection and codebook
    (arXiv:2202.01855)."""
    features: Annotated[tuple[FeatureName, ...], NotEmpty(distinct=True)] = ("mfcc",)
    """What units are made of, a codebook for each. Cepstra say nothing of pitch, on which every
    vowel of a tone language depends: ``prosody`` does. A run with a teacher takes its layer in
    their place."""
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    target_dim: Count = 256
    """E, the width in which predictions and units are compared."""
    temperature: Positive = 0.1
    """The cosine similarities are divided by this."""
    num_units: Annotated[int, Between(1, 65_536)] = 256
    """V, units of a codebook."""
    feature_penalty: Weight = 0.0
    """Weight of the mean square of the encoder's output, which holds down that of convolutions (10
    in HuBERT's code); 0: left out."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                NAME,
                "masked unit loss",
                "Nats per masked frame. Dotted: chance, the entropy of the units.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="a model that knows how frequent each unit is and ignores its input",
            ),
            Signal(
                f"{NAME}/accuracy",
                "masked unit accuracy",
                "Masked frames whose unit was predicted.",
                "share",
                "higher",
            ),
            Signal(
                f"{NAME}/predicted_perplexity",
                "units predicted",
                "How many units the predictions are spread over (perplexity). Near 1 it always "
                "predicts the same.",
                "count",
                "higher",
            ),
        )

    def frames_needed(self) -> tuple[int, str]:
        """K-means begins with a frame for each unit."""
        return self.num_units if self.quantizer == "kmeans" else 1, f"{NAME}.num_units"

    def build(self, model: SpeechModel, resources: Resources) -> "MaskedUnitsTask":
        return MaskedUnitsTask(self, model, resources.teacher)


class MaskedUnitsTask(UnitTask):
    """Cross-entropy over all units of each codebook, at masked frames."""

    name = NAME
    title = "masked unit prediction"
    needs = Needs(views=(View(),))
    config: MaskedUnitsConfig

    def counts(self, x: Inputs) -> dict[str, int]:
        return {"masked": int(x.mask().sum()), f"{NAME}_frames": int(x.frames.sum())}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss over masked frames, summed, a term for each codebook."""
        mask = x.mask()
        context = take(x.encode().context, mask)  # (M, D)
        units = [take(x.units(name), mask) for name in self.unit_names]  # (M,) each
        result = self.loss(context, units, "masked")
        if self.config.feature_penalty:
            raw = shapes.zero_padding(x.encode().raw_latents.float(), x.encode().lengths)
            result.terms[f"{NAME}_feature_penalty"] = LossTerm(
                raw.square().mean(2).sum(),
                f"{NAME}_frames",
                self.config.weight * self.config.feature_penalty,
            )
        return result

    def panels(self, x: Inputs) -> tuple[Panel, ...]:
        accuracy = self(x).metrics[f"{NAME}/accuracy"]
        num = int(x.mask().sum())
        return (Panel("", f"{round(float(accuracy) * num)} of {num} masked units predicted."),)
