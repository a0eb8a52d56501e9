"""Sparse matrices along the axes of images, compiled. Nobody imports this but compiled kernels.

A row lists the few columns that it sees, so what it does not see leaves it alone, NaN included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from funcnn._kernels.tiles import row_in_place
from funcnn.machine.memory import fresh
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out, Table
from funcnn.numerics.vectors import VECTOR
from funcnn.types import Array

TABLE = 1 << 18  # entries that a table may have: it takes 5 MiB


@dataclass(frozen=True, eq=False)
class Rows:
    """Row `p` sees the columns ``at[start[p]:start[p + 1]]``, with these weights."""

    start: Array
    at: Array
    weight: Array
    columns: int


class Band(NamedTuple):
    """The same of one axis: row `p` sees the columns ``at[p]``, but those with the weight 0."""

    at: Array
    weight: Array
    columns: int

    @property
    def transposed(self) -> Band:
        """What each column is seen by."""
        row, tap = np.nonzero(self.weight)
        order = np.argsort(self.at[row, tap], kind="stable")
        row, tap = row[order], tap[order]
        count = np.bincount(self.at[row, tap], minlength=self.columns)
        place = self.at[row, tap], np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        weight = np.zeros((self.columns, count.max(initial=0)))
        at = weight.astype(np.int64)
        at[place], weight[place] = row, self.weight[row, tap]
        return Band(at, weight, len(self.at))


def band(matrix: Array) -> Band:
    """What is not 0 in a matrix."""
    few = int(np.count_nonzero(matrix, axis=1).max(initial=0))
    at = np.argsort(matrix == 0, axis=1, kind="stable")[:, :few]  # of each row, in order
    return Band(at, np.take_along_axis(matrix, at, 1), matrix.shape[1])


def rows(*axes: Band) -> Rows:
    """The matrix that works along several axes at once."""
    weight, at = np.ones((1, 1)), np.zeros((1, 1), np.int64)
    for each in axes:
        shape = len(at) * len(each.at), at.shape[1] * each.at.shape[1]
        at = (at[:, None, :, None] * each.columns + each.at[:, None]).reshape(shape)
        weight = (weight[:, None, :, None] * each.weight[:, None]).reshape(shape)
    real = weight != 0
    start = np.append(0, np.cumsum(np.count_nonzero(real, axis=1)))
    return Rows(start, at[real], weight[real], prod(each.columns for each in axes))


def applied(x: Array, matrix: Rows, planes: int) -> Array:
    """``(planes, columns, run) -> (planes, rows, run)``, of contiguous memory in any shape.

    A single column with the weight 1 comes out as it is.
    """
    run = x.size // (planes * matrix.columns)
    out = fresh((planes, len(matrix.start) - 1, run), x.dtype)
    at, weight = _laid(matrix, run, x.dtype)
    _apply(
        x.reshape(-1), matrix.start, at, weight, np.array([-0.0, 0.0], x.dtype), out.reshape(-1),
        matrix.columns * run, run, VECTOR // x.itemsize, 0, planes * (len(matrix.start) - 1),
    )  # fmt: skip
    return out


@lru_cache(maxsize=64)
def _laid(matrix: Rows, run: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Where the columns of a plane begin, and their weights."""
    return matrix.at * run, matrix.weight.astype(dtype)


@divided
def _apply(
    x: In, start: Table, at: Table, weight: In, zeros: In, out: Out,
    plane: int, run: int, vector: int, low: int, high: int,
) -> None:  # fmt: skip
    """Rows `low` to `high`, counted over all planes; but for those that see nothing, from -0.0 on."""
    count = len(start) - 1
    p, seen = low % count, low // count * plane
    for i in range(low, high):
        first, last = start[p], start[p + 1]
        row_in_place(
            x, at, weight, zeros, out, first, last, 1, 0, seen, i * run,
            0 if first < last else 1, 0, 0, run, run, vector,
        )  # fmt: skip
        p += 1
        if p == count:
            p, seen = 0, seen + plane
