"""Images in a border, or with the batch last, compiled. Nobody imports this but compiled kernels.

The twins are `images`, whose borders are constant, and `borders`.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from funcnn._kernels.borders import Widths as Padding, grown, source
from funcnn._kernels.images import LAST, batch_first, batch_last, frame, is_batch_last
from funcnn._kernels.sparse import TABLE, Band, Rows, applied, rows
from funcnn.machine.memory import fresh, scratch
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, InSingle, Out, Single, Table
from funcnn.numerics.panels import beginning
from funcnn.numerics.singles import LANES, pack
from funcnn.types import Array

_PIXELS = 64  # of a part that is turned


def turned(x: Array) -> Any:
    """`images.turned`, of examples that fill vectors of float32."""
    if x.dtype != np.float32 or len(x) % LANES or not (x.size and x.flags.carray and x.dtype.isnative):
        return NotImplemented
    out, size = fresh((*x.shape[1:], len(x)), x.dtype), x[0].size
    _turn(np.array((len(x), size)), x, out, 0, -(-size // _PIXELS))
    return batch_first(out)


@divided
def _turn(sizes: Table, x: InSingle, out: Single, low: int, high: int) -> None:
    batch, size = sizes
    for first in range(low * _PIXELS, min(high * _PIXELS, size), _PIXELS):
        some = min(_PIXELS, size - first)
        pack(beginning(x), first, size, 1, batch, some, out[first * batch :], batch)


def framed(x: Array, padding: Padding, value: float = 0.0) -> Array:
    """``(N, C, *spatial)`` as a contiguous ``(C, *spatial, N)``, with a border of `value`.

    It may lie in memory that the next call writes to.
    """
    last = x.transpose(LAST[x.ndim])
    if not any(map(any, padding)) and last.flags.c_contiguous:
        return last
    if not (last.size and last.flags.c_contiguous):
        return frame(x, padding, value=value)
    sizes = grown(x.shape[2:], padding)
    out = scratch("image", (x.shape[1], *sizes, len(x)), x.dtype)
    _frame(last, padding, value, out)
    return out


def _frame(last: Array, padding: Padding, value: float, out: Array) -> None:
    spatial, batch = last.shape[1:-1], last.shape[-1]
    shown, (before, after) = _sources(spatial[:-1], padding[:-1]), padding[-1]
    _write(
        last, shown, out, value, spatial[-1] * batch, before * batch,
        after * batch, prod(spatial[:-1]), 0, len(last) * len(shown),
    )  # fmt: skip


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


def pad(x: Array, widths: Padding, mode: str, value: float) -> Any:
    """`funcnn._kernels.borders.pad`."""
    if mode != "constant":
        return _bordered(x, x.shape[2:], widths, mode, False)
    if not (x.size and is_batch_last(x)):
        return NotImplemented
    out = fresh((x.shape[1], *grown(x.shape[2:], widths), len(x)), x.dtype)
    _frame(batch_last(x), widths, value, out)
    return batch_first(out)


def pad_gradient(dout: Array, spatial: tuple[int, ...], widths: Padding, mode: str) -> Any:
    """`funcnn._kernels.borders.pad_gradient`; of a constant border, NumPy's is a view."""
    return NotImplemented if mode == "constant" else _bordered(dout, spatial, widths, mode, True)


def _bordered(x: Array, spatial: tuple[int, ...], widths: Padding, mode: str, back: bool) -> Any:
    sizes = grown(spatial, widths)
    if not (x.size and is_batch_last(x)) or prod(sizes) > TABLE:
        return NotImplemented
    out = applied(batch_last(x), _copies(spatial, widths, mode, back), x.shape[1])
    return batch_first(out.reshape(x.shape[1], *(spatial if back else sizes), len(x)))


@lru_cache(maxsize=32)
def _copies(spatial: tuple[int, ...], widths: Padding, mode: str, back: bool) -> Rows:
    """What each element of the framed image shows; or, back, where each element is shown."""
    each = []
    for n, (low, high) in zip(spatial, widths, strict=True):
        at = np.array([i if 0 <= i < n else source(i, n, mode) for i in range(-low, n + high)])[:, None]
        each.append(Band(at, np.ones(at.shape), n))
    return rows(*(one.transposed if back else one for one in each))
