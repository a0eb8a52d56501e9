"""The summary of a network, as text."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, tree
from funcnn.profiling._measure import Row, measure
from funcnn.structure import Node, every, outline
from funcnn.types import Layer, Shape, Spec


class Summary(NamedTuple):
    """What a network is and costs; printed, it is a table.

    Parameters
    ----------
    spec : Spec
        Of the network.
    shape, out_shape : Shape
        What goes in and what comes out.
    rows : tuple of Row
        One for each layer, and for each combinator that computes or keeps something itself.
    parameters : int
        Numbers in the tree of params.
    nodes : Node
        The network as a tree of layers with their shapes.

    Examples
    --------
    >>> from funcnn import conv, dense, flatten, relu, serial, summary
    >>> print(summary(serial(conv(4, 3), relu(), flatten(), dense(10)), (32, 1, 8, 8)))
    path      kind     output         parameters    FLOPs  cache bytes
    ------------------------------------------------------------------
    conv1     conv     (32, 4, 6, 6)          40   87_552        8_192
    relu1     relu     (32, 4, 6, 6)           0    4_608       18_432
    flatten1  flatten  (32, 144)               0        0            0
    dense1    dense    (32, 10)            1_450   92_480            0
    ------------------------------------------------------------------
    (32, 1, 8, 8) -> (32, 10)              1_490  184_640       26_624
    """

    spec: Spec
    shape: Shape
    out_shape: Shape
    rows: tuple[Row, ...]
    parameters: int
    nodes: Node

    @property
    def trainable(self) -> int:
        """Parameters that an optimizer moves: neither frozen nor running statistics."""
        own = {"/".join((*self.nodes.path, path)) for path, _ in tree.leaves(self.nodes.params)}
        fixed = {}
        for node in every(self.nodes):
            for path, leaf in tree.leaves(node.params):
                if node.spec.kind == "freeze" or tree.is_statistic(path):
                    fixed["/".join((*node.path, path))] = int(np.size(leaf))
        return self.parameters - sum(size for path, size in fixed.items() if path in own)

    @property
    def flops(self) -> int | None:
        """Operations of one forward pass; None where a layer's are not known."""
        return _total([row.flops for row in self.rows])

    @property
    def cache_bytes(self) -> int | None:
        """What a training pass keeps for the way back; None where a layer's is not known."""
        return _total([row.cache_bytes for row in self.rows])

    def __str__(self) -> str:
        head = ("path", "kind", "output", "parameters", "FLOPs", "cache bytes")
        body = [
            (
                row.path,
                row.kind,
                str(row.out_shape),
                *_numbers(row.parameters, row.flops, row.cache_bytes),
            )
            for row in self.rows
        ]
        ends = (f"{self.shape} -> {self.out_shape}", "", "")
        foot = (*ends, *_numbers(self.parameters, self.flops, self.cache_bytes))
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(3)]
        numbers = [max(len(line[i]) for line in (head, *body, foot)) for i in range(3, 6)]
        left = max(sum(widths) + 4, len(ends[0]))

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


@checks.named
def summary(net: Layer[Any, Any], shape: Shape) -> Summary:
    """Tell what a network is and costs, from shapes alone.

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
    No parameter is allocated: networks of any size are summed up at once.

    FLOPs are those of a forward pass in training. A multiplication and the addition that follows it
    are two; a comparison, and a call of an elementary function, is one.

    Cache bytes are those that a training pass in float32 keeps for the way back, beyond the params
    and the network's input: every piece of memory once, in the row of the first layer that keeps it.

    Kinds that the library does not know show as ``?``, and so do the sums over them.

    Examples
    --------
    >>> from funcnn import dense, relu, serial, summary
    >>> table = summary(serial(dense(1000), relu(), dense(10)), (64, 784))
    >>> table.parameters, table.flops, table.cache_bytes
    (795010, 101760640, 256000)
    """
    if not isinstance(net, Layer):
        checks.refuse_type(f"`net` must be a layer, got {checks.shown(net)}")
    _refuse_any_batch(shape)
    root = outline(net, shape)
    rows, parameters = measure(root)
    return Summary(net.spec, shape, root.out_shape, tuple(rows), parameters, root)


def _refuse_any_batch(shape: Shape) -> None:
    for size in shape[:1] if isinstance(shape, tuple) else ():
        if isinstance(size, tuple):
            _refuse_any_batch(size)
        elif isinstance(size, int) and size < 1:
            checks.refuse(f"`shape` must have a batch of at least 1, got {shape}")


def _total(parts: list[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _numbers(*values: int | None) -> tuple[str, ...]:
    return tuple("?" if value is None else f"{value:_}" for value in values)
