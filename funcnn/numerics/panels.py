"""Products of matrices of float32 numbers, each of them rounded once, as in `rounded`.

Both matrices are copied into panels of float64: some rows of the left one, or columns of the right one,
side by side, term after term. A tile of results stays in registers while it runs along two of them.
"""

from __future__ import annotations

from functools import reduce
from itertools import chain
from typing import Any

import numpy as np

from funcnn.numerics.jit import Address, Wide, inlined, intrinsic
from funcnn.numerics.rounded import _UNIT, _Rounding, number_at
from funcnn.numerics.vectors import FAST, VECTOR, cgutils, ir, literals, pointers, types

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
LANES = VECTOR // 8  # numbers of a vector
TALL = 8 if VECTOR == 64 else 4  # rows of a tile: with three vectors of each, registers are full
_AT_ONCE = 4  # terms of a line
_RUN = 128  # terms that are added up in turn: fewer make the bound on their error smaller
LONG = 512  # terms of a panel that stay in the cache while all rows meet them


def _inlined(function: Any) -> Any:
    """As `inlined`, and no call: small products take no longer than one."""
    return inlined(function, forceinline=True)


def _word(number: int) -> Any:
    return ir.IntType(64)(number)


class _Packing(_Rounding):
    """Lines of a matrix, of which a vector holds one term each; those beyond `some` are 0.

    A vector may be wider than the panel: what it writes beyond its lines, the next one writes over.
    A panel of float32 numbers comes without norms.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        super().__init__(context, builder, VECTOR, signature.args[1].dtype)
        self.source = builder.inttoptr(args[0], ir.FloatType().as_pointer())
        self.out, self.norm = pointers(context, builder, signature.args[1:3], args[1:3])
        self.terms, self.place, self.width, self.line, self.base, self.step, self.some = args[3:10]
        self.squares = [self.variable(self.zero()) for _ in range(_AT_ONCE)]
        self.there = self.first(self.some)
        self.none = ir.Constant(self.narrow, [0.0] * self.count)

    def each(self, first: Any, last: Any, step: int) -> Any:
        word = ir.IntType(64)
        return cgutils.for_range_slice(self.builder, first, last, _word(step), intp=word)

    def begin(self, line: Any, place: Any) -> Any:
        """The address of neighbours, of the number that is so many steps and places away."""
        index = self.builder.add(self.base, self.builder.mul(line, self.step))
        where = self.builder.gep(self.source, [self.builder.add(index, place)])
        return self.builder.bitcast(where, self.narrow.as_pointer())

    def pack(self, values: list[Any], first: Any) -> None:
        build = self.builder
        for i, value in enumerate(values):
            t = build.mul(build.add(first, _word(i)), self.width)
            wide = value if self.type == self.narrow else build.fpext(value, self.type)
            self.put(wide, self.out, build.add(self.place, t))
            self.add_product(self.squares[i % _AT_ONCE], wide, wide, FAST)

    def end(self) -> None:
        if self.type == self.narrow:
            return
        total = reduce(self.builder.fadd, map(self.builder.load, self.squares))
        self.put(self.unary("sqrt", total), self.norm, self.line)

    def turned(self, lines: list[Any]) -> list[Any]:
        """The transpose of a square of numbers."""
        lines, step, all = list(lines), self.count // 2, range(self.count)
        while step:
            low = [j + (self.count - step if j & step else 0) for j in all]
            high = [j + (self.count if j & step else step) for j in all]
            for i in all:
                if not i & step:
                    pair = lines[i], lines[i + step]
                    lines[i], lines[i + step] = (
                        self.builder.shuffle_vector(*pair, ir.Constant(_places(self.count), some))
                        for some in (low, high)
                    )
            step //= 2
        return lines


def _places(count: int) -> Any:
    return ir.VectorType(ir.IntType(32), count)


@intrinsic
def pack_neighbours(
    context: Any, x: Any, out: Any, norm: Any, terms: Any, place: Any, width: Any, line: Any,
    base: Any, term: Any, some: Any, whole: Any,
) -> Any:  # fmt: skip
    """``out[place + t width + c] = x[base + t term + c]``, and the norms of these lines."""
    if not literals(whole):
        return None
    signature = types.void(x, out, norm, terms, place, width, line, base, term, some, whole)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel = _Packing(context, builder, signature, args)

        def read(t: Any) -> Any:
            where = panel.begin(t, _word(0))
            if whole.literal_value:
                return builder.load(where, align=4)
            name = f"llvm.masked.load.v{panel.count}f32.p0v{panel.count}f32"
            parts = where, ir.IntType(32)(4), panel.there, panel.none
            return panel.intrinsic(name, panel.narrow, *parts)

        most = builder.and_(panel.terms, _word(-_AT_ONCE))
        with panel.each(_word(0), most, _AT_ONCE) as (t, _):
            panel.pack([read(builder.add(t, _word(i))) for i in range(_AT_ONCE)], t)
        with panel.each(most, panel.terms, 1) as (t, _):
            panel.pack([read(t)], t)
        panel.end()
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pack_runs(
    context: Any, x: Any, out: Any, norm: Any, terms: Any, place: Any, width: Any, line: Any,
    base: Any, at: Any, first: Any, count: Any,
) -> Any:  # fmt: skip
    """``out[place + t width + c] = x[base + at[first + t] + c]`` of so many vectors, and the norms."""
    if not literals(count):
        return None
    signature = types.void(x, out, norm, terms, place, width, line, base, at, first, count)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel = _Packing(context, builder, signature, (*args[:8], _word(1), _word(0)))
        (ats,) = pointers(context, builder, signature.args[8:9], args[8:9])
        shifts = [_word(c * panel.count) for c in range(count.literal_value)]
        squares = [panel.variable(panel.zero()) for _ in shifts]
        with panel.each(_word(0), panel.terms, 1) as (t, _):
            seen = builder.load(builder.gep(ats, [builder.add(args[9], t)]))
            to = builder.add(panel.place, builder.mul(t, panel.width))
            for shift, total in zip(shifts, squares, strict=True):
                run = builder.load(panel.begin(seen, shift), align=4)
                wide = builder.fpext(run, panel.type)
                panel.put(wide, panel.out, builder.add(to, shift))
                panel.add_product(total, wide, wide, FAST)
        for shift, total in zip(shifts, squares, strict=True):
            length = panel.unary("sqrt", builder.load(total))
            panel.put(length, panel.norm, builder.add(panel.line, shift))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def pack_turned(
    context: Any, x: Any, out: Any, norm: Any, terms: Any, place: Any, width: Any, line: Any,
    base: Any, step: Any, some: Any,
) -> Any:  # fmt: skip
    """``out[place + t width + c] = x[base + c step + t]``, and the norms of these lines."""
    signature = types.void(x, out, norm, terms, place, width, line, base, step, some)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel = _Packing(context, builder, signature, args)
        last, whole = builder.sub(panel.some, _word(1)), builder.and_(panel.terms, _word(-panel.count))
        each = [_word(c) for c in range(panel.count)]
        lines = [builder.select(builder.icmp_signed("<", c, last), c, last) for c in each]
        with panel.each(_word(0), whole, panel.count) as (t, _):
            runs = [builder.load(panel.begin(one, t), align=4) for one in lines]
            panel.pack([builder.select(panel.there, x, panel.none) for x in panel.turned(runs)], t)
        with panel.each(whole, panel.terms, 1) as (t, _):
            run = panel.none
            for c, one in enumerate(lines):
                place = builder.bitcast(panel.begin(one, t), ir.FloatType().as_pointer())
                run = builder.insert_element(run, builder.load(place), ir.IntType(32)(c))
            panel.pack([builder.select(panel.there, run, panel.none)], t)
        panel.end()
        return context.get_dummy_value()

    return signature, generate


@_inlined
def pack(
    x: Address, base: int, step: int, term: int, count: int, terms: int,
    out: Wide, place: int, width: int, norm: Wide, first: int,
) -> None:  # fmt: skip
    """So many lines of `x`, `step` numbers apart, side by side, and zeros up to `width`; their norms.

    Behind both there is room for a vector.
    """
    for c in range(0, width, LANES):
        some, to = count - c, place + c
        if step == 1 and some >= LANES:
            pack_neighbours(x, out, norm, terms, to, width, first + c, base + c, term, some, 1)
        elif step == 1:
            pack_neighbours(x, out, norm, terms, to, width, first + c, base + c, term, some, 0)
        elif term == 1:
            pack_turned(x, out, norm, terms, to, width, first + c, base + c * step, step, some)
        else:
            for i in range(min(LANES, width - c)):
                total = 0.0
                for t in range(terms):
                    value = number_at(x, base + (c + i) * step + t * term) if i < some else 0.0
                    out[to + t * width + i] = value
                    total += value * value
                norm[first + c + i] = np.sqrt(total)


@intrinsic
def rounded_tile(
    context: Any, left: Any, norm: Any, right: Any, size: Any, more: Any, out: Any, terms: Any,
    begin: Any, row: Any, start: Any, kept: Any, place: Any, pitch: Any,
    rows: Any, columns: Any, begins: Any, ends: Any,
) -> Any:  # fmt: skip
    """``out[place + o pitch + q] = sum_t left[begin + t rows + o] right[start + t width + q]``.

    For ``o < rows``, and all `q` of so many vectors. Rounded once, or NaN where this is in doubt, which
    it then says. The norms of the left rows are those times the error of a sum. A sum that does not
    begin, or end, with these terms is kept in `more` meanwhile, from `kept` on.
    """
    if not literals(rows, columns, begins, ends):
        return None
    signature = types.int64(
        left, norm, right, size, more, out, terms, begin, row, start, kept, place, pitch,
        rows, columns, begins, ends,
    )  # fmt: skip

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, word = _Rounding(context, builder, VECTOR), ir.IntType(64)
        lefts, norms, rights, sizes, sofar = pointers(context, builder, signature.args[:5], args[:5])
        outs = builder.inttoptr(args[5], ir.FloatType().as_pointer())
        terms, begin, row, start, kept, place, pitch = args[6:13]
        height, count = rows.literal_value, columns.literal_value
        width = count * vectors.count
        lefts, rights = builder.gep(lefts, [begin]), builder.gep(rights, [start])
        totals = [[vectors.variable(vectors.zero()) for _ in range(count)] for _ in range(height)]
        tile = [(one, _word(i * vectors.count)) for i, one in enumerate(chain(*totals))]
        for one, shift in () if begins.literal_value else tile:
            builder.store(vectors.at(sofar, builder.add(kept, shift)), one)
        sums = [[vectors.variable(vectors.zero()) for _ in range(count)] for _ in range(height)]
        with cgutils.for_range_slice(builder, _word(0), terms, _word(_RUN), intp=word) as (first, _):
            last = builder.add(first, _word(_RUN))
            last = builder.select(builder.icmp_signed("<", last, terms), last, terms)
            for line in sums:
                for one in line:
                    builder.store(vectors.zero(), one)
            with cgutils.for_range_slice(builder, first, last, _word(1), intp=word) as (t, _):
                seen = builder.mul(t, _word(width))
                runs = [
                    vectors.at(rights, builder.add(seen, _word(c * vectors.count)))
                    for c in range(count)
                ]
                above = builder.mul(t, _word(height))
                for o, line in enumerate(sums):
                    number = vectors.all(lefts, builder.add(above, _word(o)))
                    for run, one in zip(runs, line, strict=True):
                        vectors.add_product(one, number, run, FAST)
            for line, whole in zip(sums, totals, strict=True):
                for one, total in zip(line, whole, strict=True):
                    builder.store(builder.fadd(builder.load(total), builder.load(one)), total)
        for one, shift in () if ends.literal_value else tile:
            vectors.put(builder.load(one), sofar, builder.add(kept, shift))
        if not ends.literal_value:
            return word(0)
        doubts = []
        for o, whole in enumerate(totals):
            of_row = vectors.all(norms, builder.add(row, _word(o)))
            to = builder.add(place, builder.mul(pitch, _word(o)))
            for c, total in enumerate(whole):
                shift = _word(c * vectors.count)
                error = builder.fmul(of_row, vectors.at(sizes, shift))
                doubts.append(
                    vectors.put_if_sure(builder.load(total), error, outs, builder.add(to, shift))
                )
        return builder.zext(vectors.any(doubts), word)

    return signature, generate


@intrinsic
def settle_run(
    context: Any, left: Any, right: Any, out: Any, terms: Any,
    begin: Any, height: Any, start: Any, width: Any, place: Any,
) -> Any:  # fmt: skip
    """A vector of results again, if one is NaN, with what each addition loses; 1 if one still is."""
    signature = types.int64(left, right, out, terms, begin, height, start, width, place)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, word = _Rounding(context, builder, VECTOR), ir.IntType(64)
        lefts, rights = pointers(context, builder, signature.args[:2], args[:2])
        outs = builder.inttoptr(args[2], ir.FloatType().as_pointer())
        terms, begin, height, start, width, place = args[3:]
        doubt = cgutils.alloca_once(builder, ir.IntType(1))
        found = vectors.widened(outs, place)
        builder.store(vectors.any([builder.fcmp_unordered("uno", found, found)]), doubt)
        with builder.if_then(builder.load(doubt)):
            parts = [vectors.variable(vectors.zero()) for _ in range(3)]
            for one in parts:
                builder.store(vectors.zero(), one)
            with cgutils.for_range_slice(builder, _word(0), terms, _word(1), intp=word) as (t, _):
                run = vectors.at(rights, builder.add(start, builder.mul(t, width)))
                number = vectors.all(lefts, builder.add(begin, builder.mul(t, height)))
                vectors.add_exactly(parts, builder.fmul(number, run))
            many = vectors.spread(builder.sitofp(terms, ir.DoubleType()))
            value, error = vectors.bound(parts, many)
            builder.store(vectors.any([vectors.put_if_sure(value, error, outs, place)]), doubt)
        return builder.zext(builder.load(doubt), word)

    return signature, generate


@inlined
def settle(
    left: Wide, right: Wide, out: Address, terms: int, begin: int, height: int, start: int, width: int,
    place: int, pitch: int,
) -> Any:  # fmt: skip
    """What is in doubt in a tile."""
    doubt = 0
    for o in range(height):
        for c in range(0, width, LANES):
            doubt |= settle_run(left, right, out, terms, begin + o, height, start + c, width,
                                place + o * pitch + c)  # fmt: skip
    return doubt


@intrinsic
def _copied(context: Any, x: Any, index: Any, out: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 2))
        value = builder.load(builder.gep(source, [args[1]]))
        builder.store(value, builder.gep(target, [args[3]]))
        return context.get_dummy_value()

    return types.void(x, index, out, place), generate


@_inlined
def tall(left: int) -> int:
    """How many of the rows that are left a panel has."""
    return TALL if left >= TALL else min(left, 2)


@_inlined
def broad(left: int) -> int:
    """How many vectors of the columns that are left a panel has."""
    count = (left + LANES - 1) // LANES
    return 3 if count > 4 or count == 3 else min(count, 2)


def _columns(count: int) -> Any:
    """All rows of the left matrix, by a panel of so many vectors of the right one."""

    @_inlined
    def rounded_columns(
        left: Wide, norm: Wide, right: Wide, size: Wide, more: Wide, out: Address, edge: Address,
        terms: int, low: int, rows: int, start: int, place: int, pitch: int, used: int,
    ) -> Any:  # fmt: skip
        width, o, doubt = count * LANES, 0, 0
        while o < rows:
            height, begin, unsure = tall(rows - o), o * terms, 0
            to, where, apart = (out, place + o * pitch, pitch) if used == width else (edge, 0, width)
            if height == TALL and low:
                unsure = rounded_tile(left, norm, right, size, more, to, terms - low,
                                      begin + low * TALL, o, start + low * width, o * width,
                                      where, apart, TALL, count, 0, 1)  # fmt: skip
            elif height == TALL:
                unsure = rounded_tile(left, norm, right, size, more, to, terms, begin, o, start, 0,
                                      where, apart, TALL, count, 1, 1)  # fmt: skip
            elif height == 2:
                unsure = rounded_tile(left, norm, right, size, more, to, terms, begin, o, start, 0,
                                      where, apart, 2, count, 1, 1)  # fmt: skip
            else:
                unsure = rounded_tile(left, norm, right, size, more, to, terms, begin, o, start, 0,
                                      where, apart, 1, count, 1, 1)  # fmt: skip
            if unsure:
                doubt |= settle(left, right, to, terms, begin, height, start, width, where, apart)
            if used < width:
                for i in range(height):
                    for q in range(used):
                        _copied(edge, i * width + q, out, place + (o + i) * pitch + q)
            o += height
        return doubt

    return rounded_columns


_one, _two, _three = map(_columns, (1, 2, 3))


@_inlined
def rounded_panel(
    left: Wide, norm: Wide, right: Wide, size: Wide, out: Address, edge: Address, terms: int,
    rows: int, start: int, place: int, pitch: int, used: int, count: int,
) -> Any:  # fmt: skip
    """All rows of the left matrix, by some columns of the right one, of which `used` are written."""
    if count == 3:
        return _three(left, norm, right, size, size, out, edge, terms, 0, rows, start, place, pitch,
                      used)  # fmt: skip
    if count == 2:
        return _two(left, norm, right, size, size, out, edge, terms, 0, rows, start, place, pitch,
                    used)  # fmt: skip
    return _one(left, norm, right, size, size, out, edge, terms, 0, rows, start, place, pitch, used)


@_inlined
def rounded_long_panel(
    left: Wide, norm: Wide, right: Wide, size: Wide, more: Wide, out: Address, edge: Address,
    terms: int, rows: int, start: int, place: int, pitch: int, used: int,
) -> Any:  # fmt: skip
    """The same of three vectors: parts of long sums in turn, so that the panel's stays in the cache."""
    low, width = 0, 3 * LANES
    while terms - low > LONG:
        for o in range(0, rows - rows % TALL, TALL):
            begin, seen = o * terms + low * TALL, start + low * width
            if low:
                rounded_tile(left, norm, right, size, more, out, LONG, begin, o, seen, o * width, 0, 0,
                             TALL, 3, 0, 0)  # fmt: skip
            else:
                rounded_tile(left, norm, right, size, more, out, LONG, begin, o, seen, o * width, 0, 0,
                             TALL, 3, 1, 0)  # fmt: skip
        low += LONG
    return _three(left, norm, right, size, more, out, edge, terms, low, rows, start, place, pitch, used)


@_inlined
def pack_rows(
    x: Address, base: int, step: int, term: int, rows: int, terms: int, out: Wide, norm: Wide
) -> None:
    """All rows of a left matrix, and their norms times the error of a sum as long."""
    pack_some_rows(x, base, step, term, 0, rows, terms, out, norm)


@_inlined
def pack_some_rows(
    x: Address, base: int, step: int, term: int, first: int, last: int, terms: int, out: Wide,
    norm: Wide,
) -> None:  # fmt: skip
    """The same of rows that begin, and do not end before all do, with a panel."""
    o = first
    while o < last:
        height = tall(last - o)
        pack(x, base + o * step, step, term, height, terms, out, o * terms, height, norm, o)
        o += height
    depth = min(terms, _RUN) + (terms + _RUN - 1) // _RUN + 2
    for o in range(first, last):
        norm[o] *= depth * (1.0001 * _UNIT)


@inlined
def pack_columns(
    x: Address, step: int, term: int, columns: int, terms: int, out: Wide, place: int, size: Wide
) -> None:
    """All columns of a right matrix, panel after panel, and their norms."""
    q = 0
    while q < columns:
        width = broad(columns - q) * LANES
        used = min(width, columns - q)
        pack(x, q * step, step, term, used, terms, out, place + q * terms, width, size, q)
        q += width


@inlined
def packed_product(
    left: Wide, norm: Wide, right: Wide, size: Wide, out: Address, edge: Address, terms: int,
    rows: int, columns: int, start: int, place: int, pitch: int,
) -> Any:  # fmt: skip
    """A product of matrices that are packed, and whether it is in doubt."""
    q, doubt = 0, 0
    while q < columns:
        count = broad(columns - q)
        used = min(count * LANES, columns - q)
        doubt |= rounded_panel(left, norm, right, size[q:], out, edge, terms, rows,
                               start + q * terms, place + q, pitch, used, count)  # fmt: skip
        q += count * LANES
    return doubt


@intrinsic
def beginning(context: Any, x: Any) -> Any:
    """Where an array begins that the kernel was given: one of its own may be gone by then."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (data,) = pointers(context, builder, signature.args, args)
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(x), generate


@inlined
def unaligned(x: Wide) -> Any:
    """How many numbers lie before the first that a whole line of the cache begins with."""
    return (-beginning(x) & 63) >> 3
