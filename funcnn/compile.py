"""Compile all kernels ahead: ``python -m funcnn.compile``.

Kernels compile when they first run, and are kept on disk. This compiles them all, for float32 and
float64, so that no training run waits for it: on an image of a machine, or before many processes start.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from funcnn import numerics

__all__ = ["compile_kernels"]

ROOT = Path(__file__).parent


def compile_kernels() -> str:
    """Compile every kernel that has a compiled form, for both dtypes; what is on disk is only loaded.

    Returns
    -------
    str
        A line that says how many there are.

    Raises
    ------
    ValueError
        Without Numba, which the extra ``fast`` installs.

    Examples
    --------
    >>> from funcnn.compile import compile_kernels
    >>> compile_kernels()  # doctest: +SKIP
    '10 kernels for znver4, in 21.0 s'
    """
    began = time.perf_counter()
    with numerics.compiled("require"):
        for path in sorted(ROOT.rglob("*compiled.py")):
            import_module(".".join(("funcnn", *path.relative_to(ROOT).with_suffix("").parts)))
        from funcnn.numerics import jit

        for kernel in jit.every:
            for dtype in kernel.dtypes:
                kernel.compile(np.dtype(dtype))
    seconds = time.perf_counter() - began
    return f"{len(jit.every)} kernels for {jit.processor()}, in {seconds:.1f} s"


if __name__ == "__main__":
    try:
        print(compile_kernels())
    except ValueError as refusal:
        sys.exit(str(refusal))
