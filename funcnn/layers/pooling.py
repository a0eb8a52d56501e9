"""Pooling: one implementation for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from funcnn import checks
from funcnn._kernels.axes import channels_second, channels_second_shape
from funcnn._kernels.pooling import bins, means, separable as kernels
from funcnn._kernels.windows import Window, expanded, output_size, overhanging, window
from funcnn.checks import Constraint, Flag, Number, Optional, Sizes, declared
from funcnn.types import (
    Array,
    Cache,
    Image,
    Key,
    Layer,
    Params,
    Sequence,
    Shape,
    Vector,
    Volume,
)

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool",
    "adaptive_max_pool1d",
    "adaptive_max_pool3d",
    "avg_pool",
    "avg_pool1d",
    "avg_pool3d",
    "global_avg_pool",
    "global_max_pool",
    "lp_pool",
    "lp_pool1d",
    "lp_pool3d",
    "max_pool",
    "max_pool1d",
    "max_pool3d",
]


Ints = int | tuple[int, ...]


def _options(axes: int, *names: str) -> dict[str, Constraint]:
    """What poolings over so many axes declare: what all have, and some options more."""
    every: dict[str, Constraint] = {
        "kernel_size": Sizes(axes, 1),
        "stride": Optional(Sizes(axes, 1)),
        "ceil_mode": Flag(),
        "padding": Sizes(axes),
        "dilation": Sizes(axes, 1),
        "count_include_pad": Flag(),
        "norm_type": Number(minimum=1),
    }
    return {name: every[name] for name in ("kernel_size", "stride", "ceil_mode", *names)}


@declared("maximum", **_options(2, "padding", "dilation"))
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


@declared("maximum", **_options(1, "padding", "dilation"))
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


@declared("maximum", **_options(3, "padding", "dilation"))
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


@declared(**_options(2, "padding", "count_include_pad"))
def avg_pool(
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
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
    padding : int or (int, int), default 0
        Zeros on both sides of each axis; at most half the kernel.
    ceil_mode : bool, default False
        Whether a last window that starts on the image may reach beyond the padding; what it sees
        there never counts.
    count_include_pad : bool, default True
        Whether the zeros of the padding count in the mean.

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
    ``H' = floor((H + 2 padding - kh) / stride) + 1``; with `ceil_mode`, the ceiling. Pullback: each
    element of a window gets ``dy / count``, with ``count = kh kw`` where the whole window counts.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import avg_pool
    >>> avg_pool(2).apply({}, np.arange(16.0).reshape(1, 1, 4, 4))[0]
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    return _avg_pool("N, C, H, W", kernel_size, stride, padding, ceil_mode, count_include_pad)


@declared(**_options(1, "padding", "count_include_pad"))
def avg_pool1d(
    kernel_size: int,
    *,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer[Sequence, Sequence]:
    """Mean of each window of time steps, feature by feature, ``(N, T, F) -> (N, T', F)``.

    Parameters
    ----------
    kernel_size : int
        Time steps that a window sees.
    stride, padding, ceil_mode, count_include_pad
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
    return _avg_pool("N, T, F", kernel_size, stride, padding, ceil_mode, count_include_pad)


@declared(**_options(3, "padding", "count_include_pad"))
def avg_pool3d(
    kernel_size: int | tuple[int, int, int],
    *,
    stride: int | tuple[int, int, int] | None = None,
    padding: int | tuple[int, int, int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer[Volume, Volume]:
    """Mean of each window, ``(N, C, D, H, W) -> (N, C, D', H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        Depth, height and width of the window.
    stride, padding, ceil_mode, count_include_pad
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
    return _avg_pool("N, C, D, H, W", kernel_size, stride, padding, ceil_mode, count_include_pad)


@declared(**_options(2, "norm_type"))
def lp_pool(
    kernel_size: int | tuple[int, int],
    *,
    norm_type: float = 2.0,
    stride: int | tuple[int, int] | None = None,
    ceil_mode: bool = False,
) -> Layer[Image, Image]:
    """Lp norm of each window, ``(N, C, H, W) -> (N, C, H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window.
    norm_type : float, default 2.0
        The exponent ``p``, at least 1: at 1 the sum of absolute values; the larger, the closer to
        their maximum.
    stride : int or (int, int), optional
        Step of the window; by default the kernel size.
    ceil_mode : bool, default False
        Whether a last window that starts on the image may reach beyond it; its sum is then scaled
        up to the full size of the window, as in PyTorch.

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
    Forward: ``y = (sum |x|^p)^(1/p)``. Pullback: ``dx = dy sign(x) (|x| / y)^(p - 1)``, and 0 where
    ``y = 0``. (PyTorch leaves out the absolute value: for an odd ``p``, or one that is no integer,
    they agree where ``x`` is not negative.)

    References
    ----------
    P. Sermanet, S. Chintala and Y. LeCun, "Convolutional neural networks applied to house numbers
    digit classification", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import lp_pool
    >>> lp_pool((1, 2)).apply({}, np.array([[[[3.0, -4.0]]]]))[0]
    array([[[[5.]]]])
    """
    return _lp_pool("N, C, H, W", kernel_size, norm_type, stride, ceil_mode)


@declared(**_options(1, "norm_type"))
def lp_pool1d(
    kernel_size: int,
    *,
    norm_type: float = 2.0,
    stride: int | None = None,
    ceil_mode: bool = False,
) -> Layer[Sequence, Sequence]:
    """Lp norm of each window of time steps, feature by feature, ``(N, T, F) -> (N, T', F)``.

    Parameters
    ----------
    kernel_size : int
        Time steps that a window sees.
    norm_type, stride, ceil_mode
        As in `lp_pool`, with one axis.

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
    Shapes, formula and pullback are those of `lp_pool`, over one axis.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import lp_pool1d
    >>> lp_pool1d(2).apply({}, np.array([[[3.0], [-4.0]]]))[0]
    array([[[5.]]])
    """
    return _lp_pool("N, T, F", kernel_size, norm_type, stride, ceil_mode)


@declared(**_options(3, "norm_type"))
def lp_pool3d(
    kernel_size: int | tuple[int, int, int],
    *,
    norm_type: float = 2.0,
    stride: int | tuple[int, int, int] | None = None,
    ceil_mode: bool = False,
) -> Layer[Volume, Volume]:
    """Lp norm of each window, ``(N, C, D, H, W) -> (N, C, D', H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        Depth, height and width of the window.
    norm_type, stride, ceil_mode
        As in `lp_pool`, with three axes.

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
    Shapes, formula and pullback are those of `lp_pool`, over three axes.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import lp_pool3d
    >>> lp_pool3d((1, 2, 2)).apply({}, np.full((1, 1, 1, 2, 2), 2.0))[0]
    array([[[[[4.]]]]])
    """
    return _lp_pool("N, C, D, H, W", kernel_size, norm_type, stride, ceil_mode)


@declared()
def global_avg_pool() -> Layer[Any, Vector]:
    """Mean over all places, ``(N, C, *spatial) -> (N, C)``, or times, ``(N, T, F) -> (N, F)``.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, images or volumes.

    Notes
    -----
    Pullback: every place gets ``dy / count``.

    References
    ----------
    M. Lin, Q. Chen and S. Yan, "Network in network", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import global_avg_pool
    >>> global_avg_pool().apply({}, np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))[0]
    array([[2.5]])
    """
    return _global_pool(_mean_of_bins, _mean_of_bins_gradient)


@declared("maximum")
def global_max_pool() -> Layer[Any, Vector]:
    """Maximum over all places, ``(N, C, *spatial) -> (N, C)``, or times, ``(N, T, F) -> (N, F)``.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, images or volumes.

    Notes
    -----
    Pullback: the first of the largest elements gets all of ``dy``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import global_max_pool
    >>> global_max_pool().apply({}, np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))[0]
    array([[4.]])
    """
    return _global_pool(bins.maximum, bins.maximum_gradient)


@declared(output_size=Sizes(2, 1))
def adaptive_avg_pool(output_size: int | tuple[int, int]) -> Layer[Image, Image]:
    """Mean of each of so many bins, ``(N, C, H, W) -> (N, C, *output_size)``.

    Parameters
    ----------
    output_size : int or (int, int)
        Height and width of what comes out, whatever goes in.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images.

    Notes
    -----
    Bin ``i`` of ``o`` sees the rows from ``floor(i H / o)`` up to ``ceil((i + 1) H / o)``, as in
    PyTorch: bins may overlap. Pullback: each element of a bin gets ``dy / count``.

    Examples
    --------
    >>> from funcnn import adaptive_avg_pool, random
    >>> adaptive_avg_pool(5).init(random.key(0), (32, 16, 14, 13))[0]
    (32, 16, 5, 5)
    """
    return _adaptive_pool("N, C, H, W", output_size, _mean_of_bins, _mean_of_bins_gradient)


@declared(output_size=Sizes(1, 1))
def adaptive_avg_pool1d(output_size: int) -> Layer[Sequence, Sequence]:
    """Mean of each of so many bins of time steps, ``(N, T, F) -> (N, output_size, F)``.

    Parameters
    ----------
    output_size : int
        Time steps that come out, whatever goes in.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences.

    Notes
    -----
    Bins and pullback are those of `adaptive_avg_pool`, over one axis.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import adaptive_avg_pool1d
    >>> adaptive_avg_pool1d(2).apply({}, np.array([[[1.0], [3.0], [2.0]]]))[0]
    array([[[2. ],
            [2.5]]])
    """
    return _adaptive_pool("N, T, F", output_size, _mean_of_bins, _mean_of_bins_gradient)


@declared(output_size=Sizes(3, 1))
def adaptive_avg_pool3d(output_size: int | tuple[int, int, int]) -> Layer[Volume, Volume]:
    """Mean of each of so many bins, ``(N, C, D, H, W) -> (N, C, *output_size)``.

    Parameters
    ----------
    output_size : int or (int, int, int)
        Depth, height and width of what comes out, whatever goes in.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of volumes.

    Notes
    -----
    Bins and pullback are those of `adaptive_avg_pool`, over three axes.

    Examples
    --------
    >>> from funcnn import adaptive_avg_pool3d, random
    >>> adaptive_avg_pool3d((2, 5, 5)).init(random.key(0), (32, 16, 7, 14, 13))[0]
    (32, 16, 2, 5, 5)
    """
    return _adaptive_pool("N, C, D, H, W", output_size, _mean_of_bins, _mean_of_bins_gradient)


@declared("maximum", output_size=Sizes(2, 1))
def adaptive_max_pool(output_size: int | tuple[int, int]) -> Layer[Image, Image]:
    """Largest element of each of so many bins, ``(N, C, H, W) -> (N, C, *output_size)``.

    Parameters
    ----------
    output_size : int or (int, int)
        Height and width of what comes out, whatever goes in.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images.

    Notes
    -----
    Bin ``i`` of ``o`` sees the rows from ``floor(i H / o)`` up to ``ceil((i + 1) H / o)``, as in
    PyTorch: bins may overlap. Pullback: the first of the largest elements of a bin gets its ``dy``.

    Examples
    --------
    >>> from funcnn import adaptive_max_pool, random
    >>> adaptive_max_pool(5).init(random.key(0), (32, 16, 14, 13))[0]
    (32, 16, 5, 5)
    """
    return _adaptive_pool("N, C, H, W", output_size, bins.maximum, bins.maximum_gradient)


@declared("maximum", output_size=Sizes(1, 1))
def adaptive_max_pool1d(output_size: int) -> Layer[Sequence, Sequence]:
    """Largest element of each of so many bins of time steps, ``(N, T, F) -> (N, output_size, F)``.

    Parameters
    ----------
    output_size : int
        Time steps that come out, whatever goes in.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences.

    Notes
    -----
    Bins and pullback are those of `adaptive_max_pool`, over one axis.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import adaptive_max_pool1d
    >>> adaptive_max_pool1d(2).apply({}, np.array([[[1.0], [3.0], [2.0]]]))[0]
    array([[[3.],
            [3.]]])
    """
    return _adaptive_pool("N, T, F", output_size, bins.maximum, bins.maximum_gradient)


@declared("maximum", output_size=Sizes(3, 1))
def adaptive_max_pool3d(output_size: int | tuple[int, int, int]) -> Layer[Volume, Volume]:
    """Largest element of each of so many bins, ``(N, C, D, H, W) -> (N, C, *output_size)``.

    Parameters
    ----------
    output_size : int or (int, int, int)
        Depth, height and width of what comes out, whatever goes in.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of volumes.

    Notes
    -----
    Bins and pullback are those of `adaptive_max_pool`, over three axes.

    Examples
    --------
    >>> from funcnn import adaptive_max_pool3d, random
    >>> adaptive_max_pool3d((2, 5, 5)).init(random.key(0), (32, 16, 7, 14, 13))[0]
    (32, 16, 2, 5, 5)
    """
    return _adaptive_pool("N, C, D, H, W", output_size, bins.maximum, bins.maximum_gradient)


Forward = Callable[[Array, Window], tuple[Array, Any]]
Gradient = Callable[[Array, Any, tuple[int, ...], Window], Array]
BinForward = Callable[[Array, tuple[int, ...]], tuple[Array, Any]]
BinGradient = Callable[[Array, Any, tuple[int, ...]], Array]


def _max_pool(
    axes: str, kernel: Ints, stride: Ints | None, padding: Ints, dilation: Ints, ceil_mode: bool
) -> Layer[Any, Any]:
    def gradient(dout: Array, winners: Any, shape: tuple[int, ...], at: Window) -> Array:
        return kernels.max_pool_gradient(dout, winners, shape, at)

    return _pooling(
        axes, kernel, stride, padding, dilation, ceil_mode, kernels.max_pool, gradient
    )


def _avg_pool(
    axes: str, kernel: Ints, stride: Ints | None, padding: Ints, ceil_mode: bool, everything: bool
) -> Layer[Any, Any]:
    def forward(x: Array, at: Window) -> tuple[Array, None]:
        return means.mean(x, at, everything), None

    def gradient(dout: Array, record: None, shape: tuple[int, ...], at: Window) -> Array:
        return means.mean_gradient(dout, shape, at, everything)

    return _pooling(axes, kernel, stride, padding, 1, ceil_mode, forward, gradient)


def _lp_pool(
    axes: str, kernel: Ints, power: float, stride: Ints | None, ceil_mode: bool
) -> Layer[Any, Any]:
    def forward(x: Array, at: Window) -> tuple[Array, dict[str, Array]]:
        out = means.norm(x, at, power)
        return out, {"x": x, "out": out}

    def gradient(
        dout: Array, record: dict[str, Array], shape: tuple[int, ...], at: Window
    ) -> Array:
        return means.norm_gradient(dout, record["x"], record["out"], at, power)

    return _pooling(axes, kernel, stride, 0, 1, ceil_mode, forward, gradient)


def _pooling(
    axes: str,
    kernel: Ints,
    stride: Ints | None,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    forward: Forward,
    gradient: Gradient,
) -> Layer[Any, Any]:
    """A pooling of windows; `forward` leaves a record for `gradient`."""
    rank = axes.count(",") - 1
    pads = expanded(padding, rank)
    fixed = window(expanded(kernel, rank), kernel if stride is None else stride, pads, dilation)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(fixed.kernel, fixed.dilation, strict=True))
    if any(2 * pad > span for pad, span in zip(pads, spans, strict=True)):
        checks.refuse(f"`padding` must be at most half of the kernel {spans}, got {pads}")

    @lru_cache(maxsize=64)
    def placed(shape: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
        """The window over ``(N, C, *spatial)``, and the shape that comes out."""
        at = overhanging(fixed, shape[2:]) if ceil_mode else fixed
        places = output_size(at, shape[2:])
        if min(places) < 1:
            got = channels_second_shape(shape)
            checks.refuse(f"`x` must not be smaller than the kernel {spans}, got shape {got}")
        return at, channels_second_shape((*shape[:2], *places))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return placed(channels_second_shape(checks.shape(shape, axes)))[1], {}

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        image = channels_second(checks.inputs(params, {}, x, axes))
        out, record = forward(image, placed(image.shape)[0])
        return channels_second(out), {"record": record, "shape": image.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        shape = cache["shape"]
        at, out_shape = placed(shape)
        checks.gradient(dout, out_shape, cache["dtype"])
        dx = gradient(channels_second(dout), cache["record"], shape, at)
        return {}, channels_second(dx)

    return Layer(init, apply, vjp)


def _mean_of_bins(x: Array, places: tuple[int, ...]) -> tuple[Array, None]:
    return bins.average(x, places), None


def _mean_of_bins_gradient(dout: Array, record: None, shape: tuple[int, ...]) -> Array:
    return bins.average_gradient(dout, shape)


def _adaptive_pool(
    axes: str, output_size: Ints, forward: BinForward, gradient: BinGradient
) -> Layer[Any, Any]:
    """A pooling into a given number of places."""
    places = expanded(output_size, axes.count(",") - 1)

    def out_shape(image: tuple[int, ...]) -> tuple[int, ...]:
        return channels_second_shape((*image[:2], *places))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return out_shape(channels_second_shape(checks.shape(shape, axes))), {}

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        image = channels_second(checks.inputs(params, {}, x, axes))
        out, record = forward(image, places)
        return channels_second(out), {"record": record, "shape": image.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        shape = cache["shape"]
        checks.gradient(dout, out_shape(shape), cache["dtype"])
        return {}, channels_second(gradient(channels_second(dout), cache["record"], shape))

    return Layer(init, apply, vjp)


def _global_pool(forward: BinForward, gradient: BinGradient) -> Layer[Any, Any]:
    """A pooling of everything into one place."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return channels_second_shape(checks.any_shape(shape, 3))[:2], {}

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        checks.leaves(params, {})
        image = channels_second(checks.any_ranked(x, 3))
        out, record = forward(image, (1,) * (x.ndim - 2))
        return out.reshape(out.shape[:2]), {"record": record, "shape": image.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        shape = cache["shape"]
        checks.gradient(dout, shape[:2], cache["dtype"])
        ones = (1,) * (len(shape) - 2)
        dx = gradient(dout.reshape(*dout.shape, *ones), cache["record"], shape)
        return {}, channels_second(dx)

    return Layer(init, apply, vjp)
