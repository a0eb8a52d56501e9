"""The table of ONNX's operators as functions of JAX, for what `interop.onnx.export` writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
from jax import lax, nn, numpy as jnp

from funcnn.interop.onnx.loading_choices import pooled
from funcnn.interop.onnx.loading_moves import slices

A = Any

# --- along axes -----------------------------------------------------------------------------------


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in np.ravel(value))


def _reduced(reduce: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes=None, keepdims=1: reduce(
        x, axis=None if axes is None else _ints(axes), keepdims=bool(keepdims)
    )


def _norm(x: A, **how: Any) -> A:
    """Its gradient at 0 is 0."""
    squares = jnp.sum(x * x, **how)
    return jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))


def _softmax(x: A, axis: int = -1) -> A:
    """Of nothing but -infinity 0, with the gradient 0."""
    top = lax.stop_gradient(x.max(axis, keepdims=True))
    e = jnp.exp(x - jnp.where(jnp.isfinite(top), top, 0))
    total = e.sum(axis, keepdims=True)
    return e / jnp.where(total == 0, 1, total)


def _layer_norm(x: A, scale: A, bias: A, axis: int, epsilon: float) -> A:
    axes = tuple(range(axis, x.ndim))
    offset = x - x.mean(axes, keepdims=True)
    return offset * lax.rsqrt((offset * offset).mean(axes, keepdims=True) + epsilon) * scale + bias


def _batch_norm(x: A, *leaves: A, epsilon: float) -> A:
    scale, bias, mean, var = (leaf.reshape(-1, *[1] * (x.ndim - 2)) for leaf in leaves)
    return (x - mean) * lax.rsqrt(var + epsilon) * scale + bias


def _split(x: A, sizes: A = None, axis: int = 0, num_outputs: int = 1) -> A:
    ends = num_outputs if sizes is None else np.cumsum(_ints(sizes))[:-1]
    return tuple(jnp.split(x, ends, axis))


def _pad(x: A, pads: A, value: A = None, mode: str = "constant") -> A:
    low, high = _ints(pads)[: x.ndim], _ints(pads)[x.ndim :]
    more = {"constant_values": 0 if value is None else value} if mode == "constant" else {}
    return jnp.pad(x, list(zip(low, high, strict=True)), mode, **more)


def _deeper(x: A, blocksize: int, mode: str) -> A:
    n, c, h, w = x.shape
    apart = x.reshape(n, c // (blocksize * blocksize), blocksize, blocksize, h, w)
    return apart.transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, h * blocksize, w * blocksize)


def _top(x: A, k: A, largest: int = 1, axis: int = -1) -> A:
    order = jnp.argsort(x, axis, descending=bool(largest))
    first = jnp.take(order, np.arange(*_ints(k)), axis)
    return jnp.take_along_axis(x, first, axis), first


# --- products and windows -------------------------------------------------------------------------


def _gemm(x: A, y: A, bias: A = None, transB: int = 0) -> A:
    out = jnp.matmul(x, y.T if transB else y)
    return out if bias is None else out + bias


def _placed(x: A, how: dict[str, Any], kernel: tuple[int, ...]) -> Any:
    """Where a window stands; each attribute is there."""
    ones, many = (1,) * len(kernel), len(kernel)
    given = {"kernel_shape": kernel, "strides": ones, "dilations": ones, "pads": (0,) * 2 * many}
    a = SimpleNamespace(**{**given, "ceil_mode": 0, "auto_pad": "", "count_include_pad": 0, **how})
    if a.auto_pad:
        steps = zip(x.shape[2:], kernel, a.strides, strict=True)
        totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in steps]
        a.pads = [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]
    return a


def _biased(out: A, bias: A) -> A:
    return out if bias is None else out + bias.reshape(-1, *[1] * (out.ndim - 2))


def _conv(x: A, w: A, bias: A = None, group: int = 1, **how: Any) -> A:
    a = _placed(x, how, w.shape[2:])
    pads = list(zip(a.pads[: x.ndim - 2], a.pads[x.ndim - 2 :], strict=True))
    out = lax.conv_general_dilated(
        x, w, a.strides, pads, rhs_dilation=a.dilations, feature_group_count=group
    )
    return _biased(out, bias)


def _conv_transpose(x: A, w: A, bias: A = None, group: int = 1, **how: Any) -> A:
    """A convolution with the kernel turned round, over the input with zeros in between."""
    kernel, many = w.shape[2:], x.ndim - 2
    a = _placed(x, how, kernel)
    more = how.get("output_padding", (0,) * many)
    reach = [(k - 1) * d for k, d in zip(kernel, a.dilations, strict=True)]
    ends = zip(reach, a.pads[:many], a.pads[many:], more, strict=True)
    pads = [(r - low, r - high + extra) for r, low, high, extra in ends]
    w = jnp.flip(w, tuple(range(2, x.ndim))).reshape(group, -1, *w.shape[1:])
    w = w.swapaxes(1, 2).reshape(-1, x.shape[1] // group, *kernel)
    out = lax.conv_general_dilated(
        x, w, (1,) * many, pads, a.strides, a.dilations, feature_group_count=group
    )
    return _biased(out, bias)


def _windows(x: A, a: Any, fill: float, sizes: tuple[int, ...]) -> A:
    """Each place of the window in front, cut out of the input with its border."""
    many = len(sizes)
    spans = [(n - 1) * s + 1 for n, s in zip(sizes, a.strides, strict=True)]
    reach = [span + (k - 1) * d for span, k, d in zip(spans, a.kernel_shape, a.dilations, strict=True)]
    ends = zip(a.pads[:many], reach, x.shape[2:], strict=True)
    padded = jnp.pad(
        x, [(0, 0), (0, 0), *((low, max(0, r - low - n)) for low, r, n in ends)], constant_values=fill
    )
    found = []
    for place in np.ndindex(*a.kernel_shape):
        starts = [at * d for at, d in zip(place, a.dilations, strict=True)]
        cut = [slice(b, b + n, s) for b, n, s in zip(starts, spans, a.strides, strict=True)]
        found.append(padded[(..., *cut)])
    return jnp.stack(found)


def _max_pool(x: A, **how: Any) -> A:
    """The largest, and its place among all numbers."""
    a = _placed(x, how, how["kernel_shape"])
    shape = pooled(a, x)
    w = _windows(x, a, -np.inf, shape[2:])
    best = w.argmax(0)
    place = jnp.arange(prod(shape[:2])).reshape(*shape[:2], *[1] * len(shape[2:]))
    for at, offset in enumerate(jnp.unravel_index(best, a.kernel_shape)):
        line = np.arange(shape[2 + at]).reshape(-1, *[1] * (len(shape) - 3 - at)) * a.strides[at]
        place = place * x.shape[2 + at] + (line + offset * a.dilations[at] - a.pads[at])
    return jnp.take_along_axis(w, best[None], 0)[0], place


def _average_pool(x: A, **how: Any) -> A:
    a = _placed(x, how, how["kernel_shape"])
    sizes, many = pooled(a, x)[2:], x.ndim - 2
    ones, b = np.ones((1, 1, *x.shape[2:])), a
    if a.count_include_pad:  # which counts the border, and nothing behind it
        sides = list(zip(a.pads[:many], a.pads[many:], strict=True))
        ones, b = np.pad(ones, [(0, 0), (0, 0), *sides], constant_values=1), _placed(x, how, ())
        b.pads = (0,) * 2 * many
    counts = _windows(ones, b, 0, sizes).sum(0).astype(x.dtype)
    return _windows(x, a, 0, sizes).sum(0) / jnp.maximum(counts, 1)


# --- recurrence -----------------------------------------------------------------------------------


def _lstm(x: A, states: A, r: A, bias: A, o: Any) -> A:
    h, c = states
    i, out, f, g = jnp.split(x + h @ r.T + bias, 4, -1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(out) * jnp.tanh(c), c


def _gru(x: A, states: A, r: A, bias: A, o: Any) -> A:
    (h,), size = states, r.shape[1]
    gates = nn.sigmoid(x[:, : 2 * size] + h @ r[: 2 * size].T + bias[: 2 * size])
    z, reset = jnp.split(gates, 2, -1)
    last, more = r[2 * size :].T, bias[2 * size :]
    inner = reset * (h @ last + more) if o.linear_before_reset else (reset * h) @ last + more
    return ((1 - z) * jnp.tanh(x[:, 2 * size :] + inner) + z * h,)


def _rnn(x: A, states: A, r: A, bias: A, o: Any) -> A:
    total = x + states[0] @ r.T + bias
    return (jnp.tanh(total) if o.activations[0] == "Tanh" else nn.relu(total),)


def _walks(step: Callable[..., A], count: int) -> Callable[..., A]:
    """A recurrent operator ``(T, N, F) -> (T, D, N, H)``, and its last states."""

    def walk(x: A, w: A, r: A, bias: A = None, lengths: A = None, *first: A, **options: Any) -> A:
        o = SimpleNamespace(**{"direction": "forward", "linear_before_reset": 0, **options})
        (steps, n), (_, gates, hidden) = x.shape[:2], r.shape
        zeros = jnp.zeros((len(w), n, hidden), x.dtype)
        bias = jnp.zeros((len(w), 2 * gates), x.dtype) if bias is None else bias
        lengths = jnp.full(n, steps) if lengths is None else lengths
        line = jnp.arange(steps)[:, None]
        counts = (line < lengths)[..., None]
        outs, lasts = [], []
        for at in range(len(w)):
            back = o.direction == "reverse" or at == 1
            order = jnp.where(counts[..., 0], lengths - 1 - line, line)[..., None]
            taken = jnp.where(counts, x, 0)
            taken = jnp.take_along_axis(taken, order, 0) if back else taken
            taken = taken @ w[at].T + bias[at, :gates]

            def one(states: A, given: A, at: int = at) -> A:
                here, counted = given
                new = step(here, states, r[at], bias[at, gates:], o)
                kept = tuple(jnp.where(counted, *pair) for pair in zip(new, states, strict=True))
                return kept, jnp.where(counted, new[0], 0)

            begin = tuple(one[at] for one in first or (zeros,) * count)
            last, out = lax.scan(one, begin, (taken, counts))
            outs.append(jnp.take_along_axis(out, order, 0) if back else out)
            lasts.append(last)
        return jnp.stack(outs, 1), *map(jnp.stack, zip(*lasts, strict=True))

    return walk


# --- all --------------------------------------------------------------------------------------------


def _several(pair: Callable[..., A]) -> Callable[..., A]:
    return lambda *xs: reduce(pair, xs)


_SAME = (
    "Abs", "Add", "Cos", "Equal", "Exp", "Greater", "Less", "Log", "Mod", "Sin", "Sqrt", "Tanh",
    "Where",
)  # fmt: skip

FUNCTIONS: dict[str, Callable[..., A]] = {
    **{name: getattr(jnp, name.lower()) for name in _SAME},
    "Sub": jnp.subtract, "Mul": jnp.multiply, "Div": jnp.divide, "Pow": jnp.power, "Neg": jnp.negative,
    "And": jnp.logical_and, "Or": jnp.logical_or, "Not": jnp.logical_not,
    "GreaterOrEqual": jnp.greater_equal, "LessOrEqual": jnp.less_equal,
    "Max": _several(jnp.maximum), "Min": _several(jnp.minimum), "Sum": _several(jnp.add),
    "Identity": lambda x: x, "Relu": nn.relu, "Sigmoid": nn.sigmoid, "Softplus": nn.softplus,
    "Softsign": nn.soft_sign, "Mish": nn.mish, "Elu": nn.elu, "Celu": nn.celu, "Selu": nn.selu,
    "HardSwish": lambda x: x * jnp.clip(x / 6 + 0.5, 0, 1),
    "HardSigmoid": lambda x, alpha, beta: jnp.clip(alpha * x + beta, 0, 1),
    "LeakyRelu": lambda x, alpha: nn.leaky_relu(x, alpha),
    "PRelu": lambda x, slope: jnp.where(x < 0, slope * x, x),
    "Gelu": lambda x, approximate: nn.gelu(x, approximate=approximate == "tanh"),
    "Clip": lambda x, low=None, high=None: jnp.clip(x, low, high),
    "Shrink": lambda x, lambd, bias=0.0: jnp.where(
        x < -lambd, x + bias, jnp.where(x > lambd, x - bias, 0)
    ),
    "Softmax": _softmax, "LogSoftmax": lambda x, axis=-1: nn.log_softmax(x, axis),
    "ReduceSum": _reduced(jnp.sum), "ReduceMean": _reduced(jnp.mean), "ReduceMax": _reduced(jnp.max),
    "ReduceMin": _reduced(jnp.min), "ReduceL2": _reduced(_norm),
    "LayerNormalization": _layer_norm, "BatchNormalization": _batch_norm,
    "MatMul": jnp.matmul, "Gemm": _gemm, "Conv": _conv, "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool, "AveragePool": _average_pool,
    "LSTM": _walks(_lstm, 2), "GRU": _walks(_gru, 1), "RNN": _walks(_rnn, 1),
    "Cast": lambda x, to: x.astype(to),
    "Reshape": lambda x, sizes: x.reshape(
        [x.shape[at] if size == 0 else size for at, size in enumerate(_ints(sizes))]
    ),
    "Flatten": lambda x, axis=1: x.reshape(prod(x.shape[:axis]), -1),
    "Transpose": lambda x, perm: x.transpose(perm),
    "Squeeze": lambda x, axes: jnp.squeeze(x, _ints(axes)),
    "Unsqueeze": lambda x, axes: jnp.expand_dims(x, _ints(axes)),
    "Expand": lambda x, sizes: jnp.broadcast_to(x, np.broadcast_shapes(x.shape, _ints(sizes))),
    "Concat": lambda *xs, axis: jnp.concatenate(xs, axis),
    "Split": _split, "Slice": lambda x, *bounds: x[slices(x, *bounds)], "Pad": _pad,
    "Gather": lambda x, at, axis=0: jnp.take(x, at, axis),
    "GatherElements": lambda x, at, axis=0: jnp.take_along_axis(x, at, axis),
    "ScatterElements": lambda x, at, updates, axis=0: jnp.put_along_axis(
        x, at, updates, axis, inplace=False
    ),
    "TopK": _top, "DepthToSpace": _deeper,
}  # fmt: skip
"""Arrays and attributes in, an array or a tuple of several out. What follows from shapes alone is
NumPy's, in `tracing`."""
