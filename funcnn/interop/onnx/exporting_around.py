"""The table of combinators: what becomes of the values on their way through the layers inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.combinators.graphs import at_wire
from funcnn.interop.onnx.exporting_graph import Graph, Value, fixed
from funcnn.interop.onnx.exporting_layers import several
from funcnn.interop.onnx.exporting_operators import time_first
from funcnn.interop.onnx.exporting_sequences import taken
from funcnn.interop.onnx.exporting_shapes import merged

Runs = dict[str, Callable[[Any], Any]]


def _in_turn(g: Graph, x: Any, o: Any, runs: Runs) -> Any:
    for run in runs.values():
        x = run(x)
    return x


def _residual(g: Graph, x: Any, o: Any, runs: Runs) -> Any:
    body = {name: run for name, run in runs.items() if name != "shortcut"}
    return tree.map(g.Add, _in_turn(g, x, o, body), runs.get("shortcut", lambda x: x)(x))


def _dense_connect(g: Graph, x: Value, o: Any, runs: Runs) -> Any:
    for run in runs.values():
        new, axis = run(x), o.axis % x.rank
        pairs = zip(x.shapes, new.shapes, strict=True)
        shapes = tuple((*a[:axis], a[axis] + b[axis], *a[axis + 1 :]) for a, b in pairs)
        x = Value(g.Concat(x, new, axis=o.axis), shapes)
    return x


def _share(g: Graph, x: Any, o: Any, runs: Runs) -> Any:
    for _ in range(o.times):
        x = _in_turn(g, x, o, runs)
    return x


def _time_distributed(g: Graph, x: Value, o: Any, runs: Runs) -> Any:
    (features,) = fixed(x, 2)
    rows = _in_turn(g, x.resized(g.Reshape(x, [-1, features]), features), o, runs)
    return g.reshape(rows, g.size(x, 0), g.size(x, 1), *fixed(rows))


def _bidirectional(g: Graph, x: Value, o: Any, runs: Runs) -> Any:
    def reversed_(value: Value) -> Value:
        start = np.iinfo(np.int64).min
        return Value(g.Slice(value, [-1], [start], [1], [-1]), value.shapes)

    both = runs["forward"](x), reversed_(runs["backward"](reversed_(x)))
    return merged(g, both, o.merge, 2)


def _with_encoder(g: Graph, x: Any, o: Any, runs: Runs) -> Any:
    memory = runs["encoder"](x[1] if len(x) == 2 else x[1:])
    return runs["decoder"]((x[0], *several(memory)))


def _graph(g: Graph, x: Any, o: Any, runs: Runs) -> Any:
    values, last = {"x": x}, "x"
    for name, run in runs.items():
        values[name] = run(at_wire(values, (o.wires or {}).get(name, last)))
        last = name
    return at_wire(values, o.output or last)


AROUND: dict[str, Callable[[Graph, Any, Any, Runs], Any]] = {
    "serial": _in_turn,
    "repeat": _in_turn,
    "share": _share,
    "graph": _graph,
    "residual": _residual,
    "dense_connect": _dense_connect,
    "parallel": lambda g, x, o, runs: merged(g, [run(x) for run in runs.values()], o.merge, o.axis),
    "branch": lambda g, x, o, runs: tuple(run(x) for run in runs.values()),
    "each": lambda g, x, o, runs: tuple(run(one) for run, one in zip(runs.values(), x, strict=True)),
    "time_distributed": _time_distributed,
    "bidirectional": _bidirectional,
    "keep_context": lambda g, x, o, runs: (_in_turn(g, taken(g, x, o.context)[0], o, runs), *x[1:]),
    "with_context": lambda g, x, o, runs: (_in_turn(g, x, o, runs), *x[1:]),
    "with_encoder": _with_encoder,
    "residual_with_context": lambda g, x, o, runs: (g.Add(x[0], _in_turn(g, x, o, runs)), *x[1:]),
    "time_first": time_first,
}
