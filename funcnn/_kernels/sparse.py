"""Sparse matrices along the axes of images, compiled. Nobody imports this but compiled kernels.

A row lists the few columns that it sees, so what it does not see leaves it alone, NaN included.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from funcnn._kernels.tiles import one_row
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out, Table
from funcnn.numerics.vectors import VECTOR
from funcnn.types import Array


class Rows(NamedTuple):
    """Row `p` sees the columns ``at[start[p]:start[p + 1]]``, with these weights."""

    start: Array
    at: Array
    weight: Array
    columns: int


def rows(*matrices: Array) -> Rows:
    """The matrix that works along several axes at once, of a matrix for each of them."""
    weight, at = np.ones((1, 1)), np.zeros((1, 1), np.int64)
    for matrix in matrices:
        few = int(np.count_nonzero(matrix, axis=1).max(initial=0))
        seen = np.argsort(matrix == 0, axis=1, kind="stable")[:, :few]  # of each row, in order
        part = np.take_along_axis(matrix, seen, 1)
        shape = (len(at) * len(matrix), at.shape[1] * few)
        at = (at[:, None, :, None] * matrix.shape[1] + seen[:, None]).reshape(shape)
        weight = (weight[:, None, :, None] * part[:, None]).reshape(shape)
    real = weight != 0
    start = np.append(0, np.cumsum(np.count_nonzero(real, axis=1)))
    return Rows(start, at[real], weight[real], prod(matrix.shape[1] for matrix in matrices))


def applied(x: Array, matrix: Rows, planes: int) -> Array:
    """``(planes, columns, run) -> (planes, rows, run)``, of contiguous memory in any shape."""
    run = x.size // (planes * matrix.columns)
    out = np.empty((planes, len(matrix.start) - 1, run), x.dtype)
    _apply(
        x.reshape(-1), matrix.start, matrix.at * run, matrix.weight.astype(x.dtype),
        np.zeros(1, x.dtype), out.reshape(-1), matrix.columns * run, run, VECTOR // x.itemsize,
        0, planes * (len(matrix.start) - 1),
    )  # fmt: skip
    return out


@divided
def _apply(
    x: In, start: Table, at: Table, weight: In, zero: In, out: Out,
    plane: int, run: int, vector: int, low: int, high: int,
) -> None:  # fmt: skip
    """Rows `low` to `high`, counted over all planes."""
    count = len(start) - 1
    for i in range(low, high):
        c, p = divmod(i, count)
        one_row(
            x, at, weight, zero, out, start[p], start[p + 1], 1, 0, c * plane,
            i * run, 0, 0, 0, run, run, vector,
        )  # fmt: skip
