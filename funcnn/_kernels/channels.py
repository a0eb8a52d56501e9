"""One value for each channel: where channels are, how values meet them, how they are summed."""

from __future__ import annotations

from functools import cache

from funcnn import numerics
from funcnn.types import Array


def channel_axis(rank: int) -> int:
    """Axis 1 of ``(N, F)``, images and volumes, the last axis of sequences ``(N, T, F)``."""
    return 2 if rank == 3 else 1


@cache
def other_axes(rank: int) -> tuple[int, ...]:
    """All axes but that of the channels."""
    channels = channel_axis(rank)
    return tuple([axis for axis in range(rank) if axis != channels])


def spread(values: Array, rank: int) -> Array:
    """``(C,)``, or one value for all, in a shape that broadcasts against an array of this rank."""
    return values.reshape(_along_channels(rank))


@cache
def _along_channels(rank: int) -> tuple[int, ...]:
    return tuple([-1 if axis == channel_axis(rank) else 1 for axis in range(rank)])


def collect(x: Array) -> Array:
    """Sums over everything but the channels, ``(C,)``."""
    return numerics.sum(x, other_axes(x.ndim))
