"""Time steps of which some count, and one vector of them.

Each way forward gives the vector and where it comes from, and each way back wants that. ``counts`` is
``(N, T)``.
"""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.types import Array


def counted(counts: Array, steps: int) -> Array:
    """Flags ``(N, T)``, of themselves or of lengths ``(N,)``."""
    return counts if counts.dtype == np.bool_ else np.arange(steps) < counts[:, None]


def last(x: Array, counts: Array) -> tuple[Array, Array]:
    """The last step that counts, and its number ``(N,)``; zeros if none does."""
    places = counts.shape[1] - 1 - np.argmax(counts[:, ::-1], 1)
    return _of_some(x[np.arange(len(x)), places], counts), places


def put_last(dout: Array, places: Array, counts: Array) -> Array:
    """Back to the last step."""
    dx = np.zeros((*counts.shape, dout.shape[1]), dout.dtype)
    dx[np.arange(len(dx)), places] = _of_some(dout, counts)
    return dx


def maximum(x: Array, counts: Array) -> tuple[Array, Array]:
    """The largest number of each feature, NaN above all; zeros if no step counts."""
    flags = counts[:, :, None]
    top = np.max(np.where(flags, x, -np.inf), 1, keepdims=True)
    wins = flags & ((x == top) | (np.isnan(x) & np.isnan(top)))
    places = np.argmax(wins, 1, keepdims=True)
    return _of_some(np.take_along_axis(x, places, 1)[:, 0], counts), places


def put(dout: Array, places: Array, counts: Array) -> Array:
    """Back to where each number was taken."""
    dx = np.zeros((*counts.shape, dout.shape[1]), dout.dtype)
    np.put_along_axis(dx, places, _of_some(dout, counts)[:, None], 1)
    return dx


def mean(x: Array, counts: Array) -> tuple[Array, Array]:
    """The mean of the steps that count; zeros if none does."""
    flags = counts[:, :, None]
    number = np.maximum(np.count_nonzero(counts, 1), 1)[:, None].astype(x.dtype)
    terms = np.where(flags, x, 0)
    out = numerics.sum(terms, 1) / number
    if not np.isfinite(out).all():  # a sum may be too large where the mean is not
        out = np.where(np.isfinite(out), out, numerics.sum(terms / number[:, None], 1))
    return out, np.broadcast_to(1 / number[:, None], (len(x), 1, x.shape[2]))


def spread(dout: Array, shares: Array, counts: Array) -> Array:
    """To each step that counts its share."""
    return np.where(counts[:, :, None], dout[:, None] * shares, 0)


def _of_some(rows: Array, counts: Array) -> Array:
    """Zeros for a sequence of which no step counts."""
    return np.where(np.any(counts, 1, keepdims=True), rows, rows.dtype.type(0))
