"""`temporal_gap`: how far apart two segments of an utterance are.

TemporalGap of arXiv:1905.11796, section 3: from the embeddings of two segments, concatenated, a
hidden layer predicts their distance as a share of the largest possible one,

    y = (d - d_least) / (d_most - d_least),    loss = KL(y || sigmoid(head([e_1, e_2])))

with d the frames between the starts. y is uniform in [0, 1], the order of the two is drawn.

The loss is the paper's cross-entropy less the entropy of y, which changes no gradient and makes 0
the loss of a perfect model. It is taken in place of a square error, since its gradient does not
vanish where the sigmoid is saturated on the wrong side. The best constant guess, the mean of y, has
a loss of H(mean y) - mean H(y), about 0.19 nats.

Adapted to speech: the encoder is the speech model over the wave of each segment alone, averaged
over time. Utterances differ in length, so the distance is relative to each utterance's own length,
which is what falling pitch and level tell of (a phrase of any length falls about as far). Two
segments never overlap, as those of the paper may: matching the overlap would be easier than
anything that is to be learned. An utterance shorter than four segments with their gaps gives
nothing: its distances hardly differ.

Shapes: B batch, P pairs, D width.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.config.bounds import AtLeast, Count, Positive, check_fields
from speechssl.device import send
from speechssl.model.heads import ReconstructionHead
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.segments import (
    MIN_GAP_S,
    RngOf,
    Windows,
    embed,
    frames_of,
    gap_frames,
    mean_of,
    short_signal,
    tally_mean,
    tally_short,
)
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import LossTerm, Needs, PretextTask, Resources, TaskConfig, TaskLoss

NAME = "temporal_gap"
_COUNT = f"{NAME}_pairs"


@dataclass(frozen=True)
class TemporalGapConfig(TaskConfig):
    """Which pairs of segments are compared."""

    name: ClassVar[str] = NAME
    segment_s: Positive = 0.4
    """Length of a segment, in seconds; rounded to frames of the model."""
    gap_s: Annotated[float, AtLeast(MIN_GAP_S)] = 0.08
    """The least that lies between two segments, in seconds; rounded up to frames."""
    hidden_dim: Count = 64
    """Width of the head's hidden layer."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                NAME,
                "temporal gap loss",
                "Nats per pair of segments, 0 for a perfect model. Dotted: chance.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="the best constant guess",
            ),
            Signal(
                f"{NAME}/error",
                "error of the gap",
                "Mean distance of the predicted gap from the true one, as a share of the largest "
                "possible one; always guessing the middle has 25 %.",
                "share",
            ),
            short_signal(NAME),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "TemporalGapTask":
        del resources
        return TemporalGapTask(self, model)


class TemporalGapTask(PretextTask):
    """Cross-entropy of the relative distance of two segments."""

    name = NAME
    title = "temporal gap between two segments"
    needs = Needs(views=())

    def __init__(self, config: TemporalGapConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.length = frames_of(config.segment_s, model.config)
        self.gap = gap_frames(config.gap_s, model.config)
        self.head = ReconstructionHead(2 * model.config.context.dim, config.hidden_dim, 1)

    def counts(self, x: Inputs) -> dict[str, int]:
        return {_COUNT: int(num_pairs(x.frames, self.length, self.gap).sum())}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss of each pair, summed."""
        drawn, gaps = draw_pairs(
            x.frames, self.length, self.gap, partial(x.rng_of, f"{NAME} pairs")
        )
        windows, num = drawn.or_first(), len(drawn)
        logits = self.predict(embed(x, windows))[:num]  # (P,)
        target = send(torch.from_numpy(gaps), logits.device)  # (P,)
        entropy = bernoulli_entropy(target)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") - entropy
        total = loss.sum()
        error = (logits.detach().sigmoid() - target).abs()
        tallies = {
            f"{NAME}/target": tally_mean(target, num),
            f"{NAME}/entropy": tally_mean(entropy, num),
            f"{NAME}/error": tally_mean(error, num),
            f"{NAME}/too_short": tally_short(x.frames, fewest_frames(self.length, self.gap)),
        }
        return TaskLoss({NAME: LossTerm(total, _COUNT, self.config.weight)}, tallies=tallies)

    def predict(self, embedded: Tensor) -> Tensor:
        """(P, 2, D) -> (P,) float32: log-odds of the relative distance."""
        with torch.autocast(embedded.device.type, enabled=False):
            logits: Tensor = self.head(embedded.flatten(1))[:, 0]
            return logits

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """The loss of the best constant guess, the mean error, and the share of utterances that
        are too short."""
        means = {name: mean_of(tally) for name, tally in tallies.items()}
        guess = torch.tensor(means.pop(f"{NAME}/target"), dtype=torch.float64)
        chance = float(bernoulli_entropy(guess)) - means.pop(f"{NAME}/entropy")
        return {f"{NAME}/chance": chance, **means}


def bernoulli_entropy(probability: Tensor) -> Tensor:
    """Entropy in nats of a variable that is 1 with this probability; any shape."""
    return torch.special.entr(probability) + torch.special.entr(1 - probability)


def fewest_frames(length: int, gap: int) -> int:
    """Frames of the shortest utterance that gives pairs."""
    return 4 * (length + gap)


def num_pairs(frames: Tensor, length: int, gap: int) -> Tensor:
    """(B,) frames -> (B,): as many pairs as fit side by side into each utterance."""
    pairs = frames // (2 * (length + gap))
    return pairs * (frames >= fewest_frames(length, gap))


def draw_pairs(frames: Tensor, length: int, gap: int, rng_of: RngOf) -> tuple[Windows, np.ndarray]:
    """Random pairs of segments of `length` frames, at least `gap` apart.

    Returns:
        The pairs, in random order, and (P,) float32 in [0, 1], their relative distances. Each
        distance in frames is equally likely, and so is each place of a pair at that distance.
    """
    rows: list[int] = []
    starts, gaps = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    nums = num_pairs(frames, length, gap).tolist()
    for row, (total, num) in enumerate(zip(frames.tolist(), nums, strict=True)):
        if not num:
            continue
        rng = rng_of(row)
        least, most = length + gap, total - length
        distance = rng.integers(least, most + 1, num)
        first = rng.integers(0, most - distance + 1)
        pair = np.stack([first, first + distance], axis=1)  # (num, 2)
        rows += [row] * num
        starts.append(rng.permuted(pair, axis=1))
        gaps.append((distance - least) / (most - least))
    windows = Windows(np.array(rows, np.int64), np.concatenate(starts), length)
    return windows, np.concatenate(gaps).astype(np.float32)
