"""The largest element of each window."""

from __future__ import annotations

from typing import Any, TypedDict, Unpack, overload

from funcnn._kernels.pooling import separable as kernels
from funcnn._kernels.windows import Padding, Window
from funcnn.checks import declared
from funcnn.layers.pooling.skeleton import Ints, options, pooling
from funcnn.types import Array, Image, Layer, Off, On, Sequence, Spec, Volume

__all__ = ["max_pool", "max_pool1d", "max_pool3d"]


class _Options(TypedDict, total=False):
    """What max poolings take beside the option that changes their type."""

    stride: Ints | None
    padding: Padding | str
    dilation: Ints
    ceil_mode: bool


@overload
def max_pool(
    kernel_size: int | tuple[int, int], *, return_indices: Off = ..., **options: Unpack[_Options]
) -> Layer[Image, Image]: ...
@overload
def max_pool(
    kernel_size: int | tuple[int, int], *, return_indices: On, **options: Unpack[_Options]
) -> Layer[Image, tuple[Image, Array]]: ...
@declared(**options(2, "padding", "dilation", "return_indices"))
def max_pool(
    kernel_size: int | tuple[int, int],
    *,
    stride: Ints | None = None,
    padding: Padding | str = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Layer[Any, Any]:
    """Largest element of each window, ``(N, C, H, W) -> (N, C, H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window.
    stride : int or (int, int), optional
        Step of the window; by default the kernel size.
    padding : int, one int or (low, high) pair for each axis, "same" or "valid", default 0
        Minus infinity on both sides of each axis: at most half of what the window spans, or a pair
        below it. ``"same"`` pads so that ``H' = ceil(H / stride)``, with the odd element at the high
        end; ``"valid"`` is 0.
    dilation : int or (int, int), default 1
        Distance between the elements that a window sees.
    ceil_mode : bool, default False
        Whether a last window that starts on the image may reach beyond the padding.
    return_indices : bool, default False
        Whether the output is a tuple: the largest elements, and where they were, as integers of the
        same shape that count the pixels of an image, row by row. `max_unpool` takes it.

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
    ``H' = floor((H + padding - dilation (kh - 1) - 1) / stride) + 1``; with `ceil_mode`, the ceiling.
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
    return _max_pool("N, C, H, W", kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@overload
def max_pool1d(
    kernel_size: int, *, return_indices: Off = ..., **options: Unpack[_Options]
) -> Layer[Sequence, Sequence]: ...
@overload
def max_pool1d(
    kernel_size: int, *, return_indices: On, **options: Unpack[_Options]
) -> Layer[Sequence, tuple[Sequence, Array]]: ...
@declared(**options(1, "padding", "dilation", "return_indices"))
def max_pool1d(
    kernel_size: int,
    *,
    stride: Ints | None = None,
    padding: Padding | str = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Layer[Any, Any]:
    """Largest element of each window of time steps, feature by feature, ``(N, T, F) -> (N, T', F)``.

    Parameters
    ----------
    kernel_size : int
        Time steps that a window sees.
    stride, padding, dilation, ceil_mode, return_indices
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
    return _max_pool("N, T, F", kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@overload
def max_pool3d(
    kernel_size: int | tuple[int, int, int], *, return_indices: Off = ..., **options: Unpack[_Options]
) -> Layer[Volume, Volume]: ...
@overload
def max_pool3d(
    kernel_size: int | tuple[int, int, int], *, return_indices: On, **options: Unpack[_Options]
) -> Layer[Volume, tuple[Volume, Array]]: ...
@declared(**options(3, "padding", "dilation", "return_indices"))
def max_pool3d(
    kernel_size: int | tuple[int, int, int],
    *,
    stride: Ints | None = None,
    padding: Padding | str = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Layer[Any, Any]:
    """Largest element of each window, ``(N, C, D, H, W) -> (N, C, D', H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        Depth, height and width of the window.
    stride, padding, dilation, ceil_mode, return_indices
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
    return _max_pool("N, C, D, H, W", kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_pool(
    axes: str,
    kernel: Ints,
    stride: Ints | None,
    padding: Padding | str,
    dilation: Ints,
    ceil_mode: bool,
    indexed: bool,
) -> Layer[Any, Any]:
    def with_places(x: Array, at: Window) -> tuple[tuple[Array, Array], Any]:
        out, winners = kernels.max_pool(x, at)
        return (out, kernels.places(winners, x.shape, at)), winners

    forward = with_places if indexed else kernels.max_pool
    back = kernels.max_pool_gradient
    made = pooling(axes, kernel, stride, padding, dilation, ceil_mode, forward, back, indexed=indexed)
    return made if indexed else made._replace(spec=Spec(traits=frozenset({"maximum"})))
