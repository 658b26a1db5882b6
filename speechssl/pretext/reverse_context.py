"""Reverse context: what was said so far must tell what remains, listened to from its end.

Self-GenomeNet (Gündüz et al. 2023, "A self-supervised deep learning method for data-efficient
training in genomics", Communications Biology 6:928, figure 1): one causal network runs over a
sequence and over its reverse. Its output c_t after the first t frames, through a linear predictor
W, must tell the output r_u after the u last frames, read from the end, among candidates; and r_u
must tell c_t through the same predictor. u = T - g - t, with a gap of g frames. In nats, with
temperature k:

    L(c_t -> r_u) = -log(exp(cos(W c_t, r_u) / k) / sum over candidates r of exp(cos(W c_t, r) / k))

The candidates are r_u itself; the outputs of every other utterance of the micro-batch after as many
(u) frames from its end, where it has them; and those of the same utterance at its other cut points.
So the loss contrasts the utterances of a micro-batch with each other, as published: k micro-batches
are not one large batch but k times as many comparisons among fewer candidates.

Adapted to speech:

- A genome's second strand is read in reverse and complemented; speech has only the reverse.
- Other cut points of the utterance are candidates too. Other utterances are mostly told apart by
  speaker and room; what is said decides at which of its own frames an utterance was cut.
- Candidates of other utterances have the duration of the true one (in the published code, too):
  how much time has passed tells nothing. It can tell the own cut points, whence `length_chance`,
  the loss of a model that knows durations alone.
- A few cut points are drawn for each utterance, one in each equal part of it, instead of all:
  those 20 ms apart are nearly the same question.
- The gap covers the filters of the encoder, so that no sample is seen from both sides, and further
  frames, since a phone that lasts across the cut would give the answer. These cover also what the
  distortions' filters, which are zero-phase, carry over the cut (some 25 ms).
- Forward the network runs over the distorted wave, in reverse over the clean one: the same noise on
  both sides would tell which utterance it is (of past and future only one distorted:
  arXiv:2007.00991).
- Cosines over a temperature, as in wav2vec 2.0, instead of products.

Shapes: B batch, T frames, D width, K cut points of an utterance, N cuts of the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.config.bounds import Count, Positive, Whole, check_fields
from speechssl.device import send
from speechssl.model.config import FilterbankEncoderConfig, ModelConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.info_nce import accuracy, chance, info_nce
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
from speechssl.shapes import receptive_field

NAME = "reverse_context"
PAIRS = f"{NAME}_pairs"
FORWARD = View("distorted", None)
REVERSE = View("clean", None, order="reverse")


@dataclass(frozen=True)
class ReverseContextConfig(TaskConfig):
    """The remaining part of an utterance, read from its end, told from others (InfoNCE)."""

    name: ClassVar[str] = NAME
    num_cuts: Count = 4
    """K, cut points of an utterance, one in each equal part of it."""
    least_frames: Count = 5
    """Frames that each side of a cut has, at least."""
    gap: Whole = 2
    """Frames left out at the cut, beside those that the encoder's filters reach over."""
    temperature: Positive = 0.1
    """The cosine similarities are divided by this."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                NAME,
                "reverse context loss",
                "Nats per cut and direction. Dotted: chance. A model that knows only how much time "
                "has passed reaches reverse_context/length_chance, a little below.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="a model that cannot tell the remaining part from the other candidates",
            ),
            Signal(
                f"{NAME}/accuracy",
                "reverse context accuracy",
                "Cuts whose true other side scored highest.",
                "share",
                "higher",
            ),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "ReverseContextTask":
        del resources
        return ReverseContextTask(self, model)


@dataclass(frozen=True)
class Cuts:
    """Where the utterances of a micro-batch are cut, on the host."""

    rows: np.ndarray
    """(N,) int64, the utterance of each cut; those of one follow each other."""
    before: np.ndarray
    """(N,) int64, the frames before the cut."""
    after: np.ndarray
    """(N,) int64, the frames after the cut and its gap."""

    def usable(self, frames: np.ndarray) -> np.ndarray:
        """(2, N) bool, forward and in reverse: whether there is another candidate; frames (B,)."""
        siblings = (self.rows[:, None] == self.rows).sum(1) > 1
        lengths = np.stack([self.after, self.before])
        return siblings | ((frames >= lengths[:, :, None]).sum(2) > 1)


class ReverseContextTask(PretextTask):
    """InfoNCE between both sides of each cut, each read towards it by the same network."""

    name = NAME
    title = "prediction of the remaining part in reverse"
    needs = Needs(views=(FORWARD, REVERSE), causal=True)
    by_utterance = False

    def __init__(self, config: ReverseContextConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.gap = config.gap + filter_gap(model.config)
        self.predict = nn.Linear(model.config.context.dim, model.config.context.dim)

    def cuts(self, x: Inputs) -> Cuts:
        """The cuts of a micro-batch, the same whenever they are asked for."""
        c = self.config
        return draw_cuts(
            x.frames.numpy(), self.gap, c.least_frames, c.num_cuts, lambda row: x.rng_of(NAME, row)
        )

    def counts(self, x: Inputs) -> dict[str, int]:
        return {PAIRS: int(self.cuts(x).usable(x.frames.numpy()).sum())}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss over both directions of all cuts, summed."""
        cuts = self.cuts(x)
        ahead, behind = (x.encode(view).context for view in (FORWARD, REVERSE))  # (B, T, D)
        with torch.autocast(x.device.type, enabled=False):
            ahead, behind = ahead.float(), behind.float()
            logits = torch.cat(
                [
                    self.logits(ahead, cuts.before, behind, cuts.after, cuts.rows, x.frames),
                    self.logits(behind, cuts.after, ahead, cuts.before, cuts.rows, x.frames),
                ]
            )  # (2N, 1 + B + N)
        usable = np.flatnonzero(cuts.usable(x.frames.numpy()))
        logits = logits.index_select(0, send(torch.from_numpy(usable), x.device))
        total = info_nce(logits) if len(logits) else (ahead.sum() + behind.sum()) * 0
        with torch.no_grad():
            metrics = {
                f"{NAME}/accuracy": accuracy(logits),
                f"{NAME}/chance": chance(logits),
                f"{NAME}/length_chance": chance(logits[:, : 1 + len(x.frames)]),
            }
        return TaskLoss({NAME: LossTerm(total, PAIRS, self.config.weight)}, metrics)

    def logits(
        self,
        asking: Tensor,
        asked_after: np.ndarray,
        answering: Tensor,
        answered_after: np.ndarray,
        rows: np.ndarray,
        frames: Tensor,
    ) -> Tensor:
        """The scores of the candidates of each cut, in one direction.

        Args:
            asking, answering: (B, T, D) float32, outputs over the two orders.
            asked_after, answered_after: (N,) frames of each order on its side of the cut.
            rows: (N,) the utterance of each cut.
            frames: (B,) valid frames, on the host.

        Returns:
            (N, 1 + B + N) float32: the true answer; those of each utterance after as many frames;
            those at each cut. -inf: it is the true one, is not there, or is another's cut.
        """
        which, first, last = (
            send(torch.from_numpy(each), asking.device)
            for each in (rows, asked_after, answered_after)
        )
        own = send(frames, asking.device)
        predictions = F.normalize(self.predict(asking[which, first - 1]), dim=1)  # (N, D)
        answers = F.normalize(answering, dim=2)
        true = answers[which, last - 1]  # (N, D)
        everyone = torch.arange(len(frames), device=asking.device)
        there = torch.minimum(last[:, None], own) - 1  # (N, B)
        others = torch.einsum("nd,nbd->nb", predictions, answers[everyone, there])
        others = others.masked_fill(
            (own < last[:, None]) | (everyone == which[:, None]), -torch.inf
        )
        cuts = predictions @ true.T  # (N, N)
        same = (which[:, None] == which).fill_diagonal_(False)
        cuts = cuts.masked_fill(~same, -torch.inf)
        scores = (predictions * true).sum(1, keepdim=True)
        return torch.cat([scores, others, cuts], dim=1) / self.config.temperature


def draw_cuts(
    frames: np.ndarray,
    gap: int,
    least: int,
    num: int,
    rng_of: Callable[[int], np.random.Generator],
) -> Cuts:
    """Where utterances of `frames` (B,) are cut: up to `num` times each, at one place of each equal
    part of those that leave `least` frames on both sides of a gap. What is too short is not cut.
    `rng_of` a row is that utterance's randomness."""
    rows, before = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for row, length in enumerate(frames.tolist()):
        room = length - gap - 2 * least + 1  # possible places
        if room < 1:
            continue
        edges = np.linspace(0, room, min(num, room) + 1).astype(np.int64)
        before.append(least + rng_of(row).integers(edges[:-1], edges[1:]))
        rows.append(np.full(len(before[-1]), row))
    rows_, before_ = np.concatenate(rows), np.concatenate(before)
    return Cuts(rows_, before_, frames[rows_] - gap - before_)


def filter_gap(config: ModelConfig) -> int:
    """The fewest frames between those before a cut and those after it in reverse order, so that no
    sample lies under filters of both."""
    encoder = config.encoder
    if isinstance(encoder, FilterbankEncoderConfig):  # a filter reaches half of it beyond a frame
        return -(-encoder.kernel_samples // config.hop_samples)
    field, hop = receptive_field(encoder.kernels, encoder.strides)
    return max(-(-field // hop) - 1, 0)
