"""Images in memory: the batch fastest, behind their logical ``(N, C, *spatial)``.

So a shift by one element along any axis moves long contiguous runs.
"""

from __future__ import annotations

import numpy as np

from funcnn._kernels.windows import Window
from funcnn.machine.memory import scratch
from funcnn.types import Array


def batch_last(x: Array) -> Array:
    """A view with axis 0 behind all others. `numpy.moveaxis` takes eight times as long."""
    return x.transpose(*range(1, x.ndim), 0)


def batch_first(x: Array) -> Array:
    """A view with the last axis before all others: the inverse of `batch_last`."""
    return x.transpose(x.ndim - 1, *range(x.ndim - 1))


def is_batch_last(x: Array) -> bool:
    """Whether axis 0 is the innermost in memory and the rest is in order behind it."""
    return x.ndim > 1 and x.shape[0] > 1 and x.transpose(*range(1, x.ndim), 0).flags.c_contiguous


def arranged(x: Array) -> Array:
    """The same images in the order that all kernels read: themselves if they have it already."""
    if len(x) == 1 and x.flags.c_contiguous:
        return x
    rank = x.ndim
    last = np.ascontiguousarray(x.transpose(*range(1, rank), 0))
    return last.transpose(rank - 1, *range(rank - 1))


def frame(
    x: Array, padding: tuple[tuple[int, int], ...], name: str = "image", value: float = 0.0
) -> Array:
    """``(N, C, *spatial)`` as a contiguous ``(C, *spatial, N)``, with a border of `value`.

    The name is that of the memory that it borrows, if it has to.
    """
    last = x.transpose(*range(1, x.ndim), 0)
    if last.flags.c_contiguous and not any(map(any, padding)):
        return last
    spatial = last.shape[1:-1]
    inside = [slice(low, low + n) for n, (low, _) in zip(spatial, padding, strict=True)]
    sizes = [at.stop + high for at, (_, high) in zip(inside, padding, strict=True)]
    framed = scratch(name, (last.shape[0], *sizes, last.shape[-1]), x.dtype)
    for axis, at in enumerate(inside, 1):
        before = (slice(None),) * axis
        framed[(*before, slice(0, at.start))] = value
        framed[(*before, slice(at.stop, None))] = value
    framed[(slice(None), *inside)] = last
    return framed


def inside(spatial: tuple[int, ...], window: Window) -> tuple[slice, ...]:
    """Where images lie in a framed ``(C, *spatial, N)``."""
    pairs = zip(spatial, window.padding, strict=True)
    return (slice(None), *(slice(low, low + n) for n, (low, _) in pairs))
