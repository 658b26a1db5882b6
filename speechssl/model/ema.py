"""A copy of a module whose weights are an exponential moving average of the module's.

The teacher of data2vec (arXiv:2202.03555, section 3.1) and the target network of BYOL
(arXiv:2006.07733, section 3.1).
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from speechssl.config.bounds import Positive, Share, check_fields


@dataclass(frozen=True)
class EMAConfig:
    """How slowly an average follows what it is of.

    Published for hundreds of thousands of updates: from 0.996 to 1 along a cosine (BYOL,
    arXiv:2006.07733, section 3.3), from 0.999 to 0.9999 along a line in the first 7.5 % of the run
    (data2vec, arXiv:2202.03555, section 4). A run of thousands needs an average that forgets its
    beginning sooner.
    """

    start: Share = 0.99
    """Decay at the beginning; an update is ``average = decay * average + (1 - decay) * model``."""
    end: Share = 1.0
    """Decay at the end of `ramp_share`, and from then on."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """The way from `start` to `end`."""
    ramp_share: Positive = 1.0
    """Share of the run that it takes."""

    def __post_init__(self) -> None:
        check_fields(self, "ema")

    def decay(self, update: int, max_updates: int) -> float:
        """The decay after `update` updates of a run of `max_updates`."""
        num = max(round(self.ramp_share * max_updates), 1)
        if self.schedule == "linear":
            return linear_decay(update, start=self.start, end=self.end, num_updates=num)
        share = 1 - cosine_decay(update, start=0.0, max_updates=num)  # from 1 to 0
        return self.end - (self.end - self.start) * share


class EMA(nn.Module):
    """``average``, a copy of a module; its weights follow the module's at each :meth:`update`.

    The copy never learns by itself and is always in evaluation. The state_dict holds the average
    (in float32 whatever the module's dtype, since a small step is lost in bfloat16), so that a run
    that goes on has the same one.
    """

    average: nn.Module

    def __init__(self, module: nn.Module) -> None:
        """The average starts as the module is."""
        super().__init__()
        self.average = copy.deepcopy(module).float().requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "EMA":  # noqa: ARG002
        """Stays in evaluation."""
        return super().train(False)

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float) -> None:
        """``average = decay * average + (1 - decay) * module`` for every weight and every buffer of
        floats; other buffers are copied.

        Raises ValueError where `decay` is not in [0, 1] or the module has other weights.
        """
        if not 0 <= decay <= 1:
            raise ValueError(f"The decay of an average must be in [0, 1], got {decay}.")
        ours, theirs = _tensors(self.average), _tensors(module)
        if ours.keys() != theirs.keys():
            raise ValueError(
                "The module has other weights than the average: "
                f"{', '.join(sorted(ours.keys() ^ theirs.keys())[:3])}."
            )
        for name, value in ours.items():
            other = theirs[name].to(value)
            if value.is_floating_point():
                value.lerp_(other, 1 - decay)
            else:
                value.copy_(other)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the average computes, without gradients."""
        with torch.no_grad():
            return self.average(*args, **kwargs)


def linear_decay(update: int, *, start: float, end: float, num_updates: int) -> float:
    """From `start` to `end` over so many updates, then `end` (data2vec: 0.999 to 0.9999 over the
    first 30,000)."""
    share = min(update / max(num_updates, 1), 1.0)
    return start + (end - start) * share


def cosine_decay(update: int, *, start: float, max_updates: int) -> float:
    """From `start` to 1 at the end of the run along a half cosine (BYOL: from 0.996)."""
    share = min(update / max(max_updates, 1), 1.0)
    return 1 - (1 - start) * (math.cos(math.pi * share) + 1) / 2


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
