"""Bootstrap: predict what a slow copy of the network makes of the same speech, without negatives.

``targets``

- ``projection``: BYOL (arXiv:2006.07733); the loss and what was adapted to speech are in
  projection.py. The predictor is an MLP.
- ``layers``: data2vec (arXiv:2202.03555, section 3). At every masked frame a linear layer on the
  context predicts ``y_t``, the mean of the outputs of the top K layers of the moving average, each
  normalised over the utterance's time (mean 0, variance 1 in each channel). The loss is
  ``sum_d (f_d - y_d)^2 / sqrt(D)``.

  Adapted: outputs of whole layers in the place of those of their feed-forward blocks, which
  convolutional and recurrent layers do not have; the moving average sees the clean wave and the
  student the distorted one, so that distortion is removed too; the moving average is of the whole
  model, encoder and position included.

How slowly the average follows is set for the run (``--ema.start``, ``--ema.end``): published runs
have 0.996 to 1 (BYOL) and 0.999 to 0.9999 (data2vec) for hundreds of thousands of updates. For a
few thousand take 0.99 to 1: an average whose memory is longer than the run predicts a fresh model.
``--ema.start 0 --ema.end 0`` is SimSiam (arXiv:2011.10566).

Without the predictor projections collapse into a constant, and with a gradient into the target both
kinds of targets do; either can be had to see it.

Shapes: B batch, T frames, M masked frames, D width, E width of a projection.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from speechssl.config.bounds import Count, check_fields
from speechssl.device import take
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.projection import (
    Level,
    ProjectionConfig,
    ProjectionTask,
    mlp,
    projection_signals,
    spread_signal,
)
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import LossTerm, Needs, PretextTask, Resources, TaskLoss, View
from speechssl.pretext.teacher_layers import layer_targets

NAME = "bootstrap"
_ADVICE = (
    "Keep bootstrap.predictor (now {bootstrap.predictor}) and bootstrap.stop_gradient (now "
    "{bootstrap.stop_gradient}) true, lower the learning rate (optim.lr is {optim.lr}), let the "
    "average follow more slowly (raise --ema.start, now {ema.start}), or add a task that cannot "
    "collapse, such as masked_units."
)


@dataclass(frozen=True)
class BootstrapConfig(ProjectionConfig):
    """What is predicted of the moving average's output, and what keeps it from collapse."""

    name: ClassVar[str] = NAME
    targets: Literal["projection", "layers"] = "projection"
    """``projection``: of another distortion (BYOL, arXiv:2006.07733). ``layers``: the mean of the
    top layers on the clean wave, at masked frames (data2vec, arXiv:2202.03555)."""
    top_layers: Count = 4
    """K, the layers that are averaged with targets ``layers``; 8 of 12 in data2vec."""
    predictor: bool = True
    """Whether there is a predictor. Without one projections collapse: for experiments."""
    stop_gradient: bool = True
    """Whether the target is a moving average without gradient. False: the network itself, and the
    gradient goes into both; it collapses: for experiments."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)
        if self.targets == "layers" and self.level != "frame":
            raise ValueError(
                f"{NAME}.level must be 'frame' with {NAME}.targets 'layers', which are of frames, "
                f"got {self.level!r}."
            )

    @property
    def signals(self) -> tuple[Signal, ...]:
        if self.targets == "projection":
            return projection_signals(self, _ADVICE)
        return (
            Signal(
                NAME,
                "bootstrap loss, masked frames",
                "Squared distance to the normalised layers of the moving average over sqrt(D). "
                "Dotted: chance, their mean over time.",
                "distance",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="the mean of the targets over time",
            ),
            # The mean of K unrelated layers has 1 / sqrt(K).
            spread_signal(
                NAME,
                "",
                "bootstrap: spread of the layers over time",
                _ADVICE,
                0.5 * self.top_layers**-0.5,
            ),
        )

    def build(self, model: SpeechModel, resources: Resources) -> PretextTask:
        if self.targets == "projection":
            return BootstrapTask(self, model, resources)
        return LayerBootstrapTask(self, model)


class BootstrapTask(ProjectionTask):
    """BYOL: an MLP predicts the projection of the other view."""

    name = NAME
    title = "bootstrapped projections of two views"

    def __init__(self, config: BootstrapConfig, model: SpeechModel, resources: Resources) -> None:
        super().__init__(config, model, resources, config.stop_gradient)
        dim = config.target_dim
        self.predictors = nn.ModuleDict(
            {
                level: mlp(dim, config.hidden_dim, dim) if config.predictor else nn.Identity()
                for level in self.levels
            }
        )

    def predict(self, level: Level, projections: Tensor) -> Tensor:
        return cast(Tensor, self.predictors[level](projections))


class LayerBootstrapTask(PretextTask):
    """data2vec: a linear layer predicts the mean of the top layers of the moving average."""

    name = NAME
    title = "bootstrapped layers of an average model"

    def __init__(self, config: BootstrapConfig, model: SpeechModel) -> None:
        """Raises ValueError where the model has fewer layers than are averaged."""
        super().__init__()
        context = model.config.context
        if config.top_layers > context.num_layers:
            raise ValueError(
                f"{NAME}.top_layers must be at most {context.num_layers}, the layers of the model, "
                f"got {config.top_layers}."
            )
        self.config = config
        self.predictor = nn.Linear(context.dim, context.dim) if config.predictor else nn.Identity()
        self.teacher = View("clean", None, "ema" if config.stop_gradient else "student")
        self.needs = Needs(views=(View(), self.teacher), hidden=True)

    def _chosen(self, x: Inputs) -> Tensor:
        """(B, T) bool on the host: masked frames; not the frame of an utterance that has no other,
        since nothing varies over its time."""
        return x.mask() & (x.frames > 1)[:, None]

    def counts(self, x: Inputs) -> dict[str, int]:
        return {f"{NAME}_masked": int(self._chosen(x).sum())}

    def forward(self, x: Inputs) -> TaskLoss:
        """The squared error over masked frames, summed; beside it that of the mean over time, and
        the root mean square of the targets: 0 where the layers do not vary, as in data2vec's code
        (``min_target_var``)."""
        chosen = self._chosen(x)
        context = take(x.encode().context.float(), chosen)  # (M, D)
        top = x.encode(self.teacher).hidden[-self.config.top_layers :]
        with torch.autocast(x.device.type, enabled=False):
            wanted = take(layer_targets(top, x.frames), chosen)  # (M, D)
            scale = wanted.shape[1] ** -0.5
            total = (self.predictor(context) - wanted).square().sum() * scale
            chance = wanted.detach().square().sum() * scale / max(len(wanted), 1)
        spread = (chance * scale).sqrt() if len(wanted) else torch.ones_like(chance)
        metrics = {f"{NAME}/chance": chance, f"{NAME}/spread": spread}
        return TaskLoss({NAME: LossTerm(total, f"{NAME}_masked", self.config.weight)}, metrics)
