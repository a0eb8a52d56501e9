"""Where the time of a training step goes, on one thread: products of matrices, copies, the rest."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import Counter
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
    "_fast": "sums",
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
    if (file, function) == ("_fast", "matmul"):
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


def _flops(step: Any) -> int:
    """Multiplications and additions of all products of one step."""
    found = 0
    multiply = _fast.matmul

    def counted(a: Any, b: Any, out: Any = None) -> Any:
        nonlocal found
        product = multiply(a, b, out)
        found += 2 * np.size(product) * a.shape[-1]
        return product

    with mock.patch.object(_fast, "matmul", counted):
        step()
    return found
