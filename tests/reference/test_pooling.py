"""Poolings against PyTorch's, over a grid of options."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from funcnn import (
    adaptive_avg_pool,
    adaptive_avg_pool1d,
    adaptive_avg_pool3d,
    adaptive_max_pool,
    adaptive_max_pool1d,
    adaptive_max_pool3d,
    avg_pool,
    avg_pool1d,
    avg_pool3d,
    global_avg_pool,
    global_max_pool,
    lp_pool,
    lp_pool1d,
    lp_pool3d,
    max_pool,
    max_pool1d,
    max_pool3d,
    max_unpool,
    max_unpool1d,
    max_unpool3d,
    random,
)
from funcnn.types import Array, Shape
from tests.reference.agreement import agrees, torch

F: Any = torch.nn.functional

KERNELS: tuple[Any, ...] = (1, 2, 3, (3, 2), (2, 4), 5)
SHAPES: tuple[Any, ...] = ((2, 3, 7, 9), (3, 1, 8, 6), (1, 2, 5, 5))

ON_EVERY_SET_OF_KERNELS = True


def _over_time(pool: Any, x: Any, *args: Any, **options: Any) -> Any:
    return pool(x.transpose(1, 2), *args, **options).transpose(1, 2)


def _ties(shape: Shape) -> Array:
    """Few different values: many windows have several largest elements."""
    return np.round(random.normal(random.key(5), shape, dtype=np.float64))


def _fits(kernel: Any, padding: Any, count: int = 2) -> bool:
    kernels = (kernel,) * count if isinstance(kernel, int) else kernel
    pads = (padding,) * count if isinstance(padding, int) else padding
    return all(2 * p <= k for k, p in zip(kernels, pads, strict=True))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("padding", [0, 1, (0, 1), 2])
@pytest.mark.parametrize("stride", [None, 1, 2, 3, (2, 1), (3, 4)])
def test_max_pool(stride: Any, padding: Any, ceil: bool) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding, "ceil_mode": ceil}
    for kernel, shape in product(KERNELS, SHAPES):
        if _fits(kernel, padding):
            layer = max_pool(kernel, **options)
            agrees(layer, shape, lambda x, k=kernel: F.max_pool2d(x, k, **options))
            agrees(layer, shape, lambda x, k=kernel: F.max_pool2d(x, k, **options), x=_ties(shape))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("dilation", [2, (1, 3)])
@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
def test_dilated_max_pool(stride: Any, dilation: Any, ceil: bool) -> None:
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "ceil_mode": ceil}
    for kernel, padding in product(KERNELS[1:4], (0, 1)):
        if _fits(kernel, padding):
            options["padding"] = padding
            layer = max_pool(kernel, **options)
            for x in (None, _ties(SHAPES[0])):
                agrees(layer, SHAPES[0], lambda x, k=kernel: F.max_pool2d(x, k, **options), x=x)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [None, 1, 3])
def test_winners_and_the_way_back(stride: Any, padding: int, dilation: int, ceil: bool) -> None:
    """Of sequences, images and volumes, with ties; the way back where no windows overlap."""
    options: dict[str, Any] = {"stride": stride, "padding": padding, "ceil_mode": ceil}
    pools: list[Any] = [
        (max_pool1d, max_unpool1d, F.max_pool1d, F.max_unpool1d, (2, 9, 3)),
        (max_pool, max_unpool, F.max_pool2d, F.max_unpool2d, (2, 3, 7, 9)),
        (max_pool3d, max_unpool3d, F.max_pool3d, F.max_unpool3d, (1, 2, 4, 5, 6)),
    ]
    for pool, unpool, theirs, back, shape in pools:
        x = torch.tensor(_ties(shape))
        x = x.transpose(1, 2) if x.ndim == 3 else x
        layer = pool(2, dilation=dilation, return_indices=True, **options)
        out, cache = layer.apply({}, _ties(shape))
        wanted = theirs(x, 2, dilation=dilation, return_indices=True, **options)
        for mine, their in zip(out, wanted, strict=True):
            turned = their.transpose(1, 2) if their.ndim == 3 else their
            np.testing.assert_array_equal(mine, turned.numpy())
        dout = np.ones(out[0].shape)
        plain = pool(2, dilation=dilation, **options)
        _, dx = layer.vjp(cache, (dout, np.zeros_like(out[1])))
        np.testing.assert_array_equal(dx, plain.vjp(plain.apply({}, _ties(shape))[1], dout)[1])
        if dilation == 1 and stride != 1:
            size = tuple(x.shape[2:])
            filled = back(*wanted, 2, stride, padding, output_size=size).numpy()
            mine, _ = unpool(2, stride=stride, padding=padding, output_size=size).apply({}, out)
            np.testing.assert_array_equal(mine, filled.swapaxes(1, 2) if filled.ndim == 3 else filled)


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("padding", [0, 1, (0, 1), 2])
@pytest.mark.parametrize("stride", [None, 1, 2, 3, (2, 1), (3, 4)])
def test_avg_pool(stride: Any, padding: Any, ceil: bool, everything: bool) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding, "ceil_mode": ceil}
    options["count_include_pad"] = everything
    for kernel, shape in product(KERNELS, SHAPES):
        if _fits(kernel, padding):
            layer = avg_pool(kernel, **options)
            agrees(layer, shape, lambda x, k=kernel: F.avg_pool2d(x, k, **options))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("stride", [None, 1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_pools_over_time(kernel: int, stride: int | None, ceil: bool) -> None:
    options: dict[str, Any] = {"stride": stride, "ceil_mode": ceil}
    for length, pad in product((7, 8), (0, 1)):
        shape = (2, length, 3)
        if 2 * pad <= kernel:
            padded = {**options, "padding": pad}
            agrees(
                max_pool1d(kernel, **padded),
                shape,
                lambda x, o=padded: _over_time(F.max_pool1d, x, kernel, **o),
            )
            agrees(
                avg_pool1d(kernel, **padded),
                shape,
                lambda x, o=padded: _over_time(F.avg_pool1d, x, kernel, **o),
            )
        agrees(
            lp_pool1d(kernel, **options),
            shape,
            lambda x: _over_time(F.lp_pool1d, x, 2.0, kernel, **options),
        )


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("stride", [None, 2, (1, 2, 3)])
@pytest.mark.parametrize("kernel", [1, 2, (1, 3, 2)])
def test_pools_over_volumes(kernel: Any, stride: Any, ceil: bool) -> None:
    options: dict[str, Any] = {"stride": stride, "ceil_mode": ceil}
    shape = (2, 2, 3, 5, 6)
    agrees(lp_pool3d(kernel, **options), shape, lambda x: F.lp_pool3d(x, 2.0, kernel, **options))
    for padding in (0, (0, 1, 1)):
        if _fits(kernel, padding, 3):
            all_of = {**options, "padding": padding}
            largest, mean = max_pool3d(kernel, **all_of), avg_pool3d(kernel, **all_of)
            agrees(largest, shape, lambda x, o=all_of: F.max_pool3d(x, kernel, **o))
            agrees(mean, shape, lambda x, o=all_of: F.avg_pool3d(x, kernel, **o))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("stride", [None, 1, 2, (2, 3)])
@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0, 4.0, 7.5])
def test_lp_pool(power: float, stride: Any, ceil: bool) -> None:
    """On positive numbers: there PyTorch's sum of powers is a norm for every exponent."""
    options: dict[str, Any] = {"stride": stride, "ceil_mode": ceil}
    for kernel, shape in product(KERNELS, SHAPES):
        x = np.abs(random.normal(random.key(2), shape, dtype=np.float64)) + 0.1
        agrees(
            lp_pool(kernel, norm_type=power, **options),
            shape,
            lambda x, k=kernel: F.lp_pool2d(x, power, k, **options),
            x=x,
        )


@pytest.mark.parametrize("shape", [(2, 4, 3), (3, 2, 5, 6), (2, 3, 2, 3, 4)])
def test_global_pools(shape: Shape) -> None:
    axes = (1,) if len(shape) == 3 else tuple(range(2, len(shape)))
    agrees(global_avg_pool(), shape, lambda x: x.mean(axes))
    agrees(global_max_pool(), shape, lambda x: x.amax(axes))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, (2, 3), (6, 1), (9, 4), (14, 11)])
def test_adaptive_pools(size: Any) -> None:
    for shape in (*SHAPES, (2, 2, 12, 14)):
        agrees(adaptive_avg_pool(size), shape, lambda x: F.adaptive_avg_pool2d(x, size))
        for x in (None, _ties(shape)):
            agrees(adaptive_max_pool(size), shape, lambda x: F.adaptive_max_pool2d(x, size), x=x)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11])
def test_adaptive_pools_over_time(size: int) -> None:
    for shape in ((2, 8, 3), (1, 5, 2), (2, 24, 2)):
        means, largest = adaptive_avg_pool1d(size), adaptive_max_pool1d(size)
        agrees(means, shape, lambda x: _over_time(F.adaptive_avg_pool1d, x, size))
        for x in (None, _ties(shape)):
            agrees(largest, shape, lambda x: _over_time(F.adaptive_max_pool1d, x, size), x=x)


@pytest.mark.parametrize("size", [1, 2, 3, (1, 2, 3), (4, 5, 2), (5, 7, 9)])
def test_adaptive_pools_over_volumes(size: Any) -> None:
    for shape in ((2, 2, 3, 5, 6), (1, 2, 4, 4, 6)):
        agrees(adaptive_avg_pool3d(size), shape, lambda x: F.adaptive_avg_pool3d(x, size))
        for x in (None, _ties(shape)):
            agrees(adaptive_max_pool3d(size), shape, lambda x: F.adaptive_max_pool3d(x, size), x=x)


@pytest.mark.parametrize("layer", [max_pool(2), adaptive_max_pool(2), global_max_pool()])
def test_a_nan_wins(layer: Any) -> None:
    x = np.array([[[[1.0, np.nan, 3.0], [np.inf, 4.0, -np.inf], [0.0, 2.0, np.nan]]]])
    if layer.spec.kind == "max_pool":
        wanted = F.max_pool2d(torch.tensor(x), 2)
    else:
        wanted = F.adaptive_max_pool2d(torch.tensor(x), 2 if layer.spec.args else 1)
    out, _ = layer.apply({}, x)
    np.testing.assert_array_equal(out.ravel(), wanted.numpy().ravel())
