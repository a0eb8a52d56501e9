"""Layers one behind the other: in series, around a shortcut, several times, under a name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast, overload

from funcnn import checks, random, tree
from funcnn._kernels.joining import total
from funcnn._wiring import Alike, Serial
from funcnn.checks import Integer, Layers, Optional, Whatever, declared
from funcnn.structure import (
    Child,
    apply_in_turn,
    bare,
    collected,
    init_child,
    maximum_first,
    name_children,
    params_vjp_child,
    statistics,
    usual_names,
    vjp_in_turn,
)
from funcnn.types import Cache, Key, Layer, Params, Preserving, Shape, Spec, X, Y

__all__ = ["named", "repeat", "residual", "serial", "share"]


def _serial(*layers: Layer[Any, Any]) -> Layer[Any, Any]:
    """Compose layers: each takes what the one before gives.

    Parameters
    ----------
    *layers : Layer
        At least one. Type checkers see every joint of up to twenty, and refuse more, but for a list
        with a star, ``serial(*blocks)``, which they take as it is.

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
    return _series(tuple(name_children(layers)))


_serial.__name__ = _serial.__qualname__ = "serial"
_declared_serial = declared(layers=Layers(several=True))(_serial)
serial = cast(Serial, _declared_serial)


@overload
def named(name: str, layer: Preserving) -> Preserving: ...
@overload
def named(name: str, layer: Layer[X, Y]) -> Layer[X, Y]: ...
@declared(name=Whatever(), layer=Layers())
def named(name: str, layer: Layer[Any, Any]) -> Layer[Any, Any]:
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
        checks.refuse_type(f"`name` must be a str, got {checks.shown(name)}")
    if not name.isidentifier() or name.startswith("_"):
        got = checks.shown(name)
        checks.refuse(f"`name` must be an identifier such as 'encoder', got {got}")
    layer = checks.bare(layer)

    def under_name(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            except checks.Refusal as refusal:
                raise refusal.inside(name)

        return call

    params_vjp = None if layer.params_vjp is None else under_name(layer.params_vjp)
    init, apply, vjp = under_name(layer.init), under_name(layer.apply), under_name(layer.vjp)
    return type(layer)(init, apply, vjp, params_vjp=params_vjp, statistics=partial(statistics, layer))


@overload
def residual(*layers: Preserving, shortcut: Preserving | None = None) -> Preserving: ...
@overload
def residual(*layers: Preserving | Alike[X, X], shortcut: Layer[X, X] | None = None) -> Layer[X, X]: ...
@declared(layers=Layers(several=True), shortcut=Optional(Layers()))
def residual(
    *layers: Preserving | Alike[Any, Any], shortcut: Layer[Any, Any] | None = None
) -> Layer[Any, Any]:
    """Add the input to what some layers make of it, ``y = x + f(x)``.

    Parameters
    ----------
    *layers : Layer
        Run one after the other, as in `serial`.
    shortcut : Layer, optional
        What the input goes through when `layers` change the shape, such as a 1x1 convolution; the
        same as a last layer ``named("shortcut", ...)``.

    Returns
    -------
    Layer
        With the params of ``serial(*layers)``, and those of the shortcut under ``"shortcut"``.

    Raises
    ------
    ValueError, TypeError
        For shapes that cannot be added; and what the children refuse, with their path.

    Notes
    -----
    Forward: ``y = s(x) + f(x)``, where ``s(x) = x`` without a shortcut. Pullback:
    ``dx = ds(dy) + df(dy)``.

    References
    ----------
    K. He et al., "Deep residual learning for image recognition", 2015.

    Examples
    --------
    >>> from funcnn import conv, random, relu, residual
    >>> block = residual(conv(8, 3, padding=1), relu())
    >>> block.init(random.key(0), (32, 8, 14, 14))[0]
    (32, 8, 14, 14)
    >>> smaller = residual(conv(16, 3, stride=2, padding=1), shortcut=conv(16, 1, stride=2))
    >>> out_shape, params = smaller.init(random.key(0), (32, 8, 14, 14))
    >>> out_shape, list(params)
    ((32, 16, 7, 7), ['conv1', 'shortcut'])
    """
    way_past = () if shortcut is None else (named("shortcut", shortcut),)
    return _residual(tuple(name_children((*layers, *way_past))))


def _residual(inside: tuple[Child, ...]) -> Layer[Any, Any]:
    """Children one behind the other, and perhaps one of the name ``shortcut`` beside them."""
    children = list(bare(inside))
    past = children.pop() if children and children[-1][0] == "shortcut" else None
    body = _series(tuple(children), ("shortcut",) if past else ())

    def same(shape: Shape, out_shape: Shape) -> Shape:
        if shape != out_shape:
            checks.refuse(
                f"the layers and the shortcut must give one shape, got {out_shape} and {shape}"
                if past
                else f"the layers must keep the shape {shape}, got {out_shape}",
            )
        return out_shape

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        out_shape, params = body.init(key, shape)
        return same(init_child(past, key, shape, params) if past else shape, out_shape), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        out, cache = body.apply(params, x, key=key)
        if past:
            x = apply_in_turn((past,), params, x, key, cache)
        same(_shape(x), _shape(out))
        return total([x, out]), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams, dx = body.vjp(cache, dout)
        return dparams, total([dx, vjp_in_turn((past,), cache, dout, dparams) if past else dout])

    def params_vjp(cache: Cache, dout: Any) -> Params:
        assert body.params_vjp is not None
        dparams = body.params_vjp(cache, dout)
        if past:
            params_vjp_child(past, cache, dout, dparams)
        return dparams

    spec = Spec(children=tuple(layer.spec for _, layer in inside))
    return Layer(init, apply, vjp, spec, params_vjp, inside, _residual, collected(inside))


@overload
def repeat(layer: Preserving, *, times: int) -> Preserving: ...
@overload
def repeat(layer: Layer[X, X], *, times: int) -> Layer[X, X]: ...
@declared(layer=Layers(), times=Integer(1))
def repeat(layer: Layer[Any, Any], *, times: int) -> Layer[Any, Any]:
    """Put several copies of a layer in series, each with parameters of its own.

    Parameters
    ----------
    layer : Layer
        What is copied.
    times : int
        How many; at least 1.

    Returns
    -------
    Layer
        With params ``{name: params of the copy}``; copies are named by kind and ordinal (``dense1``,
        ``dense2``), or by the name that `named` gave and ordinal (``block1``, ``block2``).

    Raises
    ------
    ValueError, TypeError
        For fewer than one, or something that is not a layer; and what the copies refuse, with their
        path.

    Notes
    -----
    Forward and pullback: as ``serial(layer, ..., layer)``. To use one set of parameters several
    times, see `share`.

    Examples
    --------
    >>> from funcnn import dense, named, random, relu, repeat, serial
    >>> net = repeat(named("block", serial(dense(8), relu())), times=2)
    >>> _, params = net.init(random.key(0), (32, 4))
    >>> [(name, block["dense1"]["weight"].shape) for name, block in params.items()]
    [('block1', (8, 4)), ('block2', (8, 8))]
    """
    base = layer.spec.name or layer.spec.kind
    return _series(tuple((f"{base}{i}", layer) for i in range(1, times + 1)))


@overload
def share(layer: Preserving, *, times: int) -> Preserving: ...
@overload
def share(layer: Layer[X, X], *, times: int) -> Layer[X, X]: ...
@declared(layer=Layers(), times=Integer(1))
def share(layer: Layer[Any, Any], *, times: int) -> Layer[Any, Any]:
    """Run one layer several times in series, with the same parameters each time.

    Parameters
    ----------
    layer : Layer
        What is run; it keeps the shape.
    times : int
        How often; at least 1.

    Returns
    -------
    Layer
        With the params of `layer`.

    Raises
    ------
    ValueError, TypeError
        For fewer than one, a layer that changes the shape; and what `layer` refuses.

    Notes
    -----
    Forward: ``y = f(... f(x))``. Pullback: the gradients of all uses add up, from the last to the
    first. Each use draws from a key of its own, and running statistics go on from use to use. To use
    parameters in other places of a network, see `tied`.

    References
    ----------
    Z. Lan et al., "ALBERT: a lite BERT for self-supervised learning of language representations",
    2020.

    Examples
    --------
    >>> from funcnn import dense, random, share
    >>> _, params = share(dense(4), times=3).init(random.key(0), (32, 4))
    >>> {name: leaf.shape for name, leaf in params.items()}
    {'weight': (4, 4), 'bias': (4,)}
    """

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        out_shape, params = layer.init(key, shape)
        if out_shape != shape:
            checks.refuse(f"the layer must keep the shape {shape}, got {out_shape}")
        return out_shape, params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        uses: list[Cache] = []
        for use in range(times):
            own = None if key is None else random.fold_in(key, use)
            new = statistics(layer, uses[-1]) if uses else {}
            x, cache = layer.apply(tree.replace(params, new) if new else params, x, key=own)
            uses.append(cache)
        return x, {"uses": tuple(uses)}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        total, dout = layer.vjp(cache["uses"][-1], dout)
        for use in reversed(cache["uses"][:-1]):
            dparams, dout = layer.vjp(use, dout)
            total = tree.add(total, dparams)
        return total, dout

    return Layer(init, apply, vjp, statistics=lambda cache: statistics(layer, cache["uses"][-1]))


def _series(children: tuple[Child, ...], others: tuple[str, ...] = ()) -> Layer[Any, Any]:
    """Children one behind the other; `others` have a place among the params as well."""
    if not children:
        checks.refuse("there must be at least one layer")
    inside = tuple(name for name, _ in children)  # the order of params and gradients
    names = (*inside, *others)
    silent = bare(children)
    order = maximum_first(silent)
    backwards = order[::-1]

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checks.key(key)
        params: Params = {}
        for child in silent:
            shape = init_child(child, key, shape, params)
        return shape, params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.children(params, names)
        cache: dict[str, Cache] = {"_with_params": tuple(params)}
        return apply_in_turn(order, params, x, key, cache), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams: Params = {}
        dx = vjp_in_turn(backwards, cache, dout, dparams)
        return {name: dparams[name] for name in inside if name in dparams}, dx

    def params_vjp(cache: Cache, dout: Any) -> Params:
        dparams: Params = {}
        with_params = checks.kept(cache, "_with_params")
        for after, child in enumerate(order, 1):
            if child[0] in with_params:  # what lies in front of the first needs no gradient
                dout = vjp_in_turn(backwards[: len(order) - after], cache, dout, dparams)
                params_vjp_child(child, cache, dout, dparams)
                break
        return {name: dparams[name] for name in inside if name in dparams}

    kind = Preserving if all(isinstance(layer, Preserving) for _, layer in children) else Layer
    return kind(init, apply, vjp, Spec(), params_vjp, children, _again, collected(children))


def _again(children: tuple[Child, ...]) -> Layer[Any, Any]:
    """A chain of children that keep their names, though others may stand around them."""
    pairs = zip(usual_names(layer for _, layer in children), children, strict=True)
    return _declared_serial(
        *(layer if name == usual else named(name, layer) for usual, (name, layer) in pairs)
    )


def _shape(x: Any) -> Shape:
    """The shape of an array of floats, which can be added, or of each in a tuple."""
    return tuple(map(_shape, x)) if isinstance(x, tuple) else checks.floating(x).shape
