"""Autoencoder: the input is rebuilt from a few numbers a frame.

The autoassociative network (Kramer 1991, "Nonlinear principal component analysis using
autoassociative neural networks"; Hinton and Salakhutdinov 2006, "Reducing the dimensionality of
data with neural networks"): a bottleneck of fewer numbers than the input has, and a decoder that
rebuilds the input from them alone. With ``wave: distorted`` it is a denoising one (Vincent et al.
2008, "Extracting and composing robust features with denoising autoencoders"), whose input is the
distorted and whose target the clean wave.

Adapted: the encoder of the pair is our encoder and context network together. The context's output,
not the encoder's, goes into the bottleneck, so that all of the model is trained. A frame of the
bottleneck is ``bottleneck_dim`` numbers, a linear map of the context frame; nothing else reaches
the decoder, which rebuilds each frame from the same frame of the bottleneck::

    z_t = W c_t
    loss = feature_weight * mean |f(z_t) - logmel_t|^2 + wave_weight * mean |g(z_t) - wave_t|^2

f and g have a hidden layer each. The last layer of g is a linear synthesis: a frame of the wave,
its ``hop`` samples (40 ms or 20 ms) without overlap, is a weighted sum of learned waveforms.
Log-mel features have zero mean and unit variance in each utterance and the wave has unit power, so
that both errors begin near 1, the error of the mean (of the wave: of silence). The wave is compared
sample by sample, which asks for its phase. A filterbank encoder (`tiny`, `small`) has lost it in
its squared moduli, so that the error of the wave stays near 1 there; convolutions (`tiny-conv`)
keep it. Nothing is masked.

Shapes: B batch, T frames, N valid frames of the batch, D width, K width of the bottleneck, F width
of a target.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from speechssl import shapes
from speechssl.config.bounds import Count, Weight, check_fields
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

NAME = "autoencoder"


@dataclass(frozen=True)
class AutoencoderConfig(TaskConfig):
    """How narrow the bottleneck is, and what is rebuilt from it."""

    name: ClassVar[str] = NAME
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    bottleneck_dim: Count = 32
    """K, numbers of a frame from which it is rebuilt. A frame of 40 ms has 320 log-mel features and
    640 samples."""
    wave: Literal["clean", "distorted"] = "clean"
    """The input: ``clean``, what is rebuilt itself; ``distorted``, from which the clean wave is
    rebuilt (a denoising autoencoder)."""
    feature_weight: Weight = 1.0
    """Weight of the log-mel features within the task."""
    wave_weight: Weight = 1.0
    """Weight of the wave within the task; 0: it is not rebuilt."""
    hidden_dim: Count = 256
    """Width of the hidden layer of each decoder."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def targets(self) -> dict[FeatureName, float]:
        """What is rebuilt, and the weight of each within the task."""
        weights: dict[FeatureName, float] = {
            "logmel": self.feature_weight,
            "wave": self.wave_weight,
        }
        return {target: weight for target, weight in weights.items() if weight}

    @property
    def signals(self) -> tuple[Signal, ...]:
        about = {
            "logmel": ("log-mel", "the mean of each mel band", ""),
            "wave": ("wave", "silence", " A filterbank encoder has lost the phase that it takes."),
        }
        return tuple(
            Signal(
                f"{NAME}_{target}",
                f"autoencoder's {about[target][0]} error",
                f"Mean square, from {self.bottleneck_dim} numbers a frame. Dotted: chance, "
                f"{about[target][1]}.{about[target][2]}",
                "distance",
                training=f"loss/{NAME}_{target}",
                chance=f"{NAME}/{target}_chance",
                chance_of=about[target][1],
                worst_ratio=2.0,
                task=NAME,
            )
            for target in self.targets
        )

    def build(self, model: SpeechModel, resources: Resources) -> "AutoencoderTask":
        del resources
        return AutoencoderTask(self, model)

    def learns_nothing(self) -> str:
        if self.weight and self.targets:
            return ""
        return f"{NAME}.feature_weight and {NAME}.wave_weight" if self.weight else f"{NAME}.weight"


class AutoencoderTask(PretextTask):
    """A linear bottleneck, a decoder for each target, mean square error."""

    name = NAME
    title = "autoencoder"
    called_methods = ("rebuild",)

    def __init__(self, config: AutoencoderConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.view = View(config.wave, None)
        self.needs = Needs(views=(self.view,))
        hop = model.config.hop_samples
        hops = hop // round(HOP_S * model.config.sample_rate)
        dims = {"logmel": FEATURE_DIMS["logmel"] * hops, "wave": hop}
        self.bottleneck = nn.Linear(model.config.context.dim, config.bottleneck_dim)
        self.decoders = nn.ModuleDict(
            {
                target: ReconstructionHead(config.bottleneck_dim, config.hidden_dim, dims[target])
                for target in config.targets
            }
        )

    def counts(self, x: Inputs) -> dict[str, int]:
        return {f"{NAME}_frames": int(x.frames.sum())}

    def forward(self, x: Inputs) -> TaskLoss:
        """The mean square errors of all valid frames, summed."""
        context = x.encode(self.view).context
        valid = shapes.length_mask(x.frames, context.shape[1])
        context = take(context, valid)  # (N, D)
        terms: dict[str, LossTerm] = {}
        metrics: dict[str, Tensor] = {}
        for target, weight in self.config.targets.items():
            wanted = take(x.features(target), valid)  # (N, F)
            total = (self.rebuild(target, context) - wanted).square().mean(1).sum()
            terms[f"{NAME}_{target}"] = LossTerm(
                total, f"{NAME}_frames", self.config.weight * weight
            )
            metrics[f"{NAME}/{target}_chance"] = wanted.square().mean()
        return TaskLoss(terms, metrics)

    def rebuild(self, target: FeatureName, context: Tensor) -> Tensor:
        """(..., D) -> (..., F) float32 whatever the autocast, through the bottleneck."""
        with torch.autocast(context.device.type, enabled=False):
            return self.decode(target, self.bottleneck(context.float()))

    def decode(self, target: FeatureName, codes: Tensor) -> Tensor:
        """The bottleneck's output (..., K) -> the target (..., F)."""
        rebuilt: Tensor = self.decoders[target](codes)
        return rebuilt

    @torch.no_grad()
    def panels(self, x: Inputs) -> tuple[Panel, ...]:
        """The rebuilt spectrogram, given back the level and range of each band."""
        if "logmel" not in self.config.targets:
            return ()
        rebuilt = self.rebuild("logmel", x.encode(self.view).context[0])  # (T, F)
        note = f"From {self.config.bottleneck_dim} numbers a frame."
        return (Panel("Autoencoded", note, rebuilt_log_mels(x, rebuilt)),)
