"""The loop around the step: epochs, validation, early stopping, checkpoints, a log."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple, NoReturn

import numpy as np

from funcnn import checks, files, numerics, tree
from funcnn.data import Batches, Dataset, Loader
from funcnn.data.batches import checked
from funcnn.distributed.engines import ALONE, Engine, check_share, together
from funcnn.metrics import Mean
from funcnn.optimizers import Optimizer, learning_rate
from funcnn.optimizers.core import AN_OPTIMIZER
from funcnn.training.beginning import (
    Mode,
    batches_of,
    check_callbacks,
    check_files,
    check_last_batch,
    check_needs,
    check_validation,
    first_shape,
    is_best_large,
)
from funcnn.training.checkpointing import Run, RunFile, best_of, resumed
from funcnn.training.evaluation import (
    Metric,
    Record,
    check_metrics,
    check_something_counts,
    evaluate,
    mean_over,
)
from funcnn.training.events import Begin, Callback, Epoch, FitResult, Function, Step
from funcnn.training.identity import alike, facts, identity, looked_at, shown_by
from funcnn.training.progress import Progress
from funcnn.training.results import History
from funcnn.training.state import TrainState, train_state, train_step
from funcnn.types import Key, Layer, Loss, Params

__all__ = ["fit"]

_COUNT = checks.Optional(checks.Integer(1))
_MODES = checks.Choice("fast", "portable", "min", "max")


@checks.takes(
    net=checks.NET, loss=checks.LOSS, optimizer=AN_OPTIMIZER, epochs=checks.Integer(0),
    batch_size=_COUNT, patience=_COUNT,
    augment=checks.Optional(checks.Function(2, "a function of a key and a batch")),
    checkpoint_every=_COUNT, progress=checks.Optional(checks.Flag()), mode=checks.Optional(_MODES),
    drop_last=checks.Flag(),
)  # fmt: skip
@together
def fit(
    net: Layer[Any, Any],
    loss: Loss,
    optimizer: Optimizer,
    train: Dataset | Batches | Loader,
    *,
    key: Key,
    epochs: int,
    batch_size: int | None = None,
    validation: Dataset | None = None,
    metrics: Mapping[str, Metric] | None = None,
    params: Params | None = None,
    augment: Callable[[Key, Any], Any] | None = None,
    monitor: str = "loss",
    patience: int | None = None,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: str | PathLike[str] | None = None,
    log: str | PathLike[str] | None = None,
    callbacks: tuple[Callback | Callable[[Epoch], bool | None], ...] = (),
    progress: bool | None = None,
    workers: int | None = None,
    mode: Mode | None = None,
    drop_last: bool = False,
    shards: int | None = None,
    engine: Engine | None = None,
) -> FitResult:
    """Train a network.

    Parameters
    ----------
    net, loss, optimizer : Layer, Loss, Optimizer
        What is trained, towards what, and how.
    train : Dataset, Batches or Loader
        Examples to learn from, or the batches themselves, of a function or a generator of one's own.
    key : Key
        Initial parameters, order of the batches, dropout and augmentation all come from it.
    epochs : int
        Passes over `train`, those before a `resume` included.
    batch_size : int, optional
        Examples in a step, 32 by default; `Batches` and `Loader` have their own.
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
        What of the validation decides which epoch is the best: ``"loss"``, to be small, or a metric's
        name. Those of `funcnn.metrics` know whether they are to be large; of others, say `mode`.
    patience : int, optional
        Stop after so many epochs without a better one.
    checkpoint : path, optional
        A file to write at the start and after each epoch.
    checkpoint_every : int, optional
        Steps after which to write it within an epoch, too.
    resume : path, optional
        A checkpoint to go on from, of the same training: all but `epochs`, `patience` and what
        only looks on must be as it was, functions by what they give for the first batch, batches of
        one's own by a sample of those seen; `params` may be left out. The final bits are those of an
        uninterrupted run; one that a callback has ended stays so.
    log : path, optional
        A file that gets a line of JSON for each epoch.
    callbacks : tuple of callable or Callback, optional
        Functions are called with an `Epoch` after each; one that returns True ends the training. A
        `Callback` is told of the begin, the steps, the end and errors, too.
    progress : bool, optional
        Whether to say how it goes on standard output, which it does by default: with a bar on a
        terminal and in a notebook, with a line for each epoch elsewhere.
    workers : int, optional
        Threads; the bits do not depend on their number.
    mode : "fast", "portable", "min" or "max", optional
        The arithmetic, by default the one in force; or whether the monitored value is best when it
        is small or large (for both, see `funcnn.numerics.use`).
    drop_last : bool, default False
        Whether to leave out the last batch of an epoch where it is not full.
    shards : int, optional
        Into how many parts to cut a batch; see `value_and_grad`. A resume needs the same number.
    engine : Engine, optional
        The processes that share the work, see `funcnn.distributed.mpi`; the bits do not depend on
        their number. The first one writes files and asks the callbacks; an error of one ends all.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError, TypeError
        For what any of the parts refuses, a last batch that is too small for the network or the
        loss, an option that would do nothing, or a checkpoint of another training, or with numbers
        that are not finite.
    FloatingPointError
        When the loss is no longer finite; with `optimizers.skip_nonfinite`, which leaves out such
        steps, when it was so throughout an epoch.
    KeyboardInterrupt
        When it is interrupted; the message says where the checkpoint is and how to go on.

    Notes
    -----
    The loss of an epoch is the mean over what the loss averages over: with ignored labels or class
    weights, over all that count in the epoch, as of one large batch. Callbacks are asked before
    the epoch's checkpoint is written, which remembers what they decided.

    Examples
    --------
    >>> from funcnn import data, dense, fit, optimizers, random, softmax_cross_entropy
    >>> x = random.normal(random.key(0), (64, 2))
    >>> train = data.Dataset(x, (x[:, 0] > 0).astype(np.int64))
    >>> result = fit(dense(2), softmax_cross_entropy(), optimizers.adam(0.1), train,
    ...              key=random.key(1), epochs=5, progress=False)
    >>> bool(result.history["loss"][-1] < result.history["loss"][0])
    True
    """
    checks.key(key)
    if validation is not None:
        check_something_counts(loss, checked(validation, "validation"), "validation")
    check_metrics(metrics)
    check_callbacks(callbacks)
    check_share(workers, shards, engine)
    batches = batches_of(train, loss, batch_size, drop_last, augment)
    largest = is_best_large(monitor, loss, metrics or {}, mode)
    check_needs(validation, metrics, monitor, mode, patience, checkpoint, checkpoint_every)
    check_files(checkpoint, resume, log)
    quiet = np.errstate(over="ignore", invalid="ignore")  # what is not finite is an error below
    arithmetic = numerics.mode() if mode is None or mode == "min" or mode == "max" else mode
    ranks = ALONE if engine is None else engine
    file = RunFile(checkpoint, ranks)
    told = tuple(c if isinstance(c, Callback) else Function(c) for c in callbacks)
    try:
        with numerics.use(arithmetic), quiet:
            start = train_state(net, optimizer, key, first_shape(batches, key), params)
            run = Run(start, start.params, parts={part.name: Mean() for part in loss.parts})
            if checkpoint is not None or resume is not None or ranks.ranks > 1 or _listens(told):
                file.identity = identity(
                    net, loss, optimizer, batches, validation, metrics or {}, params, start.params,
                    key, monitor=monitor, best="largest" if largest else "smallest",
                    numerics=numerics.mode(), shards=shards,
                )  # fmt: skip
            if resume is not None:
                run, file.identity = resumed(resume, run, optimizer, file.identity, batches)
            ranks.agree(
                lambda: facts(
                    file.identity, run.state.params, epochs=epochs, step=run.state.step,
                    patience=patience, checkpoint_every=checkpoint_every,
                    checkpoint="none" if checkpoint is None else "one",
                ), alike,
            )  # fmt: skip
            if isinstance(batches, Batches):
                check_last_batch(net, loss, batches, run.state)
            if validation is not None:
                check_validation(net, loss, metrics, run.state.params, validation)
            step = train_step(net, loss, optimizer, workers=workers, shards=shards, engine=engine)
            training = _Training(
                net, loss, step, batches, epochs, validation, metrics, monitor, largest, patience,
                told, file, checkpoint_every, log, workers, ranks,
            )  # fmt: skip
            begin = Begin(
                net, loss, optimizer, epochs, batches.steps, run.state, dict(file.identity),
                resume is not None, None if checkpoint is None else os.fspath(checkpoint),
            )  # fmt: skip
            _tell(training, "begin", begin)
            result = _result(_trained(training, run, progress))
            _tell(training, "end", result)
            return result
    except BaseException as error:
        if ranks.rank == 0:
            _tell_of_error(told, error)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"fit: interrupted: {file.advice()}") from None
        raise


class _Training(NamedTuple):
    """What stays as it is from the first step to the last."""

    net: Layer[Any, Any]
    loss: Loss
    step: Callable[[TrainState, Dataset], tuple[TrainState, dict[str, float]]]
    batches: Batches | Loader
    epochs: int
    validation: Dataset | None
    metrics: Mapping[str, Metric] | None
    monitor: str
    largest: bool
    patience: int | None
    callbacks: tuple[Callback, ...]
    file: RunFile
    checkpoint_every: int | None
    log: str | PathLike[str] | None
    workers: int | None
    ranks: Engine


def _trained(training: _Training, run: Run, progress: bool | None) -> Run:
    """The run after its last epoch."""
    ranks = training.ranks
    ranks.first(lambda: _write_log(training.log, run.records, anew=True))
    training.file.save(run)  # a file that cannot be written is better known now
    progress = progress if ranks.rank == 0 else False
    with Progress(training.epochs, training.batches.steps, progress) as shown:
        run = _asked(training, run)
        while not _has_ended(training, run):
            run = _asked(training, _after_epoch(training, run, shown))
    return run


def _has_ended(training: _Training, run: Run) -> bool:
    epoch, patience = run.state.epoch, training.patience
    no_better = patience is not None and epoch - run.best_epoch >= patience and epoch > 0
    return bool(run.stopped) or no_better or epoch >= training.epochs


def _after_epoch(training: _Training, run: Run, shown: Progress) -> Run:
    """The run at the end of the epoch that it is in; the callbacks are still to be asked."""
    began, every = time.perf_counter(), training.checkpoint_every
    while run.state.batch < training.batches.steps:
        run = _stepped(training, run)
        shown.step(run.loss.value)
        if every is not None and run.state.step % every == 0:
            training.file.save(run)
    if not run.loss.values:
        last = training.batches.batch(run.state.key, run.state.epoch, run.state.batch - 1)
        check_something_counts(training.loss, last, "train")
        _end_with_advice(f"not finite in all steps of epoch {run.state.epoch + 1}")
    run = _evaluated(training, run)
    record, seconds = run.records[-1], time.perf_counter() - began
    timed: Record = {**record, "seconds": seconds}
    training.ranks.first(lambda: _write_log(training.log, (timed,)))
    shown.epoch(record, seconds)
    return run


def _stepped(training: _Training, run: Run) -> Run:
    """The run after one more step; a batch in which nothing counts changes no parameter."""
    before = run.state
    place, several = (before.key, before.epoch, before.batch), training.ranks.ranks > 1
    batch = training.batches.batch(*place, late=several)  # of which each rank reads its own part
    if training.file.path is not None and before.step in looked_at(training.batches.steps):
        loaded = isinstance(training.batches, Loader)
        run = run._replace(seen=(*run.seen, shown_by(batch, loaded)))
    try:
        state, measured = training.step(before, batch)
    except checks.Refusal:
        if mean_over(training.loss, batch) != 0:
            raise
        after = before._replace(step=before.step + 1, batch=before.batch + 1)
        return run._replace(state=after)
    value = measured["loss"]
    _tell(training, "step", Step(state, value))
    if np.isfinite(value):
        mean = run.loss.add(value, mean_over(training.loss, batch))
        return run._replace(state=state, loss=mean, parts=_parts(training.loss, run, measured, batch))
    if _skipped(state) == _skipped(run.state):
        _end_with_advice(f"{value} at step {state.step}")
    return run._replace(state=state)


def _parts(loss: Loss, run: Run, measured: Mapping[str, float], batch: Dataset) -> dict[str, Mean]:
    """The means of the losses that are added up, with those of one more batch that count in it."""
    means = dict(run.parts)
    for part in loss.parts:
        if part.name in measured:
            over = mean_over(part.loss, Dataset(batch.x, part.of(batch.y)))
            means[part.name] = means[part.name].add(measured[part.name], over)
    return means


def _evaluated(training: _Training, run: Run) -> Run:
    """The run with the epoch's record, and the cursor at the next epoch."""
    state = run.state._replace(epoch=run.state.epoch + 1, batch=0)
    record = {"epoch": state.epoch, "step": state.step, "loss": run.loss.value}
    if run.parts:
        each = [(part.factor, run.parts[part.name]) for part in training.loss.parts]
        record["loss"] = sum(factor * mean.value for factor, mean in each if factor and mean.values)
        record.update({name: mean.value for name, mean in run.parts.items()})
    with contextlib.suppress(checks.Refusal):  # an optimizer of the user's own may have none
        record["learning_rate"] = learning_rate(state.optimizer)
    run = run._replace(state=state, loss=Mean(), parts=dict.fromkeys(run.parts, Mean()), stopped=None)
    if training.validation is not None:
        found = evaluate(
            training.net, state.params, training.validation, training.loss, training.metrics,
            workers=training.workers, engine=training.ranks,
        )  # fmt: skip
        record.update({f"validation_{name}": value for name, value in found.items()})
    run = run._replace(records=(*run.records, record))
    value, best = best_of(run.records, training.monitor, training.largest)
    if best == state.epoch:
        run = run._replace(best_params=state.params, best_value=value, best_epoch=best)
    return run


def _asked(training: _Training, run: Run) -> Run:
    """The run with what the callbacks decide on its last epoch, unless they have, and in its file."""
    if run.stopped is None:
        epoch = Epoch(run.state, dict(run.records[-1]))
        try:
            run = run._replace(stopped=training.ranks.first(lambda: _stops(training, epoch)))
        finally:  # the epoch is whole, even if a callback is not
            training.file.save(run)
    return run


def _stops(training: _Training, epoch: Epoch) -> bool:
    answers = [callback.epoch(epoch) for callback in training.callbacks]
    return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)


def _listens(callbacks: tuple[Callback, ...]) -> bool:
    """Whether any wants to know more than the ends of epochs."""
    return not all(isinstance(callback, Function) for callback in callbacks)


def _tell(training: _Training, hook: str, event: Any) -> None:
    if training.ranks.rank == 0:
        for callback in training.callbacks:
            getattr(callback, hook)(event)


def _tell_of_error(callbacks: tuple[Callback, ...], error: BaseException) -> None:
    """Whatever a callback makes of it, the error is raised."""
    for callback in callbacks:
        try:
            callback.error(error)
        except Exception as second:
            error.add_note(f"fit: {type(callback).__name__}.error: {second!r}")


def _result(run: Run) -> FitResult:
    best = run.best_params if run.best_epoch else run.state.params
    history = History()
    for name in run.records[0] if run.records else ():
        values = [record[name] for record in run.records]
        history[name] = np.array(values, np.int64 if name in ("epoch", "step") else None)
    return FitResult(run.state.params, history, best, run.best_epoch or len(run.records), run.state)


# --- what is said on the way --------------------------------------------------------------------------


def _skipped(state: TrainState) -> int:
    """How many steps `skip_nonfinite` has left out."""
    found = tree.leaves(state.optimizer)
    return sum(int(leaf) for path, leaf in found if path.split("/")[-1] == "skipped")


def _end_with_advice(loss: str) -> NoReturn:
    raise FloatingPointError(f"fit: the loss is {loss}: funcnn.diagnose.trace_nan names the layer")


def _write_log(
    path: str | PathLike[str] | None, records: tuple[Record, ...], *, anew: bool = False
) -> None:
    """Lines of JSON; on a new start, those of the epochs that are already done."""
    if path is not None:
        finite = [  # JSON knows neither NaN nor infinity
            {name: value if math.isfinite(value) else None for name, value in record.items()}
            for record in records
        ]
        lines = "".join(json.dumps(record) + "\n" for record in finite)
        files.append(os.fspath(path), lines.encode(), anew=anew)
