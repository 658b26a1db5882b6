"""Audio2Vec: word2vec on slices of a spectrogram (arXiv:1905.11796, section 3).

Slices of equal length are cut from an utterance one after the other, P before and P after one in
the middle, with a gap between them. `cbow` predicts the log-mel spectrogram of the middle slice
from the embeddings of those around it, `skip_gram` those around from the one in the middle:

    loss = mean of (decoder(e_given, concatenated) - logmel_wanted)^2

The gap is the paper's: without it the decoder could continue what it sees at the edge of a slice.

Adapted to speech: the encoder is the speech model over the wave of each slice alone, averaged over
time, in place of a convolutional network over a slice of the spectrogram; the decoder has one
hidden layer. The input may be distorted, the target is of the clean wave. Slices are some syllables
long, since those in the middle of a second of speech are hardly tied to its ends. The target is
normalised over the utterance, so that the mean of each band, which needs no input, has an error of
about 1.

Shapes: W windows, N slices given, M wanted, L frames of a slice, F mel values of a frame, D width.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from speechssl.config.bounds import AtLeast, Between, Count, Positive, check_fields
from speechssl.model.heads import ReconstructionHead
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import FEATURE_DIMS, HOP_S
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.segments import (
    MIN_GAP_S,
    WindowShape,
    embed,
    frames_of,
    gap_frames,
    mean_of,
    short_signal,
    slices,
    tally_mean,
    tally_short,
)
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import LossTerm, Needs, PretextTask, TaskConfig, TaskLoss


@dataclass(frozen=True)
class SlicesConfig(TaskConfig):
    """What `cbow` and `skip_gram` have in common."""

    segment_s: Positive = 0.32
    """Length of a slice, in seconds; rounded to frames of the model."""
    gap_s: Annotated[float, AtLeast(MIN_GAP_S)] = 0.08
    """Left out between two slices, in seconds; rounded up to frames."""
    neighbours: Annotated[int, Between(1, 8)] = 2
    """P, slices on each side of the one in the middle."""
    hidden_dim: Count = 512
    """Width of the decoder's hidden layer."""

    guessed: ClassVar[str]
    """What is predicted, for a person."""

    def __post_init__(self) -> None:
        check_fields(self, self.name)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                self.name,
                f"error of {self.guessed}",
                "Mean square, of log-mel values with unit variance. Dotted: the error of the mean.",
                "distance",
                training=f"loss/{self.name}",
                chance=f"{self.name}/chance",
                chance_of="the mean of each band over the utterance",
                worst_ratio=2.0,
            ),
            short_signal(self.name),
        )


class Audio2VecTask(PretextTask):
    """Embeddings of some slices of a window, concatenated -> log-mel of the others."""

    needs = Needs(views=())

    def __init__(
        self, config: SlicesConfig, model: SpeechModel, title: str, given: list[int]
    ) -> None:
        """`given`: which of the 2 P + 1 slices the model sees; the others are wanted."""
        super().__init__()
        self.config, self.name, self.title = config, config.name, title
        num = 2 * config.neighbours + 1
        gap = gap_frames(config.gap_s, model.config)
        length = frames_of(config.segment_s, model.config)
        self.shape = WindowShape(num, length, (gap, gap))
        self._given = np.array(given)
        self._wanted = np.setdiff1d(np.arange(num), self._given)
        hops = model.config.hop_samples // round(HOP_S * model.config.sample_rate)
        self.decoder = ReconstructionHead(
            len(self._given) * model.config.context.dim,
            config.hidden_dim,
            len(self._wanted) * length * FEATURE_DIMS["logmel"] * hops,
        )

    def counts(self, x: Inputs) -> dict[str, int]:
        return {f"{self.name}_windows": self.shape.count(x.frames)}

    def forward(self, x: Inputs) -> TaskLoss:
        """The mean square error of each window, summed."""
        drawn = self.shape.draw(x.frames, partial(x.rng_of, f"{self.name} windows"))
        windows, num = drawn.or_first(), len(drawn)
        given = embed(x, windows.only(self._given))  # (W, N, D)
        target = slices(x.features("logmel"), windows.only(self._wanted))  # (W, M, L, F)
        error = (self.decode(given) - target.flatten(1)).square().mean(1)  # (W,)
        total = error.sum() * min(num, 1)
        name = self.name
        tallies = {
            f"{name}/chance": tally_mean(target.flatten(1).square().mean(1), num),
            f"{name}/too_short": tally_short(x.frames, self.shape.span),
        }
        terms = {name: LossTerm(total, f"{name}_windows", self.config.weight)}
        return TaskLoss(terms, tallies=tallies)

    def decode(self, given: Tensor) -> Tensor:
        """(W, N, D) -> (W, M * L * F) float32."""
        with torch.autocast(given.device.type, enabled=False):
            decoded: Tensor = self.decoder(given.flatten(1))
            return decoded

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """The error of the mean, and the share of utterances that are too short."""
        return {name: mean_of(tally) for name, tally in tallies.items()}
