"""Rows of a table: looked up, and added back."""

from __future__ import annotations

import numpy as np

from funcnn.types import Array


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
