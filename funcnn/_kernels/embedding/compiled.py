"""Rows of a table, added up and added back, compiled: one pass in their order. The readable twins are
beside this.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn.numerics.jit import Bytes, In, Out, Table, kernel
from funcnn.types import Array


def add_rows(indices: Array, rows: Array, count: int) -> Any:
    """`funcnn._kernels.embedding.add_rows`, of indices that are all in the table."""
    if not rows.size or indices.min() < 0 or indices.max() >= count:
        return NotImplemented
    table = np.zeros((count, rows.shape[1]), rows.dtype)
    places = np.ascontiguousarray(indices, np.int64) * rows.shape[1]
    _add_rows(np.ascontiguousarray(rows).reshape(-1), places, table.reshape(-1))
    return table


def add_shares(indices: Array, shares: Array, dout: Array, count: int) -> Any:
    """`funcnn._kernels.embedding.add_shares`, of whole rows."""
    if shares.shape[2] != 1 or not (dout.size and indices.size):
        return NotImplemented
    if indices.min() < 0 or indices.max() >= count:
        return NotImplemented
    table = np.zeros((count, dout.shape[1]), dout.dtype)
    places = np.ascontiguousarray(indices, np.int64).reshape(-1) * dout.shape[1]
    slopes = np.ascontiguousarray(dout).reshape(-1)
    _add_shares(slopes, places, np.ascontiguousarray(shares).reshape(-1), table.reshape(-1), len(dout))
    return table


def sum_rows(table: Array, indices: Array, seen: Array) -> Any:
    """`funcnn._kernels.embedding.sum_rows`."""
    if not (table.size and indices.size) or indices.min() < 0 or indices.max() >= len(table):
        return NotImplemented
    out = np.zeros((len(indices), table.shape[1]), table.dtype)
    places = np.ascontiguousarray(indices, np.int64).reshape(-1) * table.shape[1]
    flags = np.ascontiguousarray(seen).view(np.uint8).reshape(-1)
    _sum_rows(np.ascontiguousarray(table).reshape(-1), places, flags, out.reshape(-1), len(out))
    return out


@kernel
def _add_shares(dout: In, places: Table, shares: In, table: Out, bags: int) -> None:
    features, size = len(dout) // bags, len(places) // bags
    for n in range(bags):
        row = dout[n * features : (n + 1) * features]
        for k in range(n * size, (n + 1) * size):
            into, share = table[places[k] : places[k] + features], shares[k]
            if share != 0:
                for i in range(features):
                    into[i] += share * row[i]


@kernel
def _sum_rows(table: In, places: Table, seen: Bytes, out: Out, bags: int) -> None:
    features, size = len(out) // bags, len(places) // bags
    for n in range(bags):
        into = out[n * features : (n + 1) * features]
        for k in range(n * size, (n + 1) * size):
            row = table[places[k] : places[k] + features]
            if seen[k]:
                for i in range(features):
                    into[i] += row[i]


@kernel
def _add_rows(rows: In, places: Table, table: Out) -> None:
    features = len(rows) // len(places)
    for k in range(len(places)):
        row, into = rows[k * features :], table[places[k] : places[k] + features]
        for i in range(len(into)):
            into[i] += row[i]
