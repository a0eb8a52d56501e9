"""Numbers put where a max pooling found them, and zeros around them. Memory runs batch-last."""

from __future__ import annotations

from math import prod

import numpy as np

from funcnn._kernels.images import batch_first, batch_last
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_compiled = compiled_in("funcnn._kernels.pooling.compiled")


@_compiled
def unpool(x: Array, indices: Array, spatial: tuple[int, ...]) -> tuple[Array, Array]:
    """``out[n, c, indices] = x``; and which of them are there, of several in one place the last."""
    at, size = _places(indices, prod(spatial)), len(x) * x.shape[1] * prod(spatial)
    out, taken = np.zeros(size, x.dtype), np.zeros(size, np.bool_)
    out[at], taken[at] = batch_last(x), True
    there = np.ones(at.shape, np.bool_)
    if np.count_nonzero(taken) < at.size:  # some are in one place
        mine = np.arange(at.size).reshape(at.shape)
        owner = np.empty(size, np.int64)
        owner[at] = mine
        there = owner[at] == mine
    image = out.reshape(x.shape[1], *spatial, len(x))
    return batch_first(image), batch_first(there)


@_compiled
def unpool_gradient(dout: Array, indices: Array, there: Array) -> Array:
    """``dx = dout[n, c, indices]``, and 0 for what is not there."""
    at = _places(indices, prod(dout.shape[2:]))
    slope = np.take(batch_last(dout).reshape(-1), at)
    return np.where(there, batch_first(slope), dout.dtype.type(0))


def _places(indices: Array, size: int) -> Array:
    """Where in a flat ``(C, *spatial, N)`` each of them is, in such an order: so the last one stays."""
    last = batch_last(indices).astype(np.int64, copy=False)
    channels = np.arange(len(last)).reshape(-1, *[1] * (last.ndim - 1))
    places = (channels * size + last) * last.shape[-1] + np.arange(last.shape[-1])
    return np.ascontiguousarray(places)
