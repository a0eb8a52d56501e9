"""Smooth activations, element by element.

Each is a function and its slope, both right for all numbers and infinity: no formula cancels or
overflows. A new one is an entry here, and a case and its exact function in the tests.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn._kernels import elementwise as kernels
from funcnn._kernels.elementwise import (
    choose,
    finite,
    gated,
    negative,
    positive,
    sigmoid_slope,
    with_tail,
)
from funcnn.checks import Choice, Number, declared
from funcnn.parameterless import elementwise
from funcnn.types import Array, Preserving

__all__ = [
    "celu",
    "elu",
    "gelu",
    "log_sigmoid",
    "mish",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
    "tanh_shrink",
]


@declared()
def sigmoid() -> Preserving:
    """Logistic function.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    return elementwise(kernels.sigmoid, sigmoid_slope, twin=("sigmoid",))


@declared()
def log_sigmoid() -> Preserving:
    """Logarithm of the logistic function.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    return elementwise(
        lambda x: -numerics.softplus(-x),
        lambda x: numerics.sigmoid(-x),
        twin=("softplus", 1.0, 1.0, -1.0),
    )


@declared()
def tanh() -> Preserving:
    """Hyperbolic tangent.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    return elementwise(numerics.tanh, numerics.tanh_slope, twin=("tanh",))


@declared()
def tanh_shrink() -> Preserving:
    """Input less its hyperbolic tangent.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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

    def value(x: Array) -> Any:
        near = x.clip(-1, 1)
        c, square = np.zeros_like(near), near * near
        for k in range(21, 1, -2):
            c = square / (k + c)
        return choose(np.abs(x) < 1, near * c / (1 + c), x - numerics.tanh(x), x.dtype)

    def slope(x: Array) -> Any:
        t = numerics.tanh(x)
        return t * t

    return elementwise(value, slope, twin=("tanh_shrink",))


@declared()
def softsign() -> Preserving:
    """Input divided by one more than its size.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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

    def slope(x: Array) -> Any:
        r = 1 / (1 + np.abs(x))
        return r * r

    return elementwise(lambda x: finite(x) / (1 + np.abs(finite(x))), slope)


@declared(beta=Number(above=0))
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

    inverse = min(1 / beta, sys.float_info.max)

    def value(x: Array) -> Any:
        u = -np.abs(beta * x)
        return positive(x) + with_tail(np.asarray(numerics.softplus(u) / beta), u, inverse)

    return elementwise(
        value,
        lambda x: numerics.sigmoid(beta * x),
        beta,
        twin=("softplus", beta, inverse, 1.0),
    )


@declared(alpha=Number(held=True))
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
        For an option that is not a finite number, or an input that is not float32 or float64.

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
    return elementwise(
        lambda x: positive(x) + alpha * numerics.expm1(negative(x)),
        lambda x: with_tail(choose(x > 0, 1, alpha * numerics.exp(negative(x)), x.dtype), x, alpha),
        alpha,
        dead=not alpha,
        twin=("elu", 1.0, alpha, 1.0, alpha) if alpha else (),
    )


@declared(alpha=Number(above=0))
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

    def value(x: Array) -> Any:
        low = negative(x)
        ratio = low / alpha
        out = np.asarray(alpha * numerics.expm1(ratio))
        if alpha > 1:  # a small ratio has lost digits, or vanished, where `x` has not
            np.copyto(out, low, where=ratio > -np.finfo(x.dtype).eps)
        return out + positive(x)

    return elementwise(
        value,
        lambda x: numerics.exp(negative(x) / alpha),
        alpha,
        twin=("elu", 1.0, alpha, alpha, 1.0),
    )


@declared()
def selu() -> Preserving:
    """Scaled exponential linear unit: activations drift towards mean 0 and variance 1.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    scale, low = 1.0507009873554804934193349852946, 1.7580993408473768599402175208123  # l, l a
    return elementwise(
        lambda x: scale * positive(x) + low * numerics.expm1(negative(x)),
        lambda x: with_tail(choose(x > 0, scale, low * numerics.exp(negative(x)), x.dtype), x, low),
        twin=("elu", scale, low, 1.0, low),
    )


@declared(approximate=Choice("none", "tanh"))
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
    if approximate == "tanh":
        return elementwise(kernels.gelu_tanh, kernels.gelu_tanh_slope, twin=("gelu_tanh",))
    return elementwise(kernels.gelu, kernels.gelu_slope, twin=("gelu",))


@declared()
def silu() -> Preserving:
    """Sigmoid linear unit, also called swish.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    return elementwise(kernels.silu, kernels.silu_slope, twin=("silu",))


@declared()
def mish() -> Preserving:
    """Input times the hyperbolic tangent of its softplus.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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

    def slope(x: Array) -> Any:
        u, near = numerics.softplus(x), finite(x)
        d = numerics.tanh(u) + near * numerics.tanh_slope(u) * numerics.sigmoid(x)
        return with_tail(d, x, 1 + near)

    def value(x: Array) -> Any:
        return with_tail(gated(x, numerics.tanh(numerics.softplus(x))), x, finite(x))

    return elementwise(value, slope, twin=("mish",))
