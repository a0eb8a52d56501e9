"""Layers wired by their names: any network without cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, tree
from funcnn._kernels.joining import total
from funcnn.checks import Layers, Whatever, declared, shown
from funcnn.structure import (
    Child,
    apply_in_turn,
    bare,
    collected,
    init_child,
    is_shape,
    name_children,
    params_vjp_child,
    vjp_in_turn,
)
from funcnn.types import Cache, Key, Layer, Params, Shape, Spec

__all__ = ["graph"]

Wire = str | tuple[str, ...]


@declared(layers=Layers(several=True), wires=Whatever(), output=Whatever())
def graph(
    *layers: Layer[Any, Any], wires: Mapping[str, Wire] | None = None, output: Wire | None = None
) -> Layer[Any, Any]:
    """Wire layers by their names: each takes the input, or what layers before it give.

    Parameters
    ----------
    *layers : Layer
        At least one, in the order in which they run; named as in `serial`.
    wires : mapping of str to str or tuple of str, optional
        For the name of a layer, what it takes: ``"x"`` is the input of the graph, the name of a layer
        its output; ``"x/1"`` or ``"split1/0"`` is a part of a tuple, ``"x/image"`` of a dict; and a
        tuple of these is a tuple of inputs. Whom it does not name takes what the layer before gives.
    output : str or tuple of str, optional
        What the graph gives, in the same words; by default what the last layer gives.

    Returns
    -------
    Layer
        With params ``{name: params of the child}``.

    Raises
    ------
    ValueError, TypeError
        For a name that is not of a layer before, a layer that leads to no output, a part that is not
        there; and what the children refuse, with their path.

    Notes
    -----
    Forward: the layers in turn, ``h_k = f_k(h_i, ..., h_j)``. Pullback: from the last to the first,
    ``dh_k`` is the sum of what all those give that take ``h_k``; a part that nobody takes has the
    gradient 0.

    Examples
    --------
    >>> from funcnn import conv, graph, merge, random, relu
    >>> block = graph(
    ...     conv(8, 3, padding=1), relu(), conv(8, 3, padding=1), merge("sum"),
    ...     wires={"merge1": ("relu1", "conv2")},
    ... )
    >>> out_shape, params = block.init(random.key(0), (32, 3, 14, 14))
    >>> out_shape, list(params)
    ((32, 8, 14, 14), ['conv1', 'conv2'])
    """
    children = tuple(name_children(layers))
    names = tuple(name for name, _ in children)
    if not names:
        checks.refuse("there must be at least one layer")
    if "x" in names:
        checks.refuse("no layer must be named 'x': that is the input")
    if not isinstance({} if wires is None else wires, Mapping):
        checks.refuse_type(f"`wires` must be a mapping of names, got {shown(wires)}")
    given = dict(wires or {})
    if unknown := [name for name in given if name not in names]:
        checks.refuse(f"`wires` must name layers of {shown(names)}, got {shown(unknown[0])}")
    takes, before = {}, ["x"]
    for name in names:
        takes[name] = _checked(given.get(name, before[-1]), before, f"what {name} takes")
        before.append(name)
    gives = _checked(names[-1] if output is None else output, before, "`output`")
    used = {_head(wire) for wire in _each(gives)}
    for name in reversed(names):
        if name not in used:
            checks.refuse(f"every layer must lead to an output, got {shown(name)} that does not")
        used |= {_head(wire) for wire in _each(takes[name])}
    return _wired(children, takes, gives)


def _wired(children: tuple[Child, ...], takes: Mapping[str, Wire], gives: Wire) -> Layer[Any, Any]:
    names, silent = tuple(name for name, _ in children), bare(children)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checks.key(key)
        values, params = {"x": shape}, Params()
        for child in silent:
            values[child[0]] = init_child(child, key, at_wire(values, takes[child[0]]), params)
        return at_wire(values, gives), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.children(params, names)
        values, cache = {"x": x}, dict[str, Cache]()
        for child in silent:
            taken = at_wire(values, takes[child[0]])
            values[child[0]] = apply_in_turn((child,), params, taken, key, cache)
        out = at_wire(values, gives)
        floats = (leaf.dtype for _, leaf in tree.leaves(values) if np.asarray(leaf).dtype.kind == "f")
        beside = next(floats, np.dtype(np.float32))  # the dtype of the zeros for integers and booleans
        likes = {name: _like(value, beside) for name, value in values.items()}
        return out, {**cache, "_likes": likes, "_with_params": tuple(params)}

    def pulled(cache: Cache, dout: Any, sources: set[str]) -> tuple[Params, dict[str, list[Any]]]:
        """The gradients of all parameters, and those of the sources: those of others have no use."""
        likes, dparams, found = checks.kept(cache, "_likes"), Params(), dict[str, list[Any]]()
        _spread(found, gives, dout, "dout")
        for name in names:
            if name in cache["_with_params"] or sources & {_head(w) for w in _each(takes[name])}:
                sources.add(name)
        for child in reversed(silent):
            name = child[0]
            if name not in sources:
                continue
            dy = _gathered(found, name, likes[name])
            if sources.isdisjoint(map(_head, _each(takes[name]))):
                params_vjp_child(child, cache, dy, dparams)
            else:
                _spread(found, takes[name], vjp_in_turn((child,), cache, dy, dparams), name)
        return {name: dparams[name] for name in names if name in dparams}, found

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams, found = pulled(cache, dout, {"x"})
        return dparams, _gathered(found, "x", cache["_likes"]["x"])

    def params_vjp(cache: Cache, dout: Any) -> Params:
        return pulled(cache, dout, set())[0]

    def remake(inside: tuple[Child, ...]) -> Layer[Any, Any]:
        return _wired(inside, takes, gives)

    return Layer(init, apply, vjp, Spec(), params_vjp, children, remake, collected(children))


# --- wires ----------------------------------------------------------------------------------------


def _each(wire: Wire) -> tuple[str, ...]:
    return (wire,) if isinstance(wire, str) else wire


def _head(wire: str) -> str:
    """Whose output a wire is, or a part of."""
    return wire.partition("/")[0]


def _checked(wire: Any, known: Iterable[str], what: str) -> Wire:
    if not isinstance(wire, (str, tuple)) or not all(isinstance(one, str) for one in wire):
        checks.refuse_type(f"{what} must be a name or a tuple of names, got {shown(wire)}")
    for one in _each(wire):
        if _head(one) not in known:
            checks.refuse(f"{what} must be 'x' or come from a layer before it, got {shown(one)}")
    return wire


def at_wire(values: Mapping[str, Any], wire: Wire) -> Any:
    """What a layer takes of the arrays, or the shapes, of all names."""
    if not isinstance(wire, str):
        return tuple(at_wire(values, one) for one in wire)
    if wire in values:
        return values[wire]
    head, *parts = wire.split("/")
    value = values[head]
    for part in parts:
        if isinstance(value, tuple) and (not value or not is_shape(value)):
            value = dict(zip(map(str, range(len(value))), value, strict=True))
        if not isinstance(value, dict):
            got = value if isinstance(value, tuple) else type(value).__name__
            checks.refuse_type(f"`{head}` must be a tuple or a dict, got {got}")
        if part not in value:
            checks.refuse(f"`{head}` must have the part {shown(wire)}, got {shown(tuple(value))}")
        value = value[part]
    return value


# --- gradients ------------------------------------------------------------------------------------


class _Like(NamedTuple):
    """The shape and dtype of an array's gradient, and whether that is more than zeros."""

    shape: tuple[int, ...]
    dtype: Any
    has: bool


def _like(value: Any, beside: Any) -> Any:
    if isinstance(value, dict):
        return {name: _like(part, beside) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_like(part, beside) for part in value)
    dtype = np.asarray(value).dtype
    has = dtype.kind == "f"
    return _Like(np.shape(value), dtype if has else beside, has)


def _spread(found: dict[str, list[Any]], wire: Wire, d: Any, whose: str) -> None:
    """Note gradients of what was taken, each under the path of its array."""
    if not isinstance(wire, str):
        if not isinstance(d, tuple) or len(d) != len(wire):
            checks.refuse(f"the gradient of {whose} must be a tuple of {len(wire)}, got {shown(d)}")
        for one, part in zip(wire, d, strict=True):
            _spread(found, one, part, whose)
    elif isinstance(d, (tuple, dict)):
        for name, part in d.items() if isinstance(d, dict) else enumerate(d):
            _spread(found, f"{wire}/{name}", part, whose)
    else:
        found.setdefault(wire, []).append(d)


def _gathered(found: dict[str, list[Any]], wire: str, like: Any) -> Any:
    """The sum of the gradients that were noted, in a tree like the value."""
    if isinstance(like, dict):
        return {name: _gathered(found, f"{wire}/{name}", part) for name, part in like.items()}
    if not isinstance(like, _Like):
        return tuple(_gathered(found, f"{wire}/{at}", part) for at, part in enumerate(like))
    given = found.pop(wire, None)
    return total(given) if given and like.has else np.zeros(like.shape, like.dtype)
