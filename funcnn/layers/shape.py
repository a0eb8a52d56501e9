"""Layers that move numbers, repeat them or leave some out."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeVar, overload

import numpy as np

from funcnn import checks
from funcnn._kernels import borders, upsampling
from funcnn._kernels.axes import channels_second, channels_second_shape
from funcnn._kernels.shapes import merge_features, rearranged, split_features
from funcnn.checks import Choice, Flag, Integer, Number, Several, Sizes, When, declared, shown
from funcnn.parameterless import parameterless
from funcnn.types import (
    Array,
    Cache,
    Image,
    Key,
    Layer,
    Params,
    Preserving,
    Sequence,
    Shape,
    Vector,
    Volume,
)

__all__ = [
    "concatenate",
    "crop",
    "flatten",
    "identity",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "reshape",
    "split",
    "transpose",
    "upsample",
]

L = TypeVar("L", bound=Layer[Any, Any])
Widths = int | tuple[int | tuple[int, int], ...]
_WIDTHS = Several(Sizes(2))


@declared()
def identity() -> Preserving:
    """Give back what comes in.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    TypeError
        For an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = x``. Pullback: ``dx = dy``.

    Examples
    --------
    >>> from funcnn import identity, random
    >>> identity().init(random.key(0), (32, 10))
    ((32, 10), {})
    """
    return parameterless(Preserving, lambda x: (x, {}), lambda kept, dout: dout)


@declared()
def flatten() -> Layer[Any, Vector]:
    """Lay the features of each example in one row, ``(N, ...) -> (N, F)``.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input with fewer than two axes, or that is not float32 or float64.

    Notes
    -----
    The pullback restores the shape. Neither copies where the memory runs batch-first or batch-last.

    Examples
    --------
    >>> from funcnn import flatten, random
    >>> flatten().init(random.key(0), (32, 16, 4, 4))
    ((32, 256), {})
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], prod(shape[1:]))

    return _moving(Layer, merge_features, split_features, out_shape, min_rank=2)


@overload
def reshape(features: int, /) -> Layer[Any, Vector]: ...
@overload
def reshape(time: int, features: int, /) -> Layer[Any, Sequence]: ...
@overload
def reshape(channels: int, height: int, width: int, /) -> Layer[Any, Image]: ...
@overload
def reshape(channels: int, depth: int, height: int, width: int, /) -> Layer[Any, Volume]: ...
@declared(shape=Several(Integer(-1)))
def reshape(*shape: int) -> Layer[Any, Any]:
    """Lay the features of each example out anew, ``(N, ...) -> (N, *shape)``.

    Parameters
    ----------
    *shape : int
        The shape of one example, without the batch axis; at most one -1 stands for what is left.
        Up to four of them, a type checker knows what comes out.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input whose features do not fill the shape.

    Notes
    -----
    The last axis runs fastest, whatever the order in memory. The pullback restores the shape.

    Examples
    --------
    >>> from funcnn import random, reshape
    >>> reshape(16, 4, -1).init(random.key(0), (32, 256))[0]
    (32, 16, 4, 4)
    """
    if 0 in shape or shape.count(-1) > 1:
        checks.refuse(f"`shape` must have positive sizes and at most one -1, got {shown(shape)}")
    known = prod(size for size in shape if size != -1)

    def out_shape(given: tuple[int, ...]) -> tuple[int, ...]:
        count = prod(given[1:])
        if count % known or (-1 not in shape and count != known):
            checks.refuse(f"`x` must have features that fill {shown(shape)}, got shape {given}")
        return (given[0], *(count // known if size == -1 else size for size in shape))

    def forward(x: Array) -> Array:
        return split_features(merge_features(x), out_shape(x.shape))

    def backward(dout: Array, given: tuple[int, ...]) -> Array:
        return split_features(merge_features(dout), given)

    return _moving(Layer, forward, backward, out_shape)


@overload
def transpose(first: int, /) -> Layer[Vector, Vector]: ...
@overload
def transpose(first: int, second: int, /) -> Layer[Sequence, Sequence]: ...
@overload
def transpose(first: int, second: int, third: int, /) -> Layer[Image, Image]: ...
@overload
def transpose(first: int, second: int, third: int, fourth: int, /) -> Layer[Volume, Volume]: ...
@declared(axes=Several(Integer()))
def transpose(*axes: int) -> Layer[Any, Any]:
    """Put the axes of each example in another order, ``(N, A, B, ...) -> (N, B, A, ...)``.

    Parameters
    ----------
    *axes : int
        Axis 1 of the output is axis ``axes[0]`` of the input, and so on: every axis from 1 up
        once. The batch axis stays in front.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For axes that are not all from 1 up, or an input with more or fewer of them.

    Notes
    -----
    The output is a view. Pullback: the inverse order.

    Examples
    --------
    >>> from funcnn import random, transpose
    >>> transpose(2, 1).init(random.key(0), (32, 100, 8))[0]
    (32, 8, 100)
    """
    if sorted(axes) != list(range(1, len(axes) + 1)):
        checks.refuse(f"`axes` must be all of 1..{len(axes)}, got {shown(axes)}")
    inverse = tuple(axes.index(axis) + 1 for axis in range(1, len(axes) + 1))

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != len(axes) + 1:
            checks.refuse(f"`x` must have {len(axes) + 1} axes, got shape {shape}")
        return (shape[0], *(shape[axis] for axis in axes))

    def forward(x: Array) -> Array:
        return x.transpose(0, *axes)

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        return dout.transpose(0, *inverse)

    return _moving(Layer, forward, backward, out_shape)


@declared(
    widths=_WIDTHS,
    mode=Choice("constant", "reflect", "replicate", "circular"),
    value=When(Number(), "mode", "constant"),
)
def pad(widths: Widths, *, mode: str = "constant", value: float = 0.0) -> Preserving:
    """Put a border around each example, along the axes of space or time.

    Parameters
    ----------
    widths : int, or one int or (low, high) pair for each axis of space or time
        How many elements to add before the first and after the last: ``pad(2)`` on all sides,
        ``pad((2, 1))`` twice 2 in height and twice 1 in width, ``pad(((3, 0),))`` before a sequence.
    mode : "constant", "reflect", "replicate" or "circular", default "constant"
        What the border shows: `value`; the image in a mirror, its edge not repeated; the edge; the
        image once more.
    value : float, default 0.0
        Of a constant border.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, images or volumes, or smaller than what the
        border repeats of it.

    Notes
    -----
    ``H' = H + low + high``. Pullback: the gradient of each copy goes back to its original.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import pad
    >>> pad(((2, 1),), mode="reflect").apply({}, np.array([[[1.0], [2.0], [3.0]]]))[0].ravel()
    array([3., 2., 1., 2., 3., 2.])
    """
    spare = {"reflect": 1, "circular": 0}

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        pairs = _pairs(widths, shape)
        batch, channels, *spatial = channels_second_shape(shape)
        if mode in spare and any(
            n < max(pair) + spare[mode] for n, pair in zip(spatial, pairs, strict=True)
        ):
            checks.refuse(f"`x` must not be smaller than its border {pairs}, got shape {shape}")
        return channels_second_shape((batch, channels, *borders.grown(tuple(spatial), pairs)))

    def forward(x: Array) -> Array:
        pairs = _pairs(widths, x.shape)
        return channels_second(borders.pad(channels_second(x), pairs, mode, value))

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        pairs, spatial = _pairs(widths, shape), channels_second_shape(shape)[2:]
        return channels_second(borders.pad_gradient(channels_second(dout), spatial, pairs, mode))

    return _moving(Preserving, forward, backward, out_shape, min_rank=3)


@declared(widths=_WIDTHS)
def crop(widths: Widths) -> Preserving:
    """Cut off the border of each example, along the axes of space or time.

    Parameters
    ----------
    widths : int, or one int or (low, high) pair for each axis of space or time
        How many elements to leave out before the first and after the last, as in `pad`.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, images or volumes, or of which nothing would
        be left.

    Notes
    -----
    ``H' = H - low - high``; the output is a view. Pullback: zeros where the border was.

    Examples
    --------
    >>> from funcnn import crop, random
    >>> crop(((0, 1), 2)).init(random.key(0), (32, 3, 29, 32))[0]
    (32, 3, 28, 28)
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        pairs = _pairs(widths, shape)
        batch, channels, *spatial = channels_second_shape(shape)
        left = tuple(n - low - high for n, (low, high) in zip(spatial, pairs, strict=True))
        if min(left) < 1:
            checks.refuse(f"`x` must be larger than the border {pairs}, got shape {shape}")
        return channels_second_shape((batch, channels, *left))

    def forward(x: Array) -> Array:
        return channels_second(borders.crop(channels_second(x), _pairs(widths, x.shape)))

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        pairs = _pairs(widths, shape)
        return channels_second(borders.pad(channels_second(dout), pairs, "constant", 0.0))

    return _moving(Preserving, forward, backward, out_shape, min_rank=3)


@declared(
    scale=Sizes(2, 1),
    mode=Choice("nearest", "bilinear"),
    align_corners=When(Flag(), "mode", "bilinear"),
)
def upsample(
    scale: int | tuple[int, int], *, mode: str = "nearest", align_corners: bool = False
) -> Layer[Image, Image]:
    """Make images larger, ``(N, C, H, W) -> (N, C, H * scale, W * scale)``.

    Parameters
    ----------
    scale : int or (int, int)
        How many pixels stand for one, in height and width.
    mode : "nearest" or "bilinear", default "nearest"
        Whether to repeat pixels or to draw lines between their centres.
    align_corners : bool, default False
        For ``"bilinear"``: whether the centres of the corner pixels stay in the corners, instead of
        the outer edges of these pixels.

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
    Output row ``i`` lies at row ``s = (i + 1/2) / scale - 1/2`` of the input, at least 0, or with
    `align_corners` at ``s = i (H - 1) / (H' - 1)``; it is ``1 - t`` times row ``floor(s)`` and ``t``
    times the next, ``t = s - floor(s)``. Pullback: the transposed of this linear map.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import upsample
    >>> upsample((1, 2)).apply({}, np.array([[[[1.0, 2.0]]]]))[0]
    array([[[[1., 1., 2., 2.]]]])
    """
    tall, wide = (scale, scale) if isinstance(scale, int) else scale

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, height, width = _image(shape)
        return (batch, channels, height * tall, width * wide)

    def forward(x: Array) -> Array:
        if mode == "nearest":
            return upsampling.nearest(x, (tall, wide))
        return upsampling.bilinear(x, (tall, wide), align_corners)

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        if mode == "nearest":
            return upsampling.nearest_gradient(dout, (tall, wide))
        return upsampling.bilinear_gradient(dout, (tall, wide), align_corners)

    return _moving(Layer, forward, backward, out_shape)


@declared(factor=Integer(1))
def pixel_shuffle(factor: int) -> Layer[Image, Image]:
    """Lay channels out as pixels, ``(N, C r r, H, W) -> (N, C, H r, W r)``.

    Parameters
    ----------
    factor : int
        The ``r`` by which height and width grow.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images with a multiple of ``r r`` channels.

    Notes
    -----
    ``y[n, c, h r + i, w r + j] = x[n, (c r + i) r + j, h, w]``. Pullback: `pixel_unshuffle`.

    References
    ----------
    W. Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", 2016.

    Examples
    --------
    >>> from funcnn import pixel_shuffle, random
    >>> pixel_shuffle(2).init(random.key(0), (32, 12, 14, 14))[0]
    (32, 3, 28, 28)
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, height, width = _image(shape)
        if channels % (factor * factor):
            checks.refuse(f"`x` must have a multiple of {factor * factor} channels, got shape {shape}")
        return (batch, channels // (factor * factor), height * factor, width * factor)

    return _moving(
        Layer,
        lambda x: _more_pixels(x, factor),
        lambda dout, shape: _fewer_pixels(dout, factor),
        out_shape,
    )


@declared(factor=Integer(1))
def pixel_unshuffle(factor: int) -> Layer[Image, Image]:
    """Lay pixels out as channels, ``(N, C, H r, W r) -> (N, C r r, H, W)``.

    Parameters
    ----------
    factor : int
        The ``r`` by which height and width shrink.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images with a height and width that `factor` divides.

    Notes
    -----
    ``y[n, (c r + i) r + j, h, w] = x[n, c, h r + i, w r + j]``. Pullback: `pixel_shuffle`.

    Examples
    --------
    >>> from funcnn import pixel_unshuffle, random
    >>> pixel_unshuffle(2).init(random.key(0), (32, 3, 28, 28))[0]
    (32, 12, 14, 14)
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, height, width = _image(shape)
        if height % factor or width % factor:
            checks.refuse(f"`x` must have multiples of {factor} as height and width, got shape {shape}")
        return (batch, channels * factor * factor, height // factor, width // factor)

    return _moving(
        Layer,
        lambda x: _fewer_pixels(x, factor),
        lambda dout, shape: _more_pixels(dout, factor),
        out_shape,
    )


@declared(axis=Integer())
def concatenate(axis: int = 1) -> Layer[Any, Any]:
    """Join several arrays along one axis: ``((N, A, ...), (N, B, ...)) -> (N, A + B, ...)``.

    Parameters
    ----------
    axis : int, default 1
        The axis along which they may differ: channels, or features; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; its input is a tuple, and its shape in `init` a tuple of shapes.

    Raises
    ------
    ValueError, TypeError
        For arrays that differ in more than this axis, or in dtype.

    Notes
    -----
    Pullback: each gets its part of ``dy``.

    Examples
    --------
    >>> from funcnn import concatenate, random
    >>> concatenate().init(random.key(0), ((32, 3, 14, 14), (32, 5, 14, 14)))[0]
    (32, 8, 14, 14)
    """

    def out_shape(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        first = shapes[0]
        checks.feature_axis(axis, len(first))
        at = axis % len(first)
        rest = [(len(shape), *shape[:at], *shape[at + 1 :]) for shape in shapes]
        if any(other != rest[0] for other in rest):
            checks.refuse(f"`x` must differ in axis {axis} alone, got shapes {shapes}")
        return (*first[:at], sum(shape[at] for shape in shapes), *first[at + 1 :])

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return out_shape(tuple(checks.any_shape(one) for one in _several(shape))), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        arrays = [checks.any_ranked(part) for part in _several(x)]
        dtypes = {str(part.dtype) for part in arrays}
        if len(dtypes) > 1:
            checks.refuse_type(f"`x` must have one dtype, got {' and '.join(sorted(dtypes))}")
        shapes = tuple(part.shape for part in arrays)
        out_shape(shapes)
        out = np.concatenate(arrays, axis)
        return out, {"shapes": shapes, "dtype": out.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        shapes = cache["shapes"]
        checks.gradient(dout, out_shape(shapes), cache["dtype"])
        return {}, _parts(dout, [shape[axis] for shape in shapes], axis)

    return Layer(init, apply, vjp)


@declared(sections=Several(Integer(1)), axis=Integer())
def split(sections: int | tuple[int, ...], *, axis: int = 1) -> Layer[Any, Any]:
    """Take an array apart along one axis: ``(N, A + B, ...) -> ((N, A, ...), (N, B, ...))``.

    Parameters
    ----------
    sections : int or tuple of int
        How many equal parts, or the size of each.
    axis : int, default 1
        The axis: channels, or features; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; its output is a tuple, and so is the shape that `init` gives.

    Raises
    ------
    ValueError, TypeError
        For an input that cannot be divided so.

    Notes
    -----
    The parts are views. Pullback: their gradients joined.

    Examples
    --------
    >>> from funcnn import random, split
    >>> split((3, 5)).init(random.key(0), (32, 8, 14, 14))[0]
    ((32, 3, 14, 14), (32, 5, 14, 14))
    """

    def sizes(shape: tuple[int, ...]) -> list[int]:
        checks.feature_axis(axis, len(shape))
        n = shape[axis]
        if isinstance(sections, tuple):
            if sum(sections) != n:
                checks.refuse(f"`x` must have {sum(sections)} in axis {axis}, got shape {shape}")
            return list(sections)
        if n % sections:
            checks.refuse(f"`x` must have a multiple of {sections} in axis {axis}, got shape {shape}")
        return [n // sections] * sections

    def out_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        at = axis % len(shape)
        return tuple((*shape[:at], size, *shape[at + 1 :]) for size in sizes(shape))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return out_shapes(checks.any_shape(shape)), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        found = checks.any_ranked(x)
        cache = {"shape": found.shape, "dtype": found.dtype}
        return _parts(found, sizes(found.shape), axis), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        shapes, parts = out_shapes(cache["shape"]), _several(dout, "dout")
        if len(parts) != len(shapes):
            checks.refuse(f"`dout` must have {len(shapes)} parts, got {len(parts)}")
        for part, shape in zip(parts, shapes, strict=True):
            checks.gradient(part, shape, cache["dtype"])
        return {}, np.concatenate(parts, axis)

    return Layer(init, apply, vjp)


def _moving(
    kind: type[L],
    forward: Callable[[Array], Array],
    backward: Callable[[Array, tuple[int, ...]], Array],
    out_shape: Callable[[tuple[int, ...]], tuple[int, ...]],
    min_rank: int = 1,
) -> L:
    """A layer that moves numbers; `backward` is adjoint, and knows the shape that went in."""
    return parameterless(
        kind,
        lambda x: (forward(x), {"shape": x.shape}),
        lambda kept, dout: backward(dout, kept["shape"]),
        out_shape,
        min_rank=min_rank,
    )


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a batch of images, and nothing else."""
    if len(shape) != 4:
        checks.refuse(f"`x` must have 4 axes (N, C, H, W), got shape {shape}")
    return shape


def _pairs(widths: Widths, shape: tuple[int, ...]) -> borders.Widths:
    """A (low, high) pair for each axis of space or time that this shape has."""
    if isinstance(widths, int):
        return ((widths, widths),) * (len(shape) - 2)
    pairs = tuple((side, side) if isinstance(side, int) else side for side in widths)
    if len(shape) != len(pairs) + 2:
        checks.refuse(
            f"`x` must have {len(pairs) + 2} axes for the widths {shown(pairs)}, got shape {shape}"
        )
    return pairs


def _more_pixels(x: Array, r: int) -> Array:
    """``(N, C r r, H, W) -> (N, C, H r, W r)``."""
    _, deep, h, w = x.shape
    c = deep // (r * r)
    return rearranged(x, (c, r, r, h, w), (0, 3, 1, 4, 2), (c, h * r, w * r))


def _fewer_pixels(x: Array, r: int) -> Array:
    """``(N, C, H r, W r) -> (N, C r r, H, W)``."""
    _, c, h, w = x.shape
    return rearranged(x, (c, h // r, r, w // r, r), (0, 2, 4, 1, 3), (c * r * r, h // r, w // r))


def _several(x: Any, name: str = "x") -> tuple[Any, ...]:
    """A tuple that is not empty: of arrays, or of shapes."""
    if not isinstance(x, (tuple, list)) or not x:
        got = type(x).__name__ if isinstance(x, np.ndarray) else shown(x)
        checks.refuse_type(f"`{name}` must be a tuple of arrays, got {got}")
    return tuple(x)


def _parts(x: Array, sizes: list[int], axis: int) -> tuple[Array, ...]:
    """Views of consecutive parts along one axis."""
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))
