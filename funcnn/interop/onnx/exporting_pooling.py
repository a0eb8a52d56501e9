"""The table of poolings."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from funcnn import checks
from funcnn.interop.onnx.exporting_graph import Graph, Value, fixed
from funcnn.interop.onnx.exporting_layers import (
    Leaves,
    Options,
    Rule,
    bordered,
    each_rank,
    ints,
    placed,
    turned,
)


def _window(x: Value, o: Options) -> tuple[dict[str, Any], list[int]]:
    """The attributes, and a border that is no attribute, as it is as wide as the window."""
    kernel = tuple(ints(o.kernel_size, x.rank - 2))
    how = {**placed(x, o, kernel), "ceil_mode": int(o.ceil_mode)}
    if all(pad < k for pad, k in zip(how.get("pads", ()), kernel * 2, strict=False)):
        return how, []
    if o.ceil_mode or getattr(o, "return_indices", False):
        checks.refuse(f"`padding` must be below `kernel_size` in ONNX, got {o.padding} and {kernel}")
    return how, how.pop("pads")


def _max_pool(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    how, pads = _window(x, o)
    if not o.return_indices:
        return g.MaxPool(bordered(g, x, pads, "constant", -np.inf), **how)
    out, found = g.MaxPool(x, outputs=2, **how)  # which counts over the batch and the channels, too
    return out, g.marked(g.Mod(found, prod(fixed(x, *range(2, x.rank)))), np.int64)


def _max_unpool(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    values, found = x
    kernel = tuple(ints(o.kernel_size, values.rank - 2))
    at, sizes = placed(values, o, kernel), fixed(values, *range(2, values.rank))
    steps = zip(sizes, at["strides"], kernel, at["pads"], strict=False)
    least = [(n - 1) * step + k - 2 * pad for n, step, k, pad in steps]
    many = least if o.output_size is None else ints(o.output_size, len(kernel))
    start = g.Concat(g.Shape(values, start=0, end=2), [prod(many)], axis=0)
    rows, places = g.Reshape(values, [0, 0, -1]), g.Reshape(found, [0, 0, -1])
    out = g.ScatterElements(g.Expand(0.0, start), places, rows, axis=2)
    return g.Reshape(out, [0, 0, *many])


def _unpooled(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    g.takes(x[1], np.int64)
    return turned(_max_unpool)(g, x, o, p)


def _avg_pool(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    how, pads = _window(x, o)
    how["count_include_pad"] = int(o.count_include_pad)
    out = g.AveragePool(bordered(g, x, pads, "constant", 0.0), **how)
    if not pads or o.count_include_pad:
        return out
    counted = g.AveragePool(bordered(g, g.Expand(1.0, g.Shape(x)), pads, "constant", 0.0), **how)
    return g.Div(out, g.Max(counted, 0.5 / prod(how["kernel_shape"])))  # 0 where nothing is seen


def _lp_pool(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    (window, _), power = _window(x, o), float(o.norm_type)
    means = g.AveragePool(g.Pow(g.Abs(x), power), **window)
    return g.Pow(g.Mul(means, float(prod(window["kernel_shape"]))), 1 / power)


def _global(reduce: str) -> Rule:
    def rule(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
        return g.add(reduce, x, [1] if x.rank == 3 else list(range(2, x.rank)), keepdims=0)

    return rule


def _adaptive(pool: str, reduce: str) -> Rule:
    """Bins of one size are windows; others are cut out one by one."""

    def rule(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
        places = ints(o.output_size, x.rank - 2)
        if set(places) == {1}:
            return g.add(reduce, x, list(range(2, x.rank)))
        sizes = fixed(x, *range(2, x.rank))
        kernel = [n // count for n, count in zip(sizes, places, strict=True)]
        if [k * count for k, count in zip(kernel, places, strict=True)] == list(sizes):
            return g.add(pool, x, kernel_shape=kernel, strides=kernel)
        out: Any = x
        for axis, (n, count) in enumerate(zip(sizes, places, strict=True), 2):
            ends = [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
            bins = [g.Slice(out, [low], [high], [axis]) for low, high in ends]
            out = g.Concat(*(g.add(reduce, one, [axis]) for one in bins), axis=axis)
        return out

    return rule


POOLING: dict[str, Rule] = {
    **each_rank("max_pool", _max_pool),
    **dict.fromkeys(("max_unpool", "max_unpool1d", "max_unpool3d"), _unpooled),
    **each_rank("avg_pool", _avg_pool),
    **each_rank("lp_pool", _lp_pool),
    **each_rank("adaptive_avg_pool", _adaptive("AveragePool", "ReduceMean")),
    **each_rank("adaptive_max_pool", _adaptive("MaxPool", "ReduceMax")),
    "global_avg_pool": _global("ReduceMean"),
    "global_max_pool": _global("ReduceMax"),
}
