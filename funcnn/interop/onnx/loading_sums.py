"""Operators of ONNX that sum up, multiply matrices, or make arrays of sizes; and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels import softmax as soft
from funcnn.interop.onnx.loading_elementwise import A, Operator, folded
from funcnn.types import Array, Shape

# --- reductions -------------------------------------------------------------------------------------


def _axes(a: A, x: Array, axes: Any) -> Shape:
    """The axes to reduce; none at all where the operator then does nothing."""
    if axes is None or np.size(axes) == 0:
        return () if a.noop_with_empty_axes else tuple(range(x.ndim))
    return tuple(int(axis) % x.ndim for axis in np.ravel(axes) if x.shape[int(axis)] >= 0)


def _left(a: A, x: Array, axes: Any = None) -> Shape:
    gone = _axes(a, x, axes)
    kept = [1 if at in gone else size for at, size in enumerate(x.shape)]
    return tuple(size for at, size in enumerate(kept) if a.keepdims or at not in gone)


def _reduction(value: Callable[..., Any], slope: Callable[..., Any] | None = None) -> Operator:
    """``value(x, axes)`` keeps the axes; ``slope(x, y, axes)`` is the derivative by each element."""

    def forward(a: A, x: Array, axes: Any = None) -> Any:
        gone = _axes(a, x, axes)
        return np.asarray(value(x, gone)).reshape(_left(a, x, axes)).astype(x.dtype)

    def pullback(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any]:
        assert slope is not None
        x, gone = inputs[0], _axes(a, inputs[0], (*inputs, None)[1])
        kept = tuple(1 if at in gone else size for at, size in enumerate(x.shape))
        d = dout.reshape(kept) * slope(x, out.reshape(kept), gone)
        return (np.broadcast_to(d, x.shape),)

    options = {"keepdims": 1, "noop_with_empty_axes": 0}
    return Operator(forward, slope and pullback, _left, options, (1,))


def _sum(x: Array, axes: Shape) -> Any:
    return numerics.sum(x, axes, keepdims=True) if axes else x


def _count(x: Array, axes: Shape) -> Any:
    return x.dtype.type(prod(x.shape[axis] for axis in axes))


def _equal(x: Array, y: Array, axes: Shape) -> Any:
    """Equal parts to all those that are the extreme."""
    equal = x == y
    return equal / np.maximum(_sum(equal.astype(x.dtype), axes), 1)


def _in_line(x: Array, axes: Shape) -> Array:
    """The axes as one, in front; one of size 1 where there are none."""
    first = np.moveaxis(x, axes, range(len(axes)))
    return first.reshape(prod(first.shape[: len(axes)]), *first.shape[len(axes) :])


def _product(x: Array, axes: Shape) -> Any:
    line = _in_line(x, axes)
    return np.cumprod(line, 0)[-1] if len(line) else np.ones(line.shape[1:], x.dtype)


def _others(x: Array, y: Array, axes: Shape) -> Any:
    """The product of all elements but one: of those before it and those behind it."""
    line = _in_line(x, axes)
    one = np.ones_like(line[:1])
    before = np.cumprod(np.concatenate((one, line[:-1])), 0)
    behind = np.cumprod(np.concatenate((one, line[:0:-1])), 0)[::-1]
    apart = [x.shape[axis] for axis in axes]
    return np.moveaxis((before * behind).reshape(*apart, *line.shape[1:]), range(len(axes)), axes)


def _log_sum_exp(x: Array, axes: Shape) -> Any:
    top = np.max(x, axes, keepdims=True, initial=-np.inf) if axes else x
    top = np.where(np.isfinite(top), top, 0)
    return numerics.log(_sum(numerics.exp(x - top), axes)) + top


def _range_of(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The smallest and the largest number."""
    if dtype.kind in "fb":
        return (-np.inf, np.inf) if dtype.kind == "f" else (False, True)
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def _outermost(of: Any, end: int) -> Callable[..., Any]:
    """The largest number, or the smallest; of none, the other end of what there can be."""
    return lambda x, axes: of(x, axes, keepdims=True, initial=_range_of(x.dtype)[end]) if axes else x


def _norm(x: Array, axes: Shape) -> Any:
    return np.sqrt(_sum(np.asarray(x * x), axes).astype(np.promote_types(x.dtype, np.float32)))


def _choice(choose: Callable[..., Any]) -> Operator:
    def forward(a: A, x: Array) -> Any:
        line = np.flip(x, a.axis) if a.select_last_index else x
        at = choose(line, a.axis, keepdims=bool(a.keepdims))
        return (x.shape[a.axis] - 1 - at if a.select_last_index else at).astype(np.int64)

    def shape(a: A, x: Array) -> Shape:
        at = range(x.ndim)[a.axis]
        return (*x.shape[:at], *((1,) if a.keepdims else ()), *x.shape[at + 1 :])

    options = {"axis": 0, "keepdims": 1, "select_last_index": 0}
    return Operator(forward, None, shape, options, dtype="int64")


# --- products ---------------------------------------------------------------------------------------


def _matmul(a: A, x: Array, y: Array) -> Any:
    if x.dtype.kind == "f":
        return numerics.matmul(x, y)
    return np.rint(numerics.matmul(x.astype(np.float64), y.astype(np.float64))).astype(x.dtype)


def _product_shape(a: A, x: Array, y: Array) -> Shape:
    left = x.shape if x.ndim > 1 else (1, *x.shape)
    right = y.shape if y.ndim > 1 else (*y.shape, 1)
    if left[-1] != right[-2]:
        raise ValueError(f"a product needs equal inner sizes, got {x.shape} and {y.shape}")
    rows = left[-2:-1] if x.ndim > 1 else ()
    columns = right[-1:] if y.ndim > 1 else ()
    return (*np.broadcast_shapes(left[:-2], right[:-2]), *rows, *columns)


def _matmul_back(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    x, y = inputs
    left, right = x if x.ndim > 1 else x[None], y if y.ndim > 1 else y[:, None]
    rows = dout if x.ndim > 1 else np.expand_dims(dout, -1 if y.ndim == 1 else -2)
    d = rows if y.ndim > 1 else rows[..., None] if x.ndim > 1 else rows.reshape(*rows.shape[:-1], 1, 1)
    dx = folded(numerics.matmul(d, np.swapaxes(right, -1, -2)), left.shape)
    dy = folded(numerics.matmul(np.swapaxes(left, -1, -2), d), right.shape)
    return dx.reshape(x.shape), dy.reshape(y.shape)


def _turned(a: A, x: Array, y: Array) -> tuple[Array, Array]:
    return x.T if a.transA else x, y.T if a.transB else y


def _gemm(a: A, x: Array, y: Array, z: Any = None) -> Any:
    left, right = _turned(a, x, y)
    out = _matmul(a, left, right)
    out = out if a.alpha == 1 else (a.alpha * out).astype(x.dtype)
    return out if z is None else (out + (z if a.beta == 1 else (a.beta * z).astype(x.dtype)))


def _gemm_back(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    x, y, z = (*inputs, None)[:3]
    left, right = _turned(a, x, y)
    dx = a.alpha * numerics.matmul(dout, right.T)
    dy = a.alpha * numerics.matmul(left.T, dout)
    dz = () if z is None else (folded(a.beta * dout, z.shape),)
    return dx.T if a.transA else dx, dy.T if a.transB else dy, *dz


# --- along one axis ---------------------------------------------------------------------------------


def _along(value: Callable[..., Any], gradient: Callable[..., Any], **options: Any) -> Operator:
    """A function of the numbers along an axis; along all axes from there on, up to version 12."""

    def rows(a: A, x: Array) -> tuple[Array, int]:
        return (x.reshape(*x.shape[: a.axis % x.ndim], -1), -1) if a.coerced else (x, a.axis)

    def forward(a: A, x: Array) -> Any:
        return value(*rows(a, x)).reshape(x.shape)

    def pullback(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any]:
        (y, axis), (dy, _) = rows(a, out), rows(a, dout)
        return (gradient(y, dy, axis).reshape(out.shape),)

    shape: Callable[..., Any] = lambda a, x: tuple(x.shape)  # noqa: E731 - a line of the table
    return Operator(forward, pullback, shape, {"axis": -1, "coerced": 0, **options})


# --- arrays out of sizes ----------------------------------------------------------------------------


def _range(a: A, start: Any, limit: Any, step: Any) -> Any:
    return np.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def _range_shape(a: A, start: Any, limit: Any, step: Any) -> Shape:
    return (max(0, int(np.ceil((limit.item() - start.item()) / step.item()))),)


def _one_hot(a: A, indices: Array, depth: Any, values: Array) -> Any:
    count = int(np.ravel(depth)[0])
    axis = range(indices.ndim + 1)[a.axis]
    places = np.expand_dims(np.where(indices < 0, indices + count, indices), axis)
    line = np.arange(count).reshape((count,) + (1,) * (indices.ndim - axis))
    return np.where(places == line, values[1], values[0])


def _one_hot_back(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    hot = _one_hot(a, inputs[0], inputs[1], np.array((False, True)))
    sums = [numerics.sum(np.where(which, dout, 0)) for which in (~hot, hot)]
    return None, None, np.stack(sums)


def _one_hot_shape(a: A, indices: Array, depth: Any, values: Array) -> Shape:
    axis = range(indices.ndim + 1)[a.axis]
    return (*indices.shape[:axis], int(np.ravel(depth)[0]), *indices.shape[axis:])


SUMS: dict[str, Operator] = {
    "ReduceSum": _reduction(_sum, lambda x, y, axes: x.dtype.type(1)),
    "ReduceMean": _reduction(
        lambda x, axes: _sum(x, axes) / _count(x, axes), lambda x, y, axes: 1 / _count(x, axes)
    ),
    "ReduceMax": _reduction(_outermost(np.max, 0), _equal),
    "ReduceMin": _reduction(_outermost(np.min, 1), _equal),
    "ReduceProd": _reduction(_product, _others),
    "ReduceL1": _reduction(lambda x, axes: _sum(np.abs(x), axes), lambda x, y, axes: np.sign(x)),
    "ReduceL2": _reduction(_norm, lambda x, y, axes: x / np.where(y == 0, 1, y)),
    "ReduceSumSquare": _reduction(lambda x, axes: _sum(x * x, axes), lambda x, y, axes: 2 * x),
    "ReduceLogSum": _reduction(
        lambda x, axes: numerics.log(_sum(x, axes)), lambda x, y, axes: 1 / _sum(x, axes)
    ),
    "ReduceLogSumExp": _reduction(_log_sum_exp, lambda x, y, axes: numerics.exp(x - y)),
    "ArgMax": _choice(np.argmax),
    "ArgMin": _choice(np.argmin),
    "MatMul": Operator(_matmul, _matmul_back, _product_shape),
    "Gemm": Operator(
        _gemm, _gemm_back, lambda a, x, y, z=None: _product_shape(a, *_turned(a, x, y)),
        {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    ),
    "Softmax": _along(soft.softmax, soft.softmax_gradient),
    "LogSoftmax": _along(soft.log_softmax, soft.log_softmax_gradient),
    "Shape": Operator(
        lambda a, x: np.array(x.shape[a.start : a.end], np.int64), None,
        lambda a, x: (len(x.shape[a.start : a.end]),), {"start": 0, "end": None}, dtype="int64",
    ),
    "Size": Operator(lambda a, x: np.array(x.size, np.int64), None, lambda a, x: (), dtype="int64"),
    "ConstantOfShape": Operator(
        lambda a, shape: np.full(tuple(map(int, shape)), a.value, a.dtype), None,
        lambda a, shape: tuple(map(int, shape)), {"value": 0.0, "dtype": "float32"}, (0,),
    ),
    "Range": Operator(_range, None, _range_shape, static=(0, 1, 2), given=(0, 1, 2)),
    "OneHot": Operator(_one_hot, _one_hot_back, _one_hot_shape, {"axis": -1}, (1,), dtype="2"),
}  # fmt: skip
