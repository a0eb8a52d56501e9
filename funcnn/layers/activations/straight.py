"""Activations of straight lines, element by element.

Each is a function and its slope, both right for all numbers and infinity: no formula cancels or
overflows. A new one is an entry here, and a case and its exact function in the tests.
"""

from __future__ import annotations

import math

import numpy as np

from funcnn import checks, random
from funcnn._kernels import elementwise as kernels
from funcnn._kernels.elementwise import Twin, choose, is_positive, positive
from funcnn.checks import Number, declared
from funcnn.parameterless import elementwise, parameterless
from funcnn.types import Array, Cache, Key, Preserving

__all__ = [
    "hard_shrink",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "relu",
    "relu6",
    "rrelu",
    "soft_shrink",
    "threshold",
]

_SLOPE = Number(above=0, held=True)


@declared("monotone")
def relu() -> Preserving:
    """Rectified linear unit, elementwise.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    return elementwise(positive, is_positive, from_output=True, twin=("relu",))


@declared("monotone")
def relu6() -> Preserving:
    """Rectified linear unit that saturates at 6.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    return elementwise(
        lambda x: x.clip(0, 6),
        lambda y: (y > 0) & (y < 6),
        from_output=True,
        twin=_lines(0, 6, (0, 0), (1, 0), (0, 6)),
    )


@declared(negative_slope=Number(held=True))
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
        For an option that is not a finite number, or an input that is not float32 or float64.

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
    return elementwise(
        lambda x: kernels.leaky_relu(x, negative_slope),
        lambda x: kernels.leaky_relu_slope(x, negative_slope),
        negative_slope,
        dead=not negative_slope,
        twin=_lines(0, math.inf, (negative_slope, 0), (1, 0), (1, 0)),
    )


@declared("stochastic", lower=_SLOPE, upper=_SLOPE)
def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Preserving:
    """Rectified linear unit with a random slope for negative inputs.

    Parameters
    ----------
    lower, upper : float, default 1/8 and 1/3
        Between which each slope is drawn in training, all equally likely; above 0.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an option that is not above 0, a lower one above the upper one, or an input that is not
        float32 or float64.

    Notes
    -----
    Forward: ``y = x`` where ``x > 0``, else ``a x``, with a slope ``a`` of its own for each element in
    training, and with ``a = (lower + upper) / 2`` without a key. Pullback: ``dx = dy`` where ``x > 0``,
    else ``a dy``.

    References
    ----------
    B. Xu, N. Wang, T. Chen and M. Li, "Empirical evaluation of rectified activations in convolutional
    network", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random, rrelu
    >>> x = np.array([-1.0, -1.0, 2.0])
    >>> rrelu(0.1, 0.3).apply({}, x)[0]
    array([-0.2, -0.2,  2. ])
    >>> rrelu(0.1, 0.3).apply({}, x, key=random.key(0))[0].round(2)
    array([-0.29, -0.18,  2.  ])
    """
    if lower > upper:
        checks.refuse(f"`lower` must be at most `upper`, got {lower} above {upper}")
    middle = lower + (upper - lower) / 2

    def inference(x: Array) -> tuple[Array, Cache]:
        return kernels.leaky_relu(x, middle), {"slope": kernels.leaky_relu_slope(x, middle)}

    def training(x: Array, key: Key) -> tuple[Array, Cache]:
        slope = np.where(x > 0, 1, random.uniform(key, x.shape, lower, upper, x.dtype))
        slope = slope.astype(x.dtype, copy=False)
        return x * slope, {"slope": slope}

    return parameterless(
        Preserving, inference, lambda kept, dout: kept["slope"] * dout, training=training
    )


@declared("monotone", minimum=Number(held=True), maximum=Number(held=True))
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
        For bounds that are not finite numbers in order, or an input that is not float32 or
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
    if not maximum > minimum:
        checks.refuse(f"`maximum` must be above {minimum}, got {maximum}")
    return elementwise(
        lambda x: x.clip(minimum, maximum),
        lambda y: (y > minimum) & (y < maximum),  # of the input, too
        minimum,
        maximum,
        from_output=not checks.beyond({"limits": (minimum, maximum)}, np.float32),
        twin=_lines(minimum, maximum, (0, minimum), (1, 0), (0, maximum)),
    )


@declared()
def hard_sigmoid() -> Preserving:
    """Sigmoid of three straight lines.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    return elementwise(
        lambda x: (x + 3).clip(0, 6) / 6,
        lambda x: (np.abs(x) < 3) * x.dtype.type(1 / 6),
        dead=True,
        twin=_lines(-3, 3, (0, 0), (1 / 6, 3), (0, 1)),
    )


@declared()
def hard_swish() -> Preserving:
    """Input times its `hard_sigmoid`.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

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
    return elementwise(kernels.hard_swish, kernels.hard_swish_slope, dead=True, twin=("hard_swish",))


@declared(threshold=Number(), value=Number(held=True))
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
        For an option that is not a finite number, or an input that is not float32 or float64.

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
    return elementwise(
        lambda x: choose(x > threshold, x.clip(threshold, np.inf), value, x.dtype),
        lambda x: x > threshold,
        threshold,
        value,
        twin=_lines(threshold, math.inf, (0, value), (1, 0), (1, 0)),
    )


@declared(threshold=Number(minimum=0))
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
    return elementwise(
        lambda x: x - x.clip(-threshold, threshold),
        lambda x: ~(np.abs(x) <= threshold),
        threshold,
        twin=_shrinking(threshold, threshold),
    )


@declared(threshold=Number(minimum=0))
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
    return elementwise(
        lambda x: x * (np.abs(x) > threshold),
        lambda x: ~(np.abs(x) <= threshold),
        threshold,
        twin=_shrinking(threshold, 0),
    )


def _lines(low: float, high: float, *pieces: tuple[float, float]) -> Twin:
    """Lines ``(x + shift) factor``, or of factor 0 the shift: up to `low`, between, from `high` on."""
    return ("lines", float(low), float(high), *(float(one) for piece in pieces for one in piece))


def _shrinking(threshold: float, shift: float) -> Twin:
    """Lines beyond the threshold, both ways."""
    with np.errstate(over="ignore"):  # of a threshold for float64 alone, they are for nobody
        beyond = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
    return _lines(-beyond, beyond, (1, shift), (0, 0), (1, -shift))
