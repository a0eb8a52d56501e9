"""Numba, behind one decorator. Nobody imports this but compiled kernels.

A `kernel` is a function of flat arrays and numbers; the names of its annotations say what each is. It
is compiled for a dtype when it first runs, and kept on disk in the user's cache folder: under the
processor, what the source says, and the dtype, so that no two processes ever write different things
to the same file. Where this folder cannot be written, kernels are compiled anew in each process.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any, TypeAlias

import llvmlite.binding
import numba
import numpy as np
from numba.core import types

from funcnn.types import Array

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

# Sums may be reordered, and products added without a rounding between; infinity and NaN stay.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc"},
}
_compiling = RLock()
_told: list[str] = []
every: list[Kernel] = []
"""All kernels whose modules have been imported."""


class Kernel:
    """A function that is compiled for the dtype of its first array when it is first called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.by_dtype: dict[str, Callable[..., Any]] = {}
        self.__doc__ = function.__doc__
        every.append(self)

    def __call__(self, first: Array, *rest: Any) -> Any:
        return (self.by_dtype.get(first.dtype.char) or self.compile(first.dtype))(first, *rest)

    def compile(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        """The machine code for a dtype, from disk if it is there."""
        with _compiling:
            if dtype.char not in self.by_dtype:
                self.by_dtype[dtype.char] = self._compiled(np.dtype(dtype.char))
            return self.by_dtype[dtype.char]

    def _compiled(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        folder = _folder(self.function.__code__.co_filename, dtype.name)
        name = f"{Path(self.function.__code__.co_filename).stem}.{self.function.__qualname__}-"
        if folder is None:
            tell("for this process alone: NUMBA_CACHE_DIR names a folder to keep them in")
        elif not any(path.name.startswith(name) for path in folder.glob("*/*.nbc")):
            tell("once for this machine (python -m funcnn.compile does it ahead)")
        before = numba.config.CACHE_DIR
        if folder is not None:
            numba.config.CACHE_DIR = str(folder)
        try:
            code = numba.njit(_signature(self.function, dtype), cache=folder is not None, **_OPTIONS)
            found: Callable[..., Any] = code(self.function)
        except numba.core.errors.NumbaError as problem:
            words = str(problem).strip().splitlines()[0]
            raise RuntimeError(
                f"Numba {numba.__version__} cannot compile funcnn's kernel {name[:-1]} ({words}): "
                "set FUNCNN_COMPILED=off to run without"
            ) from problem
        finally:
            numba.config.CACHE_DIR = before
        return found


def kernel(function: Callable[..., None]) -> Kernel:
    """Compile a function of flat arrays when it is first called."""
    return Kernel(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Let kernels of the same file call a function."""
    return numba.njit(**_OPTIONS)(function)


def ordered(function: Callable[..., Any]) -> Any:
    """The same, for numbers that are ordered: with NaN among them, it may return any number."""
    return numba.njit(**{**_OPTIONS, "fastmath": {"nnan", "nsz", "reassoc"}})(function)


def _signature(function: Callable[..., Any], dtype: np.dtype[Any]) -> Any:
    number = numba.from_dtype(dtype)
    by_name = {
        "In": types.Array(number, 1, "C", readonly=True),
        "Out": types.Array(number, 1, "C"),
        "Table": types.Array(types.int64, 1, "C", readonly=True),
        "Bytes": types.Array(types.uint8, 1, "C", readonly=True),
        "OutBytes": types.Array(types.uint8, 1, "C"),
        "int": types.int64,
        "float": number,
    }
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    return types.void(*(by_name[function.__annotations__[name]] for name in names))


def processor() -> str:
    """What the machine code is for, such as ``znver4``."""
    return str(numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name())


@cache
def width() -> int:
    """Bytes of the widest register that holds several numbers."""
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


@cache
def _folder(source: str, dtype: str) -> Path | None:
    """Where the machine code of a file's kernels is kept for a dtype; None where nothing can be."""
    try:
        home = Path(numba.config.CACHE_DIR or _user_cache()) / "funcnn"
        found = home / processor() / _digest(source) / dtype
        found.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=found).close()
    except (OSError, RuntimeError):  # nobody may write there, or nobody is at home
        return None
    return found


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _digest(source: str) -> str:
    """What the machine code is made of: the kernels' file, and what it may use of those beside this."""
    others = (Path(__file__).with_name(name) for name in ("tiles.py", "scalars.py"))
    sources = [source, __file__, *map(str, others)]
    text = b"".join(Path(path).read_bytes() for path in sources)
    return hashlib.sha256(text + numba.__version__.encode()).hexdigest()[:16]


def tell(text: str) -> None:
    """Say once in a process that kernels are compiled, which takes seconds."""
    if text not in _told:
        _told.append(text)
        print(f"funcnn: compiling kernels, {text}", file=sys.stderr)
