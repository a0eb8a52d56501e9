"""The mean of each window."""

from __future__ import annotations

from typing import Any

from funcnn._kernels.pooling import means
from funcnn._kernels.windows import Padding, Window
from funcnn.checks import declared
from funcnn.layers.pooling.skeleton import Ints, options, pooling
from funcnn.types import Array, Image, Layer, Sequence, Volume

__all__ = ["avg_pool", "avg_pool1d", "avg_pool3d"]


@declared(**options(2, "padding", "dilation", "count_include_pad"))
def avg_pool(
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: Padding | str = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer[Image, Image]:
    """Mean of each window, ``(N, C, H, W) -> (N, C, H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Step of the window; by default the kernel size.
    padding : int, one int or (low, high) pair for each axis, "same" or "valid", default 0
        Zeros on both sides of each axis: at most half of what the window spans, or a pair below it.
        ``"same"`` pads so that ``H' = ceil(H / stride)``, with the odd zero at the high end;
        ``"valid"`` is 0.
    dilation : int or (int, int), default 1
        Distance between the elements that a window sees.
    ceil_mode : bool, default False
        Whether a last window that starts on the image may reach beyond the padding; what it sees
        there never counts.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the mean; without padding, both are the same.
        (TensorFlow and JAX do not count them.) The mean of a window that sees nothing is 0.

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
    ``H' = floor((H + padding - dilation (kh - 1) - 1) / stride) + 1``; with `ceil_mode`, the
    ceiling. Pullback: each element of a window gets ``dy / count``, with ``count = kh kw`` where the
    whole window counts.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import avg_pool
    >>> avg_pool(2).apply({}, np.arange(16.0).reshape(1, 1, 4, 4))[0]
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    options = stride, padding, dilation, ceil_mode, count_include_pad
    return _avg_pool("N, C, H, W", kernel_size, *options)


@declared(**options(1, "padding", "dilation", "count_include_pad"))
def avg_pool1d(
    kernel_size: int,
    *,
    stride: int | None = None,
    padding: Padding | str = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer[Sequence, Sequence]:
    """Mean of each window of time steps, feature by feature, ``(N, T, F) -> (N, T', F)``.

    Parameters
    ----------
    kernel_size : int
        Time steps that a window sees.
    stride, padding, dilation, ceil_mode, count_include_pad
        As in `avg_pool`, with one axis.

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
    Shapes, formula and pullback are those of `avg_pool`, over one axis.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import avg_pool1d
    >>> avg_pool1d(2).apply({}, np.array([[[1.0], [3.0], [2.0], [0.0]]]))[0]
    array([[[2.],
            [1.]]])
    """
    options = stride, padding, dilation, ceil_mode, count_include_pad
    return _avg_pool("N, T, F", kernel_size, *options)


@declared(**options(3, "padding", "dilation", "count_include_pad"))
def avg_pool3d(
    kernel_size: int | tuple[int, int, int],
    *,
    stride: int | tuple[int, int, int] | None = None,
    padding: Padding | str = 0,
    dilation: int | tuple[int, int, int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer[Volume, Volume]:
    """Mean of each window, ``(N, C, D, H, W) -> (N, C, D', H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        Depth, height and width of the window.
    stride, padding, dilation, ceil_mode, count_include_pad
        As in `avg_pool`, with three axes.

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
    Shapes, formula and pullback are those of `avg_pool`, over three axes.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import avg_pool3d
    >>> avg_pool3d(2).apply({}, np.arange(8.0).reshape(1, 1, 2, 2, 2))[0]
    array([[[[[3.5]]]]])
    """
    options = stride, padding, dilation, ceil_mode, count_include_pad
    return _avg_pool("N, C, D, H, W", kernel_size, *options)


def _avg_pool(
    axes: str,
    kernel: Ints,
    stride: Ints | None,
    padding: Padding | str,
    dilation: Ints,
    ceil_mode: bool,
    everything: bool,
) -> Layer[Any, Any]:
    def forward(x: Array, at: Window, counted: Window) -> tuple[Array, None]:
        return means.mean(x, at, counted, everything), None

    def gradient(
        dout: Array, record: None, shape: tuple[int, ...], at: Window, counted: Window
    ) -> Array:
        return means.mean_gradient(dout, shape, at, counted, everything)

    return pooling(axes, kernel, stride, padding, dilation, ceil_mode, forward, gradient, counting=True)
