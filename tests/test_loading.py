"""Batches of one's own making: fit takes them, resumes within an epoch, and refuses what is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    adam,
    batch_norm,
    data,
    dense,
    dropout,
    fit,
    random,
    relu,
    serial,
    softmax_cross_entropy,
)
from funcnn.data import Batches, Dataset, Loader, stream
from funcnn.training import Epoch, FitResult
from funcnn.training.identity import looked_at
from funcnn.types import Key

from .test_checkpointing import same

KEY = random.key(7)
X = random.normal(random.key(1), (22, 4))
TRAIN = Dataset(X, np.arange(22) % 3)
BATCHES = Batches(TRAIN, 8)
NET = serial(dense(5), batch_norm(), relu(), dropout(0.2), dense(3))


def pairs(key: Key, epoch: int, step: int) -> Any:
    x, y = BATCHES.batch(key, epoch, step)
    return x, y


def generated(key: Key, epoch: int) -> Iterator[Dataset]:
    for step in range(100):
        yield BATCHES.batch(key, epoch, step)


def trained(train: Any, **options: Any) -> FitResult:
    size = {"batch_size": 8} if isinstance(train, Dataset) else {}  # others have their own
    defaults: dict[str, Any] = {"key": KEY, "epochs": 3, **size}
    return fit(NET, softmax_cross_entropy(), adam(0.02), train, **{**defaults, **options})


WAYS: list[Any] = [BATCHES, Loader(pairs, 3), Loader(BATCHES.batch, 3), stream(generated, 3)]


@pytest.mark.parametrize("train", WAYS)
def test_batches_are_what_counts(train: Any) -> None:
    same(trained(train), trained(TRAIN))


@pytest.mark.parametrize("train", WAYS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_a_loader_is_resumed_within_an_epoch(train: Any, steps: int, tmp_path: Path) -> None:
    file, whole = tmp_path / "run.npz", trained(TRAIN)

    class Stop(Exception):
        pass

    def stop(self: Any, key: Key, epoch: int, step: int) -> Any:
        if epoch * 3 + step == steps and not resumed:
            raise Stop
        return train.batch(key, epoch, step)

    resumed = False
    stopping = Loader(lambda key, epoch, step: stop(None, key, epoch, step), 3)
    with pytest.raises(Stop):
        trained(stopping, checkpoint=file, checkpoint_every=1)
    resumed = True
    same(trained(stopping, resume=file), whole)


def test_a_stream_is_gone_through_once() -> None:
    begun, made = list[int](), 0

    def count(key: Key, epoch: int) -> Iterator[Dataset]:
        nonlocal made
        begun.append(epoch)
        for step in range(3):
            made += 1
            yield BATCHES.batch(key, epoch, step)

    loader = stream(count, 3)
    for epoch in range(4):
        for step in range(3):
            assert np.array_equal(loader.batch(KEY, epoch, step).x, BATCHES.batch(KEY, epoch, step).x)
    assert begun == [0, 1, 2, 3]
    assert made == 12
    assert np.array_equal(loader.batch(KEY, 1, 2).x, BATCHES.batch(KEY, 1, 2).x)
    assert np.array_equal(loader.batch(KEY, 1, 0).x, BATCHES.batch(KEY, 1, 0).x)
    assert np.array_equal(loader.batch(random.key(1), 1, 1).x, BATCHES.batch(random.key(1), 1, 1).x)


def test_an_object_with_a_length_is_a_stream() -> None:
    class Sequence:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[Any]:
            for step in range(3):
                yield tuple(BATCHES.batch(KEY, 0, step))

    sequence = Sequence()
    result = trained(stream(lambda key, epoch: iter(sequence), len(sequence)), epochs=2)
    assert result.history["step"].tolist() == [3, 6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Loader(lambda key, epoch, step: BATCHES.batch(key, epoch + 1, step), 3), "train was"),
        (Loader(pairs, 2), "steps was 3, now 2"),
        (TRAIN, "batch_size was None, now 8"),
    ],
)
def test_another_loader_is_not_taken(change: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    trained(Loader(pairs, 3), epochs=1, checkpoint=file)
    with pytest.raises(ValueError, match=f"must be a checkpoint of this training: .*{message}"):
        trained(change, resume=file)


@pytest.mark.parametrize(
    ("train", "options", "kind", "message"),
    [
        (BATCHES, {"batch_size": 8}, ValueError, "fit: `batch_size` must be left to `train`, which is"),
        (pairs, {}, TypeError, "fit: `train` must be a Dataset, got function: write data.Loader"),
        (Loader(pairs, 0), {}, ValueError, "fit: `train.steps` must be at least 1, got 0"),
        (Loader(pairs, 3), {"drop_last": True}, ValueError, "fit: `drop_last` and `augment` must"),
        (BATCHES, {"augment": lambda key, x: x}, ValueError, "fit: `drop_last` and `augment` must"),
        (Loader(lambda *_: X, 3), {}, TypeError, "batch: `load` must give a Dataset or a pair"),
        (Loader(lambda *_: (X, X, X), 3), {}, TypeError, "batch: `load` must give .*a tuple of 3"),
        (Loader(lambda *_: (X, TRAIN.y[1:]), 3), {}, ValueError, "Dataset: `x` and `y` must have one"),
        (stream(generated, 101), {"epochs": 1}, ValueError, r"batch: `step` must lie in 0\.\.2, got 3"),
        (stream(lambda key, epoch: iter([TRAIN]), 3), {}, ValueError, "stream: .* got none for step 1"),
        (Batches(TRAIN, 30, drop_last=True), {}, ValueError, "fit: `train.steps` must be at least 1"),
    ],
)
def test_what_gives_no_batches_is_refused(
    train: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        trained(train, **options)


def test_steps_of_an_epoch_that_are_not_there_are_refused() -> None:
    for step in (-1, 3):
        with pytest.raises(ValueError, match=rf"^batch: `step` must lie in 0..2, got {step}"):
            Loader(pairs, 3).batch(KEY, 0, step)


def test_a_loader_trains_trees_and_validates() -> None:
    seen = list[int]()

    def watch(epoch: Epoch) -> None:
        seen.append(epoch.state.epoch)

    def load(key: Key, epoch: int, step: int) -> Dataset:
        return data.Dataset(X[:6], TRAIN.y[:6])

    result = trained(Loader(load, 2), validation=TRAIN, callbacks=(watch,))
    assert seen == [1, 2, 3]
    assert len(result.history["validation_loss"]) == 3


@pytest.mark.parametrize("make", [Loader, lambda load, steps: stream(_each(load, steps), steps)])
@pytest.mark.parametrize("steps", [1, 7, 70])
def test_batches_that_differ_later_in_an_epoch_are_others(
    make: Any, steps: int, tmp_path: Path
) -> None:
    """Some all over the first epoch are remembered, and those that begin another."""
    file, places = tmp_path / "run.npz", looked_at(steps)
    assert len(places) < 70
    assert all(min(abs(s - p) for p in places) <= 1 + steps // 32 for s in range(steps))

    def load(key: Key, epoch: int, step: int) -> Any:
        x = np.full((2, 4), epoch + step, np.float32)
        if (epoch, step) == changed:
            x[1, 3] += np.float32(1e-6) * (1 + epoch + step)
        return x, np.zeros(2, np.int64)

    changed = (-1, -1)
    options: dict[str, Any] = {"checkpoint": file, "checkpoint_every": 5}
    trained(make(load, steps), epochs=3, **options)
    trained(make(load, steps), epochs=3, resume=file)
    for changed in {(0, places[1] % steps), (0, steps - 1), (0, 32 * steps // 70), (1, 0), (2, 0)}:
        if changed[0] * steps + changed[1] in places:
            with pytest.raises(ValueError, match=r"this training: train (was|gives)"):
                trained(make(load, steps), epochs=3, resume=file)


def _each(load: Any, steps: int) -> Any:
    return lambda key, epoch: (load(key, epoch, step) for step in range(steps))
