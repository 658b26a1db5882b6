"""The task ``ctc_distillation``: what a model was taught to transcribe is kept while it learns from
recordings without transcripts.

A frozen copy of the model of --init says which symbols it would emit for the clean wave; a head of
the same alphabet, which begins as the teacher's, emits the same from what the student sees
(learning without forgetting, arXiv:1606.09282, section 3; soft targets: arXiv:1503.02531, section
2). With teacher q_t and student p_t, both the softmax of logits divided by the temperature,

    loss = sum over rows of w_t KL(q_t || p_t), per row;    w_t = 1 - (1 - blank_weight) b_t

Adapted to CTC: most rows of a CTC model are blanks of which it is sure, and their sum would rule
the loss although they say little. b_t is the teacher's probability of the blank (without the
temperature), so that a row that is surely blank counts `blank_weight`, and one that is surely a
symbol 1. The divergence is summed over frames, not over whole paths: student and teacher begin
alike, so that their symbols lie at the same frames.

The teacher's outputs are computed once for every utterance and kept as offline units are: of each
row the `top` most probable symbols with 16 bits for each probability, the rest of the mass spread
evenly over the other symbols, 2 (2 `top` + 1) bytes a row (4 h of 40 ms frames: 12 MB). Samples
whose voice is changed cost a forward pass of the teacher each time.

Shapes: B batch, T frames, U rows of output per frame, M = rows of the frames that count, V symbols
with the blank, which is symbol 0, K symbols that are kept.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import shapes
from speechssl.config.bounds import Between, Count, Positive, Share, check_fields
from speechssl.device import double, take
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.kept_outputs import names_of, packed, unpacked
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
from speechssl.pretext.teacher import Recogniser
from speechssl.text import BLANK_ID, Tokenizer

NAME = "ctc_distillation"


@dataclass(frozen=True)
class CTCDistillationConfig(TaskConfig):
    """At which frames the student emits what the teacher does, and how blanks are weighed."""

    name: ClassVar[str] = NAME
    uses_recogniser: ClassVar[bool] = True
    temperature: Positive = 2.0
    """The logits of teacher and student are divided by this: above 1 what is less probable counts
    more."""
    blank_weight: Share = 0.1
    """Weight of a row of which the teacher is sure that it is a blank; one that is surely a symbol
    weighs 1."""
    mask: bool = True
    """Whether the student's input is masked as for the run's other tasks, whose forward pass then
    serves this one too."""
    frames: Literal["all", "masked", "unmasked"] = "all"
    """The frames that count. What lies under a mask must be inferred; without `mask` all count."""
    top: Annotated[int, Between(1, 1024)] = 8
    """Symbols of each row whose probabilities are kept; the rest lies evenly on the others."""
    upsample: Count = 1
    """Rows of output per frame: that of the teacher's head."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)
        if self.frames != "all" and not self.mask:
            raise ValueError(
                f"{NAME}.frames {self.frames} needs masks, and {NAME}.mask is false: set it to "
                "true, or frames to all."
            )

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                NAME,
                "distance from the teacher's symbols",
                "KL divergence from the teacher's outputs, nats per row; blanks weigh less. "
                "Dotted: chance, of the teacher's mean output.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="a model that always emits the teacher's mean output",
                worst_ratio=2.0,
            ),
            Signal(
                f"{NAME}/agreement",
                "symbols kept",
                "Rows where the teacher emits a symbol and the student the same.",
                "share",
                "higher",
            ),
            Signal(
                f"{NAME}/symbol_rows",
                "rows with a symbol",
                "Rows where a symbol is the teacher's most probable output, not the blank.",
                "share",
                "higher",
                collapsed_below=0.01,
                finding="the teacher emits nothing",
                evidence="The teacher emits a symbol in {ctc_distillation/symbol_rows:%} of the "
                "rows of the validation speech, so that there is nothing to keep.",
                advice="Listen to the recordings, and transcribe one with the model of --init; "
                "where they are speech, give it a model that knows a language nearer to this one, "
                "or leave ctc_distillation out of --tasks.",
                in_overview=False,
            ),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "CTCDistillationTask":
        if resources.recogniser is None:
            raise ValueError(
                f"{NAME} keeps what the model of --init transcribes: give --init a model with a "
                f"CTC head, or leave {NAME} out of --tasks."
            )
        return CTCDistillationTask(self, model, resources.recogniser)


class CTCDistillationTask(PretextTask):
    """The divergence of a head's outputs from those of a frozen model that transcribes."""

    name = NAME
    title = "symbols of the model that it began as (distillation of CTC)"

    def __init__(
        self, config: CTCDistillationConfig, model: SpeechModel, teacher: Recogniser
    ) -> None:
        super().__init__()
        self.config, self.tokenizer = config, teacher.tokenizer
        teacher.check_fits(model, config.upsample)
        self._teacher = (teacher,)  # in a tuple: not a part of what is trained and saved
        self.view = View(mask="run" if config.mask else None)
        self.needs = Needs(views=(self.view,))
        width, num_symbols = model.config.context.dim, teacher.tokenizer.vocab_size
        self.num_kept = min(config.top, num_symbols)
        self.head = CTCHead(width, num_symbols, config.upsample)
        if teacher.model is not None and teacher.model.head.linear.in_features == width:
            self.head.load_state_dict(teacher.model.head.state_dict())

    @property
    def recogniser(self) -> CTCHead:
        return self.head

    @property
    def alphabet(self) -> Tokenizer:
        return self.tokenizer

    def saved_fields(self) -> dict[str, object]:
        return {"symbols": list(self.tokenizer.symbols)}

    def _counted(self, x: Inputs) -> Tensor:
        """(B, T) bool on the host: the frames whose rows are compared."""
        valid = shapes.length_mask(x.frames, x.num_frames)
        if self.config.frames == "all":
            return valid
        mask = x.mask(self.view)
        return mask if self.config.frames == "masked" else valid & ~mask

    def counts(self, x: Inputs) -> dict[str, int]:
        return {f"{NAME}_rows": int(self._counted(x).sum()) * self.config.upsample}

    def offline_units(self, x: Inputs) -> dict[str, Tensor]:
        """Of each row of a frame the K symbols, their probabilities and that of the blank, (B, T)
        each; none where only the alphabet of the teacher is known."""
        (teacher,) = self._teacher
        if teacher.model is None:
            return {}
        log_probs = teacher.log_probs(x.speech()).unflatten(1, (-1, self.config.upsample))
        return packed(NAME, log_probs, self.config.temperature, self.num_kept)

    def describe_units(self) -> dict[str, dict[str, object]]:
        (teacher,) = self._teacher
        if teacher.model is None:
            return {}
        about = {"made_of": "CTC outputs of --init", "temperature": self.config.temperature}
        return {name: dict(about) for name in names_of(NAME, self.config.upsample, self.num_kept)}

    def state_of_units(self) -> dict[str, Tensor]:
        """The teacher's weights and the temperature."""
        (teacher,) = self._teacher
        weights = {} if teacher.model is None else teacher.model.state_dict()
        state = {f"teacher.{name}": value for name, value in weights.items()}
        return state | {"temperature": torch.tensor(self.config.temperature)}

    def _targets(self, x: Inputs, counted: Tensor) -> tuple[Tensor, Tensor]:
        """``(q (M, V), b (M,))`` float32 of the frames that count."""
        own, num_symbols = self.config, self.tokenizer.vocab_size

        def units(name: str) -> Tensor:
            return take(x.units(name), counted)

        return unpacked(NAME, units, own.upsample, self.num_kept, num_symbols)

    def forward(self, x: Inputs) -> TaskLoss:
        counted = self._counted(x)
        context = take(x.encode(self.view).context, counted)  # (M / U, D)
        targets, blank = self._targets(x, counted)
        with torch.autocast(context.device.type, enabled=False):
            log_probs = self.head(context[None])[0]  # (M, V)
            emitted = (log_probs / self.config.temperature).log_softmax(1)
            weights = 1 - (1 - self.config.blank_weight) * blank  # (M,)
            each = F.kl_div(emitted, targets, reduction="none").sum(1)
            total = (weights * each).sum() + context.float().sum() * 0
        wanted, found = targets.argmax(1), log_probs.argmax(1)
        is_symbol = wanted != BLANK_ID
        kept = double((is_symbol & (wanted == found)).float()).sum()
        num_symbols = double(is_symbol.float()).sum()
        entropy = -torch.special.xlogy(targets, targets).sum(1)  # (M,)
        sums = torch.stack(
            [
                double(weights).sum(),
                double(weights * entropy).sum(),
                double(torch.ones_like(weights)).sum(),
                kept,
                num_symbols,
            ]
        )
        mean = double(weights[:, None] * targets).sum(0)  # (V,)
        term = LossTerm(total, f"{NAME}_rows", self.config.weight)
        metrics = {f"{NAME}/agreement": (kept / num_symbols.clamp_min(1)).float()}
        tallies = {f"{NAME}/mean": mean, f"{NAME}/sums": sums}
        return TaskLoss({NAME: term}, metrics, tallies)

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """The chance line, agreement and rows with a symbol over a whole validation.

        Of all outputs that do not depend on the input the weighted mean q of the teacher's has the
        least loss: its entropy minus the mean entropy of the rows, weighted.
        """
        weight, entropy, rows, kept, symbols = tallies[f"{NAME}/sums"].tolist()
        mean = tallies[f"{NAME}/mean"] / max(weight, 1e-12)  # (V,)
        of_mean = -float(torch.special.xlogy(mean, mean).sum())
        return {
            f"{NAME}/chance": max(weight * of_mean - entropy, 0.0) / max(rows, 1),
            f"{NAME}/agreement": kept / max(symbols, 1),
            f"{NAME}/symbol_rows": symbols / max(rows, 1),
        }
