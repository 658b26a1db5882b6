"""The feed-forward part of a transformer layer with less kept for the backward."""

import torch
from torch import Tensor, nn

from speechssl.model.fast.strided_conv import gelu_linear
from speechssl.model.layers import TransformerLayer


class FastTransformerLayer(TransformerLayer):
    """:class:`TransformerLayer` that computes GELU again in the backward instead of keeping it."""

    def feed_forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        # Where something wraps the weight (LoRA) or a compiler makes better code, it is the plain
        # form, as outside of training.
        out = self.ffn_out
        plain = type(out) is not nn.Linear or torch.compiler.is_compiling()
        if plain or not self.training or self.ffn_dropout.p or not x.is_cpu:
            return super().feed_forward(x)
        return gelu_linear(self.ffn_in(x), out.weight, out.bias)
