"""Training: the gradient of a loss through a network, over fixed shards of the batch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypedDict, TypeVar, Unpack, overload

import numpy as np

from funcnn import checks, numerics, random, tree
from funcnn.checks import LOSS, NET
from funcnn.data.examples import concatenated, length, taken
from funcnn.distributed.engines import ALONE, Engine, check_share
from funcnn.machine.blas import on_one_blas_thread
from funcnn.machine.lockstep import in_lockstep
from funcnn.machine.memory import keep_freed_memory
from funcnn.machine.threads import in_team, run_tasks
from funcnn.structure import children, params_gradient, statistics as new_statistics
from funcnn.types import Key, Layer, Loss, Off, On, Params, R, X, Y, has_trait

__all__ = ["value_and_grad"]

# Measured in November 2026, on the machines that `funcnn._kernels.convolution.plans` names.
_SMALL = 1 << 18  # numbers in a batch and in the parameters together that are not worth a thread
_WORK = 1 << 27  # multiplications of sequences that are: each weight with each step
_COMPILED_WORK = 1 << 30  # where single kernels have several threads
_IMAGES = 1 << 28  # and of images, by NumPy's kernels in fast mode: each filter with each place

X_contra = TypeVar("X_contra", contravariant=True)


class _Share(TypedDict, total=False):
    """How a step is shared out."""

    workers: int | None
    shards: int | None
    engine: Engine | None


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
    net: Layer[X, Y], loss: Loss, *, statistics: Off = ..., **share: Unpack[_Share]
) -> Step[X]: ...
@overload
def value_and_grad(
    net: Layer[X, Y], loss: Loss, *, statistics: On, **share: Unpack[_Share]
) -> StatisticsStep[X]: ...
@checks.takes(net=NET, loss=LOSS)
def value_and_grad(
    net: Layer[X, Y],
    loss: Loss,
    *,
    statistics: bool = False,
    workers: int | None = None,
    shards: int | None = None,
    engine: Engine | None = None,
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
    shards : int, optional
        Into how many parts to cut a batch, or one for each example if it has fewer; by default as
        its size says, see the notes. Every part gives gradients of all parameters, in an order of
        its own: another number gives other bits.
    engine : Engine, optional
        The processes that share the work, see `funcnn.distributed.mpi`; each has some of the shards.
        The bits are the same for any number of them, and those of one process without an engine.

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
    Predictions of all shards meet in the loss, so a loss may couple the examples of a batch. By
    default, a batch is cut into 1, 2, 4 or 8 shards, by its size. Compiled kernels, which threads
    share, leave sequences of middling work whole in fast mode, and 16 examples together, where else
    8 may be a shard; NumPy's cut small images that meet many filters. A network that couples
    examples, such as one with batch normalisation, runs as one shard; so does a batch of vectors
    that has fewer numbers than the parameters. In one shard, large products of `dense` are cut
    instead, by their sizes alone. Each process of an engine computes all of one shard.

    With `shards`, batch normalisation has the statistics of the batch as well: its shards run at
    once, each on a thread, and wait for each other where they add up their sums, in order.

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
    check_share(workers, shards, engine)
    ranks = ALONE if engine is None else engine
    keeps_statistics = has_trait(net.spec, "statistics")
    is_whole = shards is None and has_trait(net.spec, "couples_batch")
    walks = has_trait(net.spec, "walks")
    if shards is not None and has_trait(net.spec, "couples_batch", without="meets_shards"):
        text = "for a network with a layer that couples its batch and does not meet other shards"
        checks.refuse(f"`shards` must be left out {text}, got {shards}")
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
        slices = [slice(None)] if is_whole else cut(examples, x, params, shards, walks)
        if engine is not None and len(slices) == 1:
            x = taken(x, slices[0])  # reads what may lie on the disk

        def whole() -> tuple[Any, Params, Any]:
            prediction, cache = net.apply(params, x, key=key)
            value, dprediction = _slope(loss, prediction, y)
            return value, params_gradient(net, cache, dprediction), cache

        value, grads, cache = on_one_blas_thread(
            partial(in_team, workers, whole)
            if len(slices) == 1
            else partial(_sharded, net, loss, params, x, y, key, slices, workers, ranks)
        )
        if not statistics:
            return value, grads
        new = {}
        if keeps_statistics:
            found = partial(new_statistics, net, cache)
            new = found() if len(slices) == 1 else ranks.first(found)
        if keeps_statistics and key is not None and not new:
            checks.refuse(
                f"the running statistics of {checks.shown(net)} would be lost: "
                "`net.statistics(cache)` is empty"
            )
        return value, grads, new

    return checks.named(step, "value_and_grad")


def _sharded(
    net: Layer[X, Y],
    loss: Loss,
    params: Params,
    x: X,
    y: Any,
    key: Key | None,
    slices: list[slice],
    workers: int | None,
    ranks: Engine,
) -> tuple[Any, Params, Any]:
    """Loss, gradient and the cache of the first shard, which only its own rank has."""
    own, caches = ranks.own(len(slices)), dict[int, Any]()
    couples = has_trait(net.spec, "couples_batch")
    places = own or range(couples)  # who has no shard goes through the first, to be where others meet

    def done(task: Callable[[int], R]) -> list[R]:
        if not couples:
            return run_tasks(task, len(own), workers)
        return in_lockstep(task, len(places), workers, meet)[: len(own)]

    def meet(say: Callable[[], list[Any]]) -> list[Any]:
        return ranks.gathered(lambda: say()[: len(own)])

    def forward(place: int) -> Any:
        i = places[place]
        folded = None if key is None else random.fold_in(key, i)
        prediction, caches[i] = net.apply(params, taken(x, slices[i]), key=folded)
        return prediction

    def backward(place: int) -> Params:
        i = places[place]
        return params_gradient(net, caches[i], taken(dprediction, slices[i]))

    predictions = ranks.gathered(lambda: done(forward))
    value, dprediction = _slope(loss, concatenated(predictions), y)
    return value, ranks.added(lambda: done(backward)), caches.get(0)


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


def cut(
    examples: int, x: Any, params: Params, count: int | None = None, walks: bool = False
) -> list[slice]:
    """Cut a batch into so many parts, or by the sizes of its arrays, never by the machine.

    A small step is done before a second thread has woken up, and every part costs a gradient of all
    parameters: where vectors have fewer numbers than those, `dense` cuts its products instead.
    Measured in November 2026, two cores with AVX-512: LeNet at batch 32 takes 1.5 ms alone, 1.7 to
    2.4 with its convolutions shared out, and 3 in two parts; a transformer of 64 features with
    (32, 64, 64) takes 31 ms whole, 25 in two parts. What `walks` from step to step shares out its own
    work, compiled; else threads would take turns in Python: an LSTM takes 25 ms, and 44 in two parts.
    Where single kernels have several threads, the transformer takes 14.1 ms whole, 15.7 in two parts;
    one of 128 features, eight times the work, as long either way; and a stack of 3x3 convolutions at
    batch 32 (two cores with AVX2) 139 ms in four parts, 114 in two, whose examples fill a tile. By
    NumPy's kernels, separable convolutions take 48 ms there whole, 34 in two parts.
    """
    if count is None and examples >= 16:
        flat = [part[name] for _, names, (part,), _ in tree.walk([], params) for name in names]
        numbers, work, filtering, weights = 0, 0, 0, sum(map(np.size, flat))
        for leaf in [x] if isinstance(x, np.ndarray) else [leaf for _, leaf in tree.leaves(x)]:
            is_index = leaf.dtype.kind != "f"
            numbers += math.prod(leaf.shape) * (64 if is_index else 1)  # an index: a vector
            if len(leaf.shape) == 3 - is_index:
                work += weights * math.prod(leaf.shape[:2])
            elif len(leaf.shape) > 3:
                filters = sum([np.size(w) for w in flat if np.ndim(w) == len(leaf.shape)])
                filtering += filters * math.prod(leaf.shape) // max(1, leaf.shape[1])
        vectors = not isinstance(x, (tuple, dict)) and len(x.shape) == 2 and x.dtype.kind == "f"
        fast = numerics.mode() == "fast"
        compiled = fast and numerics.compiling()
        worth, least = (_COMPILED_WORK, 16) if compiled else (_WORK, 8)
        large = numbers + weights >= _SMALL or (work >= worth and not walks)
        large |= fast and not compiled and filtering >= _IMAGES
        if large and not (vectors and numbers < weights):
            most = 2 if numbers < 4 * _SMALL else 4 if numbers < 16 * _SMALL else 8
            count = min(most, examples // least)
    if count is None or count == 1 or examples < 2:
        return [slice(0, examples)]
    count = min(count, examples)
    ends = [examples * i // count for i in range(count + 1)]
    return list(map(slice, ends[:-1], ends[1:]))
