"""Contrastive prediction of quantized targets (wav2vec 2.0, arXiv:2006.11477).

At every masked frame the context must tell the true target from others. Two kinds of targets:

- ``gumbel``: the encoder's own latents, quantized by a learned product codebook; the others are the
  targets of other masked frames of the same utterance (section 3.2). The published form.
- ``kmeans``: codes of features of the clean wave (cepstra, prosody), from centroids fitted once
  before training; the others are all other codes (HuBERT, arXiv:2106.07447, section 3). Fixed
  targets learn from few updates.

Shapes: M masked frames of the batch, N negatives, D width, E width of a target, V codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.device import take
from speechssl.fields import check_fields
from speechssl.model.quantizer import (
    GumbelQuantizer,
    KMeansQuantizer,
    Quantized,
    RandomProjectionQuantizer,
    temperature_at,
)
from speechssl.model.speech_model import SpeechModel, SpeechOutput
from speechssl.objectives.features import FEATURE_DIMS, HOP_S, CleanSpeech, FeatureName
from speechssl.objectives.loss import LossTerm, TaskLoss

QuantizerKind = Literal["gumbel", "kmeans", "random"]


@dataclass(frozen=True)
class ContrastiveConfig:
    """What is predicted, and how hard it is."""

    quantizer: QuantizerKind = "gumbel"
    """``gumbel``: learned codes of the latents (arXiv:2006.11477). Of features of the clean wave,
    and fixed: ``kmeans``, centroids (arXiv:2106.07447); ``random``, a random projection and
    codebook (arXiv:2202.01855)."""
    features: tuple[FeatureName, ...] = ("mfcc",)
    """What fixed codes are of, a codebook for each. Cepstra say nothing of pitch, on which every
    vowel of a tone language depends: ``prosody`` does. The doctor and the report look at the
    first."""
    weight: float = 1.0
    target_dim: int = 256
    """E, the width in which predictions and targets are compared."""
    num_negatives: int = 100
    """Others per masked frame, drawn from the same utterance; fixed codes are contrasted
    with all others."""
    temperature: float = 0.1
    """The cosine similarities are divided by this."""
    groups: int = 2
    """Codebook groups of ``gumbel``."""
    entries: int = 320
    """Codes per group; the number of all codes where they are fixed."""
    diversity_weight: float = 0.1
    feature_penalty: float = 10.0
    """Weight of the encoder output's mean square; ``gumbel`` only."""
    gumbel_start: float = 2.0
    gumbel_end: float = 0.5
    gumbel_decay: float = 0.999995
    """Factor per update from the start towards the end temperature."""

    def __post_init__(self) -> None:
        check_fields(self, "contrastive")
        for name in ("target_dim", "num_negatives", "groups", "entries"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"contrastive.{name} must be at least 1, got {getattr(self, name)}."
                )
        if self.quantizer == "gumbel" and self.target_dim % self.groups:
            raise ValueError(
                "contrastive.target_dim must be a multiple of contrastive.groups, got "
                f"{self.target_dim} and {self.groups}."
            )
        for name in ("weight", "diversity_weight", "feature_penalty"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"contrastive.{name} must not be negative, got {getattr(self, name)}."
                )
        if not 0 < self.gumbel_end <= self.gumbel_start:
            raise ValueError(
                "contrastive.gumbel_end must be above 0 and at most contrastive.gumbel_start, got "
                f"{self.gumbel_end} and {self.gumbel_start}."
            )
        if not 0 < self.gumbel_decay <= 1:
            raise ValueError(
                f"contrastive.gumbel_decay must be in (0, 1], got {self.gumbel_decay}."
            )
        if self.temperature <= 0:
            raise ValueError(f"contrastive.temperature must be above 0, got {self.temperature}.")
        if not self.features or len(set(self.features)) < len(self.features):
            raise ValueError("contrastive.features must name at least one feature, each once.")


class GumbelContrastive(nn.Module):
    """Targets from the model's own latents."""

    def __init__(self, config: ContrastiveConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.quantizer = GumbelQuantizer(
            model.config.latent_dim,
            groups=config.groups,
            entries=config.entries,
            dim=config.target_dim,
        )
        self.project_target = nn.Linear(config.target_dim, config.target_dim)
        self.project_context = nn.Linear(model.config.context.dim, config.target_dim)

    def set_update(self, update: int) -> None:
        """Lower the Gumbel temperature to that of an update."""
        c = self.config
        self.quantizer.temperature = temperature_at(
            update, start=c.gumbel_start, end=c.gumbel_end, decay=c.gumbel_decay
        )

    def forward(self, output: SpeechOutput, mask: Tensor, negatives: Tensor) -> TaskLoss:
        """The loss over a batch's masked frames.

        Args:
            output: of the model, with the mask applied.
            mask: (B, T) bool, best on the host.
            negatives: (M, N) int64 from :func:`draw_negatives`.
        """
        quantized = self.quantizer(take(output.latents, mask))
        with torch.autocast(output.context.device.type, enabled=False):
            targets = self.project_target(quantized.vectors)  # (M, E)
            predictions = self.project_context(take(output.context, mask).float())  # (M, E)
            logits = contrastive_logits(predictions, targets, quantized.codes, negatives)
            logits = logits / self.config.temperature  # (M, 1 + N)
            total = F.cross_entropy(
                logits,
                torch.zeros(len(logits), dtype=torch.long, device=logits.device),
                reduction="sum",
            )
            penalty = mean_square(output.raw_latents, output.lengths)
        num = len(logits)
        most = self.quantizer.max_perplexity
        diversity = (most - quantized.perplexity) / most
        terms = {
            "contrastive": LossTerm(total, "masked", self.config.weight),
            "diversity": LossTerm(num * diversity, "masked", self.config.diversity_weight),
            "feature_penalty": LossTerm(num * penalty, "masked", self.config.feature_penalty),
        }
        if not self.config.feature_penalty:
            del terms["feature_penalty"]
        return TaskLoss(terms, *gumbel_numbers(logits, quantized, self.config.entries))


class FixedCodesContrastive(nn.Module):
    """Targets are fixed codes: of features of the clean wave, or of a teacher's layer."""

    def __init__(
        self, config: ContrastiveConfig, model: SpeechModel, teacher: "Teacher | None" = None
    ) -> None:
        super().__init__()
        self.config = config
        if teacher is not None:
            teacher.check_fits(model)
        self._teacher = (teacher,)  # in a tuple: not a part of what is trained and saved
        hops = model.config.hop_samples // round(HOP_S * model.config.sample_rate)
        self.names = ("teacher",) if teacher else config.features
        dims = [teacher.dim] if teacher else [FEATURE_DIMS[n] * hops for n in config.features]
        width = model.config.context.dim
        self.codebooks: Sequence[FixedCodebook] = nn.ModuleList(  # type: ignore[assignment]
            FixedCodebook(config, dim, width) for dim in dims
        )

    def features(self, clean: CleanSpeech) -> list[Tensor]:
        """What the codes of each codebook are of, (B, T, F) each."""
        (teacher,) = self._teacher
        if teacher is not None:
            return [teacher.features(clean)]
        return [clean.features(name) for name in self.config.features]

    def codes(self, clean: CleanSpeech) -> Tensor:
        """(B, T, G) int64, of each codebook."""
        found = [
            codebook.quantizer(features.flatten(0, 1)).unflatten(0, features.shape[:2])
            for codebook, features in zip(self.codebooks, self.features(clean), strict=True)
        ]
        return torch.stack(found, dim=2)

    def fit(self, frames: Sequence[Tensor], seed: int) -> None:
        """Find the centroids, from (N, F) frames of each of :meth:`features`; random codes need
        none."""
        for codebook, its in zip(self.codebooks, frames, strict=True):
            if isinstance(codebook.quantizer, KMeansQuantizer):
                codebook.quantizer.fit(its, seed)

    def forward(self, output: SpeechOutput, mask: Tensor, clean: CleanSpeech) -> TaskLoss:
        """The loss over masked frames; `clean` is the undamaged speech."""
        context = take(output.context, mask)
        terms: dict[str, LossTerm] = {}
        metrics: dict[str, Tensor] = {}
        tallies: dict[str, Tensor] = {}
        for number, features in enumerate(self.features(clean)):
            guess = self.codebooks[number](context, take(features, mask))
            suffix = f"_{self.names[number]}" if number else ""
            terms[f"contrastive{suffix}"] = LossTerm(guess.loss, "masked", self.config.weight)
            own_metrics, own_tallies = fixed_code_numbers(guess.logits, guess.codes)
            if number:
                metrics[f"contrastive/accuracy{suffix}"] = own_metrics["contrastive/accuracy"]
            else:
                metrics, tallies = own_metrics, own_tallies
        return TaskLoss(terms, metrics, tallies)


@dataclass(frozen=True)
class Guess:
    """What was guessed of the codes of M frames."""

    loss: Tensor
    """Cross-entropy, summed."""
    logits: Tensor
    """(M, V)."""
    codes: Tensor
    """(M,) int64, the right ones."""


class FixedCodebook(nn.Module):
    """The codes of one feature, and a vector for each that predictions are compared with."""

    def __init__(self, config: ContrastiveConfig, in_dim: int, context_dim: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        kind = KMeansQuantizer if config.quantizer == "kmeans" else RandomProjectionQuantizer
        self.quantizer = kind(in_dim, config.entries)
        self.project_context = nn.Linear(context_dim, config.target_dim)
        self.codebook = nn.Parameter(torch.randn(config.entries, config.target_dim))

    def forward(self, context: Tensor, features: Tensor) -> Guess:
        """(M, D) of masked frames, (M, F) of the clean ones."""
        codes = self.quantizer(features)  # (M,)
        with torch.autocast(context.device.type, enabled=False):
            predictions = F.normalize(self.project_context(context.float()), dim=1)  # (M, E)
            logits = predictions @ F.normalize(self.codebook, dim=1).T / self.temperature
            loss = F.cross_entropy(logits, codes, reduction="sum")
        return Guess(loss, logits, codes)


ContrastiveTask = GumbelContrastive | FixedCodesContrastive


def build_contrastive(
    config: ContrastiveConfig, model: SpeechModel, teacher: "Teacher | None" = None
) -> ContrastiveTask:
    """The task that a config describes; a teacher is for fixed codes only."""
    if config.quantizer != "gumbel":
        return FixedCodesContrastive(config, model, teacher)
    return GumbelContrastive(config, model)


class Teacher:
    """A trained model whose layer gives the codes of a next round (HuBERT, arXiv:2106.07447,
    section 3.3). It stays as it is."""

    def __init__(self, model: SpeechModel, layer: int) -> None:
        num_layers = model.config.context.num_layers
        if not 0 <= layer <= num_layers:
            raise ValueError(
                f"teacher_layer must be between 0 and the teacher's {num_layers} layers, got "
                f"{layer}."
            )
        self.model = model.eval().requires_grad_(False)
        if layer < num_layers:  # what is above is not asked for
            context = self.model.context
            del context.layers[layer:]
            if model.config.context.norm_order == "pre":
                context.norm = nn.Identity()  # the last layer's

    @property
    def dim(self) -> int:
        """Width of its frames."""
        return self.model.config.context.dim

    def check_fits(self, model: SpeechModel) -> None:
        """ValueError where its frames are not those of `model`."""
        ours, its = model.config, self.model.config
        if (its.hop_samples, its.sample_rate) != (ours.hop_samples, ours.sample_rate):
            raise ValueError(
                f"teacher: its frames are {its.hop_samples} samples of {its.sample_rate} Hz, the "
                f"model's {ours.hop_samples} of {ours.sample_rate}: take one of the same rates."
            )

    @torch.no_grad()
    def features(self, clean: CleanSpeech) -> Tensor:
        """(B, T, D) float32, the layer's output for the clean speech."""
        self.model.to(clean.wave.device)
        return self.model(clean.wave, clean.lengths, keep_hidden=True).hidden[-1].float()


def draw_negatives(mask: np.ndarray, num: int, generator: np.random.Generator) -> np.ndarray:
    """For each masked frame, `num` others of the same utterance, uniform with replacement.

    `mask` is (B, T) bool with M true entries; returns (M, num) int64, indices into those M in row
    order, never the frame itself. A frame alone in its utterance gets -1: it has no negatives.
    """
    parts, offset = [np.zeros((0, num), dtype=np.int64)], 0
    for count in mask.sum(1).tolist():
        if count == 1:
            parts.append(np.full((1, num), -1, dtype=np.int64))
        elif count > 1:
            drawn = generator.integers(0, count - 1, (count, num))
            drawn += drawn >= np.arange(count)[:, None]  # skip the frame itself
            parts.append(drawn + offset)
        offset += count
    return np.concatenate(parts)


def contrastive_logits(
    predictions: Tensor, targets: Tensor, codes: Tensor, negatives: Tensor
) -> Tensor:
    """Cosine similarities of each prediction with its target and its negatives.

    One (M, M) product and a gather of its entries: the same numbers as gathering N target vectors
    per frame, without the (M, N, E) tensor. A negative that carries the positive's code counts as
    -inf (as in wav2vec 2.0's code), and so does a missing one.

    Args:
        predictions, targets: (M, E) float32.
        codes: (M, G) int64 of the targets.
        negatives: (M, N) int64, -1 = none.

    Returns:
        (M, 1 + N) float32, the true target first.
    """
    predictions, targets = F.normalize(predictions, dim=1), F.normalize(targets, dim=1)
    scores = predictions @ targets.T  # (M, M)
    index = negatives.clamp_min(0)
    same = (codes[index] == codes[:, None]).all(2)  # (M, N)
    wrong = scores.gather(1, index).masked_fill(same | (negatives < 0), float("-inf"))
    return torch.cat([scores.diagonal()[:, None], wrong], dim=1)


@torch.no_grad()
def gumbel_numbers(
    logits: Tensor, quantized: Quantized, entries: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is logged beside the loss, and how often each code of each group was the target.

    Args:
        logits: (M, 1 + N), the true target first.
        quantized: of the M frames.
        entries: codes in a group.
    """
    tallies = {
        f"group_{group}": count_codes(codes, entries)
        for group, codes in enumerate(quantized.codes.unbind(1))
    }
    used = torch.stack([(tally > 0).sum() for tally in tallies.values()])
    metrics = {
        "contrastive/accuracy": accuracy(logits),
        "contrastive/chance": chance(logits),
        "quantizer/perplexity": quantized.perplexity.detach(),
        "quantizer/codes_used": used.float().mean(),
    }
    return metrics, tallies


@torch.no_grad()
def fixed_code_numbers(
    logits: Tensor, codes: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is logged beside the loss, and how often each code was the target and the guess.

    Args:
        logits: (M, V), one for each code.
        codes: (M,) int64, the targets.
    """
    guesses = logits.argmax(1)
    right = (guesses == codes).float().mean() if len(codes) else logits.new_zeros(())
    tallies = {
        name: count_codes(values, logits.shape[1])
        for name, values in (("targets", codes), ("predicted", guesses))
    }
    metrics = {
        "contrastive/accuracy": right,
        "quantizer/predicted_perplexity": perplexity(tallies["predicted"]),
    }
    return metrics, tallies


def accuracy(logits: Tensor) -> Tensor:
    """Share of rows whose first logit is above all others; equal logits are wrong (collapse)."""
    if not len(logits):
        return logits.new_zeros(())
    best = logits[:, 0] > logits[:, 1:].amax(1)
    alone = torch.isinf(logits[:, 1:]).all(1)  # nothing to tell it from
    return (best & ~alone).float().sum() / (~alone).sum().clamp_min(1)


def chance(logits: Tensor) -> Tensor:
    """The loss of whoever cannot tell the target from its negatives, nats: the mean over rows of
    the log of how many finite logits there are."""
    return torch.isfinite(logits).sum(1).float().log().mean() if len(logits) else logits.sum()


def count_codes(codes: Tensor, entries: int) -> Tensor:
    """(M,) int64 -> (entries,) int64: how often each came up."""
    return codes.new_zeros(entries).index_add_(0, codes, torch.ones_like(codes))


def perplexity(tally: Tensor) -> Tensor:
    """exp(entropy) of counts (V,): how many codes are in use, from 1 to V; 1 where all are zero."""
    share = tally / tally.sum().clamp_min(1)
    return torch.special.entr(share).sum().exp()


def mean_square(latents: Tensor, lengths: Tensor) -> Tensor:
    """Mean square of valid latents (B, T, C): the feature penalty."""
    total = shapes.zero_padding(latents.float(), lengths).square().sum()
    return total / (lengths.sum() * latents.shape[2])
