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

    def read(self, place: Any, some: Any = None) -> Any:
        """What neighbours hold; 0 for those that are not among `some`."""
        place = self.builder.bitcast(place, self.type.as_pointer())
        if some is None:
            return self.builder.load(place, align=self.bytes)
        name, align = f"llvm.masked.load.{self.name}.p0{self.name}", ir.IntType(32)(self.bytes)
        return self.intrinsic(name, self.type, place, align, some, self.zero())

    def write(self, value: Any, place: Any, some: Any = None) -> None:
        """Write to neighbours, or to those among `some`."""
        place = self.builder.bitcast(place, self.type.as_pointer())
        if some is None:
            self.builder.store(value, place, align=self.bytes)
        else:
            name, align = f"llvm.masked.store.{self.name}.p0{self.name}", ir.IntType(32)(self.bytes)
            self.intrinsic(name, ir.VoidType(), value, place, align, some)

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
