"""Losses that add up: what they are, what a training reports of them, and how it goes on."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    Layer,
    branch,
    data,
    dense,
    each,
    evaluate,
    fit,
    l1,
    losses,
    mean_squared_error,
    optimizers,
    predict,
    random,
    relu,
    serial,
    softmax_cross_entropy,
    sum_losses,
    train_state,
    train_step,
    tree,
)
from funcnn.types import Loss

KEY = random.key(0)
X = random.normal(KEY, (30, 3))
LABELS = np.where(np.arange(30) % 4 == 0, -1, np.arange(30) % 3)  # some of them ignored
Y = (LABELS, random.normal(random.key(1), (30, 2)))
NET: Layer[Any, Any] = serial(dense(8), relu(), branch(dense(3), dense(2)))
PARTS = (softmax_cross_entropy(ignore_index=-1), l1())
LOSS = sum_losses(PARTS, weights=(1.0, 0.25))


def _fit(loss: Loss = LOSS, y: Any = Y, **options: Any) -> Any:
    given: dict[str, Any] = {"key": KEY, "epochs": 2, "batch_size": 7, "progress": False} | options
    return fit(NET, loss, optimizers.sgd(0.05), data.Dataset(X, y), **given)


def test_value_and_slope_are_those_of_its_losses() -> None:
    out = (random.normal(random.key(2), (30, 3)), random.normal(random.key(3), (30, 2)))
    value, cache = LOSS.apply(out, Y)
    (first, a), (second, b) = (loss.apply(*pair) for loss, *pair in zip(PARTS, out, Y, strict=True))
    np.testing.assert_allclose(value, first + 0.25 * second, rtol=1e-7)
    wanted = PARTS[0].vjp(a), np.float32(0.25) * PARTS[1].vjp(b)
    assert tree.equal(LOSS.vjp(cache), wanted)
    named = sum_losses(dict(zip("ab", PARTS, strict=True)), weights={"b": 0.25})
    by_name = named.apply(*(dict(zip("ab", pair, strict=True)) for pair in (out, Y)))
    assert by_name[0] == value
    assert tree.equal(named.vjp(by_name[1]), dict(zip("ab", wanted, strict=True)))
    assert repr(pickle.loads(pickle.dumps(named))) == repr(named)


def test_evaluate_and_history_report_each_loss() -> None:
    result = _fit(validation=data.Dataset(X, Y), monitor="loss_1")
    names = ["epoch", "step", "loss", "loss_0", "loss_1", "learning_rate"]
    assert list(result.history) == [
        *names, "validation_loss", "validation_loss_0", "validation_loss_1",
    ]  # fmt: skip
    h = result.history
    np.testing.assert_allclose(h["loss"], h["loss_0"] + 0.25 * h["loss_1"], rtol=1e-6)
    found = evaluate(NET, result.params, data.Dataset(X, Y), LOSS)
    for place, part in enumerate(PARTS):
        value = part.apply(predict(NET, result.params, X)[place], Y[place])[0]
        assert found[f"loss_{place}"] == float(value) == h[f"validation_loss_{place}"][-1]
    assert result.best_epoch == 1 + int(np.argmin(h["validation_loss_1"]))


def test_an_epoch_is_the_mean_over_what_counts_for_each_loss() -> None:
    """With a learning rate of 0 the epoch says what `evaluate` says, whatever the batches hold."""
    y = (np.where(np.arange(30) < 15, -1, Y[0]), Y[1])  # of some batches, nothing counts for one
    result = fit(NET, LOSS, optimizers.sgd(0.0), data.Batches(data.Dataset(X, y), 7, shuffle=False),
                 key=KEY, epochs=1, progress=False)  # fmt: skip
    found = evaluate(NET, result.params, data.Dataset(X, y), LOSS)
    for name in ("loss", "loss_0", "loss_1"):
        np.testing.assert_allclose(result.history[name][0], found[name], rtol=1e-5)
    nothing = (np.full(30, -1), Y[1])
    assert np.isnan(evaluate(NET, result.params, data.Dataset(X, nothing), LOSS)["loss_0"])


def test_a_resumed_training_has_the_same_history(tmp_path: Path) -> None:
    calls = 0

    def augment(key: Any, x: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt
        return x

    last, path = 0, tmp_path / "run.npz"
    whole, needed = _fit(augment=augment), calls
    calls, last = 0, needed  # in the middle of the last epoch
    with pytest.raises(KeyboardInterrupt):
        _fit(augment=augment, checkpoint=path, checkpoint_every=1)
    again = _fit(augment=augment, resume=path)
    assert tree.equal(again.history, whole.history)
    assert tree.equal(again.params, whole.params)


def test_a_step_tells_each_loss() -> None:
    state = train_state(NET, optimizers.sgd(0.1), KEY, X.shape)
    _, told = train_step(NET, LOSS, optimizers.sgd(0.1))(state, data.Dataset(X, Y))
    assert list(told) == ["loss", "loss_0", "loss_1"]


def test_names_for_the_outputs_of_a_network() -> None:
    loss = sum_losses({"digit": PARTS[0], "mask": mean_squared_error()}, weights={"mask": 2.0})
    result = _fit(loss, {"digit": Y[0], "mask": Y[1]}, epochs=5)
    for name in ("loss", "loss_digit", "loss_mask"):
        assert result.history[name][-1] < result.history[name][0]
    assert tree.equal(_fit(loss, Y, epochs=5).params, result.params)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (({},), "`losses` must be a dict or a tuple of losses, got {}"),
        (([l1()],), "`losses` must be a dict or a tuple of losses, got [l1()]"),
        (((l1,),), "`losses[0]` must be a loss, got "),
        (((LOSS,),), "`losses` must not hold sums of losses, got sum_losses("),
        (((l1(),), (1.0, 2.0)), "`weights` must be those of 0, got (1.0, 2.0)"),
        (((l1(), l1()), (1.0,)), "`weights` must be those of 0, 1, got (1.0,)"),
        (({"a": l1()}, {"b": 1.0}), "`weights` must be those of a, got {'b': 1.0}"),
        (({"a": l1()}, {"a": -1.0}), "`weights['a']` must be at least 0, got -1.0"),
        (({"a": l1()}, 3), "`weights` must be those of a, got 3"),
    ],
)
def test_what_does_not_fit_is_refused(given: Any, message: str) -> None:
    what, *weights = given
    make: Any = sum_losses
    with pytest.raises((ValueError, TypeError)) as caught:
        make(what, weights=weights[0] if weights else None)
    assert str(caught.value).startswith(f"sum_losses: {message}")


def test_losses_that_give_more_than_one_number_are_refused() -> None:
    loss = sum_losses((losses.l1(reduction="none"),))
    with pytest.raises(ValueError, match=r"^sum_losses/0: the loss must give one number, got an array"):
        loss.apply((Y[1],), (Y[1],))


def test_metrics_have_other_names_than_losses() -> None:
    net: Layer[Any, Any] = each(dense(3), dense(2))
    _, params = net.init(KEY, ((1, 3), (1, 3)))
    with pytest.raises(ValueError, match=r"^evaluate: `metrics` must have other names than the losses"):
        evaluate(net, params, data.Dataset((X, X), Y), LOSS, {"loss_1": lambda p, t: 0.0})
