"""Rows added to a table, compiled: one pass in their order. The readable twin is beside this."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn.numerics.jit import In, Out, Table, kernel
from funcnn.types import Array


def add_rows(indices: Array, rows: Array, count: int) -> Any:
    """`funcnn._kernels.embedding.add_rows`, of indices that are all in the table."""
    if not rows.size or indices.min() < 0 or indices.max() >= count:
        return NotImplemented
    table = np.zeros((count, rows.shape[1]), rows.dtype)
    places = np.ascontiguousarray(indices, np.int64) * rows.shape[1]
    _add_rows(np.ascontiguousarray(rows).reshape(-1), places, table.reshape(-1))
    return table


@kernel
def _add_rows(rows: In, places: Table, table: Out) -> None:
    features = len(rows) // len(places)
    for k in range(len(places)):
        row, into = rows[k * features :], table[places[k] : places[k] + features]
        for i in range(len(into)):
            into[i] += row[i]
