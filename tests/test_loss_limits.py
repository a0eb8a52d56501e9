"""Losses at every magnitude, from the smallest numbers to infinity, against mpmath.

What a loss and its slope are is written here once more, as a formula of numbers with fifty digits.
A result is right where the formula gives it for inputs that differ by a few roundings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from funcnn import losses, numerics
from funcnn.types import Array, Loss
from tests import registry

mpmath: Any = pytest.importorskip("mpmath")
mp, mpf = mpmath.mp, mpmath.mpf

Number = Any  # an mpf
_DTYPES = (np.float32, np.float64)
_BEYOND = mpf(10) ** 1000  # stands for infinity
_ROUNDINGS = 16  # by which an input may differ


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workdps(50):
        yield


# --- element by element ---------------------------------------------------------------------------


class Formula(NamedTuple):
    """``(value, slopes)`` of numbers: the predictions, then the target."""

    at: Callable[..., tuple[Number, Sequence[Number]]]
    targets: tuple[float, ...]
    least: tuple[float, ...] = (-np.inf,)  # of each prediction
    most: float = np.inf
    options: dict[str, Any] = {}  # noqa: RUF012


def _softplus(x: Number) -> Number:
    return mp.log1p(mp.exp(-abs(x))) + max(x, 0)


def _sigmoid(x: Number) -> Number:
    return 1 / (1 + mp.exp(-x)) if x > 0 else mp.exp(x) / (1 + mp.exp(x))


def _square(p: Number, t: Number) -> Any:
    return (p - t) ** 2, [2 * (p - t)]


def _absolute(p: Number, t: Number) -> Any:
    return abs(p - t), [mp.sign(p - t)]


def _huber(delta: float) -> Any:
    def at(p: Number, t: Number) -> Any:
        d, bend = p - t, mpf(delta)
        value = d * d / 2 if abs(d) <= bend else bend * (abs(d) - bend / 2)
        return value, [max(min(d, bend), -bend)]

    return at


def _smooth(beta: float) -> Any:
    def at(p: Number, t: Number) -> Any:
        value, (slope,) = _huber(beta)(p, t)
        return value / mpf(beta), [slope / mpf(beta)]

    return at


def _log_cosh(p: Number, t: Number) -> Any:
    d = abs(p - t)
    small = d < mpf(10) ** -10  # where the digits would cancel
    value = d**2 / 2 - d**4 / 12 if small else d + mp.log1p(mp.exp(-2 * d)) - mp.log(2)
    return value, [mp.tanh(p - t)]


def _binary(weight: float) -> Any:
    def at(p: Number, t: Number) -> Any:
        value = (1 - t) * _softplus(p) + weight * t * _softplus(-p)
        return value, [(1 - t) * _sigmoid(p) - weight * t * _sigmoid(-p)]

    return at


def _focal(gamma: float, alpha: float) -> Any:
    def at(p: Number, t: Number) -> Any:
        sign, weight = (1, alpha) if t == 1 else (-1, 1 - mpf(alpha))
        u = sign * p
        wrong, entropy = _sigmoid(-u), _softplus(-u)
        factor = weight * mp.exp(-gamma * _softplus(u))
        return factor * entropy, [-sign * factor * (wrong + gamma * _sigmoid(u) * entropy)]

    return at


def _hinge(p: Number, t: Number) -> Any:
    return max(1 - t * p, 0), [-t if t * p < 1 else 0]


def _soft_margin(p: Number, t: Number) -> Any:
    return _softplus(-t * p), [-t * _sigmoid(-t * p)]


def _hinge_embedding(p: Number, t: Number) -> Any:
    return (p, [mpf(1)]) if t == 1 else (max(1 - p, 0), [mpf(-1 if p < 1 else 0)])


def _ranking(a: Number, b: Number, t: Number) -> Any:
    missing = mpf(0.25) - t * (a - b)
    return max(missing, 0), [-t if missing > 0 else mpf(0), t if missing > 0 else mpf(0)]


def _of_probabilities(p: Number, t: Number) -> Any:
    p = min(max(p, 0), 1)
    value = t * (-mp.log(p) if p else _BEYOND) if t else mpf(0)
    value += (1 - t) * (-mp.log1p(-p) if p < 1 else _BEYOND) if t != 1 else 0
    slope = ((1 - t) / (1 - p or 1 / _BEYOND) if t != 1 else 0) - (t / (p or 1 / _BEYOND) if t else 0)
    return value, [slope]


def _divergence(p: Number, t: Number) -> Any:
    return (t * (mp.log(t) - p) if t else mpf(0)), [-t]


def _log_divergence(p: Number, t: Number) -> Any:
    return mp.exp(t) * (t - p), [-mp.exp(t)]


def _stirling(t: Number) -> Number:
    return t * mp.log(t) - t + mp.log(2 * mp.pi * t) / 2 if t > 1 else mpf(0)


def _poisson(full: bool) -> Any:
    def at(p: Number, t: Number) -> Any:
        return mp.exp(p) - t * p + full * _stirling(t), [mp.exp(p) - t]

    return at


def _poisson_counts(epsilon: float) -> Any:
    def at(p: Number, t: Number) -> Any:
        rate = p + mpf(epsilon)
        if not t:
            return p, [mpf(1)]
        return p - t * (mp.log(rate) if rate else -_BEYOND), [1 - t / (rate or 1 / _BEYOND)]

    return at


def _gaussian(epsilon: float) -> Any:
    def at(m: Number, variance: Number, t: Number) -> Any:
        v = max(variance, mpf(epsilon))
        ratio = (m - t) ** 2 / v
        log_v = v if v >= _BEYOND / 2 else mp.log(v)
        return (log_v + ratio) / 2, [(m - t) / v, (1 - ratio) / (2 * v)]

    return at


_ANY = (0.0, 1.0, -1e-3, 300.0, 1e20, -1e-30)
_PART = (0.0, 1.0, 0.25, 1e-6)
_COUNT = (0.0, 1.0, 3.0, 1e6, 1e30)

ELEMENTWISE: dict[str, tuple[Formula, ...]] = {
    "mean_squared_error": (Formula(_square, _ANY),),
    "l1": (Formula(_absolute, _ANY),),
    "huber": tuple(
        Formula(_huber(delta), _ANY, options={"delta": delta}) for delta in (1.0, 1e-20, 1e25)
    ),
    "smooth_l1": tuple(
        Formula(_smooth(beta), _ANY, options={"beta": beta}) for beta in (1.0, 1e-20, 1e25)
    ),
    "log_cosh": (Formula(_log_cosh, _ANY),),
    "binary_cross_entropy_with_logits": tuple(
        Formula(_binary(weight), _PART, options={"positive_weight": weight}) for weight in (1, 0, 50)
    ),
    "focal": tuple(
        Formula(_focal(gamma, alpha), (0.0, 1.0), options={"gamma": gamma, "alpha": alpha})
        for gamma, alpha in ((2.0, 0.25), (0.0, 0.5), (0.5, 1.0), (5.0, 0.0))
    ),
    "hinge": (Formula(_hinge, (-1.0, 1.0)),),
    "soft_margin": (Formula(_soft_margin, (-1.0, 1.0)),),
    "hinge_embedding": (Formula(_hinge_embedding, (-1.0, 1.0)),),
    "margin_ranking": (
        Formula(_ranking, (-1.0, 1.0), least=(-np.inf, -np.inf), options={"margin": 0.25}),
    ),
    "binary_cross_entropy": (Formula(_of_probabilities, _PART, least=(0.0,), most=1.0),),
    "kl_divergence": (
        Formula(_divergence, (0.0, 1.0, 0.25, 1e-30, 1e20)),
        Formula(
            _log_divergence, (0.0, -1.0, -80.0, -1e30, -np.inf, 20.0), options={"log_target": True}
        ),
    ),
    "poisson_nll": (
        Formula(_poisson(False), _COUNT),
        Formula(_poisson(True), _COUNT, options={"full": True}),
        *(
            Formula(
                _poisson_counts(epsilon),
                _COUNT,
                least=(0.0,),
                options={"log_input": False, "epsilon": epsilon},
            )
            for epsilon in (1e-8, 0.0)
        ),
    ),
    "gaussian_nll": tuple(
        Formula(_gaussian(epsilon), _ANY, least=(-np.inf, 0.0), options={"epsilon": epsilon})
        for epsilon in (1e-6, 1e-30)
    ),
}


def _magnitudes(dtype: Any, coarse: bool) -> list[float]:
    """From 0 to infinity, both signs; more of them where functions bend."""
    limits = np.finfo(dtype)
    powers = range(int(np.log10(limits.tiny)), int(np.log10(limits.max)) + 1)
    step = len(powers) // (5 if coarse else 11)
    sizes = [0.0, limits.smallest_subnormal, limits.max, np.inf, *(10.0**k for k in powers[::step])]
    bends = [1e-4, 0.02, 0.3, 1.0, 1.5, 4.0, 17.0, 40.0, 87.0, 100.0, 700.0, 720.0]
    sizes += bends[::4] if coarse else bends
    return [sign * float(dtype(size)) for size in sizes for sign in (1, -1)]


def _inputs(formula: Formula, dtype: Any) -> list[Array]:
    """Every prediction with every target, but no difference of infinities."""
    axes = [
        [x for x in _magnitudes(dtype, len(formula.least) > 1) if least <= x <= formula.most]
        for least in formula.least
    ]
    rows = [row for row in itertools.product(*axes, formula.targets) if sum(map(np.isinf, row)) < 2]
    return [np.array(column, dtype) for column in zip(*rows, strict=True)]


def _exact(x: float) -> Number:
    return mp.sign(mpf(x)) * _BEYOND if np.isinf(x) else mpf(x)


def _bounds(at: Any, row: Sequence[float], eps: float) -> list[tuple[Number, Number]]:
    """Between which numbers value and slopes may lie."""
    exact, all_answers = [_exact(x) for x in row], []
    for change in (0, 1, -1):
        for place in range(len(row) if change else 1):
            moved = list(exact)
            moved[place] *= 1 + change * _ROUNDINGS * mpf(eps)
            value, slopes = at(*moved)
            all_answers.append([value, *slopes])
    return [(min(answers), max(answers)) for answers in zip(*all_answers, strict=True)]


def _lies_between(found: float, low: Number, high: Number, dtype: Any) -> bool:
    limits = np.finfo(dtype)
    if np.isnan(found):
        return False
    slack = _ROUNDINGS * mpf(float(limits.eps))
    low -= slack * abs(low) + mpf(float(limits.tiny))
    high += slack * abs(high) + mpf(float(limits.tiny))
    most = mpf(float(limits.max)) * (1 - slack)
    if np.isinf(found):
        return bool(high >= most if found > 0 else low <= -most)
    return bool(low <= mpf(float(found)) <= high)


def _formulas() -> list[Any]:
    return [
        pytest.param(kind, formula, dtype, id=f"{kind} {formula.options} {dtype.__name__}")
        for kind, formulas in ELEMENTWISE.items()
        for formula in formulas
        for dtype in _DTYPES
    ]


def _pull(loss: Loss, prediction: Any, target: Any) -> tuple[Any, tuple[Array, ...]]:
    value, cache = loss.apply(prediction, target)
    slopes = loss.vjp(cache)
    return value, slopes if isinstance(slopes, tuple) else (slopes,)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("kind", "formula", "dtype"), _formulas())
def test_elementwise_losses_are_right_at_every_magnitude(
    kind: str, formula: Formula, dtype: Any
) -> None:
    loss = getattr(losses, kind)(**formula.options, reduction="none")
    *predictions, target = _inputs(formula, dtype)
    found = {}
    for mode in ("fast", "portable"):
        with numerics.use(mode):
            prediction = predictions[0] if len(predictions) == 1 else tuple(predictions)
            value, slopes = _pull(loss, prediction, target)
        found[mode] = np.stack([value, *slopes])
    eps = float(np.finfo(dtype).eps)
    wrong = []
    for index, row in enumerate(zip(*predictions, target, strict=True)):
        bounds = _bounds(formula.at, [float(x) for x in row], eps)
        for mode, results in found.items():
            for name, result, (low, high) in zip(
                ("value", *["slope"] * len(predictions)), results[:, index], bounds, strict=True
            ):
                if not _lies_between(result, low, high, dtype):
                    wrong.append(
                        f"{mode} {name} at {row}: {result}, not {mp.nstr((low + high) / 2, 8)}"
                    )
    assert not wrong, f"{len(wrong)} wrong: " + "\n".join(wrong[:12])


# --- vector by vector -----------------------------------------------------------------------------


def _log_sum(numbers: Sequence[Number]) -> Number:
    top = max(numbers)
    return top + mp.log(mp.fsum(mp.exp(x - top) for x in numbers))


def _cross_entropy(z: Any, labels: Array) -> Number:
    rows = [_log_sum(row) - row[label] for row, label in zip(z, labels, strict=True)]
    return mp.fsum(rows) / len(rows)


def _likelihood(z: Any, labels: Array) -> Number:
    return -mp.fsum(row[label] for row, label in zip(z, labels, strict=True)) / len(z)


def _margins(z: Any, labels: Array) -> Number:
    missing = [
        max(1 - row[label] + x, 0) ** 2
        for row, label in zip(z, labels, strict=True)
        for i, x in enumerate(row)
        if i != label
    ]
    return mp.fsum(missing) / (len(z) * len(z[0]))


def _label_margins(z: Any, known: Array) -> Number:
    missing = [
        max(1 - row[j] + row[i], 0)
        for row, right in zip(z, known, strict=True)
        for j in np.flatnonzero(right == 1)
        for i in np.flatnonzero(right == 0)
    ]
    return mp.fsum(missing) / (len(z) * len(z[0]))


def _label_entropies(z: Any, known: Array) -> Number:
    entropies = [
        _softplus(-x if right else x)
        for row, rights in zip(z, known, strict=True)
        for x, right in zip(row, rights, strict=True)
    ]
    return mp.fsum(entropies) / len(entropies)


def _weighted_squares(z: Any, target: Any) -> Number:
    known, weight = target
    squares = [
        mpf(float(w)) * (x - mpf(float(t))) ** 2
        for row, ts, w in zip(z, known, weight, strict=True)
        for x, t in zip(row, ts, strict=True)
    ]
    return mp.fsum(squares) / (3 * mpf(float(weight.sum())))


def _cosine(a: Any, b: Any) -> Number:
    tiny = mpf(float("1e-12"))
    dot, aa, bb = (
        mp.fsum(x * y for x, y in zip(*two, strict=True)) for two in ((a, b), (a, a), (b, b))
    )
    return dot / mp.sqrt((aa + tiny) * (bb + tiny))


def _cosines(a: Any, b: Any, signs: Array) -> Number:
    rows = [_cosine(*row) for row in zip(a, b, strict=True)]
    return mp.fsum(1 - c if s > 0 else max(c + 0.5, 0) for c, s in zip(rows, signs, strict=True)) / len(
        rows
    )


def _contrast(z: Any, kinds: Array) -> Number:
    total = mpf(0)
    for i, row in enumerate(z):
        others = [j for j in range(len(z)) if j != i]
        scores = {j: _cosine(row, z[j]) * 2 for j in others}
        partners = [j for j in others if kinds[j] == kinds[i]]
        total += _log_sum(list(scores.values())) - mp.fsum(scores[j] for j in partners) / len(partners)
    return total / len(z)


def _triplets(norm: float) -> Any:
    def length(a: Any, b: Any) -> Number:
        differences = [abs(x - y + mpf(1e-6)) for x, y in zip(a, b, strict=True)]
        return mp.fsum(d**norm for d in differences) ** (mpf(1) / norm)

    def at(a: Any, p: Any, n: Any, _: Any) -> Number:
        return mp.fsum(
            max(1 + length(x, y) - length(x, z), 0) for x, y, z in zip(a, p, n, strict=True)
        ) / len(a)

    return at


def _alignment(log_p: Any, target: Any) -> Number:
    """Every path of three steps that says the one label, for each example."""
    total = mpf(0)
    for rows, label in zip(log_p, target[0][:, 0], strict=True):
        paths = [
            mp.fsum(row[c] for row, c in zip(rows, path, strict=True))
            for path in itertools.product((0, label), repeat=3)
            if [c for c, _ in itertools.groupby(path) if c] == [label]
        ]
        total -= _log_sum(paths)
    return total / len(log_p)


_A, _B, _C = (np.random.default_rng(seed).normal(size=(4, 3)) for seed in range(3))
_LABELS = np.array([2, 0, 1, 1])
_STEPS = -np.abs(np.stack([_A, _B, _C], 1))
_SPOKEN = (np.array([[1], [2], [1], [2]]), np.array([1, 1, 1, 1]))

_SEVERAL = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1]])
_SQUARES = losses.mean_squared_error(reduction="none")
_WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0])

VECTORS: dict[str, tuple[Any, ...]] = {
    "multi_label_margin": ({}, _label_margins, (_A,), _SEVERAL),
    "multi_label_soft_margin": ({}, _label_entropies, (_A,), _SEVERAL),
    "weighted": ({"loss": _SQUARES}, _weighted_squares, (_A,), (np.zeros((4, 3)), _WEIGHTS)),
    "softmax_cross_entropy": ({}, _cross_entropy, (_A,), _LABELS),
    "nll": ({}, _likelihood, (-abs(_A),), _LABELS),
    "multi_margin": ({"power": 2}, _margins, (_A,), _LABELS),
    "cosine_embedding": ({"margin": -0.5}, _cosines, (_A, _B), np.array([1, -1, 1, -1])),
    "contrastive": ({}, _contrast, (_A,), np.array([0, 1, 1, 0])),
    "ctc": ({}, _alignment, (_STEPS,), _SPOKEN),
    "triplet": ({}, _triplets(2), (_A, _B, _C), ()),
    "triplet 1": ({"norm_type": 1}, _triplets(1), (_A, _B, _C), ()),
    "triplet 1.5": ({"norm_type": 1.5}, _triplets(1.5), (_A, _B, _C), ()),
    "triplet 8": ({"norm_type": 8}, _triplets(8), (_A, _B, _C), ()),
    "triplet 200": ({"norm_type": 200}, _triplets(200), (_A, _B, _C), ()),
}


def _scaled() -> list[Any]:
    found = []
    for name, dtype in itertools.product(VECTORS, _DTYPES):
        top = int(np.log10(np.finfo(dtype).max)) - 1
        powers = [-top, -top // 2, -8, -1, 0, 1, 3, top // 2 + 2, top]
        if name in ("multi_margin", "weighted"):  # they square
            powers = [power for power in powers if power < top // 2]
        found += [
            pytest.param(name, dtype, power, id=f"{name} 1e{power} {dtype.__name__}")
            for power in powers
        ]
    return found


@pytest.mark.parametrize(("name", "dtype", "power"), _scaled())
def test_losses_of_vectors_are_right_at_every_magnitude(name: str, dtype: Any, power: int) -> None:
    options, formula, arrays, target = VECTORS[name]
    if name == "weighted":
        target = (target[0].astype(dtype), target[1])
    loss = getattr(losses, name.partition(" ")[0])(**options)
    with np.errstate(under="ignore"):
        given = [(array * 10.0 ** float(power)).astype(dtype) for array in arrays]
    exact = [_map_numbers(array) for array in given]
    wanted = formula(*exact, target)
    eps = float(np.finfo(dtype).eps)
    for mode in ("fast", "portable"):
        with numerics.use(mode):
            value, slopes = _pull(loss, tuple(given) if len(given) > 1 else given[0], target)
        size = max(abs(wanted), 1)
        assert abs(mpf(float(value)) - wanted) <= 64 * eps * size, f"{value}, not {wanted}"
        scale = max(float(np.abs(slopes).max()), float(np.finfo(dtype).tiny) * 8)
        for which, slope in enumerate(slopes):
            for index in [(0,) * slope.ndim, (1, *(1,) * (slope.ndim - 1)), (-1,) * slope.ndim]:
                right = _slope(formula, exact, target, which, index)
                error = abs(mpf(float(slope[index])) - right)
                assert error <= 300 * eps * scale, f"{slope[index]}, not {right} at {which} {index}"


def _map_numbers(array: Array) -> Any:
    return [_map_numbers(x) if np.ndim(x) else mpf(float(x)) for x in array]


def _slope(formula: Any, exact: Any, target: Any, which: int, index: tuple[int, ...]) -> Number:
    """By central differences, with so many digits that nothing is lost."""
    entry = abs(_entry(exact[which], index))
    with mp.workdps(700 if entry < mpf(10) ** -20 else 110):
        step = entry * mpf(10) ** -50
        ends = []
        for change in (step, -step):
            moved = [
                _moved(array, index if i == which else (), change) for i, array in enumerate(exact)
            ]
            ends.append(formula(*moved, target))
        return (ends[0] - ends[1]) / (2 * step)


def _entry(array: Any, index: tuple[int, ...]) -> Number:
    return _entry(array[index[0]], index[1:]) if index else array


def _moved(array: Any, index: tuple[int, ...], change: Number) -> Any:
    if not isinstance(array, list):
        return array + change
    if not index:
        return array
    at = index[0] % len(array)
    return [_moved(x, index[1:], change) if i == at else x for i, x in enumerate(array)]


@pytest.mark.parametrize(
    ("at", "row", "values"),
    [
        (_log_cosh, (1e-4, 0.0), (-1.7e-8, 1e-4)),  # |d| + log(1 + exp(-2 |d|)) - log(2)
        (_binary(1), (-17.0, 0.0), (4.1e-8, 0.0)),  # 1 - sigmoid(17)
        (_square, (1e30, 0.0), (1e30, 2e30)),
        (_hinge, (2.0, 1.0), (np.nan, 0.0)),
        (_poisson(False), (100.0, 0.0), (np.inf, -np.inf)),
    ],
)
def test_wrong_numbers_are_found(at: Any, row: tuple[float, ...], values: tuple[float, ...]) -> None:
    bounds = _bounds(at, row, float(np.finfo(np.float32).eps))
    right = [
        _lies_between(value, *bound, np.float32) for value, bound in zip(values, bounds, strict=True)
    ]
    assert not all(right)
    middle = [(low + high) / 2 for low, high in bounds]
    assert all(
        _lies_between(float(m) if abs(m) < 3e38 else np.inf, *bound, np.float32)
        for m, bound in zip(middle, bounds, strict=True)
    )


def test_every_loss_has_a_formula() -> None:
    known = {*ELEMENTWISE, *(name.partition(" ")[0] for name in VECTORS)}
    known.add("sum_losses")  # whose formula is that of its parts
    assert known == {case.loss.spec.kind for case in registry.losses()}
    assert mpmath.libmp.BACKEND  # so that mpmath is really what ran


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("build", "option", "exact"),
    [
        (losses.huber, "delta", lambda d, bend: bend * (d - bend / 2)),
        (losses.smooth_l1, "beta", lambda d, bend: d - bend / 2),
    ],
)
def test_a_distance_beyond_the_largest_number(build: Any, option: str, exact: Any, sign: int) -> None:
    """The loss of it may be no more than that number."""
    top = float(np.finfo(np.float64).max)
    seen = 0
    for bend, size in itertools.product((1e-300, 1e-3, 0.49, 1.0, 0.9 * top, top), (0.51, 0.6, 1.0)):
        p = np.array([[sign * size * top, 1.0]])
        value, cache = (loss := build(reduction="none", **{option: bend})).apply(p, -p)
        right = exact(2 * mpf(size * top), mpf(bend))
        if right < top * 0.999:
            np.testing.assert_allclose(value[0, 0], float(right), rtol=1e-15)
            seen += 1
        elif right > top:
            assert value[0, 0] == np.inf
        assert value[0, 1] == loss.apply(np.array([[1.0]]), np.array([[-1.0]]))[0]
        assert np.isfinite(loss.vjp(cache)).all()
    assert seen >= 2
    value, _ = losses.huber(delta=0.001).apply(np.array([[-top]]), np.array([[top]]))
    np.testing.assert_allclose(value, 3.5953862697246315e305, rtol=1e-15)
