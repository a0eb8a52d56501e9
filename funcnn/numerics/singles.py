"""Products of float32 matrices in compiled kernels: tiles of results that stay in registers.

A tile runs along the terms. It reads the left matrix where that lies, and some columns of the right one
side by side: there, or in a panel. Every entry is the same chain of operations, wherever it stands.
"""

from __future__ import annotations

from typing import Any

from funcnn.numerics.jit import Address, Single, inlined, intrinsic
from funcnn.numerics.packing import TALL, pack_neighbours, pack_turned, tall
from funcnn.numerics.vectors import FAST, VECTOR, Vectors, cgutils, ir, literals, types

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
LANES = VECTOR // 4  # numbers of a vector
RUN = 256  # terms that are added up in turn
_AT_ONCE = 4  # sums of them that wait for none of the others


def _word(number: int) -> Any:
    return ir.IntType(64)(number)


@intrinsic
def _tile(
    context: Any, left: Any, row: Any, term: Any, right: Any, line: Any, out: Any, pitch: Any,
    terms: Any, used: Any, more: Any, rows: Any, columns: Any,
) -> Any:  # fmt: skip
    """``out[o pitch + q] = sum_t left[o row + t term] right[t line + q]``, or ``+=`` if `more` is 1.

    For ``o < rows``, and the first `used` numbers `q` of so many vectors: the last need not be full.
    """
    if not literals(rows, columns):
        return None
    signature = types.void(left, row, term, right, line, out, pitch, terms, used, more, rows, columns)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, types.float32, VECTOR)
        lefts, rights, outs = (
            builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 3, 5)
        )
        row, term, line, pitch, (terms, used, more) = args[1], args[2], args[4], args[6], args[7:10]
        height, width = range(rows.literal_value), range(columns.literal_value)
        starts = [builder.gep(lefts, [builder.mul(row, _word(o))]) for o in height]
        sums = [[vectors.variable(vectors.zero()) for _ in width] for _ in height]
        shifts = [_word(c * vectors.count) for c in width]
        with cgutils.for_range_slice(builder, _word(0), terms, _word(1), intp=terms.type) as (t, _):
            seen, above = builder.mul(t, line), builder.mul(t, term)
            runs = [vectors.at(rights, builder.add(seen, shift)) for shift in shifts]
            for start, sums_of_row in zip(starts, sums, strict=True):
                number = vectors.all(start, above)
                for run, one in zip(runs, sums_of_row, strict=True):
                    vectors.add_product(one, number, run, FAST)
        there = vectors.first(builder.sub(used, shifts[-1]))
        wanted = builder.trunc(more, ir.IntType(1))
        for o, sums_of_row in enumerate(sums):
            for c, (shift, one) in enumerate(zip(shifts, sums_of_row, strict=True)):
                place = builder.gep(outs, [builder.add(builder.mul(pitch, _word(o)), shift)])
                some = there if c == len(width) - 1 else None
                with builder.if_then(wanted):
                    before = vectors.read(place, some)
                    builder.store(builder.fadd(before, builder.load(one)), one)
                vectors.write(builder.load(one), place, some)
        return context.get_dummy_value()

    return signature, generate


def _columns(count: int) -> Any:
    """All rows of the left matrix, by so many vectors of columns of the right one."""

    @inlined
    def multiply_columns(
        left: Address, row: int, term: int, right: Address, line: int, out: Address, pitch: int,
        terms: int, rows: int, used: int, more: int,
    ) -> None:  # fmt: skip
        o = 0
        while o < rows:
            height, of_row, to = tall(rows - o), left + 4 * o * row, out + 4 * o * pitch
            if height == TALL:
                _tile(of_row, row, term, right, line, to, pitch, terms, used, more, TALL, count)
            elif height == 2:
                _tile(of_row, row, term, right, line, to, pitch, terms, used, more, 2, count)
            else:
                _tile(of_row, row, term, right, line, to, pitch, terms, used, more, 1, count)
            o += height

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
    left: Address, row: int, term: int, right: Address, line: int, out: Address, pitch: int,
    terms: int, rows: int, used: int, more: int,
) -> None:  # fmt: skip
    """All rows of the left matrix by up to three vectors of columns."""
    if used > 2 * LANES:
        _three(left, row, term, right, line, out, pitch, terms, rows, used, more)
    elif used > LANES:
        _two(left, row, term, right, line, out, pitch, terms, rows, used, more)
    else:
        _one(left, row, term, right, line, out, pitch, terms, rows, used, more)


@intrinsic
def _put_vector(context: Any, x: Any, column: Any, out: Any, used: Any) -> Any:
    """``out[q] = x[column q]`` for the first `used` numbers of a vector."""
    signature = types.void(x, column, out, used)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, types.float32, VECTOR)
        source, target = (builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 2))
        some = vectors.first(args[3])
        with builder.if_else(builder.icmp_signed("==", args[1], _word(1))) as (apart, alike):
            with apart:
                vectors.write(vectors.read(source, some), target, some)
            with alike:
                vectors.write(vectors.spread(builder.load(source)), target, some)
        return context.get_dummy_value()

    return signature, generate


@inlined
def put(
    x: Address, row: int, column: int, out: Address, pitch: int, rows: int, used: int
) -> None:  # fmt: skip
    """Put what products are added to in their place: its columns are neighbours, or all the same."""
    for o in range(rows):
        for q in range(0, used, LANES):
            to = out + 4 * (o * pitch + q)
            _put_vector(x + 4 * (o * row + q * column), column, to, used - q)


@intrinsic
def add_lines(context: Any, x: Any, row: Any, rows: Any, out: Any, used: Any) -> Any:
    """``out[q] = sum_o x[o row + q]`` for the first `used` numbers of a vector, in runs of terms."""
    signature = types.void(x, row, rows, out, used)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = Vectors(context, builder, types.float32, VECTOR)
        source, target = (builder.inttoptr(args[i], ir.FloatType().as_pointer()) for i in (0, 3))
        row, rows, some = args[1], args[2], vectors.first(args[4])
        total = vectors.variable(vectors.zero())
        sums = [vectors.variable(vectors.zero()) for _ in range(_AT_ONCE)]

        def add(first: Any, last: Any, sums: Any) -> None:
            step = _word(len(sums))
            with cgutils.for_range_slice(builder, first, last, step, intp=step.type) as (o, _):
                for i, one in enumerate(sums):
                    place = builder.gep(source, [builder.mul(builder.add(o, _word(i)), row)])
                    builder.store(builder.fadd(builder.load(one), vectors.read(place, some)), one)

        with cgutils.for_range_slice(builder, _word(0), rows, _word(RUN), intp=rows.type) as (o, _):
            end = builder.add(o, _word(RUN))
            end = builder.select(builder.icmp_signed("<", end, rows), end, rows)
            most = builder.sub(end, builder.srem(builder.sub(end, o), _word(_AT_ONCE)))
            add(o, most, sums)
            add(most, end, sums[:1])
            for one in sums:
                builder.store(builder.fadd(builder.load(total), builder.load(one)), total)
                builder.store(vectors.zero(), one)
        vectors.write(builder.load(total), target, some)
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
        width = broad(columns - q)
        for k in range(0, terms, RUN):
            multiply_panel(
                left + 4 * k * term, row, term, panels + 4 * (q * terms + k * width), width,
                out + 4 * q, pitch, min(RUN, terms - k), rows, min(width, columns - q),
                more | int(k > 0),
            )  # fmt: skip
        q += width
