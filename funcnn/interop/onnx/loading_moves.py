"""Operators of ONNX that move, choose, sum up or multiply: functions of arrays, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.interop.onnx.loading_elementwise import A, Operator, folded
from funcnn.types import Array, Shape

# --- moving -----------------------------------------------------------------------------------------


def _ints(value: Any) -> Shape:
    return tuple(int(part) for part in np.asarray(value).ravel())


def _linear(
    forward: Callable[..., Any], backward: Callable[..., Any], *, static: Shape = (), **options: Any
) -> Operator:
    """A linear map of the first input, and its adjoint ``(a, inputs, dout)``."""
    shape, dtype = options.pop("shape", None), options.pop("dtype", "")

    def pullback(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any]:
        return (backward(a, inputs, dout),)

    return Operator(forward, pullback, shape, options, static, dtype=dtype)


def _back(a: A, inputs: Any, dout: Array) -> Any:
    """The shape as it was."""
    return np.ascontiguousarray(dout).reshape(inputs[0].shape)


def _reshape(a: A, x: Array, shape: Any) -> Any:
    sizes = [
        x.shape[at] if size == 0 and not a.allowzero else size for at, size in enumerate(_ints(shape))
    ]
    if min(sizes, default=0) < -1:
        raise ValueError(f"sizes {sizes}")
    return x.reshape(sizes)


def _flatten(a: A, x: Array) -> Any:
    if not -x.ndim <= a.axis <= x.ndim:
        raise ValueError(f"axis {a.axis} of {x.ndim} axes")
    at = a.axis + x.ndim if a.axis < 0 else a.axis
    return x.reshape(prod(x.shape[:at]), prod(x.shape[at:]))


def slices(x: Array, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> tuple[slice, ...]:
    """ONNX's bounds as Python's: an end before the first place, backwards, is None."""
    first, last = _ints(starts), _ints(ends)
    where = tuple(range(len(first))) if axes is None else _ints(axes)
    by = (1,) * len(first) if steps is None else _ints(steps)
    found = [slice(None)] * x.ndim
    for start, end, axis, step in zip(first, last, where, by, strict=True):
        size = x.shape[axis]
        if step < 0:
            end = end + size if end < 0 else end
            found[axis] = slice(start, None if end < 0 else end, step)
        else:
            found[axis] = slice(start, end, step)
    return tuple(found)


def _slice_back(a: A, inputs: Any, dout: Array) -> Any:
    dx = np.zeros(inputs[0].shape, dout.dtype)
    dx[slices(*inputs)] = dout
    return dx


def _tile_back(a: A, inputs: Any, dout: Array) -> Any:
    x, repeats = inputs[0], _ints(inputs[1])
    pairs = [size for pair in zip(repeats, x.shape, strict=True) for size in pair]
    return numerics.sum(dout.reshape(pairs), tuple(range(0, 2 * x.ndim, 2)))


def _widths(x: Array, pads: Any, axes: Any = None) -> list[tuple[int, int]]:
    sizes, found = _ints(pads), [(0, 0)] * x.ndim
    where = range(x.ndim) if axes is None else _ints(axes)
    half = len(sizes) // 2
    for axis, before, after in zip(where, sizes[:half], sizes[half:], strict=True):
        found[axis] = (before, after)
    return found


def _cropped(x: Array, widths: list[tuple[int, int]]) -> Array:
    """Negative widths cut off."""
    return x[
        tuple(slice(max(0, -b), n - max(0, -e)) for (b, e), n in zip(widths, x.shape, strict=True))
    ]


def _pad(a: A, x: Array, pads: Any, value: Any = None, axes: Any = None) -> Any:
    widths = _widths(x, pads, axes)
    more = [(max(0, before), max(0, after)) for before, after in widths]
    x = _cropped(x, widths)
    if a.mode == "constant":
        fill = 0 if value is None else np.asarray(value).reshape(())
        return np.pad(x, more, constant_values=fill)
    return np.pad(x, more, mode=a.mode)


def _pad_shape(a: A, x: Array, pads: Any, value: Any = None, axes: Any = None) -> Shape:
    return tuple(n + b + e for n, (b, e) in zip(x.shape, _widths(x, pads, axes), strict=True))


def _pad_back(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    """Each copy gives its gradient to its original, a constant border to its value."""
    x, (pads, axes) = inputs[0], (inputs[1], (*inputs, None, None)[3])
    places = _pad(a, np.arange(1, x.size + 1).reshape(x.shape), pads, np.int64(0), axes)
    found = _added(places.ravel(), dout.ravel(), x.size + 1)
    return found[1:].reshape(x.shape), None, found[0]


def _added(places: Array, values: Array, count: int) -> Array:
    """For each place, the sum of the values there."""
    out = np.zeros((count, *values.shape[1:]), values.dtype)
    np.add.at(out, places, values)
    return out


def _gather_shape(a: A, x: Array, indices: Array) -> Shape:
    axis = range(x.ndim)[a.axis]
    return (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _gather_back(a: A, inputs: Any, dout: Array) -> Any:
    x, indices = inputs
    axis = range(x.ndim)[a.axis]
    rows = np.moveaxis(dout.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :]), axis, 0)
    found = _added(indices.ravel() % x.shape[axis], np.ascontiguousarray(rows), x.shape[axis])
    return np.moveaxis(found, 0, axis)


def _concat_shape(a: A, *inputs: Array) -> Shape:
    shapes = [list(one.shape) for one in inputs]
    axis, total = range(len(shapes[0]))[a.axis], sum(shape[a.axis] for shape in shapes)
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) > 1:
        raise ValueError(f"shapes differ in more than axis {axis}")
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


def _concat_back(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    ends = np.cumsum([one.shape[a.axis] for one in inputs])[:-1]
    return tuple(np.split(dout, ends, a.axis))


def _split(a: A, x: Array, sizes: Any = None) -> Any:
    n = x.shape[a.axis]
    if sizes is None:
        step = -(-n // a.num_outputs)
        sizes = [step] * (n // step) + [n % step] * (n % step > 0)
    if sum(_ints(sizes)) != n:
        raise ValueError(f"parts of {_ints(sizes)} do not make {n}")
    return tuple(np.split(x, np.cumsum(_ints(sizes))[:-1], a.axis))


def _blocks(a: A, x: Array, deeper: bool) -> tuple[Shape, Shape]:
    """How DepthToSpace takes the axes apart, and the order in which it puts them together."""
    n, c, h, w = x.shape
    b = a.blocksize
    if deeper:
        order = (0, 1, 3, 5, 2, 4) if a.mode == "CRD" else (0, 3, 5, 1, 2, 4)
        return (n, c, h // b, b, w // b, b), order
    if a.mode == "CRD":
        return (n, c // (b * b), b, b, h, w), (0, 1, 4, 2, 5, 3)
    return (n, b, b, c // (b * b), h, w), (0, 3, 4, 1, 5, 2)


def _shuffled(a: A, x: Array, deeper: bool = False) -> Any:
    (n, c, h, w), b = x.shape, a.blocksize
    apart, order = _blocks(a, x, deeper)
    out = (n, c * b * b, h // b, w // b) if deeper else (n, c // (b * b), h * b, w * b)
    return x.reshape(apart).transpose(order).reshape(out)


def _shuffled_back(a: A, x: Array, dout: Array, deeper: bool = False) -> Any:
    apart, order = _blocks(a, x, deeper)
    mixed = [apart[axis] for axis in order]
    return dout.reshape(mixed).transpose(np.argsort(order)).reshape(x.shape)


def _cast(a: A, x: Array, like: Any = None) -> Any:
    return x.astype(a.to if like is None else like.dtype)


def _cast_back(a: A, inputs: Any, dout: Array) -> Any:
    return dout.astype(inputs[0].dtype)


def _trilu(a: A, x: Array, k: Any = 0) -> Any:
    return (np.triu if a.upper else np.tril)(x, int(np.asarray(0 if k is None else k).item()))


def _cumsum(a: A, x: Array, axis: Any) -> Any:
    at = int(np.asarray(axis).item())
    x = np.flip(x, at) if a.reverse else x
    out = np.cumsum(x, at, dtype=x.dtype)
    out = out - x if a.exclusive else out
    return np.flip(out, at) if a.reverse else out


def _cumsum_back(a: A, inputs: Any, dout: Array) -> Any:
    opposite = type(a)(**{**vars(a), "reverse": not a.reverse})
    return _cumsum(opposite, dout, inputs[1])


def _same(a: A, x: Array, *rest: Any) -> Shape:
    return tuple(x.shape)


MOVES: dict[str, Operator] = {
    "Reshape": _linear(_reshape, _back, static=(1,), allowzero=0),
    "Flatten": _linear(_flatten, _back, axis=1),
    "Transpose": _linear(
        lambda a, x: x.transpose(a.perm),
        lambda a, inputs, d: d.transpose(None if a.perm is None else np.argsort(a.perm)), perm=None,
    ),
    "Squeeze": _linear(
        lambda a, x, axes=None: np.squeeze(x, None if axes is None else _ints(axes)), _back, static=(1,)
    ),
    "Unsqueeze": _linear(lambda a, x, axes: np.expand_dims(x, _ints(axes)), _back, static=(1,)),
    "Expand": _linear(
        lambda a, x, shape: np.broadcast_to(x, np.broadcast_shapes(x.shape, _ints(shape))),
        lambda a, inputs, d: folded(d, inputs[0].shape), static=(1,),
    ),
    "Slice": _linear(lambda a, *inputs: inputs[0][slices(*inputs)], _slice_back, static=(1, 2, 3, 4)),
    "Tile": _linear(
        lambda a, x, repeats: np.tile(x, _ints(repeats)), _tile_back, static=(1,),
        shape=lambda a, x, repeats: tuple(n * r for n, r in zip(x.shape, _ints(repeats), strict=True)),
    ),
    "Pad": Operator(_pad, _pad_back, _pad_shape, {"mode": "constant"}, (1, 3), (2,)),
    "Gather": _linear(
        lambda a, x, indices: np.take(x, indices, a.axis), _gather_back, shape=_gather_shape, axis=0
    ),
    "Concat": Operator(
        lambda a, *inputs: np.concatenate(inputs, a.axis), _concat_back, _concat_shape, {"axis": None}
    ),
    "Split": _linear(
        _split, lambda a, inputs, d: np.concatenate(d, a.axis), static=(1,), axis=0, num_outputs=None
    ),
    "DepthToSpace": _linear(
        _shuffled, lambda a, inputs, d: _shuffled_back(a, inputs[0], d), blocksize=None, mode="DCR"
    ),
    "SpaceToDepth": _linear(
        lambda a, x: _shuffled(a, x, True),
        lambda a, inputs, d: _shuffled_back(a, inputs[0], d, True),
        blocksize=None, mode="DCR",
    ),
    "Trilu": _linear(
        _trilu, lambda a, inputs, d: _trilu(a, d, *inputs[1:]), shape=_same, upper=1
    ),
    "CumSum": _linear(_cumsum, _cumsum_back, shape=_same, exclusive=0, reverse=0),
    "Cast": _linear(_cast, _cast_back, shape=_same, to=None, saturate=1),
    "CastLike": _linear(_cast, _cast_back, shape=_same, dtype="1", saturate=1),
}  # fmt: skip
