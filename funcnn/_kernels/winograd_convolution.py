"""Convolution with fewer multiplications: Winograd's minimal filtering along the first spatial axis.

A filter of r rows makes m = 7 - r rows of output from 6 rows of the image. As polynomials, rows and
filter are evaluated at six points and multiplied there; the output is interpolated. So 6 products of
matrices do what otherwise takes m r: half as many for r = 3. With three small constant matrices, along
an axis of rows or points, it reads

    out = A ((G weight) * (B image)),    dweight = Gᵀ ((Aᵀ dout) * (B image)).

The other axes stay as they are: columns, as in `matrices`. Numbers up to 8 in ``A`` and ``B`` make
rounding errors two to five times those of a plain sum. A row that is infinite or NaN makes all rows of
its tile NaN.

S. Winograd, "Arithmetic complexity of computations", 1980; A. Lavin and S. Gray, "Fast algorithms for
convolutional neural networks", 2016.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.matrices import frame, pitch
from funcnn._kernels.products import stacked_product, summed_outer_product
from funcnn._kernels.scratch import scratch
from funcnn._kernels.windows import Window, output_size
from funcnn.numerics._threads import share
from funcnn.types import Array

Shape = tuple[int, ...]

_POINTS = (0, 1, -1, 2, -2)  # and infinity, where a polynomial is its last coefficient
_CHUNK = 1 << 19  # numbers of columns at a time: they should stay in a cache


class Transforms(NamedTuple):
    """``A (m, 6)``, ``B (6, 6)`` and ``G (6, r)`` for filters of r rows and tiles of m = 7 - r."""

    output: Array
    image: Array
    filter: Array


@lru_cache(maxsize=16)
def transforms(rows: int, dtype: np.dtype[Any]) -> Transforms:
    """The constants for filters of so many rows.

    ``G`` evaluates a filter at a point a, and divides by the product of all ``a - b``; ``A`` is the
    transpose of an evaluation; row a of ``B`` has the coefficients of the product of all ``x - b``,
    and the last one those of the product over all points.

    >>> transforms(3, np.dtype(float)).image[:2]
    array([[ 4.,  0., -5.,  0.,  1.,  0.],
           [ 0., -4., -4.,  1.,  1.,  0.]])
    """
    others = [[b for b in _POINTS if b != a] for a in _POINTS]
    divisors = [math.prod(a - b for b in rest) for a, rest in zip(_POINTS, others, strict=True)]
    powers = np.vander(_POINTS, 6, increasing=True).astype(float)
    last = np.eye(6)[-1:]
    image = [[*np.poly(rest)[::-1], 0] for rest in others] + [np.poly(_POINTS)[::-1]]
    filters = powers[:, :rows] / np.array(divisors)[:, None]
    found = (
        np.vstack([powers[:, : 7 - rows], last[:, rows - 1 :]]).T,
        np.array(image),
        np.vstack([filters, last[:, 6 - rows :]]),
    )
    return Transforms(*(np.ascontiguousarray(matrix, dtype) for matrix in found))


def convolve(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """`funcnn._kernels.convolution.convolve`, for one group and stride 1 along H."""
    outs, _, rows = weight.shape[:3]
    by = transforms(rows, x.dtype)
    places = output_size(window, x.shape[2:])
    step, count = 7 - rows, math.prod(places[1:]) * len(x)
    turned = np.ascontiguousarray(np.moveaxis(weight, 2, 0)).reshape(rows, -1)
    filters = numerics.matmul(by.filter, turned).reshape(6, 1, outs, -1)
    out = np.empty((outs, *places, len(x)), x.dtype)
    lines = out.reshape(outs, places[0], count)
    image = _framed(x, window, step)
    blocks = _blocks(places[0], step, filters.shape[-1] * count)

    def convolve_some(i: int) -> None:
        some = blocks[i]
        points = scratch("points", (6, some.stop - some.start, outs, count), x.dtype)
        stacked_product(filters, _columns(image, some, window, places, by), points)
        if bias is not None:
            points[1] += bias[:, None]  # at 1, every power is 1: all rows get it
        points = points.transpose(1, 2, 0, 3)
        whole = min(some.stop, places[0] // step)
        tiles = lines[:, some.start * step : whole * step].reshape(outs, -1, step, count)
        numerics.matmul(by.output, points[: whole - some.start], out=tiles.swapaxes(0, 1))
        if whole < some.stop:
            left = lines[:, whole * step :].swapaxes(0, 1)
            numerics.matmul(by.output[: len(left)], points[-1], out=left.swapaxes(0, 1))

    share(convolve_some, len(blocks))
    return out.transpose(x.ndim - 1, *range(x.ndim - 1))


def weight_gradient(x: Array, dout: Array, weight_shape: Shape, window: Window) -> Array:
    """`funcnn._kernels.convolution.weight_gradient`, for one group and stride 1 along H."""
    outs, ins, rows = weight_shape[:3]
    by = transforms(rows, x.dtype)
    places = output_size(window, x.shape[2:])
    step, count = 7 - rows, math.prod(places[1:]) * len(x)
    missing = ((0, -places[0] % step), *((0, 0),) * (x.ndim - 3))
    tiles = (outs, -(-places[0] // step), step, count)
    slopes = frame(dout, missing, "slopes").reshape(tiles).swapaxes(0, 1)
    image = _framed(x, window, step)
    total = np.zeros((6, outs, ins * math.prod(window.kernel[1:])), x.dtype)
    blocks = _blocks(places[0], step, total.shape[-1] * count)

    def multiply_some(i: int) -> Array:
        some = blocks[i]
        points = scratch("points", (6, some.stop - some.start, outs, count), x.dtype)
        numerics.matmul(by.output.T, slopes[some], out=points.transpose(1, 2, 0, 3))
        return summed_outer_product(points, _columns(image, some, window, places, by), x.dtype)

    for part in share(multiply_some, len(blocks)):
        total += part
    taps = numerics.matmul(by.filter.T, total.reshape(6, -1))
    taps = taps.reshape(rows, outs, ins, *window.kernel[1:])
    return np.ascontiguousarray(np.moveaxis(taps, 0, 2))


# Below, an image is (C, H, *rest, N).


def _framed(x: Array, window: Window, step: int) -> Array:
    """The image with its padding, and with the rows that its last tile lacks."""
    (low, high), *others = window.padding
    rows = output_size(window, x.shape[2:])[0]
    return frame(x, ((low, high + -rows % step), *others))


def _blocks(rows: int, step: int, numbers: int) -> list[slice]:
    """All tiles, as many at a time as should be in the cache together; none of an empty batch."""
    tiles, some = -(-rows // step) if numbers else 0, max(1, _CHUNK // (6 * max(numbers, 1)))
    return [slice(start, min(start + some, tiles)) for start in range(0, tiles, some)]


def _columns(image: Array, some: slice, window: Window, places: Shape, by: Transforms) -> Array:
    """What the places see of ``B image``, as ``(6, tiles, C * other taps, places * N)``."""
    step, tiles, size = len(by.output), some.stop - some.start, image.itemsize
    channels, _, *rest, batch = image.shape
    c, h = image.strides[:2]
    shape = (tiles, channels, 6, math.prod(rest) * batch)
    seen = np.ndarray(shape, image.dtype, image, some.start * step * h, (step * h, c, h, size))
    points = scratch("image at points", (6, tiles, channels, *rest, batch), image.dtype)
    flat = points.reshape(6, tiles, channels, -1)
    numerics.matmul(by.image, seen, out=flat.transpose(1, 2, 0, 3))

    steps = points.strides[3:-1]
    taps = (s * d for s, d in zip(steps, window.dilation[1:], strict=True))
    jumps = (s * d for s, d in zip(steps, window.stride[1:], strict=True))
    shape = (6, tiles, channels, *window.kernel[1:], *places[1:], batch)
    count = math.prod(places[1:]) * batch
    rows = (6, tiles, channels * math.prod(window.kernel[1:]), pitch(count, size))
    made = scratch("columns", rows, image.dtype)[..., :count]
    strides = (*points.strides[:3], *taps, *jumps, size)
    made.reshape(shape)[...] = np.ndarray(shape, image.dtype, points, 0, strides)
    return made
