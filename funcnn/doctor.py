"""What this machine is, whether its arithmetic is right, and what is promised here.

``python -m funcnn.doctor`` prints it, with exit code 1 if something is wrong; ``funcnn.doctor()`` gives
it as a value. A report of a number that differs between two machines should come with both.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import types
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from funcnn.machine import trial
from funcnn.machine.processor import blas_libraries, blas_name, vector_units
from funcnn.machine.threads import UNSTARTED

__all__ = ["Health", "doctor", "show_config"]


class Health(NamedTuple):
    """What `doctor` finds; printed, it is a page of text.

    Examples
    --------
    >>> from funcnn.doctor import Health
    >>> Health({"byte order": "little"}, (), {"fast": "the same bits again on this machine"})
    byte order     little
    arithmetic     right
    fast mode      the same bits again on this machine
    """

    machine: Mapping[str, str]
    """The processor, its byte order, Python, NumPy, BLAS, the kernels and the threads."""
    faults: tuple[str, ...]
    """What is wrong with the machine's arithmetic; nothing where all is right."""
    promises: Mapping[str, str]
    """What each mode of `funcnn.numerics` promises here."""

    def __repr__(self) -> str:
        modes = {f"{mode} mode": promise for mode, promise in self.promises.items()}
        return _rows({**self.machine, "arithmetic": "; ".join(self.faults) or "right", **modes})


def doctor() -> Health:
    """Look at the machine: what it is, whether its arithmetic is right, what is promised here.

    Returns
    -------
    Health
        ``machine``, ``faults`` and ``promises``; printed, a page of text.

    Notes
    -----
    The arithmetic is tried as on entering portable mode, in some milliseconds: roots, quotients and
    reciprocals rounded correctly, subnormal numbers kept, sums rounded once, and products of whole
    numbers exact. A product that is wrong is a fault of the BLAS, in fast mode as well.

    Examples
    --------
    >>> import funcnn
    >>> health = funcnn.doctor()
    >>> health.faults
    ()
    >>> sorted(health.promises)
    ['fast', 'portable']
    """
    rounding, products = trial.faults()
    return Health(
        _machine(),
        (*rounding, *products),
        {"fast": _promise_of_fast(products), "portable": _promise_of_portable(rounding + products)},
    )


def show_config() -> None:
    """Print what computes here: machine, versions, which set of kernels runs, and in which mode.

    Examples
    --------
    >>> import funcnn
    >>> with funcnn.numerics.compiled("off"):
    ...     funcnn.show_config()
    processor      ...
    kernels        NumPy's (compiled ones are off)
    ...
    mode           fast
    """
    print(_rows(_machine()))


def _rows(found: Mapping[str, str]) -> str:
    return "\n".join(f"{name:<15}{text}" for name, text in found.items())


def _machine() -> dict[str, str]:
    return {
        "processor": f"{platform.machine()}, {64 if sys.maxsize > 2**32 else 32} bits",
        "vector units": " ".join(vector_units()) or "what NumPy takes for granted",
        "byte order": sys.byteorder,
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "BLAS": "; ".join(_blas()) or "not known to threadpoolctl",
        "kernels": _asked("kernels"),
        "threads": _threads(),
        "mode": _asked("mode"),
    }


def _promise_of_fast(products: list[str]) -> str:
    if products:
        return "nothing: the products of this BLAS are wrong; install another NumPy, or another BLAS"
    return "the same bits again on this machine, with this NumPy and kernels, for any number of workers"


def _promise_of_portable(faults: list[str]) -> str:
    if faults:
        return "refused, for what is wrong with the arithmetic"
    return "the same bits as on any other machine, with any NumPy and BLAS"


def _blas() -> list[str]:
    return [
        f"{blas_name(blas)}, {blas['num_threads']} thread{'s' * (blas['num_threads'] != 1)}"
        for blas in blas_libraries()
    ]


def _threads() -> str:
    """How many this process may use, and whether it can start one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    thread = threading.Thread(target=int)
    try:
        thread.start()
        thread.join()
    except UNSTARTED:
        return "none can be started: training uses one"
    return f"{count} processor{'s' * (count != 1)}"


def _asked(what: str) -> str:
    """The mode or the kernels in force; where the environment asks for what is refused, why."""
    try:
        from funcnn import numerics  # deferred: on a machine that is wrong, the import may be refused

        return str(getattr(numerics, what)())
    except ValueError as refusal:
        return f"none: {refusal}"


class _Callable(types.ModuleType):
    """This module, which is called as its function: ``import funcnn.doctor`` must not hide it."""

    def __call__(self) -> Health:
        return doctor()


if __name__ == "__main__":
    found = doctor()
    print(found)
    sys.exit(1 if found.faults else 0)
else:
    sys.modules[__name__].__class__ = _Callable
