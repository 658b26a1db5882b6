"""Future frames: GPT's idea on continuous frames. A causal context predicts log-mel features some
frames ahead.

Autoregressive predictive coding (APC, arXiv:1904.03240, section 3.1): with y_t a linear map of the
context of frame t and x_t the features of frame t, the loss is::

    sum over t of |x_(t + ahead) - y_t|

Adapted: the input is the wave, not features. A frame is 40 ms or 20 ms (4 or 2 hops of 10 ms side
by side), and so is a target. Features have zero mean and unit variance in each utterance, where the
paper has them in each speaker, and the loss of a frame is the mean over its features. The paper
found 3 steps of 10 ms best for phones, the least for which its windows of 25 ms do not overlap. The
default is the same point here, the least ``ahead`` for which the target lies wholly behind the
input (ahead.py): 2 frames; the target then begins 20 ms (40 ms frames) or 7.5 ms (20 ms frames)
behind the end of the input. Less is refused. The input is the clean wave without masks, as in the
paper: distortions filter with zero phase, through which the input would hold a part of its future.

What needs no learning is logged beside the loss: the mean, and a copy, the newest 10 ms of the
present frame repeated.

Shapes: B batch, T frames, P pairs of a frame and the one `ahead` of it, F width of a target.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from speechssl.config.bounds import Count, Weight, check_fields
from speechssl.device import take
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.ahead import checked_ahead, num_pairs, pairs
from speechssl.pretext.features import FEATURE_DIMS, HOP_S, NUM_MELS
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

NAME = "future_frames"
CLEAN = View("clean", None)


@dataclass(frozen=True)
class FutureFramesConfig(TaskConfig):
    """How far ahead a causal model predicts log-mel features (APC, arXiv:1904.03240)."""

    name: ClassVar[str] = NAME
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    ahead: Count | None = None
    """Frames from the present one to the predicted one. None: the least for which no sample of the
    target is in the input, 2 frames (80 ms in `tiny`, 40 ms in `tiny-conv`)."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                NAME,
                "future frame error",
                "Mean absolute distance of predicted log-mel features. Dotted: chance, the mean of "
                "each band.",
                "distance",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="the mean of each mel band",
                worst_ratio=2.0,
            ),
            Signal(
                f"{NAME}/copy",
                "future frame error of a copy",
                "The same distance where the newest 10 ms of the present frame are repeated: what "
                "needs no learning.",
                "distance",
            ),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "FutureFramesTask":
        del resources
        return FutureFramesTask(self, model)

    def frames_needed(self) -> tuple[int, str]:
        return (self.ahead or 2) + 1, f"{NAME}.ahead"


class FutureFramesTask(PretextTask):
    """A linear head on the causal context, mean absolute error."""

    name = NAME
    title = "prediction of future frames"
    needs = Needs(views=(CLEAN,), causal=True)
    called_methods = ("predict",)

    def __init__(self, config: FutureFramesConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.ahead = checked_ahead(NAME, config.ahead, model.config, "logmel")
        hops = model.config.hop_samples // round(HOP_S * model.config.sample_rate)
        self.head = nn.Linear(model.config.context.dim, FEATURE_DIMS["logmel"] * hops)

    def counts(self, x: Inputs) -> dict[str, int]:
        return {f"{NAME}_pairs": num_pairs(x.frames, self.ahead)}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss over all frames that have one `ahead` of them, summed."""
        now, then = pairs(x.frames, self.ahead, x.num_frames)
        features = x.features("logmel")
        target = take(features, then)  # (P, F)
        predicted = self.predict(take(x.encode(CLEAN).context, now))
        total = (predicted - target).abs().mean(1).sum()
        metrics = {
            f"{NAME}/chance": _mean_distance(target),
            f"{NAME}/copy": _mean_distance(target - newest_repeated(take(features, now))),
        }
        term = LossTerm(total, f"{NAME}_pairs", self.config.weight)
        return TaskLoss({NAME: term}, metrics)

    def predict(self, context: Tensor) -> Tensor:
        """(..., D) -> (..., F) float32 whatever the autocast: the features `ahead` frames later."""
        with torch.autocast(context.device.type, enabled=False):
            return self.head(context.float())

    @torch.no_grad()
    def panels(self, x: Inputs) -> tuple[Panel, ...]:
        """The predicted spectrogram, each frame at its own time; the first ones are not known."""
        predicted = self.predict(x.encode(CLEAN).context[0])  # (T, F)
        num = len(predicted)
        shown = torch.cat([predicted.new_zeros(self.ahead, predicted.shape[1]), predicted])[:num]
        ms = 1000 * self.ahead * x.model.hop_s
        note = f"Each frame from what is over {ms:g} ms before it."
        return (Panel("Predicted", note, rebuilt_log_mels(x, shown)),)


def newest_repeated(frames: Tensor) -> Tensor:
    """(P, F) frames of several hops of 10 ms -> the last hop of each, repeated for every hop."""
    num_hops = frames.shape[1] // NUM_MELS
    return frames[:, -NUM_MELS:].repeat(1, num_hops)


def _mean_distance(values: Tensor) -> Tensor:
    """The mean absolute value; 0 of nothing."""
    return values.abs().mean() if len(values) else values.sum()
