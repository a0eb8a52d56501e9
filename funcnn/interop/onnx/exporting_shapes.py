"""The table of layers that move numbers, join them, or bring them to one size."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn._kernels.upsampling import Line, weights
from funcnn.interop.onnx.exporting_graph import Graph, Value, fixed
from funcnn.interop.onnx.exporting_layers import Leaves, Options, Rule, bordered, ints, turned

# --- shape ----------------------------------------------------------------------------------------


def _sides(widths: Any, rank: int) -> tuple[list[int], list[int]]:
    """What is put, or cut, before the first and after the last along each axis of space."""
    pairs = [(one, one) if isinstance(one, int) else one for one in ints(widths, rank - 2)]
    return [low for low, _ in pairs], [high for _, high in pairs]


def _pad(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    low, high = _sides(o.widths, x.rank)
    value = float(o.value) if o.mode == "constant" else None
    return bordered(g, x, [*low, *high], o.mode, value)


def _crop(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    low, high = _sides(o.widths, x.rank)
    ends = [-side if side else np.iinfo(np.int64).max for side in high]
    return g.Slice(x, low, ends, list(range(2, x.rank)))


def _upsample(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    """By whole factors or curves to a size, an operator; else what rounds as our layer does."""
    axes = list(range(2, x.rank))
    given = ints(o.size if o.scale is None else o.scale, len(axes))
    nearest, whole = o.mode.startswith("nearest"), all(isinstance(one, int) for one in given)
    kind = "nearest" if nearest else "cubic" if o.mode == "bicubic" else "linear"
    if g.resizes and whole and (o.scale is not None or not nearest):
        how = {"nearest": "asymmetric", "nearest-exact": "half_pixel"}
        place = "align_corners" if o.align_corners else how.get(o.mode, "half_pixel")
        more = {"nearest_mode": "floor" if o.mode == "nearest" else "round_prefer_ceil"}
        scales = None if o.scale is None else g.exact(np.array(given, np.float32))
        sizes = [given] if o.scale is None else []
        return g.Resize(
            x, None, scales, *sizes, axes=axes, mode=kind, coordinate_transformation_mode=place,
            **(more if nearest else {"cubic_coeff_a": -0.75}),
        )  # fmt: skip
    out = x.name
    for axis, n, one in zip(axes, fixed(x, *axes), given, strict=True):
        count, factor = (one, None) if o.scale is None else (int(n * one), one)
        matrix = weights(Line(n, count, factor, o.mode if nearest else kind, o.align_corners))
        if nearest:
            out = g.Gather(out, matrix.argmax(1), axis=axis)
        else:
            perm = list(range(x.rank))
            perm[axis], perm[-1] = perm[-1], axis
            out = g.Transpose(g.MatMul(g.Transpose(out, perm=perm), matrix.T), perm=perm)
    return out


def deeper(g: Graph, x: Value, r: int) -> Any:
    """Blocks of pixels as channels, those of one channel beside each other."""
    c, h, w = fixed(x)
    cut = g.Transpose(g.Reshape(x, [-1, c, h // r, r, w // r, r]), perm=[0, 1, 3, 5, 2, 4])
    return g.Reshape(cut, [-1, c * r * r, h // r, w // r])


def _channel_shuffle(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    (channels,) = fixed(x, 1)
    return g.Gather(x, np.arange(channels).reshape(o.groups, -1).T.reshape(-1), axis=1)


def _split(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    size = fixed(x, o.axis)[0]
    several = isinstance(o.sections, tuple)
    sizes = list(o.sections) if several else [size // o.sections] * o.sections
    outs = g.Split(x, sizes, axis=o.axis, outputs=len(sizes))
    return (outs,) if len(sizes) == 1 else tuple(outs)


def merged(g: Graph, values: Any, how: str, axis: int) -> Any:
    """One of several."""
    if how == "concatenate":
        return g.Concat(*values, axis=axis)
    if how != "product":
        total = g.Sum(*values)
        return total if how == "sum" else g.Div(total, float(len(values)))
    out, *rest = values
    for one in rest:
        out = g.Mul(out, one)
    return out if rest else out.name


SHAPE: dict[str, Rule] = {
    "flatten": lambda g, x, o, p: g.Flatten(x),
    "reshape": lambda g, x, o, p: g.Reshape(x, [0, *o.shape]),
    "transpose": lambda g, x, o, p: g.Transpose(x, perm=[0, *o.axes]),
    "pad": turned(_pad),
    "crop": turned(_crop),
    "upsample": turned(_upsample),
    "pixel_shuffle": lambda g, x, o, p: g.DepthToSpace(x, blocksize=o.factor, mode="CRD"),
    "pixel_unshuffle": lambda g, x, o, p: deeper(g, x, o.factor),
    "channel_shuffle": turned(_channel_shuffle),
    "concatenate": lambda g, x, o, p: g.Concat(*x, axis=o.axis),
    "split": _split,
    "merge": lambda g, x, o, p: merged(g, x, o.how, o.axis),
}


# --- normalisation --------------------------------------------------------------------------------


def _standard(g: Graph, x: Any, axes: list[int], epsilon: float, centred: bool = True) -> Any:
    """Mean 0 and variance 1 over some axes."""
    offset = g.Sub(x, g.ReduceMean(x, axes)) if centred else x
    variance = g.ReduceMean(g.Mul(offset, offset), axes)
    return g.Div(offset, g.Sqrt(g.Add(variance, float(epsilon))))


def _scaled(g: Graph, z: Any, p: Leaves, shape: list[int]) -> Any:
    """A learned scale and bias of a shape that broadcasts."""
    for name, operator in (("scale", "Mul"), ("bias", "Add")):
        if name in p:
            z = g.add(operator, z, g.leaf(name, p[name].reshape(shape)))
    return z


def _batch_norm(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    if not o.track_running:
        axes = [axis for axis in range(x.rank) if axis != 1]
        return _scaled(g, _standard(g, x, axes, o.epsilon), p, [-1, *[1] * (x.rank - 2)])
    size = p["running_mean"].size
    scale, bias = p.get("scale", np.ones(size)), p.get("bias", np.zeros(size))
    running = p["running_mean"], p["running_var"]
    return g.BatchNormalization(x, scale, bias, *running, epsilon=float(o.epsilon))


def _over_axes(centred: bool) -> Rule:
    def rule(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
        given = o.axes if isinstance(o.axes, tuple) else (o.axes,)
        axes = sorted(axis % x.rank for axis in given)
        if centred and axes == list(range(axes[0], x.rank)):
            sizes = fixed(x, *axes)  # onnxruntime crashes without a bias
            scale, bias = p.get("scale", np.ones(sizes)), p.get("bias", np.zeros(sizes))
            return g.LayerNormalization(x, scale, bias, axis=axes[0], epsilon=float(o.epsilon))
        shape = [n if axis in axes else 1 for axis, n in enumerate(x.shape)]
        return _scaled(g, _standard(g, x, axes, o.epsilon, centred), p, shape)

    return rule


def _group_norm(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    z = _standard(g, g.Reshape(x, [0, o.groups, -1]), [2], o.epsilon)
    return _scaled(g, g.Reshape(z, g.Shape(x)), p, [-1, *[1] * (x.rank - 2)])


def _instance_norm(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    if o.track_running:
        return _batch_norm(g, x, o, p)
    z = _standard(g, x, list(range(2, x.rank)), o.epsilon)
    return _scaled(g, z, p, [-1, *[1] * (x.rank - 2)])


def _local_response_norm(g: Graph, x: Value, o: Options, p: Leaves) -> Any:
    """The sum over neighbours is a product with a matrix of ones around the diagonal."""
    (channels,) = fixed(x, 1)
    away = np.arange(channels) - np.arange(channels)[:, None]
    near = np.where((away >= -(o.size // 2)) & (away <= (o.size - 1) // 2), o.alpha / o.size, 0.0)
    squares = g.Reshape(g.Mul(x, x), [0, channels, -1])
    power = g.Pow(g.Add(g.MatMul(near, squares), float(o.k)), float(o.beta))
    return g.Div(x, g.Reshape(power, g.Shape(x)))


NORMS: dict[str, Rule] = {
    "batch_norm": turned(_batch_norm),
    "layer_norm": _over_axes(centred=True),
    "rms_norm": _over_axes(centred=False),
    "group_norm": turned(_group_norm),
    "instance_norm": turned(_instance_norm),
    "local_response_norm": turned(_local_response_norm),
}
