"""Before the first step of `fit`: what it is given, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

import numpy as np

from funcnn import checks, files, numerics, random, tree
from funcnn.data import Augmentation, Batches, Dataset, Loader
from funcnn.data.batches import checked
from funcnn.data.examples import is_on_disk, length, shape, taken
from funcnn.metrics import better
from funcnn.training.evaluation import Metric, check_something_counts, mean_over, predict
from funcnn.training.events import Callback
from funcnn.training.state import TrainState
from funcnn.types import Key, Layer, Loss, Params, Shape

_SOME = 64  # examples of a validation set that the network sees before the first step

Mode = numerics.Mode | Literal["min", "max"]


def check_needs(
    validation: Dataset | None,
    metrics: Mapping[str, Metric] | None,
    monitor: str,
    mode: Mode | None,
    patience: int | None,
    checkpoint: object,
    checkpoint_every: int | None,
) -> None:
    """Refuse options that would do nothing without another one."""
    if validation is None:
        if patience is not None or monitor != "loss":
            checks.refuse("`monitor` and `patience` need `validation`")
        if metrics:
            checks.refuse("`metrics` need `validation`")
        if mode in ("min", "max"):
            checks.refuse(f"`mode` must not be {checks.shown(mode)} without `validation`")
    if checkpoint is None and checkpoint_every is not None:
        checks.refuse("`checkpoint_every` needs `checkpoint`")


def check_files(
    checkpoint: str | PathLike[str] | None,
    resume: str | PathLike[str] | None,
    log: str | PathLike[str] | None,
) -> None:
    """Refuse what cannot be written, or would be written over another, before anything is."""
    given = {"checkpoint": checkpoint, "resume": resume, "log": log}
    paths = {n: files.checked_path(path, n) for n, path in given.items() if path is not None}
    if "checkpoint" in paths:
        files.check_target(paths["checkpoint"])
    if "log" in paths:
        logged = paths.pop("log")
        files.check_target(logged)
        for name, path in paths.items():
            if files.same(logged, path):
                got = files.short_path(logged)
                checks.refuse(f"`log` must be another file than `{name}`, got {got}")


def batches_of(
    train: Dataset | Batches | Loader, loss: Loss, given: int | None, drop_last: bool, augment: Any
) -> Batches | Loader:
    """The batches of an epoch: of a data set, or as they are given."""
    if isinstance(train, (Batches, Loader)):
        kind = type(train).__name__
        if given is not None:
            checks.refuse(f"`batch_size` must be left to `train`, which is a {kind}, got {given}")
        if drop_last or augment is not None:
            checks.refuse(f"`drop_last` and `augment` must be left to `train`, which is a {kind}")
        checks.Integer(1).check("train.steps", train.steps)
        return train
    count, size = len(checked(train, "train")), 32 if given is None else given
    changed = isinstance(augment, Augmentation) and augment.targets
    if not count or not (changed or any(is_on_disk(leaf) for _, leaf in tree.leaves(train.y))):
        check_something_counts(loss, train, "train")
    if drop_last and count < size:
        checks.refuse(f"`batch_size` must be at most {count} with drop_last=True, got {size}")
    return Batches(train, size, drop_last=drop_last, augment=augment)


def first_shape(batches: Batches | Loader, key: Key) -> Shape:
    """The shape of a batch's examples."""
    if isinstance(batches, Loader):
        x = batches.batch(key, 0, 0).x
        return shape(x, length(x))
    return shape(batches.dataset.x, min(batches.size, len(batches.dataset)))


def check_callbacks(callbacks: object) -> None:
    if not isinstance(callbacks, (tuple, list)) or not all(
        callable(callback) or isinstance(callback, Callback) for callback in callbacks
    ):
        got = checks.shown(callbacks)
        checks.refuse_type(f"`callbacks` must be a tuple of functions, got {got}")


def is_best_large(monitor: str, loss: Loss, metrics: Mapping[str, Metric], mode: Mode | None) -> bool:
    """Whether the monitored value is to be large: as is known, or as is said."""
    losses = {"loss", *(part.name for part in loss.parts)}
    if not isinstance(monitor, str) or monitor not in losses | set(metrics):
        checks.refuse(f"`monitor` must be 'loss' or one of `metrics`, got {checks.shown(monitor)}")
    known = "min" if monitor in losses else better(metrics[monitor])
    if mode not in ("min", "max") and known is None:
        text = f"`mode` must say whether {checks.shown(monitor)} is best when it is small or large"
        checks.refuse(f"{text}: write mode='min' or mode='max'")
    return (mode if mode in ("min", "max") else known) == "max"


def check_validation(
    net: Layer[Any, Any],
    loss: Loss,
    metrics: Mapping[str, Metric] | None,
    params: Params,
    validation: Dataset,
) -> None:
    """Refuse now what the network, the loss or a metric would refuse after the first epoch.

    What is predicted of the first examples stands for what will be of the others, whose targets are
    asked about, too.
    """
    some = predict(net, params, validation.take(slice(_SOME)).x)
    stands_for = np.arange(len(validation)) % _SOME
    prediction = taken(some, stands_for) if len(validation) > _SOME else some
    target = tree.map(np.asarray, validation.y)
    loss.apply(prediction, target)
    for metric in (metrics or {}).values():
        metric(prediction, target)


def check_last_batch(net: Layer[Any, Any], loss: Loss, batches: Batches, state: TrainState) -> None:
    """Refuse now what the network or the loss would refuse after an epoch: a last batch so small."""
    rest = len(batches.dataset) % batches.size
    if batches.drop_last or not rest or batches.steps == 1:
        return
    key = random.fold_in(state.key, "step")

    def problem(batch: Dataset) -> Exception | None:
        try:
            loss.apply(net.apply(state.params, batch.x, key=key)[0], batch.y)
        except Exception as found:
            return None if mean_over(loss, batch) == 0 else found
        return None

    place = state.epoch, batches.steps - 1
    for way in (batches._replace(augment=None), batches):  # augmented only where it must be
        found = problem(way.batch(state.key, *place))
        if found is None:
            return
    if problem(batches.batch(state.key, state.epoch, 0)) is None:
        text = f"`batch_size` must not leave a last batch of {rest}, got {batches.size}"
        checks.refuse(f"{text}: {found}: drop_last=True leaves it out")
