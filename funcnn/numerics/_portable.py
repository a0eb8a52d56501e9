"""Portable mode: the same bits on every machine."""

from __future__ import annotations

from typing import Literal

from funcnn.numerics._elementary import (
    cos,
    erf,
    erfc,
    exp,
    expm1,
    log,
    log1p,
    power,
    rsqrt,
    sigmoid,
    sin,
    tanh,
    tanh_slope,
)
from funcnn.numerics._exact import matmul, matmul as stacked_matmul, prepare, summed_matmul
from funcnn.numerics._sums import sum

__all__ = [
    "cos",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "log",
    "log1p",
    "matmul",
    "power",
    "prepare",
    "rsqrt",
    "sigmoid",
    "sin",
    "stacked_matmul",
    "sum",
    "summed_matmul",
    "tanh",
    "tanh_slope",
    "word",
]

word: Literal["fast", "portable"] = "portable"
