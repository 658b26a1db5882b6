"""A bidirectional GRU over a padded batch, fast on a CPU.

A recurrent layer is a long chain of small products, and on a CPU most of its time goes into calling
them one by one. Here the whole chain is one compiled loop (:mod:`speechssl.model.gru_loops`), with
its gradient, forwards and backwards in time in two threads; :func:`plain_gru` is the same maths in
the library's layer, used on other devices and where numba does not load.

Shapes: B batch, T frames, D width of the input, H width of the state, 2 directions.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.model import loops


def bidirectional_gru(x: Tensor, lengths: Tensor, forwards: nn.GRU, backwards: nn.GRU) -> Tensor:
    """Two GRUs (arXiv:1406.1078, the reset gate inside as in cuDNN), one in each direction.

    (B, T, D), (B,) frames -> (B, T, 2 H) float32, zero behind each utterance's end. Each GRU has
    one layer and is ``batch_first``.
    """
    if torch.compiler.is_exporting():
        weights = [*forwards.parameters(), *backwards.parameters()]
        exported: Tensor = gru_operation(x, lengths, weights)
        return exported
    if x.device.type == "cpu" and compiled_loops() is not None:
        return compiled_gru(x, lengths, forwards, backwards)
    return plain_gru(x, lengths, forwards, backwards)


def plain_gru(x: Tensor, lengths: Tensor, forwards: nn.GRU, backwards: nn.GRU) -> Tensor:
    """The library's layers, in float32 whatever the autocast; as :func:`bidirectional_gru`."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        time = torch.arange(x.shape[1], device=x.device)
        valid = time < lengths[:, None]  # (B, T)
        # Each utterance backwards from its own end; the padding stays where it is.
        index = torch.where(valid, lengths[:, None] - 1 - time, time)[:, :, None]  # (B, T, 1)
        after = backwards(x.gather(1, index.expand_as(x)))[0]
        after = after.gather(1, index.expand_as(after))
        y = torch.cat([forwards(x)[0], after], dim=2)
        return y.masked_fill(~valid[:, :, None], 0)


@torch.library.custom_op("speechssl::bidirectional_gru", mutates_args=())
def gru_operation(x: Tensor, lengths: Tensor, weights: list[Tensor]) -> Tensor:
    """:func:`plain_gru` as one operation, which an exporter passes on whole.

    `weights` are four for each direction: (3 H, D), (3 H, H), (3 H,), (3 H,), gates in the order
    reset, update, candidate.
    """
    width = weights[0].shape[1], weights[1].shape[1]
    with torch.device("meta"):
        forwards, backwards = (nn.GRU(*width, batch_first=True) for _ in range(2))
    for gru, own in ((forwards, weights[:4]), (backwards, weights[4:])):
        gru.load_state_dict(dict(zip(gru.state_dict(), own, strict=True)), assign=True)
    return plain_gru(x, lengths, forwards, backwards)


@gru_operation.register_fake
def _(x: Tensor, lengths: Tensor, weights: list[Tensor]) -> Tensor:  # noqa: ARG001
    return x.new_empty(x.shape[0], x.shape[1], 2 * weights[1].shape[1], dtype=torch.float32)


def compiled_gru(x: Tensor, lengths: Tensor, forwards: nn.GRU, backwards: nn.GRU) -> Tensor:
    """The compiled loops; as :func:`bidirectional_gru`.

    The product of all frames with the input weights follows the autocast; the state is float32.
    """
    both, hidden = [dict(g.named_parameters()) for g in (forwards, backwards)], forwards.hidden_size
    weight = torch.cat([p["weight_ih_l0"] for p in both])  # (2 * 3 H, D)
    # The hidden biases of the reset and update gates may as well be added here.
    bias = torch.cat(
        [p["bias_ih_l0"] + F.pad(p["bias_hh_l0"][: 2 * hidden], (0, hidden)) for p in both]
    )  # (2 * 3 H,)
    x = x.transpose(0, 1).contiguous()  # else a product without gradient copies the weight T times
    gates = F.linear(x, weight, bias).float()  # (T, B, 2 * 3 H)
    states: Tensor = _GRULoops.apply(
        gates.unflatten(2, (2, 3 * hidden)),
        torch.stack([p["weight_hh_l0"] for p in both]),  # (2, 3 H, H)
        torch.stack([p["bias_hh_l0"][2 * hidden :] for p in both]),  # (2, H)
        lengths,
    )  # (T, B, 2, H)
    return states.flatten(2).transpose(0, 1)


class _GRULoops(torch.autograd.Function):
    """Gates of the input, hidden weights, hidden bias of the candidate -> states; all float32."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, 2, 3 H), (2, 3 H, H), (2, H), (B,) -> (T, B, 2, H)."""
        num_frames, batch, _, width = gates.shape
        states = torch.empty(num_frames, batch, 2, width // 3)
        switches = torch.empty(num_frames, batch, 2, 2 * (width // 3))
        candidate, inner = torch.empty_like(states), torch.empty_like(states)
        _both_directions(
            _loops().states,
            gates.contiguous(),
            weight.transpose(1, 2).contiguous(),  # (2, H, 3 H)
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
        """(T, B, 2, H) -> the gradients of `gates`, `weight` and `bias`."""
        weight, lengths, states, *saved = ctx.saved_tensors
        num_frames, batch, _, hidden = states.shape
        gate_grads = torch.empty(num_frames, batch, 2, 3 * hidden)
        candidate_grad = torch.empty_like(states)
        _both_directions(
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
        before = (
            torch.cat([nothing, states[:-1, :, 0]]),
            torch.cat([states[1:, :, 1], nothing]),
        )  # each state's predecessor, (T, B, H)
        weight_grad = torch.stack(
            [gate_grads[:, :, d].flatten(0, 1).T @ before[d].flatten(0, 1) for d in (0, 1)]
        )
        bias_grad = gate_grads[..., 2 * hidden :].sum((0, 1))  # (2, H)
        gate_grads[..., 2 * hidden :] = candidate_grad
        return gate_grads, weight_grad, bias_grad, None


def _both_directions(loop: Callable[..., None], *tensors: Tensor) -> None:
    """Run a loop for direction 0 and 1."""
    arrays = [loops.array(t) for t in tensors]
    loops.side_by_side([functools.partial(loop, direction, *arrays) for direction in (0, 1)])


def compiled_loops() -> ModuleType | None:
    """The loops over time, or None where numba does not load."""
    return loops.load("gru_loops")


def _loops() -> ModuleType:
    found = compiled_loops()
    assert found is not None
    return found
