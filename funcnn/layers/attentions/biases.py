"""Biases of attention's scores, by how far a key is from a query."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks, numerics
from funcnn._kernels import positions
from funcnn._kernels.embedding import add_rows
from funcnn.checks import Flag, Integer, Shapes, declared
from funcnn.initializers import normal
from funcnn.initializers.core import INITIALIZER, Initializer
from funcnn.types import Array, Cache, Key, Layer, Params, Sequence, Shape

__all__ = ["alibi", "relative_positions"]

_SMALL = normal(0.02)


@declared(heads=Integer(1))
def alibi(heads: int) -> Layer[Sequence, tuple[Sequence, Array]]:
    """Beside a sequence, a bias that falls with the distance, ``(N, T, F) -> (x, (N, heads, T, T))``.

    Parameters
    ----------
    heads : int
        Heads of the attention; each has a slope of its own.

    Returns
    -------
    Layer
        Without parameters, for `multi_head_attention` that is `biased`.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences.

    Notes
    -----
    Forward: ``bias[:, h, t, s] = -slope_h |t - s|`` with slopes ``2**(-8 h / heads)``, h from 1 on;
    where `heads` is no power of 2, those of the power of 2 below, and then those halfway between.
    Pullback: ``dx = dy``.

    References
    ----------
    O. Press, N. Smith and M. Lewis, "Train short, test long: attention with linear biases enables input
    length extrapolation", 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import alibi
    >>> alibi(8).apply({}, np.zeros((1, 3, 2)))[0][1][0, 0]
    array([[-0. , -0.5, -1. ],
           [-0.5, -0. , -0.5],
           [-1. , -0.5, -0. ]])
    """

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = checks.shape(shape, "N, T, F")
        return (checked, (checked[0], heads, checked[1], checked[1])), {}

    def apply(params: Params, x: Sequence, *, key: Key | None = None) -> tuple[Any, Cache]:
        batch, steps, _ = checks.inputs(params, {}, x, "N, T, F").shape
        bias = positions.falling(heads, steps, x.dtype)
        shape = (batch, *bias.shape)
        return (x, np.broadcast_to(bias, shape)), {"shape": x.shape, "dtype": x.dtype, "bias": shape}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dx, dbias = checks.together(dout, "x, bias", "dout")
        checks.gradient(dx, cache["shape"], cache["dtype"])
        checks.gradient(dbias, cache["bias"], cache["dtype"])
        return {}, dx

    return Layer(init, apply, vjp)


@declared(
    heads=Integer(1), buckets=Integer(4), max_distance=Integer(1), both=Flag(), weight_init=INITIALIZER
)
def relative_positions(
    heads: int,
    *,
    buckets: int = 32,
    max_distance: int = 128,
    both: bool = True,
    weight_init: Initializer = _SMALL,
) -> Layer[Sequence, tuple[Sequence, Array]]:
    """Beside a sequence, a learned bias for each distance, ``(N, T, F) -> (x, (N, heads, T, T))``.

    Parameters
    ----------
    heads : int
        Heads of the attention; each has biases of its own.
    buckets : int, default 32
        How many different biases there are; an even number if `both`.
    max_distance : int, default 128
        From this distance on all are in one bucket.
    both : bool, default True
        Whether keys ahead of the query have buckets of their own; otherwise they are as if at its
        place, for attention that is causal.
    weight_init : Initializer
        Where the biases start.

    Returns
    -------
    Layer
        With params ``{"weight": (buckets, heads)}``, for `multi_head_attention` that is `biased`.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, an odd number of buckets for both sides, a
        distance that is not beyond the exact ones.

    Notes
    -----
    Forward: ``bias[:, h, t, s] = W[bucket(t - s), h]``. The first half of the buckets of a side is for
    one distance each, the other half for distances that grow in proportion. Pullback: ``dx = dy``, and
    ``dW[b, h]`` is the sum of the gradients of its bias.

    References
    ----------
    C. Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text
    transformer", 2020.

    Examples
    --------
    >>> from funcnn import random, relative_positions
    >>> out_shape, params = relative_positions(8).init(random.key(0), (2, 5, 16))
    >>> out_shape, params["weight"].shape
    (((2, 5, 16), (2, 8, 5, 5)), (32, 8))
    """
    exact = buckets // (4 if both else 2)
    if both and buckets % 2:
        checks.refuse(f"`buckets` must be even for both sides, got {buckets}")
    if max_distance <= exact:
        checks.refuse(f"`max_distance` must be above {exact}, got {max_distance}")
    shapes: Shapes = {"weight": (buckets, heads)}

    def places(steps: int) -> Array:
        return positions.buckets(positions.distances(steps), buckets, max_distance, both)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        batch, steps, features = checks.shape(shape, "N, T, F")
        weight = weight_init(checks.key(key), (buckets, heads))
        return ((batch, steps, features), (batch, heads, steps, steps)), {"weight": weight}

    def apply(params: Params, x: Sequence, *, key: Key | None = None) -> tuple[Any, Cache]:
        batch, steps, _ = checks.inputs(params, shapes, x, "N, T, F").shape
        at = places(steps)
        bias = np.take(params["weight"], at, 0).transpose(2, 0, 1)
        shape = (batch, *bias.shape)
        cache = {"shape": x.shape, "dtype": x.dtype, "bias": shape, "places": at}
        return (x, np.broadcast_to(bias, shape)), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dx, dbias = checks.together(dout, "x, bias", "dout")
        checks.gradient(dx, cache["shape"], cache["dtype"])
        checks.gradient(dbias, cache["bias"], cache["dtype"])
        rows = numerics.sum(dbias, 0).reshape(heads, -1).T
        return {"weight": add_rows(cache["places"].reshape(-1), rows, buckets)}, dx

    return Layer(init, apply, vjp)
