"""Metrics against values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from funcnn import metrics
from funcnn.metrics import Mean
from funcnn.types import Array

# Classes 0, 1, 2; the largest logit of each row says 0, 0, 1, 2, 1, 0.
LOGITS = np.array(
    [[3, 1, 2], [2, 1, 0], [0, 5, 4], [1, 2, 3], [0, 1, -1], [9, 0, 8]],
    np.float64,
)
TARGET = np.array([0, 0, 1, 2, 2, 2])
# truth 0: 0, 0; truth 1: 1; truth 2: 2, 1, 0
COUNTS = np.array([[2, 0, 0], [0, 1, 0], [1, 1, 1]])

ALL: list[Callable[[Array, Array], object]] = [
    metrics.accuracy,
    metrics.top_k(2),
    metrics.confusion_matrix,
    metrics.precision,
    metrics.recall,
    metrics.f1,
    metrics.perplexity,
]


def test_accuracy() -> None:
    assert metrics.accuracy(LOGITS, TARGET) == 4 / 6
    one_hot = np.eye(3)[TARGET]
    assert metrics.accuracy(LOGITS, one_hot) == 4 / 6
    assert metrics.accuracy(LOGITS.reshape(2, 3, 3), TARGET.reshape(2, 3)) == 4 / 6
    assert np.isnan(metrics.accuracy(LOGITS[:0], TARGET[:0]))


def test_top_k() -> None:
    assert metrics.top_k(1)(LOGITS, TARGET) == 4 / 6
    assert metrics.top_k(2)(LOGITS, TARGET) == 5 / 6  # 2 is the second of [9, 0, 8]
    assert metrics.top_k(3)(LOGITS, TARGET) == 1.0
    assert np.isnan(metrics.top_k(2)(LOGITS[:0], TARGET[:0]))
    with pytest.raises(ValueError, match=r"^top_k: `k` must be at least 1, got 0"):
        metrics.top_k(0)


def test_equal_logits_do_not_all_count_as_found() -> None:
    """A network that says the same of everything knows nothing."""
    logits, target = np.zeros((6, 3)), np.array([0, 0, 1, 1, 2, 2])
    assert [metrics.top_k(k)(logits, target) for k in (1, 2, 3)] == [2 / 6, 4 / 6, 1.0]
    assert metrics.top_k(1)(logits, target) == metrics.accuracy(logits, target)


@pytest.mark.parametrize("metric", ALL)
def test_nan_is_no_prediction(metric: Callable[[Array, Array], object]) -> None:
    """It would be the largest logit to NumPy, and beaten by none."""
    logits = LOGITS.copy()
    logits[3, 1] = np.nan
    with pytest.raises(ValueError, match="`prediction` must hold no NaN"):
        metric(logits, TARGET)


def test_confusion_matrix() -> None:
    found = metrics.confusion_matrix(LOGITS, TARGET)
    assert np.array_equal(found, COUNTS)
    assert found.dtype == np.int64
    empty = metrics.confusion_matrix(LOGITS[:0], TARGET[:0])
    assert np.array_equal(empty, np.zeros((3, 3)))


def test_precision_recall_and_f1() -> None:
    # columns: 2 of 3 called 0 are 0; 1 of 2 called 1 is 1; 1 of 1
    assert metrics.precision(LOGITS, TARGET) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    # rows: 2 of 2, 1 of 1, 1 of 3
    assert metrics.recall(LOGITS, TARGET) == pytest.approx((1 + 1 + 1 / 3) / 3)
    # 2 p r / (p + r): 4/5, 2/3, 1/2
    assert metrics.f1(LOGITS, TARGET) == pytest.approx((4 / 5 + 2 / 3 + 1 / 2) / 3)


def test_a_class_that_never_occurs_counts_as_0() -> None:
    wide = np.concatenate([LOGITS, np.full((6, 1), -9.0)], 1)
    assert metrics.precision(wide, TARGET) == pytest.approx((2 / 3 + 1 / 2 + 1) / 4)
    assert metrics.recall(wide, TARGET) == pytest.approx((1 + 1 + 1 / 3) / 4)
    assert metrics.f1(wide, TARGET) == pytest.approx((4 / 5 + 2 / 3 + 1 / 2) / 4)


def test_perplexity() -> None:
    # probabilities of the targets: 1/2 and 1/8, geometric mean 1/4
    logits = np.log(np.array([[0.5, 0.5], [0.875, 0.125]]))
    assert metrics.perplexity(logits, np.array([0, 1])) == pytest.approx(4.0)
    assert metrics.perplexity(logits[None], np.array([[0, 1]])) == pytest.approx(4.0)
    huge = np.array([[1000.0, 0.0]], np.float32)
    assert metrics.perplexity(huge, np.array([0])) == 1.0


def test_running_means() -> None:
    mean = Mean().add(1.0, 3).add(5.0, 1)
    assert mean.value == 2.0
    assert mean.add(2.0).value == 2.0
    assert np.isnan(Mean().value)
    assert mean == Mean(8.0, 4.0, 2)


def test_sums_add_up() -> None:
    assert Mean().add(3.0, 0).add(4.0, 0).value == 7.0
    assert Mean().add(0.0, 0).value == 0.0


@pytest.mark.parametrize("metric", ALL)
def test_a_metric_says_what_is_better(metric: Callable[[Array, Array], object]) -> None:
    """All but the counts, which are no number."""
    wanted = {"perplexity": "min", "confusion_matrix": None}.get(metric.__name__, "max")
    assert metrics.better(metric) == wanted
    assert metrics.better(partial(metric)) == wanted


@pytest.mark.parametrize("metric", ALL)
def test_what_does_not_fit_is_refused(metric: Callable[[Array, Array], object]) -> None:
    with pytest.raises(ValueError, match=r"`prediction` must be \(N, ..., C\) and `target` \(N, ...\)"):
        metric(LOGITS, TARGET[:-1])
    with pytest.raises(ValueError, match=r"`target` must lie in 0\.\.2, got 3"):
        metric(LOGITS, TARGET + 1)
    with pytest.raises(ValueError, match=r"`target` must lie in 0\.\.2, got -1"):
        metric(LOGITS, TARGET - 1)
    with pytest.raises(TypeError, match="`target` must be integers, got float64"):
        metric(LOGITS, TARGET.astype(np.float64))
    with pytest.raises(TypeError, match="`prediction` must be float32 or float64, got int64"):
        metric(TARGET[:, None], TARGET)
