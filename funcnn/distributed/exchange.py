"""Sums of trees over the shards of a batch, in the order of the shards: the bits are the order's.

Each rank adds a slice of the parameters over all shards, and all ranks collect the slices. What a
rank sends is then as much as in a ring all-reduce where each rank has one shard, and MPI's own
reductions, whose order is that of the ranks, take no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.types import Array, Params


@dataclass(frozen=True)
class Form:
    """What an array is but for its numbers; sums of others depend on how these lie in memory."""

    dtype: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]  # from the longest stride to the shortest

    def flat(self, array: Array) -> Array:
        """The numbers of such an array one behind the other, in this order."""
        return array.transpose(self.axes).ravel()

    def back(self, flat: Array) -> Array:
        """The array of these numbers."""
        laid = flat.reshape([self.shape[axis] for axis in self.axes])
        return laid.transpose(np.argsort(self.axes))


def _form(array: Array) -> Form:
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    return Form(array.dtype.str, array.shape, tuple(axes))


def form(params: Params) -> Any:
    """The forms of all arrays of a tree."""
    return tree.map(_form, params)


@dataclass(frozen=True)
class Packed:
    """An array on its way to another rank, where it will lie in memory as it does here."""

    form: Form
    flat: Array


def packed(value: Any) -> Any:
    """An array as it can be sent; a number is sent as it is."""
    return Packed(_form(value), _form(value).flat(value)) if isinstance(value, np.ndarray) else value


def unpacked(sent: Any) -> Any:
    """What was sent."""
    return sent.form.back(sent.flat) if isinstance(sent, Packed) else sent


def added_up(grads: Sequence[Params]) -> Params:
    """The sum of two or more trees, first to last."""
    total = tree.add(grads[0], grads[1])  # a new tree: the rest may be added in place

    def accumulate(leaf: Array, other: Array) -> Array:
        leaf += other
        return leaf

    for other in grads[2:]:
        tree.map(accumulate, total, other)
    return total


def sum_over_ranks(comm: Any, own: Sequence[Params], counts: Sequence[int], forms: Any) -> Params:
    """The sum of two or more trees, of which each rank has some, as `added_up` would give it.

    ``counts`` are the numbers of trees of each rank, and ``forms`` what the sum is.
    """
    leaves = tree.leaves(forms)
    sums: dict[str, Array] = {}
    for dtype in sorted({leaf.dtype for _, leaf in leaves}):
        some = [(path, leaf) for path, leaf in leaves if leaf.dtype == dtype]
        ends = np.cumsum([0, *(prod(leaf.shape) for _, leaf in some)])
        parts = [dict(tree.leaves(grads)) for grads in own]
        flat = [np.concatenate([leaf.flat(part[path]) for path, leaf in some]) for part in parts]
        total = _slice_by_slice(comm, flat, counts, int(ends[-1]), np.dtype(dtype))
        for (path, leaf), (start, end) in zip(some, pairwise(ends), strict=True):
            sums[path] = leaf.back(total[start:end].copy())  # aligned as any array is
    return tree.map_with_path(lambda path, _: sums[path], forms)


def _slice_by_slice(
    comm: Any, rows: Sequence[Array], counts: Sequence[int], size: int, dtype: np.dtype[Any]
) -> Array:
    """The sum of the rows of all ranks; each rank adds a slice of it, over all rows in order."""
    ends = [size * rank // comm.size for rank in range(comm.size + 1)]
    lengths = [end - start for start, end in pairwise(ends)]
    mine = lengths[comm.rank]
    cut = [row[start:end] for start, end in pairwise(ends) for row in rows] or [np.empty(0, dtype)]
    sent = rows[0] if len(rows) == 1 else np.concatenate(cut)
    everyones = np.empty((sum(counts), mine), dtype)
    comm.Alltoallv(
        (sent, [len(rows) * n for n in lengths]),
        (everyones, [mine * count for count in counts]),
    )
    part = everyones[0] + everyones[1]
    for row in everyones[2:]:
        part += row
    whole = np.empty(size, dtype)
    comm.Allgatherv(part, (whole, lengths))
    return whole
