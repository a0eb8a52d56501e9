"""Functions of every element compiled for portable mode: those of a comparison alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn._kernels.elementwise import Twin
from funcnn.machine.memory import fresh
from funcnn.numerics.handover import PART, divided_exactly
from funcnn.numerics.jit import In, Out
from funcnn.types import Array


def applied(x: Array, function: Any, twin: Twin) -> Any:
    """`funcnn._kernels.elementwise.applied`."""
    return NotImplemented if (order := _lines(x, twin)) is None else _run(_positive, order, x)


def sloped(x: Array, dout: Array, slope: Any, twin: Twin, dead: bool = False) -> Any:
    """`funcnn._kernels.elementwise.sloped`."""
    if dout.dtype != x.dtype or (order := _lines(x, twin)) is None:
        return NotImplemented
    return _run(_passed, order, x, dout)


def _lines(x: Array, twin: Twin) -> list[int] | None:
    """The order of the axes in memory, of what is a kernel's and has no gaps."""
    if twin[0] != "relu" or x.dtype not in (np.float32, np.float64) or not x.size:
        return None
    order = sorted(range(x.ndim), key=lambda k: (-x.strides[k], k))
    return order if x.transpose(order).flags.c_contiguous else None


def _run(kernel: Any, order: list[int], *given: Array) -> Any:
    x = given[0]
    lines = [np.ascontiguousarray(one.transpose(order)).reshape(-1) for one in given]
    out = fresh((x.size,), x.dtype)
    kernel(*lines, out, 0, -(-x.size // PART))
    back = sorted(range(x.ndim), key=order.__getitem__)
    return out.reshape([x.shape[k] for k in order]).transpose(back)


@divided_exactly
def _positive(x: In, out: Out, low: int, high: int) -> None:
    here, zero = slice(low * PART, high * PART), x.dtype.type(0)
    row, values = x[here], out[here]
    for i in range(len(row)):
        values[i] = zero if row[i] < zero else row[i]


@divided_exactly
def _passed(x: In, dout: In, out: Out, low: int, high: int) -> None:
    here, zero = slice(low * PART, high * PART), x.dtype.type(0)
    row, slopes, values = x[here], dout[here], out[here]
    for i in range(len(row)):
        values[i] = slopes[i] if row[i] > zero else zero
