"""Small arrays that meet large ones."""

from __future__ import annotations

import numpy as np

from funcnn.types import Array

# Measured in November 2026 on an AMD EPYC (two cores, AVX-512, 1 MiB of second-level cache):
# runs of 128 take twice as long as those of 256, which take as long as longer ones.
_RUN = 256  # numbers in a row that NumPy should at least find


def stretched(values: Array, like: Array) -> Array:
    """`values`, which broadcast against `like`, repeated along one axis for the sake of speed.

    One value for each example of a batch-last image meets ever new runs of a batch's length, and
    each run costs as much as some dozen numbers. With the values repeated along the axis next to
    the batch the runs are that many times longer.
    """
    run = like.itemsize
    for axis in sorted(range(like.ndim), key=lambda k: like.strides[k]):
        if like.shape[axis] == 1:
            continue
        if like.strides[axis] != run or run >= _RUN * like.itemsize:
            break
        if values.shape[axis] == 1:
            if run == like.itemsize:
                break  # one value for neighbours in memory is what NumPy does best
            shape = list(values.shape)
            shape[axis] = like.shape[axis]
            return _in_order_of(like, values, shape)
        run *= like.shape[axis]
    return values


def _in_order_of(like: Array, values: Array, shape: list[int]) -> Array:
    """A copy of the values in this shape, whose axes lie in memory as those of `like`."""
    order = sorted(range(like.ndim), key=lambda k: -like.strides[k])
    out = np.empty([shape[k] for k in order], values.dtype).transpose(np.argsort(order))
    out[...] = values
    return out
