"""Where arrays lie beside each other shows in no bit: else a heap's mood would decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed", exc_type=ImportError)

from funcnn import (
    glu,
    layer_norm,
    log_softmax,
    numerics,
    prelu,
    random,
    softmax,
    softmax_cross_entropy,
    softmin,
)
from funcnn.testing import _values, digest
from funcnn.types import Layer, Loss
from tests import registry
from tests.registry import Case, LossCase

_SMALL = 4096  # bytes: what is shorter than a loop's vectors is what may lie within their reach
_GAPS = (0, 16, 48, 4096)  # bytes between two arrays


class _Beside:
    """Makes small arrays one behind the other in one piece of memory, some bytes apart."""

    def __init__(self, gap: int) -> None:
        self.gap, self.used, self.memory = gap, 0, np.zeros(1 << 23, np.uint8)
        self.usual = np.empty

    def empty(self, shape: Any, dtype: Any = np.float64, order: Any = "C", **others: Any) -> Any:
        sizes, kind = (shape if isinstance(shape, (tuple, list)) else (shape,)), np.dtype(dtype)
        size = math.prod(sizes) * kind.itemsize
        start, end = self.used, self.used + -(-size // 16) * 16 + self.gap
        if size > _SMALL or kind.kind not in "fiub" or order != "C" or others or end > len(self.memory):
            return self.usual(shape, dtype, order, **others)
        self.used = end
        return self.memory[start : start + size].view(kind).reshape(sizes)

    def empty_like(self, x: Any, dtype: Any = None, **others: Any) -> Any:
        if not x.flags.c_contiguous or others:
            return np.copy(x, order="K") if dtype is None and not others else self.usual(x.shape, dtype)
        return self.empty(x.shape, x.dtype if dtype is None else dtype)

    def copy(self, leaf: Any) -> Any:
        out = self.empty(leaf.shape, leaf.dtype)
        out[...] = leaf
        return out


def _digests(monkeypatch: pytest.MonkeyPatch, work: Any, given: Any) -> set[str]:
    """Of the same work on arrays so far apart."""
    found = set()
    for gap in _GAPS:
        beside = _Beside(gap)
        with monkeypatch.context() as patched:
            patched.setattr(np, "empty", beside.empty)
            patched.setattr(np, "empty_like", beside.empty_like)
            found.add(digest(work(*_values.mapped(beside.copy, given))))
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", registry.compiled_layers(), ids=lambda case: case.id)
@pytest.mark.sampled(4)
def test_layers(case: Case, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = registry.subject(case)
    given = _values.cast((subject.params, subject.x), dtype)
    with numerics.compiled("require"):
        for mode in subject.distinct_modes:
            dout = _values.cast(subject.fresh(mode, *given).dout, dtype)

            def both(params: Any, x: Any, dout: Any, mode: str = mode) -> Any:
                run = subject.fresh(mode, params, x, dout)
                return run.out, run.dparams, run.dx

            assert len(_digests(monkeypatch, both, (*given, dout))) == 1, mode


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", [softmax(), log_softmax(), softmin(), layer_norm(), prelu(), glu()])
def test_short_rows(layer: Layer[Any, Any], dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one example: its memory is as short as arrays are, and the next array within reach."""
    with numerics.compiled("require"):
        for size in (*range(2, 20, 2), 32, 48):
            x = random.normal(random.fold_in(random.key(0), size), (1, size), dtype=dtype)
            params = _values.cast(layer.init(random.key(1), x.shape)[1], dtype)

            def both(x: Any, params: Any = params) -> Any:
                out, cache = layer.apply(params, x)
                return out, layer.vjp(cache, out)

            both(x)
            assert len(_digests(monkeypatch, both, (x,))) == 1, size


def _both_ways(loss: Loss) -> Callable[[Any, Any], Any]:
    def both(prediction: Any, target: Any) -> Any:
        value, cache = loss.apply(prediction, target)
        return value, loss.vjp(cache)

    return both


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_example_and_its_label(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    both, label = _both_ways(softmax_cross_entropy()), np.zeros(1, np.int64)
    with numerics.compiled("require"):
        for size in range(2, 40):
            logits = random.normal(random.fold_in(random.key(0), size), (1, size), dtype=dtype)
            both(logits, label)
            assert len(_digests(monkeypatch, both, (logits, label))) == 1, size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", registry.losses(), ids=lambda case: case.id)
@pytest.mark.sampled(4)
def test_losses(case: LossCase, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = registry.loss_subject(case)
    given = _values.cast((subject.prediction, subject.target), dtype)
    both = _both_ways(case.loss)
    with numerics.compiled("require"):
        both(*given)  # what is not compiled yet is, in Numba's own memory
        assert len(_digests(monkeypatch, both, given)) == 1
