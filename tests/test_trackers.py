"""What callbacks are told, and what trackers write of it, read back by the trackers' own means."""

from __future__ import annotations

import json
import re
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    adam,
    checkpoints,
    data,
    dense,
    dropout,
    fit,
    plots,
    random,
    relu,
    serial,
    softmax_cross_entropy,
    training,
    tree,
)
from funcnn.training import Callback, Epoch, FitResult

X = random.normal(random.key(1), (40, 3))
SET = data.Dataset(X, (X[:, 0] > 0).astype(np.int64))
NET = serial(dense(4), relu(), dropout(0.2), dense(2))
PICTURES = {"curves": lambda result: plots.curves(result.history)}


def trained(*callbacks: Any, epochs: int = 3, **options: Any) -> FitResult:
    return fit(
        NET, softmax_cross_entropy(), adam(0.05), SET, key=random.key(0), epochs=epochs, batch_size=16,
        validation=SET, callbacks=callbacks, progress=False, **options,
    )  # fmt: skip


class Diary(Callback):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def begin(self, begin: training.Begin) -> None:
        self.told.append(("begin", begin))

    def step(self, step: training.Step) -> None:
        self.told.append(("step", step))

    def epoch(self, epoch: Epoch) -> bool | None:
        self.told.append(("epoch", epoch))
        return epoch.record["epoch"] == 2

    def end(self, result: FitResult) -> None:
        self.told.append(("end", result))

    def error(self, error: BaseException) -> None:
        self.told.append(("error", error))

    def hooks(self) -> list[str]:
        return [hook for hook, _ in self.told]


def test_callbacks_are_told_of_everything_in_turn(tmp_path: Path) -> None:
    diary, path = Diary(), tmp_path / "run"
    result = trained(diary, epochs=5, checkpoint=path)
    assert diary.hooks() == ["begin", *["step"] * 3, "epoch", *["step"] * 3, "epoch", "end"]
    begin = diary.told[0][1]
    assert (begin.epochs, begin.steps, begin.state.step) == (5, 3, 0)
    assert (begin.resumed, begin.checkpoint) == (False, str(path))
    assert [event.state.step for hook, event in diary.told if hook == "step"] == [1, 2, 3, 4, 5, 6]
    losses = [event.loss for hook, event in diary.told if hook == "step"]
    weights = np.array([16, 16, 8])
    assert np.isclose(result.history["loss"][0], losses[:3] @ weights / 40)
    assert diary.told[-1][1] is result
    json.dumps(begin.settings)

    later = Diary()
    trained(later, epochs=5, resume=path)
    assert later.hooks() == ["begin", "end"]  # a callback has ended it
    again = later.told[0][1]
    assert (again.resumed, again.checkpoint, again.state.step) == (True, None, 6)
    assert again.settings == begin.settings


def test_a_callback_changes_no_bit() -> None:
    assert tree.equal(trained(Callback()).params, trained().params)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_callbacks_are_told_of_errors(error: type[BaseException]) -> None:
    def fails(epoch: Epoch) -> None:
        raise error("on purpose")

    diary = Diary()
    with pytest.raises(error):
        trained(diary, fails)
    assert diary.hooks() == ["begin", "step", "step", "step", "epoch", "error"]
    assert type(diary.told[-1][1]) is error


def test_an_error_of_a_callback_that_is_told_hides_nothing() -> None:
    class Clumsy(Callback):
        def step(self, step: training.Step) -> None:
            raise ValueError("the first")

        def error(self, error: BaseException) -> None:
            raise KeyError("the second")

    with pytest.raises(ValueError, match="the first") as caught:
        trained(Clumsy())
    assert caught.value.__notes__ == ["fit: Clumsy.error: KeyError('the second')"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: training.mlflow(""), "mlflow: `experiment` must be a name, got ''"),
        (lambda: training.wandb("p", mode="on"), "wandb: `mode` must be one of 'online', 'offline'"),
        (lambda: training.wandb("p", every=0), "wandb: `every` must be at least 1, got 0"),
        (lambda: training.tensorboard(""), "tensorboard: `directory` must be a name, got ''"),
    ],
)
def test_bad_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def test_pictures_must_be_functions(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^tensorboard: `pictures` must be a mapping of names to func"):
        training.tensorboard(tmp_path, pictures={"curves": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"`pictures` must return figures, got None for 'curves'$"):
        trained(training.tensorboard(tmp_path, pictures={"curves": lambda result: None}))


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("mlflow", lambda path: training.mlflow("x")),
        ("wandb", lambda path: training.wandb("x", directory=path)),
        ("tensorboardX", training.tensorboard),
    ],
)
def test_what_is_not_installed_is_named(
    package: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    extra = package.lower().removesuffix("x")
    with pytest.raises(ImportError, match=rf'^{package} is needed: pip install "funcnn\[{extra}\]"$'):
        make(tmp_path)


# --- TensorBoard --------------------------------------------------------------------------------------


def test_tensorboard_gets_the_history(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    tracker = training.tensorboard(tmp_path / "runs", every=2, pictures=PICTURES)
    result = trained(tracker, checkpoint=tmp_path / "run")
    (file,) = (tmp_path / "runs").iterdir()
    found = values(file)
    assert set(found) == {
        "loss/training", "loss/validation", "learning_rate/training", "step_loss/training", "curves",
        *(f"{name}/text_summary" for name in ("settings", "weights", "checkpoint", "end")),
    }  # fmt: skip
    assert [step for step, _ in found["loss/validation"]] == [3, 6, 9]
    assert [step for step, _ in found["step_loss/training"]] == [2, 4, 6, 8]
    losses = [value.simple_value for _, value in found["loss/validation"]]
    assert np.allclose(losses, result.history["validation_loss"])
    digests = [value.tensor.string_val[0].decode() for _, value in found["weights/text_summary"]]
    assert digests[-1] == tree.digest(result.params)
    assert found["curves"][0][1].image.encoded_image_string.startswith(b"\x89PNG")


def values(file: Path) -> dict[str, list[tuple[int, Any]]]:
    """Tag to steps and values, read from TensorBoard's records."""
    from tensorboardX.proto.event_pb2 import Event

    content, found, start = file.read_bytes(), dict[str, list[tuple[int, Any]]](), 0
    while start < len(content):
        length = int.from_bytes(content[start : start + 8], "little")
        event = Event.FromString(content[start + 12 : start + 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value))
        start += length + 16
    return found


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    tracker = training.tensorboard(tmp_path)
    tracker.open("a run", {}, False)
    state = training.train_state(NET, adam(0.1), random.key(0), (4, 3))
    tracker.epoch(Epoch(state, {"epoch": 1, "step": 3, "loss": float("nan"), "validation_loss": 2.0}))
    tracker.close(None)
    assert set(values(next(tmp_path.iterdir()))) >= {"loss/validation"}
    assert "loss/training" not in values(next(tmp_path.iterdir()))


@pytest.mark.slow
def test_tensorboard_itself_reads_it(tmp_path: Path) -> None:
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained(training.tensorboard(tmp_path, pictures=PICTURES))
    read = module.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in read.Scalars("loss/training")] == [3, 6, 9]
    assert read.Images("curves")[0].width > 100


# --- MLflow -------------------------------------------------------------------------------------------


class Stop(Exception):
    """A training that dies."""


def dies(epoch: Epoch) -> None:
    if epoch.record["epoch"] == 2:
        raise Stop


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what MLflow warns of itself
@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_mlflow_gets_the_run_and_a_resumed_one_goes_on_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    path, store = tmp_path / "run", f"file://{tmp_path}/store"
    if kind == "sqlite":
        pytest.importorskip("alembic")
        store = f"sqlite:///{tmp_path}/store.db"
        monkeypatch.chdir(tmp_path)  # where artifacts go
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def tracker() -> training.Tracker:
        return training.mlflow("digits", tracking_uri=store, every=2, pictures=PICTURES)

    client = tracking.MlflowClient(tracking_uri=store)

    def runs() -> list[Any]:
        place = client.get_experiment_by_name("digits").experiment_id
        return list(client.search_runs([place], order_by=["attributes.start_time ASC"]))

    with pytest.raises(Stop):
        trained(tracker(), dies, checkpoint=path)
    (run,) = runs()
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "Stop: ")
    result = trained(tracker(), resume=path, checkpoint=path)
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["weights"] == tree.digest(result.params)
    assert run.data.params["optimizer"] == "adam(learning_rate=0.05)"
    assert run.data.params["parameters"] == "26"
    history = client.get_metric_history(run.info.run_id, "validation_loss")
    found = {point.step: point.value for point in history}  # epoch 2 twice: it was not quite over
    assert [point.step for point in history] == [3, 6, 6, 9]
    assert np.allclose(list(found.values()), result.history["validation_loss"])
    assert run.data.metrics["learning_rate"] == pytest.approx(0.05)
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert kept == {"settings.json", "curves.png", "run"}
    copy = client.download_artifacts(run.info.run_id, "run", str(tmp_path))
    assert tree.equal(checkpoints.load(copy)[0]["params"], result.params)

    trained(tracker(), checkpoint=tmp_path / "other")  # anew: a run of its own
    assert len(runs()) == 2


# --- Weights & Biases ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_wandb_gets_the_run_and_a_resumed_one_goes_on_in_it(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    path = tmp_path / "run"

    def tracker() -> training.Tracker:
        return training.wandb("p", mode="offline", directory=tmp_path, every=2, pictures=PICTURES)

    with pytest.raises(Stop):
        trained(tracker(), dies, checkpoint=path)
    result = trained(tracker(), resume=path, checkpoint=path)
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert first.name == second.name  # one run
    before, after = map(written, (first, second))
    assert [
        int(row["_step"]) for row in before if row["_kind"] == "history" and "validation_loss" in row
    ] == [3, 6]
    rows = [row for row in after if row["_kind"] == "history" and "validation_loss" in row]
    assert [int(row["_step"]) for row in rows] == [6, 9]  # epoch 2 was not quite over
    assert rows[-1]["validation_loss"] == pytest.approx(result.history["validation_loss"][-1])
    summary = {name: value for row in after for name, value in row.items()}
    assert summary["weights"] == tree.digest(result.params)
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/images/curves*.png"))


def written(file: Path) -> list[dict[str, Any]]:
    """What a run's file has of history and summary, row by row."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for _ in range(100):  # its own process may still be writing
        if any(Record.FromString(one).WhichOneof("record_type") == "exit"
               for one in records(file.read_bytes())):  # fmt: skip
            break
        time.sleep(0.1)
    for content in records(file.read_bytes()):
        record = Record.FromString(content)
        kind = record.WhichOneof("record_type")
        if kind in ("history", "summary"):
            update = record.history.item if kind == "history" else record.summary.update
            row = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in update
            }
            rows.append({**row, "_kind": kind})
    return rows


def records(content: bytes) -> Iterator[bytes]:
    """The records of LevelDB's log format, after a header of seven bytes."""
    start, whole = 7, b""
    while start + 7 <= len(content):
        if 32768 - start % 32768 < 7:  # the rest of a block is filled up
            start += 32768 - start % 32768
        _, length, kind = struct.unpack_from("<IHB", content, start)
        whole += content[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""
