"""Softmax and its logarithm along one axis, right for all numbers, and infinity.

Minus infinity counts for nothing, and plus infinity for everything; nothing but minus infinity along
an axis gives NaN. The slopes along an axis sum to 0, and where one element is all but sure, its own is
found so: as a difference of numbers near 1 it would have no digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.numerics import arithmetic
from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_compiled = compiled_in("funcnn._kernels.softmax.compiled")

# An element is all but sure that leaves less to the others: one that leaves more has lost seven bits at
# most. It is the largest power of 2 with which the portable trainings on record keep their bits.
SURE = 2.0**-7


@_compiled
def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))``; an empty axis is the caller's to refuse."""
    out: Array = numerics.exp(shifted(x, _largest(x, axis)))
    out /= numerics.sum(out, axis, keepdims=True)
    return out


@_compiled
def log_softmax(x: Array, axis: int = -1) -> Array:
    """``x - log(sum(exp(x)))``: the largest term is 1, and ``log1p`` adds it to the others."""
    top = _largest(x, axis)
    out = shifted(x, top)
    others, less = np.asarray(numerics.exp(out)), out != 0
    if out.size - np.count_nonzero(less) == top.size and (top > -np.inf).all():
        others *= less  # each line has a largest, and no two are
    else:
        np.put_along_axis(others, np.argmax(x, axis, keepdims=True), 0, axis)
    out -= numerics.log1p(numerics.sum(others, axis, keepdims=True))
    return out


@_compiled
def softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Array:
    """``dx = y * (dy - sum(dy * y))``."""
    dx = np.empty_like(out)  # in the same order of memory
    np.multiply(dout, out, out=dx)
    total = numerics.sum(dx, axis, keepdims=True)
    np.subtract(dout, total, out=dx)
    dx *= out
    return balanced(dx, out, axis)


@_compiled
def log_softmax_gradient(out: Array, dout: Array, axis: int = -1) -> Array:
    """``dx = dy - softmax(x) * sum(dy)``."""
    p = np.asarray(numerics.exp(out))
    dx = np.empty_like(p)  # in the same order of memory
    np.multiply(p, numerics.sum(dout, axis, keepdims=True), out=dx)
    return balanced(np.subtract(dout, dx, out=dx), p, axis)


@_compiled
def cross_entropy(logits: Array, labels: Array) -> tuple[Array, tuple[Array, ...]]:
    """``log(sum(exp(z))) - z[y]``, and what `cross_entropy_gradient` needs."""
    now = arithmetic()
    z = shifted(logits, np.maximum.reduce(logits, -1, keepdims=True))
    p = now.exp(z)
    totals = now.sum(p, -1, keepdims=True)
    p /= totals
    at = entries(labels, logits.shape[-1])
    values = now.log(totals.reshape(labels.shape))
    values -= z.reshape(-1)[at].reshape(labels.shape)
    right = values < SURE
    if not right.any():
        return values, (p, at)
    others = p[right]  # what they sum to is what log(totals) has lost
    others.reshape(-1)[entries(labels[right], logits.shape[-1])] = 0
    wrong = now.sum(others, -1)
    values[right] = 0 - now.log1p(-wrong)
    return values, (p, at, at[right.reshape(-1)], wrong)


def cross_entropy_gradient(record: tuple[Array, ...], part: Any) -> Array:
    """``dz = part * (softmax(z) - onehot(y))``, which compiled kernels have all but multiplied."""
    p, *more = record
    flat = (p * part).reshape(-1)
    if more:
        at, *sure = more
        flat[at] -= part
        if sure:
            flat[sure[0]] = 0 - sure[1] * part
    dz: Array = flat.reshape(p.shape)
    return dz


def entries(labels: Array, classes: int) -> Array:
    """Where each label's entry lies among all entries."""
    at: Array = np.arange(0, labels.size * classes, classes)
    at += labels.reshape(-1).astype(np.intp, copy=False)
    return at


def balanced(slopes: Array, p: Array, axis: int = -1) -> Array:
    """The same slopes, but of an element that is all but sure minus the sum of the others'."""
    sure = p > 1 - SURE
    if sure.any():
        np.copyto(slopes, 0, where=sure)
        np.copyto(slopes, 0 - numerics.sum(slopes, axis, keepdims=True), where=sure)
    return slopes


def shifted(x: Array, top: Array) -> Array:
    """Less the maximum; infinity less itself is 0."""
    out: Array = x - top
    if (top == np.inf).any():
        np.copyto(out, 0, where=np.isposinf(x) & (top == np.inf))
    return out


def _largest(x: Array, axis: int) -> Array:
    """The maximum, axis kept. Along neighbours in memory `argmax` is two to three times faster."""
    if x.strides[axis] != x.itemsize:
        return np.asarray(np.max(x, axis, keepdims=True))
    return np.take_along_axis(x, np.argmax(x, axis, keepdims=True), axis)
