"""A variance that suits the fans."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np

from funcnn import checks
from funcnn.initializers.core import Initializer
from funcnn.initializers.distributions import normal_numbers, truncated_normal_numbers, uniform_numbers
from funcnn.types import Array, Key

__all__ = [
    "gain",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "variance_scaling",
]

Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["normal", "truncated_normal", "uniform"]


@checks.takes(
    scale=checks.Number(above=0.0), mode=checks.Choice(*get_args(Mode)),
    distribution=checks.Choice(*get_args(Distribution)),
)  # fmt: skip
def variance_scaling(scale: float, mode: Mode, distribution: Distribution) -> Initializer:
    """Begin with random numbers of variance ``scale / fan``.

    Parameters
    ----------
    scale : float
        The variance times the fan.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Which fan: that of the inputs, of the outputs, or the mean of both.
    distribution : {"normal", "truncated_normal", "uniform"}
        Which distribution around 0. The truncated one leaves out what is further out than two
        standard deviations of the normal one it begins with.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``.

    Raises
    ------
    TypeError
        If `scale` is no number.
    ValueError
        If `scale` is not above 0, or `mode` or `distribution` is none of the words.

    Notes
    -----
    ``fan_in = in * prod(kernel)``, ``fan_out = out * prod(kernel)``. All three distributions have
    the same variance. The uniform one ends at ``sqrt(3 * scale / fan)``: PyTorch's own beginning for
    dense layers and convolutions is ``variance_scaling(1 / 3, "fan_in", "uniform")``.

    Examples
    --------
    >>> from funcnn import random
    >>> weight = variance_scaling(2.0, "fan_in", "uniform")(random.key(0), (100, 200))
    >>> print(f"{weight.var():.3f}")
    0.010
    """
    shown = f"variance_scaling({scale!r}, {mode!r}, {distribution!r})"
    return Initializer(_variance_scaling, (scale, mode, distribution), shown, 2)


@checks.named
def he_normal() -> Initializer:
    """Begin with normal numbers of variance ``2 / fan_in``, for layers before a `relu`.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``.

    Notes
    -----
    Half of the variance dies in the `relu`; hence the 2.
    Not truncated, as in PyTorch and in the paper; Keras and JAX leave out what is further out than
    two standard deviations: ``variance_scaling(2.0, "fan_in", "truncated_normal")``.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun (2015). Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification. ICCV.

    Examples
    --------
    >>> from funcnn import random
    >>> weight = he_normal()(random.key(0), (100, 300))
    >>> print(f"{weight.var():.4f}")
    0.0067
    """
    return Initializer(_variance_scaling, (2.0, "fan_in", "normal"), "he_normal()", 2)


@checks.named
def he_uniform() -> Initializer:
    """Begin with uniform numbers of variance ``2 / fan_in``, for layers before a `relu`.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``.

    Notes
    -----
    They lie between ``-sqrt(6 / fan_in)`` and ``sqrt(6 / fan_in)``.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun (2015). Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification. ICCV.

    Examples
    --------
    >>> from funcnn import random
    >>> weight = he_uniform()(random.key(0), (100, 300))
    >>> print(f"{weight.var():.4f}")
    0.0067
    """
    return Initializer(_variance_scaling, (2.0, "fan_in", "uniform"), "he_uniform()", 2)


@checks.named
def glorot_normal() -> Initializer:
    """Begin with normal numbers of variance ``2 / (fan_in + fan_out)``.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``.

    Notes
    -----
    A compromise between keeping the variance forward and backward. Also called Xavier.
    Not truncated, as in PyTorch and in the paper; Keras and JAX leave out what is further out than
    two standard deviations: ``variance_scaling(1.0, "fan_avg", "truncated_normal")``.

    References
    ----------
    X. Glorot, Y. Bengio (2010). Understanding the difficulty of training deep feedforward neural
    networks. AISTATS.

    Examples
    --------
    >>> from funcnn import random
    >>> weight = glorot_normal()(random.key(0), (100, 300))
    >>> print(f"{weight.var():.4f}")
    0.0050
    """
    return Initializer(_variance_scaling, (1.0, "fan_avg", "normal"), "glorot_normal()", 2)


@checks.named
def glorot_uniform() -> Initializer:
    """Begin with uniform numbers of variance ``2 / (fan_in + fan_out)``.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``.

    Notes
    -----
    They lie between ``-sqrt(6 / (fan_in + fan_out))`` and its opposite. Also called Xavier.

    References
    ----------
    X. Glorot, Y. Bengio (2010). Understanding the difficulty of training deep feedforward neural
    networks. AISTATS.

    Examples
    --------
    >>> from funcnn import random
    >>> weight = glorot_uniform()(random.key(0), (100, 300))
    >>> print(f"{weight.var():.4f}")
    0.0050
    """
    return Initializer(_variance_scaling, (1.0, "fan_avg", "uniform"), "glorot_uniform()", 2)


@checks.named
def lecun_normal() -> Initializer:
    """Begin with normal numbers of variance ``1 / fan_in``.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``.

    Notes
    -----
    They keep the variance of what passes; `selu` wants them.
    Not truncated, as in PyTorch and in the paper; Keras and JAX leave out what is further out than
    two standard deviations: ``variance_scaling(1.0, "fan_in", "truncated_normal")``.

    References
    ----------
    Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller (1998). Efficient BackProp. In: Neural Networks:
    Tricks of the Trade.

    Examples
    --------
    >>> from funcnn import random
    >>> weight = lecun_normal()(random.key(0), (100, 300))
    >>> print(f"{weight.var():.4f}")
    0.0033
    """
    return Initializer(_variance_scaling, (1.0, "fan_in", "normal"), "lecun_normal()", 2)


@checks.named
def lecun_uniform() -> Initializer:
    """Begin with uniform numbers of variance ``1 / fan_in``.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``.

    Notes
    -----
    They lie between ``-sqrt(3 / fan_in)`` and ``sqrt(3 / fan_in)``.

    References
    ----------
    Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller (1998). Efficient BackProp. In: Neural Networks:
    Tricks of the Trade.

    Examples
    --------
    >>> from funcnn import random
    >>> weight = lecun_uniform()(random.key(0), (100, 300))
    >>> print(f"{weight.var():.4f}")
    0.0033
    """
    return Initializer(_variance_scaling, (1.0, "fan_in", "uniform"), "lecun_uniform()", 2)


_TRUNCATED_STD = 0.87962566103423978  # of a standard normal number, given that it is within -2..2


def _variance_scaling(
    key: Key,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    scale: float,
    mode: Mode,
    distribution: Distribution,
) -> Array:
    taps = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * taps, shape[0] * taps
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    std = math.sqrt(scale / max(fan, 1))  # weights without entries have no fan
    if std > float(np.finfo(dtype).max) / 16:  # normal numbers are at most a few times as large
        checks.refuse_beyond({"scale": scale}, dtype)
    if distribution == "uniform":
        return uniform_numbers(key, shape, dtype, math.sqrt(3.0) * std)
    if distribution == "truncated_normal":
        return truncated_normal_numbers(key, shape, dtype, std / _TRUNCATED_STD)
    return normal_numbers(key, shape, dtype, std)


Nonlinearity = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]


@checks.takes(
    nonlinearity=checks.Choice(*get_args(Nonlinearity)), slope=checks.Number(-1e100, maximum=1e+100),
)  # fmt: skip
def gain(nonlinearity: Nonlinearity, slope: float = 0.01) -> float:
    """By which factor weights before a nonlinearity are larger than before none.

    Parameters
    ----------
    nonlinearity : {"linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"}
        What follows the layer.
    slope : float, default 0.01
        The slope of a `leaky_relu` below 0.

    Returns
    -------
    float
        To be squared and given as the scale of `variance_scaling`, or as the gain of `orthogonal`.

    Raises
    ------
    TypeError, ValueError
        If `nonlinearity` is none of the words, or `slope` no finite number.

    Notes
    -----
    1 for "linear" and "sigmoid", 5 / 3 for "tanh", ``sqrt(2)`` for "relu",
    ``sqrt(2 / (1 + slope**2))`` for "leaky_relu" and 3 / 4 for "selu", as
    `torch.nn.init.calculate_gain`.

    Examples
    --------
    >>> round(gain("relu"), 6)
    1.414214
    >>> variance_scaling(gain("tanh") ** 2, "fan_avg", "uniform")
    variance_scaling(2.777777777777778, 'fan_avg', 'uniform')
    """
    fixed = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + slope * slope))
    return fixed.get(nonlinearity, 1.0)
