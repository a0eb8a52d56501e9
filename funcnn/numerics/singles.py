"""Products of float32 matrices in compiled kernels: tiles of results that stay in registers.

A tile runs along the terms. It reads the left matrix where that lies, and some columns of the right one
side by side: there, or in a panel. Every entry is the same chain of operations, wherever it stands.
"""

from __future__ import annotations

from typing import Any

from funcnn.numerics.jit import Address, Single, inlined, intrinsic
from funcnn.numerics.packing import TALL, pack_neighbours, pack_turned, tall
from funcnn.numerics.vectors import FAST, VECTOR, Vectors, cgutils, ir, literals, types

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache), and
# what concerns AVX2 on another (Zen 3, 512 KiB).
LANES = VECTOR // 4  # numbers of a vector
RUN = 256  # terms that are added up in turn
_AHEAD = VECTOR == 32  # whether a tile fetches the rows of the next one
_LINE = 16  # numbers of a line of the cache
_AT_ONCE = 4  # sums of them that wait for none of the others


def _word(number: int) -> Any:
    return ir.IntType(64)(number)


@intrinsic
def _tile(
    context: Any, left: Any, row: Any, term: Any, right: Any, line: Any, out: Any, pitch: Any,
    terms: Any, used: Any, plus: Any, apart: Any, rows: Any, columns: Any,
) -> Any:  # fmt: skip
    """``out[o pitch + q] = plus[o apart + q] + sum_t left[o row + t term] right[t line + q]``.

    For ``o < rows``, and the first `used` numbers `q` of so many vectors: the last need not be full.
    There is nothing to be added if `plus` is 0.
    """
    if not literals(rows, columns):
        return None
    signature = types.void(
        left, row, term, right, line, out, pitch, terms, used, plus, apart, rows, columns
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, types.float32, VECTOR)
        lefts, rights, outs, sofar = (
            builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 3, 5, 9)
        )
        row, term, line, pitch, (terms, used) = args[1], args[2], args[4], args[6], args[7:9]
        height, width = range(rows.literal_value), columns.literal_value
        starts = [builder.gep(lefts, [builder.mul(row, _word(o))]) for o in height]
        targets = [builder.gep(outs, [builder.mul(pitch, _word(o))]) for o in height]
        sums = [[vectors.variable(vectors.zero()) for _ in range(width)] for _ in height]
        shifts = [_word(c * vectors.count) for c in range(width)]

        def add(first: Any, last: Any, term: Any) -> None:
            with cgutils.for_range_slice(builder, first, last, _word(1), intp=terms.type) as (t, _):
                seen, above = builder.mul(t, line), builder.mul(t, term)
                runs = [vectors.at(rights, builder.add(seen, shift)) for shift in shifts]
                for start, sums_of_row in zip(starts, sums, strict=True):
                    number = vectors.all(start, above)
                    for run, one in zip(runs, sums_of_row, strict=True):
                        vectors.add_product(one, number, run, FAST)

        for to in targets:  # until the sums are done, it has come
            for place in (*range(0, width * LANES, _LINE), width * LANES - 1):
                vectors.fetch(builder.gep(to, [_word(place)]), 1)
        whole = ir.IntType(1)(_AHEAD and len(starts) == TALL)
        lie_side_by_side = builder.icmp_signed("==", term, _word(1))
        with builder.if_else(builder.and_(whole, lie_side_by_side)) as (fetching, others):
            with fetching:
                below, most = builder.mul(row, _word(TALL)), builder.and_(terms, _word(-_LINE))
                with cgutils.for_range_slice(
                    builder, _word(0), most, _word(_LINE), intp=terms.type
                ) as (t, _):
                    for start in starts:
                        vectors.fetch(builder.gep(start, [builder.add(below, t)]), 0)
                    add(t, builder.add(t, _word(_LINE)), _word(1))
                add(most, terms, _word(1))
            with others:
                add(_word(0), terms, term)
        last, wanted = builder.sub(used, shifts[-1]), builder.icmp_signed("!=", args[9], _word(0))
        for o, (to, sums_of_row) in enumerate(zip(targets, sums, strict=True)):
            before = builder.gep(sofar, [builder.mul(args[10], _word(o))])
            for c, (shift, one) in enumerate(zip(shifts, sums_of_row, strict=True)):
                some = last if c == width - 1 else None
                with builder.if_then(wanted):
                    there = vectors.read_some(builder.gep(before, [shift]), some)
                    builder.store(builder.fadd(there, builder.load(one)), one)
                vectors.write_some(builder.load(one), builder.gep(to, [shift]), some)
        return context.get_dummy_value()

    return signature, generate


def _columns(count: int) -> Any:
    """All rows of the left matrix, by so many vectors of columns of the right one."""

    @inlined
    def multiply_columns(
        left: Address, jump: int, row: int, term: int, right: Address, line: int, out: Address,
        pitch: int, terms: int, rows: int, used: int, plus: int, apart: int,
    ) -> None:  # fmt: skip
        seen, to, sofar = left, out, plus
        while rows > 0:
            height = tall(rows)
            if height == TALL:
                _tile(seen, row, term, right, line, to, pitch, terms, used, sofar, apart, TALL, count)
                seen += 4 * TALL * jump
            elif height == 2:
                _tile(seen, row, term, right, line, to, pitch, terms, used, sofar, apart, 2, count)
                seen += 8 * row
            else:
                _tile(seen, row, term, right, line, to, pitch, terms, used, sofar, apart, 1, count)
            rows, to, sofar = rows - height, to + 4 * height * pitch, sofar + 4 * height * apart

    return multiply_columns


_one, _two, _three = map(_columns, (1, 2, 3))


@inlined
def pack(
    x: Address, base: int, column: int, line: int, used: int, terms: int,
    panel: Single, width: int,
) -> None:  # fmt: skip
    """Columns of the right matrix side by side, and zeros up to `width`."""
    for c in range(0, width, LANES):
        if column == 1:
            pack_neighbours(x, panel, panel, terms, c, width, 0, base + c, line, used - c, 0)
        else:
            pack_turned(x, panel, panel, terms, c, width, 0, base + c * column, column, used - c)


@inlined
def multiply_panel(
    left: Address, jump: int, row: int, term: int, right: Address, line: int, out: Address, pitch: int,
    terms: int, rows: int, used: int, plus: int, apart: int,
) -> None:  # fmt: skip
    """All rows of the left matrix by up to three vectors of columns.

    Added to rows that are so far `apart`; if there are none, both are 0. Rows are `jump` numbers apart,
    and those of a tile `row`.
    """
    if used > 2 * LANES:
        _three(left, jump, row, term, right, line, out, pitch, terms, rows, used, plus, apart)
    elif used > LANES:
        _two(left, jump, row, term, right, line, out, pitch, terms, rows, used, plus, apart)
    else:
        _one(left, jump, row, term, right, line, out, pitch, terms, rows, used, plus, apart)


@intrinsic
def _spread(context: Any, x: Any, out: Any, used: Any) -> Any:
    """``out[q] = x[0]`` for the first `used` numbers, a vector at a time."""
    signature = types.void(x, out, used)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, types.float32, VECTOR)
        source, target = (builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 1))
        step, number = _word(vectors.count), vectors.spread(builder.load(source))
        with cgutils.for_range_slice(builder, _word(0), args[2], step, intp=step.type) as (q, _):
            vectors.write_some(number, builder.gep(target, [q]), builder.sub(args[2], q))
        return context.get_dummy_value()

    return signature, generate


@inlined
def put(x: Address, row: int, out: Address, pitch: int, rows: int, used: int) -> None:
    """Put what products are added to in their place: all numbers of a row are the same."""
    for o in range(rows):
        _spread(x + 4 * o * row, out + 4 * o * pitch, used)


@intrinsic
def add_lines(context: Any, x: Any, row: Any, rows: Any, out: Any, used: Any) -> Any:
    """``out[q] = sum_o x[o row + q]`` for the first `used` numbers of a vector, in runs of terms."""
    signature = types.void(x, row, rows, out, used)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, types.float32, VECTOR)
        source, target = (builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 3))
        row, rows, some = args[1], args[2], args[4]
        total = vectors.variable(vectors.zero())
        sums = [vectors.variable(vectors.zero()) for _ in range(_AT_ONCE)]

        def add(first: Any, last: Any, sums: Any) -> None:
            step = _word(len(sums))
            with cgutils.for_range_slice(builder, first, last, step, intp=step.type) as (o, _):
                for i, one in enumerate(sums):
                    place = builder.gep(source, [builder.mul(builder.add(o, _word(i)), row)])
                    builder.store(builder.fadd(builder.load(one), vectors.read_some(place, some)), one)

        with cgutils.for_range_slice(builder, _word(0), rows, _word(RUN), intp=rows.type) as (o, _):
            end = builder.add(o, _word(RUN))
            end = builder.select(builder.icmp_signed("<", end, rows), end, rows)
            most = builder.sub(end, builder.srem(builder.sub(end, o), _word(_AT_ONCE)))
            add(o, most, sums)
            add(most, end, sums[:1])
            for one in sums:
                builder.store(builder.fadd(builder.load(total), builder.load(one)), total)
                builder.store(vectors.zero(), one)
        vectors.write_some(builder.load(total), target, some)
        return context.get_dummy_value()

    return signature, generate


@inlined
def broad(left: int) -> int:
    """How many of the columns that are left a panel has."""
    vectors = (left + LANES - 1) // LANES
    return LANES * (2 if vectors == 4 else min(vectors, 3))


@inlined
def pack_all(
    x: Address, base: int, column: int, line: int, columns: int, terms: int, panels: Single
) -> None:
    """A right matrix in panels, one behind the other; behind them is room for a vector."""
    q = 0
    while q < columns:
        width = broad(columns - q)
        pack(x, base + q * column, column, line, columns - q, terms, panels[q * terms :], width)
        q += width


@inlined
def multiply(
    left: Address, row: int, term: int, panels: Address, out: Address, pitch: int,
    terms: int, rows: int, columns: int, more: int,
) -> None:  # fmt: skip
    """By a right matrix that is packed; added to what is there if `more` is 1."""
    q = 0
    while q < columns:
        width, to = broad(columns - q), out + 4 * q
        for k in range(0, terms, RUN):
            added = more | int(k > 0)
            multiply_panel(
                left + 4 * k * term, row, row, term, panels + 4 * (q * terms + k * width), width, to,
                pitch, min(RUN, terms - k), rows, min(width, columns - q), to * added, pitch * added,
            )  # fmt: skip
        q += width
