"""Prediction is what `apply` says, of any number of examples, and a loss is a mean over what counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import (
    batch_norm,
    binary_cross_entropy_with_logits,
    branch,
    dense,
    dropout,
    evaluate,
    fit,
    gaussian_nll,
    mean_squared_error,
    named,
    optimizers,
    predict,
    random,
    relu,
    serial,
    sgd,
    softmax_cross_entropy,
    softplus,
    time_distributed,
    train_state,
    train_step,
    tree,
    triplet,
)
from funcnn.data import Dataset, prepared
from funcnn.types import Array, Cache, Key, Layer, Params

KEY = random.key(7)
X = random.normal(random.key(1), (130, 4))
COUNTS = (0, 1, 10, 64, 65, 128, 130)
COUPLED = batch_norm(track_running=False)


def started(net: Layer[Any, Any], x: Any = X) -> Params:
    """Parameters that are no zeros."""
    params = {} if net is TREES else net.init(KEY, x.shape)[1]
    draws = iter(random.split(random.key(3), 1000))
    return tree.map(lambda leaf: leaf + 0.1 * random.normal(next(draws), leaf.shape), params)


def _of_trees(params: Params, x: Any, key: Key | None = None) -> tuple[Any, Cache]:
    left, right = x["left"], x["right"][0]
    return {"sum": left + right, "both": (left, {"right": right})}, None


TREES: Layer[Any, Any] = relu()._replace(apply=lambda params, x, *, key=None: _of_trees(params, x))


# --- predict = apply ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("net", "x"),
    [
        (serial(dense(4), batch_norm(), relu(), dropout(0.5), dense(2)), X),
        (branch(dense(3), dense(3)), X),
        (branch(dense(3), serial(dense(4), branch(dense(2), dense(1)))), X),
        (TREES, {"left": X, "right": (X,)}),
    ],
    ids=["array", "tuple", "tuples", "dict"],
)
def test_a_prediction_is_what_the_network_says(net: Layer[Any, Any], x: Any, count: int) -> None:
    x = tree.map(lambda array: array[:count], x)
    params = started(net, x)
    wanted, _ = net.apply(params, x)
    for workers in (1, 2):
        found = predict(net, params, x, workers=workers)
        assert type(found) is type(wanted)
        assert tree.allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 65, 130])
@pytest.mark.parametrize(
    "net",
    [
        serial(dense(4), COUPLED, dense(2)),
        serial(batch_norm(), named("inner", serial(dense(4), COUPLED))),
        branch(dense(3), serial(relu(), COUPLED)),
    ],
    ids=repr,
)
def test_what_couples_a_batch_in_inference_is_not_cut(net: Layer[Any, Any], count: int) -> None:
    params = started(net)
    assert tree.equal(predict(net, params, X[:count]), net.apply(params, X[:count])[0])
    if count > 1:  # and it is the batch that counts
        assert not tree.allclose(predict(net, params, X[: count - 1]), predict(net, params, X[1:count]))


def test_a_network_without_a_row_for_each_example_is_not_cut() -> None:
    net: Layer[Any, Any] = relu()._replace(apply=lambda params, x, *, key=None: (x.mean(0), None))
    assert predict(net, {}, X[:10]).shape == (4,)
    message = r"^predict: `net` must give a row for each example, .*, got shape \(4,\)$"
    with pytest.raises(ValueError, match=message):
        predict(net, {}, X)


def test_examples_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^predict: `x/left` and `x/right/0` must have one length"):
        predict(TREES, {}, {"left": X, "right": (X[1:],)})
    with pytest.raises(TypeError, match=r"^predict: `x/0` must be a NumPy array, got list"):
        predict(TREES, {}, ([1.0], X))
    with pytest.raises(ValueError, match=r"^predict: `x` must hold at least one array, got none"):
        predict(TREES, {}, ())


def test_one_of_several_arrays_may_be_prepared_as_it_is_read() -> None:
    x = {"left": prepared(X, np.negative), "right": (X,)}
    found = predict(TREES, {}, x)
    assert np.array_equal(found["both"][0], -X)
    assert np.array_equal(found["sum"], np.zeros_like(X))


# --- several outputs in training ------------------------------------------------------------------


def test_fit_with_two_outputs_and_validation() -> None:
    net, loss = branch(dense(1), serial(dense(1), softplus())), gaussian_nll()
    train = Dataset(X, X[:, :1] + 0.1)
    result = fit(net, loss, optimizers.adam(0.05), train, key=KEY, epochs=8, validation=train[:70])
    assert result.history["validation_loss"][-1] < result.history["validation_loss"][0]
    found = evaluate(net, result.params, train[:70], loss)["loss"]
    assert found == result.history["validation_loss"][-1]


def test_fit_without_a_target() -> None:
    net = branch(dense(2), dense(2), dense(2))
    result = fit(net, triplet(), sgd(0.1), Dataset(X, ()), key=KEY, epochs=2, validation=Dataset(X, ()))
    assert np.isfinite(result.history["loss"]).all()
    assert result.history["validation_loss"][1] < result.history["validation_loss"][0]


def test_fit_takes_dicts_and_gives_what_arrays_give() -> None:
    layer, loss = dense(3), softmax_cross_entropy()
    named_loss = loss._replace(
        apply=lambda prediction, target: loss.apply(prediction["out"], target["label"]),
        vjp=lambda cache: {"out": loss.vjp(cache)},
        weight=None,
    )

    def init(key: Key, shape: Any) -> Any:
        assert shape == {"image": (32, 4), "extra": ((32, 4),)}
        return layer.init(key, shape["image"])

    def apply(params: Params, x: Any, *, key: Key | None = None) -> Any:
        out, cache = layer.apply(params, x["image"])
        return {"out": out}, cache

    net: Layer[Any, Any] = Layer(
        init, apply, lambda cache, dout: layer.vjp(cache, dout["out"]), layer.spec
    )
    y = np.arange(130) % 3
    options: dict[str, Any] = {"key": KEY, "epochs": 3, "batch_size": 32}
    plain = fit(layer, loss, sgd(0.1), Dataset(X, y), validation=Dataset(X, y), **options)
    train = Dataset({"image": X, "extra": (X,)}, {"label": y})
    found = fit(net, named_loss, sgd(0.1), train, validation=train, **options)
    assert tree.equal(found.params, plain.params)
    assert found.history["validation_loss"].tolist() == plain.history["validation_loss"].tolist()


# --- means over what counts -----------------------------------------------------------------------

LABELS = np.arange(30) % 3
SOME = np.where(np.arange(30) % 7 < 3, -1, LABELS)
SOME[[1, 8, 15, 28]] = 2
TIMES = random.normal(random.key(2), (30, 6, 4))
STEPS = np.where(np.arange(180).reshape(30, 6) % 5 < np.arange(30)[:, None] % 4, -1, 2)


@pytest.mark.parametrize(
    ("loss", "x", "y"),
    [
        (softmax_cross_entropy(), X[:30], LABELS),
        (softmax_cross_entropy(ignore_index=-1), X[:30], SOME),
        (softmax_cross_entropy(class_weight=[1.0, 20.0, 3.0]), X[:30], LABELS),
        (softmax_cross_entropy(class_weight=[1.0, 9.0, 3.0], ignore_index=-1), X[:30], SOME),
        (softmax_cross_entropy(ignore_index=-1), TIMES, STEPS),
        (softmax_cross_entropy(reduction="sum"), X[:30], LABELS),
        (mean_squared_error(), X[:30], X[:30, :3]),
        (mean_squared_error(reduction="sum"), X[:30], X[:30, :3]),
        (binary_cross_entropy_with_logits(), X[:30], (X[:30, :3] > 0).astype(np.float32)),
    ],
    ids=lambda part: repr(part) if not isinstance(part, np.ndarray) else "",
)
def test_the_loss_of_an_epoch_is_that_of_one_large_batch(loss: Any, x: Array, y: Array) -> None:
    """At rate 0 the batches of an epoch are parts of what validation sees as a whole."""
    order = np.argsort(np.random.default_rng(0).permutation(30))
    train = Dataset(x[order], y[order])
    net: Layer[Any, Any] = time_distributed(dense(3)) if x.ndim == 3 else dense(3)
    for size in (7, 8, 30, 100):
        result = fit(net, loss, sgd(0.0), train, key=KEY, epochs=2, batch_size=size, validation=train)
        history = result.history
        assert np.allclose(history["loss"], history["validation_loss"], rtol=1e-6)


def test_steps_of_padding_weigh_nothing_in_the_loss_of_an_epoch() -> None:
    """Ragged sequences whose padding is ignored, four at a time."""
    lengths = np.array([1, 9, 2, 8, 3, 7, 9, 9, 1, 1])
    x = random.normal(random.key(5), (10, 9, 4)) * np.arange(1, 11, dtype=np.float32)[:, None, None]
    y = np.where(np.arange(9) < lengths[:, None], 1, -1)
    train, loss = Dataset(x, y), softmax_cross_entropy(ignore_index=-1)
    net = time_distributed(dense(3))
    result = fit(net, loss, sgd(0.0), train, key=KEY, epochs=2, batch_size=4, validation=train)
    wanted = result.history["validation_loss"][0]
    assert np.allclose(result.history["loss"], wanted, rtol=1e-6)
    state = train_state(net, sgd(0.0), KEY, x.shape)
    step = train_step(net, loss, sgd(0.0))
    values = [step(state, train[i : i + 4])[1]["loss"] for i in (0, 4, 8)]
    assert abs(np.average(values, weights=[4, 4, 2]) - wanted) > 0.01  # as it was weighed once
