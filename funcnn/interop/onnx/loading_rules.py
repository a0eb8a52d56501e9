"""Which nodes of ONNX are layers of this library: one rule for each operator.

A rule takes a `Node` and gives its output, a list of several, or None where it does not apply: then the
node becomes an operator without parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from funcnn import checks, combinators, layers as f
from funcnn.interop.onnx.loading_files import DTYPES
from funcnn.interop.onnx.loading_learners import LEARNERS
from funcnn.interop.onnx.loading_operators import OPERATORS, operator
from funcnn.interop.onnx.loading_resizing import RESIZING
from funcnn.interop.onnx.loading_sequences import SEQUENCES
from funcnn.interop.onnx.loading_values import Node, Stored, Wire, transposed
from funcnn.interop.onnx.loading_windows import WINDOWS, channels_last
from funcnn.types import Layer

Rule = Callable[[Node], Any]

# --- element by element -----------------------------------------------------------------------------


def _plain(build: Callable[..., Layer[Any, Any]], **options: float | str) -> Rule:
    """A layer of floats, with the attributes as arguments in their order."""

    def rule(node: Node) -> Any:
        if not node.takes_floats():
            return None
        given = [node.option(name, default) for name, default in options.items()]
        node.read.add("consumed_inputs")  # of opset 6, where it said nothing
        return node.emit(build(*given))

    return rule


def _default(build: Callable[[], Layer[Any, Any]], **options: float) -> Rule:
    """A layer that has these attributes and no others."""

    def rule(node: Node) -> Any:
        known = OPERATORS[node.kind].attributes
        given = {name: node.options.get(name, known[name]) for name in options}
        same = all(abs(given[name] - value) < 1e-6 for name, value in options.items())
        if not node.takes_floats() or not same:
            return None
        node.read |= options.keys()
        return node.emit(build())

    return rule


def _softmax(build: Callable[..., Layer[Any, Any]]) -> Rule:
    def rule(node: Node) -> Any:
        if not node.takes_floats():
            return None
        rank, axis = node.wire().rank, node.axis(-1 if node.version > 12 else 1)
        if axis % rank == 0 or (node.version <= 12 and axis % rank != rank - 1):
            return None
        return node.emit(build(axis if axis < 0 or axis != rank - 1 else -1))

    return rule


def _clip(node: Node) -> Any:
    """Between two bounds, often 0 and 6."""
    low, high = node.stored(1), node.stored(2)
    if not node.takes_floats() or low is None or high is None or low.size != 1 or high.size != 1:
        return None
    bottom, top = float(low.item()), float(high.item())
    if not -np.inf < bottom < top < np.inf:
        return None
    return node.emit(f.relu6() if (bottom, top) == (0.0, 6.0) else f.hard_tanh(bottom, top))


def _joined(how: str) -> Rule:
    """Several arrays of one shape, which `funcnn.merge` takes."""

    def rule(node: Node) -> Any:
        places = range(len(node.inputs))
        if how == "sum" and (found := _biased(node)) is not None:
            return found
        if len(places) < 2 or not node.takes_floats(*places):
            return None
        wires = [node.wire(at) for at in places]
        if any(wire.shapes != wires[0].shapes or wire.dtype != wires[0].dtype for wire in wires):
            return None
        node.only("broadcast", 0, 1)
        return node.emit(combinators.merge(how), *wires)

    return rule


def _biased(node: Node) -> Any:
    """A vector added to a product, as its bias."""
    if len(node.inputs) != 2:
        return None
    at = 0 if node.takes_floats(0) else 1
    bias, wire = node.inputs[1 - at], node.inputs[at]
    if not isinstance(bias, Stored) or not bias.trainable or not node.alone[at]:
        return None
    return node.builder.biased(wire, bias) if isinstance(wire, Wire) else None


def _dropout(node: Node) -> Any:
    rate = node.stored(1) if node.has(1) else np.float32(0.5)
    training = node.const(2) if node.has(2) else np.bool_(False)
    node.read |= {"seed", "is_test"}
    if not node.takes_floats() or training is None or bool(training):
        checks.refuse("it must not be in training mode, which a key asks for here")
    if any(node.used[1:]):
        checks.refuse("output 1, the mask, is not known here")
    if rate is None or not 0 <= float(rate) < 1:
        checks.refuse("the ratio must be a constant from 0 up to 1, without it")
    return node.emit(f.dropout(float(str(np.float32(rate)))))


# --- products ---------------------------------------------------------------------------------------


def _dense(node: Node, weight: Any, bias: Any, sources: dict[str, str]) -> Any:
    """A product with a matrix of the file, of vectors or of each time step."""
    wire = node.wire()
    params = {"weight": np.ascontiguousarray(weight)} | ({} if bias is None else {"bias": bias})
    layer: Layer[Any, Any] = f.dense(len(weight), bias=bias is not None)
    layer = layer if wire.rank == 2 else combinators.time_distributed(layer)
    return node.emit(layer, params=params, sources=sources)


def _trainable(node: Node, at: int) -> bool:
    value = node.inputs[at] if at < len(node.inputs) else None
    return isinstance(value, Stored) and value.trainable


def _matmul(node: Node) -> Any:
    if not node.takes_floats() or not _trainable(node, 1):
        return None
    weight = node.array(1)
    if weight.ndim != 2 or node.wire().rank not in (2, 3) or 0 in weight.shape:
        return None
    return _dense(node, weight.T, None, {"weight": transposed(node.source(1))})


def _gemm(node: Node) -> Any:
    plain = (node.option("alpha", 1.0), node.option("transA", 0)) == (1.0, 0)
    beta = node.option("beta", 1.0)
    node.only("broadcast", 0, 1)
    if not plain or not node.takes_floats() or not _trainable(node, 1) or node.array(1).ndim != 2:
        return None
    turned = not node.option("transB", 0)
    weight, source = node.array(1), node.source(1)
    weight, source = (weight.T, transposed(source)) if turned else (weight, source)
    if not node.has(2):
        return _dense(node, weight, None, {"weight": source})
    if not _trainable(node, 2) or beta != 1 or node.array(2).size != len(weight):
        return None
    sources = {"weight": source, "bias": node.source(2)}
    return _dense(node, weight, node.array(2).reshape(-1), sources)


def _gather(node: Node) -> Any:
    """Rows of a table, for a batch of sequences of integers."""
    value, table = node.inputs[1], node.inputs[0]
    if not isinstance(value, Wire) or value.rank != 2 or not _trainable(node, 0) or value.is_float:
        return None
    assert isinstance(table, Stored)
    if node.option("axis", 0) != 0 or table.array.ndim != 2 or node.const(1) is not None:
        return None
    layer = f.embedding(*table.array.shape)
    params, sources = {"weight": table.array}, {"weight": table.name}
    return node.emit(layer, value, params=params, sources=sources, dtype=table.dtype)


# --- moving -----------------------------------------------------------------------------------------


_NUMBERS = {"value": None, "value_float": np.float32, "value_int": np.int64}
_NUMBERS |= {"value_floats": np.float32, "value_ints": np.int64}


def _constant(node: Node) -> Any:
    for name, dtype in _NUMBERS.items():
        if name in node.options:
            node.read.add(name)
            return Stored(np.asarray(node.options[name], dtype), "", False)
    return checks.refuse("it must hold numbers")


def _reshaped(node: Node) -> Any:
    """What keeps the batch axis is a layer; a size that follows from the others is -1."""
    wire, target = node.wire(), node.values(1)
    if target is None or isinstance(node.inputs[0], Stored) or 0 in wire.shapes[0]:
        return None
    zero = node.option("allowzero", 0) == 0
    sizes = []
    for at, pair in enumerate(zip(*(part.ravel().tolist() for part in target), strict=True)):
        here = tuple(shape[at] if at < wire.rank else None for shape in wire.shapes)
        if at == 0 and pair == (-1, -1) and target[0].size > 1:  # all that the others leave
            pair = tuple(
                prod(shape) // max(1, prod(part[1:].tolist()))
                for shape, part in zip(wire.shapes, target, strict=True)
            )
            pair = pair if pair == here else (-1, -1)
        if (at == 0 and pair == here) or (pair == (0, 0) and zero):
            sizes.append(0)
        elif pair[0] == pair[1]:
            sizes.append(pair[0])
        else:
            sizes.append(0 if pair == here else -1)
    if sizes.count(-1) > 1:
        return None
    if sizes and sizes[0] == 0 and 0 not in sizes[1:] and node.takes_floats() and len(sizes) > 1:
        return node.emit(f.flatten() if sizes == [0, -1] and wire.rank > 1 else f.reshape(*sizes[1:]))
    fixed = {"1": ("int64", tuple(sizes))}
    layer = operator("Reshape", inputs=2, attributes={"allowzero": 0}, constants=fixed)
    return node.emit(layer, base="reshape")


def _flatten(node: Node) -> Any:
    plain = node.option("axis", 1) == 1 and node.takes_floats() and node.wire().rank > 1
    return node.emit(f.flatten()) if plain else None


def _transposed(node: Node) -> Any:
    perm: tuple[Any, ...] = node.option("perm", ())
    matrix = node.inputs[0]
    if isinstance(matrix, Stored) and matrix.trainable and matrix.array.ndim == 2 and perm != (0, 1):
        return matrix.turned
    if not node.takes_floats() or len(perm) != node.wire().rank or perm[0] != 0 or len(perm) < 3:
        return None
    return node.emit(f.transpose(*perm[1:]))


def _concatenated(node: Node) -> Any:
    places = range(len(node.inputs))
    if not node.takes_floats(*places) or (axis := node.axis(1)) % node.wire().rank == 0:
        return None
    return node.emit(f.concatenate(axis), *map(node.wire, places)) if len(places) > 1 else None


def _identity(node: Node) -> Any:
    """Nothing: but what shares an array only because its numbers are equal is parted."""
    value = node.inputs[0]
    return value._replace(name="") if isinstance(value, Stored) else value


def _cast(node: Node) -> Any:
    """To the type that it has already, nothing."""
    value = node.inputs[0]
    same = isinstance(value, Wire) and DTYPES.get(node.options.get("to", 0)) == value.dtype
    node.read |= {"to", "saturate", "round_mode"} if same else set()
    return value if same else None


def _mean(node: Node) -> Any:
    """The mean of images over both axes is a layer."""
    axes = node.const(1)
    if axes is None or not node.takes_floats() or node.wire().rank != 4:
        return None
    if sorted(range(4)[int(axis)] for axis in axes.ravel()) != [2, 3] or node.option("keepdims", 1):
        return None
    node.read.add("noop_with_empty_axes")
    return node.emit(f.global_avg_pool())


def _prelu(node: Node) -> Any:
    """One slope for all, or one for each channel."""
    if not node.takes_floats() or not _trainable(node, 1):
        return None
    slope, shape = node.array(1), node.wire().shapes[0]
    channels = (*shape[1:2], *(1,) * len(shape[2:]))
    of_channels = [channels, (1, *channels)] + [shape[1:2]] * (node.version < 7)
    if slope.size != 1 and slope.shape not in of_channels:
        return None
    layer = f.prelu(per_channel=slope.size > 1)
    params, sources = {"slope": slope.reshape(-1)}, {"slope": node.source(1)}
    return channels_last(node, layer, params=params, sources=sources)


RULES: dict[str, Rule] = {
    "Relu": _plain(f.relu),
    "Sigmoid": _plain(f.sigmoid),
    "Tanh": _plain(f.tanh),
    "Softplus": _plain(f.softplus),
    "Softsign": _plain(f.softsign),
    "Mish": _plain(f.mish),
    "HardSwish": _plain(f.hard_swish),
    "Elu": _plain(f.elu, alpha=1.0),
    "Celu": _plain(f.celu, alpha=1.0),
    "LeakyRelu": _plain(f.leaky_relu, alpha=0.01),
    "Gelu": _plain(f.gelu, approximate="none"),
    "Selu": _default(f.selu, alpha=1.6732632, gamma=1.050701),
    "HardSigmoid": _default(f.hard_sigmoid, alpha=1 / 6, beta=0.5),
    "Swish": _default(f.silu, alpha=1.0),
    "Softmax": _softmax(f.softmax),
    "LogSoftmax": _softmax(f.log_softmax),
    "Clip": _clip,
    "PRelu": _prelu,
    "Dropout": _dropout,
    "Add": _joined("sum"),
    "Sum": _joined("sum"),
    "Mul": _joined("product"),
    "Mean": _joined("mean"),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Gather": _gather,
    "Constant": _constant,
    "Reshape": _reshaped,
    "Flatten": _flatten,
    "Transpose": _transposed,
    "Concat": _concatenated,
    "Identity": _identity,
    "Cast": _cast,
    "ReduceMean": _mean,
    **WINDOWS,
    **RESIZING,
    **SEQUENCES,
    **LEARNERS,
}
