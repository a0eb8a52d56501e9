"""Where a network's layers stand in its tree, and which shapes they meet: from shapes alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcnn import checks, random
from funcnn._children import named_after
from funcnn.types import Key, Layer, Params, Shape, Spec, rebuild


class Node(NamedTuple):
    """One layer of a network, in one of the places where it is used."""

    path: tuple[str, ...]
    spec: Spec
    shape: Shape
    out_shape: Shape
    params: Params
    children: tuple[Node, ...]


def find(net: Layer[Any, Any], shape: Shape) -> list[Node]:
    """All layers of a network, in the order in which `init` meets them, the network first."""

    def visit(node: Node) -> list[Node]:
        return [node, *(inner for child in node.children for inner in visit(child))]

    return visit(trace(net.spec, shape))


def trace(spec: Spec, shape: Shape) -> Node:
    """What `init` does in a network, without a draw."""
    name = named_after(spec).name
    return _below((name,) if name else (), _traced(spec, shape))


def _traced(spec: Spec, shape: Shape) -> Node:
    """A layer with its children; paths begin below it.

    The layer is built again with children that take down how they are called. Which names it gives
    them, they learn by refusing: a combinator puts the name in front of a child's refusal.
    """
    if not spec.children:
        out_shape, params = rebuild(spec).init(random.NO_DRAW, shape)
        return Node((), spec, shape, out_shape, params, ())
    calls: list[Node] = []
    replayed, refused = -1, -1

    def watched(child: Spec) -> Layer[Any, Any]:
        def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
            nonlocal replayed
            if refused < 0:
                calls.append(_traced(child, shape))
                return calls[-1].out_shape, calls[-1].params
            replayed += 1
            if replayed == refused:
                checks.refuse("where am I?")
            return calls[replayed].out_shape, calls[replayed].params

        layer: Layer[Any, Any] = rebuild(child)
        return layer._replace(init=init)

    layer = spec.build(*spec.args, *map(watched, spec.children), **spec.options)
    out_shape, params = layer.init(random.NO_DRAW, shape)
    found = []
    path: tuple[str, ...]
    for place, node in enumerate(calls):
        replayed, refused, path = -1, place, ()
        try:
            layer.init(random.NO_DRAW, shape)
        except checks.Refusal as refusal:
            path = refusal.path
        found.append(_below(() if spec.name else path, node))
    return Node((), spec, shape, out_shape, params, tuple(found))


def _below(path: tuple[str, ...], node: Node) -> Node:
    """A layer with another path in front of its own and its children's."""
    children = tuple(_below(path, child) for child in node.children)
    return node._replace(path=(*path, *node.path), children=children)
