"""Mean gradients and mean squares, one over the root of the other, and lengths: at every magnitude.

The square of a number that a dtype can hold may lie far beyond it: float32 ends at 1e38, and the
square of 1e20 is 1e40. What an optimizer keeps of squares is therefore a code. It is the mean square
itself up to ``high``; above, it is ``high * (square / high)**(1/4)``, which grows with the square and
holds as many digits of its root. An optimizer whose epsilon is next to nothing codes squares below
``low`` in the same way; with any other, they do not count beside epsilon. Ordinary squares are added
as they are, in one pass and with the dtype's own arithmetic; as soon as the largest is beyond
``high``, all are decoded to roots in float64, added as the sides of a triangle, and coded again.
"""

from __future__ import annotations

from functools import lru_cache
from math import frexp, isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics
from funcnn.numerics.twins import compiled_in
from funcnn.optimizers.agreement import MANY
from funcnn.types import Array

# Squares beyond `_LOW` and `HIGH` are coded, and an epsilon below `SMALL` makes the low ones count. In
# float32, roots from 2**-154 to 2**130 have codes. One code for both dtypes: a state can be cast.
_LOW, HIGH, SMALL = 2.0**-64, 2.0**84, 1e-11
_compiled = compiled_in(*["funcnn.optimizers.compiled"] * 2)  # the same bits in both modes
# Measured in November 2026 on an AMD EPYC (two cores, AVX-512, 1 MiB of second-level cache):
# `argmax` of few numbers takes 1 microsecond, their maximum 3; above, the two take the same.
_FEW = 1 << 12  # numbers


@lru_cache(maxsize=256)
def numbers(dtype: np.dtype[Any], *values: float) -> tuple[Array, ...]:
    """Numbers as arrays: NumPy takes half the time for a small array and such a one."""
    return tuple([np.array(value, dtype) for value in values])


class Squares(NamedTuple):
    """Mean squares as they are kept: their code, and whether all are ordinary."""

    code: Array
    ordinary: bool
    small: bool

    def root(self) -> Array:
        """The root of the mean square, in float64."""
        code = self.code.astype(np.float64)
        root = np.sqrt(code)
        root = np.where(code > HIGH, sqrt(HIGH) * (code / HIGH) ** 2, root)
        return np.where(code < _LOW, sqrt(_LOW) * (code / _LOW) ** 2, root) if self.small else root


def squares(code: Array, epsilon: float = 1.0) -> Squares:
    """What a state keeps, to be read."""
    small = epsilon < SMALL
    return Squares(code, not small and largest(code) < HIGH, small)


def largest(x: Array) -> float:
    """The largest element; 0 of none, NaN if there is one."""
    if 0 < x.size < _FEW:
        return float(x.item(x.argmax()))
    return float(np.maximum.reduce(x, None, initial=0.0))


def grown(
    code: Array,
    new: Array,
    keep: float,
    take: float,
    epsilon: float,
    more: float = 0.0,
    scratch: Array | None = None,
) -> Squares:
    """``keep square + take new**2 + more``; `scratch`, other memory than `new`, is overwritten."""
    small = epsilon < SMALL
    if not small:
        kept, taken = numbers(code.dtype, keep, take)
        scratch = np.multiply(new, new, out=scratch)
        if take != 1:
            scratch *= taken
        if keep != 1:
            sums = code * kept
            sums += scratch
        else:
            sums = code + scratch
        if more:
            sums += more
        if largest(sums) < (HIGH * keep if keep else HIGH):
            return Squares(sums, True, False)
    root = sqrt(keep) * Squares(code, False, small).root()
    root = hypotenuse(root, sqrt(take) * np.abs(new.astype(np.float64)))
    root = hypotenuse(root, sqrt(more)) if more else root
    return coded(root, code.dtype, small)


def coded(root: Array, dtype: np.dtype[Any], small: bool = False) -> Squares:
    """Squares as they are kept, of roots in float64."""
    code = np.where(root > sqrt(HIGH), HIGH * np.sqrt(root / sqrt(HIGH)), root * root)
    if small:
        code = np.where(root < sqrt(_LOW), _LOW * np.sqrt(root / sqrt(_LOW)), code)
    return Squares(code.astype(dtype), False, small)


def hypotenuse(a: Array, b: Array | float) -> Array:
    """``sqrt(a**2 + b**2)`` in float64, without the squares."""
    most = np.maximum(a, b)
    ratio = np.minimum(a, b) / np.where(most > 0, most, 1.0)
    return np.asarray(most * np.sqrt(1 + ratio * ratio))


def averaged(old: Array, new: Array, decay: float, scratch: Array | None = None) -> Any:
    """``decay old + (1 - decay) new``; `scratch` is overwritten, and may be `new`."""
    out = old * decay
    out += np.multiply(new, 1 - decay, out=scratch)
    return out


def moments(
    gradient: Array, mean: Array, code: Array, beta1: float, beta2: float, epsilon: float
) -> tuple[Array, Squares, Array]:
    """The new mean and mean square, and scratch memory: fresh memory costs more than arithmetic."""
    scratch: Array = np.empty_like(gradient)
    keep, take = numbers(gradient.dtype, beta1, 1 - beta1)
    mean = mean * keep
    mean += np.multiply(gradient, take, out=scratch)
    return mean, grown(code, gradient, beta2, 1 - beta2, epsilon, scratch=scratch), scratch


def over_root(
    mean: Array, square: Squares, shift: float, factor: float = 1.0, out: Array | None = None
) -> Array:
    """``factor mean / (sqrt(square) + shift)``, in the memory of `out`; 0 where nothing ever came."""
    if not square.ordinary:
        return quotient(mean, square.root() + shift, factor)
    shifted, by = numbers(mean.dtype, shift, factor)
    out = np.sqrt(square.code, out=out)
    out += shifted
    np.divide(mean, out, out=out)
    if factor != 1:
        out *= by
    return out


@_compiled
def adam(
    gradient: Array, mean: Array, code: Array, beta1: float, beta2: float, epsilon: float,
    factor: float, shift: float, rate: float = 1.0,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Adam's update times a rate, the new mean, and the new mean square as it is kept."""
    mean, seen, scratch = moments(gradient, mean, code, beta1, beta2, epsilon)
    update = over_root(mean, seen, shift, factor, scratch)
    return update if rate == 1 else times(update, rate), mean, seen.code


def quotient(x: Array, divisor: Array | float, factor: float | Array = 1.0) -> Array:
    """``x / divisor * factor`` by way of float64; 0 where the divisor is 0."""
    wide = x.astype(np.float64)
    out = np.divide(wide, divisor, out=np.zeros_like(wide), where=np.not_equal(divisor, 0))
    return np.asarray(out * factor).astype(x.dtype)


def times(x: Array, factor: float) -> Array:
    """``x * factor``, also for a factor that is beyond the dtype of `x`."""
    if 1e-30 < abs(factor) < 1e30:  # in every dtype
        return many_times(x, factor) if x.size > MANY else np.asarray(x * numbers(x.dtype, factor)[0])
    if x.dtype == np.float64 or not factor:
        return np.asarray(x * factor)
    return (x.astype(np.float64) * factor).astype(x.dtype)


def moved(x: Array, change: Array, factor: float) -> Array:
    """``x + factor * change``, also for a factor that is beyond their dtype."""
    if x.size > MANY:
        return many_moved(x, change, factor)
    usual = 1e-30 < abs(factor) < 1e30  # `times` would be one call more
    out = change * numbers(x.dtype, factor)[0] if usual else times(change, factor)
    out += x  # no more fresh memory: a small step has next to nothing else in its cache
    return np.asarray(out)


@_compiled
def many_times(x: Array, factor: float) -> Array:
    """``x * factor``, of many numbers."""
    return x * numbers(x.dtype, factor)[0]


@_compiled
def many_moved(x: Array, change: Array, factor: float) -> Array:
    """``x + factor * change``, of many numbers."""
    if factor == 1:
        return x + change
    out = times(change, factor)
    return np.add(x, out, out=out)


def squared_norm(x: Array) -> float:
    """The sum of squares of all elements, in float64."""
    wide = x.reshape(-1).astype(np.float64)
    return float(numerics.matmul(wide, wide)) if wide.size else 0.0


def length(x: Array, per: int = 1) -> float:
    """The root of the sum of squares over `per`; the squares may lie beyond float64."""
    square = squared_norm(x)
    if 1e-280 < square < 1e300 or not x.size:
        return sqrt(square / max(per, 1))
    most = largest(np.abs(x))
    if not most or not isfinite(most):
        return most
    exponent = frexp(most)[1]
    scaled = sqrt(squared_norm(np.ldexp(x.astype(np.float64), -exponent)) / max(per, 1))
    return scaled * 2.0 ** (exponent - 1) * 2
