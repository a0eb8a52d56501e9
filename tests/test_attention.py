"""Attention compiled, beside NumPy's kernels."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import pytest

from funcnn import multi_head_attention, numerics, random
from funcnn._kernels import attention
from funcnn.machine.threads import in_team
from funcnn.testing import digest
from funcnn.types import Array

pytestmark = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")

SIZES = (  # batch, heads, groups, steps, keys, features, width
    (2, 1, 1, 1, 1, 1, 1),
    (3, 2, 2, 5, 7, 3, 2),
    (2, 4, 2, 70, 33, 20, 24),  # more rows than are taken at a time, parts of vectors
    (1, 2, 1, 9, 300, 16, 50),  # more terms than are added up in turn
    (2, 3, 3, 16, 64, 300, 16),
)


def _drawn(name: str, shape: tuple[int, ...]) -> Array:
    return random.normal(random.fold_in(random.key(5), name), shape)


def _heads(name: str, shape: tuple[int, ...]) -> Array:
    """``(N, H, T, D)``, side by side in memory."""
    batch, heads, steps, features = shape
    return _drawn(name, (batch, steps, heads, features)).transpose(0, 2, 1, 3)


def _operands(sizes: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    batch, heads, groups, steps, keys, features, width = sizes
    return (
        _heads("q", (batch, heads, steps, features)),
        _heads("k", (batch, groups, keys, features)),
        _heads("v", (batch, groups, keys, width)),
        _heads("dout", (batch, heads, steps, width)),
    )


def _context(kind: str, sizes: tuple[int, ...]) -> attention.Scores:
    batch, heads, _, steps, keys, features, _ = sizes
    how = attention.Scores(features**-0.5)
    pairs = _drawn("seen", (batch, 1, steps, keys)) > -0.5
    if kind == "causal":
        return how._replace(seen=np.tri(steps, keys, dtype=np.bool_))
    if kind == "keys":
        return how._replace(seen=pairs[:, :, :1])
    if kind == "pairs":  # and some see none, or one
        pairs[0, 0, 0] = False
        pairs[-1, 0, -1] = np.arange(keys) == keys - 1
        return how._replace(seen=pairs)
    if kind == "dropped":
        kept = (_drawn("kept", (batch, heads, steps, keys)) > -1) * np.float32(1.25)
        return how._replace(seen=pairs, kept=kept)
    return how


def _both_ways(operands: tuple[Array, ...], how: attention.Scores) -> list[Array]:
    q, k, v, dout = operands
    made = attention.attend(q, k, v, how)
    return [*made[:2], *cast(Any, attention.attend_gradients(q, k, v, made, how, dout)[:3])]


@pytest.mark.parametrize("kind", ["all", "causal", "keys", "pairs", "dropped"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_as_numpy_computes_it(sizes: tuple[int, ...], kind: str) -> None:
    how = _context(kind, sizes)
    doubles = tuple(one.astype(np.float64) for one in _operands(sizes))
    wanted = _both_ways(doubles, how)
    with numerics.compiled("require"):
        found = _both_ways(_operands(sizes), how)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == np.float32
        size = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(one, other, 1e-5, 1e-5 * size)
    hidden = None if how.seen is None else np.broadcast_to(~how.seen, found[1].shape)
    assert hidden is None or not found[1][hidden].any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("kind", ["all", "causal", "pairs", "dropped"])
@pytest.mark.parametrize("place", range(4))
def test_what_is_not_finite_stays_with_who_sees_it(place: int, kind: str, wrong: float) -> None:
    sizes = (2, 4, 2, 6, 7, 3, 5)
    operands, how = _operands(sizes), _context(kind, sizes)
    with numerics.compiled("require"):
        before = _both_ways(operands, how)
    spoilt = tuple(one.copy() for one in operands)
    spoilt[place][1, 1, 3, 1] = wrong
    with np.errstate(all="ignore"):
        wanted = _both_ways(spoilt, how)
    with numerics.compiled("require"):
        found = _both_ways(spoilt, how)
    for one, other, old in zip(found, wanted, before, strict=True):
        if not np.isfinite(wrong) or other is wanted[0] or other is wanted[1]:
            np.testing.assert_allclose(one, other, 1e-4, 1e-4)
        assert digest(one[:1]) == digest(old[:1])
    if how.seen is not None and place == 1:  # who does not see the key keeps its bits
        blind = ~np.broadcast_to(how.seen, before[1].shape)[..., 3]
        for one, old in zip(found[:3], before[:3], strict=True):
            assert digest(one[blind]) == digest(old[blind])


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("funcnn._kernels.attention.compiled"), "_UNIT", 1)
    sizes = (5, 4, 2, 6, 7, 3, 5)
    operands, how = _operands(sizes), _context("dropped", sizes)
    with numerics.compiled("require"):
        found = {
            digest(in_team(workers, lambda: _both_ways(operands, how))) for workers in (1, 2, 3) * 3
        }
    assert len(found) == 1


def test_ordinary_attention_is_not_declined() -> None:
    found = import_module("funcnn._kernels.attention.compiled")
    q, k, v, dout = _operands(SIZES[1])
    how = _context("dropped", SIZES[1])
    made = found.attend(q, k, v, how)
    assert made is not NotImplemented
    assert found.attend_gradients(q, k, v, made, how, dout) is not NotImplemented
    capped = how._replace(cap=2.0)
    assert found.attend(q, k, v, capped) is NotImplemented
    assert found.attend(q, k[:, :, :0], v[:, :, :0], how) is NotImplemented


def test_a_layer_pulls_back_with_numpy_what_was_compiled() -> None:
    layer = multi_head_attention(2, causal=True)
    _, params = layer.init(random.key(0), (3, 5, 6))
    x = random.normal(random.key(1), (3, 5, 6))
    with numerics.compiled("require"):
        out, cache = layer.apply(params, x)
        wanted = layer.vjp(cache, out)[1]
    np.testing.assert_allclose(layer.vjp(cache, out)[1], wanted, 1e-4, 1e-5)
