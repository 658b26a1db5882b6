"""The context network: projected latents (B, T, D) -> context (B, T, D).

Shapes: B batch, T frames, D width, H heads. Padding is zero on entry, masked in attention, and no
valid frame depends on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from speechssl import shapes
from speechssl.model.attention import DistanceBias
from speechssl.model.config import ContextConfig
from speechssl.model.dropout import Dropout
from speechssl.model.layers import GRULayer, LocalConvLayer, TransformerLayer
from speechssl.model.position import PositionalConv, PositionalConvStack


@dataclass(frozen=True)
class ContextOutput:
    """What the context network computed."""

    context: Tensor
    """(B, T, D), the last layer's output (after the final norm in the pre-norm form)."""
    hidden: tuple[Tensor, ...]
    """Input of the first layer and output of every layer, each (B, T, D); empty unless asked for.
    In the pre-norm form the last one is taken after the final norm."""


class ContextNetwork(nn.Module):
    """A convolutional position, then layers: local convolutions, and above them attention (the
    published form, arXiv:2006.11477, section 2) or GRUs.

    Post-norm as in BASE, or pre-norm as in LARGE.
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
            self.distance = DistanceBias(config)
        self.dropout = Dropout(config.dropout)
        upper = TransformerLayer if config.upper == "attention" else GRULayer
        self.layers = nn.ModuleList(
            LocalConvLayer(config) if index < config.local_layers else upper(config)
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
        x = self.dropout(x)
        valid = None
        # To ask whether there is padding is to wait for the device; a compiled graph cannot ask.
        if not x.is_cpu or torch.compiler.is_compiling() or int(lengths.min()) < x.shape[1]:
            valid = shapes.length_mask(lengths, x.shape[1])  # (B, T)
        # One bias for all layers (H, T, T), which each of them gates.
        bias = (self.distance(x.shape[1]),) if config.rel_buckets else ()
        hidden = [x]
        for number, layer in enumerate(self.layers):
            if not (self.training and self._is_dropped(number)):
                x = layer(x, valid, *bias)  # (B, T, D)
            hidden.append(x)
        if config.norm_order == "pre":
            x = hidden[-1] = self.norm(x)
        return ContextOutput(x, tuple(hidden) if keep_hidden else ())

    def _is_dropped(self, number: int) -> bool:
        if self._dropped is None:
            return float(torch.rand(())) < self.config.layerdrop
        return self._dropped[number]
