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

    def choosing(kernel: Callable[P, R]) -> Callable[P, R]:
        @cache
        def twin(mode: str, use: str, fault: str | None) -> Any:
            module = modules[mode]
            if module and (fault is None or (use == "require" and compiling())):  # which refuses
                return getattr(import_module(module), kernel.__name__)
            return None

        @wraps(kernel)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            use = chosen()
            if use != "off" and (compiled := twin(modes.arithmetic().word, use, numba_fault())):
                found: R = compiled(*args, **kwargs)
                if found is not NotImplemented:
                    return found
            return kernel(*args, **kwargs)

        return run

    return choosing
