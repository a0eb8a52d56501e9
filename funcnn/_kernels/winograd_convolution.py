"""Convolution with fewer multiplications: Winograd's minimal filtering along the first spatial axis.

A filter of r rows makes m = 7 - r rows of output from 6 rows of the image. As polynomials, rows and
filter are evaluated at six points and multiplied there; the output is interpolated. So 6 products of
matrices do what otherwise takes m r: half as many for r = 3. With three small constant matrices, along
an axis of rows or points, it reads

    out = A ((G weight) * (B image)),    dweight = Gᵀ ((Aᵀ dout) * (B image)).

The other axes stay as they are: a tap along them sees the image further on, which `convolve` copies as
columns. Numbers up to 8 in ``A`` and ``B`` make rounding errors two to five times those of a plain sum.
A row that is infinite or NaN makes all rows of its tile NaN.

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
_CHUNK = 1 << 20  # numbers of columns at a time: they should stay in a cache


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
    """`funcnn._kernels.convolution.convolve`, for one group and stride 1."""
    outs, _, rows = weight.shape[:3]
    by = transforms(rows, x.dtype)
    places = output_size(window, x.shape[2:])
    step, count = 7 - rows, math.prod(places[1:]) * len(x)
    turned = np.ascontiguousarray(np.moveaxis(weight, 2, 0)).reshape(rows, -1)
    filters = numerics.matmul(by.filter, turned).reshape(6, 1, outs, -1)
    out = np.empty((outs, *places, len(x)), x.dtype)
    lines = out.reshape(outs, places[0], count)
    image = frame(x, ((0, 0),) * len(places))
    blocks = _blocks(places[0], step, filters.shape[-1] * count)

    def convolve_some(i: int) -> None:
        some = blocks[i]
        points = scratch("points", (6, some.stop - some.start, outs, count), x.dtype)
        seen = _columns(*_image_at_points(image, some, window, by), window, places, len(x))
        stacked_product(filters, seen, points)
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
    """`funcnn._kernels.convolution.weight_gradient`, for one group and stride 1."""
    outs, ins, rows, *taps = weight_shape
    by = transforms(rows, x.dtype)
    places = output_size(window, x.shape[2:])
    step, count = 7 - rows, math.prod(places[1:]) * len(x)
    missing = ((0, -places[0] % step), *((0, 0),) * (x.ndim - 3))
    tiles = (outs, -(-places[0] // step), step, count)
    slopes = frame(dout, missing, "slopes").reshape(tiles).swapaxes(0, 1)
    image = frame(x, ((0, 0),) * len(places))
    blocks = _blocks(places[0], step, ins * count)
    between, run = _runs(places[1:], len(x))

    def multiply_some(i: int) -> Array:
        some = blocks[i]
        points = scratch("points", (6, some.stop - some.start, outs, count), x.dtype)
        numerics.matmul(by.output.T, slopes[some], out=points.transpose(1, 2, 0, 3))
        lines = points.reshape(6, *(1,) * len(taps), -1, outs, *between, run)
        left = np.moveaxis(lines, len(taps) + 2, -2)
        right = _shifted(*_image_at_points(image, some, window, by), window, places, len(x))
        part, *others = (
            summed_outer_product(left[..., *at, :, :], right[..., *at, :, :], x.dtype)
            for at in np.ndindex(between)
        )
        for other in others:
            part += other
        return part

    total = np.zeros((6, *taps, outs, ins), x.dtype)
    for part in share(multiply_some, len(blocks)):
        total += part
    dweight = numerics.matmul(by.filter.T, total.reshape(6, -1)).reshape(rows, *taps, outs, ins)
    return np.ascontiguousarray(dweight.transpose(-2, -1, *range(dweight.ndim - 2)))


# Below, an image is (C, H, *rest, N).


def _blocks(rows: int, step: int, numbers: int) -> list[slice]:
    """All tiles, in even parts that should each be in the cache at once; none of an empty batch."""
    tiles = -(-rows // step) if numbers else 0
    some = max(1, _CHUNK // (6 * max(numbers, 1)))
    count = -(-tiles // some)
    return [slice(tiles * i // count, tiles * (i + 1) // count) for i in range(count)]


def _runs(rest: Shape, batch: int) -> tuple[Shape, int]:
    """Axes that runs in memory lie along, and how long they are, where the last axis may be cut."""
    return tuple(rest[:-1]), math.prod(rest[-1:]) * batch


def _image_at_points(
    image: Array, some: slice, window: Window, by: Transforms
) -> tuple[Array, Shape]:
    """``B image`` of some tiles, with zeros around its other axes, and the strides of its memory.

    It is ``(6, tiles, C, *rest, N)``.
    """
    step, tiles, size = len(by.output), some.stop - some.start, image.itemsize
    channels, height, *rest, batch = image.shape
    (low, _), *padding = window.padding
    framed = [n + sum(pads) for n, pads in zip(rest, padding, strict=True)]
    line = math.prod(framed) * batch
    made = scratch("image at points", (6, tiles, channels, pitch(line, size)), image.dtype)
    points = made[..., :line].reshape(6, tiles, channels, *framed, batch)
    inside: list[Any] = [slice(None)] * 3
    for (before, after), n in zip(padding, rest, strict=True):
        if before:
            points[(*inside, slice(0, before))] = 0
        if after:
            points[(*inside, slice(before + n, None))] = 0
        inside.append(slice(before, before + n))
    between, run = _runs(tuple(rest), batch)
    target = points[tuple(inside)]
    target = target.reshape(6, tiles, channels, *between, run)
    target = target.transpose(*range(1, target.ndim - 1), 0, target.ndim - 1)
    c, h, *steps = image.strides
    strides = (step * h, c, *steps[: len(between)], h, size)
    for start, stop, first, end in _rows_seen(some.start, some.stop, step, low, height):
        if first == end:  # nothing but padding
            target[start - some.start : stop - some.start] = 0
            continue
        shape = (stop - start, channels, *between, end - first, run)
        seen = np.ndarray(shape, image.dtype, image, (start * step - low + first) * h, strides)
        into = target[start - some.start : stop - some.start]
        numerics.matmul(by.image[:, first:end], seen, out=into)
    return made, points.strides


@lru_cache(maxsize=1024)
def _rows_seen(
    start: int, stop: int, step: int, low: int, height: int
) -> list[tuple[int, int, int, int]]:
    """Tiles that see the same of their six rows, but for padding: ``(start, stop, first, end)``."""
    found: list[tuple[int, int, int, int]] = []
    for tile in range(start, stop):
        above = tile * step - low
        first = min(6, max(0, -above))
        end = max(first, min(6, height - above))
        if found and found[-1][2:] == (first, end):
            found[-1] = (found[-1][0], tile + 1, first, end)
        else:
            found.append((tile, tile + 1, first, end))
    return found


def _columns(points: Array, strides: Shape, window: Window, places: Shape, batch: int) -> Array:
    """What the places see of an image at points, as ``(6, tiles, C * other taps, places * N)``."""
    _, tiles, channels, _ = points.shape
    taps, count = window.kernel[1:], math.prod(places[1:]) * batch
    p, t, c, *steps, size = strides
    further = (s * d for s, d in zip(steps, window.dilation[1:], strict=True))
    shape = (6, tiles, channels, *taps, *places[1:], batch)
    seen = np.ndarray(shape, points.dtype, points, 0, (p, t, c, *further, *steps, size))
    rows = (6, tiles, channels * math.prod(taps), pitch(count, size))
    made = scratch("columns", rows, points.dtype)[..., :count]
    made.reshape(shape)[...] = seen
    return made


def _shifted(points: Array, strides: Shape, window: Window, places: Shape, batch: int) -> Array:
    """What each other tap sees of it, ``(6, *taps, tiles, *between, C, run)``, without a copy."""
    _, tiles, channels, _ = points.shape
    between, run = _runs(places[1:], batch)
    p, t, c, *steps, size = strides
    further = (s * d for s, d in zip(steps, window.dilation[1:], strict=True))
    shape = (6, *window.kernel[1:], tiles, *between, channels, run)
    order = (p, *further, t, *steps[: len(between)], c, size)
    return np.ndarray(shape, points.dtype, points, 0, order)
