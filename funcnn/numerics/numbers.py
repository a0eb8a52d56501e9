"""Elementary functions of portable mode, as kernels call them: of one float64 number."""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from funcnn.numerics import _elementary
from funcnn.numerics.jit import inlined_exactly
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

sigmoid, tanh = (of_numbers(getattr(_elementary, one).__wrapped__) for one in ("sigmoid", "tanh"))
