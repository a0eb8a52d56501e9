"""Networks as scikit-learn's estimators: its own checks, and the bits of `fit`."""

from __future__ import annotations

import pickle
import warnings
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest

from funcnn import (
    adam,
    data,
    dense,
    fit,
    huber,
    mean_squared_error,
    random,
    relu,
    reshape,
    serial,
    softmax_cross_entropy,
    tree,
    weighted,
)
from funcnn.models import lenet, mlp
from funcnn.types import Array

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from funcnn.interop.sklearn import Classifier, Regressor

NET = serial(dense(6), relu(), dense(3))


def flowers(dtype: Any = np.float32) -> tuple[Array, Array]:
    """Three clouds of points with names."""
    centres = np.repeat(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), 20, axis=0)
    noise = random.normal(random.key(3), (60, 2)).astype(np.float64)
    return (centres + 0.4 * noise).astype(dtype), np.repeat(["iris", "rose", "tulip"], 20)


def same(a: Any, b: Any) -> None:
    tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [Classifier(), Regressor()], ids=str)
def test_scikit_learn_itself_has_nothing_to_say(estimator: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that it skips
        found = check_estimator(estimator, on_fail=None)
    reasons = {check["check_name"]: check["exception"] for check in found if check["exception"]}
    assert all(isinstance(reason, SkipTest) for reason in reasons.values()), reasons
    assert len(found) - len(reasons) > 50


@pytest.mark.parametrize("weights", [False, True])
def test_the_bits_are_those_of_fit(weights: bool) -> None:
    x, names = flowers()
    codes = np.unique(names, return_inverse=True)[1]
    weight = np.arange(60.0) if weights else None
    model = Classifier(NET, optimizer=adam(0.01), epochs=3, batch_size=16, random_state=7)
    model.fit(x, names, sample_weight=weight)
    loss: Any = softmax_cross_entropy()
    target: Any = codes
    if weights:
        loss, target = weighted(softmax_cross_entropy(reduction="none")), (codes, weight)
    result = fit(
        NET, loss, adam(0.01), data.Dataset(x, target), key=random.key(7), epochs=3, batch_size=16
    )
    same(model.params_, result.params)
    same(model.history_, result.history)
    assert model.n_epochs_ == 3
    assert model.params_["dense1"]["weight"].dtype == np.float32


def test_chance_comes_from_random_state_alone() -> None:
    x, y = flowers()
    one, two = (Classifier(NET, epochs=2, random_state=4).fit(x, y) for _ in range(2))
    same(one.params_, two.params_)
    state = np.random.RandomState(4)
    other = Classifier(NET, epochs=2, random_state=state).fit(x, y)
    assert np.any(other.params_["dense1"]["weight"] != one.params_["dense1"]["weight"])
    again = Classifier(NET, epochs=2, random_state=np.random.RandomState(4)).fit(x, y)
    same(again.params_, other.params_)


def test_a_pipeline_a_search_and_cross_validation() -> None:
    x, y = flowers(np.float64)
    steps = make_pipeline(StandardScaler(), Classifier(epochs=30, random_state=0))
    assert cross_val_score(steps, x, y, cv=3).min() > 0.8
    grid = {
        "classifier__net": [mlp((4,), 3), mlp((8,), 3)],
        "classifier__optimizer": [adam(0.1), adam(1e-9)],
    }
    search = GridSearchCV(steps, grid, cv=3, n_jobs=1).fit(x, y)
    assert search.best_params_["classifier__optimizer"].spec == adam(0.1).spec
    assert search.score(x, y) > 0.9


def test_a_search_on_two_processes_finds_what_one_does() -> None:
    x, y = flowers(np.float64)
    grid = {"batch_size": [8, 60]}
    model = Classifier(NET, epochs=5, random_state=0)
    one, two = (GridSearchCV(model, grid, cv=2, n_jobs=jobs).fit(x, y) for jobs in (1, 2))
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )
    same(one.best_estimator_.params_, two.best_estimator_.params_)


def test_images_begin_with_a_reshape() -> None:
    digits = data.digits()
    images = np.zeros((64, 28, 28), np.float32)
    images[:, 2:26, 2:26] = np.repeat(np.repeat(digits.x[:64, 0], 3, 1), 3, 2)[:, :24, :24]
    model = Classifier(serial(reshape(1, 28, 28), lenet(10)), epochs=1, random_state=0)
    assert model.fit(images.reshape(64, -1), digits.y[:64]).predict_proba(
        images.reshape(64, -1)
    ).shape == (64, 10)


def test_copies_and_pickles_answer_alike() -> None:
    x, y = flowers()
    model = Classifier(NET, epochs=3, random_state=0).fit(x, y)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).predict_proba(x), model.predict_proba(x)
    )
    same(clone(model).fit(x, y).params_, model.params_)
    assert not hasattr(clone(model), "params_")
    assert repr(model) == f"Classifier(epochs=3, net={NET!r}, random_state=0)"


def test_warm_start_goes_on() -> None:
    x, y = flowers()
    model = Classifier(NET, optimizer=adam(0.01), epochs=5, warm_start=True, random_state=0)
    first = model.fit(x, y).params_
    losses = model.history_["loss"]
    assert model.fit(x, y).history_["loss"][0] < losses[-1]
    model.set_params(warm_start=False)
    same(model.fit(x, y).params_, first)


def test_partial_fit_is_one_pass_after_the_other() -> None:
    x, y = flowers()
    whole = Classifier(NET, optimizer=adam(0.01), epochs=4, batch_size=16, random_state=0).fit(x, y)
    parts = Classifier(NET, optimizer=adam(0.01), batch_size=16, random_state=0)
    for _ in range(4):
        parts.partial_fit(x, y, classes=np.unique(y))
    same(parts.params_, whole.params_)
    with pytest.raises(ValueError, match="`classes` must be given at the first call"):
        Classifier(NET).partial_fit(x, y)
    with pytest.raises(ValueError, match="`classes` must stay"):
        parts.partial_fit(x, y, classes=["iris", "oak", "rose"])
    with pytest.raises(ValueError, match="`y` must be of the classes"):
        parts.partial_fit(x[:2], np.array(["oak", "iris"]))
    first = Regressor(dense(1), optimizer=adam(0.01), batch_size=16, random_state=0)
    for _ in range(2):
        first.partial_fit(x, x[:, 0])
    same(first.params_, clone(first).set_params(epochs=2).fit(x, x[:, 0]).params_)


def test_early_stopping_keeps_the_best() -> None:
    x, y = flowers()
    wrong = np.where(np.arange(60) % 7 == 0, "rose", y)
    model = Classifier(optimizer=adam(0.1), epochs=400, early_stopping=True, patience=3, random_state=0)
    model.fit(x, wrong)
    losses = model.history_["validation_loss"]
    assert model.n_epochs_ == np.argmin(losses) + 4 < 400


def test_class_weights_count() -> None:
    x, y = flowers()
    lopsided = np.r_[0:20, 20:23]
    plain = Classifier(dense(2), optimizer=adam(0.05), epochs=20, random_state=0)
    balanced = clone(plain).set_params(class_weight="balanced").fit(x[lopsided], y[lopsided])
    weight = np.where(y[lopsided] == "iris", 23 / 40, 23 / 6)
    plain.fit(x[lopsided], y[lopsided], sample_weight=weight)
    same(balanced.params_, plain.params_)
    given = clone(plain).set_params(class_weight={"iris": 0.0, "rose": 1.0}, optimizer=adam(1.0))
    assert set(given.fit(x[lopsided], y[lopsided]).predict(x)) == {"rose"}


def test_numbers_are_predicted_in_the_shape_of_the_targets() -> None:
    x, y = load_diabetes(return_X_y=True)
    model = TransformedTargetRegressor(
        Regressor(optimizer=adam(0.01), epochs=30, random_state=0), transformer=StandardScaler()
    )
    assert make_pipeline(StandardScaler(), model).fit(x, y).score(x, y) > 0.4
    two = Regressor(epochs=1, random_state=0).fit(x, np.stack([y, -y], 1))
    assert two.predict(x).shape == (442, 2)
    robust = Regressor(dense(1), loss=huber(), epochs=1, random_state=0)
    assert robust.fit(x, y, sample_weight=np.ones(442)).predict(x).shape == (442,)
    x, y = x.astype(np.float32), y.astype(np.float32)
    train = data.Dataset(x, y[:, None])
    plain = fit(
        dense(1), mean_squared_error(), adam(0.001), train, key=random.key(0), epochs=1, batch_size=200
    )
    same(Regressor(dense(1), epochs=1, random_state=0).fit(x, y).params_, plain.params)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Classifier(dense(2)), "Classifier: `net` must give 3 outputs, got shape"),
        (Classifier(epochs=-1), "`epochs` must be at least 0, got -1"),
        (Classifier(batch_size=0), "`batch_size` must be at least 1, got 0"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(model: Any, message: str) -> None:
    x, y = flowers()
    with pytest.raises(ValueError, match=message):
        model.fit(x, y)


def test_what_is_not_trained_does_not_predict() -> None:
    x, y = flowers()
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(Classifier(), method)(x)
    with pytest.raises(ValueError):  # noqa: PT011  # in the words of scikit-learn's version
        Classifier(NET).fit(x, y, sample_weight=np.zeros(60))
