"""Numbers put where a max pooling found them, and zeros around them."""

from __future__ import annotations

from math import prod

import numpy as np

from funcnn.types import Array


def unpool(x: Array, indices: Array, spatial: tuple[int, ...]) -> tuple[Array, Array]:
    """``out[n, c, indices] = x``; and which of them are there, of several in one place the last."""
    flat = indices.reshape(*x.shape[:2], prod(x.shape[2:]))
    owner = np.full((*x.shape[:2], prod(spatial)), -1)
    mine = np.broadcast_to(np.arange(flat.shape[2]), flat.shape)
    np.put_along_axis(owner, flat, mine, 2)
    there = np.take_along_axis(owner, flat, 2) == mine
    out = np.take_along_axis(x.reshape(flat.shape), np.maximum(owner, 0), 2)
    out = np.where(owner >= 0, out, x.dtype.type(0))
    return out.reshape(*x.shape[:2], *spatial), there.reshape(x.shape)


def unpool_gradient(dout: Array, indices: Array, there: Array) -> Array:
    """``dx = dout[n, c, indices]``, and 0 for what is not there."""
    flat = indices.reshape(*indices.shape[:2], prod(indices.shape[2:]))
    slope = np.take_along_axis(dout.reshape(*dout.shape[:2], prod(dout.shape[2:])), flat, 2)
    return np.where(there, slope.reshape(there.shape), dout.dtype.type(0))
