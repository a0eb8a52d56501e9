"""Combinators for sequences: one layer at every time step, or in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks
from funcnn._kernels import joining
from funcnn.checks import Choice, Layers, declared
from funcnn.structure import (
    Child,
    apply_in_turn,
    bare,
    collected,
    init_child,
    params_gradient,
    params_vjp_child,
    vjp_in_turn,
    within,
)
from funcnn.types import Array, Cache, Key, Layer, Params, Sequence, Shape, Spec, Vector

__all__ = ["bidirectional", "time_distributed"]


@declared(layer=Layers())
def time_distributed(layer: Layer[Vector, Vector]) -> Layer[Sequence, Sequence]:
    """Give every time step to one layer, ``(N, T, F) -> (N, T, G)``.

    Parameters
    ----------
    layer : Layer
        From vectors ``(N, F)`` to vectors ``(N, G)``: a `dense`, or a `serial` of several.

    Returns
    -------
    Layer
        With the params of the layer.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, a layer that does not give vectors; and what
        the layer refuses.

    Notes
    -----
    Forward: the steps of all examples are one batch of ``N * T`` vectors. Pullback: the layer's, of
    the same batch. What depends on the batch, as `batch_norm` does, sees all steps.

    Examples
    --------
    >>> from funcnn import dense, random, time_distributed
    >>> out_shape, params = time_distributed(dense(4)).init(random.key(0), (2, 5, 3))
    >>> out_shape, list(params)
    ((2, 5, 4), ['weight', 'bias'])
    """

    def merged(x: Array) -> Any:
        return np.ascontiguousarray(x).reshape(x.shape[0] * x.shape[1], x.shape[2])

    def split(shape: Shape, out_shape: Shape) -> Shape:
        if len(out_shape) != 2:
            checks.refuse(f"the layer must give vectors (N, F), got shape {out_shape}")
        return (*shape[:2], out_shape[1])

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        batch, steps, features = checks.shape(shape, "N, T, F")
        out_shape, params = layer.init(key, (-1 if batch < 0 else batch * steps, features))
        return split(shape, out_shape), params

    def apply(params: Params, x: Sequence, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.ranked(x, "N, T, F")
        out, cache = layer.apply(params, merged(x), key=key)
        shape = split(x.shape, out.shape)
        return out.reshape(shape), {"layer": cache, "out": (shape, out.dtype)}

    def inner(cache: Cache, dout: Array) -> tuple[Cache, Any]:
        """What the layer pulls back."""
        checks.gradient(dout, *checks.kept(cache, "out"))
        return cache["layer"], merged(dout)

    def vjp(cache: Cache, dout: Sequence) -> tuple[Params, Any]:
        dparams, dx = layer.vjp(*inner(cache, dout))
        return dparams, dx.reshape(*dout.shape[:2], dx.shape[1])

    def params_vjp(cache: Cache, dout: Sequence) -> Params:
        return params_gradient(layer, *inner(cache, dout))

    return Layer(init, apply, vjp, params_vjp=params_vjp, statistics=within(layer))


@declared(layer=Layers(), merge=Choice("concatenate", "sum", "mean", "product"))
def bidirectional(
    layer: Layer[Sequence, Sequence], *, merge: str = "concatenate"
) -> Layer[Sequence, Sequence]:
    """Run two copies of a layer over a sequence, one of them from the end to the start.

    Parameters
    ----------
    layer : Layer
        From sequences to sequences of the same length.
    merge : "concatenate", "sum", "mean" or "product", default "concatenate"
        How the two outputs become one, time step by time step.

    Returns
    -------
    Layer
        With params ``{"forward": ..., "backward": ...}``, each as the layer has them.

    Raises
    ------
    ValueError, TypeError
        For another word, a layer that changes the length; and what the layer refuses.

    Notes
    -----
    Forward: ``a = f(x)`` and ``b = r(g(r(x)))``, where ``r`` reverses time; ``y`` is ``a`` beside
    ``b``, ``a + b``, ``(a + b) / 2`` or ``a * b``. Pullback: ``da`` and ``db`` are the parts of
    ``dy``, ``dy`` twice, ``dy / 2`` twice, or ``dy * b`` and ``dy * a``; ``dx = df(da) +
    r(dg(r(db)))``.

    References
    ----------
    M. Schuster and K. Paliwal, "Bidirectional recurrent neural networks", 1997.

    Examples
    --------
    >>> from funcnn import bidirectional, gru, random
    >>> out_shape, params = bidirectional(gru(4)).init(random.key(0), (2, 5, 3))
    >>> out_shape, list(params)
    ((2, 5, 8), ['forward', 'backward'])
    """
    return _both_ways((("forward", layer), ("backward", layer)), merge)


def _both_ways(children: tuple[Child, ...], merge: str) -> Layer[Any, Any]:
    silent = bare(children)

    def merged(shape: Shape, out_shape: Shape) -> Shape:
        if len(out_shape) != 3 or out_shape[:2] != shape[:2]:
            checks.refuse(f"the layer must keep the {shape[1]} time steps, got shape {out_shape}")
        return (*out_shape[:2], out_shape[2] * (2 if merge == "concatenate" else 1))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = checks.shape(shape, "N, T, F")
        params: Params = {}
        shapes = [init_child(child, checks.key(key), checked, params) for child in silent]
        return merged(checked, shapes[0]), params

    def apply(params: Params, x: Sequence, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.children(params, ("forward", "backward"))
        checks.ranked(x, "N, T, F")
        cache: Cache = {}
        a = apply_in_turn(silent[:1], params, x, key, cache)
        b = apply_in_turn(silent[1:], params, x[:, ::-1], key, cache)
        cache["_out"] = (merged(x.shape, a.shape), a.dtype)
        out, cache["_joined"] = joining.join(merge, 2, [a, b[:, ::-1]])
        return out, cache

    def parts(cache: Cache, dout: Array) -> tuple[Array, Array]:
        """The gradients of both outputs, each in the order in which its copy ran."""
        checks.gradient(dout, *cache["_out"])
        da, db = joining.parts(merge, 2, cache["_joined"], dout)
        return da, db[:, ::-1]

    def vjp(cache: Cache, dout: Sequence) -> tuple[Params, Any]:
        dparams: Params = {}
        da, db = (
            vjp_in_turn((child,), cache, part, dparams)
            for child, part in zip(silent, parts(cache, dout), strict=True)
        )
        return dparams, da + db[:, ::-1]

    def params_vjp(cache: Cache, dout: Sequence) -> Params:
        dparams: Params = {}
        for child, part in zip(silent, parts(cache, dout), strict=True):
            params_vjp_child(child, cache, part, dparams)
        return dparams

    def remake(children: tuple[Child, ...]) -> Layer[Any, Any]:
        return _both_ways(children, merge)

    return Layer(init, apply, vjp, Spec(), params_vjp, children, remake, collected(children))
