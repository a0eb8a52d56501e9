"""Pooling: one implementation for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable

from funcnn import _checks
from funcnn._kernels import pooling as kernels
from funcnn._kernels.windows import Window, output_size, window
from funcnn.types import Array, Cache, Image, Key, Layer, Params, Shape, Spec

__all__ = ["avg_pool", "max_pool"]


def max_pool(
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> Layer[Image, Image]:
    """Largest element of each window, ``(N, C, H, W) -> (N, C, H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Step of the window; by default the kernel size.
    padding : int or (int, int), default 0
        Minus infinity on both sides of each axis; at most half the kernel.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images, or is smaller than the window.

    Notes
    -----
    ``H' = floor((H + 2 padding - kh) / stride) + 1``. The forward pass records which element won;
    among equals the first, as in PyTorch. Pullback: the winner gets all of ``dy``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import max_pool
    >>> max_pool(2).apply({}, np.arange(16.0).reshape(1, 1, 4, 4))[0]
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    options = {"stride": stride, "padding": padding}
    spec = Spec(max_pool, (kernel_size,), options, traits=frozenset({"maximum"}))

    def gradient(dout: Array, winners: Array, shape: tuple[int, ...], at: Window) -> Array:
        return kernels.max_pool_gradient(dout, winners, shape, at)

    return _pooling(spec, "N, C, H, W", kernels.max_pool, gradient)


def avg_pool(
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> Layer[Image, Image]:
    """Mean of each window, ``(N, C, H, W) -> (N, C, H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Step of the window; by default the kernel size.
    padding : int or (int, int), default 0
        Zeros on both sides of each axis, which count in the mean; at most half the kernel.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images, or is smaller than the window.

    Notes
    -----
    ``H' = floor((H + 2 padding - kh) / stride) + 1``. Pullback: each element of a window gets
    ``dy / (kh kw)``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import avg_pool
    >>> avg_pool(2).apply({}, np.arange(16.0).reshape(1, 1, 4, 4))[0]
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    spec = Spec(avg_pool, (kernel_size,), {"stride": stride, "padding": padding})

    def forward(x: Array, at: Window) -> tuple[Array, None]:
        return kernels.average_pool(x, at), None

    def gradient(dout: Array, record: None, shape: tuple[int, ...], at: Window) -> Array:
        return kernels.average_pool_gradient(dout, shape, at)

    return _pooling(spec, "N, C, H, W", forward, gradient)


def _pooling(
    spec: Spec,
    axes: str,
    forward: Callable[[Array, Window], tuple[Array, object]],
    gradient: Callable[..., Array],
) -> Layer[Array, Array]:
    """The pooling that a spec describes; `forward` leaves a record for `gradient`."""
    who, rank, given = spec.kind, axes.count(",") - 1, spec.options
    kernel = _checks.integers(who, "kernel_size", spec.args[0], rank, 1)
    step = kernel if given["stride"] is None else given["stride"]
    stride = _checks.integers(who, "stride", step, rank, 1)
    padding = _checks.integers(who, "padding", given["padding"], rank)
    if any(2 * pad > k for pad, k in zip(padding, kernel, strict=True)):
        _checks.refuse(who, f"`padding` must be at most half of the kernel {kernel}, got {padding}")
    at = window(kernel, stride, padding)

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        places = output_size(at, shape[2:])
        if min(places) < 1:
            _checks.refuse(who, f"`x` must not be smaller than the kernel {kernel}, got shape {shape}")
        return (*shape[:2], *places)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return out_shape(_checks.shape(who, shape, axes)), {}

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        _checks.leaves(who, params, {})
        out_shape(_checks.ranked(who, x, axes).shape)
        out, record = forward(x, at)
        return out, {"record": record, "shape": x.shape}

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        shape = cache["shape"]
        _checks.gradient(who, dout, out_shape(shape))
        return {}, gradient(dout, cache["record"], shape, at)

    return Layer(init, apply, vjp, spec)
