"""The children of a combinator: their names, and their part in what the combinator does.

A child that refuses is named on the way out, so that the message has its path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from funcnn import checks, random
from funcnn.types import Cache, Key, Layer, Params, Shape, Spec

Child = tuple[str, Layer[Any, Any]]


def name_children(layers: tuple[Any, ...]) -> list[Child]:
    """Layers with their names: kind and ordinal, or what `named` says; see `named_after`."""
    seen: Counter[str] = Counter()
    children: list[Child] = []
    taken: set[str] = set()
    for layer in layers:
        spec = named_after(layer.spec)
        seen[spec.kind] += 1
        name = spec.name or f"{spec.kind}{seen[spec.kind]}"
        if name in taken:
            checks.refuse(f"children must have different names, got {name!r} twice")
        taken.add(name)
        children.append((name, checks.bare(layer)))
    return children


def named_after(spec: Spec) -> Spec:
    """The layer that gives this one its name: what only steers gradients changes no name, no weight."""
    return named_after(spec.children[0]) if spec.kind in ("freeze", "remat") else spec


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
    try:
        for child in children:
            name, layer = child
            own = None if key is None else random.fold_in(key, name)
            x, cache[name] = layer.apply(params.get(name, {}), x, key=own)
    except checks.Refusal as refusal:
        raise _outer(child, refusal)
    return x


def vjp_in_turn(children: Iterable[Child], cache: Cache, dout: Any, dparams: Params) -> Any:
    """Pull back through children, first to last as given, and enter their gradients into `dparams`."""
    try:
        for child in children:
            name, layer = child
            own, dout = layer.vjp(checks.kept(cache, name), dout)
            if own:
                dparams[name] = own
    except checks.Refusal as refusal:
        raise _outer(child, refusal)
    return dout


def params_vjp_child(child: Child, cache: Cache, dout: Any, dparams: Params) -> None:
    """Pull back through one child, without the input's gradient."""
    name, layer = child
    if layer.params_vjp is None:
        vjp_in_turn((child,), cache, dout, dparams)
        return
    try:
        own = layer.params_vjp(checks.kept(cache, name), dout)
    except checks.Refusal as refusal:
        raise _outer(child, refusal)
    if own:
        dparams[name] = own
