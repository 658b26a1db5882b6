"""`jigsaw`: the order of the shuffled pieces of an utterance.

Jigsaw puzzles (arXiv:1603.09246, section 3; on spectrograms arXiv:2103.09879): K pieces, cut one
after the other, are shuffled, the model sees each alone, and from their embeddings e_1 ... e_K the
order is chosen among all K!:

    score(order) = sum over i < j of g_{j-i}(e_order(i), e_order(j)),    loss = -log softmax(score)

where g_d tells how well one piece stands d places before another. Pairs as the features of an order
are those of arXiv:1708.01246, section 3; added up over an order they need no class of its own for
each, so that what is learned of one order holds for all, and the loss does not depend on how the
pieces were shuffled.

As the first paper says of images, the order must not be readable from edges or from what drifts
slowly. Adapted to speech: there are gaps of random length between the pieces, longer than what
stays the same from one sample to another; both ends of a piece are faded, so that its first and
last samples are zero in all of them; and encoders that normalise over time do so over each piece,
which takes away its level. Pieces are about a syllable or two long, and lie within about two
seconds, so that the order is that of words and phrases, not of the utterance.

Shapes: W windows, K pieces, O = K! orders, D width, H hidden width.
"""

import itertools
import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.config.bounds import Between, Count, Interval, NotNegative, Positive, check_fields
from speechssl.device import send
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.segments import (
    MIN_GAP_S,
    RngOf,
    WindowShape,
    embed,
    frames_of,
    gap_frames,
    mean_of,
    segment_samples,
    short_signal,
    tally_mean,
    tally_short,
)
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import LossTerm, Needs, PretextTask, Resources, TaskConfig, TaskLoss

NAME = "jigsaw"
_COUNT = f"{NAME}_windows"


@dataclass(frozen=True)
class JigsawConfig(TaskConfig):
    """How an utterance is cut into pieces."""

    name: ClassVar[str] = NAME
    pieces: Annotated[int, Between(2, 6)] = 4
    """K, pieces of a puzzle; it has K! orders."""
    segment_s: Positive = 0.32
    """Length of a piece, in seconds; rounded to frames of the model."""
    gap_s: Annotated[tuple[float, float], Interval(MIN_GAP_S, 60)] = (0.08, 0.24)
    """Left out between two pieces, in seconds: each gap is drawn between these two."""
    fade_s: Annotated[float, NotNegative()] = 0.01
    """Both ends of a piece rise from and fall to zero over so many seconds."""
    hidden_dim: Count = 256
    """Width of the hidden layer in which two pieces are compared."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)
        if 2 * self.fade_s > self.segment_s:
            raise ValueError(
                f"{NAME}.fade_s must be at most half of {NAME}.segment_s ({self.segment_s:g}), got "
                f"{self.fade_s:g}."
            )

    @property
    def signals(self) -> tuple[Signal, ...]:
        orders = math.factorial(self.pieces)
        return (
            Signal(
                NAME,
                "jigsaw loss",
                f"Nats per puzzle of {self.pieces} pieces. Dotted: chance, ln {orders}.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="a model that cannot tell one order from another",
            ),
            Signal(
                f"{NAME}/accuracy",
                "jigsaw accuracy",
                f"Puzzles whose pieces are all in their places; chance is {100 / orders:.2g} %.",
                "share",
                "higher",
            ),
            short_signal(NAME),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "JigsawTask":
        del resources
        return JigsawTask(self, model)


class JigsawTask(PretextTask):
    """Cross-entropy over all orders of the pieces."""

    name = NAME
    title = "jigsaw puzzles of segments"
    needs = Needs(views=())

    def __init__(self, config: JigsawConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        least, most = (gap_frames(gap, model.config) for gap in config.gap_s)
        length = frames_of(config.segment_s, model.config)
        self.shape = WindowShape(config.pieces, length, (least, most))
        most_fade = segment_samples(length, model) // 2
        self.fade = min(round(config.fade_s * model.config.sample_rate), most_fade)
        self.orders = all_orders(config.pieces)  # (O, K)
        self.head = OrderHead(model.config.context.dim, config.hidden_dim, self.orders)

    def counts(self, x: Inputs) -> dict[str, int]:
        return {_COUNT: self.shape.count(x.frames)}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss of each puzzle, summed."""
        drawn = self.shape.draw(x.frames, partial(x.rng_of, f"{NAME} windows"))
        answers = draw_answers(drawn.rows, len(self.orders), partial(x.rng_of, f"{NAME} orders"))
        shuffled = drawn.only(np.argsort(self.orders[answers], axis=1))
        windows, num = shuffled.or_first(), len(drawn)
        logits = self.head(embed(x, windows, fade=self.fade))[:num]  # (W, O)
        target = send(torch.from_numpy(answers), logits.device)
        total = F.cross_entropy(logits, target, reduction="sum")
        right = (logits.detach().argmax(1) == target).float()
        tallies = {
            f"{NAME}/accuracy": tally_mean(right, num),
            f"{NAME}/too_short": tally_short(x.frames, self.shape.span),
        }
        metrics = {f"{NAME}/chance": torch.tensor(math.log(len(self.orders)))}
        return TaskLoss({NAME: LossTerm(total, _COUNT, self.config.weight)}, metrics, tallies)

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """The accuracy, and the share of utterances that are too short."""
        return {name: mean_of(tally) for name, tally in tallies.items()}


class OrderHead(nn.Module):
    """A score for each order of some pieces, from scores of pairs."""

    places: Tensor

    def __init__(self, dim: int, hidden_dim: int, orders: np.ndarray) -> None:
        """`orders`: (O, K) from :func:`all_orders`."""
        super().__init__()
        self.first = nn.Linear(dim, hidden_dim)
        self.second = nn.Linear(dim, hidden_dim, bias=False)
        self.out = nn.Linear(hidden_dim, orders.shape[1] - 1)
        self.register_buffer("places", torch.from_numpy(pair_places(orders)), persistent=False)

    def forward(self, embedded: Tensor) -> Tensor:
        """(W, K, D) -> (W, O) float32."""
        with torch.autocast(embedded.device.type, enabled=False):
            first, second = self.first(embedded), self.second(embedded)  # (W, K, H)
            pairs = F.gelu(first[:, :, None] + second[:, None])  # (W, K, K, H)
            scores: Tensor = self.out(pairs).flatten(1) @ self.places.T  # (W, O)
            return scores


def draw_answers(rows: np.ndarray, num_orders: int, rng_of: RngOf) -> np.ndarray:
    """(W,) utterance of each window, ascending -> (W,) int64: the order of its pieces, uniform."""
    each, nums = np.unique(rows, return_counts=True)
    drawn = [rng_of(row).integers(0, num_orders, num) for row, num in zip(each, nums, strict=True)]
    return np.concatenate([np.zeros(0, np.int64), *drawn])


def all_orders(num: int) -> np.ndarray:
    """(num!, num) int64: in row o, ``[o, i]`` is the piece that stands at place i."""
    return np.array(list(itertools.permutations(range(num))), np.int64)


def pair_places(orders: np.ndarray) -> np.ndarray:
    """(O, K) -> (O, K * K * (K - 1)) float32: 1 where the order has piece a so many places (the
    last axis: 1 to K - 1) before piece b."""
    num_orders, num = orders.shape
    places = np.zeros((num_orders, num, num, num - 1), np.float32)
    each = np.arange(num_orders)
    for i, j in itertools.combinations(range(num), 2):
        places[each, orders[:, i], orders[:, j], j - i - 1] = 1
    return places.reshape(num_orders, -1)
