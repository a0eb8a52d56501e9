"""Several arrays made one, element by element or side by side, and the gradients of the way back."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from funcnn._kernels.elementwise import added, without_overflow
from funcnn.types import Array

WAYS = ("sum", "mean", "product", "concatenate")


def join(how: str, axis: int, arrays: list[Array]) -> tuple[Array, Any]:
    """One array, and what `parts` needs: the sizes that lie side by side, the factors, the count."""
    if how == "concatenate":
        return np.concatenate(arrays, axis), tuple(array.shape[axis] for array in arrays)
    if how == "product":
        return products(arrays)[-1], tuple(arrays)
    if how == "sum":
        return total(arrays), len(arrays)
    mean = _mean(arrays)
    return without_overflow(mean, lambda s: _mean([s * each for each in arrays]), len(arrays)), len(
        arrays
    )


def _mean(arrays: list[Array]) -> Array:
    sum_: Array = total(arrays)
    return np.asarray(sum_ / sum_.dtype.type(len(arrays)))


def parts(how: str, axis: int, kept: Any, dout: Array) -> list[Array]:
    """The gradients of the arrays that `join` made one."""
    if how == "concatenate":
        return np.split(dout, np.cumsum(kept)[:-1], axis)
    if how == "product":  # of all factors but one: those before it times those behind it
        before = [dout, *(dout * product for product in products(list(kept[:-1])))]
        behind = products(list(kept[:0:-1]))[::-1]
        return [*(a * b for a, b in zip(before, behind, strict=False)), before[-1]]
    return [dout / dout.dtype.type(kept) if how == "mean" else dout] * int(kept)


def products(factors: list[Array]) -> list[Array]:
    """The first factor, the first two multiplied, ..., all of them."""
    found = factors[:1]
    for factor in factors[1:]:
        found.append(found[-1] * factor)
    return found


def total(arrays: list[Any]) -> Any:
    """Arrays, or tuples of arrays that match, added one after the other."""
    if isinstance(arrays[0], tuple):
        return tuple(total(list(group)) for group in zip(*arrays, strict=True))
    return reduce(added, arrays)
