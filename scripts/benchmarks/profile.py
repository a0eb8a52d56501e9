"""Where the time of a training step goes, on one thread: products of matrices, copies, the rest."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import of_funcnn
from benchmarks.cases import Case
from benchmarks.turns import Row
from funcnn.machine.blas import on_one_blas_thread
from funcnn.numerics import _fast

PARTS = ("products", "columns", "pools", "sums", "rest")
_OF_FILE = {
    "overlapping": "columns",
    "flat": "columns",
    "separable": "pools",
    "tiles": "sums",
}


def profile_row(case: Case, seconds: float) -> Row:
    """Milliseconds of a step, the share of each part, and how fast the products are.

    The shares are those of a profiled step, which takes longer: each call of a function costs more.
    """
    step = of_funcnn.build(case, "one thread")
    step()
    flops = _flops(step)
    plain = _repeat(step, seconds)
    profile = cProfile.Profile()
    with _products_by(multiply):
        profile.enable()
        profiled = _repeat(step, seconds)
        profile.disable()
    spent: Counter[str] = Counter()
    stats: dict[tuple[str, int, str], Any] = vars(pstats.Stats(profile))["stats"]
    for (file, _, function), (_, _, own, *_) in stats.items():
        spent[_part(Path(file).stem, function)] += own
    total = sum(spent.values())
    rate = flops * seconds / profiled / spent["products"] / 1e9
    shares = {part: spent[part] / total for part in PARTS}
    return {"name": case.name, "seconds": plain, "gflops": rate, **shares}


def rate(size: int) -> float:
    """The GFLOP/s of one thread that multiplies two square matrices: what the products aim at."""
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    seconds = on_one_blas_thread(lambda: _repeat(lambda: np.matmul(a, a), 0.5))
    return 2e-9 * size**3 / seconds


def torch_rate(size: int) -> float | None:
    """PyTorch's, if it is there. It changes this process: to be asked for last."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    a = torch.randn(size, size)
    return 2e-9 * size**3 / _repeat(lambda: torch.mm(a, a), 0.5)


def _part(file: str, function: str) -> str:
    if (file, function) == ("profile", "multiply"):
        return "products"
    if "'reduce'" in function:
        return "sums"
    return _OF_FILE.get(file, "rest")


def _repeat(step: Any, seconds: float) -> float:
    """Seconds a call."""
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        calls += 1
    return (time.perf_counter() - began) / calls


def multiply(a: Any, b: Any, out: Any = None) -> Any:
    """NumPy's product, as a function that a profile shows."""
    return _MATMUL(a, b, out)


_MATMUL = np.matmul


@contextmanager
def _products_by(function: Any) -> Iterator[None]:
    """Products of matrices by another function."""
    with mock.patch.object(_fast, "matmul", function), mock.patch.object(np, "matmul", function):
        yield


def _flops(step: Any) -> int:
    """Multiplications and additions of all products of one step."""
    found = 0

    def counted(a: Any, b: Any, out: Any = None) -> Any:
        nonlocal found
        product = multiply(a, b, out)
        found += 2 * np.size(product) * a.shape[-1]
        return product

    with _products_by(counted):
        step()
    return found
