"""A run in a file: killed at any moment and gone on with, it is the same run; and no other is taken."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import random as python_random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    adam,
    batch_norm,
    checkpoints,
    data,
    dense,
    dropout,
    fit,
    metrics,
    optimizers,
    random,
    relu,
    schedules,
    serial,
    sgd,
    softmax_cross_entropy,
    tree,
)
from funcnn.data import Batches, Dataset, Loader
from funcnn.training import Epoch, FitResult
from funcnn.types import Loss

KEY = random.key(7)
X = random.normal(random.key(1), (20, 4))
Y = np.arange(20) % 3
TRAIN = Dataset(X, Y)
NET = serial(dense(5), batch_norm(), relu(), dropout(0.2), dense(3))


def trained(**options: Any) -> FitResult:
    defaults: dict[str, Any] = {
        "net": NET, "loss": softmax_cross_entropy(), "optimizer": adam(0.02), "train": TRAIN,
        "key": KEY, "epochs": 9, "batch_size": 8,
    }  # fmt: skip
    return fit(**{**defaults, **options})


def same(one: FitResult, other: FitResult) -> None:
    assert tree.equal(one.params, other.params)
    assert tree.equal(one.state.tree(), other.state.tree())
    assert one.state.cursor() == other.state.cursor()
    assert list(one.history) == list(other.history)
    assert all(np.array_equal(one.history[name], other.history[name]) for name in one.history)


def stop_after(epochs: int) -> Callable[[Epoch], bool]:
    def stop(epoch: Epoch) -> bool:
        return epoch.state.epoch == epochs

    return stop


class Killed(BaseException):
    """The process is gone."""


# --- what a callback decides ----------------------------------------------------------------------


def test_what_a_callback_has_ended_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    whole = trained(callbacks=(stop_after(7),), checkpoint=file)
    assert whole.history["epoch"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    for callbacks in ((stop_after(7),), (stop_after(3),), ()):
        for _ in range(2):
            same(trained(callbacks=callbacks, checkpoint=file, resume=file), whole)


def test_callbacks_are_asked_once_about_each_epoch(tmp_path: Path) -> None:
    file, seen = tmp_path / "run.npz", list[int]()

    def watch(epoch: Epoch) -> None:
        seen.append(epoch.state.epoch)
        epoch.record["loss"] = -1.0  # which is their own copy

    for epochs in (2, 5, 5, 9):
        going_on = file if seen else None
        result = trained(epochs=epochs, callbacks=(watch,), checkpoint=file, resume=going_on)
    assert seen == list(range(1, 10))
    assert result.history["loss"].min() > 0


@pytest.mark.parametrize("answer", [True, np.True_, np.bool_(True)])
def test_true_ends_a_training(answer: Any) -> None:
    assert len(trained(callbacks=(lambda epoch: None, lambda epoch: answer)).history["loss"]) == 1


@pytest.mark.parametrize("answer", [False, np.False_, None, 1, 0.5, "yes", np.ones(3), [True]])
def test_nothing_but_true_does(answer: Any) -> None:
    assert len(trained(epochs=2, callbacks=(lambda epoch: answer,)).history["loss"]) == 2


def test_a_callback_that_raises_leaves_a_whole_epoch_and_is_asked_again(tmp_path: Path) -> None:
    file, asked = tmp_path / "run.npz", list[int]()
    whole = trained(callbacks=(stop_after(4),))

    def fail(epoch: Epoch) -> None:
        asked.append(epoch.state.epoch)
        if len(asked) == 4:
            raise Killed

    with pytest.raises(Killed):
        trained(callbacks=(fail, stop_after(4)), checkpoint=file)
    _, meta = checkpoints.load(file)
    assert meta["cursor"]["epoch"] == 4
    same(trained(callbacks=(fail, stop_after(4)), resume=file), whole)
    assert asked == [1, 2, 3, 4, 4]


@pytest.mark.parametrize("often", [None, 1])
def test_killed_at_every_moment_the_run_is_that_of_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often: int | None
) -> None:
    """Before and after each file is written, inside each step, and before and after a callback."""
    file, left = tmp_path / "run.npz", 0
    write = checkpoints.save

    def moment() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    def save(*args: Any) -> None:
        moment()
        write(*args)
        moment()

    def stop(epoch: Epoch) -> bool:
        moment()
        found = stop_after(2)(epoch)
        moment()
        return found

    def augment(key: Any, x: Any) -> Any:
        moment()
        return x

    def run(resume: Path | None) -> FitResult:
        return trained(epochs=3, callbacks=(stop,), checkpoint=file, augment=augment, batch_size=10,
                       checkpoint_every=often, resume=resume)  # fmt: skip

    monkeypatch.setattr(checkpoints, "save", save)
    whole, moments = run(None), -left
    assert len(whole.history["loss"]) == 2
    for first in range(1, moments + 1):
        file.unlink(missing_ok=True)
        for deaths in (first, 3):
            left = deaths
            with contextlib.suppress(Killed):
                same(run(file if file.exists() else None), whole)
        left = 0
        same(run(file if file.exists() else None), whole)


# --- which training it is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": Dataset(X + np.float32(1e-6), Y)}, r"train was .*4\) with x .*, now"),
        ({"train": Dataset(np.concatenate([X[:19], X[:1]]), Y)}, "train was"),
        ({"train": Dataset(X, np.where(np.arange(20) == 13, 0, Y))}, "train was"),
        ({"validation": Dataset(np.concatenate([X[:19], X[:1]]), Y)}, "validation was"),
        ({"optimizer": adam(lambda step: 0.02)}, r"optimizer was adam\(.*schedule [0-9a-f]{8}\), now"),
        ({"optimizer": adam(lambda step: 0.05 if step < 100 else 0.005)}, "optimizer was"),
        ({"optimizer": adam(lambda step: [0.05, 0.04, 0.03][step])}, "optimizer was"),
        ({"optimizer": adam(0.05)}, r"optimizer was adam\(.*schedule .*\), now adam\(.*0.05\)"),
        ({"drop_last": True}, "drop_last was False, now True"),
        ({"mode": "max"}, "best was smallest, now largest"),
    ],
)
def test_another_training_is_not_taken(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "run.npz"
    options: dict[str, Any] = {"validation": TRAIN, "epochs": 2}
    options["optimizer"] = adam(lambda step: 0.05 if step < 100 else 0.01)
    trained(**options, checkpoint=file)
    wanted = f"^fit: .*run.npz must be a checkpoint of this training: {message}"
    with pytest.raises(ValueError, match=wanted) as caught:
        trained(**{**options, **change}, resume=file)
    assert len(str(caught.value)) < 300 + len(str(file))
    trained(**options, resume=file)


def test_data_that_only_lies_elsewhere_is_the_same(tmp_path: Path) -> None:
    file, whole = tmp_path / "run.npz", trained()
    trained(epochs=1, checkpoint=file)
    for x in (np.asfortranarray(X), np.repeat(X, 2, 0)[::2]):
        same(trained(train=Dataset(x, Y), resume=file), whole)


def test_a_mapped_set_is_known_by_rows_from_all_over_it(tmp_path: Path) -> None:
    file, count = tmp_path / "run.npz", 3000
    x = random.normal(KEY, (count, 4))
    np.save(tmp_path / "y.npy", np.arange(count) % 3)

    def run(rows: Any, **options: Any) -> None:
        np.save(tmp_path / "x.npy", rows)
        mapped = data.read_npy(tmp_path / "x.npy", tmp_path / "y.npy")
        trained(train=mapped, epochs=1, batch_size=1000, **options)

    run(x, checkpoint=file)
    run(x, resume=file)
    with pytest.raises(ValueError, match="train was"):
        run(np.roll(x, 1, 0), resume=file)


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: adam(lambda step: rate / (1 + step)),
        lambda rate: optimizers.chain(optimizers.clip_by_norm(1.0), sgd(lambda step: rate + step)),
        lambda rate: adam(schedules.warmup(lambda step: rate, 5)),
    ],
)
def test_a_schedule_is_known_by_its_numbers(tmp_path: Path, make: Callable[[float], Any]) -> None:
    """Not by its name, nor by where it lies in memory."""
    file = tmp_path / "run.npz"
    whole = trained(optimizer=make(0.1))
    trained(optimizer=make(0.1), epochs=1, checkpoint=file)
    same(trained(optimizer=make(0.1), resume=file), whole)
    with pytest.raises(ValueError, match=r"optimizer was .*schedule .*, now .*schedule"):
        trained(optimizer=make(0.2), resume=file)


def test_long_networks_are_shown_where_they_differ(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"

    def deep(width: int) -> Any:
        return serial(*[dense(5) for _ in range(50)], dense(width), *[dense(3) for _ in range(50)])

    trained(net=deep(7), epochs=0, checkpoint=file)
    message = r"net was \.\.\..*dense\(7\).*\.\.\..*, now .*dense\(8\)"
    with pytest.raises(ValueError, match=message) as caught:
        trained(net=deep(8), epochs=0, resume=file)
    assert len(str(caught.value)) < 400


# --- functions, by what they give -----------------------------------------------------------------


def scaled(factor: float) -> Callable[[Any, Any], Any]:
    def inner(key: Any, x: Any) -> Any:
        return x * np.float32(factor)

    return inner


class Scaled:
    """A change that is an object."""

    def __init__(self, factor: float) -> None:
        self.factor = np.float32(factor)

    def __call__(self, key: Any, x: Any) -> Any:
        return x * self.factor


def near(within: float) -> Callable[[Any, Any], float]:
    return lambda prediction, target: float((np.abs(prediction.max(1) - target) < within).mean())


def top(count: int) -> Callable[[Any, Any], float]:
    def metric(prediction: Any, target: Any) -> float:
        return float((np.argsort(-prediction, 1)[:, :count] == target[:, None]).any(1).mean())

    return metric


def weighed(weight: float) -> Any:
    """A loss of one's own, whose functions are all that differs."""
    inner = softmax_cross_entropy()
    return Loss(
        lambda prediction, target: (lambda found: (found[0] * weight, found[1]))(
            inner.apply(prediction, target)
        ),
        lambda cache: inner.vjp(cache) * np.float32(weight),
    )


def shifted(shift: float) -> Any:
    """A layer of one's own."""
    inner = dense(3)
    return inner._replace(
        apply=lambda params, x, key=None: inner.apply(params, x + np.float32(shift), key=key),
        spec=inner.spec,
        children=(),
    )


def stepping(rate: float) -> Any:
    inner = sgd(0.1)

    def update(grads: Any, state: Any, params: Any) -> Any:
        updates, state = inner.update(grads, state, params)
        return tree.map(lambda leaf: leaf * np.float32(rate), updates), state

    return inner._replace(update=update)


def masked(word: str) -> Any:
    return sgd(0.1, weight_decay=0.1, mask=lambda path, leaf: word in path)


BYTES = Dataset((X > 0).astype(np.uint8), Y)
FUNCTIONS: list[tuple[str, Callable[[Any], dict[str, Any]], Any, Any]] = [
    ("augment", lambda a: {"augment": scaled(a)}, 2.0, 2.5),
    ("augment", lambda a: {"augment": Scaled(a)}, 2.0, 2.5),
    ("augment", lambda a: {"augment": lambda key, x: x + np.float32(a)}, 0.0, 0.001),
    ("augment", lambda a: {"augment": functools.partial(lambda key, x, by: x[:, ::by], by=a)}, 1, -1),
    ("augment", lambda a: {"augment": lambda key, x: (x * a).astype(np.float32), "train": BYTES}, 1, 2),
    ("augment", lambda a: {"augment": lambda key, x: x + random.normal(key, x.shape) * np.float32(a)},
     0.1, 0.2),
    ("augment", lambda a: {"train": Batches(TRAIN, 8, augment=scaled(a)), "batch_size": None}, 1, 2),
    ("train", lambda a: {"train": Loader(lambda key, epoch, step: (X[:8] + np.float32(step * a), Y[:8]),
                                         3), "batch_size": None}, 1, 2),
    (r"metrics\['m'\]", lambda a: {"metrics": {"m": near(a)}}, 0.1, 0.5),
    (r"metrics\['m'\]", lambda a: {"metrics": {"m": top(a)}}, 1, 2),
    (r"metrics\['m'\]", lambda a: {"metrics": {"m": lambda p, t: a * metrics.accuracy(p, t)}}, 1, -1),
    (r"metrics\['m'\]", lambda a: {"metrics": {"m": functools.partial(metrics.accuracy, weight=a)}},
     np.arange(20.0), np.arange(20.0)[::-1]),
    ("loss", lambda a: {"loss": weighed(a)}, 1.0, 1.1),
    ("net", lambda a: {"net": shifted(a)}, 0.5, 0.6),
    ("optimizer", lambda a: {"optimizer": stepping(a)}, 1.0, 0.9),
    ("optimizer", lambda a: {"optimizer": masked(a)}, "weight", "bias"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "make", "one", "other"), FUNCTIONS)
def test_a_function_is_known_by_what_it_gives(
    tmp_path: Path, what: str, make: Callable[[Any], dict[str, Any]], one: Any, other: Any
) -> None:
    """And not by its name, nor by where it lies: an equal one goes on, another does not."""
    file = tmp_path / "run.npz"
    options: dict[str, Any] = {"net": dense(3), "validation": TRAIN, "epochs": 2}
    if "metrics" in what:
        options |= {"monitor": "m", "mode": "max"}
    whole = trained(**{**options, **make(one)})
    trained(**{**options, **make(one), "epochs": 1}, checkpoint=file)
    same(trained(**{**options, **make(one)}, resume=file), whole)
    message = f"^fit: .*run.npz must be a checkpoint of this training: {what} gives something else now"
    with pytest.raises(ValueError, match=message):
        trained(**{**options, **make(other)}, resume=file)


SAME = """
import sys
from tests.test_checkpointing import FUNCTIONS, TRAIN, dense, trained
place, file, *resume = sys.argv[1:]
what, make, one, other = FUNCTIONS[int(place)]
options = {"net": dense(3), "validation": TRAIN, "epochs": 1 + len(resume), **make(one)}
trained(**options, checkpoint=file, resume=file if resume else None)
"""


@pytest.mark.parametrize("place", [1, 9, 12, 15])
def test_a_function_is_known_in_another_process(tmp_path: Path, place: int) -> None:
    file = str(tmp_path / "run.npz")
    for resume in ((), ("yes",)):
        for seed, threads in ((1, "1"), (2, "2")):
            setting = {**os.environ, "PYTHONHASHSEED": str(seed), "OPENBLAS_NUM_THREADS": threads}
            command = [sys.executable, "-c", SAME, str(place), file, *resume]
            subprocess.run(command, cwd=Path(__file__).parents[1], env=setting, check=True)


def test_params_to_start_from_are_part_of_a_training_and_may_be_left_out(tmp_path: Path) -> None:
    file, other = tmp_path / "run.npz", tmp_path / "other.npz"
    starts = [NET.init(random.key(place), (1, 4))[1] for place in (1, 2)]
    whole = trained(params=starts[0])
    trained(params=starts[0], epochs=1, checkpoint=file)
    trained(epochs=1, checkpoint=other)
    same(trained(params=starts[0], resume=file), whole)
    same(trained(epochs=2, resume=file, checkpoint=file).state and trained(resume=file), whole)
    same(trained(params=starts[0], resume=file), whole)
    for wrong, where in ((starts[1], file), (starts[0], other)):
        with pytest.raises(ValueError, match="must be a checkpoint of this training: params was"):
            trained(params=wrong, resume=where)


def test_a_training_in_float64_is_taken_up_again(tmp_path: Path) -> None:
    """With metrics, which are known by what they say of predictions in that dtype."""
    file, wide = tmp_path / "run.npz", Dataset(X.astype(np.float64), Y)
    params = tree.map(lambda leaf: leaf.astype(np.float64), NET.init(KEY, (1, 4))[1])
    options: dict[str, Any] = {"train": wide, "validation": wide, "params": params}
    options["metrics"] = {"a": top(1)}
    whole = trained(**options)
    trained(**options, epochs=2, checkpoint=file)
    same(trained(**options, resume=file), whole)
    with pytest.raises(ValueError, match=r"training: metrics\['a'\] gives something else now"):
        trained(**{**options, "metrics": {"a": top(2)}}, resume=file)


# --- what `fit` did not write ---------------------------------------------------------------------


STRANGERS: list[Any] = [
    {}, {"training": "run 5"}, {"training": None}, {"training": []}, {"training": {}}, {"training": 3},
    {"cursor": 1}, {"training": {"key": "x" * 10_000}}, {"training": {"key": [["\n"] * 500]}},
]  # fmt: skip


@pytest.mark.parametrize("meta", STRANGERS, ids=lambda meta: repr(meta)[:40])
def test_meta_of_ones_own_is_refused_in_one_line(tmp_path: Path, meta: Any) -> None:
    file = tmp_path / "mine.npz"
    checkpoints.save(file, {"weight": np.ones(3)}, meta)
    with pytest.raises(ValueError, match=r"^fit: .*mine.npz must be a checkpoint") as caught:
        trained(resume=file)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested data where something stands."""
    for name in value if isinstance(value, dict) else range(len(value)):
        yield value, name
        if isinstance(value[name], (dict, list)):
            yield from places_in(value[name])


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 5, 10**30, -(10**400), 1e308, float("nan"), float("inf"), "", "0",
    "x\ny", [], {}, [1], [[]], {"a": 1}, {"epoch": 1}, [None, None], [1.0, 2], [0.0, 0.0, 0],
]  # fmt: skip


@pytest.mark.parametrize("seed", [0, *[pytest.param(i, marks=pytest.mark.slow) for i in range(1, 20)]])
def test_meta_of_any_shape_is_refused_or_taken_whole(tmp_path: Path, seed: int) -> None:
    """Each place of what `fit` wrote becomes something else: a refusal in one line, or a good run."""
    file, draw = tmp_path / "run.npz", python_random.Random(seed)
    options: dict[str, Any] = {"net": dense(3), "validation": TRAIN, "epochs": 2}
    trained(**options, checkpoint=file)
    stored, meta = checkpoints.load(file)
    refused = 0
    places = len(list(places_in(meta)))
    for place in range(places):
        for _ in range(3):
            copy = json.loads(json.dumps(meta))
            node, name = list(places_in(copy))[place]
            if isinstance(node, dict) and draw.random() < 0.2:
                del node[name]
            else:
                node[name] = draw.choice(ODD)
            checkpoints.save(file, stored, copy)
            try:
                result = trained(**options, resume=file)
            except ValueError as problem:
                refused += 1
                text = str(problem)
            else:
                text = "fit: taken"
                assert result.history["epoch"].tolist() == [1, 2]
            assert text.startswith("fit: ")
            assert "\n" not in text
            assert len(text) < 300 + len(str(file))
    assert refused > 2 * places


def mutations(value: Any) -> list[Any]:
    """What may not stand where something stands: another kind, or a number that cannot be."""
    odd: list[Any] = [
        None,
        "",
        "x",
        [],
        {},
        [value],
        {"a": value},
        [[]],
        float("nan"),
        -1,
        10**30,
        10**400,
    ]
    odd += [not value] if type(value) is bool else [True, False]
    odd += [float(value)] if type(value) is int else []
    odd += [int(value)] if type(value) is float and math.isfinite(value) else []
    return odd


# What a place may hold in a file of another moment, or of numbers that nothing else depends on.
LAWFUL: dict[str, Callable[[Any], bool]] = {
    "/stopped": lambda value: value is None or type(value) is bool,  # what callbacks have said
    "/records/0/validation_a": lambda value: type(value) is float,  # a metric may be NaN
    "/kernels": lambda value: type(value) is str,  # a run may go on with others
}


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["end", "middle", "plain"])
def test_every_field_of_what_a_run_remembers_is_checked(tmp_path: Path, kind: str, every: int) -> None:
    """Deleted, of another kind, out of range, or beside something unknown: refused in one line."""
    file = tmp_path / "run.npz"
    options: dict[str, Any] = {"net": dense(3), "epochs": 2}
    if kind != "plain":
        options |= {"validation": TRAIN, "metrics": {"a": metrics.accuracy}}
        options |= {"augment": data.mixup(3)}

    def stop(epoch: Epoch) -> None:
        raise Killed

    def kill(self: Any, key: Any, epoch: int, step: int, **options: Any) -> Any:
        if (epoch, step) == (1, 2):
            raise Killed
        return draw(self, key, epoch, step, **options)

    draw = Batches.batch
    with pytest.MonkeyPatch.context() as patch:
        if kind == "middle":
            patch.setattr(Batches, "batch", kill)
        with contextlib.suppress(Killed):
            trained(**{**options, "epochs": 2 if kind == "middle" else 1},
                    checkpoint=file, checkpoint_every=1)  # fmt: skip
    stored, meta = checkpoints.load(file)
    assert meta["cursor"]["batch"] == (2 if kind == "middle" else 0)
    trained(**options, resume=file)
    tried, taken, draw_change = 0, list[Any](), python_random.Random(0)
    for place, (node, name) in enumerate(places_in(meta)):
        path = paths_in(meta)[place]
        changes: list[Any] = [*mutations(node[name]), "deleted"]
        changes += ["unknown"] if isinstance(node[name], (dict, list)) else []
        for change in changes:
            if draw_change.random() * every > 1:
                continue
            copy = json.loads(json.dumps(meta))
            inside, at = list(places_in(copy))[place]
            if change == "deleted":
                del inside[at]
            elif change == "unknown" and isinstance(inside[at], dict):
                inside[at]["unknown"] = 1
            elif change == "unknown":
                inside[at].append(1)
            else:
                inside[at] = change
            if json.dumps(copy) == json.dumps(meta) or LAWFUL.get(path, lambda value: False)(change):
                continue
            checkpoints.save(file, stored, copy)
            tried += 1
            try:
                trained(**options, resume=file)
            except ValueError as problem:
                text = str(problem)
                assert text.startswith("fit: "), (path, change, text)
                assert "must be a checkpoint" in text, (path, change, text)
                assert "\n" not in text
                assert len(text) < 300 + len(str(file))
            else:
                taken.append((path, change))
    assert taken == []
    assert tried > 500 / every


def paths_in(value: Any, above: str = "") -> list[str]:
    """The names of `places_in`."""
    found: list[str] = []
    for name in value if isinstance(value, dict) else range(len(value)):
        found.append(f"{above}/{name}")
        if isinstance(value[name], (dict, list)):
            found += paths_in(value[name], f"{above}/{name}")
    return found


def test_a_state_that_the_optimizer_cannot_have_is_refused(tmp_path: Path) -> None:
    """Such as a count below 0."""
    file = tmp_path / "run.npz"
    trained(epochs=1, checkpoint=file)
    stored, meta = checkpoints.load(file)
    paths = [path for path, leaf in tree.leaves(stored["optimizer"]) if leaf.dtype.kind in "iu"]
    assert paths
    for path in paths:
        forged = tree.replace(stored, {f"optimizer/{path}": np.array(-5)})
        checkpoints.save(file, forged, meta)
        with pytest.raises(ValueError, match=r"^fit: .*run.npz must hold a state of the ") as caught:
            trained(resume=file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_checkpoint_with_numbers_that_are_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    """No training can go on with them: parameters, the optimizer's memory, the best parameters."""
    file = tmp_path / "run.npz"
    trained(epochs=1, checkpoint=file)
    stored, meta = checkpoints.load(file)
    floats = [path for path, leaf in tree.leaves(stored) if leaf.dtype.kind == "f"]
    assert {path.split("/")[0] for path in floats} == {"params", "optimizer", "best"}
    for path in floats:
        leaf = dict(tree.leaves(stored))[path].copy()
        leaf.ravel()[-1] = value
        if not leaf.ndim:
            leaf = np.array(value, leaf.dtype)
        checkpoints.save(file, tree.replace(stored, {path: leaf}), meta)
        with pytest.raises(ValueError, match=rf"^fit: .* finite numbers, not so at '.*{path[-20:]}'$"):
            trained(resume=file)


# --- interruptions --------------------------------------------------------------------------------


def test_an_interruption_says_where_the_checkpoint_is_and_how_to_go_on(tmp_path: Path) -> None:
    file, steps = tmp_path / "run.npz", 0

    def interrupt(key: Any, x: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 8:
            raise KeyboardInterrupt
        return x

    text = f"fit: interrupted: {file} holds the training up to step 6, go on with resume={str(file)!r}"
    with pytest.raises(KeyboardInterrupt) as caught:
        trained(augment=interrupt, checkpoint=file, checkpoint_every=2)
    assert str(caught.value) == text
    same(trained(augment=interrupt, resume=file), trained(augment=interrupt))
    steps = 0
    with pytest.raises(KeyboardInterrupt, match="no checkpoint was written, give one"):
        trained(augment=interrupt)


def test_an_interruption_before_the_first_step_says_so(tmp_path: Path) -> None:
    def interrupt(prediction: Any, target: Any) -> float:
        raise KeyboardInterrupt

    options: dict[str, Any] = {"validation": TRAIN, "metrics": {"m": interrupt}}
    message = r"^fit: interrupted: it had not begun, and has written nothing$"
    with pytest.raises(KeyboardInterrupt, match=message):
        trained(**options, checkpoint=tmp_path / "run.npz")
    assert not list(tmp_path.iterdir())


def test_a_network_that_needs_several_examples_is_validated_by_several() -> None:
    net = serial(dense(5), batch_norm(track_running=False), dense(3))
    assert len(trained(net=net, validation=TRAIN, epochs=1).history["validation_loss"]) == 1


SCRIPT = """
import signal, sys
from tests.test_checkpointing import trained
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
print("ready", flush=True)
trained(epochs=10**9, checkpoint=sys.argv[1], progress=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_signal_ends_a_training_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(file)], cwd=Path(__file__).parents[1], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    while "epoch" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    last = errors.splitlines()[-1]
    assert last.startswith(f"KeyboardInterrupt: fit: interrupted: {file} holds the training up to step")
    assert last.endswith(f"go on with resume={str(file)!r}")
    _, meta = checkpoints.load(file)
    assert f"step {meta['cursor']['step']}," in last
