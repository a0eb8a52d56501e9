"""What each kind of layer costs: operations forward, and memory kept for the way back.

An addition, a multiplication, a comparison, a division, and a call of an elementary function (`exp`,
`tanh`, ...) are one operation each. Sizes are those of a training pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from funcnn.types import Array, Params, Shape, Spec

ITEM = 4  # bytes of a float32


def elements(shape: Shape) -> int:
    """How many numbers there are in arrays of these shapes."""
    if all(isinstance(size, (int, np.integer)) for size in shape):
        return int(prod(shape))
    return sum(elements(one) for one in shape)


class Call:
    """A layer, and the shapes that it meets; `turned`: the input's last axis does not run fastest."""

    def __init__(
        self, spec: Spec, shape: Shape, out_shape: Shape, params: Params, turned: bool = False
    ) -> None:
        self.spec, self.shape, self.out_shape, self.params = spec, shape, out_shape, params
        self.turned = turned

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """Every argument of the constructor by its name."""
        bound = inspect.signature(self.spec.build).bind(*self.spec.args, **self.spec.options)
        bound.apply_defaults()
        return bound.arguments

    @property
    def x(self) -> int:
        """Numbers that go in."""
        return elements(self.shape)

    @property
    def out(self) -> int:
        """Numbers that come out."""
        return elements(self.out_shape)

    def window(self) -> int:
        """Places in the window of a pooling layer."""
        size = self.options["kernel_size"]
        axes = 1 if len(self.shape) == 3 else len(self.shape) - 2
        return int(prod(size if isinstance(size, tuple) else (size,) * axes))


Count = Callable[[Call], int]


class Cost(NamedTuple):
    """What one kind of layer costs.

    `flops` counts operations. `keeps` says ``"x"`` where the input stays for the way back, ``"out"``
    where the output does, or both; ``"turned"``, where the input stays in batch-last memory, which
    takes a copy if its last axis runs fastest. `extra` counts the bytes of all else that stays, but
    for parameters. Is `view` true, the output lies in the memory of the input; `turns` says that its
    last axis does not run fastest there.
    """

    flops: Count
    keeps: str | Callable[[Call], str] = ""
    extra: Count = lambda call: 0
    view: Callable[[Call], bool] = lambda call: False
    turns: bool = False


def _each(operations: int) -> Count:
    """So many operations for each number that goes in."""
    return lambda call: operations * call.x


def _weighted(call: Call) -> int:
    """A product with the weight and, if there is one, a bias for each number that comes out."""
    weight: Array = call.params["weight"]
    return int(call.out * (2 * (weight.size // weight.shape[0]) + ("bias" in call.params)))


def _transposed(call: Call) -> int:
    weight: Array = call.params["weight"]  # (in, out / groups, *kernel)
    return int(2 * call.x * (weight.size // weight.shape[0]) + call.out * ("bias" in call.params))


def _separable(call: Call) -> int:
    depthwise, pointwise = call.params["depthwise"], call.params["pointwise"]
    between = _between(call)
    first = 2 * between * (depthwise["weight"].size // depthwise["weight"].shape[0])
    second = 2 * call.out * pointwise["weight"].shape[1]
    biases = between * ("bias" in depthwise) + call.out * ("bias" in pointwise)
    return int(first + second + biases)


def _between(call: Call) -> int:
    """Numbers between the two convolutions of a separable one."""
    return int(call.out // call.out_shape[1] * call.params["pointwise"]["weight"].shape[1])


def _bilinear(call: Call) -> int:
    (batch, left), (_, right) = call.shape
    bias = call.out * ("bias" in call.params)
    return int(batch * left * right + 2 * batch * call.params["weight"].size + bias)


def _normalized(statistics: Callable[[Call], int], running: bool = False) -> Count:
    """The normalised input, one factor for each group of numbers, and new running statistics."""

    def extra(call: Call) -> int:
        channels = 2 * statistics(call) if running else 0
        return ITEM * (call.x + statistics(call) + channels)

    return extra


def _channels(call: Call) -> int:
    return int(call.shape[-1] if len(call.shape) in (2, 3) else call.shape[1])


def _winners(call: Call) -> int:
    """One byte for each place in each stage of a maximum, last axis first."""
    if len(call.shape) == 3:
        return call.out
    total, shape = 0, list(call.shape)
    padding = call.options["padding"]
    wide = padding if isinstance(padding, tuple) else (padding,) * (len(shape) - 2)
    shape[2:] = [size + 2 * more for size, more in zip(shape[2:], wide, strict=True)]
    for axis in range(len(shape) - 1, 1, -1):
        shape[axis] = call.out_shape[axis]
        total += int(prod(shape))
    return total


def _drops(call: Call) -> bool:
    return bool(call.options["rate"])


class _Cell(NamedTuple):
    """A recurrent cell: its gates, its states, and what else it keeps at each step."""

    gates: int
    states: int
    saved: int
    operations: int


def _recurrent(cell: _Cell) -> Cost:
    def walks(call: Call) -> list[tuple[int, int]]:
        """Features and hidden features of each walk along time."""
        hidden, both = int(call.options["hidden"]), bool(call.options["bidirectional"])
        first = int(_first(call.shape)[2])
        layers = range(call.options["layers"])
        return [(hidden * (1 + both) if layer else first, hidden) for layer in layers] * (1 + both)

    def steps(call: Call) -> int:
        return elements(_first(call.shape)[:2])

    def flops(call: Call) -> int:
        each = [
            hidden * (2 * cell.gates * (features + hidden) + cell.operations)
            for features, hidden in walks(call)
        ]
        return steps(call) * sum(each)

    def extra(call: Call) -> int:
        batch, _, features = _first(call.shape)
        kept = 0 if call.turned else steps(call) * features  # the input, time first
        for _, hidden in walks(call):
            kept += steps(call) * hidden * (cell.gates + cell.states + cell.saved)
            kept += cell.states * batch * hidden
        if call.options["bidirectional"]:  # what lies between the layers, side by side
            between = 2 * int(call.options["hidden"]) * (int(call.options["layers"]) - 1)
            return int(ITEM * (kept + steps(call) * between))
        return int(ITEM * (kept - elements(_first(call.out_shape))))  # the output lies among the states

    def keeps(call: Call) -> str:
        out = "" if call.options["bidirectional"] else "out"
        return f"x {out}" if call.turned else out

    return Cost(flops, keeps, extra, turns=True)


def _first(shape: Shape) -> Shape:
    """The shape of the first of several inputs."""
    return shape if isinstance(shape[0], (int, np.integer)) else shape[0]


class _Attention(NamedTuple):
    """Sizes of an attention: rows, of the queries and of the keys, features of each, heads' scores."""

    queries: int
    keys: int
    features: int
    kv_features: int
    scores: int


def _sizes(call: Call) -> _Attention:
    several = not isinstance(call.shape[0], (int, np.integer))
    batch, time, _ = _first(call.shape)
    other = call.shape[1] if several and call.spec.kind == "cross_attention" else (batch, time)
    heads = call.options["heads"]
    features = call.params["query"]["weight"].shape[0]
    kv_features = call.params["key"]["weight"].shape[0]
    return _Attention(
        batch * time, batch * other[1], features, kv_features, batch * heads * time * other[1]
    )


def _attention_flops(call: Call) -> int:
    sizes, total = _sizes(call), 0
    for name, rows in (
        ("query", sizes.queries), ("key", sizes.keys), ("value", sizes.keys), ("out", sizes.queries),
    ):  # fmt: skip
        weight = call.params[name]["weight"]
        total += rows * (2 * weight.size + weight.shape[0] * ("bias" in call.params[name]))
    per_head = sizes.features // call.options["heads"]
    return int(total + sizes.scores * (4 * per_head + 6))


def _attention_extra(call: Call) -> int:
    sizes = _sizes(call)
    heads = 2 * sizes.queries * sizes.features + 2 * sizes.keys * sizes.kv_features
    return int(ITEM * (heads + sizes.scores * (2 if _drops(call) else 1)))


def _scores(call: Call) -> tuple[int, int, int]:
    """Numbers of scores of plain attention, of query features, of value features."""
    (batch, time, features), (_, other, _), (_, _, values) = call.shape[:3]
    return int(batch * time * other), int(features), int(values)


def _scaled_scores(call: Call) -> int:
    scores, features, values = _scores(call)
    return scores * (2 * features + 2 * values + 6)


def _merged(call: Call) -> int:
    how, count = call.options["how"], len(call.shape)
    return {"concatenate": 0, "mean": count}.get(how, count - 1) * call.out


_VIEW = Cost(_each(0), view=lambda call: True)
_WEIGHTED = Cost(_weighted, "x")
_CONVOLVED = Cost(_weighted, "turned", turns=True)
_MAXIMUM = Cost(lambda call: call.out * (call.window() - 1), extra=_winners, turns=True)
_MEAN = Cost(lambda call: call.out * call.window(), turns=True)
_NORM = Cost(lambda call: call.out * 3 * call.window(), "x out", turns=True)
_ADDED = Cost(_each(1))
_LARGEST = Cost(_each(1), extra=lambda call: 8 * call.out)


def _keeping_x(operations: int) -> Cost:
    return Cost(_each(operations), "x")


def _keeping_out(operations: int) -> Cost:
    return Cost(_each(operations), "out")


def _masked(places: Count) -> Cost:
    """Two operations where something is dropped; one byte for each draw."""
    return Cost(
        lambda call: 2 * call.x * _drops(call),
        extra=lambda call: places(call) * _drops(call),
        view=lambda call: not _drops(call),
    )


COSTS: dict[str, Cost] = {
    # linear
    "dense": _WEIGHTED,
    "conv": _CONVOLVED,
    "conv1d": _CONVOLVED,
    "conv3d": _CONVOLVED,
    "depthwise_conv": _CONVOLVED,
    "conv_transpose": Cost(_transposed, "turned", turns=True),
    "conv_transpose1d": Cost(_transposed, "turned", turns=True),
    "separable_conv": Cost(_separable, "turned", lambda call: ITEM * _between(call), turns=True),
    "bilinear": Cost(_bilinear, "x"),
    "embedding": Cost(_each(0), "x"),
    # pooling
    "max_pool": _MAXIMUM,
    "max_pool1d": _MAXIMUM,
    "max_pool3d": _MAXIMUM,
    "avg_pool": _MEAN,
    "avg_pool1d": _MEAN,
    "avg_pool3d": _MEAN,
    "lp_pool": _NORM,
    "lp_pool1d": _NORM,
    "lp_pool3d": _NORM,
    "global_avg_pool": _ADDED,
    "global_max_pool": Cost(_each(1), extra=lambda call: 4 * call.out),
    "adaptive_avg_pool": _ADDED,
    "adaptive_avg_pool1d": _ADDED,
    "adaptive_avg_pool3d": _ADDED,
    "adaptive_max_pool": _LARGEST,
    "adaptive_max_pool1d": _LARGEST,
    "adaptive_max_pool3d": _LARGEST,
    # shape
    "flatten": _VIEW,
    "identity": _VIEW,
    "stop_gradient": _VIEW,
    "reshape": _VIEW,
    "transpose": _VIEW._replace(turns=True),
    "crop": _VIEW,
    "split": _VIEW,
    "pad": Cost(_each(0)),
    "pixel_shuffle": Cost(_each(0)),
    "pixel_unshuffle": Cost(_each(0)),
    "concatenate": Cost(_each(0)),
    "upsample": Cost(lambda call: 6 * call.out * (call.options["mode"] == "bilinear")),
    "merge": Cost(_merged),
    # activations: operations for each number
    "relu": _keeping_out(1),
    "relu6": _keeping_out(2),
    "hard_tanh": _keeping_out(2),
    "tanh": _keeping_x(1),
    "sigmoid": _keeping_x(4),
    "softmax": _keeping_out(5),
    "log_softmax": _keeping_out(5),
    "softmin": _keeping_out(6),
    "leaky_relu": _keeping_x(2),
    "prelu": _keeping_x(2),
    "threshold": _keeping_x(1),
    "elu": _keeping_x(3),
    "celu": _keeping_x(4),
    "selu": _keeping_x(4),
    "gelu": Cost(lambda call: call.x * (5 if call.options["approximate"] == "none" else 8), "x"),
    "silu": _keeping_x(5),
    "mish": _keeping_x(5),
    "softplus": _keeping_x(4),
    "softsign": _keeping_x(3),
    "log_sigmoid": _keeping_x(4),
    "hard_sigmoid": _keeping_x(4),
    "hard_swish": _keeping_x(5),
    "hard_shrink": _keeping_x(2),
    "soft_shrink": _keeping_x(3),
    "tanh_shrink": _keeping_x(2),
    "glu": Cost(lambda call: 5 * call.out, "x"),
    "swiglu": Cost(lambda call: 6 * call.out, "x"),
    "maxout": Cost(lambda call: call.x - call.out, "x"),
    # normalisation and regularisation
    "batch_norm": Cost(_each(7), extra=_normalized(_channels, running=True)),
    "layer_norm": Cost(_each(7), extra=_normalized(lambda call: call.x // int(call.shape[-1]))),
    "rms_norm": Cost(_each(4), extra=_normalized(lambda call: call.x // int(call.shape[-1]))),
    "group_norm": Cost(
        _each(7), extra=_normalized(lambda call: int(call.shape[0]) * call.options["groups"])
    ),
    "instance_norm": Cost(_each(7), extra=_normalized(lambda call: elements(call.shape[:2]))),
    "local_response_norm": Cost(
        lambda call: call.x * (int(call.options["size"]) + 5), "x", lambda call: 2 * ITEM * call.x
    ),
    "dropout": _masked(lambda call: call.x),
    "spatial_dropout": _masked(lambda call: int(call.shape[0]) * _channels(call)),
    "drop_path": _masked(lambda call: int(call.shape[0])),
    "gaussian_noise": Cost(_each(2)),
    # sequences
    "drop_context": _VIEW,
    "clean_padding": _VIEW,
    "positional_encoding": _ADDED,
    "learned_positions": _ADDED,
    "rotary": Cost(_each(3), extra=lambda call: 2 * ITEM * elements(call.shape[1:])),
    "rnn": _recurrent(_Cell(gates=1, states=1, saved=0, operations=3)),
    "gru": _recurrent(_Cell(gates=3, states=1, saved=1, operations=20)),
    "lstm": _recurrent(_Cell(gates=4, states=2, saved=0, operations=26)),
    "attention": Cost(_scaled_scores, "x out", lambda call: ITEM * _scores(call)[0]),
    "multi_head_attention": Cost(_attention_flops, "x", _attention_extra),
    "cross_attention": Cost(_attention_flops, "x", _attention_extra),
}
"""The cost of each kind of layer; what is not in it shows as ``?``."""
