"""GRUs over a padded batch as one compiled loop.

A recurrent layer is a long chain of small products, and on a CPU most of its time goes into calling
them one by one. Here the whole chain is one compiled loop (:mod:`.gru_loops`), with its gradient;
the two directions of a bidirectional layer run in two threads.

Shapes: B batch, T frames, D width of the input, H width of the state, R directions (1 or 2).
"""

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.model.fast import loops
from speechssl.model.layers import GRULayer


class FastGRULayer(GRULayer):
    """:class:`GRULayer` with :func:`compiled_gru` on a CPU where numba loads."""

    def states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """As in the plain form."""
        if x.device.type != "cpu" or compiled_loops() is None:
            return super().states(x, lengths)
        grus = [self.forwards] if self.causal else [self.forwards, self.backwards]
        return compiled_gru(x, lengths, grus)


def compiled_gru(x: Tensor, lengths: Tensor, grus: Sequence[nn.GRU]) -> Tensor:
    """The first GRU forwards in time, the second, if any, backwards from each utterance's end.

    (B, T, D), (B,) frames -> (B, T, R H) float32, zero behind each utterance's end. The product of
    all frames with the input weights follows the autocast; the state is float32.
    """
    weights, hidden = [dict(gru.named_parameters()) for gru in grus], grus[0].hidden_size
    weight = torch.cat([p["weight_ih_l0"] for p in weights])  # (R * 3 H, D)
    # The hidden biases of the reset and update gates may as well be added here.
    bias = torch.cat(
        [p["bias_ih_l0"] + F.pad(p["bias_hh_l0"][: 2 * hidden], (0, hidden)) for p in weights]
    )  # (R * 3 H,)
    x = x.transpose(0, 1).contiguous()  # else a product without gradient copies the weight T times
    gates = F.linear(x, weight, bias).float()  # (T, B, R * 3 H)
    states: Tensor = _GRULoops.apply(
        gates.unflatten(2, (len(grus), 3 * hidden)),
        torch.stack([p["weight_hh_l0"] for p in weights]),  # (R, 3 H, H)
        torch.stack([p["bias_hh_l0"][2 * hidden :] for p in weights]),  # (R, H)
        lengths,
    )  # (T, B, R, H)
    return states.flatten(2).transpose(0, 1)


class _GRULoops(torch.autograd.Function):
    """Gates of the input, hidden weights, hidden bias of the candidate -> states; all float32."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, R, 3 H), (R, 3 H, H), (R, H), (B,) -> (T, B, R, H)."""
        num_frames, batch, directions, width = gates.shape
        states = torch.empty(num_frames, batch, directions, width // 3)
        switches = torch.empty(num_frames, batch, directions, 2 * (width // 3))
        candidate, inner = torch.empty_like(states), torch.empty_like(states)
        _each_direction(
            directions,
            _loops().states,
            gates.contiguous(),
            weight.transpose(1, 2).contiguous(),  # (R, H, 3 H)
            bias.contiguous(),
            lengths,
            states,
            switches,
            candidate,
            inner,
        )
        ctx.save_for_backward(weight, lengths, states, switches, candidate, inner)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(T, B, R, H) -> the gradients of `gates`, `weight` and `bias`."""
        weight, lengths, states, *saved = ctx.saved_tensors
        num_frames, batch, directions, hidden = states.shape
        gate_grads = torch.empty(num_frames, batch, directions, 3 * hidden)
        candidate_grad = torch.empty_like(states)
        _each_direction(
            directions,
            _loops().gradients,
            grad.contiguous(),
            weight.contiguous(),
            lengths,
            states,
            *saved,
            gate_grads,
            candidate_grad,
        )
        nothing = states.new_zeros(1, batch, hidden)
        before = [torch.cat([nothing, states[:-1, :, 0]])]  # each state's predecessor, (T, B, H)
        if directions == 2:
            before.append(torch.cat([states[1:, :, 1], nothing]))
        weight_grad = torch.stack(
            [
                gate_grads[:, :, d].flatten(0, 1).T @ own.flatten(0, 1)
                for d, own in enumerate(before)
            ]
        )
        bias_grad = gate_grads[..., 2 * hidden :].sum((0, 1))  # (R, H)
        gate_grads[..., 2 * hidden :] = candidate_grad
        return gate_grads, weight_grad, bias_grad, None


def _each_direction(directions: int, loop: Callable[..., None], *tensors: Tensor) -> None:
    """Run a loop for each direction, side by side, each with the products of one thread."""
    arrays = [loops.array(t) for t in tensors]
    calls = [functools.partial(loop, number, *arrays) for number in range(directions)]
    with loops.products_of_one_thread():
        loops.side_by_side(calls)


def compiled_loops() -> ModuleType | None:
    """The loops over time, or None where numba does not load."""
    return loops.load("gru_loops")


def _loops() -> ModuleType:
    found = compiled_loops()
    assert found is not None
    return found
