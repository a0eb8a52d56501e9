"""What a network says of examples, and how good that is: no step is taken here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from funcnn import checks, tree
from funcnn.checks import LOSS, NET
from funcnn.data import Dataset
from funcnn.data.batches import checked
from funcnn.data.examples import concatenated, length, taken
from funcnn.distributed.engines import ALONE, Engine, check_share
from funcnn.machine.blas import on_one_blas_thread
from funcnn.machine.threads import in_team, run_tasks
from funcnn.types import Layer, Loss, Params, has_trait

__all__ = ["evaluate", "predict"]

Metric = Callable[[Any, Any], float]
Record = dict[str, float]
# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache):
# LeNet and a perceptron are fastest with 32 and 64; with 8 and 16, or 128 and more, up to half slower.
_SHARD = 64  # examples that one thread predicts at a time


@checks.takes(net=NET)
def predict(
    net: Layer[Any, Any],
    params: Params,
    x: Any,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
) -> Any:
    """Run a network in inference over any number of examples.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    x : ndarray, ``(N, ...)``, or tuple or dict of them
        Examples.
    workers : int, optional
        Threads; by default as many as there are processors. The bits do not depend on it.
    engine : Engine, optional
        The processes that share the examples, see `funcnn.distributed.mpi`; all get all predictions.

    Returns
    -------
    ndarray, ``(N, ...)``, or tuple or dict of them
        As the network gives it.

    Raises
    ------
    ValueError, TypeError
        For what the network refuses, and for one whose output has no row for each example.

    Notes
    -----
    Examples are cut into shards. A network that couples them in inference, such as one with
    ``batch_norm(track_running=False)``, runs over all of them at once.

    Examples
    --------
    >>> from funcnn import dense, predict, random
    >>> _, params = dense(2).init(random.key(0), (1, 3))
    >>> predict(dense(2), params, np.ones((1000, 3), np.float32)).shape
    (1000, 2)
    """
    count = max(length(x), 1)
    check_share(workers, None, engine)
    ranks = ALONE if engine is None else engine
    size = count if has_trait(net.spec, "couples_batch", training=False) else _SHARD
    starts = range(0, count, size)
    own = ranks.own(len(starts))

    def part(place: int) -> Any:
        i = own[place]
        chosen = tree.map(np.asarray, taken(x, slice(starts[i], starts[i] + size)))
        out = net.apply(params, chosen)[0]
        for _, array in tree.leaves(out) if len(starts) > 1 else ():
            if len(array) != min(size, count - starts[i]):
                text = "`net` must give a row for each example, to be run on parts of them"
                checks.refuse(f"{text}, got shape {array.shape}")
        return out

    def parts() -> list[Any]:
        if len(own) == 1:  # has all threads for itself
            return [in_team(workers, lambda: part(0))]
        return run_tasks(part, len(own), workers)

    return concatenated(on_one_blas_thread(lambda: ranks.gathered(parts)))


@checks.takes(net=NET, loss=LOSS)
def evaluate(
    net: Layer[Any, Any],
    params: Params,
    dataset: Dataset,
    loss: Loss,
    metrics: Mapping[str, Metric] | None = None,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
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
    workers, engine : optional
        See `predict`.

    Returns
    -------
    dict of str to float
        ``loss``, each loss of a `funcnn.sum_losses` (``loss_<name>``), and what the metrics say.

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
    check_something_counts(loss, checked(dataset), "dataset")
    check_metrics(metrics)
    prediction = predict(net, params, dataset.x, workers=workers, engine=engine)
    target = tree.map(np.asarray, dataset.y)
    record = {"loss": float(loss.apply(prediction, target)[0])}
    for part in loss.parts:
        counts = mean_over(part.loss, Dataset(dataset.x, part.of(dataset.y))) != 0
        both = part.of(prediction), part.of(target)
        record[part.name] = float(part.loss.apply(*both)[0]) if counts else float("nan")
    for name, metric in (metrics or {}).items():
        value: Any = metric(prediction, target)
        if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
            got = f"{checks.shown(name)} gave {checks.shown(value)}"
            checks.refuse_type(f"`metrics` must give numbers, {got}")
        if name in record:
            checks.refuse(f"`metrics` must have other names than the losses, got {checks.shown(name)}")
        record[name] = float(value)
    return record


def check_metrics(metrics: Mapping[str, Metric] | None) -> None:
    """Refuse metrics without a name of their own."""
    if metrics is not None and not (
        isinstance(metrics, Mapping)
        and all(isinstance(name, str) for name in metrics)
        and all(map(callable, metrics.values()))
    ):
        got = checks.shown(metrics)
        checks.refuse_type(f"`metrics` must be a dict of functions by name, got {got}")
    if metrics is not None and "loss" in metrics:
        checks.refuse("`metrics` must have other names than 'loss', which is the loss")


def check_something_counts(loss: Loss, examples: Dataset, name: str) -> None:
    """Refuse examples that are none, or all ignored, or weigh nothing."""
    if not len(examples):
        checks.refuse(f"`{name}` must have at least one example")
    counts = mean_over(loss, examples)
    if counts == 0 and not tree.leaves(examples.y):
        checks.refuse(f"`{name}` must have targets for this loss, got none")
    if counts == 0:
        checks.refuse(f"`{name}` must have a target that counts: all are ignored or weigh 0")


def mean_over(loss: Loss, examples: Dataset) -> float | None:
    """What the loss of some examples is a mean over; NaN for targets which the loss will refuse."""
    if loss.weight is None:
        return len(examples)
    try:
        return loss.weight(tree.map(np.asarray, examples.y))
    except Exception:
        return float("nan")
