"""Networks that go on where they stopped: each layer that looks back keeps what it needs of the past.

A network is made again from its children, with other ways forward for attention, recurrent layers,
causal convolutions and positions. All other layers must treat each time step alone. In portable
arithmetic, where each row of a product is rounded once, a step has the bits that it has in a run over
the whole sequence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from funcnn import structure
from funcnn._kernels import attention, heads, positions, recurrent
from funcnn.layers.convolution import conv1d
from funcnn.layers.recurrent.stack import Stack
from funcnn.types import Array, Cache, Key, Layer, Params

Net = Layer[Any, Any]
Way = Callable[..., tuple[Any, Cache]]


class Unknown(Exception):
    """A layer that looks at other time steps, in a way that is not known here."""


@dataclass
class Past:
    """How many time steps there will be, and how many have gone by."""

    length: int
    at: int = 0


def stepped(layer: Net, past: Past) -> Net:
    """The same network, for the next steps alone; it counts on being called for all, in order."""
    spec = layer.spec
    options = _options(layer)
    if spec.kind == "with_encoder":
        (_, encoder), (_, decoder) = structure.children(layer)
        both = (("encoder", _once(encoder)), ("decoder", stepped(decoder, past)))
        return structure.remade(layer, both)
    if spec.kind == "share":
        uses = [stepped(structure.children(layer)[0][1], past) for _ in range(options["times"])]
        return layer._replace(apply=_in_turn(uses))
    if spec.kind in _LOOKING and spec.build.__module__.startswith("funcnn."):
        return layer._replace(apply=_LOOKING[spec.kind](options, past))
    if spec.kind == "time_distributed":
        return layer
    if not _alone(layer, options):
        raise Unknown(spec.kind)
    inside = tuple((name, stepped(child, past)) for name, child in structure.children(layer))
    return structure.remade(layer, inside)


_COMBINED = {
    "serial", "named", "residual", "tied", "repeat", "remat", "freeze", "stop_gradient", "parallel",
    "branch", "merge", "keep_context", "with_context", "residual_with_context", "drop_context", "graph",
    "inference_mode", "dense_connect",
}  # fmt: skip
_SINGLE = {
    "identity", "embedding", "layer_norm", "rms_norm", "dropout", "spatial_dropout", "drop_path",
    "gaussian_noise", "cross_attention",
}  # fmt: skip


def _alone(layer: Net, options: dict[str, Any]) -> bool:
    """Whether a layer treats each time step alone, or does as the layers inside it."""
    module = layer.spec.build.__module__
    known = layer.spec.kind in _COMBINED | _SINGLE or module.startswith("funcnn.layers.activations")
    joins = layer.spec.kind in ("parallel", "merge")
    axis = options.get("axes", options.get("axis", -1))
    words = (options.get("merge"), options.get("how"))
    last = axis in (-1, 2) or (joins and "concatenate" not in words)
    return known and module.startswith("funcnn.") and last and _of_the_text(layer, options)


def _of_the_text(layer: Net, options: dict[str, Any]) -> bool:
    """Whether each layer in a graph goes on with the text, rather than with something beside it."""
    if layer.spec.kind != "graph":
        return True
    names = [name for name, _ in structure.children(layer)]
    wires = dict(zip(names, ["x", *names], strict=False)) | dict(options["wires"] or {})
    mains = [wire if isinstance(wire, str) else wire[0] for wire in wires.values()]
    return all(main in ("x", *names) or main.partition("/")[2] == "0" for main in mains)


def _in_turn(layers: list[Net]) -> Way:
    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        for layer in layers:
            x = layer.apply(params, x)[0]
        return x, {}

    return apply


def _options(layer: Net) -> dict[str, Any]:
    spec = layer.spec
    bound = inspect.signature(spec.build).bind_partial(*spec.args, **spec.options)
    bound.apply_defaults()
    return bound.arguments


def _once(layer: Net) -> Net:
    """What does not depend on the time step, computed the first time."""
    kept: list[tuple[Any, Cache]] = []

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        if not kept:
            kept.append(layer.apply(params, x))
        return kept[0]

    return layer._replace(apply=apply)


# --- layers that look back ------------------------------------------------------------------------


class _Kept(NamedTuple):
    """Keys and values so far, ``(N, heads, length, D)``."""

    k: Array
    v: Array


def _attention(o: dict[str, Any], past: Past) -> Way:
    """The queries of new steps, with the keys and values of all."""
    if not o["causal"] or o["masked"] or o["separate"] or o["return_weights"]:
        raise Unknown("multi_head_attention")
    counts, kept = (o["heads"], o["kv_heads"] or o["heads"]), list[_Kept]()

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        x, bias = x if o["biased"] else (x, None)
        batch, steps, width = x.shape
        rows, at = np.ascontiguousarray(x).reshape(batch * steps, width), past.at
        q, k, v = (
            heads.project(rows, params[name], (batch, steps, count))
            for name, count in zip(("query", "key", "value"), (*counts, counts[1]), strict=True)
        )
        if o["rotary_base"] is not None:
            turn = positions.turns(steps, q.shape[3], o["rotary_base"], x.dtype, True, at)
            q, k = (positions.rotate(one, *turn, True) for one in (q, k))
        if not kept:
            shape = (batch, counts[1], past.length, q.shape[3])
            kept.append(_Kept(np.zeros(shape, x.dtype), np.zeros(shape, x.dtype)))
        for whole, new in zip(kept[0], (k, v), strict=True):
            whole[:, :, at : at + steps] = new
        keys, values = (whole[:, :, : at + steps] for whole in kept[0])
        if bias is not None and bias.ndim == 3:
            bias = bias[:, None]
        seen = attention.visible((steps, at + steps), True, None, bias, o["window"], at)
        scale = o["scale"] or 1 / sqrt(q.shape[3])
        how = attention.Scores(scale, seen, bias, o["soft_cap"])
        return heads.join(attention.attend(q, keys, values, how)[0], params["out"])[0], {}

    return apply


def _recurrent(cell: Callable[[dict[str, Any]], recurrent.Cell]) -> Callable[..., Way]:
    def way(o: dict[str, Any], past: Past) -> Way:
        if o["bidirectional"] or o["reverse"] or o["carry"] or o["lengths"]:
            raise Unknown("recurrent")
        size, rest = o.get("projection"), (False, False, True, False, o["bias"], 0.0)
        of, kept = Stack(cell(o), o["hidden"], o["layers"], *rest, size), list[Any]()

        def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Any, Cache]:
            carry = kept.pop() if kept else of.start(len(x), x.dtype)
            last = [np.empty_like(state) for state in carry]
            for k, path in enumerate(of.walks):
                own = params[path[0]] if path else params
                x, final, _ = recurrent.walk(of.cell, x, own, tuple(state[:, k] for state in carry))
                for state, part in zip(last, final, strict=True):
                    state[:, k] = part
            kept.append(last)
            return x, {}

        return apply

    return way


def _by_place(rule: Callable[..., Any]) -> Callable[..., Way]:
    """A layer that keeps nothing, and knows at which step it is: ``(o, params, x, at) -> out``."""

    def way(o: dict[str, Any], past: Past) -> Way:
        def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Any, Cache]:
            return rule(o, params, x, past.at), {}

        return apply

    return way


def _learned(o: dict[str, Any], params: Params, x: Array, at: int) -> Any:
    return x + params["weight"][at : at + x.shape[1]]


def _sinusoids(o: dict[str, Any], params: Params, x: Array, at: int) -> Any:
    _, steps, features = x.shape
    return x + positions.sinusoids(steps, features, o["base"], x.dtype, at)


def _rotary(o: dict[str, Any], params: Params, x: Array, at: int) -> Any:
    (_, steps, features), pairs = x.shape, o["interleaved"]
    cos, sin = positions.turns(steps, features, o["base"], x.dtype, pairs, at + o["offset"])
    return positions.rotate(x, cos, sin, pairs)


def _alibi(o: dict[str, Any], params: Params, x: Array, at: int) -> Any:
    return _beside(x, positions.falling(o["heads"], x.shape[1], x.dtype, at))


def _relative(o: dict[str, Any], params: Params, x: Array, at: int) -> Any:
    away = positions.distances(x.shape[1], at)
    places = positions.buckets(away, o["buckets"], o["max_distance"], o["both"])
    return _beside(x, np.take(params["weight"], places, 0).transpose(2, 0, 1))


def _beside(x: Array, bias: Array) -> tuple[Array, Array]:
    """A bias of the scores for each example, beside the input."""
    return x, np.broadcast_to(bias, (len(x), *bias.shape))


def _convolution(o: dict[str, Any], past: Past) -> Way:
    """The last inputs are kept, as many as the filters see before their own."""
    reach, padding = o["dilation"] * (o["kernel_size"] - 1), o["padding"]
    causal = padding in ("causal", ((reach, 0),)) or (not reach and padding in (0, "same", "valid"))
    if o["stride"] != 1 or o["padding_mode"] != "zeros" or not causal:
        raise Unknown("conv1d")
    options = {name: o[name] for name in ("dilation", "groups", "bias")}
    layer, kept = conv1d(o["out_features"], o["kernel_size"], **options), list[Array]()

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Any, Cache]:
        before = kept.pop() if kept else np.zeros((len(x), reach, x.shape[2]), x.dtype)
        seen = np.concatenate((before, x), 1)
        kept.append(seen[:, seen.shape[1] - reach :])
        return layer.apply(params, seen)

    return apply


_LOOKING: dict[str, Callable[[dict[str, Any], Past], Way]] = {
    "multi_head_attention": _attention,
    "lstm": _recurrent(lambda o: recurrent.LSTM),
    "gru": _recurrent(lambda o: recurrent.GRU if o["reset_after"] else recurrent.LATE_GRU),
    "rnn": _recurrent(
        lambda o: recurrent.RNN_TANH if o["nonlinearity"] == "tanh" else recurrent.RNN_RELU
    ),
    "learned_positions": _by_place(_learned),
    "positional_encoding": _by_place(_sinusoids),
    "rotary": _by_place(_rotary),
    "alibi": _by_place(_alibi),
    "relative_positions": _by_place(_relative),
    "conv1d": _convolution,
}
