"""Activations: elementwise functions, each with its exact derivative, and those along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from funcnn import _checks, numerics
from funcnn._kernels import channels, softmax as kernels
from funcnn.initializers import constant
from funcnn.types import Array, Cache, Key, Params, Preserving, Shape, Spec

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "maxout",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "swiglu",
    "tanh",
    "tanh_shrink",
    "threshold",
]

Kept = Literal["x", "out"]


# --- what they are built with ---------------------------------------------------------------------


def _activation(
    spec: Spec,
    forward: Callable[[Array], Array],
    pullback: Callable[[Array, Array], Array],
    keeps: Kept,
    out_shape: Callable[[Shape], Shape],
) -> Preserving:
    """A layer without parameters; `pullback` takes what the layer keeps, and ``dout``."""
    who = spec.kind

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return out_shape(_checks.any_shape(who, shape)), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves(who, params, {})
        out_shape(_checks.any_ranked(who, x).shape)
        out = forward(x)
        return out, {keeps: x if keeps == "x" else out}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        kept = cache[keeps]
        _checks.gradient(who, dout, out_shape(kept.shape), kept.dtype)
        return {}, pullback(kept, dout)

    return Preserving(init, apply, vjp, spec)


def _elementwise(
    spec: Spec, value: Callable[[Array], Array], slope: Callable[[Array], Array], of: Kept = "x"
) -> Preserving:
    """One function for every element; `slope` is its derivative, computed from ``x`` or ``out``.

    Both are right for all numbers, and infinity: what overflows on the way reaches its limit silently.
    """
    if not all(map(_fits_float32, (*spec.args, *spec.options.values()))):
        value, slope = _in_float64(value), _in_float64(slope)

    def forward(x: Array) -> Any:
        if of == "out":  # nothing but comparisons
            return value(x)
        with np.errstate(over="ignore", invalid="ignore"):
            return value(x)

    def pullback(kept: Array, dout: Array) -> Any:
        if of == "out":
            return dout * slope(kept)
        with np.errstate(over="ignore", invalid="ignore"):
            d = np.asarray(slope(kept))  # fresh memory, so what comes out may lie in it
            return np.multiply(dout, d, out=d if d.dtype == dout.dtype else None)

    return _activation(spec, forward, pullback, of, lambda shape: shape)


def _fits_float32(option: object) -> bool:
    """Whether float32 holds an option in full precision."""
    size = abs(option) if isinstance(option, float) else 0.0
    return size == 0 or 2.0**-126 <= size < 2.0**128


def _in_float64(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The same function, computed in float64: for an option that float32 does not hold."""

    def wide(x: Array) -> Array:
        with np.errstate(over="ignore"):
            return function(x.astype(np.float64)).astype(x.dtype)

    return wide


def _along_axis(
    spec: Spec,
    forward: Callable[[Array], Array],
    pullback: Callable[[Array, Array], Array],
    keeps: Kept,
    axis: int,
    pieces: int = 1,
) -> Preserving:
    """Elements along one axis belong together, and `pieces` of them make one output."""
    who = spec.kind

    def out_shape(shape: Shape) -> Shape:
        _checks.feature_axis(who, axis, len(shape))
        place = axis % len(shape)
        if shape[place] % pieces:
            _checks.refuse(
                who, f"`x` must have a multiple of {pieces} along axis {axis}, got shape {shape}"
            )
        return (*shape[:place], shape[place] // pieces, *shape[place + 1 :])

    return _activation(spec, forward, pullback, keeps, out_shape)


# `clip` with two bounds runs several times faster than `maximum` or `minimum` with one; a choice by
# arithmetic, several times faster than `where`. All of them hand on NaN.


def _positive(x: Array) -> Array:
    """``max(x, 0)``."""
    part: Array = x.clip(0, np.inf)
    return part


def _negative(x: Array) -> Array:
    """``min(x, 0)``."""
    part: Array = x.clip(-np.inf, 0)
    return part


def _choose(condition: Array, yes: Array | float, no: Array | float, dtype: np.dtype[Any]) -> Array:
    """``where(condition, yes, no)``; what is not chosen must be finite."""
    one, other = (part if isinstance(part, np.ndarray) else dtype.type(part) for part in (yes, no))
    return np.asarray(condition * one + ~condition * other)


def _finite(x: Array, highest: float | None = None) -> Array:
    """Infinity as the largest number: what it is multiplied by may be 0 far out."""
    info = np.finfo(x.dtype)
    return np.asarray(x.clip(info.min, info.max if highest is None else highest))


def _sigmoid_slope(x: Array) -> Array:
    """``s (1 - s)`` without a difference: ``e / (1 + e)^2`` with ``e = exp(-|x|)``."""
    e = np.asarray(numerics.exp(-np.abs(x)))
    d = e + 1
    e /= d
    e /= d
    return e


# --- rectifiers -----------------------------------------------------------------------------------


def relu() -> Preserving:
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

    def slope(out: Array) -> Any:
        return out > 0

    return _elementwise(Spec(relu, traits=frozenset({"monotone"})), _positive, slope, "out")


def relu6() -> Preserving:
    """Rectified linear unit that saturates at 6.

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
    Forward: ``y = min(max(x, 0), 6)``. Pullback: ``dx = dy`` where ``0 < y < 6``, else 0.

    References
    ----------
    A. Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import relu6
    >>> relu6().apply({}, np.array([-1.0, 2.0, 8.0]))[0]
    array([0., 2., 6.])
    """

    def forward(x: Array) -> Any:
        return np.clip(x, 0, 6)

    def slope(out: Array) -> Any:
        return np.logical_and(out > 0, out < 6)

    return _elementwise(Spec(relu6, traits=frozenset({"monotone"})), forward, slope, "out")


def hard_tanh(minimum: float = -1.0, maximum: float = 1.0) -> Preserving:
    """The identity between two bounds, constant beyond them.

    Parameters
    ----------
    minimum, maximum : float, default -1 and 1
        The bounds.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For bounds that are no finite numbers in order, or an input that is not float32 or
        float64.

    Notes
    -----
    Forward: ``y = min(max(x, minimum), maximum)``. Pullback: ``dx = dy`` strictly between the
    bounds, else 0.

    References
    ----------
    R. Collobert, "Large scale machine learning", PhD thesis, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import hard_tanh
    >>> hard_tanh().apply({}, np.array([-3.0, 0.5, 3.0]))[0]
    array([-1. ,  0.5,  1. ])
    """
    minimum = _checks.number("hard_tanh", "minimum", minimum)
    maximum = _checks.number("hard_tanh", "maximum", maximum, above=minimum)
    options = {"minimum": minimum, "maximum": maximum}

    def forward(x: Array) -> Any:
        return np.clip(x, minimum, maximum)

    def slope(out: Array) -> Any:
        return np.logical_and(out > minimum, out < maximum)

    spec = Spec(hard_tanh, options=options, traits=frozenset({"monotone"}))
    return _elementwise(spec, forward, slope, "out")


def threshold(threshold: float, value: float) -> Preserving:
    """The identity above a threshold, a constant elsewhere.

    Parameters
    ----------
    threshold : float
        Where the identity begins.
    value : float
        What comes out at the threshold and below.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an option that is no finite number, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = x`` where ``x > threshold``, else ``value``. Pullback: ``dx = dy`` where
    ``x > threshold``, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import threshold
    >>> threshold(1.0, -5.0).apply({}, np.array([0.5, 1.0, 2.0]))[0]
    array([-5., -5.,  2.])
    """
    level = _checks.number("threshold", "threshold", threshold)
    value = _checks.number("threshold", "value", value)

    def forward(x: Array) -> Any:
        return _choose(x > level, x.clip(level, np.inf), value, x.dtype)

    def slope(x: Array) -> Any:
        return x > level

    return _elementwise(Spec(_threshold, (level, value)), forward, slope)


_threshold = threshold  # whose option has its name


def leaky_relu(negative_slope: float = 0.01) -> Preserving:
    """Rectified linear unit with a small slope for negative inputs.

    Parameters
    ----------
    negative_slope : float, default 0.01
        The slope below 0, and at 0, as in PyTorch.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an option that is no finite number, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = max(x, 0) + negative_slope * min(x, 0)``. Pullback: ``dx = dy`` where ``x > 0``,
    else ``negative_slope * dy``.

    References
    ----------
    A. Maas, A. Hannun and A. Ng, "Rectifier nonlinearities improve neural network acoustic
    models", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import leaky_relu
    >>> leaky_relu(0.1).apply({}, np.array([-1.0, 2.0]))[0]
    array([-0.1,  2. ])
    """
    negative_slope = _checks.number("leaky_relu", "negative_slope", negative_slope)

    def forward(x: Array) -> Any:
        if 0 < negative_slope <= 1:
            return np.maximum(x, x * negative_slope)
        return _positive(x) + negative_slope * (_negative(x) if negative_slope else x.clip(0, 0))

    def slope(x: Array) -> Any:
        return _choose(x > 0, 1, negative_slope, x.dtype)

    return _elementwise(Spec(leaky_relu, options={"negative_slope": negative_slope}), forward, slope)


def prelu(*, per_channel: bool = False, initial_slope: float = 0.25) -> Preserving:
    """Rectified linear unit whose slope for negative inputs is learned.

    Parameters
    ----------
    per_channel : bool, default False
        Whether every channel has a slope of its own: axis 1, or the last axis of ``(N, T, F)``.
    initial_slope : float, default 0.25
        Where the slopes start.

    Returns
    -------
    Layer
        With params ``{"slope": (1,)}`` or ``{"slope": (C,)}``; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an input without channels, or of another dtype or number of channels than the slopes.

    Notes
    -----
    Forward: ``y = max(x, 0) + a min(x, 0)`` with slope ``a``. Pullback: ``da = sum(dy min(x, 0))``
    over all that share the slope, ``dx = dy`` where ``x > 0``, else ``a dy``. Weight decay would
    pull the slopes towards those of `relu`.

    References
    ----------
    K. He et al., "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import prelu
    >>> prelu().apply({"slope": np.array([0.5])}, np.array([[-1.0, 2.0]]))[0]
    array([[-0.5,  2. ]])
    """
    per_channel = _checks.boolean("prelu", "per_channel", per_channel)
    initial_slope = _checks.number("prelu", "initial_slope", initial_slope)
    start, least_rank = constant(initial_slope), 2 if per_channel else 1

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = _checks.any_shape("prelu", shape, least_rank)
        count = checked[channels.channel_axis(len(checked))] if per_channel else 1
        return checked, {"slope": start(_checks.key("prelu", key), (count,))}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("prelu", params, {"slope": (None,) if per_channel else (1,)})
        slope = params["slope"]
        _checks.any_ranked("prelu", x, least_rank)
        if per_channel:
            _checks.sized("prelu", x, channels.channel_axis(x.ndim), slope.size, "channels")
        _checks.same_dtype("prelu", x, slope)
        with np.errstate(over="ignore"):
            out = _positive(x) + _times_negative(channels.spread(slope, x.ndim), x)
        return out, {"x": x, "slope": slope}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        x, slope = cache["x"], cache["slope"]
        _checks.gradient("prelu", dout, x.shape, x.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            slopes, parts = channels.spread(slope, x.ndim), dout * _negative(x)
            dslope = channels.collect(parts) if per_channel else numerics.sum(parts).reshape(1)
            return {"slope": dslope}, dout * _choose(x > 0, 1, slopes, x.dtype)

    options = {"per_channel": per_channel, "initial_slope": initial_slope}
    return Preserving(init, apply, vjp, Spec(prelu, options=options))


def _times_negative(slopes: Array, x: Array) -> Array:
    """``a min(x, 0)``, and 0 for a slope of 0 at minus infinity."""
    low = _negative(x)
    return slopes * (low if slopes.all() else np.where(slopes == 0, 0, low))


# --- exponential and smooth ones ------------------------------------------------------------------


def elu(alpha: float = 1.0) -> Preserving:
    """Exponential linear unit.

    Parameters
    ----------
    alpha : float, default 1
        The limit for large negative inputs is ``-alpha``.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an option that is no finite number, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = x`` where ``x > 0``, else ``alpha (exp(x) - 1)``. Pullback: ``dx = dy`` where
    ``x > 0``, else ``alpha exp(x) dy``.

    References
    ----------
    D. Clevert, T. Unterthiner and S. Hochreiter, "Fast and accurate deep network learning by
    exponential linear units", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import elu
    >>> elu().apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([-0.6321,  2.    ])
    """
    alpha = _checks.number("elu", "alpha", alpha)

    def forward(x: Array) -> Any:
        return _positive(x) + alpha * numerics.expm1(_negative(x))

    def slope(x: Array) -> Any:
        return _choose(x > 0, 1, alpha * numerics.exp(_negative(x)), x.dtype)

    return _elementwise(Spec(elu, options={"alpha": alpha}), forward, slope)


def celu(alpha: float = 1.0) -> Preserving:
    """Exponential linear unit whose slope is continuous for any `alpha`.

    Parameters
    ----------
    alpha : float, default 1
        Positive; the limit for large negative inputs is ``-alpha``.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an `alpha` that is not positive, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)``. Pullback:
    ``dx = exp(min(x, 0) / alpha) dy``.

    References
    ----------
    J. Barron, "Continuously differentiable exponential linear units", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import celu
    >>> celu(2.0).apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([-0.7869,  2.    ])
    """
    alpha = _checks.number("celu", "alpha", alpha, above=0)

    def forward(x: Array) -> Any:
        low = _negative(x)
        ratio = low / alpha
        out = np.asarray(alpha * numerics.expm1(ratio))
        if alpha > 1:  # a small ratio has lost digits, or vanished, where x is as small as it can be
            np.copyto(out, low, where=ratio > -np.finfo(x.dtype).eps)
        return out + _positive(x)

    def slope(x: Array) -> Any:
        return numerics.exp(_negative(x) / alpha)

    return _elementwise(Spec(celu, options={"alpha": alpha}), forward, slope)


def selu() -> Preserving:
    """Scaled exponential linear unit: activations drift towards mean 0 and variance 1.

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
    Forward: ``y = l x`` where ``x > 0``, else ``l a (exp(x) - 1)``, with ``l = 1.0507...`` and
    ``a = 1.6733...``. Pullback: ``dx = l dy`` where ``x > 0``, else ``l a exp(x) dy``.

    References
    ----------
    G. Klambauer et al., "Self-normalizing neural networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import selu
    >>> selu().apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([-1.1113,  2.1014])
    """
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

    def forward(x: Array) -> Any:
        return scale * _positive(x) + (scale * alpha) * numerics.expm1(_negative(x))

    def slope(x: Array) -> Any:
        return _choose(x > 0, scale, (scale * alpha) * numerics.exp(_negative(x)), x.dtype)

    return _elementwise(Spec(selu), forward, slope)


def gelu(approximate: str = "none") -> Preserving:
    """Gaussian error linear unit.

    Parameters
    ----------
    approximate : "none" or "tanh", default "none"
        The exact function, or the approximation by a hyperbolic tangent that many language models
        were trained with.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For another word, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = x P(x)``, where ``P`` is the normal distribution function,
    ``P(x) = erfc(-x / sqrt(2)) / 2``; approximately ``y = x s`` with ``s = sigmoid(2 u)``,
    ``u = sqrt(2 / pi) (x + 0.044715 x^3)``, which is ``(1 + tanh(u)) / 2``. Pullback:
    ``dx = dy (P(x) + x exp(-x^2 / 2) / sqrt(2 pi))``; approximately
    ``dx = dy (s + 2 x s (1 - s) du/dx)``.

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import gelu
    >>> gelu().apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([-0.1587,  1.9545])
    """
    approximate = _checks.choice("gelu", "approximate", approximate, ("none", "tanh"))
    spec, a = Spec(gelu, options={"approximate": approximate}), math.sqrt(2 / math.pi)

    def probability(x: Array) -> Any:
        return 0.5 * numerics.erfc(-math.sqrt(0.5) * x)

    def density(x: Array) -> Any:
        return numerics.exp(-0.5 * (x * x)) * (a / 2)

    def value(x: Array) -> Any:
        return _finite(x, np.inf) * probability(x)

    def slope(x: Array) -> Any:
        return probability(x) + _finite(x) * density(x)

    def twice_u(x: Array) -> Any:
        return x * (2 * a + (2 * a * 0.044715) * (x * x))

    def value_tanh(x: Array) -> Any:
        return _finite(x, np.inf) * numerics.sigmoid(twice_u(x))

    def slope_tanh(x: Array) -> Any:
        u2, near = twice_u(x), x.clip(-100, 100)  # beyond, the slope of the gate is 0
        rise = near * (2 * a + (6 * a * 0.044715) * (near * near))
        return numerics.sigmoid(u2) + rise * _sigmoid_slope(u2)

    if approximate == "tanh":
        return _elementwise(spec, value_tanh, slope_tanh)
    return _elementwise(spec, value, slope)


def silu() -> Preserving:
    """Sigmoid linear unit, also called swish.

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
    Forward: ``y = x s`` with ``s = sigmoid(x)``. Pullback: ``dx = dy s (1 + x (1 - s))``.

    References
    ----------
    S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import silu
    >>> silu().apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([-0.2689,  1.7616])
    """
    return _elementwise(Spec(silu), _silu, _silu_slope)


def _silu(x: Array) -> Any:
    return _finite(x, np.inf) * numerics.sigmoid(x)


def _silu_slope(x: Array) -> Any:
    return numerics.sigmoid(x) + _finite(x) * _sigmoid_slope(x)


def mish() -> Preserving:
    """Input times the hyperbolic tangent of its softplus.

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
    Forward: ``y = x t`` with ``t = tanh(log(1 + exp(x)))``. Pullback:
    ``dx = dy (t + x (1 - t^2) sigmoid(x))``.

    References
    ----------
    D. Misra, "Mish: a self regularized non-monotonic activation function", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import mish
    >>> mish().apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([-0.3034,  1.944 ])
    """
    def value(x: Array) -> Any:
        return _finite(x, np.inf) * numerics.tanh(numerics.softplus(x))

    def slope(x: Array) -> Any:
        u = numerics.softplus(x)
        return numerics.tanh(u) + _finite(x) * numerics.tanh_slope(u) * numerics.sigmoid(x)

    return _elementwise(Spec(mish), value, slope)


def softplus(beta: float = 1.0) -> Preserving:
    """Smooth rectifier.

    Parameters
    ----------
    beta : float, default 1
        Positive; the larger, the closer to `relu`.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For a `beta` that is not positive, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = log(1 + exp(beta x)) / beta``, as ``max(x, 0) + log(1 + exp(-|beta x|)) / beta``.
    Pullback: ``dx = dy sigmoid(beta x)``. PyTorch returns ``x`` itself beyond a threshold,
    ``beta x > 20``, where the two differ by less than 2.1e-9 / beta.

    References
    ----------
    C. Dugas et al., "Incorporating second-order functional knowledge for better option pricing",
    2001.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import softplus
    >>> softplus().apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([0.3133, 2.1269])
    """
    beta = _checks.number("softplus", "beta", beta, above=0)

    def forward(x: Array) -> Any:
        return _positive(x) + numerics.softplus(-np.abs(beta * x)) / beta

    def slope(x: Array) -> Any:
        return numerics.sigmoid(beta * x)

    return _elementwise(Spec(softplus, options={"beta": beta}), forward, slope)


# --- sigmoids -------------------------------------------------------------------------------------


def sigmoid() -> Preserving:
    """Logistic function.

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
    Forward: ``y = 1 / (1 + exp(-x))``, without overflow. Pullback: ``dx = dy y (1 - y)``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import sigmoid
    >>> sigmoid().apply({}, np.array([0.0, 2.0]))[0].round(4)
    array([0.5   , 0.8808])
    """
    return _elementwise(Spec(sigmoid), numerics.sigmoid, _sigmoid_slope)


def log_sigmoid() -> Preserving:
    """Logarithm of the logistic function.

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
    Forward: ``y = -log(1 + exp(-x))``, without overflow. Pullback: ``dx = dy sigmoid(-x)``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import log_sigmoid
    >>> log_sigmoid().apply({}, np.array([0.0, 2.0]))[0].round(4)
    array([-0.6931, -0.1269])
    """

    def forward(x: Array) -> Any:
        out = np.asarray(numerics.softplus(-x))
        return np.negative(out, out=out)

    def slope(x: Array) -> Any:
        return numerics.sigmoid(-x)

    return _elementwise(Spec(log_sigmoid), forward, slope)


def hard_sigmoid() -> Preserving:
    """Sigmoid of three straight lines.

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
    Forward: ``y = min(max(x / 6 + 1 / 2, 0), 1)``, as in PyTorch. Pullback: ``dx = dy / 6`` where
    ``-3 < x < 3``, else 0.

    References
    ----------
    M. Courbariaux, Y. Bengio and J. David, "BinaryConnect: training deep neural networks with
    binary weights during propagations", 2015 (there with slope 1 / 2).

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import hard_sigmoid
    >>> hard_sigmoid().apply({}, np.array([-4.0, 0.0, 1.5]))[0].round(4)
    array([0.  , 0.5 , 0.75])
    """

    def forward(x: Array) -> Any:
        out = x + 3
        np.clip(out, 0, 6, out=out)
        out /= 6
        return out

    def slope(x: Array) -> Any:
        d = (np.abs(x) < 3).astype(x.dtype)
        d /= 6
        return d

    return _elementwise(Spec(hard_sigmoid), forward, slope)


def hard_swish() -> Preserving:
    """Input times its `hard_sigmoid`.

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
    Forward: ``y = x min(max(x / 6 + 1 / 2, 0), 1)``. Pullback: 0 where ``x <= -3``, ``dx = dy``
    where ``x >= 3``, ``dx = dy (x / 3 + 1 / 2)`` between.

    References
    ----------
    A. Howard et al., "Searching for MobileNetV3", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import hard_swish
    >>> hard_swish().apply({}, np.array([-4.0, 1.5, 4.0]))[0].round(4)
    array([-0.   ,  1.125,  4.   ])
    """
    def forward(x: Array) -> Any:
        return np.clip(x + 3, 0, 6) / 6 * x.clip(-3, np.inf)

    def slope(x: Array) -> Any:
        return _choose(np.abs(x) < 3, x.clip(-3, 3) / 3 + 0.5, x >= 3, x.dtype)

    return _elementwise(Spec(hard_swish), forward, slope)


def tanh() -> Preserving:
    """Hyperbolic tangent.

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
    Forward: ``y = tanh(x)``. Pullback: ``dx = dy (1 - y^2)``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import tanh
    >>> tanh().apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([-0.7616,  0.964 ])
    """
    return _elementwise(Spec(tanh), numerics.tanh, numerics.tanh_slope)


def softsign() -> Preserving:
    """Input divided by one more than its size.

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
    Forward: ``y = x / (1 + |x|)``. Pullback: ``dx = dy / (1 + |x|)^2``.

    References
    ----------
    J. Turian, J. Bergstra and Y. Bengio, "Quadratic features and deep architectures for chunking",
    2009.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import softsign
    >>> softsign().apply({}, np.array([-1.0, 3.0]))[0]
    array([-0.5 ,  0.75])
    """
    def forward(x: Array) -> Any:
        finite = _finite(x)
        return finite / (1 + np.abs(finite))

    def slope(x: Array) -> Any:
        r = 1 / (1 + np.abs(x))
        return r * r

    return _elementwise(Spec(softsign), forward, slope)


# --- shrinkage ------------------------------------------------------------------------------------


def soft_shrink(threshold: float = 0.5) -> Preserving:
    """Move every element towards 0 by a threshold, and no further.

    Parameters
    ----------
    threshold : float, default 0.5
        At least 0.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For a negative threshold, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = x - threshold`` above the threshold, ``x + threshold`` below its negative, 0 between.
    Pullback: ``dx = dy`` where ``|x| > threshold``, else 0.

    References
    ----------
    D. Donoho and I. Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import soft_shrink
    >>> soft_shrink().apply({}, np.array([-2.0, 0.25, 1.0]))[0]
    array([-1.5,  0. ,  0.5])
    """
    level = _checks.number("soft_shrink", "threshold", threshold, minimum=0)

    def forward(x: Array) -> Any:
        return x - np.clip(x, -level, level)

    def slope(x: Array) -> Any:
        return np.abs(x) > level

    return _elementwise(Spec(soft_shrink, options={"threshold": level}), forward, slope)


def hard_shrink(threshold: float = 0.5) -> Preserving:
    """Set elements of at most a threshold in size to 0.

    Parameters
    ----------
    threshold : float, default 0.5
        At least 0.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For a negative threshold, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``y = x`` where ``|x| > threshold``, else 0. Pullback: ``dx = dy`` where
    ``|x| > threshold``, else 0.

    References
    ----------
    D. Donoho and I. Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import hard_shrink
    >>> hard_shrink().apply({}, np.array([-2.0, 0.25, 1.0]))[0]
    array([-2.,  0.,  1.])
    """
    level = _checks.number("hard_shrink", "threshold", threshold, minimum=0)

    def slope(x: Array) -> Any:
        return np.abs(x) > level

    def forward(x: Array) -> Any:
        return x * slope(x)

    return _elementwise(Spec(hard_shrink, options={"threshold": level}), forward, slope)


def tanh_shrink() -> Preserving:
    """Input less its hyperbolic tangent.

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
    Forward: ``y = x - tanh(x)``. Pullback: ``dx = dy tanh(x)^2``. Below ``|x| = 1``, where the
    difference cancels, ``y = x c / (1 + c)`` by Lambert's continued fraction,
    ``c = x^2 / (3 + x^2 / (5 + ...))``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import tanh_shrink
    >>> tanh_shrink().apply({}, np.array([-1.0, 2.0]))[0].round(4)
    array([-0.2384,  1.036 ])
    """
    def forward(x: Array) -> Any:
        near = x.clip(-1, 1)
        c, square = np.zeros_like(near), near * near
        for k in range(21, 1, -2):
            c = square / (k + c)
        return _choose(np.abs(x) < 1, near * c / (1 + c), x - numerics.tanh(x), x.dtype)

    def slope(x: Array) -> Any:
        t = numerics.tanh(x)
        return t * t

    return _elementwise(Spec(tanh_shrink), forward, slope)


# --- along an axis --------------------------------------------------------------------------------


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
        For an axis that the input has not, or an input that is not float32 or float64.

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
    axis = _checks.integer("softmax", "axis", axis)

    def forward(x: Array) -> Any:
        return kernels.softmax(x, axis)

    def pullback(out: Array, dout: Array) -> Any:
        return kernels.softmax_gradient(out, dout, axis)

    return _along_axis(Spec(softmax, options={"axis": axis}), forward, pullback, "out", axis)


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
        For an axis that the input has not, or an input that is not float32 or float64.

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
    axis = _checks.integer("log_softmax", "axis", axis)

    def forward(x: Array) -> Any:
        return kernels.log_softmax(x, axis)

    def pullback(out: Array, dout: Array) -> Any:
        return kernels.log_softmax_gradient(out, dout, axis)

    return _along_axis(Spec(log_softmax, options={"axis": axis}), forward, pullback, "out", axis)


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
        For an axis that the input has not, or an input that is not float32 or float64.

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
    axis = _checks.integer("softmin", "axis", axis)

    def forward(x: Array) -> Any:
        return kernels.softmax(-x, axis)

    def pullback(out: Array, dout: Array) -> Any:
        dx = kernels.softmax_gradient(out, dout, axis)
        return np.negative(dx, out=dx)

    return _along_axis(Spec(softmin, options={"axis": axis}), forward, pullback, "out", axis)


def glu(axis: int = -1) -> Preserving:
    """Gated linear unit: the first half of an axis, gated by the second.

    Parameters
    ----------
    axis : int, default -1
        The axis that is halved; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the axis has half the size.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input has not or whose size is odd, or an input that is not
        float32 or float64.

    Notes
    -----
    Forward: ``y = a s`` with ``s = sigmoid(b)`` for the halves ``a, b`` of ``x``. Pullback:
    ``da = dy s``, ``db = dy a s (1 - s)``.

    References
    ----------
    Y. Dauphin et al., "Language modeling with gated convolutional networks", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import glu
    >>> glu().apply({}, np.array([[2.0, 3.0, 0.0, 0.0]]))[0]
    array([[1. , 1.5]])
    """
    axis = _checks.integer("glu", "axis", axis)

    def forward(x: Array) -> Any:
        a, b = np.split(x, 2, axis)
        with np.errstate(invalid="ignore"):
            return a * numerics.sigmoid(b)

    def pullback(x: Array, dout: Array) -> Any:
        a, b = np.split(x, 2, axis)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.concatenate([dout * numerics.sigmoid(b), dout * a * _sigmoid_slope(b)], axis)

    return _along_axis(Spec(glu, options={"axis": axis}), forward, pullback, "x", axis, 2)


def swiglu(axis: int = -1) -> Preserving:
    """Gated unit of transformers: the second half of an axis, times the `silu` of the first.

    Parameters
    ----------
    axis : int, default -1
        The axis that is halved; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the axis has half the size.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input has not or whose size is odd, or an input that is not
        float32 or float64.

    Notes
    -----
    Forward: ``y = a s b`` with ``s = sigmoid(a)`` for the halves ``a, b`` of ``x``. Pullback:
    ``da = dy b s (1 + a (1 - s))``, ``db = dy a s``. The gate comes first, as in the paper's
    ``Swish(x W) * (x V)``.

    References
    ----------
    N. Shazeer, "GLU variants improve transformer", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import swiglu
    >>> swiglu().apply({}, np.array([[0.0, 2.0, 3.0, 1.0]]))[0].round(4)
    array([[0.    , 1.7616]])
    """
    axis = _checks.integer("swiglu", "axis", axis)

    def forward(x: Array) -> Any:
        a, b = np.split(x, 2, axis)
        with np.errstate(over="ignore", invalid="ignore"):
            return _silu(a) * b

    def pullback(x: Array, dout: Array) -> Any:
        a, b = np.split(x, 2, axis)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.concatenate([dout * b * _silu_slope(a), dout * _silu(a)], axis)

    return _along_axis(Spec(swiglu, options={"axis": axis}), forward, pullback, "x", axis, 2)


def maxout(pieces: int, *, axis: int = -1) -> Preserving:
    """Largest of every few neighbours along one axis.

    Parameters
    ----------
    pieces : int
        How many neighbours make one output.
    axis : int, default -1
        The axis that shrinks, such as 1 for the channels of images; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the axis has a part of the size.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input has not or whose size is no multiple of `pieces`, or an
        input that is not float32 or float64.

    Notes
    -----
    Forward: ``y_i = max(x_{k i}, ..., x_{k i + k - 1})`` for ``k = pieces``. Pullback: the winner gets
    all of ``dy``; among equals the first. Behind a `dense` or `conv` with ``k`` times the features it
    is the unit of the paper.

    References
    ----------
    I. Goodfellow et al., "Maxout networks", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import maxout
    >>> maxout(2).apply({}, np.array([[1.0, 2.0, 4.0, 3.0]]))[0]
    array([[2., 4.]])
    """
    pieces = _checks.integer("maxout", "pieces", pieces, 1)
    axis = _checks.integer("maxout", "axis", axis)

    def candidates(x: Array) -> list[Array]:
        """Views of the first of all neighbours, of the second, ..."""
        before = (slice(None),) * (axis % x.ndim)
        return [x[(*before, slice(first, None, pieces))] for first in range(pieces)]

    def forward(x: Array) -> Any:
        out = candidates(x)[0].copy(order="K")
        for candidate in candidates(x)[1:]:
            np.maximum(out, candidate, out=out)
        return out

    def pullback(x: Array, dout: Array) -> Any:
        largest, dx = forward(x), np.empty_like(x)
        undecided = np.ones(dout.shape, np.bool_)
        for candidate, dcandidate in zip(candidates(x), candidates(dx), strict=True):
            wins = undecided & ((candidate == largest) | (candidate != candidate))
            np.multiply(dout, wins, out=dcandidate)
            undecided &= ~wins
        return dx

    return _along_axis(Spec(maxout, (pieces,), {"axis": axis}), forward, pullback, "x", axis, pieces)
