"""Numbers near the largest: nothing warns, and what comes out is right or plainly not finite."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import numerics
from funcnn.testing import _values
from tests import registry
from tests.registry import Case

KERNELS = ["NumPy", *(["compiled"] if find_spec("numba") is not None else [])]
_ROOMS = (["convolution"], ["pooling"], ["normalization"])
_CASES = [
    pytest.param(case, id=case.id)
    for case in registry.layers()
    if case.layer.spec.build.__module__.split(".")[2:3] in _ROOMS
]


def _mapped(fn: Any, data: Any) -> Any:
    """A function of the numbers of a tree; integers stay."""
    return _values.mapped(lambda leaf: fn(leaf) if _values.is_float(leaf) else leaf, data)


def _large(data: Any, size: Any) -> Any:
    """Numbers between plus and minus the size, in its dtype."""
    return _mapped(lambda leaf: np.clip(leaf, -1, 1).astype(size.dtype) * size, data)


@pytest.mark.parametrize("case", _CASES)
def test_nothing_warns(case: Case) -> None:
    subject = registry.subject(case)
    for dtype, sizes in ((np.float32, (1e30, 3e38)), (np.float64, (1e300, 1.7e308))):
        params = _values.cast(subject.params, dtype)
        for size, mode in ((size, mode) for size in sizes for mode in subject.distinct_modes):
            run = subject.fresh(mode, params, _large(subject.x, dtype(size)))
            for scale in (1.0, size):
                subject.layer.vjp(run.cache, _large(_mapped(np.sign, run.dout), dtype(scale)))


@pytest.mark.parametrize("case", _CASES)
def test_what_is_finite_is_right(case: Case) -> None:
    subject = registry.subject(case)
    for mode, size in ((mode, size) for mode in subject.distinct_modes for size in (1e18, 1e30, 3e38)):
        params, x = _values.cast((subject.params, _large(subject.x, np.float64(size))), np.float32)
        given: tuple[Any, Any] = _values.cast((params, x), np.float64)
        key = subject.modes[mode]
        outs = (subject.layer.apply(*pair, key=key)[0] for pair in ((params, x), given))
        for (_, found), (_, expected) in zip(*map(_values.leaves, outs), strict=True):
            finite = np.isfinite(found)
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-5 * scale)


_MEANS: list[tuple[Any, Any]] = [
    *(
        (funcnn.avg_pool(3, stride=s, padding=1, ceil_mode=c, count_include_pad=p), (2, 3, 6, 7))
        for s in (1, 2)
        for c in (False, True)
        for p in (False, True)
    ),
    (funcnn.avg_pool(2), (1, 1, 4, 4)),
    (funcnn.avg_pool((1, 7)), (1, 2, 2, 14)),
    (funcnn.avg_pool1d(5, stride=2), (2, 11, 3)),
    (funcnn.avg_pool1d(2, ceil_mode=True, padding=1), (2, 6, 3)),
    (funcnn.avg_pool3d(2, ceil_mode=True), (2, 3, 5, 4, 3)),
    (funcnn.global_avg_pool(), (2, 3, 7, 7)),
    *((funcnn.adaptive_avg_pool(n), (2, 3, 5, 7)) for n in (1, 2, 3, 5, 8)),
    (funcnn.adaptive_avg_pool(2), (2, 3, 30, 30)),
    (funcnn.adaptive_avg_pool1d(9), (2, 3, 2)),
    (funcnn.adaptive_avg_pool3d(2), (2, 3, 3, 4, 5)),
    *((funcnn.parallel(*[funcnn.identity()] * n, merge="mean"), (3, 4)) for n in (2, 3, 7)),
]


@pytest.mark.parametrize(("layer", "shape"), _MEANS, ids=repr)
@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_of_the_largest_numbers(layer: Any, shape: Any, mode: Any, dtype: Any) -> None:
    """They lie between the numbers, and their slopes add up; what sees no infinity has none."""
    rng, top = np.random.default_rng(0), dtype(np.finfo(dtype).max)
    unit = dtype(2.0) ** -12
    for fraction in (1, 0.9, rng.random(shape), rng.choice([-1, 1], shape) * rng.random(shape)):
        x = np.broadcast_to(np.asarray(fraction, dtype) * top, shape).copy()
        with numerics.use(mode):
            out, cache = layer.apply({}, x)
            small, _ = layer.apply({}, x * unit)
            dout = np.resize(x, out.shape)
            dx = layer.vjp(cache, dout)[1]
            dsmall = layer.vjp(cache, dout * unit)[1]
        tolerance = 64 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(
            out * unit, small, rtol=tolerance, atol=float(top * unit) * tolerance
        )
        fits = np.abs(dsmall) <= top * unit * (1 - tolerance)
        assert np.isfinite(dx[fits]).all()
        np.testing.assert_allclose(
            dx[fits] * unit, dsmall[fits], rtol=tolerance, atol=float(top * unit) * tolerance
        )
        for wrong in (np.nan, np.inf, -np.inf):  # what does not see it keeps its bits
            spoilt = x.copy()
            spoilt[(0,) * x.ndim] = wrong
            with numerics.use(mode):
                found, _ = layer.apply({}, spoilt)
            changed = found != out
            assert np.array_equal(found[changed], np.full(changed.sum(), wrong), equal_nan=True)


def test_merged_means_of_the_largest_numbers() -> None:
    pair = (np.full((1, 2), 3e38, np.float32),) * 2
    assert (funcnn.merge("mean").apply({}, pair)[0] == pair[0]).all()


def test_a_mean_without_a_second_look_is_caught() -> None:
    right = funcnn.avg_pool(2)

    def apply(params: Any, x: Any, *, key: Any = None) -> Any:
        with np.errstate(over="ignore"):
            out = x.reshape(1, 1, 2, 2, 2, 2).sum((3, 5)) / x.dtype.type(4)
        return out, right.apply({}, x)[1]

    hasty = right._replace(apply=apply)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        test_means_of_the_largest_numbers(hasty, (1, 1, 4, 4), "fast", np.float32)


@pytest.mark.parametrize("kernels", KERNELS, indirect=True)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_attention_to_scores_beyond_the_largest_number(mode: Any, dtype: Any) -> None:
    """Only how they differ counts; rows of ordinary scores, and hidden keys, change nothing."""
    layer, root = funcnn.attention(masked=True), float(np.finfo(dtype).max) ** 0.5
    for size in (root * 0.5, root * 2, root * 1e10, float(np.finfo(dtype).max) / 4):
        q = np.array([[[size, 0], [-size, 0], [1, 0], [size, -1 / size]]], dtype)
        k = np.array([[[size, 0], [size, 1], [size / 2, size], [0, 0], [-size, size]]], dtype)
        v = np.array([[[1], [2], [4], [8], [16]]], dtype)
        seen = np.ones((1, 4, 5), np.bool_)
        seen[:, 0, 2] = seen[:, 1, 4] = False
        with numerics.use(mode):
            out, cache = layer.apply({}, (q, k, v, seen))
            slopes = layer.vjp(cache, np.ones_like(out))[1]
            spoilt = k.copy()
            spoilt[0, 4] = np.nan
            seen[:, :, 4] = False
            again, _ = layer.apply({}, (q, spoilt, v, seen))
        np.testing.assert_allclose(out[0, :, 0], [1.5, 8, 1.5, 1.5], rtol=1e-6)
        np.testing.assert_allclose(again[0, :, 0], [1.5, 8, 1.5, 1.5], rtol=1e-6)
        assert all(np.isfinite(slope).all() for slope in slopes[:3])
    close = np.array([[[1.0, 0.0], [1.0, 1.0]]], dtype) * dtype(root * 4)
    q = np.array([[[root, 1 / root]]], dtype)  # whose scores differ by 4 / sqrt(2)
    out, _ = funcnn.attention().apply({}, (q, close, np.array([[[0.0], [1.0]]], dtype)))
    assert out[0, 0, 0] == pytest.approx(0.5)  # of numbers whose last digit is far more than that


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cap", [None, 5.0])
def test_attention_to_scores_of_which_a_part_is_beyond_the_largest_number(cap: Any, dtype: Any) -> None:
    """The sign of the whole counts, not that of the part."""
    root, v = float(np.finfo(dtype).max) ** 0.5, np.arange(5, dtype=dtype).reshape(1, 5, 1)
    draw = np.random.default_rng(0)
    signs = np.array([[1, 1, 1], [2, -1, -1.5], [-2, 1.5, 1], [-1, -1, -1], [1.5, 1, -2]])
    for q in (np.ones((1, 4, 3)), draw.normal(size=(1, 4, 3)), -np.ones((1, 4, 3))):
        layer, k = funcnn.attention(soft_cap=cap), signs[None]
        out, cache = layer.apply({}, (dtype(root) * q.astype(dtype), dtype(root) * k.astype(dtype), v))
        s = q @ k.swapaxes(1, 2)
        p = (s == s.max(-1, keepdims=True)).astype(float) if cap is None else np.exp(cap * np.sign(s))
        np.testing.assert_allclose(out, p / p.sum(-1, keepdims=True) @ v, rtol=1e-5)
        assert all(np.isfinite(slope).all() for slope in layer.vjp(cache, np.ones_like(out))[1])


# --- limits that the docstrings state -------------------------------------------------------------


def test_a_variance_beyond_the_largest_number_is_infinite_and_not_carried_on() -> None:
    signs = np.array([[1, -1], [-1, -1], [-1, 1], [1, 1]], np.float32)
    layer, optimizer = funcnn.batch_norm(), funcnn.optimizers.sgd(0.1)
    start = funcnn.train_state(layer, optimizer, funcnn.random.key(0), (4, 2))
    out, cache = layer.apply(start.params, 3e38 * signs, key=funcnn.random.key(1))
    np.testing.assert_allclose(out, signs, rtol=1e-6)
    assert np.isinf(layer.statistics(cache)["running_var"]).all()
    step = funcnn.train_step(layer, funcnn.l1(), optimizer)
    after, _ = step(start, funcnn.data.Dataset(3e38 * signs, signs))
    assert after.params["running_var"].tolist() == [1, 1]


def test_momentum_beyond_the_largest_number_is_that_number() -> None:
    optimizer, top = funcnn.optimizers.momentum(0.1), np.finfo(np.float32).max
    params, grads = {"w": np.zeros(1, np.float32)}, {"w": np.full(1, 0.9 * top, np.float32)}
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(grads, state, params)
        assert np.isfinite(updates["w"]).all()
    assert state["trace1"]["trace"]["w"] == [top]


@pytest.mark.parametrize("build", [funcnn.lstm, funcnn.gru, funcnn.rnn])
def test_outputs_of_the_largest_carries(build: Any) -> None:
    """They are finite, and up to 1e18 the gradients are, too."""
    layer: Any = build(3, carry=True)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    for size in (1e10, 1e18, 1e30, 3e38):
        state = np.float32(size) * np.sign(x[:, :1])
        carry = (state, state) if build is funcnn.lstm else state
        shapes = ((2, 1, 3),) * 2 if build is funcnn.lstm else (2, 1, 3)
        _, params = layer.init(funcnn.random.key(0), ((2, 4, 3), shapes))
        out, cache = layer.apply(params, (x, carry))
        assert all(np.isfinite(leaf).all() for _, leaf in _values.leaves(out))
        slopes = layer.vjp(cache, _values.mapped(np.ones_like, out))
        if size < 1e19:
            assert all(np.isfinite(leaf).all() for _, leaf in _values.leaves(slopes))
