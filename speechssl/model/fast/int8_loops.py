"""What 8-bit products need before and behind them, compiled (numba); called through :mod:`.int8`.

Each loop does the rows from `first` up to `last`. Shapes: N rows, C columns, K taps.
"""

import numpy as np

from speechssl.model.fast.loop_maths import Array, compiled, erf, from_ordered, ordered

_F32, _I32, _U8 = np.float32, np.int32, np.uint8
_HALF, _ROOT = _F32(0.5), _F32(0.5**0.5)


@compiled
def limits(first: int, last: int, values: Array, low: Array, high: Array) -> None:
    """Fill `low` and `high` (N,) with the least and the greatest of each row of `values` (N, C),
    float32."""
    for i in range(first, last):
        row = values[i]
        least, greatest = _I32(0x7FFFFFFF), _I32(-0x80000000)
        for j in range(len(row)):
            least = min(least, ordered(row[j]))
            greatest = max(greatest, ordered(row[j]))
        low[i], high[i] = from_ordered(least), from_ordered(greatest)


@compiled
def codes(first: int, last: int, values: Array, each: float, zero: float, out: Array) -> None:
    """Fill `out` (N, C) uint8 with ``values * each + zero`` of float32 values, rounded."""
    factor, offset = _F32(each), _F32(_F32(zero) + _HALF)
    for i in range(first, last):
        row, to = values[i], out[i]
        for j in range(len(row)):
            # Not negative, so that cutting off half more than the value rounds it.
            x = min(max(row[j] * factor + offset, _F32(0)), _F32(255))
            to[j] = _U8(_I32(x))


@compiled
def gelu_codes(
    first: int, last: int, values: Array, out: Array, scale: Array, lowest: Array
) -> None:
    """Fill `out` (N, C) uint8, `scale` and `lowest` (N,), so that ``out * scale + lowest`` is about
    the GELU of `values` (N, C) float32."""
    gelu = np.empty(values.shape[1], _F32)
    for i in range(first, last):
        row, to = values[i], out[i]
        least, most = _I32(0x7FFFFFFF), _I32(-0x80000000)
        for j in range(len(row)):
            gelu[j] = _HALF * row[j] * (_F32(1) + erf(row[j] * _ROOT))
            least = min(least, ordered(gelu[j]))
            most = max(most, ordered(gelu[j]))
        low = from_ordered(least)
        each = (from_ordered(most) - low) / _F32(255)
        if each < _F32(1e-30):  # a constant row
            each = _F32(1)
        scale[i], lowest[i] = each, low
        factor, offset = _F32(1) / each, _HALF - low / each
        for j in range(len(row)):
            to[j] = _U8(_I32(min(max(gelu[j] * factor + offset, _F32(0)), _F32(255))))


@compiled
def add_taps(
    first: int,
    last: int,
    out: Array,
    bias: Array,
    sums: Array,
    scale: Array,
    low: Array,
    stride: int,
    products: tuple[Array, ...],
) -> None:
    """Fill `out` (N, C) float32 with a strided convolution's outputs from what its taps made of
    each frame's codes.

    Tap k of output i meets frame ``i * stride + k``, whose `scale` and `low` (N * stride + K, ...)
    are given. ``products[r]`` (N + ..., ... * C) has what the taps r, r + stride, ... made of the
    frames r, r + stride, ..., side by side; `sums` (K, C) what a tap makes of a frame of ones.
    """
    for i in range(first, last):
        to = out[i]
        num = len(to)
        for j in range(num):
            to[j] = bias[j]
        for tap in range(len(sums)):
            later = tap // stride
            part = products[tap % stride][i + later, later * num : (later + 1) * num]
            ones, each, least = sums[tap], scale[i * stride + tap], low[i * stride + tap]
            for j in range(num):
                to[j] += each * part[j] + least * ones[j]
