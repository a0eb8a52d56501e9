"""Activations at every magnitude, from the smallest numbers to infinity, against mpmath.

Each function is written here once more, and its slope, as formulas of numbers with forty digits. A
result is right where it lies within four units in the last place of what the formula gives for
arguments that differ by two. Subnormal numbers have an absolute precision, and so has what they are
factors of.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import checks, numerics
from funcnn.layers import activations
from funcnn.types import Array, Layer

mpmath: Any = pytest.importorskip("mpmath")
mp, mpf = mpmath.mp, mpmath.mpf

Number = Any  # an mpf
Pair = tuple[Number, Number]
Rule = Callable[..., Pair]

INFINITE = mpf(10) ** 2000  # stands for infinity: no option brings it back into range
_UNITS, _ARGUMENT = 4, 2
DTYPES: list[Any] = [np.float32, np.float64]


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workdps(40):
        yield


# --- the functions, and their slopes --------------------------------------------------------------


def _exp(x: Number) -> Number:
    return mp.exp(max(x, mpf(-(10**6))))


def _sigmoid(x: Number) -> Number:
    return 1 / (1 + _exp(-x)) if x >= 0 else _exp(x) / (1 + _exp(x))


def _softplus(x: Number) -> Number:
    return max(x, mpf(0)) + mp.log1p(_exp(-abs(x)))


def _tanh(x: Number) -> Number:
    return mp.tanh(max(min(x, mpf(10**5)), mpf(-(10**5))))


def _sech2(x: Number) -> Number:
    e = _exp(-2 * abs(x))
    return 4 * e / (1 + e) ** 2


def _leaky(x: Number, a: Number) -> Pair:
    return (x, 1) if x > 0 else (a * x, a)


def _selu(x: Number) -> Pair:
    scale, alpha = mpf("1.0507009873554804934193349852946"), mpf("1.6732632423543772848170429916717")
    value, slope = _elu(x, alpha)
    return scale * value, scale * slope


def _elu(x: Number, alpha: Number) -> Pair:
    return (x, 1) if x > 0 else (alpha * mp.expm1(max(x, -INFINITE)), alpha * _exp(x))


def _celu(x: Number, alpha: Number) -> Pair:
    return (x, 1) if x > 0 else (alpha * mp.expm1(max(x / alpha, mpf(-(10**6)))), _exp(x / alpha))


def _gelu(x: Number, approximate: str) -> Pair:
    if approximate == "tanh":
        a, x_near = mp.sqrt(2 / mp.pi), max(min(x, mpf(10**3)), mpf(-(10**3)))
        u2 = 2 * a * (x_near + mpf("0.044715") * x_near**3)
        slope = _sigmoid(u2) * _sigmoid(-u2) * 2 * a * (1 + 3 * mpf("0.044715") * x_near**2)
        return x * _sigmoid(u2), _sigmoid(u2) + x_near * slope
    near = max(min(x, mpf(1000)), mpf(-1000))
    p = mp.erfc(-near / mp.sqrt(2)) / 2
    return near * p if x < 0 else x * p, p + near * _exp(-(near**2) / 2) / mp.sqrt(2 * mp.pi)


def _mish(x: Number) -> Pair:
    u = _softplus(x)
    return x * _tanh(u), _tanh(u) + x * _sech2(u) * _sigmoid(x)


def _hard_swish(x: Number) -> Pair:
    if abs(x) >= 3:
        return max(x, mpf(0)), mpf(x > 0)
    return x * (x + 3) / 6, x / 3 + mpf(1) / 2


def _tanh_shrink(x: Number) -> Pair:
    with mp.workdps(40 + 2 * max(0, -int(mp.log10(abs(x)))) if abs(x) > mpf(10) ** -200 and x else 40):
        value = x - _tanh(x) if abs(x) > mpf(10) ** -200 else mpf(0)
    return value, _tanh(x) ** 2


def _clipped(x: Number, low: Number, high: Number) -> Pair:
    return max(min(x, mpf(high)), mpf(low)), int(low < x < high)


EXACT: dict[str, Rule] = {
    "relu": lambda x: _leaky(x, mpf(0)),
    "relu6": lambda x: _clipped(x, 0, 6),
    "hard_tanh": _clipped,
    "threshold": lambda x, level, value: (x, 1) if x > level else (value, 0),
    "leaky_relu": _leaky,
    "rrelu": lambda x, lower, upper: _leaky(x, (lower + upper) / 2),
    "prelu": _leaky,
    "elu": _elu,
    "celu": _celu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": lambda x: (x * _sigmoid(x), _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "mish": _mish,
    "softplus": lambda x, beta: (_softplus(beta * x) / beta, _sigmoid(beta * x)),
    "sigmoid": lambda x: (_sigmoid(x), _sigmoid(x) * _sigmoid(-x)),
    "log_sigmoid": lambda x: (-_softplus(-x), _sigmoid(-x)),
    "hard_sigmoid": lambda x: (_clipped(x / 6 + 0.5, 0, 1)[0], mpf(int(abs(x) < 3)) / 6),
    "hard_swish": _hard_swish,
    "tanh": lambda x: (_tanh(x), _sech2(x)),
    "softsign": lambda x: (x / (1 + abs(x)), 1 / (1 + abs(x)) ** 2),
    "soft_shrink": lambda x, a: (x - max(min(x, a), -a), int(abs(x) > a)),
    "hard_shrink": lambda x, a: (x if abs(x) > a else mpf(0), int(abs(x) > a)),
    "tanh_shrink": _tanh_shrink,
}
ALONG_AN_AXIS = {"glu", "log_softmax", "maxout", "softmax", "softmin", "swiglu"}

_LARGE = (1e-310, 1e-46, 1e-30, 0.3, 1.0, 30.0, 1e30, 1e300)
_SIGNED = (*(-option for option in _LARGE), 0.0, *_LARGE)
OPTIONS: dict[str, list[tuple[Any, ...]]] = {
    "hard_tanh": [(-1.0, 1.0), (0.0, 1e-46), (-1e-46, 1e300), (-1e300, -1e30), (-0.25, 1.5)],
    "threshold": [(a, b) for a in (-1e300, -1e-46, 0.0, 0.1, 1e300) for b in (-1e300, 1e-46, 20.0)],
    "leaky_relu": [(a,) for a in (0.01, *_SIGNED)],
    "rrelu": [(1 / 8, 1 / 3), (1e-30, 1e-30), (0.5, 1e30)],
    "prelu": [(a,) for a in (-1e30, -0.5, 0.0, 0.25, 1.0, 1e30)],
    "elu": [(a,) for a in _SIGNED],
    "celu": [(a,) for a in _LARGE],
    "gelu": [("none",), ("tanh",)],
    "softplus": [(a,) for a in (20.0, *_LARGE)],
    "soft_shrink": [(a,) for a in (0.0, 0.5, *_LARGE)],
    "hard_shrink": [(a,) for a in (0.0, 0.5, *_LARGE)],
}


def _constructors(module: ModuleType) -> dict[str, Any]:
    return {name: getattr(module, name) for name in module.__all__}


CASES = [(name, options) for name in EXACT for options in OPTIONS.get(name, [()])]


def _layer(name: str, options: tuple[Any, ...]) -> Layer[Any, Any]:
    build = getattr(funcnn, name)
    return build(initial_slope=options[0]) if name == "prelu" else build(*options)  # type: ignore[no-any-return]


def _params(layer: Layer[Any, Any], shape: tuple[int, ...], dtype: Any) -> Any:
    params = layer.init(funcnn.random.key(0), shape)[1]
    return {name: leaf.astype(dtype) for name, leaf in params.items()}


def test_every_activation_has_its_function() -> None:
    """A new one is written down here too, or fails."""
    assert EXACT.keys() | ALONG_AN_AXIS == _constructors(activations).keys()
    for name in EXACT:
        assert (name in OPTIONS) == bool(inspect.signature(getattr(funcnn, name)).parameters), name


def _numbers(dtype: Any) -> Array:
    """All magnitudes, closer together where most functions bend, and both signs."""
    info = np.finfo(dtype)
    powers = np.exp2(np.linspace(np.log2(float(info.tiny)), info.maxexp - 0.01, 70))
    kinks = [88.5, 100.7, 103.9, 104, 106, 109, 150, 191, 709, 744, 746, 748, 752, 1400]
    kinks += [0.1, 0.25, 0.3, 0.5, 1, 1.5, 3, 6, 17, 20, 30, 88, 100, 700, 740]
    special = [0, info.smallest_subnormal, info.tiny / 3, info.tiny, info.max, np.inf]
    sizes = np.concatenate([powers, np.linspace(0, 13, 53), np.linspace(13, 110, 25), kinks, special])
    return np.asarray(np.concatenate([sizes, -sizes]), dtype)


def _interval(rule: Rule, x: float, options: tuple[Any, ...], eps: float) -> list[list[Number]]:
    """Values, and slopes, of the argument and of two units in its last place around it."""
    exact = mp.sign(x) * INFINITE if np.isinf(x) else mpf(x)
    pairs = [rule(exact * (1 + k * _ARGUMENT * mpf(eps)), *options) for k in (-1, 0, 1)]
    return [list(map(mpf, part)) for part in zip(*pairs, strict=True)]


def _is_right(found: float, exact: list[Number], slack: Number, dtype: Any) -> bool:
    info = np.finfo(dtype)
    low, high = min(exact), max(exact)
    unit = _UNITS * max(abs(low), abs(high)) * mpf(float(info.eps)) + slack
    beyond = mpf(float(info.max)) * (1 - 8 * mpf(float(info.eps)))
    if np.isinf(found):
        return bool(high + unit > beyond if found > 0 else low - unit < -beyond)
    return bool(low - unit <= found <= high + unit)


_ENDS = (88, 100.7, 104, 143, 150, 400, 709, 746, 1000)  # about where exponentials vanish


def _check(layer: Layer[Any, Any], rule: Rule, options: tuple[Any, ...], dtype: Any) -> None:
    """A layer gives the values and the slopes of a rule, at all numbers, in both modes."""
    info = np.finfo(dtype)
    # where the exponential of `beta x` or ``x / alpha`` vanishes
    kind, factor = layer.spec.kind, options[0] if options else 1
    factor = {"softplus": 1 / factor, "celu": factor}[kind] if kind in ("softplus", "celu") else 1.0
    ends = np.array(_ENDS) * factor
    inside = ends[(info.tiny < abs(ends)) & (abs(ends) < info.max)].astype(dtype)
    x = np.concatenate([_numbers(dtype), inside, -inside])[None]
    params = _params(layer, x.shape, dtype)
    exact = tuple(option if isinstance(option, str) else mpf(option) for option in options)
    intervals = [_interval(rule, argument, exact, float(info.eps)) for argument in x[0].tolist()]
    slack = _UNITS * mpf(float(info.smallest_subnormal))
    if exact == ("none",):  # a product with the error of `erfc`, which grows with the square
        slack *= 250
    for mode in ("fast", "portable"):
        with numerics.use(mode):
            out, cache = layer.apply(params, x)
            _, dx = layer.vjp(cache, np.ones_like(out))
        assert out.dtype == dx.dtype == dtype
        rough = mpf(float(info.eps)) if layer.spec.kind == "tanh" and mode == "portable" else slack
        for argument, value, slope, (values, slopes) in zip(
            x[0].tolist(), out[0].tolist(), dx[0].tolist(), intervals, strict=True
        ):
            at = f"{layer!r} at {argument!r}, {mode}"
            assert _is_right(value, values, slack, dtype), f"value of {at}: {value!r}"
            assert _is_right(slope, slopes, rough, dtype), f"slope of {at}: {slope!r}"


def _fits(name: str, options: tuple[Any, ...]) -> bool:
    """Whether float32 holds what may come out; else float32 arrays are refused."""
    declared = checks.declaration(getattr(funcnn, name)).values()
    return not any(
        getattr(constraint, "held", False) and abs(option) > float(np.finfo(np.float32).max)
        for constraint, option in zip(declared, options, strict=False)
    )


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_slopes_are_limits(name: str, options: tuple[Any, ...], dtype: Any) -> None:
    if dtype is np.float32 and not _fits(name, options):
        with pytest.raises(ValueError, match=r"must give numbers that float32 can hold, got "):
            _layer(name, options).apply({}, np.ones((1, 1), dtype))
        return
    exact = (float(np.float32(options[0])),) if name == "prelu" else options  # as `init` draws it
    _check(_layer(name, options), EXACT[name], exact, dtype)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_values_and_slopes_at_zero_are_exact(
    name: str, options: tuple[Any, ...], dtype: Any, mode: Any
) -> None:
    """Rounded once; only softplus is the quotient of a logarithm, which is rounded too."""
    if dtype is np.float32 and not _fits(name, options):
        return
    layer, x = _layer(name, options), np.array([[0.0, -0.0]], dtype)
    exact = [option if isinstance(option, str) else mpf(option) for option in options]
    if name == "prelu":
        exact = [mpf(float(np.float32(options[0])))]
    value, slope = (float(part) for part in EXACT[name](mpf(0), *exact))
    with numerics.use(mode):
        out, cache = layer.apply(_params(layer, x.shape, dtype), x)
        _, dx = layer.vjp(cache, np.ones_like(out))
    with np.errstate(over="ignore"):
        if name == "softplus":
            np.testing.assert_allclose(out, dtype(value), rtol=float(np.finfo(dtype).eps))
        else:
            assert out.tolist() == [[float(dtype(value))] * 2]
        assert dx.tolist() == [[float(dtype(slope))] * 2]


def _formula(kind: Any, value: Any, slope: Any) -> Layer[Any, Any]:
    """A layer as one would write it first."""

    def vjp(x: Any, dout: Any) -> Any:
        with np.errstate(all="ignore"):
            return {}, dout * slope(x)

    def apply(params: Any, x: Any, *, key: Any = None) -> Any:
        with np.errstate(all="ignore"):
            return value(x), x

    return kind()._replace(apply=apply, vjp=vjp)  # type: ignore[no-any-return]


def _logistic(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize(
    "layer",
    [
        _formula(funcnn.silu, lambda x: x * _logistic(x), lambda x: _logistic(x)),
        _formula(funcnn.softsign, lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2),
        _formula(funcnn.sigmoid, _logistic, lambda x: _logistic(x) * (1 - _logistic(x))),
        _formula(funcnn.tanh, np.tanh, lambda x: 1 - np.tanh(x) ** 2),
        _formula(funcnn.tanh_shrink, lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2),
        _formula(funcnn.hard_swish, lambda x: x * (x + 3).clip(0, 6) / 6, lambda x: x > 3),
    ],
    ids=repr,
)
def test_formulas_as_one_writes_them_first_are_caught(layer: Layer[Any, Any]) -> None:
    with pytest.raises(AssertionError, match=layer.spec.kind):
        _check(layer, EXACT[layer.spec.kind], (), np.float32)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_nan_gives_nan(name: str, options: tuple[Any, ...]) -> None:
    dtype = np.float32 if _fits(name, options) else np.float64
    layer, x = _layer(name, options), np.array([[1.0, np.nan, -2.0]], dtype)
    out, cache = layer.apply(_params(layer, x.shape, dtype), x)
    assert np.isnan(out).tolist() == [[False, True, False]]
    assert not np.isnan(layer.vjp(cache, np.ones_like(out))[1][0, [0, 2]]).any()


def test_examples() -> None:
    inf, f32 = np.inf, np.float32
    values: dict[str, tuple[list[float], list[float]]] = {
        "silu": ([-3e38, -inf], [0, 0]),
        "sigmoid": ([-inf, inf, -100], [0, 1, 3.783506e-44]),
        "gelu": ([-inf, -5], [0, -1.4332575e-06]),
        "tanh_shrink": ([1e-4], [3.3333333e-13]),
        "hard_swish": ([-inf, 3e38, inf], [0, 3e38, inf]),
    }
    for name, (x, wanted) in values.items():
        out, _ = _layer(name, ()).apply({}, np.array([x], f32))
        np.testing.assert_allclose(out[0], np.array(wanted), rtol=1e-6, atol=1e-45, err_msg=name)
    slopes: dict[tuple[str, ...], tuple[list[float], list[float]]] = {
        ("mish",): ([-3e38, 3e38], [0, 1]),
        ("gelu", "tanh"): ([2e13, -2e13], [1, 0]),
        ("sigmoid",): ([17, -17], [4.139937e-08, 4.139937e-08]),
    }
    for (name, *options), (x, wanted) in slopes.items():
        out, cache = _layer(name, tuple(options)).apply({}, np.array([x], f32))
        found = _layer(name, tuple(options)).vjp(cache, np.ones_like(out))[1][0]
        np.testing.assert_allclose(found, np.array(wanted), rtol=1e-6, err_msg=name)
    one = np.ones((1, 1), f32)
    assert funcnn.celu(1e-46).apply({}, one)[0] == 1
    assert funcnn.softplus(1e300).apply({}, one)[0] == 1


# --- along an axis --------------------------------------------------------------------------------

_ROWS = (
    [0.0, 0.0, 0.0],
    [0.0, 20.0, -3.0],
    [100.0, 0.0, 99.0],
    [-700.0, 0.25, -88.0],
    [3e38, -3e38, 0.0],
    [3e38, 3e38, -3e38],
    [1e-45, -1e-45, 0.0],
    [-np.inf, 0.0, 1.0],
    [-np.inf, 2.0, -np.inf],
    [np.inf, 0.0, -np.inf],
    [np.inf, np.inf, 0.0],
)


def _softmax(row: list[float]) -> list[tuple[Number, Number]]:
    """Probabilities and their logarithms."""
    exact = [mp.sign(x) * INFINITE if np.isinf(x) else mpf(x) for x in row]
    top = max(exact)
    others = list(exact)
    others.remove(top)
    log_sum = mp.log1p(sum(_exp(x - top) for x in others))
    return [(_exp(x - top - log_sum), x - top - log_sum) for x in exact]


@pytest.mark.parametrize("row", _ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_softmaxes_are_limits(row: list[float], dtype: Any, mode: Any) -> None:
    x, info = np.array([row], dtype), np.finfo(dtype)
    exact = _softmax(x[0].tolist())
    least = _UNITS * mpf(float(info.smallest_subnormal))
    for axis, name, sign, part in itertools.product(
        (0, 1), ("softmax", "log_softmax", "softmin"), (1, -1), (0, 1)
    ):
        if (name == "softmin") != (sign == -1) or (name == "log_softmax") != (part == 1):
            continue
        layer: Layer[Any, Any] = getattr(funcnn, name)(axis=axis + 1)
        given = sign * (x[:, :, None] if axis == 0 else x[:, None, :])
        with numerics.use(mode):
            out, cache = layer.apply({}, given)
            slopes = [
                layer.vjp(cache, (np.ones(3, dtype) * weights).reshape(out.shape))[1].ravel()
                for weights in (1, np.array([float(p) for p, _ in exact], dtype))
            ]
        for found, (p, log_p) in zip(out.ravel().tolist(), exact, strict=True):
            wanted = (p, log_p)[part]
            error = abs(log_p if part == 0 and log_p > -1000 else 0) * mpf(float(info.eps))
            around = [wanted * (1 - error), wanted * (1 + error)]
            assert _is_right(found, around, least, dtype), f"{layer!r} of {row}: {out.ravel()}"
        assert np.isfinite(slopes).all()
        if name != "log_softmax":
            np.testing.assert_allclose(slopes[0], np.zeros(3), atol=float(4 * info.eps))
        else:
            wanted_slopes = [float(1 - 3 * p) for p, _ in exact]
            np.testing.assert_allclose(slopes[0], np.array(wanted_slopes), atol=float(8 * info.eps))


def test_nothing_but_minus_infinity_has_no_softmax() -> None:
    x = np.array([[-np.inf, -np.inf], [0.0, 0.0]], np.float32)
    for name in ("softmax", "log_softmax"):
        layer: Layer[Any, Any] = getattr(funcnn, name)()
        out, _ = layer.apply({}, x)
        assert np.isnan(out).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("name", ["glu", "swiglu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("kernels", ["off", "auto"])
def test_gated_units_are_limits(name: str, dtype: Any, mode: Any, kernels: Any) -> None:
    info = np.finfo(dtype)
    sizes = np.array([0, 1e-45, 1e-20, 0.5, 1, 10, 50, 1e3, 1e20, info.max], dtype)
    first, second = np.meshgrid([*sizes, *-sizes], [*sizes, *-sizes, dtype(np.inf), dtype(-np.inf)])
    a, b = (first, second) if name == "glu" else (second, first)
    layer: Layer[Any, Any] = getattr(funcnn, name)()
    x = np.stack([a.ravel(), b.ravel()], 1).astype(dtype)
    with numerics.use(mode), numerics.compiled(kernels):
        out, cache = layer.apply({}, x)
        _, dx = layer.vjp(cache, np.ones_like(out))
        steep = layer.vjp(cache, np.full_like(out, info.max))[1].tolist()
    slack = 4 * mpf(float(info.smallest_subnormal))
    eps = float(info.eps)

    def times(factor: float, pair: list[Number]) -> list[Number]:
        return [mpf(factor) * part for part in pair]

    rows = zip(x.tolist(), out[:, 0].tolist(), dx.tolist(), steep, strict=True)
    for (left, right), value, slopes, steeper in rows:
        if np.isinf(left) and right == 0:  # a product that has no limit
            continue
        if name == "glu":
            gate, rise = _interval(EXACT["sigmoid"], right, (), eps)
            wanted = times(left, gate), gate, times(left, rise)
            scale = abs(mpf(left))
        else:
            gate, rise = _interval(EXACT["silu"], left, (), eps)
            wanted = times(right, gate), times(right, rise), gate
            scale = abs(mpf(right)) * 1000
        for found, exact in zip((value, *slopes), wanted, strict=True):
            assert _is_right(found, exact, slack * max(1, scale), dtype), (left, right, found)
        top = mpf(float(info.max))
        for found, exact in zip(steeper, wanted[1:], strict=True):
            exact = [top * part for part in exact]
            assert _is_right(found, exact, top * slack * max(1, scale), dtype), (left, right, found)


def test_the_largest_is_a_limit() -> None:
    layer: Layer[Any, Any] = funcnn.maxout(2)
    x = np.array([[np.inf, 1.0, -np.inf, -3e38, -np.inf, -np.inf, np.nan, 1.0]], np.float32)
    out, cache = layer.apply({}, x)
    np.testing.assert_array_equal(out, np.array([[np.inf, -3e38, -np.inf, np.nan]], np.float32))
    assert layer.vjp(cache, np.ones_like(out))[1].tolist() == [[1, 0, 0, 1, 1, 0, 1, 0]]
