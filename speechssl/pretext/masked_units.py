"""Masked unit prediction: BERT's idea on speech, with fixed units as targets.

At every masked frame the context predicts the unit of the clean wave, among all units. Units are

- ``kmeans``: nearest centroids of features (HuBERT, arXiv:2106.07447, section 3), fitted once
  before training; in a later round of a teacher's layer;
- ``random``: a random projection and codebook (BEST-RQ, arXiv:2202.01855, section 3.1).

Fixed targets learn from few updates and cannot collapse.

Shapes: B batch, T frames, F width of a feature, M masked frames, D width, E width of a target, V
units.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.config.bounds import Between, Count, NotEmpty, Positive, Weight, check_fields
from speechssl.device import take
from speechssl.model.quantizer import KMeansQuantizer, RandomProjectionQuantizer
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.code_usage import count_codes, perplexity
from speechssl.pretext.features import FEATURE_DIMS, HOP_S, FeatureName
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import (
    LossTerm,
    Needs,
    Panel,
    PretextTask,
    Resources,
    TaskConfig,
    TaskLoss,
    View,
)
from speechssl.pretext.teacher import Teacher

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


class MaskedUnitsTask(PretextTask):
    """Cross-entropy over all units of each codebook."""

    name = NAME
    title = "masked unit prediction"
    needs = Needs(views=(View(),))

    def __init__(
        self, config: MaskedUnitsConfig, model: SpeechModel, teacher: Teacher | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.num_codes = config.num_units
        if teacher is not None:
            teacher.check_fits(model)
        self._teacher = (teacher,)  # in a tuple: not a part of what is trained and saved
        hops = model.config.hop_samples // round(HOP_S * model.config.sample_rate)
        self.sources = ("teacher",) if teacher else config.features
        dims = [teacher.dim] if teacher else [FEATURE_DIMS[n] * hops for n in config.features]
        width = model.config.context.dim
        self.codebooks: Sequence[UnitCodebook] = nn.ModuleList(  # type: ignore[assignment]
            UnitCodebook(config, dim, width) for dim in dims
        )

    def source_features(self, x: Inputs) -> list[Tensor]:
        """What the units of each codebook are made of, (B, T, F) of the clean wave each."""
        (teacher,) = self._teacher
        if teacher is not None:
            return [teacher.features(x.speech())]
        return [x.features(name) for name in self.config.features]

    def fit(self, sample: Iterable[Inputs], seed: int) -> None:
        """Find the centroids; random units need none."""
        if self.config.quantizer == "random":
            return
        parts: list[list[Tensor]] = []  # of each utterance, of each codebook
        for x in sample:
            parts.append([features.flatten(0, 1) for features in self.source_features(x)])
        for codebook, own in zip(self.codebooks, zip(*parts, strict=True), strict=True):
            assert isinstance(codebook.quantizer, KMeansQuantizer)
            codebook.quantizer.fit(torch.cat(own), seed)  # (N, F)

    @torch.no_grad()
    def offline_units(self, x: Inputs) -> dict[str, Tensor]:
        """(B, T) of each codebook, by ``masked_units/SOURCE``."""
        return {
            f"{NAME}/{source}": codebook.units(features)
            for source, codebook, features in zip(
                self.sources, self.codebooks, self.source_features(x), strict=True
            )
        }

    def state_of_units(self) -> dict[str, Tensor]:
        """The centroids or random codebooks, and of a teacher its weights."""
        (teacher,) = self._teacher
        state = {
            f"{number}.{name}": value
            for number, codebook in enumerate(self.codebooks)
            for name, value in codebook.quantizer.named_buffers()
        }
        if teacher is not None:
            state |= {f"teacher.{n}": v for n, v in teacher.model.state_dict().items()}
        return state

    def counts(self, x: Inputs) -> dict[str, int]:
        return {"masked": int(x.mask().sum())}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss over masked frames, summed, a term for each codebook."""
        mask = x.mask()
        context = take(x.encode().context, mask)  # (M, D)
        terms: dict[str, LossTerm] = {}
        metrics: dict[str, Tensor] = {}
        tallies: dict[str, Tensor] = {}
        for number, (source, codebook) in enumerate(zip(self.sources, self.codebooks, strict=True)):
            units = take(x.units(f"{NAME}/{source}"), mask)  # (M,)
            logits = codebook(context)  # (M, V)
            suffix = f"_{source}" if number else ""
            loss = F.cross_entropy(logits, units, reduction="sum")
            terms[f"{NAME}{suffix}"] = LossTerm(loss, "masked", self.config.weight)
            own_metrics, own_tallies = unit_numbers(logits, units)
            metrics |= {f"{name}{suffix}": value for name, value in own_metrics.items()}
            tallies |= {f"{name}{suffix}": tally for name, tally in own_tallies.items()}
        return TaskLoss(terms, metrics, tallies)

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """The chance line (the entropy of the units, nats) and the perplexity of the predictions
        over a validation, of each codebook."""
        found = {}
        for number, source in enumerate(self.sources):
            suffix = f"_{source}" if number else ""
            targets = tallies[f"{NAME}/targets{suffix}"]
            predicted = tallies[f"{NAME}/predicted{suffix}"]
            found[f"{NAME}/chance{suffix}"] = float(perplexity(targets).log())
            found[f"{NAME}/predicted_perplexity{suffix}"] = float(perplexity(predicted))
        return found

    def codes(self, x: Inputs) -> Tensor:
        """(B, T, 1): of the first codebook, which the report shows."""
        return next(iter(self.offline_units(x).values()))[:, :, None]

    def panels(self, x: Inputs) -> tuple[Panel, ...]:
        accuracy = self(x).metrics[f"{NAME}/accuracy"]
        num = int(x.mask().sum())
        return (Panel("", f"{round(float(accuracy) * num)} of {num} masked units predicted."),)


class UnitCodebook(nn.Module):
    """The units of one feature, and a vector for each that predictions are compared with."""

    def __init__(self, config: MaskedUnitsConfig, in_dim: int, context_dim: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        kind = KMeansQuantizer if config.quantizer == "kmeans" else RandomProjectionQuantizer
        self.quantizer = kind(in_dim, config.num_units)
        self.project_context = nn.Linear(context_dim, config.target_dim)
        self.codebook = nn.Parameter(torch.randn(config.num_units, config.target_dim))

    def units(self, features: Tensor) -> Tensor:
        """(B, T, F) -> (B, T) int64."""
        return self.quantizer(features.flatten(0, 1)).unflatten(0, features.shape[:2])

    def forward(self, context: Tensor) -> Tensor:
        """(M, D) -> logits (M, V) float32: cosine similarities over the temperature."""
        with torch.autocast(context.device.type, enabled=False):
            predictions = F.normalize(self.project_context(context.float()), dim=1)  # (M, E)
            return predictions @ F.normalize(self.codebook, dim=1).T / self.temperature


@torch.no_grad()
def unit_numbers(logits: Tensor, units: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """``(metrics, tallies)``: what is logged beside the loss, and how often each unit was the
    target and the prediction.

    Args:
        logits: (M, V), one for each unit.
        units: (M,) int64, the targets.
    """
    predicted = logits.argmax(1)
    right = (predicted == units).float().mean() if len(units) else logits.new_zeros(())
    tallies = {
        f"{NAME}/{name}": count_codes(values, logits.shape[1])
        for name, values in (("targets", units), ("predicted", predicted))
    }
    metrics = {
        f"{NAME}/accuracy": right,
        f"{NAME}/predicted_perplexity": perplexity(tallies[f"{NAME}/predicted"]),
    }
    return metrics, tallies
