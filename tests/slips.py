"""Catch, in the act, arithmetic whose bits could differ and that is not called through numerics.

Two nets. While `caught` holds, NumPy's and `math`'s own functions refuse every caller but the
modules of `funcnn.numerics`, and fast mode refuses everyone. And inputs are `Watched`: arrays that
pass this on to whatever is computed from them, and refuse ``@``, ``.sum()`` and the like, which no
one can replace on ordinary arrays. (What is left, methods of arrays that were made on the way, is
seen by the walk through the code in `tests.test_rooms`.)
"""

from __future__ import annotations

import builtins
import functools
import inspect
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from funcnn import checks, numerics
from funcnn.checkpoints import _trees
from funcnn.numerics import _fast, _portable
from funcnn.numerics.modes import Arithmetic
from funcnn.types import Array
from tests.test_rooms import MATH, NUMPY, REDUCTIONS

_MODULES = {"linalg", "fft", "polynomial", "random"}  # not functions themselves
_FUNCTIONS = {name for name in NUMPY - _MODULES if hasattr(np, name)}
_LINALG = {name for name in dir(np.linalg) if callable(getattr(np.linalg, name)) and name.islower()}
_MAKING = """
    array asarray ascontiguousarray empty empty_like zeros zeros_like ones ones_like full full_like
    arange concatenate stack where take broadcast_to
"""
_MAKERS = set(_MAKING.split())
_inside = threading.local()


class Slip(AssertionError):
    """Arithmetic that did not go through numerics."""


def _slip(what: str) -> None:
    if not getattr(_inside, "numerics", False):
        raise Slip(f"{what} is not called through numerics")


class Watched(np.ndarray[Any, Any]):
    """An array that refuses arithmetic whose bits could differ; so does all that comes from it."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        name = ufunc.__name__
        square = name == "power" and np.ndim(inputs[1]) == 0 and inputs[1] == 2
        if name in _FUNCTIONS and not square:
            _slip(name)
        whole = all(np.asarray(x).dtype.kind in "biu" for x in inputs[:1])
        if method in ("reduce", "reduceat") and name in REDUCTIONS and not whole:
            _slip(f"{name}.{method}")
        if out is not None:
            options["out"] = tuple(map(plain, out))
        result = getattr(ufunc, method)(*map(plain, inputs), **options)
        return result if out is None and result is None else watched(result if out is None else out[0])

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func.__name__ in _FUNCTIONS or "linalg" in func.__module__:
            _slip(func.__name__)
        return super().__array_function__(func, types, args, kwargs)

    def dot(self, *others: Any, **options: Any) -> Any:
        _slip(".dot()")
        return super().dot(*others, **options)

    def trace(self, *args: Any, **options: Any) -> Any:
        _slip(".trace()")
        return super().trace(*args, **options)


def plain(x: Any) -> Any:
    """The same data, unwatched."""
    return x.view(np.ndarray) if isinstance(x, Watched) else x


def watched(x: Any) -> Any:
    """The same data, watched: for arrays, and trees of them."""
    if isinstance(x, dict):
        return {name: watched(part) for name, part in x.items()}
    if type(x) in (tuple, list):
        return type(x)(map(watched, x))
    return x.view(Watched) if type(x) is np.ndarray else x


def _guarded(name: str, function: Any) -> Any:
    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> Any:
        _slip(name)
        return function(*args, **options)

    return guarded


def _watching(function: Any) -> Any:
    """A function that makes arrays: outside of numerics they are watched."""

    @functools.wraps(function)
    def made(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        return result if getattr(_inside, "numerics", False) else watched(result)

    return made


def _admitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A portable function, inside which NumPy's own are allowed; what it gives is watched."""

    @functools.wraps(function)
    def admitted(*args: Any, **options: Any) -> Any:
        before, _inside.numerics = getattr(_inside, "numerics", False), True
        try:
            result = function(*map(plain, args), **{k: plain(v) for k, v in options.items()})
        finally:
            _inside.numerics = before
        out = options.get("out", args[2] if function.__name__ == "matmul" and len(args) > 2 else None)
        return watched(result) if out is None else out

    return admitted


class _Reducing:
    """A ufunc whose sums refuse."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._ufunc = ufunc

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._ufunc(*args, **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._ufunc, name)
        return _guarded(f"{self._ufunc.__name__}.{name}", found) if "reduce" in name else found


def _plain_sum(*args: Any, **options: Any) -> Any:
    """Python's own `sum`, which adds floats with a correction since Python 3.12, and without before."""
    total = _SUM(*args, **options)
    if isinstance(total, (float, np.floating)):
        _slip("sum() of floats")
    return total


_SUM = sum


def _guards(owner: Any, who: str, names: Iterable[str]) -> dict[str, Any]:
    return {name: _guarded(f"{who}{name}", getattr(owner, name)) for name in names}


def _array(x: object, name: str = "x") -> Array:
    """`checks.array`, to which a watched array is as good as a plain one."""
    return x if isinstance(x, Watched) else _plain_array(x, name)


def _leaf(name: str, leaf: Any) -> Array:
    """What a file keeps: a watched array as a plain one."""
    return _plain_leaf(name, plain(leaf))


_plain_array, _plain_leaf = checks.array, _trees._plain


@contextmanager
def caught() -> Iterator[None]:
    """Portable mode, in which whatever slips past it raises `Slip`."""
    with numerics.portable():  # tries the machine, once, by NumPy's functions
        pass
    functions = {name for name in vars(Arithmetic) if not name.startswith("_")}
    arithmetic = functions - {"prepare", "stacked_matmul", "summed_matmul"}  # its parts are guarded
    replaced: list[tuple[Any, dict[str, Any]]] = [
        (_portable, {name: _admitted(getattr(_portable, name)) for name in functions}),
        (_fast, _guards(_fast, "fast ", arithmetic)),
        (np, _guards(np, "np.", _FUNCTIONS)),
        (np, {name: _Reducing(getattr(np, name)) for name in REDUCTIONS - _FUNCTIONS}),
        (np.linalg, _guards(np.linalg, "np.linalg.", _LINALG)),
        (math, _guards(math, "math.", MATH & set(dir(math)))),
        (np, {name: _watching(getattr(np, name)) for name in _MAKERS}),
        (builtins, {"sum": _plain_sum}),
        (numerics, {name: _watching(getattr(numerics, name)) for name in ("mean", "softplus")}),
    ]
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "funcnn"]
    checking = [module for module in ours if vars(module).get("array") is _plain_array]
    replaced += [(module, {"array": _array}) for module in checking]
    replaced.append((_trees, {"_plain": _leaf}))
    with ExitStack() as stack:
        stack.callback(_forget)  # what was made in here is watched
        for owner, attributes in replaced:
            stack.enter_context(mock.patch.multiple(owner, **attributes))
        stack.enter_context(numerics.portable())
        yield


def _forget() -> None:
    """Empty the caches of the library that hold arrays."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "funcnn":
            for function in list(vars(module).values()):
                if isinstance(function, functools._lru_cache_wrapper) and _gives_arrays(function):
                    function.cache_clear()


def _gives_arrays(function: Any) -> bool:
    return "Array" in str(inspect.signature(function).return_annotation)
