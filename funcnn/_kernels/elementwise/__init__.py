"""Functions of every element that more than one layer is made of.

`clip` with two bounds runs several times faster than `maximum` or `minimum` with one, and a choice by
arithmetic several times faster than `where` (NumPy 2.4, AVX-512, a million float32). All of them hand
on NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels.broadcasting import stretched
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_FOLDER = "funcnn._kernels.elementwise"
_compiled = compiled_in(f"{_FOLDER}.compiled")
_in_both_modes = compiled_in(f"{_FOLDER}.compiled", f"{_FOLDER}.compiled")
_always_compiled = compiled_in(f"{_FOLDER}.compiled", f"{_FOLDER}.portable_compiled")
_LARGE = 1 << 16  # numbers: measured in November 2026 on an AMD EPYC (Zen 4)

_ZERO, _INFINITY = np.array(0, np.float32), np.array(np.inf, np.float32)  # faster than Python's numbers
positive = methodcaller("clip", _ZERO, _INFINITY)
"""``max(x, 0)`` of an array, in every step of most networks: it enters no Python frame."""
is_positive = methodcaller("__gt__", _ZERO)
"""``x > 0`` of an array, the same way."""


def negative(x: Array) -> Any:
    """``min(x, 0)``."""
    return x.clip(-np.inf, 0)


def finite(x: Array) -> Any:
    """Infinity as the largest number: what it is multiplied by may be 0 far out."""
    info = np.finfo(x.dtype)
    return x.clip(info.min, info.max)


def choose(condition: Array, yes: Array | float, no: Array | float, dtype: np.dtype[Any]) -> Any:
    """``where(condition, yes, no)``; what is not chosen must be finite."""
    one, other = (part if isinstance(part, np.ndarray) else dtype.type(part) for part in (yes, no))
    return condition * one + ~condition * other


def chosen(values: Array, which: Array, out: Array) -> Array:
    """The values where `which` is 1, and 0 where it is 0, whatever they are there.

    It multiplies their bits as integers: 0 times infinity or NaN would be NaN.
    """
    bits = f"i{values.itemsize}"
    np.multiply(values.view(bits), which, out=out.view(bits))
    return out


def added(a: Array, b: Array) -> Any:
    """``a + b``."""
    return large_sum(a, b) if a.size >= _LARGE else a + b


@_in_both_modes
def large_sum(a: Array, b: Array) -> Any:
    """The same, of so many numbers that a second thread pays."""
    return a + b


@_compiled
def dropped(x: Array, mask: Array, scale: float, shift: float = 0.0, floor: float = 0.0) -> Any:
    """``scale x + shift`` where a mask that broadcasts is 1, or else `floor`, whatever `x` is."""
    out = np.multiply(x, x.dtype.type(scale))
    chosen(out, stretched(mask, x), out)
    if shift or floor:
        out += np.where(mask, shift, floor).astype(x.dtype)
    return out


def passed(dout: Array, slope: Array) -> Any:
    """``dout * slope`` in the memory of the slope; where that is 0, 0 also of infinity and NaN."""
    dead = slope == 0
    dx = np.multiply(dout, slope, out=slope)
    np.copyto(dx, 0, where=dead)
    return dx


Twin = tuple[Any, ...]
"""The name of a compiled pair of functions, a value and its slope, and their options."""


@_always_compiled
def applied(x: Array, function: Callable[[Array], Any], twin: Twin) -> Any:
    """``function(x)``, or what its compiled twin gives."""
    return function(x)


def sloped(x: Array, dout: Array, slope: Callable[[Array], Any], twin: Twin, dead: bool = False) -> Any:
    """``dout * slope(x)``; if `dead`, or of a slope that says where it is 1, 0 where that is 0."""
    d = np.asarray(slope(x))
    if d.dtype == np.bool_:
        bits, dx = f"i{dout.itemsize}", np.empty_like(d, dout.dtype)  # `chosen`, without a call
        np.multiply(dout.view(bits), d, out=dx.view(bits))
        return dx
    return passed(dout, d) if dead else np.multiply(dout, d, out=d)


pulled = _always_compiled(sloped)
"""The same, or what the compiled twin gives."""


@_compiled
def all_finite(x: Array) -> bool:
    """Whether no number is infinite or NaN."""
    return bool(np.isfinite(x).all())


def without_overflow(out: Array, smaller: Callable[[float], Array], terms: int) -> Array:
    """A linear function's values; where sums of so many terms overflowed on the way, computed again.

    ``smaller(2^-k)`` gives them for arguments that are so much smaller. Only what is not finite is
    replaced, in place: each element by itself.
    """
    if not all_finite(out):
        good = np.isfinite(out)
        shrink, info = math.ldexp(1.0, -terms.bit_length()), np.finfo(out.dtype)
        again, top = smaller(shrink), float(info.max) * shrink
        edge = np.abs(again) <= top * (1 + terms * float(info.eps))  # rounding may pass the largest
        again = np.where(edge, again.clip(-top, top), again) / out.dtype.type(shrink)
        np.copyto(out, again, where=~good)
    return out


def gated(x: Array, gate: Array) -> Any:
    """``x`` times a gate from 0 to 1, which is 0 at minus infinity."""
    return x.clip(np.finfo(x.dtype).min, np.inf) * gate


def with_tail(out: Array, exponent: Array, factor: Array | float) -> Array:
    """``out``, and ``factor exp(exponent)`` where that exponential alone is below normal numbers."""
    far = exponent < np.finfo(out.dtype).minexp * 0.6931471805599453  # log(2)
    if far.any():
        root = numerics.exp(0.5 * exponent)
        np.copyto(out, factor * root * root, where=far)
    return out


def sigmoid(x: Array) -> Any:
    """``1 / (1 + exp(-x))``."""
    return numerics.sigmoid(x)


def sigmoid_slope(x: Array) -> Any:
    """``s (1 - s)`` without a difference: ``e / (1 + e)^2`` with ``e = exp(-|x|)``."""
    e = np.asarray(numerics.exp(-np.abs(x)))
    d = e + 1
    e /= d
    e /= d
    return e


def silu(x: Array) -> Any:
    """``x sigmoid(x)``."""
    return with_tail(gated(x, numerics.sigmoid(x)), x, finite(x))


def silu_slope(x: Array) -> Any:
    """``s + x s (1 - s)``."""
    return with_tail(numerics.sigmoid(x) + finite(x) * sigmoid_slope(x), x, 1 + finite(x))


def _probability(x: Array) -> Any:
    """The normal distribution function."""
    return 0.5 * numerics.erfc(-math.sqrt(0.5) * x)


def gelu(x: Array) -> Any:
    """``x P(x)`` with the normal distribution function ``P``."""
    return gated(x, _probability(x))


def gelu_slope(x: Array) -> Any:
    """``P(x) + x exp(-x^2 / 2) / sqrt(2 pi)``."""
    density = numerics.exp(-0.5 * (x * x)) * (math.sqrt(2 / math.pi) / 2)
    return _probability(x) + finite(x) * density


# twice the argument of the hyperbolic tangent is x (a + b x^2)
_A, _B = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715


def gelu_tanh(x: Array) -> Any:
    """``x sigmoid(u)`` with ``u = x (a + b x^2)``."""
    u = x * (_A + _B * (x * x))
    return with_tail(gated(x, numerics.sigmoid(u)), u, finite(x))


def gelu_tanh_slope(x: Array) -> Any:
    """``s + x s (1 - s) du/dx``."""
    u, near = x * (_A + _B * (x * x)), x.clip(-100, 100)  # beyond, the slope of the gate is 0
    du = _A + 3 * _B * (near * near)
    return with_tail(numerics.sigmoid(u) + near * du * sigmoid_slope(u), u, 1 + near * du)


def hard_swish(x: Array) -> Any:
    """``x clip(x + 3, 0, 6) / 6``."""
    return (x + 3).clip(0, 6) / 6 * x.clip(-3, np.inf)


def hard_swish_slope(x: Array) -> Any:
    """``x / 3 + 1 / 2`` up to ``|x| = 3``, then 0 and 1."""
    return choose(np.abs(x) < 3, x.clip(-3, 3) / 3 + 0.5, x >= 3, x.dtype)


def leaky_relu(x: Array, slope: float) -> Any:
    """``max(x, 0) + slope min(x, 0)``."""
    return positive(x) + slope * (negative(x) if slope else x.clip(0, 0))


def leaky_relu_slope(x: Array, slope: float) -> Any:
    """1 above 0, or else `slope`."""
    return choose(x > 0, 1, slope, x.dtype)


def _product(dout: Array, x: Array, slope: Array, out: Array) -> None:
    """``dout * x * slope``; where the first two overflow, the slope, which may be 0, comes first."""
    np.multiply(dout * x, slope, out=out)
    if not (good := np.isfinite(out)).all():
        np.copyto(out, dout * (x * slope), where=~good)


@_compiled
def prelu(x: Array, slopes: Array) -> Any:
    """``x`` where it is above 0, else ``slopes x``; slopes broadcast."""
    low = negative(x)
    if not slopes.all():  # 0 at minus infinity, too
        low = np.where(slopes == 0, 0, low)
    out = 0 + slopes * low
    np.copyto(out, x, where=~(x <= 0))
    return out


@_compiled
def prelu_gradients(x: Array, slopes: Array, dout: Array) -> tuple[Array, Array]:
    """``dx = dy`` where ``x > 0``, else ``slopes dy``, and ``sum(dy min(x, 0))`` for each slope."""
    others = tuple(axis for axis, size in enumerate(slopes.shape) if size == 1)
    parts = numerics.sum(passed(dout, negative(x)), others)
    factors = np.empty_like(x)
    np.copyto(factors, slopes)
    np.copyto(factors, 1, where=x > 0)
    return passed(dout, factors), parts.reshape(-1)


@_compiled
def glu(x: Array, axis: int) -> Any:
    """``a sigmoid(b)`` for the halves ``a, b`` of an axis."""
    a, b = np.split(x, 2, axis)
    return a * sigmoid(b)


@_compiled
def glu_gradient(x: Array, dout: Array, axis: int) -> Array:
    """``da = dy s``, ``db = dy a s (1 - s)``."""
    dx = np.empty_like(x)
    (a, b), (da, db) = np.split(x, 2, axis), np.split(dx, 2, axis)
    np.multiply(dout, sigmoid(b), out=da)
    _product(dout, a, sigmoid_slope(b), db)
    return dx


@_compiled
def swiglu(x: Array, axis: int) -> Any:
    """``silu(a) b`` for the halves ``a, b`` of an axis."""
    a, b = np.split(x, 2, axis)
    return silu(a) * b


@_compiled
def swiglu_gradient(x: Array, dout: Array, axis: int) -> Array:
    """``da = dy b silu'(a)``, ``db = dy silu(a)``."""
    dx = np.empty_like(x)
    (a, b), (da, db) = np.split(x, 2, axis), np.split(dx, 2, axis)
    _product(dout, b, silu_slope(a), da)
    np.multiply(dout, silu(a), out=db)
    return dx
