"""Normalisation within each example: over axes, or over groups of channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks
from funcnn._kernels import normalization as kernels
from funcnn._kernels.channels import channel_axis, other_axes
from funcnn.checks import Flag, Integer, Number, Whatever, When, declared
from funcnn.initializers import ones, zeros
from funcnn.layers.normalization.batches import normalized
from funcnn.types import Cache, Key, Params, Preserving, Shape, Spec, Trait

__all__ = ["group_norm", "instance_norm", "layer_norm", "rms_norm"]

_STARTS = {"scale": ones(), "bias": zeros()}
_EPSILON = Number(minimum=0)


@declared(axes=Whatever(), epsilon=_EPSILON, affine=Flag(), bias=When(Flag(), "affine", True))
def layer_norm(
    axes: int | tuple[int, ...] = -1, *, epsilon: float = 1e-5, affine: bool = True, bias: bool = True
) -> Preserving:
    """Mean 0 and variance 1 for every example over some axes, then a learned scale and bias.

    Parameters
    ----------
    axes : int or tuple of int, default -1
        What is normalised together: features by default, ``(-3, -2, -1)`` for a whole image, 1 for
        the channels at each of its places. Not the batch axis.
    epsilon : float, default 1e-5
        Added to the variance, at least 0.
    affine : bool, default True
        Whether a scale and a bias are learned, for each element along the axes.
    bias : bool, default True
        Whether a bias belongs to the scale.

    Returns
    -------
    Layer
        With params ``{"scale": sizes, "bias": sizes}``, of the sizes of the axes in their order;
        the shape stays.

    Raises
    ------
    ValueError, TypeError
        For axes that the input does not have, other sizes or another dtype than the parameters', or an
        option out of range.

    Notes
    -----
    Forward: ``y = scale z + bias`` with ``z = (x - mean(x)) r``, ``r = 1 / sqrt(var(x) + epsilon)``.
    Pullback: ``dscale = sum(dy z)``, ``dbias = sum(dy)`` over all other axes; with
    ``dz = scale dy``, ``dx = r (dz - mean(dz) - z mean(dz z))``. Where variance and epsilon are both 0,
    ``r`` counts as 0: what is constant has value and slope 0. So it is in all normalisations.

    References
    ----------
    J. Ba, J. Kiros and G. Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import layer_norm
    >>> layer_norm(affine=False).apply({}, np.array([[1.0, 3.0], [0.0, 10.0]]))[0].round(3)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    names = ("scale", "bias")[: 1 + bias] if affine else ()
    return _over_axes(axes, epsilon, names, centred=True)


@declared(axes=Whatever(), epsilon=_EPSILON, affine=Flag())
def rms_norm(
    axes: int | tuple[int, ...] = -1, *, epsilon: float = 1e-6, affine: bool = True
) -> Preserving:
    """Root mean square 1 for every example over some axes, then a learned scale.

    Parameters
    ----------
    axes : int or tuple of int, default -1
        What is normalised together; not the batch axis.
    epsilon : float, default 1e-6
        Added to the mean square, at least 0. PyTorch's default is the epsilon of the dtype.
    affine : bool, default True
        Whether a scale is learned, for each element along the axes.

    Returns
    -------
    Layer
        With params ``{"scale": sizes}``, of the sizes of the axes in their order; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For axes that the input does not have, other sizes or another dtype than the parameters', or an
        option out of range.

    Notes
    -----
    Forward: ``y = scale z`` with ``z = x r``, ``r = 1 / sqrt(mean(x^2) + epsilon)``. Pullback:
    ``dscale = sum(dy z)`` over all other axes; with ``dz = scale dy``,
    ``dx = r (dz - z mean(dz z))``.

    References
    ----------
    B. Zhang and R. Sennrich, "Root mean square layer normalization", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import rms_norm
    >>> rms_norm(affine=False).apply({}, np.array([[1.0, 7.0]]))[0].round(3)
    array([[0.2, 1.4]])
    """
    return _over_axes(axes, epsilon, ("scale",) if affine else (), centred=False)


@declared(groups=Integer(1), epsilon=_EPSILON, affine=Flag(), bias=When(Flag(), "affine", True))
def group_norm(
    groups: int, *, epsilon: float = 1e-5, affine: bool = True, bias: bool = True
) -> Preserving:
    """Mean 0 and variance 1 for every example in each group of channels, then scale and bias.

    Parameters
    ----------
    groups : int
        How many groups of neighbouring channels there are; a divisor of their number.
    epsilon : float, default 1e-5
        Added to the variance, at least 0.
    affine : bool, default True
        Whether a scale and a bias are learned for each channel.
    bias : bool, default True
        Whether a bias belongs to the scale.

    Returns
    -------
    Layer
        With params ``{"scale": (C,), "bias": (C,)}``; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For channels that the groups do not divide, an input without the channels and the dtype
        of the parameters, or an option out of range.

    Notes
    -----
    Channels are axis 1 of ``(N, F)``, images and volumes, and the last axis of sequences
    ``(N, T, F)``. Forward and pullback: as `layer_norm`, over all places of a group of channels,
    with one scale and bias for each channel.

    References
    ----------
    Y. Wu and K. He, "Group normalization", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import group_norm
    >>> group_norm(2, affine=False).apply({}, np.array([[1.0, 3.0, 0.0, 9.0]]))[0].round(3)
    array([[-1.,  1., -1.,  1.]])
    """
    return _over_groups(groups, epsilon, affine * (1 + bias))


@declared(
    momentum=When(Number(minimum=0, maximum=1), "track_running", True),
    epsilon=_EPSILON,
    affine=Flag(),
    bias=When(Flag(), "affine", True),
    track_running=Flag(),
)
def instance_norm(
    *,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    affine: bool = False,
    bias: bool = True,
    track_running: bool = False,
) -> Preserving:
    """Mean 0 and variance 1 for every channel of every example.

    Parameters
    ----------
    momentum : float, default 0.1
        The weight of the new statistics in the running ones.
    epsilon : float, default 1e-5
        Added to the variance, at least 0.
    affine : bool, default False
        Whether a scale and a bias are learned for each channel; not by default, as in PyTorch.
    bias : bool, default True
        Whether a bias belongs to the scale.
    track_running : bool, default False
        Whether there are running statistics, the means of those of the examples, which take their
        place in inference; they are carried on as those of `batch_norm`, and, where the batch is
        cut into shards, of the whole batch, too.

    Returns
    -------
    Layer
        With params ``{"scale": (C,), "bias": (C,), "running_mean": (C,), "running_var": (C,)}``,
        fewer as the options say; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an input with one value per channel, of other channels or another dtype than the
        parameters', or an option out of range.

    Notes
    -----
    Channels are axis 1 of images and volumes, and the last axis of sequences ``(N, T, F)``. Forward
    and pullback: as `group_norm` with as many groups as channels.

    References
    ----------
    D. Ulyanov, A. Vedaldi and V. Lempitsky, "Instance normalization: the missing ingredient for fast
    stylization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import instance_norm
    >>> x = np.array([[[1.0, 0.0], [3.0, 8.0]]])  # two time steps of two channels
    >>> instance_norm().apply({}, x)[0].round(3)
    array([[[-1., -1.],
            [ 1.,  1.]]])
    """
    learned = affine * (1 + bias)
    if not track_running:
        return _over_groups(None, epsilon, learned)
    made = normalized(learned, True, momentum, epsilon, _own_axes)
    shards: set[Trait] = {"couples_batch", "meets_shards"}
    return made._replace(spec=Spec(traits=made.spec.traits | shards))


def _own_axes(rank: int) -> tuple[int, ...]:
    """Those of an example, without its channels."""
    axes = other_axes(rank)[1:]
    if not axes:
        checks.refuse(f"`x` must have axes beside its batch and its channels, got {rank} axes")
    return axes


class _Layout(NamedTuple):
    """How an input is seen while it is normalised.

    view : the shape that it is brought to
    axes : those of the view over which it is averaged
    along : the axes of the input along which parameters lie
    beside : the shape that parameters are brought to, which broadcasts against the view
    """

    view: Shape
    axes: tuple[int, ...]
    along: tuple[int, ...]
    beside: Shape


def _over_axes(
    axes: int | tuple[int, ...], epsilon: float, names: tuple[str, ...], *, centred: bool
) -> Preserving:
    """Normalise axes of the input, with parameters along the same axes."""
    given = axes if isinstance(axes, tuple) else (axes,)
    if not given:
        checks.refuse("`axes` must name at least one axis, got ()")
    for axis in given:
        Integer().check("axes", axis)

    @lru_cache(maxsize=64)
    def layout(shape: Shape) -> _Layout:
        for axis in given:
            checks.feature_axis(axis, len(shape))
        places = tuple(sorted({axis % len(shape) for axis in given}))
        if len(places) < len(given):
            checks.refuse(f"`axes` must be different axes of the shape {shape}, got {axes}")
        return _Layout(shape, places, places, _only(shape, places))

    return _within_examples(layout, epsilon, names, len(given), centred=centred)


def _over_groups(groups: int | None, epsilon: float, learned: int) -> Preserving:
    """Normalise groups of channels, each one by itself if `groups` is None."""

    @lru_cache(maxsize=64)
    def layout(shape: Shape) -> _Layout:
        place = channel_axis(len(shape))
        channels = shape[place]
        count = channels if groups is None else groups
        if channels % count:
            checks.refuse(f"`x` must have a multiple of {count} channels, got shape {shape}")
        split = (*shape[:place], count, channels // count, *shape[place + 1 :])
        axes = tuple(axis for axis in range(1, len(split)) if axis != place)
        if all(split[axis] == 1 for axis in axes):
            checks.refuse(f"`x` must have more than one value per group, got shape {shape}")
        return _Layout(split, axes, (place,), _only(split, (place, place + 1)))

    return _within_examples(layout, epsilon, ("scale", "bias")[:learned], 1, centred=True)


def _only(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """A shape that broadcasts: of size 1 but along these axes."""
    return tuple(n if axis in axes else 1 for axis, n in enumerate(shape))


def _within_examples(
    layout: Callable[[Shape], _Layout],
    epsilon: float,
    names: tuple[str, ...],
    rank: int,
    *,
    centred: bool,
) -> Preserving:
    """Normalise a view of the input, as `layout` says for its shape; parameters have this rank."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = checks.any_shape(shape, 2)
        sizes = tuple(checked[axis] for axis in layout(checked).along)
        checks.key(key)
        return checked, {name: _STARTS[name](key, sizes) for name in names}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, dict.fromkeys(names, (None,) * rank))
        view, axes, along, beside = layout(checks.any_ranked(x, 2).shape)
        for leaf in params.values():
            for axis, size in zip(along, leaf.shape, strict=True):
                checks.sized(x, axis, size, f"elements along axis {axis}")
            checks.same_dtype(x, leaf, params=params)
        leaves = {name: leaf.reshape(beside) for name, leaf in params.items()}
        (offset, rstd, _, _, shrink), out = kernels.normalized(
            x.reshape(view), axes, epsilon, leaves.get("scale"), leaves.get("bias"), centred
        )
        factor = leaves.get("scale", np.ones((1,) * len(view), x.dtype))
        cache = {"offset": offset, "rstd": rstd, "scale": factor, "shrink": shrink, "shape": x.shape}
        return out.reshape(x.shape), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        offset, rstd, scale, shrink = (cache[k] for k in ("offset", "rstd", "scale", "shrink"))
        checks.gradient(dout, cache["shape"], offset.dtype)
        view, axes, along, _ = layout(dout.shape)
        dx, dscale, dbias = kernels.centre_gradients(
            dout.reshape(view), offset, rstd, scale, shrink, axes, centred
        )
        slopes, sizes = {"scale": dscale, "bias": dbias}, [dout.shape[axis] for axis in along]
        return {name: slopes[name].reshape(sizes) for name in names}, dx.reshape(dout.shape)

    return Preserving(init, apply, vjp)
