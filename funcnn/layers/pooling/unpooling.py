"""The way back from a max pooling: numbers where it found them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from funcnn import checks
from funcnn._kernels.axes import channels_second, channels_second_shape
from funcnn._kernels.pooling import unpooling as kernels
from funcnn._kernels.windows import expanded
from funcnn.checks import Constraint, Optional, Sizes, declared
from funcnn.layers.pooling.skeleton import Ints
from funcnn.types import Array, Cache, Image, Key, Layer, Params, Sequence, Shape, Volume

__all__ = ["max_unpool", "max_unpool1d", "max_unpool3d"]


def _options(axes: int) -> dict[str, Constraint]:
    return {
        "kernel_size": Sizes(axes, 1),
        "stride": Optional(Sizes(axes, 1)),
        "padding": Sizes(axes),
        "output_size": Optional(Sizes(axes, 1)),
    }


@declared(**_options(2))
def max_unpool(
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    output_size: int | tuple[int, int] | None = None,
) -> Layer[tuple[Image, Array], Image]:
    """Put numbers where a max pooling found its own, ``((N, C, H, W), indices) -> (N, C, H', W')``.

    Parameters
    ----------
    kernel_size, stride, padding
        Those of the pooling.
    output_size : int or (int, int), optional
        Height and width of what the pooling saw; by default the smallest that it can have been.

    Returns
    -------
    Layer
        Without parameters, on a tuple as ``max_pool(..., return_indices=True)`` gives it.

    Raises
    ------
    ValueError, TypeError
        For inputs that do not fit together, or indices beyond the output.

    Notes
    -----
    ``H' = (H - 1) stride + kh - 2 padding``. Forward: ``y[indices] = x``, zeros elsewhere. Pullback:
    ``dx = dy[indices]``. Where windows overlap and have the same winner, the last of them counts.
    Layers between the two take the numbers alone: ``keep_context(layer)``.

    References
    ----------
    M. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import max_pool, max_unpool, serial
    >>> net = serial(max_pool(2, return_indices=True), max_unpool(2))
    >>> net.apply({}, np.array([[[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 9.0, 8.0]]]]))[0]
    array([[[[0., 5., 0., 0.],
             [0., 0., 9., 0.]]]])
    """
    return _unpool("N, C, H, W", kernel_size, stride, padding, output_size)


@declared(**_options(1))
def max_unpool1d(
    kernel_size: int, *, stride: int | None = None, padding: int = 0, output_size: int | None = None
) -> Layer[tuple[Sequence, Array], Sequence]:
    """Put numbers where a max pooling found its own, ``((N, T, F), indices) -> (N, T', F)``.

    Parameters
    ----------
    kernel_size, stride, padding
        Those of the pooling.
    output_size : int, optional
        Time steps that the pooling saw; by default the fewest that it can have been.

    Returns
    -------
    Layer
        Without parameters, on a tuple as ``max_pool1d(..., return_indices=True)`` gives it.

    Raises
    ------
    ValueError, TypeError
        For inputs that do not fit together, or indices beyond the output.

    Notes
    -----
    Shapes, formula and pullback are those of `max_unpool`, over one axis.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import max_unpool1d
    >>> max_unpool1d(2).apply({}, (np.array([[[7.0], [8.0]]]), np.array([[[1], [2]]])))[0].ravel()
    array([0., 7., 8., 0.])
    """
    return _unpool("N, T, F", kernel_size, stride, padding, output_size)


@declared(**_options(3))
def max_unpool3d(
    kernel_size: int | tuple[int, int, int],
    *,
    stride: int | tuple[int, int, int] | None = None,
    padding: int | tuple[int, int, int] = 0,
    output_size: int | tuple[int, int, int] | None = None,
) -> Layer[tuple[Volume, Array], Volume]:
    """Put numbers where a max pooling found its own, of volumes.

    Parameters
    ----------
    kernel_size, stride, padding
        Those of the pooling.
    output_size : int or (int, int, int), optional
        Depth, height and width of what the pooling saw; by default the smallest that it can have
        been.

    Returns
    -------
    Layer
        Without parameters, on a tuple as ``max_pool3d(..., return_indices=True)`` gives it.

    Raises
    ------
    ValueError, TypeError
        For inputs that do not fit together, or indices beyond the output.

    Notes
    -----
    Shapes, formula and pullback are those of `max_unpool`, over three axes.

    Examples
    --------
    >>> from funcnn import max_unpool3d, random
    >>> shape = (2, 4, 3, 5, 5)
    >>> max_unpool3d(2).init(random.key(0), (shape, shape))[0]
    (2, 4, 6, 10, 10)
    """
    return _unpool("N, C, D, H, W", kernel_size, stride, padding, output_size)


def _unpool(
    axes: str, kernel: Ints, stride: Ints | None, padding: Ints, output_size: Ints | None
) -> Layer[Any, Any]:
    rank = axes.count(",") - 1
    steps = expanded(kernel if stride is None else stride, rank)
    sizes, pads = expanded(kernel, rank), expanded(padding, rank)
    if any(2 * pad > size for pad, size in zip(pads, sizes, strict=True)):
        checks.refuse(f"`padding` must be at most half of the kernel {sizes}, got {pads}")

    def spatial(x: Shape, indices: Shape) -> tuple[int, ...]:
        """The sizes that come out for ``(N, C, *spatial)``, of shapes that fit together."""
        checks.exact_shape(indices, x, "indices")
        seen = zip(channels_second_shape(x)[2:], steps, sizes, pads, strict=True)
        found = tuple((n - 1) * step + size - 2 * pad for n, step, size, pad in seen)
        if output_size is not None:
            wanted = expanded(output_size, rank)
            if any(abs(w - f) >= step for w, f, step in zip(wanted, found, steps, strict=True)):
                less = f"less than the stride {steps} away from {found}"
                checks.refuse(f"`output_size` must be {less}, got {wanted}")
            return wanted
        if min(found) < 1:
            checks.refuse(f"`x` must reach beyond the padding {pads}, got shape {x}")
        return found

    def init(key: Key, shape: Any) -> tuple[Shape, Params]:
        x, indices = checks.together(shape, "x, indices", "shape")
        x = checks.shape(x, axes)
        out = (*channels_second_shape(x)[:2], *spatial(x, indices))
        return channels_second_shape(out), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        x, indices = checks.together(x, "x, indices")
        checks.ranked(x, axes)
        checks.array(indices, "indices")
        size = spatial(x.shape, indices.shape)
        places = channels_second(checks.labels(indices, prod(size), "indices"))
        out, there = kernels.unpool(channels_second(x), places, size)
        out = channels_second(out)
        return out, {"indices": places, "there": there, "shape": out.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        checks.gradient(dout, cache["shape"], cache["dtype"])
        dx = kernels.unpool_gradient(channels_second(dout), cache["indices"], cache["there"])
        return {}, (channels_second(dx), np.zeros(channels_second(dx).shape, dx.dtype))

    return Layer(init, apply, vjp)
