"""`temporal_coherence`: neighbouring segments of an utterance are similar, distant ones are not.

What follows at once is likely to belong together: temporal proximity in arXiv:1711.02209. An
utterance is cut into segments; each one, the anchor, must tell its neighbour p from those at least
`distant` segments away, by the cosine similarity of projected embeddings:

    loss = -log( exp(cos(z_a, z_p) / t) / (exp(cos(z_a, z_p) / t) + sum_n exp(cos(z_a, z_n) / t)) )

This is InfoNCE (arXiv:1807.03748) in place of the paper's triplet loss: it weighs hard negatives by
itself, and needs no margin and no mining. Where all embeddings are the same it is at chance, the
log of the number of candidates, so that collapse is never a minimum; it is watched all the same.

Adapted to speech: negatives are of the anchor's own utterance, not of other recordings, from which
the speaker and the channel alone would tell it; nothing depends on what an utterance is batched
with. There are gaps between neighbours, so that nothing goes on across a cut, and the model sees
each segment alone.

Shapes: B batch, N segments of the batch, P pairs, M negatives of a pair, D width, E width of a
projection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.config.bounds import AtLeast, Count, Positive, check_fields
from speechssl.device import double, send
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.info_nce import info_nce
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
    spread,
    tally_mean,
    tally_short,
)
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import LossTerm, Needs, PretextTask, Resources, TaskConfig, TaskLoss

NAME = "temporal_coherence"
_COUNT = f"{NAME}_pairs"


@dataclass(frozen=True)
class TemporalCoherenceConfig(TaskConfig):
    """Which segments are compared, and how."""

    name: ClassVar[str] = NAME
    segment_s: Positive = 0.32
    """Length of a segment, in seconds; rounded to frames of the model."""
    gap_s: Annotated[float, AtLeast(MIN_GAP_S)] = 0.08
    """The least that lies between two segments, in seconds; rounded up to frames."""
    distant: Annotated[int, AtLeast(2)] = 3
    """From how many segments away on another one is a negative."""
    target_dim: Count = 128
    """E, the width in which segments are compared."""
    temperature: Positive = 0.1
    """The cosine similarities are divided by this."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                NAME,
                "temporal coherence loss",
                "Nats per pair of neighbouring segments. Dotted: chance.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="a model that cannot tell near segments from distant ones",
            ),
            Signal(
                f"{NAME}/accuracy",
                "temporal coherence accuracy",
                "Pairs in which the neighbour was more similar than every distant segment.",
                "share",
                "higher",
            ),
            Signal(
                f"{NAME}/spread",
                "spread of the segments' embeddings",
                "1 less the squared length of the mean of their unit vectors; 0: all are the same.",
                "share",
                "higher",
                collapsed_below=0.01,
                finding="embeddings collapse",
                evidence=f"The embeddings of all segments are the same: their spread is "
                f"{{{NAME}/spread}}, where 1 is even.",
                advice=f"Lower --{NAME.replace('_', '-')}.temperature (now {{{NAME}.temperature}}) "
                "or the learning rate.",
            ),
            short_signal(NAME),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "TemporalCoherenceTask":
        del resources
        return TemporalCoherenceTask(self, model)


class TemporalCoherenceTask(PretextTask):
    """InfoNCE of the next segment among distant ones."""

    name = NAME
    title = "temporal coherence of segments"
    needs = Needs(views=())

    def __init__(self, config: TemporalCoherenceConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.length = frames_of(config.segment_s, model.config)
        self.gap = gap_frames(config.gap_s, model.config)
        self.project = nn.Linear(model.config.context.dim, config.target_dim)

    def num_segments(self, frames: Tensor) -> list[int]:
        """(B,) frames -> how many segments each utterance is cut into: as many as fit, none where
        no two of them are distant."""
        nums = (frames + self.gap) // (self.length + self.gap)
        found: list[int] = (nums * (nums > self.config.distant)).tolist()
        return found

    def counts(self, x: Inputs) -> dict[str, int]:
        return {_COUNT: len(neighbours(self.num_segments(x.frames), self.config.distant)[0])}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss of each pair, summed."""
        drawn = self.draw(x.frames, partial(x.rng_of, f"{NAME} segments"))
        pairs, negatives = neighbours(self.num_segments(x.frames), self.config.distant)
        projected = self.compare(embed(x, drawn.or_first())[:, 0])  # (N, E)
        at, others = (send(torch.from_numpy(a), projected.device) for a in (pairs, negatives))
        logits = neighbour_logits(projected, at, others) / self.config.temperature  # (P, 1 + M)
        total = info_nce(logits) + projected.sum() * 0
        with torch.no_grad():
            right = (logits[:, 0] > logits[:, 1:].amax(1)).float()
            chance = torch.isfinite(logits).sum(1).float().log()
            mean = torch.cat([projected.sum(0), torch.full_like(projected[0, :1], len(projected))])
        num = len(pairs)
        tallies = {
            f"{NAME}/accuracy": tally_mean(right, num),
            f"{NAME}/chance": tally_mean(chance, num),
            f"{NAME}/spread": double(mean) * min(len(drawn), 1),
            f"{NAME}/too_short": tally_short(x.frames, self.fewest_frames),
        }
        return TaskLoss({NAME: LossTerm(total, _COUNT, self.config.weight)}, tallies=tallies)

    @property
    def fewest_frames(self) -> int:
        """Frames of the shortest utterance with a pair."""
        return (self.config.distant + 1) * (self.length + self.gap) - self.gap

    def draw(self, frames: Tensor, rng_of: RngOf) -> Windows:
        """All segments of the utterances, a window each, in their order."""
        starts = [np.zeros(0, np.int64)]
        nums = self.num_segments(frames)
        for row, (total, num) in enumerate(zip(frames.tolist(), nums, strict=True)):
            if num:
                starts.append(spread(total, num, self.length, self.gap, rng_of(row)))
        rows = np.repeat(np.arange(len(nums)), nums)
        return Windows(rows, np.concatenate(starts)[:, None], self.length)

    def compare(self, embedded: Tensor) -> Tensor:
        """(N, D) -> (N, E) float32 of length 1."""
        with torch.autocast(embedded.device.type, enabled=False):
            return F.normalize(self.project(embedded), dim=1)

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """Chance, accuracy, the spread, and the share of utterances that are too short."""
        total = tallies[f"{NAME}/spread"]
        mean = total[:-1] / total[-1].clamp_min(1)
        means = {n: mean_of(tally) for n, tally in tallies.items() if n != f"{NAME}/spread"}
        return {**means, f"{NAME}/spread": float(1 - mean.square().sum())}


def neighbours(nums: Sequence[int], distant: int) -> tuple[np.ndarray, np.ndarray]:
    """Which segments are compared, as indices into those of all utterances, one after the other.

    Args:
        nums: segments of each utterance.
        distant: from how many segments away on another one is a negative.

    Returns:
        (P, 2) int64, anchor and neighbour, of each anchor that has a negative; (P, M) int64, its
        negatives, -1 = none.
    """
    pairs: list[tuple[int, int]] = []
    negatives: list[list[int]] = []
    offset = 0
    for num in nums:
        for anchor in range(num):
            far = [offset + i for i in range(num) if abs(i - anchor) >= distant]
            for other in (anchor - 1, anchor + 1):
                if far and 0 <= other < num:
                    pairs.append((offset + anchor, offset + other))
                    negatives.append(far)
        offset += num
    most = max(map(len, negatives), default=1)
    padded = [far + [-1] * (most - len(far)) for far in negatives]
    return (
        np.array(pairs, np.int64).reshape(-1, 2),
        np.array(padded, np.int64).reshape(-1, most),
    )


def neighbour_logits(projected: Tensor, pairs: Tensor, negatives: Tensor) -> Tensor:
    """Similarities of each anchor with its neighbour, then with its negatives.

    Args:
        projected: (N, E) float32 of length 1.
        pairs: (P, 2) int64, negatives: (P, M) int64, -1 = none.

    Returns:
        (P, 1 + M) float32; -inf where there is no negative.
    """
    with torch.autocast(projected.device.type, enabled=False):
        anchors = projected[pairs[:, 0]]  # (P, E)
        right = (anchors * projected[pairs[:, 1]]).sum(1, keepdim=True)
        scores = (projected @ projected.T)[pairs[:, 0]]  # (P, N)
        wrong = scores.gather(1, negatives.clamp_min(0)).masked_fill(negatives < 0, -torch.inf)
        return torch.cat([right, wrong], dim=1)
