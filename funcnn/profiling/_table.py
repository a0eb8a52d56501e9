"""The summary of a network, as a value and as text."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, tree
from funcnn.profiling._measure import measure
from funcnn.structure import Node, Place, each_shape, every, outline
from funcnn.types import Layer, Shape, Spec
from funcnn.types.shown import grid


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
        Numbers in its params; those tied to others count there.
    trainable : int
        How many of them an optimizer moves: neither frozen nor running statistics.
    flops : int
        Multiplications and additions in the products of one forward pass.
    cache_bytes : int or None
        What a training pass keeps for the way back, beyond params, the network's input, and what
        layers in front of it keep anyway; None where a cache cannot be pickled.
    fixed_bytes : int or None
        How many of these do not grow with the batch.

    Examples
    --------
    >>> from funcnn import dense, summary
    >>> summary(dense(3), (2, 4)).rows[0]
    Row(path='', kind='dense', out_shape=(2, 3), parameters=15, trainable=15, flops=48, cache_bytes=0, \
fixed_bytes=0)
    """

    path: str
    kind: str
    out_shape: Shape
    parameters: int
    trainable: int
    flops: int
    cache_bytes: int | None
    fixed_bytes: int | None


class Summary:
    """What a network is and costs; printed, it is a table. `summary` makes it.

    Parameters
    ----------
    net : Layer
        The network.
    shape : Shape
        What goes in.

    Attributes
    ----------
    spec : Spec
        Of the network.
    shape, out_shape : Shape
        What goes in and what comes out.
    nodes : Node
        The network as a tree of layers with their shapes.
    rows : tuple of Row
        One for each layer, and for each combinator that has, does or keeps something itself.
    parameters, trainable : int
        Numbers in the tree of params, and those of them that an optimizer moves.
    flops : int
        Multiplications and additions in the products of one forward pass.
    cache_bytes, fixed_bytes : int or None
        What a training pass keeps for the way back, and what of it does not grow with the batch.

    Examples
    --------
    >>> from funcnn import conv, dense, flatten, relu, serial, summary
    >>> print(summary(serial(conv(4, 3), relu(), flatten(), dense(10)), (32, 1, 8, 8)))
    path      kind     output         parameters    FLOPs  cache bytes
    ------------------------------------------------------------------
    conv1     conv     (32, 4, 6, 6)          40   82_944        8_192
    relu1     relu     (32, 4, 6, 6)           0        0       18_432
    flatten1  flatten  (32, 144)               0        0            0
    dense1    dense    (32, 10)            1_450   92_160            0
    ------------------------------------------------------------------
    (32, 1, 8, 8) -> (32, 10)              1_490  175_104       26_624
    """

    def __init__(self, net: Layer[Any, Any], shape: Shape) -> None:
        self.spec: Spec = net.spec
        self.shape: Shape = shape
        self.nodes: Node = outline(net, shape)
        self.out_shape: Shape = self.nodes.out_shape
        self._net = net

    @property
    def parameters(self) -> int:
        """Numbers in the tree of params."""
        return sum(has for has, _ in self._numbers.values())

    @property
    def trainable(self) -> int:
        """Parameters that an optimizer moves: neither frozen nor running statistics."""
        return sum(moves for _, moves in self._numbers.values())

    @cached_property
    def _numbers(self) -> dict[Place, tuple[int, int]]:
        """How many numbers are each layer's own, and how many of them are trained."""
        left = {"/".join((*self.nodes.path, p)): leaf for p, leaf in tree.leaves(self.nodes.params)}
        nodes = every(self.nodes)
        paths = {n.place: ["/".join((*n.path, p)) for p, _ in tree.leaves(n.params)] for n in nodes}
        fixed = {path for path in left if tree.is_statistic(path)}
        fixed.update(*(paths[node.place] for node in nodes if node.spec.kind == "freeze"))
        numbers = {}
        for node in reversed(nodes):  # from the inside out
            own = {path: int(np.size(left.pop(path))) for path in paths[node.place] if path in left}
            moved = sum(size for path, size in own.items() if path not in fixed)
            numbers[node.place] = sum(own.values()), moved
        return numbers

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """One for each layer, and for each combinator that has, does or keeps something itself."""
        costs = measure(self._net, self.nodes.params, self.shape)
        rows: dict[Place, Row] = {}
        for node in every(self.nodes):
            own, cost = self._numbers[node.place], costs[node.place]
            if not node.children or own[0] or cost.flops or cost.kept:
                path, kind = "/".join(node.path), node.spec.kind
                rows[node.place] = Row(path, kind, node.out_shape, own[0], own[1], *cost)
        return tuple(rows.values())

    @property
    def flops(self) -> int:
        """Multiplications and additions in the products of one forward pass."""
        return sum(row.flops for row in self.rows)

    @property
    def cache_bytes(self) -> int | None:
        """What a training pass keeps for the way back; None where a cache cannot be pickled."""
        return _total([row.cache_bytes for row in self.rows])

    @property
    def fixed_bytes(self) -> int | None:
        """What of it does not grow with the batch."""
        return _total([row.fixed_bytes for row in self.rows])

    def _cells(self) -> list[tuple[str, ...]]:
        """The table, with its head and its foot."""
        body: list[tuple[str, ...]] = []
        for row in self.rows:
            numbers = _numbers(row.parameters, row.flops, row.cache_bytes)
            body.append((row.path, row.kind, str(row.out_shape), *numbers))
        ends = (f"{self.shape} -> {self.out_shape}", "", "")
        foot = (*ends, *_numbers(self.parameters, self.flops, self.cache_bytes))
        return [("path", "kind", "output", "parameters", "FLOPs", "cache bytes"), *body, foot]

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        return grid(head, rows)

    def __str__(self) -> str:
        head, *body, foot = self._cells()
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(3)]
        numbers = [max(len(line[i]) for line in (head, *body, foot)) for i in range(3, 6)]
        left = max(sum(widths) + 4, len(foot[0]))

        def line(cells: tuple[str, ...]) -> str:
            first = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
            first = cells[0] if cells is foot else first
            rest = [cell.rjust(width) for cell, width in zip(cells[3:], numbers, strict=True)]
            return "  ".join((first.ljust(left), *rest)).rstrip()

        rule = "-" * (left + sum(numbers) + 6)
        last = () if self.trainable == self.parameters else (f"trainable: {self.trainable:_}",)
        return "\n".join((line(head), rule, *map(line, body), rule, line(foot), *last))

    def __repr__(self) -> str:
        return f"<summary of {self.spec!r}>"

    def svg(self) -> str:
        """The network as a picture: branches side by side, arcs around residual blocks.

        Returns
        -------
        str
            An SVG document.

        Examples
        --------
        >>> from funcnn import dense, residual, summary
        >>> summary(residual(dense(4)), (2, 4)).svg()[:4]
        '<svg'
        """
        from funcnn.profiling._picture import picture  # deferred: most summaries are read as text

        return picture(self.nodes)


@checks.takes(net=checks.NET)
def summary(net: Layer[Any, Any], shape: Shape) -> Summary:
    """Tell what a network is and costs.

    Parameters
    ----------
    net : Layer
        The network.
    shape : Shape
        Of its input, with a batch of at least 1; for several inputs, a tuple of shapes.

    Returns
    -------
    Summary
        Print it, look at its ``rows``, or write its ``svg()`` into a file.

    Raises
    ------
    ValueError, TypeError
        For a batch of -1 or 0; and what the network refuses, with its path.

    Notes
    -----
    Shapes and parameters are told at once, for networks of any size. Costs are measured when they
    are first asked for: by a training pass in float32, in the mode in force, on two and on three
    examples, whose parameters are zeros. Products are counted, and not done; a layer's cache is gone
    once it is looked at. So it takes the time of all but the products, and the memory of inference.

    FLOPs are those of products in a forward pass, convolutions among them: a multiplication and the
    addition that follows it are two.

    Cache bytes are those of the memory that a training pass keeps for the way back, beyond the params
    and the network's input: every piece of it once, in the row of the first layer that keeps it.

    Examples
    --------
    >>> from funcnn import dense, relu, serial, summary
    >>> table = summary(serial(dense(1000), relu(), dense(10)), (64, 784))
    >>> table.parameters, table.flops, table.cache_bytes
    (795010, 101632000, 256000)
    """
    _refuse_any_batch(shape)
    return Summary(net, shape)


def _refuse_any_batch(shape: Shape) -> None:
    if any(one[:1] and one[0] < 1 for _, one in each_shape(shape)):
        checks.refuse(f"`shape` must have a batch of at least 1, got {shape}")


def _total(parts: list[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _numbers(*values: int | None) -> tuple[str, ...]:
    return tuple("?" if value is None else f"{value:_}" for value in values)
