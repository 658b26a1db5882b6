"""The optimizer, its schedule, and the clipping of gradients."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from speechssl.config.bounds import (
    Positive,
    Probability,
    Share,
    Weight,
    Whole,
    check_fields,
)

ScheduleKind = Literal["tri_stage", "linear", "cosine"]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW (arXiv:1711.05101) and how the learning rate goes."""

    lr: Positive = 5e-4
    """The peak."""
    schedule: ScheduleKind = "linear"
    """``linear`` and ``cosine``: warm up, fall to `final_share`. ``tri_stage``: warm up, hold,
    decay exponentially (arXiv:1904.08779, section 3)."""
    warmup_steps: Whole = 300
    """Steps from `initial_share` to the peak; at most a tenth of the run."""
    hold_share: Share = 0.4
    """Share of the run at the peak, ``tri_stage`` only."""
    initial_share: Share = 0.01
    """The first learning rate over the peak."""
    final_share: Share = 0.05
    """The last learning rate over the peak."""
    beta1: Probability = 0.9
    """Decay of the running mean of the gradients."""
    beta2: Probability = 0.98
    """Decay of the running mean of their squares."""
    eps: Positive = 1e-6
    """Added to the root of the mean square, so that small gradients do not make large updates."""
    weight_decay: Weight = 0.01
    """On matrices; biases, norms and embeddings are left alone."""
    clip_norm: Positive = 2.0
    """Largest norm of the whole gradient."""

    def __post_init__(self) -> None:
        check_fields(self, "optim")


def lr_at(config: OptimConfig, step: int, max_steps: int) -> float:
    """The learning rate of update `step` (from 0) of `max_steps`."""
    warmup = min(config.warmup_steps, max_steps // 10)
    if step < warmup:
        return config.lr * (config.initial_share + (1 - config.initial_share) * (step + 1) / warmup)
    hold = round(config.hold_share * max_steps) if config.schedule == "tri_stage" else 0
    done = min(max(step - warmup - hold, 0) / max(max_steps - warmup - hold, 1), 1.0)
    if config.schedule == "tri_stage":
        return config.lr * max(config.final_share, 1e-6) ** done
    if config.schedule == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return config.lr * (1 - (1 - config.final_share) * done)


@dataclass(frozen=True)
class Part:
    """Some modules that share a learning-rate factor."""

    modules: tuple[nn.Module, ...]
    lr_scale: float = 1.0


def build_optimizer(config: OptimConfig, parts: Iterable[Part]) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; each group carries its ``lr_scale``."""
    groups = []
    for part in parts:
        parameters = [p for m in part.modules for p in m.parameters() if p.requires_grad]
        for decayed in (True, False):
            chosen = [p for p in parameters if (p.dim() > 1) == decayed]
            if chosen:
                decay = config.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "lr_scale": part.lr_scale})
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next update, scaled for each group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
