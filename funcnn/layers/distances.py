"""Distances and likenesses of two inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn._kernels import distances as kernels
from funcnn.checks import Flag, Integer, Number, declared
from funcnn.types import Array, Cache, Key, Layer, Params, Shape

__all__ = ["cosine_similarity", "pairwise_distance"]


@declared(norm_type=Number(minimum=1), epsilon=Number(minimum=0), keepdims=Flag())
def pairwise_distance(
    *, norm_type: float = 2.0, epsilon: float = 1e-6, keepdims: bool = False
) -> Layer[tuple[Array, Array], Array]:
    """How far two inputs lie apart along the last axis, ``((N, F), (N, F)) -> (N,)``.

    Parameters
    ----------
    norm_type : float, default 2.0
        The exponent ``p`` of the length, at least 1.
    epsilon : float, default 1e-6
        Added to each difference, so that a distance of 0 has a gradient.
    keepdims : bool, default False
        Whether the last axis stays, with size 1.

    Returns
    -------
    Layer
        Without parameters, on a tuple of two arrays of one shape.

    Raises
    ------
    ValueError, TypeError
        For inputs of other shapes or dtypes, or with fewer than 2 axes.

    Notes
    -----
    Forward: ``y = |x1 - x2 + epsilon| = (sum_f |d_f|^p)^(1/p)``. Pullback: ``dx1 = -dx2 = dy
    sign(d) (|d| / y)^(p - 1)``, and 0 for a length of 0. As `torch.nn.PairwiseDistance`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import pairwise_distance
    >>> layer = pairwise_distance(epsilon=0)
    >>> layer.apply({}, (np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]])))[0]
    array([5.])
    """

    def value(a: Array, b: Array) -> tuple[Array, dict[str, Any]]:
        difference = np.subtract(a, b, dtype=np.float64) + epsilon
        length, slope = kernels.lengths(difference, norm_type)
        length = np.where(np.isinf(difference).any(-1, keepdims=True), np.inf, length)
        out = length if keepdims else length[..., 0]
        return out.astype(a.dtype), {"slope": slope}

    def gradient(kept: Cache, dout: Array) -> tuple[Array, Array]:
        each = dout if keepdims else dout[..., None]
        dx = (each * kept["slope"]).astype(dout.dtype)
        return dx, -dx

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], 1) if keepdims else shape[:-1]

    return _of_two(value, gradient, out_shape)


@declared(axis=Integer(), epsilon=Number(minimum=0))
def cosine_similarity(*, axis: int = 1, epsilon: float = 1e-8) -> Layer[tuple[Array, Array], Array]:
    """The cosine of the angle between two inputs along an axis, ``((N, F), (N, F)) -> (N,)``.

    Parameters
    ----------
    axis : int, default 1
        Along which the vectors lie; not the batch axis.
    epsilon : float, default 1e-8
        The least that the length of a vector counts.

    Returns
    -------
    Layer
        Without parameters, on a tuple of two arrays of one shape; the axis goes.

    Raises
    ------
    ValueError, TypeError
        For inputs of other shapes or dtypes, or without this axis.

    Notes
    -----
    Forward: ``y = u . v`` with ``u = x1 / max(|x1|, epsilon)``, and ``v`` likewise. Pullback:
    ``dx1 = dy (v - y u) / |x1|``, or ``dy v / epsilon`` where the length is below epsilon. A vector
    of zeros has cosine 0. What is infinite counts as the largest number, ``1 / |x1|`` too. As
    `torch.nn.CosineSimilarity`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import cosine_similarity
    >>> layer = cosine_similarity()
    >>> layer.apply({}, (np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]])))[0]
    array([0.6])
    """

    def value(a: Array, b: Array) -> tuple[Array, dict[str, Any]]:
        first, second = (kernels.directions(x, axis, epsilon) for x in (a, b))
        cosine = numerics.sum(first[0] * second[0], axis)
        return cosine, {"first": first, "second": second, "cosine": np.expand_dims(cosine, axis)}

    def gradient(kept: Cache, dout: Array) -> tuple[Array, Array]:
        each, cosine = np.expand_dims(dout, axis), kept["cosine"]
        (u, inverse_u, free_u), (v, inverse_v, free_v) = kept["first"], kept["second"]
        return (
            each * (v - np.where(free_u, cosine * u, 0)) * inverse_u,
            each * (u - np.where(free_v, cosine * v, 0)) * inverse_v,
        )

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        checks.feature_axis(axis, len(shape))
        place = axis % len(shape)
        return (*shape[:place], *shape[place + 1 :])

    return _of_two(value, gradient, out_shape)


def _of_two(value: Any, gradient: Any, out_shape: Any) -> Layer[tuple[Array, Array], Array]:
    """A layer without parameters of two arrays of one shape and dtype."""

    def init(key: Key, shape: Any) -> tuple[Shape, Params]:
        first, second = checks.together(shape, "x1, x2", "shape")
        found = checks.any_shape(first, 2)
        checks.exact_shape(second, found, "x2")
        return out_shape(found), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        x1, x2 = checks.together(x, "x1, x2")
        for name, one in (("x1", x1), ("x2", x2)):
            checks.any_ranked(one, 2, name)
            checks.same_dtype(one, x1, name, "`x1` is")
        checks.exact_shape(x2.shape, x1.shape, "x2")
        out_shape(x1.shape)
        out, kept = value(x1, x2)
        return out, {"shape": out.shape, "dtype": out.dtype, **kept}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        checks.gradient(dout, cache["shape"], cache["dtype"])
        return {}, gradient(cache, dout)

    return Layer(init, apply, vjp)
