"""Activations: elementwise functions, each with its exact derivative, and the softmaxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import _checks
from funcnn._kernels import softmax as kernels
from funcnn.types import Cache, Key, Layer, Params, Shape, Spec, X

__all__ = ["log_softmax", "relu", "softmax"]


def relu() -> Layer[X, X]:
    """Rectified linear unit, elementwise.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    TypeError
        For an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = max(x, 0)``. Pullback: ``dx = dy`` where ``y > 0``, else 0; at ``x = 0`` the
    derivative is taken as 0, as in PyTorch.

    References
    ----------
    V. Nair and G. Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import relu
    >>> relu().apply({}, np.array([-1.0, 2.0]))[0]
    array([0., 2.])
    """

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return _checks.any_shape("relu", shape), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("relu", params, {})
        out = np.maximum(_checks.floating("relu", x), 0)
        return out, {"out": out}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        _checks.gradient("relu", dout, cache["out"].shape)
        return {}, dout * (cache["out"] > 0)

    return Layer(init, apply, vjp, Spec(relu, traits=frozenset({"monotone"})))


def softmax(axis: int = -1) -> Layer[X, X]:
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
        For an axis that the input has not, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = exp(x) / sum(exp(x))``, shifted by the maximum. Pullback:
    ``dx = y * (dy - sum(dy * y))``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import softmax
    >>> softmax().apply({}, np.array([[0.0, 0.0]]))[0]
    array([[0.5, 0.5]])
    """
    axis = _checks.integer("softmax", "axis", axis)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = _checks.any_shape("softmax", shape, 2)
        _checks.feature_axis("softmax", axis, len(checked))
        return checked, {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("softmax", params, {})
        found = _checks.floating("softmax", x)
        _checks.feature_axis("softmax", axis, found.ndim)
        out = kernels.softmax(found, axis)
        return out, {"out": out}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        _checks.gradient("softmax", dout, cache["out"].shape)
        return {}, kernels.softmax_gradient(cache["out"], dout, axis)

    return Layer(init, apply, vjp, Spec(softmax, options={"axis": axis}))


def log_softmax(axis: int = -1) -> Layer[X, X]:
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
        For an axis that the input has not, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = x - log(sum(exp(x)))``, shifted by the maximum. Pullback:
    ``dx = dy - exp(y) * sum(dy)``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import log_softmax
    >>> log_softmax().apply({}, np.array([[0.0, 0.0]]))[0].round(4)
    array([[-0.6931, -0.6931]])
    """
    axis = _checks.integer("log_softmax", "axis", axis)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = _checks.any_shape("log_softmax", shape, 2)
        _checks.feature_axis("log_softmax", axis, len(checked))
        return checked, {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("log_softmax", params, {})
        found = _checks.floating("log_softmax", x)
        _checks.feature_axis("log_softmax", axis, found.ndim)
        out = kernels.log_softmax(found, axis)
        return out, {"out": out}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        _checks.gradient("log_softmax", dout, cache["out"].shape)
        return {}, kernels.log_softmax_gradient(cache["out"], dout, axis)

    return Layer(init, apply, vjp, Spec(log_softmax, options={"axis": axis}))
