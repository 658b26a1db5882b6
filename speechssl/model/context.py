"""The context network: projected latents (B, T, D) -> context (B, T, D).

Shapes: B batch, T frames, D width, H heads. Padding is zero on entry, masked in attention, and no
valid frame depends on it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from speechssl import shapes
from speechssl.model.attention import attend
from speechssl.model.config import ContextConfig
from speechssl.model.dropout import dropout
from speechssl.model.recurrence import bidirectional_gru
from speechssl.model.spectral_conv import is_quicker, spectral_conv
from speechssl.model.strided_conv import gelu_linear, product_dtype


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
        self.position = (PositionalConvStack if config.pos_stack else PositionalConv)(config)
        self.norm: nn.Module = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.position_norm = (
            nn.LayerNorm(config.dim, eps=config.norm_eps) if config.pos_norm else nn.Identity()
        )
        if config.rel_buckets:
            self.distance = nn.Embedding(config.rel_buckets, config.num_heads)
            nn.init.normal_(self.distance.weight, std=0.02)
        upper = TransformerLayer if config.upper == "attention" else RecurrentLayer
        self.layers = nn.ModuleList(
            LocalLayer(config) if index < config.local_layers else upper(config)
            for index in range(config.num_layers)
        )
        self._dropped: Sequence[bool] | None = None

    def draw_dropped(self, generator: np.random.Generator) -> None:
        """Draw the layers that training leaves out from now on (``layerdrop``, arXiv:1909.11556);
        without this each forward pass draws its own.

        Processes that share the work of an update must leave out the same ones: where each holds a
        part of every layer, all of them have to be there to compute it.
        """
        self._dropped = (generator.random(len(self.layers)) < self.config.layerdrop).tolist()

    def compile_layers(self) -> None:
        """Let ``torch.compile`` make code for every layer, once for all lengths; in place."""
        for layer in self.layers:
            layer.compile(dynamic=True)

    def forward(
        self, frames: Tensor, lengths: Tensor, *, keep_hidden: bool = False
    ) -> ContextOutput:
        """(B, T, D) projected (and masked) latents, (B,) frames -> :class:`ContextOutput`."""
        config = self.config
        x = shapes.zero_padding(frames, lengths)
        place = self.position(x, lengths) if config.pos_stack else self.position(x)  # (B, T, D)
        x = self.position_norm(x + place)
        if config.norm_order == "post":
            x = self.norm(x)
        x = dropout(x, config.dropout, self.training)
        attention_mask = None
        # To ask whether there is padding is to wait for the device; a compiled graph cannot ask.
        if not x.is_cpu or torch.compiler.is_compiling() or int(lengths.min()) < x.shape[1]:
            attention_mask = shapes.length_mask(lengths, x.shape[1])[:, None, None, :]  # (B,1,1,T)
        # One bias for all layers (H, T, T), which each of them gates.
        bias = (self._distance_bias(x.shape[1]),) if config.rel_buckets else ()
        hidden = [x]
        for number, layer in enumerate(self.layers):
            if not (self.training and self._is_dropped(number)):
                x = layer(x, attention_mask, *bias)  # (B, T, D)
            hidden.append(x)
        if config.norm_order == "pre":
            x = hidden[-1] = self.norm(x)
        return ContextOutput(x, tuple(hidden) if keep_hidden else ())

    def _is_dropped(self, number: int) -> bool:
        if self._dropped is None:
            return float(torch.rand(())) < self.config.layerdrop
        return self._dropped[number]

    def _distance_bias(self, num_frames: int) -> Tensor:
        """(H, T, T): what a query (second axis) adds for a key so many frames away."""
        at = torch.arange(num_frames, device=self.distance.weight.device)
        buckets = distance_buckets(
            at[None, :] - at[:, None], self.config.rel_buckets, self.config.rel_max_distance
        )
        return self.distance(buckets).permute(2, 0, 1)


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
        if is_quicker(x, self.conv.kernel_size[0]):
            return F.gelu(spectral_conv(x, self.conv.weight, self.conv.bias))
        y = self.conv(x.transpose(1, 2))  # (B, D, T) or (B, D, T + 1)
        if self.drop_last:
            y = y[:, :, :-1]
        return F.gelu(y).transpose(1, 2)


class PositionalConvStack(nn.Module):
    """Grouped convolutions over time, each followed by a norm over channels and GELU.

    (data2vec, arXiv:2202.03555.) Between the convolutions the padding is zero again, as it is
    behind the end of an utterance alone.
    """

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(
                config.dim,
                config.dim,
                config.pos_kernel,
                padding=config.pos_kernel // 2,
                groups=config.pos_groups,
            )
            for _ in range(config.pos_stack)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) with zeros in the padding, (B,) frames -> (B, T, D)."""
        num_frames = x.shape[1]
        for conv in self.layers:
            y = conv(x.transpose(1, 2))[:, :, :num_frames].transpose(1, 2)  # (B, T, D)
            x = shapes.zero_padding(F.gelu(F.layer_norm(y, y.shape[2:])), lengths)
        return x


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
        self.adapter = _adapter(config)

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
        y = self.out(dropout(y, config.activation_dropout, self.training))
        return self.adapter(x + dropout(y, config.dropout, self.training))


class RecurrentLayer(nn.Module):
    """A bidirectional GRU (arXiv:1406.1078) and a linear map, with residual and norm before."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.forwards = nn.GRU(config.dim, config.dim // 2, batch_first=True)
        self.backwards = nn.GRU(config.dim, config.dim // 2, batch_first=True)
        self.out = nn.Linear(config.dim, config.dim)
        self.adapter = _adapter(config)

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, T, D), mask (B, 1, 1, T) True where a frame is valid -> (B, T, D)."""
        lengths = (
            torch.full((x.shape[0],), x.shape[1], device=x.device)
            if attention_mask is None
            else attention_mask[:, 0, 0].sum(1)
        )
        y = bidirectional_gru(self.norm(x), lengths, self.forwards, self.backwards)  # (B, T, D)
        return self.adapter(x + dropout(self.out(y), self.config.dropout, self.training))


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each with residual, norm before or after."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.config = config
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.ffn_in = nn.Linear(config.dim, config.ffn_dim)
        self.ffn_out = nn.Linear(config.ffn_dim, config.dim)
        self.fused: nn.Module | None = None
        """``ffn_in`` and GELU as one, in a model from :func:`.int8.quantized`."""
        self.ffn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.adapter = _adapter(config)

    def forward(
        self, x: Tensor, attention_mask: Tensor | None, distance_bias: Tensor | None = None
    ) -> Tensor:
        """(B, T, D), mask (B, 1, 1, T) True where a frame may be looked at, bias (H, T, T) ->
        (B, T, D)."""
        if self.config.norm_order == "pre":
            y = self.attention(self.attention_norm(x), attention_mask, distance_bias)
            x = x + self._drop(y)
            return self.adapter(x + self._drop(self._ffn(self.ffn_norm(x))))
        x = self.attention_norm(x + self._drop(self.attention(x, attention_mask, distance_bias)))
        return self.adapter(self.ffn_norm(x + self._drop(self._ffn(x))))

    def _ffn(self, x: Tensor) -> Tensor:
        if self.fused is not None:
            return self.ffn_out(self.fused(x))
        inner = self.ffn_in(x)
        # Nothing wraps the weight, and no compiler makes better code: keep less for the backward.
        plain = type(self.ffn_out) is nn.Linear and not torch.compiler.is_compiling()
        if plain and self.training and not self.config.activation_dropout and x.is_cpu:
            return gelu_linear(inner, self.ffn_out.weight, self.ffn_out.bias)
        inner = dropout(F.gelu(inner), self.config.activation_dropout, self.training)
        return self.ffn_out(inner)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)


class Adapter(nn.Module):
    """A narrow network with a residual at the end of a layer, which holds one language
    (arXiv:2305.13516)."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.down = nn.Linear(config.dim, config.adapter_dim)
        self.up = nn.Linear(config.adapter_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return x + self.up(F.relu(self.down(self.norm(x))))


def _adapter(config: ContextConfig) -> nn.Module:
    return Adapter(config) if config.adapter_dim else nn.Identity()


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate projections, as published checkpoints hold them.

    With ``rel_buckets`` each head adds a bias for the distance, which each query gates by what it
    heard (WavLM, arXiv:2110.13900, eq. 3 and 4).
    """

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(config.dim, config.dim)
        self.key = nn.Linear(config.dim, config.dim)
        self.value = nn.Linear(config.dim, config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.fused: nn.Module | None = None
        """The first three as one, in a model from :func:`.int8.quantized`."""
        if config.rel_buckets:
            self.gate = nn.Linear(config.dim // config.num_heads, 8)
            self.gate_scale = nn.Parameter(torch.ones(1, config.num_heads, 1, 1))

    def forward(
        self, x: Tensor, attention_mask: Tensor | None, distance_bias: Tensor | None = None
    ) -> Tensor:
        """(B, T, D), mask (B, 1, 1, T) True = may be looked at, bias (H, T, T) -> (B, T, D)."""
        query, key, value = (
            projected.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, D / H)
            for projected in self._project(x)
        )
        if distance_bias is not None:
            bias = (self._gates(x) * distance_bias).to(query.dtype)  # (B, H, T, T)
            if attention_mask is not None:
                bias = bias.masked_fill(~attention_mask, -torch.inf)
            attention_mask = bias
        attended = attend(query, key, value, attention_mask, self.dropout if self.training else 0.0)
        attended = attended.transpose(1, 2)  # (B, T, H, D / H)
        if torch.compiler.is_exporting():  # the attention that runs there may lay it out otherwise
            attended = attended.clone(memory_format=torch.contiguous_format)
        return self.out(attended.flatten(2))

    def _project(self, x: Tensor) -> Sequence[Tensor]:
        """(B, T, D) -> query, key, value, each (B, T, D)."""
        if self.fused is not None:
            return self.fused(x).chunk(3, 2)
        x = x.to(product_dtype(x))  # autocast would do it for each of them
        return self.query(x), self.key(x), self.value(x)

    def _gates(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, 1), how much each query lets distance count."""
        heads = x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, D / H)
        parts = self.gate(heads).unflatten(3, (2, 4)).sum(4)  # (B, H, T, 2)
        update, reset = parts.sigmoid().chunk(2, dim=3)  # (B, H, T, 1) each
        return update * (reset * self.gate_scale - 1) + 2
