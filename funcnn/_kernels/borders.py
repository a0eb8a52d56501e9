"""Borders around images: constant, or a repetition of what they hold. The memory order stays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_compiled = compiled_in("funcnn._kernels.framing")

Widths = tuple[tuple[int, int], ...]


@_compiled
def pad(x: Array, widths: Widths, mode: str, value: float) -> Array:
    """``(N, C, *spatial)`` with `low` and `high` more elements on the sides of each axis of space."""
    spatial = x.shape[2:]
    out = np.full_like(x, value, shape=(*x.shape[:2], *grown(spatial, widths)))
    out[inner(spatial, widths)] = x
    if mode != "constant":
        for at, within in _border(spatial, widths, mode):
            out[at] = out[within]
    return out


@_compiled
def pad_gradient(dout: Array, spatial: tuple[int, ...], widths: Widths, mode: str) -> Array:
    """What came from an element goes back to it, corners first to the sides."""
    slope = dout
    if mode != "constant":
        slope = dout.copy("K")
        for at, within in reversed(list(_border(spatial, widths, mode))):
            slope[within] += slope[at]
    return slope[inner(spatial, widths)]


def repeatable(spatial: tuple[int, ...], widths: Widths, mode: str) -> bool:
    """Whether images of these sizes hold what such a border repeats of them.

    Examples
    --------
    >>> repeatable((3,), ((3, 0),), "circular"), repeatable((3,), ((3, 0),), "reflect")
    (True, False)
    """
    spare = {"reflect": 1, "circular": 0}.get(mode, -max(map(max, widths)))
    return all(n >= max(pair) + spare for n, pair in zip(spatial, widths, strict=True))


def crop(x: Array, widths: Widths) -> Array:
    """A view of ``(N, C, *spatial)`` without `low` and `high` elements on the sides."""
    spatial = grown(x.shape[2:], tuple((-low, -high) for low, high in widths))
    return x[inner(spatial, widths)]


@lru_cache(maxsize=1024)
def grown(spatial: tuple[int, ...], widths: Widths) -> tuple[int, ...]:
    """The sizes with borders.

    Examples
    --------
    >>> grown((5, 5), ((1, 1), (0, 2)))
    (7, 7)
    """
    return tuple(n + low + high for n, (low, high) in zip(spatial, widths, strict=True))


def inner(spatial: tuple[int, ...], widths: Widths) -> tuple[slice, ...]:
    """Where the image lies in ``(N, C, *spatial)`` with borders."""
    pairs = zip(spatial, widths, strict=True)
    return (slice(None), slice(None), *(slice(low, low + n) for n, (low, _) in pairs))


def _border(
    spatial: tuple[int, ...], widths: Widths, mode: str
) -> Iterator[tuple[tuple[slice | int, ...], tuple[slice | int, ...]]]:
    """Each line of the border, axis after axis, and the line within that it repeats."""
    for axis, (n, (low, high)) in enumerate(zip(spatial, widths, strict=True), 2):
        before = (slice(None),) * axis
        for i in (*range(-low, 0), *range(n, n + high)):
            yield (*before, low + i), (*before, low + source(i, n, mode))


def source(i: int, n: int, mode: str) -> int:
    """Which element of ``0..n - 1`` stands for element `i` beyond it.

    Examples
    --------
    >>> [source(-2, 5, mode) for mode in ("reflect", "replicate", "circular")]
    [2, 0, 3]
    """
    if mode == "circular":
        return i % n
    if mode == "replicate":
        return min(max(i, 0), n - 1)
    return -i if i < 0 else 2 * (n - 1) - i
