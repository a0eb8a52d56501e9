"""Rules for recurrent nodes, whose time runs along the first axis: see `loading_rules`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import checks, layers as f
from funcnn.checks import Flag, Layers, declared, shown
from funcnn.interop.onnx.loading_values import Node, Stored
from funcnn.structure import params_gradient
from funcnn.types import Array, Cache, Key, Layer, Params, Shape

__all__ = ["time_first"]


@declared(layer=Layers(), states=Flag(), batch_first=Flag())
def time_first(layer: Layer[Any, Any], *, states: bool, batch_first: bool = False) -> Layer[Any, Any]:
    """A recurrent layer with a carry as ONNX lays out its inputs and outputs.

    Parameters
    ----------
    layer : Layer
        An `rnn`, `gru` or `lstm` of one layer with a carry.
    states : bool
        Whether the first states are inputs; they begin as zeros otherwise. If the layer takes
        lengths, these are the last input.
    batch_first : bool, default False
        Whether the batch axis is the first.

    Returns
    -------
    Layer
        ``(T, N, F) -> ((T, D, N, H), (D, N, H))``, and the second state behind it, for ``D``
        directions; or ``(N, T, F) -> ((N, T, D, H), (N, D, H))``. With the params of the layer.

    Raises
    ------
    ValueError, TypeError
        What the layer refuses.

    Examples
    --------
    >>> from funcnn import gru, random
    >>> time_first(gru(4, carry=True), states=False).init(random.key(0), (5, 2, 3))[0]
    ((5, 1, 2, 4), (1, 2, 4))
    """

    pair, lengths = layer.spec.kind == "lstm", bool(layer.spec.options["lengths"])
    directions, hidden = 1 + bool(layer.spec.options["bidirectional"]), layer.spec.args[0]

    def turned(value: Any, *order: int) -> Any:
        """The axes of an array, or of a shape, in another order."""
        if not isinstance(value, (np.ndarray, tuple)):
            checks.refuse_type(f"`x` must be a NumPy array, got {shown(value)}")
        if len(sizes := getattr(value, "shape", value)) != len(order):
            checks.refuse(f"`x` must have {len(order)} axes, got shape {shown(sizes)}")
        if batch_first:
            return value
        return tuple(value[at] for at in order) if isinstance(value, tuple) else value.transpose(order)

    def taken(x: Any, zeros: Callable[[Any], Any]) -> Any:
        """What the layer takes: the input, the first states, and the lengths."""
        several = x if states or lengths else (x,)
        if not isinstance(several, tuple) or len(several) != 1 + states * (1 + pair) + lengths:
            checks.refuse_type(f"`x` must be a tuple of all inputs, got {shown(x)}")
        first, begun = turned(several[0], 1, 0, 2), several[1 : 2 + pair] if states else ()
        carry = tuple(turned(one, 1, 0, 2) for one in begun) or (zeros(first),) * (1 + pair)
        return first, carry if pair else carry[0], *several[len(several) - lengths :]

    def given(out: Any, carry: Any) -> tuple[Any, ...]:
        """The outputs, in ONNX's layout."""
        sizes = getattr(out, "shape", out)
        apart = (*sizes[:2], directions, hidden)
        out = apart if out is sizes else out.reshape(apart)
        return turned(out, 1, 2, 0, 3), *(turned(one, 1, 0, 2) for one in (carry if pair else (carry,)))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        inputs = taken(shape, lambda first: (first[0], directions, hidden))
        (out, carry), params = layer.init(key, inputs)
        return given(out, carry), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        inputs = taken(x, lambda first: np.zeros((len(first), directions, hidden), first.dtype))
        (out, carry), cache = layer.apply(params, inputs, key=key)
        return given(out, carry), {"layer": cache}

    def inside(dout: Any) -> tuple[Array, Any]:
        """The gradients of the layer's outputs."""
        d = turned(dout[0], 2, 0, 1, 3)
        carry = tuple(np.ascontiguousarray(turned(one, 1, 0, 2)) for one in dout[1:])
        whole = np.ascontiguousarray(d).reshape(*d.shape[:2], directions * hidden)
        return whole, carry if pair else carry[0]

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams, (dx, carry, *rest) = layer.vjp(cache["layer"], inside(dout))
        begun = (carry if pair else (carry,)) if states else ()
        several = (*(turned(one, 1, 0, 2) for one in (dx, *begun)), *rest)
        return dparams, several if len(several) > 1 else several[0]

    def params_vjp(cache: Cache, dout: Any) -> Params:
        return params_gradient(layer, cache["layer"], inside(dout))

    return Layer(init, apply, vjp, params_vjp=params_vjp)


_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where PyTorch's blocks of gates, which are also ours, lie in ONNX's."""
_WORDS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def _recurrent(node: Node) -> Any:
    weight, recurrent = node.array(1), node.array(2)
    hidden, direction = node.option("hidden_size", 0), node.option("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        checks.refuse(f"attribute direction {shown(direction)} is not known here")
    both, gates = direction == "bidirectional", len(_GATES[node.kind])
    words = node.option("activations", _WORDS[node.kind] * (1 + both))
    relu = node.kind == "RNN" and words == ("Relu",) * (1 + both)
    if words != _WORDS[node.kind] * (1 + both) and not relu:
        checks.refuse(f"attribute activations {shown(words)} is not known here")
    for name in ("clip", "activation_alpha", "activation_beta"):
        node.only(name, None)
    node.only("input_forget", 0)
    node.read |= {"linear_before_reset", "output_sequence"}
    if node.has(7):
        checks.refuse("input 7, peepholes, is not known here")
    rows = (1 + both, gates * hidden)
    if recurrent.shape != (*rows, hidden) or weight.shape[:-1] != rows:
        checks.refuse(f"its weights must fit {hidden} hidden features, got {recurrent.shape}")
    bias = node.array(3) if node.has(3) else None
    if bias is not None and bias.shape != (1 + both, 2 * gates * hidden):
        checks.refuse(f"its bias must fit {hidden} hidden features, got {bias.shape}")
    walks = []
    for at in range(1 + both):
        own = {"weight_ih": weight[at], "weight_hh": recurrent[at]}
        if bias is not None:
            own |= {"bias_ih": bias[at][: gates * hidden], "bias_hh": bias[at][gates * hidden :]}
        walks.append({name: _reordered(leaf, _GATES[node.kind]) for name, leaf in own.items()})
    first = (5, 6) if node.kind == "LSTM" else (5,)
    zeros = all(not node.has(at) or _is_zero(node, at) for at in first)
    build: Any = {"LSTM": f.lstm, "GRU": f.gru, "RNN": f.rnn}[node.kind]
    more: dict[str, Any] = {"nonlinearity": "relu"} if relu else {}
    if node.kind == "GRU" and not node.option("linear_before_reset", 0):
        more = {"reset_after": False}
    inner = build(
        hidden, bidirectional=both, reverse=direction == "reverse", carry=True,
        bias=bias is not None, lengths=node.has(4), **more,
    )  # fmt: skip
    layer = time_first(inner, states=not zeros, batch_first=bool(node.option("layout", 0)))
    places = [0, *(() if zeros else first), *((4,) if node.has(4) else ())]
    wires = [node.wire(at) for at in places]
    params = {"forward": walks[0], "backward": walks[1]} if both else walks[0]
    return node.emit(layer, *wires, params=params, base=node.kind.lower())


def _reordered(leaf: Array, order: tuple[int, ...]) -> Array:
    """Blocks of rows in another order."""
    return np.concatenate([np.split(leaf, len(order))[block] for block in order])


def _is_zero(node: Node, at: int) -> bool:
    value = node.inputs[at]
    if isinstance(value, Stored):
        return not value.array.any()
    found = node.values(at)
    return found is not None and not any(one.any() for one in found)


SEQUENCES: dict[str, Callable[[Node], Any]] = dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent)
