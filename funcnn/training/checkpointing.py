"""A run of `fit` in a file: all that the rest of it depends on, and which training it is of."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from typing import Any, NamedTuple, NoReturn

import numpy as np

from funcnn import checkpoints, checks, files, tree
from funcnn.data import Augmentation, Batches, Dataset, Loader
from funcnn.data.examples import is_on_disk
from funcnn.metrics import Mean
from funcnn.optimizers import Optimizer, check_state, learning_rate
from funcnn.training.state import TrainState
from funcnn.types import Array, Key, Params, Spec

Record = dict[str, float]
_ROWS = 1024  # of a data set, at a time; of one on the disk, so many are looked at in all


class Run(NamedTuple):
    """What a training remembers beside its state; all of it is in the checkpoint."""

    state: TrainState
    best_params: Params
    best_value: float = float("nan")
    best_epoch: int = 0
    loss: Mean = Mean()
    records: tuple[Record, ...] = ()
    stopped: bool | None = False  # by a callback; None: they are still to be asked about the epoch


class RunFile:
    """Where the checkpoint of a training goes; without a path, nowhere."""

    def __init__(self, path: str | PathLike[str] | None, identity: Mapping[str, Any]) -> None:
        self.path, self._identity = path, identity
        self.step: int | None = None  # at which it was last written

    def save(self, run: Run) -> None:
        """Write the file, whole."""
        if self.path is None:
            return
        meta = {
            "cursor": run.state.cursor(),
            "best": [run.best_value, run.best_epoch],
            "loss": list(run.loss),
            "records": list(run.records),
            "stopped": run.stopped,
            "training": dict(self._identity),
        }
        checkpoints.save(self.path, {**run.state.tree(), "best": run.best_params}, meta)
        self.step = run.state.step

    def advice(self) -> str:
        """How to go on after an interruption."""
        if self.step is None:
            return "no checkpoint was written, give one as `checkpoint`"
        path = os.fspath(self.path or "")
        return f"{path} holds the training up to step {self.step}, go on with resume={path!r}"


# --- going on -----------------------------------------------------------------------------------------


def resumed(
    path: str | PathLike[str],
    fresh: Run,
    optimizer: Optimizer,
    identity: Mapping[str, Any],
    steps: int,
) -> Run:
    """The run that a checkpoint holds, if it is one of this training of so many steps an epoch."""
    _, meta = checkpoints.load(path)
    training = meta.get("training") if isinstance(meta, dict) else None
    if not isinstance(training, dict):
        _refuse_stranger(path)
    for name, wanted in identity.items():
        if (got := training.get(name)) != wanted:
            was, now = _apart(str(got), str(wanted))
            text = f"must be a checkpoint of this training: {name} was {was}, now {now}"
            advice = "a new one can begin with its weights, given as `params`"
            checks.refuse(f"{files.short(os.fspath(path), 60, 0)} {text}; {advice}")
    run = _read(meta, fresh, steps, _recorded(fresh, identity))
    if run is None:
        _refuse_stranger(path)
    stored, _ = checkpoints.load(path, {**fresh.state.tree(), "best": fresh.best_params})
    try:
        check_state(optimizer, stored["optimizer"], stored["params"])
    except checks.Refusal as problem:
        files.refuse(path, f"must hold a state of the optimizer: {problem}")
    state = run.state._replace(params=stored["params"], optimizer=stored["optimizer"])
    return run._replace(state=state, best_params=stored["best"])


def _refuse_stranger(path: str | PathLike[str]) -> NoReturn:
    files.refuse(path, "must be a checkpoint that `fit` wrote: give other weights as `params`")


def _recorded(fresh: Run, identity: Mapping[str, Any]) -> set[str]:
    """What this training records of each epoch."""
    names = {"epoch", "step", "loss"}
    with contextlib.suppress(checks.Refusal):  # an optimizer of the user's own may have none
        learning_rate(fresh.state.optimizer)
        names.add("learning_rate")
    if identity["validation"] is not None:
        names |= {f"validation_{name}" for name in ("loss", *identity["metrics"])}
    return names


def _read(meta: Mapping[str, Any], fresh: Run, steps: int, recorded: set[str]) -> Run | None:
    """What `RunFile.save` remembered beside the arrays; None for what it cannot have been."""
    try:
        cursor, records = meta["cursor"], meta["records"]
        step, epoch, batch = cursor["step"], cursor["epoch"], cursor["batch"]
        value, best_epoch = meta["best"]
        loss, stopped = Mean(*meta["loss"]), meta["stopped"]
        counts = (step, epoch, batch, best_epoch, loss.values)
        numbers = (value, loss.total, loss.weight)
        good = (
            all(type(count) is int and count >= 0 for count in counts)
            and all(type(number) is float for number in numbers)
            and (type(stopped) is bool or (stopped is None and epoch and not batch))
            and step == epoch * steps + batch and batch <= steps and best_epoch <= epoch
            and len(records) == epoch
            and all(_is_record(record, i, i * steps) for i, record in enumerate(records, 1))
            and all(record.keys() == recorded for record in records)
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError):
        good = False
    if not good:
        return None
    state = fresh.state._replace(step=step, epoch=epoch, batch=batch)
    return fresh._replace(
        state=state, best_value=value, best_epoch=best_epoch, loss=loss, records=tuple(records),
        stopped=stopped,
    )  # fmt: skip


def _is_record(record: Any, epoch: int, step: int) -> bool:
    """Whether this is what the history has of an epoch that ended at a step: all else are floats."""
    counts = {"epoch": epoch, "step": step}
    numbers = [value for name, value in record.items() if name not in counts]
    known = all(type(record[name]) is int and record[name] == count for name, count in counts.items())
    return known and all(type(number) is float for number in numbers)


def _apart(got: str, wanted: str) -> tuple[str, str]:
    """Two texts on one line each; of long ones, what stands where they begin to differ."""
    pairs = enumerate(zip(got, wanted, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(got), len(wanted)))

    def shown(text: str) -> str:
        start = max(0, first - 20) if max(len(got), len(wanted)) > 48 else 0
        return f"{'...' if start else ''}{files.short(text[start:], 48, 40)}"

    return shown(got), shown(wanted)


# --- which training it is -----------------------------------------------------------------------------


def described_batches(batches: Batches | Loader, key: Key) -> dict[str, Any]:
    """What shows that batches are others; of a loader, the first one."""
    if isinstance(batches, Loader):
        return {"steps": batches.steps, "train": fingerprint(batches.batch(key, 0, 0))}
    return {
        "batch_size": batches.size,
        "shuffle": batches.shuffle,
        "drop_last": batches.drop_last,
        "train": fingerprint(batches.dataset),
        "augment": _described(batches.augment),
    }


def _described(augment: Callable[[Key, Array], Array] | None) -> str | None:
    """What can be compared after a restart; of a function, its name."""
    if augment is None or isinstance(augment, Augmentation):
        return None if augment is None else repr(augment)
    return str(getattr(augment, "__qualname__", type(augment).__qualname__))


def without_places(part: Any) -> str:
    """As it prints; a function in it without its place in memory, which is another in each process.

    Of an optimizer, a schedule of one's own is known by its numbers.
    """
    text = repr(part)
    if isinstance(part, Optimizer):
        for function in _functions(part.spec):
            text = text.replace(repr(function), _by_numbers(function))
    return _PLACE.sub("", text)


_PLACE = re.compile(" at 0x[0-9a-fA-F]+")
_STEPS = (*range(1000), *range(1000, 100_000, 99), *(2**k for k in range(17, 32)))


def _functions(spec: Spec) -> Iterator[Callable[[int], float]]:
    """The options that are functions which do not say what they are."""
    for value in (*spec.args, *spec.options.values()):
        if callable(value) and _PLACE.search(repr(value)):
            yield value
    for child in spec.children:
        yield from _functions(child)


def _by_numbers(schedule: Callable[[int], float]) -> str:
    """A schedule by its numbers at many steps; what is none keeps its name."""

    def number(step: int) -> str:
        try:
            return f"{float(schedule(step)):.9g}"
        except Exception:  # it may plan no more steps than there are
            return "nothing"

    numbers = [number(step) for step in _STEPS]
    if set(numbers) == {"nothing"}:
        return repr(schedule)
    return f"schedule {hashlib.sha256(' '.join(numbers).encode()).hexdigest()[:8]}"


def fingerprint(dataset: Dataset) -> str:
    """What shows that a data set is another: its shape, and digests of its arrays."""
    shapes = tree.map(lambda array: tuple(array.shape), dataset.x)
    return f"{shapes} with x {_digest(dataset.x)}, targets {_digest(dataset.y)}"


def _digest(x: Any) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian values."""
    sha = hashlib.sha256()
    for name, array in tree.leaves(x):
        sha.update(f"{name} {tuple(array.shape)}".encode())
        count = len(array)
        if is_on_disk(array):  # which may be large: rows from all over it
            pieces = [slice(None, None, max(1, count // _ROWS))]
        else:
            pieces = [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]
        for piece in pieces:
            rows = np.asarray(array[piece])
            little = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
            sha.update(little.dtype.str.encode() + little.tobytes())
    return sha.hexdigest()[:6]
