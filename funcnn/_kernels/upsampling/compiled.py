"""Resizing compiled: one axis after the other, the heavy pass over the longest runs."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

from funcnn._kernels.images import batch_first, frame
from funcnn._kernels.sparse import Rows, applied, rows
from funcnn._kernels.upsampling import Line, weights
from funcnn.types import Array


@lru_cache(maxsize=256)
def _rows(line: Line, back: bool) -> Rows:
    return rows(weights(line).T if back else weights(line))


def resized(x: Array, lines: tuple[Line, ...]) -> Any:
    """`funcnn._kernels.upsampling.resized`."""
    return _along(x, [(axis, _rows(line, False)) for axis, line in enumerate(lines, 1)][::-1])


def resized_gradient(dout: Array, lines: tuple[Line, ...]) -> Any:
    """`funcnn._kernels.upsampling.resized_gradient`."""
    return _along(dout, [(axis, _rows(line, True)) for axis, line in enumerate(lines, 1)])


def repeated_gradient(dout: Array, scale: tuple[int, ...]) -> Any:
    """`funcnn._kernels.upsampling.repeated_gradient`."""
    pairs = zip(dout.shape[2:], scale, strict=True)
    return resized_gradient(dout, tuple(Line(n // s, n, s, "nearest", False) for n, s in pairs))


def _along(x: Array, steps: list[tuple[int, Rows]]) -> Any:
    if not x.size:
        return NotImplemented
    image = frame(x, ((0, 0),) * (x.ndim - 2))  # (C, *spatial, N)
    for axis, matrix in steps:
        before, after = image.shape[:axis], image.shape[axis + 1 :]
        image = applied(image, matrix, prod(before)).reshape(*before, -1, *after)
    return batch_first(image)
