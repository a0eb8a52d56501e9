"""Tiles of results that stay in registers while a loop adds products to them.

A tile has ``rows`` of results, and of each as many neighbours as ``size`` bytes hold (or one number:
0); both are known when it is compiled. A result is the same chain of operations for every size.
"""

from __future__ import annotations

from typing import Any

from funcnn.numerics.jit import In, Out, Table, inlined, intrinsic
from funcnn.numerics.vectors import (
    FAST,
    QUARTER,
    REGISTERS,
    VECTOR,
    WIDE,
    Vectors,
    cgutils,
    ir,
    literals,
    pointers,
    span_of_taps,
    types,
)

_KEPT = 6 if REGISTERS == 32 else 3  # rows of slopes, at most, that registers hold beside their sums
RUN = 512  # numbers that are added up in their own dtype, before their sum is in float64


@intrinsic
def weighted_runs(
    context: Any, x: Any, at: Any, weight: Any, start: Any, out: Any,
    first: Any, last: Any, spans: Any, jump: Any, base: Any, row: Any, taps: Any, place: Any,
    pitch: Any, rows: Any, size: Any,
) -> Any:  # fmt: skip
    """``out[place + o pitch + q] = start[row + o] + sum_t weight[row + o, t] x[base + at[t] + q]``.

    For ``o < rows``, all `q` of a tile, and of the `taps` of a row of weights those with ``first <= t <
    last``, and as many again at each `jump`, for so many `spans`.
    """
    if not literals(rows, size):
        return None
    signature = types.void(
        x, at, weight, start, out, first, last, spans, jump, base, row, taps, place, pitch, rows, size
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, x.dtype, size.literal_value)
        xs, ats, weights, starts, outs = pointers(context, builder, signature.args[:5], args[:5])
        first, last, spans, jump, base, row, taps, place, pitch = args[5:14]
        each = [ir.IntType(64)(o) for o in range(rows.literal_value)]
        sums = [vectors.variable(vectors.all(starts, builder.add(row, o))) for o in each]
        lines = [builder.gep(weights, [builder.mul(builder.add(row, o), taps)]) for o in each]
        seen = builder.gep(xs, [base])
        with span_of_taps(builder, first, last, spans, jump) as t:
            run = vectors.at(seen, builder.load(builder.gep(ats, [t])))
            for line, total in zip(lines, sums, strict=True):
                vectors.add_product(total, vectors.all(line, t), run, FAST)
        for o, total in zip(each, sums, strict=True):
            vectors.put(builder.load(total), outs, builder.add(place, builder.mul(o, pitch)))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def products_of_runs(
    context: Any, x: Any, at: Any, base: Any, cols: Any, slope: Any, out: Any, to: Any,
    first: Any, last: Any, low: Any, high: Any, row: Any, tap: Any, taps: Any, run: Any, pitch: Any,
    rows: Any, columns: Any, size: Any,
) -> Any:  # fmt: skip
    """``out[row + o, to[t]] += sum slope[row + o, r, c, q] x[base[r] + cols[c] + at[t] + q]``.

    For ``o < rows``, ``tap <= t < tap + columns``, over ``first <= r < last``, `c`, and
    ``low <= q < high``, which are apart by a multiple of a tile. Slopes have `run` numbers at each `c`.
    """
    if not literals(rows, columns, size):
        return None
    signature = types.void(
        x, at, base, cols, slope, out, to, first, last, low, high, row, tap, taps, run, pitch,
        rows, columns, size,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = ir.IntType(64)
        vectors = Vectors(context, builder, x.dtype, size.literal_value)
        arrays = pointers(context, builder, signature.args[:7], args[:7])
        xs, ats, bases, columns_at, slopes, outs, tos = arrays
        first, last, low, high, row, tap, taps, run, pitch = args[7:16]
        width = context.make_array(cols)(context, builder, args[3]).nitems
        lines = [builder.add(row, integer(o)) for o in range(rows.literal_value)]
        seen = [builder.add(tap, integer(t)) for t in range(columns.literal_value)]
        offsets = [builder.load(builder.gep(ats, [t])) for t in seen]
        sums = [[vectors.variable(vectors.zero()) for _ in seen] for _ in lines]
        one, step, many = integer(1), integer(vectors.count), len(lines) > _KEPT
        with (
            cgutils.for_range_slice(builder, first, last, one, intp=integer) as (r, _),
            cgutils.for_range_slice(builder, integer(0), width, one, intp=integer) as (c, _),
        ):
            start = builder.add(
                builder.load(builder.gep(bases, [r])), builder.load(builder.gep(columns_at, [c]))
            )
            runs = [builder.gep(xs, [builder.add(start, offset)]) for offset in offsets]
            begin = builder.mul(builder.add(builder.mul(r, width), c), run)
            places = [builder.add(begin, builder.mul(line, pitch)) for line in lines]
            targets = [builder.gep(slopes, [place]) for place in places]
            with cgutils.for_range_slice(builder, low, high, step, intp=integer) as (q, _):
                some, others = (runs, targets) if many else (targets, runs)
                kept = [vectors.at(one, q) for one in some]  # beside the sums: those that fit
                for j, other in enumerate(others):
                    tile = vectors.at(other, q)
                    for i, one in enumerate(kept):
                        total = sums[j][i] if many else sums[i][j]
                        vectors.add_product(total, one, tile, FAST)
        for line, totals in zip(lines, sums, strict=True):
            for t, total in zip(seen, totals, strict=True):
                column = builder.load(builder.gep(tos, [t]))
                place = builder.gep(outs, [builder.add(builder.mul(line, taps), column)])
                value = vectors.sum(builder.load(total))
                builder.store(builder.fadd(builder.load(place), value), place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def largest_of_runs(
    context: Any, x: Any, at: Any, out: Any, winners: Any,
    first: Any, last: Any, base: Any, place: Any, size: Any,
) -> Any:  # fmt: skip
    """``out[place + q] = max_t x[base + at[t] + q]``, and which `t` it was: for all `q` of a tile.

    For ``first <= t < last``. The first of equals wins, and a NaN over everything; a zero comes out
    as 0.0, and a NaN as `numpy.nan`.
    """
    if not literals(size):
        return None
    signature = types.void(x, at, out, winners, first, last, base, place, size)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, x.dtype, size.literal_value)
        xs, ats, outs, taps = pointers(context, builder, signature.args[:4], args[:4])
        first, last, base, place = args[4:8]
        seen = builder.gep(xs, [base])
        _largest(vectors, lambda t: vectors.at(seen, t), ats, outs, taps, first, last, place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def largest_of_places(
    context: Any, x: Any, at: Any, base: Any, out: Any, winners: Any,
    start: Any, p: Any, last: Any, place: Any, size: Any,
) -> Any:  # fmt: skip
    """The same of ``x[start + base[p + q] + at[t]]``, for ``0 <= t < last``: of numbers apart."""
    if not literals(size):
        return None
    signature = types.void(x, at, base, out, winners, start, p, last, place, size)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, x.dtype, size.literal_value)
        xs, ats, bases, outs, taps = pointers(context, builder, signature.args[:5], args[:5])
        start, p, last, place = args[5:9]
        integer, seen = ir.IntType(64), builder.gep(xs, [start])
        apart = [
            builder.gep(seen, [builder.load(builder.gep(bases, [builder.add(p, integer(q))]))])
            for q in range(vectors.count)
        ]

        def read(t: Any) -> Any:
            return vectors.of([builder.load(builder.gep(one, [t])) for one in apart])

        _largest(vectors, read, ats, outs, taps, integer(0), last, place)
        return context.get_dummy_value()

    return signature, generate


def _largest(
    vectors: Vectors, read: Any, ats: Any, outs: Any, taps: Any, first: Any, last: Any, place: Any
) -> None:
    """Add code for the largest that ``read(at[t])`` gives, and which `t` it was."""
    builder, one, byte = vectors.builder, ir.IntType(64)(1), ir.IntType(8)
    counts = ir.VectorType(byte, vectors.count)
    best = vectors.variable(read(builder.load(builder.gep(ats, [first]))))
    tap = cgutils.alloca_once(builder, counts)
    builder.store(vectors.spread(builder.trunc(first, byte)), tap)
    start = builder.add(first, one)
    with cgutils.for_range_slice(builder, start, last, one, intp=ir.IntType(64)) as (t, _):
        new, old = read(builder.load(builder.gep(ats, [t]))), builder.load(best)
        wins = builder.or_(builder.fcmp_ordered(">", new, old), builder.fcmp_unordered("uno", new, new))
        builder.store(builder.select(wins, new, old), best)
        here = vectors.spread(builder.trunc(t, byte))
        builder.store(builder.select(wins, here, builder.load(tap)), tap)
    found = builder.fadd(builder.load(best), vectors.zero())
    nan = ir.Constant(vectors.type, [float("nan")] * vectors.count)
    found = builder.select(builder.fcmp_unordered("uno", found, found), nan, found)
    vectors.put(found, outs, place)
    target = builder.bitcast(builder.gep(taps, [place]), counts.as_pointer())
    builder.store(builder.load(tap), target, align=1)


def _rows(rows: int, **options: Any) -> Any:
    """So many filters over some places of an output row: wide tiles, and a last one that overlaps.

    Few filters have the registers for broad tiles: so they read longer runs of each channel.
    """
    vectors = 2 if rows > 3 else REGISTERS // 4
    broad = vectors * VECTOR

    def weigh_places(
        image: In, at: Table, filters: In, start: In, out: Out, first: int, last: int, spans: int,
        jump: int, seen: int, place: int, row: int, pitch: int, low: int, high: int, run: int,
        vector: int,
    ) -> None:  # fmt: skip
        taps, small, q = len(at), max(1, vector // 4), low
        while q < high:
            if vectors > 2 and high - q >= vectors * vector:
                weighted_runs(image, at, filters, start, out, first, last, spans, jump, seen + q,
                              row, taps, place + q, pitch, rows, broad)  # fmt: skip
                q += vectors * vector
            elif high - q >= 2 * vector:
                weighted_runs(image, at, filters, start, out, first, last, spans, jump, seen + q,
                              row, taps, place + q, pitch, rows, WIDE)  # fmt: skip
                q += 2 * vector
            elif run >= vector:
                q = min(q, run - vector)
                weighted_runs(image, at, filters, start, out, first, last, spans, jump, seen + q,
                              row, taps, place + q, pitch, rows, VECTOR)  # fmt: skip
                q += vector
            elif run >= small:
                q = min(q, run - small)
                weighted_runs(image, at, filters, start, out, first, last, spans, jump, seen + q,
                              row, taps, place + q, pitch, rows, QUARTER)  # fmt: skip
                q += small
            else:
                weighted_runs(image, at, filters, start, out, first, last, spans, jump, seen + q,
                              row, taps, place + q, pitch, rows, 0)  # fmt: skip
                q += 1

    return inlined(weigh_places, **options)


one_row, two_rows, three_rows, four_rows, six_rows, eight_rows = map(_rows, (1, 2, 3, 4, 6, 8))
row_in_place = _rows(1, forceinline=True)
"""`one_row` for a few taps, where the call would take longer than they do."""


@inlined
def rows_together(more: int) -> int:
    """How many of so many filters make the next tile, so that few are left over."""
    if REGISTERS == 32 and more >= 8:
        return 8
    if more == 6 or (more > 6 and more % 4 > 1):
        return 6
    return min(more, 4)


@inlined
def product(
    x: In, at: Table, weight: In, start: In, out: Out, first: int, last: int,
    seen: int, place: int, row: int, end: int, pitch: int, run: int, vector: int,
) -> None:  # fmt: skip
    """``out[place + o pitch + q] = start[o] + sum_t weight[o, t] x[seen + at[t] + q]``.

    For the rows `o` from `row` to `end`, all `q` below `run`, and ``first <= t < last``.
    """
    o = row
    while o < end:
        to = place + o * pitch
        if end - o >= 6:
            six_rows(x, at, weight, start, out, first, last, 1, 0, seen, to, o, pitch,
                     0, run, run, vector)  # fmt: skip
            o += 6
        else:
            one_row(x, at, weight, start, out, first, last, 1, 0, seen, to, o, pitch,
                    0, run, run, vector)  # fmt: skip
            o += 1


@inlined
def sum_of_run(x: In) -> float:
    """In float64, of sums of a few."""
    total = 0.0
    for start in range(0, len(x), RUN):
        part, some = x.dtype.type(0), x[start : start + RUN]
        for i in range(len(some)):
            part += some[i]
        total += part
    return total
