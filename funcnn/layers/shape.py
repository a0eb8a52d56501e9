"""Layers that move numbers, repeat them or leave some out."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, overload

import numpy as np

from funcnn import _checks
from funcnn._kernels import borders, upsampling
from funcnn._kernels.axes import channels_second, channels_second_shape
from funcnn._kernels.shapes import merge_features, rearranged, split_features
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
    Spec,
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

Widths = int | tuple[int | tuple[int, int], ...]


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
    moving = _moving(Spec(identity), lambda shape: shape, lambda x: x, lambda dout, shape: dout)
    return Preserving(*moving)


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
        _at_least("flatten", shape, 2)
        return (shape[0], prod(shape[1:]))

    return _moving(Spec(flatten), out_shape, merge_features, split_features)


@overload
def reshape(features: int, /) -> Layer[Any, Vector]: ...
@overload
def reshape(time: int, features: int, /) -> Layer[Any, Sequence]: ...
@overload
def reshape(channels: int, height: int, width: int, /) -> Layer[Any, Image]: ...
@overload
def reshape(channels: int, depth: int, height: int, width: int, /) -> Layer[Any, Volume]: ...
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
    sizes = tuple(_checks.integer("reshape", "shape", size, -1) for size in shape)
    if not sizes or 0 in sizes or sizes.count(-1) > 1:
        _checks.refuse("reshape", f"`shape` must have positive sizes and at most one -1, got {shape}")
    known = prod(size for size in sizes if size != -1)

    def out_shape(given: tuple[int, ...]) -> tuple[int, ...]:
        count = prod(given[1:])
        if count % known or (-1 not in sizes and count != known):
            _checks.refuse("reshape", f"`x` must have features that fill {sizes}, got shape {given}")
        return (given[0], *(count // known if size == -1 else size for size in sizes))

    def forward(x: Array) -> Array:
        return split_features(merge_features(x), out_shape(x.shape))

    def backward(dout: Array, given: tuple[int, ...]) -> Array:
        return split_features(merge_features(dout), given)

    return _moving(Spec(reshape, shape), out_shape, forward, backward)


@overload
def transpose(first: int, /) -> Layer[Vector, Vector]: ...
@overload
def transpose(first: int, second: int, /) -> Layer[Sequence, Sequence]: ...
@overload
def transpose(first: int, second: int, third: int, /) -> Layer[Image, Image]: ...
@overload
def transpose(first: int, second: int, third: int, fourth: int, /) -> Layer[Volume, Volume]: ...
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
    order = tuple(_checks.integer("transpose", "axes", axis) for axis in axes)
    if not order or sorted(order) != list(range(1, len(order) + 1)):
        _checks.refuse("transpose", f"`axes` must be all of 1..{max(1, len(order))}, got {axes}")
    inverse = tuple(order.index(axis) + 1 for axis in range(1, len(order) + 1))

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != len(order) + 1:
            _checks.refuse("transpose", f"`x` must have {len(order) + 1} axes, got shape {shape}")
        return (shape[0], *(shape[axis] for axis in order))

    def forward(x: Array) -> Array:
        return x.transpose(0, *order)

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        return dout.transpose(0, *inverse)

    return _moving(Spec(transpose, axes), out_shape, forward, backward)


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
    who, sides = "pad", _widths("pad", widths)
    _checks.choice(who, "mode", mode, ("constant", "reflect", "replicate", "circular"))
    value = _checks.number(who, "value", value)
    spare = {"reflect": 1, "circular": 0}

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        pairs = _pairs(who, sides, shape)
        batch, channels, *spatial = channels_second_shape(shape)
        if mode in spare and any(
            n < max(pair) + spare[mode] for n, pair in zip(spatial, pairs, strict=True)
        ):
            _checks.refuse(who, f"`x` must not be smaller than its border {pairs}, got shape {shape}")
        return channels_second_shape((batch, channels, *borders.grown(tuple(spatial), pairs)))

    def forward(x: Array) -> Array:
        pairs = _pairs(who, sides, x.shape)
        return channels_second(borders.pad(channels_second(x), pairs, mode, value))

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        pairs, spatial = _pairs(who, sides, shape), channels_second_shape(shape)[2:]
        return channels_second(borders.pad_gradient(channels_second(dout), spatial, pairs, mode))

    options = {"mode": mode, "value": value}
    return Preserving(*_moving(Spec(pad, (widths,), options), out_shape, forward, backward))


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
    sides = _widths("crop", widths)

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        pairs = _pairs("crop", sides, shape)
        batch, channels, *spatial = channels_second_shape(shape)
        left = tuple(n - low - high for n, (low, high) in zip(spatial, pairs, strict=True))
        if min(left) < 1:
            _checks.refuse("crop", f"`x` must be larger than the border {pairs}, got shape {shape}")
        return channels_second_shape((batch, channels, *left))

    def forward(x: Array) -> Array:
        return channels_second(borders.crop(channels_second(x), _pairs("crop", sides, x.shape)))

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        pairs = _pairs("crop", sides, shape)
        return channels_second(borders.pad(channels_second(dout), pairs, "constant", 0.0))

    return Preserving(*_moving(Spec(crop, (widths,)), out_shape, forward, backward))


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
    tall, wide = _checks.integers("upsample", "scale", scale, 2, 1)
    _checks.choice("upsample", "mode", mode, ("nearest", "bilinear"))
    align_corners = _checks.boolean("upsample", "align_corners", align_corners)
    if align_corners and mode == "nearest":
        _checks.refuse("upsample", "`align_corners` must be False for mode 'nearest', got True")

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, height, width = _image("upsample", shape)
        return (batch, channels, height * tall, width * wide)

    def forward(x: Array) -> Array:
        if mode == "nearest":
            return upsampling.nearest(x, (tall, wide))
        return upsampling.bilinear(x, (tall, wide), align_corners)

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        if mode == "nearest":
            return upsampling.nearest_gradient(dout, (tall, wide))
        return upsampling.bilinear_gradient(dout, (tall, wide), align_corners)

    options = {"mode": mode, "align_corners": align_corners}
    return _moving(Spec(upsample, (scale,), options), out_shape, forward, backward)


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
    factor = _checks.integer("pixel_shuffle", "factor", factor, 1)

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, height, width = _image("pixel_shuffle", shape)
        if channels % (factor * factor):
            text = f"`x` must have a multiple of {factor * factor} channels, got shape {shape}"
            _checks.refuse("pixel_shuffle", text)
        return (batch, channels // (factor * factor), height * factor, width * factor)

    def forward(x: Array) -> Array:
        return _more_pixels(x, factor)

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        return _fewer_pixels(dout, factor)

    return _moving(Spec(pixel_shuffle, (factor,)), out_shape, forward, backward)


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
    factor = _checks.integer("pixel_unshuffle", "factor", factor, 1)

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, height, width = _image("pixel_unshuffle", shape)
        if height % factor or width % factor:
            text = f"`x` must have multiples of {factor} as height and width, got shape {shape}"
            _checks.refuse("pixel_unshuffle", text)
        return (batch, channels * factor * factor, height // factor, width // factor)

    def forward(x: Array) -> Array:
        return _fewer_pixels(x, factor)

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        return _more_pixels(dout, factor)

    return _moving(Spec(pixel_unshuffle, (factor,)), out_shape, forward, backward)


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
    who = "concatenate"
    axis = _checks.integer(who, "axis", axis)

    def out_shape(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        first = shapes[0]
        _checks.feature_axis(who, axis, len(first))
        at = axis % len(first)
        rest = [(len(shape), *shape[:at], *shape[at + 1 :]) for shape in shapes]
        if any(other != rest[0] for other in rest):
            _checks.refuse(who, f"`x` must differ in axis {axis} alone, got shapes {shapes}")
        return (*first[:at], sum(shape[at] for shape in shapes), *first[at + 1 :])

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return out_shape(tuple(_checks.any_shape(who, one) for one in _several(who, shape))), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves(who, params, {})
        arrays = [_checks.any_ranked(who, part) for part in _several(who, x)]
        dtypes = {str(part.dtype) for part in arrays}
        if len(dtypes) > 1:
            _checks.refuse_type(who, f"`x` must have one dtype, got {' and '.join(sorted(dtypes))}")
        shapes = tuple(part.shape for part in arrays)
        out_shape(shapes)
        out = np.concatenate(arrays, axis)
        return out, {"shapes": shapes, "dtype": out.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        shapes = cache["shapes"]
        _checks.gradient(who, dout, out_shape(shapes), cache["dtype"])
        return {}, _parts(dout, [shape[axis] for shape in shapes], axis)

    return Layer(init, apply, vjp, Spec(concatenate, options={"axis": axis}))


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
    who = "split"
    axis = _checks.integer(who, "axis", axis)
    given = sections if isinstance(sections, tuple) else (sections,)
    counts = [_checks.integer(who, "sections", count, 1) for count in given]
    if not counts:
        _checks.refuse(who, "`sections` must hold at least one size, got ()")

    def sizes(shape: tuple[int, ...]) -> list[int]:
        _checks.feature_axis(who, axis, len(shape))
        n = shape[axis]
        if isinstance(sections, tuple):
            if sum(counts) != n:
                _checks.refuse(who, f"`x` must have {sum(counts)} in axis {axis}, got shape {shape}")
            return counts
        if n % counts[0]:
            text = f"`x` must have a multiple of {counts[0]} in axis {axis}, got shape {shape}"
            _checks.refuse(who, text)
        return [n // counts[0]] * counts[0]

    def out_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        at = axis % len(shape)
        return tuple((*shape[:at], size, *shape[at + 1 :]) for size in sizes(shape))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return out_shapes(_checks.any_shape(who, shape)), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves(who, params, {})
        found = _checks.any_ranked(who, x)
        cache = {"shape": found.shape, "dtype": found.dtype}
        return _parts(found, sizes(found.shape), axis), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        shapes, parts = out_shapes(cache["shape"]), _several(who, dout, "dout")
        if len(parts) != len(shapes):
            _checks.refuse(who, f"`dout` must have {len(shapes)} parts, got {len(parts)}")
        for part, shape in zip(parts, shapes, strict=True):
            _checks.gradient(who, part, shape, cache["dtype"])
        return {}, np.concatenate(parts, axis)

    return Layer(init, apply, vjp, Spec(split, (sections,), {"axis": axis}))


def _moving(
    spec: Spec,
    out_shape: Callable[[tuple[int, ...]], tuple[int, ...]],
    forward: Callable[[Array], Array],
    backward: Callable[[Array, tuple[int, ...]], Array],
) -> Layer[Any, Any]:
    """The layer that a spec describes; `out_shape` refuses what cannot be, `backward` is adjoint."""
    who = spec.kind

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return out_shape(_checks.any_shape(who, shape)), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves(who, params, {})
        found = _checks.any_ranked(who, x)
        out_shape(found.shape)
        return forward(found), {"shape": found.shape, "dtype": found.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        shape = cache["shape"]
        _checks.gradient(who, dout, out_shape(shape), cache["dtype"])
        return {}, backward(dout, shape)

    return Layer(init, apply, vjp, spec)


def _at_least(who: str, shape: tuple[int, ...], rank: int) -> None:
    """Refuse too few axes."""
    if len(shape) < rank:
        _checks.refuse(who, f"`x` must have at least {rank} axes, got shape {shape}")


def _image(who: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a batch of images, and nothing else."""
    if len(shape) != 4:
        _checks.refuse(who, f"`x` must have 4 axes (N, C, H, W), got shape {shape}")
    return shape


def _widths(who: str, widths: object) -> int | borders.Widths:
    """An int for all sides, or a (low, high) pair for each axis of space or time."""
    if not isinstance(widths, tuple):
        return _checks.integer(who, "widths", widths, 0)
    pairs = [_checks.integers(who, "widths", pair, 2) for pair in widths]
    if not pairs:
        _checks.refuse(who, "`widths` must name at least one axis, got ()")
    return tuple((low, high) for low, high in pairs)


def _pairs(who: str, sides: int | borders.Widths, shape: tuple[int, ...]) -> borders.Widths:
    """A (low, high) pair for each axis of space or time that this shape has."""
    if isinstance(sides, int):
        _at_least(who, shape, 3)
        return ((sides, sides),) * (len(shape) - 2)
    if len(shape) != len(sides) + 2:
        text = f"`x` must have {len(sides) + 2} axes for the widths {sides}, got shape {shape}"
        _checks.refuse(who, text)
    return sides


def _more_pixels(x: Array, r: int) -> Array:
    """``(N, C r r, H, W) -> (N, C, H r, W r)``."""
    _, deep, h, w = x.shape
    c = deep // (r * r)
    return rearranged(x, (c, r, r, h, w), (0, 3, 1, 4, 2), (c, h * r, w * r))


def _fewer_pixels(x: Array, r: int) -> Array:
    """``(N, C, H r, W r) -> (N, C r r, H, W)``."""
    _, c, h, w = x.shape
    return rearranged(x, (c, h // r, r, w // r, r), (0, 2, 4, 1, 3), (c * r * r, h // r, w // r))


def _several(who: str, x: Any, name: str = "x") -> tuple[Any, ...]:
    """A tuple that is not empty: of arrays, or of shapes."""
    if not isinstance(x, (tuple, list)) or not x:
        got = type(x).__name__ if isinstance(x, np.ndarray) else repr(x)
        _checks.refuse_type(who, f"`{name}` must be a tuple of arrays, got {got}")
    return tuple(x)


def _parts(x: Array, sizes: list[int], axis: int) -> tuple[Array, ...]:
    """Views of consecutive parts along one axis."""
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))
