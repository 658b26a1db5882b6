"""Forms of the layers that ``torch.export`` passes on whole, for exporters.

Shapes: B batch, T frames, D width, H width of a state or number of heads, E width of a head.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from speechssl.model.attention import SelfAttention
from speechssl.model.fast.accelerate import plain
from speechssl.model.layers import GRULayer, gru_states

Model = TypeVar("Model", bound=nn.Module)


def exportable(model: Model) -> Model:
    """A copy whose layers have the form for exporters; it shares the weights."""
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    copied = plain(copy.deepcopy(model, shared))
    for module in copied.modules():
        if type(module) is SelfAttention:
            module.__class__ = ExportableSelfAttention
        elif type(module) is GRULayer:
            module.__class__ = ExportableGRULayer
    return copied


class ExportableSelfAttention(SelfAttention):
    """:class:`SelfAttention` for a runtime whose attention may lay its output out otherwise."""

    def join_heads(self, attended: Tensor) -> Tensor:
        """(B, H, T, E) -> (B, T, D)."""
        attended = attended.transpose(1, 2)
        return attended.clone(memory_format=torch.contiguous_format).flatten(2)


class ExportableGRULayer(GRULayer):
    """:class:`GRULayer` whose GRUs are one operation."""

    def states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """As in the plain form."""
        grus = [self.forwards] if self.causal else [self.forwards, self.backwards]
        weights = [weight for gru in grus for weight in gru.parameters()]
        states: Tensor = gru_operation(x, lengths, weights)
        return states


@torch.library.custom_op("speechssl::gru", mutates_args=())
def gru_operation(x: Tensor, lengths: Tensor, weights: list[Tensor]) -> Tensor:
    """:func:`.layers.gru_states` as one operation, which an exporter passes on whole.

    `weights` are four for each direction: (3 H, D), (3 H, H), (3 H,), (3 H,), gates in the order
    reset, update, candidate.
    """
    grus = []
    for first in range(0, len(weights), 4):
        with torch.device("meta"):
            gru = nn.GRU(weights[0].shape[1], weights[1].shape[1], batch_first=True)
        own = dict(zip(gru.state_dict(), weights[first : first + 4], strict=True))
        gru.load_state_dict(own, assign=True)
        grus.append(gru)
    return gru_states(x, lengths, grus)


@gru_operation.register_fake
def _(x: Tensor, lengths: Tensor, weights: list[Tensor]) -> Tensor:  # noqa: ARG001
    width = len(weights) // 4 * weights[1].shape[1]
    return x.new_empty(x.shape[0], x.shape[1], width, dtype=torch.float32)
