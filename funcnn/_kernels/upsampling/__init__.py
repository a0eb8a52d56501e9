"""Larger and smaller images: pixels repeated, or lines and curves drawn between them.

Memory runs batch-last. Images are ``(N, C, *spatial)``, of any number of spatial axes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from funcnn import numerics
from funcnn._kernels.images import batch_first, batch_last
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_compiled = compiled_in("funcnn._kernels.upsampling.compiled")

_SHARP = -0.75  # the slope of the cubic at its first zero, as in PyTorch and OpenCV


class Line(NamedTuple):
    """How an axis becomes one of other places, by a factor, or by what the sizes say."""

    size: int
    places: int
    factor: float | None
    mode: str
    align_corners: bool


@_compiled
def repeated(x: Array, scale: tuple[int, ...]) -> Array:
    """Each pixel as often as the scale says, along each axis."""
    n, c, *spatial = x.shape
    inner = [size for h in spatial for size in (h, 1)]
    copies = [size for pair in zip(spatial, scale, strict=True) for size in pair]
    out = np.broadcast_to(batch_last(x).reshape(c, *inner, n), (c, *copies, n))
    return batch_first(out.reshape(c, *(h * s for h, s in zip(spatial, scale, strict=True)), n))


@_compiled
def repeated_gradient(dout: Array, scale: tuple[int, ...]) -> Array:
    """The sum over the copies of each pixel."""
    n, c, *spatial = dout.shape
    copies = [size for h, s in zip(spatial, scale, strict=True) for size in (h // s, s)]
    blocks = batch_last(dout).reshape(c, *copies, n)
    return batch_first(numerics.sum(blocks, tuple(range(2, blocks.ndim, 2))))


@_compiled
def resized(x: Array, lines: tuple[Line, ...]) -> Array:
    """``Y = A_h X A_wᵀ``, with a few weights in each row of ``A``."""
    for axis, line in enumerate(lines, 2):
        x = _blended(x, axis, weights(line))
    return x


@_compiled
def resized_gradient(dout: Array, lines: tuple[Line, ...]) -> Array:
    """``dX = A_hᵀ dY A_w``."""
    for axis, line in enumerate(lines, 2):
        dout = _blended(dout, axis, weights(line).T)
    return dout


def _blended(x: Array, axis: int, matrix: Array) -> Array:
    """A matrix times ``(N, C, *spatial)`` along an axis, by what is not 0 in its rows alone.

    A product with all of it would let every pixel that is infinite or NaN into every other.
    """
    few = max(1, int(np.count_nonzero(matrix, axis=1).max()))
    seen = np.argsort(matrix == 0, axis=1, kind="stable")[:, :few]  # of each row, in order
    weights = np.take_along_axis(matrix, seen, 1)
    seen = np.where(weights, seen, matrix.shape[1])  # what is missing is a line of zeros
    last = (*range(1, x.ndim), 0)
    order = (axis, *(k for k in last if k != axis))
    lines = np.zeros((matrix.shape[1] + 1, x.size // max(x.shape[axis], 1)), x.dtype)
    lines[:-1] = x.transpose(order).reshape(x.shape[axis], -1)
    out = numerics.matmul(weights.astype(x.dtype)[:, None], lines[seen])
    out = out.reshape(len(matrix), *(x.shape[k] for k in order[1:]))
    return batch_first(out.transpose([order.index(k) for k in last]).copy())


def weights(line: Line) -> Array:
    """How much of each of the pixels of an axis is in each of those that come out.

    Examples
    --------
    >>> weights(Line(2, 4, 2, "linear", False))
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    size, count, _, mode, _ = line
    at = _places(line)
    if mode == "linear" and not line.align_corners:
        at = np.maximum(at, 0.0)
    low = np.floor(at).astype(np.intp)
    t = at - low
    if mode == "cubic":
        parts = [(low + k, _cubic(abs(t - k))) for k in (-1, 0, 1, 2)]
    elif mode == "linear":
        parts = [(low, 1 - t), (low + 1, t)]
    else:
        parts = [(low, np.ones(count))]
    matrix = np.zeros((count, size))
    for column, weight in parts:  # the pixels at the ends stand for those beyond
        matrix[np.arange(count), np.clip(column, 0, size - 1)] += weight
    return matrix


def _places(line: Line) -> Array:
    """Where each pixel that comes out lies among those that go in."""
    size, count, factor, mode, align_corners = line
    i = np.arange(count)
    if align_corners:
        return i * (size - 1) / max(count - 1, 1)
    half = 0 if mode == "nearest" else 1  # the centre of a pixel, or its edge
    at = (2 * i + half) * size / (2 * count) if factor is None else (i + half / 2) / factor
    return np.asarray(at - 0.5 if mode in ("linear", "cubic") else at)


def _cubic(x: Array) -> Array:
    """The weight of a pixel that lies `x` away, of the cubic convolution: 1 at 0, and 0 at 1 and 2."""
    near = ((_SHARP + 2) * x - (_SHARP + 3)) * x * x + 1
    far = ((_SHARP * x - 5 * _SHARP) * x + 8 * _SHARP) * x - 4 * _SHARP
    return np.where(x <= 1, near, far)
