"""Units: one number of V for each frame, fixed before training, and the tasks that predict them.

Units are

- ``kmeans``: nearest centroids of features (HuBERT, arXiv:2106.07447, section 3), fitted once
  before training; in a later round of a teacher's layer;
- ``random``: a random projection and codebook (BEST-RQ, arXiv:2202.01855, section 3.1).

Shapes: B batch, T frames, F width of a feature, M predicted frames, D width, E width of a target, V
units.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.model.quantizer import KMeansQuantizer, RandomProjectionQuantizer
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.code_usage import count_codes, perplexity
from speechssl.pretext.features import FEATURE_DIMS, HOP_S, FeatureName
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.task import LossTerm, PretextTask, TaskLoss
from speechssl.pretext.teacher import Teacher


class UnitSettings(Protocol):
    """What the config of a task that predicts units holds; each field is described there."""

    @property
    def quantizer(self) -> str: ...
    @property
    def features(self) -> tuple[Any, ...]: ...
    @property
    def weight(self) -> float: ...
    @property
    def target_dim(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def num_units(self) -> int: ...


class UnitTask(PretextTask):
    """A task that predicts units, of a codebook for each feature, by cross-entropy over all of
    them. Which frames predict which units is the subclass's."""

    def __init__(
        self, config: UnitSettings, model: SpeechModel, teacher: Teacher | None = None
    ) -> None:
        """With a teacher its layer takes the place of the features, or the first place before
        them."""
        super().__init__()
        self.config = config
        self.num_codes = config.num_units
        if teacher is not None:
            teacher.check_fits(model)
        self._teacher = (teacher,)  # in a tuple: not a part of what is trained and saved
        hops = model.config.hop_samples // round(HOP_S * model.config.sample_rate)
        self.features: tuple[FeatureName, ...] = config.features
        if teacher is not None and not teacher.beside:
            self.features = ()
        self.sources: tuple[str, ...] = (*(("teacher",) if teacher else ()), *self.features)
        dims = [teacher.dim] if teacher else []
        dims += [FEATURE_DIMS[name] * hops for name in self.features]
        width = model.config.context.dim
        self.codebooks: Sequence[UnitCodebook] = nn.ModuleList(  # type: ignore[assignment]
            UnitCodebook(config, dim, width) for dim in dims
        )

    @property
    def unit_names(self) -> list[str]:
        """By which :meth:`Inputs.units` knows the units of each codebook: ``TASK/SOURCE``."""
        return [f"{self.name}/{source}" for source in self.sources]

    def source_features(self, x: Inputs) -> list[Tensor]:
        """What the units of each codebook are made of, (B, T, F) of the clean wave each."""
        (teacher,) = self._teacher
        own = [] if teacher is None else [teacher.features(x.speech())]
        return [*own, *(x.features(name) for name in self.features)]

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
        """(B, T) of each codebook, by ``TASK/SOURCE``."""
        return {
            name: codebook.units(features)
            for name, codebook, features in zip(
                self.unit_names, self.codebooks, self.source_features(x), strict=True
            )
        }

    def describe_units(self) -> dict[str, dict[str, object]]:
        """Of each codebook the feature or the teacher's layer, the quantizer and its units."""
        (teacher,) = self._teacher
        own = {"quantizer": self.config.quantizer, "num_units": self.config.num_units}
        found: dict[str, dict[str, object]] = {}
        for name, source in zip(self.unit_names, self.sources, strict=True):
            layer = {"layer": teacher.layer} if teacher and source == "teacher" else {}
            found[name] = {"made_of": source, **layer, **own}
        return found

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

    def loss(self, context: Tensor, targets: Sequence[Tensor], count: str) -> TaskLoss:
        """The cross-entropy, summed, a term for each codebook.

        Args:
            context: (M, D), the frames that predict.
            targets: (M,) int64 of each codebook.
            count: the name of the count that divides the terms.
        """
        terms: dict[str, LossTerm] = {}
        metrics: dict[str, Tensor] = {}
        tallies: dict[str, Tensor] = {}
        for codebook, units, suffix in zip(self.codebooks, targets, self.suffixes, strict=True):
            logits = codebook(context)  # (M, V)
            loss = F.cross_entropy(logits, units, reduction="sum")
            terms[f"{self.name}{suffix}"] = LossTerm(loss, count, self.config.weight)
            own_metrics, own_tallies = unit_numbers(logits, units)
            metrics |= {f"{self.name}/{n}{suffix}": value for n, value in own_metrics.items()}
            tallies |= {f"{self.name}/{n}{suffix}": tally for n, tally in own_tallies.items()}
        return TaskLoss(terms, metrics, tallies)

    @property
    def suffixes(self) -> list[str]:
        """What the names of each codebook's numbers end in: the first one's in nothing."""
        return [f"_{source}" if number else "" for number, source in enumerate(self.sources)]

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """The chance line (the entropy of the units, nats) and the perplexity of the predictions
        over a validation, of each codebook."""
        found = {}
        for suffix in self.suffixes:
            targets = tallies[f"{self.name}/targets{suffix}"]
            predicted = tallies[f"{self.name}/predicted{suffix}"]
            found[f"{self.name}/chance{suffix}"] = float(perplexity(targets).log())
            found[f"{self.name}/predicted_perplexity{suffix}"] = float(perplexity(predicted))
        return found

    def codes(self, x: Inputs) -> Tensor:
        """(B, T, 1): of the first codebook, which the report shows."""
        return next(iter(self.offline_units(x).values()))[:, :, None]


class UnitCodebook(nn.Module):
    """The units of one feature, and a vector for each that predictions are compared with."""

    def __init__(self, config: UnitSettings, in_dim: int, context_dim: int) -> None:
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
        name: count_codes(values, logits.shape[1])
        for name, values in (("targets", units), ("predicted", predicted))
    }
    metrics = {"accuracy": right, "predicted_perplexity": perplexity(tallies["predicted"])}
    return metrics, tallies
