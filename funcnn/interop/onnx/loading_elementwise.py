"""Operators of ONNX that act element by element, as functions of arrays, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn.types import Array

A = Any
"""The attributes of a node, each by its name."""


class Operator(NamedTuple):
    """An operator of ONNX.

    Parameters
    ----------
    forward : callable
        ``(a, *inputs) -> out``, or a tuple of several; an input that is left out is None.
    pullback : callable, optional
        ``(a, inputs, out, dout) -> gradients`` of the first inputs; without it, all are 0.
    shape : callable, optional
        ``(a, *inputs) -> out_shape`` of inputs of which only the shape counts; without it, `forward`
        tells, which then must not take memory for the numbers of its inputs.
    attributes : mapping
        Those that are known, with what they are by default.
    static : tuple of int
        Inputs whose numbers decide the shape.
    given : tuple of int
        Inputs that are no parameters, even where they are arrays of the file.
    dtype : str
        Of the outputs, one word each and the last for the rest: their own, or the place of the input
        that has it; all have that of the first, if there is none.
    outputs : int
        How many there are, all of one shape, where `shape` tells it.
    """

    forward: Callable[..., Any]
    pullback: Callable[..., tuple[Any, ...]] | None = None
    shape: Callable[..., Any] | None = None
    attributes: Mapping[str, Any] = {}
    static: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    dtype: str = ""
    outputs: int = 1


def broadcast(a: A, *inputs: Any) -> tuple[int, ...]:
    """The shape of arrays that are broadcast to one."""
    return np.broadcast_shapes(*(one.shape for one in inputs if one is not None))


def folded(d: Array, shape: tuple[int, ...]) -> Array:
    """The pullback of broadcasting: the sum over the axes that were made or made longer."""
    extra = d.ndim - len(shape)
    longer = tuple(i + extra for i, size in enumerate(shape) if size == 1 != d.shape[i + extra])
    d = numerics.sum(d, longer, keepdims=True) if longer else d
    d = numerics.sum(d, tuple(range(extra))) if extra else d
    return d.reshape(shape)


# --- one input --------------------------------------------------------------------------------------


def _one(
    value: Callable[..., Any], slope: Callable[..., Any] | None = None, **attributes: Any
) -> Operator:
    """A function of each element, and its derivative, both ``(a, x)``."""

    def pullback(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any]:
        assert slope is not None
        return (dout * slope(a, inputs[0]),)

    return Operator(value, slope and pullback, broadcast, attributes)


def _predicate(value: Callable[..., Any], **attributes: Any) -> Operator:
    return Operator(value, None, broadcast, attributes, dtype="bool")


def _infinite(a: A, x: Array) -> Any:
    sign = np.sign(x) if a.detect_positive and a.detect_negative else (1 if a.detect_positive else -1)
    return np.isinf(x) & (np.sign(x) == sign) & bool(a.detect_positive or a.detect_negative)


def _shrink(a: A, x: Array) -> Any:
    return np.where(x < -a.lambd, x + a.bias, np.where(x > a.lambd, x - a.bias, 0)).astype(x.dtype)


def _selu_slope(a: A, x: Array) -> Any:
    return np.where(x > 0, a.gamma, a.gamma * a.alpha * numerics.exp(np.minimum(x, 0)))


def _selu(a: A, x: Array) -> Any:
    low = a.gamma * a.alpha * numerics.expm1(np.minimum(x, 0))
    return np.where(x > 0, a.gamma * x, low).astype(x.dtype)


def _swish_slope(a: A, x: Array) -> Any:
    s = numerics.sigmoid(a.alpha * x)
    return s + a.alpha * x * s * (1 - s)


_ROOT_PI = 2 / np.sqrt(np.pi)

ONE: dict[str, Operator] = {
    "Abs": _one(lambda a, x: np.abs(x), lambda a, x: np.sign(x)),
    "Neg": _one(lambda a, x: -x, lambda a, x: x.dtype.type(-1)),
    "Exp": _one(lambda a, x: numerics.exp(x), lambda a, x: numerics.exp(x)),
    "Log": _one(lambda a, x: numerics.log(x), lambda a, x: 1 / x),
    "Sqrt": _one(lambda a, x: np.sqrt(x), lambda a, x: 0.5 / np.sqrt(x)),
    "Reciprocal": _one(lambda a, x: 1 / x, lambda a, x: -1 / (x * x)),
    "Sin": _one(lambda a, x: numerics.sin(x), lambda a, x: numerics.cos(x)),
    "Cos": _one(lambda a, x: numerics.cos(x), lambda a, x: -numerics.sin(x)),
    "Erf": _one(lambda a, x: numerics.erf(x), lambda a, x: _ROOT_PI * numerics.exp(-x * x)),
    "Tanh": _one(lambda a, x: numerics.tanh(x), lambda a, x: numerics.tanh_slope(x)),
    "Sigmoid": _one(
        lambda a, x: numerics.sigmoid(x), lambda a, x: numerics.sigmoid(x) * numerics.sigmoid(-x)
    ),
    "HardSigmoid": _one(
        lambda a, x: np.clip(a.alpha * x + a.beta, 0, 1),
        lambda a, x: a.alpha * ((a.alpha * x + a.beta > 0) & (a.alpha * x + a.beta < 1)),
        alpha=0.2, beta=0.5,
    ),
    "ThresholdedRelu": _one(
        lambda a, x: np.where(x > a.alpha, x, 0).astype(x.dtype), lambda a, x: x > a.alpha, alpha=1.0
    ),
    "Swish": _one(lambda a, x: x * numerics.sigmoid(a.alpha * x), _swish_slope, alpha=1.0),
    "Selu": _one(_selu, _selu_slope, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Shrink": _one(_shrink, lambda a, x: np.abs(x) > a.lambd, bias=0.0, lambd=0.5),
    "Floor": _one(lambda a, x: np.floor(x)),
    "Ceil": _one(lambda a, x: np.ceil(x)),
    "Round": _one(lambda a, x: np.rint(x)),
    "Sign": _one(lambda a, x: np.sign(x)),
    "Identity": _one(lambda a, x: x, lambda a, x: 1),
    "Not": _predicate(lambda a, x: ~x),
    "IsNaN": _predicate(lambda a, x: np.isnan(x)),
    "IsInf": _predicate(_infinite, detect_negative=1, detect_positive=1),
}  # fmt: skip


# --- several inputs ---------------------------------------------------------------------------------


def _two(value: Callable[..., Any], slopes: Callable[..., Any], **attributes: Any) -> Operator:
    """A function ``(a, x, y)``, and what each input gets: ``(a, x, y, dout)``."""

    def pullback(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
        found = slopes(a, *inputs, dout)
        return tuple(folded(d, x.shape) for d, x in zip(found, inputs, strict=True))

    return Operator(value, pullback, broadcast, attributes)


def _divided(a: A, x: Array, y: Array) -> Any:
    """Integers are rounded towards zero."""
    if np.issubdtype(x.dtype, np.floating):
        return x / y
    quotient = x // y
    return (quotient + ((x - quotient * y != 0) & ((x < 0) != (y < 0)))).astype(x.dtype)


def _power(a: A, x: Array, y: Array) -> Any:
    """Integers by way of float64."""
    if x.dtype.kind == "f":
        return numerics.power(x, y.astype(x.dtype))
    return np.rint(numerics.power(x.astype(np.float64), y.astype(np.float64))).astype(x.dtype)


def _power_slopes(a: A, x: Array, y: Array, d: Array) -> Any:
    exponent = np.broadcast_to(y, d.shape).astype(x.dtype)
    base = np.broadcast_to(x, d.shape)
    dx = np.where(exponent == 0, 0, d * exponent * numerics.power(base, exponent - 1))
    logs = numerics.log(np.where(base > 0, base, 1))
    return dx.astype(d.dtype), d * numerics.power(base, exponent) * logs


def _several(value: Callable[..., Any], weights: Callable[..., Any]) -> Operator:
    """A function of any number of arrays, and the part of the gradient that each gets."""

    def pullback(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
        shares = weights(inputs, out)
        return tuple(folded(dout * w, x.shape) for w, x in zip(shares, inputs, strict=True))

    return Operator(lambda a, *inputs: value(inputs), pullback, broadcast)


def _picked(inputs: Any, out: Array) -> Any:
    """Equal parts to all those that are the largest, or the smallest."""
    equal = [x == out for x in inputs]
    count = reduce(np.add, (e.astype(out.dtype) for e in equal))
    return [e / np.maximum(count, 1) for e in equal]


def _clip(a: A, x: Array, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _clip_gradient(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    """What lies beyond a bound moves with the bound."""
    x, low, high = (*inputs, None, None)[:3]
    below = np.zeros(x.shape, np.bool_) if low is None else x < low
    above = np.zeros(x.shape, np.bool_) if high is None else np.where(below, low, x) > high
    below &= ~above
    dlow, dhigh = (numerics.sum(dout * which) for which in (below, above))
    return dout * ~(below | above), dlow, dhigh


def _where_gradient(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    condition, x, y = inputs
    zero = dout.dtype.type(0)
    dx, dy = np.where(condition, dout, zero), np.where(condition, zero, dout)
    return None, folded(dx, x.shape), folded(dy, y.shape)


SEVERAL: dict[str, Operator] = {
    "Add": _two(lambda a, x, y: x + y, lambda a, x, y, d: (d, d)),
    "Sub": _two(lambda a, x, y: x - y, lambda a, x, y, d: (d, -d)),
    "Mul": _two(lambda a, x, y: x * y, lambda a, x, y, d: (d * y, d * x)),
    "Div": _two(_divided, lambda a, x, y, d: (d / y, -d * x / (y * y))),
    "Pow": _two(_power, _power_slopes),
    "Mod": _two(
        lambda a, x, y: (np.fmod if a.fmod else np.mod)(x, y),
        lambda a, x, y, d: (d, -d * (np.trunc if a.fmod else np.floor)(x / y)),
        fmod=0,
    ),
    "PRelu": _two(
        lambda a, x, s: np.where(x < 0, s * x, x),
        lambda a, x, s, d: (d * np.where(x < 0, s, 1), d * np.where(x < 0, x, 0)),
    ),
    "Sum": _several(lambda xs: reduce(np.add, xs), lambda xs, out: [1] * len(xs)),
    "Mean": _several(
        lambda xs: reduce(np.add, xs) / xs[0].dtype.type(len(xs)),
        lambda xs, out: [xs[0].dtype.type(1 / len(xs))] * len(xs),
    ),
    "Max": _several(lambda xs: reduce(np.maximum, xs), _picked),
    "Min": _several(lambda xs: reduce(np.minimum, xs), _picked),
    "Clip": Operator(_clip, _clip_gradient, lambda a, x, *bounds: x.shape, given=(1, 2)),
    "Where": Operator(lambda a, c, x, y: np.where(c, x, y), _where_gradient, broadcast, dtype="1"),
    "And": _predicate(lambda a, x, y: np.logical_and(x, y)),
    "Or": _predicate(lambda a, x, y: np.logical_or(x, y)),
    "Xor": _predicate(lambda a, x, y: np.logical_xor(x, y)),
    "Equal": _predicate(lambda a, x, y: np.equal(x, y)),
    "Less": _predicate(lambda a, x, y: np.less(x, y)),
    "LessOrEqual": _predicate(lambda a, x, y: np.less_equal(x, y)),
    "Greater": _predicate(lambda a, x, y: np.greater(x, y)),
    "GreaterOrEqual": _predicate(lambda a, x, y: np.greater_equal(x, y)),
}
