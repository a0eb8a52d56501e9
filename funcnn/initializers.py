"""How parameters begin: values that draw an array of a given shape from a key.

An `Initializer` is data: it can be pickled, compared and printed, and any layer takes any of them.

Examples
--------
>>> from funcnn import initializers, random
>>> start = initializers.he_normal()
>>> start
he_normal()
>>> start(random.key(0), (64, 32, 3, 3)).shape
(64, 32, 3, 3)

Notes
-----
Fans follow the layout of the weights, ``(out, in, *kernel)``:
``fan_in = in * prod(kernel)`` and ``fan_out = out * prod(kernel)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from funcnn import checks, random
from funcnn.types import Array, Key

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "Initializer",
    "constant",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]


class Initializer(NamedTuple):
    """A way to begin: call it with a key and a shape.

    Parameters
    ----------
    draw : callable
        ``(key, shape, dtype, *options) -> array``: a function at the top of a module, so that the
        initializer can be pickled.
    options : tuple
        What `draw` takes beyond key, shape and dtype.
    shown : str
        How it prints: the call that made it.
    min_rank : int
        How many axes a shape must have at least.

    Examples
    --------
    >>> from funcnn import random
    >>> he_normal()(random.key(0), (3, 2)).dtype
    dtype('float32')
    >>> he_normal() == he_normal(), he_normal() == he_uniform()
    (True, False)
    """

    draw: Callable[..., Array]
    options: tuple[Any, ...] = ()
    shown: str = ""
    min_rank: int = 0

    def __call__(self, key: Key, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> Array:
        """Draw an array, or nothing but its shape.

        Parameters
        ----------
        key : Key
            Where the randomness comes from. From `funcnn.random.NO_DRAW` come zeros that take no
            memory.
        shape : tuple of int
            The shape of the result; of weights, ``(out, in, *kernel)``.
        dtype : dtype
            float32 or float64.

        Returns
        -------
        array
            Of `shape` and `dtype`.

        Raises
        ------
        TypeError
            If an argument is of the wrong kind.
        ValueError
            If `shape` has too few axes to have fans, or `draw` gives something else than asked for.

        Examples
        --------
        >>> from funcnn import random
        >>> ones()(random.key(0), (3,))
        array([1., 1., 1.], dtype=float32)
        """
        try:
            return self._drawn(key, shape, dtype)
        except checks.Refusal as refusal:
            raise refusal.by(repr(self).partition("(")[0])

    def _drawn(self, key: Key, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        shape, kind = checks.sizes(shape), checks.float_dtype(dtype)
        if len(shape) < self.min_rank:
            checks.refuse(
                f"`shape` must have at least {self.min_rank} axes (out, in, ...), got {shape}"
            )
        if checks.key(key) == random.NO_DRAW:
            return random.uniform(key, shape, dtype=kind)
        drawn = checks.array(self.draw(key, shape, kind, *self.options), "draw(...)")
        if drawn.shape != shape or drawn.dtype != kind:
            wanted, got = f"{kind} of shape {shape}", f"{drawn.dtype} of shape {drawn.shape}"
            checks.refuse(f"`draw(...)` must be {wanted}, got {got}")
        return drawn

    def __repr__(self) -> str:
        return self.shown or f"{self.draw.__name__}({', '.join(map(repr, self.options))})"


INITIALIZER = checks.Instance(Initializer, "an Initializer")
"""What a constructor declares of an option that takes an initializer."""

BIAS_INIT = checks.When(INITIALIZER, "bias", True)
"""What it declares of `bias_init`."""


def initializer(who: str, name: str, value: object) -> Initializer:
    """An initializer, and not the function that makes one."""
    try:
        found: Initializer = INITIALIZER.check(name, value)
    except checks.Refusal as refusal:
        raise refusal.by(who)
    return found


# --- one value, or one distribution, whatever the shape -------------------------------------------


@checks.named
def zeros() -> Initializer:
    """Begin with 0 everywhere.

    Returns
    -------
    Initializer
        For an array of any shape.

    Examples
    --------
    >>> from funcnn import random
    >>> zeros()(random.key(0), (2,))
    array([0., 0.], dtype=float32)
    """
    return Initializer(_constant, (0.0,), "zeros()")


@checks.named
def ones() -> Initializer:
    """Begin with 1 everywhere.

    Returns
    -------
    Initializer
        For an array of any shape.

    Examples
    --------
    >>> from funcnn import random
    >>> ones()(random.key(0), (2,))
    array([1., 1.], dtype=float32)
    """
    return Initializer(_constant, (1.0,), "ones()")


@checks.named
def constant(value: float) -> Initializer:
    """Begin with one number everywhere.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    Initializer
        For an array of any shape.

    Raises
    ------
    TypeError
        If `value` is no number.
    ValueError
        If `value` is not finite.

    Examples
    --------
    >>> from funcnn import random
    >>> constant(0.5)(random.key(0), (2,))
    array([0.5, 0.5], dtype=float32)
    """
    number = checks.Number().check("value", value)
    return Initializer(_constant, (number,), f"constant({number!r})")


@checks.named
def normal(std: float = 0.01) -> Initializer:
    """Begin with normal numbers around 0.

    Parameters
    ----------
    std : float
        Their standard deviation.

    Returns
    -------
    Initializer
        For an array of any shape.

    Raises
    ------
    TypeError
        If `std` is no number.
    ValueError
        If `std` is not above 0.

    Examples
    --------
    >>> from funcnn import random
    >>> print(f"{normal(0.02)(random.key(0), (10_000,)).std():.3f}")
    0.020
    """
    number = checks.Number(above=0.0).check("std", std)
    return Initializer(_normal, (number,), f"normal({number!r})")


@checks.named
def truncated_normal(std: float = 0.01) -> Initializer:
    """Begin with normal numbers around 0, none further out than two standard deviations.

    Parameters
    ----------
    std : float
        The standard deviation before the numbers further out are left out; afterwards, it is 0.8796
        times that.

    Returns
    -------
    Initializer
        For an array of any shape.

    Raises
    ------
    TypeError
        If `std` is no number.
    ValueError
        If `std` is not above 0.

    Examples
    --------
    >>> from funcnn import random
    >>> bool(abs(truncated_normal(0.5)(random.key(0), (1000,))).max() <= 1.0)
    True
    """
    number = checks.Number(above=0.0).check("std", std)
    return Initializer(_truncated_normal, (number,), f"truncated_normal({number!r})")


@checks.named
def uniform(scale: float = 0.01) -> Initializer:
    """Begin with numbers between ``-scale`` and ``scale``, all equally likely.

    Parameters
    ----------
    scale : float
        The bound.

    Returns
    -------
    Initializer
        For an array of any shape.

    Raises
    ------
    TypeError
        If `scale` is no number.
    ValueError
        If `scale` is not above 0.

    Examples
    --------
    >>> from funcnn import random
    >>> bool(abs(uniform(0.5)(random.key(0), (1000,))).max() <= 0.5)
    True
    """
    number = checks.Number(above=0.0).check("scale", scale)
    return Initializer(_uniform, (number,), f"uniform({number!r})")


# --- a variance that suits the fans ---------------------------------------------------------------


Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["normal", "truncated_normal", "uniform"]


@checks.named
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
    number = checks.Number(above=0.0).check("scale", scale)
    checks.Choice(*get_args(Mode)).check("mode", mode)
    checks.Choice(*get_args(Distribution)).check("distribution", distribution)
    shown = f"variance_scaling({number!r}, {mode!r}, {distribution!r})"
    return Initializer(_variance_scaling, (number, mode, distribution), shown, 2)


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


@checks.named
def orthogonal(gain: float = 1.0) -> Initializer:
    """Begin with a random orthogonal matrix: it neither stretches nor shrinks what it turns.

    Parameters
    ----------
    gain : float
        A factor on the matrix.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``, read as a matrix ``(out, in * prod(kernel))``.

    Raises
    ------
    TypeError
        If `gain` is no number.
    ValueError
        If `gain` is not above 0.

    Notes
    -----
    The shorter axis of the matrix holds orthonormal vectors, times `gain`: ``W W' = gain**2 I`` for
    a wide one, ``W' W = gain**2 I`` for a tall one. Every such matrix is equally likely. They are
    normal numbers made orthonormal in float64 by the modified Gram-Schmidt process, with sums in an
    order of its own: the same bits everywhere, for some ``n**2 * m`` operations, where ``n <= m``
    are the axes (512 by 512 takes a fraction of a second).

    References
    ----------
    A. M. Saxe, J. L. McClelland, S. Ganguli (2014). Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random
    >>> weight = orthogonal()(random.key(0), (3, 5), np.float64)
    >>> bool(np.allclose(weight @ weight.T, np.eye(3)))
    True
    """
    number = checks.Number(above=0.0).check("gain", gain)
    return Initializer(_orthogonal, (number,), f"orthogonal({number!r})", 2)


# --- the draws themselves, at the top of the module so that they can be pickled -------------------


def _constant(_key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], value: float) -> Array:
    return np.full(shape, _within(value, "value", dtype), dtype)


def _within(value: float, name: str, dtype: np.dtype[Any]) -> Any:
    """A number that the dtype can hold."""
    limit = float(np.finfo(dtype).max)
    return dtype.type(checks.Number(-limit, maximum=limit).check(name, value))


def _normal(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], std: float) -> Array:
    return random.normal(key, shape, 0.0, std, dtype)


def _truncated_normal(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], std: float) -> Array:
    out = random.truncated_normal(key, shape, -2.0, 2.0, dtype)
    out *= _within(std, "std", dtype)
    return out


def _uniform(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], scale: float) -> Array:
    return random.uniform(key, shape, -scale, scale, dtype)


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
    if distribution == "uniform":
        return _uniform(key, shape, dtype, math.sqrt(3.0) * std)
    if distribution == "truncated_normal":
        return _truncated_normal(key, shape, dtype, std / _TRUNCATED_STD)
    return _normal(key, shape, dtype, std)


def _orthogonal(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], gain: float) -> Array:
    rows, columns = shape[0], math.prod(shape[1:])
    vectors = random.normal(key, (min(rows, columns), max(rows, columns)), dtype=np.float64)
    for index, vector in enumerate(vectors):
        vector /= np.sqrt(_sum_last(vector * vector))
        rest = vectors[index + 1 :]
        rest -= _sum_last(rest * vector)[:, None] * vector
    matrix = vectors if rows <= columns else vectors.T
    scaled: Array = float(_within(gain, "gain", dtype)) * matrix
    return scaled.astype(dtype, order="C").reshape(shape)


def _sum_last(x: Array) -> Array:
    """The sums along the last axis, by folding it in halves: in the same order everywhere."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        folded: Array = x[..., :half] + x[..., half : 2 * half]
        if x.shape[-1] % 2:
            folded[..., 0] += x[..., -1]
        x = folded
    return x[..., 0]
