"""Rules for ``ai.onnx.ml``, of which skl2onnx makes what stands around scikit-learn's networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcnn import checks
from funcnn.interop.onnx.loading_operators import operator
from funcnn.interop.onnx.loading_values import Node


def _scaler(node: Node) -> Any:
    """Less the offsets, times the scales."""
    features = node.wire().shapes[0][-1]
    out = node.wire()
    for name, kind in (("offset", "Sub"), ("scale", "Mul")):
        if not (numbers := node.option(name, ())):
            continue
        if len(numbers) not in (1, features):
            checks.refuse(f"attribute {name} must be of 1 or {features} numbers, got {len(numbers)}")
        out = node.emit(operator(kind, inputs=2, constants={"1": ("float32", numbers)}), out)
    return out


def _chosen(node: Node) -> Any:
    """Along the last axis: the classes by the place of the most probable."""
    constants, wires = {}, []
    for at in (0, 1):
        fixed = node.const(at)
        if fixed is None:
            wires.append(node.wire(at))
        else:
            constants[str(at)] = (str(fixed.dtype), tuple(map(tuple, fixed.reshape(1, -1).tolist())))
    layer = operator("Gather", inputs=2, attributes={"axis": -1}, constants=constants)
    return node.emit(layer, *wires, dtype=getattr(node.inputs[0], "dtype", ""))


def _columns(node: Node) -> Any:
    """The array itself, whose columns get names."""
    node.read |= {"classlabels_int64s", "classlabels_strings"}
    return node.inputs[0]


LEARNERS: dict[str, Callable[[Node], Any]] = {
    "ArrayFeatureExtractor": _chosen,
    "Scaler": _scaler,
    "ZipMap": _columns,
}
