"""Layers that move numbers, repeat them or leave some out."""

from __future__ import annotations

from math import prod
from typing import Any, overload

import numpy as np

from funcnn import checks
from funcnn._kernels.shapes import merge_features, split_features
from funcnn.checks import Integer, Several, declared, shown
from funcnn.parameterless import moving
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

__all__ = ["concatenate", "flatten", "identity", "reshape", "split", "transpose"]


@declared("integers")
def identity() -> Preserving:
    """Give back what comes in, integers and booleans too.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    TypeError
        For an input that is no array, or of other numbers than integers, float32 and float64.

    Notes
    -----
    Forward: ``y = x``. Pullback: ``dx = dy``.

    Examples
    --------
    >>> from funcnn import identity, random
    >>> identity().init(random.key(0), (32, 10))
    ((32, 10), {})
    """

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return checks.any_shape(shape), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        if checks.array(x, "x").dtype.kind not in "biu":
            checks.any_ranked(x)
        return x, {"shape": x.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        if cache["dtype"].kind == "f":
            checks.gradient(dout, cache["shape"], cache["dtype"])
            return {}, dout
        return {}, np.zeros(cache["shape"], dout.dtype)

    return Preserving(init, apply, vjp)


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

    return moving(Layer, merge_features, split_features, out_shape, min_rank=2)


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

    return moving(Layer, forward, backward, out_shape)


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

    return moving(Layer, forward, backward, out_shape)


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


def _several(x: Any, name: str = "x") -> tuple[Any, ...]:
    """A tuple that is not empty: of arrays, or of shapes."""
    if not isinstance(x, (tuple, list)) or not x:
        got = type(x).__name__ if isinstance(x, np.ndarray) else shown(x)
        checks.refuse_type(f"`{name}` must be a tuple of arrays, got {got}")
    return tuple(x)


def _parts(x: Array, sizes: list[int], axis: int) -> tuple[Array, ...]:
    """Views of consecutive parts along one axis."""
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))
