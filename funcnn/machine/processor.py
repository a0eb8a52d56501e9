"""What the bits of fast arithmetic depend on: the processor's vector units, and the kernels of BLAS."""

from __future__ import annotations

import platform
from importlib import import_module
from typing import Any


def vector_units() -> list[str]:
    """Those that NumPy uses beyond what it takes for granted."""
    core = _core()
    return [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]


def ends_at_avx2() -> bool:
    """Whether the widest vectors are those of AVX2."""
    has = _core().__cpu_features__
    return bool(has.get("AVX2")) and not has.get("AVX512F") and not has.get("AVX512_SKX")


def _core() -> Any:
    """Where NumPy says what a processor can do."""
    return import_module("numpy._core._multiarray_umath")


def blas_libraries() -> list[dict[str, Any]]:
    """What threadpoolctl knows of each BLAS in this process."""
    from threadpoolctl import threadpool_info  # deferred: it looks at every library

    return [found for found in threadpool_info() if found["user_api"] == "blas"]


def blas_name(blas: dict[str, Any]) -> str:
    """A BLAS, its version and its kernels."""
    kernels = blas.get("architecture") or "its own"
    return f"{blas['internal_api']} {blas['version']}, {kernels} kernels"


def arithmetic() -> str:
    """The same text for two machines whose fast arithmetic is the same."""
    names = sorted({blas_name(blas) for blas in blas_libraries()})
    return "; ".join([f"{platform.machine()} {' '.join(vector_units())}", *names])
