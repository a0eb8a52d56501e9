"""Regularisation: layers that disturb the input in training, and are the identity without a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import _checks, random
from funcnn._kernels.broadcasting import stretched
from funcnn._kernels.channels import channel_axis
from funcnn.types import Array, Cache, Key, Params, Preserving, Shape, Spec, Trait

__all__ = ["drop_path", "dropout", "gaussian_noise", "spatial_dropout"]


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
    return _dropping(Spec(dropout, (rate,)), 1, lambda shape: shape)


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

    def mask_shape(shape: Shape) -> Shape:
        axis = channel_axis(len(shape))
        return (shape[0], *(n if place == axis else 1 for place, n in enumerate(shape) if place))

    return _dropping(Spec(spatial_dropout, (rate,)), 3, mask_shape)


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

    return _dropping(Spec(drop_path, (rate,)), 1, mask_shape)


def _dropping(spec: Spec, min_rank: int, mask_shape: Callable[[Shape], Shape]) -> Preserving:
    """Drop by a mask that broadcasts against the input."""
    who = spec.kind
    rate = _checks.number(who, "rate", *spec.args, minimum=0, below=1)
    scale = 1 / (1 - rate)
    spec = spec._replace(traits=_traits(rate))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return _checks.any_shape(who, shape, min_rank), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves(who, params, {})
        shape = _checks.any_ranked(who, x, min_rank).shape
        cache: dict[str, Any] = {"shape": shape, "dtype": x.dtype, "mask": None}
        if key is None or rate == 0:
            return x, cache
        mask = random.bernoulli(_checks.key(who, key), 1 - rate, mask_shape(shape))
        return dropped(x, mask), {**cache, "mask": mask}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        _checks.gradient(who, dout, cache["shape"], cache["dtype"])
        return {}, dout if cache["mask"] is None else dropped(dout, cache["mask"])

    def dropped(x: Array, mask: Array) -> Array:
        """``x`` times ``mask / (1 - rate)``, its own linear pullback."""
        return np.asarray(x * stretched(mask * x.dtype.type(scale), x))

    return Preserving(init, apply, vjp, spec)


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
    std = _checks.number("gaussian_noise", "std", std, minimum=0)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return _checks.any_shape("gaussian_noise", shape), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("gaussian_noise", params, {})
        shape = _checks.any_ranked("gaussian_noise", x).shape
        cache = {"shape": shape, "dtype": x.dtype}
        if key is None or std == 0:
            return x, cache
        key = _checks.key("gaussian_noise", key)
        return x + random.normal(key, shape, std=std, dtype=np.dtype(x.dtype)), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        _checks.gradient("gaussian_noise", dout, cache["shape"], cache["dtype"])
        return {}, dout

    return Preserving(init, apply, vjp, Spec(gaussian_noise, (std,), traits=_traits(std)))


def _traits(amount: float) -> frozenset[Trait]:
    """What dropping, or noise, makes of a layer: where there is none, nothing is drawn."""
    return frozenset({"stochastic"}) if amount else frozenset()
