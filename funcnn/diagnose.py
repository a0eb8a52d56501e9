"""Finding trouble: what of a network goes wrong on a batch, and where it begins.

Functions of a network, its parameters and a batch; nothing is remembered or changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, random, schedules, tree
from funcnn.checks import LOSS, NET
from funcnn.data.examples import length, taken
from funcnn.optimizers import Optimizer, apply_updates
from funcnn.optimizers.core import AN_OPTIMIZER
from funcnn.structure import params_gradient, statistics
from funcnn.tracing import trace, trace_backward
from funcnn.types import Array, Key, Layer, Loss, Params

__all__ = [
    "Finding",
    "GradientNorms",
    "LearningRates",
    "Overfit",
    "gradient_norms",
    "learning_rate_finder",
    "overfit_one_batch",
    "trace_nan",
]


class Finding(NamedTuple):
    """The first array in which a number is not finite.

    Parameters
    ----------
    phase : str
        ``"params"``, ``"input"``, ``"forward"``, ``"loss"`` or ``"backward"``.
    path : str
        The layer's: ``"encoder/conv1"``; of a parameter or its gradient, with the leaf:
        ``"encoder/conv1/weight"``.
    what : str
        ``"parameter"``, ``"input"``, ``"output"``, ``"loss"``, ``"gradient"``,
        ``"gradient of the input"`` or ``"gradient of the prediction"``.
    place : tuple of int
        The index of the first such number.
    value : float
        That number: NaN or an infinity.
    bad, size : int
        How many such numbers there are, and how many numbers in all.

    Examples
    --------
    >>> print(Finding("forward", "dense2", "output", (0, 3), float("nan"), 8, 80))
    forward: the output of dense2 is nan at (0, 3), and not finite in 8 of 80 numbers
    """

    phase: str
    path: str
    what: str
    place: tuple[int, ...]
    value: float
    bad: int
    size: int

    def __str__(self) -> str:
        owner = f" of {self.path}" if self.path else ""
        if self.what == "parameter":
            owner = f" {self.path}"
        place = f" at {self.place}" if self.place else ""
        many = f", and not finite in {self.bad} of {self.size} numbers" if self.size > 1 else ""
        return f"{self.phase}: the {self.what}{owner} is {self.value}{place}{many}"


@checks.takes(net=NET, loss=checks.Optional(LOSS))
def trace_nan(
    net: Layer[Any, Any],
    params: Params,
    x: Any,
    y: Any = None,
    loss: Loss | None = None,
    *,
    key: Key | None = None,
) -> Finding | None:
    """Name the first layer and leaf to go wrong on a batch: to become NaN or infinite.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    x : ndarray, or tuple or dict of them
        The batch.
    y : ndarray, or tuple or dict of them, optional
        Its targets, and with a `loss` the backward pass is looked at, too.
    loss : Loss, optional
        What is made small.
    key : Key, optional
        With one, the pass is one of training.

    Returns
    -------
    Finding or None
        What is wrong first, in the order parameters, input, layers forward, loss, layers backward;
        None where all is finite.

    Raises
    ------
    ValueError, TypeError
        For one of `y` and `loss` without the other; for what the network or the loss refuses.

    Examples
    --------
    >>> from funcnn import dense, random, relu, serial
    >>> net = serial(dense(8), relu(), dense(2))
    >>> _, params = net.init(random.key(0), (1, 4))
    >>> print(trace_nan(net, params, np.ones((1, 4), np.float32)))
    None
    >>> params["dense2"]["weight"][0, 5] = np.inf
    >>> print(trace_nan(net, params, np.ones((1, 4), np.float32)))
    params: the parameter dense2/weight is inf at (0, 5), and not finite in 1 of 16 numbers
    """
    if (y is None) != (loss is None):
        checks.refuse("`y` and `loss` must be given together")
    with np.errstate(all="ignore"):  # what overflows is what is sought
        for what in _arrays(net, params, x, y, loss, key):
            if (found := _first_bad(*what)) is not None:
                return found
    return None


def _arrays(
    net: Layer[Any, Any], params: Params, x: Any, y: Any, loss: Loss | None, key: Key | None
) -> Iterator[tuple[str, str, str, Any]]:
    """Phase, path, name and value of everything that could go wrong, in the order of causes."""
    for path, leaf in tree.leaves(params):
        yield "params", path, "parameter", leaf
    yield "input", "", "input", x
    if loss is None:
        for visit in trace(net, params, x, key=key):
            yield "forward", visit.path or visit.spec.kind, "output", visit.out
        return
    traced = trace_backward(net, params, loss, x, y, key=key)
    for visit in traced.visits:
        yield "forward", visit.path or visit.spec.kind, "output", visit.out
    yield "loss", "", "loss", traced.value
    yield "backward", "", "gradient of the prediction", traced.dprediction
    for pull in traced.pullbacks:
        for path, leaf in tree.leaves(pull.dparams):
            yield "backward", f"{pull.path}/{path}" if pull.path else path, "gradient", leaf
        yield "backward", pull.path or pull.spec.kind, "gradient of the input", pull.dx


def _first_bad(phase: str, path: str, what: str, value: Any) -> Finding | None:
    for _, leaf in tree.leaves(value):
        array = np.asarray(leaf)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            wrong = ~np.isfinite(array)
            place, bad = tuple(int(i) for i in np.argwhere(wrong)[0]), int(np.count_nonzero(wrong))
            return Finding(phase, path, what, place, float(array[place]), bad, array.size)
    return None


class GradientNorms(NamedTuple):
    """How large gradients are beside their parameters; prints as a table.

    Parameters
    ----------
    paths : tuple of str
        Of the leaves, in the network's order.
    gradient, parameter : ndarray
        The norm of each leaf's gradient, and of the leaf.
    total : float
        The norm of all gradients together.

    Examples
    --------
    >>> print(GradientNorms(("dense1/bias",), np.array([0.5]), np.array([2.0]), 0.5))
    leaf          gradient  parameter     ratio
    dense1/bias   5.00e-01   2.00e+00  2.50e-01
    all           5.00e-01
    """

    paths: tuple[str, ...]
    gradient: Array
    parameter: Array
    total: float

    def __str__(self) -> str:
        width = max(12, *map(len, self.paths), 12)
        lines = [f"{'leaf':<{width}}  gradient  parameter     ratio"]
        for path, gradient, parameter in zip(self.paths, self.gradient, self.parameter, strict=True):
            ratio = f"{gradient / parameter:.2e}" if parameter else "-"
            lines.append(f"{path:<{width}}  {gradient:.2e}   {parameter:.2e}  {ratio:>8}")
        return "\n".join([*lines, f"{'all':<{width}}  {self.total:.2e}"])


@checks.takes(net=NET, loss=LOSS)
def gradient_norms(
    net: Layer[Any, Any], params: Params, loss: Loss, x: Any, y: Any, *, key: Key | None = None
) -> GradientNorms:
    """Tell how large each leaf's gradient is on a batch: which vanish, which explode.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    loss : Loss
        What is made small.
    x, y : ndarray
        A batch, and its targets.
    key : Key, optional
        With one, the pass is one of training.

    Returns
    -------
    GradientNorms
        Running statistics, which have no gradient, are left out.

    Raises
    ------
    ValueError, TypeError
        For what the network or the loss refuses.

    Examples
    --------
    >>> from funcnn import dense, mean_squared_error, random, serial
    >>> net = serial(dense(8), dense(2))
    >>> _, params = net.init(random.key(0), (1, 4))
    >>> x, y = np.ones((1, 4), np.float32), np.zeros((1, 2), np.float32)
    >>> gradient_norms(net, params, mean_squared_error(), x, y).paths
    ('dense1/weight', 'dense1/bias', 'dense2/weight', 'dense2/bias')
    """
    grads = trace_backward(net, params, loss, x, y, key=key).grads
    paths = [path for path, _ in tree.items(params) if not tree.is_statistic(path)]
    found, own = dict(tree.leaves(grads)), dict(tree.leaves(params))
    gradient = np.array([tree.norm({"leaf": found[path]}) for path in paths])
    parameter = np.array([tree.norm({"leaf": own[path]}) for path in paths])
    return GradientNorms(tuple(paths), gradient, parameter, tree.norm(grads))


class LearningRates(NamedTuple):
    """What `learning_rate_finder` has seen.

    Parameters
    ----------
    rates : ndarray
        The rates that were tried, in rising order.
    losses : ndarray
        The loss after each, smoothed.
    suggestion : float
        The rate at which the loss falls fastest.

    Examples
    --------
    >>> LearningRates(np.array([0.1]), np.array([1.0]), 0.1).suggestion
    0.1
    """

    rates: Array
    losses: Array
    suggestion: float


@checks.takes(
    net=NET, loss=LOSS, lowest=checks.Number(above=0), steps=checks.Integer(10),
    batch_size=checks.Integer(1),
)  # fmt: skip
def learning_rate_finder(
    net: Layer[Any, Any],
    params: Params,
    loss: Loss,
    optimizer: Any,
    x: Any,
    y: Any,
    *,
    key: Key,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
) -> LearningRates:
    """Train with a learning rate that rises until the loss explodes, and see where it falls fastest.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters, which stay as they are.
    loss : Loss
        What is made small.
    optimizer : callable
        ``learning_rate -> Optimizer``, such as `funcnn.adam`; it is called with a schedule.
    x, y : ndarray
        Examples, and their targets.
    key : Key
        Draws the batches, and whatever the network draws in training.
    lowest, highest : float
        Between which rates to look.
    steps : int, default 100
        How many rates to try at most, one in each step.
    batch_size : int, default 32
        Examples in a step.

    Returns
    -------
    LearningRates

    Raises
    ------
    ValueError, TypeError
        For rates or steps out of range; for what the network, the loss or the optimizer refuses.

    Notes
    -----
    The rates are ``lowest * (highest / lowest) ** (t / (steps - 1))``. The search ends when the
    smoothed loss is 4 times the smallest one, or no longer finite. The suggestion is the rate of
    the steepest slope before the smallest loss; a third of it is a careful choice.

    References
    ----------
    L. Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3.

    Examples
    --------
    >>> from funcnn import dense, mean_squared_error, random, sgd
    >>> x = random.normal(random.key(0), (64, 3))
    >>> _, params = dense(1).init(random.key(1), (1, 3))
    >>> found = learning_rate_finder(
    ...     dense(1), params, mean_squared_error(), sgd, x, x[:, :1], key=random.key(2))
    >>> 0.001 < found.suggestion < 1.0
    True
    """
    if not callable(optimizer):
        hint = "must make an optimizer of a learning rate, such as `funcnn.adam`"
        checks.refuse_type(f"`optimizer` {hint}, got {checks.shown(optimizer)}")
    count = length(x, y)
    if not count:
        checks.refuse("`x` must have at least one example")
    highest = checks.Number(above=lowest).check("highest", highest)
    checks.key(key)
    rate = schedules.exponential(lowest, highest / lowest, steps - 1)
    trained = AN_OPTIMIZER.check("optimizer(rate)", optimizer(rate))
    state, rates, losses = trained.init(params), list[float](), list[float]()
    smooth, weight = 0.0, 0.0
    with np.errstate(all="ignore"):  # it is meant to explode
        for step in range(steps):
            own = random.fold_in(key, step)
            chosen = random.randint(random.fold_in(own, "batch"), (batch_size,), 0, count)
            batch = taken(x, chosen), taken(y, chosen)
            value, params, state = _step(net, loss, trained, params, state, *batch, own)
            smooth, weight = 0.9 * smooth + 0.1 * value, 0.9 * weight + 0.1
            if not np.isfinite(smooth) or (losses and smooth / weight > 4 * min(losses)):
                break
            rates.append(rate(step))
            losses.append(smooth / weight)
    if len(rates) < 3:
        checks.refuse(f"`lowest` must be lower: the loss exploded at step {len(rates)}")
    return LearningRates(np.array(rates), np.array(losses), _steepest(rates, losses))


def _steepest(rates: list[float], losses: list[float]) -> float:
    """The rate of the steepest fall before the smallest loss; the slope spans a few steps."""
    lowest = max(1, int(np.argmin(losses)))
    span = min(5, lowest)
    start = min(10, lowest - span)  # the mean of the first few batches is no trend yet
    falls = [losses[i] - losses[i + span] for i in range(start, lowest - span + 1)]
    return rates[start + int(np.argmax(falls)) + span // 2]


def _step(
    net: Layer[Any, Any], loss: Loss, optimizer: Optimizer, params: Params, state: Params,
    x: Any, y: Any, key: Key | None,
) -> tuple[float, Params, Params]:  # fmt: skip
    """The loss before a step of training, on one thread, and what comes after it."""
    out, cache = net.apply(params, x, key=key)
    value, loss_cache = loss.apply(out, y)
    dout = loss.vjp(loss_cache)
    grads = params_gradient(net, cache, dout)
    updates, state = optimizer.update(grads, state, params)
    params = tree.replace(apply_updates(params, updates), statistics(net, cache))
    return float(value), params, state


class Overfit(NamedTuple):
    """What `overfit_one_batch` has seen; true if the network has learnt the batch.

    Parameters
    ----------
    losses : ndarray
        The loss before each step, and after the last.
    learnt : bool
        Whether the last is below the wanted part of the first.

    Examples
    --------
    >>> bool(Overfit(np.array([1.0, 0.01]), True))
    True
    """

    losses: Array
    learnt: bool

    def __bool__(self) -> bool:
        return self.learnt


@checks.takes(
    net=NET, loss=LOSS, optimizer=AN_OPTIMIZER, steps=checks.Integer(1), wanted=checks.Number(above=0)
)
def overfit_one_batch(
    net: Layer[Any, Any],
    params: Params,
    loss: Loss,
    optimizer: Optimizer,
    x: Any,
    y: Any,
    *,
    steps: int = 200,
    wanted: float = 0.05,
    key: Key | None = None,
) -> Overfit:
    """Check that a network can learn one batch by heart; one that cannot has something wrong.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters, which stay as they are.
    loss : Loss
        What is made small; its smallest value should be 0.
    optimizer : Optimizer
        How.
    x, y : ndarray
        A small batch, and its targets.
    steps : int, default 200
        How long to try.
    wanted : float, default 0.05
        What part of the first loss the last must be below.
    key : Key, optional
        For networks that draw in training; without one, they run as in inference.

    Returns
    -------
    Overfit
        True if it has been learnt.

    Raises
    ------
    ValueError, TypeError
        For what the network, the loss or the optimizer refuses.

    Examples
    --------
    >>> from funcnn import adam, dense, random, relu, serial, softmax_cross_entropy
    >>> net = serial(dense(32), relu(), dense(2))
    >>> _, params = net.init(random.key(0), (8, 4))
    >>> x, y = random.normal(random.key(1), (8, 4)), np.arange(8) % 2
    >>> bool(overfit_one_batch(net, params, softmax_cross_entropy(), adam(0.01), x, y))
    True
    """
    state, losses = optimizer.init(params), list[float]()
    for step in range(steps + 1):
        own = None if key is None else random.fold_in(key, step)
        value, params, state = _step(net, loss, optimizer, params, state, x, y, own)
        losses.append(value)
    return Overfit(np.array(losses), bool(losses[-1] < wanted * losses[0]))
