"""DirectPred: BYOL whose linear predictor is set from statistics of its input, not learned.

Trained by gradient, a linear predictor W aligns with the eigenvectors of F, the correlation matrix
of the projections f that it is given (arXiv:2102.06810, section 3). So it can be set directly
(section 4):

    F = rho F + (1 - rho) E[f f^T],  F = U diag(s) U^T
    W = U diag(p) U^T,               p_j = sqrt(s_j / max_i s_i) + eps

or, as DirectCopy (arXiv:2110.04947), without decomposition: ``W = F / |F| + eps I``.

The rest is BYOL; projection.py says what was adapted to speech. Here E[f f^T] is over the frames
(or utterances) of both views of all micro-batches and processes of an update, as one batch; with
``centre`` it is a covariance, which the authors' code has as an option (zero_mean).

Shapes: N frames or utterances, E width of a projection.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from speechssl import distributed
from speechssl.config.bounds import Between, Count, Weight, check_fields
from speechssl.device import double
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.projection import (
    Level,
    ProjectionConfig,
    ProjectionTask,
    projection_signals,
    vectors,
)
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import Resources, TaskLoss

NAME = "direct_pred"
Rule = Literal["direct_pred", "direct_copy"]


@dataclass(frozen=True)
class DirectPredConfig(ProjectionConfig):
    """How the predictor is set."""

    name: ClassVar[str] = NAME
    rule: Rule = "direct_pred"
    """``direct_pred``: roots of the eigenvalues of F (arXiv:2102.06810). ``direct_copy``: F itself
    (arXiv:2110.04947)."""
    eps: Weight = 0.1
    """What is added to every eigenvalue of the predictor, so that no direction is lost."""
    average_decay: Annotated[float, Between(0, 1, "[)")] = 0.3
    """rho, the weight of the past in F."""
    every: Count = 1
    """Updates between two settings of the predictor."""
    centre: bool = False
    """Whether F is the covariance: the mean direction then counts as any other."""

    def __post_init__(self) -> None:
        check_fields(self, NAME)

    @property
    def signals(self) -> tuple[Signal, ...]:
        advice = (
            f"Raise --{NAME}.eps (now {{{NAME}.eps}}), lower the learning rate (optim.lr is "
            "{optim.lr}), let the average follow more slowly (raise --ema.start, now {ema.start}), "
            "or add a task that cannot collapse, such as masked_units."
        )
        return (
            *projection_signals(self, advice),
            Signal(
                f"{NAME}/alignment",
                "alignment of the predictor",
                "Cosine between v and W v for the eigenvectors v of the projections' correlation, "
                "weighted by their eigenvalues. 1: predictor and correlation share eigenvectors.",
                "share",
                "higher",
                in_overview=False,
            ),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "DirectPredTask":
        return DirectPredTask(self, model, resources)


class DirectPredTask(ProjectionTask):
    """A predictor for each level, set before each update."""

    name = NAME
    title = "bootstrapped projections with a predictor set from their correlation"
    called_methods = ("diagnose",)
    by_utterance = False  # the correlation is of whole micro-batches

    def __init__(self, config: DirectPredConfig, model: SpeechModel, resources: Resources) -> None:
        super().__init__(config, model, resources)
        self.predictors = nn.ModuleDict({level: SetPredictor(config) for level in self.levels})
        self._seen: set[int] = set()  # numbers of the update's micro-batches
        self._observes = False

    def _predictor(self, level: Level) -> "SetPredictor":
        return cast(SetPredictor, self.predictors[level])

    def before_update(self, step: int, max_steps: int, model: SpeechModel) -> None:
        """Let the averages follow, and set the predictors."""
        super().before_update(step, max_steps, model)
        self._seen.clear()
        for level in self.levels:
            self._predictor(level).follow(step)

    def forward(self, x: Inputs) -> TaskLoss:
        """As of BYOL; in training each micro-batch of an update is a part of F once, however often
        its gradients are computed."""
        number = x.batch.index
        self._observes = self.training and number not in self._seen
        if self._observes:
            self._seen.add(number)
        return super().forward(x)

    def predict(self, level: Level, projections: Tensor) -> Tensor:
        predictor = self._predictor(level)
        if self._observes:
            predictor.observe(projections.detach())
        return cast(Tensor, predictor(projections))

    @torch.no_grad()
    def diagnose(self, x: Inputs) -> dict[str, float]:
        """``direct_pred/alignment`` of the main level on this batch."""
        level, (online, _) = self.levels[0], self.pairs[0]
        projections = self.project(level, vectors(x, online, level))
        return {f"{NAME}/alignment": alignment(projections, self._predictor(level).weight)}


class SetPredictor(nn.Module):
    """A symmetric matrix, made from the moving correlation of what it is applied to.

    Everything is a buffer, so that a run that goes on has the same. The means are over all
    processes as soon as they are made: a checkpoint lies between an update and the next.
    """

    correlation: Tensor
    weight: Tensor
    second_moment: Tensor
    mean: Tensor
    num: Tensor

    def __init__(self, config: DirectPredConfig) -> None:
        super().__init__()
        dim = config.target_dim
        self.config = config
        self.register_buffer("correlation", torch.zeros(dim, dim))  # F
        self.register_buffer("weight", torch.eye(dim))  # W
        self.register_buffer("second_moment", torch.zeros(dim, dim))  # E[f f^T] of this update
        self.register_buffer("mean", torch.zeros(dim))  # E[f]
        self.register_buffer("num", torch.zeros(()))  # rows seen

    def forward(self, projections: Tensor) -> Tensor:
        """(N, E) -> (N, E)."""
        return projections @ self.weight

    @torch.no_grad()
    def observe(self, projections: Tensor) -> None:
        """Let (N, E) float32 of a micro-batch enter the means of the update."""
        own = torch.cat(
            [
                (projections.T @ projections).flatten(),
                projections.sum(0),
                projections.new_full((1,), len(projections)),
            ]
        )
        dim = len(self.mean)
        products, total, num = distributed.all_reduce_sum(own).split([dim * dim, dim, 1])
        self.num += num[0]
        rows = self.num.clamp_min(1)
        self.second_moment += (products.view(dim, dim) - num * self.second_moment) / rows
        self.mean += (total - num * self.mean) / rows

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Before update `step`: let F follow what was seen in the one before, and set W.

        Before the first one everything is forgotten, since updates that are only measured come
        before it.
        """
        if step == 0:
            for buffer in (self.correlation, self.second_moment, self.mean, self.num):
                buffer.zero_()
        seen = self.second_moment  # (E, E)
        if self.config.centre:
            seen = seen - torch.outer(self.mean, self.mean)
        # The first F is what was seen, and what saw nothing changes nothing.
        fresh = (1 - self.config.average_decay) * (self.num > 0)
        fresh = torch.where(self.correlation.any(), fresh, (self.num > 0).float())
        self.correlation.lerp_(seen, fresh)
        for buffer in (self.second_moment, self.mean, self.num):
            buffer.zero_()
        if step % self.config.every == 0:
            self.weight.copy_(predictor_of(self.correlation, self.config.rule, self.config.eps))


def predictor_of(correlation: Tensor, rule: Rule, eps: float) -> Tensor:
    """(E, E) symmetric F -> (E, E) symmetric W; the identity where F is 0.

    ``direct_pred``: arXiv:2102.06810, section 4, where eps is a multiple of the largest root.
    ``direct_copy``: arXiv:2110.04947; the norm is Frobenius', which needs no decomposition.
    """
    identity = torch.eye(len(correlation), device=correlation.device)
    if rule == "direct_copy":
        norm = correlation.norm()
        made = correlation / norm.clamp_min(1e-30) + eps * identity
    else:
        values, directions = torch.linalg.eigh(double(correlation))
        norm = values[-1]  # the largest
        roots = (values.clamp_min(0) / norm.clamp_min(1e-30)).sqrt() + eps
        made = (directions * roots @ directions.T).float()
    return torch.where(norm > 0, made, identity)


def alignment(projections: Tensor, predictor: Tensor) -> float:
    """(N, E) projections, (E, E) predictor W -> mean cosine between v and W v over the eigenvectors
    v of the projections' correlation matrix, weighted by their eigenvalues: 1 where W has the same
    eigenvectors (arXiv:2102.06810, section 3 and figure 2)."""
    values, directions = torch.linalg.eigh(double(projections.T @ projections))
    values = values.clamp_min(0)
    images = double(predictor) @ directions  # (E, E), columns W v
    cosines = torch.cosine_similarity(directions, images, dim=0)
    return float((cosines * values).sum() / values.sum().clamp_min(1e-30))
