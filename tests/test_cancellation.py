"""Where an answer is all but right, values and slopes are small, and have all their digits.

They are differences of numbers that all but agree: ``1 - p`` of a class that is all but sure, or
``exp(z) - t``. What they are is found here with more digits than cancel, for the inputs themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import losses, numerics
from funcnn.types import Array, Layer, Loss

mpmath: Any = pytest.importorskip("mpmath")
mp, mpf = mpmath.mp, mpmath.mpf

Number = Any  # an mpf
_DTYPES = (np.float32, np.float64)
_GAPS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.75, 5.0, 9.0, 17.0, 30.0, 37.0, 60.0, 87.0, 100.0, 150.0, 200.0)
_ROUNDINGS = 64  # what a class loses that leaves 1/128 to the others


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workdps(150):
        yield


def _logits(classes: int, dtype: Any) -> Array:
    """One class is ahead by each gap: now the first, now the last."""
    rows = np.zeros((len(_GAPS), classes), dtype)
    rows -= np.arange(classes) % 4 * dtype(0.25)
    for index, gap in enumerate(_GAPS):
        rows[index, -(index % 2)] = gap
    return rows


def _softmax(row: Array) -> tuple[list[Number], list[Number]]:
    """Probabilities and minus their logarithms."""
    numbers = [mpf(float(z)) for z in row]
    total = mp.fsum(mp.exp(z) for z in numbers)
    return [mp.exp(z) / total for z in numbers], [mp.log(total) - z for z in numbers]


def _agree(found: Array, exact: list[Number], size: list[Number], far: float, what: str) -> None:
    """To a few roundings of the terms that the exact sums have, and of logits so far from another."""
    limits = np.finfo(found.dtype)
    unit, least = mpf(float(limits.eps)) * (_ROUNDINGS + far), mpf(max(float(limits.tiny), 1e-120))
    for number, wanted, terms in zip(found.tolist(), exact, size, strict=True):
        error = abs(mpf(number) - wanted)
        assert error <= unit * terms + least, f"{what}: {number}, not {mp.nstr(wanted, 9)}"


# --- classes --------------------------------------------------------------------------------------


def _of_log_softmax(reduction: str) -> Loss:
    """Likelihoods of `log_softmax`, as one loss."""
    layer, loss = funcnn.log_softmax(), losses.nll(reduction=reduction)

    def apply(prediction: Array, target: Array) -> tuple[Any, Any]:
        log_p, of_layer = layer.apply({}, prediction)
        value, of_loss = loss.apply(log_p, target)
        return value, (of_layer, of_loss)

    def vjp(cache: Any) -> Any:
        return layer.vjp(cache[0], loss.vjp(cache[1]))[1]

    return Loss(apply, vjp)


def _naive(reduction: str) -> Loss:
    """As one writes it first."""

    def apply(prediction: Array, target: Array) -> tuple[Any, Any]:
        shifted = prediction - prediction.max(-1, keepdims=True)
        p = np.exp(shifted)
        total = p.sum(-1, keepdims=True)
        one = np.eye(p.shape[-1], dtype=p.dtype)[target]
        return np.log(total[:, 0]) - (shifted * one).sum(-1), p / total - one

    return Loss(apply, lambda cache: cache)


_WAYS = ("labels", "ignore_index", "class_weight", "probabilities", "smoothing", "nll")


def _way(way: str, labels: Array, classes: int, dtype: Any) -> tuple[Loss, Any, Array]:
    """A loss, its target, and the weighted probabilities that it stands for."""
    q = np.eye(classes)[labels]
    if way == "nll":
        return _of_log_softmax("none"), labels, q
    options: dict[str, dict[str, Any]] = {
        "ignore_index": {"ignore_index": -1},
        "class_weight": {"class_weight": [1.0 + k % 2 for k in range(classes)]},
        "smoothing": {"label_smoothing": 0.125},
    }
    given = options.get(way, {})
    loss = losses.softmax_cross_entropy(**given, reduction="none")
    if way == "class_weight":
        return loss, labels, q * np.array(given["class_weight"])
    if way == "smoothing":
        return loss, labels, 0.875 * q + 0.125 / classes
    if way == "probabilities":
        return loss, q.astype(dtype), q
    return loss, labels, q


def _check(loss: Loss, logits: Array, target: Any, q: Array, modes: tuple[Any, ...]) -> None:
    for mode in modes:
        with numerics.use(mode):
            values, cache = loss.apply(logits, target)
            slopes = loss.vjp(cache)
        assert values.dtype == slopes.dtype == logits.dtype
        for row, value, slope, known in zip(logits, values, slopes, q, strict=True):
            p, entropies = _softmax(row)
            total = mp.fsum(map(mpf, known))
            wanted = mp.fsum(mpf(w) * e for w, e in zip(known, entropies, strict=True))
            _agree(np.array([value]), [wanted], [wanted], 0, f"{mode} value at {row}")
            terms = [x * total + mpf(w) for x, w in zip(p, known, strict=True)]
            exact = [x * total - mpf(w) for x, w in zip(p, known, strict=True)]
            size = [min(term, mp.fsum(terms) - term) for term in terms]
            _agree(slope, exact, size, float(np.ptp(row)), f"{mode} slope at {row}")


@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("way", _WAYS)
def test_cross_entropies(way: str, dtype: Any, classes: int) -> None:
    logits = _logits(classes, dtype)
    for labels in (logits.argmax(-1), logits.argmin(-1)):
        loss, target, q = _way(way, labels, classes, dtype)
        _check(loss, logits, target, q, ("fast", "portable"))


@pytest.mark.parametrize("dtype", _DTYPES)
def test_the_formula_as_one_writes_it_first_is_caught(dtype: Any) -> None:
    logits = _logits(2, dtype)
    labels = logits.argmax(-1)
    with pytest.raises(AssertionError, match=r"at .*, not "):
        _check(_naive("none"), logits, labels, np.eye(2)[labels], ("fast",))


def _slope_of_softmax(p: list[Number], dout: list[Number], sign: int) -> Any:
    """With the size of the terms."""
    exact, size = [], []
    for x, d in zip(p, dout, strict=True):
        exact.append(sign * x * mp.fsum(y * (d - e) for y, e in zip(p, dout, strict=True)))
        others = [y * (abs(d) + abs(e)) for y, e in zip(p, dout, strict=True)]
        size.append(x * (mp.fsum(others) - 2 * x * abs(d)))
    return exact, size


def _slope_of_log_softmax(p: list[Number], dout: list[Number], sign: int) -> Any:
    total = mp.fsum(dout)
    exact = [d - x * total for x, d in zip(p, dout, strict=True)]
    terms = [abs(d) + x * abs(total) for x, d in zip(p, dout, strict=True)]
    return exact, [min(term, mp.fsum(terms) - term) for term in terms]


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
def test_slopes_of_softmaxes(name: str, dtype: Any, classes: int, axis: int) -> None:
    layer: Layer[Any, Any] = getattr(funcnn, name)(axis=axis)
    logits = _logits(classes, dtype)
    first = np.eye(classes, dtype=dtype)[logits.argmax(-1)]
    other = np.random.default_rng(0).normal(size=logits.shape).astype(dtype)
    sign = -1 if name == "softmin" else 1
    rule = _slope_of_log_softmax if name == "log_softmax" else _slope_of_softmax
    for dout in (first, other):
        for mode in ("fast", "portable"):
            with numerics.use(mode):
                _, cache = layer.apply({}, np.expand_dims(sign * logits, 3 - axis))
                slopes = layer.vjp(cache, np.expand_dims(dout, 3 - axis))[1].reshape(logits.shape)
            for row, d, slope in zip(logits, dout, slopes, strict=True):
                exact, size = rule(_softmax(row)[0], [mpf(float(x)) for x in d], sign)
                _agree(slope, exact, size, float(np.ptp(row)), f"{mode} slope at {row}")


def test_a_sure_row_changes_no_other() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)
    labels = np.arange(6)
    sure = logits.copy()
    sure[2, 2] = 40
    for way in _WAYS:
        loss, target, _ = _way(way, labels, 10, np.float32)
        found = []
        for prediction in (logits, sure):
            values, cache = loss.apply(prediction, target)
            found.append(np.c_[values, loss.vjp(cache)])
        changed = (found[0] != found[1]).any(-1)
        assert changed.tolist() == [False, False, True, False, False, False], way


def test_views_that_all_but_agree() -> None:
    """Against float64, where fewer digits cancel."""
    views = np.array([[4.0, 1.0], [-1.0, 4.0], [4.0, 1.25], [-1.25, 4.0]])
    loss, kinds = losses.contrastive(temperature=0.0625), np.array([0, 1, 0, 1])
    value, cache = loss.apply(views, kinds)
    narrow, of_narrow = loss.apply(views.astype(np.float32), kinds)
    assert 0 < value < 1e-5
    np.testing.assert_allclose(narrow, value, rtol=1e-4)
    np.testing.assert_allclose(loss.vjp(of_narrow), loss.vjp(cache), rtol=1e-3, atol=1e-11)


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("way", _WAYS)
def test_infinite_logits_are_limits(way: str, mode: Any, dtype: Any) -> None:
    inf = np.inf
    logits = np.array([[3e38, inf, 0], [inf, inf, -inf], [1, 2, inf], [inf, -inf, 4]], dtype)
    p = np.array([[0, 1, 0], [0.5, 0.5, 0], [0, 0, 1], [1, 0, 0]])
    for shift in range(3):
        labels = (np.arange(4) + shift) % 3
        loss, target, q = _way(way, labels, 3, dtype)
        with numerics.use(mode):
            values, cache = loss.apply(logits, target)
            slopes = loss.vjp(cache)
        with np.errstate(divide="ignore"):
            wanted = np.where(q > 0, q * -np.log(np.where(q > 0, p, 1)), 0).sum(-1)
        np.testing.assert_allclose(values, wanted, rtol=1e-6)
        total = q.sum(-1, keepdims=True)
        np.testing.assert_allclose(slopes, p * total - q, rtol=1e-6, atol=1e-7)
        assert not np.isnan(slopes).any()


def test_examples() -> None:
    loss = losses.softmax_cross_entropy()
    for gap, dtype, right in (
        (17, np.float32, 4.1399376e-08),
        (30, np.float64, 9.357622968839862e-14),
        (60, np.float64, 8.75651076269652e-27),
    ):
        value, cache = loss.apply(np.array([[gap, 0]], dtype), np.array([0]))
        assert float(value) == pytest.approx(right, rel=3e-7)
        assert loss.vjp(cache)[0].tolist() == pytest.approx([-right, right], rel=3e-7, abs=0)
        assert loss.vjp(cache).sum() == 0


# --- counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_poisson_rates_that_all_but_agree(mode: Any, dtype: Any) -> None:
    near = [sign * 10.0**-k for k in range(21) for sign in (1, -1)]
    counts = [0, 1e-9, 0.3, 0.5, 0.75, 1 - 1e-6, 1, 1 + 1e-6, 1.5, 2, 3, 1e6]
    z, t = (axis.ravel().astype(dtype) for axis in np.meshgrid([*near, 0, -30, 10], counts))
    loss = losses.poisson_nll(reduction="none")
    with numerics.use(mode):
        slopes = loss.vjp(loss.apply(z, t)[1])
    exact = [mp.exp(mpf(float(x))) - mpf(float(y)) for x, y in zip(z, t, strict=True)]
    # What a rounding of the logarithm changes, and of the result.
    size = [
        abs(mpf(float(x))) * mp.exp(mpf(float(x))) + abs(wanted)
        for x, wanted in zip(z, exact, strict=True)
    ]
    _agree(slopes, exact, size, 0, mode)
    slope = loss.vjp(loss.apply(np.full(1, 1e-9, dtype), np.ones(1, dtype))[1])
    assert slope[0] == pytest.approx(1e-9, rel=1e-6, abs=0)


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("epsilon", [0.0, 1e-8, 1e-3])
def test_poisson_rates_without_logarithm(epsilon: float, dtype: Any) -> None:
    rates = [1e-20, 1e-9, 0.1, 0.7, 1.0, 3.0, 49.0, 1e6]
    p, t = (axis.ravel().astype(dtype) for axis in np.meshgrid(rates, [0, *rates]))
    p = np.concatenate([p, np.nextafter(p, dtype(np.inf))])
    t = np.concatenate([t, t])
    loss = losses.poisson_nll(log_input=False, epsilon=epsilon, reduction="none")
    slopes = loss.vjp(loss.apply(p, t)[1])
    more = mpf(float(dtype(epsilon)))
    exact = []
    for x, y in zip(map(float, p), map(float, t), strict=True):
        exact.append((mpf(x) - mpf(y) + more) / (mpf(x) + more))
    size = [abs(wanted) + more / (mpf(float(x)) + more) for x, wanted in zip(p, exact, strict=True)]
    _agree(slopes, exact, size, 0, "slope")


# --- probabilities --------------------------------------------------------------------------------


def _probabilities(dtype: Any) -> Array:
    """From 0 to 1, close to both, and to one another."""
    small = [10.0**-k for k in (1, 3, 7, 12, 20, 30)] + [float(np.finfo(dtype).tiny)]
    some = np.array([0, 1, 0.25, 1 / 3, 0.5, 0.7, 0.999, *small, *(1 - x for x in small)], dtype)
    near = [np.nextafter(some, dtype(end)) for end in (0, 1)]
    return np.unique(np.concatenate([some, *near]))


def _slope_between(p: Number, t: Number) -> Number:
    if t in (0, 1):
        return 1 / (1 - p) if t == 0 else -1 / p
    return (p - t) / (p * (1 - p))


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_probabilities_that_all_but_agree(mode: Any, dtype: Any) -> None:
    some = _probabilities(dtype)
    p, t = (axis.ravel() for axis in np.meshgrid(some, some))
    loss = losses.binary_cross_entropy(reduction="none")
    with numerics.use(mode):
        slopes = loss.vjp(loss.apply(p, t)[1])
    assert (slopes[p == t] == np.where(p[p == t] == 0, 1, np.where(p[p == t] == 1, -1, 0))).all()
    limits = np.finfo(dtype)
    for x, y, slope in zip(p.tolist(), t.tolist(), slopes.tolist(), strict=True):
        if x in (0, 1) and y != x:
            assert slope == (np.inf if x else -np.inf)
            continue
        wanted = _slope_between(mpf(x), mpf(y))
        error = 4 * mpf(float(limits.eps)) * abs(wanted) + mpf(float(limits.smallest_subnormal))
        beyond = abs(wanted) >= float(limits.max) * (1 - 4 * float(limits.eps))
        assert abs(mpf(slope) - wanted) <= error or (beyond and np.isinf(slope)), (x, y, slope)
