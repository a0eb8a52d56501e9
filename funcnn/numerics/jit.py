"""Compiled kernels, behind one decorator. Nobody imports this but what is compiled.

A `kernel` is a function of flat arrays and numbers; the names of its annotations say what each is. It
may be given arrays of any shape, in C order without gaps. It is compiled for a dtype when it first
runs, and its machine code is kept on disk, in the user's cache folder. Numba is imported when there is
something to compile: all that kernels are made of waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import Any, TypeAlias

import numpy as np

from funcnn.machine import code
from funcnn.machine.code import processor, width
from funcnn.machine.memory import address as address
from funcnn.types import Array

__all__ = ["processor", "width"]

In: TypeAlias = Array
"""A flat array that is read."""
Out: TypeAlias = Array
"""A flat array that is written to, too."""
Table: TypeAlias = Array
"""A flat array of int64 that is read."""
Bytes: TypeAlias = Array
"""A flat array of uint8 that is read."""
OutBytes: TypeAlias = Array
"""A flat array of uint8 that is written to, too."""
Wide: TypeAlias = Array
"""A flat array of float64 that is written to, too."""
Single: TypeAlias = Array
"""A flat array of float32 that is written to, too."""
InSingle: TypeAlias = Array
"""A flat array of float32 that is read."""
Address: TypeAlias = int
"""Where float32 numbers begin, see `address`."""

# Sums may be reordered, and products added without a rounding between; infinity and NaN stay.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc"},
}
_EXACTLY: dict[str, Any] = {**_OPTIONS, "fastmath": False}
_NUMBERS = (np.float32, np.float64)
_MADE_OF: dict[str, tuple[Any, ...]] = {
    "In": _NUMBERS, "Out": _NUMBERS, "Wide": (np.float64,), "Single": (np.float32,),
    "InSingle": (np.float32,), "Table": (np.int64,), "Bytes": (np.uint8,), "OutBytes": (np.uint8,),
}  # fmt: skip
_compiling = RLock()
told: list[str] = []
"""What this process has said of compiling."""
every: list[Kernel] = []
"""All kernels whose modules have been imported."""


class Kernel:
    """A function that is compiled for the dtype of its first array when it is first called."""

    divided = False  # whether its entry is given, behind what it has itself, who divides its range

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function, self.options = function, options
        self.by_dtype: dict[str, Callable[..., Any]] = {}
        self.__doc__ = function.__doc__
        every.append(self)

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """What the first array may be made of."""
        function = self.function
        return _MADE_OF[function.__annotations__[function.__code__.co_varnames[0]]]

    def __call__(self, first: Array, *rest: Any) -> Any:
        return (self.by_dtype.get(first.dtype.char) or self.compile(first.dtype))(first, *rest)

    def compile(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        """The machine code for a dtype, from disk if it is there."""
        with _compiling:
            if dtype.char not in self.by_dtype:
                self.by_dtype[dtype.char] = self._compiled(np.dtype(dtype.char))
            return self.by_dtype[dtype.char]

    def _compiled(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        source = self.function.__code__.co_filename
        name = f"{Path(source).parent.name}.{self.function.__qualname__}.{dtype.name}"
        folder = code.folder(source, *_EVERYWHERE)
        found = code.kept(folder / name) if folder is not None else None
        loaded = code.load(found) if found is not None else None
        if loaded is not None:
            return loaded
        keeps = folder is not None and code.writable(folder)
        how = "once for this machine (python -m funcnn.compile does it ahead)"
        tell(how if keeps else FOR_NOW)
        made = _translation.translated(self.function, dtype, name, self.options, self.divided)
        if folder is not None and keeps:
            code.keep(made, folder / name)
        return code.load(made) or self._by_numba(dtype)

    def _by_numba(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        run = numba.njit(_translation.signature(self.function, dtype), **self.options)(self.function)

        def alone(*given: Any) -> Any:
            flat = [one.reshape(-1) if isinstance(one, np.ndarray) else one for one in given]
            return run(*(flat[:-2] if self.divided else flat))

        return alone


FOR_NOW = "for this process alone: no folder can keep them (NUMBA_CACHE_DIR names one)"
_EVERYWHERE = [  # what the machine code of every kernel may be made of, beside its own file
    str(Path(__file__).parent.parent / f"{name}.py")
    for name in (
        "numerics/jit", "numerics/translation", "numerics/linking", "numerics/vectors",
        "numerics/rounded", "numerics/handover", "numerics/packing", "numerics/panels",
        "numerics/singles", "numerics/numbers", "numerics/halving", "numerics/_elementary",
        "random/quantiles", "_kernels/scalars", "_kernels/tiles", "_kernels/attention/compiled",
    )
]  # fmt: skip


def kernel(function: Callable[..., None]) -> Kernel:
    """Compile a function of flat arrays when it is first called; it must not raise anything."""
    return Kernel(function, _OPTIONS)


def exact(function: Callable[..., None]) -> Kernel:
    """The same, each operation rounded as it stands, as portable mode asks."""
    return Kernel(function, _EXACTLY)


class Later:
    """A module that is imported when it is first asked for something."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, word: str) -> Any:
        return getattr(import_module(self._name), word)


numba: Any = Later("numba")
_linking: Any = Later("funcnn.numerics.linking")
_translation: Any = Later("funcnn.numerics.translation")


class Inlined:
    """What kernels may call, made when Numba first asks for it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    @cached_property
    def made(self) -> Any:
        return self.make()

    @property
    def _numba_type_(self) -> Any:
        made, context = self.made, numba.core.registry.cpu_target.typing_context
        context.refresh()  # it may have been made while another was compiled
        return context.resolve_value_type(made)


def inlined(function: Callable[..., Any], **others: Any) -> Any:
    """Let kernels of the same file call a function; `others` are options of Numba's."""
    options = {**_OPTIONS, **others}
    return Inlined(lambda: numba.njit(**options, pipeline_class=_linking.Parts)(function))


def inlined_exactly(function: Callable[..., Any]) -> Any:
    """The same, each operation rounded as it stands."""
    return inlined(function, **_EXACTLY, forceinline=True)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Let kernels call what builds a piece of code: `numba.extending.intrinsic`, of literal numbers."""
    return Inlined(lambda: numba.extending.intrinsic(prefer_literal=True)(function))


def tell(text: str) -> None:
    """Say once in a process that kernels are compiled, which takes seconds."""
    if text not in told:
        told.append(text)
        print(f"funcnn: compiling kernels, {text}", file=sys.stderr)
