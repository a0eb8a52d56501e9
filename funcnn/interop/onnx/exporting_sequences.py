"""The table of layers for sequences: tokens, positions, attention, recurrent layers, masks."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.interop.onnx.exporting_graph import Graph, Value, fixed, listed
from funcnn.interop.onnx.exporting_layers import Leaves, Options, Rule
from funcnn.types import Array


def _several(x: Any) -> tuple[Any, ...]:
    """One value, or all of a tuple."""
    return (x,) if isinstance(x, Value) else x


# --- tokens and positions -------------------------------------------------------------------------


def _embedding(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    weight = p["weight"]
    if o.padding_index is not None:
        weight = weight.copy()
        weight[o.padding_index] = 0
        weight = g.leaf("weight", weight)
    return g.Gather(weight, g.takes(x, np.int64))


def _angles(g: Graph, x: Value, speeds: Array, behind: list[int]) -> Any:
    """Of each step for each feature, in float64; there are axes between them."""
    return g.Mul(g.Unsqueeze(g.cast(g.steps(x), np.float64), behind), g.exact(speeds))


def _speeds(features: int, base: float) -> Array:
    exponents = np.arange(0, features, 2) / np.float64(-features)
    return numerics.power(np.full_like(exponents, base), exponents)


def _positional_encoding(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    (features,) = fixed(x, 2)
    speeds = np.repeat(_speeds(features, o.base), 2)[:features]
    quarters = np.arange(features) % 2 * (np.pi / 2)  # a cosine is a sine, a quarter ahead
    angles = g.Add(_angles(g, x, speeds, [1]), g.exact(quarters))
    return g.Add(x, g.cast(g.Sin(angles), g.dtype))


def _learned_positions(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    return g.Add(x, g.Slice(p["weight"], [0], listed(g.size(x, 1)), [0]))


def _rotary(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    return _rotated(g, x, x, fixed(x, 2)[0], o.base, o.interleaved, [1])


def _rotated(
    g: Graph, x: Any, like: Value, features: int, base: float, interleaved: bool, behind: list[int]
) -> Any:
    """``(a cos - b sin, b cos + a sin)``: each feature and its partner, whose sine has a sign."""
    places, half = np.arange(features), features // 2
    partner = places ^ 1 if interleaved else (places + half) % features
    speeds = _speeds(features, base)
    speeds = np.repeat(speeds, 2) if interleaved else np.tile(speeds, 2)
    angles = _angles(g, like, np.where(partner > places, -speeds, speeds), behind)
    cos, sin = g.cast(g.Cos(angles), g.dtype), g.cast(g.Sin(angles), g.dtype)
    return g.Add(g.Mul(x, cos), g.Mul(g.Gather(x, partner, axis=-1), sin))


# --- attention ------------------------------------------------------------------------------------


def _cleaned(g: Graph, x: Value, idle: Any) -> Value:
    """Without what could spoil a product in steps that do not count."""
    large = g.Not(g.Less(g.Abs(x), float(np.sqrt(np.finfo(g.dtype).max))))
    return x._replace(name=g.Where(g.And(g.Unsqueeze(idle, [2]), large), 0.0, x))


def _idle(g: Graph, mask: Value, itself: bool) -> Any:
    """The steps that nobody sees; if they see each other, that see nobody either."""
    if mask.rank == 2:
        return g.Not(mask)
    unseen = g.Not(g.ReduceMax(mask, [1], keepdims=0))
    return g.And(unseen, g.Not(g.ReduceMax(mask, [2], keepdims=0))) if itself else unseen


def _seen(g: Graph, q: Value, k: Value, causal: bool, mask: Value | None, heads: bool) -> Any:
    """Which keys each query sees, to broadcast over the scores; None for all."""
    past = None
    if causal:
        past = g.GreaterOrEqual(g.Unsqueeze(g.steps(q), [1]), g.Unsqueeze(g.steps(k), [0]))
    if mask is None:
        return past
    axes = [1] * (mask.rank == 2) + [2 if mask.rank == 2 else 1] * heads
    found = g.Unsqueeze(mask, axes) if axes else mask
    return found if past is None else g.And(found, past)


def _attend(g: Graph, q: Any, keys: Any, v: Any, seen: Any, width: int) -> Any:
    """``softmax(q keys / sqrt(width)) v``, the keys transposed; zeros where nothing is seen."""
    scores = g.MatMul(g.Mul(q, 1 / sqrt(width)), keys)
    if seen is None:
        return g.MatMul(g.Softmax(scores), v)
    p = g.Softmax(g.Where(seen, scores, -np.inf))
    return g.MatMul(g.Where(seen, p, 0.0), v)


def _attention(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    q, k, v, *masks = x
    mask = g.takes(masks[0], np.bool_) if masks else None
    seen = _seen(g, q, k, o.causal, mask, heads=False)
    v = v if mask is None else _cleaned(g, v, _idle(g, mask, itself=False))
    return _attend(g, q, g.Transpose(k, perm=[0, 2, 1]), v, seen, fixed(q, 2)[0])


def _projected(g: Graph, x: Any, name: str, p: Leaves) -> Any:
    with g.inside(name):
        out = g.MatMul(x, g.Transpose(p[name]["weight"], perm=[1, 0]))
        return g.Add(out, p[name]["bias"]) if "bias" in p[name] else out


def _heads(crossed: bool) -> Rule:
    def rule(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
        q, *rest = _several(x)
        memory = rest.pop(0) if crossed else q
        mask = g.takes(rest[0], np.bool_) if rest else None
        if mask is not None:
            memory = _cleaned(g, memory, _idle(g, mask, not crossed))
        q = q if crossed else memory
        base, groups = getattr(o, "rotary_base", None), o.kv_heads or o.heads
        width = len(p["query"]["weight"]) // o.heads

        def split(source: Value, name: str, count: int, *perm: int) -> Any:
            """``(N, T, heads, width)``, and then the axes in another order."""
            out = g.Reshape(_projected(g, source, name, p), [0, 0, count, width])
            if base is not None and name != "value":
                out = _rotated(g, out, source, width, base, True, [1, 2])
            if count < o.heads:  # each head of keys serves several of queries
                out = g.Gather(out, np.repeat(np.arange(count), o.heads // count), axis=2)
            return g.Transpose(out, perm=perm)

        queries, values = (
            split(q, "query", o.heads, 0, 2, 1, 3),
            split(memory, "value", groups, 0, 2, 1, 3),
        )
        keys = split(memory, "key", groups, 0, 2, 3, 1)
        seen = _seen(g, q, memory, getattr(o, "causal", False), mask, heads=True)
        mixed = g.Transpose(_attend(g, queries, keys, values, seen, width), perm=[0, 2, 1, 3])
        return _projected(g, g.Reshape(mixed, [0, 0, o.heads * width]), "out", p)

    return rule


# --- recurrent layers -----------------------------------------------------------------------------


def _recurrent(operator: str, order: list[int], states: int) -> Rule:
    """ONNX has the time in front, the gates in another order, and both biases in one."""

    def gates(leaf: Array) -> Array:
        blocks = leaf.reshape(len(order), -1, *leaf.shape[1:])
        return blocks[order].reshape(leaf.shape)

    def level(g: Graph, x: Any, o: Options, own: Leaves, others: list[Any]) -> Any:
        """All directions of one layer, ``(T, N, F) -> (T, directions, N, H)``."""
        walks = [own[one] for one in ("forward", "backward")] if o.bidirectional else [own]
        found = {name: np.stack([gates(walk[name]) for walk in walks], axis=0) for name in walks[0]}
        bias = None
        if o.bias:
            bias = g.leaf("bias", np.concatenate([found["bias_ih"], found["bias_hh"]], axis=1))
        weights = [g.leaf(name, found[name]) for name in ("weight_ih", "weight_hh")]
        direction = "bidirectional" if o.bidirectional else "forward"
        how: dict[str, Any] = {"direction": "reverse" if o.reverse else direction}
        if operator == "GRU":
            how["linear_before_reset"] = 1
        if operator == "RNN":
            how["activations"] = [o.nonlinearity.capitalize()] * len(walks)
        how |= {"hidden_size": o.hidden, "outputs": 1 + states * o.carry}
        return g.add(operator, x, *weights, bias, *others, **how)

    def rule(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
        x, *rest = _several(x)
        lengths = g.cast(g.takes(rest.pop(), np.int64), np.int32) if o.lengths else None
        firsts = [_levels(g, one, o.layers) for one in _several(rest[0])] if o.carry else []
        out, lasts = g.Transpose(x, perm=[1, 0, 2]), []
        for place in range(o.layers):
            name = [f"layer{place + 1}"] * (o.layers > 1)
            starts = [first[place] for first in firsts]
            with g.inside(*name):
                out = level(g, out, o, p[name[0]] if name else p, [lengths, *starts])
                if o.carry:
                    out, *last = out
                    lasts.append([_kept(g, *pair, lengths) for pair in zip(last, starts, strict=True)])
                out = g.Transpose(out, perm=[0, 2, 1, 3])
                out = g.Reshape(out, [0, 0, (1 + o.bidirectional) * o.hidden])
        out = g.Transpose(out, perm=[1, 0, 2])
        if not o.carry:
            return out
        carry = [
            g.Transpose(g.Concat(*parts, axis=0), perm=[1, 0, 2]) for parts in zip(*lasts, strict=True)
        ]
        return out, tuple(carry) if states > 1 else carry[0]

    return rule


def _kept(g: Graph, last: Any, first: Any, lengths: Any) -> Any:
    """The state behind the last step; where there is no step, onnxruntime gives zeros."""
    if lengths is None:
        return last
    none = g.Equal(lengths, g.exact(np.zeros((), np.int32)))
    return g.Where(g.Unsqueeze(none, [1]), first, last)


def _levels(g: Graph, carry: Value, layers: int) -> list[Any]:
    """The states of each layer, ``(directions, N, H)``."""
    first = g.Transpose(carry, perm=[1, 0, 2])
    return [first] if layers == 1 else g.Split(first, axis=0, num_outputs=layers, outputs=layers)


# --- masks ----------------------------------------------------------------------------------------


def _clean_padding(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    mask = g.takes(x[1], np.bool_)
    return _cleaned(g, x[0], g.Not(mask)).name, mask.name


def taken(g: Graph, x: Any, context: str) -> Any:
    """The inputs of a layer with a context, of which a mask is not of floats."""
    if context.endswith("mask"):
        g.takes(x[-1], np.bool_)
    return x


SEQUENCES: dict[str, Rule] = {
    "embedding": _embedding,
    "positional_encoding": _positional_encoding,
    "learned_positions": _learned_positions,
    "rotary": _rotary,
    "attention": _attention,
    "multi_head_attention": _heads(crossed=False),
    "cross_attention": _heads(crossed=True),
    "rnn": _recurrent("RNN", [0], 1),
    "lstm": _recurrent("LSTM", [0, 3, 1, 2], 2),
    "gru": _recurrent("GRU", [1, 0, 2], 1),
    "clean_padding": _clean_padding,
    "drop_context": lambda g, x, o, p: taken(g, x, o.context)[0].name,
}
