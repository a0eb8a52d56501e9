"""The switch between fast and portable arithmetic, and what both modes share."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from funcnn import numerics
from funcnn.testing import environments
from funcnn.types import Array
from tests.elsewhere import environment

ONE_ARGUMENT = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "cos", "rsqrt"]
MODES: list[numerics.Mode] = ["fast", "portable"]


def test_fast_is_the_default() -> None:
    assert numerics.mode() == "fast"


def test_blocks_nest_and_end() -> None:
    with numerics.portable():
        assert numerics.mode() == "portable"
        with numerics.fast():
            assert numerics.mode() == "fast"
        assert numerics.mode() == "portable"
    assert numerics.mode() == "fast"


def test_a_block_ends_when_it_fails() -> None:
    with pytest.raises(KeyError), numerics.portable():
        raise KeyError
    assert numerics.mode() == "fast"


def test_use_takes_a_word() -> None:
    for mode in MODES:
        with numerics.use(mode):
            assert numerics.mode() == mode
    other: Any = "exact"
    with (
        pytest.raises(ValueError, match="numerics: `mode` must be one of 'fast', 'portable', got"),
        numerics.use(other),
    ):
        pass


def test_a_new_thread_starts_in_the_default_mode_and_takes_a_copied_one() -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(numerics.mode())

    with numerics.portable():
        context = contextvars.copy_context()
        for target in (look, lambda: context.run(look)):
            thread = threading.Thread(target=target)
            # Some builds of Python hand the maker's context to a new thread.
            inherits = getattr(sys.flags, "thread_inherit_context", 0)
            thread.start()
            thread.join()
    assert seen == ["portable" if inherits else "fast", "portable"]


def test_threads_do_not_disturb_each_other() -> None:
    barrier = threading.Barrier(4)

    def work(mode: numerics.Mode) -> bool:
        with numerics.use(mode):
            barrier.wait()
            return all(numerics.mode() == mode for _ in range(1000))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, [*MODES, *MODES]))


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env=environment(**variables),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_environment_chooses_the_default() -> None:
    program = "from funcnn import numerics; print(numerics.mode())"
    assert run(program, FUNCNN_NUMERICS="portable").stdout.strip() == "portable"
    assert run(program, FUNCNN_NUMERICS="fast").stdout.strip() == "fast"


def test_the_environment_may_not_say_anything_else() -> None:
    result = run("import funcnn.numerics", FUNCNN_NUMERICS="exact")
    assert result.returncode == 1
    wanted = "numerics: `FUNCNN_NUMERICS` must be one of 'fast', 'portable', got 'exact'"
    assert wanted in result.stderr


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_functions_keep_dtype_and_shape(name: str, dtype: Any, mode: numerics.Mode) -> None:
    function = getattr(numerics, name)
    x = np.linspace(0.1, 3, 24, dtype=dtype).reshape(2, 3, 4)
    with numerics.use(mode):
        for argument in (x, x[:0], x.transpose(2, 0, 1), x[:, ::2], x[0, 0, 0]):
            out = function(argument)
            assert out.dtype == dtype
            assert out.shape == argument.shape
        np.testing.assert_array_equal(function(x.transpose(2, 0, 1)).transpose(1, 2, 0), function(x))


@pytest.mark.parametrize("name", [*ONE_ARGUMENT, "softplus"])
def test_both_modes_agree(name: str) -> None:
    function = getattr(numerics, name)
    x = np.linspace(0.01, 20, 5000)
    if name not in ("log", "rsqrt"):
        x = np.concatenate([-x, x]) if name != "log1p" else x
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 2e-15)):
        fast = function(x.astype(dtype))
        with numerics.portable():
            portable = function(x.astype(dtype))
        np.testing.assert_allclose(fast, portable, rtol=tolerance, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_functions_at_the_edges(mode: numerics.Mode) -> None:
    inf, nan = np.inf, np.nan
    edges: dict[str, list[tuple[float, float]]] = {
        "exp": [(-inf, 0), (inf, inf), (0, 1)],
        "expm1": [(-inf, -1), (inf, inf), (0, 0)],
        "log": [(0, -inf), (-1, nan), (inf, inf), (1, 0)],
        "log1p": [(-1, -inf), (-2, nan), (inf, inf), (0, 0)],
        "tanh": [(-inf, -1), (inf, 1), (0, 0)],
        "sigmoid": [(-inf, 0), (inf, 1), (0, 0.5), (-1000, 0), (1000, 1)],
        "softplus": [(-inf, 0), (inf, inf), (1000, 1000)],
        "erf": [(-inf, -1), (inf, 1), (0, 0)],
        "sin": [(inf, nan), (-inf, nan), (0, 0)],
        "cos": [(inf, nan), (-inf, nan), (0, 1)],
        "rsqrt": [(0, inf), (-1, nan), (inf, 0), (4, 0.5)],
    }
    for dtype in (np.float32, np.float64):
        for name, pairs in edges.items():
            table: Array = np.array([*pairs, (nan, nan)], dtype)
            x, wanted = table[:, 0], table[:, 1]
            with numerics.use(mode), np.errstate(all="ignore"):
                found = getattr(numerics, name)(x)
            if mode == "fast" and name == "sigmoid":  # its slope is cut off at the least normal
                np.testing.assert_allclose(found, wanted, atol=1e-37)
            else:
                np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_what_lay_in_memory_makes_no_product_warn() -> None:
    for size in (100, 128, 200, 256, 400):  # signalling NaN, left on the stack by a product of them
        nan = np.full(2 * size, 0x7FA00001, np.uint32).view(np.float32)[::2]
        with np.errstate(invalid="ignore"):
            np.matmul(np.ones((3, size), np.float32), nan[:, None])
        found = numerics.matmul(np.ones((3, 5), np.float32), np.ones((5, 1), np.float32))
        np.testing.assert_array_equal(found, np.full((3, 1), 5))


@pytest.mark.parametrize("mode", MODES)
def test_means(mode: numerics.Mode) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    with numerics.use(mode):
        np.testing.assert_array_equal(numerics.mean(x), np.float32(5.5))
        np.testing.assert_array_equal(numerics.mean(x, 0), np.array([4, 5, 6, 7], np.float32))
        assert numerics.mean(x, 1, keepdims=True).shape == (3, 1)
        assert numerics.mean(x).dtype == np.float32
        np.testing.assert_array_equal(numerics.mean(x[:0], 0), np.full(4, np.nan, np.float32))


@pytest.mark.parametrize("mode", MODES)
def test_counts_are_integers(mode: numerics.Mode) -> None:
    with numerics.use(mode):
        assert int(numerics.sum(np.array([True, True, False]))) == 2
        assert numerics.sum(np.ones((2, 3), np.int32), 1).tolist() == [3, 3]


# --- portable sums -----------------------------------------------------------------------------------


def layouts(x: Array) -> list[Array]:
    """The same values in several memory orders."""
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    spread = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., ::2]
    spread[...] = x
    backwards = x[::-1].copy()[::-1]
    return [x, np.asfortranarray(x), last, spread, backwards]


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (2, 0), (0, 1, 2), ()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_portable_sums_see_values_only(axis: Any, dtype: Any) -> None:
    x = np.random.default_rng(0).standard_normal((7, 13, 10)).astype(dtype)
    with numerics.portable():
        wanted = numerics.sum(x, axis)
        for same in layouts(x):
            np.testing.assert_array_equal(numerics.sum(same, axis), wanted)
        kept = numerics.sum(x, axis, keepdims=True)
    assert wanted.dtype == dtype
    assert wanted.shape == np.sum(x, axis).shape
    assert kept.shape == np.sum(x, axis, keepdims=True).shape
    np.testing.assert_array_equal(kept.ravel(), wanted.ravel())
    exact = np.sum(x.astype(np.longdouble), axis)
    np.testing.assert_allclose(wanted, exact.astype(dtype), rtol=2 * np.finfo(dtype).eps, atol=1e-14)


def test_portable_sums_of_a_row_do_not_see_the_batch() -> None:
    x = np.random.default_rng(0).standard_normal((64, 100)).astype(np.float32)
    with numerics.portable():
        whole = numerics.sum(x, 1)
        for i in (0, 17, 63):
            assert numerics.sum(x[i : i + 1], 1)[0] == whole[i]


def test_portable_sums_of_nothing_and_of_strange_things() -> None:
    with numerics.portable():
        assert numerics.sum(np.ones((0, 3), np.float32), 0).tolist() == [0, 0, 0]
        assert numerics.sum(np.ones((0, 3), np.float32), 1).shape == (0,)
        assert float(numerics.sum(np.array([1e38, 1e38, 1e38], np.float32))) == float(np.float32(3e38))
        with np.errstate(invalid="ignore"):
            assert np.isnan(numerics.sum(np.array([np.inf, -np.inf])))
        assert float(numerics.sum(np.array([np.inf, 1.0]))) == np.inf
        with pytest.raises(np.exceptions.AxisError):
            numerics.sum(np.ones(3), 1)


def test_portable_sums_are_accurate() -> None:
    x = np.array([1e8, *[1e-3] * 999], np.float32)
    with numerics.portable():
        assert numerics.sum(x) == np.float32(1e8 + 0.999)
        x64 = np.array([1e16, *[1.0] * 1023])
        assert abs(float(numerics.sum(x64)) - (1e16 + 1023)) <= 10 * 2.0


def test_a_sum_leaves_its_terms_alone() -> None:
    x = np.ones((4, 4))
    x.flags.writeable = False
    with numerics.portable():
        total = numerics.sum(x, ())
        assert not np.shares_memory(total, x)
        numerics.sum(x, 0)


# --- where NumPy's own integers have 32 bits --------------------------------------------------------

SHORT_INTEGERS = """
import numpy as np
counted = np.bincount
def shortened(function):
    def made(*args, **options):
        found = function(*args, **options)
        given = any(isinstance(x, (type, np.dtype, np.ndarray)) for x in [*args, *options.values()])
        whole = isinstance(found, np.ndarray) and found.dtype == np.int64
        return found.astype(np.int32) if whole and (function is counted or not given) else found
    return made
for name in "arange array asarray full bincount cumsum indices".split():
    setattr(np, name, shortened(getattr(np, name)))
"""


def test_integers_that_must_have_64_bits_ask_for_them() -> None:
    assert run(SHORT_INTEGERS + DIGEST).stdout.strip() == GOLDEN
    load, draw = "from tests.test_random import _all_draws\n", "print(_all_draws())"
    assert run(load + SHORT_INTEGERS + draw).stdout == run(load + draw).stdout != ""
    counted = "from funcnn.metrics import confusion_matrix\n"
    counted += "print(confusion_matrix(np.eye(2), np.arange(2)).dtype)"
    found = run(SHORT_INTEGERS + counted)
    assert found.stdout.strip() == "int64", found.stderr


# --- the same bits everywhere -----------------------------------------------------------------------

DIGEST = """
import hashlib, numpy as np
from funcnn import numerics
from numpy.random import Philox
bits = Philox(1)
def draw(*shape):
    words = bits.random_raw(int(np.prod(shape))).reshape(shape)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
digest = hashlib.sha256()
def add(x):
    digest.update(x.astype(x.dtype.newbyteorder("<")).tobytes())
with numerics.portable():
    for dtype in (np.float32, np.float64):
        for m, k, n in [(1, 5, 3), (6, 75, 700), (64, 300, 96), (40, 3000, 20), (130, 17, 33)]:
            a, b = draw(m, k).astype(dtype), draw(k, n).astype(dtype)
            for product in (numerics.matmul(a, b), numerics.matmul(b.T, a.T).T):
                add(product)
            add(numerics.sum(a, 0))
            add(numerics.sum(a.T))
        x = draw(20000).astype(dtype) * 20
        for name in "exp expm1 tanh sigmoid erf sin cos softplus".split():
            add(getattr(numerics, name)(x))
        for name in "log log1p rsqrt".split():
            add(getattr(numerics, name)(np.abs(x)))
        add(numerics.power(np.abs(x), x[::-1]))
print(digest.hexdigest())
"""
GOLDEN = "1e3e065938e503ec47a75b2fc22beae5315b04f42816f194b2e9f9ca169d1548"


def test_bits_are_pinned() -> None:
    assert run(DIGEST, OPENBLAS_NUM_THREADS="2").stdout.strip() == GOLDEN


@pytest.mark.slow
def test_bits_are_the_same_in_other_surroundings() -> None:
    for name, setting in environments().items():
        result = run(DIGEST, **setting)
        assert result.stdout.strip() == GOLDEN, f"{name}: {result.stderr}"
