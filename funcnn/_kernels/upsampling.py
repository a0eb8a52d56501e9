"""Larger images: each pixel repeated, or lines drawn between neighbours. Memory runs batch-last."""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.types import Array

Scale = tuple[int, int]


def nearest(x: Array, scale: Scale) -> Array:
    """Each pixel repeated: ``(N, C, H, W) -> (N, C, H * scale, W * scale)``."""
    n, c, h, w = x.shape
    blocks = np.moveaxis(x, 0, -1)[:, :, None, :, None]
    out = np.broadcast_to(blocks, (c, h, scale[0], w, scale[1], n))
    return np.moveaxis(out.reshape(c, h * scale[0], w * scale[1], n), -1, 0)


def nearest_gradient(dout: Array, scale: Scale) -> Array:
    """The sum over the copies of each pixel."""
    n, c, h, w = dout.shape
    blocks = np.moveaxis(dout, 0, -1).reshape(c, h // scale[0], scale[0], w // scale[1], scale[1], n)
    return np.moveaxis(numerics.sum(blocks, (2, 4)), -1, 0)


def bilinear(x: Array, scale: Scale, align_corners: bool) -> Array:
    """``Y = A_h X A_wᵀ``, with at most two weights in each row of ``A``."""
    for axis, s in enumerate(scale, 2):
        x = _blended(x, axis, _line(x.shape[axis], s, align_corners))
    return x


def bilinear_gradient(dout: Array, scale: Scale, align_corners: bool) -> Array:
    """``dX = A_hᵀ dY A_w``."""
    for axis, s in enumerate(scale, 2):
        dout = _blended(dout, axis, _line(dout.shape[axis] // s, s, align_corners).T)
    return dout


def _blended(x: Array, axis: int, matrix: Array) -> Array:
    """A matrix times ``(N, C, H, W)`` along an axis, by what is not 0 in its rows alone.

    A product with all of it would let every pixel that is infinite or NaN into every other.
    """
    few = max(1, int(np.count_nonzero(matrix, axis=1).max()))
    seen = np.argsort(matrix == 0, axis=1, kind="stable")[:, :few]  # of each row, in order
    weights = np.take_along_axis(matrix, seen, 1)
    seen = np.where(weights, seen, matrix.shape[1])  # what is missing is a line of zeros
    order = (axis, *(k for k in (1, 2, 3, 0) if k != axis))
    lines = np.zeros((matrix.shape[1] + 1, x.size // max(x.shape[axis], 1)), x.dtype)
    lines[:-1] = x.transpose(order).reshape(x.shape[axis], -1)
    out = numerics.matmul(weights.astype(x.dtype)[:, None], lines[seen])
    out = out.reshape(len(matrix), *(x.shape[k] for k in order[1:]))
    return out.transpose([order.index(k) for k in (1, 2, 3, 0)]).copy().transpose(3, 0, 1, 2)


def _line(n: int, scale: int, align_corners: bool) -> Array:
    """How much of each of `n` pixels is in each of ``n * scale``.

    Examples
    --------
    >>> _line(2, 2, False)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    count = n * scale
    if align_corners:
        at = np.arange(count) * ((n - 1) / max(count - 1, 1))
    else:
        at = np.maximum((np.arange(count) + 0.5) / scale - 0.5, 0.0)
    low = np.minimum(at.astype(np.intp), n - 1)
    high = np.minimum(low + 1, n - 1)
    weights = np.zeros((count, n))
    rows = np.arange(count)
    weights[rows, low] = 1 - (at - low)
    weights[rows, high] += at - low
    return weights
