"""Future frames told from distractors by a causal model (wav2vec, arXiv:1904.05862).

From the context of each frame i, a projection h_k for each step k predicts the latent of a later
frame; it must score higher than latents drawn from the same utterance. The loss is either that of
wav2vec (section 2.2, equation 2; N negatives, lambda = N, so that the expectation is a sum)::

    -log sigmoid(z_{i+o+k} . h_k(c_i)) - sum over N negatives of log sigmoid(-z~ . h_k(c_i))

or InfoNCE, as in contrastive predictive coding (CPC, arXiv:1807.03748, equation 4)::

    -log( exp(z_{i+o+k} . h_k(c_i)) / sum over the target and N negatives of exp(z . h_k(c_i)) )

With ``targets codes`` z is quantized by online k-means (vq-wav2vec, arXiv:1910.05453, section 3.2).

What is different here:

- The first step o is the receptive field of a latent over the hop, rounded up (3 for 29 ms and 10
  ms), so that a target shares no sample with its context; as in the published code, not the paper.
- The latents are layer-normed, so each is about sqrt(C) long: h_k is a linear map over sqrt(C).
- The context network sees the latents as they are also where targets are codes; in vq-wav2vec it
  sees the codes' vectors. The quantizer belongs to the task, not to the model.
- A negative that equals the target counts, so that a collapsed codebook costs something.
- The loss is a mean over pairs of a frame and a step, not a sum.

Shapes: B batch, T frames, F valid frames of the batch, C channels, D width, K steps, M frames that
are targets, N negatives, P pairs of a frame and a step, V codes of a group, G groups.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.config.bounds import Count, Weight, Whole, check_fields
from speechssl.device import take
from speechssl.model.quantizer import VectorQuantizer
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.code_usage import count_codes, perplexity
from speechssl.pretext.future_pairs import distractors, future_pairs, overlap_free_step, rows_of
from speechssl.pretext.info_nce import accuracy, info_nce
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.signal import Signal
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

NAME = "wav2vec"
_VIEW = View("distorted", None)
_FRAMES_PER_CODE = 40
"""From which the codebook's entries are drawn."""


@dataclass(frozen=True)
class Wav2VecConfig(TaskConfig):
    """Which future frames are predicted, and what from they are told."""

    name: ClassVar[str] = NAME
    loss: Literal["binary", "infonce"] = "binary"
    """``binary``: each target and each negative by itself (arXiv:1904.05862). ``infonce``: the
    target among its negatives (arXiv:1807.03748)."""
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    num_steps: Count = 12
    """K, future frames predicted from each frame, each by its own projection."""
    first_step: Whole = 0
    """How many frames ahead the first of them is; 0: as many as a target needs to share no sample
    with its context."""
    num_negatives: Count = 10
    """N, distractors of each target, drawn from the same utterance."""
    targets: Literal["latents", "codes"] = "latents"
    """``latents``: the encoder's output. ``codes``: quantized by online k-means
    (arXiv:1910.05453)."""
    groups: Count = 2
    """Groups of the quantizer; they divide the encoder's width."""
    entries: Count = 320
    """V, codes of a group; all groups share one codebook."""
    commitment: Weight = 0.25
    """How strongly latents are held to their codes."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return (
            Signal(
                NAME,
                "wav2vec loss",
                "Nats per pair of a frame and a future one. Dotted: chance.",
                training=f"loss/{NAME}",
                chance=f"{NAME}/chance",
                chance_of="a model that knows how many negatives there are and ignores its input",
            ),
            Signal(
                f"{NAME}/accuracy",
                "wav2vec accuracy",
                f"Future frames that scored above their {self.num_negatives} distractors.",
                "share",
                "higher",
            ),
            *(self._usage(group) for group in range(self.groups) if self.targets == "codes"),
        )

    def _usage(self, group: int) -> Signal:
        """How many codes of a group are in use."""
        metric = f"{NAME}/perplexity_group_{group}"
        return Signal(
            metric,
            f"wav2vec codes of group {group}",
            "How many codes are in use over the validation, evenly counted (perplexity).",
            "count",
            "higher",
            collapsed_below=max(2.0, 0.01 * self.entries),
            finding="codebook collapse",
            evidence=f"Group {group} of wav2vec's codebook uses {{{metric}}} of its "
            f"{self.entries} codes (perplexity over the validation set).",
            advice="Lower the learning rate, or take --wav2vec.targets latents.",
        )

    def build(self, model: SpeechModel, resources: Resources) -> "Wav2VecTask":
        del resources
        return Wav2VecTask(self, model)


class Wav2VecTask(PretextTask):
    """The loss over pairs of a frame and a future one, summed."""

    name = NAME
    title = "future frames told from distractors"
    needs = Needs(views=(_VIEW,), causal=True)

    def __init__(self, config: Wav2VecConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.first_step = config.first_step or overlap_free_step(model.config)
        width, groups = model.config.latent_dim, config.groups
        self.project = nn.Linear(model.config.context.dim, config.num_steps * width)
        self.quantizer: VectorQuantizer | None = None
        if config.targets == "codes":
            if width % groups:
                raise ValueError(
                    f"{NAME}.groups must divide the encoder's width ({width}), got {groups}."
                )
            self.quantizer = VectorQuantizer(
                width, groups=groups, entries=config.entries, commitment=config.commitment
            )
            self.num_codes = config.entries

    def fit(self, sample: Iterable[Inputs], seed: int) -> None:
        """Let the quantizer's entries begin as frames of the training set."""
        parts: list[Tensor] = []
        for x in sample if self.quantizer else ():
            parts.append(x.encode(View("clean", None)).latents.flatten(0, 1))  # (T, C)
            if sum(map(len, parts)) >= _FRAMES_PER_CODE * self.config.entries:
                break
        if self.quantizer:
            self.quantizer.fit(torch.cat(parts), seed)

    def counts(self, x: Inputs) -> dict[str, int]:
        """Pairs of a frame and a step, and with codes the frames that are quantized."""
        ahead = self.first_step + np.arange(self.config.num_steps)  # (K,)
        pairs = (x.frames.numpy()[:, None] - ahead).clip(min=0).sum()
        return {f"{NAME}_pairs": int(pairs), f"{NAME}_frames": int(x.frames.sum())}

    def forward(self, x: Inputs) -> TaskLoss:
        """The loss; terms ``wav2vec`` and, with codes, ``wav2vec_codebook``."""
        output, weight = x.encode(_VIEW), self.config.weight
        valid = shapes.length_mask(x.frames, x.num_frames)  # (B, T)
        latents, context = take(output.latents, valid), take(output.context, valid)
        terms, tallies = {}, {}
        with torch.autocast(x.device.type, enabled=False):
            targets = latents.float()  # (F, C)
            if self.quantizer is not None:
                quantized = self.quantizer(targets)
                targets = quantized.vectors
                error = quantized.errors.sum()
                terms[f"{NAME}_codebook"] = LossTerm(error, f"{NAME}_frames", weight)
                for group, codes in enumerate(quantized.codes.unbind(1)):
                    tallies[f"{NAME}/group_{group}"] = count_codes(codes, self.config.entries)
            logits = self.logits(self.predictions(context), targets, x)  # (P, 1 + N)
            binary = self.config.loss == "binary"
            total = binary_loss(logits) if binary else info_nce(logits)
        terms = {NAME: LossTerm(total, f"{NAME}_pairs", weight)} | terms
        metrics = {
            f"{NAME}/accuracy": accuracy(logits.detach()),
            f"{NAME}/chance": logits.new_tensor(chance(self.config)),
        }
        return TaskLoss(terms, metrics, tallies)

    def predictions(self, context: Tensor) -> Tensor:
        """(F, D) -> h_k of each frame's context (F, K, C) float32."""
        steps = self.project(context.float()).unflatten(1, (self.config.num_steps, -1))
        return steps / math.sqrt(steps.shape[2])

    def logits(self, predictions: Tensor, targets: Tensor, x: Inputs) -> Tensor:
        """(F, K, C), (F, C) of the valid frames -> (P, 1 + N), the true target first."""
        frames, num_steps = x.frames.tolist(), self.config.num_steps
        places, contexts = future_pairs(frames, self.first_step, num_steps)  # (M,), (M, K)
        drawn = distractors(x, self.config.num_negatives, f"{NAME} negatives")  # (F, N)
        chosen = np.concatenate([places[:, None], drawn[places]], axis=1)  # (M, 1 + N)
        rows = contexts.clip(min=0) * num_steps + np.arange(num_steps)  # of predictions
        candidates = rows_of(targets, chosen)  # (M, 1 + N, C)
        scores = rows_of(predictions.flatten(0, 1), rows) @ candidates.transpose(1, 2)
        return take(scores, torch.from_numpy(contexts >= 0))

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """Perplexity of each group over a validation."""
        return {
            f"{NAME}/perplexity_group_{group}": float(perplexity(tallies[f"{NAME}/group_{group}"]))
            for group in range(self.config.groups)
        }

    @torch.no_grad()
    def codes(self, x: Inputs) -> Tensor | None:
        """(B, T, G) with codes as targets."""
        if self.quantizer is None:
            return None
        latents = x.encode(View("clean", None)).latents  # (B, T, C)
        return self.quantizer(latents.flatten(0, 1)).codes.unflatten(0, latents.shape[:2])

    def panels(self, x: Inputs) -> tuple[Panel, ...]:
        num = self.counts(x)[f"{NAME}_pairs"]
        right = round(float(self(x).metrics[f"{NAME}/accuracy"]) * num)
        return (Panel("", f"{right} of {num} future frames told from their distractors."),)


def binary_loss(logits: Tensor) -> Tensor:
    """(P, 1 + N), the true target first -> the loss of equation 2, summed."""
    return F.softplus(-logits[:, 0]).sum() + F.softplus(logits[:, 1:]).sum()


def chance(config: Wav2VecConfig) -> float:
    """The loss of a model that ignores its input, nats per pair: ``log(1 + N)``; binary, with all
    logits at -log N, ``log(1 + N) + N log(1 + 1 / N)``: 3.35 for 10 (at 0: 11 log 2 = 7.62)."""
    num = config.num_negatives
    told = math.log(1 + num)
    return told if config.loss == "infonce" else told + num * math.log(1 + 1 / num)
