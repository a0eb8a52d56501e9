"""Large products in fast mode: what compiled ones give, and NumPy's in parts."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
import pytest

from funcnn import conv, conv1d, dense, gru, lstm, multi_head_attention, numerics, random, tree
from funcnn.machine.threads import in_team
from funcnn.testing import digest
from funcnn.types import Array

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
SHAPES = [  # of a tile has 8, 2 or 1 rows and up to 48 columns; a run has 256 terms, a block 512 rows
    ((2, 1), (1, 2)), ((3, 75), (75, 40)), ((8, 16), (16, 48)), ((17, 300), (300, 50)),
    ((11, 520), (520, 13)), ((41, 256), (256, 65)), ((521, 3), (3, 33)), ((5, 31), (31, 145)),
    ((2, 3, 4), (4, 5)), ((3, 1, 6, 2), (4, 2, 7)), ((4, 5), (3, 5, 2)), ((2, 9, 20), (2, 20, 97)),
]  # fmt: skip


def _drawn(label: str, shape: tuple[int, ...]) -> Array:
    return random.normal(random.fold_in(random.key(0), label), shape)


@pytest.fixture(params=[True, False], ids=["in place", "copied"])
def compiled(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """The compiled kernels, for products of any size, on any processor, whatever they copy."""
    if find_spec("numba") is None:
        pytest.skip("Numba is not installed")
    found = import_module("funcnn.numerics.fast_compiled")
    monkeypatch.setattr(found, "LARGE", 1)
    monkeypatch.setattr(found, "_BROAD", True)
    monkeypatch.setattr(found, "IN_PLACE", request.param)
    return found


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_products_are_right_for_every_memory_order(compiled: Any, shapes: Any) -> None:
    a, b = (_drawn(str(shape), shape) for shape in shapes)
    wanted = np.matmul(a.astype(np.float64), b)
    size = np.matmul(np.abs(a.astype(np.float64)), np.abs(b))
    room = np.full((*wanted.shape[:-2], wanted.shape[-2] + 4, wanted.shape[-1] + 7), 7, np.float32)

    def orders(x: Array) -> list[Array]:
        turned = x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
        within = np.full((*x.shape[:-1], x.shape[-1] + 3), np.nan, np.float32)[..., 1:-2]
        within[...] = x
        backwards = x[..., ::-1, :].copy()[..., ::-1, :]
        return [x, turned, within, backwards]

    for left, right in product(orders(a), orders(b)):
        for out in (None, room[..., 2:-2, 4:-3], np.empty(wanted.swapaxes(-1, -2).shape, np.float32)):
            turned = out is not None and out.base is None
            target = out.swapaxes(-1, -2) if turned and out is not None else out
            found = compiled.large_matmul(left, right, target)
            assert found is target or target is None
            assert found.shape == wanted.shape
            assert (np.abs(found - wanted) <= 1e-6 * size).all()
    room[..., 2:-2, 4:-3] = 7
    assert (room == 7).all()


@pytest.mark.parametrize("shapes", SHAPES[:7], ids=str)
def test_what_is_added_stands_in_every_row_or_column(compiled: Any, shapes: Any) -> None:
    a, b = (_drawn(str(shape), shape) for shape in shapes)
    product = np.matmul(a.astype(np.float64), b)
    rows, columns = product.shape
    for shape in ((columns,), (1, columns), (rows, 1), (rows, columns)):
        plus = _drawn("plus", (2 * shape[0], *shape[1:]))[::2]
        for left in (a, a.T.copy().T):
            found = compiled.large_matmul(left, b, None, plus)
            np.testing.assert_allclose(found, product + plus, 1e-5, 1e-4)
            odd = plus.copy()
            odd[-1] = np.nan
            again = compiled.large_matmul(left, b, None, odd)
            seen = np.isnan(np.broadcast_to(odd, product.shape))
            assert np.array_equal(np.isnan(again), seen)
            assert digest(again[~seen]) == digest(found[~seen])
    assert compiled.large_matmul(a, b, None, plus.astype(np.float64)) is NotImplemented


@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (1030, 7), (600, 50), (257, 33)])
def test_rows_are_added_whatever_is_beside_them(compiled: Any, shape: tuple[int, int]) -> None:
    x = _drawn("x", (shape[0], shape[1] + 5))
    for some in (x[:, 2:-3], x[::-1, 2:-3], x[:, 2:-3].copy()):
        found = compiled.added_rows(some)
        np.testing.assert_allclose(found, some.sum(0, dtype=np.float64), 1e-5, 1e-4)
        for workers in (2, 3):
            assert digest(in_team(workers, partial(compiled.added_rows, some))) == digest(found)
    assert compiled.added_rows(x.T) is compiled.added_rows(x.astype(np.float64)) is NotImplemented


@pytest.mark.parametrize(
    "operands", ["apart", "byte-swapped", "float64", "packed", "read-only", "same memory"]
)
def test_what_they_are_not_made_for_is_left_to_numpy(compiled: Any, operands: str) -> None:
    a, b = _drawn("a", (6, 20)), _drawn("b", (20, 30))
    packed = np.zeros(b.shape, [("x", "f4"), ("y", "u1")])
    packed["x"] = b
    fixed = np.empty((6, 30), np.float32)
    fixed.flags.writeable = False
    others: dict[str, Any] = {
        "apart": (a, np.repeat(np.repeat(b, 2, 0), 3, 1)[::2, ::3]),
        "byte-swapped": (a, b.astype(">f4")),
        "float64": (a.astype(np.float64), b), "packed": (a, packed["x"]),
        "read-only": (a, b, fixed),
        "same memory": (b[:20, :20], b[:20, :20], b[:20, :20]),
    }  # fmt: skip
    assert compiled.large_matmul(*others[operands]) is NotImplemented


@pytest.mark.parametrize("way", ["rows", "columns"])
def test_an_entry_sees_its_row_and_column_alone(compiled: Any, way: str) -> None:
    """Wherever it stands: the same bits in a tile of 8 rows and of 1, in a full vector and the last."""
    a, b = _drawn("a", (61, 300)), _drawn("b", (300, 155))
    for left, right in product((a, a.T.copy().T), (b, b.T.copy().T)):
        whole = compiled.large_matmul(left, right)
        for low, high in [(0, 2), (1, 9), (7, 10), (3, 52), (8, 60)]:
            some = slice(low, high)
            if way == "rows":
                assert digest(compiled.large_matmul(left[some], right)) == digest(whole[some])
            else:
                assert digest(compiled.large_matmul(left, right[:, some])) == digest(whole[:, some])
        for value in (np.nan, np.inf, 1e38):
            odd, other = left.copy(), right.copy()
            odd[13, 40], other[40, 77] = value, value
            by_row, by_column = compiled.large_matmul(odd, right), compiled.large_matmul(left, other)
            changed = np.zeros(whole.shape, np.bool_)
            changed[13] = True
            assert digest(by_row[~changed]) == digest(whole[~changed])
            assert digest(np.delete(by_column, 77, 1)) == digest(np.delete(whole, 77, 1))
            with np.errstate(all="ignore"):
                assert np.array_equal(np.isnan(by_row), np.isnan(np.matmul(odd, right)))
                assert np.array_equal(np.isinf(by_column), np.isinf(np.matmul(left, other)))


def test_any_number_of_threads_gives_the_same_bits(compiled: Any) -> None:
    for shapes in (((300, 90), (90, 170)), ((40, 90), (90, 1200)), ((9, 60, 70), (9, 70, 120))):
        a, b = (_drawn(str(shape), shape) for shape in shapes)
        found = {
            digest(in_team(workers, partial(compiled.large_matmul, a, b)))
            for workers in (1, *[2, 3, 5] * 10)
        }
        assert len(found) == 1


@pytest.mark.parametrize("shapes", [((130, 300), (300, 64)), ((1030, 2), (2, 1100)), ((3, 7), (7, 7))])
def test_numpy_alone_multiplies_in_parts(monkeypatch: pytest.MonkeyPatch, shapes: Any) -> None:
    monkeypatch.setattr("funcnn.numerics.products.LARGE", 1)
    monkeypatch.setattr("funcnn.numerics.large._SHARED", 1 << 10)
    a, b = (_drawn(str(shape), shape) for shape in shapes)
    with numerics.compiled("off"):
        for left, right in ((a, b), (a, b.astype(np.float64)), (b.T, a.T), (np.stack([a, a]), b)):
            found = [in_team(workers, partial(numerics.matmul, left, right)) for workers in (1, 3)]
            assert found[0].dtype == np.result_type(left, right)
            assert digest(found[0]) == digest(found[1])
            assert np.allclose(found[0], np.matmul(left, right), rtol=1e-5, atol=1e-4)
        with pytest.raises(ValueError, match="mismatch"):
            numerics.matmul(a, b[1:])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (dense(40), (20, 30)), (dense(40), (150, 30)), (lstm(24), (6, 9, 10)), (gru(24), (6, 9, 10)),
        (multi_head_attention(2), (3, 8, 16)), (conv(24, 1), (5, 7, 6, 4)),
        (conv1d(24, 1, bias=False), (1, 7, 6)),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
def test_layers_of_large_products_compute_as_numpys(
    compiled: Any, layer: Any, shape: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("funcnn.numerics.products", "funcnn._kernels.linear"):
        monkeypatch.setattr(import_module(name), "LARGE", 1)
    multiply, seen = compiled._multiply, []

    def told(*args: Any) -> None:
        seen.append(args)
        multiply(*args)

    monkeypatch.setattr(compiled, "_multiply", told)
    x = _drawn("x", shape)
    out_shape, params = layer.init(random.key(1), shape)
    dout = _drawn("dout", out_shape)

    def both() -> Any:
        out, cache = layer.apply(params, x)
        dparams, dx = layer.vjp(cache, dout)
        return {"out": out, "dx": dx, **dparams}

    with numerics.compiled("off"):
        wanted = both()
    assert not seen
    with numerics.compiled("require"):
        found = both()
    assert seen
    for (_, one), (_, other) in zip(tree.leaves(found), tree.leaves(wanted), strict=True):
        assert np.allclose(one, other, rtol=1e-4, atol=1e-4)


@needs_numba
def test_ordinary_large_products_are_not_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    found = import_module("funcnn.numerics.fast_compiled")
    monkeypatch.setattr(found, "_BROAD", True)
    a, b = _drawn("a", (128, 784)), _drawn("b", (784, 512))
    assert found.large_matmul(a, b) is not NotImplemented
    assert found.large_matmul(a, b, None, b[0]) is not NotImplemented
    assert found.large_matmul(a[:1], np.tile(b, 20)) is NotImplemented  # BLAS reads faster
    assert found.large_matmul(a[:8], b[:, :8]) is NotImplemented
