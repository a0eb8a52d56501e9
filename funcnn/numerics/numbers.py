"""Elementary functions of portable mode, as kernels call them: of one float64 number, or of rows.

Those of rows of float32 numbers try a series that needs no table first. It is right to 2**-45 of the
value, and the function of float64 to 2**-50: so where both ends of a wider bound round alike, both give
the same float32. A row that has others is computed as float64 would be.
"""

from __future__ import annotations

from functools import cache
from math import factorial
from types import FunctionType
from typing import Any

import numpy as np

from funcnn.numerics import _elementary
from funcnn.numerics._elementary import _LN2_HIGH, _LN2_LOW, _SHIFT, _SHIFT_BITS
from funcnn.numerics.jit import In, Out, inlined, inlined_exactly
from funcnn.types import Array


@cache
def of_numbers(function: FunctionType) -> Any:
    """A function of arrays as one of numbers, and with it those of the same module that it calls."""
    known, needed = function.__globals__, {*function.__code__.co_names, "__name__"}
    names = {name: known[name] for name in needed & known.keys()}
    for name, value in names.items():
        if name in _FORMS:
            names[name] = _FORMS[name]
        elif isinstance(value, FunctionType):
            names[name] = of_numbers(getattr(value, "__wrapped__", value))
    made = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    return inlined_exactly(made)


@inlined_exactly
def _clip(x: float, least: float, most: float) -> float:
    x = most if x > most else x  # NaN stays
    return least if x < least else x


@inlined_exactly
def _everywhere(condition: bool) -> bool:
    return condition


@inlined_exactly
def _bits(x: float) -> Any:
    return np.float64(x).view(np.int64)


@inlined_exactly
def _number(bits: int) -> Any:
    return np.int64(bits).view(np.float64)


@inlined_exactly
def _taken(table: Array, j: int) -> float:
    found: float = table[np.uint64(j)]  # asks nothing
    return found


@inlined_exactly
def _where(condition: bool, yes: float, no: float) -> float:
    return yes if condition else no


_FORMS = {
    "_bits": _bits, "_clip": _clip, "_everywhere": _everywhere, "_number": _number, "_taken": _taken,
    "_where": _where,
}  # fmt: skip

# --- rows of float32 numbers ----------------------------------------------------------------------

_BOUND = 2.0**-42  # of the value
_LOG2E = 1 / (_LN2_HIGH + _LN2_LOW)
_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11 = (1 / factorial(k) for k in range(2, 12))


def _short(function: Any) -> Any:
    """A function whose products and sums may be fused, as its bound allows, but not reordered."""
    return inlined(function, fastmath={"contract"}, forceinline=True)


@_short
def _parts(x: float) -> Any:
    """``(p, power)`` with ``exp(x) = power + power p``; `x` within -200..200."""
    shifted = x * _LOG2E + _SHIFT
    whole = shifted - _SHIFT
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    square = r * r
    low = (_C2 + r * _C3) + square * (_C4 + r * _C5)
    high = (_C6 + r * _C7) + square * (_C8 + r * _C9) + square * square * (_C10 + r * _C11)
    count = np.float64(shifted).view(np.int64) - _SHIFT_BITS
    return r + square * (low + square * square * high), _number((count + 1023) << 52)


@_short
def _exp(x: float) -> Any:
    x = 100.0 if x > 100.0 else x
    p, power = _parts(-110.0 if x < -110.0 else x)
    return power + power * p


@_short
def _sigmoid(x: float) -> Any:
    e = _exp(-abs(x))
    return (e if x < 0 else 1.0) / (1.0 + e)


@_short
def _tanh(x: float) -> Any:
    y = 2.0 * abs(x)
    p, power = _parts(60.0 if y > 60.0 else y)
    t = (power - 1.0) + power * p
    return np.copysign(t / (t + 2.0), x)


def _of_rows(short: Any, long: Any) -> Any:
    @inlined
    def function(x: In, out: Out) -> None:
        doubt = 0
        for i in range(len(x)):
            value = short(np.float64(x[i]))
            out[i] = np.float32(value + value * _BOUND)
            doubt |= out[i] != np.float32(value - value * _BOUND)
        if doubt:
            for i in range(len(x)):
                out[i] = np.float32(long(np.float64(x[i])))

    return function


_NAMED = {"exp": _exp, "sigmoid": _sigmoid, "tanh": _tanh}
of_rows = {
    (long := getattr(_elementary, name).__wrapped__): _of_rows(short, of_numbers(long))
    for name, short in _NAMED.items()
}
"""What some functions of `_elementary` write for a row of float32 numbers that lies elsewhere."""
exp, sigmoid, tanh = of_rows.values()
