"""The table of layers: what operators each kind becomes, of its input, its options and its leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcnn import tree
from funcnn._kernels.windows import on_image, window
from funcnn.interop.onnx.exporting_graph import Graph, Value, fixed

Options = Any
Leaves = dict[str, Any]
Rule = Callable[[Graph, Any, Options, Leaves], Any]


# --- axes -----------------------------------------------------------------------------------------


def turned(rule: Rule) -> Rule:
    """The same for sequences ``(N, T, F)``, which ONNX has as ``(N, F, T)``."""

    def rule_of_both(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
        if several(x)[0].rank != 3:
            return rule(g, x, o, p)
        turned = tree.map(lambda one: one.turned(g.turned(one), 0, 2, 1), x)
        return tree.map(g.turned, rule(g, turned, o, p))

    return rule_of_both


def each_rank(name: str, rule: Rule) -> dict[str, Rule]:
    """A layer of images, and its kin of sequences and of volumes."""
    return {name: rule, f"{name}1d": turned(rule), f"{name}3d": rule}


def _beside(g: Graph, p: Leaves, name: str, rank: int) -> Any:
    """A leaf of channels, to broadcast over what lies behind them."""
    return g.leaf(name, p[name].reshape(-1, *[1] * (rank - 2)))


def several(x: Any) -> tuple[Any, ...]:
    """One value, or all of a tuple."""
    return (x,) if isinstance(x, Value) else x


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
    "rrelu": lambda g, x, o, p: g.LeakyRelu(x, alpha=(o.lower + o.upper) / 2),
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
        (
            "identity",
            "dropout",
            "alpha_dropout",
            "spatial_dropout",
            "drop_path",
            "gaussian_noise",
        ),
        lambda g, x, o, p: x.name,
    ),
    "stop_gradient": lambda g, x, o, p: g.still(x),
}


# --- linear maps ----------------------------------------------------------------------------------


def _bilinear(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    half = g.MatMul(g.Unsqueeze(x[0], [1, 2]), p["weight"])  # (N, 1, 1, I) (O, I, J) -> (N, O, 1, J)
    out = g.Squeeze(g.MatMul(half, g.Unsqueeze(x[1], [1, 3])), [2, 3])
    return g.Add(out, p["bias"]) if o.bias else out


def _pairwise_distance(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    size = g.Abs(g.Add(g.Sub(*x), float(o.epsilon)))
    total = g.ReduceSum(g.Pow(size, float(o.norm_type)), [x[0].rank - 1], keepdims=int(o.keepdims))
    return g.Pow(total, 1 / o.norm_type)


def _cosine_similarity(g: Graph, x: Any, o: Options, p: Leaves) -> Any:
    axes = [o.axis % x[0].rank]
    a, b = (g.Max(g.ReduceL2(one, axes, keepdims=0), float(o.epsilon)) for one in x)
    return g.Div(g.Div(g.ReduceSum(g.Mul(*x), axes, keepdims=0), a), b)


_MODES = {"replicate": "edge", "circular": "wrap"}


def bordered(g: Graph, x: Any, pads: list[int], mode: str, value: float | None = None) -> Any:
    """An image with a border of so much before, and so much behind, along its axes."""
    low, high = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    return g.Pad(x, [0, 0, *low, 0, 0, *high], value, mode=_MODES.get(mode, mode)) if any(pads) else x


def placed(x: Value, o: Options, kernel: tuple[int, ...], explicit: bool = False) -> dict[str, Any]:
    """Where a window stands, as attributes."""
    padding, stride = getattr(o, "padding", 0), kernel if o.stride is None else o.stride
    at = window(kernel, stride, padding, getattr(o, "dilation", 1))
    how = {"kernel_shape": kernel, "strides": at.stride, "dilations": at.dilation}
    steady = padding != "same" or set(at.stride) == {1}  # whatever the sizes
    if not steady and set(at.dilation) == {1} and not explicit:
        return {**how, "auto_pad": "SAME_UPPER"}  # which onnxruntime has without dilation
    sizes = (1,) * len(kernel) if steady else fixed(x, *range(2, x.rank))
    low, high = zip(*on_image(at, padding, sizes).padding, strict=True)
    return {**how, "pads": [*low, *high]}


def _conv(g: Graph, x: Value, o: Options, p: Leaves, groups: int | None = None) -> Any:
    how, source = placed(x, o, p["weight"].shape[2:], o.padding_mode != "zeros"), x.name
    if o.padding_mode != "zeros":
        source = bordered(g, x, how.pop("pads"), o.padding_mode)
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
        source = bordered(g, x, [*[0] * len(kernel), *zeros], "constant")
        high = tuple(c + n * step for c, n, step in zip(cut, zeros, at.stride, strict=True))
    return g.ConvTranspose(source, p["weight"], p.get("bias"), pads=[*low, *high], **how)


LINEAR: dict[str, Rule] = {
    "dense": lambda g, x, o, p: g.Gemm(x, p["weight"], p.get("bias"), transB=1),
    "bilinear": _bilinear,
    "pairwise_distance": _pairwise_distance,
    "cosine_similarity": _cosine_similarity,
    **each_rank("conv", _conv),
    **each_rank("conv_transpose", _conv_transpose),
    "depthwise_conv": _depthwise,
    "separable_conv": _separable,
}
