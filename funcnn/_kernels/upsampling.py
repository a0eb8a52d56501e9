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
    """``Y = A_h X A_wᵀ``, with two weights in each row of ``A``."""
    tall, wide = (
        _line(n, s, align_corners).astype(x.dtype) for n, s in zip(x.shape[2:], scale, strict=True)
    )
    return _both(x, tall, wide)


def bilinear_gradient(dout: Array, scale: Scale, align_corners: bool) -> Array:
    """``dX = A_hᵀ dY A_w``."""
    tall, wide = (
        _line(n // s, s, align_corners).astype(dout.dtype).T
        for n, s in zip(dout.shape[2:], scale, strict=True)
    )
    return _both(dout, tall, wide)


def _both(x: Array, tall: Array, wide: Array) -> Array:
    """A matrix along the height, another along the width."""
    n, c, h, w = x.shape
    rows = numerics.matmul(tall, np.moveaxis(x, 0, -1).reshape(c, h, w * n))
    out = numerics.matmul(wide, rows.reshape(c * len(tall), w, n))
    return np.moveaxis(out.reshape(c, len(tall), len(wide), n), -1, 0)


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
