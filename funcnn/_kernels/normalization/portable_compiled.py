"""Normalization compiled for portable mode: groups that lie in one run of memory, in a pass or two.

Each operation is that of the readable twin, rounded as it stands there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels.normalization import count_of
from funcnn._kernels.normalization.compiled import _back, _filled, _flat, _laid, _Layout, _layout
from funcnn.machine.lockstep import Shard
from funcnn.machine.memory import fresh
from funcnn.numerics.halving import sum_by_halves
from funcnn.numerics.handover import divided_exactly, tile, tiles
from funcnn.numerics.jit import In, Out
from funcnn.types import Array


def _placed(x: Array, axes: tuple[int, ...], scale: Array, *others: Array | None) -> _Layout | None:
    """Where groups lie, if each is one run, and all is of one dtype."""
    if any(one is not None and one.dtype != x.dtype for one in (scale, *others)):
        return None
    at = _layout(x.shape, x.strides, axes, scale.shape)
    return at if at is not None and at.way < 2 else None


def _cut(x: Array, at: _Layout) -> tuple[int, int, int, int]:
    """The numbers of a group, whether each has a scale of its own, and how many pieces there are."""
    return at.numbers, at.way, 0, tiles(x.size // at.numbers, at.numbers)


def products_over(x: Array, y: Array, axes: tuple[int, ...]) -> Any:
    """`funcnn._kernels.normalization.products_over`."""
    return sum_by_halves(x, axes, True, y)


def deviations(x: Array, axes: tuple[int, ...], centred: bool, shard: Shard | None) -> Any:
    """`funcnn._kernels.normalization.deviations`."""
    at = _placed(x, axes, _filled(1, 1, x.dtype).reshape((1,) * x.ndim))
    if at is None or not centred or shard is not None:
        return NotImplemented
    mean = numerics.mean(x, axes, keepdims=True)
    flat, ones = fresh((x.size,), x.dtype), _filled(mean.size, 1, x.dtype)
    _scaled(_flat(x, at), ones, ones, _flat(-mean, at), flat, *_cut(x, at))
    offset = _back(flat, at.x, at)
    squares = sum_by_halves(offset, axes, True, offset)
    return offset, mean, squares / x.dtype.type(count_of(x, axes))


def scaled(offset: Array, rstd: Array, scale: Array | None, bias: Array | None) -> Any:
    """`funcnn._kernels.normalization.scaled`."""
    own = _filled(1, 1, offset.dtype).reshape((1,) * offset.ndim) if scale is None else scale
    axes = tuple(k for k, size in enumerate(rstd.shape) if size == 1)
    at = _placed(offset, axes, own, rstd, bias)
    together = rstd.size * own.size < offset.size
    if at is None or (together and at.way) or (bias is not None and bias.shape != own.shape):
        return NotImplemented
    first, second = _flat(rstd, at), _laid(own, at)
    if together:
        first, second = first * second, _filled(len(first), 1, offset.dtype)
    third = np.full(len(second), -0.0, offset.dtype) if bias is None else _laid(bias, at)
    out = fresh((offset.size,), offset.dtype)
    _scaled(_flat(offset, at), first, second, third, out, *_cut(offset, at))
    return _back(out, at.x, at)


def combined(
    dout: Array, scale: Array, rstd: Array, offset: Array, share: Array,
    middle: Array | None, shrink: Array | None,
) -> Any:  # fmt: skip
    """`funcnn._kernels.normalization.combined`."""
    axes = tuple(k for k, size in enumerate(rstd.shape) if size == 1)
    at = _placed(offset, axes, scale, dout, rstd, share, middle, shrink)
    if at is None or any(x is not None and x.shape != rstd.shape for x in (share, middle, shrink)):
        return NotImplemented
    groups = rstd.size
    roots, shares = _flat(rstd, at), _flat(share, at)
    centres = _filled(groups, 0, dout.dtype) if middle is None else _flat(middle, at)
    shrunk = _filled(groups, 1, dout.dtype) if shrink is None else _flat(shrink, at)
    dx = fresh((dout.size,), dout.dtype)
    _combined(_flat(dout, at), _flat(offset, at), _laid(scale, at), roots, shares, centres, shrunk, dx,
              *_cut(dout, at))  # fmt: skip
    return _back(dx, at.x, at)


@divided_exactly
def _scaled(
    x: In, first: In, second: In, third: In, out: Out, size: int, each: int, low: int, high: int
) -> None:
    """``x * first * second + third``; the last two are of each group, or of `each` number of one."""
    for p in range(low, high):
        g, start, stop = tile(p, size)
        row, values = x[g * size + start : g * size + stop], out[g * size + start : g * size + stop]
        factor = first[g]
        if each:
            scale, bias = second[start:stop], third[start:stop]
            for i in range(len(row)):
                values[i] = row[i] * factor * scale[i] + bias[i]
        else:
            by, more = second[g], third[g]
            for i in range(len(row)):
                values[i] = row[i] * factor * by + more


@divided_exactly
def _combined(
    slope: In, offset: In, scale: In, rstd: In, share: In, middle: In, shrink: In, dx: Out, size: int,
    each: int, low: int, high: int,
) -> None:  # fmt: skip
    for p in range(low, high):
        g, start, stop = tile(p, size)
        here = slice(g * size + start, g * size + stop)
        d, rest, out = slope[here], offset[here], dx[here]
        b, c, by = share[g], middle[g], shrink[g]
        if each:
            factors, root = scale[start:stop], rstd[g]
            for i in range(len(d)):
                out[i] = (d[i] * (factors[i] * root) - rest[i] * b - c) * by
        else:
            a = scale[g] * rstd[g]
            for i in range(len(d)):
                out[i] = (d[i] * a - rest[i] * b - c) * by
