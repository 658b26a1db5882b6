"""Distortion reconstruction: from a damaged recording, rebuild features of the clean one.

From PASE+ (arXiv:2001.09239, section 3: regress features of the clean wave from the distorted one)
and TERA (arXiv:2007.06028: L1 on masked frames). Masked and unmasked frames have their own weights:
at a masked frame the network must predict from the surroundings, at an unmasked one it must clean.

Shapes: B batch, T frames, N chosen frames, D width.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from speechssl import shapes
from speechssl.config.bounds import Count, NotEmpty, Weight, check_fields
from speechssl.device import take
from speechssl.model.heads import ReconstructionHead
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import FEATURE_DIMS, HOP_S, FeatureName
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.signal import Signal
from speechssl.pretext.spectrogram import rebuilt_log_mels
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

NAME = "reconstruction"


@dataclass(frozen=True)
class ReconstructionConfig(TaskConfig):
    """Which features are rebuilt, where, and how much each counts."""

    name: ClassVar[str] = NAME
    features: Annotated[tuple[FeatureName, ...], NotEmpty(distinct=True)] = ("logmel",)
    """One head each: ``logmel``, ``mfcc``, ``prosody`` (pitch, energy, voicing), ``wave``."""
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    masked_weight: Weight = 1.0
    """Weight of masked frames within the task."""
    unmasked_weight: Weight = 0.2
    """Weight of unmasked frames within the task."""
    hidden_dim: Count = 256
    """Width of each head's hidden layer."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return tuple(signal for name in self.features for signal in _signals(name))

    def build(self, model: SpeechModel, resources: Resources) -> "ReconstructionTask":
        del resources
        return ReconstructionTask(self, model)

    def learns_nothing(self) -> str:
        if self.weight and (self.masked_weight or self.unmasked_weight):
            return ""
        return (
            f"{NAME}.masked_weight and {NAME}.unmasked_weight" if self.weight else f"{NAME}.weight"
        )


class ReconstructionTask(PretextTask):
    """A head per feature, mean absolute error."""

    name = NAME
    title = "distortion reconstruction"
    needs = Needs(views=(View(),))
    called_methods = ("rebuild",)

    def __init__(self, config: ReconstructionConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        sample_rate = model.config.sample_rate
        if "wave" in config.features and sample_rate != 16000:
            raise ValueError(
                f"{NAME}.features: the wave is rebuilt at 16000 Hz only, this model's input has "
                f"{sample_rate} Hz."
            )
        hops = model.config.hop_samples // round(HOP_S * sample_rate)
        self.heads = nn.ModuleDict(
            {
                name: ReconstructionHead(
                    model.config.context.dim, config.hidden_dim, FEATURE_DIMS[name] * hops
                )
                for name in config.features
            }
        )

    def counts(self, x: Inputs) -> dict[str, int]:
        masked = int(x.mask().sum())
        return {"masked": masked, "unmasked": int(x.frames.sum()) - masked}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss over masked and unmasked valid frames, summed."""
        output, mask = x.encode(), x.mask()
        valid = shapes.length_mask(x.frames, mask.shape[1])  # (B, T)
        terms: dict[str, LossTerm] = {}
        for name in self.config.features:
            target = x.features(name)
            for where, chosen, weight in (
                ("masked", mask, self.config.masked_weight),
                ("unmasked", valid & ~mask, self.config.unmasked_weight),
            ):
                if not weight:
                    continue
                rebuilt = self.heads[name](take(output.context, chosen)).float()  # (N, dim)
                total = (rebuilt - take(target, chosen)).abs().mean(1).sum()
                terms[f"{NAME}_{name}_{where}"] = LossTerm(
                    total, where, self.config.weight * weight
                )
        return TaskLoss(terms)

    @torch.no_grad()
    def rebuild(self, name: FeatureName, context: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, dim per frame) float32: the rebuilt features, for looking at."""
        return self.heads[name](context).float()

    @torch.no_grad()
    def diagnose(self, x: Inputs) -> dict[str, float]:
        """How far the rebuilt features are from the clean ones, beside what needs no learning.

        Returns:
            Mean absolute distances, by ``reconstruction/FEATURE_...``: ``masked`` and ``unmasked``
            (rebuilt to clean), ``masked_mean`` and ``unmasked_mean`` (the mean of each bin to
            clean; it is zero, as features are centred), ``copy`` (distorted input to clean) and
            ``to_input`` (rebuilt to the distorted input), both on unmasked frames; and
            ``copying``, see :func:`copying`.
        """
        output = x.encode()
        mask = x.mask().to(output.context.device)
        unmasked = shapes.length_mask(output.lengths, mask.shape[1]) & ~mask
        found: dict[str, float] = {}
        for name in self.config.features:
            target, given = x.features(name), x.features(name, "distorted")  # (B, T, dim)
            rebuilt = self.rebuild(name, output.context)
            distances = {
                "masked": (rebuilt - target)[mask],
                "masked_mean": target[mask],
                "unmasked": (rebuilt - target)[unmasked],
                "unmasked_mean": target[unmasked],
                "copy": (given - target)[unmasked],
                "to_input": (rebuilt - given)[unmasked],
            }
            own = {what: float(v.abs().mean()) for what, v in distances.items() if v.numel()}
            if len(own) == len(distances):
                own["copying"] = copying(own)
            found |= {f"{NAME}/{name}_{what}": value for what, value in own.items()}
        return found

    @torch.no_grad()
    def panels(self, x: Inputs) -> tuple[Panel, ...]:
        """The rebuilt spectrogram, given back the level and range of each band."""
        if "logmel" not in self.config.features:
            return ()
        normal = self.rebuild("logmel", x.encode().context)[0]  # (T, F)
        return (Panel("Rebuilt", "", rebuilt_log_mels(x, normal)),)


_DENOISES = 0.1
"""Share of the distortion that must have been removed, for a reconstruction to be no copy."""


def copying(distances: dict[str, float]) -> float:
    """Which share of the gain over each bin's mean is had on unmasked frames alone, where the input
    can be copied; 0 where nothing is gained or the distortion is removed. From 0.5 on a head passes
    its input on.

    `distances` are those of :meth:`ReconstructionTask.diagnose`. By the triangle inequality
    ``to_input - unmasked`` lies between ``-copy`` (a copy) and ``copy`` (all distortion is
    removed), which is the scale on which a reconstruction that repairs is told from one that
    copies; how near it comes to either says how well it is trained.
    """
    visible = 1 - distances["unmasked"] / max(distances["unmasked_mean"], 1e-9)
    masked = 1 - distances["masked"] / max(distances["masked_mean"], 1e-9)
    repairs = distances["to_input"] - distances["unmasked"] > _DENOISES * distances["copy"]
    if visible < 0.1 or repairs:
        return 0.0
    return min(max(1 - masked / visible, 0.0), 1.0)


def _signals(feature: str) -> tuple[Signal, ...]:
    """How one feature's reconstruction is judged."""
    stem = f"{NAME}/{feature}_"
    hint = "mean absolute distance in distorted validation."
    found = [
        Signal(
            f"{NAME}_{feature}_{where}",
            f"reconstruction of {feature}, {where}",
            f"Mean absolute distance of {where} frames to clean features.",
            "distance",
            in_overview=False,
            task=NAME,
        )
        for where in ("masked", "unmasked")
    ]
    found += [
        Signal(
            f"{stem}{where}",
            f"rebuilt {feature}, {where} frames",
            f"Rebuilt to clean on {where} frames, {hint}",
            "distance",
            training=f"loss/{NAME}_{feature}_{where}",
            chance=f"{stem}{where}_mean",
            chance_of="the mean of each bin",
            worst_ratio=2.0,
        )
        for where in ("masked", "unmasked")
    ]
    found.append(
        Signal(
            f"{stem}copying",
            f"{feature} copied",
            "Share of the gain over each bin's mean that is had by copying the input.",
            "share",
            alarm_from=0.5,
            finding="reconstruction is a copy",
            evidence=f"On unmasked frames the rebuilt {feature} is {{{stem}to_input}} from the "
            f"distorted input and {{{stem}unmasked}} from the clean speech; copying the input "
            f"would give {{{stem}copy}}. On masked frames it gains little: {{{stem}masked}}, where "
            f"the mean of each bin has {{{stem}masked_mean}}.",
            advice=f"Give it something to repair: raise --{NAME}.masked-weight and --mask.share, "
            "and distort the input (--distortion).",
        )
    )
    return tuple(found)
