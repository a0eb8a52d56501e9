"""What a network costs: its layers' costs, put together as they are run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from funcnn import tree
from funcnn.profiling._costs import COSTS, ITEM, Call, elements
from funcnn.structure import Node, every, maximum_first
from funcnn.types import Shape


class Row(NamedTuple):
    """One layer of a summary.

    Parameters
    ----------
    path : str
        Where it stands in the tree of params.
    kind : str
        Its constructor.
    out_shape : Shape
        What comes out.
    parameters : int
        Numbers in its params, running statistics included; those tied to others count there.
    flops : int or None
        Operations of one forward pass; None where nobody knows.
    cache_bytes : int or None
        What a training pass keeps for the way back, beyond params, the network's input, and what
        layers in front of it keep anyway; None where nobody knows.

    Examples
    --------
    >>> from funcnn import dense, summary
    >>> summary(dense(3), (2, 4)).rows[0]
    Row(path='', kind='dense', out_shape=(2, 3), parameters=15, flops=54, cache_bytes=0)
    """

    path: str
    kind: str
    out_shape: Shape
    parameters: int
    flops: int | None
    cache_bytes: int | None


class _Memory:
    """An array that flows through the network; views have the same root.

    `turned` says that the last axis does not run fastest, so that laying steps in rows makes a copy.
    """

    def __init__(self, bytes: int, root: _Memory | None = None, turned: bool = False) -> None:
        self.bytes, self.turned = bytes, turned
        self.root: _Memory = self if root is None else root


Flow: TypeAlias = Any  # a memory, or a tuple of them
Found: TypeAlias = dict[int, Row]


def measure(root: Node) -> tuple[list[Row], int]:
    """A row for each layer, and for each combinator that computes or keeps something of its own."""
    walk = _Walk(root)
    walk.run(root, walk.given, root.shape)
    order = {id(node): place for place, node in enumerate(every(root))}
    rows = [walk.rows[key] for key in sorted(walk.rows, key=order.__getitem__)]
    return rows, tree.count(root.params)


def _is_one(shape: Shape) -> bool:
    return all(isinstance(size, (int, np.integer)) for size in shape)


def _memory(shape: Shape, root: _Memory | None = None, turned: bool = False) -> Flow:
    if _is_one(shape):
        return _Memory(ITEM * elements(shape), root, turned)
    return tuple(_memory(one, root, turned) for one in shape)


def _is_turned(flow: Flow) -> bool:
    return isinstance(flow, _Memory) and flow.turned


class _Walk:
    """One forward pass in which only the memory that arrays would take is kept."""

    def __init__(self, root: Node) -> None:
        self.rows: Found = {}
        self.given = _memory(root.shape)
        self.kept = {id(leaf) for leaf in _leaves(self.given)}
        self.alive: list[Flow] = [self.given]  # ids stay unique as long as nothing is thrown away
        self.leaves = {path for path, _ in tree.leaves(root.params)}
        self.counted: set[str] = set()

    def run(self, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
        """What comes out of a layer."""
        if node.children:
            run = _COMBINED.get(node.spec.kind, _unknown)
            out, out_shape = run(self, node, x, shape)
        else:
            out, out_shape = self._layer(node, x, shape)
        self.alive.append(out)
        return out, out_shape

    def _layer(self, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
        cost = COSTS.get(node.spec.kind)
        out_shape = shape if "monotone" in node.spec.traits else node.out_shape
        if cost is None:
            self.enter(node, None, None)
            return _memory(out_shape), out_shape
        turned = _is_turned(x)
        call = Call(node.spec, shape, out_shape, node.params, turned)
        keeps_order = turned and shape == out_shape and "weight" not in node.params
        root = _leaves(x)[0].root if cost.view(call) else None
        out = _memory(out_shape, root, cost.turns or keeps_order)
        new = cost.extra(call)
        keeps = cost.keeps(call) if callable(cost.keeps) else cost.keeps
        for name in keeps.split():
            if name == "turned":
                new += self.keep(x if turned or shape[0] == 1 else _memory(shape))
            else:
                new += self.keep(out if name == "out" else x)
        if node.spec.kind == "merge" and call.options["how"] == "product":
            new += self.keep(x)
        self.enter(node, cost.flops(call), new)
        return out, out_shape

    def keep(self, flow: Flow) -> int:
        """The bytes that are newly kept."""
        roots = {id(leaf.root): leaf.root for leaf in _leaves(flow)}
        new = {key: root.bytes for key, root in roots.items() if key not in self.kept}
        self.alive.append(flow)
        self.kept.update(new)
        return sum(new.values())

    def enter(self, node: Node, flops: int | None, kept: int | None) -> None:
        """Add to the row of a layer; a layer that is run several times adds up."""
        old = self.rows.get(id(node))
        parameters = old.parameters if old else self._parameters(node)
        if old:
            flops = None if flops is None or old.flops is None else flops + old.flops
            kept = None if kept is None or old.cache_bytes is None else kept + old.cache_bytes
        path, kind = "/".join(node.path), node.spec.kind
        self.rows[id(node)] = Row(path, kind, node.out_shape, parameters, flops, kept)

    def _parameters(self, node: Node) -> int:
        """Numbers in the leaves that are there, each counted once."""
        total = 0
        for leaf, value in tree.leaves(node.params):
            path = "/".join((*node.path, leaf))
            if path in self.leaves and path not in self.counted:
                self.counted.add(path)
                total += int(np.size(value))
        return total


def _leaves(flow: Flow) -> list[_Memory]:
    if isinstance(flow, tuple):
        return [leaf for part in flow for leaf in _leaves(part)]
    return [flow]


# --- combinators ----------------------------------------------------------------------------------


def _series(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    named: Any = [("", child) for child in node.children]
    order: Any = maximum_first(named)  # it looks at the traits alone
    for _, child in order:
        x, shape = walk.run(child, x, shape)
    return x, shape


def _residual(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    past = node.children[-1].spec.name == "shortcut"
    body = node._replace(children=node.children[:-1] if past else node.children)
    out, _ = _series(walk, body, x, shape)
    if past:
        walk.run(node.children[-1], x, shape)
    walk.enter(node, elements(node.out_shape), 0)
    return _memory(node.out_shape, turned=_is_turned(out)), node.out_shape


def _branch(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    outs = [walk.run(child, x, shape) for child in node.children]
    return tuple(out for out, _ in outs), tuple(one for _, one in outs)


def _parallel(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    outs, _ = _branch(walk, node, x, shape)
    how = node.spec.options["merge"]
    each = {"concatenate": 0, "mean": len(outs)}.get(how, len(outs) - 1)
    walk.enter(node, each * elements(node.out_shape), walk.keep(outs) if how == "product" else 0)
    return _memory(node.out_shape, turned=all(map(_is_turned, outs))), node.out_shape


def _dense_connect(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    axis = node.spec.options["axis"] % len(shape)
    for child in node.children:
        _, new = walk.run(child, x, shape)
        shape = (*shape[:axis], shape[axis] + new[axis], *shape[axis + 1 :])
        x = _memory(shape)
    return x, shape


def _share(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    for _ in range(node.spec.options["times"]):
        x, shape = walk.run(node.children[0], x, shape)
    return x, shape


def _through(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    return walk.run(node.children[0], x, shape)


def _remat(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    """The layers inside keep nothing but their running statistics."""
    before, own = set(walk.kept), walk.keep(x)
    inside = _Walk(node)
    inside.leaves, inside.counted, inside.alive = walk.leaves, walk.counted, walk.alive
    out, out_shape = inside.run(node.children[0], x, shape)
    for key, row in inside.rows.items():
        walk.rows[key] = row._replace(cache_bytes=0 if row.cache_bytes is not None else None)
    walk.kept = before | {id(leaf.root) for leaf in _leaves(x)}
    running = sum(leaf.size for path, leaf in tree.leaves(node.params) if tree.is_statistic(path))
    walk.enter(node, 0, own + ITEM * running)
    return out, out_shape


def _time_distributed(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    rows = _memory(shape) if x.turned else x
    walk.alive.append(rows)
    out, _ = walk.run(node.children[0], rows, node.children[0].shape)
    return out, node.out_shape


def _bidirectional(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    outs = tuple(walk.run(child, x, shape)[0] for child in node.children)
    how = node.spec.options["merge"]
    each = {"concatenate": 0, "mean": 2}.get(how, 1)
    walk.enter(node, each * elements(node.out_shape), walk.keep(outs) if how == "product" else 0)
    return _memory(node.out_shape), node.out_shape


def _keep_context(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    first, out_shape = walk.run(node.children[0], x[0], shape[0])
    return (first, *x[1:]), (out_shape, *shape[1:])


def _residual_with_context(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    walk.run(node.children[0], x, shape)
    walk.enter(node, elements(shape[0]), 0)
    return (_memory(shape[0]), *x[1:]), shape


def _computed_weight(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    """A layer and the weight made for it, which stays, in one row."""
    child = node.children[0]
    weight = child.params["weight"]
    size, outs = int(weight.size), int(weight.shape[node.spec.options["axis"]])
    if node.spec.kind == "weight_norm":
        walk.enter(node, 3 * size, ITEM * (size + outs))
    else:
        each = 3 + 4 * int(node.spec.options["iterations"])
        walk.enter(node, each * size, ITEM * (size + outs + size // outs))
    out, out_shape = walk.run(child, x, shape)
    own = walk.rows.pop(id(child))
    walk.enter(node, own.flops, own.cache_bytes)
    return out, out_shape


def _unknown(walk: _Walk, node: Node, x: Flow, shape: Shape) -> tuple[Flow, Shape]:
    """What a combinator of somebody else does with its children, nobody knows."""
    for child in node.children:
        walk.run(child, _memory(child.shape), child.shape)
    walk.enter(node, None, None)
    return _memory(node.out_shape), node.out_shape


_Run: TypeAlias = Callable[[_Walk, Node, Flow, Shape], tuple[Flow, Shape]]
_COMBINED: dict[str, _Run] = {
    "serial": _series,
    "repeat": _series,
    "residual": _residual,
    "branch": _branch,
    "parallel": _parallel,
    "dense_connect": _dense_connect,
    "share": _share,
    "named": _through,
    "freeze": _through,
    "tied": _through,
    "remat": _remat,
    "time_distributed": _time_distributed,
    "bidirectional": _bidirectional,
    "keep_context": _keep_context,
    "residual_with_context": _residual_with_context,
    "weight_norm": _computed_weight,
    "spectral_norm": _computed_weight,
}
