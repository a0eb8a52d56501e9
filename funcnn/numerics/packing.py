"""Matrices of float32 numbers copied into panels of float64, for the products of `panels`.

Some rows of the left matrix, or columns of the right one, lie side by side, term after term.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from funcnn.numerics.jit import Address, Table, Wide, inlined, intrinsic
from funcnn.numerics.rounded import _UNIT, _Rounding, number_at
from funcnn.numerics.vectors import FAST, REGISTERS, VECTOR, cgutils, ir, literals, pointers, types

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache).
LANES = VECTOR // 8  # numbers of a vector
TALL = REGISTERS // 4  # rows of a tile: with three vectors of each, registers are full
RUN = 128  # terms that are added up in turn: fewer make the bound on their error smaller
_AT_ONCE = 4  # terms of a line


def inlined_here(function: Any) -> Any:
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


@inlined_here
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


@inlined_here
def tall(left: int) -> int:
    """How many of the rows that are left a panel has."""
    return TALL if left >= TALL else min(left, 2)


@inlined_here
def broad(left: int) -> int:
    """How many vectors of the columns that are left a panel has."""
    count = (left + LANES - 1) // LANES
    return 3 if count > 4 or count == 3 else min(count, 2)


@inlined_here
def pack_places(
    x: Address, at: Table, first: int, base: int, used: int, count: int, terms: int,
    out: Wide, place: int, size: Wide,
) -> None:  # fmt: skip
    """``x[base + at[first + t] + c]`` of so many places in so many vectors, and their norms."""
    width = count * LANES
    if used < width:
        for c in range(width):
            total = 0.0
            for t in range(terms):
                value = number_at(x, base + at[first + t] + c) if c < used else 0.0
                out[place + t * width + c] = value
                total += value * value
            size[c] = np.sqrt(total)
    elif count == 3:
        pack_runs(x, out, size, terms, place, width, 0, base, at, first, 3)
    elif count == 2:
        pack_runs(x, out, size, terms, place, width, 0, base, at, first, 2)
    else:
        pack_runs(x, out, size, terms, place, width, 0, base, at, first, 1)


@inlined_here
def pack_rows(
    x: Address, base: int, step: int, term: int, rows: int, terms: int, out: Wide, norm: Wide
) -> None:
    """All rows of a left matrix, and their norms times the error of a sum as long."""
    pack_some_rows(x, base, step, term, 0, rows, terms, out, norm)


@inlined_here
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
    depth = min(terms, RUN) + (terms + RUN - 1) // RUN + 2
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
