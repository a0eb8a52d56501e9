"""Keys and draws: pinned bits, distributions, independence, refusals."""

from __future__ import annotations

import hashlib
import importlib
import math
import pickle
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest

from funcnn import numerics, random
from funcnn.random import bits, discrete
from funcnn.types import Array, Key
from tests import odd
from tests.elsewhere import environment

KEY = random.key(0)
FLOATS: list[type[np.floating[Any]]] = [np.float32, np.float64]


def _hash(x: Array) -> str:
    """Sixteen digits that change with any bit of `x`."""
    return hashlib.sha256(x.astype(x.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


# --- the streams, pinned: these values may never change -------------------------------------------

KEYS = {
    0: Key(14844969518515427380, 16210427289631297211),
    1: Key(13953097851334844124, 14905033560365278844),
    12345: Key(3307607128316784860, 3557468056460844076),
    2**64: Key(4330185853183254630, 6625469383816117158),
    10**40: Key(15948991805833865031, 1436693142103335955),
}
CHILDREN = (
    Key(5715347854502919186, 14976731156657389529),
    Key(18189858366639185430, 6250211479128880183),
    Key(992136875854001396, 16203859470627768498),
)
FOLDED: dict[int | str, Key] = {
    0: Key(2600845315580841910, 12079374214752557652),
    2**70: Key(5140429400761783894, 11142861527372949466),
    "conv1": Key(10595835051586000083, 3940630580839692276),
    "": Key(17743426385809217835, 15332893800603120859),
    "é": Key(1410980259025514207, 6962004366560574194),
}


def test_keys_are_pinned() -> None:
    assert {seed: random.key(seed) for seed in KEYS} == KEYS
    assert random.split(KEY, 3) == CHILDREN
    assert {data: random.fold_in(KEY, data) for data in FOLDED} == FOLDED
    assert random.key(np.int64(1)) == KEYS[1]  # type: ignore[arg-type]
    assert random.fold_in(KEY, np.uint8(0)) == FOLDED[0]  # type: ignore[arg-type]


MANY = (20_000,)  # more than one chunk
WEIGHTS = np.array([0.5, 0.0, 0.25, 0.125, 0.125])
DRAWS: dict[str, Callable[[Key], Array]] = {
    "uniform float32": lambda key: random.uniform(key, MANY),
    "uniform float64": lambda key: random.uniform(key, MANY, dtype=np.float64),
    "uniform -3..5 float32": lambda key: random.uniform(key, MANY, -3.0, 5.0),
    "uniform -3..5 float64": lambda key: random.uniform(key, MANY, -3.0, 5.0, np.float64),
    "normal float32": lambda key: random.normal(key, MANY),
    "normal float64": lambda key: random.normal(key, MANY, dtype=np.float64),
    "normal 2, 0.1 float32": lambda key: random.normal(key, MANY, 2.0, 0.1),
    "normal 2, 0.1 float64": lambda key: random.normal(key, MANY, 2.0, 0.1, np.float64),
    "truncated float32": lambda key: random.truncated_normal(key, MANY),
    "truncated float64": lambda key: random.truncated_normal(key, MANY, dtype=np.float64),
    "truncated 5..9": lambda key: random.truncated_normal(key, MANY, 5.0, 9.0, np.float64),
    "truncated -9..-8": lambda key: random.truncated_normal(key, MANY, -9.0, -8.0, np.float64),
    "bernoulli 0.3": lambda key: random.bernoulli(key, 0.3, MANY),
    "randint 0..6": lambda key: random.randint(key, MANY, 0, 6),
    "randint int8": lambda key: random.randint(key, MANY, -128, 128, np.int8),
    "randint uint64": lambda key: random.randint(key, MANY, 0, 2**64, np.uint64),
    "randint 3 * 2**62": lambda key: random.randint(key, MANY, -(2**63), 2**62),
    "permutation": lambda key: random.permutation(key, MANY[0]),
    "choice": lambda key: random.choice(key, 10, MANY),
    "choice once": lambda key: random.choice(key, 30_000, MANY, replace=False),
    "choice weighted": lambda key: random.choice(key, 5, MANY, weights=WEIGHTS),
    "choice weighted once": lambda key: random.choice(key, 5, (4,), False, WEIGHTS),
}
# The first three values, and a hash of all: for key(0), then the hash for key(12345).
PINNED: dict[str, tuple[list[Any], str, str]] = {
    "uniform float32": (
        [0.7066420316696167, 0.9484937191009521, 0.17645740509033203],
        "f810db54dd1eaf01",
        "b0f3cc6b910e6b6c",
    ),
    "uniform float64": (
        [0.9484937264832299, 0.3770779832677118, 0.034199515764496424],
        "ae83d6e499c80b37",
        "51f566171c14a780",
    ),
    "uniform -3..5 float32": (
        [2.6531362533569336, 4.587949752807617, -1.5883407592773438],
        "af73e551890e4632",
        "a52c1c38e5e7d703",
    ),
    "uniform -3..5 float64": (
        [4.5879498118658395, 0.01662386614169442, -2.7264038738840286],
        "eeec84062fffaa79",
        "7e556a0310bab56f",
    ),
    "normal float32": (
        [0.5436012148857117, 1.6304206848144531, -0.9289501905441284],
        "d6c514567a606950",
        "ff8a3c4d6626ab38",
    ),
    "normal float64": (
        [1.630421010721669, -0.31316413302496987, -1.8223688911128824],
        "cc1ed53b2665d745",
        "5d6e5bfcdd7e30b9",
    ),
    "normal 2, 0.1 float32": (
        [2.0543601512908936, 2.1630420684814453, 1.9071049690246582],
        "0dfba17af5e63828",
        "d5928525d51b1429",
    ),
    "normal 2, 0.1 float64": (
        [2.163042101072167, 1.968683586697503, 1.8177631108887118],
        "a0d17a5cec238e12",
        "d54c27233d96a30a",
    ),
    "truncated float32": (
        [1.4616917371749878, -0.2984733283519745, -1.5946651697158813],
        "1ebc93f45218fed0",
        "90ac975214b29734",
    ),
    "truncated float64": (
        [1.4616916995401104, -0.29847332163957946, -1.594665211422029],
        "dc4fe1340dd6d974",
        "10f9f8fca502293a",
    ),
    "truncated 5..9": (
        [5.544208336995938, 5.0904986311321805, 5.006705144612582],
        "6e651d1cd0697e37",
        "39a4eacad40a9538",
    ),
    "truncated -9..-8": (
        [-8.006507448163271, -8.119191875038611, -8.40504771904801],
        "b27d769ef4158010",
        "769ef7873fc0322f",
    ),
    "bernoulli 0.3": (
        [False, False, True],
        "b86687bd72aaec4c",
        "c15daccbf8449a42",
    ),
    "randint 0..6": (
        [2, 3, 4],
        "033943b6e82a6ed5",
        "aee7e06c4280c0e8",
    ),
    "randint int8": (
        [-106, -11, 50],
        "e1f5bb2fa66d24c0",
        "e580caa895c39b6d",
    ),
    "randint uint64": (
        [17496621027955211798, 6955861053170012277, 630869714752462258],
        "d9d3c0840c7c1b72",
        "c42dd143a0910f10",
    ),
    "randint 3 * 2**62": (
        [-2267510983684763531, -8592502322102313550, -5308275688162202838],
        "81e7b9890ed625c0",
        "9e77e3a0c1e891cc",
    ),
    "permutation": (
        [13019, 4196, 5718],
        "46cfd6653445f679",
        "c250d4b43df46c62",
    ),
    "choice": (
        [8, 7, 8],
        "4875966c564a3af2",
        "92e13d40d0a4c677",
    ),
    "choice once": (
        [13019, 4196, 5718],
        "94c0200636801031",
        "80d07fe820ef45be",
    ),
    "choice weighted": (
        [4, 0, 0],
        "ec23cbf59cae0ee3",
        "61284cdd6a887281",
    ),
    "choice weighted once": (
        [2, 3, 0],
        "c5b649c9cba31406",
        "17c3017b9f8f8773",
    ),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_pinned(name: str) -> None:
    draw = DRAWS[name]
    first, whole, other = PINNED[name]
    drawn = draw(KEY)
    assert drawn[:3].tolist() == first
    assert (_hash(drawn), _hash(draw(random.key(12345)))) == (whole, other)


def test_every_draw_is_pinned() -> None:
    assert PINNED.keys() == DRAWS.keys()
    drawing = set(vars(random)["__all__"]) - {"NO_DRAW", "key", "split", "fold_in"}
    assert {name.split()[0].replace("truncated", "truncated_normal") for name in DRAWS} == drawing


def _all_draws() -> str:
    return " ".join(_hash(draw(KEY)) for draw in DRAWS.values())


def test_draws_do_not_depend_on_the_numerics_mode() -> None:
    with numerics.portable():
        portable = _all_draws()
    assert portable == _all_draws()


@pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
def test_draws_do_not_depend_on_the_set_of_kernels() -> None:
    sizes = (1, 7, 8, 9, 2047, 2048, 2049, 4 * bits.CHUNK + 3)

    def drawn() -> list[str]:
        events = (random.bernoulli(KEY, p, (n,)) for n in sizes for p in (0, 0.3, 1 - 2**-32, 1))
        numbers = (draw(KEY, (n,)) for n in sizes for draw in (random.uniform, random.normal))
        return [_all_draws(), *map(_hash, events), *map(_hash, numbers)]

    alone = drawn()
    with numerics.compiled("require"):
        assert drawn() == alone
        with numerics.portable():
            assert drawn() == alone


def test_draws_do_not_depend_on_the_vector_unit() -> None:
    core = importlib.import_module("numpy._core._multiarray_umath")
    used = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    if not used:
        pytest.skip("this machine has no vector unit beyond what NumPy takes for granted")
    code = "from tests.test_random import _all_draws; print(_all_draws())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(NPY_DISABLE_CPU_FEATURES=" ".join(used)),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == _all_draws().split()


def test_importing_leaves_numpy_random_alone() -> None:
    code = "import sys, funcnn.random; sys.exit('numpy.random' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


# --- keys -----------------------------------------------------------------------------------------


def test_keys_of_different_origin_differ() -> None:
    numbers = [*range(300), 2**32, 2**64, 2**64 + 1, 2**128]
    keys = [random.key(n) for n in numbers]
    keys += random.split(KEY, 300)
    keys += [random.fold_in(KEY, n) for n in numbers]
    keys += [random.fold_in(KEY, str(n)) for n in numbers]
    keys += [random.fold_in(KEY, n.to_bytes(20, "little").decode("latin-1")) for n in range(128)]
    keys += [child for n in range(10) for child in random.split(random.key(n), 10)][10:]
    assert len(set(keys)) == len(keys)
    drawn = random.randint(KEY, (600,), 0, 2**64, np.uint64).tolist()
    assert not {word for key in keys for word in key} & set(drawn)


def test_keys_are_values() -> None:
    assert random.split(KEY) == random.split(KEY, 5)[:2]
    assert random.split(KEY, 0) == ()
    assert pickle.loads(pickle.dumps(KEY)) == KEY
    random.fold_in(KEY, "\ud800")  # any str is a name


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_depends_on_its_key_alone(name: str) -> None:
    before = _hash(DRAWS[name](KEY))
    random.normal(random.key(1), (5,))
    np.random.default_rng(0).random(3)
    assert _hash(DRAWS[name](KEY)) == before


# --- shapes ---------------------------------------------------------------------------------------

SHAPED: dict[str, Callable[[Key, tuple[int, ...]], Array]] = {
    "uniform": random.uniform,
    "uniform float64": lambda key, shape: random.uniform(key, shape, dtype=np.float64),
    "normal": random.normal,
    "normal float64": lambda key, shape: random.normal(key, shape, dtype=np.float64),
    "truncated_normal": random.truncated_normal,
    "bernoulli": lambda key, shape: random.bernoulli(key, 0.5, shape),
    "randint": lambda key, shape: random.randint(key, shape, 0, 10),
    "randint with rejections": lambda key, shape: random.randint(key, shape, -(2**62), 2**63),
    "choice": lambda key, shape: random.choice(key, 7, shape),
    "choice weighted": lambda key, shape: random.choice(key, 2, shape, weights=[0.3, 0.7]),
}


@pytest.mark.parametrize("draw", SHAPED.values(), ids=SHAPED)
def test_shapes_and_prefixes(draw: Callable[[Key, tuple[int, ...]], Array]) -> None:
    long = draw(KEY, (40_001,))
    for shape in [(), (0,), (3, 0), (1,), (5,), (3, 5, 7), (16_384,), (16_385,), (20_000, 2)]:
        drawn = draw(KEY, shape)
        assert drawn.shape == shape
        assert drawn.dtype == long.dtype
        assert drawn.flags.writeable
        assert drawn.flags.c_contiguous
        assert np.array_equal(drawn.reshape(-1), long[: drawn.size])


def test_empty_orders_and_choices() -> None:
    assert random.permutation(KEY, 0).shape == (0,)
    assert random.permutation(KEY, 1).tolist() == [0]
    assert random.permutation(KEY, np.zeros((0, 3))).shape == (0, 3)
    assert random.choice(KEY, 3, (0, 2), replace=False).shape == (0, 2)
    assert random.choice(KEY, np.ones((3, 4)), (2, 5)).shape == (2, 5, 4)


# --- nothing drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", SHAPED.values(), ids=SHAPED)
def test_no_draw_takes_no_memory(draw: Callable[[Key, tuple[int, ...]], Array]) -> None:
    for shape in [(), (0,), (4, 3), (10**6, 10**6)]:
        drawn = draw(random.NO_DRAW, shape)
        assert drawn.shape == shape
        assert drawn.strides == (0,) * len(shape)
        assert drawn.dtype == draw(KEY, (1,)).dtype
        assert not drawn.flags.writeable
        assert drawn.size == 0 or drawn.reshape(-1)[:1] == 0


def test_no_draw_of_orders_and_children() -> None:
    nothing = random.NO_DRAW
    assert random.split(nothing, 3) == (nothing,) * 3
    assert random.fold_in(nothing, 3) == random.fold_in(nothing, "name") == nothing
    pictures = np.ones((5, 2, 2), np.float32)
    for drawn, shape, dtype in [
        (random.permutation(nothing, 10**12), (10**12,), np.int64),
        (random.permutation(nothing, pictures), (5, 2, 2), np.float32),
        (random.choice(nothing, pictures, (9,)), (9, 2, 2), np.float32),
    ]:
        assert drawn.shape == shape
        assert drawn.dtype == dtype
        assert not any(drawn.strides)
        assert not drawn.flags.writeable


# --- distributions, by fixed keys: what passes once passes always ---------------------------------

N = 200_000


def _phi(z: float) -> float:
    """The normal distribution function, exact far out as well (below 0)."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _distance(x: Array, cdf: Callable[[float], float]) -> float:
    """Kolmogorov and Smirnov's statistic, times sqrt(n): above 1.95 in one of 1000 fair draws."""
    n = x.size
    expected = np.array([cdf(v) for v in np.sort(x.ravel()).tolist()])
    steps = np.arange(n + 1) / n
    gap = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    return float(gap) * math.sqrt(n)


def _chi(counts: Array, expected: Array | float) -> float:
    """Chi-square in standard deviations of itself."""
    cells = counts.size - 1
    return float(((counts - expected) ** 2 / expected).sum() - cells) / math.sqrt(2 * cells)


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_is_uniform(dtype: type[np.floating[Any]]) -> None:
    x = random.uniform(KEY, (N,), -2.0, 3.0, dtype)
    assert x.dtype == dtype
    assert x.min() >= -2.0
    assert x.max() < 3.0
    assert _distance(x, lambda v: (v + 2) / 5) < 1.95
    assert abs(x.mean(dtype=np.float64) - 0.5) < 4 * math.sqrt(25 / 12 / N)
    assert abs(x.var(dtype=np.float64) - 25 / 12) < 4 * 25 * math.sqrt(1 / 180 / N)


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 24), (np.float64, 53)])
def test_every_bit_of_a_uniform_is_fair(dtype: type[np.floating[Any]], bits: int) -> None:
    whole = (random.uniform(KEY, (N,), dtype=dtype).astype(np.float64) * 2.0**bits).astype(np.int64)
    for bit in range(bits):
        ones = int(((whole >> bit) & 1).sum())
        assert abs(ones - N / 2) < 4.5 * math.sqrt(N) / 2


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_never_reaches_high(dtype: type[np.floating[Any]]) -> None:
    one = dtype(1.0)
    high = np.nextafter(one, dtype(2.0))
    assert set(random.uniform(KEY, (1000,), 1.0, float(high), dtype).tolist()) == {1.0}
    x = random.uniform(KEY, (100_000,), 1e6, 1e6 + 1.0, dtype)
    assert x.min() >= 1e6
    assert x.max() < 1e6 + 1.0


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_is_normal(dtype: type[np.floating[Any]]) -> None:
    x = random.normal(random.key(7), (N,), dtype=dtype)
    assert x.dtype == dtype
    assert _distance(x, _phi) < 1.95
    z = x.astype(np.float64)
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - moment) < 4 * math.sqrt(variance / N)
    far = random.normal(random.key(8), (10**6,), dtype=dtype)
    for bound in (2.0, 3.0, 4.0):
        expected = 10**6 * 2 * _phi(-bound)
        assert abs(int((np.abs(far) > bound).sum()) - expected) < 4 * math.sqrt(expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_has_its_mean_and_std(dtype: type[np.floating[Any]]) -> None:
    z = random.normal(KEY, (N,), dtype=dtype)
    x = random.normal(KEY, (N,), -3.0, 0.25, dtype)
    assert np.array_equal(x, z * dtype(0.25) + dtype(-3.0))
    assert np.array_equal(random.normal(KEY, (5,), 2.0, 0.0, dtype), np.full(5, 2.0, dtype))


def test_normal_is_the_quantile_of_its_bits() -> None:
    words = np.random.Philox(key=KEY.high << 64 | KEY.low).random_raw(N)
    double = random.normal(KEY, (N,), dtype=np.float64)
    assert np.abs(double - _expected(words >> 11, 53)).max() < 4e-15
    single = random.normal(KEY, (2 * N,))
    expected = _expected(words.astype("<u8").view("<u4"), 32)
    assert (np.abs(single - expected) / np.maximum(np.abs(expected), 0.1)).max() < 4e-7


def _expected(words: Array, bits: int) -> Array:
    """Normal quantiles of ``(word + 0.5) / 2**bits``, from the end where that is exact."""
    odd = 2 * words.astype(np.int64) + 1
    nearer = np.minimum(odd, 2 ** (bits + 1) - odd) * 2.0 ** -(bits + 1)
    z = [statistics.NormalDist().inv_cdf(p) for p in nearer.tolist()]
    return np.where(odd < 2**bits, z, np.negative(z))


def test_far_tails_and_the_ends_of_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    quantile = statistics.NormalDist().inv_cdf

    class Ends:
        """A stream that holds the least and the greatest words, and those in the middle."""

        def random_raw(self, count: int) -> Array:
            words = [0, 2**64 - 1, 2**63 - 1, 2**63, 1 << 11, 2**64 - 2**12]
            return np.array(words[:count], np.uint64)

    monkeypatch.setattr(bits, "generator", lambda _: Ends())
    x = random.normal(KEY, (6,), dtype=np.float64)
    assert abs(x[0] - quantile(2.0**-54)) < 1e-14
    assert x[1] == -x[0]
    assert x[2] == -x[3] < 0
    assert abs(x[4] - quantile(3 * 2.0**-54)) < 1e-14
    single = random.normal(KEY, (12,))
    assert abs(single[0] - quantile(2.0**-33)) < 1e-6
    assert single[2] == -single[0]
    assert single[4] == single[2]  # the low half of 2**63 - 1 is all ones
    assert (single[[5, 7]] == [np.float32(single[5]), -single[5]]).all()
    assert abs(single[5]) < 1e-9
    assert single[5] < 0
    assert random.uniform(KEY, (2,), dtype=np.float64).tolist() == [0.0, 1 - 2.0**-53]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("lower", "upper"),
    [(-2.0, 2.0), (0.0, 1.0), (-0.5, 40.0), (1.0, 3.0), (-4.0, -3.0), (6.0, 40.0), (-9.0, -8.5)],
)
def test_truncated_normal(lower: float, upper: float, dtype: type[np.floating[Any]]) -> None:
    x = random.truncated_normal(random.key(3), (20_000,), lower, upper, dtype)
    assert x.dtype == dtype
    assert x.min() >= lower
    assert x.max() <= upper
    flip = -1.0 if lower > 0 else 1.0  # small probabilities are exact in the lower tail
    low, high = (_phi(v) for v in sorted((flip * lower, flip * upper)))
    assert _distance(flip * x, lambda v: (_phi(v) - low) / (high - low)) < 1.95


def test_bernoulli() -> None:
    for probability in (0.01, 0.3, 0.5, 0.999):
        ones = int(random.bernoulli(random.key(2), probability, (N,)).sum())
        assert abs(ones - N * probability) < 4 * math.sqrt(N * probability * (1 - probability))
    assert random.bernoulli(KEY, 1.0, (N,)).all()
    assert not random.bernoulli(KEY, 0.0, (N,)).any()
    assert random.bernoulli(KEY, np.float32(0.5)).dtype == np.bool_  # type: ignore[arg-type]


@pytest.mark.parametrize(("low", "high"), [(0, 2), (-3, 4), (0, 6), (10, 20), (0, 64), (5, 1005)])
def test_randint_is_uniform(low: int, high: int) -> None:
    x = random.randint(random.fold_in(KEY, high), (N,), low, high)
    assert x.dtype == np.int64
    counts = np.bincount(x - low, minlength=high - low)
    assert counts.size == high - low
    assert abs(_chi(counts, N / (high - low))) < 4


def test_randint_is_unbiased_where_remainders_are_not() -> None:
    # Without rejection, the lower half of 0 .. 3 * 2**62 would come up in 5 of 8 draws.
    span = 3 * 2**62
    x = random.randint(KEY, (N,), 0, span, np.uint64)
    low = int((x < np.uint64(span // 2)).sum())
    assert abs(low - N / 2) < 4 * math.sqrt(N) / 2
    assert int(x.max()) < span


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_randint_fills_its_dtype(dtype: type[np.integer[Any]]) -> None:
    least, greatest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    x = random.randint(KEY, (N,), least, greatest + 1, dtype)
    assert x.dtype == dtype
    eighths = (x.astype(np.float64) - least) // ((greatest - least + 1) / 8)
    assert abs(_chi(np.bincount(eighths.astype(int), minlength=8), N / 8)) < 4
    ends = random.randint(KEY, (50,), greatest - 1, greatest + 1, dtype)
    assert set(ends.tolist()) == {greatest - 1, greatest}


def test_permutations_are_uniform() -> None:
    orders = [tuple(random.permutation(key, 4).tolist()) for key in random.split(KEY, 4800)]
    counts = Counter(orders)
    assert counts.keys() == set(permutations(range(4)))
    assert abs(_chi(np.array(list(counts.values())), 200)) < 4


def test_permutation_shuffles_a_copy() -> None:
    x = np.arange(12.0).reshape(6, 2)
    shuffled = random.permutation(KEY, x)
    assert np.array_equal(x, np.arange(12.0).reshape(6, 2))
    assert np.array_equal(shuffled, x[random.permutation(KEY, 6)])
    order = random.permutation(KEY, 100_000)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(100_000))
    fixed = int((order == np.arange(100_000)).sum())
    assert fixed < 8  # one is to be expected


def test_choice() -> None:
    names = np.array(["a", "b", "c", "d"])
    chosen = random.choice(KEY, names, (N,))
    counts = np.array([int((chosen == name).sum()) for name in names])
    assert abs(_chi(counts, N / 4)) < 4
    assert random.choice(KEY, names).shape == ()
    rows = np.arange(6).reshape(3, 2)
    assert np.array_equal(random.choice(KEY, rows, (5,)), rows[random.choice(KEY, 3, (5,))])
    once = random.choice(KEY, 100, (10, 10), replace=False)
    assert sorted(once.ravel().tolist()) == list(range(100))


def test_weighted_choice() -> None:
    chosen = random.choice(KEY, 5, (N,), weights=WEIGHTS)
    counts = np.bincount(chosen, minlength=5)
    assert counts[1] == 0
    likely = WEIGHTS > 0
    assert abs(_chi(counts[likely], N * WEIGHTS[likely])) < 4
    assert set(random.choice(KEY, 3, (100,), weights=[0, 1, 0]).tolist()) == {1}
    # The first of several without replacement has the weights' chances; the second, those left.
    pairs = Counter(
        tuple(random.choice(key, 3, (2,), False, [0.5, 0.3, 0.2]).tolist())
        for key in random.split(KEY, 4000)
    )
    chances = {(i, j): w * v / (1 - w) for i, w in enumerate([0.5, 0.3, 0.2])
               for j, v in enumerate([0.5, 0.3, 0.2]) if i != j}  # fmt: skip
    assert pairs.keys() == chances.keys()
    expected = np.array([4000 * chances[pair] for pair in pairs])
    assert abs(_chi(np.array(list(pairs.values())), expected)) < 4


def test_weighted_choice_never_passes_the_last_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greatest:
        """A stream of nothing but ones."""

        def random_raw(self, count: int) -> Array:
            return np.full(count, 2**64 - 1, np.uint64)

    monkeypatch.setattr(discrete, "generator", lambda _: Greatest())
    monkeypatch.setattr(bits, "generator", lambda _: Greatest())
    for weights in ([0.1] * 10, [1 / 3] * 3, [0.5, 0.5, 0.0], [0.7, 0.2999999, 0.0]):
        last = int(np.flatnonzero(weights)[-1])
        assert random.choice(KEY, len(weights), (2,), weights=weights).tolist() == [last] * 2


def test_siblings_are_independent() -> None:
    parents = [KEY, *random.split(KEY, 3), random.fold_in(KEY, 0), random.fold_in(KEY, 1)]
    parents += [random.fold_in(KEY, "0"), random.key(1), random.key(2)]
    samples = [random.normal(key, (50_000,), dtype=np.float64) for key in parents]
    samples += [samples[0][::-1], np.roll(samples[0], 1), np.roll(samples[0], 2)]
    for one, other in combinations(samples, 2):
        for a, b in ((one, other), (one**2 - 1, other**2 - 1)):
            correlation = (a * b).mean() / math.sqrt((a * a).mean() * (b * b).mean())
            assert abs(correlation) < 4.5 / math.sqrt(50_000)


# --- refusals -------------------------------------------------------------------------------------

LOOSE: Any = random  # the calls below are wrong on purpose: no type checker should see them
TAKES_KEY: dict[str, Callable[[Any], Any]] = {
    "split": random.split,
    "fold_in": lambda key: random.fold_in(key, 0),
    "uniform": lambda key: random.uniform(key, (2,)),
    "normal": lambda key: random.normal(key, (2,)),
    "truncated_normal": lambda key: random.truncated_normal(key, (2,)),
    "bernoulli": lambda key: random.bernoulli(key, 0.5, (2,)),
    "randint": lambda key: random.randint(key, (2,), 0, 5),
    "permutation": lambda key: random.permutation(key, 5),
    "choice": lambda key: random.choice(key, 5),
}


@pytest.mark.parametrize("name", TAKES_KEY)
def test_what_is_no_key_is_refused(name: str) -> None:
    for bad in (0, None, (1, 2), "key"):
        with pytest.raises(TypeError) as caught:
            TAKES_KEY[name](bad)
        wanted = f"{name}: `key` must be a funcnn Key, got {bad!r}: write funcnn.random.key(0)"
        assert str(caught.value) == wanted
    for forged in (Key(-1, 0), Key(0, 2**64), Key("a", 0)):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="must be made by") as made:
            TAKES_KEY[name](forged)
        wanted = f"{name}: `key` must be made by funcnn.random.key, got {forged!r}"
        assert str(made.value) == wanted


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: LOOSE.key(-1), "key: `seed` must be at least 0, got -1"),
    (lambda: LOOSE.key(1.0), "key: `seed` must be an int, got 1.0"),
    (lambda: LOOSE.key(True), "key: `seed` must be an int, got True"),
    (lambda: LOOSE.split(KEY, -1), "split: `count` must be at least 0, got -1"),
    (lambda: LOOSE.split(KEY, 2.0), "split: `count` must be an int, got 2.0"),
    (lambda: LOOSE.fold_in(KEY, -1), "fold_in: `data` must be at least 0, got -1"),
    (lambda: LOOSE.fold_in(KEY, 1.0), "fold_in: `data` must be an int or a str, got 1.0"),
    (lambda: LOOSE.fold_in(KEY, True), "fold_in: `data` must be an int or a str, got True"),
    (lambda: LOOSE.uniform(KEY, 3), "uniform: `shape` must be a tuple of ints, got 3"),
    (lambda: LOOSE.uniform(KEY, (2.0,)), "uniform: `shape` must be a tuple of ints, got (2.0,)"),
    (lambda: LOOSE.uniform(KEY, (-1, 2)), "uniform: `shape` must not be negative, got (-1, 2)"),
    (
        lambda: LOOSE.uniform(KEY, (2,), dtype="float16"),
        "uniform: `dtype` must be float32 or float64, got 'float16'",
    ),
    (
        lambda: LOOSE.uniform(KEY, (2,), dtype=None),
        "uniform: `dtype` must be float32 or float64, got None",
    ),
    (
        lambda: LOOSE.uniform(KEY, (2,), dtype="number"),
        "uniform: `dtype` must be float32 or float64, got 'number'",
    ),
    (
        lambda: LOOSE.uniform(KEY, (2,), 1.0, 1.0),
        "uniform: `high` must be above `low`, got 1.0 and 1.0",
    ),
    (
        lambda: LOOSE.uniform(KEY, (2,), 1.0, 1.0 + 1e-9),
        "uniform: `high` must be above `low`, got 1.000000001 and 1.0",
    ),
    (lambda: LOOSE.uniform(KEY, (2,), "0"), "uniform: `low` must be a number, got '0'"),
    (
        lambda: LOOSE.uniform(KEY, (2,), high=math.nan),
        "uniform: `high` must be at least -3.4028234663852886e+38, got nan",
    ),
    (
        lambda: LOOSE.uniform(KEY, (2,), low=-math.inf, dtype=np.float64),
        "uniform: `low` must be at least -1.7976931348623157e+308, got -inf",
    ),
    (
        lambda: LOOSE.uniform(KEY, (2,), -3e38, 3e38),
        "uniform: `high` - `low` must fit float32, got 3e+38 and -3e+38",
    ),
    (lambda: LOOSE.normal(KEY, (2,), std=-1.0), "normal: `std` must be at least 0.0, got -1.0"),
    (
        lambda: LOOSE.normal(KEY, (2,), mean=1e39),
        "normal: `mean` must be at most 2.1267646664908054e+37, got 1e+39",
    ),
    (
        lambda: LOOSE.normal(KEY, (2,), std=1e38),
        "normal: `std` must be at most 2.1267646664908054e+37, got 1e+38",
    ),
    (
        lambda: LOOSE.normal(KEY, (2,), dtype=np.int64),
        "normal: `dtype` must be float32 or float64, got <class 'numpy.int64'>",
    ),
    (
        lambda: LOOSE.truncated_normal(KEY, (2,), 1.0, -1.0),
        "truncated_normal: `upper` must be above `lower`, got -1.0 and 1.0",
    ),
    (
        lambda: LOOSE.truncated_normal(KEY, (2,), 40.0, 41.0),
        "truncated_normal: `lower` and `upper` must have room between them, got 40.0 and 41.0",
    ),
    (
        lambda: LOOSE.bernoulli(KEY, 1.1, (2,)),
        "bernoulli: `probability` must be at most 1.0, got 1.1",
    ),
    (
        lambda: LOOSE.bernoulli(KEY, -0.1, (2,)),
        "bernoulli: `probability` must be at least 0.0, got -0.1",
    ),
    (
        lambda: LOOSE.bernoulli(KEY, (2,), 0.5),
        "bernoulli: `shape` must be a tuple of ints, got 0.5",
    ),
    (lambda: LOOSE.randint(KEY, (2,), 5, 5), "randint: `high` must be above `low`, got 5 and 5"),
    (lambda: LOOSE.randint(KEY, (2,), 0.0, 5), "randint: `low` must be an int, got 0.0"),
    (
        lambda: LOOSE.randint(KEY, (2,), 0, 300, np.int8),
        "randint: `low` and `high` must lie in -128..128 for int8, got 0 and 300",
    ),
    (
        lambda: LOOSE.randint(KEY, (2,), 0, 2**63 + 1),
        "randint: `low` and `high` must lie in -9223372036854775808..9223372036854775808 "
        "for int64, got 0 and 9223372036854775809",
    ),
    (
        lambda: LOOSE.randint(KEY, (2,), 0, 3, np.float32),
        "randint: `dtype` must be an integer dtype, got <class 'numpy.float32'>",
    ),
    (
        lambda: LOOSE.randint(KEY, (2,), 0, 3, "whole"),
        "randint: `dtype` must be an integer dtype, got 'whole'",
    ),
    (lambda: LOOSE.permutation(KEY, -1), "permutation: `n` must be at least 0, got -1"),
    (
        lambda: LOOSE.permutation(KEY, [1, 2]),
        "permutation: `n` must be an int or a NumPy array, got [1, 2]",
    ),
    (
        lambda: LOOSE.permutation(KEY, np.array(3)),
        "permutation: `n` must have at least 1 axis, got shape ()",
    ),
    (lambda: LOOSE.choice(KEY, 0), "choice: `n` must hold something to choose from, got 0"),
    (
        lambda: LOOSE.choice(KEY, np.zeros((0, 2))),
        "choice: `n` must hold something to choose from, got an array of shape (0, 2)",
    ),
    (
        lambda: LOOSE.choice(KEY, 3, (2, 2), replace=False),
        "choice: `shape` must be at most 3 entries without replacement, got (2, 2)",
    ),
    (
        lambda: LOOSE.choice(KEY, 3, (3,), False, [0.5, 0.5, 0.0]),
        "choice: `shape` must be at most 2 entries without replacement, got (3,)",
    ),
    (lambda: LOOSE.choice(KEY, 3, (1,), 1), "choice: `replace` must be True or False, got 1"),
    (
        lambda: LOOSE.choice(KEY, 3, weights=[0.5, 0.5]),
        "choice: `weights` must have shape (3,), got shape (2,)",
    ),
    (
        lambda: LOOSE.choice(KEY, 2, weights=[0.5, 0.2]),
        "choice: `weights` must sum to 1, got a sum of 0.7",
    ),
    (
        lambda: LOOSE.choice(KEY, 2, weights=[1.5, -0.5]),
        "choice: `weights` must be at least 0, got -0.5",
    ),
    (
        lambda: LOOSE.choice(KEY, 2, weights=[math.nan, 1.0]),
        "choice: `weights` must be at least 0, got nan",
    ),
    (
        lambda: LOOSE.choice(KEY, 2, weights=["a", "b"]),
        "choice: `weights` must be numbers, got ['a', 'b']",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_refusals(call: Callable[[], Any], message: str) -> None:
    kinds = (
        "must be a number", "must be an int", "must be numbers", "must be a tuple",
        "must be True or False", "must be float32", "must be an integer dtype",
    )  # fmt: skip
    with pytest.raises(TypeError if any(kind in message for kind in kinds) else ValueError) as e:
        call()
    assert str(e.value) == message


def test_refusals_come_without_a_draw_too() -> None:
    with pytest.raises(ValueError, match=r"^randint: `high` must be above `low`, got 1 and 2$"):
        random.randint(random.NO_DRAW, (2,), 2, 1)
    with pytest.raises(ValueError, match=r"^choice: `weights` must sum to 1, got a sum of 0\.5$"):
        random.choice(random.NO_DRAW, 1, weights=[0.5])


def test_odd_arguments_are_refused_in_one_line() -> None:
    usual = {
        "key": random.key(0), "shape": (4, 3), "count": 3, "data": 3, "seed": 1, "low": 0, "high": 5,
        "n": 5, "probability": 0.5,
    }  # fmt: skip
    for what, call in odd.calls(random, usual, lambda made: made):
        odd.refused_in_one_line(what, call)


def test_what_would_never_end_is_refused() -> None:
    with pytest.raises(ValueError, match="split: `count` must be at most 16777216, got 2147483648"):
        random.split(random.key(0), 2**31)
    with pytest.raises(ValueError, match=r"normal: `shape` must have at most 32 axes and fewer than"):
        random.normal(random.key(0), (2**40, 2**40))
    far = random.truncated_normal(random.key(0), (9,), -1e300, 1e300)
    assert np.isfinite(far).all()
