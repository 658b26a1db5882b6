"""Contrastive prediction of quantized targets (wav2vec 2.0, arXiv:2006.11477).

At every masked frame the context must tell the true target, the encoder's own latent quantized by a
learned product codebook, from those of other masked frames of the same utterance (section 3.2).

Shapes: M masked frames of the batch, N negatives, E width of a target, V codes of a group.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from speechssl import shapes
from speechssl.config.bounds import Between, Count, Positive, Weight, check_fields
from speechssl.device import send, take
from speechssl.model.quantizer import GumbelQuantizer, temperature_at
from speechssl.model.speech_model import SpeechModel, SpeechOutput
from speechssl.pretext.code_usage import code_numbers, perplexity
from speechssl.pretext.info_nce import contrastive_logits, draw_negatives, info_nce
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


@dataclass(frozen=True)
class ContrastiveConfig(TaskConfig):
    """InfoNCE over learned codes of the model's own latents."""

    name: ClassVar[str] = "contrastive"
    has_codes: ClassVar[bool] = True
    weight: Weight = 1.0
    """Weight of the task in the loss, its two penalties included."""
    target_dim: Count = 256
    """E, the width in which predictions and targets are compared."""
    num_negatives: Count = 100
    """Distractors per masked frame, drawn from the same utterance."""
    temperature: Positive = 0.1
    """The cosine similarities are divided by this."""
    groups: Count = 2
    """Groups of the codebook."""
    entries: Count = 320
    """Codes per group."""
    diversity_weight: Weight = 0.1
    """Weight of the penalty on codes that are not used."""
    feature_penalty: Weight = 10.0
    """Weight of the mean square of the encoder's output; 0: left out."""
    gumbel_start: Positive = 2.0
    """Temperature of the Gumbel softmax at the first update."""
    gumbel_end: Positive = 0.5
    """The lowest temperature."""
    gumbel_decay: Annotated[float, Between(0, 1, "(]")] = 0.999995
    """Factor per update from the start towards the end temperature."""

    def __post_init__(self) -> None:
        check_fields(self, "contrastive")
        if self.target_dim % self.groups:
            raise ValueError(
                "contrastive.target_dim must be a multiple of contrastive.groups, got "
                f"{self.target_dim} and {self.groups}."
            )
        if self.gumbel_end > self.gumbel_start:
            raise ValueError(
                "contrastive.gumbel_end must be at most contrastive.gumbel_start, got "
                f"{self.gumbel_end} and {self.gumbel_start}."
            )

    @property
    def signals(self) -> tuple[Signal, ...]:
        least = max(2.0, 0.03 * self.entries)
        groups = range(self.groups)
        return (
            Signal(
                "contrastive",
                "contrastive loss",
                "Nats per masked frame. Dotted: chance.",
                training="loss/contrastive",
                chance="contrastive/chance",
                chance_of="a model that cannot tell the true target from its negatives",
            ),
            Signal(
                "contrastive/accuracy",
                "contrastive accuracy",
                "Masked frames whose true target scored highest.",
                "share",
                "higher",
            ),
            Signal(
                "contrastive/perplexity",
                "code perplexity",
                "How many codes are in use, evenly counted. A fall towards 1 is collapse.",
                "count",
                "higher",
                in_overview=False,
            ),
            Signal(
                "contrastive/codes_used",
                "codes used in a batch",
                "Different codes within a batch, mean of the groups.",
                "count",
                "higher",
                in_overview=False,
            ),
            *(
                Signal(
                    f"contrastive/perplexity_group_{group}",
                    f"codes of group {group}",
                    "How many codes are in use over the validation, evenly counted (perplexity).",
                    "count",
                    "higher",
                    collapsed_below=least,
                    finding="codebook collapse",
                    evidence=f"Group {group} of the codebook uses "
                    f"{{contrastive/perplexity_group_{group}}} of its {self.entries} codes "
                    "(perplexity over the validation set).",
                    advice="Raise --contrastive.diversity-weight (now "
                    "{contrastive.diversity_weight}; 0.1 is usual), lower the learning rate, or "
                    "take the task masked_units, whose fixed targets cannot collapse.",
                )
                for group in groups
            ),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "ContrastiveTask":
        del resources
        return ContrastiveTask(self, model)


class ContrastiveTask(PretextTask):
    """InfoNCE, with a diversity penalty on the codebook and a penalty on the latents' size."""

    name = ContrastiveConfig.name
    title = "contrastive prediction of quantized targets"
    needs = Needs(views=(View(),))
    by_utterance = False  # the penalties are of a micro-batch, and so are Gumbel's random numbers
    saves_heads = True

    def __init__(self, config: ContrastiveConfig, model: SpeechModel) -> None:
        super().__init__()
        self.config = config
        self.num_codes = config.entries
        self.quantizer = GumbelQuantizer(
            model.config.latent_dim,
            groups=config.groups,
            entries=config.entries,
            dim=config.target_dim,
        )
        self.project_target = nn.Linear(config.target_dim, config.target_dim)
        self.project_context = nn.Linear(model.config.context.dim, config.target_dim)

    def before_update(self, step: int, max_steps: int, model: SpeechModel) -> None:
        """Lower the Gumbel temperature to that of an update."""
        del max_steps, model
        c = self.config
        self.quantizer.temperature = temperature_at(
            step, start=c.gumbel_start, end=c.gumbel_end, decay=c.gumbel_decay
        )

    def counts(self, x: Inputs) -> dict[str, int]:
        return {"masked": int(x.mask().sum())}

    def forward(self, x: Inputs) -> TaskLoss:
        mask = x.mask()
        drawn = draw_negatives(mask.numpy(), self.config.num_negatives, x.rng("negatives"))
        return self.loss(x.encode(), mask, send(torch.from_numpy(drawn), x.device))

    def loss(self, output: SpeechOutput, mask: Tensor, negatives: Tensor) -> TaskLoss:
        """The InfoNCE loss over masked frames, summed, beside both penalties.

        Args:
            output: of the model, with the mask applied.
            mask: (B, T) bool, best on the host.
            negatives: (M, N) int64 from :func:`draw_negatives`, on the device.
        """
        quantized = self.quantizer(take(output.latents, mask))
        with torch.autocast(output.context.device.type, enabled=False):
            targets = self.project_target(quantized.vectors)  # (M, E)
            predictions = self.project_context(take(output.context, mask).float())  # (M, E)
            logits = contrastive_logits(predictions, targets, quantized.codes, negatives)
            logits = logits / self.config.temperature  # (M, 1 + N)
            total = info_nce(logits)
            penalty = mean_square(output.raw_latents, output.lengths)
        num = len(logits)
        most = self.quantizer.max_perplexity
        diversity = (most - quantized.perplexity) / most
        terms = {
            "contrastive": LossTerm(total, "masked", self.config.weight),
            "contrastive_diversity": LossTerm(
                num * diversity, "masked", self.config.weight * self.config.diversity_weight
            ),
        }
        if self.config.feature_penalty:
            terms["contrastive_feature_penalty"] = LossTerm(
                num * penalty, "masked", self.config.weight * self.config.feature_penalty
            )
        return TaskLoss(terms, *code_numbers(logits, quantized, self.config.entries))

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """Perplexity and number of used codes of each group over a validation."""
        found = {}
        for group in range(self.config.groups):
            tally = tallies[f"contrastive/group_{group}"]
            found[f"contrastive/perplexity_group_{group}"] = float(perplexity(tally))
            found[f"contrastive/used_group_{group}"] = float((tally > 0).sum())
        return found

    @torch.no_grad()
    def codes(self, x: Inputs) -> Tensor:
        latents = x.encode(View("clean", None)).latents  # (B, T, C)
        return self.quantizer(latents.flatten(0, 1)).codes.unflatten(0, latents.shape[:2])

    def saved_fields(self) -> dict[str, object]:
        """The Gumbel temperature is where a continued pretraining begins; `quantizer` is what
        version 0.1 and the exports ask for."""
        return {"quantizer": "gumbel", "gumbel_start": self.quantizer.temperature}


def mean_square(latents: Tensor, lengths: Tensor) -> Tensor:
    """Mean square of valid latents (B, T, C): the feature penalty."""
    total = shapes.zero_padding(latents.float(), lengths).square().sum()
    return total / (lengths.sum() * latents.shape[2])
