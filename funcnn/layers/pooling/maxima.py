"""The largest element of each window."""

from __future__ import annotations

from typing import Any

from funcnn._kernels.pooling import separable as kernels
from funcnn.checks import declared
from funcnn.layers.pooling.skeleton import Ints, options, pooling
from funcnn.types import Image, Layer, Sequence, Volume

__all__ = [
    "max_pool",
    "max_pool1d",
    "max_pool3d",
]


@declared("maximum", **options(2, "padding", "dilation"))
def max_pool(
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Layer[Image, Image]:
    """Largest element of each window, ``(N, C, H, W) -> (N, C, H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Step of the window; by default the kernel size.
    padding : int or (int, int), default 0
        Minus infinity on both sides of each axis; at most half of what the window spans.
    dilation : int or (int, int), default 1
        Distance between the elements that a window sees.
    ceil_mode : bool, default False
        Whether a last window that starts on the image may reach beyond the padding.

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
    ``H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1``; with `ceil_mode`, the ceiling.
    The forward pass records which element won; among equals the first, as in PyTorch. Pullback: the
    winner gets all of ``dy``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import max_pool
    >>> max_pool(2).apply({}, np.arange(16.0).reshape(1, 1, 4, 4))[0]
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return _max_pool("N, C, H, W", kernel_size, stride, padding, dilation, ceil_mode)


@declared("maximum", **options(1, "padding", "dilation"))
def max_pool1d(
    kernel_size: int,
    *,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> Layer[Sequence, Sequence]:
    """Largest element of each window of time steps, feature by feature, ``(N, T, F) -> (N, T', F)``.

    Parameters
    ----------
    kernel_size : int
        Time steps that a window sees.
    stride, padding, dilation, ceil_mode
        As in `max_pool`, with one axis.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, or is smaller than the window.

    Notes
    -----
    Shapes, formula and pullback are those of `max_pool`, over one axis.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import max_pool1d
    >>> max_pool1d(2).apply({}, np.array([[[1.0], [3.0], [2.0], [0.0]]]))[0]
    array([[[3.],
            [2.]]])
    """
    return _max_pool("N, T, F", kernel_size, stride, padding, dilation, ceil_mode)


@declared("maximum", **options(3, "padding", "dilation"))
def max_pool3d(
    kernel_size: int | tuple[int, int, int],
    *,
    stride: int | tuple[int, int, int] | None = None,
    padding: int | tuple[int, int, int] = 0,
    dilation: int | tuple[int, int, int] = 1,
    ceil_mode: bool = False,
) -> Layer[Volume, Volume]:
    """Largest element of each window, ``(N, C, D, H, W) -> (N, C, D', H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        Depth, height and width of the window.
    stride, padding, dilation, ceil_mode
        As in `max_pool`, with three axes.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of volumes, or is smaller than the window.

    Notes
    -----
    Shapes, formula and pullback are those of `max_pool`, over three axes.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import max_pool3d
    >>> max_pool3d(2).apply({}, np.arange(8.0).reshape(1, 1, 2, 2, 2))[0]
    array([[[[[7.]]]]])
    """
    return _max_pool("N, C, D, H, W", kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool(
    axes: str, kernel: Ints, stride: Ints | None, padding: Ints, dilation: Ints, ceil_mode: bool
) -> Layer[Any, Any]:
    ways = kernels.max_pool, kernels.max_pool_gradient
    return pooling(axes, kernel, stride, padding, dilation, ceil_mode, *ways)
