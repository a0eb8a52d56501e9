"""Tiles of sums of products of float32 numbers, each of them rounded once: compiled products in
portable mode.

It is the scheme of `_exact`, a tile at a time. A tile's sums and the squares of its runs are taken in
float64, in whatever order; its results are the sums, rounded, where both ends of their bounds agree. Of
a tile that has others, all sums are taken again, now with what each addition loses (Ogita, Rump and
Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26(6), 2005): with ``K`` additions that lose
``e_1, e_2...`` in turn, the sum is within ``K u sum |e_k|`` of ``s + (e_1 + e_2 + ...)``. Both ends of
that bound are rounded once: to float64 first, but to a neighbour whose last bit is odd (S. Boldo and
G. Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Comput. 57(4), 2008). What is
still in doubt, or not finite, is left to NumPy's kernel.
"""

from __future__ import annotations

from functools import reduce
from itertools import chain
from typing import Any

import numpy as np

from funcnn.numerics.jit import Address, Table, Wide, inlined, inlined_exactly, intrinsic
from funcnn.numerics.vectors import (
    FAST,
    REGISTERS,
    SMALL,
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

_UNIT = 2.0**-53
# Sums of a tile, beside which all that it reads has registers. With one more for each run, sums went
# through memory: 21 GFLOP/s, not 46. Measured in November 2026 on an AMD EPYC (Zen 3, two cores, AVX2).
KEPT = 24 if REGISTERS == 32 else 11


class _Rounding(Vectors):
    """Vectors of float64, made of float32 numbers and rounded to them."""

    def __init__(self, context: Any, builder: Any, size: int, dtype: Any = None) -> None:
        super().__init__(context, builder, dtype or types.float64, size)
        self.narrow = ir.VectorType(ir.FloatType(), self.count)

    def unary(self, name: str, x: Any) -> Any:
        return self.intrinsic(f"llvm.{name}.v{self.count}f64", self.type, x)

    def constant(self, number: float) -> Any:
        return ir.Constant(self.type, [number] * self.count)

    def widened(self, array: Any, index: Any) -> Any:
        place = self.builder.bitcast(self.builder.gep(array, [index]), self.narrow.as_pointer())
        return self.builder.fpext(self.builder.load(place, align=4), self.type)

    def ends(self, value: Any, error: Any) -> tuple[Any, Any]:
        """Both ends of a bound, rounded."""
        upper, lower = self.builder.fadd(value, error), self.builder.fsub(value, error)
        return self.builder.fptrunc(upper, self.narrow), self.builder.fptrunc(lower, self.narrow)

    def put_rounded(self, ends: tuple[Any, Any], array: Any, index: Any) -> Any:
        """Write one end of a bound, rounded; where the other end gives something else."""
        zero = ir.Constant(self.narrow, [0.0] * self.count)
        place = self.builder.bitcast(self.builder.gep(array, [index]), self.narrow.as_pointer())
        self.builder.store(self.builder.fadd(ends[0], zero), place, align=4)  # there is one zero
        return self.builder.fcmp_unordered("!=", *ends)

    def put_if_sure(self, ends: tuple[Any, Any], array: Any, index: Any) -> Any:
        """The same, and NaN where it is."""
        zero, nan = (ir.Constant(self.narrow, [one] * self.count) for one in (0.0, float("nan")))
        place = self.builder.bitcast(self.builder.gep(array, [index]), self.narrow.as_pointer())
        doubt = self.builder.fcmp_unordered("!=", *ends)
        found = self.builder.select(doubt, nan, self.builder.fadd(ends[0], zero))
        self.builder.store(found, place, align=4)
        return doubt

    def any(self, places: list[Any]) -> Any:
        """Whether one is True."""
        found = reduce(self.builder.or_, places)
        return self.intrinsic(f"llvm.vector.reduce.or.v{self.count}i1", ir.IntType(1), found)

    def two_sum(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Knuth's sum, and what it lost."""
        build = self.builder
        total = build.fadd(x, y)
        tail = build.fsub(total, x)
        head = build.fsub(x, build.fsub(total, tail))
        return total, build.fadd(head, build.fsub(y, tail))

    def add_exactly(self, parts: list[Any], term: Any) -> None:
        """A sum, what it lost, and how much was lost in all."""
        build, (total, lost, size) = self.builder, parts
        after, rest = self.two_sum(build.load(total), term)
        build.store(after, total)
        build.store(build.fadd(build.load(lost), rest), lost)
        build.store(build.fadd(build.load(size), self.unary("fabs", rest)), size)

    def exact_ends(self, parts: list[Any], terms: Any) -> tuple[Any, Any]:
        """Both ends of the bound on the sum of both, rounded; alike where it is exact."""
        build, (total, lost, size) = self.builder, parts
        value, rest = self.two_sum(build.load(total), build.load(lost))
        part = build.fmul(build.load(size), build.fmul(terms, self.constant(1.0001 * _UNIT)))
        spare = build.fmul(self.unary("fabs", rest), self.constant(4 * _UNIT))  # of what follows
        part = build.fadd(part, spare)
        upper, lower = build.fadd(rest, part), build.fsub(rest, part)
        return self.rounded_once(value, upper), self.rounded_once(value, lower)

    def rounded_once(self, x: Any, y: Any) -> Any:
        """``x + y`` in float32: by way of the float64 next to it whose last bit is odd."""
        build, words = self.builder, ir.VectorType(ir.IntType(64), self.count)
        total, rest = self.two_sum(x, y)
        one, last = (ir.Constant(words, [number] * self.count) for number in (1, 63))
        bits, sign = build.bitcast(total, words), build.bitcast(rest, words)
        step = build.or_(build.ashr(build.xor(bits, sign), last), one)  # 1, or -1 towards 0
        odd = build.or_(bits, one)
        odd = build.select(build.icmp_signed("==", odd, bits), bits, build.add(bits, step))
        bits = build.select(build.fcmp_unordered("!=", rest, self.zero()), odd, bits)
        return build.fptrunc(build.bitcast(bits, self.type), self.narrow)


@intrinsic
def rounded_runs(
    context: Any, x: Any, at: Any, weight: Any, norm: Any, out: Any,
    first: Any, last: Any, spans: Any, jump: Any, base: Any, row: Any, taps: Any, place: Any,
    pitch: Any, rows: Any, size: Any,
) -> Any:  # fmt: skip
    """``out[place + o pitch + q] = sum_t weight[row + o, t] x[base + at[t] + q]``, rounded once.

    For ``o < rows``, all `q` of a tile, and of the `taps` of a row of weights those with ``first <= t <
    last``, and as many again at each `jump`, for so many `spans`. The norm of a row is its length times
    the error of a sum as long. Returns 1 where a result is in doubt.
    """
    if not literals(rows, size):
        return None
    signature = types.int64(
        x, at, weight, norm, out, first, last, spans, jump, base, row, taps, place, pitch, rows, size
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Rounding(context, builder, size.literal_value)
        xs, outs = (builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 4))
        ats, weights, norms = pointers(context, builder, signature.args[1:4], args[1:4])
        first, last, spans, jump, base, row, taps, place, pitch = args[5:14]
        each = [ir.IntType(64)(o) for o in range(rows.literal_value)]
        places = [builder.add(place, builder.mul(o, pitch)) for o in each]
        lines = [builder.gep(weights, [builder.mul(builder.add(row, o), taps)]) for o in each]
        seen = builder.gep(xs, [base])
        squares, more, *sums = (vectors.variable(vectors.zero()) for _ in range(2 + len(each)))
        is_tight = len(each) * size.literal_value > KEPT * VECTOR

        def run_of(t: Any) -> Any:
            return vectors.widened(seen, builder.load(builder.gep(ats, [t])))

        with span_of_taps(builder, first, last, spans, jump) as t:
            run = run_of(t)
            if not is_tight:
                vectors.add_product(squares, run, run, FAST)
            for line, total in zip(lines, sums, strict=True):
                vectors.add_product(total, vectors.all(line, t), run, FAST)
        if is_tight:  # two at a time: one would wait for the one before
            half = builder.ashr(builder.sub(last, first), ir.IntType(64)(1))
            middle = builder.add(first, half)
            with span_of_taps(builder, first, middle, spans, jump) as t:
                for total, run in ((squares, run_of(t)), (more, run_of(builder.add(t, half)))):
                    vectors.add_product(total, run, run, FAST)
            with span_of_taps(builder, builder.add(middle, half), last, spans, jump) as t:
                vectors.add_product(squares, run_of(t), run_of(t), FAST)
        size_of_runs = vectors.unary("sqrt", builder.fadd(builder.load(squares), builder.load(more)))
        doubts = []
        for o, to, total in zip(each, places, sums, strict=True):
            error = builder.fmul(vectors.all(norms, builder.add(row, o)), size_of_runs)
            doubts.append(vectors.put_rounded(vectors.ends(builder.load(total), error), outs, to))
        doubt = cgutils.alloca_once(builder, ir.IntType(1))
        builder.store(vectors.any(doubts), doubt)
        with builder.if_then(builder.load(doubt), likely=False):
            exact = [[vectors.variable(vectors.zero()) for _ in range(3)] for _ in each]
            for variable in chain(*exact):
                builder.store(vectors.zero(), variable)
            with span_of_taps(builder, first, last, spans, jump) as t:
                run = run_of(t)
                for line, parts in zip(lines, exact, strict=True):
                    vectors.add_exactly(parts, builder.fmul(vectors.all(line, t), run))
            terms = builder.mul(builder.sub(last, first), spans)
            count = vectors.spread(builder.sitofp(terms, ir.DoubleType()))
            doubts = []
            for to, parts in zip(places, exact, strict=True):
                doubts.append(vectors.put_rounded(vectors.exact_ends(parts, count), outs, to))
            builder.store(vectors.any(doubts), doubt)
        return builder.zext(builder.load(doubt), ir.IntType(64))

    return signature, generate


@intrinsic
def number_at(context: Any, x: Any, index: Any) -> Any:
    """A float32 number, in float64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.gep(builder.inttoptr(args[0], ir.FloatType().as_pointer()), [args[1]])
        return builder.fpext(builder.load(place, align=4), ir.DoubleType())

    return types.float64(x, index), generate


@inlined
def widen(
    x: Address, base: int, row: int, term: int, rows: int, terms: int, out: Wide, norm: Wide
) -> Any:
    """Rows in float64, and their norms times `bound` for their length; 1 where one is not finite."""
    odd = 0
    for o in range(rows):
        total = 0.0
        for t in range(terms):
            value = number_at(x, base + o * row + t * term)
            out[o * terms + t] = value
            total += value * value
        norm[o] = np.sqrt(total) * bound(terms)
        odd |= not total < np.inf
    return odd


@inlined
def bound(depth: int) -> Any:
    """The error of sums, so many additions in turn; two to spare for their bracket, see `_exact`."""
    return (depth + 1) * (1.0001 * _UNIT)


@inlined
def squares(x: Address, first: int, last: int) -> Any:
    """Of neighbours in memory, the sum."""
    total = 0.0
    for i in range(first, last):
        value = number_at(x, i)
        total += value * value
    return total


@intrinsic
def wide_products(
    context: Any, x: Any, at: Any, base: Any, slope: Any, begin: Any, out: Any,
    first: Any, last: Any, low: Any, high: Any, row: Any, tap: Any, taps: Any, pitch: Any,
    rows: Any, columns: Any, size: Any,
) -> Any:  # fmt: skip
    """``out[row + o, tap + t] += sum_rq slope[row + o, begin[r] + q] x[base[r] + at[tap + t] + q]``.

    In float64; a row of slopes has `pitch` numbers. For ``o < rows``, ``t < columns``, ``first <= r <
    last`` and ``low <= q < high``, which are apart by a multiple of a tile.
    """
    if not literals(rows, columns, size):
        return None
    signature = types.void(
        x, at, base, slope, begin, out, first, last, low, high, row, tap, taps, pitch,
        rows, columns, size,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Rounding(context, builder, size.literal_value)
        xs, slopes = (builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 3))
        tables = [(signature.args[i], args[i]) for i in (1, 2, 4, 5)]
        ats, bases, begins, outs = pointers(context, builder, *zip(*tables, strict=True))
        first, last, low, high, row, tap, taps, pitch = args[6:14]
        lines = [builder.add(row, ir.IntType(64)(o)) for o in range(rows.literal_value)]
        seen = [builder.add(tap, ir.IntType(64)(t)) for t in range(columns.literal_value)]
        offsets = [builder.load(builder.gep(ats, [t])) for t in seen]
        sums = [[vectors.variable(vectors.zero()) for _ in seen] for _ in lines]
        one, step = ir.IntType(64)(1), ir.IntType(64)(vectors.count)
        with cgutils.for_range_slice(builder, first, last, one, intp=ir.IntType(64)) as (r, _):
            start, begin = (builder.load(builder.gep(table, [r])) for table in (bases, begins))
            runs = [builder.gep(xs, [builder.add(start, offset)]) for offset in offsets]
            places = [builder.add(begin, builder.mul(line, pitch)) for line in lines]
            targets = [builder.gep(slopes, [place]) for place in places]
            with cgutils.for_range_slice(builder, low, high, step, intp=ir.IntType(64)) as (q, _):
                lefts = [vectors.widened(target, q) for target in targets]
                for t, right in enumerate(runs):
                    tile = vectors.widened(right, q)
                    for left, line in zip(lefts, sums, strict=True):
                        vectors.add_product(line[t], left, tile, FAST)
        for line, totals in zip(lines, sums, strict=True):
            for t, total in zip(seen, totals, strict=True):
                place = builder.gep(outs, [builder.add(builder.mul(line, taps), t)])
                value = vectors.sum(builder.load(total))
                builder.store(builder.fadd(builder.load(place), value), place)
        return context.get_dummy_value()

    return signature, generate


@inlined_exactly
def settled(total: float, lost: float, size: float, terms: int) -> Any:
    """A sum of so many terms, with what its additions lost, in all `size`: rounded once, or NaN."""
    value = total + lost
    tail = value - total
    error = abs((total - (value - tail)) + (lost - tail))
    error += size * (terms * (1.0001 * _UNIT))
    if error != 0:
        error += abs(value) * (4 * _UNIT)
    found = np.float32(value + error)
    return found if found == np.float32(value - error) else np.float32(np.nan)


@inlined_exactly
def rounded_sum(
    x: Address, base: Table, slope: Address, begin: Table, low: int, high: int, seen: int, place: int
) -> Any:
    """``sum_rq slope[place + begin[r] + q] x[seen + base[r] + q]``, rounded once, or NaN.

    As the second way of `rounded_runs`: with what each addition loses.
    """
    total = lost = size = 0.0
    for r in range(len(base)):
        for q in range(low, high):
            term = number_at(slope, place + begin[r] + q) * number_at(x, seen + base[r] + q)
            after = total + term
            tail = after - total
            rest = (total - (after - tail)) + (term - tail)
            total = after
            lost += rest
            size += abs(rest)
    return settled(total, lost, size, len(base) * (high - low))


def _rows(rows: int) -> Any:
    """So many rows of weights over some places: wide tiles, and a last one that overlaps."""

    @inlined
    def rounded_places(
        x: Address, at: Table, weight: Wide, norm: Wide, out: Address, first: int, last: int,
        spans: int, jump: int, seen: int, place: int, row: int, pitch: int, low: int, high: int,
        run: int, vector: int,
    ) -> Any:  # fmt: skip
        taps, q, doubt = len(at), low, 0
        while q < high:
            if high - q >= 2 * vector:
                doubt |= rounded_runs(x, at, weight, norm, out, first, last, spans, jump, seen + q,
                                      row, taps, place + q, pitch, rows, WIDE)  # fmt: skip
                q += 2 * vector
            elif run >= vector:
                q = min(q, run - vector)
                doubt |= rounded_runs(x, at, weight, norm, out, first, last, spans, jump, seen + q,
                                      row, taps, place + q, pitch, rows, VECTOR)  # fmt: skip
                q += vector
            elif run >= 2:
                q = min(q, run - 2)
                doubt |= rounded_runs(x, at, weight, norm, out, first, last, spans, jump, seen + q,
                                      row, taps, place + q, pitch, rows, SMALL)  # fmt: skip
                q += 2
            else:
                doubt |= rounded_runs(x, at, weight, norm, out, first, last, spans, jump, seen + q,
                                      row, taps, place + q, pitch, rows, 0)  # fmt: skip
                q += 1
        return doubt

    return rounded_places


_one_row, _two_rows, _six_rows, _eight_rows = map(_rows, (1, 2, 6, 8))


@inlined
def few_products(
    x: Address, at: Table, weight: Wide, norm: Wide, out: Address, seen: int, place: int, end: int,
    pitch: int, run: int, vector: int,
) -> Any:  # fmt: skip
    """`rounded_product` of all terms and columns, of few rows."""
    o, doubt = 0, 0
    while o < end:
        to = place + o * pitch
        if end - o >= 2:
            doubt |= _two_rows(x, at, weight, norm, out, 0, len(at), 1, 0, seen, to, o, pitch,
                               0, run, run, vector)  # fmt: skip
            o += 2
        else:
            doubt |= _one_row(x, at, weight, norm, out, 0, len(at), 1, 0, seen, to, o, pitch,
                              0, run, run, vector)  # fmt: skip
            o += 1
    return doubt


@inlined
def rounded_product(
    x: Address, at: Table, weight: Wide, norm: Wide, out: Address, first: int, last: int,
    spans: int, jump: int, seen: int, place: int, row: int, end: int, pitch: int, low: int, high: int,
    run: int, vector: int,
) -> Any:  # fmt: skip
    """``out[place + o pitch + q] = sum_t weight[row + o, t] x[seen + at[t] + q]``, rounded once.

    For ``o`` below ``end - row``, ``low <= q < high`` of a run that may be longer, and the taps that
    `rounded_runs` takes. Returns 1 where something is in doubt.
    """
    o, doubt = row, 0
    while o < end:
        to = place + (o - row) * pitch
        if REGISTERS == 32 and end - o >= 8:  # it has the registers
            doubt |= _eight_rows(x, at, weight, norm, out, first, last, spans, jump, seen, to, o,
                                 pitch, low, high, run, vector)  # fmt: skip
            o += 8
        elif end - o >= 6:
            doubt |= _six_rows(x, at, weight, norm, out, first, last, spans, jump, seen, to, o,
                               pitch, low, high, run, vector)  # fmt: skip
            o += 6
        elif end - o >= 2:
            doubt |= _two_rows(x, at, weight, norm, out, first, last, spans, jump, seen, to, o,
                               pitch, low, high, run, vector)  # fmt: skip
            o += 2
        else:
            doubt |= _one_row(x, at, weight, norm, out, first, last, spans, jump, seen, to, o,
                              pitch, low, high, run, vector)  # fmt: skip
            o += 1
    return doubt
