"""The table of layers for sequences: tokens, positions, attention, masks."""

from __future__ import annotations

from functools import partial, reduce
from math import sqrt
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels import positions
from funcnn.interop.onnx.exporting_graph import Graph, Value, fixed, listed
from funcnn.interop.onnx.exporting_layers import Leaves, Options, Rule, several
from funcnn.types import Array

# --- tokens and positions -------------------------------------------------------------------------


def _embedding(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    weight = p["weight"]
    if o.padding_index is not None:
        padding = np.arange(len(weight))[:, None] == o.padding_index
        weight = g.leaf("weight", g.numpy.where(padding, weight.dtype.type(0), weight))
    return g.Gather(weight, g.takes(x, np.int64))


def _embedding_bag(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    tokens, *weights = x if o.weighted else (x,)
    rows = g.Gather(p["weight"], g.takes(tokens, np.int64))
    seen = g.Not(g.Equal(tokens, np.int64(-1 if o.padding_index is None else o.padding_index)))
    if o.mode == "max":
        largest = g.ReduceMax(g.Where(g.Unsqueeze(seen, [2]), rows, -np.inf), [1], keepdims=0)
        return g.Where(g.Greater(g.ReduceMax(g.cast(seen, g.dtype), [1]), 0.0), largest, 0.0)
    kept = g.cast(seen, g.dtype)
    if weights:
        kept = g.Mul(kept, weights[0])
    total = g.ReduceSum(g.Mul(rows, g.Unsqueeze(kept, [2])), [1], keepdims=0)
    return g.Div(total, g.Max(g.ReduceSum(kept, [1]), 1.0)) if o.mode == "mean" else total


def _angles(g: Graph, x: Value, speeds: Array, behind: list[int], first: int = 0) -> Any:
    """Of each step for each feature, in float64; there are axes between them."""
    places = g.Add(g.steps(x), first) if first else g.steps(x)
    return g.Mul(g.Unsqueeze(g.cast(places, np.float64), behind), g.exact(speeds))


def _speeds(features: int, base: float) -> Array:
    exponents = np.arange(0, features, 2) / np.float64(-features)
    return numerics.power(np.full_like(exponents, base), exponents)


def _positional_encoding(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    (features,) = fixed(x, 2)
    speeds = np.repeat(_speeds(features, o.base), 2)[:features]
    quarters = np.arange(features) % 2 * (np.pi / 2)  # a cosine is a sine, a quarter ahead
    angles = g.Add(_angles(g, x, speeds, [1]), g.exact(quarters))
    return g.Add(x, g.cast(g.Sin(angles), g.dtype))


def _rotated(
    g: Graph, x: Any, like: Value, features: int, o: Options, behind: list[int], first: int
) -> Any:
    """``(a cos - b sin, b cos + a sin)``: each feature and its partner, whose sine has a sign."""
    interleaved, base = getattr(o, "interleaved", True), getattr(o, "rotary_base", None) or o.base
    places, half = np.arange(features), features // 2
    partner = places ^ 1 if interleaved else (places + half) % features
    speeds = _speeds(features, base)
    speeds = np.repeat(speeds, 2) if interleaved else np.tile(speeds, 2)
    angles = _angles(g, like, np.where(partner > places, -speeds, speeds), behind, first)
    cos, sin = g.cast(g.Cos(angles), g.dtype), g.cast(g.Sin(angles), g.dtype)
    return g.Add(g.Mul(x, cos), g.Mul(g.Gather(x, partner, axis=-1), sin))


def _away(g: Graph, q: Value, k: Value, first: int = 0) -> Any:
    """How many steps each key is behind each query."""
    rows = g.Add(g.steps(q), first) if first else g.steps(q)
    return g.Sub(g.Unsqueeze(rows, [1]), g.Unsqueeze(g.steps(k), [0]))


def _with_bias(g: Graph, x: Value, heads: int, bias: Any) -> Any:
    """A bias ``(heads, T, T)`` for each example, beside the input."""
    batch, steps = g.Shape(x, start=0, end=1), g.Shape(x, start=1, end=2)
    return x.name, g.Expand(bias, g.Concat(batch, [heads], steps, steps, axis=0))


def _alibi(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    slopes = -positions.slopes(o.heads)[:, None, None]
    return _with_bias(g, x, o.heads, g.Mul(g.cast(g.Abs(_away(g, x, x)), g.dtype), slopes))


def _relative_positions(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    most = o.max_distance  # beyond it, all are in one bucket
    table = positions.buckets(np.arange(-most, most + 1), o.buckets, most, o.both)
    at = g.Gather(table, g.Add(g.Clip(_away(g, x, x), -most, most), most))
    return _with_bias(g, x, o.heads, g.Transpose(g.Gather(p["weight"], at), perm=[2, 0, 1]))


# --- steps that count -----------------------------------------------------------------------------


def _counted(g: Graph, mask: Value, x: Value) -> Value:
    """Flags for the steps that count, of themselves or of lengths."""
    if mask.rank > 1:
        return g.takes(mask, np.bool_)
    lengths = g.Unsqueeze(g.takes(mask, np.int64), [1])
    flags = g.Less(g.Unsqueeze(g.steps(x), [0]), lengths)
    return Value(flags, tuple(shape[:2] for shape in x.shapes))


def _last_step(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    if not o.masked:
        return g.Gather(x, -1, axis=1)
    x, mask = x
    places = g.Where(_counted(g, mask, x), g.Unsqueeze(g.steps(x), [0]), -1)
    last = g.Equal(g.Unsqueeze(g.steps(x), [0]), g.ReduceMax(places, [1]))
    return g.ReduceSum(g.Where(g.Unsqueeze(last, [2]), x, 0.0), [1], keepdims=0)


def _masked_mean(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    flags = g.Unsqueeze(_counted(g, x[1], x[0]), [2])
    count = g.Max(g.ReduceSum(g.cast(flags, g.dtype), [1], keepdims=0), 1.0)
    return g.Div(g.ReduceSum(g.Where(flags, x[0], 0.0), [1], keepdims=0), count)


def _masked_max(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    flags = g.Unsqueeze(_counted(g, x[1], x[0]), [2])
    top = g.ReduceMax(g.Where(flags, x[0], -np.inf), [1], keepdims=0)
    return g.Where(g.ReduceMax(flags, [1], keepdims=0), top, 0.0)


# --- attention ------------------------------------------------------------------------------------


def _cleaned(g: Graph, x: Value, idle: Any) -> Value:
    """Without what could spoil a product in steps that do not count."""
    large = g.Not(g.Less(g.Abs(x), float(np.sqrt(np.finfo(g.dtype).max))))
    return Value(g.Where(g.And(g.Unsqueeze(idle, [2]), large), 0.0, x), x.shapes)


def _idle(g: Graph, mask: Value, itself: bool) -> Any:
    """The steps that nobody sees; if they see each other, that see nobody either."""
    if mask.rank == 2:
        return g.Not(mask)
    unseen = g.Not(g.ReduceMax(mask, [1], keepdims=0))
    return g.And(unseen, g.Not(g.ReduceMax(mask, [2], keepdims=0))) if itself else unseen


def _looked(g: Graph, rest: list[Value], o: Options, keys: Value) -> tuple[Any, Value | None]:
    """The bias of the scores and the mask, of what is behind the sequences."""
    mask = _counted(g, rest[-1], keys) if o.masked else None
    return (g.takes(rest[0], g.dtype) if o.biased else None), mask


def _seen(g: Graph, q: Value, k: Value, o: Options, mask: Value | None, heads: int) -> Any:
    """Which keys each query sees, to broadcast over the scores of so many heads; None for all."""
    found, first = [], getattr(o, "offset", 0)
    if getattr(o, "causal", False):
        found.append(g.GreaterOrEqual(_away(g, q, k, first), 0))
    if getattr(o, "window", None) is not None:
        found.append(g.LessOrEqual(g.Abs(_away(g, q, k, first)), o.window))
    if mask is not None:
        axes = list(range(1, 1 + heads + (mask.rank == 2)))
        found.append(g.Unsqueeze(mask, axes) if axes else mask)
    return reduce(g.And, found) if found else None


def _attend(g: Graph, q: Any, keys: Any, v: Any, seen: Any, bias: Any, o: Options, width: int) -> Any:
    """``softmax(scores(q keys)) v``, the keys transposed, and the softmax; 0 where nothing is seen."""
    scores = g.MatMul(g.Mul(q, o.scale or 1 / sqrt(width)), keys)
    if o.soft_cap is not None:
        scores = g.Mul(g.Tanh(g.Div(scores, float(o.soft_cap))), float(o.soft_cap))
    if bias is not None:
        shown = g.Greater(bias, -np.inf)
        scores, seen = g.Add(scores, bias), shown if seen is None else g.And(seen, shown)
    if seen is None:
        p = g.Softmax(scores)
    else:
        p = g.Where(seen, g.Softmax(g.Where(seen, scores, -np.inf)), 0.0)
    return g.MatMul(p, v), p


def _attention(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    q, k, v, *rest = x
    bias, mask = _looked(g, rest, o, k)
    v = v if mask is None else _cleaned(g, v, _idle(g, mask, itself=False))
    seen = _seen(g, q, k, o, mask, 0)
    keys = g.Transpose(k, perm=[0, 2, 1])
    both = _attend(g, q, keys, v, seen, bias, o, fixed(q, 2)[0])
    return both if o.return_weights else both[0]


def _projected(g: Graph, x: Any, name: str, p: Leaves) -> Any:
    with g.inside(name):
        out = g.MatMul(x, g.Transpose(p[name]["weight"], perm=[1, 0]))
        return g.Add(out, p[name]["bias"]) if "bias" in p[name] else out


def _heads(g: Graph, x: Any, o: Options, p: Leaves, inputs: int = 1) -> Any:
    inputs = 3 if getattr(o, "separate", False) else inputs
    sources, rest = list(several(x)[:inputs]), list(several(x)[inputs:])
    bias, mask = _looked(g, rest, o, sources[min(inputs, 2) - 1])
    if mask is not None:
        idle, first = _idle(g, mask, itself=inputs == 1), min(inputs - 1, 1)
        sources[first:] = [_cleaned(g, one, idle) for one in sources[first:]]
    sources += sources[-1:] * (3 - inputs)
    groups, width = o.kv_heads or o.heads, len(p["query"]["weight"]) // o.heads

    def split(place: int, count: int, perm: list[int]) -> Any:
        """``(N, T, heads, width)``, and then the axes in another order."""
        source, name = sources[place], ("query", "key", "value")[place]
        out = g.Reshape(_projected(g, source, name, p), [0, 0, count, width])
        if getattr(o, "rotary_base", None) is not None and name != "value":
            first = 0 if name == "key" else o.offset
            out = _rotated(g, out, source, width, o, [1, 2], first)
        if count < o.heads:  # each head of keys serves several of queries
            out = g.Gather(out, np.repeat(np.arange(count), o.heads // count), axis=2)
        return g.Transpose(out, perm=perm)

    heads = split(0, o.heads, [0, 2, 1, 3]), split(1, groups, [0, 2, 3, 1])
    values = split(2, groups, [0, 2, 1, 3])
    if bias is not None and bias.rank == 3:
        bias = g.Unsqueeze(bias, [1])
    seen = _seen(g, sources[0], sources[1], o, mask, 1)
    mixed, weights = _attend(g, *heads, values, seen, bias, o, width)
    rows = g.Reshape(g.Transpose(mixed, perm=[0, 2, 1, 3]), [0, 0, o.heads * width])
    out = _projected(g, rows, "out", p)
    return (out, weights) if o.return_weights else out


# --- masks ----------------------------------------------------------------------------------------


def _clean_padding(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    idle = g.Not(_counted(g, x[-1], x[0]))
    return _cleaned(g, x[0], idle), *x[1:]


def taken(g: Graph, x: Any, context: str) -> Any:
    """The inputs of a layer with a context, of which a mask and lengths are not of floats."""
    if context.endswith(("mask", "lengths")):
        g.takes(x[-1], np.bool_ if x[-1].rank > 1 else np.int64)
    return x


SEQUENCES: dict[str, Rule] = {
    "embedding": _embedding,
    "embedding_bag": _embedding_bag,
    "positional_encoding": _positional_encoding,
    "learned_positions": lambda g, x, o, p: g.Add(
        x, g.Slice(p["weight"], [0], listed(g.size(x, 1)), [0])
    ),
    "rotary": lambda g, x, o, p: _rotated(g, x, x, fixed(x, 2)[0], o, [1], o.offset),
    "attention": _attention,
    "multi_head_attention": _heads,
    "cross_attention": partial(_heads, inputs=2),
    "alibi": _alibi,
    "relative_positions": _relative_positions,
    "last_step": _last_step,
    "masked_mean_pool": _masked_mean,
    "masked_max_pool": _masked_max,
    "clean_padding": _clean_padding,
    "drop_context": lambda g, x, o, p: taken(g, x, o.context)[0].name,
}
