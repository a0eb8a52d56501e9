"""Portable elementary functions: their errors, their edges, and that only values matter."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from funcnn import numerics
from funcnn.types import Array

SCRIPT = Path(__file__).parents[1] / "scripts" / "measure_ulp.py"
NAMES = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "erfc", "sin", "cos", "rsqrt"]
DTYPES: list[Any] = [np.float32, np.float64]


def load_measurements() -> Any:
    """The script that prints the table in the documentation."""
    spec = importlib.util.spec_from_file_location("measure_ulp", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


measurements = load_measurements()


def portable(name: str, *args: Any) -> Any:
    with numerics.portable():
        return getattr(numerics, name)(*args)


def test_the_measure_sees_errors() -> None:
    truth = np.array([1.0, 1 + 2.0**-24, 3e38, 1e39, np.nan, 1e-45])
    found = np.array([1 + 2.0**-23, 1.0, np.inf, np.inf, 1.0, 0], np.float32)
    error = measurements.error_in_ulp(found, truth).tolist()
    assert error[:2] == [1, 0.5]
    assert error[2] > 1
    assert error[3] == 0
    assert error[4] == math.inf
    assert 0.5 < error[5] < 1


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_within_half_a_unit_over_all_floats(name: str) -> None:
    worst, place, count = measurements.measure_float32(name, 100_003)
    assert count == -(-(1 << 32) // 100_003)
    assert worst < 0.5001, place


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_float32_is_within_half_a_unit_over_a_dense_subset(name: str) -> None:
    assert measurements.measure_float32(name, 4001)[0] < 0.5001


@pytest.mark.parametrize("name", NAMES)
def test_float64_is_within_three_units(name: str) -> None:
    assert measurements.measure_float64(name, 300) < 3


_TRUTH: dict[str, Any] = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log1p": mpmath.log1p,
    "tanh": mpmath.tanh,
    "tanh_slope": lambda x: mpmath.sech(x) ** 2,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
}


def _magnitudes(dtype: Any) -> Array:
    """Numbers of all sizes up to 1e4, of both signs."""
    info = np.finfo(dtype)
    powers = np.geomspace(info.tiny, 1e4, 200)
    sizes = np.concatenate([powers, np.linspace(0, 120, 300), [info.smallest_subnormal, 700, 744]])
    return np.asarray(np.concatenate([sizes, -sizes]), dtype)


@pytest.mark.parametrize("name", _TRUTH)
@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_magnitude(name: str, mode: Any, dtype: Any) -> None:
    """Within 4 units in the last place, and 1 of the argument's; of subnormal numbers too."""
    x, info = _magnitudes(dtype), np.finfo(dtype)
    if name == "log1p":
        x = x[x > -1]
    with numerics.use(mode), np.errstate(over="ignore"):
        found = getattr(numerics, name)(x)
    with mpmath.workdps(30):
        for argument, value in zip(x.tolist(), found.tolist(), strict=True):
            truth, slope = _TRUTH[name](argument), mpmath.diff(_TRUTH[name], argument)
            if abs(truth) > float(info.max):
                assert value == math.inf
                continue
            unit = max(abs(float(truth)) * float(info.eps), float(info.smallest_subnormal))
            slack = abs(float(slope) * argument) * float(info.eps)
            if name == "tanh_slope" and mode == "portable" and abs(argument) <= 5:
                slack = float(info.eps)
            assert abs(float(mpmath.mpf(value) - truth)) <= 4 * unit + slack, argument


@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities(mode: Any, dtype: Any) -> None:
    x = np.array([-np.inf, np.inf, np.nan], dtype)
    limits: dict[str, list[float]] = {
        "exp": [0, np.inf], "expm1": [-1, np.inf], "tanh": [-1, 1], "tanh_slope": [0, 0],
        "sigmoid": [0, 1], "softplus": [0, np.inf], "erf": [-1, 1], "erfc": [2, 0],
    }  # fmt: skip
    for name, wanted in limits.items():
        with numerics.use(mode):
            found = getattr(numerics, name)(x)
        np.testing.assert_array_equal(found, np.array([*wanted, np.nan]), name)


@pytest.mark.parametrize("name", [*NAMES, "softplus", "tanh_slope"])
@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_shape_in_any_memory(name: str, mode: Any, dtype: Any) -> None:
    flat = np.arange(1, 13, dtype=dtype) / dtype(8)
    kept, whole = flat.copy(), flat.reshape(3, 4)
    flat.flags.writeable = False
    with numerics.use(mode):
        function = getattr(numerics, name)
        wanted = function(kept)
        for view, right in (
            (whole, wanted),
            (whole.T, wanted.reshape(3, 4).T),
            (flat[::-2], wanted[::-2]),
            (np.broadcast_to(flat[3], (2, 1)), wanted[[3, 3]]),
            (flat[5].reshape(()), wanted[5]),
            (flat[5], wanted[5]),
            (whole[:0], wanted[:0]),
            (whole[:, :0], wanted[:0]),
        ):
            found = function(view)
            assert (found.shape, found.dtype) == (view.shape, dtype)
            tolerance = 0.0 if mode == "portable" else float(4 * np.finfo(dtype).eps)
            np.testing.assert_allclose(found, right.reshape(view.shape), rtol=tolerance)
    np.testing.assert_array_equal(flat, kept)


def test_powers_are_accurate() -> None:
    single, double = measurements.measure_power(20_000)
    assert single < 0.5001
    assert double < 0.6


SPECIAL = np.array(
    [0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, np.inf, -np.inf, np.nan, 1e300, -1e300, 5e-324]
)


def test_special_powers_follow_c99() -> None:
    x, y = np.meshgrid(SPECIAL, SPECIAL)
    wanted = [_c_power(a, b) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    found = portable("power", x, y).ravel()
    np.testing.assert_allclose(found, wanted, rtol=1e-15)
    signed = ~np.isnan(found)
    np.testing.assert_array_equal(np.signbit(found)[signed], np.signbit(wanted)[signed])


def _c_power(x: float, y: float) -> float:
    if y == 0.5 and x in (0, -np.inf):  # where NumPy's square root is not C's power
        return math.pow(x, y)
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(x), np.float64(y)))


def test_powers_take_scalars_and_broadcast() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    assert portable("power", x, 2).dtype == np.float32
    assert portable("power", x, 2.0).tolist() == [[1, 4], [9, 16]]
    assert portable("power", x, np.array([3.0, 0.5], np.float32)).tolist() == [
        [1, float(np.float32(2**0.5))],
        [27, 2],
    ]
    assert portable("power", np.float64(3), 4.0) == 81


@pytest.mark.parametrize("name", ["tanh", "erf", "sin"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_functions_are_odd(name: str, dtype: Any) -> None:
    x = np.linspace(0, 30, 10_001, dtype=dtype)
    np.testing.assert_array_equal(portable(name, -x), -portable(name, x))
    assert np.signbit(portable(name, dtype(-0.0)))


def test_the_cosine_is_even() -> None:
    x = np.linspace(0, 30, 10_001)
    np.testing.assert_array_equal(portable("cos", -x), portable("cos", x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_only_values_matter(name: str, dtype: Any) -> None:
    """Neither memory order nor the place in an array can be seen."""
    x = np.random.default_rng(0).uniform(0.01, 9, (30, 20, 33)).astype(dtype)
    wanted = portable(name, x)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    for same in (np.asfortranarray(x), last, np.repeat(x, 2, 2)[:, :, ::2]):
        np.testing.assert_array_equal(portable(name, same), wanted)
    np.testing.assert_array_equal(portable(name, x[::-1, :, ::-1])[::-1, :, ::-1], wanted)
    one_by_one = [portable(name, value) for value in x[7, 3]]
    np.testing.assert_array_equal(np.array(one_by_one, dtype), wanted[7, 3])
    assert portable(name, last).strides == last.strides


@pytest.mark.parametrize("name", NAMES)
def test_arguments_stay_as_they_are(name: str) -> None:
    x = np.random.default_rng(0).uniform(0.5, 2, 100)
    before = x.copy()
    x.flags.writeable = False
    portable(name, x)
    np.testing.assert_array_equal(x, before)


def test_integers_become_float64() -> None:
    assert portable("exp", np.array([0, 1])).dtype == np.float64


def test_subnormal_results_are_rounded_once() -> None:
    x = np.array([-708.5, -720.0, -744.0, -745.2, -746.0])
    wanted = [math.exp(value) for value in x]
    np.testing.assert_allclose(portable("exp", x), wanted, rtol=0, atol=5e-324)


def test_logarithms_of_subnormals() -> None:
    x = np.array([5e-324, 1e-310, 2.0**-1022])
    wanted = [math.log(value) for value in x]
    np.testing.assert_allclose(portable("log", x), wanted, rtol=2e-16)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_angles_of_any_size(x: float) -> None:
    """The references are libm's, whose angles are reduced exactly."""
    argument = np.array([x])
    np.testing.assert_allclose(portable("sin", argument), [math.sin(x)], rtol=4e-16, atol=5e-324)
    np.testing.assert_allclose(portable("cos", argument), [math.cos(x)], rtol=4e-16)


def test_the_angle_nearest_to_a_multiple_of_a_right_angle() -> None:
    """6381956970095103 * 2**797: its cosine is 4.7e-19 (Kahan, Muller)."""
    x = math.ldexp(6381956970095103, 797)
    assert portable("cos", np.array([x]))[0] == pytest.approx(-4.68716592425462761112e-19, rel=1e-15)


@settings(max_examples=200, deadline=None)
@given(st.floats(-700, 700))
def test_exponential_and_logarithm_undo_each_other(x: float) -> None:
    back = portable("log", portable("exp", np.array([x])))[0]
    assert abs(back - x) <= 2.0**-52 * max(1.0, abs(x))


@settings(max_examples=200, deadline=None)
@given(st.floats(-40, 40))
def test_sigmoid_and_tanh_are_one_curve(x: float) -> None:
    s, t = portable("sigmoid", np.array([2 * x]))[0], portable("tanh", np.array([x]))[0]
    assert abs(2 * s - 1 - t) <= 4e-16


def test_erf_at_the_nodes_of_its_table() -> None:
    nodes = np.arange(193) / 32
    wanted = [math.erf(value) for value in nodes]
    np.testing.assert_allclose(portable("erf", nodes), wanted, rtol=3e-16)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_of_either_sign_stays_one(name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where `abs` leaves its sign alone, as it does on 32-bit Arm."""
    words = {4: [0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0xFFFFFFFF], 8: [0x7FF8 << 48, 0xFFF8 << 48]}
    size = np.dtype(dtype).itemsize
    nans = np.array(words[size], f"u{size}").view(dtype)
    assert np.isnan(portable(name, nans)).all()
    absolute = np.abs
    monkeypatch.setattr(np, "abs", lambda x: np.where(np.isnan(x), x, absolute(x)))
    assert np.isnan(portable(name, nans)).all()
