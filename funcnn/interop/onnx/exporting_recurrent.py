"""The table of recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks
from funcnn.interop.onnx.exporting_graph import Graph, Value, listed
from funcnn.interop.onnx.exporting_layers import Leaves, Options, Rule, several


def _recurrent(operator: str, order: list[int], states: int) -> Rule:
    """ONNX has the time in front, the gates in another order, and both biases in one."""

    def gates(leaf: Any) -> Any:
        blocks = leaf.reshape(len(order), -1, *leaf.shape[1:])
        return blocks[np.array(order)].reshape(leaf.shape)

    def level(g: Graph, x: Any, o: Options, own: Leaves, others: list[Any]) -> Any:
        """All directions of one layer, ``(T, N, F) -> (T, directions, N, H)``."""
        walks = [own[one] for one in ("forward", "backward")] if o.bidirectional else [own]
        found = {name: g.numpy.stack([gates(walk[name]) for walk in walks]) for name in walks[0]}
        bias = None
        if o.bias:
            both = [found["bias_ih"], found["bias_hh"]]
            bias = g.leaf("bias", g.numpy.concatenate(both, axis=1))
        weights = [g.leaf(name, found[name]) for name in ("weight_ih", "weight_hh")]
        direction = "bidirectional" if o.bidirectional else "forward"
        how: dict[str, Any] = {"direction": "reverse" if o.reverse else direction}
        if operator == "GRU":
            how["linear_before_reset"] = int(o.reset_after)
        if operator == "RNN":
            how["activations"] = [o.nonlinearity.capitalize()] * len(walks)
        how |= {"hidden_size": o.hidden, "outputs": 1 + states * o.carry}
        return g.add(operator, x, *weights, bias, *others, **how)

    def rule(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
        x, *rest = several(x)
        if getattr(o, "projection", None) is not None:
            checks.refuse(f"`projection` must be None in ONNX, got {o.projection}")
        back, lengths = None, None
        if o.lengths:
            x, back, lengths = _in_front(g, x, rest.pop())
        firsts = [_levels(g, one, o.layers) for one in several(rest[0])] if o.carry else []
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
        out = out if back is None else _ordered(g, out, back)
        if not o.carry:
            return out
        carry = [
            g.Transpose(g.Concat(*parts, axis=0), perm=[1, 0, 2]) for parts in zip(*lasts, strict=True)
        ]
        return out, tuple(carry) if states > 1 else carry[0]

    return rule


def _in_front(g: Graph, x: Value, counts: Value) -> tuple[Any, Any, Any]:
    """The steps that count in front, the way back to where they were, and how many they are."""
    if counts.rank == 1:
        return x, None, g.cast(g.takes(counts, np.int64), np.int32)
    flags, steps = g.takes(counts, np.bool_), g.Unsqueeze(g.steps(x), [0])
    size = listed(g.size(x, 1))
    late = g.Where(flags, steps, g.Add(steps, size))
    order = g.TopK(late, size, largest=0, outputs=2)[1]
    back = g.TopK(order, size, largest=0, outputs=2)[1]
    number = g.ReduceSum(g.cast(flags, np.int32), [1], keepdims=0)
    return _ordered(g, x, order), back, number


def _ordered(g: Graph, x: Any, order: Any) -> Any:
    """Steps ``(N, T, F)`` in another order, one for each example."""
    return g.GatherElements(x, g.Expand(g.Unsqueeze(order, [2]), g.Shape(x)), axis=1)


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


RECURRENT: dict[str, Rule] = {
    "rnn": _recurrent("RNN", [0], 1),
    "lstm": _recurrent("LSTM", [0, 3, 1, 2], 2),
    "gru": _recurrent("GRU", [1, 0, 2], 1),
}
