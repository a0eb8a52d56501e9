"""Where a kernel has a compiled twin, this is the one place that chooses between the two.

A family's `compiled` module holds functions with the names and signatures of its NumPy kernels. It is
imported, and Numba with it, when a kernel first runs compiled. A twin that is not made for what it is
given returns `NotImplemented`, and the NumPy kernel computes it. Which of them does depends on shapes
and options alone, never on values: else one example of a batch would change the bits of another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

from funcnn.numerics import modes
from funcnn.numerics.sets import chosen, compiling, numba_fault

P = ParamSpec("P")
R = TypeVar("R")


def compiled_in(
    fast: str | None = None, portable: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let the function of the same name in a module run where compiled kernels do, in either mode.

    In portable mode it must give the same bits.
    """
    modules = {"fast": fast, "portable": portable}

    @cache
    def twin(module: str, name: str) -> Any:
        return getattr(import_module(module), name)

    def choosing(kernel: Callable[P, R]) -> Callable[P, R]:
        @wraps(kernel)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            # Where there is no Numba, this enters no other frame.
            tried = chosen()
            if tried != "off" and ((fault := numba_fault()) is None or tried == "require"):
                module = modules[modes.arithmetic().word]
                if module and (fault is None or compiling()):  # which then says what is wrong
                    found: R = twin(module, kernel.__name__)(*args, **kwargs)
                    if found is not NotImplemented:
                        return found
            return kernel(*args, **kwargs)

        return run

    return choosing
