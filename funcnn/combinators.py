"""Combinators: layers made of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import _checks
from funcnn._children import (
    Child,
    apply_child,
    init_child,
    name_children,
    params_vjp_child,
    vjp_child,
)
from funcnn._wiring import Serial
from funcnn.types import Array, Cache, Key, Layer, Params, Shape, Spec, X, Y

__all__ = ["named", "parallel", "residual", "serial", "statistics"]

def _in_order(children: list[Child], dparams: Params) -> Params:
    """Gradients in the order of the children, whatever the order they were found in."""
    return {name: dparams[name] for name, _ in children if name in dparams}


def _serial(*layers: Layer[Any, Any]) -> Layer[Any, Any]:
    """Compose layers: each takes what the one before gives.

    Parameters
    ----------
    *layers : Layer
        At least one. Type checkers see every joint of up to twelve.

    Returns
    -------
    Layer
        With params ``{name: params of the child}``; children are named by kind and ordinal
        (``conv1``, ``conv2``) or by `named`, and those without parameters have no entry.

    Raises
    ------
    ValueError, TypeError
        For two children with one name, or something that is not a layer. Refusals of a child carry
        its path: ``conv2: `x` must ...``.

    Notes
    -----
    Forward: ``y = f_n(... f_1(x))``. Pullback: the children's, last to first. Each child's key is
    folded from its *name*: inserting a `relu` changes no other layer's initial weights. A
    rectifier in front of a max-pooling is run behind it, on less data, with the same result.

    Examples
    --------
    >>> from funcnn import dense, random, relu, serial
    >>> net = serial(dense(8), relu(), dense(2))
    >>> out_shape, params = net.init(random.key(0), (32, 4))
    >>> out_shape, list(params)
    ((32, 2), ['dense1', 'dense2'])
    """
    children = name_children("serial", layers)
    if not children:
        _checks.refuse("serial", "there must be at least one layer")
    names = tuple(name for name, _ in children)
    order = _execution_order(children)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        _checks.key("serial", key)
        params: Params = {}
        for child in children:
            shape = init_child(child, key, shape, params)
        return shape, params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.children("serial", params, names)
        cache: dict[str, Cache] = {"_with_params": tuple(params)}
        for child in order:
            x, cache[child[0]] = apply_child(child, params, x, key)
        return x, cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams: Params = {}
        for child in reversed(order):
            dout = vjp_child(child, cache, dout, dparams)
        return _in_order(children, dparams), dout

    def params_vjp(cache: Cache, dout: Any) -> Params:
        dparams: Params = {}
        with_params = cache["_with_params"]
        first = next((i for i, (name, _) in enumerate(order) if name in with_params), None)
        if first is not None:  # what lies in front of the first parameters needs no gradient
            for child in reversed(order[first + 1 :]):
                dout = vjp_child(child, cache, dout, dparams)
            params_vjp_child(order[first], cache, dout, dparams)
        return _in_order(children, dparams)

    specs = tuple(layer.spec for layer in layers)
    return Layer(init, apply, vjp, Spec(serial, children=specs), params_vjp)


_serial.__name__ = _serial.__qualname__ = "serial"
serial: Serial = _serial


def _execution_order(children: list[Child]) -> list[Child]:
    """Children as they are run: a maximum before the monotone layers that it commutes with."""
    order: list[Child] = []
    for child in children:
        place = len(order)
        if "maximum" in child[1].spec.traits:
            while place and "monotone" in order[place - 1][1].spec.traits:
                place -= 1
        order.insert(place, child)
    return order


def named(name: str, layer: Layer[X, Y]) -> Layer[X, Y]:
    """Give a layer a name of its own, for its parent's tree and for messages.

    Parameters
    ----------
    name : str
        An identifier: ``"encoder"``.
    layer : Layer
        What to name.

    Returns
    -------
    Layer
        The same functions; refusals start with the name.

    Raises
    ------
    ValueError, TypeError
        For a name that is not an identifier.

    Examples
    --------
    >>> from funcnn import dense, named, random, serial
    >>> net = serial(named("encoder", dense(3)), dense(2))
    >>> list(net.init(random.key(0), (1, 4))[1])
    ['encoder', 'dense1']
    """
    if not isinstance(name, str):
        _checks.refuse_type("named", f"`name` must be a str, got {name!r}")
    if not name.isidentifier() or name.startswith("_"):
        _checks.refuse("named", f"`name` must be an identifier such as 'encoder', got {name!r}")
    name_children("named", (layer,))

    def under_name(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            except _checks.Refusal as refusal:
                raise refusal.inside(name)

        return call

    params_vjp = None if layer.params_vjp is None else under_name(layer.params_vjp)
    init, apply, vjp = under_name(layer.init), under_name(layer.apply), under_name(layer.vjp)
    return Layer(init, apply, vjp, Spec(named, (name,), children=(layer.spec,)), params_vjp)


def residual(*layers: Layer[X, X]) -> Layer[X, X]:
    """Add the input to what some layers make of it, ``y = x + f(x)``.

    Parameters
    ----------
    *layers : Layer
        Run one after the other, as in `serial`; the shape that goes in must come out.

    Returns
    -------
    Layer
        With the params of ``serial(*layers)``.

    Raises
    ------
    ValueError
        For layers that change the shape.

    Notes
    -----
    Pullback: ``dx = dy + df(dy)``.

    References
    ----------
    K. He et al., "Deep residual learning for image recognition", 2015.

    Examples
    --------
    >>> from funcnn import conv, random, relu, residual
    >>> block = residual(conv(8, 3, padding=1), relu())
    >>> block.init(random.key(0), (32, 8, 14, 14))[0]
    (32, 8, 14, 14)
    """
    name_children("residual", layers)
    body = _serial(*layers)

    def same(shape: Shape, out_shape: Shape) -> Shape:
        if shape != out_shape:
            _checks.refuse("residual", f"the layers must keep the shape {shape}, got {out_shape}")
        return out_shape

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        out_shape, params = body.init(key, shape)
        return same(shape, out_shape), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        out, cache = body.apply(params, x, key=key)
        same(x.shape, out.shape)
        return x + out, cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams, dx = body.vjp(cache, dout)
        return dparams, dx + dout

    return Layer(init, apply, vjp, Spec(residual, children=body.spec.children), body.params_vjp)


def parallel(*layers: Layer[X, Y], merge: str = "sum", axis: int = 1) -> Layer[X, Y]:
    """Give one input to several layers, and merge what they make of it.

    Parameters
    ----------
    *layers : Layer
        At least one.
    merge : "sum", "mean" or "concatenate", default "sum"
        How the outputs become one.
    axis : int, default 1
        The axis that ``"concatenate"`` joins: channels, or features.

    Returns
    -------
    Layer
        With params ``{name: params of the child}``.

    Raises
    ------
    ValueError
        For outputs whose shapes do not fit together.

    Notes
    -----
    Pullback: ``dy`` (its share, for the mean; its part, for concatenation) goes through every
    child, and the input's gradients add up.

    References
    ----------
    C. Szegedy et al., "Going deeper with convolutions", 2014.

    Examples
    --------
    >>> from funcnn import conv, parallel, random
    >>> both = parallel(conv(8, 1), conv(16, 3, padding=1), merge="concatenate")
    >>> both.init(random.key(0), (32, 3, 14, 14))[0]
    (32, 24, 14, 14)
    """
    children = name_children("parallel", layers)
    if not children:
        _checks.refuse("parallel", "there must be at least one layer")
    names = tuple(name for name, _ in children)
    _checks.choice("parallel", "merge", merge, ("sum", "mean", "concatenate"))
    axis = _checks.integer("parallel", "axis", axis)
    count = len(children)

    def merged(shapes: list[Shape]) -> Shape:
        """The shape of all outputs together."""
        first = shapes[0]
        if merge != "concatenate":
            if any(shape != first for shape in shapes):
                _checks.refuse("parallel", f"the outputs must have one shape, got {shapes}")
            return first
        _checks.feature_axis("parallel", axis, len(first))
        place = axis % len(first)
        rest = [(*shape[:place], *shape[place + 1 :]) for shape in shapes]
        if any(other != rest[0] or len(other) != len(rest[0]) for other in rest):
            _checks.refuse("parallel", f"the outputs must differ in axis {axis} alone, got {shapes}")
        return (*first[:place], sum(shape[place] for shape in shapes), *first[place + 1 :])

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        _checks.key("parallel", key)
        params: Params = {}
        shapes = [init_child(child, key, shape, params) for child in children]
        return merged(shapes), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.children("parallel", params, names)
        cache, outs = {}, []
        for child in children:
            out, cache[child[0]] = apply_child(child, params, x, key)
            outs.append(out)
        merged([out.shape for out in outs])
        cache["_sizes"] = tuple(out.shape[axis] if merge == "concatenate" else 0 for out in outs)
        if merge == "concatenate":
            return np.concatenate(outs, axis), cache
        total = _total(outs)
        return (total / total.dtype.type(count) if merge == "mean" else total), cache

    def parts(cache: Cache, dout: Array) -> list[Array]:
        """What of `dout` belongs to each child."""
        if merge == "concatenate":
            return np.split(dout, np.cumsum(cache["_sizes"])[:-1], axis)
        return [dout / dout.dtype.type(count) if merge == "mean" else dout] * count

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams: Params = {}
        shares = zip(children, parts(cache, dout), strict=True)
        dxs = [vjp_child(child, cache, share, dparams) for child, share in shares]
        return dparams, _total(dxs)

    def params_vjp(cache: Cache, dout: Any) -> Params:
        dparams: Params = {}
        for child, share in zip(children, parts(cache, dout), strict=True):
            params_vjp_child(child, cache, share, dparams)
        return dparams

    specs = tuple(layer.spec for layer in layers)
    options = {"merge": merge, "axis": axis}
    return Layer(init, apply, vjp, Spec(parallel, (), options, specs), params_vjp)


def _total(arrays: list[Array]) -> Array:
    """Arrays added one after the other."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def statistics(cache: Cache) -> Params:
    """New values of the running statistics that a training pass has left in its cache.

    Parameters
    ----------
    cache : Cache
        Of ``net.apply(params, x, key=key)``.

    Returns
    -------
    dict
        A part of the tree of ``params``, to carry on with ``tree.replace(params, ...)``; empty for
        a network without running statistics.

    Notes
    -----
    A layer leaves them under ``cache["running"]``; a combinator's cache has its children's caches
    under their names.

    Examples
    --------
    >>> from funcnn.combinators import statistics
    >>> statistics({"conv1": {}, "batch_norm1": {"running": {"running_mean": 0.5}}})
    {'batch_norm1': {'running_mean': 0.5}}
    """
    if not isinstance(cache, dict):
        return {}
    found = dict(cache.get("running", {}))
    for name, child in cache.items():
        if name != "running" and (inner := statistics(child)):
            found[name] = inner
    return found
