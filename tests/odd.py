"""Odd arguments, for every public function of a module: each works, or is refused in one line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from funcnn.checks import Refusal

# Nothing among them asks for more memory than a test may take, but for what nobody has.
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 3, 2**63, 2**64, 10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e300, -1e300,
    math.nan, math.inf, -math.inf, "x", "", "a" * 5000, list(range(5000)), (), (3,), (0,), (-1,),
    (3.0,), (True,), (2**40, 2**40), (10**20,), (1,) * 70, [3], range(3), {}, {"a": 1},
    np.int64(3), np.int8(3), np.uint64(2**63), np.float32(0.5), np.float64(math.nan), np.array(3),
    np.array([3, 2]), np.zeros((2, 0)), np.array(["a"]), np.array([None]), "int8",
    np.dtype(np.float16),
)  # fmt: skip


def calls(
    module: Any, usual: Mapping[str, Any], use: Callable[[Any], object]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each function with one argument that is odd, and what is done with what it returns."""
    for name in module.__all__:
        function = getattr(module, name)
        if inspect.isclass(function) or not callable(function):
            continue
        parameters = inspect.signature(function).parameters.values()
        base = {p.name: usual.get(p.name, p.default) for p in parameters}
        assert inspect.Parameter.empty not in base.values(), f"{name}: say what is usual"
        use(function(**base))  # the others are right
        for changed in base:
            for value in VALUES:
                call: Any = lambda f=function, b=base, c=changed, v=value: use(f(**{**b, c: v}))  # noqa: E731
                yield f"{name}({changed}={value!r:.40})", call


def refused_in_one_line(what: str, call: Callable[[], object]) -> None:
    """Whether a call works, or says in one line what is wrong."""
    try:
        call()
    except Refusal as refusal:
        text = str(refusal)
        assert len(text) < 300, f"{what}: {text}"
        assert "\n" not in text, f"{what}: {text}"
        assert ": " in text, f"{what}: {text}"
