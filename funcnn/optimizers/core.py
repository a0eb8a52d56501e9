"""What an optimizer is, and how its updates reach the parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Integer, Number, Refusal
from funcnn.machine.threads import in_team
from funcnn.optimizers.agreement import alike, both, real
from funcnn.optimizers.moments import many_moved, moved
from funcnn.schedules import Schedule
from funcnn.types import Params, Spec, rebuild

__all__ = ["Optimizer", "State", "apply_updates", "check_state", "learning_rate", "sgd_update"]

State: TypeAlias = dict[str, Any]
"""What an optimizer remembers: nested dicts of arrays, to be saved and loaded as parameters are."""

_RATE = Number(minimum=0)
Rate: TypeAlias = float | Schedule | Callable[[int], float]
Leaves: TypeAlias = tuple[Any, ...]  # what a leaf's update is, and the new memory of it


class Optimizer(NamedTuple):
    """An optimizer, or a part of one: two pure functions, and the data that says what it is.

    Parameters
    ----------
    init : callable
        ``(params) -> state``.
    update : callable
        ``(grads, state, params) -> (updates, state)``; `apply_updates` adds the updates to the
        parameters. In a `chain`, the updates of one are the gradients of the next.
    spec : Spec, optional
        What it is: it prints, pickles and rebuilds it.

    Notes
    -----
    Leaves named ``running_*`` are running statistics: their update is exactly 0, and no norm or
    decay counts them.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import optimizers
    >>> optimizer = optimizers.sgd(0.5)
    >>> params = {"w": np.array([1.0])}
    >>> updates, state = optimizer.update({"w": np.array([0.5])}, optimizer.init(params), params)
    >>> optimizers.apply_updates(params, updates)
    {'w': array([0.75])}
    """

    init: Callable[[Params], State]
    update: Callable[..., tuple[Params, State]]
    spec: Spec = Spec()

    def __repr__(self) -> str:
        return repr(self.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.spec,)


AN_OPTIMIZER = checks.Instance(Optimizer, "an Optimizer")


@checks.named
def apply_updates(params: Params, updates: Params) -> Params:
    """Add updates to parameters.

    Parameters
    ----------
    params : dict
        Parameters; they stay as they are.
    updates : dict
        What an optimizer's ``update`` returned, the same tree.

    Returns
    -------
    dict
        ``params + updates``.

    Raises
    ------
    ValueError, TypeError
        For trees, shapes or dtypes that do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import apply_updates
    >>> apply_updates({"w": np.array([1.0])}, {"w": np.array([-0.5])})
    {'w': array([0.5])}
    """

    return both(np.add, params, updates, "updates", partial(many_moved, factor=1.0))


@checks.takes(optimizer=AN_OPTIMIZER)
def check_state(optimizer: Optimizer, state: State, params: Params) -> None:
    """Refuse a state that is not this optimizer's for these parameters, such as one from a file.

    Parameters
    ----------
    optimizer : Optimizer
        Who is to go on with it.
    state : dict
        The state.
    params : dict
        The parameters.

    Raises
    ------
    ValueError, TypeError
        For another structure, other shapes or dtypes, counters or mean squares that are negative,
        and what else the optimizer's own ``update`` refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import check_state, momentum
    >>> params, optimizer = {"w": np.zeros(2)}, momentum(0.1)
    >>> check_state(optimizer, optimizer.init(params), params)
    """
    fresh = optimizer.init(params)
    try:
        tree.map_with_path(alike, fresh, state)
    except Refusal as refusal:
        if refusal.who == "tree":
            checks.refuse(f"`state` must be that of {checks.shown(optimizer)}: {refusal.text}")
        raise
    with np.errstate(all="ignore"):
        updates, _ = optimizer.update(tree.zeros_like(params), state, params)
    for path, update in tree.leaves(updates):
        lost = update[~np.isfinite(update)]
        if lost.size and tree.is_finite(state) and tree.is_finite(params):
            checks.refuse(
                f"`state` must give finite updates, got {lost.flat[0]} at {tree.place(path)}, "
                "as of a mean square below 0"
            )


@checks.named
def learning_rate(state: State) -> float:
    """The learning rate that the next update will use.

    Parameters
    ----------
    state : dict
        An optimizer's state.

    Returns
    -------
    float
        Where the state holds several, as `per_path` makes it, the first in the order of their paths.

    Raises
    ------
    ValueError
        For a state that holds none.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import schedules
    >>> from funcnn.optimizers import learning_rate, sgd
    >>> params, optimizer = {"w": np.zeros(1)}, sgd(schedules.linear(1.0, 0.0, 4))
    >>> state = optimizer.init(params)
    >>> _, later = optimizer.update(params, state, params)
    >>> learning_rate(state), learning_rate(later)
    (1.0, 0.75)
    """
    found = tree.leaves(tree.select(state, "*learning_rate"))
    if not found:
        checks.refuse("`state` must hold a learning rate, got none")
    return real({"learning_rate": found[0][1]}, "learning_rate")


@checks.named
def sgd_update(params: Params, grads: Params, lr: float, *, workers: int | None = None) -> Params:
    """One step of gradient descent, as a map over two trees.

    Parameters
    ----------
    params : dict
        Parameters; they stay as they are.
    grads : dict
        Gradients, the same tree.
    lr : float
        Learning rate, the fraction of the gradient that is subtracted.
    workers : int, optional
        Threads for large leaves where kernels are compiled; by default as many as there are
        processors, as in `funcnn.value_and_grad`. The bits do not depend on their number.

    Returns
    -------
    dict
        ``params - lr * grads``.

    Raises
    ------
    ValueError, TypeError
        For trees that do not match, or a learning rate that is not a finite number of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import sgd_update
    >>> sgd_update({"w": np.array([1.0])}, {"w": np.array([0.5])}, lr=0.1)
    {'w': array([0.95])}
    """
    lr = _RATE.check("lr", lr)
    if workers is not None:
        workers = Integer(1).check("workers", workers)
    step = partial(moved, factor=-lr)
    stepped = in_team(workers, partial(both, step, params, grads, "grads"))
    if lr > 1e38 and not tree.is_finite(stepped):
        checks.refuse_beyond({"lr": lr}, np.float32)
    return stepped
