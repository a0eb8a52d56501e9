"""Machine code: what makes it, for which processor, where it is kept, and how Python calls it.

llvmlite loads it. Numba, which makes it, takes ten times as long to start: so a process whose code is
all on disk does without. What is on disk is for these versions, this processor and these sources
alone, and whole: so no two processes ever write different things to one file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_FASTCALL = 0x0080  # METH_FASTCALL of Python's methodobject.h
_PYTHON = (
    "PyErr_BadArgument", "PyErr_NoMemory", "PyErr_Occurred", "PyEval_RestoreThread",
    "PyEval_SaveThread", "PyFloat_AsDouble", "PyLong_AsLongLong", "PyLong_FromLongLong",
    "PyMem_RawFree", "PyMem_RawMalloc", "PyType_IsSubtype",
)  # fmt: skip
_CHECK = hashlib.sha256().digest_size


def numba_version() -> str | None:
    """The version of Numba that is installed, of which nothing is imported; None: there is none."""
    text = _about("numba").decode(errors="replace")
    found = re.search(r"['\"]version['\"]: *['\"]([^'\"]+)", text)
    if found:
        return found[1]
    if find_spec("numba") is None:
        return None
    from importlib.metadata import version

    return version("numba")


def _about(package: str) -> bytes:
    """The file in which a package says its version."""
    spec = find_spec(package)
    try:
        return Path(spec.origin or "").with_name("_version.py").read_bytes() if spec else b""
    except OSError:
        return b""


def _home() -> Path:
    """Where code is kept, for these versions of all that makes or calls it, and what Numba was told."""
    told = sorted(pair for pair in os.environ.items() if pair[0].startswith("NUMBA_"))
    told = [pair for pair in told if pair[0] != "NUMBA_CACHE_DIR"]
    parts = [sys.version, np.__version__, numba_version(), _about("numba"), _about("llvmlite"), told]
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or _user_cache())
    return base / "funcnn" / _digest(repr(parts).encode())


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


@cache
def folder(*sources: str) -> Path | None:
    """Where code that is made of these files is kept; None where nobody is at home."""
    try:
        text = b"".join(Path(path).read_bytes() for path in sources)
        return _home() / processor() / _digest(text + features().encode())
    except (OSError, RuntimeError):
        return None


def worked() -> bool:
    """Whether Numba has been imported on this machine before, in just these versions."""
    try:
        return (_home() / "works").exists()
    except (OSError, RuntimeError):
        return False


def works() -> None:
    """Remember that it was, if this can be written down."""
    try:
        home = _home()
        home.mkdir(parents=True, exist_ok=True)
        (home / "works").touch()
    except (OSError, RuntimeError):
        pass


def writable(place: Path) -> bool:
    """Whether files can be written to a folder, which is made if there is none."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        return False
    return True


def keep(code: bytes, path: Path) -> None:
    """Write a file whole, or not at all."""
    try:
        part = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
        part.write_bytes(_sum(code, path) + code)
        part.replace(path)
    except OSError:  # the disk is full, or another process reads it, where that forbids it
        pass


def kept(path: Path) -> bytes | None:
    """What a file holds; None: there is none, it is not whole, or it is another kernel's."""
    try:
        found = path.read_bytes()
    except OSError:
        return None
    code = found[_CHECK:]
    return code if _sum(code, path) == found[:_CHECK] else None


def _sum(code: bytes, path: Path) -> bytes:
    """Of a file, so that it stands for what its name says."""
    return hashlib.sha256(path.name.encode() + b"\n" + code).digest()


# --- with llvmlite ----------------------------------------------------------------------------------


def _binding() -> Any:
    import llvmlite.binding  # deferred: it takes 60 ms

    return llvmlite.binding


@cache
def processor() -> str:
    """What the code is for, such as ``znver4``."""
    return str(os.environ.get("NUMBA_CPU_NAME") or _binding().get_host_cpu_name())


@cache
def features() -> str:
    """What this processor has, beyond its name."""
    return str(_binding().get_host_cpu_features().flatten())


@cache
def width() -> int:
    """Bytes of the widest register that holds several numbers."""
    found = _binding().get_host_cpu_features()
    return 64 if found.get("avx512f") else 32 if found.get("avx") else 16


@cache
def _engine() -> Any:
    binding = _binding()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    for name in _PYTHON:
        function = getattr(ctypes.pythonapi, name)
        binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    machine = binding.Target.from_default_triple().create_target_machine(jit=True)
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


class _Method(ctypes.Structure):
    """Python's ``PyMethodDef``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def load(code: bytes) -> Callable[..., Any] | None:
    """The function of some code; None where the process lacks what it refers to.

    Its first line is its name, the second what it refers to.
    """
    name, needed, machine_code = code.split(b"\n", 2)
    engine, binding = _engine(), _binding()
    if not all(binding.address_of_symbol(one.decode()) for one in needed.split()):
        return None
    engine.add_object_file(binding.ObjectFileRef.from_data(machine_code))
    engine.finalize_object()
    method = _Method(name, engine.get_function_address(name.decode()), _FASTCALL, None)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(method))  # the function points to it to its last moment
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.argtypes, make.restype = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p), ctypes.py_object
    found: Callable[..., Any] = make(ctypes.byref(method), np.ndarray, None)
    return found
