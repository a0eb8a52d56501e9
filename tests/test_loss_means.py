"""Means of losses of which one element alone is beyond the largest number, and slopes likewise.

Value and slopes are those of mpmath wherever the dtype holds them, and infinite only elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from funcnn import losses
from funcnn.types import Loss
from tests.test_loss_limits import (
    ELEMENTWISE,
    Formula,
    _bounds,
    _huber,
    _lies_between,
    _pull,
    _smooth,
    mp,
    mpf,
)

_BENT = {"huber": (_huber, "delta"), "smooth_l1": (_smooth, "beta")}


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workdps(50):
        yield


def _large(dtype: Any) -> list[float]:
    """Numbers whose square, exponential, sum or product is about the largest number."""
    top = float(np.finfo(dtype).max)
    sizes = [top, 0.6 * top, 0.51 * top, top**0.5 * 1.1, top**0.5 * 20, np.log(top) + 0.5]
    return [float(dtype(sign * size)) for size in (*sizes, top / 8, 1.5) for sign in (1, -1)]


def _rows(formula: Formula, dtype: Any) -> list[tuple[float, ...]]:
    large = _large(dtype)
    least = float(np.finfo(dtype).smallest_subnormal)
    axes = [
        [x for x in (*large, least, 4 * least) if low <= x <= formula.most] for low in formula.least
    ]
    free = formula.targets[0] == 0 and max(formula.targets) > 1
    most = np.log(large[0]) + 1 if "log_target" in formula.options else np.inf
    targets = [*formula.targets[:3], *[x for x in large[::3] if free and x < most]]
    kept = [t for t in targets if min(formula.targets) >= 0 <= t or min(formula.targets) < 0]
    return list(itertools.product(*axes, kept))


def _at(columns: Any, index: int) -> list[float]:
    return [float(column[index]) for column in columns]


def _mean(loss: Loss, formula: Formula, row: Any, count: int, reduction: str, dtype: Any) -> list[str]:
    """What is wrong with a batch of this row and others of size one."""
    quiet = [min(0.5, formula.most)] * (len(row) - 1) + [formula.targets[1]]
    columns = [np.array([x, *[y] * (count - 1)], dtype) for x, y in zip(row, quiet, strict=True)]
    *predictions, target = columns
    prediction = predictions[0] if len(predictions) == 1 else tuple(predictions)
    value, slopes = _pull(loss, prediction, target)
    eps, part = float(np.finfo(dtype).eps), mpf(count if reduction == "mean" else 1)
    (low, high), *around = _bounds(formula.at, _at(columns, 0), eps)
    others = formula.at(*[mpf(x) for x in _at(columns, -1)])[0] * (count - 1)
    exact = [((low + others) / part, (high + others) / part)]
    exact += [(a / part, b / part) for a, b in around]
    found = [value, *(slope[0] for slope in slopes)]
    return [
        f"{reduction} of {count} at {row}: {number}, not {mp.nstr((low + high) / 2, 8)}"
        for number, (low, high) in zip(found, exact, strict=True)
        if not _lies_between(number, low, high, dtype)
    ]


def _formulas() -> Iterator[Any]:
    for kind, dtype in itertools.product(ELEMENTWISE, (np.float32, np.float64)):
        formulas = list(ELEMENTWISE[kind])
        if kind in _BENT:
            build, option = _BENT[kind]
            most = 1e200 if dtype is np.float64 else 1e25
            formulas += [formulas[0]._replace(at=build(b), options={option: b}) for b in (1e-6, most)]
        for formula in formulas:
            yield pytest.param(kind, formula, dtype, id=f"{kind} {formula.options} {dtype.__name__}")


@pytest.mark.parametrize(("kind", "formula", "dtype"), list(_formulas()))
def test_a_mean_fits_though_an_element_does_not(kind: str, formula: Formula, dtype: Any) -> None:
    wrong: list[str] = []
    rows = _rows(formula, dtype)
    step = 1 + len(rows) // 24
    for reduction, count in (("mean", 3), ("mean", 1000), ("sum", 2)):
        loss = getattr(losses, kind)(**formula.options, reduction=reduction)
        for row in rows[count % step :: step]:
            wrong += _mean(loss, formula, row, count, reduction, dtype)
    assert not wrong, f"{len(wrong)} wrong: " + "\n".join(wrong[:12])


def test_a_mean_that_adds_up_first_is_caught() -> None:
    def apply(prediction: Any, target: Any) -> Any:
        d = prediction - target
        return np.sum(d * d) / d.size, {"d": d}

    hasty = Loss(apply, lambda cache: 2 * cache["d"] / cache["d"].size)
    formula = ELEMENTWISE["mean_squared_error"][0]
    with np.errstate(over="ignore"):
        for row in ((1.4e154, 0.0), (2e154, 1e20)):
            assert _mean(hasty, formula, row, 3, "mean", np.float64)
    assert not _mean(hasty, formula, (2.0, 1.0), 3, "mean", np.float64)


def test_examples() -> None:
    top = 1.7e308
    p, t = np.array([top, 0, 0, 0]), np.array([-top, 0, 0, 0])
    for kind in ("l1", "log_cosh", "smooth_l1"):
        value, _ = getattr(losses, kind)().apply(p, t)
        assert value == pytest.approx(top / 2, rel=1e-15)
    squares = losses.mean_squared_error()
    assert squares.apply(p / 1e154, 0 * t)[0] == pytest.approx(7.225e307, rel=1e-15)
    assert squares.vjp({"prediction": p, "target": t})[0] == pytest.approx(top)
    value, (slope,) = _pull(losses.poisson_nll(), np.array([710.0, 0, 0, 0]), np.zeros(4))
    assert value == pytest.approx(5.5849869154042776e307, rel=1e-13)
    assert slope.tolist() == pytest.approx([value, 0.25, 0.25, 0.25], rel=1e-13)


def test_means_over_examples_of_which_one_is_too_large() -> None:
    """Of cross-entropies and margins: how far a score lies behind another."""
    top = 1.7e308
    z, labels = np.zeros((8, 3)), np.array([1, 0, 0, 0, 0, 0, 0, 0])
    z[0] = [top, -top, 0]
    entropy, some = losses.softmax_cross_entropy, np.eye(3)[labels]
    for loss, target in (
        (entropy(), labels),
        (entropy(ignore_index=-1), labels),
        (entropy(), some),
        (entropy(class_weight=[1, 1, 1]), labels),
    ):
        value, (slope,) = _pull(loss, z, target)
        assert value == pytest.approx(top / 4, rel=1e-14)
        assert slope[0].tolist() == [0.125, -0.125, 0]
        each = loss.spec.build(**{**loss.spec.options, "reduction": "none"})
        assert np.isinf(each.apply(z, target)[0]).tolist() == [True, *[False] * 7]
    assert losses.multi_margin().apply(z, labels)[0] == pytest.approx(top / 8, rel=1e-14)
    assert losses.multi_label_margin().apply(z, some)[0] == pytest.approx(top / 8, rel=1e-14)
    squares = losses.multi_margin(power=2)
    assert squares.apply(z / 1e154, labels)[0] == pytest.approx(5 * (top**0.5 / 1e154) ** 2 / 24 * top)
