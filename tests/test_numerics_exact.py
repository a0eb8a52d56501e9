"""Portable matrix products: every entry is the exact value, rounded once."""

from __future__ import annotations

import operator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from funcnn import numerics
from funcnn.numerics import _exact
from funcnn.types import Array

DTYPES: list[Any] = [np.float32, np.float64]
RNG = np.random.default_rng(0)


def nearest(value: Fraction, dtype: Any) -> Any:
    """The nearest float, by comparing neighbours; ties to the even one."""
    infinite = dtype(np.inf if value > 0 else -np.inf)
    try:
        with np.errstate(over="ignore"):
            guess = dtype(float(value))
    except OverflowError:
        return infinite
    if dtype is np.float64:
        return guess
    most = np.finfo(dtype).max
    if np.isinf(guess):  # float64 cannot tell ties there
        tie = Fraction(float(most)) + Fraction(2) ** 103
        return infinite if abs(value) >= tie else np.copysign(most, guess)
    with np.errstate(over="ignore"):
        near = [guess, np.nextafter(guess, dtype(np.inf)), np.nextafter(guess, dtype(-np.inf))]
    finite = [x for x in near if np.isfinite(x)]
    return min(finite, key=lambda x: (abs(Fraction(float(x)) - value), int(x.view(np.int32)) & 1))


def integers(row: list[float]) -> tuple[list[int], int]:
    """Numerators over one denominator."""
    ratios = [x.as_integer_ratio() for x in row]
    denominator = max(below for _, below in ratios)
    return [above * (denominator // below) for above, below in ratios], denominator


def exact(a: Array, b: Array) -> Array:
    """``a @ b`` in rational arithmetic, rounded."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    columns = [integers(column) for column in b.astype(float).T.tolist()]
    for i, row in enumerate(a.astype(float).tolist()):
        left, below = integers(row)
        for j, (right, under) in enumerate(columns):
            total = sum(map(operator.mul, left, right))
            out[i, j] = nearest(Fraction(total, below * under), a.dtype.type)
    return out


def product(a: Array, b: Array, out: Array | None = None) -> Array:
    with numerics.portable():
        return numerics.matmul(a, b, out)


KINDS = ["plain", "wide", "integers", "subnormal", "sparse", "cancelling", "huge", "zeros"]


def operands(kind: str, m: int, k: int, n: int, dtype: Any) -> tuple[Array, Array]:
    rng = np.random.default_rng(m * k * n)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    least, most = (1e-40, 1e30) if dtype == np.float32 else (1e-310, 1e300)
    if kind == "wide":
        a, b = a * 10.0 ** rng.integers(-30, 30, a.shape), b * 10.0 ** rng.integers(-8, 8, b.shape)
    elif kind == "integers":
        a, b = np.rint(a * 3), np.rint(b * 2)
    elif kind == "subnormal":
        a = a * least
    elif kind == "sparse":
        a, b = a * (rng.random(a.shape) < 0.2), np.rint(b * 4) / 4 * (rng.random(b.shape) < 0.2)
    elif kind == "cancelling":
        a[:, k // 2 :], b[k // 2 :] = -a[:, : k - k // 2], b[: k - k // 2]
    elif kind == "huge":
        a, b = a * most, b * 1e8
    elif kind == "zeros":
        a, b = -np.zeros_like(a), b
    with np.errstate(over="ignore"):
        return a.astype(dtype), b.astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 1, 4), (5, 7, 6), (4, 300, 3), (9, 33, 8), (2, 4100, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_entry_is_the_exact_value_rounded_once(
    dtype: Any, shape: tuple[int, int, int], kind: str
) -> None:
    a, b = operands(kind, *shape, dtype)
    found = product(a, b)
    np.testing.assert_array_equal(found, exact(a, b))
    assert found.dtype == dtype
    assert not np.signbit(found[found == 0]).any()


finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
finite64 = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_finite_floats(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, size)) for size in (3, 6, 3))
    dtype, elements = data.draw(st.sampled_from([(np.float32, finite32), (np.float64, finite64)]))
    a: Array = data.draw(arrays(dtype, (m, k), elements=elements))
    b: Array = data.draw(arrays(dtype, (k, n), elements=elements))
    np.testing.assert_array_equal(product(a, b), exact(a, b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_and_nans_follow_the_definition(dtype: Any) -> None:
    values = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2, 0, 0], dtype)
    a, b = RNG.choice(values, (200, 3)), RNG.choice(values, (3, 200))
    with np.errstate(invalid="ignore"):
        wanted = (a[:, :, None] * b[None]).sum(1)
    np.testing.assert_array_equal(product(a, b), wanted)


def test_ties_go_to_the_even_neighbour() -> None:
    one, half, tiny = 1.0, 2.0**-24, 2.0**-80
    b = np.ones((3, 1), np.float32)
    rows = np.array(
        [[one, half, 0], [one, half, tiny], [one, half, -tiny], [one, 3 * half, 0]], np.float32
    )
    wanted = [1, 1 + 2.0**-23, 1, 1 + 2.0**-22]
    assert product(rows, b)[:, 0].tolist() == wanted
    many = np.repeat(rows, 6000, 0)  # enough to be added up many at a time
    assert product(many, b).reshape(4, 6000).tolist() == [[x] * 6000 for x in wanted]


def test_many_doubtful_entries_with_more_digits_than_two_floats_hold() -> None:
    rows = np.array([[2.0**60, 1.0, 2.0**-60, -(2.0**60), -1.0, 0.0]], np.float32)
    many = np.repeat(rows, 4000, 0)
    assert set(product(many, np.ones((6, 1), np.float32))[:, 0].tolist()) == {2.0**-60}


@pytest.mark.parametrize("terms", [1, 2, 255, 256, 257, 2047, 2049, 10_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_sums(dtype: Any, terms: int) -> None:
    a = RNG.standard_normal((2, terms)).astype(dtype)
    b = RNG.standard_normal((terms, 2)).astype(dtype)
    np.testing.assert_array_equal(product(a, b), exact(a, b))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_million_terms(dtype: Any) -> None:
    a = RNG.standard_normal((1, 1_000_000)).astype(dtype)
    b = RNG.standard_normal((1_000_000, 1)).astype(dtype)
    np.testing.assert_array_equal(product(a, b), exact(a, b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_see_the_batch(dtype: Any) -> None:
    a = RNG.standard_normal((64, 150)).astype(dtype) * 10.0 ** RNG.integers(-9, 9, (64, 1))
    a, b = a.astype(dtype), RNG.standard_normal((150, 70)).astype(dtype)
    whole = product(a, b)
    for rows in (slice(0, 1), slice(5, 7), slice(13, 64)):
        np.testing.assert_array_equal(product(a[rows], b), whole[rows])
    np.testing.assert_array_equal(product(a, b[:, 3:4]), whole[:, 3:4])
    np.testing.assert_array_equal(product(a[:, ::-1], b[::-1]), whole)


SHAPES = [
    ((3, 4), (4,)),
    ((4,), (4, 5)),
    ((4,), (4,)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (6, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 6)),
    ((1, 3, 4), (7, 4, 2)),
    ((0, 4), (4, 3)),
    ((3, 0), (0, 4)),
    ((2, 3, 4), (2, 4, 0)),
    ((0, 3, 4), (1, 4, 2)),
    ((300, 40, 9), (1, 9, 40)),
    ((700, 90), (90, 700)),
    ((3, 40, 2, 75), (1, 1, 75, 500)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_are_those_of_numpy(dtype: Any, left: Any, right: Any) -> None:
    a, b = RNG.standard_normal(left).astype(dtype), RNG.standard_normal(right).astype(dtype)
    wanted = np.matmul(a.astype(np.longdouble), b.astype(np.longdouble)).astype(dtype)
    found = product(a, b)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(dtype).eps, atol=1e-12)
    if wanted.ndim:
        out = np.full(wanted.shape, 7, dtype)
        assert product(a, b, out) is out
        np.testing.assert_array_equal(out, found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_order_cannot_be_seen(dtype: Any) -> None:
    a, b = RNG.standard_normal((6, 30, 75)), RNG.standard_normal((6, 75, 20))
    a, b = a.astype(dtype), b.astype(dtype)
    wanted = product(a, b)

    def orders(x: Array) -> list[Array]:
        spread = np.zeros((*x.shape[:2], 3 * x.shape[2]), dtype)[..., ::3]
        spread[...] = x
        last = np.ascontiguousarray(np.moveaxis(x, 0, -1))
        return [np.asfortranarray(x), np.moveaxis(last, -1, 0), spread, x[:, ::-1].copy()[:, ::-1]]

    for left in orders(a):
        for right in orders(b):
            np.testing.assert_array_equal(product(left, right), wanted)
    turned = np.empty((20, 6, 30), dtype).transpose(1, 2, 0)
    np.testing.assert_array_equal(product(a, b, turned), wanted)


def test_an_out_that_is_an_operand() -> None:
    a = RNG.standard_normal((300, 300)).astype(np.float32)
    wanted = product(a, a)
    assert product(a, a, a) is a
    np.testing.assert_array_equal(a, wanted)


def test_wrong_shapes_are_refused() -> None:
    a = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="matmul"):
        product(a, a)
    with pytest.raises(ValueError, match=r"matmul: `out` must have shape \(2, 2\), got \(2, 3\)"):
        product(a, a.T, a.copy())


def test_operands_stay_as_they_are() -> None:
    a = RNG.standard_normal((20, 20))
    for x in (a, a.astype(np.float32)):
        before = x.copy()
        x.flags.writeable = False
        product(x, x)
        np.testing.assert_array_equal(x, before)


def test_integers_are_exact_anyhow() -> None:
    a = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(product(a, a.T), a @ a.T)


def test_prepared_operands_give_the_same_bits() -> None:
    image = RNG.standard_normal((5, 40)).astype(np.float32)
    filters = RNG.standard_normal((6, 25)).astype(np.float32)
    for mode in ("fast", "portable"):
        with numerics.use(mode):
            plain = np.lib.stride_tricks.sliding_window_view(image, (5, 5))[0].reshape(-1, 25).T
            wanted = numerics.matmul(filters, plain)
            pixels = numerics.prepare(image)
            copies = np.lib.stride_tricks.sliding_window_view(pixels, (5, 5))[0].reshape(-1, 25).T
            assert (copies.dtype == np.float64) == (mode == "portable")
            out = np.empty_like(wanted)
            numerics.matmul(filters, copies, out)
            np.testing.assert_array_equal(out, wanted)


def test_more_accurate_than_a_float32_product() -> None:
    a, b = RNG.standard_normal((32, 500)), RNG.standard_normal((500, 32))
    a, b = a.astype(np.float32), b.astype(np.float32)
    truth = np.matmul(a.astype(float), b.astype(float))
    assert np.abs(product(a, b) - truth).max() <= np.abs(np.matmul(a, b) - truth).max()


def test_threads_do_not_share_scratch() -> None:
    cases = [RNG.standard_normal((40, 60 + i)).astype(np.float32) for i in range(8)]
    wanted = [product(x, x.T) for x in cases]
    with numerics.portable(), ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            futures = [pool.submit(copy_context().run, product, x, x.T) for x in cases]
            for future, right in zip(futures, wanted, strict=True):
                np.testing.assert_array_equal(future.result(), right)


def test_settling_the_doubtful_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it an entry next to a tie would be wrong, so the tests above can fail."""
    rows, ones = np.array([[-1, -(2.0**-24), -(2.0**-80)]], np.float32), np.ones((3, 1), np.float32)
    assert product(rows, ones)[0, 0] == -1 - 2.0**-23
    monkeypatch.setattr(_exact, "_settle", lambda *_: None)
    assert product(rows, ones)[0, 0] != -1 - 2.0**-23


CANCELLING: dict[str, Any] = {
    "wholly": lambda a, b, rng: None,
    "but for the last digits": lambda a, b, rng: a.__imul__(1 + 2.0**-20 * (rng.random(a.shape) < 0.2)),
    "over many magnitudes": lambda a, b, rng: a.__imul__(10.0 ** rng.integers(-9, 9, a.shape[1])),
    "to subnormal numbers": lambda a, b, rng: (a.__imul__(2.0**-90), b.__imul__(2.0**-50)),
    "to ties": lambda a, b, rng: (np.rint(a * 9, out=a), np.rint(b * 9, out=b)),
}


@pytest.mark.parametrize("kind", CANCELLING)
@pytest.mark.parametrize("rare", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_that_cancel_are_exact_and_not_done_one_by_one(
    dtype: Any, rare: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((30, 40)), rng.standard_normal((40, 20))
    CANCELLING[kind](a, b, rng)
    a, b = np.hstack([a, -a]).astype(dtype), np.vstack([b, b]).astype(dtype)
    if rare:
        a[rng.random(30) > 0.05] = rng.standard_normal(80)
    else:
        a[:, 0] += dtype(2.0**-12)  # what is left of them
    order = rng.permutation(80)
    wanted = exact(a, b)

    def refuse(row: list[float]) -> Any:
        raise AssertionError("whole numbers of any size are slow")

    monkeypatch.setattr(_exact, "_integers", refuse)
    for left, right in ((a, b), (a[:, order], b[order])):
        found = product(left, right)
        np.testing.assert_array_equal(found, wanted)
        assert not np.signbit(found[found == 0]).any()
    stacked = product(np.stack([a, -a])[:, None], np.stack([b, b * 2]))
    np.testing.assert_array_equal(stacked, [[wanted, wanted * 2], [-wanted, wanted * -2]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_from_digits_is_that_of_fractions(dtype: Any) -> None:
    """At ties, carries, the least numbers and the largest."""
    precision, least, most = (24, -149, 128) if dtype == np.float32 else (53, -1074, 1024)
    numbers, exponents = [], []
    for lead in (1, 3, (1 << precision) - 1, (1 << precision) - 2, 1 << (precision - 1)):
        for tail in (0, 1, 1 << 59, 1 << 60, (1 << 60) + 1, (1 << 61) - 1):
            for exponent in (least - 61, least - 60, least - 62, least - 90, 0, most - 60 - precision):
                numbers += [(lead << 61) + tail, -(lead << 61) - tail]
                exponents += [exponent - 1, exponent - 1]
    bits = 21
    digits = np.zeros((9, len(numbers)), np.int64)
    for i in range(6):
        digits[5 - i] = [(abs(x) >> bits * i & (1 << bits) - 1) * (1 if x > 0 else -1) for x in numbers]
    digits[0] = [(abs(x) >> bits * 5) * (1 if x > 0 else -1) for x in numbers]
    _exact._carry(digits, bits)
    with np.errstate(over="ignore"):
        found = _exact._rounded(digits, bits, np.array(exponents) + 5 * bits, dtype)
    wanted = [nearest(x * Fraction(2) ** e, dtype) for x, e in zip(numbers, exponents, strict=True)]
    np.testing.assert_array_equal(found, wanted)


def test_numbers_of_all_magnitudes_in_one_row() -> None:
    rng = np.random.default_rng(4)
    for dtype, widest in ((np.float32, 37), (np.float64, 300)):
        a = rng.standard_normal((6, 20)) * 10.0 ** rng.integers(-widest, widest, (6, 20))
        b = rng.standard_normal((20, 5)) * 10.0 ** rng.integers(-widest, 8, (20, 5))
        a, b = a.astype(dtype), b.astype(dtype)
        with np.errstate(over="ignore"):
            a, b = np.hstack([a, -a, a[:, :1]]), np.vstack([b, b, dtype(1e-30) * b[:1]])
        np.testing.assert_array_equal(product(a, b), exact(a, b))


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("turned", [False, True])
def test_windows_that_overlap_are_products_like_their_copies(step: int, turned: bool) -> None:
    rng = np.random.default_rng(step)
    memory = rng.standard_normal((12 + 4 * step, 7))
    memory[3] *= 1e6
    row, column = memory.strides
    windows = np.lib.stride_tricks.as_strided(memory, (5, 12, 7), (step * row, row, column))
    windows = windows.swapaxes(-1, -2) if turned else windows
    truth = np.einsum("gkn,gkn->gn", windows, windows)
    np.testing.assert_allclose(_exact._squares(windows), truth, rtol=1e-14)
    a = rng.standard_normal((1, 3, windows.shape[1])).astype(np.float32)
    seen, copied = windows.astype(np.float32).astype(np.float64), windows.astype(np.float32)
    memory[...] = memory.astype(np.float32)
    out = np.empty((5, 3, windows.shape[2]), np.float32)
    np.testing.assert_array_equal(_exact.matmul(a, windows, out), _exact.matmul(a, copied))
    np.testing.assert_array_equal(out, _exact.matmul(a, seen, np.empty_like(out)))


@pytest.mark.parametrize("kind", ["plain", "cancelling", "zeros", "ties", "infinite", "nan", "huge"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_summed_products_are_one_product(kind: str, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    a = rng.standard_normal((2, 7, 4, 300)).astype(dtype)
    b = rng.standard_normal((2, 7, 300, 5)).astype(dtype)
    if kind == "cancelling":
        a[:, 3], b[:, 3] = a[:, 2], -b[:, 2]
        b[:, 0] *= dtype(1e-8)
    elif kind == "zeros":
        a[a < 1], b[b < 1] = 0, 0
        a[0, :, 1], b[:, :, :, 2] = 0, 0
    elif kind == "ties":
        a, b = np.round(a * 1000), np.round(b * 1000)
    elif kind == "infinite":
        a[0, 1, 2, 3] = np.inf
    elif kind == "nan":
        b[1, 1, 2, 3] = np.nan
    elif kind == "huge":
        a *= np.finfo(dtype).max / 4
    found = _exact.summed_matmul(a, b, dtype)
    beside = a.swapaxes(1, 2).reshape(2, 4, -1)
    np.testing.assert_array_equal(found, _exact.matmul(beside, b.reshape(2, -1, 5)))
    if dtype == np.float32:
        wide = _exact.summed_matmul(_exact.prepare(a), _exact.prepare(b), dtype)
        np.testing.assert_array_equal(found, wide)


@pytest.mark.parametrize("shape", [(0, 4, 3, 2), (2, 0, 3, 2), (2, 4, 0, 2), (2, 4, 3, 0)])
def test_summed_products_of_nothing(shape: tuple[int, ...]) -> None:
    stack, rows, terms, columns = shape
    a, b = np.ones((stack, rows, terms), np.float32), np.ones((stack, terms, columns), np.float32)
    for mode in (numerics.fast, numerics.portable):
        with mode():
            found = numerics.summed_matmul(a, b, np.float32)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.full((rows, columns), stack * terms))
