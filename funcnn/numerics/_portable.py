"""Portable mode: the same bits on every machine."""

from __future__ import annotations

from typing import Literal

from funcnn.numerics._elementary import (
    cos as cos,
    erf as erf,
    erfc as erfc,
    exp as exp,
    expm1 as expm1,
    log as log,
    log1p as log1p,
    power as power,
    rsqrt as rsqrt,
    sigmoid as sigmoid,
    sin as sin,
    tanh as tanh,
    tanh_slope as tanh_slope,
)
from funcnn.numerics._exact import matmul as matmul, prepare as prepare, summed_matmul as summed_matmul
from funcnn.numerics._sums import sum as sum

stacked_matmul = matmul
word: Literal["fast", "portable"] = "portable"
