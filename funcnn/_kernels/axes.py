"""Sequences ``(N, T, F)`` as images of one spatial axis, ``(N, C, T)``."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any

import numpy as np

from funcnn.types import Array


def turning(rank: int) -> Callable[[Array], Any]:
    """`channels_second` for arrays of one rank; it enters no Python frame."""
    return methodcaller("swapaxes", 1, 2) if rank == 3 else np.asarray


def channels_second(x: Array) -> Array:
    """A view with the features of a sequence on axis 1; images stay. Its own inverse."""
    return x.swapaxes(1, 2) if x.ndim == 3 else x


def channels_second_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of `channels_second`."""
    return (shape[0], shape[2], shape[1]) if len(shape) == 3 else shape
