"""Multi-head self-attention (arXiv:1706.03762, section 3.2).

Shapes: B batch, T frames, D width, H heads, E = D / H width of a head.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.model.config import ContextConfig


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate projections, as published checkpoints hold them.

    With ``rel_buckets`` each head adds a bias for the distance, which each query gates by its own
    frame (WavLM, arXiv:2110.13900, eq. 3 and 4). With ``causal`` a query attends to its own frame
    and those before it.
    """

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.causal = config.causal
        self.query = nn.Linear(config.dim, config.dim)
        self.key = nn.Linear(config.dim, config.dim)
        self.value = nn.Linear(config.dim, config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        if config.rel_buckets:
            self.gate = nn.Linear(config.dim // config.num_heads, 8)
            self.gate_scale = nn.Parameter(torch.ones(1, config.num_heads, 1, 1))

    def forward(
        self, x: Tensor, valid: Tensor | None, distance_bias: Tensor | None = None
    ) -> Tensor:
        """(B, T, D), valid (B, T) bool (None: all frames are), bias (H, T, T) -> (B, T, D)."""
        query, key, value = (
            projected.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, E)
            for projected in self.project(x)
        )
        mask = self._mask(x.shape[1], valid, x.device)  # (B or 1, 1, 1 or T, T) bool
        if distance_bias is not None:
            bias = (self._gates(x) * distance_bias).to(query.dtype)  # (B, H, T, T)
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        return self.out(self.join_heads(self.attend(query, key, value, mask)))

    def project(self, x: Tensor) -> Sequence[Tensor]:
        """(B, T, D) -> query, key, value, each (B, T, D)."""
        return self.query(x), self.key(x), self.value(x)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Weighted sums of the values.

        Args:
            query, key, value: (B, H, T, E).
            mask: bool, True = attended to, or a bias to add; broadcasts to (B, H, T, T).

        Returns:
            (B, H, T, E).
        """
        dropout_p = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, mask, dropout_p)

    def join_heads(self, attended: Tensor) -> Tensor:
        """(B, H, T, E) -> (B, T, D)."""
        return attended.transpose(1, 2).flatten(2)

    def _mask(self, num_frames: int, valid: Tensor | None, device: torch.device) -> Tensor | None:
        """Which key (last axis) a query attends to, (B, 1, 1, T), or causal (B or 1, 1, T, T)."""
        mask = None if valid is None else valid[:, None, None, :]
        if not self.causal:
            return mask
        past = torch.ones(num_frames, num_frames, dtype=torch.bool, device=device).tril()
        return past[None, None] if mask is None else mask & past

    def _gates(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, 1), how much each query lets distance count."""
        heads = x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, E)
        parts = self.gate(heads).unflatten(3, (2, 4)).sum(4)  # (B, H, T, 2)
        update, reset = parts.sigmoid().chunk(2, dim=3)  # (B, H, T, 1) each
        return update * (reset * self.gate_scale - 1) + 2


class DistanceBias(nn.Embedding):
    """A bias for each head and bucket of distances, shared by all layers (WavLM)."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__(config.rel_buckets, config.num_heads)
        self.max_distance = config.rel_max_distance
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, num_frames: int) -> Tensor:  # type: ignore[override]
        """(H, T, T): what a query (second axis) adds for a key so many frames away."""
        at = torch.arange(num_frames, device=self.weight.device)
        buckets = distance_buckets(
            at[None, :] - at[:, None], self.num_embeddings, self.max_distance
        )
        return super().forward(buckets).permute(2, 0, 1)


def distance_buckets(distances: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Key minus query in frames -> bucket, int64 of the same shape.

    Half of the buckets for keys behind the query, half for later ones; in each half the first half
    is exact, the rest grows with the logarithm up to `max_distance` (arXiv:2110.13900, eq. 5).
    """
    half = num_buckets // 2
    exact = half // 2
    far = distances.abs().clamp_min(1).float()
    share = torch.log(far / exact) / math.log(max_distance / exact)
    coarse = (exact + share * (half - exact)).long().clamp_max(half - 1)
    near = distances.abs() < exact
    return torch.where(distances > 0, half, 0) + torch.where(near, distances.abs(), coarse)
