"""How far two arrays lie apart along an axis, or how alike their directions are."""

from __future__ import annotations

import sys

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def lengths(difference: Array, power: float) -> tuple[Array, Array]:
    """The length of each row, ``(..., 1)``, and its slope, both 0 for a row of zeros.

    By the ratios to the row's largest number, whose powers neither overflow nor all vanish.
    """
    most = sys.float_info.max  # in float32, nothing is cut: what is infinite there is found to be so
    size = np.minimum(np.abs(difference), most)
    top = np.max(size, -1, keepdims=True)
    ratio = size / np.where(top == 0, 1, top)
    powers = ratio if power == 1 else ratio * ratio if power == 2 else numerics.power(ratio, power)
    total = np.maximum(numerics.sum(powers, -1, keepdims=True), 1)
    root = np.sqrt(total) if power == 2 else numerics.power(total, 1 / power)
    slope = ratio / root if power == 2 else numerics.power(ratio, power - 1) * (root / total)
    return np.minimum(top * root, most), np.sign(difference) * slope


def directions(x: Array, axis: int, epsilon: float) -> tuple[Array, Array, Array]:
    """``x / size`` along an axis, with ``size = max(|x|, epsilon)``; ``1 / size``, and where it is |x|.

    Numbers are brought near 1 first, by a power of 2, which changes no digit.
    """
    most = np.finfo(x.dtype).max
    x = np.clip(x, -most, most)
    _, power = np.frexp(np.max(np.abs(x), axis, keepdims=True))
    near = np.ldexp(x, -power)
    length = np.sqrt(numerics.sum(near * near, axis, keepdims=True))
    least = np.ldexp(x.dtype.type(epsilon), -power)
    size = np.maximum(length, least)
    size = np.where(size == 0, x.dtype.type(1), size)  # a vector of zeros has no direction
    inverse = np.minimum(np.ldexp(1 / size, -power), most)
    return near / size, inverse, length > least
