"""Lp norms of windows, tap by tap: the largest that a window sees is the unit, so no power overflows.

With ``r = |x| / max`` and ``s = sum r^p``, which lies between 1 and the number of taps, the norm is
``max s^(1/p)``, and its slope ``sign(x) r^(p-1) s^(1/p-1)``. What overhangs the padding does not count;
what remains of the window stands for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels.images import batch_first, batch_last, frame, inside
from funcnn._kernels.pooling.means import excess
from funcnn._kernels.windows import Window, output_size, taps
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_compiled = compiled_in("funcnn._kernels.pooling.compiled")

_EASY: dict[float, Callable[[Array], Any]] = {
    0: np.ones_like,
    1: np.positive,
    2: np.square,
    0.5: np.sqrt,
    -0.5: lambda x: 1 / np.sqrt(x),
}


@_compiled
def norm(x: Array, window: Window, counted: Window, power: float) -> tuple[Array, tuple[Array, Array]]:
    """``(sum |x|^p)^(1/p)``; and the largest ``|x|`` and ``s``, as ``(C, *places, N)``."""
    size = _sizes(x, window, power)
    first, *others = taps(window, output_size(window, x.shape[2:]))
    top = size[first].copy()
    for at in others:
        np.maximum(top, size[at], out=top)
    s = _power(_ratio(size[first], top), power)
    for at in others:
        s += _power(_ratio(size[at], top), power)
    s += top == 0
    s *= _weights(x.shape, window, counted, s.dtype)
    out = top * _power(s, 1 / power)
    return batch_first(out.astype(x.dtype, copy=False)), (top, s)


@_compiled
def norm_gradient(
    dout: Array, x: Array, record: tuple[Array, Array], window: Window, counted: Window, power: float
) -> Array:
    """``dx = sum dy sign(x) r^(p-1) s^(1/p-1)`` over the windows that see it; 0 at ``x = 0``."""
    (top, s), size = record, _sizes(x, window, power)
    sign = frame(np.sign(x), window.padding)
    share = batch_last(dout) * _power(s, 1 / power - 1)
    share *= _weights(x.shape, window, counted, s.dtype)
    plain = np.isfinite(share).all()  # or else 0 times infinity would be NaN
    dx = np.zeros_like(size)
    for at in taps(window, dout.shape[2:]):
        part = _power(_ratio(size[at], top), power - 1) * sign[at]
        part *= share
        np.add(dx[at], part, out=dx[at], where=True if plain else size[at] != 0)
    return batch_first(dx[inside(x.shape[2:], window)]).astype(x.dtype, copy=False)


def _sizes(x: Array, window: Window, power: float) -> Array:
    """``|x|`` as ``(C, *spatial, N)``; in float64 for powers that multiply rounding errors."""
    dtype = x.dtype if power in (1, 2) else np.float64
    return frame(np.abs(x, dtype=dtype), window.padding, "sizes")


def _ratio(size: Array, top: Array) -> Array:
    """``size / top``, of zeros 0, and 1 where both are infinite."""
    unit = top + (top == 0)
    if not np.isinf(top).any():
        return np.asarray(size / unit)
    out = np.ones_like(top)
    np.divide(size, unit, out=out, where=size != unit)
    return out


def _power(x: Array, power: float) -> Any:
    return _EASY[power](x) if power in _EASY else numerics.power(x, power)


def _weights(x_shape: tuple[int, ...], window: Window, counted: Window, dtype: np.dtype[Any]) -> Array:
    """How much larger each window is than what counts of it, to broadcast over ``(C, *places, N)``."""
    found = excess(x_shape, window, counted, dtype)
    return np.ones((), dtype) if found is None else found[..., None]
