"""Regularisation: layers that disturb the input in training, and are the identity without a key."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from funcnn import random
from funcnn._kernels.channels import channel_axis
from funcnn._kernels.elementwise import dropped
from funcnn.checks import Flag, Number, declared
from funcnn.parameterless import parameterless
from funcnn.types import Array, Cache, Key, Preserving, Shape

__all__ = ["alpha_dropout", "drop_path", "dropout", "gaussian_noise", "spatial_dropout"]

_RATE = Number(minimum=0, below=1)
_FLOOR = -1.7580993408473766  # scale times alpha of `selu`


@declared(rate=_RATE)
def dropout(rate: float) -> Preserving:
    """Drop elements at random in training, and scale up the others.

    Parameters
    ----------
    rate : float
        The fraction that is dropped: at least 0, below 1.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For a rate out of range, or an input that is not float32 or float64.

    Notes
    -----
    Forward with a key: ``y = m x / (1 - rate)``, where ``m`` is 0 with probability `rate`, else 1,
    independently for each element. Pullback: ``dx = m dy / (1 - rate)``. Without a key ``y = x``.
    What is dropped may hold anything: 0 comes of infinity and NaN, too (NaN in PyTorch).

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import dropout, random
    >>> x = np.ones((2, 4))
    >>> dropout(0.5).apply({}, x, key=random.key(0))[0]
    array([[0., 0., 2., 2.],
           [0., 2., 0., 2.]])
    >>> dropout(0.5).apply({}, x)[0] is x
    True
    """
    return _dropping(rate, lambda shape: shape)


@declared(rate=_RATE, channels=Flag())
def alpha_dropout(rate: float, *, channels: bool = False) -> Preserving:
    """Drop elements at random in training to the floor of `selu`; mean and variance stay.

    Parameters
    ----------
    rate : float
        The fraction that is dropped: at least 0, below 1.
    channels : bool, default False
        Whether whole channels are dropped, as by `spatial_dropout`.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For a rate out of range, or an input that is not float32 or float64.

    Notes
    -----
    Forward with a key: ``y = a (m x + (1 - m) f) + b``, where ``m`` is 0 with probability `rate`,
    else 1, ``f = -1.7581`` is what `selu` gives for minus infinity, and
    ``a = 1 / sqrt((1 - rate) (1 + rate f^2))`` and ``b = -a rate f`` bring mean and variance back to
    0 and 1. Pullback: ``dx = a m dy``. Without a key ``y = x``. What is dropped may hold anything.

    References
    ----------
    G. Klambauer et al., "Self-normalizing neural networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import alpha_dropout, random
    >>> x = random.normal(random.key(1), (100, 100))
    >>> out, _ = alpha_dropout(0.2).apply({}, x, key=random.key(0))
    >>> print(f"{abs(out.mean()):.1f} {out.std():.1f}")
    0.0 1.0
    """
    scale = 1 / math.sqrt((1 - rate) * (1 + rate * _FLOOR**2))
    if channels:
        return _dropping(rate, _channels, min_rank=3, scale=scale, floor=_FLOOR)
    return _dropping(rate, lambda shape: shape, scale=scale, floor=_FLOOR)


@declared(rate=_RATE)
def spatial_dropout(rate: float) -> Preserving:
    """Drop whole channels at random in training, and scale up the others.

    Parameters
    ----------
    rate : float
        The fraction that is dropped: at least 0, below 1.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For a rate out of range, or an input that has fewer than 3 axes or is not float32 or float64.

    Notes
    -----
    As `dropout`, with one draw for each channel of each example: channels are axis 1 of images and
    volumes, and the last axis of sequences ``(N, T, F)``. Neighbouring pixels say nearly the same:
    one of them alone is not missed.

    References
    ----------
    J. Tompson et al., "Efficient object localization using convolutional networks", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random, spatial_dropout
    >>> out, _ = spatial_dropout(0.5).apply({}, np.ones((1, 6, 2, 2)), key=random.key(0))
    >>> out[0, :, 0, 0], bool((out == out[:, :, :1, :1]).all())
    (array([0., 0., 2., 2., 0., 2.]), True)
    """
    return _dropping(rate, _channels, min_rank=3)


@declared(rate=_RATE)
def drop_path(rate: float) -> Preserving:
    """Drop whole examples at random in training, and scale up the others: stochastic depth.

    Parameters
    ----------
    rate : float
        The fraction that is dropped: at least 0, below 1.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For a rate out of range, or an input that is not float32 or float64.

    Notes
    -----
    As `dropout`, with one draw for each example. As the last layer of a `residual` it skips the
    block for some examples, and the survivors are scaled as in the later literature, so that
    nothing changes without a key.

    References
    ----------
    G. Huang et al., "Deep networks with stochastic depth", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import drop_path, random
    >>> drop_path(0.5).apply({}, np.ones((4, 2)), key=random.key(0))[0]
    array([[0., 0.],
           [0., 0.],
           [2., 2.],
           [2., 2.]])
    """

    def mask_shape(shape: Shape) -> Shape:
        return (shape[0], *(1 for _ in shape[1:]))

    return _dropping(rate, mask_shape)


def _channels(shape: Shape) -> Shape:
    """One draw for each channel of each example."""
    axis = channel_axis(len(shape))
    return (shape[0], *(n if place == axis else 1 for place, n in enumerate(shape) if place))


def _dropping(
    rate: float,
    mask_shape: Callable[[Shape], Shape],
    min_rank: int = 1,
    scale: float | None = None,
    floor: float = 0.0,
) -> Preserving:
    """Drop by a mask that broadcasts against the input, to a floor, around which the mean stays."""
    scale = 1 / (1 - rate) if scale is None else scale
    shift = -scale * rate * floor

    def training(x: Array, key: Key) -> tuple[Array, Cache]:
        drawn = random.bernoulli(key, 1 - rate, mask_shape(x.shape))
        mask = np.empty_like(x, np.bool_, shape=drawn.shape)  # in the same order of memory
        mask[...] = drawn
        return dropped(x, mask, scale, shift, scale * floor + shift), {"mask": mask}

    return parameterless(
        Preserving,
        lambda x: (x, {"mask": None}),
        lambda kept, dout: dout if kept["mask"] is None else dropped(dout, kept["mask"], scale),
        min_rank=min_rank,
        training=training if rate else None,
        traits=frozenset({"stochastic"} if rate else ()),
    )


@declared(std=Number(minimum=0, maximum=1e37))
def gaussian_noise(std: float) -> Preserving:
    """Add normal noise in training.

    Parameters
    ----------
    std : float
        Standard deviation of the noise, at least 0.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For a negative `std`, or an input that is not float32 or float64.

    Notes
    -----
    Forward with a key: ``y = x + std z`` with ``z`` normal; without one ``y = x``. Pullback:
    ``dx = dy``.

    References
    ----------
    C. Bishop, "Training with noise is equivalent to Tikhonov regularization", 1995.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import gaussian_noise, random
    >>> out, _ = gaussian_noise(0.1).apply({}, np.ones((100, 100)), key=random.key(0))
    >>> print(f"{out.mean():.2f} {out.std():.2f}")
    1.00 0.10
    """

    def training(x: Array, key: Key) -> tuple[Array, Cache]:
        return x + random.normal(key, x.shape, std=std, dtype=np.dtype(x.dtype)), {}

    return parameterless(
        Preserving,
        lambda x: (x, {}),
        lambda kept, dout: dout,
        training=training if std else None,
        traits=frozenset({"stochastic"} if std else ()),
    )
