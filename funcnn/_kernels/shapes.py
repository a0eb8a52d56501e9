"""Reshaping that keeps batch-last memory free of copies."""

from __future__ import annotations

import numpy as np

from funcnn._kernels.images import is_batch_last
from funcnn.types import Array


def merge_features(x: Array) -> Array:
    """``(N, ...) -> (N, F)``: a view for C order and for batch-last order."""
    if is_batch_last(x):
        return np.moveaxis(x, 0, -1).reshape(-1, x.shape[0]).T
    features = 1
    for size in x.shape[1:]:
        features *= size
    return x.reshape(x.shape[0], features)


def split_features(x: Array, shape: tuple[int, ...]) -> Array:
    """``(N, F) -> shape``, the inverse of `merge_features`, a view for both orders too."""
    if is_batch_last(x):
        return np.moveaxis(x.T.reshape(*shape[1:], shape[0]), -1, 0)
    return x.reshape(shape)


def rearranged(
    x: Array, split: tuple[int, ...], order: tuple[int, ...], merged: tuple[int, ...]
) -> Array:
    """Features split into more axes, these transposed, and merged again; the memory order stays."""
    batch = x.shape[0]
    if is_batch_last(x):
        parts = np.moveaxis(x, 0, -1).reshape(*split, batch).transpose(*order, len(split))
        return np.moveaxis(parts.reshape(*merged, batch), -1, 0)
    parts = x.reshape(batch, *split).transpose(0, *(axis + 1 for axis in order))
    return parts.reshape(batch, *merged)
