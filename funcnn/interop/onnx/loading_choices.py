"""Operators of ONNX that pick numbers by their places, or tell the places; and their gradients."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from funcnn.interop.onnx.loading_elementwise import A, Operator
from funcnn.types import Array, Shape


def _places(a: A, x: Array, indices: Array) -> tuple[Any, ...]:
    """Where in `x` each of the indices along one axis stands."""
    found: list[Any] = list(np.indices(indices.shape, sparse=True))
    axis = range(x.ndim)[a.axis]
    size = x.shape[axis]
    if ((indices < -size) | (indices >= size)).any():
        raise ValueError(f"indices must be below {size}")
    found[axis] = indices % max(1, size)
    return tuple(found)


def _spread(a: A, x: Array, indices: Array, d: Array) -> Array:
    """The sum of all that stands at each place."""
    out = np.zeros(x.shape, d.dtype)
    np.add.at(out, _places(a, x, indices), d)
    return out


# --- elements ---------------------------------------------------------------------------------------


def _scatter(a: A, x: Array, indices: Array, updates: Array) -> Any:
    if a.reduction == "add":
        return x + _spread(a, x, indices, updates)
    out = np.array(x)
    out[_places(a, x, indices)] = updates
    return out


def _scatter_back(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    x, indices, _ = inputs
    places = _places(a, x, indices)
    dx = np.array(dout)
    if a.reduction != "add":
        dx[places] = 0
    return dx, None, dout[places]


def _chosen_shape(a: A, x: Array, indices: Array) -> Shape:
    if indices.ndim != x.ndim or not -x.ndim <= a.axis < x.ndim:
        raise ValueError(f"axis {a.axis} of {x.ndim}, indices of {indices.ndim} axes")
    return tuple(indices.shape)


def _scatter_shape(a: A, x: Array, indices: Array, updates: Array) -> Shape:
    if _chosen_shape(a, x, indices) != updates.shape:
        raise ValueError(f"{indices.shape} indices for {updates.shape} updates")
    return tuple(x.shape)


# --- the largest ------------------------------------------------------------------------------------


def _top(a: A, x: Array, k: Any) -> Any:
    """Sorted; of equal numbers the first comes first."""
    line = np.flip(x, a.axis) if a.largest else x
    order = np.argsort(line, a.axis, kind="stable")
    order = np.flip(x.shape[a.axis] - 1 - order, a.axis) if a.largest else order
    first = order.take(np.arange(int(np.ravel(k)[0])), a.axis)
    return np.take_along_axis(x, first, a.axis), first


def _top_shape(a: A, x: Array, k: Any) -> Shape:
    axis, count = range(x.ndim)[a.axis], int(np.ravel(k)[0])
    if not 0 <= count <= x.shape[axis]:
        raise ValueError(f"{count} of {x.shape[axis]}")
    return (*x.shape[:axis], count, *x.shape[axis + 1 :])


def pooled(a: A, x: Array) -> Shape:
    """As many windows as there is room for; with `ceil_mode` one more that begins inside."""
    many = len(a.kernel_shape)
    found = list(x.shape[:2])
    for at, (n, k, s, d) in enumerate(
        zip(x.shape[2:], a.kernel_shape, a.strides, a.dilations, strict=True)
    ):
        room = n + a.pads[at] + a.pads[at + many] - (k - 1) * d - 1
        if room < 0:
            raise ValueError(f"no window of {k} in {n}")
        count = room // s + 1
        found.append(count + (a.ceil_mode and room % s > 0 and count * s < n + a.pads[at]))
    return tuple(map(int, found))


def _max_pool(a: A, x: Array) -> Any:
    """The largest of each window, and its place among all numbers."""
    shape, many = pooled(a, x), len(a.kernel_shape)
    spans = [(k - 1) * d + 1 for k, d in zip(a.kernel_shape, a.dilations, strict=True)]
    reach = [(n - 1) * s + span for n, s, span in zip(shape[2:], a.strides, spans, strict=True)]
    befores, sizes = a.pads[:many], x.shape[2:]
    widths = [(b, max(0, r - b - n)) for b, r, n in zip(befores, reach, sizes, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=-np.inf)
    axes = tuple(range(2, x.ndim))
    steps = [slice(0, r - span + 1, s) for r, span, s in zip(reach, spans, a.strides, strict=True)]
    inside = [slice(None, None, d) for d in a.dilations]
    windows = sliding_window_view(padded, spans, axes)[:, :, *steps, *inside]
    best = windows.reshape(*shape, prod(a.kernel_shape)).argmax(-1)
    place = np.arange(prod(shape[:2])).reshape(*shape[:2], *[1] * many)
    for at, offset in enumerate(np.unravel_index(best, a.kernel_shape)):
        line = np.arange(shape[2 + at]).reshape(-1, *[1] * (many - 1 - at)) * a.strides[at]
        place = place * sizes[at] + (line + offset * a.dilations[at] - befores[at])
    return x.reshape(-1)[place], place


def _max_pool_back(a: A, inputs: Any, out: Any, dout: Any) -> tuple[Any]:
    dx = np.zeros(inputs[0].size, dout[0].dtype)
    np.add.at(dx, out[1], dout[0])
    return (dx.reshape(inputs[0].shape),)


CHOICES: dict[str, Operator] = {
    "GatherElements": Operator(
        lambda a, x, indices: x[_places(a, x, indices)],
        lambda a, inputs, out, dout: (_spread(a, inputs[0], inputs[1], dout),),
        _chosen_shape, {"axis": 0},
    ),
    "ScatterElements": Operator(
        _scatter, _scatter_back, _scatter_shape, {"axis": 0, "reduction": "none"}
    ),
    "TopK": Operator(
        _top, lambda a, inputs, out, dout: (_spread(a, inputs[0], out[1], dout[0]),), _top_shape,
        {"axis": -1, "largest": 1, "sorted": 1}, (1,), dtype="0 int64", outputs=2,
    ),
    "MaxPool": Operator(
        _max_pool, _max_pool_back, pooled,
        {"kernel_shape": (), "strides": (), "pads": (), "dilations": (), "ceil_mode": 0},
        dtype="0 int64", outputs=2,
    ),
}  # fmt: skip
