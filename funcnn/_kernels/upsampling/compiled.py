"""Resizing compiled: one axis after the other, the heavy pass over the longest runs."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from funcnn._kernels.images import batch_first, frame
from funcnn._kernels.sparse import TABLE, Band, Rows, applied, band, rows
from funcnn._kernels.upsampling import Line, weights
from funcnn.types import Array


@lru_cache(maxsize=256)
def _rows(line: Line, back: bool) -> Rows:
    return rows(band(weights(line).T if back else weights(line)))


@lru_cache(maxsize=16)
def _copies(sizes: tuple[int, ...], scale: tuple[int, ...], back: bool) -> Rows:
    """Which pixel each copy is of; or, back, the copies of each pixel."""
    each = []
    for n, s in zip(sizes, scale, strict=True):
        at = np.arange(n * s)[:, None] // s
        each.append(Band(at, np.ones(at.shape), n))
    return rows(*(one.transposed if back else one for one in each))


def repeated(x: Array, scale: tuple[int, ...]) -> Any:
    """`funcnn._kernels.upsampling.repeated`."""
    return _repeated(x, x.shape[2:], scale, False)


def repeated_gradient(dout: Array, scale: tuple[int, ...]) -> Any:
    """`funcnn._kernels.upsampling.repeated_gradient`."""
    sizes = tuple(n // s for n, s in zip(dout.shape[2:], scale, strict=True))
    return _repeated(dout, sizes, scale, True)


def _repeated(x: Array, sizes: tuple[int, ...], scale: tuple[int, ...], back: bool) -> Any:
    """All axes at once, if the table is small: what is larger is written, or read, once."""
    if prod(sizes) * prod(scale) > TABLE:
        each = enumerate(zip(sizes, scale, strict=True), 1)
        steps = [(axis, _copies((n,), (s,), back)) for axis, (n, s) in each]
        return _along(x, steps if back else steps[::-1])
    if not x.size:
        return NotImplemented
    out = applied(frame(x, ((0, 0),) * len(sizes)), _copies(sizes, scale, back), x.shape[1])
    places = sizes if back else tuple(n * s for n, s in zip(sizes, scale, strict=True))
    return batch_first(out.reshape(x.shape[1], *places, len(x)))


def resized(x: Array, lines: tuple[Line, ...]) -> Any:
    """`funcnn._kernels.upsampling.resized`."""
    return _along(x, [(axis, _rows(line, False)) for axis, line in enumerate(lines, 1)][::-1])


def resized_gradient(dout: Array, lines: tuple[Line, ...]) -> Any:
    """`funcnn._kernels.upsampling.resized_gradient`."""
    return _along(dout, [(axis, _rows(line, True)) for axis, line in enumerate(lines, 1)])


def _along(x: Array, steps: list[tuple[int, Rows]]) -> Any:
    if not x.size:
        return NotImplemented
    image = frame(x, ((0, 0),) * (x.ndim - 2))  # (C, *spatial, N)
    for axis, matrix in steps:
        before, after = image.shape[:axis], image.shape[axis + 1 :]
        image = applied(image, matrix, prod(before)).reshape(*before, -1, *after)
    return batch_first(image)
