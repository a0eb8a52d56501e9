"""A run of `fit` in a file: all that the rest of it depends on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from funcnn import checkpoints, checks, files, numerics, tree
from funcnn.data import Batches, Loader
from funcnn.distributed.engines import Engine
from funcnn.metrics import Mean
from funcnn.optimizers import Optimizer, check_state, learning_rate
from funcnn.training.evaluation import Record
from funcnn.training.identity import alike, is_digest, looked_at, shown_by
from funcnn.training.state import TrainState
from funcnn.types import Params


class Run(NamedTuple):
    """What a training remembers beside its state; all of it is in the checkpoint."""

    state: TrainState
    best_params: Params
    best_value: float = float("nan")
    best_epoch: int = 0
    loss: Mean = Mean()
    records: tuple[Record, ...] = ()
    seen: tuple[list[Any], ...] = ()  # batches from all over the first epoch, and of some others
    parts: Mapping[str, Mean] = MappingProxyType({})  # of a loss that adds up several
    stopped: bool | None = False  # by a callback; None: they are still to be asked about the epoch


class RunFile:
    """Where the checkpoint of a training goes; without a path, nowhere."""

    def __init__(self, path: str | PathLike[str] | None, ranks: Engine) -> None:
        self.path, self.ranks = path, ranks  # of which the first one writes
        self.identity: dict[str, Any] = {}  # of the training, before the first save
        self.step: int | None = None  # at which it was last written

    def save(self, run: Run) -> None:
        """Write the file, whole."""
        if self.path is None:
            return
        meta = remembered(run, self.identity)
        arrays = {**run.state.tree(), "best": run.best_params}
        self.ranks.first(partial(checkpoints.save, self.path, arrays, meta))
        self.step = run.state.step

    def advice(self) -> str:
        """How to go on after an interruption."""
        if self.path is None:
            return "no checkpoint was written, give one as `checkpoint`"
        if self.step is None:
            return "it had not begun, and has written nothing"
        path = os.fspath(self.path)
        return f"{path} holds the training up to step {self.step}, go on with resume={path!r}"


def remembered(run: Run, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What the file holds beside the arrays; all but the facts that `_read` takes follows from them."""
    return {
        "cursor": run.state.cursor(),
        "best": [run.best_value, run.best_epoch],
        "loss": list(run.loss),
        **({"parts": {name: list(mean) for name, mean in run.parts.items()}} if run.parts else {}),
        "records": list(run.records),
        "seen": list(run.seen),
        "stopped": run.stopped,
        "kernels": numerics.kernels(),  # for who reads the file: a run may go on with others
        "training": dict(identity),
    }


def best_of(records: Sequence[Record], monitor: str, largest: bool) -> tuple[float, int]:
    """The best validation so far and its epoch; NaN and 0 before there is one."""
    best, epoch, sign = float("nan"), 0, -1 if largest else 1
    for place, record in enumerate(records, 1):
        value = record.get(f"validation_{monitor}", float("nan"))
        if sign * value < sign * best or (math.isnan(best) and not math.isnan(value)):
            best, epoch = value, place
    return best, epoch


# --- going on -----------------------------------------------------------------------------------------


def resumed(
    path: str | PathLike[str],
    fresh: Run,
    optimizer: Optimizer,
    wanted: Mapping[str, Any],
    batches: Batches | Loader,
) -> tuple[Run, dict[str, Any]]:
    """The run that a checkpoint holds, and its identity, if it is one of this training."""
    _, meta = checkpoints.load(path)
    found = meta.get("training")
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        _refuse_stranger(path)
    for name, now in wanted.items():
        was = found[name]
        if name == "effects":
            _compare_effects(path, was, now)
        elif name == "params" and now is None and is_digest(was):
            continue  # which may be left out
        elif not _same_json(was, now):
            _refuse_other(path, "{} was {}, now {}".format(name, *files.apart(str(was), str(now))))
    run = _read(meta, fresh, batches.steps, wanted)
    if type(meta.get("kernels")) is str:
        meta["kernels"] = numerics.kernels()
    if run is None or not _same_json(meta, remembered(run, found)):
        _refuse_stranger(path)
    loaded = isinstance(batches, Loader)
    what = "train" if loaded else "augment"
    for step, was in zip(looked_at(batches.steps), run.seen, strict=False):
        batch = batches.batch(run.state.key, *divmod(step, batches.steps))
        _compare_effects(path, {what: was}, {what: shown_by(batch, loaded)})
    stored, _ = checkpoints.load(path, {**fresh.state.tree(), "best": fresh.best_params})
    for place, leaf in tree.leaves(stored):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            files.refuse(path, f"must hold finite numbers, not so at {tree.place(place)}")
    try:
        check_state(optimizer, stored["optimizer"], stored["params"])
    except checks.Refusal as problem:
        files.refuse(path, f"must hold a state of the optimizer: {problem}")
    state = run.state._replace(params=stored["params"], optimizer=stored["optimizer"])
    return run._replace(state=state, best_params=stored["best"]), found


def _refuse_other(path: str | PathLike[str], text: str) -> NoReturn:
    advice = "a new one can begin with its weights, given as `params`"
    text = f"must be a checkpoint of this training: {text}; {advice}"
    checks.refuse(f"{files.short(os.fspath(path), 60, 0)} {text}")


def _refuse_stranger(path: str | PathLike[str]) -> NoReturn:
    files.refuse(path, "must be a checkpoint that `fit` wrote: give other weights as `params`")


def _compare_effects(path: str | PathLike[str], was: Any, now: Mapping[str, Any]) -> None:
    """Refuse a function that gives something else for the same."""
    if not isinstance(was, dict) or was.keys() != now.keys():
        _refuse_stranger(path)
    for name, effect in now.items():
        if not alike(was[name], effect):
            _refuse_other(path, f"{name} gives something else now")


_COUNT, _REAL, _NOT_NEGATIVE = checks.Integer(0), checks.Number(), checks.Number(minimum=0)
_LOSS: dict[str, checks.Constraint] = {"total": _REAL, "weight": _NOT_NEGATIVE, "values": _COUNT}
_RECORD: dict[str, checks.Constraint] = {
    "epoch": _COUNT, "step": _COUNT, "loss": _REAL, "learning_rate": _NOT_NEGATIVE,
}  # fmt: skip


def _read(meta: Any, fresh: Run, steps: int, identity: Mapping[str, Any]) -> Run | None:
    """The run, from a few facts of the file: the step, the loss so far, the records, `stopped`."""
    names = list(_RECORD)
    try:
        learning_rate(fresh.state.optimizer)
    except checks.Refusal:  # an optimizer of the user's own may have none
        names.remove("learning_rate")
    names[3:3] = fresh.parts
    if identity["validation"] is not None:  # where any float is lawful, even NaN
        names += [f"validation_{name}" for name in ("loss", *fresh.parts, *identity["metrics"])]
    try:
        step = _COUNT.check("step", meta["cursor"]["step"])
        loss = _mean(meta["loss"])
        parts = {name: _mean(meta["parts"][name]) for name in fresh.parts}
        records: list[Record] = []
        for place, record in enumerate(meta["records"], 1):
            if list(record) != names or not all(type(record[n]) is float for n in names[2:]):
                return None
            known = {n: _RECORD[n].check(n, record[n]) for n in names if n in _RECORD}
            records.append({**record, **known, "epoch": place, "step": place * steps})
        seen, stopped = tuple(meta["seen"]), meta["stopped"]
    except (checks.Refusal, KeyError, TypeError, ValueError):
        return None
    epoch, batch = len(records), step - len(records) * steps
    asked = (False, True, None) if epoch and not batch else (False,)  # None: not yet
    if not (
        0 <= batch <= steps
        and loss.values <= batch
        and len(seen) == sum(place < step for place in looked_at(steps))
        and (loss.values or loss == Mean())
        and any(stopped is answer for answer in asked)
    ):
        return None
    state = fresh.state._replace(step=step, epoch=epoch, batch=batch)
    best = best_of(records, identity["monitor"], identity["best"] == "largest")
    return Run(state, fresh.best_params, *best, loss, tuple(records), seen, parts, stopped)


def _mean(facts: Any) -> Mean:
    return Mean(*[_LOSS[name].check(name, fact) for name, fact in zip(_LOSS, facts, strict=True)])


def _same_json(one: Any, other: Any) -> bool:
    """Whether two things are written alike: 0 is neither False nor 0.0."""
    return json.dumps(one) == json.dumps(other)
