"""Rows of a table: looked up, and added back."""

from __future__ import annotations

import numpy as np

from funcnn import numerics
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_compiled = compiled_in("funcnn._kernels.embedding.compiled")


@_compiled
def add_rows(indices: Array, rows: Array, count: int) -> Array:
    """A table of ``count`` rows, each the sum of the ``rows`` with its index: ``(K,), (K, F)``.

    Sorted by index, equal ones are neighbours, and each run of them is summed in pairs, then pairs
    of pairs, all runs at once. The order depends on the indices alone.
    """
    table = np.zeros((count, rows.shape[1]), rows.dtype)
    if not len(indices):
        return table
    order = np.argsort(indices, kind="stable")
    found, sums = indices[order], np.take(rows, order, 0)
    firsts = np.flatnonzero(np.concatenate(([True], found[1:] != found[:-1])))
    rank = np.arange(len(found)) - np.repeat(firsts, np.diff(firsts, append=len(found)))
    step = 1
    while step <= rank.max():
        right = np.flatnonzero(rank % (2 * step) == step)
        sums[right - step] += sums[right]
        step *= 2
    table[found[firsts]] = sums[firsts]
    return table


def bag(rows: Array, seen: Array, mode: str, weights: Array | None) -> tuple[Array, Array]:
    """``(N, T, F)`` to ``(N, F)``, and how much of each row is in it; rows not seen are zeros."""
    if mode == "max" and rows.shape[1]:
        winner = np.argmax(np.where(seen[..., None], rows, -np.inf), 1)[:, None]
        kept = (np.arange(rows.shape[1])[:, None] == winner) & seen[..., None]
        return np.take_along_axis(rows, winner, 1)[:, 0], kept.astype(rows.dtype)
    kept = seen.astype(rows.dtype)[..., None]
    if weights is not None:
        kept = np.where(seen, weights, weights.dtype.type(0))[..., None]
        rows = rows * kept
    total = numerics.sum(rows, 1)
    if mode == "mean":
        count = np.maximum(numerics.sum(kept, 1), 1)
        return total / count, kept / count[:, None]
    return total, kept
