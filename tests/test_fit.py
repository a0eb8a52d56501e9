"""The loop: the same bits however a training is cut up, and all that stands around the step."""

from __future__ import annotations

import inspect
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    adam,
    batch_norm,
    checkpoints,
    conv,
    data,
    dense,
    dropout,
    evaluate,
    fit,
    flatten,
    losses,
    max_pool,
    metrics,
    numerics,
    optimizers,
    predict,
    random,
    relu,
    serial,
    sgd,
    softmax_cross_entropy,
    train_state,
    train_step,
    tree,
    value_and_grad,
)
from funcnn.data import Dataset
from funcnn.training import Epoch, FitResult
from funcnn.training.gradients import cut
from funcnn.types import Array

LOSS = softmax_cross_entropy()
KEY = random.key(7)
IMAGES = random.normal(random.key(1), (60, 1, 10, 10))
LABELS = ((IMAGES[:, 0, :5].sum((1, 2)) > 0) + 2 * (IMAGES[:, 0, 5:].sum((1, 2)) > 0)).astype(np.int64)
TRAIN, TEST = Dataset(IMAGES[:44], LABELS[:44]), Dataset(IMAGES[44:], LABELS[44:])
PLAIN = serial(conv(4, 3), relu(), max_pool(2), flatten(), dense(4))
RICH = serial(conv(4, 3), batch_norm(), relu(), max_pool(2), flatten(), dropout(0.3), dense(4))
AUGMENT = data.augmentations(data.random_shift(1), data.random_flip(), data.mixup(4))
OPTIMIZER = adam(0.02)


def cut_finely(patch: pytest.MonkeyPatch) -> None:
    """Batches and predictions as small as these would run on one thread, whatever the workers."""
    patch.setattr("funcnn.training.gradients._SMALL", 1 << 9)
    patch.setattr("funcnn.training.evaluation._SHARD", 8)


@pytest.fixture(autouse=True)
def small_batches_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_finely(monkeypatch)


def trained(
    net: Any = RICH, train: Dataset = TRAIN, optimizer: Any = OPTIMIZER, **options: Any
) -> FitResult:
    defaults: dict[str, Any] = {
        "key": KEY,
        "epochs": 4,
        "batch_size": 16,
        "validation": TEST,
        "metrics": {"accuracy": metrics.accuracy},
        "augment": AUGMENT,
    }
    return fit(net, LOSS, optimizer, train, **{**defaults, **options})


def same(one: FitResult, other: FitResult) -> None:
    assert tree.equal(one.params, other.params)
    assert tree.equal(one.best_params, other.best_params)
    assert tree.equal(one.state.tree(), other.state.tree())
    assert one.state.cursor() == other.state.cursor()
    assert one.best_epoch == other.best_epoch
    assert list(one.history) == list(other.history)
    assert all(np.array_equal(one.history[name], other.history[name]) for name in one.history)


# --- what comes out -------------------------------------------------------------------------------


def test_fit_learns() -> None:
    result = trained(PLAIN, epochs=30, augment=None)
    assert result.history["loss"][-1] < 0.3 * result.history["loss"][0]
    assert evaluate(PLAIN, result.params, TRAIN, LOSS, {"a": metrics.accuracy})["a"] > 0.95
    assert result.history["epoch"].tolist() == list(range(1, 31))
    assert result.history["step"].tolist() == [3 * epoch for epoch in range(1, 31)]
    assert np.allclose(result.history["learning_rate"], 0.02)
    best = int(result.history["validation_loss"].argmin())
    assert result.best_epoch == best + 1
    found = evaluate(PLAIN, result.best_params, TEST, LOSS)["loss"]
    assert found == result.history["validation_loss"][best]


def test_fit_is_its_steps() -> None:
    """The loop adds nothing to the pure step on the pure batches."""
    result = trained(epochs=2)
    state = train_state(RICH, OPTIMIZER, KEY, (16, 1, 10, 10))
    step = train_step(RICH, LOSS, OPTIMIZER)
    batches = data.Batches(TRAIN, 16, augment=AUGMENT)
    for epoch in range(2):
        for i in range(batches.steps):
            state, measured = step(state, batches.batch(KEY, epoch, i))
    assert tree.equal(state.params, result.params)
    assert tree.equal(state.optimizer, result.state.optimizer)
    assert state.step == result.state.step
    assert np.isfinite(measured["loss"])


def test_a_step_changes_nothing_that_it_was_given() -> None:
    state = train_state(RICH, OPTIMIZER, KEY, (16, 1, 10, 10))
    before = tree.map(np.copy, state.tree())
    for _, leaf in tree.leaves(state.tree()):
        leaf.flags.writeable = False
    step = train_step(RICH, LOSS, OPTIMIZER)
    batch = data.Batches(TRAIN, 16).batch(KEY, 0, 0)
    one, other = step(state, batch), step(state, batch)
    assert tree.equal(state.tree(), before)
    assert tree.equal(one[0].params, other[0].params)
    assert one[0].step == 1
    assert not tree.equal(one[0].params, state.params)


def test_running_statistics_are_carried_on_and_no_optimizer_touches_them() -> None:
    state = train_state(RICH, OPTIMIZER, KEY, (16, 1, 10, 10))
    batch = data.Batches(TRAIN, 16).batch(KEY, 0, 0)
    after, _ = train_step(RICH, LOSS, OPTIMIZER)(state, batch)
    key = random.fold_in(random.fold_in(KEY, "step"), 0)
    wanted = value_and_grad(RICH, LOSS, statistics=True)(state.params, batch.x, batch.y, key)[2]
    own = after.params["batch_norm1"]
    for name, value in wanted["batch_norm1"].items():
        assert np.array_equal(own[name], value)
        assert not np.array_equal(own[name], state.params["batch_norm1"][name])


def test_the_last_batch_counts_as_many_as_it_has() -> None:
    still = optimizers.sgd(0.0)
    result = fit(PLAIN, LOSS, still, TRAIN, key=KEY, epochs=1, batch_size=16)
    _, params = PLAIN.init(random.fold_in(KEY, "init"), (1, 1, 10, 10))
    wanted = evaluate(PLAIN, params, TRAIN, LOSS)["loss"]
    assert result.history["loss"][0] == pytest.approx(wanted, rel=1e-6)
    assert list(result.history) == ["epoch", "step", "loss", "learning_rate"]
    assert result.best_epoch == 1


def test_predictions_do_not_depend_on_the_workers() -> None:
    _, params = PLAIN.init(KEY, (1, 1, 10, 10))
    many = np.concatenate([IMAGES] * 5)
    outs = [predict(PLAIN, params, many, workers=workers) for workers in (1, 2, 4)]
    assert outs[0].shape == (300, 4)
    assert np.array_equal(outs[0], outs[1])
    assert np.array_equal(outs[0], outs[2])
    assert predict(PLAIN, params, many[:0]).shape == (0, 4)
    with pytest.raises(ValueError, match=r"^predict: `workers` must be at least 1, got 0"):
        predict(PLAIN, params, many, workers=0)


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_the_bits_do_not_depend_on_the_workers(mode: str) -> None:
    epochs = 4 if mode == "fast" else 1
    params = PLAIN.init(KEY, (1, 1, 10, 10))[1]
    assert len(cut(16, TRAIN.x[:16], params)) > 1  # so that there is something to share out
    for net in (PLAIN, RICH):
        one, two, four = (
            trained(net, workers=workers, mode=mode, epochs=epochs) for workers in (1, 2, 4)
        )
        same(one, two)
        same(one, four)


@pytest.mark.parametrize("net", [PLAIN, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_two_halves_make_the_whole(net: Any, first: int, tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    whole = trained(net)
    trained(net, epochs=first, checkpoint=file)
    same(trained(net, resume=file), whole)
    same(trained(net, resume=file, checkpoint=file, workers=4), whole)
    same(trained(net, resume=file), whole)  # nothing is left to do


class Stop(Exception):
    """Ends a training from inside."""


def test_a_training_goes_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    whole = trained()
    for steps in (1, 2, 4, 7, 11):
        count = 0

        def augment_or_stop(key: Any, x: Any, steps: int = steps) -> Any:
            nonlocal count
            count += 1
            if count > steps:
                raise Stop
            return x

        plain = trained(augment=augment_or_stop, epochs=0)
        assert plain.state.step == 0
        with pytest.raises(Stop):
            trained(augment=augment_or_stop, checkpoint=file, checkpoint_every=1)
        stored, meta = checkpoints.load(file)
        assert meta["cursor"]["step"] == steps
        count = -100
        resumed = trained(augment=augment_or_stop, resume=file)
        count = -100
        same(resumed, trained(augment=augment_or_stop))
        assert stored["params"].keys() == whole.params.keys()


SCRIPT = """
import sys
import pytest
from tests.test_fit import cut_finely, trained
file, resume, workers = sys.argv[1:]
cut_finely(pytest.MonkeyPatch())
often = {"checkpoint": file, "checkpoint_every": 1}
trained(epochs=1_000_000, resume=resume or None, workers=int(workers), **often)
"""


def train_and_kill(file: Path, workers: int, seconds: float) -> None:
    """Go on from the file, if there is one, and die by SIGKILL so long after the next checkpoint."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    resume = str(file) if before else ""
    arguments = [sys.executable, "-c", SCRIPT, str(file), resume, str(workers)]
    process = subprocess.Popen(arguments, cwd=Path(__file__).parents[1])
    while process.poll() is None and (not file.exists() or file.stat().st_mtime_ns == before):
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # and not an error of its own


def killed_and_resumed(file: Path, moments: Array) -> None:
    for kill, seconds in enumerate(moments):
        train_and_kill(file, (1, 2, 4)[kill % 3], float(seconds))
        _, meta = checkpoints.load(file)  # never broken
    epochs = meta["cursor"]["epoch"] + 1
    same(trained(epochs=epochs, resume=file), trained(epochs=epochs))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_twenty_times_and_resumed_the_bits_are_those_of_one_go(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path / "run.npz", random.uniform(random.key(3), (20,), 0.0, 0.25))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_once_and_resumed_the_bits_are_those_of_one_go(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path / "run.npz", random.uniform(random.key(4), (1,), 0.1, 0.3))


def test_a_schedule_of_ones_own_is_taken_up_again(tmp_path: Path) -> None:
    """In another process the function lies elsewhere in memory."""

    def optimizer() -> Any:
        def halved(step: int) -> float:
            return 0.02 / (1 + step)

        return adam(halved)

    file, first, second = tmp_path / "run.npz", optimizer(), optimizer()
    assert repr(first) != repr(second)
    trained(optimizer=first, epochs=1, checkpoint=file)
    same(trained(optimizer=second, resume=file), trained(optimizer=first))


# --- a checkpoint of another training -------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": random.key(8)}, "key was"),
        ({"batch_size": 8}, "batch_size was 16, now 8"),
        ({"augment": None}, r"augment was augmentations\(random_shift\(1\), .*, now None"),
        ({"mode": "portable"}, "numerics was fast, now portable"),
        ({"validation": None, "metrics": None}, r"validation was \(16, 1, 10, 10\) with .*, now None"),
        ({"validation": TRAIN}, r"validation was \(16, 1, 10, 10\) with .*, now \(44, 1, 10, 10\)"),
        ({"metrics": None}, r"metrics was \['accuracy'\], now \[\]"),
        ({"metrics": {"a": metrics.accuracy}}, r"metrics was \['accuracy'\], now \['a'\]"),
        ({"monitor": "accuracy"}, "monitor was loss, now accuracy"),
        ({"net": PLAIN}, r"net was serial\(conv\(4, 3\), batch_norm.*, now serial\(conv\(4, 3\), relu"),
        ({"train": TRAIN.take(slice(None, None, -1))}, "train was .* targets .*, now .* targets"),
        ({"train": TRAIN.take(slice(0, 43))}, r"train was \(44, .*, now \(43, "),
        ({"optimizer": adam(0.5)}, r"optimizer was adam\(.*0\.02\), now adam\(.*0\.5\)"),
        ({"optimizer": sgd(0.5)}, r"optimizer was adam\(.*0\.02\), now sgd\(.*0\.5"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = tmp_path / "run.npz"
    trained(epochs=1, checkpoint=file)
    advice = "; a new one can begin with its weights, given as `params`$"
    wanted = f"^fit: .*run.npz must be a checkpoint of this training: ({message}).*{advice}"
    with pytest.raises(ValueError, match=wanted):
        trained(resume=file, **change)
    weights = checkpoints.load(file)[0]["params"]
    if "net" not in change:
        trained(**{"params": weights, "epochs": 1, **change})


def test_a_checkpoint_that_fit_did_not_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    checkpoints.save(file, train_state(RICH, OPTIMIZER, KEY, (16, 1, 10, 10)).tree())
    with pytest.raises(ValueError, match="must be a checkpoint that `fit` wrote: give other"):
        trained(resume=file)
    trained(epochs=1, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="must be a checkpoint"):
        trained(resume=file)


def test_a_checkpoint_that_cannot_be_written_is_known_before_the_first_step(tmp_path: Path) -> None:
    def never(key: Any, x: Any) -> Any:
        raise Stop

    for path, message in ((tmp_path / "nowhere" / "run.npz", "nowhere"), ("", "[Dd]irectory: '.?'$")):
        with pytest.raises(OSError, match=message):
            trained(checkpoint=path, augment=never)


def test_no_file_is_written_over_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However its path is written, and before anything is: a log is not a checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    file = tmp_path / "run.npz"
    trained(PLAIN, epochs=1, checkpoint=file)
    (tmp_path / "soft").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    (tmp_path / "dangling").symlink_to(tmp_path / "folder" / "new.npz")
    before = file.read_bytes()
    message = "^fit: `log` must be another file than `{}`, got "
    for way in ("run.npz", "./run.npz", "link/../run.npz", "folder/../run.npz", "soft", "hard", file):
        for name in ("checkpoint", "resume"):
            options: dict[str, Any] = {name: file, "log": way}
            with pytest.raises(ValueError, match=message.format(name)):
                trained(PLAIN, epochs=1, **options)
        assert file.read_bytes() == before
    pairs = [("link/new.npz", "folder/new.npz"), ("dangling", "folder/new.npz"), ("a", "./a")]
    for pair in pairs:
        for log, checkpoint in (pair, pair[::-1]):
            with pytest.raises(ValueError, match=message.format("checkpoint")):
                trained(PLAIN, epochs=1, log=log, checkpoint=checkpoint)
    assert not list((tmp_path / "folder").iterdir())
    trained(PLAIN, epochs=2, log="folder/log", checkpoint="run.npz", resume="soft")
    assert len((tmp_path / "folder" / "log").read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["log", "checkpoint"])
def test_a_file_for_which_there_is_no_place_is_known_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    other = {"log": "checkpoint", "checkpoint": "log"}[name]
    for path in (
        "new/",
        "folder/new/",
        "pp/new2/",
        "pp/new2",
        "folder",
        "folder/",
        "file/x",
        "file/",
        "",
    ):
        with pytest.raises(OSError, match=r"^\[Errno \d+\] .*: '.*'$"):
            trained(PLAIN, TRAIN, OPTIMIZER, augment=never, **{name: path, other: "file"})
    for wrong in (3, b"log", "a\0b"):
        with pytest.raises((TypeError, ValueError), match=f"^fit: `{name}` must be"):
            trained(PLAIN, TRAIN, OPTIMIZER, augment=never, **{name: wrong, other: "file"})
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


# --- options that would do nothing ----------------------------------------------------------------

# For each option of `fit`, settings where it would do nothing; None where it always acts.
IDLE: dict[str, list[dict[str, Any]] | None] = {
    "net": None, "loss": None, "optimizer": None, "train": None, "key": None, "epochs": None,
    "validation": None, "callbacks": None, "progress": None, "workers": None, "log": None,
    "resume": None, "checkpoint": None, "shards": None, "engine": None,
    "params": None,  # with `resume`, they must be those that it began with
    "batch_size": [{"batch_size": 8, "train": data.Batches(TRAIN, 8)},
                   {"batch_size": 8, "train": data.Loader(lambda *_: TRAIN, 2)}],
    "metrics": [{"metrics": {"accuracy": metrics.accuracy}, "validation": None}],
    "monitor": [{"monitor": "accuracy", "metrics": {"accuracy": metrics.accuracy}, "validation": None}],
    "patience": [{"patience": 2, "validation": None}],
    "mode": [{"mode": "min", "validation": None}, {"mode": "max", "validation": None}],
    "checkpoint_every": [{"checkpoint_every": 3}],
    "augment": [{"augment": AUGMENT, "train": data.Batches(TRAIN, 8)},
                {"augment": AUGMENT, "train": data.Loader(lambda *_: TRAIN, 2)}],
    "drop_last": [{"drop_last": True, "train": data.Batches(TRAIN, 8)},
                  {"drop_last": True, "train": data.Loader(lambda *_: TRAIN, 2)}],
}  # fmt: skip


def test_every_option_of_fit_acts_or_is_refused() -> None:
    assert IDLE.keys() == inspect.signature(fit).parameters.keys()
    for name, settings in IDLE.items():
        for setting in settings or []:
            given: dict[str, Any] = {"train": TRAIN, "key": KEY, "epochs": 1, **setting}
            with pytest.raises(ValueError, match=f"^fit: .*`{name}`"):
                fit(PLAIN, LOSS, OPTIMIZER, **given)
            del given[name]
            left = {n: v for n, v in given.items() if n in ("key", "epochs", "validation", "train")}
            fit(PLAIN, LOSS, OPTIMIZER, **left)


# --- the last batch -------------------------------------------------------------------------------


def never(key: Any, x: Any) -> Any:
    raise Stop


def test_a_last_batch_that_is_too_small_is_known_before_the_first_step(tmp_path: Path) -> None:
    vectors = Dataset(random.normal(KEY, (33, 4)), np.arange(33) % 3)
    net, file = serial(dense(5), batch_norm(), dense(3)), tmp_path / "run.npz"
    text = (
        r"fit: `batch_size` must not leave a last batch of 1, got 32: batch_norm1: `x` must have at "
        r"least 2 values per channel in training, got shape \(1, 5\): drop_last=True leaves it out"
    )
    for augment in (None, lambda key, x: x * 2):
        with pytest.raises(ValueError, match=f"^{text}$"):
            fit(net, LOSS, sgd(0.1), vectors, key=KEY, epochs=1, augment=augment, checkpoint=file)
        assert not file.exists()
    result = fit(net, LOSS, sgd(0.1), vectors, key=KEY, epochs=2, drop_last=True)
    assert result.history["step"].tolist() == [1, 2]
    assert fit(net, LOSS, sgd(0.1), vectors, key=KEY, epochs=1, batch_size=31).state.step == 2
    bytes_ = Dataset((vectors.x > 0).astype(np.uint8), vectors.y)  # fit for the network when augmented
    with pytest.raises(ValueError, match=f"^{text}$"):
        fit(net, LOSS, sgd(0.1), bytes_, key=KEY, epochs=1, augment=lambda key, x: x.astype(np.float32))


def test_a_loss_that_needs_several_examples_is_asked_before_the_first_step() -> None:
    def apply(prediction: Any, target: Any) -> Any:
        if len(target) < 5:
            raise ValueError("five at least")
        return LOSS.apply(prediction, target)

    message = r"must not leave a last batch of 4, got 40: five at least: drop_last=True leaves it out$"
    with pytest.raises(ValueError, match=message):
        fit(PLAIN, LOSS._replace(apply=apply), OPTIMIZER, TRAIN, key=KEY, epochs=1, batch_size=40)


def test_what_a_network_refuses_of_any_batch_has_its_own_words() -> None:
    images = Dataset(np.ones((44, 3, 10, 10), np.float32), TRAIN.y)
    params = PLAIN.init(KEY, (1, 1, 10, 10))[1]
    with pytest.raises(ValueError, match=r"^conv1: `x` must have 1 channels"):
        fit(PLAIN, LOSS, OPTIMIZER, images, key=KEY, epochs=1, batch_size=40, params=params)


@pytest.mark.parametrize(
    ("count", "size", "drop_last", "steps"),
    [(1, 32, False, 1), (5, 32, False, 1), (33, 32, True, 1), (44, 44, True, 1), (44, 20, False, 3)],
)
def test_sizes_of_batches(count: int, size: int, drop_last: bool, steps: int) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": size, "drop_last": drop_last}
    assert trained(PLAIN, train=TRAIN[:count], augment=None, **options).state.step == steps


def test_dropping_all_there_is_is_refused() -> None:
    message = r"^fit: `batch_size` must be at most 44 with drop_last=True, got 45$"
    with pytest.raises(ValueError, match=message):
        trained(PLAIN, batch_size=45, drop_last=True)


# --- validation, patience, callbacks, log ---------------------------------------------------------


def test_what_is_better_is_known_or_said() -> None:
    def mae(prediction: Any, target: Any) -> float:
        return float(np.abs(prediction.max(1) - target).mean())

    def perplexed(prediction: Any, target: Any) -> float:
        return metrics.perplexity(prediction, target)

    named: dict[str, Any] = {"mae": mae, "any name": metrics.perplexity, "x": metrics.accuracy}
    for monitor, mode, largest in (
        ("mae", "min", False), ("mae", "max", True), ("any name", None, False), ("x", None, True),
        ("x", "min", False), ("loss", None, False), ("loss", "portable", False),
    ):  # fmt: skip
        result = trained(PLAIN, epochs=4, metrics=named, monitor=monitor, mode=mode)
        values = result.history[f"validation_{monitor}"]
        best = values.argmax() if largest else values.argmin()
        assert result.best_epoch == best + 1
    message = r"^fit: `mode` must say whether 'mae' is best when it is small or large: write mode='min'"
    for mode in (None, "fast"):
        with pytest.raises(ValueError, match=message):
            trained(PLAIN, metrics=named, monitor="mae", mode=mode)
    with pytest.raises(ValueError, match=r"must be one of 'fast', 'portable'"):
        trained(PLAIN, mode="small")


def test_patience_ends_a_training_that_gets_no_better() -> None:
    still = fit(PLAIN, LOSS, sgd(0.0), TRAIN, key=KEY, epochs=50, validation=TEST, patience=3)
    assert still.best_epoch == 1
    assert len(still.history["epoch"]) == 4


def test_the_best_epoch_is_that_of_the_monitored_value() -> None:
    high = trained(monitor="accuracy", epochs=6)
    values = high.history["validation_accuracy"]
    assert high.best_epoch == int(values.argmax()) + 1
    found = evaluate(RICH, high.best_params, TEST, LOSS, {"accuracy": metrics.accuracy})
    assert found["accuracy"] == values.max()


def test_a_first_validation_that_is_nan_does_not_stay_the_best() -> None:
    seen: list[int] = []

    def strange(prediction: Any, target: Any) -> float:
        seen.append(1)
        return float("nan") if len(seen) == 1 else float(len(seen))

    options: dict[str, Any] = {"metrics": {"strange": strange}, "monitor": "strange", "mode": "max"}
    result = trained(PLAIN, epochs=3, **options)
    assert result.best_epoch == 3


def test_a_validation_that_is_always_nan_is_no_better_each_time() -> None:
    def nothing(prediction: Any, target: Any) -> float:
        return float("nan")

    options: dict[str, Any] = {"metrics": {"nothing": nothing}, "monitor": "nothing", "mode": "min"}
    result = trained(PLAIN, epochs=9, patience=2, **options)
    assert result.history["epoch"].tolist() == [1, 2]
    assert tree.equal(result.best_params, result.params)


def test_callbacks_see_each_epoch_and_can_end_it() -> None:
    seen: list[Epoch] = []

    def watch(epoch: Epoch) -> bool:
        seen.append(epoch)
        return len(seen) == 2

    result = trained(PLAIN, callbacks=(watch,))
    assert len(result.history["loss"]) == 2
    assert [epoch.record["loss"] for epoch in seen] == result.history["loss"].tolist()
    assert tree.equal(seen[-1].state.params, result.params)


def test_counts_are_of_64_bits(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    trained(PLAIN, epochs=1, checkpoint=file)
    for result in (trained(PLAIN, epochs=2), trained(PLAIN, epochs=2, resume=file)):
        kinds = {name: values.dtype for name, values in result.history.items()}
        assert kinds.pop("epoch") == kinds.pop("step") == np.int64
        assert set(kinds.values()) == {np.dtype(np.float64)}


def test_the_log_has_a_line_for_each_epoch_even_after_a_restart(tmp_path: Path) -> None:
    log, file = tmp_path / "log.jsonl", tmp_path / "run.npz"
    trained(epochs=2, log=log, checkpoint=file)
    result = trained(epochs=4, log=log, resume=file)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["loss"] for line in lines] == result.history["loss"].tolist()
    assert lines[-1]["seconds"] > 0


def test_the_log_is_json_whatever_the_metrics_are(tmp_path: Path) -> None:
    """Which knows neither NaN nor infinity."""
    values = {name: _constant(float(name)) for name in ("nan", "inf", "1.5")}
    trained(PLAIN, epochs=1, metrics=values, log=tmp_path / "log.jsonl")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    line = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=refuse)
    found = [line[f"validation_{name}"] for name in values]
    assert found == [None, None, 1.5]


def _constant(value: float) -> Any:
    return lambda prediction, target: value


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    trained(PLAIN, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch   1/2  loss ")
    assert "validation accuracy 0." in lines[0]
    assert re.search(r"  \d+\.\d s, \d+:\d\d left$", lines[0])
    assert re.search(r"  \d+\.\d s$", lines[1])
    trained(PLAIN, epochs=2, progress=False)
    assert capsys.readouterr().out == ""


class Stream:
    """Of a notebook or a log: it can be written to, and does not know more."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


class Broken(io.StringIO):
    """The reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def isatty(self) -> bool:
        raise OSError


def odd(**attributes: Any) -> Any:
    """What makes a stream with such attributes: values, or errors that its methods raise."""

    def raising(error: Exception) -> Any:
        def method(*args: Any) -> Any:
            raise error

        return method

    def make() -> io.StringIO:
        members = {
            name: raising(value) if isinstance(value, Exception) else value
            for name, value in attributes.items()
        }
        return type("Odd", (io.StringIO,), members)()  # type: ignore[no-any-return]

    return make


_ERRORS = (ValueError("closed"), OSError(28, "full"), TypeError("bytes"), RuntimeError("detached"))
_ODD_STREAMS = [
    *(odd(isatty=answer) for answer in (None, 1, "yes", lambda self, more: True, lambda self: None)),
    *(odd(isatty=error) for error in _ERRORS),
    *(odd(**{name: value}) for name in ("write", "flush") for value in (None, *_ERRORS)),
    *(
        odd(isatty=lambda self: True, **{name: value})
        for name in ("write", "flush")
        for value in (None, *_ERRORS)
    ),
    *(odd(isatty=lambda self: True, encoding=name) for name in (None, 3, "no such")),
]


@pytest.mark.parametrize(
    "make", [lambda: None, Stream, closed, Broken, lambda: object(), lambda: 3, *_ODD_STREAMS]
)
@pytest.mark.parametrize("progress", [None, False, True])
def test_no_stream_ends_a_training(
    monkeypatch: pytest.MonkeyPatch, make: Any, progress: bool | None
) -> None:
    stream = make()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", make())
        result = trained(PLAIN, epochs=2, progress=progress)
    assert len(result.history["loss"]) == 2
    if isinstance(stream, Stream):
        assert stream.text.count("epoch ") == (0 if progress is False else 2)


def test_a_bar_is_drawn_on_a_terminal_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    terminal = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(terminal, "isatty", lambda: True, raising=False)
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", None)
        trained(PLAIN, epochs=2)
    assert "step" in terminal.getvalue()
    assert terminal.getvalue().count("epoch ") == 2


def test_a_loss_that_is_not_finite_ends_the_training_with_advice() -> None:
    broken = Dataset(np.full((8, 1, 10, 10), np.inf, np.float32), LABELS[:8])
    message = r"^fit: the loss is nan at step 1: funcnn\.diagnose\.trace_nan names the layer"
    with pytest.raises(FloatingPointError, match=message):
        fit(PLAIN, LOSS, OPTIMIZER, broken, key=KEY, epochs=1)


def test_steps_that_are_skipped_do_not_end_the_training() -> None:
    """One example is NaN: its batches are left out, and do not spoil the running statistics."""
    images = TRAIN.x.copy()
    images[3, 0, 2, 2] = np.nan
    careful = optimizers.skip_nonfinite(OPTIMIZER)
    train = Dataset(images, TRAIN.y)
    result = trained(train=train, optimizer=careful, augment=None, epochs=2)
    assert int(result.state.optimizer["skipped"]) == 2
    assert all(np.isfinite(leaf).all() for _, leaf in tree.leaves(result.params))
    assert np.isfinite(result.history["loss"]).all()
    with pytest.raises(FloatingPointError, match=r"^fit: the loss is nan at step"):
        trained(train=train, augment=None)
    images[:] = np.nan
    message = r"^fit: the loss is not finite in all steps of epoch 1: funcnn\.diagnose\.trace_nan"
    with pytest.raises(FloatingPointError, match=message):
        trained(train=train, optimizer=careful, augment=None)


def test_the_mode_holds_inside_fit_alone() -> None:
    seen = []
    trained(PLAIN, epochs=1, mode="portable", callbacks=(lambda _: seen.append(numerics.mode()),))
    assert seen == ["portable"]
    assert numerics.mode() == "fast"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"epochs": -1}, ValueError, "`epochs` must be at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "`epochs` must be an int, got 1.5"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0"),
        ({"checkpoint_every": 0}, ValueError, "`checkpoint_every` must be at least 1, got 0"),
        ({"patience": 0}, ValueError, "`patience` must be at least 1, got 0"),
        ({"patience": 1, "validation": None}, ValueError, "`monitor` and `patience` need `validation`"),
        ({"monitor": "beauty"}, ValueError, "`monitor` must be 'loss' or one of `metrics`"),
        ({"metrics": {"loss": metrics.accuracy}}, ValueError, "`metrics` must have other names than"),
        ({"callbacks": print}, TypeError, "`callbacks` must be a tuple of functions, got <built-in"),
        ({"callbacks": (3,)}, TypeError, r"`callbacks` must be a tuple of functions, got \(3,\)"),
        ({"augment": int}, TypeError, "`augment` must be a function of a key and a batch, got <class"),
        ({"augment": len}, TypeError, "`augment` must be a function of a key and a batch, got <built"),
        ({"augment": 3}, TypeError, "`augment` must be a function of a key and a batch, got 3"),
        ({"progress": "yes"}, TypeError, "`progress` must be True or False, got 'yes'"),
    ],
)
def test_fit_refuses(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^fit: {message}"):
        trained(**options)
    with pytest.raises(ValueError, match=r"^fit: `train` must have at least one example"):
        fit(PLAIN, LOSS, OPTIMIZER, TRAIN.take(slice(0)), key=KEY, epochs=1)


def test_a_metric_that_is_no_number_is_refused() -> None:
    message = r"^evaluate: `metrics` must give numbers, 'm' gave an array of shape \(4, 4\)$"
    with pytest.raises(TypeError, match=message):
        trained(PLAIN, metrics={"m": metrics.confusion_matrix}, epochs=1)


# --- extras ---------------------------------------------------------------------------------------


def test_without_tqdm_there_are_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    trained(PLAIN, epochs=2, progress=True)
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("size", [1, 4, 12])
def test_batches_in_which_nothing_counts_change_nothing(size: int) -> None:
    """Wherever the shuffle puts the ignored ones, and in a last batch of them alone."""
    x = random.normal(random.key(0), (13, 4))
    y = np.where(np.arange(13) % 4 == 1, np.arange(13) % 3, -1)
    some, loss = data.Dataset(x, y), softmax_cross_entropy(ignore_index=-1)
    idle = fit(dense(3), loss, optimizers.sgd(0.0), some, key=KEY, epochs=2, batch_size=size,
               validation=some, progress=False)  # fmt: skip
    np.testing.assert_allclose(idle.history["loss"], idle.history["validation_loss"], rtol=1e-6)
    taught = fit(dense(3), loss, optimizers.adam(0.1), some, key=KEY, epochs=40, batch_size=size,
                 progress=False)  # fmt: skip
    assert taught.state.step == 40 * -(-13 // size)
    assert taught.history["loss"][-1] < 0.3 * taught.history["loss"][0]


@pytest.mark.parametrize("augment", [None, lambda key, x: x])
def test_targets_of_which_none_counts_are_refused(augment: Any) -> None:
    """Before the first step, of each data set."""
    some = data.Dataset(np.zeros((5, 4), np.float32), np.arange(5) % 3)
    none = some._replace(y=np.full(5, -1))
    loss = softmax_cross_entropy(ignore_index=-1)
    options: dict[str, Any] = {"key": KEY, "epochs": 0}
    with pytest.raises(ValueError, match=r"^fit: `train` must have a target that counts"):
        fit(dense(3), loss, sgd(0.1), none, augment=augment, **options)
    with pytest.raises(ValueError, match=r"^fit: `validation` must have a target that counts"):
        fit(dense(3), loss, sgd(0.1), some, validation=none, augment=augment, **options)
    params = dense(3).init(KEY, (1, 4))[1]
    with pytest.raises(ValueError, match=r"^evaluate: `dataset` must have a target that counts"):
        evaluate(dense(3), params, none, loss)
    with pytest.raises(ValueError, match=r"^evaluate: `dataset` must have at least one example"):
        evaluate(dense(3), params, none[:0], loss)


def test_a_loss_without_targets_says_so() -> None:
    x, options = np.ones((6, 4), np.float32), dict[str, Any](key=KEY, epochs=1)
    for loss in (losses.contrastive(), losses.mean_squared_error()):
        with pytest.raises(ValueError, match=r"^fit: `train` must have targets for this loss"):
            fit(dense(3), loss, sgd(0.1), data.Dataset(x, ()), **options)
    with pytest.raises(TypeError, match=r"^softmax_cross_entropy: `target` must be a NumPy array"):
        fit(dense(3), LOSS, sgd(0.1), data.Dataset(x, ()), **options)


def test_a_validation_that_the_network_does_not_take_is_known_before_the_first_step() -> None:
    x, y = np.ones((6, 4), np.float32), np.arange(6) % 3
    for wrong in (x[:, :2], x.astype(np.float64), x[:, :, None]):
        with pytest.raises((TypeError, ValueError), match=r"^dense: `x` must"):
            fit(dense(3), LOSS, sgd(0.1), data.Dataset(x, y), key=KEY, epochs=0,
                validation=data.Dataset(wrong, y))  # fmt: skip


_PROBABILITIES = np.full((200, 3), 1 / 3, np.float32)


@pytest.mark.parametrize(
    ("loss", "target", "message"),
    [
        (LOSS, np.where(np.arange(200) == 150, 3, 0), r"`target` must lie in 0\.\.2, got 3"),
        (LOSS, np.where(np.arange(200) == 199, -1, 0), r"`target` must lie in 0\.\.2, got -1"),
        (LOSS, np.zeros((200, 1), np.int64), r"`target` must have the shape"),
        (LOSS, np.zeros((200, 4), np.float32), r"`target` must have the shape"),
        (LOSS, _PROBABILITIES.astype(np.float64), r"`target` must be float32"),
        (losses.l1(), np.zeros((200, 2), np.float32), r"`target` must have the shape"),
        (losses.focal(), np.where(np.arange(600) == 599, 2, 0.0).reshape(200, 3), "float32|0 or 1"),
        (losses.focal(), _PROBABILITIES, "`target` must be 0 or 1"),
        (losses.hinge(), np.zeros((200, 3), np.float32), "`target` must be -1 or 1"),
    ],
)
def test_a_validation_that_the_loss_does_not_take_is_known_before_the_first_step(
    loss: Any, target: Any, message: str, tmp_path: Path
) -> None:
    x = random.normal(KEY, (200, 4))
    file, good = tmp_path / "run.npz", np.ones((200, 3), np.float32)
    train = Dataset(x, np.arange(200) % 3 if loss is LOSS else good)
    with pytest.raises((TypeError, ValueError), match=message):
        fit(dense(3), loss, sgd(0.1), train, key=KEY, epochs=0, checkpoint=file,
            validation=Dataset(x, target))  # fmt: skip
    assert not file.exists()


def test_metrics_are_asked_before_the_first_step() -> None:
    x, options = random.normal(KEY, (200, 4)), dict[str, Any](key=KEY, epochs=0)
    plain, later = Dataset(x, np.arange(200) % 3), np.where(np.arange(200) < 190, 1, 0)
    for metric in (metrics.mae, metrics.r2):
        with pytest.raises((TypeError, ValueError), match=r"^(mae|r2): "):
            fit(dense(3), LOSS, sgd(0.1), plain, validation=plain, metrics={"m": metric}, **options)
    fit(dense(3), LOSS, sgd(0.1), plain, validation=Dataset(x, later),
        metrics={"f1": metrics.f1}, **options)  # fmt: skip


@pytest.mark.parametrize("value", ["3.0", None, 1j, [1.0], np.zeros(2), "x" * 1000, {}])
def test_a_metric_gives_a_number(value: Any) -> None:
    message = r"^evaluate: `metrics` must give numbers, 'm' gave [^\n]{1,120}$"
    with pytest.raises(TypeError, match=message):
        trained(PLAIN, metrics={"m": lambda prediction, target: value}, epochs=1)
    wrong: Any = {3: metrics.accuracy}
    with pytest.raises(TypeError, match=r"^fit: `metrics` must be a dict of functions by name"):
        trained(PLAIN, metrics=wrong, epochs=1)


def test_a_step_takes_a_state_and_a_data_set() -> None:
    step: Any = train_step(PLAIN, LOSS, OPTIMIZER)
    state = train_state(PLAIN, OPTIMIZER, KEY, (16, 1, 10, 10))
    with pytest.raises(TypeError, match=r"^train_step: `batch` must be a Dataset, got tuple"):
        step(state, tuple(TRAIN))
    with pytest.raises(TypeError, match=r"^train_step: `state` must be a TrainState, got \{\}"):
        step({}, TRAIN)
