"""Where a window stands: kernel, stride, padding and dilation over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from funcnn.types import Array

Sizes = int | tuple[int, ...]
Padding = int | tuple[int | tuple[int, int], ...]


class Window(NamedTuple):
    """How a window slides; each field has one entry for each spatial axis.

    ``padding`` holds ``(low, high)`` pairs: elements before the first and after the last.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]


def expanded(sizes: Sizes, axes: int) -> tuple[int, ...]:
    """One int for each axis; a single int stands for all of them.

    Examples
    --------
    >>> expanded(3, 2), expanded((3, 5), 2)
    ((3, 3), (3, 5))
    """
    return (sizes,) * axes if isinstance(sizes, int) else sizes


def window(
    kernel: tuple[int, ...], stride: Sizes = 1, padding: Padding | str = 0, dilation: Sizes = 1
) -> Window:
    """A window; an int stands for all axes, an int of padding for both of its sides, a word for 0.

    Examples
    --------
    >>> window((3, 3), stride=2, padding=1)
    Window(kernel=(3, 3), stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(1, 1))
    """
    rank = len(kernel)
    padding = 0 if isinstance(padding, str) else padding
    pads = (padding,) * rank if isinstance(padding, int) else padding
    return Window(
        tuple(kernel),
        expanded(stride, rank),
        tuple((pad, pad) if isinstance(pad, int) else (pad[0], pad[1]) for pad in pads),
        expanded(dilation, rank),
    )


@lru_cache(maxsize=1024)
def output_size(window: Window, spatial: tuple[int, ...]) -> tuple[int, ...]:
    """How many places a window can take along each axis (0 or less: it does not fit).

    Examples
    --------
    >>> output_size(window((5, 5)), (28, 28))
    (24, 24)
    """
    return tuple(
        (n + low + high - d * (k - 1) - 1) // s + 1
        for n, k, s, (low, high), d in zip(spatial, *window, strict=True)
    )


@lru_cache(maxsize=1024)
def steps(window: Window, axis: int, places: int) -> tuple[slice, ...]:
    """For each tap along a spatial axis, the elements that it meets, padding included.

    Examples
    --------
    >>> steps(window((2,), stride=2), 0, 3)
    (slice(0, 5, 2), slice(1, 6, 2))
    """
    stride, dilation = window.stride[axis], window.dilation[axis]
    starts = range(0, window.kernel[axis] * dilation, dilation)
    return tuple(slice(start, start + (places - 1) * stride + 1, stride) for start in starts)


def reads(window: Window, axis: int, places: int) -> Array:
    """Which element each tap of each place reads along an axis, ``(places, kernel)``.

    Examples
    --------
    >>> reads(window((2,), stride=2, padding=1), 0, 2)
    array([[-1,  0],
           [ 1,  2]])
    """
    starts = np.arange(places) * window.stride[axis] - window.padding[axis][0]
    return starts[:, None] + np.arange(window.kernel[axis]) * window.dilation[axis]


def taps(window: Window, places: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """For each tap, the elements of a framed ``(C, *spatial, N)`` that it meets, in order."""
    each = (steps(window, axis, count) for axis, count in enumerate(places))
    return ((slice(None), *tap) for tap in product(*each))


def apart(window: Window) -> bool:
    """Whether each element is in one window at most.

    Examples
    --------
    >>> apart(window((2, 2), 2)), apart(window((3, 3), 2))
    (True, False)
    """
    return all(d * (k - 1) < s for k, s, _, d in zip(*window, strict=True))


def same_padding(
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    spatial: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """The padding that makes ``ceil(n / stride)`` places, with the odd element at the high end.

    This is what TensorFlow and JAX call ``SAME``.

    Examples
    --------
    >>> same_padding((3, 3), (1, 2), (1, 1), (28, 28))
    ((1, 1), (0, 1))
    """
    pads = []
    for n, k, s, d in zip(spatial, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def on_image(fixed: Window, padding: Padding | str, spatial: tuple[int, ...]) -> Window:
    """A window of any padding but that which the words "same" and "causal" stand for, on an image."""
    if padding == "same":
        pads = same_padding(fixed.kernel, fixed.stride, fixed.dilation, spatial)
        return fixed._replace(padding=pads)
    if padding == "causal":
        return fixed._replace(padding=causal_padding(fixed.kernel, fixed.dilation))
    return fixed


def overhanging(window: Window, spatial: tuple[int, ...]) -> Window:
    """More high padding, so that a last window which starts on the image may overhang it.

    This is what PyTorch calls ``ceil_mode``.

    Examples
    --------
    >>> overhanging(window((2, 2), 2), (5, 6)).padding
    ((0, 1), (0, 0))
    """
    pads = []
    for n, k, s, (low, high), d in zip(spatial, *window, strict=True):
        span = d * (k - 1) + 1
        places = -(-(n + low + high - span) // s) + 1
        if (places - 1) * s >= n + low:
            places -= 1
        pads.append((low, max(high, (places - 1) * s + span - n - low)))
    return window._replace(padding=tuple(pads))


def causal_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The padding before the first element with which no window sees beyond its own place.

    Examples
    --------
    >>> causal_padding((3,), (2,))
    ((4, 0),)
    """
    return tuple((d * (k - 1), 0) for k, d in zip(kernel, dilation, strict=True))
