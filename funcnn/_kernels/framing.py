"""Images in a border, compiled. Nobody imports this but compiled kernels. The twin: `images.frame`."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from funcnn._kernels.images import frame
from funcnn.machine.memory import scratch
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out, Table
from funcnn.types import Array

Padding = tuple[tuple[int, int], ...]


def framed(x: Array, padding: Padding, value: float = 0.0) -> Array:
    """``(N, C, *spatial)`` as a contiguous ``(C, *spatial, N)``, with a border of `value`.

    It may lie in memory that the next call writes to.
    """
    last = x.transpose(*range(1, x.ndim), 0)
    if not (last.size and last.flags.c_contiguous and any(map(any, padding))):
        return frame(x, padding, value=value)
    source = _sources(x.shape[2:-1], padding[:-1])
    (before, after), run = padding[-1], x.shape[-1] * len(x)
    sizes = [n + low + high for n, (low, high) in zip(x.shape[2:], padding, strict=True)]
    out = scratch("image", (x.shape[1], *sizes, len(x)), x.dtype)
    _write(
        last.reshape(-1), source, out.reshape(-1), value, run, before * len(x), after * len(x),
        prod(x.shape[2:-1]), 0, x.shape[1] * len(source),
    )  # fmt: skip
    return out


@lru_cache(maxsize=256)
def _sources(spatial: tuple[int, ...], padding: Padding) -> Array:
    """Which row of an image each row of the frame holds, or -1."""
    rows = np.arange(prod(spatial)).reshape(spatial)
    return np.pad(rows, padding, constant_values=-1).ravel() if padding else rows.ravel()


@divided
def _write(
    x: In, source: Table, out: Out, value: float, run: int, before: int, after: int, rows: int,
    low: int, high: int,
) -> None:  # fmt: skip
    """Rows `low` to `high`, counted over all planes."""
    size = before + run + after
    for i in range(low, high):
        c, p = divmod(i, len(source))
        row, seen = out[i * size : (i + 1) * size], source[p]
        start = (c * rows + max(seen, 0)) * run
        image, inner = x[start : start + run], row[before : before + run]
        if seen < 0:
            row[:] = value
        else:
            row[:before] = value
            for k in range(run):
                inner[k] = image[k]
            row[before + run :] = value
