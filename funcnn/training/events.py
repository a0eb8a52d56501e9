"""What `fit` tells callbacks: that it begins, its steps and epochs, its end, an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from funcnn import tree
from funcnn.optimizers import Optimizer
from funcnn.training.evaluation import Record
from funcnn.training.results import History
from funcnn.training.state import TrainState
from funcnn.types import Layer, Loss, Params

__all__ = ["Begin", "Callback", "Epoch", "FitResult", "Step"]


class Begin(NamedTuple):
    """What a `Callback` gets to see before the first step.

    Parameters
    ----------
    net, loss, optimizer : Layer, Loss, Optimizer
        What is trained, towards what, and how.
    epochs : int
        Passes over the data, those before a resume included.
    steps : int
        In each.
    state : TrainState
        Before the first step, or where a resumed training goes on.
    settings : dict
        All that the training depends on, as JSON holds it; equal after a resume.
    resumed : bool
        Whether it goes on from a checkpoint.
    checkpoint : str or None
        The file that it writes.

    Examples
    --------
    >>> def begin(begin: Begin) -> None:
    ...     print(f"{begin.epochs * begin.steps - begin.state.step} steps to go")
    """

    net: Layer[Any, Any]
    loss: Loss
    optimizer: Optimizer
    epochs: int
    steps: int
    state: TrainState
    settings: dict[str, Any]
    resumed: bool
    checkpoint: str | None


class Step(NamedTuple):
    """What a `Callback` gets to see after each step.

    Parameters
    ----------
    state : TrainState
        After the step.
    loss : float
        Of its batch, before the step.

    Examples
    --------
    >>> def step(step: Step) -> None:
    ...     print(step.state.step, step.loss)
    """

    state: TrainState
    loss: float


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
    history : History
        One value for each epoch: ``epoch``, ``step``, ``learning_rate``, ``loss``, each loss of a
        `funcnn.sum_losses` as ``loss_<name>``, and with validation ``validation_loss`` and
        ``validation_<metric>``.
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
    ...              data.Dataset(x, x[:, :1]), key=random.key(1), epochs=3, progress=False)
    >>> list(result.history), result.state.epoch
    (['epoch', 'step', 'loss', 'learning_rate'], 3)
    """

    params: Params
    history: History
    best_params: Params
    best_epoch: int
    state: TrainState

    def __repr__(self) -> str:
        count = tree.count(self.params)
        return f"FitResult({count:_} parameters, best epoch {self.best_epoch}, {self.history})"

    def _repr_html_(self) -> str:
        count = tree.count(self.params)
        told = f"<p>{count:_} parameters, best epoch {self.best_epoch}</p>"
        return told + self.history._repr_html_()


class Callback:
    """What `fit` calls on the way: write over the methods that you need.

    A plain function ``(epoch: Epoch) -> bool | None`` does where the ends of epochs are enough. With
    several ranks, the first one alone calls; see `funcnn.distributed.mpi`.

    Examples
    --------
    >>> from funcnn import data, dense, fit, mean_squared_error, optimizers, random
    >>> class Count(Callback):
    ...     steps = 0
    ...     def step(self, step: Step) -> None:
    ...         self.steps += 1
    ...     def end(self, result: FitResult) -> None:
    ...         print(self.steps, "steps")
    >>> x = random.normal(random.key(0), (32, 2))
    >>> result = fit(dense(1), mean_squared_error(), optimizers.sgd(0.1), data.Dataset(x, x[:, :1]),
    ...              key=random.key(1), epochs=3, batch_size=8, callbacks=(Count(),), progress=False)
    12 steps
    """

    def begin(self, begin: Begin) -> None:
        """Before the first step of this call of `fit`, with its checkpoint read."""

    def step(self, step: Step) -> None:
        """After each step that was taken."""

    def epoch(self, epoch: Epoch) -> bool | None:
        """After each epoch, before its checkpoint is written; True ends the training."""

    def end(self, result: FitResult) -> None:
        """After the last epoch."""

    def error(self, error: BaseException) -> None:
        """Before what ends the training early is raised: an error, or an interruption."""


class Function(Callback):
    """A function that is asked after each epoch."""

    def __init__(self, function: Callable[[Epoch], bool | None]) -> None:
        self.epoch = function  # type: ignore[assignment, method-assign]
