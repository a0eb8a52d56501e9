"""Vectors of numbers in the code that compiled kernels are made of.

LLVM vectorises a plain loop, but keeps no block of results in registers across it. So tiles say
which vectors there are; everything else about a kernel is Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from funcnn.numerics.jit import Later, width

ir: Any = Later("llvmlite.ir")
types: Any = Later("numba.core.types")
cgutils: Any = Later("numba.core.cgutils")

FAST = ("contract",)
_SUMMED = ("contract", "reassoc")
WIDE, VECTOR, QUARTER, SMALL = 2 * width(), width(), width() // 4, 16  # bytes of tiles
REGISTERS = 32 if VECTOR == 64 else 16  # that hold vectors, so many at once
# Measured in November 2026 on two AMD EPYC: whether what lies apart is read as fast where it lies as
# from a copy. With AVX-512 (Zen 4, 1 MiB of second-level cache) it is, with AVX2 (Zen 3, 512 KiB) not.
IN_PLACE = VECTOR == 64


class Vectors:
    """Vectors of a dtype in the code that is being made."""

    def __init__(self, context: Any, builder: Any, dtype: Any, size: int) -> None:
        self.builder, self.one = builder, context.get_data_type(dtype)
        self.bytes = dtype.bitwidth // 8
        self.count = max(1, size // self.bytes)
        self.type = ir.VectorType(self.one, self.count)
        self.name = f"v{self.count}f{8 * self.bytes}"

    def zero(self) -> Any:
        return ir.Constant(self.type, [0.0] * self.count)

    def variable(self, value: Any) -> Any:
        """A local variable, which ends up in a register."""
        place = cgutils.alloca_once(self.builder, self.type)
        self.builder.store(value, place)
        return place

    def at(self, array: Any, index: Any) -> Any:
        """The neighbours from an index on."""
        return self.read(self.builder.gep(array, [index]))

    def put(self, value: Any, array: Any, index: Any) -> None:
        self.write(value, self.builder.gep(array, [index]))

    def all(self, array: Any, index: Any) -> Any:
        """One number of an array in every place."""
        return self.spread(self.builder.load(self.builder.gep(array, [index])))

    def spread(self, number: Any) -> Any:
        """A number in every place."""
        index = ir.IntType(32)
        empty = ir.Constant(ir.VectorType(number.type, self.count), ir.Undefined)
        single = self.builder.insert_element(empty, number, ir.Constant(index, 0))
        places = ir.Constant(ir.VectorType(index, self.count), [0] * self.count)
        return self.builder.shuffle_vector(single, empty, places)

    def of(self, numbers: list[Any]) -> Any:
        """A number in each place."""
        vector = ir.Constant(self.type, ir.Undefined)
        for place, number in enumerate(numbers):
            vector = self.builder.insert_element(vector, number, ir.IntType(32)(place))
        return vector

    def intrinsic(self, name: str, kind: Any, *operands: Any) -> Any:
        function = ir.FunctionType(kind, [operand.type for operand in operands])
        found = cgutils.get_or_insert_function(self.builder.module, function, name)
        return self.builder.call(found, operands)

    def first(self, some: Any) -> Any:
        """Which places are the first so many."""
        lanes = ir.Constant(ir.VectorType(ir.IntType(64), self.count), list(range(self.count)))
        return self.builder.icmp_signed("<", lanes, self.spread(some))

    def read(self, place: Any) -> Any:
        """What neighbours hold."""
        place = self.builder.bitcast(place, self.type.as_pointer())
        return self.builder.load(place, align=self.bytes)

    def write(self, value: Any, place: Any) -> None:
        """Write to neighbours."""
        self.builder.store(value, self.builder.bitcast(place, self.type.as_pointer()), align=self.bytes)

    def read_some(self, place: Any, some: Any = None) -> Any:
        """What the first so many of neighbours hold, or all of them; 0 for others."""
        if some is None:
            return self.read(place)
        found = self.variable(self.zero())
        with self.builder.if_else(self._are_all(some)) as (all_of_them, others):
            with all_of_them:
                self.builder.store(self.read(place), found)
            with others:
                self.builder.store(self._masked("load", self.type, place, some, self.zero()), found)
        return self.builder.load(found)

    def write_some(self, value: Any, place: Any, some: Any = None) -> None:
        """Write to the first so many of neighbours, or to all: AVX2 masks what it writes slowly."""
        if some is None:
            self.write(value, place)
            return
        with self.builder.if_else(self._are_all(some)) as (all_of_them, others):
            with all_of_them:
                self.write(value, place)
            with others:
                self._masked("store", ir.VoidType(), place, some, value)

    def _are_all(self, some: Any) -> Any:
        return self.builder.icmp_signed(">=", some, some.type(self.count))

    def _masked(self, verb: str, kind: Any, place: Any, some: Any, value: Any) -> Any:
        place = self.builder.bitcast(place, self.type.as_pointer())
        rest = [ir.IntType(32)(self.bytes), self.first(some)]
        parts = [place, *rest, value] if verb == "load" else [value, place, *rest]
        return self.intrinsic(f"llvm.masked.{verb}.{self.name}.p0{self.name}", kind, *parts)

    def fetch(self, place: Any, writes: int) -> None:
        """Begin to fetch the line of the cache that will be read, or written to."""
        number = ir.IntType(32)
        parts = place, number(writes), number(3), number(1)
        self.intrinsic("llvm.prefetch.p0f32", ir.VoidType(), *parts)

    def add_product(self, place: Any, a: Any, b: Any, flags: tuple[str, ...]) -> None:
        product = self.builder.fmul(a, b, flags=flags)
        self.builder.store(self.builder.fadd(self.builder.load(place), product, flags=flags), place)

    def sum(self, vector: Any) -> Any:
        name = f"llvm.vector.reduce.fadd.{self.name}"
        kind = ir.FunctionType(self.one, [self.one, self.type])
        reduce = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(reduce, [ir.Constant(self.one, -0.0), vector], fastmath=_SUMMED)


def pointers(context: Any, builder: Any, kinds: Any, arrays: Any) -> list[Any]:
    return [
        context.make_array(kind)(context, builder, one).data
        for kind, one in zip(kinds, arrays, strict=True)
    ]


@contextmanager
def span_of_taps(builder: Any, first: Any, last: Any, spans: Any, jump: Any) -> Iterator[Any]:
    """A loop over ``first <= t < last``, and as many again at each `jump`, for so many `spans`."""
    integer = ir.IntType(64)
    with cgutils.for_range(builder, spans, intp=integer) as span:
        skipped = builder.mul(span.index, jump)
        begin, end = builder.add(first, skipped), builder.add(last, skipped)
        with cgutils.for_range_slice(builder, begin, end, integer(1), intp=integer) as (t, _):
            yield t


def literals(*kinds: Any) -> bool:
    return all(isinstance(kind, types.IntegerLiteral) for kind in kinds)
