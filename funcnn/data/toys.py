"""Toy sets in the plane: small enough to look at, hard enough to learn from."""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np

from funcnn import checks, numerics, random
from funcnn.data.batches import Dataset
from funcnn.types import Array, Key

__all__ = ["blobs", "moons", "spirals", "xor"]

_SOME = checks.Integer(1)
_DRAWN: Any = {"count": _SOME, "noise": checks.Number(minimum=0, maximum=1e30)}  # in float32


@checks.takes(**_DRAWN)
def moons(key: Key, count: int = 500, noise: float = 0.1) -> Dataset:
    """Two half circles that reach into each other.

    Parameters
    ----------
    key : Key
        Draws the points.
    count : int, default 500
        How many.
    noise : float, default 0.1
        The standard deviation around the half circles.

    Returns
    -------
    Dataset
        ``x``: float32, ``(count, 2)``; ``y``: int64, 0 and 1 in turns.

    Raises
    ------
    ValueError, TypeError
        For a count below 1, or noise below 0.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.data import moons
    >>> moons(random.key(0), 4, noise=0.0).y
    array([0, 1, 0, 1])
    """
    label, where, spread = _drawn(key, count, 2)
    angle = pi * where
    side = 1.0 - 2.0 * label  # the upper half circle, or the lower
    x = numerics.cos(angle) * side + label
    y = numerics.sin(angle) * side + 0.5 * label
    return _finished(x, y, spread, noise, label)


@checks.takes(arms=_SOME, **_DRAWN)
def spirals(key: Key, count: int = 500, noise: float = 0.05, arms: int = 2) -> Dataset:
    """Spirals that wind around each other.

    Parameters
    ----------
    key : Key
        Draws the points.
    count : int, default 500
        How many.
    noise : float, default 0.05
        The standard deviation around the spirals, whose radius ends at 1.
    arms : int, default 2
        How many spirals.

    Returns
    -------
    Dataset
        ``x``: float32, ``(count, 2)``; ``y``: int64, 0 to ``arms - 1`` in turns.

    Raises
    ------
    ValueError, TypeError
        For a count or arms below 1, or noise below 0.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.data import spirals
    >>> spirals(random.key(0), 6, arms=3).y
    array([0, 1, 2, 0, 1, 2])
    """
    label, where, spread = _drawn(key, count, arms)
    radius = np.sqrt(where)  # as many points outside as inside, for their room
    angle = 3 * pi * radius + 2 * pi * label / arms
    return _finished(radius * numerics.cos(angle), radius * numerics.sin(angle), spread, noise, label)


@checks.takes(**_DRAWN)
def xor(key: Key, count: int = 500, noise: float = 0.0) -> Dataset:
    """A square of which opposite quarters are of one class.

    Parameters
    ----------
    key : Key
        Draws the points.
    count : int, default 500
        How many.
    noise : float, default 0.0
        The standard deviation by which points are moved after they have their class.

    Returns
    -------
    Dataset
        ``x``: float32, ``(count, 2)``, from -1 to 1 without noise; ``y``: int64, 1 where the signs
        differ.

    Raises
    ------
    ValueError, TypeError
        For a count below 1, or noise below 0.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.data import xor
    >>> x, y = xor(random.key(0), 100)
    >>> bool(((x[:, 0] * x[:, 1] < 0) == y).all())
    True
    """
    _, across, spread = _drawn(key, count, 2)
    x = 2 * across - 1
    y = random.uniform(random.fold_in(key, "up"), (count,), -1.0, 1.0, dtype=np.float64)
    return _finished(x, y, spread, noise, ((x < 0) != (y < 0)).astype(np.int64))


@checks.takes(centres=_SOME, **_DRAWN)
def blobs(key: Key, count: int = 500, noise: float = 0.3, centres: int = 3) -> Dataset:
    """Round clouds, one for each class, on a circle.

    Parameters
    ----------
    key : Key
        Draws the points.
    count : int, default 500
        How many.
    noise : float, default 0.3
        The standard deviation of a cloud; its centre lies 1 from the origin.
    centres : int, default 3
        How many clouds.

    Returns
    -------
    Dataset
        ``x``: float32, ``(count, 2)``; ``y``: int64, 0 to ``centres - 1`` in turns.

    Raises
    ------
    ValueError, TypeError
        For a count or centres below 1, or noise below 0.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.data import blobs
    >>> blobs(random.key(0), 2, noise=0.0, centres=2).x.round(6)
    array([[ 1.,  0.],
           [-1.,  0.]], dtype=float32)
    """
    label, _, spread = _drawn(key, count, centres)
    angle = 2 * pi * label / centres
    return _finished(numerics.cos(angle), numerics.sin(angle), spread, noise, label)


def _drawn(key: Key, count: int, classes: int) -> tuple[Array, Array, Array]:
    """Labels in turns, a place in 0..1 for each point, and its normal deviation."""
    where, spread = random.split(checks.key(key))
    return (
        np.arange(count) % classes,
        random.uniform(where, (count,), dtype=np.float64),
        random.normal(spread, (count, 2), dtype=np.float64),
    )


def _finished(x: Array, y: Array, spread: Array, noise: float, label: Array) -> Dataset:
    points = np.stack([x, y], 1) + noise * spread
    return Dataset(points.astype(np.float32), label.astype(np.int64))
