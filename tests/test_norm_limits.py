"""Normalisations at every magnitude of input and epsilon, against formulas with sixty digits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from funcnn import (
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    numerics,
    rms_norm,
)
from funcnn.types import Array, Layer

mpmath: Any = pytest.importorskip("mpmath")
mp, mpf = mpmath.mp, mpmath.mpf

DTYPES: list[Any] = [np.float32, np.float64]
MODES: list[Any] = ["fast", "portable"]
EPSILONS = (0.0, 1e-300, 1e-46, 1e-44, 1e-40, 1e-30, 1e-5, 1.0, 1e30, 1e300)
ROWS = ([1.0, -2.0, 3.0, 0.5], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
DOUT = [0.5, -1.0, 2.0, 0.25]


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workdps(60):
        yield


def _exact(values: Any) -> Any:
    return np.array([[mpf(float(v)) for v in row] for row in values], object)


def _rows(dtype: Any) -> Array:
    units = [1e-44, 1e-38, 1e-30, 1e-20, 1e-9, 1.0, 1e9, 1e20, 1e37]
    units += [1e-310, 1e-200, 1e150, 1e300] if dtype is np.float64 else []
    return np.array([[v * unit for v in row] for row in ROWS for unit in units], dtype)


def _normalized(x: Any, dout: Any, epsilon: float, centred: bool) -> tuple[Any, Any, Any]:
    """Value, pullback and root of each row; 0 where variance and epsilon both are."""
    x, dout = _exact(x), _exact(dout)
    count = x.shape[1]
    offset = x - x.sum(1, keepdims=True) / count if centred else x
    total = (offset * offset).sum(1, keepdims=True) / count + mpf(epsilon)
    root = np.array([[1 / mp.sqrt(t) if t else mpf(0)] for (t,) in total], object)
    z = offset * root
    dx = dout - z * (dout * z).sum(1, keepdims=True) / count
    return z, root * (dx - dout.sum(1, keepdims=True) / count if centred else dx), root


def _near(found: Array, exact: Any, sizes: Any, rows: Array, what: str) -> None:
    """Right within a few units in the last place of what is added up; infinite where that is."""
    info = np.finfo(found.dtype)
    assert not np.isnan(found).any(), what
    for got, want, size, row in zip(found, exact, sizes.ravel(), rows, strict=True):
        largest = max(size, *map(abs, want))
        if largest > mpf(float(info.max)):
            continue
        slack = 40 * mpf(float(info.eps)) * largest + 4 * mpf(float(info.smallest_subnormal))
        for a, b in zip(got.tolist(), want, strict=True):
            assert abs(mpf(a) - b) <= slack, f"{what} of {row}: {got}, not {[float(w) for w in want]}"


BUILDS: dict[Any, bool] = {layer_norm: True, rms_norm: False, group_norm: True, instance_norm: True}


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_rows_of_every_magnitude(epsilon: float, dtype: Any, mode: numerics.Mode) -> None:
    x = _rows(dtype)
    dout = np.broadcast_to(np.array(DOUT, dtype), x.shape)
    exact = {centred: _normalized(x, dout, epsilon, centred) for centred in (True, False)}
    subnormal = mpf(float(np.finfo(dtype).smallest_subnormal)) / mpf(float(np.finfo(dtype).eps))
    for build, centred in BUILDS.items():
        layer: Layer[Any, Any] = (
            build(1, epsilon=epsilon, affine=False)
            if build is group_norm
            else build(epsilon=epsilon, affine=False)
        )
        given, back = (x[:, :, None], dout[:, :, None]) if build is instance_norm else (x, dout)
        with numerics.use(mode):
            out, cache = layer.apply({}, given)
            _, dx = layer.vjp(cache, back)
        z, slope, root = exact[centred]
        _near(out.reshape(x.shape), z, subnormal * root, x, f"{layer!r}, {mode}: the value")
        _near(dx.reshape(x.shape), slope, 2 * root, x, f"{layer!r}, {mode}: the slope")


def _responses(
    x: Any, dout: Any, size: int, alpha: float, beta: float, k: float
) -> tuple[Any, Any, Any]:
    """`local_response_norm` and its pullback, and the factor, as formulas."""
    x, dout = _exact(x), _exact(dout)
    out, dx, factors, b = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x), mpf(beta)
    weight = mpf(alpha) / size
    for n, i in itertools.product(*map(range, x.shape)):
        near = range(max(0, i - size // 2), min(x.shape[1], i + (size - 1) // 2 + 1))
        d = mpf(k) + weight * sum(x[n, j] ** 2 for j in near)
        factors[n, i] = d**-b
        out[n, i] = x[n, i] * d**-b
        dx[n, i] += dout[n, i] * d**-b
        for j in near:
            dx[n, j] -= dout[n, i] * 2 * b * weight * x[n, i] * x[n, j] * d ** (-b - 1)
    return out, dx, factors.max(1)


@pytest.mark.parametrize(
    "options",
    [
        (3, 1e-4, 0.75, 1.0),
        (2, 1.0, 0.5, 1e-46),
        (5, 1.0, 0.5, 1e-30),
        (4, 1e-30, 0.75, 2.0),
        (1, 1e20, -0.5, 1.0),
        (3, 0.0, 1.0, 1e30),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_local_responses_of_every_magnitude(options: Any, dtype: Any, mode: numerics.Mode) -> None:
    x = _rows(dtype)
    x = x[np.abs(x).max(1) < float(np.finfo(dtype).max) * 1e-12]
    dout = np.broadcast_to(np.array(DOUT, dtype), x.shape)
    size, alpha, beta, k = options
    layer: Layer[Any, Any] = local_response_norm(size, alpha=alpha, beta=beta, k=k)
    with numerics.use(mode):
        out, cache = layer.apply({}, x)
        _, dx = layer.vjp(cache, dout)
    value, slope, factor = _responses(x, dout, *options)
    _near(out, value, 0 * factor, x, f"{layer!r}: the value")
    _near(dx, slope, 2 * factor, x, f"{layer!r}: the slope")


def test_a_response_to_what_is_huge() -> None:
    x = np.array([[1e20], [1e37], [-3e38]], np.float32)
    out, _ = local_response_norm(5).apply({}, x)
    wanted = [[1e20 * 2e35**-0.75], [1e37 * 2e69**-0.75], [-3e38 * 1.8e72**-0.75]]
    np.testing.assert_allclose(out, np.array(wanted), rtol=1e-5)
