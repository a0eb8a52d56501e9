"""Initializers: moments, fans, orthogonality, pinned bits, and what makes them values."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcnn import conv1d, initializers as start, random
from funcnn.initializers import Initializer
from funcnn.types import Array, Key
from tests import odd

KEY = random.key(0)
FLOATS: list[type[np.floating[Any]]] = [np.float32, np.float64]
VALUES = {
    "zeros()": start.zeros(),
    "ones()": start.ones(),
    "constant(0.1)": start.constant(0.1),
    "normal(0.01)": start.normal(),
    "normal(2.0)": start.normal(2),
    "truncated_normal(0.01)": start.truncated_normal(),
    "uniform(0.01)": start.uniform(),
    "uniform(0.5)": start.uniform(0.5),
    "he_normal()": start.he_normal(),
    "he_uniform()": start.he_uniform(),
    "glorot_normal()": start.glorot_normal(),
    "glorot_uniform()": start.glorot_uniform(),
    "lecun_normal()": start.lecun_normal(),
    "lecun_uniform()": start.lecun_uniform(),
    "variance_scaling(2.0, 'fan_in', 'truncated_normal')": start.variance_scaling(
        2, "fan_in", "truncated_normal"
    ),
    "orthogonal(1.0)": start.orthogonal(),
}
STRUCTURED = {
    "eye()": (start.eye(), (5, 3)),
    "dirac()": (start.dirac(), (4, 6, 3)),
    "dirac(2)": (start.dirac(2), (4, 3, 3, 2)),
    "sparse(0.5)": (start.sparse(0.5), (8, 3)),
    "sparse(0.3, 2.0)": (start.sparse(0.3, 2), (9, 4)),
}
CONSTANT = {"zeros()": 0.0, "ones()": 1.0, "constant(0.1)": 0.1}
DRAWN = {name: value for name, value in VALUES.items() if name not in CONSTANT}


# --- values ---------------------------------------------------------------------------------------


def test_every_initializer_stands_here() -> None:
    named = {name.partition("(")[0] for name in (*VALUES, *STRUCTURED)}
    assert named == set(vars(start)["__all__"]) - {"Initializer", "gain"}


@pytest.mark.parametrize("shown", [*VALUES, *STRUCTURED])
def test_initializers_are_values(shown: str) -> None:
    every = VALUES | {name: value for name, (value, _) in STRUCTURED.items()}
    value = every[shown]
    assert repr(value) == shown
    assert eval(shown, vars(start)) == value
    loaded = pickle.loads(pickle.dumps(value))
    assert loaded == value
    assert repr(loaded) == shown
    assert hash(loaded) == hash(value)
    assert [other for other in every if every[other] == value] == [shown]
    shape = (4, 3, 3) if "dirac" in shown else (4, 3)
    assert np.array_equal(loaded(KEY, shape), value(KEY, shape))


@pytest.mark.parametrize("dtype", [*FLOATS, "float32", "float64", np.dtype(np.float64)])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_shape_and_dtype(value: Initializer, dtype: Any) -> None:
    for shape in [(4, 3), (3, 4), (5, 2, 3), (2, 3, 3, 2), (1, 1), (0, 3), (3, 0), (3, 4, 0, 2)]:
        x = value(KEY, shape, dtype)
        assert x.shape == shape
        assert x.dtype == np.dtype(dtype)
        assert x.flags.writeable
        assert x.flags.c_contiguous
        assert np.array_equal(x, value(KEY, shape, dtype))
    assert value(KEY, (2, 2)).dtype == np.float32


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_few_axes(value: Initializer) -> None:
    name = repr(value).partition("(")[0]
    fans = name.startswith(("he", "glorot", "lecun", "variance", "orthogonal"))
    for shape in [(), (5,)]:
        for key in (KEY, random.NO_DRAW):
            if fans:
                with pytest.raises(ValueError, match="axes") as caught:
                    value(key, shape)
                wanted = f"{name}: `shape` must have at least 2 axes (out, in, ...), got {shape}"
                assert str(caught.value) == wanted
            else:
                assert value(key, shape).shape == shape


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_draw_takes_no_memory(value: Initializer) -> None:
    for dtype in FLOATS:
        for shape in [(10**6, 10**5), (4, 3, 2), (0, 2)]:
            x = value(random.NO_DRAW, shape, dtype)
            assert x.shape == shape
            assert x.dtype == dtype
            assert x.strides == (0,) * len(shape)
            assert not x.flags.writeable


def _halves(_key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], factor: float) -> Array:
    return np.full(shape, 0.5 * factor, dtype)


def test_an_initializer_of_your_own() -> None:
    own = Initializer(_halves, (3.0,))
    assert repr(own) == "_halves(3.0)"
    assert own(KEY, (2,)).tolist() == [1.5, 1.5]
    assert own(random.NO_DRAW, (2,)).strides == (0,)
    assert pickle.loads(pickle.dumps(own)) == own


# --- moments, by fixed keys -----------------------------------------------------------------------


@pytest.mark.parametrize(("shown", "number"), CONSTANT.items())
def test_constants(shown: str, number: float) -> None:
    for dtype in FLOATS:
        assert (VALUES[shown](KEY, (3, 2), dtype) == dtype(number)).all()
        assert VALUES[shown](random.key(1), (3,), dtype).tolist() == [dtype(number)] * 3


# Shapes with unlike fans: (fan_in, fan_out) = (300, 200), (450, 1800), (1200, 100)
FANS = {(200, 300): (300, 200), (200, 50, 3, 3): (450, 1800), (100, 1200): (1200, 100)}
VARIANCES: dict[str, Callable[[int, int], float]] = {
    "normal(0.01)": lambda *_: 1e-4,
    "normal(2.0)": lambda *_: 4.0,
    "truncated_normal(0.01)": lambda *_: 1e-4 * 0.7737413,
    "uniform(0.01)": lambda *_: 1e-4 / 3,
    "uniform(0.5)": lambda *_: 0.25 / 3,
    "he_normal()": lambda fan_in, _: 2 / fan_in,
    "he_uniform()": lambda fan_in, _: 2 / fan_in,
    "glorot_normal()": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_uniform()": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun_normal()": lambda fan_in, _: 1 / fan_in,
    "lecun_uniform()": lambda fan_in, _: 1 / fan_in,
    "variance_scaling(2.0, 'fan_in', 'truncated_normal')": lambda fan_in, _: 2 / fan_in,
}
KURTOSIS = {"normal": 3.0, "uniform": 1.8, "truncated_normal": 2.3655367}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", FANS)
@pytest.mark.parametrize("shown", [name for name in DRAWN if "orthogonal" not in name])
def test_moments(shown: str, shape: tuple[int, ...], dtype: type[np.floating[Any]]) -> None:
    variance = VARIANCES[shown](*FANS[shape])
    x = VALUES[shown](random.key(5), shape, dtype).astype(np.float64)
    kind = next(k for k in ("truncated_normal", "uniform", "normal") if k in shown)
    kurtosis = KURTOSIS[kind]
    assert abs(x.mean()) < 4.5 * math.sqrt(variance / x.size)
    assert abs((x * x).mean() / variance - 1) < 4.5 * math.sqrt((kurtosis - 1) / x.size)
    assert abs((x**4).mean() / variance**2 - kurtosis) < 4.5 * math.sqrt(96 / x.size)
    if kind == "uniform":
        assert np.abs(x).max() <= math.sqrt(3 * variance) * (1 + 1e-6)
    if kind == "truncated_normal":
        assert np.abs(x).max() <= 2 * math.sqrt(variance / 0.7737413) * (1 + 1e-6)


@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
def test_variance_scaling_takes_its_fan(distribution: Any) -> None:
    modes: dict[Any, Callable[[int, int], float]] = {
        "fan_in": lambda fan_in, _: fan_in,
        "fan_out": lambda _, fan_out: fan_out,
        "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    }
    for shape, fans in FANS.items():
        for mode, fan in modes.items():
            x = start.variance_scaling(3.0, mode, distribution)(KEY, shape, np.float64)
            assert abs((x * x).mean() * fan(*fans) / 3.0 - 1) < 4.5 * math.sqrt(2 / x.size)


def test_names_are_settings_of_variance_scaling() -> None:
    for name, scale, mode in [
        ("he", 2.0, "fan_in"), ("glorot", 1.0, "fan_avg"), ("lecun", 1.0, "fan_in"),
    ]:  # fmt: skip
        for kind in ("normal", "uniform"):
            named = getattr(start, f"{name}_{kind}")()
            scaled: Any = start.variance_scaling
            assert np.array_equal(named(KEY, (6, 5)), scaled(scale, mode, kind)(KEY, (6, 5)))


# --- orthogonality --------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 7), (7, 1), (5, 5), (3, 8), (8, 3), (4, 3, 3, 3), (30, 2, 3), (64, 100)]
)
def test_orthogonal(shape: tuple[int, ...], dtype: type[Any], tolerance: float) -> None:
    gain = 1.5
    x = start.orthogonal(gain)(random.key(1), shape, dtype).reshape(shape[0], -1)
    wide = (x if x.shape[0] <= x.shape[1] else x.T).astype(np.float64)
    gram = wide @ wide.T
    assert np.abs(gram - gain**2 * np.eye(len(wide))).max() < tolerance * gain**2


def test_orthogonal_favours_no_direction() -> None:
    # Of an n by n matrix that is uniform over the orthogonal group: every entry has mean 0 and
    # variance 1 / n, the trace has mean 0 and variance 1, both signs of the determinant are alike.
    draws = [start.orthogonal()(key, (3, 3), np.float64) for key in random.split(KEY, 2000)]
    every = np.array(draws)
    assert np.abs(every.mean(0)).max() < 4.5 * math.sqrt(1 / 3 / 2000)
    assert np.abs((every * every).mean(0) - 1 / 3).max() < 4.5 * math.sqrt(0.0889 / 2000)
    traces = every.trace(axis1=1, axis2=2)
    assert abs(traces.mean()) < 4.5 / math.sqrt(2000)
    assert abs(traces.var() - 1) < 0.15
    assert abs((np.linalg.det(every) > 0).sum() - 1000) < 4.5 * math.sqrt(2000) / 2


# --- structure ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_structured_initializers_do_what_they_say(dtype: type[np.floating[Any]]) -> None:
    for value, shape in STRUCTURED.values():
        x = value(random.key(1), shape, dtype)
        assert x.shape == shape
        assert x.dtype == dtype
    signal = random.normal(random.key(2), (2, 4, 9), dtype=np.float64)
    for groups in (1, 2, 4):
        filters = start.dirac(groups)(random.key(0), (4, 4 // groups, 3), np.float64)
        layer = conv1d(4, 3, padding="same", groups=groups, bias=False)
        np.testing.assert_array_equal(
            layer.apply({"weight": filters}, signal.transpose(0, 2, 1))[0], signal.transpose(0, 2, 1)
        )


def test_sparse_columns_have_as_many_zeros_and_the_rest_is_normal() -> None:
    x = start.sparse(0.9, 3.0)(random.key(0), (200, 300), np.float64)
    assert (np.count_nonzero(x, axis=0) == 20).all()
    rows = np.count_nonzero(x, axis=1)
    assert abs(rows.mean() - 30) < 1e-9
    assert rows.min() > 8
    assert rows.max() < 60
    assert abs(x[x != 0].std() / 3 - 1) < 0.03
    assert not np.array_equal(x, start.sparse(0.9, 3.0)(random.key(1), (200, 300), np.float64))


@pytest.mark.parametrize(
    ("name", "slope"),
    [
        ("linear", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("selu", None),
        ("leaky_relu", None), ("leaky_relu", 0.3), ("leaky_relu", 0.0),
    ],
)  # fmt: skip
def test_gains_and_structures_equal_pytorchs(name: Any, slope: float | None) -> None:
    init = pytest.importorskip("torch", reason="PyTorch is not installed").nn.init
    torch = pytest.importorskip("torch")
    ours = start.gain(name) if slope is None else start.gain(name, slope)
    assert ours == pytest.approx(init.calculate_gain(name, slope), rel=1e-15)
    key = random.key(0)
    for shape in ((3, 5), (5, 3), (4, 4)):
        np.testing.assert_array_equal(start.eye()(key, shape), init.eye_(torch.empty(shape)).numpy())
    shapes: tuple[tuple[int, ...], ...] = ((4, 4, 3), (4, 2, 3, 5), (6, 4, 2, 2), (4, 3, 3, 3, 3))
    for filters in shapes:
        for groups in (1, 2):
            wanted = init.dirac_(torch.empty(filters), groups).numpy()
            np.testing.assert_array_equal(start.dirac(groups)(key, filters), wanted)
    for sparsity in (0.0, 0.1, 0.55, 1.0):
        ours_too, its = start.sparse(sparsity)(key, (20, 7)), init.sparse_(torch.empty(20, 7), sparsity)
        np.testing.assert_array_equal(np.count_nonzero(ours_too, 0), np.count_nonzero(its.numpy(), 0))


# --- pinned bits ----------------------------------------------------------------------------------

PINNED = {
    "zeros()": "d8b07784a2f1c43f",
    "ones()": "ba19d8735a3fc10a",
    "constant(0.1)": "ee0eae3569ea3bdb",
    "normal(0.01)": "6051a30ed2dc53d8",
    "normal(2.0)": "cb3e9119099711af",
    "truncated_normal(0.01)": "db62e29e2cfa98e0",
    "uniform(0.01)": "bb66bf2f702fad27",
    "uniform(0.5)": "a4abb4edeb3191e7",
    "he_normal()": "f55b1459aaa01dd6",
    "he_uniform()": "f83721d3beaa1950",
    "glorot_normal()": "7bce501332ae4e8d",
    "glorot_uniform()": "eba21eb6e07039fd",
    "lecun_normal()": "dc477851c906e643",
    "lecun_uniform()": "5d59cba76cce783e",
    "variance_scaling(2.0, 'fan_in', 'truncated_normal')": "3803934af8d430d4",
    "orthogonal(1.0)": "2fab9d7681da0780",
}


def test_sparse_bits_are_pinned() -> None:
    x = start.sparse(0.5)(random.key(12345), (13, 31))
    digest = hashlib.sha256(x.astype("<f4").tobytes()).hexdigest()[:8]
    assert digest == "ac5c8160"


@pytest.mark.parametrize("shown", VALUES)
def test_bits_are_pinned(shown: str) -> None:
    assert "".join(_hash(VALUES[shown], dtype) for dtype in FLOATS) == PINNED[shown]


def _hash(value: Initializer, dtype: type[np.floating[Any]]) -> str:
    digest = hashlib.sha256()
    for shape in [(13, 31), (6, 5, 3, 3), (37, 8)]:
        x = value(random.key(12345), shape, dtype)
        digest.update(x.astype(x.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:8]


# --- refusals -------------------------------------------------------------------------------------

LOOSE: Any = start  # the calls below are wrong on purpose: no type checker should see them
REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: LOOSE.constant("1"), TypeError, "constant: `value` must be a number, got '1'"),
    (lambda: LOOSE.constant(math.inf), ValueError, "constant: `value` must be finite, got inf"),
    (lambda: LOOSE.normal(-1.0), ValueError, "normal: `std` must be above 0.0, got -1.0"),
    (lambda: LOOSE.normal(True), TypeError, "normal: `std` must be a number, got True"),
    (
        lambda: LOOSE.truncated_normal(0.0),
        ValueError,
        "truncated_normal: `std` must be above 0.0, got 0.0",
    ),
    (lambda: LOOSE.uniform(0), ValueError, "uniform: `scale` must be above 0.0, got 0"),
    (
        lambda: start.eye()(KEY, (2, 2, 2)),
        ValueError,
        "eye: `shape` must have 2 axes (out, in), got (2, 2, 2)",
    ),
    (
        lambda: start.dirac(3)(KEY, (4, 2, 3)),
        ValueError,
        "dirac: `groups` must divide the 4 channels that come out, got 3",
    ),
    (lambda: start.sparse(1.5), ValueError, "sparse: `sparsity` must be at most 1, got 1.5"),
    (
        lambda: LOOSE.gain("gelu"),
        ValueError,
        "gain: `nonlinearity` must be one of 'linear', 'sigmoid', 'tanh', 'relu', 'leaky_relu', "
        "'selu', got 'gelu'",
    ),
    (lambda: LOOSE.orthogonal(0.0), ValueError, "orthogonal: `gain` must be above 0.0, got 0.0"),
    (
        lambda: LOOSE.variance_scaling(-2.0, "fan_in", "normal"),
        ValueError,
        "variance_scaling: `scale` must be above 0.0, got -2.0",
    ),
    (
        lambda: LOOSE.variance_scaling(2.0, "fan", "normal"),
        ValueError,
        "variance_scaling: `mode` must be one of 'fan_in', 'fan_out', 'fan_avg', got 'fan'",
    ),
    (
        lambda: LOOSE.variance_scaling(2.0, "fan_in", "cauchy"),
        ValueError,
        "variance_scaling: `distribution` must be one of 'normal', 'truncated_normal', 'uniform', "
        "got 'cauchy'",
    ),
    (
        lambda: LOOSE.he_normal()(0, (3, 2)),
        TypeError,
        "he_normal: `key` must be a funcnn Key, got 0: write funcnn.random.key(0)",
    ),
    (
        lambda: LOOSE.zeros()(None, (3, 2)),
        TypeError,
        "zeros: `key` must be a funcnn Key, got None: write funcnn.random.key(0)",
    ),
    (
        lambda: LOOSE.zeros()(KEY, 3),
        TypeError,
        "zeros: `shape` must be a tuple of ints, got 3",
    ),
    (
        lambda: LOOSE.ones()(KEY, (-1, 3)),
        ValueError,
        "ones: `shape` must not be negative, got (-1, 3)",
    ),
    (
        lambda: LOOSE.glorot_uniform()(KEY, (3, 2), np.int32),
        TypeError,
        "glorot_uniform: `dtype` must be float32 or float64, got <class 'numpy.int32'>",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED, ids=[text for *_, text in REFUSED])
def test_refusals(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_odd_arguments_are_refused_in_one_line() -> None:
    usual = {
        "value": 0.5, "scale": 0.5, "mode": "fan_in", "distribution": "normal", "sparsity": 0.5,
        "nonlinearity": "relu",
    }  # fmt: skip
    key = random.key(0)

    def use(made: Any) -> None:
        if isinstance(made, Initializer):
            made(key, (4, 3) if made.min_rank < 3 else (4, 3, 2))

    for what, call in odd.calls(start, usual, use):
        odd.refused_in_one_line(what, call)
    for made in (start.he_normal(), start.constant(0.5), start.orthogonal()):
        loose: Any = made
        for value in odd.VALUES:
            odd.refused_in_one_line(f"{made} {value!r:.40}", lambda: loose(key, value))  # noqa: B023
            odd.refused_in_one_line(f"{made} {value!r:.40}", lambda: loose(value, (3, 2)))  # noqa: B023
    with pytest.raises(ValueError, match=r"constant: `value` must be at most 3\.40"):
        start.constant(1e300)(key, (2,))
    assert start.constant(1e300)(key, (2,), np.float64)[0] == 1e300


_SIZED: dict[str, str] = {
    "constant": "value", "normal": "std", "truncated_normal": "std", "uniform": "scale",
    "variance_scaling": "scale",
}  # fmt: skip
_REST = {"variance_scaling": ("fan_in", "normal")}


@pytest.mark.parametrize("name", _SIZED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_options_of_any_size_give_finite_numbers_or_are_refused(name: str, dtype: Any) -> None:
    build: Any = getattr(start, name)
    for size in (1e-320, 1e-46, 1e-40, 1e-38, 1e30, 1.8e38, 3e38, 1e39, 1e300, 1.7e308):
        try:
            drawn = build(size, *_REST.get(name, ()))(random.key(0), (6, 6), dtype)
        except ValueError as refusal:
            if f"{name}: `{_SIZED[name]}` must" not in str(refusal):
                raise
            assert size > 1e38
            continue
        assert np.isfinite(drawn).all(), size
        if name != "variance_scaling":  # which takes the root
            most, step = float(np.abs(drawn).max()), float(np.finfo(dtype).smallest_subnormal)
            assert size / 8 - step <= most <= 4 * size + step
