"""Rules for convolutions, pooling and normalisations: see `loading_rules`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import checks, layers as f
from funcnn.checks import shown
from funcnn.interop.onnx.loading_operators import operator
from funcnn.interop.onnx.loading_values import Node, Wire
from funcnn.types import Layer

_CONV: dict[int, Callable[..., Layer[Any, Any]]] = {1: f.conv1d, 2: f.conv, 3: f.conv3d}
_MAX: dict[int, Callable[..., Layer[Any, Any]]] = {1: f.max_pool1d, 2: f.max_pool, 3: f.max_pool3d}
_AVERAGE: dict[int, Callable[..., Layer[Any, Any]]] = {1: f.avg_pool1d, 2: f.avg_pool, 3: f.avg_pool3d}
_TRANSPOSED: dict[int, Callable[..., Layer[Any, Any]]] = {
    1: f.conv_transpose1d, 2: f.conv_transpose, 3: f.conv_transpose3d,
}  # fmt: skip
_NORM: dict[int, Callable[..., Layer[Any, Any]]] = {1: f.lp_pool1d, 2: f.lp_pool, 3: f.lp_pool3d}


def channels_last(node: Node, layer: Layer[Any, Any], *wires: Wire, **options: Any) -> Any:
    """A layer of sequences has their features last, ONNX behind the batch."""
    wire = wires[0] if wires else node.wire()
    if wire.rank != 3:
        return node.emit(layer, wire, **options)
    turned = node.builder.turned(wire)
    return node.builder.turned(node.emit(layer, turned, **options))


def floats(node: Node) -> Wire:
    if not node.takes_floats():
        checks.refuse("its input must be an array of floats with at least one axis")
    return node.wire()


def alike(numbers: tuple[Any, ...]) -> Any:
    """A number where it is the same for all axes: as one would write it."""
    return numbers[0] if len(set(numbers)) == 1 else numbers


# --- windows ----------------------------------------------------------------------------------------


def _numbers(node: Node, name: str, count: int, default: int, least: int = 1) -> tuple[int, ...]:
    found = node.option(name, (default,) * count)
    if len(found) != count or not all(isinstance(n, int) and least <= n < 1 << 31 for n in found):
        checks.refuse(f"attribute {name} must be {count} numbers from {least} up, got {shown(found)}")
    return tuple(found)


class _Window:
    """Kernel, stride, dilation and padding of a node, on each axis of space."""

    def __init__(self, node: Node, kernel: tuple[int, ...] | None = None) -> None:
        self.wire = floats(node)
        self.axes = self.wire.rank - 2
        if not 1 <= self.axes <= 3:
            checks.refuse(f"its input must have 3 to 5 axes, got {self.wire.rank}")
        if kernel is None and "kernel_shape" not in node.options:
            checks.refuse("attribute kernel_shape must be given")
        node.options.setdefault("kernel_shape", kernel)
        self.kernel = _numbers(node, "kernel_shape", self.axes, 1)
        if kernel not in (None, self.kernel):
            checks.refuse(f"attribute kernel_shape must be {kernel}, got {self.kernel}")
        self.stride = _numbers(node, "strides", self.axes, 1)
        self.dilation = _numbers(node, "dilations", self.axes, 1)
        self.ceil = bool(node.option("ceil_mode", 0))
        pads = _numbers(node, "pads", 2 * self.axes, 0, 0)
        word = node.option("auto_pad", "NOTSET")
        if word not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            checks.refuse(f"attribute auto_pad must be a word of ONNX, got {shown(word)}")
        self.pads = tuple(zip(pads[: self.axes], pads[self.axes :], strict=True))
        wide = [max(pair) >= k for pair, k in zip(self.pads, self.kernel, strict=True)]
        if kernel is None and any(wide):
            checks.refuse(f"attribute pads must be below kernel_shape {self.kernel}, got {pads}")
        if word == "VALID":
            self.pads = ((0, 0),) * self.axes
        if word.startswith("SAME"):
            both = [self._same(shape[2:], word) for shape in self.wire.shapes]
            if both[0] != both[1]:
                checks.refuse(f"auto_pad {word} must mean one padding: give `shape`")
            self.pads = both[0]

    def _same(self, sizes: tuple[int, ...], word: str) -> tuple[tuple[int, int], ...]:
        """As many places as there are steps, the odd one at the end or at the start."""
        found = []
        for n, k, s, d in zip(sizes, self.kernel, self.stride, self.dilation, strict=True):
            total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
            less = total // 2
            found.append((less, total - less) if word == "SAME_UPPER" else (total - less, less))
        return tuple(found)

    @property
    def padding(self) -> Any:
        """As a layer has it: a number, or one for each axis, or pairs."""
        return alike(tuple(a if a == b else (a, b) for a, b in self.pads)) if self._even else self.pads

    @property
    def _even(self) -> bool:
        return all(before == after for before, after in self.pads)

    def within(self, node: Node, value: float) -> Wire:
        """The input of a pooling, with a border of its own where that is more than half of a kernel."""
        sizes = zip(self.pads, self.kernel, strict=True)
        if all(max(pair) <= k // 2 for pair, k in sizes):
            return self.wire
        befores, afters = zip(*self.pads, strict=True)
        self.pads = ((0, 0),) * self.axes
        pads = ("int64", (0, 0, *befores, 0, 0, *afters))
        layer = operator("Pad", inputs=3, constants={"1": pads, "2": ("float32", value)})
        found: Wire = node.emit(layer, self.wire, base="pad")
        return found


def _leaves(node: Node, *names: str) -> dict[str, Any]:
    """The arrays of the file behind the first input, as options of `emit`."""
    places = {name: at for at, name in enumerate(names, 1) if node.has(at)}
    params = {name: node.array(at) for name, at in places.items()}
    return {"params": params, "sources": {name: node.source(at) for name, at in places.items()}}


def _conv(node: Node) -> Any:
    weight = node.array(1)
    w = _Window(node, weight.shape[2:])
    layer = _CONV[w.axes](
        len(weight), alike(w.kernel), stride=alike(w.stride), padding=w.padding,
        dilation=alike(w.dilation), groups=node.option("group", 1), bias=node.has(2),
    )  # fmt: skip
    return channels_last(node, layer, **_leaves(node, "weight", "bias"))


def _conv_transpose(node: Node) -> Any:
    weight, word = node.array(1), node.options.pop("auto_pad", "NOTSET")
    w = _Window(node, weight.shape[2:])
    more = _numbers(node, "output_padding", w.axes, 0, 0)
    pads = _cut_off(node, w, word, more)
    more = tuple(extra - min(0, after) for extra, (_, after) in zip(more, pads, strict=True))
    pads = tuple((before, max(0, after)) for before, after in pads)
    groups, even = node.option("group", 1), all(before == after for before, after in pads)
    layer = _TRANSPOSED[w.axes](
        weight.shape[1] * groups, alike(w.kernel), stride=alike(w.stride),
        padding=alike(tuple(before for before, _ in pads)) if even else 0,
        output_padding=alike(more), dilation=alike(w.dilation), groups=groups, bias=node.has(2),
    )  # fmt: skip
    out = channels_last(node, layer, **_leaves(node, "weight", "bias"))
    return out if even else channels_last(node, f.crop(pads), out)


def _cut_off(node: Node, w: _Window, word: str, more: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """How much of a transposed convolution falls away, where its size is said instead."""
    if word not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        checks.refuse(f"attribute auto_pad must be a word of ONNX, got {shown(word)}")
    sizes = node.option("output_shape", ())
    if not sizes and not word.startswith("SAME"):
        return ((0, 0),) * w.axes if word == "VALID" else w.pads
    both = []
    for shape in w.wire.shapes:
        steps = zip(shape[2:], w.stride, w.kernel, w.dilation, more, strict=True)
        whole = [(n - 1) * s + (k - 1) * d + 1 + extra for n, s, k, d, extra in steps]
        wanted = sizes or tuple(n * s for n, s in zip(shape[2:], w.stride, strict=True))
        both.append([n - size for n, size in zip(whole, wanted[-w.axes :], strict=True)])
    if both[0] != both[1] or min(both[0]) < -1:
        checks.refuse(f"attribute output_shape must be of one size near the whole, got {sizes}")
    halves = [(total // 2, total - total // 2) for total in both[0]]
    return tuple(pair if word == "SAME_UPPER" else pair[::-1] for pair in halves)


def _max_pool(node: Node) -> Any:
    w = _Window(node)
    node.only("storage_order", 0)
    if any(node.used[1:]):
        pads = tuple(zip(*w.pads, strict=True))
        window = {"kernel_shape": w.kernel, "strides": w.stride, "dilations": w.dilation}
        given = {**window, "pads": pads[0] + pads[1], "ceil_mode": int(w.ceil)}
        return node.emit(operator("MaxPool", attributes=given), dtype=[w.wire.dtype, "int64"])
    wire = w.within(node, -np.inf)
    layer = _MAX[w.axes](
        alike(w.kernel), stride=alike(w.stride), padding=w.padding, dilation=alike(w.dilation),
        ceil_mode=w.ceil,
    )  # fmt: skip
    return channels_last(node, layer, wire)


def _average_pool(node: Node) -> Any:
    w = _Window(node)
    counted = bool(node.option("count_include_pad", 0))
    wire = w.within(node, 0.0) if counted and not w.ceil else w.wire
    layer = _AVERAGE[w.axes](
        alike(w.kernel), stride=alike(w.stride), padding=w.padding, dilation=alike(w.dilation),
        ceil_mode=w.ceil, count_include_pad=counted or w.padding == 0,
    )  # fmt: skip
    return channels_last(node, layer, wire)


def _lp_pool(node: Node) -> Any:
    w = _Window(node)
    node.only("dilations", (1,) * w.axes)
    if any(map(any, w.pads)):
        checks.refuse("attribute pads must be 0")
    order = float(node.options.get("p", 2))
    node.read.add("p")
    layer = _NORM[w.axes](alike(w.kernel), norm_type=order, stride=alike(w.stride), ceil_mode=w.ceil)
    return channels_last(node, layer)


def _global(build: Callable[[], Layer[Any, Any]]) -> Callable[[Node], Any]:
    """One number for each channel, in axes of size 1."""

    def rule(node: Node) -> Any:
        wire = floats(node)
        if not 3 <= wire.rank <= 5:
            checks.refuse(f"its input must have 3 to 5 axes, got {wire.rank}")
        out = node.emit(build(), node.builder.turned(wire) if wire.rank == 3 else wire)
        return node.emit(f.reshape(wire.shapes[0][1], *(1,) * (wire.rank - 2)), out)

    return rule


# --- normalisation ----------------------------------------------------------------------------------


def _batch_norm(node: Node) -> Any:
    node.only("training_mode", 0)
    node.only("spatial", 1)
    node.only("is_test", 0, 1)
    node.only("consumed_inputs", None, (0, 0, 0, 1, 1))
    floats(node)
    if node.wire().rank < 2:
        checks.refuse("its input must have at least 2 axes")
    found = _leaves(node, "scale", "bias", "running_mean", "running_var")
    momentum = round(1 - node.option("momentum", 0.9), 9)
    layer = f.batch_norm(momentum=momentum, epsilon=node.option("epsilon", 1e-5))
    return channels_last(node, layer, **found)


def _instance_norm(node: Node) -> Any:
    floats(node)
    node.only("consumed_inputs", None)
    layer = f.instance_norm(epsilon=node.option("epsilon", 1e-5), affine=True)
    return channels_last(node, layer, **_leaves(node, "scale", "bias"))


def _group_norm(node: Node) -> Any:
    channels, groups = floats(node).shapes[0][1], node.option("num_groups", 1)
    node.only("stash_type", 1)
    found = _leaves(node, "scale", "bias")
    if node.version < 21 and groups > 0 and channels % groups == 0:  # then one for each group
        each = channels // groups
        found["params"] = {name: np.repeat(leaf, each) for name, leaf in found["params"].items()}
        found["sources"] = {}
    layer = f.group_norm(groups, epsilon=node.option("epsilon", 1e-5))
    return channels_last(node, layer, **found)


def _layer_norm(node: Node) -> Any:
    wire = floats(node)
    node.only("stash_type", 1)
    if any(node.used[1:]):
        checks.refuse("its outputs but for the first are not known here")
    first = node.axis(-1) % wire.rank
    axes = tuple(range(first, wire.rank))
    build: Any = f.rms_norm if node.kind == "RMSNormalization" else f.layer_norm
    more = {} if node.kind == "RMSNormalization" else {"bias": node.has(2)}
    layer = build(axes if len(axes) > 1 else -1, epsilon=node.option("epsilon", 1e-5), **more)
    return node.emit(layer, wire, **_leaves(node, "scale", "bias"))


def _local_norm(node: Node) -> Any:
    floats(node)
    options = {name: node.option(name, value) for name, value in (("alpha", 1e-4), ("beta", 0.75))}
    return node.emit(
        f.local_response_norm(node.option("size", 0), k=node.option("bias", 1.0), **options)
    )


WINDOWS: dict[str, Callable[[Node], Any]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global(f.global_avg_pool),
    "GlobalMaxPool": _global(f.global_max_pool),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _layer_norm,
    "LRN": _local_norm,
}
