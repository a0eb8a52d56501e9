"""Pooling's kernels against plain loops."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pytest

from funcnn._kernels import runs
from funcnn._kernels.convolution import arranged
from funcnn._kernels.pooling import separable as pooling, textbook
from funcnn._kernels.pooling.separable import (
    average_pool,
    average_pool_gradient,
    max_pool,
    max_pool_gradient,
)
from funcnn._kernels.runs import short_runs
from funcnn._kernels.windows import Window, output_size, window
from funcnn.types import Array

Shape = tuple[int, ...]

CASES = [
    # batch, spatial sizes, kernel, stride, padding, dilation
    (3, (9,), (3,), 2, 1, 1),
    (20, (6, 8), (2, 2), 2, 0, 1),
    (1, (7, 5), (2, 2), 2, 0, 1),
    (2, (7, 9), (3, 3), 3, 0, 1),
    (2, (7, 9), (3, 3), 2, 1, 1),
    (2, (7, 6), (3, 2), 1, 1, 1),
    (2, (7, 6), (1, 2), (1, 3), 0, 1),
    (2, (6, 6), (1, 1), 1, 0, 1),
    (2, (9, 8), (3, 2), 2, ((2, 0), (0, 1)), (3, 2)),
    (2, (4, 5, 6), (2, 2, 3), 2, ((0, 0), (1, 0), (1, 1)), 1),
]
NAMES = ("batch", "spatial", "kernel", "stride", "padding", "dilation")

ON_EVERY_SET_OF_KERNELS = True


def _seen(win: Window, spatial: Shape, place: Shape) -> list[Shape]:
    """The elements that a window sees, first to last."""
    axes = [
        [at for t in range(k) if 0 <= (at := p * s + t * d - low) < n]
        for n, p, k, s, (low, _), d in zip(spatial, place, *win, strict=True)
    ]
    return list(itertools.product(*axes))


def _pooled(x: Array, dout: Array, win: Window) -> tuple[Array, Array]:
    """The largest, by PyTorch's rule: a later element wins if it is larger, or a NaN."""
    out, dx = np.empty(dout.shape), np.zeros(x.shape)
    for n, c in np.ndindex(*x.shape[:2]):
        image, pooled, dimage, dpooled = x[n, c], out[n, c], dx[n, c], dout[n, c]
        for place in np.ndindex(*pooled.shape):
            best, *others = _seen(win, image.shape, place)
            for at in others:
                if image[at] > image[best] or np.isnan(image[at]):
                    best = at
            pooled[place] = image[best]
            dimage[best] += dpooled[place]
    return out, dx


def _averaged(x: Array, dout: Array, win: Window, count_include_pad: bool) -> tuple[Array, Array]:
    out, dx = np.zeros(dout.shape), np.zeros(x.shape)
    for place in np.ndindex(*dout.shape[2:]):
        seen = _seen(win, x.shape[2:], place)
        count = np.prod(win.kernel) if count_include_pad else len(seen)
        here: Any = (..., *place)
        for at in seen:
            there: Any = (..., *at)
            out[here] += x[there] / count
            dx[there] += dout[here] / count
    return out, dx


def _drawn(kind: str, x_shape: Shape, win: Window) -> tuple[Array, Array]:
    draw = np.random.default_rng(len(kind))
    x = draw.standard_normal(x_shape)
    if kind == "ties":
        x = np.round(x)
    if kind == "not finite":
        x[draw.random(x.shape) < 0.5] = -np.inf
        x[draw.random(x.shape) < 0.05] = np.nan
        x[draw.random(x.shape) < 0.05] = np.inf
    return x, draw.standard_normal((*x_shape[:2], *output_size(win, x_shape[2:])))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["any", "ties", "not finite"])
@pytest.mark.parametrize(NAMES, CASES)
def test_max_pool_is_the_loops(
    batch: int,
    spatial: Shape,
    kernel: Shape,
    stride: Any,
    padding: Any,
    dilation: Any,
    kind: str,
    dtype: Any,
) -> None:
    win = window(kernel, stride, padding, dilation)
    x, dout = _drawn(kind, (batch, 3, *spatial), win)
    x, dout = x.astype(dtype), dout.astype(dtype)
    wanted, dwanted = _pooled(x, dout, win)
    out, winners = max_pool(x, win)
    dx = max_pool_gradient(dout, winners, x.shape, win)
    assert out.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_allclose(dx, dwanted, atol=1e-6)
    for one, other in zip(textbook.max_pool(x, dout, win), (out, dx), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    kept = pickle.loads(pickle.dumps(winners))
    np.testing.assert_array_equal(max_pool_gradient(dout, kept, x.shape, win), dx)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(NAMES, [case for case in CASES if case[-1] == 1])
def test_average_pool_is_the_loops(
    batch: int,
    spatial: Shape,
    kernel: Shape,
    stride: Any,
    padding: Any,
    dilation: Any,
    dtype: Any,
    count_include_pad: bool,
) -> None:
    win = window(kernel, stride, padding, dilation)
    x, dout = (a.astype(dtype) for a in _drawn("any", (batch, 3, *spatial), win))
    wanted, dwanted = _averaged(x, dout, win, count_include_pad)
    out = average_pool(x, win, count_include_pad)
    dx = average_pool_gradient(dout, x.shape, win, count_include_pad)
    assert out.dtype == dx.dtype == dtype
    np.testing.assert_allclose(out, wanted, atol=1e-6)
    np.testing.assert_allclose(dx, dwanted, atol=1e-6)
    found = textbook.average_pool(x, dout, win, count_include_pad)
    for one, other in zip(found, (out, dx), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_many_taps_need_more_than_a_byte() -> None:
    x = np.arange(300.0).reshape(1, 1, 300)
    win = window((300,))
    out, winners = max_pool(x, win)
    assert out.ravel() == [299]
    assert max_pool_gradient(np.ones_like(out), winners, x.shape, win).ravel().nonzero()[0] == [299]


@pytest.mark.parametrize("win", [window((2, 2), 2), window((3, 3), 2, 1), window((1, 1))])
def test_pooling_is_pure(win: Window) -> None:
    x, dout = _drawn("ties", (4, 3, 6, 8), win)
    x.flags.writeable = dout.flags.writeable = False
    out, winners = max_pool(x, win)
    dx = max_pool_gradient(dout, winners, x.shape, win)
    mean = average_pool(x, win)
    dmean = average_pool_gradient(dout, x.shape, win)
    first = (out, dx, mean, dmean, *winners)
    copies = [result.copy() for result in first]
    assert not any(np.shares_memory(result, other) for result in first for other in (x, dout))
    other_out, _ = max_pool(-x, win)
    average_pool(-x, win)
    for result, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(result, copy)
    assert not np.shares_memory(other_out, out)
    for reorder in (arranged, np.asfortranarray):
        again, winners = max_pool(reorder(x), win)
        np.testing.assert_array_equal(again, out)
        np.testing.assert_array_equal(max_pool_gradient(reorder(dout), winners, x.shape, win), dx)
        np.testing.assert_array_equal(average_pool(reorder(x), win), mean)
    for result in (out, dx, mean, dmean):
        assert result.transpose(1, 2, 3, 0).flags.c_contiguous


@pytest.mark.parametrize("kind", ["any", "not finite"])
@pytest.mark.parametrize("win", [window((2, 2), 2), window((3, 3), 2, 1)])
def test_a_channel_at_a_time(monkeypatch: pytest.MonkeyPatch, win: Window, kind: str) -> None:
    x, dout = _drawn(kind, (4, 3, 6, 8), win)
    results = []
    for chunk in (pooling._CHUNK, 2 * x[:, 0].size, 1):
        monkeypatch.setattr(pooling, "_CHUNK", chunk)
        out, winners = max_pool(x, win)
        dx = max_pool_gradient(dout, winners, x.shape, win)
        results.append((out, dx, *winners, average_pool_gradient(dout, x.shape, win)))
    for result in results[1:]:
        for found, wanted in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_pooling_nothing() -> None:
    win = window((2, 2), 2)
    x = np.zeros((0, 3, 6, 8), np.float32)
    out, winners = max_pool(x, win)
    assert out.shape == average_pool(x, win).shape == (0, 3, 3, 4)
    assert max_pool_gradient(out, winners, x.shape, win).shape == x.shape
    assert average_pool_gradient(out, x.shape, win).shape == x.shape


# --- short runs -----------------------------------------------------------------------------------


@short_runs
def _buffer(x: Array, fails: bool = False) -> int:
    """The size of the buffer that a kernel runs with."""
    if fails:
        raise ValueError("it fails")
    return np.getbufsize()


def test_a_small_buffer_serves_large_arrays_alone_and_nobody_else() -> None:
    before = np.getbufsize()
    large, small = np.zeros(1 << 14), np.zeros(16)
    assert _buffer(large) < before == _buffer(small)
    assert np.getbufsize() == before
    with pytest.raises(ValueError, match="it fails"):
        _buffer(large, fails=True)
    assert np.getbufsize() == before


def test_the_buffer_leaves_the_bits_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((32, 4, 20, 18)).astype(np.float32)
    dout = np.random.default_rng(1).standard_normal((32, 4, 10, 9)).astype(np.float32)
    two = window((2, 2), (2, 2))

    def both() -> list[Array]:
        largest, winners = max_pool(x, two)
        gradient = max_pool_gradient(dout, winners, x.shape, two)
        return [largest, gradient, average_pool(x, two), average_pool_gradient(dout, x.shape, two)]

    small = both()
    monkeypatch.setattr(runs, "_SMALL", 1 << 30)
    for one, other in zip(small, both(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("win", [window((2, 2), (2, 2)), window((3, 3), (2, 2), (1, 1))], ids=repr)
def test_an_image_alone_is_pooled_as_beside_another(win: Window) -> None:
    """A large one has another kernel; what it says of ties, NaN and infinity is the same."""
    x = (np.random.default_rng(0).integers(-3, 4, (2, 8, 70, 70)) / 2).astype(np.float32)
    x.reshape(-1)[::97], x.reshape(-1)[::91] = np.nan, np.inf
    out, winners = pooling.max_pool(x, win)
    alone, own = pooling.max_pool(x[1:], win)
    np.testing.assert_array_equal(out[1:], alone)
    dout = np.random.default_rng(1).integers(-9, 9, out.shape).astype(np.float32)
    both = pooling.max_pool_gradient(dout, winners, x.shape, win)
    np.testing.assert_array_equal(both[1:], pooling.max_pool_gradient(dout[1:], own, x[1:].shape, win))
