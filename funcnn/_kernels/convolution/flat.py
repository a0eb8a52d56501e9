"""Convolution with stride 1 for small images: few calls, each on one long run of memory.

Laid out flat, a batch-last image ``(C, *spatial, N)`` has one run of numbers for each channel, and
what a tap sees is a part of this run that begins at the tap's offset. So the columns are a single
strided view, the convolution a single product. The run also has places where the window would wrap
around the end of a row; they are left out of the output, and are 0 in its gradient.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from funcnn._kernels.images import frame
from funcnn._kernels.windows import Window, output_size
from funcnn.machine.memory import scratch
from funcnn.numerics import arithmetic
from funcnn.numerics.tiles import outer_width
from funcnn.types import Array

Shape = tuple[int, ...]


class Flat(NamedTuple):
    """The sizes of a convolution laid flat, in numbers.

    ``total`` numbers has a channel with its padding; a tap sees ``run`` of them, from its offset, at
    most ``total - run``. ``offsets`` are those of one step of a tap along each axis. The output is
    the part ``inside`` of ``wide``, whose rows are as long as the image's; ``biases`` is the shape
    that adds to it. In `input_gradient`, ``back`` are the steps from channel to channel, from tap to
    tap along the axes ``taps``, and from number to number. ``image`` is the part of a ``framed``
    image that is not padding. ``batch_last`` and ``batch_first`` permute axes.
    """

    total: int
    run: int
    offsets: Shape
    wide: Shape
    inside: tuple[slice, ...]
    framed: Shape
    image: tuple[slice, ...]
    biases: Shape
    back: Shape
    taps: Shape
    batch_last: Shape
    batch_first: Shape


@lru_cache(maxsize=1024)
def flat(x_shape: Shape, outs: int, window: Window) -> Flat:
    """The sizes for an input of some shape and a number of filters.

    >>> sizes = flat((1, 3, 28, 28), 6, Window((5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1)))
    >>> sizes.total, sizes.run, sizes.offsets, sizes.wide
    (784, 668, (28, 1), (6, 24, 28, 1))
    """
    batch, channels, *spatial = x_shape
    rank = len(spatial)
    framed = [n + low + high for n, (low, high) in zip(spatial, window.padding, strict=True)]
    places = output_size(window, tuple(spatial))
    steps = [math.prod(framed[axis + 1 :]) * batch for axis in range(rank)]
    pads = zip(spatial, window.padding, strict=True)
    total = math.prod(framed) * batch
    offsets = tuple(d * step for d, step in zip(window.dilation, steps, strict=True))
    runs = [math.prod(window.kernel[axis + 1 :]) * total for axis in range(rank)]
    return Flat(
        total,
        batch + sum((p - 1) * step for p, step in zip(places, steps, strict=True)),
        offsets,
        (outs, places[0], *framed[1:], batch),
        (slice(None), *(slice(p) for p in places)),
        (channels, *framed, batch),
        (slice(None), *(slice(low, low + n) for n, (low, _) in pads)),
        (outs, *(1,) * (rank + 1)),
        (
            math.prod(window.kernel) * total,
            *(run - offset for run, offset in zip(runs, offsets, strict=True)),
            1,
        ),
        tuple(range(1, rank + 1)),
        (*range(1, rank + 2), 0),
        (rank + 1, *range(rank + 1)),
    )


def convolve(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """`funcnn._kernels.convolution.convolve`, for stride 1 and one group."""
    sizes = flat(x.shape, weight.shape[0], window)
    columns = _columns(x, window, sizes)
    wide = scratch("wide", sizes.wide, x.dtype)
    filters = np.ascontiguousarray(weight).reshape(len(weight), -1)
    arithmetic().matmul(filters, columns, wide.reshape(len(wide), -1)[:, : sizes.run])
    out = wide[sizes.inside]
    out = out.copy() if bias is None else out + bias.reshape(sizes.biases)
    return out.transpose(sizes.batch_first)


def weight_gradient(x: Array, dout: Array, weight_shape: Shape, window: Window) -> Array:
    """`funcnn._kernels.convolution.weight_gradient`, for stride 1 and one group."""
    sizes = flat(x.shape, weight_shape[0], window)
    columns = _columns(x, window, sizes)
    width = outer_width(weight_shape[0], len(columns))
    dweight = np.empty(weight_shape, x.dtype)
    tiles = dweight.reshape(weight_shape[0], len(columns) // width, width).swapaxes(0, 1)
    seen = columns.reshape(len(tiles), width, sizes.run).swapaxes(1, 2)
    now = arithmetic()
    now.matmul(_slopes(dout, sizes), seen, tiles)
    if not np.isfinite(dweight).all():  # 0 times a pixel that no output sees may be NaN
        columns[:, _around(sizes)] = 0
        now.matmul(_slopes(dout, sizes), seen, tiles)
    return dweight


def input_gradient(dout: Array, weight: Array, x_shape: Shape, window: Window) -> Array:
    """`funcnn._kernels.convolution.input_gradient`, for stride 1 and one group.

    Number ``q`` of a channel gets from each tap the number ``q - offset`` of the tap's run. With
    zeros around the runs this is a view, too: a step of a tap goes to the next run and back by the
    tap's offset.
    """
    filters = np.ascontiguousarray(weight).reshape(len(weight), -1)
    sizes = flat(x_shape, len(weight), window)
    total, run = sizes.total, sizes.run
    taps, size = filters.shape[1], dout.itemsize
    made = scratch("columns", (total - run + taps * total,), dout.dtype)
    made.fill(0)
    runs = made[total - run :].reshape(taps, total)[:, :run]
    now = arithmetic()
    now.matmul(filters.T, _slopes(dout, sizes), runs)
    shape, strides = (*weight.shape[1:], total), tuple(map(size.__mul__, sizes.back))
    seen = np.ndarray(shape, dout.dtype, made, (total - run) * size, strides)
    dx = now.sum(seen, sizes.taps).reshape(sizes.framed)
    return np.ascontiguousarray(dx[sizes.image]).transpose(sizes.batch_first)


def _columns(x: Array, window: Window, sizes: Flat) -> Array:
    """What each tap of each channel sees, as ``(C * taps, run)``."""
    pixels = frame(arithmetic().prepare(x), window.padding)
    size = pixels.itemsize
    shape = (pixels.shape[0], *window.kernel, sizes.run)
    made = scratch("columns", shape, pixels.dtype)
    strides = (sizes.total * size, *map(size.__mul__, sizes.offsets), size)
    made[...] = np.ndarray(shape, pixels.dtype, pixels, 0, strides)
    return made.reshape(math.prod(shape[:-1]), sizes.run)


def _slopes(dout: Array, sizes: Flat) -> Array:
    """The gradient of the output as ``(O, run)``, 0 at the places that are not in the output."""
    slopes = arithmetic().prepare(dout)
    wide = scratch("wide", sizes.wide, slopes.dtype)
    wide.fill(0)
    wide[sizes.inside] = slopes.transpose(sizes.batch_last)
    return wide.reshape(len(wide), -1)[:, : sizes.run]


def _around(sizes: Flat) -> Array:
    """Which numbers of a run are not in the output."""
    around = np.ones(sizes.wide[1:], bool)
    around[sizes.inside[1:]] = False
    return around.reshape(-1)[: sizes.run]
