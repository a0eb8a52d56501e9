"""Convolution compiled for portable mode: direct, with the bits of NumPy's ways.

Runs of memory are those of `compiled`. An output is the sum of its products, rounded once, before the
bias is added, whichever plan NumPy follows. In the gradients, what is rounded once is what the plan
multiplies at once: they follow it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from funcnn._kernels.convolution.overlapping import layouts, meetings
from funcnn._kernels.convolution.places import forward, places, tabled, taps
from funcnn._kernels.convolution.plans import Columns, Depthwise, Plan, Rows, plan
from funcnn._kernels.framing import framed
from funcnn._kernels.images import batch_first, batch_last
from funcnn._kernels.windows import Window, output_size
from funcnn.machine.memory import scratch
from funcnn.numerics.handover import divided_exactly
from funcnn.numerics.jit import (
    Address,
    InSingle,
    OutBytes,
    Single,
    Table,
    Wide,
    address,
    intrinsic,
)
from funcnn.numerics.packing import (
    LANES,
    TALL,
    broad,
    pack,
    pack_neighbours,
    pack_places,
    pack_rows,
)
from funcnn.numerics.panels import beginning, rounded_panel, unaligned
from funcnn.numerics.rounded import (
    bound,
    number_at,
    rounded_product,
    rounded_sum,
    widen,
)
from funcnn.numerics.vectors import (
    FAST,
    REGISTERS,
    VECTOR,
    Vectors,
    cgutils,
    ir,
    literals,
    pointers,
    types,
)
from funcnn.types import Array

Shape = tuple[int, ...]
_WEIGHTS = 1 << 14  # bytes of filters that are read again for each tile; more, for 16 tiles
_MANY, _WIDE = 12, 3 * LANES  # filters, and places of a row, that are worth a copy of what these see
# Measured in November 2026 on an AMD EPYC (Zen 3, two cores, AVX2, 512 KiB of second-level cache).
_TAPS = 8 if REGISTERS == 32 else 6  # of a tile of the weight gradient, with two vectors of filters
_BLOCK = 1024 // LANES  # numbers of their runs, which stay in the cache
_APART = 8  # numbers between runs, which do not all begin in the same places of a cache
_SHARES, _LEAST = 8, 144  # shares for threads, and taps that are worth a copy of the slopes
_DOUBLE = np.dtype(np.float64)


class _Rows(NamedTuple):
    """Where the runs of a weight gradient lie in a framed ``(C, *spatial, N)``.

    As in `places.Taps`, with all axes framed, and each run of a row as a row of its own.
    """

    padding: tuple[tuple[int, int], ...]
    at: Array
    base: Array
    run: int
    group: int


@lru_cache(maxsize=256)
def _rows(x_shape: Shape, window: Window, groups: int) -> _Rows:
    batch, channels, *spatial = x_shape
    axes = forward(tuple(spatial), window)
    where = taps(tuple(axis.framed for axis in axes), batch, channels // groups, 1)
    base = (where.base[:, None] + where.cols).ravel()
    return _Rows(tuple(axis.padding for axis in axes), where.at, base, where.run, where.group)


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Any:
    """`funcnn._kernels.convolution.convolve`."""
    way = forced or plan("convolve", x.shape, weight.shape, window)
    if x.dtype != np.float32 or weight.dtype != np.float32 or isinstance(way, Depthwise):
        return NotImplemented
    outs = len(weight)
    out = np.empty((outs, *output_size(window, x.shape[2:]), len(x)), x.dtype)
    if not out.size or not weight.size or not np.isfinite(weight).all():  # as in `depthwise_portable`
        return NotImplemented
    axes, ins = forward(x.shape[2:], window), x.shape[1] // groups
    many = outs // groups >= _MANY and out.shape[-2] * len(x) >= _WIDE
    where = places(axes, len(x), ins, out.shape[1:-1], many)
    image, filters = framed(x, where.padding), tabled(weight)
    step = VECTOR // 4 * (1 if filters.nbytes <= _WEIGHTS else 16)
    doubt = np.zeros(1, np.uint8)
    start = np.ascontiguousarray(() if bias is None else bias, np.float32)
    if many:
        edge = np.empty(len(where.base) * TALL * _WIDE, np.float32)
        _convolve_many(
            where.at, where.base, where.into, where.first, where.last, where.shift, where.to,
            where.size, where.jump, where.group, where.pitch, address(image), address(filters), start,
            out, address(edge), outs // groups, groups, doubt, 0, len(where.base),
        )  # fmt: skip
        return NotImplemented if doubt[0] else batch_first(out)
    _convolve(
        *where[2:], address(image), address(filters), start, out, outs // groups, groups,
        VECTOR // 8, step, doubt, 0, len(where.base),
    )  # fmt: skip
    return NotImplemented if doubt[0] else batch_first(out)


def weight_gradient(
    x: Array,
    dout: Array,
    weight_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Any:
    """`funcnn._kernels.convolution.weight_gradient`."""
    way = forced or plan("weight", x.shape, weight_shape, window)
    if x.dtype != np.float32 or dout.dtype != np.float32 or isinstance(way, Depthwise):
        return NotImplemented
    if not dout.size or not math.prod(weight_shape):
        return NotImplemented
    rows = _rows(x.shape, window, groups)
    image = framed(x, rows.padding)
    slope = np.ascontiguousarray(batch_last(dout))
    outs, ins, *kernel = weight_shape
    first, *others = kernel if len(kernel) > 1 else (1, *kernel)
    total = np.zeros((first, ins, *others, outs), x.dtype)
    doubt, pitch = np.zeros(1, np.uint8), slope.size // outs
    each, taps = outs // groups, len(rows.at)
    for base, begin, ends in _chunks(x.shape, window, groups, way):
        work = _work(x.shape, window, groups, taps, len(base), ends)
        some, chunks = len(work.where), len(ends) - 1
        units = groups * -(-taps // some) * work.shares
        columns = -(-each // LANES) * LANES
        sums = scratch("sums", (units * chunks * some * columns,), _DOUBLE)
        sizes = np.zeros(units * chunks * (some + columns))
        _multiply(
            rows.at, work.where, base, begin, work.low, work.high, work.chunk, sums, sizes,
            address(image), address(slope), chunks, each, rows.group, pitch, work.wide, work.reach,
            work.shares, work.several, 0, units,
        )  # fmt: skip
        _round(
            rows.at, base, begin, work.ends, sums, sizes, total, address(image),
            address(slope), each, groups, rows.group, pitch, some, work.wide, work.shares, work.depth,
            doubt, 0, groups * taps,
        )  # fmt: skip
    if doubt[0]:
        return NotImplemented
    return np.ascontiguousarray(np.moveaxis(total, -1, 0).swapaxes(1, 2)).reshape(weight_shape)


@lru_cache(maxsize=256)
def _chunks(
    x_shape: Shape, window: Window, groups: int, way: Plan
) -> list[tuple[Array, Array, tuple[int, ...]]]:
    """What a plan sums at once: runs of the image, of the output, and where each is cut."""
    rows, places = _rows(x_shape, window, groups), output_size(window, x_shape[2:])
    begin = np.arange(len(rows.base)) * rows.run
    axis = 0 if isinstance(way, Columns) else 1
    if not isinstance(way, (Rows, Columns)) or way.chunk >= places[axis]:
        return [(rows.base, begin, (0, rows.run))]
    starts = (*range(0, places[axis], way.chunk), places[axis])
    if len(rows.base) == math.prod(places[:-1]) and axis == len(places) - 1:  # within each run
        return [(rows.base, begin, tuple(start * x_shape[0] for start in starts))]
    inside = len(rows.base) // math.prod(places[: axis + 1])
    which = np.arange(len(rows.base)) // inside % places[axis]
    some_rows = [(start <= which) & (which < stop) for start, stop in pairwise(starts)]
    return [(rows.base[some], begin[some], (0, rows.run)) for some in some_rows]


class _Work(NamedTuple):
    """How the sums of a weight gradient are divided.

    The taps of a part begin at `where` in lines, which serve `wide` neighbours each and have `reach`
    numbers more than a block. A block has `several` rows, and of them what is between `low` and `high`:
    a piece of a `chunk`, which ends at `ends`. Of all blocks there are so many `shares`. No number is
    made of more than `depth` additions in turn.
    """

    where: Array
    ends: Array
    low: Array
    high: Array
    chunk: Array
    wide: int
    reach: int
    several: int
    shares: int
    depth: int


@lru_cache(maxsize=256)
def _work(
    x_shape: Shape, window: Window, groups: int, taps: int, rows: int, ends: tuple[int, ...]
) -> _Work:
    width, apart = ends[1] - ends[0], window.dilation[-1] * x_shape[0]
    several, pieces = max(1, _BLOCK // width), -(-width // _BLOCK)
    close = window.stride[-1] == several == 1 and 2 * apart <= _BLOCK
    wide = window.kernel[-1] if close else 1
    step, reach = math.lcm(_TAPS, wide), (wide - 1) * apart
    some = -(-taps // max(1, min(_SHARES, taps // _LEAST)) // step) * step
    cuts = [
        [start + (stop - start) * k // pieces, start + (stop - start) * (k + 1) // pieces, i]
        for i, (start, stop) in enumerate(pairwise(ends))
        for k in range(pieces)
    ]
    blocks = -(-rows // several)
    shares = max(1, min(blocks * len(cuts), _SHARES // (groups * -(-taps // some))))
    t, (low, high, chunk) = np.arange(some), np.array(cuts).T.copy()
    where = t // wide * (_BLOCK + reach + _APART) + t % wide * apart
    depth = _BLOCK + blocks * pieces + shares
    return _Work(where, np.array(ends), low, high, chunk, wide, reach, several, shares, depth)


def input_gradient(
    dout: Array,
    weight: Array,
    x_shape: Shape,
    window: Window,
    groups: int = 1,
    forced: Plan | None = None,
) -> Any:
    """`funcnn._kernels.convolution.input_gradient`, where it slides.

    It is a convolution along the first axis for each tap of the others, and then their sum; for each
    phase of a stride with every other tap.
    """
    way = forced or plan("input", x_shape, weight.shape, window)
    (tall, *kernel), (stride, *_), ((low, _), *_), _ = window
    if not isinstance(way, Rows) or dout.dtype != np.float32:
        return NotImplemented
    outs, ins, rest = len(weight) // groups, weight.shape[1], len(kernel)
    taps = weight.reshape(groups, outs, ins, tall, -1)
    dx = np.zeros((*x_shape[1:], x_shape[0]), dout.dtype)
    target = dx.reshape(groups, ins, *dx.shape[1:])
    for r in range(min(stride, tall)):
        first = (r - low) % stride  # row of dx
        some, ones = target[:, :, first::stride], (1,) * rest
        filters = taps[:, :, :, r::stride][:, :, :, ::-1].transpose(0, 2, 4, 1, 3)
        before, rows = (first + low) // stride, some.shape[2]
        padding = filters.shape[-1] - 1 - before, rows - dout.shape[2] + before
        if not rows or min(padding) < 0:
            return NotImplemented
        filters = filters.reshape(-1, outs, filters.shape[-1], *ones)
        sizes = filters.shape[2:]
        along = Window(sizes, (1, *ones), (padding, *((0, 0),) * rest), (1, *ones))
        each = convolve(dout, filters, None, along, groups, Rows(1))
        if each is NotImplemented:
            return NotImplemented
        last = batch_last(each)
        parts = np.moveaxis(last.reshape(groups, ins, *kernel, *last.shape[1:]), 2 + rest, 2)
        for layout in layouts(dx.shape, window, groups, dx.itemsize, way.chunk):
            seen = parts[(slice(None),) * (3 + rest) + (layout.some,)]
            for tap, source, where in meetings(layout, dx.shape):
                into = some[where]
                np.add(into, seen[tap][source], out=into)
    return batch_first(dx)


@divided_exactly
def _convolve(
    at: Table, base: Table, into: Table, first: Table, last: Table, shift: Table, to: Table,
    size: Table, left: Table, right: Table, jump: int, group: int, pitch: int, image: Address,
    filters: Address, start: InSingle, out: Single, outs: int, groups: int, vector: int, step: int,
    doubtful: OutBytes, low: int, high: int,
) -> None:  # fmt: skip
    """As `compiled._convolve`."""
    taps, doubt, written = len(at), 0, beginning(out)
    wide, norm = np.empty(groups * outs * taps), np.empty(groups * outs)
    if widen(filters, 0, taps, 1, groups * outs, taps, wide, norm):
        doubtful[0] = 1
        return
    for g in range(groups):
        for r in range(low, high):
            for s in range(len(size)):
                whole = right[s] - left[s] == jump
                begin = first[r] * jump + left[s]
                end = last[r] * jump if whole else begin + right[s] - left[s]
                spans, run = 1 if whole else last[r] - first[r], size[s]
                seen, place = base[r] + shift[s] + g * group, into[r] + to[s] + g * outs * pitch
                for q in range(0, run, step):
                    doubt |= rounded_product(
                        image, at, wide, norm, written, begin, end, spans, jump, seen, place,
                        g * outs, (g + 1) * outs, pitch, q, min(q + step, run), run, vector,
                    )  # fmt: skip
                for o in range(outs if len(start) else 0):
                    line, more = out[place + o * pitch :], start[g * outs + o]
                    for q in range(run):
                        line[q] += more
    if doubt:
        doubtful[0] = 1


@divided_exactly
def _convolve_many(
    at: Table, base: Table, into: Table, first: Table, last: Table, shift: Table, to: Table,
    size: Table, jump: int, group: int, pitch: int, image: Address, filters: Address, start: InSingle,
    out: Single, edge: Address, outs: int, groups: int, doubtful: OutBytes, low: int, high: int,
) -> None:  # fmt: skip
    """The same of many filters: what some places see is first laid in a panel for all of them."""
    taps, doubt, written = len(at), 0, beginning(out)
    wide, norm = np.empty(groups * outs * taps + LANES), np.empty(groups * outs + LANES)
    panel, lengths = np.empty(_WIDE * (taps + 1) + 8), np.empty(_WIDE)
    begin, aside = unaligned(panel), edge + 4 * low * TALL * _WIDE
    for g in range(groups):
        pack_rows(filters, g * outs * taps, taps, 1, outs, taps, wide[g * outs * taps :],
                  norm[g * outs :])  # fmt: skip
    for g in range(groups):
        weights, norms = wide[g * outs * taps :], norm[g * outs :]
        for r in range(low, high):
            skip, terms = first[r] * jump, (last[r] - first[r]) * jump
            for s in range(len(size)):
                seen, place = base[r] + shift[s] + g * group, into[r] + to[s] + g * outs * pitch
                q = 0
                while q < size[s]:
                    count = broad(size[s] - q)
                    used = min(count * LANES, size[s] - q)
                    pack_places(image, at, skip, seen + q, used, count, terms, panel, begin, lengths)
                    doubt |= rounded_panel(weights, norms, panel, lengths, written, aside, terms,
                                           taps, skip, outs, begin, place + q, pitch, used,
                                           count)  # fmt: skip
                    q += count * LANES
                for o in range(outs if len(start) else 0):
                    line, more = out[place + o * pitch :], start[g * outs + o]
                    for q in range(size[s]):
                        line[q] += more
    if doubt:
        doubtful[0] = 1


@intrinsic
def _add_tile(
    context: Any, lines: Any, where: Any, panel: Any, total: Any, terms: Any, tap: Any, last: Any,
    start: Any, place: Any, pitch: Any, taps: Any, count: Any,
) -> Any:  # fmt: skip
    """``total[place + t pitch + o] += sum_q lines[where[tap + t] + q] panel[start + q width + o]``.

    For ``t < taps`` and `o` of so many vectors. Behind the last tap it is repeated: nobody reads that.
    """
    if not literals(taps, count):
        return None
    signature = types.void(
        lines, where, panel, total, terms, tap, last, start, place, pitch, taps, count
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, word = Vectors(context, builder, types.float64, VECTOR), ir.IntType(64)
        seen, table, panels, totals = pointers(context, builder, signature.args[:4], args[:4])
        terms, tap, last, start, place, pitch = args[4:10]
        width = count.literal_value * vectors.count
        each = [builder.add(tap, word(t)) for t in range(taps.literal_value)]
        each = [builder.select(builder.icmp_signed("<", t, last), t, last) for t in each]
        runs = [builder.gep(seen, [builder.load(builder.gep(table, [t]))]) for t in each]
        shifts = [word(c * vectors.count) for c in range(count.literal_value)]
        sums = [[vectors.variable(vectors.zero()) for _ in shifts] for _ in runs]
        with cgutils.for_range_slice(builder, word(0), terms, word(1), intp=word) as (q, _):
            at = builder.add(start, builder.mul(q, word(width)))
            rights = [vectors.at(panels, builder.add(at, shift)) for shift in shifts]
            for run, line in zip(runs, sums, strict=True):
                number = vectors.all(run, q)
                for right, one in zip(rights, line, strict=True):
                    vectors.add_product(one, number, right, FAST)
        for t, line in enumerate(sums):
            to = builder.add(place, builder.mul(pitch, word(t)))
            for shift, one in zip(shifts, line, strict=True):
                at = builder.add(to, shift)
                vectors.put(builder.fadd(vectors.at(totals, at), builder.load(one)), totals, at)
        return context.get_dummy_value()

    return signature, generate


@divided_exactly
def _multiply(
    at: Table, where: Table, base: Table, begin: Table, low: Table, high: Table, chunk: Table,
    total: Wide, size: Wide, image: Address, slope: Address, chunks: int, outs: int, group: int,
    pitch: int, wide: int, reach: int, shares: int, several: int, first_unit: int, last_unit: int,
) -> None:  # fmt: skip
    """Some shares of the sums of some taps with all filters of a group."""
    taps, some, line = len(at), len(where), _BLOCK + reach + _APART
    parts, blocks = (taps + some - 1) // some, (len(base) + several - 1) // several * len(low)
    columns = (outs + LANES - 1) // LANES * LANES
    lines, norm = np.empty(some // wide * line), np.empty(4 * LANES)
    panel = np.empty(2 * LANES * (_BLOCK + 1) + 8)
    left = unaligned(panel)
    for u in range(first_unit, last_unit):
        share, first, g = u % shares, u // shares % parts * some, u // shares // parts
        start, here = u * chunks * some * columns, min(some, taps - first)
        for i in range(start, start + chunks * some * columns):
            total[i] = 0
        for b in range(blocks * share // shares, blocks * (share + 1) // shares):
            j, r = b % len(low), b // len(low) * several
            q, end, run = low[j], min(r + several, len(base)), high[j] - low[j]
            more, terms = run + reach, (end - r) * run
            whole, sums = more - more % LANES, start + chunk[j] * some * columns
            sizes = size[(u * chunks + chunk[j]) * (some + columns) :][: some + columns]
            for i in range((here + wide - 1) // wide):
                for k in range(r, end):
                    place = i * line + (k - r) * run
                    seen = g * group + at[first + i * wide] + base[k] + q
                    pack_neighbours(image, lines, norm, whole // LANES, place, LANES, 0, seen, LANES,
                                    LANES, 1)  # fmt: skip
                    for p in range(LANES):
                        sizes[i] += norm[p] * norm[p]
                    for p in range(whole, more):
                        value = number_at(image, seen + p)
                        lines[place + p] = value
                        sizes[i] += value * value
            for o in range(0, outs, 2 * LANES):
                used = min(outs - o, 2 * LANES)
                count = (used + LANES - 1) // LANES
                for k in range(r, end):
                    pack(slope, (g * outs + o) * pitch + begin[k] + q, pitch, 1, used, run, panel,
                         left + (k - r) * run * count * LANES, count * LANES, norm, 0)  # fmt: skip
                    for p in range(used):
                        sizes[some + o + p] += norm[p] * norm[p]
                for t in range(0, here, _TAPS):
                    if count == 2:
                        _add_tile(lines, where, panel, total, terms, t, here - 1, left,
                                  sums + t * columns + o, columns, _TAPS, 2)  # fmt: skip
                    else:
                        _add_tile(lines, where, panel, total, terms, t, here - 1, left,
                                  sums + t * columns + o, columns, _TAPS, 1)  # fmt: skip


@divided_exactly
def _round(
    at: Table, base: Table, begin: Table, ends: Table, total: Wide, size: Wide, out: Single,
    image: Address, slope: Address, outs: int, groups: int, group: int, pitch: int, some: int,
    wide: int, shares: int, depth: int, doubtful: OutBytes, low: int, high: int,
) -> None:  # fmt: skip
    """The sums of some taps, each rounded once, added up over chunks."""
    taps, chunks, doubt = len(at), len(ends) - 1, 0
    parts, columns = (taps + some - 1) // some, (outs + LANES - 1) // LANES * LANES
    value, error, found = np.empty(outs), np.empty(outs), np.empty(outs, np.float32)
    for k in range(low, high):
        g, t = k // taps, k % taps
        target = out[(t * groups + g) * outs : (t * groups + g + 1) * outs]
        for i in range(chunks):
            odd, length = 0, 0.0
            for o in range(outs):
                value[o] = error[o] = 0
            for share in range(shares):
                place = ((g * parts + t // some) * shares + share) * chunks + i
                line = total[(place * some + t % some) * columns :][:outs]
                sizes = size[place * (some + columns) :][: some + outs]
                length += sizes[t % some // wide]
                for o in range(outs):
                    value[o] += line[o]
                    error[o] += sizes[some + o]
            for o in range(outs):
                error[o] = np.sqrt(length * error[o]) * bound(depth)
                found[o] = value[o] + error[o]
                odd |= found[o] != np.float32(value[o] - error[o])
            for o in range(outs if odd else 0):
                if found[o] != np.float32(value[o] - error[o]):
                    found[o] = rounded_sum(image + 4 * g * group, base, slope, begin, ends[i],
                                           ends[i + 1], at[t], (g * outs + o) * pitch)  # fmt: skip
                    doubt |= found[o] != found[o]
            for o in range(outs):
                target[o] += found[o]
    if doubt:
        doubtful[0] = 1
