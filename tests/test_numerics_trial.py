"""The trial of the machine: it names each planted fault, and accuses nothing else."""

from __future__ import annotations

import operator
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import numerics
from funcnn.machine import trial
from funcnn.numerics import modes
from funcnn.testing import environments
from funcnn.types import Array
from tests.elsewhere import environment

TRY = "from funcnn import numerics; print(numerics.faults())"


def faults() -> list[str]:
    rounding, products = numerics.faults()
    return rounding + products


def test_this_machine_is_right() -> None:
    assert faults() == []


@pytest.mark.slow
def test_no_setting_of_this_machine_is_accused() -> None:
    for name, setting in environments().items():
        done = subprocess.run(
            [sys.executable, "-c", TRY], env=environment(**setting), capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout.strip() == "([], [])", name


def _off_by_one(function: Any, dtype: Any, share: int) -> Callable[..., Any]:
    """A function of one or two arrays that errs by a unit in the last place now and then."""

    def erring(*args: Any, **options: Any) -> Any:
        found = np.asarray(function(*args, **options))
        if found.dtype != dtype or found.ndim == 0:
            return found
        flat = found.reshape(-1).copy()
        flat[::share] = np.nextafter(flat[::share], dtype(np.inf))
        return flat.reshape(found.shape)

    return erring


@pytest.mark.parametrize("share", [1, 20, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sqrt", "divide", "reciprocal"])
def test_a_function_that_is_not_rounded_correctly(
    name: str, dtype: Any, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, name, _off_by_one(getattr(np, name), dtype, share))
    words = {"sqrt": "roots", "divide": "quotients", "reciprocal": "reciprocals"}
    wrong = f"{dtype.__name__} {words[name]} are not rounded correctly"
    assert wrong in faults()
    assert len(faults()) == 1 + (name == "divide")  # reciprocals are compared with quotients


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf, -1.0])
def test_a_root_that_is_none(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "sqrt", lambda x: np.full_like(x, wrong))
    assert [fault for fault in faults() if "roots" in fault] == faults() != []


def _flushing(function: Any, dtype: Any, operands: bool) -> Callable[..., Any]:
    least = np.finfo(dtype).smallest_normal

    def flush(x: Any) -> Any:
        x = np.asarray(x)
        return np.where(np.abs(x) < least, dtype(0), x) if x.dtype == dtype else x

    def flushing(*args: Any) -> Any:
        return function(*map(flush, args)) if operands else flush(function(*args))

    return flushing


@pytest.mark.parametrize("operands", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subnormal_numbers_that_are_flushed(
    dtype: Any, operands: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("multiply", "add"):
        monkeypatch.setattr(np, name, _flushing(getattr(np, name), dtype, operands))
    assert faults() == [f"{dtype.__name__} flushes subnormal numbers to zero"]


class TwiceRounded(float):
    """A float whose sums are rounded to 64 binary digits first, as on the x87."""

    def __add__(self, other: float) -> float:
        exact = Fraction(float(self)) + Fraction(other)
        unit = Fraction(2) ** -63
        return float(round(exact / unit) * unit)


def test_sums_that_are_rounded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial._rounds_twice(TwiceRounded)
    assert not trial._rounds_twice(float)
    monkeypatch.setattr("math.fsum", partial(reduce, operator.add))  # `sum` corrects itself
    assert faults() == ["Python's floats are rounded twice"]


class TwiceRoundedArray(np.ndarray[Any, Any]):
    """An array whose sums are rounded to 64 binary digits first."""

    def __add__(self, other: Any) -> Any:
        return np.array(
            [TwiceRounded(x) + y for x, y in zip(self.tolist(), other.tolist(), strict=True)]
        )


def test_sums_of_arrays_that_are_rounded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    full = np.full
    twice = lambda shape, x, *rest: full(shape, x, *rest).view(TwiceRoundedArray)  # noqa: E731
    monkeypatch.setattr(np, "full", twice)
    assert faults() == ["NumPy's float64 is rounded twice"]


def _wrong_products(dtype: Any, wanted: Callable[[Array, Array], bool]) -> Callable[..., Any]:
    multiply = np.matmul

    def matmul(a: Any, b: Any, *rest: Any, **options: Any) -> Any:
        found = np.asarray(multiply(a, b, *rest, **options))
        if found.dtype == dtype and wanted(a, b):
            found = found.copy()
            found[..., -1, -1] += 1
        return found

    return matmul


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 19, 33, 70])  # squares are multiplied by their transposes, too
def test_products_that_are_wrong(dtype: Any, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    few = _wrong_products(dtype, lambda a, b: a.ndim == 2 and len(a) == rows and b.shape[1] != rows)
    monkeypatch.setattr(np, "matmul", few)
    assert faults() == [f"{dtype.__name__} products by matmul are wrong"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_with_the_transpose_that_are_wrong(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a BLAS that computes half of them, and the other half by a fault."""
    monkeypatch.setattr(np, "matmul", _wrong_products(dtype, np.may_share_memory))
    name = dtype.__name__
    assert faults() == [f"{name} products by matmul of a matrix and its transpose are wrong"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["vecdot", "einsum"])
def test_products_of_vectors_that_are_wrong(
    name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = getattr(np, name)

    def wrong(*args: Any) -> Any:
        found = true(*args)
        return found + (found.dtype == dtype)

    monkeypatch.setattr(np, name, wrong)
    assert faults() == [f"{dtype.__name__} products by {name} are wrong"]


@pytest.fixture
def untried() -> Iterator[None]:
    """Portable mode is entered for the first time, and again after the test."""
    modes._tried_portable.cache_clear()
    yield
    modes._tried_portable.cache_clear()


@pytest.mark.usefixtures("untried")
def test_portable_mode_refuses_a_machine_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    message = (
        r"^numerics: portable mode is not possible on this machine: float32 roots are not rounded "
        r"correctly$"
    )
    with monkeypatch.context() as patch:
        patch.setattr(np, "sqrt", _off_by_one(np.sqrt, np.float32, 7))
        for _ in range(2):
            with pytest.raises(ValueError, match=message), numerics.portable():
                pass
            assert numerics.mode() == "fast"
    with numerics.portable():
        assert numerics.mode() == "portable"


@pytest.mark.usefixtures("untried")
def test_the_machine_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def no_faults() -> list[str]:
        calls.append([])
        return []

    monkeypatch.setattr(trial, "rounding_faults", no_faults)
    for _ in range(3):
        with numerics.portable(), numerics.use("portable"):
            pass
    assert len(calls) == 1
    with numerics.fast():
        assert len(calls) == 1


FLUSH = """
#include <xmmintrin.h>
void flush(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or shutil.which("cc") is None,
    reason="this needs an x86-64 processor and a C compiler",
)
def test_a_processor_told_to_flush_is_named(tmp_path: Path) -> None:
    (tmp_path / "flush.c").write_text(FLUSH)
    library = tmp_path / "flush.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "flush.c"], check=True)
    code = f"import ctypes; from funcnn import numerics; ctypes.CDLL({str(library)!r}).flush()\n"
    code += "with numerics.portable(): pass"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    for name in ("float32", "float64"):
        assert f"{name} flushes subnormal numbers to zero" in done.stderr
