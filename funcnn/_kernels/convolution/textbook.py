"""Images to columns and back: convolution as a product of matrices."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from funcnn import _checks
from funcnn._kernels.windows import Padding, Sizes, Window, output_size, window
from funcnn.types import Array

__all__ = ["col2im", "im2col"]


def im2col(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
) -> Array:
    """Lay what each window sees into one column of a matrix.

    Parameters
    ----------
    x : array, shape (N, C, *spatial)
        Images; one, two or three spatial axes.
    kernel_size, stride, dilation : int or tuple of int
        The window; an int stands for every axis.
    padding : int, or one int or (low, high) pair for each axis
        Zeros around the image.

    Returns
    -------
    array, shape (C * kh * kw, oh * ow * N)
        Row ``(c * kh + i) * kw + j`` is tap ``(i, j)`` of channel ``c``; column
        ``(p * ow + q) * N + n`` is the window at ``(p, q)`` of example ``n``: examples are
        neighbours.

    See Also
    --------
    col2im : its adjoint.

    Notes
    -----
    Filters ``(O, C, kh, kw)`` as ``(O, C * kh * kw)``, times the columns, are the convolution
    (cross-correlation, as everywhere in deep learning) as ``(O, oh, ow, N)``.

    References
    ----------
    K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for document
    processing", IWFHR 2006.

    Examples
    --------
    >>> import numpy as np
    >>> im2col(np.arange(9.0).reshape(1, 1, 3, 3), 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    _checks.any_ranked("im2col", x, 3)
    rank = x.ndim - 2
    win = _window("im2col", x.shape, kernel_size, stride, padding, dilation)
    taps = patches(x, win)
    columns = np.array(taps, order="C")
    return columns.reshape(x.shape[1] * math.prod(win.kernel), math.prod(columns.shape[1 + rank :]))


def col2im(
    columns: Array,
    shape: tuple[int, ...],
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
) -> Array:
    """Add every column back to where `im2col` read it: the adjoint, so overlaps are summed.

    Parameters
    ----------
    columns : array, shape (C * kh * kw, oh * ow * N)
        In the order of `im2col`.
    shape : tuple of int
        ``(N, C, *spatial)`` of the images.
    kernel_size, stride, padding, dilation
        As given to `im2col`.

    Returns
    -------
    array, shape (N, C, *spatial)

    See Also
    --------
    im2col : what it is the adjoint of: ``<im2col(x), y> = <x, col2im(y)>``.

    Examples
    --------
    How many windows see each pixel:

    >>> import numpy as np
    >>> col2im(np.ones((4, 4)), (1, 1, 3, 3), 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    _checks.any_shape("col2im", shape, 3)
    win = _window("col2im", shape, kernel_size, stride, padding, dilation)
    places = output_size(win, shape[2:])
    wanted = (shape[1] * math.prod(win.kernel), math.prod(places) * shape[0])
    _checks.floating("col2im", columns, "columns")
    _checks.exact_shape("col2im", columns.shape, wanted, "columns")
    return fold(columns.reshape(shape[1], *win.kernel, *places, shape[0]), shape[2:], win)


def _window(
    who: str,
    shape: tuple[int, ...],
    kernel_size: Sizes,
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
) -> Window:
    """A window with sizes that make sense, which fits into images of a shape."""
    rank = len(shape) - 2
    kernel = _checks.integers(who, "kernel_size", kernel_size, rank, 1)
    strides = _checks.integers(who, "stride", stride, rank, 1)
    steps = _checks.integers(who, "dilation", dilation, rank, 1)
    pads = padding if isinstance(padding, tuple) else (padding,) * rank
    if len(pads) != rank:
        _checks.refuse(who, f"`padding` must be an int or {rank} of them, got {padding!r}")
    pairs = [_checks.integers(who, "padding", pad, 2) for pad in pads]
    win = window(kernel, strides, tuple((low, high) for low, high in pairs), steps)
    if min(output_size(win, shape[2:])) < 1:
        _checks.refuse(who, f"`x` must not be smaller than the kernel {kernel}, got shape {shape}")
    return win


def padded(x: Array, window: Window, value: float = 0.0) -> Array:
    """``(N, C, *spatial)`` as ``(C, *spatial, N)`` with a border of `value`."""
    last = np.moveaxis(x, 0, -1)
    if not any(map(any, window.padding)):
        return last
    spatial = last.shape[1:-1]
    sizes = (n + low + high for n, (low, high) in zip(spatial, window.padding, strict=True))
    out = np.full((last.shape[0], *sizes, last.shape[-1]), value, x.dtype)
    out[inside(spatial, window)] = last
    return out


def inside(spatial: tuple[int, ...], window: Window) -> tuple[slice, ...]:
    """Where the image lies in a padded ``(C, *spatial, N)``."""
    pairs = zip(spatial, window.padding, strict=True)
    return (slice(None), *(slice(low, low + n) for n, (low, _) in pairs))


def tap_slices(window: Window, places: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """For each tap, the elements of a padded ``(C, *spatial, N)`` that it meets, in order."""
    axes = [
        [slice(k * d, k * d + (p - 1) * s + 1, s) for k in range(taps)]
        for taps, s, d, p in zip(window.kernel, window.stride, window.dilation, places, strict=True)
    ]
    return [(slice(None), *taps) for taps in product(*axes)]


def patches(x: Array, window: Window, value: float = 0.0) -> Array:
    """A view ``(C, *kernel, *places, N)`` of what each window sees."""
    places = output_size(window, x.shape[2:])
    base = padded(x, window, value)
    c, *spatial, n = base.strides
    steps = [step * d for step, d in zip(spatial, window.dilation, strict=True)]
    strides = [step * s for step, s in zip(spatial, window.stride, strict=True)]
    return np.lib.stride_tricks.as_strided(
        base,
        (base.shape[0], *window.kernel, *places, base.shape[-1]),
        (c, *steps, *strides, n),
        writeable=False,
    )


def fold(taps: Array, spatial: tuple[int, ...], window: Window) -> Array:
    """Sum ``(C, *kernel, *places, N)`` to where the taps were read: ``(N, C, *spatial)``."""
    rank = len(spatial)
    sizes = (n + low + high for n, (low, high) in zip(spatial, window.padding, strict=True))
    out = np.zeros((taps.shape[0], *sizes, taps.shape[-1]), taps.dtype)
    places = taps.shape[1 + rank : -1]
    for at, where in zip(np.ndindex(*window.kernel), tap_slices(window, places), strict=True):
        out[where] += taps[(slice(None), *at)]
    return np.moveaxis(out[inside(spatial, window)], -1, 0)
