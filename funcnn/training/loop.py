"""The loop around the step: epochs, validation, early stopping, checkpoints, a log."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from funcnn import _checks, checkpoints, numerics, tree
from funcnn.data import Augmentation, Batches, Dataset
from funcnn.data.batches import checked, examples
from funcnn.metrics import Mean
from funcnn.numerics._blas import on_one_blas_thread
from funcnn.numerics._threads import run_tasks
from funcnn.optimizers import Optimizer, learning_rate
from funcnn.training.progress import Progress
from funcnn.training.state import TrainState, train_state, train_step
from funcnn.types import Array, Key, Layer, Loss, Params

__all__ = ["Epoch", "FitResult", "evaluate", "fit", "predict"]

Metric = Callable[[Array, Array], float]
Record = dict[str, float]
_PREDICTION_SHARD = 64  # examples that one thread predicts at a time


class Epoch(NamedTuple):
    """What a callback of `fit` gets to see after each epoch.

    Parameters
    ----------
    state : TrainState
        After the epoch.
    record : dict of str to float
        What the history has of this epoch.

    Examples
    --------
    >>> def stop_early(epoch: Epoch) -> bool:
    ...     return epoch.record["loss"] < 0.01
    """

    state: TrainState
    record: Record


class FitResult(NamedTuple):
    """What `fit` gives back.

    Parameters
    ----------
    params : dict
        Of the last step.
    history : dict of str to ndarray
        One value for each epoch: ``epoch``, ``step``, ``learning_rate``, ``loss``, and with
        validation ``validation_loss`` and ``validation_<metric>``.
    best_params : dict
        Of the epoch with the best monitored value; the last ones without validation.
    best_epoch : int
        That epoch, from 1.
    state : TrainState
        Where another call may go on.

    Examples
    --------
    >>> from funcnn import data, dense, fit, mean_squared_error, optimizers, random
    >>> x = random.normal(random.key(0), (32, 2))
    >>> result = fit(dense(1), mean_squared_error(), optimizers.sgd(0.1),
    ...              data.Dataset(x, x[:, :1]), key=random.key(1), epochs=3)
    >>> list(result.history), result.state.epoch
    (['epoch', 'step', 'loss', 'learning_rate'], 3)
    """

    params: Params
    history: dict[str, Array]
    best_params: Params
    best_epoch: int
    state: TrainState


class _Run(NamedTuple):
    """What a training remembers beside its state; all of it is in the checkpoint."""

    state: TrainState
    best_params: Params
    best_value: float = float("nan")
    best_epoch: int = 0
    loss: Mean = Mean()
    records: tuple[Record, ...] = ()

    def save(self, path: str | PathLike[str], identity: dict[str, Any]) -> None:
        meta = {
            "cursor": self.state.cursor(),
            "best": [self.best_value, self.best_epoch],
            "loss": list(self.loss),
            "records": self.records,
            "training": identity,
        }
        checkpoints.save(path, {**self.state.tree(), "best": self.best_params}, meta)


def predict(
    net: Layer[Any, Any],
    params: Params,
    x: Array,
    *,
    workers: int | None = None,
) -> Any:
    """Run a network in inference over any number of examples.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    x : ndarray, ``(N, ...)``
        Examples.
    workers : int, optional
        Threads; by default as many as there are processors. The bits do not depend on it.

    Returns
    -------
    ndarray, ``(N, ...)``

    Raises
    ------
    ValueError, TypeError
        For what the network refuses.

    Examples
    --------
    >>> from funcnn import dense, predict, random
    >>> _, params = dense(2).init(random.key(0), (1, 3))
    >>> predict(dense(2), params, np.ones((1000, 3), np.float32)).shape
    (1000, 2)
    """
    _checks.instance("predict", "net", net, Layer, "a layer")
    examples("predict", x, "x")
    if workers is not None:
        _checks.integer("predict", "workers", workers, 1)
    starts = range(0, max(len(x), 1), _PREDICTION_SHARD)

    def part(i: int) -> Array:
        chosen = np.asarray(x[starts[i] : starts[i] + _PREDICTION_SHARD])
        out: Array = net.apply(params, chosen)[0]
        return out

    return np.concatenate(on_one_blas_thread(lambda: run_tasks(part, len(starts), workers)))


def evaluate(
    net: Layer[Any, Any],
    params: Params,
    dataset: Dataset,
    loss: Loss,
    metrics: Mapping[str, Metric] | None = None,
    *,
    workers: int | None = None,
) -> Record:
    """The loss and some metrics of a network on a data set, in inference.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    dataset : Dataset
        Examples and targets.
    loss : Loss
        What training makes small.
    metrics : mapping of str to callable, optional
        ``(prediction, target) -> float``, see `funcnn.metrics`.
    workers : int, optional
        See `predict`.

    Returns
    -------
    dict of str to float
        ``loss``, and what the metrics say.

    Raises
    ------
    ValueError, TypeError
        For what the network, the loss or a metric refuses.

    Examples
    --------
    >>> from funcnn import data, dense, evaluate, mean_squared_error, random
    >>> _, params = dense(1).init(random.key(0), (1, 3))
    >>> zeros = data.Dataset(np.zeros((4, 3), np.float32), np.zeros((4, 1), np.float32))
    >>> evaluate(dense(1), params, zeros, mean_squared_error())
    {'loss': 0.0}
    """
    _checks.instance("evaluate", "net", net, Layer, "a layer")
    _checks.instance("evaluate", "loss", loss, Loss, "a loss")
    checked("evaluate", dataset)
    _metrics("evaluate", metrics)
    prediction = predict(net, params, dataset.x, workers=workers)
    target = np.asarray(dataset.y)
    record = {"loss": float(loss.apply(prediction, target)[0])}
    for name, metric in (metrics or {}).items():
        value = metric(prediction, target)
        if np.ndim(value):
            got = f"an array of shape {np.shape(value)}"
            _checks.refuse_type("evaluate", f"`metrics` must give numbers, {name!r} gave {got}")
        record[name] = float(value)
    return record


def _metrics(who: str, metrics: Mapping[str, Metric] | None) -> None:
    """Refuse metrics without a name of their own."""
    if metrics is not None and not (
        isinstance(metrics, Mapping) and all(map(callable, metrics.values()))
    ):
        got = _checks.shown(metrics)
        _checks.refuse_type(who, f"`metrics` must be a dict of functions by name, got {got}")
    if metrics is not None and "loss" in metrics:
        _checks.refuse(who, "`metrics` must have other names than 'loss', which is the loss")


def fit(
    net: Layer[Any, Any],
    loss: Loss,
    optimizer: Optimizer,
    train: Dataset,
    *,
    key: Key,
    epochs: int,
    batch_size: int = 32,
    validation: Dataset | None = None,
    metrics: Mapping[str, Metric] | None = None,
    params: Params | None = None,
    augment: Callable[[Key, Array], Array] | None = None,
    monitor: str = "loss",
    patience: int | None = None,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: str | PathLike[str] | None = None,
    log: str | PathLike[str] | None = None,
    callbacks: tuple[Callable[[Epoch], bool | None], ...] = (),
    progress: bool | None = None,
    workers: int | None = None,
    mode: numerics.Mode | None = None,
) -> FitResult:
    """Train a network.

    Parameters
    ----------
    net, loss, optimizer : Layer, Loss, Optimizer
        What is trained, towards what, and how.
    train : Dataset
        Examples to learn from.
    key : Key
        Initial parameters, order of the batches, dropout and augmentation all come from it.
    epochs : int
        Passes over `train`, those before a `resume` included.
    batch_size : int, default 32
        Examples in a step.
    validation : Dataset, optional
        Examples to look at after each epoch.
    metrics : mapping of str to callable, optional
        What to say of `validation` beside the loss, see `funcnn.metrics`.
    params : dict, optional
        Parameters to start from, such as those of a checkpoint of another training:
        ``checkpoints.load(path)[0]["params"]``.
    augment : Augmentation or callable, optional
        ``(key, x) -> x`` on each batch; an `Augmentation` of `funcnn.data` may change the targets,
        too.
    monitor : str, default "loss"
        What of the validation decides which epoch is the best: ``"loss"`` or ``"perplexity"``, to
        be small, or another metric's name, to be large.
    patience : int, optional
        Stop after so many epochs without a better one.
    checkpoint : path, optional
        A file to write at the start and after each epoch.
    checkpoint_every : int, optional
        Steps after which to write it within an epoch, too.
    resume : path, optional
        A checkpoint to go on from, of the same training: all but `epochs`, `patience` and what
        only looks on must be as it was. The final bits are those of an uninterrupted run.
    log : path, optional
        A file that gets a line of JSON for each epoch.
    callbacks : tuple of callable, optional
        Called with an `Epoch` after each; one that returns True ends the training.
    progress : bool, optional
        Whether to say how it goes on standard output; by default only on a terminal.
    workers : int, optional
        Threads; the bits do not depend on their number.
    mode : "fast" or "portable", optional
        The arithmetic; by default the one in force.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError, TypeError
        For what any of the parts refuses, or a checkpoint of another training.
    FloatingPointError
        When the loss is no longer finite; with `optimizers.skip_nonfinite`, which leaves out such
        steps, when it was so throughout an epoch.

    Examples
    --------
    >>> from funcnn import data, dense, fit, optimizers, random, softmax_cross_entropy
    >>> x = random.normal(random.key(0), (64, 2))
    >>> train = data.Dataset(x, (x[:, 0] > 0).astype(np.int64))
    >>> result = fit(dense(2), softmax_cross_entropy(), optimizers.adam(0.1), train,
    ...              key=random.key(1), epochs=5)
    >>> bool(result.history["loss"][-1] < result.history["loss"][0])
    True
    """
    _checks.instance("fit", "net", net, Layer, "a layer")
    _checks.instance("fit", "loss", loss, Loss, "a loss")
    _checks.instance("fit", "optimizer", optimizer, Optimizer, "an Optimizer")
    checked("fit", train, "train")
    if validation is not None and not len(checked("fit", validation, "validation")):
        _checks.refuse("fit", "`validation` must have at least one example")
    _checks.key("fit", key)
    _checks.integer("fit", "epochs", epochs, 0)
    _checks.integer("fit", "batch_size", batch_size, 1)
    _metrics("fit", metrics)
    if not len(train):
        _checks.refuse("fit", "`train` must have at least one example")
    if checkpoint_every is not None:
        _checks.integer("fit", "checkpoint_every", checkpoint_every, 1)
    if patience is not None or monitor != "loss":
        _checks.integer("fit", "patience", 1 if patience is None else patience, 1)
        if validation is None:
            _checks.refuse("fit", "`monitor` and `patience` need `validation`")
    if augment is not None and not callable(augment):
        _checks.refuse_type("fit", f"`augment` must be a function, got {_checks.shown(augment)}")
    if not (isinstance(callbacks, (tuple, list)) and all(map(callable, callbacks))):
        got = _checks.shown(callbacks)
        _checks.refuse_type("fit", f"`callbacks` must be a tuple of functions, got {got}")
    if progress is not None:
        _checks.boolean("fit", "progress", progress)
    if monitor not in {"loss", *(metrics or {})}:
        _checks.refuse("fit", f"`monitor` must be 'loss' or one of `metrics`, got {monitor!r}")
    batches = Batches(train, batch_size, augment=augment)
    step = train_step(net, loss, optimizer, workers=workers)
    quiet = np.errstate(over="ignore", invalid="ignore")  # what is not finite is an error below
    with numerics.use(mode or numerics.mode()), quiet:
        identity = {
            "key": list(key),
            "net": _shown(net),
            "loss": _shown(loss),
            "optimizer": _shown(optimizer),
            "batch_size": batch_size,
            "train": _fingerprint(train),
            "validation": None if validation is None else _fingerprint(validation),
            "metrics": list(metrics or {}),
            "monitor": monitor,
            "augment": _described(augment),
            "numerics": numerics.mode(),
        }
        start = train_state(net, optimizer, key, train.x[:batch_size].shape, params)
        run = _Run(start, start.params)
        if resume is not None:
            run = _resumed(resume, run, identity)
        with Progress(epochs, batches.steps, progress) as shown:
            _write_log(log, run.records, "w")
            if checkpoint is not None:  # a file that cannot be written is better known now
                run.save(checkpoint, identity)
            while run.state.epoch < epochs and not _patience_ended(run, patience):
                began = time.perf_counter()
                while run.state.batch < batches.steps:
                    batch = batches.batch(key, run.state.epoch, run.state.batch)
                    state, measured = step(run.state, batch)
                    mean = run.loss
                    if np.isfinite(measured["loss"]):
                        mean = mean.add(measured["loss"], len(batch))
                    elif _skipped(state) == _skipped(run.state):
                        _end_with_advice(f"{measured['loss']} at step {state.step}")
                    run = run._replace(state=state, loss=mean)
                    shown.step(run.loss.value)
                    now = checkpoint_every is not None and state.step % checkpoint_every == 0
                    if checkpoint is not None and now:
                        run.save(checkpoint, identity)
                if not run.loss.weight:
                    _end_with_advice(f"not finite in all steps of epoch {run.state.epoch + 1}")
                run = _ended_epoch(run, net, loss, validation, metrics, monitor, workers)
                record = run.records[-1]
                _write_log(log, ({**record, "seconds": time.perf_counter() - began},), "a")
                shown.epoch(record)
                if checkpoint is not None:
                    run.save(checkpoint, identity)
                answers = [callback(Epoch(run.state, record)) for callback in callbacks]
                if True in answers:
                    break
    best = run.best_params if run.best_epoch else run.state.params
    history = {
        name: np.array([record[name] for record in run.records]) for name in _names(run.records)
    }
    return FitResult(run.state.params, history, best, run.best_epoch or len(run.records), run.state)


def _ended_epoch(
    run: _Run,
    net: Layer[Any, Any],
    loss: Loss,
    validation: Dataset | None,
    metrics: Mapping[str, Metric] | None,
    monitor: str,
    workers: int | None,
) -> _Run:
    """The run with the epoch's record, and the cursor at the next epoch."""
    state = run.state._replace(epoch=run.state.epoch + 1, batch=0)
    record = {"epoch": state.epoch, "step": state.step, "loss": run.loss.value}
    with contextlib.suppress(_checks.Refusal):  # an optimizer of the user's own may have none
        record["learning_rate"] = learning_rate(state.optimizer)
    run = run._replace(state=state, loss=Mean())
    if validation is not None:
        found = evaluate(net, state.params, validation, loss, metrics, workers=workers)
        record.update({f"validation_{name}": value for name, value in found.items()})
        sign = 1 if monitor in ("loss", "perplexity") else -1
        first = np.isnan(run.best_value) and not np.isnan(found[monitor])
        if first or sign * found[monitor] < sign * run.best_value:
            run = run._replace(
                best_params=state.params, best_value=found[monitor], best_epoch=state.epoch
            )
    return run._replace(records=(*run.records, record))


def _patience_ended(run: _Run, patience: int | None) -> bool:
    return patience is not None and run.state.epoch - run.best_epoch >= patience and run.state.epoch > 0


def _resumed(path: str | PathLike[str], fresh: _Run, identity: dict[str, Any]) -> _Run:
    """The run that a checkpoint holds, if it is one of this training."""
    _, meta = checkpoints.load(path)
    if "training" not in meta:
        _checks.refuse(
            "fit", f"{path} must be a checkpoint that `fit` wrote: give other weights as `params`"
        )
    for name, wanted in identity.items():
        if (got := meta["training"].get(name)) != wanted:
            _checks.refuse(
                "fit",
                f"{path} must be a checkpoint of this training: {name} was {got}, now {wanted}; "
                "a new one can begin with its weights, given as `params`",
            )
    stored, _ = checkpoints.load(path, {**fresh.state.tree(), "best": fresh.best_params})
    cursor = meta["cursor"]
    state = TrainState(
        stored["params"], stored["optimizer"], fresh.state.key,
        cursor["step"], cursor["epoch"], cursor["batch"],
    )  # fmt: skip
    value, epoch = meta["best"]
    return _Run(state, stored["best"], value, epoch, Mean(*meta["loss"]), tuple(meta["records"]))


def _described(augment: Callable[[Key, Array], Array] | None) -> str | None:
    """What can be compared after a restart; of a function, its name."""
    if augment is None:
        return None
    if isinstance(augment, Augmentation):
        return repr(augment)
    return str(getattr(augment, "__qualname__", type(augment).__qualname__))


def _shown(part: Any) -> str:
    """As it prints; a function in it without its place in memory, which is another in each process."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(part))


def _fingerprint(dataset: Dataset) -> str:
    """What shows that a data set is another: its shape, and up to 2,048 targets from all over it."""
    some = np.asarray(dataset.y[:: max(1, len(dataset) // 1024)])
    some = np.ascontiguousarray(some, some.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{some.dtype.str} {some.shape}".encode() + some.tobytes())
    return f"{tuple(dataset.x.shape)} with targets {digest.hexdigest()[:8]}"


def _skipped(state: TrainState) -> int:
    """How many steps `skip_nonfinite` has left out."""
    found = tree.leaves(tree.select(state.optimizer, _is_skip_count))
    return sum(int(leaf) for _, leaf in found)


def _is_skip_count(path: str) -> bool:
    return path.split("/")[-1] == "skipped"


def _end_with_advice(loss: str) -> NoReturn:
    raise FloatingPointError(
        f"fit: the loss is {loss}: funcnn.diagnose.trace_nan names the layer"
    )


def _names(records: tuple[Record, ...]) -> list[str]:
    return list(records[0]) if records else []


def _write_log(path: str | PathLike[str] | None, records: tuple[Record, ...], how: str) -> None:
    """Lines of JSON; on a new start, those of the epochs that are already done."""
    if path is not None:
        with open(Path(path), how, encoding="utf-8") as file:
            for record in records:
                finite = {  # JSON knows neither NaN nor infinity
                    name: value if math.isfinite(value) else None for name, value in record.items()
                }
                file.write(json.dumps(finite) + "\n")
