"""Pooling compiled: one pass over the taps of each place. The readable twin is `textbook`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn._kernels.framing import framed
from funcnn._kernels.images import LAST, batch_first, batch_last, frame
from funcnn._kernels.pooling.bins import intervals
from funcnn._kernels.pooling.means import excess
from funcnn._kernels.sparse import TABLE, Band, Rows, applied, rows
from funcnn._kernels.tiles import largest_of_places, largest_of_runs
from funcnn._kernels.windows import Window, apart, output_size, reads
from funcnn.machine.memory import fresh
from funcnn.numerics.handover import divided
from funcnn.numerics.jit import Bytes, In, Out, OutBytes, Table
from funcnn.numerics.vectors import QUARTER, VECTOR
from funcnn.types import Array

Shape = tuple[int, ...]


class _Places(NamedTuple):
    """What each of so many places along the axes sees of a ``(C, *spatial, N)``.

    Place `p` sees ``base[p] + at[low[p]:high[p]]``, `first` of which is its first tap inside.
    """

    at: Array
    base: Array
    low: Array
    first: Array
    high: Array
    plane: int
    along: Shape
    all_see: bool  # whether every place has such a tap
    alone: bool = False  # whether no place sees outside, or what another sees


@lru_cache(maxsize=256)
def _places(x_shape: Shape, window: Window, framed: bool) -> _Places:
    batch, _, *spatial = x_shape
    places = output_size(window, x_shape[2:])
    pads = [(low, high) if framed else (0, 0) for low, high in window.padding]
    sizes = [n + low + high for n, (low, high) in zip(spatial, pads, strict=True)]
    at, base, first = (np.zeros(1, np.int64) for _ in range(3))
    all_see = True
    for axis, (k, s, (low, _), d) in enumerate(zip(*window, strict=True)):
        step = math.prod(sizes[axis + 1 :]) * batch
        top = np.arange(places[axis]) * s
        at = (at[:, None] + np.arange(k) * d * step).ravel()
        base = (base[:, None] + (top if framed else top - low) * step).ravel()
        tap = np.clip(-((top - low) // d), 0, k - 1)
        first = (first[:, None] * k + tap).ravel()
        all_see &= bool((top - low + tap * d < spatial[axis]).all())
    none, alone = np.zeros_like(base), apart(window) and not any(map(any, window.padding))
    plane = math.prod(sizes) * batch
    return _Places(at, base, none, first, none + len(at), plane, places, all_see, alone)


_RUN = 8  # numbers of a run that fill vectors
# Measured in November 2026 on an AMD EPYC with AVX-512: a place with more taps is better seen axis by
# axis. As many numbers add up in their own dtype.
_TAPS = 64
_ALONE = 1 << 15  # numbers of one image: of a larger one, NumPy's long rows are faster


@lru_cache(maxsize=16)
def _sums(x_shape: Shape, window: Window, back: bool) -> Rows | None:
    """What windows see of an image; or, back, in which windows each of its elements is."""
    places = output_size(window, x_shape[2:])
    if math.prod(window.kernel) > _TAPS or math.prod(places) * math.prod(window.kernel) > TABLE:
        return None
    each = []
    for axis, n in enumerate(x_shape[2:]):
        read = reads(window, axis, places[axis])
        each.append(Band(read, ((read >= 0) & (read < n)).astype(np.float64), n))
    return rows(*(one.transposed if back else one for one in each))


@lru_cache(maxsize=16)
def _bins(x_shape: Shape, places: Shape) -> Rows:
    """The same of bins."""
    return rows(*map(_seen, x_shape[2:], places))


@lru_cache(maxsize=64)
def _counts(x_shape: Shape, places: Shape) -> Array:
    """How much each bin sees, to divide ``(N, C, *places)``."""
    counts = np.ones(1, np.int64)
    for n, o in zip(x_shape[2:], places, strict=True):
        counts = counts[..., None, :] * np.count_nonzero(_seen(n, o).weight, axis=1)[:, None]
    return batch_first(counts[None])


def _seen(n: int, o: int) -> Band:
    """Which of `n` elements each of `o` bins sees."""
    start, stop = np.array([(seen.start, seen.stop) for seen in intervals(n, o)]).T[..., None]
    at = start + np.arange((stop - start).max())
    return Band(at, (at < stop).astype(np.float64), n)


@lru_cache(maxsize=64)
def _along(n: int, o: int, back: bool) -> Rows:
    """What bins along one axis see; or, back, in which bins each element is."""
    return rows(_seen(n, o).transposed if back else _seen(n, o))


def _thin(x_shape: Shape, places: Shape) -> bool:
    """Whether the same holds along each axis."""
    pairs = zip(x_shape[2:], places, strict=True)
    return all(-(-n // o) < _TAPS and n + 2 * o <= TABLE for n, o in pairs)


def _few(x_shape: Shape, places: Shape, taps: int) -> bool:
    """Whether bins are small, and the table of what they see is."""
    most = math.prod(-(-n // o) + 1 for n, o in zip(x_shape[2:], places, strict=True))
    return min(most, math.prod(x_shape[2:])) <= taps and most * math.prod(places) <= TABLE


def _applied(x: Array, matrix: Rows, sizes: Shape) -> Array:
    out = applied(frame(x, ((0, 0),) * len(sizes)), matrix, x.shape[1])
    return batch_first(out.reshape(x.shape[1], *sizes, len(x)))


def sums(x: Array, window: Window) -> Any:
    """`funcnn._kernels.pooling.separable.sums`."""
    matrix = _sums(x.shape, window, False) if x.size else None
    return NotImplemented if matrix is None else _applied(x, matrix, output_size(window, x.shape[2:]))


def means(x: Array, places: Shape) -> Any:
    """`funcnn._kernels.pooling.bins.means`."""
    if x.size and _few(x.shape, places, _TAPS):
        out = _applied(x, _bins(x.shape, places), places)
    elif x.size and _thin(x.shape, places):
        out = _each_axis(x, places, False)
    else:
        return NotImplemented
    out /= _counts(x.shape, places).astype(x.dtype)
    return out


def means_gradient(dout: Array, x_shape: Shape) -> Any:
    """`funcnn._kernels.pooling.bins.means_gradient`."""
    if not dout.size or not _thin(x_shape, dout.shape[2:]):
        return NotImplemented
    return _each_axis(dout / _counts(x_shape, dout.shape[2:]).astype(dout.dtype), x_shape[2:], True)


def _each_axis(x: Array, sizes: Shape, back: bool) -> Array:
    """Sums of bins, or of the bins that each element is in: along the last axis first."""
    out = frame(x, ((0, 0),) * len(sizes))
    for k in reversed(range(len(sizes))):
        pair = (sizes[k], x.shape[k + 2]) if back else (x.shape[k + 2], sizes[k])
        out = applied(out, _along(*pair, back), x.shape[1] * math.prod(x.shape[2 : k + 2]))
    return batch_first(out.reshape(x.shape[1], *sizes, len(x)))


def largest_of_bins(x: Array, places: Shape) -> Any:
    """`funcnn._kernels.pooling.bins.largest_of_bins`; the winners are counted over all axes."""
    if not x.size or not _few(x.shape, places, 256):
        return NotImplemented
    return _largest_of(frame(x, ((0, 0),) * len(places)), _of_bins(x.shape, places))


def largest_of_bins_gradient(dout: Array, winners: Any, x_shape: Shape) -> Any:
    """`funcnn._kernels.pooling.bins.largest_of_bins_gradient`, for winners as they come from it."""
    places = dout.shape[2:]
    if len(winners) != 1 or winners[0].dtype != np.uint8 or winners[0].size != dout.size:
        return NotImplemented
    if not dout.size or not _few(x_shape, places, 256):
        return NotImplemented
    return _gradient_of(dout, winners[0], x_shape, _of_bins(x_shape, places))


def _of_bins(x_shape: Shape, places: Shape) -> _Places:
    matrix, batch = _bins(x_shape, places), x_shape[0]
    none, plane = np.zeros(len(matrix.start) - 1, np.int64), matrix.columns * batch
    low, high = matrix.start[:-1].copy(), matrix.start[1:].copy()
    return _Places(matrix.at * batch, none, low, none, high, plane, places, True)


def max_pool(x: Array, window: Window) -> Any:
    """`funcnn._kernels.pooling.separable.max_pool`; the winners are taps, counted over all axes."""
    if math.prod(window.kernel) > 256 or not x.size or (len(x) == 1 and x.size > _ALONE):
        return NotImplemented
    seen = _places(x.shape, window, True)
    if not seen.all_see:
        return NotImplemented
    return _largest_of(framed(x, window.padding, value=-np.inf), seen)


def _largest_of(image: Array, seen: _Places) -> tuple[Array, tuple[Array]]:
    channels, batch = image.shape[0], image.shape[-1]
    out = fresh((channels, *seen.along, batch), image.dtype)
    winners = np.empty(out.shape, np.uint8)
    _largest(
        image, *seen[:5], out, winners, batch, seen.plane,
        VECTOR // image.itemsize, 0, channels * len(seen.base),
    )  # fmt: skip
    return batch_first(out), (winners,)


def max_pool_gradient(
    dout: Array, winners: tuple[Array, ...] | None, x_shape: Shape, window: Window
) -> Any:
    """`funcnn._kernels.pooling.separable.max_pool_gradient`, for winners as `max_pool` leaves them."""
    if winners is None:
        matrix = _sums(x_shape, window, True) if dout.size else None
        return NotImplemented if matrix is None else _applied(dout, matrix, x_shape[2:])
    if len(winners) != 1:
        return NotImplemented
    seen = _places(x_shape, window, False)
    if winners[0].dtype != np.uint8 or winners[0].size != dout.size or not seen.all_see:
        return NotImplemented
    return _gradient_of(dout, winners[0], x_shape, seen)


def _gradient_of(dout: Array, winners: Array, x_shape: Shape, seen: _Places) -> Array:
    dx = fresh((*x_shape[1:], x_shape[0]), dout.dtype)
    slope, taps = np.ascontiguousarray(batch_last(dout)), np.ascontiguousarray(winners)
    if seen.alone and x_shape[0] >= _RUN:
        _to_each(slope, seen.at, seen.base, taps, dx, x_shape[0], seen.plane, 0, x_shape[1])
        return batch_first(dx)
    _to_winners(
        slope, seen.at, seen.base, seen.low, seen.high, taps, dx, x_shape[0],
        seen.plane, 0, x_shape[1],
    )  # fmt: skip
    return batch_first(dx)


def norm(x: Array, window: Window, counted: Window, power: float) -> Any:
    """`funcnn._kernels.pooling.norms.norm`, of squares."""
    matrix = _sums(x.shape, window, False) if x.size and power == 2 else None
    if matrix is None:
        return NotImplemented
    places, batch = output_size(window, x.shape[2:]), len(x)
    image = frame(x, ((0, 0),) * len(places))
    top, s, out = np.empty((3, x.shape[1], *places, batch), x.dtype)
    _norms(
        image, matrix.start, matrix.at * batch, _weights(x, window, counted),
        top, s, out, batch, matrix.columns * batch,
        0, x.shape[1] * math.prod(places),
    )  # fmt: skip
    return batch_first(out), (top, s)


def norm_gradient(
    dout: Array, x: Array, record: tuple[Array, Array], window: Window, counted: Window, power: float
) -> Any:
    """`funcnn._kernels.pooling.norms.norm_gradient`, of squares."""
    matrix = _sums(x.shape, window, False) if x.size and power == 2 else None
    if matrix is None:
        return NotImplemented
    image = frame(x, ((0, 0),) * (x.ndim - 2))
    slope, top, s = (np.ascontiguousarray(each) for each in (batch_last(dout), *record))
    dx = np.empty_like(image)
    _norms_gradient(
        slope, image, matrix.start, matrix.at * len(x),
        _weights(x, window, counted), top, s, dx, len(x),
        matrix.columns * len(x), 0, x.shape[1],
    )  # fmt: skip
    return batch_first(dx)


def _weights(x: Array, window: Window, counted: Window) -> Array:
    """How much larger each window is than what counts of it."""
    places = output_size(window, x.shape[2:])
    more = excess(x.shape, window, counted, x.dtype)
    return np.broadcast_to(x.dtype.type(1) if more is None else more, places).flatten()


@divided
def _norms(
    image: In, start: Table, at: Table, weight: In, top: Out, s: Out, out: Out, run: int, plane: int,
    begin: int, end: int,
) -> None:  # fmt: skip
    one = image.dtype.type(1)
    for i in range(begin, end):
        c, p = divmod(i, len(weight))
        here = slice(i * run, (i + 1) * run)
        most, total, norm = top[here], s[here], out[here]
        most[:] = 0
        for t in range(start[p], start[p + 1]):
            row = image[c * plane + at[t] : c * plane + at[t] + run]
            for n in range(run):
                size = abs(row[n])
                most[n] = size if size > most[n] or size != size else most[n]
        total[:] = 0
        for t in range(start[p], start[p + 1]):
            row = image[c * plane + at[t] : c * plane + at[t] + run]
            for n in range(run):
                size = abs(row[n])
                ratio = one if size == most[n] else size / most[n]
                total[n] += ratio * ratio
        for n in range(run):
            total[n] *= weight[p]
            norm[n] = most[n] * np.sqrt(total[n])


@divided
def _norms_gradient(
    slope: In, image: In, start: Table, at: Table, weight: In, top: In, s: In, dx: Out,
    run: int, plane: int, begin: int, end: int,
) -> None:  # fmt: skip
    zero, one = image.dtype.type(0), image.dtype.type(1)
    for c in range(begin, end):
        dx[c * plane : (c + 1) * plane] = zero
        for p in range(len(weight)):
            place = (c * len(weight) + p) * run
            here = slice(place, place + run)
            most, total, share = top[here], s[here], slope[here]
            for t in range(start[p], start[p + 1]):
                seen = slice(c * plane + at[t], c * plane + at[t] + run)
                row, target = image[seen], dx[seen]
                for n in range(run):
                    size = abs(row[n])
                    ratio = one if size == most[n] else size / most[n]
                    part = share[n] * weight[p] / np.sqrt(total[n]) * ratio
                    part = -part if row[n] < zero else part
                    target[n] += zero if row[n] == zero else part


@divided
def _largest(
    image: In, at: Table, base: Table, low: Table, first: Table, high: Table, out: Out,
    winners: OutBytes, run: int, plane: int, vector: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Tiles of a vector, the last of which overlaps; short runs in smaller ones."""
    small, i, count = max(1, vector // 4), begin, len(base)
    if run == 1 and first[0] == 0 == low[count - 1]:  # all see the same taps, of numbers apart
        while i < end:
            c, p = divmod(i, count)
            if count - p >= vector and end - i >= vector:
                largest_of_places(image, at, base, out, winners, c * plane, p, high[0], i, VECTOR)
                i += vector
            else:
                largest_of_places(image, at, base, out, winners, c * plane, p, high[0], i, 0)
                i += 1
    while i < end:
        c, p = divmod(i, count)
        place, seen, q = i * run, c * plane + base[p], 0
        taps, one, more = at[low[p] : high[p]], first[p], high[p] - low[p]
        while q < run:
            if run >= vector:
                q = min(q, run - vector)
                largest_of_runs(image, taps, out, winners, one, more, seen + q, place + q, VECTOR)
                q += vector
            elif run >= small:
                q = min(q, run - small)
                largest_of_runs(image, taps, out, winners, one, more, seen + q, place + q, QUARTER)
                q += small
            else:
                largest_of_runs(image, taps, out, winners, one, more, seen + q, place + q, 0)
                q += 1
        i += 1


@divided
def _to_each(
    slope: In, at: Table, base: Table, taps: Bytes, dx: Out, run: int, plane: int,
    begin: int, end: int,
) -> None:  # fmt: skip
    """As `_to_winners` where no two places see one element: vectors of gradients and of zeros."""
    zero = dx.dtype.type(0)
    for c in range(begin, end):
        if len(base) * len(at) * run < plane:  # some elements are seen by nobody
            dx[c * plane : (c + 1) * plane] = zero
        for p in range(len(base)):
            place, seen = (c * len(base) + p) * run, c * plane + base[p]
            source, won = slope[place : place + run], taps[place : place + run]
            for t in range(len(at)):
                target = dx[seen + at[t] : seen + at[t] + run]
                for n in range(run):
                    target[n] = source[n] if won[n] == t else zero


@divided
def _to_winners(
    slope: In, at: Table, base: Table, low: Table, high: Table, taps: Bytes, dx: Out,
    run: int, plane: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Each output's gradient goes to the element that won."""
    for c in range(begin, end):
        here = slice(c * len(base) * run, (c + 1) * len(base) * run)
        image, won, more = dx[c * plane : (c + 1) * plane], taps[here], slope[here]
        image[:] = 0
        for p in range(len(base)):
            for n in range(run):
                tap = min(low[p] + won[p * run + n], high[p] - 1)
                winner = base[p] + at[tap] + n
                if 0 <= winner < plane:  # as it is, unless somebody has changed the record
                    before, new = image[winner], more[p * run + n]
                    image[winner] = before + new if before != 0 else new  # -0.0 keeps its sign


def unpool(x: Array, indices: Array, spatial: Shape) -> Any:
    """`funcnn._kernels.pooling.unpooling.unpool`."""
    axes = _runs(x)
    blocks, *_, run = shape = [x.shape[axis] for axis in axes]
    at = _flat(indices, axes).astype(np.int64, copy=not indices.flags.aligned)
    out, there = fresh((blocks, *spatial, run), x.dtype), np.zeros(at.size, np.uint8)
    _put(_flat(x, axes), at, out, there, run, blocks, 0, blocks)
    return _back(out, axes), _back(there.view(np.bool_).reshape(shape), axes)


def unpool_gradient(dout: Array, indices: Array, there: Array) -> Any:
    """`funcnn._kernels.pooling.unpooling.unpool_gradient`."""
    axes = _runs(there)
    blocks, *_, run = shape = [there.shape[axis] for axis in axes]
    at = _flat(indices, axes).astype(np.int64, copy=not indices.flags.aligned)
    dx = np.empty(shape, dout.dtype)
    _take(_flat(dout, axes), at, _flat(there, axes).view(np.uint8), dx, run, blocks, 0, blocks)
    return _back(dx, axes)


def _runs(x: Array) -> tuple[int, ...]:
    """The axes such that memory runs in order: channels of examples, or the examples of sequences."""
    features_last = (0, *range(2, x.ndim), 1)
    return features_last if x.transpose(features_last).flags.c_contiguous else LAST[x.ndim]


def _flat(x: Array, axes: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(x.transpose(axes)).reshape(-1)


def _back(x: Array, axes: tuple[int, ...]) -> Array:
    return x.transpose([axes.index(axis) for axis in range(x.ndim)])


@divided
def _put(
    values: In, at: Table, out: Out, there: OutBytes, run: int, channels: int, begin: int, end: int
) -> None:
    """The last of several in one place stays. Which are there is asked only if there are several."""
    if run * channels == 0:
        return
    count, size = len(at) // channels, len(out) // channels
    full = np.empty(size, np.uint8)
    for c in range(begin, end):
        here = slice(c * count, (c + 1) * count)
        where, new, placed, image = at[here], values[here], there[here], out[c * size : (c + 1) * size]
        image[:] = 0
        full[:] = 0
        several = 0
        for p in range(0, count, run):
            row, numbers = where[p : p + run], new[p : p + run]
            for n in range(run):
                place = np.uint64(row[n] * run + n)
                image[place] = numbers[n]
                several |= full[place]
                full[place] = 1
        placed[:] = 1
        if several:
            full[:] = 0
            for k in range(count - 1, -1, -1):
                place = where[k] * run + k % run
                placed[k] = 1 - full[place]
                full[place] = 1


@divided
def _take(
    dout: In, at: Table, there: Bytes, dx: Out, run: int, channels: int, begin: int, end: int
) -> None:
    if run * channels == 0:
        return
    count, size, zero = len(at) // channels, len(dout) // channels, dout.dtype.type(0)
    last = size // run - 1
    for c in range(begin, end):
        image = dout[c * size : (c + 1) * size]
        for p in range(c * count, (c + 1) * count, run):
            where, placed, slopes = at[p : p + run], there[p : p + run], dx[p : p + run]
            for n in range(run):
                seen = max(0, min(where[n], last))  # whatever somebody has made of the record
                found = image[np.uint64(seen * run + n)]
                slopes[n] = found if placed[n] else zero
