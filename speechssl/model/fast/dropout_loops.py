"""Dropout and the weights of attention, compiled (numba); called through :mod:`.dropout` and
:mod:`.attention`.

Whether an entry is kept is decided by 16 bits, which a row's key gives for each of its columns: the
same loop makes them again in the backward, so that no mask is stored. `dropped` is how many of the
65,536 numbers drop an entry, `scale` what the others are multiplied with.

Each loop does the rows from `first` up to `last`. Shapes: N rows, D and T columns; arrays of values
are float32, or bfloat16 as uint16.
"""

from typing import Any

import numpy as np

from speechssl.model.fast.loop_maths import (
    Array,
    compiled,
    compiled_inline,
    draw,
    exp2,
    from_ordered,
    ordered,
    read,
    write,
)

_F32, _I32, _U16, _U32 = np.float32, np.int32, np.uint16, np.uint32
_LOG2_E = _F32(1.4426950408889634)
_FAR_BELOW = _F32(-1e30)


@compiled
def drop(
    first: int, last: int, values: Array, keys: Array, dropped: int, scale: float, out: Array
) -> None:
    """Fill `out` (N, D) with what dropout leaves of `values` (N, D); `keys` is (N,) uint32."""
    width = values.shape[1]
    bits = np.empty((width + 1) // 2, dtype=_U32)
    drawn, least, factor = bits.view(_U16), _U16(dropped), _F32(scale)
    row = np.empty(width, dtype=_F32)
    for i in range(first, last):
        draw(keys[i], bits)
        read(values[i], row)
        for j in range(width):
            row[j] = row[j] * factor if drawn[j] >= least else _F32(0)
        write(row, out[i])


@compiled
def weights(
    first: int, last: int, scores: Array, valid: Array, keys: Array, dropped: int, scale: float
) -> None:
    """Turn `scores` (N, T) into the softmax of each row with dropout, in place.

    `valid` is (U, T) bool for U utterances of N / U rows each, False where a key is not attended
    to, or (0, T) where all are; `keys` is (N,) uint32.
    """
    width = scores.shape[1]
    rows = len(scores) // max(len(valid), 1)
    bits = np.empty((width + 1) // 2, dtype=_U32)
    drawn, least, factor = bits.view(_U16), _U16(dropped), _F32(scale)
    row = np.empty(width, dtype=_F32)
    for i in range(first, last):
        each = factor / _exponentials(scores[i], valid, i // rows, row)
        draw(keys[i], bits)
        for j in range(width):
            row[j] = row[j] * each if drawn[j] >= least else _F32(0)
        write(row, scores[i])


@compiled
def gradients(
    first: int,
    last: int,
    scores: Array,
    grad: Array,
    valid: Array,
    keys: Array,
    dropped: int,
    scale: float,
) -> None:
    """The backward of :func:`weights`: turn `scores` into those weights, and `grad` (N, T), that by
    the weights, into that by the scores, both in place."""
    width = scores.shape[1]
    rows = len(scores) // max(len(valid), 1)
    bits = np.empty((width + 1) // 2, dtype=_U32)
    drawn, least, factor = bits.view(_U16), _U16(dropped), _F32(scale)
    row, by_row = np.empty(width, dtype=_F32), np.empty(width, dtype=_F32)
    kept = np.empty(width, dtype=_F32)
    for i in range(first, last):
        each = _F32(1) / _exponentials(scores[i], valid, i // rows, row)
        draw(keys[i], bits)
        read(grad[i], by_row)
        for j in range(width):
            row[j] = row[j] * each
        for j in range(width):
            kept[j] = factor if drawn[j] >= least else _F32(0)
        for j in range(width):
            by_row[j] = by_row[j] * kept[j]
        mean = _F32(0)
        for j in range(width):
            mean += row[j] * by_row[j]
        for j in range(width):
            by_row[j] = row[j] * (by_row[j] - mean)
        for j in range(width):
            row[j] = row[j] * kept[j]
        write(row, scores[i])
        write(by_row, grad[i])


@compiled_inline
def _exponentials(scores: Array, valid: Array, utterance: int, row: Array) -> Any:
    """Fill `row` (T,) with exp(scores - their maximum), zero where a key is not valid, and return
    the sum."""
    read(scores, row)
    if len(valid):
        for j in range(len(row)):
            row[j] = row[j] if valid[utterance, j] else _FAR_BELOW
    highest = _I32(-(2**31))
    for j in range(len(row)):
        highest = max(highest, ordered(row[j]))
    most = from_ordered(highest)
    total = _F32(0)
    for j in range(len(row)):
        share = exp2((row[j] - most) * _LOG2_E)
        row[j] = share
        total += share
    return total
