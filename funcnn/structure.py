"""Layers inside layers: their names, their part in what a combinator does, and walks over all of them.

A layer has its children by name. Whoever wants to know a network's structure reads it there; whoever
wants to know what happens inside makes the network again from children that report. A child that
refuses is named on the way out, so that the message has its path.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, random
from funcnn.random.keys import checked, child as folded
from funcnn.types import Cache, Key, Layer, Params, Shape, Spec, has_trait, no_statistics, rebuild

Child = tuple[str, Layer[Any, Any]]


def usual_names(layers: Iterable[Layer[Any, Any]]) -> list[str]:
    """The names of layers beside each other: kind and ordinal, or what `named` says."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for layer in layers:
        spec = named_after(layer.spec)
        seen[spec.kind] += 1
        names.append(spec.name or f"{spec.kind}{seen[spec.kind]}")
    return names


def name_children(layers: tuple[Any, ...]) -> list[Child]:
    """Layers with their `usual_names`, each of which must be another."""
    names = usual_names(layers)
    for name, times in Counter(names).items():
        if times > 1:
            checks.refuse(f"children must have different names, got {checks.shown(name)} twice")
    return list(zip(names, layers, strict=True))


def bare(children: Iterable[Child]) -> tuple[Child, ...]:
    """The same children, whose refusals name nobody: who runs them names them."""
    return tuple((name, checks.bare(layer)) for name, layer in children)


def named_after(spec: Spec) -> Spec:
    """The layer that gives this one its name: what only steers training changes no name, no weight."""
    steers = ("freeze", "inference_mode", "remat")
    return named_after(spec.children[0]) if spec.kind in steers else spec


def _outer(child: Child, refusal: checks.Refusal) -> checks.Refusal:
    """A child's refusal with the child's name in front, instead of the one that `named` has put."""
    name, layer = child
    if named_after(layer.spec).name:
        refusal.path = refusal.path[1:]
    return refusal.inside(name)


def init_child(child: Child, key: Key, shape: Shape, params: Params) -> Shape:
    """Initialise one child from its name, and enter what it has into `params`."""
    name, layer = child
    try:
        shape, own = layer.init(random.fold_in(key, name), shape)
    except checks.Refusal as refusal:
        raise _outer(child, refusal)
    if own:
        params[name] = own
    return shape


def apply_in_turn(
    children: Iterable[Child], params: Params, x: Any, key: Key | None, cache: dict[str, Cache]
) -> Any:
    """Run children one behind the other, each with its own part of the parameters and its own key.

    What they keep is entered into `cache`.
    """
    if key is not None:
        checked(key)
    try:
        for child in children:
            name, layer = child
            own = None if key is None else folded(key, name)
            x, cache[name] = layer.apply(params.get(name, {}), x, key=own)
    except checks.Refusal as refusal:
        raise _outer(child, refusal)
    return x


def vjp_in_turn(children: Iterable[Child], cache: Cache, dout: Any, dparams: Params) -> Any:
    """Pull back through children, first to last as given, and enter their gradients into `dparams`."""
    try:
        for child in children:
            name, layer = child
            kept = cache[name] if type(cache) is dict and name in cache else checks.kept(cache, name)
            own, dout = layer.vjp(kept, dout)
            if own:
                dparams[name] = own
    except checks.Refusal as refusal:
        raise _outer(child, refusal)
    return dout


def params_vjp_child(child: Child, cache: Cache, dout: Any, dparams: Params) -> None:
    """Pull back through one child, without the input's gradient."""
    name, layer = child
    try:
        kept = cache[name] if type(cache) is dict and name in cache else checks.kept(cache, name)
        own = params_gradient(layer, kept, dout)
    except checks.Refusal as refusal:
        raise _outer(child, refusal)
    if own:
        dparams[name] = own


def params_gradient(layer: Layer[Any, Any], cache: Cache, dout: Any) -> Params:
    """The gradients of a layer's parameters, without the input's where the layer can."""
    return layer.vjp(cache, dout)[0] if layer.params_vjp is None else layer.params_vjp(cache, dout)


def statistics(layer: Layer[Any, Any], cache: Cache) -> Params:
    """New values of a layer's running statistics, or of those of the layers inside it."""
    if layer.statistics is not no_statistics:
        return layer.statistics(cache)
    if not has_trait(layer.spec, "statistics"):
        return {}
    if isinstance(cache, dict) and "running" in cache:
        text = f"{layer.spec.kind}: `cache['running']` is of version 0.1"
        warnings.warn(f"{text}: write Layer(..., statistics=...)", DeprecationWarning, stacklevel=2)
        return dict(cache["running"])
    return collected(children(layer))(cache)


def collected(children: Iterable[Child]) -> Callable[[Cache], Params]:
    """The statistics of a combinator whose cache has its children's under their names."""
    some = [(name, layer) for name, layer in children if _may_have_statistics(layer)]

    def collect(cache: Cache) -> Params:
        found = {name: statistics(layer, checks.kept(cache, name)) for name, layer in some}
        return {name: own for name, own in found.items() if own}

    return collect if some else no_statistics


def within(layer: Layer[Any, Any]) -> Callable[[Cache], Params]:
    """The statistics of a combinator with the params of a layer, whose cache it has as ``"layer"``."""

    def carry(cache: Cache) -> Params:
        return statistics(layer, checks.kept(cache, "layer"))

    return carry if _may_have_statistics(layer) else no_statistics


def _may_have_statistics(layer: Layer[Any, Any]) -> bool:
    spec = layer.spec
    return bool(layer.statistics is not no_statistics or spec.children or "statistics" in spec.traits)


def maximum_first(children: tuple[Child, ...]) -> list[Child]:
    """A rewrite of a chain: a maximum runs before the monotone layers in front of it.

    Both orders give the same numbers, ``max(f(a), f(b)) = f(max(a, b))``, and this one takes less
    work. `serial` runs in this order; a traced network runs, and shows, the order that is written.
    """
    order: list[Child] = []
    for child in children:
        place = len(order)
        if "maximum" in child[1].spec.traits:
            while place and "monotone" in order[place - 1][1].spec.traits:
                place -= 1
        order.insert(place, child)
    return order


# --- walks ----------------------------------------------------------------------------------------


def children(layer: Layer[Any, Any]) -> tuple[Child, ...]:
    """The layers inside a layer; a combinator that names none names them as `serial` does."""
    return layer.children or tuple(name_children(tuple(map(rebuild, layer.spec.children))))


def remade(layer: Layer[Any, Any], inside: tuple[Child, ...]) -> Layer[Any, Any]:
    """The same layer around other children."""
    if not inside:
        return layer
    if layer.remake is not None:
        again: Layer[Any, Any] = layer.remake(inside)
        return again
    spec = layer.spec
    made: Layer[Any, Any] = spec.build(*spec.args, *(child for _, child in inside), **spec.options)
    return made


def is_shape(shape: object) -> bool:
    """Whether this is one shape, rather than a tree of shapes for several arrays."""
    return isinstance(shape, tuple) and all(isinstance(size, (int, np.integer)) for size in shape)


def over_shapes(fn: Callable[[str, Shape], Any], shape: Any, path: str = "x") -> Any:
    """``fn(path, shape)`` for one shape, or for each in a tree of several."""
    if path.count("/") >= checks.DEEPEST:
        checks.refuse(f"`shape` must be nested at most {checks.DEEPEST} deep")
    if isinstance(shape, dict):
        return {name: over_shapes(fn, part, f"{path}/{name}") for name, part in shape.items()}
    if is_shape(shape):
        return fn(path, shape)
    if not isinstance(shape, tuple):
        got = checks.shown(shape)
        checks.refuse_type(f"`shape` must be a tuple of ints, or a tuple or dict of such, got {got}")
    return tuple(over_shapes(fn, part, f"{path}/{place}") for place, part in enumerate(shape))


def each_shape(shape: Any) -> list[tuple[str, Shape]]:
    """One shape, or each in a tree of several, with its path."""
    found: list[tuple[str, Shape]] = []
    over_shapes(lambda path, one: found.append((path, one)), shape)
    return found


def with_batch(shape: Any, size: int) -> Any:
    """The shape, or shapes, of a batch of another size."""
    return over_shapes(lambda _, one: (size, *one[1:])[: len(one)], shape)


class Place(NamedTuple):
    """Where a layer is: its path, and how many layers around it have the same params."""

    path: tuple[str, ...] = ()
    inner: int = 0


def place_of(net: Layer[Any, Any]) -> Place:
    """The place of a network: its name, if it has one."""
    name = named_after(net.spec).name
    return Place((name,) if name else ())


See = Callable[[Place, Layer[Any, Any], Layer[Any, Any]], Layer[Any, Any]]


def watched(layer: Layer[Any, Any], see: See, place: Place = Place()) -> Layer[Any, Any]:  # noqa: B008
    """A network made again from the inside out, each layer as ``see(place, layer, made)`` gives it."""

    def below(name: str) -> Place:
        return Place((*place.path, name)) if name else Place(place.path, place.inner + 1)

    inside = tuple((name, watched(child, see, below(name))) for name, child in children(layer))
    return see(place, layer, remade(layer, inside))


class Node(NamedTuple):
    """One layer of a network, in one of the places where it is used."""

    place: Place
    spec: Spec
    shape: Shape
    out_shape: Shape
    params: Params
    children: tuple[Node, ...]

    @property
    def path(self) -> tuple[str, ...]:
        """Where its params are."""
        return self.place.path


def outline(net: Layer[Any, Any], shape: Shape) -> Node:
    """A network as a tree of nodes: what `init` does in it, without a draw."""
    open_: list[list[Node]] = [[]]

    def see(place: Place, layer: Layer[Any, Any], made: Layer[Any, Any]) -> Layer[Any, Any]:
        def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
            open_.append([])
            out_shape, params = made.init(random.NO_DRAW, shape)
            inside = tuple(open_.pop())
            open_[-1].append(Node(place, layer.spec, shape, out_shape, params, inside))
            return out_shape, params

        return made._replace(init=init, spec=layer.spec)

    watched(net, see, place_of(net)).init(random.NO_DRAW, shape)
    return open_[0][0]


def every(node: Node) -> list[Node]:
    """A node and all those inside it, in the order in which `init` meets them."""
    found, waiting = [], [node]
    while waiting:
        found.append(waiting.pop())
        waiting += reversed(found[-1].children)
    return found


def nodes(net: Layer[Any, Any], shape: Shape) -> list[Node]:
    """All layers of a network, in the order in which `init` meets them, the network first."""
    return every(outline(net, shape))
