"""One step of training as a pure function of all that it depends on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from funcnn import checks, random, tree
from funcnn.checks import LOSS, NET
from funcnn.data import Dataset
from funcnn.data.batches import checked
from funcnn.distributed.engines import Engine
from funcnn.losses.joint import remade
from funcnn.machine.threads import in_team
from funcnn.optimizers import Optimizer, apply_updates
from funcnn.optimizers.core import AN_OPTIMIZER
from funcnn.training.gradients import value_and_grad
from funcnn.types import Cache, Key, Layer, Loss, Params, Part, Shape, has_trait

__all__ = ["TrainState", "train_state", "train_step"]


class TrainState(NamedTuple):
    """Everything that the rest of a training depends on.

    Parameters
    ----------
    params : dict
        Parameters, running statistics among them.
    optimizer : dict
        The optimizer's state.
    key : Key
        Of the whole training; each step folds its number into it.
    step : int
        Steps taken so far.
    epoch, batch : int
        The data cursor: which batch comes next.

    Examples
    --------
    >>> from funcnn import dense, optimizers, random
    >>> state = train_state(dense(2), optimizers.adam(0.1), random.key(0), (8, 3))
    >>> state.step, list(state.tree())
    (0, ['params', 'optimizer'])
    """

    params: Params
    optimizer: Params
    key: Key
    step: int = 0
    epoch: int = 0
    batch: int = 0

    def tree(self) -> Params:
        """The arrays, as one tree."""
        return {"params": self.params, "optimizer": self.optimizer}

    def cursor(self) -> dict[str, Any]:
        """The rest, as what JSON can hold."""
        return {"key": list(self.key), "step": self.step, "epoch": self.epoch, "batch": self.batch}


@checks.takes(net=NET, optimizer=AN_OPTIMIZER)
def train_state(
    net: Layer[Any, Any], optimizer: Optimizer, key: Key, shape: Shape, params: Params | None = None
) -> TrainState:
    """The state before the first step.

    Parameters
    ----------
    net : Layer
        The network.
    optimizer : Optimizer
        What will train it.
    key : Key
        Initial parameters and all randomness of the training come from it.
    shape : tuple of int
        Of the input, batch axis first.
    params : dict, optional
        Parameters to start from, instead of initial ones.

    Returns
    -------
    TrainState

    Raises
    ------
    ValueError, TypeError
        For what the network refuses to be initialised with.

    Examples
    --------
    >>> from funcnn import dense, optimizers, random
    >>> train_state(dense(2), optimizers.sgd(0.1), random.key(0), (8, 3)).params["weight"].shape
    (2, 3)
    """
    if params is None:
        _, params = net.init(random.fold_in(checks.key(key), "init"), shape)
    return TrainState(params, optimizer.init(params), key)


@checks.takes(net=NET, loss=LOSS, optimizer=AN_OPTIMIZER)
def train_step(
    net: Layer[Any, Any],
    loss: Loss,
    optimizer: Optimizer,
    *,
    workers: int | None = None,
    shards: int | None = None,
    engine: Engine | None = None,
) -> Callable[[TrainState, Dataset], tuple[TrainState, dict[str, float]]]:
    """Make the pure function that takes one step.

    Parameters
    ----------
    net : Layer
        The network.
    loss : Loss
        What is made small.
    optimizer : Optimizer
        How.
    workers : int, optional
        Threads; the bits do not depend on their number. See `value_and_grad`.
    shards, engine : optional
        Into how many parts to cut a batch, and what processes share them; see `value_and_grad`.

    Returns
    -------
    callable
        ``(state, batch) -> (state, metrics)``: running statistics are carried on where they are
        finite, and ``metrics`` holds the loss before the step.

    Raises
    ------
    ValueError, TypeError
        For what the network, the loss or the optimizer refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import dense, mean_squared_error, optimizers, random
    >>> net, optimizer = dense(1), optimizers.sgd(0.1)
    >>> state = train_state(net, optimizer, random.key(0), (4, 2))
    >>> batch = Dataset(np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32))
    >>> state, metrics = train_step(net, mean_squared_error(), optimizer)(state, batch)
    >>> state.step, list(metrics)
    (1, ['loss'])
    """
    how: dict[str, Any] = {"workers": workers, "shards": shards, "engine": engine}
    gradients = value_and_grad(net, loss, statistics=True, **how)
    keeps_statistics = has_trait(net.spec, "statistics")

    @partial(checks.named, who="train_step")
    def step(state: TrainState, batch: Dataset) -> tuple[TrainState, dict[str, float]]:
        checks.Instance(TrainState, "a TrainState").check("state", state)
        checked(batch, "batch")
        key = random.fold_in(random.fold_in(state.key, "step"), state.step)
        parts: dict[str, float] = {}
        pull = gradients
        if loss.parts:
            pull = value_and_grad(net, _noting(loss, parts), statistics=True, **how)
        value, grads, new = pull(state.params, batch.x, batch.y, key)

        def updated() -> tuple[Params, Params]:
            updates, memory = optimizer.update(grads, state.optimizer, state.params)
            return apply_updates(state.params, updates), memory

        params, memory = in_team(workers, updated)
        if keeps_statistics and tree.is_finite(new):  # one NaN would stay in them for good
            params = tree.replace(params, new)
        after = state._replace(
            params=params, optimizer=memory, step=state.step + 1, batch=state.batch + 1
        )
        return after, {"loss": float(value), **parts}

    return step


def _noting(loss: Loss, values: dict[str, float]) -> Loss:
    """The same sum of losses, each of which enters its value under its name."""

    def noted(part: Part) -> Loss:
        def apply(prediction: Any, target: Any) -> tuple[Any, Cache]:
            value, cache = part.loss.apply(prediction, target)
            values[part.name] = float(value)
            return value, cache

        return part.loss._replace(apply=apply)

    return remade(loss, noted)
