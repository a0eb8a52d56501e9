"""What the operators of ONNX were in older versions, made what they are in the newest."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks
from funcnn.checks import shown
from funcnn.interop.onnx.loading_files import DTYPES
from funcnn.interop.onnx.loading_operators import OPERATORS
from funcnn.interop.onnx.loading_values import Missing, Node, Stored

_MOVED: dict[str, tuple[tuple[str, int], ...]] = {
    "Squeeze": (("axes", 1),),
    "Unsqueeze": (("axes", 1),),
    "Slice": (("starts", 1), ("ends", 2), ("axes", 3)),
    "Pad": (("pads", 1), ("value", 2)),
    "Clip": (("min", 1), ("max", 2)),
    "Split": (("split", 1),),
    "Reshape": (("shape", 1),),
    "Tile": (("repeats", 1),),
    "Dropout": (("ratio", 1),),
    "TopK": (("k", 1),),
    "Upsample": (("scales", 1),),
    **{kind: (("axes", 1),) for kind in OPERATORS if kind.startswith("Reduce")},
}
"""Attributes that later versions have as inputs: names and places."""

_FLOATS = ("min", "max", "value", "ratio", "scales")


def as_inputs(node: Node) -> None:
    """Make inputs of the attributes that are inputs in the newest version."""
    for name, at in _MOVED.get(node.kind, ()):
        if name in node.options:
            given = node.options.pop(name)
            if not isinstance(given, (int, float, tuple)):
                checks.refuse(f"attribute {name} must be of numbers, got {shown(given)}")
            value = np.asarray(given, np.float32 if name in _FLOATS else np.int64)
            node.inputs += [Missing()] * (at + 1 - len(node.inputs))
            node.inputs[at] = Stored(value, "", False)


def settled(node: Node) -> dict[str, Any]:
    """The attributes of an operator, each of its kind, and what depends on the version."""
    options, known = node.options, OPERATORS[node.kind].attributes
    if node.version < 7:  # the axes at the end were the same as today's, where `axis` was not given
        node.only("broadcast", 0, 1)
        node.read.add("consumed_inputs")
    if node.kind in ("Softmax", "LogSoftmax"):
        options.setdefault("axis", -1 if node.version > 12 else 1)
        options["coerced"] = int(node.version <= 12)
    if node.kind == "Split":
        options.setdefault("num_outputs", len(node.used))
    if node.kind == "Cast":
        if options.get("to") not in DTYPES:
            got = shown(options.get("to"))
            checks.refuse(f"attribute to must be float32, float64, integers or booleans, got {got}")
        options["to"] = DTYPES[options["to"]]
    if node.kind == "ConstantOfShape":
        value = np.ravel(options.get("value", np.float32(0)))
        if value.size != 1:
            checks.refuse(f"attribute value must be of one number, got {shown(value)}")
        options |= {"value": value[0].item(), "dtype": str(value.dtype)}
    node.read |= known.keys()
    for name, default in known.items():
        given = options.get(name, default)
        if name == "value":
            continue
        if type(given) is not type(default) and default is not None:
            checks.refuse(f"attribute {name} must be like {shown(default)}, got {shown(given)}")
        if given is None and name in ("blocksize", "axis", "equation"):
            checks.refuse(f"attribute {name} must be given")
    if options.get("reduction", "none") not in ("none", "add"):
        checks.refuse(f"attribute reduction {shown(options['reduction'])} is not known here")
    if options.get("mode", "DCR") not in ("constant", "reflect", "edge", "wrap", "DCR", "CRD"):
        checks.refuse(f"attribute mode {shown(options['mode'])} is not known here")
    return {name: value for name, value in options.items() if name in known}
