"""Speech and text in one space: CLIP's idea with utterances and what is written beside them.

A vector is made of each utterance and one of each text, and of all texts of a micro-batch the right
one is told from the others, and the other way round (arXiv:2103.00020, section 2.3). Afterwards a
recording is found by a text, or labels by a recording, that were never trained as classes. The text
may be the transcript or a translation.

    s_ij = exp(t) <f(speech_i), g(text_j)>,  both of unit length
    loss = 1/2 mean_i [-log softmax_j(s)_ii] + 1/2 mean_i [-log softmax_j(s^T)_ii]

Adapted to speech. The context's frames go through a hidden layer and are averaged, as in
contrastive speech translation (arXiv:2205.02444), where CLIP has one token for an
image. The text encoder is small and reads characters, as a language with few hours of speech has
no large one. Corpora say the same thing many times: pairs of the same text are positives of each
other and not negatives (arXiv:2204.03610). The temperature is learned, starts at 0.07 and 1 /
temperature is held below 100 (section 2.5).

The negatives are the other utterances of the micro-batch, so that the loss of an utterance depends
on its neighbours; k micro-batches are k smaller sets of candidates, whose losses are averaged over
their pairs, and not one large set. The same holds for processes. An utterance without text, and a
micro-batch with fewer than two texts, add nothing.

Shapes: B batch, N pairs, U distinct texts, T frames, E width of the common space.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.config.bounds import Between, Count, Weight, check_fields
from speechssl.device import double, send
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.pairs import (
    KS,
    SpeechPooling,
    TextEncoder,
    distinct,
    pad_ids,
    retrieval,
    symmetric_info_nce,
)
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
from speechssl.text import Tokenizer, normalize

NAME = "speech_text"
MAX_SCALE = 100.0
"""The largest factor on the cosine similarities (arXiv:2103.00020, section 2.5)."""


@dataclass(frozen=True)
class SpeechTextConfig(TaskConfig):
    """How speech and text are compared."""

    name: ClassVar[str] = NAME
    uses_text: ClassVar[bool] = True
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    dim: Count = 256
    """E, the width of the space that speech and text share."""
    text_dim: Count = 192
    """Width of the text encoder."""
    text_kernel: Count = 5
    """Characters that each of its two convolutions sees; an odd number."""
    temperature: Annotated[float, Between(0.01, 1)] = 0.07
    """The cosine similarities are divided by this at first; then it is learned."""
    mask: bool = False
    """Whether the utterance is masked as for the run's other tasks, whose forward pass then serves
    this one too, in half the time. Validation is not masked."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)
        if self.text_kernel % 2 == 0:
            raise ValueError(f"{NAME}.text_kernel must be odd, got {self.text_kernel}.")

    @property
    def signals(self) -> tuple[Signal, ...]:
        ways = (
            ("find_speech", "recordings found by text", "Texts whose recording is"),
            ("find_text", "texts found by recording", "Recordings whose text is"),
        )
        return (
            Signal(
                NAME,
                "speech-text loss",
                "Nats per pair. Dotted: chance, the log of the pairs in a micro-batch.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="a model that cannot tell which text belongs to which utterance",
            ),
            *(
                Signal(
                    f"{NAME}/{way}_at_{k}",
                    f"{title} (recall at {k})",
                    f"{hint} among the {k} best of the validation set."
                    if k > 1
                    else f"{hint} the best of the validation set.",
                    "share",
                    "higher",
                    chance=f"{NAME}/{way}_at_{k}_chance",
                    chance_of="a random order",
                    in_overview=k != 5,
                )
                for way, title, hint in ways
                for k in KS
            ),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "SpeechTextTask":
        assert resources.tokenizer is not None  # it uses text
        return SpeechTextTask(self, model.config.context.dim, resources.tokenizer)


class SpeechTextTask(PretextTask):
    """InfoNCE between utterances and texts, both ways."""

    name = NAME
    title = "speech and text in one space"
    by_utterance = False

    def __init__(self, config: SpeechTextConfig, width: int, tokenizer: Tokenizer) -> None:
        """`width` of the context."""
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.view = View(mask="run" if config.mask else None)
        self.needs = Needs(views=(self.view,))
        self.text_encoder = TextEncoder(
            tokenizer.vocab_size, config.text_dim, config.text_kernel, config.dim
        )
        self.speech_pooling = SpeechPooling(width, config.dim)
        self.log_scale = nn.Parameter(torch.tensor([-math.log(config.temperature)]))

    @torch.no_grad()
    def before_update(self, step: int, max_steps: int, model: SpeechModel) -> None:
        """Hold the factor on the similarities below :data:`MAX_SCALE`."""
        del step, max_steps, model
        self.log_scale.clamp_(max=math.log(MAX_SCALE))

    def of_texts(self, texts: list[str]) -> Tensor:
        """(N, E) float32 of unit length, of texts that are not empty."""
        ids, lengths = pad_ids([self.tokenizer.encode(text) for text in texts])
        device = self.log_scale.device
        with torch.autocast(device.type, enabled=False):
            vectors = self.text_encoder(send(ids, device), send(lengths, device))
            return F.normalize(vectors, dim=1)

    def of_speech(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Context (N, T, D), (N,) valid frames -> (N, E) float32 of unit length."""
        with torch.autocast(frames.device.type, enabled=False):
            return F.normalize(self.speech_pooling(frames.float(), lengths), dim=1)

    def _pairs(self, x: Inputs) -> tuple[list[int], list[str]]:
        """The rows with a text, and their texts; none where there is nothing to tell apart."""
        texts = {row: normalize(text, "none") for row, text in enumerate(x.texts)}
        pairs = {row: text for row, text in texts.items() if text}
        if len(set(pairs.values())) < 2:
            return [], []
        return list(pairs), list(pairs.values())

    def counts(self, x: Inputs) -> dict[str, int]:
        return {f"{NAME}_pairs": len(self._pairs(x)[0])}

    def forward(self, x: Inputs) -> TaskLoss:
        rows, texts = self._pairs(x)
        output = x.encode(self.view if self.training else View(mask=None))
        if not rows:
            return TaskLoss({NAME: self._term(self._nothing(output.context))})
        words, of_each = distinct(texts)
        index, places = (send(torch.tensor(n), x.device) for n in (rows, of_each))  # (N,) each
        speech = self.of_speech(output.context[index], output.lengths[index])  # (N, E)
        text = self.of_texts(words)  # (U, E)
        with torch.autocast(x.device.type, enabled=False):
            logits = self.log_scale.float().exp() * (speech @ text.T)  # (N, U)
            total = symmetric_info_nce(logits, places)
        right = (logits.argmax(1) == places).float().mean()
        metrics = {
            f"{NAME}/accuracy": right.detach(),
            f"{NAME}/chance": logits.new_tensor(math.log(len(rows))),
            f"{NAME}/temperature": (-self.log_scale.detach()).exp()[0],
        }
        gathered = {}
        if not self.training:
            keys = torch.tensor([key_of(word) for word in words], device=x.device)  # (U,)
            gathered = {
                f"{NAME}/speech": speech.detach(),
                f"{NAME}/texts": text.detach()[places],
                f"{NAME}/keys": keys[places],
                f"{NAME}/candidates": torch.full_like(places, len(rows)),
            }
        return TaskLoss({NAME: self._term(total)}, metrics, gathered=gathered)

    def _term(self, total: Tensor) -> LossTerm:
        return LossTerm(total, f"{NAME}_pairs", self.config.weight)

    def _nothing(self, context: Tensor) -> Tensor:
        """A zero that depends on all weights."""
        return context.float().sum() * 0 + sum(p.float().sum() for p in self.parameters()) * 0

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """Recall@1, 5 and 10 over all pairs of the validation, both ways, with chance lines; of one
        text that several utterances have each counts as found."""
        speech, texts = tallies[f"{NAME}/speech"], tallies[f"{NAME}/texts"]  # (N, E) each
        _, of_each = distinct([str(key) for key in tallies[f"{NAME}/keys"].tolist()])
        first = {place: row for row, place in reversed(list(enumerate(of_each)))}
        chosen = [first[place] for place in range(len(first))]  # (U,)
        found = retrieval(speech, texts[chosen], torch.tensor(of_each, device=speech.device))
        chance = float(double(tallies[f"{NAME}/candidates"]).log().mean())
        return {f"{NAME}/{name}": value for name, value in found.items()} | {
            f"{NAME}/chance": chance
        }

    @property
    def heads_for_use(self) -> nn.Module:
        """Both encoders, with which recordings are searched."""
        return self


def key_of(text: str) -> int:
    """A number for a text, the same in every batch: 63 bits of a digest."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
