"""Distortion reconstruction: hear a damaged recording, rebuild features of the clean one.

From PASE+ (arXiv:2001.09239, section 3: regress features of the clean wave from the distorted one)
and TERA (arXiv:2007.06028: L1 on masked frames). Masked and unmasked frames have their own
weights: at a masked frame the network must guess from the surroundings, at an unmasked one it must
    clean.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechssl import shapes
from speechssl.device import take
from speechssl.fields import check_fields
from speechssl.model.heads import ReconstructionHead
from speechssl.model.speech_model import SpeechModel, SpeechOutput
from speechssl.objectives.features import FEATURE_DIMS, HOP_S, CleanSpeech, FeatureName
from speechssl.objectives.loss import LossTerm, TaskLoss


@dataclass(frozen=True)
class ReconstructionConfig:
    """Which features are rebuilt, where, and how much each counts."""

    features: tuple[FeatureName, ...] = ("logmel",)
    """One head each: ``logmel``, ``mfcc``, ``prosody`` (pitch, energy, voicing), ``wave``."""
    masked_weight: float = 1.0
    unmasked_weight: float = 0.2
    hidden_dim: int = 256
    """Width of each head's hidden layer."""

    def __post_init__(self) -> None:
        check_fields(self, "reconstruction")
        if not self.features or len(set(self.features)) < len(self.features):
            raise ValueError("reconstruction.features must name at least one feature, each once.")
        if self.hidden_dim < 1:
            raise ValueError(
                f"reconstruction.hidden_dim must be at least 1, got {self.hidden_dim}."
            )
        for name in ("masked_weight", "unmasked_weight"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"reconstruction.{name} must not be negative, got {getattr(self, name)}."
                )


class ReconstructionTask(nn.Module):
    """A head per feature, mean absolute error."""

    def __init__(self, config: ReconstructionConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.hop_samples = model.config.hop_samples
        self.sample_rate = model.config.sample_rate
        if "wave" in config.features and self.sample_rate != 16000:
            raise ValueError(
                "reconstruction.features: the wave is rebuilt at 16000 Hz only, this model hears "
                f"{self.sample_rate} Hz."
            )
        hops = self.hop_samples // round(HOP_S * self.sample_rate)
        self.heads = nn.ModuleDict(
            {
                name: ReconstructionHead(
                    model.config.context.dim, config.hidden_dim, FEATURE_DIMS[name] * hops
                )
                for name in config.features
            }
        )

    def forward(self, output: SpeechOutput, mask: Tensor, clean: CleanSpeech) -> TaskLoss:
        """The loss over masked and unmasked valid frames; `clean` is the undamaged speech."""
        valid = shapes.length_mask(clean.frames, mask.shape[1])
        terms: dict[str, LossTerm] = {}
        metrics: dict[str, Tensor] = {}
        for name in self.config.features:
            target = clean.features(name)
            for where, chosen, weight in (
                ("masked", mask, self.config.masked_weight),
                ("unmasked", valid & ~mask, self.config.unmasked_weight),
            ):
                if not weight:
                    continue
                rebuilt = self.heads[name](take(output.context, chosen)).float()  # (N, dim)
                total = (rebuilt - take(target, chosen)).abs().mean(1).sum()
                terms[f"reconstruction_{name}_{where}"] = LossTerm(total, where, weight)
        return TaskLoss(terms, metrics)

    @torch.no_grad()
    def rebuild(self, name: FeatureName, context: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, dim per frame) float32: the rebuilt features, for looking at."""
        return self.heads[name](context).float()
