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


@_compiled
def add_shares(indices: Array, shares: Array, dout: Array, count: int) -> Array:
    """A table with the share of ``dout`` that each index has: ``(N, T), (N, T, 1 or F), (N, F)``.

    Where a share is 0, ``dout`` may be anything.
    """
    slopes = np.where(shares != 0, dout[:, None] * shares, dout.dtype.type(0))
    return add_rows(indices.reshape(-1), slopes.reshape(-1, dout.shape[1]), count)


@_compiled
def sum_rows(table: Array, indices: Array, seen: Array) -> Array:
    """The sums of those rows of a table that are seen: ``(V, F), (N, T), (N, T) -> (N, F)``."""
    return numerics.sum(seen_rows(table, indices, seen), 1)


def seen_rows(table: Array, indices: Array, seen: Array) -> Array:
    """``(N, T, F)``; rows not seen are zeros."""
    return np.where(seen[..., None], np.take(table, indices, 0), table.dtype.type(0))


def bag(
    table: Array, indices: Array, seen: Array, mode: str, weights: Array | None
) -> tuple[Array, Array]:
    """One vector ``(N, F)`` of rows ``(N, T)`` of a table, and how much of each of them is in it."""
    kept = seen.astype(table.dtype)[..., None]
    if mode == "max" and table.shape[1] and indices.shape[1]:
        rows = seen_rows(table, indices, seen)
        winner = np.argmax(np.where(seen[..., None], rows, -np.inf), 1)[:, None]
        kept = (np.arange(rows.shape[1])[:, None] == winner) & seen[..., None]
        return np.take_along_axis(rows, winner, 1)[:, 0], kept.astype(rows.dtype)
    if weights is not None:
        kept = np.where(seen, weights, weights.dtype.type(0))[..., None]
        return numerics.sum(seen_rows(table, indices, seen) * kept, 1), kept
    total = sum_rows(table, indices, seen)
    if mode == "mean":
        count = np.maximum(numerics.sum(kept, 1), 1)
        return total / count, kept / count[:, None]
    return total, kept
