"""Pooling into a given number of places, whatever goes in; and into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcnn._kernels.axes import channels_second, channels_second_shape
from funcnn._kernels.pooling import bins
from funcnn._kernels.windows import expanded
from funcnn.checks import Sizes, declared
from funcnn.layers.pooling.skeleton import Ints
from funcnn.parameterless import parameterless
from funcnn.types import Array, Cache, Image, Layer, Sequence, Vector, Volume

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool",
    "adaptive_max_pool1d",
    "adaptive_max_pool3d",
    "global_avg_pool",
    "global_max_pool",
]


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
    return _global_pool(bins.average, bins.average_gradient)


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
    return _adaptive_pool("N, C, H, W", output_size, bins.average, bins.average_gradient)


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
    return _adaptive_pool("N, T, F", output_size, bins.average, bins.average_gradient)


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
    return _adaptive_pool("N, C, D, H, W", output_size, bins.average, bins.average_gradient)


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


# Both see images (N, C, *spatial), sequences with their features second, and cut each axis into bins,
# one for each place. ``(x, places) -> (out, record)``: a maximum records where its largest are.
BinForward = Callable[[Array, tuple[int, ...]], tuple[Array, Any]]
# ``(dout, record, shape of x) -> dx``
BinGradient = Callable[[Array, Any, tuple[int, ...]], Array]


def _adaptive_pool(
    axes: str, output_size: Ints, forward: BinForward, gradient: BinGradient
) -> Layer[Any, Any]:
    """A pooling into a given number of places, by functions of bins."""
    places = expanded(output_size, axes.count(",") - 1)

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        return channels_second_shape((*channels_second_shape(shape)[:2], *places))

    def pool(x: Array) -> tuple[Array, Cache]:
        image = channels_second(x)
        out, record = forward(image, places)
        return channels_second(out), {"record": record, "shape": image.shape}

    def pullback(cache: Cache, dout: Array) -> Array:
        return channels_second(gradient(channels_second(dout), cache["record"], cache["shape"]))

    return parameterless(Layer, pool, pullback, out_shape, axes=axes)


def _global_pool(forward: BinForward, gradient: BinGradient) -> Layer[Any, Any]:
    """A pooling into one bin, of all that an example has of a channel."""

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        return channels_second_shape(shape)[:2]

    def pool(x: Array) -> tuple[Array, Cache]:
        image = channels_second(x)
        out, record = forward(image, (1,) * (x.ndim - 2))
        return out.reshape(out.shape[:2]), {"record": record, "shape": image.shape}

    def pullback(cache: Cache, dout: Array) -> Array:
        shape = cache["shape"]
        dimage = dout.reshape(*dout.shape, *[1] * (len(shape) - 2))
        return channels_second(gradient(dimage, cache["record"], shape))

    return parameterless(Layer, pool, pullback, out_shape, min_rank=3)
