"""Activations along an axis whose elements share one sum."""

from __future__ import annotations

from collections.abc import Callable

from funcnn import checks
from funcnn._kernels import softmax as kernels
from funcnn.checks import Integer, declared
from funcnn.parameterless import parameterless
from funcnn.types import Array, Cache, Preserving, Shape

__all__ = ["log_softmax", "softmax", "softmin"]


@declared(axis=Integer())
def softmax(axis: int = -1) -> Preserving:
    """Softmax along one axis.

    Parameters
    ----------
    axis : int, default -1
        The axis that sums to one; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input does not have, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = exp(x) / sum(exp(x))``, shifted by the maximum. Pullback:
    ``dx = y * (dy - sum(dy * y))``.

    Minus infinity gives 0; along an axis of nothing else, NaN, as in PyTorch. Plus infinity shares 1
    with its equals, where PyTorch gives NaN.

    References
    ----------
    J. Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import softmax
    >>> softmax().apply({}, np.array([[0.0, 0.0]]))[0]
    array([[0.5, 0.5]])
    """

    return _along(axis, kernels.softmax, kernels.softmax_gradient)


@declared(axis=Integer())
def log_softmax(axis: int = -1) -> Preserving:
    """Logarithm of the softmax along one axis.

    Parameters
    ----------
    axis : int, default -1
        The axis whose exponentials sum to one; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input does not have, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = x - log(sum(exp(x)))``, shifted by the maximum. Pullback:
    ``dx = dy - exp(y) * sum(dy)``.

    Infinities are those of `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import log_softmax
    >>> log_softmax().apply({}, np.array([[0.0, 0.0]]))[0].round(4)
    array([[-0.6931, -0.6931]])
    """

    return _along(axis, kernels.log_softmax, kernels.log_softmax_gradient)


@declared(axis=Integer())
def softmin(axis: int = -1) -> Preserving:
    """Softmax of the negated input along one axis: the least element weighs most.

    Parameters
    ----------
    axis : int, default -1
        The axis that sums to one; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input does not have, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = exp(-x) / sum(exp(-x))``. Pullback: ``dx = y * (sum(dy * y) - dy)``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import softmin
    >>> softmin().apply({}, np.array([[0.0, 1.0]]))[0].round(4)
    array([[0.7311, 0.2689]])
    """

    return _along(
        axis,
        lambda x, axis: kernels.softmax(-x, axis),
        lambda y, dout, axis: -kernels.softmax_gradient(y, dout, axis),
    )


def _along(
    axis: int, value: Callable[[Array, int], Array], gradient: Callable[[Array, Array, int], Array]
) -> Preserving:
    """An activation along an axis, beside the batch's, whose pullback needs what came out."""

    def forward(x: Array) -> tuple[Array, Cache]:
        out = value(x, axis)
        return out, {"out": out}

    def pullback(kept: Cache, dout: Array) -> Array:
        return gradient(kept["out"], dout, axis)

    def checked(shape: Shape) -> Shape:
        checks.feature_axis(axis, len(shape))
        return shape

    return parameterless(Preserving, forward, pullback, checked)
