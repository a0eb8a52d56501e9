"""Products of matrices of float32 numbers, each of them rounded once, as in `rounded`.

Both matrices are copied into panels of float64: some rows of the left one, or columns of the right one,
side by side, term after term. A tile of results stays in registers while it runs along two of them.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from funcnn.numerics.jit import Address, Wide, inlined, intrinsic
from funcnn.numerics.packing import LANES, RUN, TALL, broad, inlined_here, tall
from funcnn.numerics.rounded import KEPT, _Rounding
from funcnn.numerics.vectors import FAST, VECTOR, cgutils, ir, literals, pointers, types

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
LONG = 512  # terms of a panel that stay in the cache while all rows meet them


def _word(number: int) -> Any:
    return ir.IntType(64)(number)


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
        is_tight = height * count > KEPT
        lefts, rights = builder.gep(lefts, [begin]), builder.gep(rights, [start])
        totals = [[vectors.variable(vectors.zero()) for _ in range(count)] for _ in range(height)]
        tile = [(one, _word(i * vectors.count)) for i, one in enumerate(chain(*totals))]
        for one, shift in () if begins.literal_value else tile:
            builder.store(vectors.at(sofar, builder.add(kept, shift)), one)
        sums = [[vectors.variable(vectors.zero()) for _ in range(count)] for _ in range(height)]
        with cgutils.for_range_slice(builder, _word(0), terms, _word(RUN), intp=word) as (first, _):
            last = builder.add(first, _word(RUN))
            last = builder.select(builder.icmp_signed("<", last, terms), last, terms)
            for one in chain(*sums):
                builder.store(vectors.zero(), one)
            with cgutils.for_range_slice(builder, first, last, _word(1), intp=word) as (t, _):
                seen, above = builder.mul(t, _word(width)), builder.mul(t, _word(height))
                places = [builder.add(seen, _word(c * vectors.count)) for c in range(count)]
                runs = [vectors.at(rights, place) for place in places]
                for o, line in enumerate(sums):
                    number = vectors.all(lefts, builder.add(above, _word(o)))
                    if is_tight:  # read again what has no register, and nothing ahead
                        builder.fence("acquire", "singlethread")
                        runs[-1] = vectors.at(rights, places[-1])
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
                bounds = vectors.ends(builder.load(total), error)
                doubts.append(vectors.put_if_sure(bounds, outs, builder.add(to, shift)))
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
            bounds = vectors.exact_ends(parts, many)
            builder.store(vectors.any([vectors.put_if_sure(bounds, outs, place)]), doubt)
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


def _columns(count: int) -> Any:
    """All rows of the left matrix, by a panel of so many vectors of the right one."""

    @inlined_here
    def rounded_columns(
        left: Wide, norm: Wide, right: Wide, size: Wide, more: Wide, out: Address, edge: Address,
        terms: int, depth: int, skip: int, low: int, rows: int, start: int, place: int, pitch: int,
        used: int,
    ) -> Any:  # fmt: skip
        width, o, doubt = count * LANES, 0, 0
        while o < rows:
            height, unsure = tall(rows - o), 0
            begin = o * depth + skip * height
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


@inlined_here
def rounded_panel(
    left: Wide, norm: Wide, right: Wide, size: Wide, out: Address, edge: Address, terms: int,
    depth: int, skip: int, rows: int, start: int, place: int, pitch: int, used: int, count: int,
) -> Any:  # fmt: skip
    """All rows of the left matrix, by some columns of the right one, of which `used` are written.

    Of the `depth` numbers of a row, they have so many terms, after those that they skip.
    """
    if count == 3:
        return _three(left, norm, right, size, size, out, edge, terms, depth, skip, 0, rows, start,
                      place, pitch, used)  # fmt: skip
    if count == 2:
        return _two(left, norm, right, size, size, out, edge, terms, depth, skip, 0, rows, start,
                    place, pitch, used)  # fmt: skip
    return _one(left, norm, right, size, size, out, edge, terms, depth, skip, 0, rows, start,
                place, pitch, used)  # fmt: skip


@inlined_here
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
    return _three(left, norm, right, size, more, out, edge, terms, terms, 0, low, rows, start, place,
                  pitch, used)  # fmt: skip


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
        doubt |= rounded_panel(left, norm, right, size[q:], out, edge, terms, terms, 0, rows,
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
