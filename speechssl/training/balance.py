"""How strongly each task pulls at the shared model, and weights that make the pulls even.

Losses of different kinds have different scales: a task may rule the model though its weight is
small. GradNorm (arXiv:1711.02257) learns weights under which the gradient of each task has the
norm it is meant to have; without its term for the pace of learning (alpha = 0) these weights have a
closed form, which is used here.

Shapes: K tasks, P weights of the model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

from speechssl import distributed
from speechssl.device import double
from speechssl.pretext.task import LossTerm, combine

BalanceRule = Literal["none", "gradient"]

_EVERY = 50
"""Updates from one measurement to the next."""
_KEPT = 0.8
"""Of the norms measured before, at each measurement: one batch is a noisy sample."""


def task_gradients(
    terms: Callable[[], Mapping[str, LossTerm]], counts: dict[str, float], model: nn.Module
) -> dict[str, Tensor]:
    """The gradient (P,) float32 of each task's weighted loss with respect to the shared model.

    `terms` is called once for each task: a graph can be gone through once only, since fast parts of
    the model reuse the memory of what they kept for the backward pass.
    """
    shared = [p for p in model.parameters() if p.requires_grad]
    found: dict[str, Tensor] = {}
    first = terms()
    for number, task in enumerate(dict.fromkeys(term.task for term in first.values())):
        now = terms() if number else first
        loss = combine({name: term for name, term in now.items() if term.task == task}, counts)
        grads: Sequence[Tensor | None] = [None] * len(shared)
        if loss.requires_grad:
            grads = torch.autograd.grad(loss, shared, allow_unused=True)
        found[task] = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).detach().float().flatten()
                for g, p in zip(grads, shared, strict=True)
            ]
        )
    return found


def describe_gradients(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """``gradient/TASK``, its norm, and ``gradient/cosine/TASK/TASK`` of each pair: below zero one
    task undoes what the other does."""
    norms = {task: float(g.norm()) for task, g in gradients.items()}
    found = {f"gradient/{task}": norm for task, norm in norms.items()}
    for one, two in combinations(gradients, 2):
        scale = norms[one] * norms[two]
        cosine = float(gradients[one] @ gradients[two]) / scale if scale else 0.0
        found[f"gradient/cosine/{one}/{two}"] = cosine
    return found


class Balance(nn.Module):
    """Factors on the tasks' losses, a part of the state of a run.

    ``gradient``: the norms of the gradients of the tasks' weighted losses are in proportion to the
    tasks' weights, and their sum is what it would be without. Each norm is a running mean over
    measurements, one every 50 updates.
    """

    norms: Tensor
    """(K,) float64, running means of the norms of the gradients of the weighted losses; zero before
    the first measurement."""

    def __init__(self, weights: Mapping[str, float], rule: BalanceRule) -> None:
        """`weights` of the tasks, by name."""
        super().__init__()
        self.weights, self.rule = dict(weights), rule
        self.register_buffer("norms", torch.zeros(len(weights), dtype=torch.float64))

    def is_due(self, step: int) -> bool:
        """Whether the gradients are to be measured before update `step`."""
        return self.rule != "none" and step % _EVERY == 0

    def follow(self, gradients: Mapping[str, Tensor]) -> None:
        """Take the gradients (P,) of the tasks on a micro-batch, each of its weighted loss, into
        the running means; with several processes, those of all of them."""
        missing = next(iter(gradients.values())).new_zeros(1)
        squares = torch.stack(
            [double(gradients.get(task, missing).square().sum()) for task in self.weights]
        )
        if distributed.world() > 1:
            squares = distributed.all_reduce_sum(squares) / distributed.world()
        new = squares.sqrt().to(self.norms)
        old = torch.where(self.norms > 0, self.norms, new)
        self.norms.copy_(_KEPT * old + (1 - _KEPT) * new)

    def factors(self) -> Tensor:
        """(K,) float64: what each task's loss is multiplied by; one where nothing is known."""
        weights = self.norms.new_tensor(list(self.weights.values()))
        known = (self.norms > 0) & (weights > 0)
        meant = weights * (self.norms[known].sum() / weights[known].sum().clamp_min(1e-12))
        return torch.where(known, meant / self.norms.clamp_min(1e-12), torch.ones_like(meant))

    def balanced(self, terms: Mapping[str, LossTerm]) -> dict[str, LossTerm]:
        """The terms with their weights times the factors."""
        if self.rule == "none":
            return dict(terms)
        factors = dict(zip(self.weights, self.factors().tolist(), strict=True))
        return {
            name: replace(term, weight=term.weight * factors[term.task])
            for name, term in terms.items()
        }

    def logged(self) -> dict[str, Tensor]:
        """``balance/TASK``: the factors, where there is a rule."""
        if self.rule == "none":
            return {}
        return {f"balance/{t}": f for t, f in zip(self.weights, self.factors(), strict=True)}
