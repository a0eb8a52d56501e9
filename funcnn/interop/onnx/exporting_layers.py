"""The table of layers: what operators each kind becomes, of its input, its options and its leaves."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from funcnn._kernels.windows import on_image, window
from funcnn.interop.onnx.exporting_graph import Graph, Value, fixed, listed

Options = Any
Leaves = dict[str, Any]
Rule = Callable[[Graph, Any, Options, Leaves], Any]


# --- axes -----------------------------------------------------------------------------------------


def turned(rule: Rule) -> Rule:
    """The same for sequences ``(N, T, F)``, which ONNX has as ``(N, F, T)``."""

    def rule_of_both(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
        if (x[0] if type(x) is tuple else x).rank != 3:
            return rule(g, x, o, p)

        def turn(one: Value) -> Value:
            return one.turned(g.Transpose(one, perm=[0, 2, 1]), 0, 2, 1)

        out = rule(g, tuple(map(turn, x)) if type(x) is tuple else turn(x), o, p)
        several = isinstance(out, tuple)
        back = tuple(g.Transpose(one, perm=[0, 2, 1]) for one in (out if several else (out,)))
        for one, name in zip(out if several else (), back, strict=False):
            if one in g.kinds:
                g.kinds[name] = g.kinds[one]
        return back if several else back[0]

    return rule_of_both


def _beside(g: Graph, p: Leaves, name: str, rank: int) -> Any:
    """A leaf of channels, to broadcast over what lies behind them."""
    return g.leaf(name, p[name].reshape(-1, *[1] * (rank - 2)))


def ints(value: Any, count: int) -> list[Any]:
    """An option for each axis, where one may stand for all."""
    return list(value) if isinstance(value, tuple) else [value] * count


# --- elementwise ----------------------------------------------------------------------------------


def _softplus(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    return g.Softplus(x) if o.beta == 1 else g.Div(g.Softplus(g.Mul(x, o.beta)), o.beta)


def _prelu(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    single = p["slope"].size == 1
    return g.PRelu(x, p["slope"] if single else _beside(g, p, "slope", x.rank))


def _gated(gate: str) -> Rule:
    """The halves of an axis, one of which opens the other."""

    def rule(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
        a, b = g.Split(x, axis=o.axis, num_outputs=2, outputs=2)
        return g.Mul(a, g.Sigmoid(b)) if gate == "glu" else g.Mul(g.Mul(a, g.Sigmoid(a)), b)

    return rule


def _maxout(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    sizes: list[int | str] = [g.size(x, axis) for axis in range(x.rank)]
    place = o.axis % x.rank
    sizes[place : place + 1] = [fixed(x, place)[0] // o.pieces, o.pieces]
    return g.ReduceMax(g.reshape(x, *sizes), [place + 1], keepdims=0)


ELEMENTWISE: dict[str, Rule] = {
    "relu": lambda g, x, o, p: g.Relu(x),
    "relu6": lambda g, x, o, p: g.Clip(x, 0.0, 6.0),
    "hard_tanh": lambda g, x, o, p: g.Clip(x, float(o.minimum), float(o.maximum)),
    "threshold": lambda g, x, o, p: g.Where(g.Greater(x, float(o.threshold)), x, float(o.value)),
    "leaky_relu": lambda g, x, o, p: g.LeakyRelu(x, alpha=float(o.negative_slope)),
    "prelu": turned(_prelu),
    "elu": lambda g, x, o, p: g.Elu(x, alpha=float(o.alpha)),
    "celu": lambda g, x, o, p: g.Celu(x, alpha=float(o.alpha)),
    "selu": lambda g, x, o, p: g.Selu(x),
    "gelu": lambda g, x, o, p: g.Gelu(x, approximate=o.approximate),
    "silu": lambda g, x, o, p: g.Mul(x, g.Sigmoid(x)),
    "mish": lambda g, x, o, p: g.Mish(x),
    "softplus": _softplus,
    "sigmoid": lambda g, x, o, p: g.Sigmoid(x),
    "log_sigmoid": lambda g, x, o, p: g.Neg(g.Softplus(g.Neg(x))),
    "hard_sigmoid": lambda g, x, o, p: g.HardSigmoid(x, alpha=1 / 6, beta=0.5),
    "hard_swish": lambda g, x, o, p: g.HardSwish(x),
    "tanh": lambda g, x, o, p: g.Tanh(x),
    "softsign": lambda g, x, o, p: g.Softsign(x),
    "soft_shrink": lambda g, x, o, p: g.Shrink(x, lambd=float(o.threshold), bias=float(o.threshold)),
    "hard_shrink": lambda g, x, o, p: g.Shrink(x, lambd=float(o.threshold)),
    "tanh_shrink": lambda g, x, o, p: g.Sub(x, g.Tanh(x)),
    "softmax": lambda g, x, o, p: g.Softmax(x, axis=o.axis),
    "log_softmax": lambda g, x, o, p: g.LogSoftmax(x, axis=o.axis),
    "softmin": lambda g, x, o, p: g.Softmax(g.Neg(x), axis=o.axis),
    "glu": _gated("glu"),
    "swiglu": _gated("swiglu"),
    "maxout": _maxout,
    **dict.fromkeys(
        ("identity", "dropout", "spatial_dropout", "drop_path", "gaussian_noise", "stop_gradient"),
        lambda g, x, o, p: x.name,
    ),
}


# --- linear maps ----------------------------------------------------------------------------------


def _bilinear(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    out = g.Einsum(*x, p["weight"], equation="ni,nj,oij->no")
    return g.Add(out, p["bias"]) if o.bias else out


_MODES = {"replicate": "edge", "circular": "wrap"}


def bordered(g: Graph, x: Any, low: Any, high: Any, mode: str, value: float | None = None) -> Any:
    """An image with a border of so much before and behind along its axes."""
    return g.Pad(x, [0, 0, *low, 0, 0, *high], value, mode=_MODES.get(mode, mode))


def _conv(g: Graph, x: Value, o: Options, p: Leaves, groups: int | None = None) -> Any:
    kernel = p["weight"].shape[2:]
    at = window(kernel, o.stride, o.padding, o.dilation)
    how = {"kernel_shape": kernel, "strides": at.stride, "dilations": at.dilation}
    same, source = o.padding == "same" and set(at.stride) != {1}, x.name
    if same and set(at.dilation) == {1} and o.padding_mode == "zeros":
        how["auto_pad"] = "SAME_UPPER"  # which onnxruntime has without dilation
    else:
        sizes = fixed(x, *range(2, x.rank)) if same else (1,) * len(kernel)  # any does for the others
        low, high = zip(*on_image(at, o.padding, sizes).padding, strict=True)
        if o.padding_mode == "zeros":
            how["pads"] = [*low, *high]
        elif any(low + high):
            source = bordered(g, x, low, high, o.padding_mode)
    return g.Conv(source, p["weight"], p.get("bias"), group=groups or o.groups, **how)


def _depthwise(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    return _conv(g, x, o, p, groups=len(p["weight"]) // o.multiplier)


def _separable(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    point = p["pointwise"]
    return g.Conv(_depthwise(g, x, o, p["depthwise"]), point["weight"], point.get("bias"))


def _conv_transpose(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    kernel, source = p["weight"].shape[2:], x.name
    at, more = window(kernel, o.stride, o.padding, o.dilation), ints(o.output_padding, len(kernel))
    how = {"kernel_shape": kernel, "strides": at.stride, "dilations": at.dilation, "group": o.groups}
    low, high = zip(*at.padding, strict=True)
    if all(extra < step for extra, step in zip(more, at.stride, strict=True)):
        how["output_padding"] = more
    else:  # which onnxruntime does not have: zeros behind the input, and less cut off
        cut = [side - extra for side, extra in zip(high, more, strict=True)]
        zeros = [-(min(side, 0) // step) for side, step in zip(cut, at.stride, strict=True)]
        source = bordered(g, x, [0] * len(kernel), zeros, "constant")
        high = tuple(c + n * step for c, n, step in zip(cut, zeros, at.stride, strict=True))
    return g.ConvTranspose(source, p["weight"], p.get("bias"), pads=[*low, *high], **how)


LINEAR: dict[str, Rule] = {
    "dense": lambda g, x, o, p: g.Gemm(x, p["weight"], p.get("bias"), transB=1),
    "bilinear": _bilinear,
    "conv": _conv,
    "conv1d": turned(_conv),
    "conv3d": _conv,
    "conv_transpose": _conv_transpose,
    "conv_transpose1d": turned(_conv_transpose),
    "conv_transpose3d": _conv_transpose,
    "depthwise_conv": _depthwise,
    "separable_conv": _separable,
}


# --- pooling --------------------------------------------------------------------------------------


def _window(o: Options, rank: int) -> dict[str, Any]:
    """The attributes that all poolings of windows have."""
    kernel, count = ints(o.kernel_size, rank - 2), rank - 2
    stride = kernel if o.stride is None else ints(o.stride, count)
    return {"kernel_shape": kernel, "strides": stride, "ceil_mode": int(o.ceil_mode)}


def _placed(o: Options, x: Value) -> dict[str, Any]:
    """The attributes of a pooling that may see beyond the image."""
    how = _window(o, x.rank)
    at = window(tuple(how["kernel_shape"]), tuple(how["strides"]), o.padding, o.dilation)
    sizes = fixed(x, *range(2, x.rank)) if o.padding == "same" else (1,) * (x.rank - 2)
    low, high = zip(*on_image(at, o.padding, sizes).padding, strict=True)
    return {**how, "pads": [*low, *high], "dilations": at.dilation}


def _max_pool(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    if not o.return_indices:
        return g.MaxPool(x, **_placed(o, x))
    out, places = g.MaxPool(x, **_placed(o, x), outputs=2)  # counted over the whole batch
    within = g.Mod(places, prod(fixed(x, *range(2, x.rank))))
    g.kinds[within] = np.dtype(np.int64)
    return out, within


def _max_unpool(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    numbers, count = x[0], x[0].rank - 2
    if o.output_size is None:
        kernel, pads = ints(o.kernel_size, count), ints(o.padding, count)
        steps = zip(kernel if o.stride is None else ints(o.stride, count), kernel, pads, strict=True)
        seen = zip(fixed(numbers, *range(2, numbers.rank)), steps, strict=True)
        sizes = [(n - 1) * step + size - 2 * pad for n, (step, size, pad) in seen]
    else:
        sizes = ints(o.output_size, count)
    batch, channels = g.size(numbers, 0), fixed(numbers, 1)[0]
    flat = [g.reshape(one, batch, channels, prod(fixed(one, *range(2, one.rank)))) for one in x]
    empty = g.Expand(0.0, g.Concat(*map(listed, (batch, channels, prod(sizes))), axis=0))
    out = g.ScatterElements(empty, flat[1], flat[0], axis=2)
    return g.reshape(out, batch, channels, *sizes)


def _avg_pool(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    return g.AveragePool(x, **_placed(o, x), count_include_pad=int(o.count_include_pad))


def _lp_pool(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    window, power = _window(o, x.rank), float(o.norm_type)
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


def _each_rank(name: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys((name, f"{name}1d", f"{name}3d"), turned(rule))


def _with_places(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    """The second input is of integers."""
    g.takes(x[1], np.int64)
    return turned(_max_unpool)(g, x, o, p)


POOLING: dict[str, Rule] = {
    **_each_rank("max_pool", _max_pool),
    **dict.fromkeys(("max_unpool", "max_unpool1d", "max_unpool3d"), _with_places),
    **_each_rank("avg_pool", _avg_pool),
    **_each_rank("lp_pool", _lp_pool),
    **_each_rank("adaptive_avg_pool", _adaptive("AveragePool", "ReduceMean")),
    **_each_rank("adaptive_max_pool", _adaptive("MaxPool", "ReduceMax")),
    "global_avg_pool": _global("ReduceMean"),
    "global_max_pool": _global("ReduceMax"),
}
