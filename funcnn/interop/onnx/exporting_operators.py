"""The table of layers that only `load` makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn.interop.onnx.exporting_graph import Graph, Value, listed, tensor
from funcnn.interop.onnx.exporting_layers import Leaves, Options, Rule, several
from funcnn.interop.onnx.exporting_shapes import deeper
from funcnn.interop.onnx.loading_operators import OPERATORS, constant_arrays, dtypes_of

_OURS = {"coerced", "dtype", "value", "to"}
"""Attributes that ONNX has not, or in another form."""


def _operator(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    """The operator that the layer was, in its newest version."""
    inputs: list[Any] = list(several(x))
    for at, dtype in (o.takes or {}).items():
        g.takes(inputs[int(at)], dtype)
    kinds = [str(g.kinds.get(one.name, g.dtype)) for one in inputs]
    floats = [kind for kind in kinds if kind.startswith("float")]
    for at, array in sorted(constant_arrays(o.constants).items()):
        if array is not None and array.dtype.kind == "f" and floats:
            array = array.astype(floats[0])
        inputs.insert(at, None if array is None else g.exact(array))
        kinds.insert(at, "" if array is None else str(array.dtype))
    given = dict(o.attributes or {})
    dtypes = dtypes_of(o.kind, given, kinds)
    write: Callable[..., Any] = _ANOTHER.get(o.kind, _same)
    names = write(g, o.kind, inputs, given)
    every = names if isinstance(names, list) else [names]
    for at, name in enumerate(every):
        if (dtype := dtypes[min(at, len(dtypes) - 1)]) != str(g.dtype):
            g.marked(name, dtype)
    return tuple(every) if isinstance(names, list) else names


def _same(g: Graph, kind: str, inputs: list[Any], given: dict[str, Any], **more: Any) -> Any:
    known = {name: one for name, one in given.items() if name not in _OURS and one is not None}
    return g.add(kind, *inputs, **{"outputs": OPERATORS[kind].outputs, **known, **more})


def _filled(g: Graph, kind: str, inputs: list[Any], given: dict[str, Any]) -> Any:
    value = np.array([given.get("value", 0)], given["dtype"])
    return g.ConstantOfShape(inputs[0], value=tensor("", value))


def _split(g: Graph, kind: str, inputs: list[Any], given: dict[str, Any]) -> Any:
    count = given["num_outputs"]
    if len(inputs) > 1:
        given = {name: one for name, one in given.items() if name != "num_outputs"}
    found = _same(g, kind, inputs, given, outputs=count)
    return [found] if count == 1 else found


def _softmax(g: Graph, kind: str, inputs: list[Any], given: dict[str, Any]) -> Any:
    """Up to version 12 along all axes from one on."""
    if not given.get("coerced", 0):
        return _same(g, kind, inputs, given)
    rows = g.Flatten(inputs[0], axis=given.get("axis", -1))
    return g.Reshape(g.add(kind, rows, axis=1), g.Shape(inputs[0]))


def _blocks(g: Graph, kind: str, inputs: list[Any], given: dict[str, Any]) -> Any:
    """Whose other mode is of a later opset."""
    if given.get("mode", "DCR") == "DCR":
        return g.SpaceToDepth(inputs[0], blocksize=given["blocksize"])
    return deeper(g, inputs[0], given["blocksize"])


def _swish(g: Graph, kind: str, inputs: list[Any], given: dict[str, Any]) -> Any:
    """Which is of a later opset."""
    return g.Mul(inputs[0], g.Sigmoid(g.Mul(inputs[0], float(given.get("alpha", 1)))))


_ANOTHER: dict[str, Callable[..., Any]] = {
    "Cast": lambda g, kind, inputs, given: g.cast(inputs[0], given["to"]),
    "ConstantOfShape": _filled,
    "Split": _split,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "SpaceToDepth": _blocks,
    "Swish": _swish,
}
"""Operators that are written in another form than they are held."""


LOADED: dict[str, Rule] = {
    "operator": _operator,
    "weight": lambda g, x, o, p: g.Identity(p["value"]),
}
"""Of `time_first`, see the table of combinators."""


def time_first(g: Graph, x: Any, o: Options, runs: dict[str, Callable[[Any], Any]]) -> Any:
    """What is inside takes the batch in front, and first states; both are turned here."""
    (inner,) = o.inside
    pair, lengths = inner.kind == "lstm", bool(inner.options["lengths"])
    directions, hidden = 1 + bool(inner.options["bidirectional"]), inner.args[0]
    first, *rest = several(x)
    length = [rest.pop()] if lengths else []

    def turned(value: Value) -> Value:
        return value if o.batch_first else value.turned(g.Transpose(value, perm=[1, 0, 2]), 1, 0, 2)

    first = turned(first)
    states = tuple(map(turned, rest))
    if not o.states:
        start = g.Expand(0.0, g.Concat(listed(g.size(first, 0)), [directions, hidden], axis=0))
        states = (first.resized(start, directions, hidden),) * (1 + pair)
    (run,) = runs.values()
    out, carry = run((first, states if pair else states[0], *length))
    apart = g.Reshape(out, [0, 0, directions, hidden])
    out = apart if o.batch_first else g.Transpose(apart, perm=[1, 2, 0, 3])
    return (out, *(turned(one).name for one in several(carry)))
