"""The loops of a GRU over time, compiled (numba); called through :mod:`.gru`.

Shapes: T frames, B batch, 2 directions (or 1), H width of the state; arrays float32, contiguous.
Direction 0 goes forwards in time, 1 backwards. Each inner loop touches few arrays, because the
compiler gives up proving that more do not overlap, and then computes one number at a time.
"""

import numpy as np

from speechssl.model.fast.loop_maths import Array, compiled, tanh

_HALF, _ONE = np.float32(0.5), np.float32(1)


@compiled
def states(
    direction: int,
    gates: Array,
    weight: Array,
    bias: Array,
    lengths: Array,
    out: Array,
    switches: Array,
    candidate: Array,
    inner: Array,
) -> None:
    """Compute the states of one direction.

    Args:
        direction: 0 or 1.
        gates: (T, B, 2, 3 H) what the input gives to reset, update and candidate.
        weight: (2, H, 3 H) from the state to the same.
        bias: (2, H) of the candidate's hidden part.
        lengths: (B,) int64 frames.
        out: (T, B, 2, H) filled with the states, zero behind an utterance's end.
        switches: (T, B, 2, 2 H) filled with the reset and update gates.
        candidate: (T, B, 2, H) filled.
        inner: (T, B, 2, H) filled with the candidate's hidden part.
    """
    num_frames, batch, _, hidden = out.shape
    state = np.zeros((batch, hidden), dtype=np.float32)
    product = np.empty((batch, 3 * hidden), dtype=np.float32)
    added = bias[direction]
    for step in range(num_frames):
        t = num_frames - 1 - step if direction else step
        np.dot(state, weight[direction], product)
        for b in range(batch):
            h = state[b]
            if t >= lengths[b]:
                h[:] = 0
                out[t, b, direction] = 0
                continue
            given, recurrent = gates[t, b, direction], product[b]
            given_n, recurrent_n = given[2 * hidden :], recurrent[2 * hidden :]
            n, part = candidate[t, b, direction], inner[t, b, direction]
            rz = switches[t, b, direction]
            z = rz[hidden:]
            for j in range(2 * hidden):
                rz[j] = _HALF * tanh(_HALF * (given[j] + recurrent[j])) + _HALF
            for j in range(hidden):
                part[j] = recurrent_n[j] + added[j]
            for j in range(hidden):
                n[j] = tanh(given_n[j] + rz[j] * part[j])
            for j in range(hidden):
                h[j] = n[j] + z[j] * (h[j] - n[j])
            out[t, b, direction] = h


@compiled
def gradients(
    direction: int,
    grad: Array,
    weight: Array,
    lengths: Array,
    out: Array,
    switches: Array,
    candidate: Array,
    inner: Array,
    recurrent_grad: Array,
    candidate_grad: Array,
) -> None:
    """Carry the gradient of one direction back through time.

    Args:
        grad: (T, B, 2, H) of the states.
        weight: (2, 3 H, H).
        direction, lengths, out, switches, candidate, inner: as in and from :func:`states`.
        recurrent_grad: (T, B, 2, 3 H) filled with the gradient by the state's part of the gates.
        candidate_grad: (T, B, 2, H) filled with that by the input's part of the candidate.
    """
    num_frames, batch, _, hidden = out.shape
    carried = np.zeros((batch, hidden), dtype=np.float32)
    through = np.zeros((batch, hidden), dtype=np.float32)
    product = np.empty((batch, 3 * hidden), dtype=np.float32)
    total = np.empty(hidden, dtype=np.float32)
    nothing = np.zeros(hidden, dtype=np.float32)
    for step in range(num_frames):
        t = step if direction else num_frames - 1 - step
        before = t + 1 if direction else t - 1
        for b in range(batch):
            r_grad = product[b]
            if t >= lengths[b]:
                candidate_grad[t, b, direction] = 0
                recurrent_grad[t, b, direction] = 0
                r_grad[:] = 0
                through[b] = 0
                continue
            z_grad, part_grad = r_grad[hidden:], r_grad[2 * hidden :]
            h = out[before, b, direction] if 0 <= before < num_frames else nothing
            rz = switches[t, b, direction]
            z = rz[hidden:]
            n, part = candidate[t, b, direction], inner[t, b, direction]
            n_grad = candidate_grad[t, b, direction]
            above, later, passed = grad[t, b, direction], carried[b], through[b]
            for j in range(hidden):
                total[j] = above[j] + later[j]
            for j in range(hidden):
                passed[j] = total[j] * z[j]
            for j in range(hidden):
                n_grad[j] = total[j] * (_ONE - z[j]) * (_ONE - n[j] * n[j])
            for j in range(hidden):
                part_grad[j] = n_grad[j] * rz[j]
            for j in range(hidden):
                r_grad[j] = part_grad[j] * part[j] * (_ONE - rz[j])
            for j in range(hidden):
                z_grad[j] = passed[j] * (h[j] - n[j]) * (_ONE - z[j])
            recurrent_grad[t, b, direction] = r_grad
        np.dot(product, weight[direction], carried)
        carried += through
