"""Kernels to machine code. Numba translates them, and a few lines around it let Python call them.

The code refers to Python's C interface and the system's mathematics alone, and not to Numba: so a later
process loads it without. An array is read where NumPy's C interface has its fields.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.np import arrayobj

from funcnn.machine import code
from funcnn.numerics import linking
from funcnn.numerics.handover import run_divided

_BYTE, _INT, _WORD = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_POINTER = _BYTE.as_pointer()
_HEAD = object.__basicsize__  # bytes of what every object begins with; its type is last
_FIELDS = (  # of PyArrayObject: its data, axes, sizes, dtype and flags
    (_HEAD, _POINTER), (_HEAD + 8, _INT), (_HEAD + 16, _WORD.as_pointer()), (_HEAD + 40, _POINTER),
    (_HEAD + 48, _INT),
)  # fmt: skip
_SWAPPED = ord({"little": ">", "big": "<"}[sys.byteorder])
_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400
_MEMORY = ir.LiteralStructType([_WORD, _POINTER, _POINTER, _POINTER, _WORD, _POINTER])  # of Numba
_MEMORY_BYTES = 64  # at least what it takes


def signature(function: Callable[..., Any], dtype: np.dtype[Any]) -> Any:
    """What a kernel is given, by the names of its annotations."""
    number = numba.from_dtype(dtype)
    by_name = {
        "In": types.Array(number, 1, "C", readonly=True, aligned=False),
        "Out": types.Array(number, 1, "C", aligned=False),
        "Table": types.Array(types.int64, 1, "C", readonly=True),
        "Bytes": types.Array(types.uint8, 1, "C", readonly=True),
        "OutBytes": types.Array(types.uint8, 1, "C"),
        "Wide": types.Array(types.float64, 1, "C"),
        "Single": types.Array(types.float32, 1, "C"),
        "InSingle": types.Array(types.float32, 1, "C", readonly=True, aligned=False),
        "Address": types.int64,
        "int": types.int64,
        "float": number,
    }
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return types.void(*(by_name[function.__annotations__[name]] for name in names))


def translated(
    function: Callable[..., Any], dtype: np.dtype[Any], name: str, options: dict[str, Any],
    divided: bool,
) -> bytes:  # fmt: skip
    """A kernel's code for `machine.code.load`."""
    try:
        dispatcher = numba.njit(signature(function, dtype), **options, pipeline_class=linking.Kernels)(
            function
        )
    except numba.core.errors.NumbaError as problem:
        words = str(problem).strip().splitlines()[0]
        raise RuntimeError(
            f"Numba {numba.__version__} cannot compile funcnn's kernel {name} ({words}): "
            "set FUNCNN_COMPILED=off to run without"
        ) from problem
    (compiled,) = dispatcher.overloads.values()
    context, binding = cpu_target.target_context, llvmlite.binding
    around = _callable(context, compiled, name, divided)
    module = binding.parse_bitcode(compiled.library.emit_bitcode())
    module.link_in(binding.parse_assembly(str(around)))
    for one in module.functions:
        if not one.is_declaration and one.name != name:
            one.linkage = "internal"
    target = binding.Target.from_default_triple()
    static = {"reloc": "static"} if target.name.startswith("x86") else {}
    machine = target.create_target_machine(
        cpu=code.processor(), features=code.features(), opt=3, jit=True, **static
    )
    passes = binding.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, binding.create_pass_builder(machine, binding.create_pipeline_tuning_options()))
    outside = (one.name for one in module.functions if one.is_declaration)
    needed = " ".join(one for one in outside if not one.startswith("llvm."))
    machine_code: bytes = machine.emit_object(module)
    return f"{name}\n{needed}\n".encode() + machine_code


class _Entry:
    """A function that Python calls by ``METH_FASTCALL``; its ``self`` is NumPy's type of arrays."""

    def __init__(self, context: Any, name: str, kinds: Any) -> None:
        self.context, self.module = context, context.create_module(name)
        kind = ir.FunctionType(_POINTER, [_POINTER, _POINTER.as_pointer(), _WORD])
        function = ir.Function(self.module, kind, name)
        self.builder = ir.IRBuilder(function.append_basic_block())
        self.refused = function.append_basic_block("refused")
        self.array_type, self.given, count = function.args
        self.need("==", count, _WORD(len(kinds)))
        self.values = [self.value(i, kind) for i, kind in enumerate(kinds)]
        self.need("==", self.call(_POINTER, "PyErr_Occurred"), _POINTER(None))

    def call(self, result: Any, name: str, *args: Any) -> Any:
        """Call a function of C."""
        kind = ir.FunctionType(result, [one.type for one in args])
        return self.builder.call(cgutils.get_or_insert_function(self.module, kind, name), args)

    def need(self, relation: str, one: Any, other: Any) -> None:
        """Go on only if it holds."""
        following = self.builder.append_basic_block()
        self.builder.cbranch(self.builder.icmp_signed(relation, one, other), following, self.refused)
        self.builder.position_at_end(following)

    def at(self, place: Any, offset: int, kind: Any) -> Any:
        """What lies so many bytes from a place."""
        where = self.builder.gep(place, [_WORD(offset)])
        return self.builder.load(self.builder.bitcast(where, kind.as_pointer()))

    def value(self, i: int, kind: Any) -> Any:
        """An argument."""
        one = self.builder.load(self.builder.gep(self.given, [_WORD(i)]))
        if isinstance(kind, types.Array):
            return self.array(one, kind)
        if isinstance(kind, types.Integer):
            return self.call(_WORD, "PyLong_AsLongLong", one)
        found = self.call(ir.DoubleType(), "PyFloat_AsDouble", one)
        return found if kind == types.float64 else self.builder.fptrunc(found, ir.FloatType())

    def array(self, one: Any, kind: Any) -> Any:
        """An argument that must be an array of a dtype, without gaps: the kernel has it flat."""
        is_array = self.call(
            _INT, "PyType_IsSubtype", self.at(one, _HEAD - 8, _POINTER), self.array_type
        )
        self.need("!=", is_array, _INT(0))
        data, axes, sizes, dtype, flags = (self.at(one, *field) for field in _FIELDS)
        aligned = _ALIGNED if kind.aligned else 0
        wanted = _INT(_CONTIGUOUS | aligned | (_WRITEABLE if kind.mutable else 0))
        self.need("==", self.builder.and_(flags, wanted), wanted)
        self.need("==", self.at(dtype, _HEAD + 12, _INT), _INT(np.dtype(str(kind.dtype)).num))
        self.need("!=", self.at(dtype, _HEAD + 10, _BYTE), _BYTE(_SWAPPED))
        count = cgutils.alloca_once_value(self.builder, _WORD(1))
        with cgutils.for_range(self.builder, axes) as along:
            many = self.builder.load(self.builder.gep(sizes, [along.index]))
            self.builder.store(self.builder.mul(self.builder.load(count), many), count)
        made = self.context.make_array(kind)(self.context, self.builder)
        size = _WORD(kind.dtype.bitwidth // 8)
        arrayobj.populate_array(
            made, self.builder.bitcast(data, made.data.type), [self.builder.load(count)], [size], size,
            None,
        )  # fmt: skip
        return made._getvalue()


def _callable(context: Any, compiled: Any, name: str, divided: bool) -> Any:
    """A module with the entry to a kernel; other Python threads run meanwhile."""
    kinds, calls = compiled.signature.args, context.call_conv
    entry = _Entry(context, name, [*kinds, types.int64, types.int64] if divided else kinds)
    builder, call = entry.builder, entry.call
    thread = call(_POINTER, "PyEval_SaveThread")
    kind = calls.get_function_type(types.none, kinds)
    native = ir.Function(entry.module, kind, compiled.fndesc.llvm_func_name)

    def run(builder: Any, values: Any) -> Any:
        return calls.call_function(builder, native, types.none, kinds, values)[0].is_error

    failed = run_divided(entry, run) if divided else run(builder, entry.values)
    call(ir.VoidType(), "PyEval_RestoreThread", thread)
    with builder.if_then(failed, likely=False):
        call(_INT, "PyErr_NoMemory")  # a kernel raises nothing, but may want memory
        builder.ret(_POINTER(None))
    builder.ret(call(_POINTER, "PyLong_FromLongLong", _WORD(0)))  # which nobody reads
    builder.position_at_end(entry.refused)
    known = builder.icmp_signed("!=", call(_POINTER, "PyErr_Occurred"), _POINTER(None))
    with builder.if_then(builder.not_(known)):
        call(_INT, "PyErr_BadArgument")
    builder.ret(_POINTER(None))
    _memory(entry.module)
    return entry.module


def _memory(module: Any) -> None:
    """Numba's functions for the memory of an array that a kernel makes, and of one that it drops."""
    kind = ir.FunctionType(_POINTER, [_WORD, _INT])
    builder = ir.IRBuilder(ir.Function(module, kind, "NRT_MemInfo_alloc_aligned").append_basic_block())
    size, align = builder.function.args
    align, head = builder.zext(align, _WORD), _WORD(_MEMORY_BYTES)
    raw = cgutils.get_or_insert_function(module, ir.FunctionType(_POINTER, [_WORD]), "PyMem_RawMalloc")
    found = builder.call(raw, [builder.add(builder.add(size, align), head)])
    with builder.if_then(builder.icmp_signed("==", found, _POINTER(None)), likely=False):
        builder.ret(found)
    start = builder.ptrtoint(builder.gep(found, [head]), _WORD)
    start = builder.and_(builder.add(start, builder.sub(align, _WORD(1))), builder.neg(align))
    info = builder.bitcast(found, _MEMORY.as_pointer())
    data = builder.inttoptr(start, _POINTER)
    for i, part in enumerate((_WORD(1), _POINTER(None), _POINTER(None), data, size, _POINTER(None))):
        builder.store(part, builder.gep(info, [_INT(0), _INT(i)]))
    builder.ret(found)
    kind = ir.FunctionType(ir.VoidType(), [_POINTER])
    builder = ir.IRBuilder(ir.Function(module, kind, "NRT_MemInfo_call_dtor").append_basic_block())
    free = cgutils.get_or_insert_function(module, kind, "PyMem_RawFree")
    builder.call(free, builder.function.args)
    builder.ret_void()
