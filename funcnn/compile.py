"""Compile all kernels ahead: ``python -m funcnn.compile``.

Kernels compile when they first run, and are kept on disk. This compiles them all, for float32 and
float64, so that no training run waits for it: on an image of a machine, or before many processes start.
As a command it starts a process for each processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from funcnn import checks, numerics
from funcnn.machine.threads import processors

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
        Without Numba, which the extra ``fast`` installs, or where nothing can be kept on disk.

    Examples
    --------
    >>> from funcnn.compile import compile_kernels
    >>> compile_kernels()  # doctest: +SKIP
    '10 kernels for znver4, in 21.0 s'
    """
    return _compile(0, 1)


_MOST = 8  # processes: the last kernels take as long as all others together


def _compile(first: int, step: int) -> str:
    """All of them, each `step`-th before the others, which other processes may have made by then."""
    began, parent = time.perf_counter(), os.getppid()
    with numerics.compiled("require"):
        for path in sorted(ROOT.rglob("*compiled.py")):
            import_module(".".join(("funcnn", *path.relative_to(ROOT).with_suffix("").parts)))
        from funcnn.numerics import jit

        pairs = [(kernel, dtype) for kernel in jit.every for dtype in kernel.dtypes]
        for start in range(step):
            for kernel, dtype in pairs[(first + start) % step :: step]:
                if first and os.getppid() != parent:  # which was killed: nobody waits
                    sys.exit()
                kernel.compile(np.dtype(dtype))
                if jit.FOR_NOW in jit.told:
                    checks.refuse("`NUMBA_CACHE_DIR` must name a folder that can keep kernels")
    seconds = time.perf_counter() - began
    return f"{len(jit.every)} kernels for {jit.processor()}, in {seconds:.1f} s"


def _together() -> str:
    """In several processes; this one goes through what all of them have made."""
    count = min(processors(), _MOST)
    command, silent = [sys.executable, "-m", "funcnn.compile", "--part"], subprocess.DEVNULL
    with numerics.compiled("require"):  # there is none to start otherwise
        others = [
            subprocess.Popen([*command, str(first), str(count)], stdout=silent, stderr=silent)
            for first in range(1, count)
        ]
    try:
        return _compile(0, count)
    finally:
        for other in others:
            other.kill()
            other.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        "python -m funcnn.compile", description="Compile all kernels ahead."
    )
    parser.add_argument("--part", type=int, nargs=2, help=argparse.SUPPRESS)  # what others start with
    part = parser.parse_args().part
    try:
        print(_compile(*part) if part else _together())
    except ValueError as refusal:
        sys.exit(str(refusal))
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell's
