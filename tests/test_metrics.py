"""Metrics against values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from funcnn import metrics, random
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

ALL: list[Callable[..., Any]] = [  # of classes
    metrics.accuracy,
    metrics.top_k(2),
    metrics.confusion_matrix,
    metrics.precision,
    metrics.recall,
    metrics.f1,
    metrics.log_loss,
    metrics.perplexity,
    metrics.roc_auc,
    metrics.average_precision,
]
NUMBERS: list[Callable[..., Any]] = [metrics.mae, metrics.rmse, metrics.r2]
SMALLER = {"log_loss", "perplexity", "mae", "rmse"}


def _who(metric: Callable[..., Any]) -> str:
    return "top_k" if metric.__name__ == "top" else metric.__name__


def _given(metric: Callable[..., Any]) -> tuple[Array, Array]:
    """A prediction and a target for any metric."""
    return (LOGITS, LOGITS[::-1] + 1) if metric in NUMBERS else (LOGITS, TARGET)


def test_every_metric_is_looked_at() -> None:
    functions = {name for name in dir(metrics) if callable(getattr(metrics, name)) and name[0] != "_"}
    others = {"Mean", "better", "with_lengths", "lazily"}
    assert {_who(metric) for metric in ALL + NUMBERS} == functions - others


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


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
def test_nan_is_no_prediction(metric: Callable[..., Any]) -> None:
    """It would be the largest logit to NumPy, and beaten by none."""
    prediction, target = _given(metric)
    logits = prediction.copy()
    logits[3, 1] = np.nan
    with pytest.raises(ValueError, match=f"^{_who(metric)}: `prediction` must hold no NaN"):
        metric(logits, target)


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (2, 0, 3), (0,), (0, 0)])
def test_nothing_has_no_measure(metric: Callable[..., Any], shape: tuple[int, ...]) -> None:
    target = np.zeros(shape, int) if metric in NUMBERS else np.zeros(shape[:-1] or shape, int)
    if shape[-1] == 0 and metric not in NUMBERS and len(shape) > 1:
        with pytest.raises(ValueError, match=f"^{_who(metric)}: `prediction` must have at least one"):
            metric(np.zeros(shape), target)
    else:
        found = metric(np.zeros(shape), target)
        assert np.isnan(found) if isinstance(found, float) else not found.any()


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
    assert Mean().add(3.0, None).add(4.0, None).value == 7.0
    assert Mean().add(0.0, None).value == 0.0


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
def test_a_metric_says_what_is_better(metric: Callable[..., Any]) -> None:
    """All but the counts, which are no number."""
    wanted = "min" if _who(metric) in SMALLER else "max"
    assert metrics.better(metric) == (None if metric is metrics.confusion_matrix else wanted)
    assert metrics.better(partial(metric)) == metrics.better(metric)


# --- a single score -------------------------------------------------------------------------------


SINGLE = np.array([[2.0], [-1.0], [3.0], [-4.0]])


@pytest.mark.parametrize("target", [np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 1, 0, 1])])
@pytest.mark.parametrize(
    "metric",
    [
        metrics.accuracy,
        metrics.top_k(1),
        metrics.precision,
        metrics.recall,
        metrics.f1,
        metrics.roc_auc,
    ],
    ids=_who,
)
def test_a_single_logit_that_is_always_wrong_is_never_right(
    metric: Callable[..., Any], target: Array
) -> None:
    for dtype in (np.float32, np.float64):
        logits = SINGLE.astype(dtype)
        for given in (logits, logits[:, 0]):
            for known in (target, target[:, None]):
                if given.ndim == 2 or known.ndim == 1:
                    assert metric(given, known) == 0.0
                    assert metric(given, 1 - known) == 1.0


def test_a_single_logit_is_that_of_class_1() -> None:
    target = np.array([1, 1, 0, 0])
    both = np.concatenate([np.zeros_like(SINGLE), SINGLE], 1)
    assert np.array_equal(metrics.confusion_matrix(SINGLE, target), [[1, 1], [1, 1]])
    for metric in ALL:
        if metric not in (metrics.precision, metrics.recall, metrics.f1):
            assert np.array_equal(metric(SINGLE, target), metric(both, target))
    # of class 1 by default, as everyone means it, and of both if asked for
    target = np.array([1, 1, 1, 0])
    assert metrics.precision(SINGLE, target) == 1.0
    assert metrics.recall(SINGLE, target) == 2 / 3
    assert metrics.f1(SINGLE, target) == pytest.approx(4 / 5)
    assert metrics.recall(SINGLE, target, average="macro") == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.accuracy(SINGLE, target, threshold=2.5) == 0.5
    assert metrics.accuracy(SINGLE, np.ones(4), threshold=-10) == 1.0


def test_what_would_flatter_is_refused() -> None:
    several = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])  # no class, though its argmax is one
    for metric in (metrics.accuracy, metrics.f1, metrics.perplexity):
        with pytest.raises(
            ValueError,
            match=rf"^{_who(metric)}: `target` must hold one-hot rows, which sum to 1, "
            r"got one that sums to 2.0$",
        ):
            metric(LOGITS[:2], several)
    with pytest.raises(ValueError, match=r"`target` must be 0 or 1 for such scores, got 0\.5"):
        metrics.accuracy(SINGLE, np.array([1.0, 0.5, 0, 0]))
    with pytest.raises(ValueError, match="`target` must be 0 or 1 for such scores, got 2"):
        metrics.accuracy(SINGLE, np.array([1, 2, 0, 0]))


def test_options_that_could_not_act_are_refused() -> None:
    with pytest.raises(ValueError, match="`threshold` must be None for scores of several classes"):
        metrics.accuracy(LOGITS, TARGET, threshold=0.5)
    with pytest.raises(ValueError, match="`ignore_index` must be None for one-hot targets, got 0"):
        metrics.accuracy(LOGITS, np.eye(3)[TARGET], ignore_index=0)
    with pytest.raises(ValueError, match=r"^f1: `average` must be one of 'macro', 'micro'"):
        metrics.f1(LOGITS, TARGET, average="binary")


# --- what counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
def test_a_weight_is_how_often_an_example_occurs(metric: Callable[..., Any]) -> None:
    prediction, target = _given(metric)
    times = np.array([1, 3, 0, 2, 1, 2])
    wanted = metric(prediction.repeat(times, 0), target.repeat(times, 0))
    filled = prediction.copy()
    filled[2] = np.nan  # weighs nothing
    for weight in (times, times.astype(np.float32), times / 2):
        found = metric(filled, target, weight=weight)
        scale = 0.5 if metric is metrics.confusion_matrix and weight[1] == 1.5 else 1
        np.testing.assert_allclose(found, scale * wanted, rtol=1e-12)
    with pytest.raises(ValueError, match=r"`weight` must have the shape \(6,\), got \(5,\)"):
        metric(prediction, target, weight=times[1:])
    with pytest.raises(ValueError, match="`weight` must be finite and at least 0, got -1"):
        metric(prediction, target, weight=-np.ones(6))


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
def test_what_does_not_count_may_hold_anything(metric: Callable[..., Any]) -> None:
    prediction, target = _given(metric)
    counts = np.array([True, True, True, True, False, True])
    wanted = metric(prediction[counts], target[counts])
    for anything in (np.nan, np.inf, -np.inf):
        filled = prediction.copy()
        filled[4] = anything
        np.testing.assert_array_equal(metric(filled, target, weight=counts), wanted)
        if metric in ALL:
            ignored = np.where(counts, target, -100)
            np.testing.assert_array_equal(metric(filled, ignored, ignore_index=-100), wanted)


@pytest.mark.parametrize("metric", ALL, ids=_who)
def test_one_hot_rows_that_do_not_count_may_hold_anything(metric: Callable[..., Any]) -> None:
    counts = np.array([True, True, True, True, False, True])
    rows = np.eye(3)[TARGET]
    wanted = metric(LOGITS[counts], rows[counts])
    for anything in (np.nan, np.inf, -np.inf, 7.0):
        logits, filled = LOGITS.copy(), rows.copy()
        logits[4] = filled[4] = anything
        for weight in (counts, counts.astype(np.float64)):
            np.testing.assert_array_equal(metric(logits, filled, weight=weight), wanted)


@pytest.mark.parametrize("metric", NUMBERS, ids=_who)
def test_numbers_that_do_not_count_may_be_none(metric: Callable[..., Any]) -> None:
    prediction, target = _given(metric)
    weight = np.array([1.0, 2.0, 0.0, 1.0, 0.0, 3.0])
    wanted = metric(prediction, target, weight=weight)
    for anything in (np.nan, np.inf, -np.inf):
        filled = [np.where(weight[:, None] == 0, anything, x) for x in (prediction, target)]
        assert metric(*filled, weight=weight) == wanted


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
@pytest.mark.parametrize("scale", [1e-300, 1e-50, 1e-20, 1e20, 1e37, 1e300, 5e307])
def test_only_what_weights_are_to_each_other_counts(metric: Callable[..., Any], scale: float) -> None:
    prediction, target = _given(metric)
    weight = np.array([1.0, 2.0, 0.0, 1.0, 0.5, 3.0])
    wanted = metric(prediction, target, weight=weight)
    if metric is metrics.confusion_matrix:  # which counts
        assert np.isfinite(wanted).all()
        np.testing.assert_allclose(metric(prediction, target, weight=weight * scale), wanted * scale)
    else:
        found = metric(prediction, target, weight=weight * scale)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_mean_that_forgets_large_weights_is_caught() -> None:
    def naive(prediction: Array, target: Array, *, weight: Array) -> float:
        with np.errstate(all="ignore"):
            return float(np.sum((prediction[:, 0] > target) * weight) / np.sum(weight))

    with pytest.raises(AssertionError):
        test_only_what_weights_are_to_each_other_counts(naive, 5e307)


def test_a_threshold_of_any_size() -> None:
    scores, truth = np.array([0, 1e-45, -1e-45, 3e38], np.float32), np.array([1, 1, 1, 1])
    for threshold, right in ((-1e-46, 0.75), (1e-46, 0.5), (1e300, 0.0), (-1e300, 1.0)):
        assert metrics.accuracy(scores, truth, threshold=threshold) == right


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
def test_nothing_warns(metric: Callable[..., Any]) -> None:
    prediction, target = _given(metric)
    with np.errstate(all="ignore"):
        given = [(prediction * size).astype(kind) for size in (1e-45, 3e37, np.inf) for kind in "fd"]
    for x in given:
        if not np.isnan(x).any():
            metric(x, target)
            metric(-x, target, weight=np.arange(6))


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
def test_nothing_that_counts_is_no_number(metric: Callable[..., Any]) -> None:
    prediction, target = _given(metric)
    found = metric(prediction, target, weight=np.zeros(6, bool))
    assert np.isnan(found) if metric is not metrics.confusion_matrix else not found.any()


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
def test_sequences_are_their_steps(metric: Callable[..., Any]) -> None:
    prediction, target = _given(metric)
    folded = target.reshape(2, 3, *target.shape[1:])
    assert np.array_equal(metric(prediction.reshape(2, 3, 3), folded), metric(prediction, target))
    weight = np.arange(6.0)
    found = metric(prediction.reshape(2, 3, 3), folded, weight=weight.reshape(2, 3))
    assert np.array_equal(found, metric(prediction, target, weight=weight))


# --- values ---------------------------------------------------------------------------------------


def test_averages() -> None:
    assert metrics.recall(LOGITS, TARGET, average="none").tolist() == [1, 1, pytest.approx(1 / 3)]
    assert metrics.recall(LOGITS, TARGET, average="micro") == metrics.accuracy(LOGITS, TARGET)
    assert metrics.recall(LOGITS, TARGET, average="weighted") == metrics.accuracy(LOGITS, TARGET)
    assert metrics.precision(LOGITS, TARGET, average="weighted") == pytest.approx(
        (2 * 2 / 3 + 1 / 2 + 3 * 1) / 6
    )
    assert metrics.f1(LOGITS, TARGET, average="micro") == pytest.approx(4 / 6)


def test_log_loss() -> None:
    logits = np.log(np.array([[0.5, 0.5], [0.875, 0.125]]))
    assert metrics.log_loss(logits, np.array([0, 1])) == pytest.approx(2 * np.log(2))
    assert metrics.log_loss(np.array([0.0, 1000.0]), np.array([0, 1])) == pytest.approx(np.log(2) / 2)
    assert metrics.log_loss(np.array([[-np.inf, 0.0]]), np.array([0])) == np.inf


def _pairs(scores: Array, truth: Array, weight: Array) -> float:
    """The area under the ROC curve by its meaning: pairs in the right order, equals count half."""
    won = total = 0.0
    for i in np.flatnonzero(truth):
        for j in np.flatnonzero(~truth):
            order = (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
            won, total = won + weight[i] * weight[j] * order, total + weight[i] * weight[j]
    return won / total


def _precisions(scores: Array, truth: Array, weight: Array) -> float:
    """Average precision by its meaning: for each threshold, the recall it adds times its precision."""
    mean, before = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        called = scores >= threshold
        hits = weight[called & truth].sum()
        recall = hits / weight[truth].sum()
        mean, before = mean + (recall - before) * hits / weight[called].sum(), recall
    return mean


@pytest.mark.parametrize(
    ("metric", "meaning"), [(metrics.roc_auc, _pairs), (metrics.average_precision, _precisions)]
)
def test_rankings(metric: Callable[..., Any], meaning: Callable[..., float]) -> None:
    key = random.key(5)
    scores = np.round(random.normal(key, (60,), dtype=np.float64), 1)  # some are equal
    truth = random.uniform(random.fold_in(key, 1), (60,)) < 0.3
    weight = random.uniform(random.fold_in(key, 2), (60,)).astype(np.float64)
    ones = np.ones(60)
    wanted = meaning(scores, truth, ones)
    for target in (truth, truth.astype(np.int64), truth.astype(np.float64)):
        assert metric(scores, target) == pytest.approx(wanted, rel=1e-12)
    assert metric(scores, truth, weight=weight) == pytest.approx(meaning(scores, truth, weight))
    two = np.stack([-scores, scores], 1)
    assert metric(two, truth.astype(np.int64)) == pytest.approx(wanted)
    # several labels at once, and several classes: the mean over columns
    many = np.round(random.normal(random.fold_in(key, 3), (60, 3), dtype=np.float64), 1)
    labels = random.uniform(random.fold_in(key, 4), (60, 3)) < 0.4
    columns = [meaning(many[:, i], labels[:, i], ones) for i in range(3)]
    assert metric(many, labels.astype(np.float64)) == pytest.approx(np.mean(columns))
    assert metric(many, labels) == pytest.approx(np.mean(columns))
    classes = many[::-1].argmax(1)
    columns = [meaning(many[:, i], classes == i, ones) for i in range(3)]
    assert metric(many, classes) == pytest.approx(np.mean(columns))
    assert np.isnan(metric(many, np.zeros(60, np.int64)))


def test_distances() -> None:
    p, t = (
        np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 2.0]]),
        np.array([[1.0, 4.0], [3.0, 4.0], [5.0, 4.0]]),
    )
    assert metrics.mae(p, t) == pytest.approx(6 / 6)
    assert metrics.rmse(p, t) == pytest.approx(np.sqrt(8 / 6))
    assert metrics.r2(p, t) == pytest.approx((1 - 2 / 8 + 0) / 2)  # the second does not vary
    assert metrics.r2(t, t) == 1.0
    assert metrics.mae(p.astype(np.float32), t.astype(np.int64)) == pytest.approx(1)
    assert np.isnan(metrics.r2(p[:1], t[:1]))
    large = np.full((3, 1), 1e308)
    assert metrics.mae(large, 0 * large) == pytest.approx(1e308)
    assert metrics.rmse(large, 0 * large) == pytest.approx(1e308)
    assert metrics.r2(np.array([1e300, 2e300]), np.array([1e300, 3e300])) == pytest.approx(0.5)


# --- refusals -------------------------------------------------------------------------------------


def _junk() -> Iterator[Any]:
    yield from (None, 3, 2.5, "words", b"bytes", [[1.0]], {"a": 1}, (1, 2), object(), LOGITS.tolist())
    yield np.array(LOGITS, object)
    yield np.array([["a", "b", "c"]] * 6)
    yield LOGITS.astype(complex)
    yield np.ma.masked_array(LOGITS, LOGITS > 2)
    yield LOGITS.view(np.matrix)
    yield LOGITS.astype("datetime64[s]")
    yield np.zeros(6, [("a", float)])
    yield np.array(1.0)
    yield np.zeros((6, 3, 2, 1, 4))
    yield np.zeros((0, 7))
    yield np.zeros((1,) * 63 + (2,))
    yield [list(range(1000))] * 1000


@pytest.mark.parametrize("metric", ALL + NUMBERS, ids=_who)
def test_junk_is_refused_on_one_short_line(metric: Callable[..., Any]) -> None:
    prediction, target = _given(metric)
    for junk in _junk():
        for args, options in (
            ((junk, target), {}),
            ((prediction, junk), {}),
            ((prediction, target), {"weight": junk}),
            ((prediction, target), {"weight": [junk]}),
        ):
            if junk is None and "weight" in options:
                continue
            with pytest.raises((ValueError, TypeError)) as caught:
                metric(*args, **options)
            text = str(caught.value)
            assert text.startswith(f"{_who(metric)}: "), text
            assert len(text) < 300, text
            assert "\n" not in text, text


@pytest.mark.parametrize("metric", ALL, ids=_who)
def test_what_does_not_fit_is_refused(metric: Callable[..., Any]) -> None:
    who = _who(metric)
    with pytest.raises(
        ValueError, match=rf"^{who}: `prediction` must be \(N, ..., C\) and `target` \(N, ...\)"
    ):
        metric(LOGITS, TARGET[:-1])
    with pytest.raises(ValueError, match=rf"^{who}: `target` must lie in 0\.\.2, got 3"):
        metric(LOGITS, TARGET + 1)
    with pytest.raises(ValueError, match=rf"^{who}: `target` must lie in 0\.\.2, got -1"):
        metric(LOGITS, TARGET - 1)
    with pytest.raises(TypeError, match=rf"^{who}: `target` must be integers, got float64"):
        metric(LOGITS, TARGET.astype(np.float64))
    with pytest.raises(TypeError, match=rf"^{who}: `prediction` must be float32 or float64, got int64"):
        metric(TARGET[:, None], TARGET)


@pytest.mark.parametrize("metric", [*(m for m in ALL if m is not metrics.confusion_matrix), *NUMBERS])
def test_a_target_may_be_a_pair_with_its_weight(metric: Callable[..., Any]) -> None:
    """As the target of `weighted`, so that `fit` gives one target to the loss and to the metrics."""
    binary = metric in (metrics.roc_auc, metrics.average_precision)
    scores = LOGITS[:, 0] if binary or metric in NUMBERS else LOGITS
    target: Any = TARGET == 0 if binary else TARGET * 1.0 if metric in NUMBERS else TARGET
    weight = np.array([1.0, 2.0, 0.0, 1.0, 1.0, 3.0])
    found = metric(scores, (target.astype(scores.dtype) if binary else target, weight))
    assert found == metric(scores, target.astype(scores.dtype) if binary else target, weight=weight)
    assert metrics.better(metric) is not None
