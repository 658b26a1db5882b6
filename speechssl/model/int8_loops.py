"""Numbers turned into one byte or two, compiled (numba); called through
:mod:`speechssl.model.int8`.

Each loop does the rows from `first` up to `last`. Shapes: N rows, C columns.
"""

import numpy as np

from speechssl.model.loop_maths import Array, compiled, erf, from_ordered, ordered

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
    first: int, last: int, values: Array, each: float, zero: float, high: Array, low: Array
) -> None:
    """Fill `high` and `low` (N, C) uint8 with the two bytes of ``gelu(values) * each + zero``,
    rounded."""
    factor, offset = _F32(each), _F32(_F32(zero) + _HALF)
    for i in range(first, last):
        row, upper, lower = values[i], high[i], low[i]
        for j in range(len(row)):
            heard = _HALF * row[j] * (_F32(1) + erf(row[j] * _ROOT))
            code = _I32(min(max(heard * factor + offset, _F32(0)), _F32(65535)))
            upper[j] = _U8(code >> 8)
            lower[j] = _U8(code & 255)
