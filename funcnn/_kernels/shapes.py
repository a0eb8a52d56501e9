"""Reshaping that keeps batch-last memory free of copies."""

from __future__ import annotations

from funcnn._kernels.images import batch_first, batch_last, is_batch_last
from funcnn.types import Array


def merge_features(x: Array) -> Array:
    """``(N, ...) -> (N, F)``: a view for C order and for batch-last order."""
    if is_batch_last(x):
        return batch_last(x).reshape(-1, x.shape[0]).T
    features = 1
    for size in x.shape[1:]:
        features *= size
    return x.reshape(x.shape[0], features)


def split_features(x: Array, shape: tuple[int, ...]) -> Array:
    """``(N, F) -> shape``, the inverse of `merge_features`, a view for both orders too."""
    if is_batch_last(x):
        return batch_first(x.T.reshape(*shape[1:], shape[0]))
    return x.reshape(shape)


def rearranged(
    x: Array, split: tuple[int, ...], order: tuple[int, ...], merged: tuple[int, ...]
) -> Array:
    """Features split into more axes, these transposed, and merged again; the memory order stays."""
    batch = x.shape[0]
    if is_batch_last(x):
        parts = batch_last(x).reshape(*split, batch).transpose(*order, len(split))
        return batch_first(parts.reshape(*merged, batch))
    parts = x.reshape(batch, *split).transpose(0, *(axis + 1 for axis in order))
    return parts.reshape(batch, *merged)
