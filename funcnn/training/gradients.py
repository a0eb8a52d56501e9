"""Training: the gradient of a loss through a network, over fixed shards of the batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, Protocol, TypeVar, overload

import numpy as np

from funcnn import checks, random, tree
from funcnn.data.examples import concatenated, length, taken
from funcnn.machine.blas import on_one_blas_thread
from funcnn.machine.memory import keep_freed_memory
from funcnn.machine.threads import in_team, run_tasks
from funcnn.structure import children, params_gradient, statistics as new_statistics
from funcnn.types import Array, Key, Layer, Loss, Params, has_trait

__all__ = ["value_and_grad"]

_SMALL = 1 << 18  # numbers in a batch and in the parameters together that are not worth a thread

X = TypeVar("X")
Y = TypeVar("Y")
X_contra = TypeVar("X_contra", contravariant=True)


class Step(Protocol[X_contra]):
    """``(params, x, y, key=None) -> (value, grads)``."""

    def __call__(
        self, params: Params, x: X_contra, y: Any, key: Key | None = None
    ) -> tuple[Any, Params]: ...


class StatisticsStep(Protocol[X_contra]):
    """``(params, x, y, key=None) -> (value, grads, statistics)``."""

    def __call__(
        self, params: Params, x: X_contra, y: Any, key: Key | None = None
    ) -> tuple[Any, Params, Params]: ...


@overload
def value_and_grad(
    net: Layer[X, Y], loss: Loss, *, statistics: Literal[False] = ..., workers: int | None = ...
) -> Step[X]: ...
@overload
def value_and_grad(
    net: Layer[X, Y], loss: Loss, *, statistics: Literal[True], workers: int | None = ...
) -> StatisticsStep[X]: ...
@checks.named
def value_and_grad(
    net: Layer[X, Y], loss: Loss, *, statistics: bool = False, workers: int | None = None
) -> Any:
    """Make a function that gives the loss of a network and its gradient.

    Parameters
    ----------
    net : Layer
        The network.
    loss : Loss
        What is made small; its value must be a single number.
    statistics : bool, default False
        Whether to return the new running statistics, too. Training a network that has some, as
        batch normalisation does, is refused without it: they would be lost.
    workers : int, optional
        Threads to use; by default as many as there are processors. The result is the same, to the
        bit, for any number: a large batch is cut into shards by its size alone, each runs on one
        BLAS thread, and the shards' gradients are added in order.

    Returns
    -------
    callable
        ``(params, x, y, key=None) -> (value, grads)``, or ``(value, grads, statistics)``, where
        ``tree.replace(params, statistics)`` carries the statistics on. ``grads`` is the same tree
        as ``params``. A key means training: dropout draws from it. Without one, a network with
        layers that need it, such as dropout and batch normalisation, gives a warning, once. The
        gradient of ``x`` is never computed.

    Raises
    ------
    ValueError, TypeError
        For what the network or the loss refuses, for ``x`` and ``y`` of different lengths, and for
        running statistics that would be lost.

    Notes
    -----
    Predictions of all shards meet in the loss, so a loss may couple the examples of a batch. A
    network that couples them, such as one with batch normalisation, runs as one shard; so does a
    batch of vectors that has fewer numbers than the parameters. In one shard, large products of
    `dense` are cut instead, by their sizes alone.

    Examples
    --------
    >>> from funcnn import dense, mean_squared_error, random, value_and_grad
    >>> net = dense(1)
    >>> _, params = net.init(random.key(0), (4, 2))
    >>> step = value_and_grad(net, mean_squared_error())
    >>> value, grads = step(params, np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32))
    >>> list(grads)
    ['weight', 'bias']
    """
    checks.Instance(Layer, "a layer").check("net", net)
    checks.Instance(Loss, "a loss").check("loss", loss)
    if workers is not None:
        checks.Integer(1).check("workers", workers)
    keeps_statistics = has_trait(net.spec, "statistics")
    coupled = has_trait(net.spec, "couples_batch")
    to_tell = keeps_statistics or has_trait(net.spec, "stochastic")  # of a key that is missed, once

    def step(params: Params, x: X, y: Any, key: Key | None = None) -> tuple[Any, ...]:
        nonlocal to_tell
        keep_freed_memory()
        if key is None and to_tell:
            to_tell = False
            _warn_of_no_key(net)
        if keeps_statistics and key is not None and not statistics:
            checks.refuse(
                f"the running statistics of {checks.shown(net)} would be lost: write "
                "value_and_grad(net, loss, statistics=True), and carry on its third result "
                "with tree.replace(params, statistics)",
            )
        examples = length(x, y)
        slices = [slice(None)] if coupled else shards(examples, x, params)

        def whole() -> tuple[Any, Params, Any]:
            prediction, cache = net.apply(params, x, key=key)
            value, dprediction = _slope(loss, prediction, y)
            return value, params_gradient(net, cache, dprediction), cache

        def sharded() -> tuple[Any, Params, Any]:
            def forward(i: int) -> tuple[Any, Any]:
                own = None if key is None else random.fold_in(key, i)
                return net.apply(params, taken(x, slices[i]), key=own)

            def backward(i: int) -> Params:
                return params_gradient(net, caches[i], taken(dprediction, slices[i]))

            predictions, caches = zip(*run_tasks(forward, len(slices), workers), strict=True)
            value, dprediction = _slope(loss, concatenated(predictions), y)
            return value, _add_up(run_tasks(backward, len(slices), workers)), caches[0]

        value, grads, cache = on_one_blas_thread(
            sharded if len(slices) > 1 else partial(in_team, workers, whole)
        )
        if not statistics:
            return value, grads
        new = new_statistics(net, cache) if keeps_statistics else {}
        if keeps_statistics and key is not None and not new:
            checks.refuse(
                f"the running statistics of {checks.shown(net)} would be lost: "
                "`net.statistics(cache)` is empty"
            )
        return value, grads, new

    return checks.named(step, "value_and_grad")


def _keyed(net: Layer[Any, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of the layers that do in training what they do not do in inference."""
    if net.spec.traits & {"statistics", "stochastic"}:
        yield "/".join(path) or net.spec.kind
    for name, child in () if "inference" in net.spec.traits else children(net):
        yield from _keyed(child, (*path, name) if name else path)


def _warn_of_no_key(net: Layer[Any, Any]) -> None:
    missed = list(_keyed(net))
    more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    text = f"without a key, {', '.join(missed[:3])}{more} run as in inference"
    warnings.warn(f"value_and_grad: {text}: write step(params, x, y, key)", stacklevel=4)


def _slope(loss: Loss, prediction: Any, y: Any) -> tuple[Any, Any]:
    """A loss that is one number, and its gradient."""
    value, cache = loss.apply(prediction, y)
    if np.ndim(value):
        checks.refuse(
            f"`loss` must give one number, got an array of shape {np.shape(value)}: "
            "take the mean or the sum",
        )
    return value, loss.vjp(cache)


def shards(examples: int, x: Any, params: Params) -> list[slice]:
    """Cut a batch by the sizes of its arrays alone, never by the machine: into 1, 2, 4 or 8 parts.

    A small step is done before a second thread has woken up (November 2026, two cores with AVX-512:
    LeNet at batch 32 takes 1.7 ms alone and 3 ms on two threads), and every part costs a gradient of
    all parameters: where vectors have fewer numbers than those, `dense` cuts its products instead.
    """
    if examples < 16:
        return [slice(0, examples)]
    numbers, weights = _numbers(x), tree.count(params)
    vectors = isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype.kind == "f"
    small = numbers < _SMALL and numbers + weights < _SMALL
    if small or (vectors and numbers < weights):
        return [slice(0, examples)]
    count = min(2 if numbers < 4 * _SMALL else 4 if numbers < 16 * _SMALL else 8, examples // 8)
    ends = [examples * i // count for i in range(count + 1)]
    return list(map(slice, ends[:-1], ends[1:]))


def _numbers(x: Any) -> int:
    """How many numbers a network works on; an index stands for a vector of them."""
    arrays, total = [x] if isinstance(x, np.ndarray) else [leaf for _, leaf in tree.leaves(x)], 0
    for array in arrays:
        total += int(array.size) * (1 if array.dtype.kind == "f" else 64)
    return total


def _add_up(grads: list[Params]) -> Params:
    """The sum of two or more trees, first to last."""
    total = tree.add(grads[0], grads[1])  # a new tree: the rest may be added in place

    def accumulate(leaf: Array, other: Array) -> Array:
        leaf += other
        return leaf

    for other in grads[2:]:
        tree.map(accumulate, total, other)
    return total
