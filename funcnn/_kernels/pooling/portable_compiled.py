"""Max pooling compiled for portable mode: windows do not overlap, so that no gradient is a sum."""

from __future__ import annotations

from typing import Any

from funcnn._kernels.pooling import compiled
from funcnn._kernels.windows import Window
from funcnn.types import Array


def _meet(window: Window) -> bool:
    """Whether windows lie side by side."""
    return window.kernel == window.stride and set(window.dilation) == {1}


def max_pool(x: Array, window: Window) -> Any:
    """`funcnn._kernels.pooling.separable.max_pool`."""
    return compiled.max_pool(x, window) if _meet(window) else NotImplemented


def max_pool_gradient(
    dout: Array, winners: tuple[Array, ...] | None, x_shape: tuple[int, ...], window: Window
) -> Any:
    """`funcnn._kernels.pooling.separable.max_pool_gradient`."""
    if winners is None or not _meet(window):
        return NotImplemented
    return compiled.max_pool_gradient(dout, winners, x_shape, window)
