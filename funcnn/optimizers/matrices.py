"""Optimizers that see a weight as a matrix: factored second moments, orthogonal updates."""

from __future__ import annotations

from math import frexp, isfinite, sqrt
from typing import Any

import numpy as np

from funcnn import checks, numerics, tree
from funcnn.checks import Integer, Optional
from funcnn.optimizers.adaptive_moments import adam
from funcnn.optimizers.agreement import counted, counter, hold
from funcnn.optimizers.clipping import DECAYED, MASK, Mask, add_decayed_weights, selects
from funcnn.optimizers.core import AN_OPTIMIZER, Leaves, Optimizer, Rate, State
from funcnn.optimizers.descent import scale_by_learning_rate
from funcnn.optimizers.moments import Squares, averaged, coded, grown, largest, length, quotient, times
from funcnn.optimizers.parts import (
    FLAG,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    RATE,
    filled,
    pipeline,
    power,
    remembering,
    stateless,
    walk,
)
from funcnn.optimizers.rounding import optimizer
from funcnn.optimizers.wrappers import divided
from funcnn.types import Array, Params, Shape

__all__ = ["adafactor", "muon", "scale_by_factored_rms", "scale_by_muon", "scale_by_parameter_size"]


def _factored(
    gradient: Array, row: Array, column: Array, kept: float, least: float
) -> tuple[Array, Array, Array]:
    """The gradient over the root of a row times a column, and both of these."""
    # sums depend on the order in memory
    gradient, row, column = (np.asarray(each, order="C") for each in (gradient, row, column))

    def parts(unit: float, g: Array, r: Array, c: Array) -> tuple[Array, Array, Array]:
        square = g * g
        r = averaged(r, numerics.mean(square, -1, keepdims=True), kept)
        c = averaged(c, numerics.mean(square, -2, keepdims=True), kept)
        whole = r * c / np.maximum(numerics.mean(r, -2, keepdims=True), least / unit / unit)
        return g / np.sqrt(np.maximum(whole, (least / unit) ** 2)), r, c

    with np.errstate(over="ignore"):
        out, new_row, new_column = parts(1.0, gradient, row, column)
    most = 2.0**62 * (kept or 1.0)
    if largest(new_row) < most and largest(new_column) < most:  # so is their product within range
        return out, new_row, new_column
    wide = gradient.astype(np.float64)
    roots = [Squares(part, False, False).root() for part in (row, column)]
    size = max(largest(np.abs(wide)), *map(largest, roots))
    unit = 2.0 ** (frexp(size)[1] - 1) if isfinite(size) else 1.0
    out, *sums = parts(unit, wide / unit, *[(root / unit) ** 2 for root in roots])
    new_row, new_column = (coded(np.sqrt(part) * unit, row.dtype).code for part in sums)
    return out.astype(gradient.dtype), new_row, new_column


@optimizer(decay=POSITIVE, limit=POSITIVE)
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

    def row_shape(leaf: Array) -> Shape:
        return (*leaf.shape[:-1], 1) if leaf.ndim > 1 else leaf.shape

    def column_shape(leaf: Array) -> Shape:
        return (*leaf.shape[:-2], 1, leaf.shape[-1]) if leaf.ndim > 1 else (0,)

    shapes = {"row": row_shape, "column": column_shape}

    def init(params: Params) -> State:
        filled(params)
        memory = {
            name: tree.map(lambda leaf, shape=shape: np.zeros(shape(leaf), leaf.dtype), params)
            for name, shape in shapes.items()
        }
        return {"count": counted(0), **memory}

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        hold(state, "count", "row", "column")
        steps = counter(state) + 1
        kept = 1 - float(numerics.power(np.array(float(steps)), -decay))

        def leaf(path: str, gradient: Array, param: Array, row: Array, column: Array) -> Leaves:
            least = float(np.finfo(gradient.dtype).eps)
            if gradient.ndim > 1:
                out, row, column = _factored(gradient, row, column, kept, least)
            else:
                seen = grown(row, gradient, kept, 1 - kept, 1.0)
                if seen.ordinary:
                    out = gradient / np.sqrt(np.maximum(seen.code, least * least))
                else:
                    out = quotient(gradient, np.maximum(seen.root(), least))
                row = seen.code
            return out / max(1.0, length(out, out.size) / limit), row, column

        memory = {"row": state["row"], "column": state["column"]}
        updates, row, column = walk(leaf, grads, params, shapes=shapes, **memory)
        return updates, {"count": counted(steps), "row": row, "column": column}

    return Optimizer(init, update)


@optimizer(least=NOT_NEGATIVE)
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

    def leaf(path: str, gradient: Array, param: Array) -> Any:
        return times(gradient, max(least, length(param, param.size)))

    return stateless(leaf)


def _orthogonal(x: Array, steps: int, epsilon: float) -> Array:
    """The nearest matrix whose singular values are all about 1, by a quintic iteration."""
    x = np.asarray(x, order="C")  # so does BLAS read it
    wide = x.T if x.shape[0] > x.shape[1] else x
    size = length(wide) + epsilon
    wide = wide / size if 1e-30 < size < 1e30 else quotient(wide, size)
    for _ in range(steps):
        gram = numerics.matmul(wide, wide.T)
        inner = -4.7750 * gram + 2.0315 * numerics.matmul(gram, gram)
        wide = 3.4445 * wide + numerics.matmul(inner, wide)
    return np.ascontiguousarray(wide.T) if x.shape[0] > x.shape[1] else wide


@optimizer(decay=FRACTION, nesterov=FLAG, iterations=Integer(0), epsilon=NOT_NEGATIVE)
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

    def at_step(steps: int) -> Any:
        now, following = 1 - power(decay, steps), 1 - power(decay, steps + 1)

        def leaf(path: str, gradient: Array, param: Array, mean: Array) -> tuple[Any, Any]:
            if gradient.ndim != 2:
                checks.refuse(
                    f"leaves must be matrices, got shape {gradient.shape} at {tree.place(path)}"
                )
            mean = averaged(mean, gradient, decay)
            if nesterov:
                ahead = mean * (decay / following) + gradient * ((1 - decay) / now)
            else:
                ahead = mean / now
            outputs, inputs = gradient.shape
            stretch = sqrt(max(1, outputs / max(1, inputs)))
            return _orthogonal(ahead, iterations, epsilon) * stretch, mean

        return leaf

    return remembering(at_step, mean=0)


@optimizer(
    learning_rate=RATE,
    weight_decay=NOT_NEGATIVE,
    decay=POSITIVE,
    limit=POSITIVE,
    least=NOT_NEGATIVE,
    mask=DECAYED,
)
def adafactor(
    learning_rate: Rate = 1e-2,
    weight_decay: float = 0.0,
    *,
    decay: float = 0.8,
    limit: float = 1.0,
    least: float = 1e-3,
    mask: Mask = None,
) -> Optimizer:
    """Adam with next to no memory: mean squares as a row times a column, steps relative to size.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-2
        The length of a step as a fraction of the size of each leaf; never more than ``1 / sqrt(t)``.
    weight_decay : float, default 0.0
        Decoupled weight decay, as in `adamw`.
    decay : float, default 0.8
        How fast the mean square slows down.
    limit : float, default 1.0
        The largest root mean square of an update, before it is scaled.
    least : float, default 1e-3
        The smallest size of a leaf.
    mask : str or callable, optional
        Which leaves decay, see `add_decayed_weights`.

    Returns
    -------
    Optimizer

    Notes
    -----
    See `scale_by_factored_rms` and `scale_by_parameter_size`; equals `torch.optim.Adafactor`, but
    that weight decay, too, goes with ``min(lr, 1 / sqrt(t))``.

    References
    ----------
    N. Shazeer and M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.

    Examples
    --------
    >>> from funcnn.optimizers import adafactor
    >>> adafactor()
    adafactor()
    """

    def falling(step: int) -> float:
        rate = learning_rate(step) if callable(learning_rate) else learning_rate
        return min(rate, 1 / sqrt(step + 1))

    return pipeline(
        scale_by_factored_rms(decay, limit),
        scale_by_parameter_size(least),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(falling),
    )


@optimizer(
    learning_rate=RATE,
    weight_decay=NOT_NEGATIVE,
    decay=FRACTION,
    nesterov=FLAG,
    iterations=Integer(0),
    matrices=MASK,
    others=Optional(AN_OPTIMIZER),
)
def muon(
    learning_rate: Rate = 2e-2,
    weight_decay: float = 0.0,
    *,
    decay: float = 0.95,
    nesterov: bool = True,
    iterations: int = 5,
    matrices: Mask = None,
    others: Optimizer | None = None,
) -> Optimizer:
    """Momentum made orthogonal for the matrices, another optimizer for the rest.

    Parameters
    ----------
    learning_rate : float or schedule, default 2e-2
        The size of the singular values of a step.
    weight_decay : float, default 0.0
        Decoupled weight decay of the matrices, as in `adamw`.
    decay : float, default 0.95
        What is kept of the mean gradient at each step.
    nesterov : bool, default True
        Whether momentum looks one step ahead.
    iterations : int, default 5
        Newton-Schulz iterations.
    matrices : str or callable, optional
        For which matrices: a shell pattern for their paths, or a function ``(path, leaf) -> bool``.
        All by default; the authors leave out embeddings and the last layer.
    others : Optimizer, optional
        For all other leaves; by default `adam` with the same learning rate.

    Returns
    -------
    Optimizer
        With state ``{"matrices": ..., "others": ...}``.

    Notes
    -----
    See `scale_by_muon`; equals `optax.contrib.muon` (whose weights are transposed, and whose Adam
    looks ahead, too). PyTorch's `Muon` looks ahead without correcting the bias
    of the mean, and iterates in bfloat16.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Examples
    --------
    >>> from funcnn.optimizers import adamw, muon
    >>> muon(0.02, others=adamw(3e-4))
    muon(others=adamw(learning_rate=0.0003))
    """
    wanted = selects("*" if matrices is None else matrices)
    parts = {
        "matrices": pipeline(
            scale_by_muon(decay, nesterov=nesterov, iterations=iterations),
            add_decayed_weights(weight_decay, "*"),
            scale_by_learning_rate(learning_rate),
        ),
        "others": adam(learning_rate) if others is None else others,
    }

    def choose(path: str, leaf: Array) -> str:
        return "matrices" if leaf.ndim == 2 and wanted(path, leaf) else "others"

    return divided(parts, choose)
