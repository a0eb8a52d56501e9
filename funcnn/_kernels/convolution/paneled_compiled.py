"""Convolution compiled, of panels: what some places see, and some examples, is copied side by side.

What a place sees of an image lies far apart, often by a power of two: then all of it meets in a few
places of the cache, and is read again from afar for every tile of filters. A panel has the columns of
the image that a row of outputs sees; a column has all channels, and all taps of the other axes; each of
these has the numbers of as many examples as fill a tile. So a place's taps lie there side by side.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn._kernels.convolution.places import Axes, laid, lifted, rows_of, tabled
from funcnn._kernels.framing import framed
from funcnn._kernels.tiles import rows_together, weighted_runs
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out, Table, inlined, intrinsic
from funcnn.numerics.panels import beginning
from funcnn.numerics.vectors import IN_PLACE, WIDE, Vectors, pointers, types
from funcnn.types import Array

Shape = tuple[int, ...]

# Measured in November 2026 on an AMD EPYC (Zen 3, two cores, AVX2, 512 KiB of second-level cache).
_LEAST = 6  # filters of a group
_PANEL = 1 << 17  # bytes of a panel
_FILTERS = 1 << 17  # and of the filters that meet it in turn


class Columns(NamedTuple):
    """The tables of a convolution, in numbers of an image, of a panel, or of outputs.

    ``at`` is where in an image the numbers of a column lie, ``near`` where in a panel a place's taps.
    A row of outputs begins at ``into``, what it sees at ``base``; of the ``depth`` taps of the first
    axis, ``first`` to ``last`` meet it. A place is ``to`` in its row; it sees columns from ``seen`` on,
    of which ``left`` to ``right`` meet the image. ``cuts`` divide a row, so that a panel of so many
    ``columns`` serves each part; a place has a ``reach`` of some.
    """

    padding: tuple[tuple[int, int], ...]
    at: Array
    near: Array
    base: Array
    into: Array
    first: Array
    last: Array
    seen: Array
    to: Array
    left: Array
    right: Array
    cuts: Array
    depth: int
    columns: int
    reach: int
    size: int
    batch: int
    group: int
    pitch: int


def is_paneled(batch: int, outs: int, itemsize: int) -> bool:
    """Whether a panel is worth its copy: examples fill a tile, and there are filters to meet it."""
    return not IN_PLACE and outs >= _LEAST and batch >= WIDE // itemsize


@lru_cache(maxsize=256)
def _columns(axes: Axes, batch: int, ins: int, written: Shape, itemsize: int) -> Columns:
    top, *middle, end = lifted(axes)
    padding = ((0, 0), *(axis.padding for axis in middle), (0, 0))[-len(axes) :]
    found = laid((top, *(axis.framed for axis in middle), end), batch, ins, "column")
    size, reach = max(1, len(found.at)), max(1, (end.taps - 1) * end.dilation + 1)
    most = max(1, (_PANEL // (size * WIDE) - reach) // end.stride + 1)
    cuts = np.linspace(0, end.places, -(-end.places // most) + 1).astype(np.int64)
    v, taps = np.arange(end.places), np.arange(end.taps)[:, None] * end.dilation
    return Columns(
        padding, found.at, (taps * size + np.arange(size)).ravel() * (WIDE // itemsize),
        found.base, *rows_of(axes, batch, written), v * end.stride + end.offset,
        (v * end.step + end.phase) * batch, *end.seen, cuts, max(1, top.taps),
        int(np.diff(cuts).max() - 1) * end.stride + reach, reach, end.size, batch, found.group,
        math.prod(written) * batch,
    )  # fmt: skip


def write(x: Array, weight: Array, start: Array, axes: Axes, groups: int, out: Array) -> None:
    """Write a convolution, or one phase of it, to a batch-last output."""
    outs, ins, wide = len(weight) // groups, x.shape[1] // groups, WIDE // x.itemsize
    where = _columns(axes, len(x), ins, out.shape[1:-1], x.itemsize)
    filters, blocks = tabled(weight, "column"), -(-len(x) // wide)
    together = max(24, _FILTERS * outs // max(1, filters.nbytes) // 24 * 24)  # whole tiles of any size
    _convolve(
        framed(x, where.padding), filters, start, out, *where[1:],
        outs, groups, min(outs, together), blocks, wide,
        0, len(where.base) * (len(where.cuts) - 1) * blocks,
    )  # fmt: skip


@intrinsic
def _copy_tile(context: Any, x: Any, index: Any, out: Any, place: Any) -> Any:
    """``out[place + q] = x[index + q]``, for all `q` of a wide tile."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, x.dtype, WIDE)
        xs, outs = pointers(context, builder, signature.args[::2], args[::2])
        vectors.put(vectors.at(xs, args[1]), outs, args[3])
        return context.get_dummy_value()

    return types.void(x, index, out, place), generate


@inlined
def _weigh(
    panel: In, near: Table, filters: In, start: In, out: Out, first: int, last: int, spans: int,
    jump: int, seen: int, row: int, end: int, place: int, pitch: int,
) -> None:  # fmt: skip
    """Filters `row` to `end` at one place, by tiles; two or three that are left over, one by one."""
    taps = len(near)
    while row < end:
        rows, to = rows_together(end - row), place + row * pitch
        if rows == 6:
            weighted_runs(panel, near, filters, start, out, first, last, spans, jump, seen, row, taps,
                          to, pitch, 6, WIDE)  # fmt: skip
        elif rows == 4:
            weighted_runs(panel, near, filters, start, out, first, last, spans, jump, seen, row, taps,
                          to, pitch, 4, WIDE)  # fmt: skip
        else:
            rows = 1
            weighted_runs(panel, near, filters, start, out, first, last, spans, jump, seen, row, taps,
                          to, pitch, 1, WIDE)  # fmt: skip
        row += rows


@divided
def _convolve(
    image: In, filters: In, start: In, out: Out, at: Table, near: Table, base: Table, into: Table,
    first: Table, last: Table, seen: Table, to: Table, left: Table, right: Table, cuts: Table,
    depth: int, columns: int, reach: int, size: int, batch: int, group: int, pitch: int, outs: int,
    groups: int, together: int, blocks: int, wide: int, low: int, high: int,
) -> None:  # fmt: skip
    """So many panels: some examples at some places of a row, with all filters."""
    jump, parts, each = len(at), len(cuts) - 1, len(at) // depth
    panel = np.empty(columns * jump * wide + 64, image.dtype)
    line = (-beginning(panel) & 63) // image.itemsize
    for i in range(low, high):
        r, part, q = i // blocks // parts, i // blocks % parts, min(i % blocks * wide, batch - wide)
        some, whole = (last[r] - first[r]) * each, last[r] - first[r] == depth
        begin, end = cuts[part], cuts[part + 1]
        one, behind = max(0, seen[begin]), min(size, seen[end - 1] + reach)
        for g in range(groups):
            for t in range(first[r] * each, first[r] * each + some):
                source = base[r] + at[t] + g * group + q
                for k in range(one, behind):
                    to_column = line + ((k - one) * jump + t) * wide
                    _copy_tile(image, source + k * batch, panel, to_column)
            for row in range(g * outs, (g + 1) * outs, together):
                for v in range(begin, end):
                    # Columns next to each other in the panel are one span.
                    tap = left[v] * jump + first[r] * each
                    count = (right[v] - left[v]) * jump if whole else some
                    _weigh(panel, near, filters, start, out, tap, tap + count,
                           1 if whole else right[v] - left[v], jump,
                           line + (seen[v] - one) * jump * wide, row,
                           min(row + together, (g + 1) * outs), into[r] + to[v] + q, pitch)  # fmt: skip
    panel[0] = 0  # it is there until now
