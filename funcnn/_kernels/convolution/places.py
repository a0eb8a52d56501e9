"""Where outputs lie in memory, and where the taps that they see: what compiled convolution walks over.

Memory runs batch-last: an image is ``(C, *spatial, N)``. Outputs are taken one row at a time, along the
last spatial axis, and of each row those together that see the same taps: so a tap that would meet
padding is left out, and nothing is framed but axes in the middle, and the last one of a small batch.
The input gradient is a convolution too: with rotated filters, and for each phase of a stride with every
other tap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from funcnn._kernels.windows import Window, output_size
from funcnn.types import Array

Shape = tuple[int, ...]
_FEW = 16  # examples: fewer are a short run at an edge, and borders of the last axis are framed


class Axis(NamedTuple):
    """Along one axis, tap `t` of place `v` sees ``v stride + t dilation + offset`` of `size` numbers.

    Place `v` is ``v step + phase`` of all that are written.
    """

    size: int
    places: int
    taps: int
    stride: int
    dilation: int
    offset: int
    step: int = 1
    phase: int = 0

    @property
    def seen(self) -> tuple[Array, Array]:
        """The first tap of each place that meets the image, and the first behind it."""
        at = np.arange(self.places) * self.stride + self.offset
        first = np.clip(-(at // self.dilation), 0, self.taps)
        return first, np.maximum(first, np.clip(-((at - self.size) // self.dilation), 0, self.taps))

    @property
    def met(self) -> tuple[Array, Array]:
        """The first place of each tap that meets the image, and the first behind it."""
        at = np.arange(self.taps) * self.dilation + self.offset
        first = np.clip(-(at // self.stride), 0, self.places)
        return first, np.maximum(first, np.clip(-((at - self.size) // self.stride), 0, self.places))

    @property
    def padding(self) -> tuple[int, int]:
        """What a frame has to hold so that every tap of every place meets it."""
        last = (self.places - 1) * self.stride + (self.taps - 1) * self.dilation + self.offset
        return max(0, -self.offset), max(0, last + 1 - self.size)

    @property
    def framed(self) -> Axis:
        low, high = self.padding
        return self._replace(size=low + self.size + high, offset=self.offset + low)


Axes = tuple[Axis, ...]


@lru_cache(maxsize=256)
def forward(spatial: Shape, window: Window) -> Axes:
    """The axes of a convolution."""
    places = output_size(window, spatial)
    return tuple(
        Axis(n, p, k, s, d, -low)
        for n, p, k, s, (low, _), d in zip(spatial, places, *window, strict=True)
    )


@lru_cache(maxsize=256)
def backward(spatial: Shape, window: Window) -> tuple[tuple[Axes, tuple[slice, ...]], ...]:
    """The axes of the input gradient for each phase, and the taps that it takes, in their order."""
    along = []
    for n, p, k, s, (low, _), d in zip(spatial, output_size(window, spatial), *window, strict=True):
        some = []
        for phase in range(min(s, n)):
            first = (phase + low) % s
            count = max(0, -(-(k - first) // s))
            offset = (phase + low - first) // s - d * (count - 1)
            taken = slice(first + s * (count - 1), first - 1 if first else None, -s)
            axis = Axis(p, -(-(n - phase) // s), count, 1, d, offset, s, phase)
            some.append((axis, taken if count else slice(0)))
        along.append(some)
    return tuple((tuple(a for a, _ in one), tuple(t for _, t in one)) for one in product(*along))


def tabled(weight: Array, order: str = "row") -> Array:
    """Filters ``(O, C, *kernel)`` in an order of `laid`; of a column, all columns."""
    lifted = weight if weight.ndim > 3 else weight[:, :, None]
    rank = lifted.ndim
    outer = (2, rank - 1) if order == "row" else (rank - 1, 2)
    return np.ascontiguousarray(lifted.transpose(0, *outer, 1, *range(3, rank - 1)))


class _Laid(NamedTuple):
    """An image in memory: where its taps and its rows are."""

    at: Array
    base: Array
    group: int


def laid(axes: Axes, batch: int, ins: int, order: str) -> _Laid:
    """Taps in the order of a ``"row"``, of ``"runs"``, or of a ``"column"``: without the last axis."""
    sizes = [axis.size for axis in axes]
    steps = _steps(sizes, batch)
    channels = np.arange(ins) * math.prod(sizes) * batch
    first, *middle, last = (
        np.arange(axis.taps) * axis.dilation * step for axis, step in zip(axes, steps, strict=True)
    )
    at = base = np.zeros(1, np.int64)
    inner = {
        "row": (last, channels, *middle),
        "runs": (channels, *middle, last),
        "column": (channels, *middle),
    }
    for each in (first, *inner[order]):
        at = _added(at, each)
    for axis, step in zip(axes[:-1], steps[:-1], strict=True):
        base = _added(base, (np.arange(axis.places) * axis.stride + axis.offset) * step)
    return _Laid(at, base, ins * math.prod(sizes) * batch)


def _added(a: Array, b: Array) -> Array:
    return (a[:, None] + b).ravel()


def _steps(sizes: Sequence[int], batch: int) -> list[int]:
    return [math.prod(sizes[i + 1 :]) * batch for i in range(len(sizes))]


def lifted(axes: Axes) -> Axes:
    """With an axis of size 1 in front, if there is but one."""
    return axes if len(axes) > 1 else (Axis(1, 1, 1, 1, 1, 0), *axes)


def rows_of(axes: Axes, batch: int, written: Shape) -> tuple[Array, Array, Array]:
    """Where each row of outputs begins, and which taps of the first axis meet it."""
    into: Array = np.zeros(1, np.int64)
    for axis, step in zip(axes[:-1], _steps(written, batch), strict=False):
        into = _added(into, (np.arange(axis.places) * axis.step + axis.phase) * step)
    top = lifted(axes)[0]
    first, last = (np.repeat(some, len(into) // max(1, top.places)) for some in top.seen)
    return into, first, last


class Places(NamedTuple):
    """The tables of a convolution, in numbers of an image or of outputs, of which a `row` has so many.

    ``at`` is the offset of each tap of a group: the first spatial axis outermost, then the last, then
    channels and other axes; ``jump`` of them belong to a tap of the first. A row of outputs begins at
    ``into``, what it sees at ``base``, and of the taps of the first axis ``first`` to ``last`` meet it.
    A run of ``size`` outputs begins at ``to`` of a row, what it sees at ``shift``, and of each `jump`
    taps ``left`` to ``right`` meet it. ``group`` and ``pitch`` lead to the next group and output.
    """

    row: int
    padding: tuple[tuple[int, int], ...]
    at: Array
    base: Array
    into: Array
    first: Array
    last: Array
    shift: Array
    to: Array
    size: Array
    left: Array
    right: Array
    jump: int
    group: int
    pitch: int


@lru_cache(maxsize=256)
def places(axes: Axes, batch: int, ins: int, written: Shape, all: bool = False) -> Places:
    """The tables of a convolution of `ins` channels of a group to images of some size.

    If outputs of a row see all taps along it, borders of the last axis are framed.
    """
    rank, (top, *middle, end) = len(axes), lifted(axes)
    few = all or batch < _FEW
    padding = ((0, 0), *(axis.padding for axis in middle), end.padding if few else (0, 0))[-rank:]
    end = end.framed if few else end
    found = laid((top, *(axis.framed for axis in middle), end), batch, ins, "row")
    rows = rows_of(axes, batch, written)
    left, right = end.seen
    alike = (np.diff(left) == 0) & (np.diff(right) == 0) & (end.stride == end.step == 1)
    v = np.flatnonzero(np.append(True, ~alike)[: end.places])
    each = len(found.at) // max(1, top.taps * end.taps)
    return Places(
        end.places * batch, padding, found.at, found.base, *rows,
        (v * end.stride + end.offset) * batch, (v * end.step + end.phase) * batch,
        np.diff(np.append(v, end.places)) * batch, left[v] * each, right[v] * each,
        end.taps * each, found.group, math.prod(written) * batch,
    )  # fmt: skip


class Taps(NamedTuple):
    """The tables of a weight gradient: some taps at a time, over all outputs that see them.

    As in `Places`, but taps of the last axis are innermost, and this axis is framed; ``to`` is where a
    tap stands in a filter. Runs of a row
    begin at ``cols`` in the image and have ``run`` numbers each. Of the rows, those from ``first`` to
    ``last`` meet so many ``taps`` from ``tap`` on.
    """

    padding: tuple[tuple[int, int], ...]
    at: Array
    to: Array
    base: Array
    cols: Array
    tap: Array
    taps: Array
    first: Array
    last: Array
    run: int
    group: int


@lru_cache(maxsize=256)
def taps(axes: Axes, batch: int, ins: int, together: int) -> Taps:
    """The tables of a weight gradient for `ins` channels of a group, so many taps together."""
    rank, (top, *others) = len(axes), lifted(axes)
    found = laid((top, *(axis.framed for axis in others)), batch, ins, "runs")
    rows, each = len(found.base) // max(1, top.places), len(found.at) // top.taps
    some = [
        (tap, min(together, (i + 1) * each - tap), first * rows, last * rows)
        for i, (first, last) in enumerate(zip(*top.met, strict=True))
        for tap in range(i * each, (i + 1) * each, together)
    ]
    end = others[-1].framed
    whole = end.stride == 1  # a row is one run
    v = np.arange(1 if whole else end.places)
    tap, number, first_row, last_row = np.array(some, np.int64).reshape(-1, 4).T.copy()
    to = np.arange(len(found.at)).reshape(ins, top.taps, -1).swapaxes(0, 1).ravel()
    return Taps(
        ((0, 0), *(axis.padding for axis in others))[-rank:],
        found.at, to, found.base, (v * end.stride + end.offset) * batch,
        tap, number, first_row, last_row, (end.places if whole else 1) * batch, found.group,
    )  # fmt: skip
