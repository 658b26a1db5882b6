"""Predicting what a slow copy of the network makes of another view: what BYOL and DirectPred share.

BYOL (arXiv:2006.07733, section 3.1): the online network projects one view of an utterance and
predicts the projection that the target network, an exponential moving average of it, makes of
another view. Nothing but the predictor and the missing gradient of the target keeps the projections
from becoming a constant.

With q the prediction and z' the target, both of length one, the loss is ``|q - z'|^2 = 2 - 2 cos``,
averaged over both directions (each view is the online network's once).

Adapted to speech:

- the views are two distortions of a wave, in place of crops of an image: frame t of one is frame t
  of the other, so that the loss can be computed at every frame, and also for the mean over an
  utterance's valid frames;
- the online network sees its view under the masks of the run. Two distortions of speech differ much
  less than two crops of an image; and the first pass is the one that other tasks use;
- LayerNorm and standardized weights in the heads in place of batch norm, whose statistics would
  make k micro-batches something else than one batch; BYOL works as well without (arXiv:2010.10241,
  with group norm and standardized weights). With LayerNorm alone projections begin with half of
  their length in common (outputs of ReLU are positive), the predictor learns that constant first,
  and on noisy views everything collapsed.

Shapes: B batch, T frames, N frames or utterances, D width, E width of a projection.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.config.bounds import Count
from speechssl.device import send, take
from speechssl.model.ema import EMA
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import (
    LossTerm,
    Needs,
    PretextTask,
    Resources,
    TaskConfig,
    TaskLoss,
    View,
)

Level = Literal["frame", "utterance"]
WAVES: tuple[Literal["distorted"], Literal["distorted2"]] = ("distorted", "distorted2")
_EPS = 1e-6
"""Added to the variance of a row of weights."""
COLLAPSED = 0.1
"""A spread below this is collapse: all vectors lie within 6 degrees of one direction."""


@dataclass(frozen=True)
class ProjectionConfig(TaskConfig):
    """What is projected, and how wide."""

    moving_targets: ClassVar[bool] = True
    level: Literal["frame", "utterance", "both"] = "frame"
    """What is predicted: ``frame``: each frame; ``utterance``: the mean over an utterance's frames;
    ``both``, with heads of their own."""
    hidden_dim: Count = 512
    """Width of the hidden layer of projector and predictor (4096 in the paper)."""
    target_dim: Count = 256
    """E, width of a projection."""
    symmetric: bool = True
    """Whether each of the two views is predicted from the other. False: only the second from the
    first, at half the cost."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """Those of `level`, the main one first."""
        return ("frame", "utterance") if self.level == "both" else (self.level,)


class ProjectionTask(PretextTask):
    """The loss between predicted and target projections; a subclass has the predictor."""

    def __init__(
        self, config: ProjectionConfig, model: SpeechModel, resources: Resources, stop: bool = True
    ) -> None:
        """`stop` False: the target is the online network itself, and the gradient goes into it."""
        super().__init__()
        self.levels, self.weight, self._ema = config.levels, config.weight, resources.ema
        sizes = (model.config.context.dim, config.hidden_dim, config.target_dim)
        self.projectors = nn.ModuleDict({level: mlp(*sizes) for level in self.levels})
        self.average = EMA(self.projectors) if stop else None
        network: Literal["ema", "student"] = "ema" if stop else "student"
        first, second = WAVES
        pairs = ((first, second), (second, first))[: 2 if config.symmetric else 1]
        self.pairs = tuple((View(online), View(other, None, network)) for online, other in pairs)
        """``(online, target)`` of each direction."""
        self.needs = Needs(views=tuple(dict.fromkeys(v for pair in self.pairs for v in pair)))

    def predict(self, level: Level, projections: Tensor) -> Tensor:
        """(N, E) float32 of the online network -> (N, E), the predicted targets."""
        raise NotImplementedError

    def before_update(self, step: int, max_steps: int, model: SpeechModel) -> None:
        """Let the target projectors follow, as slowly as the target network."""
        del model
        if self.average is not None:
            self.average.update(self.projectors, self._ema.decay(step, max_steps))

    def counts(self, x: Inputs) -> dict[str, int]:
        found: dict[Level, int] = {"frame": int(x.frames.sum()), "utterance": len(x.frames)}
        return {f"{self.name}_{level}s": found[level] for level in self.levels}

    def forward(self, x: Inputs) -> TaskLoss:
        """A term for each level: the loss summed over frames or utterances, the mean of the
        directions; the chance line and the spread of the projections."""
        terms: dict[str, LossTerm] = {}
        metrics: dict[str, Tensor] = {}
        for level in self.levels:
            parts = [self._direction(x, level, *pair) for pair in self.pairs]
            total, chance, spread = (torch.stack(p).mean() for p in zip(*parts, strict=True))
            end = "" if level == self.levels[0] else f"_{level}"
            terms[f"{self.name}{end}"] = LossTerm(total, f"{self.name}_{level}s", self.weight)
            metrics |= {f"{self.name}/chance{end}": chance, f"{self.name}/spread{end}": spread}
        return TaskLoss(terms, metrics)

    def _direction(
        self, x: Inputs, level: Level, online: View, target: View
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of one direction, summed; the loss of a constant; the spread of the online
        projections."""
        projections = self.project(level, vectors(x, online, level))
        targets = self._targets(level, vectors(x, target, level))
        with torch.autocast(x.device.type, enabled=False):
            total = cosine_loss(self.predict(level, projections), targets).sum()
        return total, constant_loss(targets), spread(projections)

    def project(self, level: Level, values: Tensor) -> Tensor:
        """(N, D) float32 of the online network -> (N, E) float32."""
        with torch.autocast(values.device.type, enabled=False):
            return cast(Tensor, self.projectors[level](values))

    def _targets(self, level: Level, values: Tensor) -> Tensor:
        """(N, D) float32 of the target network -> (N, E) float32."""
        if self.average is None:
            return self.project(level, values)
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            return cast(Tensor, cast(nn.ModuleDict, self.average.average)[level](values))


def vectors(x: Inputs, view: View, level: Level) -> Tensor:
    """What is projected of a view, float32: its valid frames (N, D), or the mean over each
    utterance's (B, D)."""
    context = x.encode(view).context.float()  # (B, T, D)
    if level == "frame":
        return take(context, shapes.length_mask(x.frames, context.shape[1]))
    frames = send(x.frames, x.device)
    return shapes.zero_padding(context, frames).sum(1) / frames[:, None]


class StandardizedLinear(nn.Linear):
    """A linear layer whose rows have mean 0 and variance 1 / fan-in (weight standardization,
    arXiv:1903.10520): what all inputs have in common is not passed on."""

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        centred = self.weight - self.weight.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        scale = torch.rsqrt(variance * self.in_features + _EPS)
        return F.linear(values, centred * scale, self.bias)


def mlp(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """BYOL's head (arXiv:2006.07733, section 3.3), without batch statistics."""
    return nn.Sequential(
        StandardizedLinear(in_dim, hidden_dim),
        nn.LayerNorm(hidden_dim),
        nn.ReLU(),
        StandardizedLinear(hidden_dim, out_dim),
    )


def cosine_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """(N, E), (N, E) -> (N,): 2 - 2 cos, from 0 to 4 (arXiv:2006.07733, equation 2)."""
    return 2 - 2 * torch.cosine_similarity(predictions, targets, dim=1)


def mean_similarity(values: Tensor) -> Tensor:
    """(N, E) -> scalar: mean cosine of two different rows, which is the squared length of the mean
    direction without the bias of few rows; 0 for a single row."""
    num = len(values)
    direction = F.normalize(values.float(), dim=1).sum(0)  # (E,)
    return (direction.square().sum() - num) / max(num * (num - 1), 1)


@torch.no_grad()
def constant_loss(targets: Tensor) -> Tensor:
    """(N, E) -> scalar: the loss of the best constant prediction, the mean direction. It falls to 0
    where the targets collapse; 2 for a single target, of which no mean can be known."""
    return 2 - 2 * mean_similarity(targets).clamp(0, 1).sqrt()


@torch.no_grad()
def spread(values: Tensor) -> Tensor:
    """(N, E) -> scalar: 1 where vectors point everywhere, 0 where all have one direction.

    ``sqrt(1 - mean cosine)``, the standard deviation of vectors of length one times sqrt(E) by
    which SimSiam (arXiv:2011.10566, section 4.1) shows collapse. 1 for a single vector.
    """
    return (1 - mean_similarity(values)).clamp(0, 1).sqrt()


def projection_signals(config: ProjectionConfig, advice: str) -> tuple[Signal, ...]:
    """Loss and spread at each level; `advice` against collapse."""
    name, title = config.name, config.name.replace("_", " ")
    found = []
    for level in config.levels:
        end = "" if level == config.levels[0] else f"_{level}"
        found += [
            Signal(
                f"{name}{end}",
                f"{title} loss, {level}s",
                "2 - 2 cos between predicted and target projection. Dotted: chance, the best "
                "constant.",
                "distance",
                training=f"loss/{name}{end}",
                chance=f"{name}/chance{end}",
                chance_of="the best constant prediction",
            ),
            spread_signal(name, end, f"{title}: spread of projected {level}s", advice),
        ]
    return tuple(found)


def spread_signal(
    name: str, end: str, title: str, advice: str, collapsed_below: float = COLLAPSED
) -> Signal:
    """How collapse is seen."""
    metric = f"{name}/spread{end}"
    return Signal(
        metric,
        title,
        "1: they are everywhere, 0: all are the same, which is collapse.",
        "distance",
        "higher",
        collapsed_below=collapsed_below,
        finding="representation collapse",
        evidence="The targets are nearly the same, whatever the input: their spread is "
        f"{{{metric}}} (1: everywhere, 0: all the same). A low loss says nothing then.",
        advice=advice,
        task=name,
    )
