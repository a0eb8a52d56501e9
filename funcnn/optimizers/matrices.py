"""Transformations that see a weight as a matrix: factored second moments, orthogonal updates."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from funcnn import _checks, numerics, tree
from funcnn.optimizers.core import Optimizer, State, count, counted, power, remembering, stateless, walk
from funcnn.optimizers.scaling import Leaves, averaged, squared_norm
from funcnn.types import Array, Params, Spec

__all__ = ["scale_by_factored_rms", "scale_by_muon", "scale_by_parameter_size"]


def scale_by_factored_rms(decay: float = 0.8, limit: float = 1.0) -> Optimizer:
    """The gradient over the root of its mean square, which is kept as a row times a column.

    Parameters
    ----------
    decay : float, default 0.8
        How fast the mean square slows down: its weight at step ``t`` is ``t**-decay``.
    limit : float, default 1.0
        The largest root mean square of an update that stays.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "row": tree, "column": tree}``: for a leaf ``(..., n, m)``, arrays
        ``(..., n, 1)`` and ``(..., 1, m)``; for a vector, the whole mean square and nothing.

    Notes
    -----
    With ``b = t**-decay``: ``r = (1 - b) r + b mean(g**2)`` over the last axis, ``c`` in the same way
    over the last but one; ``v = r c / mean(r)``; the update is ``u = g / sqrt(v)``, over
    ``max(1, rms(u) / limit)``. The smallest ``sqrt(v)`` and ``mean(r)`` are the dtype's epsilon.

    References
    ----------
    N. Shazeer and M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_factored_rms
    >>> optimizer, grads = scale_by_factored_rms(), {"w": np.full((2, 3), -5.0)}
    >>> optimizer.update(grads, optimizer.init(grads), grads)[0]["w"].round(6)
    array([[-1., -1., -1.],
           [-1., -1., -1.]])
    """
    who = "scale_by_factored_rms"
    decay = _checks.number(who, "decay", decay, above=0)
    limit = _checks.number(who, "limit", limit, above=0)

    def init(params: Params) -> State:
        def row(leaf: Array) -> Array:
            return np.zeros((*leaf.shape[:-1], 1) if leaf.ndim > 1 else leaf.shape, leaf.dtype)

        def column(leaf: Array) -> Array:
            shape = (*leaf.shape[:-2], 1, leaf.shape[-1]) if leaf.ndim > 1 else (0,)
            return np.zeros(shape, leaf.dtype)

        return {
            "count": counted(0),
            "row": tree.map(row, params),
            "column": tree.map(column, params),
        }

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        steps = count(state)
        kept = 1 - float(numerics.power(np.array(float(steps)), -decay))

        def leaf(path: str, gradient: Array, param: Array, row: Array, column: Array) -> Leaves:
            least = float(np.finfo(gradient.dtype).eps)
            square = gradient * gradient
            if gradient.ndim > 1:
                row = averaged(row, numerics.mean(square, -1, keepdims=True), kept)
                column = averaged(column, numerics.mean(square, -2, keepdims=True), kept)
                whole = row * column / np.maximum(numerics.mean(row, -2, keepdims=True), least)
            else:
                row = whole = averaged(row, square, kept)
            out = gradient / np.sqrt(np.maximum(whole, least * least))
            size = sqrt(squared_norm(out) / max(out.size, 1))
            return out / max(1.0, size / limit), row, column

        updates, row, column = walk(who, leaf, grads, params, state["row"], state["column"])
        return updates, {"count": counted(steps), "row": row, "column": column}

    return Optimizer(init, update, Spec(scale_by_factored_rms, (decay, limit)))


def scale_by_parameter_size(least: float = 1e-3) -> Optimizer:
    """Multiply each leaf's update by the root mean square of the leaf.

    Parameters
    ----------
    least : float, default 1e-3
        The smallest factor.

    Returns
    -------
    Optimizer
        Without state.

    Notes
    -----
    ``u max(least, rms(w))``.

    References
    ----------
    N. Shazeer and M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_parameter_size
    >>> scale_by_parameter_size().update({"w": np.ones(2)}, {}, {"w": np.array([1.0, 7.0])})[0]
    {'w': array([5., 5.])}
    """
    least = _checks.number("scale_by_parameter_size", "least", least, minimum=0)

    def leaf(path: str, gradient: Array, param: Array) -> Any:
        return gradient * max(least, sqrt(squared_norm(param) / max(param.size, 1)))

    return stateless(Spec(scale_by_parameter_size, (least,)), leaf)


def _orthogonal(x: Array, steps: int, epsilon: float) -> Array:
    """The nearest matrix whose singular values are all about 1, by a quintic iteration."""
    wide = x.T if x.shape[0] > x.shape[1] else x
    wide = wide / (sqrt(squared_norm(wide)) + epsilon)
    for _ in range(steps):
        gram = numerics.matmul(wide, wide.T)
        inner = -4.7750 * gram + 2.0315 * numerics.matmul(gram, gram)
        wide = 3.4445 * wide + numerics.matmul(inner, wide)
    return np.ascontiguousarray(wide.T) if x.shape[0] > x.shape[1] else wide


def scale_by_muon(
    decay: float = 0.95, *, nesterov: bool = True, iterations: int = 5, epsilon: float = 1e-8
) -> Optimizer:
    """Momentum made orthogonal: an update that stretches all directions alike. For matrices.

    Parameters
    ----------
    decay : float, default 0.95
        What is kept of the mean gradient at each step.
    nesterov : bool, default True
        Whether momentum looks one step ahead.
    iterations : int, default 5
        Newton-Schulz iterations.
    epsilon : float, default 1e-8
        Added to the length by which the momentum is divided.

    Returns
    -------
    Optimizer
        With state ``{"count": (), "mean": tree}``.

    Raises
    ------
    ValueError
        When used on a leaf that is not a matrix.

    Notes
    -----
    ``m = decay m + (1 - decay) g``, over ``1 - decay**t``; with `nesterov`,
    ``decay m / (1 - decay**(t + 1)) + (1 - decay) g / (1 - decay**t)``. That matrix, divided by its
    length, goes through ``x = 3.4445 x + (-4.775 A + 2.0315 A A) x`` with ``A = x xᵀ``, and is
    multiplied by ``sqrt(max(1, out / in))``. As `optax.contrib.scale_by_muon`.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.optimizers import scale_by_muon
    >>> optimizer, grads = scale_by_muon(), {"w": np.diag([5.0, -0.5])}
    >>> np.abs(optimizer.update(grads, optimizer.init(grads), grads)[0]["w"]).round(1)
    array([[0.7, 0. ],
           [0. , 0.7]])
    """
    who = "scale_by_muon"
    decay = _checks.number(who, "decay", decay, minimum=0, below=1)
    nesterov = _checks.boolean(who, "nesterov", nesterov)
    iterations = _checks.integer(who, "iterations", iterations, 0)
    epsilon = _checks.number(who, "epsilon", epsilon, minimum=0)

    def at_step(steps: int) -> Any:
        now, following = 1 - power(decay, steps), 1 - power(decay, steps + 1)

        def leaf(path: str, gradient: Array, param: Array, mean: Array) -> tuple[Any, Any]:
            if gradient.ndim != 2:
                _checks.refuse(who, f"leaves must be matrices, got shape {gradient.shape} at {path!r}")
            mean = averaged(mean, gradient, decay)
            if nesterov:
                ahead = mean * (decay / following) + gradient * ((1 - decay) / now)
            else:
                ahead = mean / now
            outputs, inputs = gradient.shape
            return _orthogonal(ahead, iterations, epsilon) * sqrt(max(1, outputs / inputs)), mean

        return leaf

    options = {"nesterov": nesterov, "iterations": iterations, "epsilon": epsilon}
    return remembering(Spec(scale_by_muon, (decay,), options), ("mean",), at_step)
