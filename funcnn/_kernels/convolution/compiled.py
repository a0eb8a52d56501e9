"""Convolution compiled: direct, without columns. The readable twin is `textbook`.

Memory runs batch-last, so one row of outputs is one run of numbers, and what a tap sees of the image is
a run as long. For some filters at once, a tile of an output row stays in registers while all taps add
their products to it. Where the runs lie is a table, `_rows`, made once for each shape: so one kernel
serves any number of spatial axes, strides, dilations and groups. A plan of NumPy's that is `forced`
means nothing here.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn._kernels.images import frame
from funcnn._kernels.tiles import four_rows, one_row, products_of_runs, six_rows, two_rows
from funcnn._kernels.windows import Window, output_size
from funcnn.machine.threads import share
from funcnn.numerics.jit import In, Out, Table, inlined, kernel
from funcnn.numerics.vectors import SMALL, VECTOR, WIDE
from funcnn.types import Array

Shape = tuple[int, ...]

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
_SHORT = 16, 32  # numbers of a run, and of one that holds a single place: below, products are as fast
_MANY = 1 << 14  # channels in times out for which products beat the weight gradient's tiles
_PART = 1 << 24  # multiplications that are worth a thread: a ResNet-8 takes 40 ms, not 50
_WEIGHTS = 1 << 17  # bytes of filters that are read again for each tile; more, for 16 tiles
_SLICE = 1 << 17  # numbers that the weight gradient reads again for each tile


class _Rows(NamedTuple):
    """Where the runs of a convolution lie in a framed ``(C, *spatial, N)``.

    ``at`` is the offset of each tap of a group, taps of the first spatial axis outermost, and ``base``
    that of each output row; of its taps those from ``first`` to ``last`` meet the image.
    """

    padding: tuple[tuple[int, int], ...]
    at: Array
    base: Array
    first: Array
    last: Array
    run: int
    group: int


@lru_cache(maxsize=256)
def _rows(x_shape: Shape, window: Window, groups: int, skip: bool) -> _Rows:
    """With `skip`, the first axis is not framed: taps that would meet its padding are left out."""
    batch, channels, *spatial = x_shape
    places, rank = output_size(window, x_shape[2:]), len(spatial)
    low = window.padding[0][0] if skip else 0
    padding = ((0, 0), *window.padding[1:]) if skip else window.padding
    sizes = [n + before + after for n, (before, after) in zip(spatial, padding, strict=True)]
    steps = [math.prod(sizes[axis + 1 :]) * batch for axis in range(rank)]
    ins, plane = channels // groups, math.prod(sizes) * batch
    offsets: Array = np.zeros(1, np.int64)
    for axis, (k, d) in enumerate(zip(window.kernel, window.dilation, strict=True)):
        offsets = (offsets[:, None] + np.arange(k) * d * steps[axis]).ravel()
        if axis == 0:
            offsets = (offsets[:, None] + np.arange(ins) * plane).ravel()
    whole = window.stride[-1] == 1  # a row of outputs is one run
    base: Array = np.full(1, -low * steps[0], np.int64)
    for axis in range(rank - whole):
        base = (base[:, None] + np.arange(places[axis]) * window.stride[axis] * steps[axis]).ravel()
    first, last = np.zeros(len(base), np.int64), np.full(len(base), len(offsets))
    if skip:
        top = np.arange(places[0]) * window.stride[0] - low
        k, d = window.kernel[0], window.dilation[0]
        each, per = len(base) // places[0], len(offsets) // k
        first = np.repeat(np.clip(-(top // d), 0, k) * per, each)
        last = np.repeat(np.clip(-((top - spatial[0]) // d), 0, k) * per, each)
    run = (places[-1] if whole else 1) * batch
    return _Rows(padding, offsets, base, first, np.maximum(first, last), run, ins * plane)


def _declined(x_shape: Shape, weight_shape: Shape, window: Window) -> bool:
    """Whether NumPy's ways are better: for short runs, single taps, and nothing at all."""
    places = output_size(window, x_shape[2:])
    single = window.stride[-1] > 1
    run = x_shape[0] * (1 if single else places[-1])
    return (
        run < _SHORT[single]
        or math.prod(window.kernel) == 1
        or not math.prod(x_shape) * math.prod(weight_shape)
    )


def _outermost(weight: Array) -> Array:
    """Filters as rows, taps in the order of `_Rows`."""
    return np.ascontiguousarray(weight.swapaxes(1, 2)).reshape(-1)


def _parts(rows: int, products: int) -> list[tuple[int, int]]:
    """Some output rows for each of several threads, by sizes alone."""
    count = max(1, min(8, rows, products // _PART))
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int = 1,
    forced: Any = None,
) -> Any:
    """`funcnn._kernels.convolution.convolve`."""
    if _declined(x.shape, weight.shape, window):
        return NotImplemented
    skip = x.ndim > 3
    rows = _rows(x.shape, window, groups, skip)
    outs = len(weight)
    out = np.empty((outs, *output_size(window, x.shape[2:]), len(x)), x.dtype)
    image, target = frame(x, rows.padding).reshape(-1), out.reshape(-1)
    filters = _outermost(weight)
    start = np.zeros(outs, x.dtype) if bias is None else np.ascontiguousarray(bias)
    parts = _parts(len(rows.base), weight[0].size * out.size)
    step = WIDE // x.itemsize * (1 if filters.nbytes <= _WEIGHTS else 16)

    def convolve_some(i: int) -> None:
        _convolve(
            image, rows.at, filters, start, target, rows.base, rows.first, rows.last,
            *parts[i], rows.run, outs // groups, groups, rows.group, VECTOR // x.itemsize, step,
        )  # fmt: skip

    share(convolve_some, len(parts))
    return out.transpose(x.ndim - 1, *range(x.ndim - 1))


def weight_gradient(
    x: Array,
    dout: Array,
    weight_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Any = None,
) -> Any:
    """`funcnn._kernels.convolution.weight_gradient`."""
    few = weight_shape[0] // groups * weight_shape[1] < _MANY
    if _declined(x.shape, weight_shape, window) or not few:
        return NotImplemented
    rows = _rows(x.shape, window, groups, False)
    image = frame(x, rows.padding).reshape(-1)
    slope = np.ascontiguousarray(dout.transpose(*range(1, dout.ndim), 0)).reshape(-1)
    outs, ins, first, *others = weight_shape
    step = min(max(_SLICE // (ins + outs // groups), 256), 2048)
    parts = _parts(len(rows.base), math.prod(weight_shape[1:]) * dout.size)

    def multiply_some(i: int) -> Array:
        total = np.zeros((outs, first, ins, *others), x.dtype)
        _multiply(
            image, rows.at, rows.base, slope, total.reshape(-1), *parts[i],
            rows.run, outs // groups, groups, rows.group, VECTOR // x.itemsize, step,
        )  # fmt: skip
        return total

    total, *rest = share(multiply_some, len(parts))
    for other in rest:
        total += other
    return np.ascontiguousarray(total.swapaxes(1, 2))


def input_gradient(
    dout: Array,
    weight: Array,
    x_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Any = None,
) -> Any:
    """`funcnn._kernels.convolution.input_gradient`, of stride 1: it turns the filters round."""
    rank = len(window.kernel)
    padding = tuple(
        (d * (k - 1) - low, n - places + low)
        for n, places, k, (low, _), d in zip(
            x_shape[2:], dout.shape[2:], window.kernel, window.padding, window.dilation, strict=True
        )
    )
    if any(s > 1 for s in window.stride) or min(map(min, padding)) < 0:
        return NotImplemented
    by_group = weight.reshape(groups, len(weight) // groups, *weight.shape[1:]).swapaxes(1, 2)
    rotated = by_group[(slice(None),) * 3 + (slice(None, None, -1),) * rank]
    filters = rotated.reshape(groups * weight.shape[1], len(weight) // groups, *window.kernel)
    return convolve(dout, filters, None, window._replace(padding=padding), groups)


@kernel
def _convolve(
    image: In, at: Table, filters: In, start: In, out: Out, base: Table, first: Table, last: Table,
    low: int, high: int, run: int, outs: int, groups: int, group: int, vector: int, step: int,
) -> None:  # fmt: skip
    """Output rows `low` to `high`, `step` places at a time with all filters, 4 or 6 at a time."""
    pitch = len(base) * run
    for g in range(groups):
        for r in range(low, high):
            seen = base[r] + g * group
            for q in range(0, run, step):
                end, o = min(q + step, run), 0
                while o < outs:
                    left, row = outs - o, g * outs + o
                    place = row * pitch + r * run
                    if left == 6 or (left > 6 and left % 4 > 1):
                        six_rows(image, at, filters, start, out, first[r], last[r],
                             seen, place, row, pitch, q, end, run, vector)  # fmt: skip
                        o += 6
                    elif left >= 4:
                        four_rows(image, at, filters, start, out, first[r], last[r],
                              seen, place, row, pitch, q, end, run, vector)  # fmt: skip
                        o += 4
                    elif left >= 2:
                        two_rows(image, at, filters, start, out, first[r], last[r],
                             seen, place, row, pitch, q, end, run, vector)  # fmt: skip
                        o += 2
                    else:
                        one_row(image, at, filters, start, out, first[r], last[r],
                             seen, place, row, pitch, q, end, run, vector)  # fmt: skip
                        o += 1


def _sums(size: int) -> Any:
    """All filters of a group, four at a time, with all taps, three at a time, over some runs."""

    @inlined
    def multiply_taps(
        image: In, at: Table, base: Table, slope: In, total: Out,
        first: int, last: int, low: int, high: int, row: int, left: int, run: int, pitch: int,
    ) -> None:  # fmt: skip
        taps = len(at)
        whole = taps - taps % 3
        for t in range(0, whole, 3):
            if left >= 4:
                products_of_runs(image, at, base, slope, total, first, last, low, high,
                                 row, t, taps, run, pitch, 4, 3, size)  # fmt: skip
            elif left >= 2:
                products_of_runs(image, at, base, slope, total, first, last, low, high,
                                 row, t, taps, run, pitch, 2, 3, size)  # fmt: skip
            else:
                products_of_runs(image, at, base, slope, total, first, last, low, high,
                                 row, t, taps, run, pitch, 1, 3, size)  # fmt: skip
        for t in range(whole, taps):
            for o in range(4 if left >= 4 else 2 if left >= 2 else 1):
                products_of_runs(image, at, base, slope, total, first, last, low, high,
                                 row + o, t, taps, run, pitch, 1, 1, size)  # fmt: skip

    @inlined
    def multiply_rows(
        image: In, at: Table, base: Table, slope: In, total: Out,
        first: int, last: int, low: int, high: int, row: int, outs: int, run: int, pitch: int,
    ) -> None:  # fmt: skip
        o = 0
        while o < outs and low < high:
            left = outs - o
            multiply_taps(image, at, base, slope, total, first, last, low, high,
                          row + o, left, run, pitch)  # fmt: skip
            o += 4 if left >= 4 else 2 if left >= 2 else 1

    return multiply_rows


_vector_sums, _small_sums, _single_sums = (_sums(size) for size in (VECTOR, SMALL, 0))


@kernel
def _multiply(
    image: In, at: Table, base: Table, slope: In, total: Out,
    low: int, high: int, run: int, outs: int, groups: int, group: int, vector: int, step: int,
) -> None:  # fmt: skip
    """Output rows `low` to `high`, `step` places at a time: they stay in the cache for all filters."""
    pitch, small = len(base) * run, max(1, vector // 4)
    whole, nearly = run - run % vector, run - run % small
    several = max(1, step // run)
    for g in range(groups):
        seen, row = image[g * group :], g * outs
        for r in range(low, high, several):
            end = min(r + several, high)
            for q in range(0, whole, step):
                _vector_sums(seen, at, base, slope, total, r, end, q, min(q + step, whole),
                             row, outs, run, pitch)  # fmt: skip
            _small_sums(seen, at, base, slope, total, r, end, whole, nearly, row, outs, run, pitch)
            _single_sums(seen, at, base, slope, total, r, end, nearly, run, row, outs, run, pitch)
