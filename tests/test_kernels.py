"""Convolution's kernels, each path forced in turn, against a twin made of plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from funcnn._kernels.convolution import (
    arranged,
    bias_gradient,
    convolve,
    input_gradient,
    overlapping,
    textbook,
    weight_gradient,
)
from funcnn._kernels.convolution.plans import (
    Columns,
    Depthwise,
    Flat,
    Operation,
    Plan,
    Rotated,
    Rows,
    plan,
)
from funcnn._kernels.convolution.textbook import col2im, im2col
from funcnn._kernels.images import frame
from funcnn._kernels.windows import Window, output_size, same_padding, window
from funcnn.machine import memory
from funcnn.numerics import tiles
from funcnn.types import Array

Shape = tuple[int, ...]
_ALL = slice(None)


# --- the twin: one loop for each index --------------------------------------------------------------


def _meetings(
    x_shape: Shape, weight_shape: Shape, win: Window, groups: int
) -> Iterator[tuple[Any, Any, Any]]:
    """Index of an output (of all examples), of a weight and of the inputs that they meet at."""
    outs = weight_shape[0] // groups
    for o, c in itertools.product(range(weight_shape[0]), range(weight_shape[1])):
        channel = o // outs * weight_shape[1] + c
        for place in np.ndindex(*output_size(win, x_shape[2:])):
            for tap in np.ndindex(*win.kernel):
                at = tuple(
                    p * s + t * d - low
                    for p, t, s, d, (low, _) in zip(
                        place, tap, win.stride, win.dilation, win.padding, strict=True
                    )
                )
                if all(0 <= a < n for a, n in zip(at, x_shape[2:], strict=True)):
                    yield (_ALL, o, *place), (o, c, *tap), (_ALL, channel, *at)


def _looped(
    x: Array, weight: Array, bias: Array, dout: Array, win: Window, groups: int
) -> tuple[Array, Array, Array]:
    """Output, gradient of the weight and of the input; only the batch is not a loop."""
    out = np.zeros(dout.shape) + bias.reshape(-1, *(1,) * (x.ndim - 2))
    dweight, dx = np.zeros(weight.shape), np.zeros(x.shape)
    for o, w, i in _meetings(x.shape, weight.shape, win, groups):
        out[o] += weight[w] * x[i]
        dweight[w] += np.dot(dout[o], x[i])
        dx[i] += weight[w] * dout[o]
    return out, dweight, dx


def _arrays(x_shape: Shape, weight_shape: Shape, win: Window) -> tuple[Array, Array, Array, Array]:
    draw = np.random.default_rng(math.prod(x_shape) + math.prod(weight_shape))
    dout_shape = (x_shape[0], weight_shape[0], *output_size(win, x_shape[2:]))
    shapes = (x_shape, weight_shape, weight_shape[:1], dout_shape)
    x, weight, bias, dout = (draw.standard_normal(shape) for shape in shapes)
    return x, weight, bias, dout


def _plans(win: Window, groups: int = 1) -> list[Plan]:
    """Every plan that fits a window and as many groups."""
    rows = (True, False) if win.dilation[0] == 1 and len(win.kernel) > 1 else (False,)
    plans: list[Plan] = [(Rows if r else Columns)(n) for r in rows for n in (1, 2, 1000)]
    pairs = zip(*win, strict=True)
    if all(s == 1 and max(pad) <= d * (k - 1) for k, s, pad, d in pairs):
        plans.append(Rotated())
    if groups == 1 and set(win.stride) == {1}:
        plans.append(Flat())
    return plans


def _forward(forced: Plan | None) -> Plan | None:
    """The plan, unless it is one of the input gradient alone."""
    return None if isinstance(forced, Rotated) else forced


CASES = [
    # batch, spatial sizes, kernel, stride, padding, dilation; channels are 4 in and 6 out
    (3, (9,), (3,), 1, 0, 1),
    (2, (10,), (4,), 2, ((3, 1),), 2),
    (3, (6, 7), (3, 3), 1, 1, 1),
    (1, (8, 8), (5, 5), 1, 0, 1),
    (5, (7, 6), (1, 1), 1, 0, 1),
    (2, (7, 6), (1, 1), 2, 0, 1),
    (2, (8, 9), (2, 3), (3, 2), ((1, 2), (0, 3)), 1),
    (2, (9, 8), (3, 2), (1, 2), (2, 1), (1, 3)),
    (2, (9, 8), (3, 2), 1, 2, (2, 1)),
    (2, (6, 5), (2, 1), 4, 0, 1),
    (2, (4, 5), (3, 3), 1, 3, 1),
    (2, (4, 5, 4), (2, 3, 2), 1, 1, 1),
    (2, (5, 4, 6), (3, 1, 2), (2, 1, 2), ((1, 0), (0, 0), (0, 1)), (1, 1, 2)),
]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("batch", "spatial", "kernel", "stride", "padding", "dilation"), CASES)
def test_every_plan_is_the_loops(
    batch: int, spatial: Shape, kernel: Shape, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    win = window(kernel, stride, padding, dilation)
    x, weight, bias, dout = _arrays((batch, 4, *spatial), (6, 4 // groups, *kernel), win)
    out, dweight, dx = _looped(x, weight, bias, dout, win, groups)
    unbiased = out - bias.reshape(-1, *(1,) * len(kernel))
    for forced in (None, *_plans(win, groups)):
        for dtype, close in ((np.float64, 1e-12), (np.float32, 2e-5)):
            a, w, b, d = (array.astype(dtype) for array in (x, weight, bias, dout))
            results = (
                (convolve(a, w, b, win, groups, _forward(forced)), out),
                (convolve(a, w, None, win, groups, _forward(forced)), unbiased),
                (weight_gradient(a, d, w.shape, win, groups, _forward(forced)), dweight),
                (input_gradient(d, w, a.shape, win, groups, forced), dx),
                (bias_gradient(d), dout.sum((0, *range(2, dout.ndim)))),
            )
            for found, wanted in results:
                assert found.dtype == dtype
                assert found.shape == wanted.shape
                np.testing.assert_allclose(found, wanted, rtol=close, atol=20 * close)


def test_as_many_groups_as_channels() -> None:
    win = window((3, 3), 1, 1)
    x, weight, bias, dout = _arrays((3, 4, 5, 6), (8, 1, 3, 3), win)
    out, dweight, dx = _looped(x, weight, bias, dout, win, 4)
    for forced in _plans(win, 4):
        np.testing.assert_allclose(convolve(x, weight, bias, win, 4, _forward(forced)), out, atol=1e-12)
        found = weight_gradient(x, dout, weight.shape, win, 4, _forward(forced))
        np.testing.assert_allclose(found, dweight, atol=1e-12)
        found = input_gradient(dout, weight, x.shape, win, 4, forced)
        np.testing.assert_allclose(found, dx, atol=1e-12)


def test_rows_near_an_edge_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The input gradient does them so where that saves enough: here it never would."""
    for kernel, stride, padding in (((3, 3), 1, 0), ((4, 2), (2, 1), 1), ((2, 2), (3, 1), 0)):
        win = window(kernel, stride, padding)
        x, weight, bias, dout = _arrays((3, 2, 9, 6), (4, 2, *kernel), win)
        _, _, dx = _looped(x, weight, bias, dout, win, 1)
        for worth in (0, 10**12):
            monkeypatch.setattr(overlapping, "_ZEROS", worth)
            overlapping._spans.cache_clear()
            for forced in (Rows(2), Columns(2)):
                found = input_gradient(dout, weight, x.shape, win, 1, forced)
                np.testing.assert_allclose(found, dx, atol=1e-12)
    overlapping._spans.cache_clear()


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(4, 11), st.integers(4, 11)),
    outs=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_the_gradients_are_adjoint(
    sizes: Shape, outs: int, kernel: Shape, stride: Shape, pads: Shape
) -> None:
    """``<dout, conv(x, w)> = <dx, x> = <dweight, w>``, as convolution is linear in both."""
    win = Window(kernel, stride, ((pads[0], pads[1]), (pads[2], pads[3])), (1, 1))
    x, weight, _, dout = _arrays(sizes, (outs, sizes[1], *kernel), win)
    for forced in (None, *_plans(win)):
        product = np.vdot(dout, convolve(x, weight, None, win, 1, _forward(forced)))
        dx = input_gradient(dout, weight, x.shape, win, 1, forced)
        dweight = weight_gradient(x, dout, weight.shape, win, 1, _forward(forced))
        np.testing.assert_allclose([np.vdot(dx, x), np.vdot(dweight, weight)], product, atol=1e-9)


# --- what holds for every kernel -------------------------------------------------------------------


def _all_three(x: Array, weight: Array, dout: Array, win: Window) -> tuple[Array, Array, Array]:
    return (
        convolve(x, weight, None, win),
        weight_gradient(x, dout, weight.shape, win),
        input_gradient(dout, weight, x.shape, win),
    )


@pytest.mark.parametrize("batch", [1, 40])
def test_strides_of_the_input_do_not_show(batch: int) -> None:
    win = window((3, 3), 1, 1)
    x, weight, _, dout = _arrays((batch, 4, 6, 7), (5, 4, 3, 3), win)
    wanted = _all_three(x, weight, dout, win)
    for reorder in (arranged, np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2]):
        found = _all_three(reorder(x), reorder(weight), reorder(dout), win)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("batch", [1, 40])
def test_results_are_fresh_and_inputs_untouched(batch: int, padding: int) -> None:
    win = window((3, 3), 1, padding)
    arrays = _arrays((batch, 4, 6, 7), (5, 4, 3, 3), win)
    x, weight, _, dout = arrays
    for array in arrays:
        array.flags.writeable = False
    first = _all_three(x, weight, dout, win)
    copies = [result.copy() for result in first]
    buffers = [raw for raw, _ in memory._buffers.by_name.values()]
    assert buffers
    for result in first:
        assert result.flags.writeable
        assert not any(np.shares_memory(result, other) for other in (*arrays, *buffers))
    _all_three(-x, weight, 2 * dout, win)
    for result, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(result, copy)


def test_memory_runs_batch_last() -> None:
    win = window((3, 3), 1, 1)
    x, weight, _, dout = _arrays((6, 4, 5, 7), (5, 4, 3, 3), win)
    out, _, dx = _all_three(x, weight, dout, win)
    for result in (out, dx, arranged(x)):
        assert result.transpose(1, 2, 3, 0).flags.c_contiguous
    assert arranged(out) is out


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (0, 2))])
@pytest.mark.parametrize("shape", [(19, 1, 32, 32), (20, 2, 16, 16), (0, 1, 32, 32), (9, 3, 5, 7)])
def test_images_that_begin_at_the_same_sets_of_a_cache(shape: Shape, padding: Any) -> None:
    """They are turned some at a time, to the same bits."""
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    wanted = np.pad(x, ((0, 0), (0, 0), *padding)).transpose(1, 2, 3, 0)
    for reorder in (np.asarray, arranged, np.asfortranarray, lambda a: np.repeat(a, 2, 0)[::2]):
        found = frame(reorder(x), padding)
        np.testing.assert_array_equal(found, wanted)
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(arranged(reorder(x)), x)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_an_empty_batch(kernel: Shape) -> None:
    win = window(kernel)
    x, weight, _, dout = _arrays((0, 4, 6, 7), (5, 4, *kernel), win)
    for forced in (None, *_plans(win)):
        assert convolve(x, weight, None, win, 1, _forward(forced)).shape == dout.shape
        assert input_gradient(dout, weight, x.shape, win, 1, forced).shape == x.shape
        assert not weight_gradient(x, dout, weight.shape, win, 1, _forward(forced)).any()


def test_threads_do_not_share_scratch() -> None:
    win = window((5, 5))
    jobs = [_arrays((8 + n, 3, 12, 12), (6, 3, 5, 5), win) for n in range(8)]
    alone = [_all_three(x, weight, dout, win) for x, weight, _, dout in jobs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = pool.map(lambda job: _all_three(job[0], job[1], job[3], win), jobs)
            for found, wanted in zip(together, alone, strict=True):
                for one, other in zip(found, wanted, strict=True):
                    np.testing.assert_array_equal(one, other)


def test_large_scratch_is_given_back() -> None:
    lent = memory.scratch("a test", (memory._KEPT + 1,), np.dtype(np.uint8))
    assert lent.size == memory._KEPT + 1
    assert "a test" not in memory._buffers.by_name
    small = memory.scratch("a test", (3, 5), np.dtype(np.float32))
    assert small.ctypes.data % 64 == 0
    place = memory.address(small)
    del small
    assert memory.address(memory.scratch("a test", (7,), np.dtype(np.float64))) == place
    del memory._buffers.by_name["a test"]


def test_scratch_is_lent_to_one_holder_at_a_time() -> None:
    borrow = partial(memory.scratch, "a test", (3, 5), np.dtype(np.float32))
    one = borrow()
    view = borrow()[1:].T  # of other memory
    assert not np.shares_memory(one, view)
    assert not any(np.shares_memory(held, borrow()) for held in (one, view))
    del memory._buffers.by_name["a test"]


# --- the choice ------------------------------------------------------------------------------------


def _chosen(operation: Operation, batch: int, size: int, ins: int, outs: int, k: int, p: int) -> Plan:
    return plan(operation, (batch, ins, size, size), (outs, ins, k, k), window((k, k), 1, p))


def test_lenet_slides_along_rows() -> None:
    operations: tuple[Operation, ...] = ("convolve", "weight", "input")
    for operation in operations:
        assert _chosen(operation, 32, 28, 3, 6, 5, 0) == Rows(24)
        assert _chosen(operation, 32, 12, 6, 16, 5, 0) == Rows(8)


def test_what_decides() -> None:
    assert isinstance(_chosen("convolve", 1, 28, 3, 6, 5, 0), Flat)  # small
    assert not isinstance(_chosen("convolve", 2, 28, 3, 6, 5, 0), Flat)
    assert not isinstance(_chosen("weight", 1, 12, 6, 64, 5, 0), Flat)  # few columns
    assert not isinstance(_chosen("input", 1, 7, 6, 16, 5, 0), Flat)  # few places are outputs
    assert isinstance(_chosen("convolve", 2, 28, 3, 6, 5, 0), Rows)
    assert not isinstance(_chosen("convolve", 1, 8, 64, 64, 3, 1), Rows)  # rows of 8 numbers
    assert not isinstance(_chosen("weight", 1, 40, 3, 6, 5, 0), Rows)  # rows of 36
    assert not isinstance(_chosen("weight", 8, 16, 64, 64, 3, 1), Rows)  # few products in a sum
    assert isinstance(_chosen("input", 16, 16, 64, 64, 3, 1), Rotated)  # nothing is computed in vain
    assert not isinstance(_chosen("input", 16, 12, 32, 64, 5, 0), Rotated)  # 144 places from 64
    assert not isinstance(_chosen("convolve", 32, 28, 3, 6, 1, 0), Rows)  # nothing to slide along
    many = _chosen("convolve", 1000, 28, 3, 6, 5, 0)
    assert isinstance(many, Rows)
    assert many.chunk < 24  # too much for a cache
    assert plan("convolve", (2, 4, 9, 9), (8, 1, 3, 3), window((3, 3))) == Depthwise()


# --- products --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 75, 100), (16, 300, 450), (64, 576, 130), (7, 2000, 200)])
@pytest.mark.parametrize("cuts", [True, False])
def test_stacked_matmul_is_matmul(shape: Shape, cuts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_CUTS", cuts)
    rows, depth, count = shape
    draw = np.random.default_rng(0)
    filters = draw.standard_normal((2, 1, rows, depth))
    columns = draw.standard_normal((2, 3, depth, count))
    out = np.full((2, 3, rows, count + 5), np.nan)[..., :count]
    tiles.stacked_matmul(filters, columns, out)
    np.testing.assert_allclose(out, filters @ columns, atol=1e-10)
    height, width = tiles.tile(*shape)
    assert rows % height == 0
    assert height * depth * width <= tiles._SMALL or (height, width) == (rows, count)


@pytest.mark.parametrize("shape", [(6, 75, 700), (16, 150, 1000), (64, 576, 900), (13, 97, 50)])
@pytest.mark.parametrize("cuts", [True, False])
def test_summed_matmul_is_matmul(shape: Shape, cuts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_CUTS", cuts)
    rows, columns, depth = shape
    draw = np.random.default_rng(0)
    left = draw.standard_normal((2, 9, rows, depth))
    right = draw.standard_normal((2, 9, columns, depth))
    found = tiles.summed_matmul(left, right.swapaxes(2, 3), left.dtype)
    np.testing.assert_allclose(found, (left @ right.swapaxes(2, 3)).sum(1), atol=1e-9)
    height, width = tiles.outer_tile(rows, depth, columns)
    assert rows % height == 0
    assert columns % width == 0


# --- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "spatial", "kernel", "stride", "padding", "dilation"), CASES)
def test_columns(
    batch: int, spatial: Shape, kernel: Shape, stride: Any, padding: Any, dilation: Any
) -> None:
    win = window(kernel, stride, padding, dilation)
    x, weight, _, dout = _arrays((batch, 2, *spatial), (3, 2, *kernel), win)
    out, dweight, dx = _looped(x, weight, np.zeros(3), dout, win, 1)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    columns = im2col(x, kernel, **options)
    places = output_size(win, spatial)
    found = (weight.reshape(3, -1) @ columns).reshape(3, *places, batch)
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), out, atol=1e-12)
    slopes = weight.reshape(3, -1).T @ np.moveaxis(dout, 0, -1).reshape(3, -1)
    np.testing.assert_allclose(col2im(slopes, x.shape, kernel, **options), dx, atol=1e-12)
    found = textbook.convolve(x, weight, np.zeros(3), win)
    np.testing.assert_allclose(found, out, atol=1e-12)
    wanted = (dweight, dout.sum((0, *range(2, x.ndim))), dx)
    for one, other in zip(textbook.gradients(x, weight, dout, win), wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_columns_of_an_empty_batch() -> None:
    columns = im2col(np.zeros((0, 2, 5, 5)), 3)
    assert columns.shape == (18, 0)
    assert col2im(columns, (0, 2, 5, 5), 3).shape == (0, 2, 5, 5)


# --- windows ---------------------------------------------------------------------------------------


@given(n=st.integers(1, 30), k=st.integers(1, 7), s=st.integers(1, 5), d=st.integers(1, 3))
def test_same_padding(n: int, k: int, s: int, d: int) -> None:
    ((low, high),) = same_padding((k,), (s,), (d,), (n,))
    assert 0 <= high - low <= 1
    win = Window((k,), (s,), ((low, high),), (d,))
    assert output_size(win, (n,)) == (-(-n // s),)
    if low + high:  # one zero less would lose a place
        less = win._replace(padding=((low, high - 1),))
        assert output_size(less, (n,)) < output_size(win, (n,))


@given(
    n=st.integers(1, 20),
    k=st.integers(1, 5),
    s=st.integers(1, 4),
    p=st.integers(0, 3),
    d=st.integers(1, 3),
)
def test_output_size_counts_places(n: int, k: int, s: int, p: int, d: int) -> None:
    span = d * (k - 1) + 1
    starts = [start for start in range(0, n + 2 * p, s) if start + span <= n + 2 * p]
    assert max(output_size(window((k,), s, p, d), (n,))[0], 0) == len(starts)
