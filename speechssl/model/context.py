"""The context network: projected latents (B, T, D) -> context (B, T, D).

Shapes: B batch, T frames, D width, H heads. Padding is zero on entry, masked in attention, and no
valid frame depends on it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from speechssl import shapes
from speechssl.model.config import ContextConfig
from speechssl.model.recurrence import bidirectional_gru


@dataclass(frozen=True)
class ContextOutput:
    """What the context network computed."""

    context: Tensor
    """(B, T, D), the last layer's output (after the final norm in the pre-norm form)."""
    hidden: tuple[Tensor, ...]
    """Input of the first layer and output of every layer, each (B, T, D); empty unless asked for.
    In the pre-norm form the last one is taken after the final norm."""


class TransformerContext(nn.Module):
    """A transformer with a convolutional position, post-norm (BASE) or pre-norm (LARGE).

    (arXiv:2006.11477, section 2; relative positional convolution from arXiv:1904.11660.)
    """

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        self.position = PositionalConv(config)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.position_norm = (
            nn.LayerNorm(config.dim, eps=config.norm_eps) if config.pos_norm else nn.Identity()
        )
        upper = TransformerLayer if config.upper == "attention" else RecurrentLayer
        self.layers = nn.ModuleList(
            LocalLayer(config) if index < config.local_layers else upper(config)
            for index in range(config.num_layers)
        )

    def forward(
        self, frames: Tensor, lengths: Tensor, *, keep_hidden: bool = False
    ) -> ContextOutput:
        """(B, T, D) projected (and masked) latents, (B,) frames -> :class:`ContextOutput`."""
        config = self.config
        x = shapes.zero_padding(frames, lengths)
        x = self.position_norm(x + self.position(x))
        if config.norm_order == "post":
            x = self.norm(x)
        x = F.dropout(x, config.dropout, self.training)
        attention_mask = None
        if int(lengths.min()) < x.shape[1]:
            attention_mask = shapes.length_mask(lengths, x.shape[1])[:, None, None, :]  # (B,1,1,T)
        hidden = [x]
        for layer in self.layers:
            dropped = self.training and float(torch.rand(())) < config.layerdrop
            if not dropped:
                x = layer(x, attention_mask)  # (B, T, D)
            hidden.append(x)
        if config.norm_order == "pre":
            x = hidden[-1] = self.norm(x)
        return ContextOutput(x, tuple(hidden) if keep_hidden else ())


class PositionalConv(nn.Module):
    """Grouped, weight-normed convolution over time with GELU: a frame's position relative to
    others."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.drop_last = config.pos_kernel % 2 == 0  # an even kernel gives one frame too many
        conv = nn.Conv1d(
            config.dim,
            config.dim,
            config.pos_kernel,
            padding=config.pos_kernel // 2,
            groups=config.pos_groups,
        )
        nn.init.normal_(conv.weight, std=math.sqrt(4 / (config.pos_kernel * config.dim)))
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.conv = weight_norm(conv, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        y = self.conv(x.transpose(1, 2))  # (B, D, T) or (B, D, T + 1)
        if self.drop_last:
            y = y[:, :, :-1]
        return F.gelu(y).transpose(1, 2)


class LocalLayer(nn.Module):
    """A convolution over neighbouring frames and a linear map, with residual and norm before.

    The convolution is one matrix product over frames laid side by side, which a CPU does faster
    than a convolution of few channels and many frames.
    """

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        inner = 2 * config.dim
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.conv = nn.Linear(config.dim * config.local_kernel, inner)
        self.out = nn.Linear(inner, config.dim)

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, T, D), mask (B, 1, 1, T) True where a frame is valid -> (B, T, D)."""
        config = self.config
        y = self.norm(x)
        if attention_mask is not None:
            y = y.masked_fill(~attention_mask[:, 0, 0, :, None], 0)
        half = config.local_kernel // 2
        padded = F.pad(y, (0, 0, half, half))  # (B, T + K - 1, D)
        num = x.shape[1]
        windows = [padded[:, k : k + num] for k in range(config.local_kernel)]
        y = F.gelu(self.conv(torch.cat(windows, dim=2)))  # (B, T, 2 D)
        y = self.out(F.dropout(y, config.activation_dropout, self.training))
        return x + F.dropout(y, config.dropout, self.training)


class RecurrentLayer(nn.Module):
    """A bidirectional GRU (arXiv:1406.1078) and a linear map, with residual and norm before."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.forwards = nn.GRU(config.dim, config.dim // 2, batch_first=True)
        self.backwards = nn.GRU(config.dim, config.dim // 2, batch_first=True)
        self.out = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, T, D), mask (B, 1, 1, T) True where a frame is valid -> (B, T, D)."""
        lengths = (
            torch.full((x.shape[0],), x.shape[1], device=x.device)
            if attention_mask is None
            else attention_mask[:, 0, 0].sum(1)
        )
        y = bidirectional_gru(self.norm(x), lengths, self.forwards, self.backwards)  # (B, T, D)
        return x + F.dropout(self.out(y), self.config.dropout, self.training)


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each with residual, norm before or after."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.ffn_in = nn.Linear(config.dim, config.ffn_dim)
        self.ffn_out = nn.Linear(config.ffn_dim, config.dim)
        self.ffn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, T, D), mask (B, 1, 1, T) True where a frame may be looked at -> (B, T, D)."""
        if self.config.norm_order == "pre":
            x = x + self._drop(self.attention(self.attention_norm(x), attention_mask))
            return x + self._drop(self._ffn(self.ffn_norm(x)))
        x = self.attention_norm(x + self._drop(self.attention(x, attention_mask)))
        return self.ffn_norm(x + self._drop(self._ffn(x)))

    def _ffn(self, x: Tensor) -> Tensor:
        inner = F.gelu(self.ffn_in(x))
        return self.ffn_out(F.dropout(inner, self.config.activation_dropout, self.training))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate projections, as published checkpoints hold them."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(config.dim, config.dim)
        self.key = nn.Linear(config.dim, config.dim)
        self.value = nn.Linear(config.dim, config.dim)
        self.out = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        query, key, value = (
            project(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, D / H)
            for project in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(attended.transpose(1, 2).flatten(2))
