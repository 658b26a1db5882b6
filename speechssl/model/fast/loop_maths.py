"""What the compiled loops (numba) are made of: functions of one number that run on whole vectors.

The compiler turns a loop into one over vectors only where it touches few arrays and may reorder a
sum. A running maximum of floats it leaves as it is; of the integers that :func:`ordered` gives it
does not.

float32 throughout. An array of bfloat16 is one of uint16 here, which numba knows.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from numba import types
from numba.extending import overload

from speechssl.compiled import njit

Array = np.ndarray[Any, Any]
_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")
_Form = TypeVar("_Form", bound=Callable[..., Any])
_I32, _U32, _F32 = np.int32, np.uint32, np.float32
_FLAGS = {"reassoc", "contract", "arcp", "nsz"}  # without "nnan" and "ninf": NaN stays NaN


def compiled(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Compile at the first call, keep the code on disk, let other threads run beside it."""
    made = njit(function, nogil=True, fastmath=_FLAGS, error_model="numpy")
    return cast(Callable[_Args, _Result], made)


def compiled_inline(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """The same for what other loops call: always a part of their code.

    Else a loop calls a copy that was optimised by itself in the process that compiles both, and one
    that was optimised with the loop where it is read from the disk, and sums in another order.
    """
    made = njit(function, nogil=True, fastmath=_FLAGS, error_model="numpy", forceinline=True)
    return cast(Callable[_Args, _Result], made)


@compiled_inline
def tanh(x: Any) -> Any:
    """Within 4e-7: a quotient of polynomials (the form of Eigen's ptanh)."""
    x = min(max(x, _F32(-7.90531110763549805)), _F32(7.90531110763549805))
    y = x * x
    p = _F32(-2.76076847742355e-16)
    p = p * y + _F32(2.00018790482477e-13)
    p = p * y + _F32(-8.60467152213735e-11)
    p = p * y + _F32(5.12229709037114e-08)
    p = p * y + _F32(1.48572235717979e-05)
    p = p * y + _F32(6.37261928875436e-04)
    p = p * y + _F32(4.89352455891786e-03)
    q = _F32(1.19825839466702e-06)
    q = q * y + _F32(1.18534705686654e-04)
    q = q * y + _F32(2.26843463243900e-03)
    q = q * y + _F32(4.89352518554385e-03)
    return x * p / q


@compiled_inline
def erf(x: Any) -> Any:
    """The error function within 4e-7: a quotient of polynomials (the form of Eigen's erf)."""
    x = min(max(x, _F32(-4)), _F32(4))
    y = x * x
    p = _F32(-2.72614225801306e-10)
    p = p * y + _F32(2.77068142495902e-08)
    p = p * y + _F32(-2.10102402082508e-06)
    p = p * y + _F32(-5.69250639462346e-05)
    p = p * y + _F32(-7.34990630326855e-04)
    p = p * y + _F32(-2.95459980854025e-03)
    p = p * y + _F32(-1.60960333262415e-02)
    q = _F32(-1.45660718464996e-05)
    q = q * y + _F32(-2.13374055278905e-04)
    q = q * y + _F32(-1.68282697438203e-03)
    q = q * y + _F32(-7.37332916720468e-03)
    q = q * y + _F32(-1.42647390514189e-02)
    return x * p / q


@compiled_inline
def exp2(x: Any) -> Any:
    """2 ** x for x <= 128, within 3e-7 of its size; 0 below 2 ** -126."""
    x = max(x, _F32(-127))
    whole = np.floor(x + _F32(0.5))
    r = x - whole  # in [-0.5, 0.5]
    p = _F32(1.535336188319500e-4)
    p = p * r + _F32(1.339887440266574e-3)
    p = p * r + _F32(9.618437357674640e-3)
    p = p * r + _F32(5.550332471162809e-2)
    p = p * r + _F32(2.402264791363012e-1)
    p = p * r + _F32(6.931472028550421e-1)
    p = p * r + _F32(1)
    power = _I32(_I32(_I32(whole) + _I32(127)) << _I32(23))
    return p * power.view(_F32)


@compiled_inline
def ordered(x: Any) -> Any:
    """An int32 that is greater where x is; its own inverse, from :func:`from_ordered`."""
    bits = _F32(x).view(_I32)
    return _I32(bits ^ _I32(_I32(bits >> _I32(31)) & _I32(0x7FFFFFFF)))


@compiled_inline
def from_ordered(number: Any) -> Any:
    """The float32 of an int32 from :func:`ordered`."""
    bits = _I32(number ^ _I32(_I32(number >> _I32(31)) & _I32(0x7FFFFFFF)))
    return bits.view(_F32)


@compiled_inline
def mix(x: Any) -> Any:
    """uint32 -> uint32 in which every bit hangs on all bits of x (the hash "lowbias32")."""
    x = _U32(x ^ _U32(x >> _U32(16)))
    x = _U32(x * _U32(0x7FEB352D))
    x = _U32(x ^ _U32(x >> _U32(15)))
    x = _U32(x * _U32(0x846CA68B))
    return _U32(x ^ _U32(x >> _U32(16)))


@compiled_inline
def draw(key: Any, bits: Array) -> None:
    """Fill `bits` (N,) uint32 with the random numbers of a key, a uint32."""
    for j in range(len(bits)):
        bits[j] = mix(_U32(_U32(_U32(j) * _U32(0x9E3779B1)) ^ key))


def _compiled_form(function: Callable[..., None]) -> Callable[[_Form], _Form]:
    return cast(Callable[[_Form], _Form], overload(function, inline="always"))


def read(values: Array, out: Array) -> None:
    """Copy (N,) float32, or bfloat16 as uint16, to (N,) float32; inside compiled loops only."""
    raise NotImplementedError


def write(values: Array, out: Array) -> None:
    """Copy (N,) float32 to (N,) float32, or to the nearest bfloat16 as uint16; inside compiled
    loops only."""
    raise NotImplementedError


@_compiled_form(read)
def _read(values: Any, out: Any) -> Callable[..., None]:  # noqa: ARG001
    def same(values: Any, out: Any) -> None:
        for j in range(len(out)):
            out[j] = values[j]

    def wider(values: Any, out: Any) -> None:
        for j in range(len(out)):
            out[j] = _U32(_U32(values[j]) << _U32(16)).view(_F32)

    return wider if values.dtype == types.uint16 else same


@_compiled_form(write)
def _write(values: Any, out: Any) -> Callable[..., None]:
    def same(values: Any, out: Any) -> None:
        for j in range(len(out)):
            out[j] = values[j]

    def narrower(values: Any, out: Any) -> None:
        for j in range(len(out)):
            bits = _F32(values[j]).view(_U32)
            half = _U32(_U32(0x7FFF) + _U32(_U32(bits >> _U32(16)) & _U32(1)))  # to even
            out[j] = _U32(_U32(bits + half) >> _U32(16))

    del values
    return narrower if out.dtype == types.uint16 else same
