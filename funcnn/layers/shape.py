"""Layers that move numbers without changing them."""

from __future__ import annotations

from math import prod
from typing import Any

from funcnn import _checks
from funcnn._kernels.shapes import merge_features, split_features
from funcnn.types import Cache, Key, Layer, Params, Shape, Spec, Vector, X

__all__ = ["flatten", "identity"]


def flatten() -> Layer[X, Vector]:
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

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        batch, *features = _checks.any_shape("flatten", shape, 2)
        return (batch, prod(features)), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("flatten", params, {})
        found = _checks.floating("flatten", x)
        if found.ndim < 2:
            _checks.refuse("flatten", f"`x` must have at least 2 axes, got shape {found.shape}")
        return merge_features(found), {"shape": found.shape}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        shape = cache["shape"]
        _checks.gradient("flatten", dout, (shape[0], prod(shape[1:])))
        return {}, split_features(dout, shape)

    return Layer(init, apply, vjp, Spec(flatten))


def identity() -> Layer[X, X]:
    """Give back what comes in.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
        return _checks.any_shape("identity", shape), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("identity", params, {})
        return x, {"shape": _checks.floating("identity", x).shape}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        _checks.gradient("identity", dout, cache["shape"])
        return {}, dout

    return Layer(init, apply, vjp, Spec(identity))
