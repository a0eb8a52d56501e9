"""Which way a convolution is computed: one of a few plans, chosen once for each shape.

Every plan gives the same result up to rounding. The choice depends on the shapes alone, never on
timing: the same shapes give the same bits. The constants were measured in November 2026 on two cores
with AVX-512 (an AMD EPYC, Zen 4, or an Intel Xeon, Emerald Rapids; which one was not noted), with the
OpenBLAS 0.3.31 that NumPy 2.4 brings.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

from funcnn._kernels.windows import Window, output_size

Shape = tuple[int, ...]
Operation = Literal["convolve", "weight", "input"]

_CHUNK = 10 << 15  # numbers of overlapping columns at a time: they should stay in a cache
_FULL_CHUNK = 1 << 19  # and of full columns, each of which is read once
_SHORT = 48  # the shortest row that is worth a product of its own
_LONG = 256  # and the shortest whose partial sum is worth keeping
_FEW = 1200  # weights with which short rows cost little
_SMALL = 1 << 16  # numbers of flat columns: above, they leave the cache that they are made in
_PRODUCTS = 1 << 19  # multiplications by them: above, BLAS copies its matrices first


class Rows(NamedTuple):
    """Slide along the first spatial axis without copying, over `chunk` places of the next at a time."""

    chunk: int


class Columns(NamedTuple):
    """Copy what each window sees, at `chunk` places of the first spatial axis at a time."""

    chunk: int


class Rotated(NamedTuple):
    """The input gradient for stride 1: a convolution with the rotated filters."""


class Flat(NamedTuple):
    """A single product of long rows, see `flat`."""


class Depthwise(NamedTuple):
    """One channel at a time, see `depthwise`."""


General = Rows | Columns | Rotated | Flat
Plan = General | Depthwise


@lru_cache(maxsize=1024)
def plan(operation: Operation, x_shape: Shape, weight_shape: Shape, window: Window) -> Plan:
    """The plan for an input and filters."""
    if weight_shape[1] == 1 < x_shape[1]:
        return Depthwise()
    return general(operation, x_shape, weight_shape, window)


@lru_cache(maxsize=1024)
def general(operation: Operation, x_shape: Shape, weight_shape: Shape, window: Window) -> General:
    """The plan for any number of groups.

    Examples
    --------
    >>> window = Window((5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1))
    >>> general("convolve", (32, 3, 28, 28), (6, 3, 5, 5), window)
    Rows(chunk=24)
    """
    batch, channels, height = x_shape[:3]
    places = output_size(window, x_shape[2:])
    if _fits_flat(x_shape, weight_shape, window):
        return Flat()
    run, weights = math.prod(places[1:]) * batch, math.prod(weight_shape)
    rows = len(places) > 1 and window.kernel[0] > 1 and window.dilation[0] == 1
    if operation == "convolve":
        rows = rows and (run >= _SHORT or weights <= 2 * _FEW)
    elif operation == "weight":
        rows = rows and (run >= _LONG or (run >= _SHORT and weights <= _FEW))
    elif run >= _SHORT or not rows:
        fits = all(s == 1 and max(pad) <= d * (k - 1) for k, s, pad, d in zip(*window, strict=True))
        waste = math.prod(x_shape[2:]) / math.prod(places)
        if fits and waste <= (1.25 if rows else 2.5):
            return Rotated()
    axis = 1 if rows else 0
    copies = channels * math.prod(window.kernel[axis:]) * (height if rows else 1)
    numbers = copies * math.prod(places[axis:]) * batch
    pieces = max(1, -(-numbers // (_CHUNK if rows else _FULL_CHUNK)))
    return (Rows if rows else Columns)(max(1, -(-places[axis] // pieces)))


def _fits_flat(x_shape: Shape, weight_shape: Shape, window: Window) -> bool:
    """Whether a convolution is small, has stride 1 and one group, and flat wastes half at most."""
    framed = [n + low + high for n, (low, high) in zip(x_shape[2:], window.padding, strict=True)]
    places = output_size(window, x_shape[2:])
    columns = math.prod(weight_shape[1:]) * math.prod(framed) * x_shape[0]
    return (
        set(window.stride) == {1}
        and weight_shape[1] == x_shape[1]
        and 0 < columns <= min(_SMALL, _PRODUCTS // weight_shape[0])
        and math.prod(framed[1:]) <= 1.5 * math.prod(places[1:])
    )
