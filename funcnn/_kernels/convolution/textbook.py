"""Convolution as it is in a textbook: images to columns and back, and a product of matrices.

With ``X`` the columns of the images, ``K`` the filters as rows and ``dY`` the gradient of the output::

    Y = K X + b        dK = dY Xᵀ        db = sum(dY)        dx = col2im(Kᵀ dY)

The kernels beside this file give the same, faster; the tests compare them with this one.
"""

from __future__ import annotations

import math

import numpy as np

from funcnn import checks, numerics
from funcnn._kernels.images import batch_first, batch_last, inside
from funcnn._kernels.windows import Padding, Sizes, Window, output_size, taps, window
from funcnn.types import Array

__all__ = ["col2im", "im2col"]


@checks.named
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
    x : array, shape ``(N, C, *spatial)``
        Images; one, two or three spatial axes.
    kernel_size, stride, dilation : int or tuple of int
        The window; an int stands for every axis.
    padding : int, or one int or (low, high) pair for each axis
        Zeros around the image.

    Returns
    -------
    array, shape ``(C * kh * kw, oh * ow * N)``
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
    checks.any_ranked(x, 3)
    return columns(x, _window(x.shape, kernel_size, stride, padding, dilation))


@checks.named
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
    columns : array, shape ``(C * kh * kw, oh * ow * N)``
        In the order of `im2col`.
    shape : tuple of int
        ``(N, C, *spatial)`` of the images.
    kernel_size, stride, padding, dilation
        As given to `im2col`.

    Returns
    -------
    array, shape ``(N, C, *spatial)``

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
    checks.any_shape(shape, 3)
    win = _window(shape, kernel_size, stride, padding, dilation)
    places = output_size(win, shape[2:])
    wanted = (shape[1] * math.prod(win.kernel), math.prod(places) * shape[0])
    checks.floating(columns, "columns")
    checks.exact_shape(columns.shape, wanted, "columns")
    return images(columns, shape, win)


def _window(
    shape: tuple[int, ...], kernel_size: Sizes, stride: Sizes, padding: Padding, dilation: Sizes
) -> Window:
    """A window with sizes that make sense, which fits into images of a shape."""
    rank = len(shape) - 2
    kernel, strides, spread = (
        checks.Integers(rank, 1).check(name, value)
        for name, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
    )
    pads = padding if isinstance(padding, tuple) else (padding,) * rank
    if len(pads) != rank:
        checks.refuse(f"`padding` must be an int or {rank} of them, got {checks.shown(padding)}")
    pairs = [checks.Integers(2).check("padding", pad) for pad in pads]
    win = window(kernel, strides, tuple((low, high) for low, high in pairs), spread)
    if min(output_size(win, shape[2:])) < 1:
        checks.refuse(f"`x` must not be smaller than the kernel {kernel}, got shape {shape}")
    return win


# --- without checks, for the tests to compare with -------------------------------------------------


def columns(x: Array, window: Window) -> Array:
    """``X``: what each window sees, as ``(C * taps, places * N)``."""
    last = batch_last(x)
    framed = np.pad(last, ((0, 0), *window.padding, (0, 0)))
    seen = np.stack([framed[tap] for tap in taps(window, output_size(window, x.shape[2:]))], 1)
    return seen.reshape(math.prod(seen.shape[:2]), math.prod(seen.shape[2:]))


def images(columns: Array, shape: tuple[int, ...], window: Window) -> Array:
    """Every column added to where it was read: the adjoint of `columns`."""
    batch, channels, *spatial = shape
    places = output_size(window, shape[2:])
    sizes = (n + low + high for n, (low, high) in zip(spatial, window.padding, strict=True))
    framed = np.zeros((channels, *sizes, batch), columns.dtype)
    seen = columns.reshape(channels, math.prod(window.kernel), *places, batch)
    for index, tap in enumerate(taps(window, places)):
        framed[tap] += seen[:, index]
    return batch_first(framed[inside(shape[2:], window)])


def convolve(x: Array, weight: Array, bias: Array, window: Window) -> Array:
    """``Y = K X + b``."""
    out = numerics.matmul(_matrix(weight), columns(x, window)) + bias[:, None]
    shape = (len(weight), *output_size(window, x.shape[2:]), len(x))
    return batch_first(out.reshape(shape))


def gradients(x: Array, weight: Array, dout: Array, window: Window) -> tuple[Array, Array, Array]:
    """``dK = dY Xᵀ``, ``db = sum(dY)`` and ``dx = col2im(Kᵀ dY)``."""
    slope = _matrix(batch_last(dout))
    dweight = numerics.matmul(slope, columns(x, window).T).reshape(weight.shape)
    dx = images(numerics.matmul(_matrix(weight).T, slope), x.shape, window)
    return dweight, numerics.sum(slope, 1), dx


def _matrix(array: Array) -> Array:
    return array.reshape(len(array), math.prod(array.shape[1:]))
