"""Normalisation: over the batch, within each example, and over neighbouring channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcnn import _checks, numerics
from funcnn._kernels import normalization as kernels
from funcnn._kernels.channels import channel_axis, other_axes, spread
from funcnn.initializers import ones, zeros
from funcnn.types import Array, Cache, Key, Params, Preserving, Shape, Spec, Trait

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "rms_norm",
]

_ONES = ones()
_ZEROS = zeros()


# --- over the batch -------------------------------------------------------------------------------


def batch_norm(
    *,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    affine: bool = True,
    track_running: bool = True,
) -> Preserving:
    """Mean 0 and variance 1 for every channel over the batch, then a learned scale and bias.

    Parameters
    ----------
    momentum : float, default 0.1
        The weight of the new statistics in the running ones, as in PyTorch.
    epsilon : float, default 1e-5
        Added to the variance, at least 0.
    affine : bool, default True
        Whether scale and bias are learned.
    track_running : bool, default True
        Whether there are running statistics. Without them, inference uses those of the batch, too.

    Returns
    -------
    Layer
        With params ``{"scale": (C,), "bias": (C,), "running_mean": (C,), "running_var": (C,)}``,
        fewer as the options say; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an option out of range, an input that has not the channels and the dtype of the
        parameters, or, in training, a batch with fewer than two values per channel.

    Notes
    -----
    Channels are axis 1 of ``(N, F)``, images and volumes, and the last axis of sequences
    ``(N, T, F)``.

    With a key (training), over all other axes: ``y = scale z + bias`` with
    ``z = (x - mean(x)) r``, ``r = 1 / sqrt(var(x) + epsilon)``. New running statistics,
    ``running = (1 - momentum) running + momentum batch`` with the unbiased variance of the batch,
    come out as ``cache["running"]``: `funcnn.combinators.statistics` collects them, and
    ``tree.replace(params, ...)`` carries them on. Without a key, the running ones take the place
    of the batch's, and are constants.

    Pullback: ``dscale = sum(dy z)``, ``dbias = sum(dy)``, zeros for the running statistics; with
    ``dz = scale dy``, ``dx = r (dz - mean(dz) - z mean(dz z))`` in training, else ``dx = r dz``.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import batch_norm, random
    >>> layer, x = batch_norm(), np.array([[1.0], [3.0]], np.float32)
    >>> params = layer.init(random.key(0), x.shape)[1]
    >>> out, cache = layer.apply(params, x, key=random.key(1))
    >>> out.ravel().round(3), cache["running"]["running_mean"]
    (array([-1.,  1.], dtype=float32), array([0.2], dtype=float32))
    """
    momentum = _checks.number("batch_norm", "momentum", momentum, minimum=0, maximum=1)
    epsilon = _checks.number("batch_norm", "epsilon", epsilon, minimum=0)
    affine = _checks.boolean("batch_norm", "affine", affine)
    track_running = _checks.boolean("batch_norm", "track_running", track_running)
    starts = {"scale": _ONES, "bias": _ZEROS} if affine else {}
    starts |= {"running_mean": _ZEROS, "running_var": _ONES} if track_running else {}
    leaf_shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(starts, (None,))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = _checks.any_shape("batch_norm", shape, 2)
        channels = (checked[channel_axis(len(checked))],)
        _checks.key("batch_norm", key)
        return checked, {name: start(key, channels) for name, start in starts.items()}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("batch_norm", params, leaf_shapes)
        rank, axis = _checks.any_ranked("batch_norm", x, 2).ndim, channel_axis(x.ndim)
        for leaf in params.values():
            _checks.sized("batch_norm", x, axis, leaf.size, "channels")
            _checks.same_dtype("batch_norm", x, leaf)
        if key is not None:
            _checks.key("batch_norm", key)
            if x.size < 2 * x.shape[axis]:
                _checks.refuse(
                    "batch_norm",
                    f"`x` must have at least 2 values per channel in training, got shape {x.shape}",
                )
        scale = spread(params["scale"], rank) if affine else np.ones((1,) * rank, x.dtype)
        if track_running and key is None:
            mean, variance = (spread(params[name], rank) for name in ("running_mean", "running_var"))
            rstd = numerics.rsqrt(variance + epsilon)
            out = x * (scale * rstd)
            out += (spread(params["bias"], rank) if affine else 0) - mean * (scale * rstd)
            return out, {"x": x, "mean": mean, "rstd": rstd, "scale": scale}
        offset, rstd, mean, variance = kernels.centre(x, other_axes(rank), epsilon)
        cache: dict[str, Any] = {"offset": offset, "rstd": rstd, "scale": scale}
        if track_running:
            count = x.size // mean.size
            new = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
            cache["running"] = {name: moved(params[name], new[name]) for name in new}
        weights = (scale, spread(params["bias"], rank)) if affine else (None, None)
        return kernels.scaled(offset, rstd, *weights), cache

    def moved(old: Array, new: Array) -> Array:
        """A running statistic that has taken a step towards the batch's."""
        return np.asarray((1 - momentum) * old + momentum * new.reshape(-1))

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        rstd, scale = cache["rstd"], cache["scale"]
        x = cache["x" if "x" in cache else "offset"]
        _checks.gradient("batch_norm", dout, x.shape, x.dtype)
        if "x" in cache:  # the statistics were constants
            dscale, dbias = kernels.scale_gradients(dout, cache["x"] - cache["mean"], scale)
            dscale, dx = dscale * rstd, dout * (scale * rstd)
        else:
            offset, axes = cache["offset"], other_axes(dout.ndim)
            dx, dscale, dbias = kernels.centre_gradients(dout, offset, rstd, scale, axes)
        dparams = {"scale": dscale.reshape(-1), "bias": dbias.reshape(-1)} if affine else {}
        for name in starts.keys() - dparams.keys():
            dparams[name] = np.zeros(rstd.size, rstd.dtype)
        return dparams, dx

    options = {"momentum": momentum, "epsilon": epsilon, "affine": affine}
    options["track_running"] = track_running
    traits: tuple[Trait, ...] = ("couples_batch", "statistics") if track_running else ("couples_batch",)
    return Preserving(init, apply, vjp, Spec(batch_norm, options=options, traits=frozenset(traits)))


# --- within each example --------------------------------------------------------------------------


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
        For axes that the input has not, other sizes or another dtype than the parameters', or an
        option out of range.

    Notes
    -----
    Forward: ``y = scale z + bias`` with ``z = (x - mean(x)) r``, ``r = 1 / sqrt(var(x) + epsilon)``.
    Pullback: ``dscale = sum(dy z)``, ``dbias = sum(dy)`` over all other axes; with
    ``dz = scale dy``, ``dx = r (dz - mean(dz) - z mean(dz z))``.

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
    spec = Spec(layer_norm, options={"axes": axes, "epsilon": epsilon, "affine": affine, "bias": bias})
    affine = _checks.boolean("layer_norm", "affine", affine)
    bias = _checks.boolean("layer_norm", "bias", bias)
    return _over_axes(spec, axes, epsilon, scale=affine, bias=affine and bias, centred=True)


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
        For axes that the input has not, other sizes or another dtype than the parameters', or an
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
    spec = Spec(rms_norm, options={"axes": axes, "epsilon": epsilon, "affine": affine})
    affine = _checks.boolean("rms_norm", "affine", affine)
    return _over_axes(spec, axes, epsilon, scale=affine, bias=False, centred=False)


def group_norm(groups: int, *, epsilon: float = 1e-5, affine: bool = True) -> Preserving:
    """Mean 0 and variance 1 for every example in each group of channels, then scale and bias.

    Parameters
    ----------
    groups : int
        How many groups of neighbouring channels there are; a divisor of their number.
    epsilon : float, default 1e-5
        Added to the variance, at least 0.
    affine : bool, default True
        Whether a scale and a bias are learned for each channel.

    Returns
    -------
    Layer
        With params ``{"scale": (C,), "bias": (C,)}``; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For channels that the groups do not divide, an input that has not the channels and the dtype
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
    groups = _checks.integer("group_norm", "groups", groups, 1)
    spec = Spec(group_norm, (groups,), {"epsilon": epsilon, "affine": affine})
    return _over_groups(spec, groups, epsilon, affine)


def instance_norm(*, epsilon: float = 1e-5, affine: bool = False) -> Preserving:
    """Mean 0 and variance 1 for every channel of every example.

    Parameters
    ----------
    epsilon : float, default 1e-5
        Added to the variance, at least 0.
    affine : bool, default False
        Whether a scale and a bias are learned for each channel; not by default, as in PyTorch.

    Returns
    -------
    Layer
        With params ``{"scale": (C,), "bias": (C,)}``, or none; the shape stays.

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
    return _over_groups(
        Spec(instance_norm, options={"epsilon": epsilon, "affine": affine}), None, epsilon, affine
    )


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
    spec: Spec, axes: int | tuple[int, ...], epsilon: float, *, scale: bool, bias: bool, centred: bool
) -> Preserving:
    """Normalise axes of the input, with parameters along the same axes."""
    who = spec.kind
    given = axes if isinstance(axes, tuple) else (axes,)
    if not given:
        _checks.refuse(who, "`axes` must name at least one axis, got ()")
    for axis in given:
        _checks.integer(who, "axes", axis)

    def layout(shape: Shape) -> _Layout:
        for axis in given:
            _checks.feature_axis(who, axis, len(shape))
        places = tuple(sorted({axis % len(shape) for axis in given}))
        if len(places) < len(given):
            _checks.refuse(who, f"`axes` must be different axes of the shape {shape}, got {axes}")
        return _Layout(shape, places, places, _only(shape, places))

    return _within_examples(spec, layout, epsilon, scale=scale, bias=bias, centred=centred)


def _over_groups(spec: Spec, groups: int | None, epsilon: float, affine: bool) -> Preserving:
    """Normalise groups of channels, each one by itself if `groups` is None."""
    who = spec.kind
    affine = _checks.boolean(who, "affine", affine)

    def layout(shape: Shape) -> _Layout:
        place = channel_axis(len(shape))
        channels = shape[place]
        count = channels if groups is None else groups
        if channels % count:
            _checks.refuse(who, f"`x` must have a multiple of {count} channels, got shape {shape}")
        split = (*shape[:place], count, channels // count, *shape[place + 1 :])
        axes = tuple(axis for axis in range(1, len(split)) if axis != place)
        if all(split[axis] == 1 for axis in axes):
            _checks.refuse(who, f"`x` must have more than one value per group, got shape {shape}")
        return _Layout(split, axes, (place,), _only(split, (place, place + 1)))

    return _within_examples(spec, layout, epsilon, scale=affine, bias=affine, centred=True)


def _only(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """A shape that broadcasts: of size 1 but along these axes."""
    return tuple(n if axis in axes else 1 for axis, n in enumerate(shape))


def _within_examples(
    spec: Spec,
    layout: Callable[[Shape], _Layout],
    epsilon: float,
    *,
    scale: bool,
    bias: bool,
    centred: bool,
) -> Preserving:
    """Normalise a view of the input, as `layout` says for its shape."""
    who = spec.kind
    epsilon = _checks.number(who, "epsilon", epsilon, minimum=0)
    starts = ({"scale": _ONES} if scale else {}) | ({"bias": _ZEROS} if bias else {})

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = _checks.any_shape(who, shape, 2)
        sizes = tuple(checked[axis] for axis in layout(checked).along)
        _checks.key(who, key)
        return checked, {name: start(key, sizes) for name, start in starts.items()}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        view, axes, along, beside = layout(_checks.any_ranked(who, x, 2).shape)
        _checks.leaves(who, params, dict.fromkeys(starts, (None,) * len(along)))
        for leaf in params.values():
            for axis, size in zip(along, leaf.shape, strict=True):
                _checks.sized(who, x, axis, size, f"elements along axis {axis}")
            _checks.same_dtype(who, x, leaf)
        offset, rstd, _, _ = kernels.centre(x.reshape(view), axes, epsilon, centred)
        leaves = {name: leaf.reshape(beside) for name, leaf in params.items()}
        out = kernels.scaled(offset, rstd, leaves.get("scale"), leaves.get("bias"))
        factor = leaves.get("scale", np.ones((1,) * len(view), x.dtype))
        cache = {"offset": offset, "rstd": rstd, "scale": factor, "shape": x.shape}
        return out.reshape(x.shape), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        _checks.gradient(who, dout, cache["shape"], cache["offset"].dtype)
        view, axes, along, _ = layout(dout.shape)
        dx, dscale, dbias = kernels.centre_gradients(
            dout.reshape(view), cache["offset"], cache["rstd"], cache["scale"], axes, centred
        )
        slopes, sizes = {"scale": dscale, "bias": dbias}, [dout.shape[axis] for axis in along]
        return {name: slopes[name].reshape(sizes) for name in starts}, dx.reshape(dout.shape)

    return Preserving(init, apply, vjp, spec)


# --- over neighbouring channels -------------------------------------------------------------------


def local_response_norm(
    size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Preserving:
    """Divide every element by a power of the mean square of its neighbours in other channels.

    Parameters
    ----------
    size : int
        How many channels count as neighbours; of an even number, one more before than after.
    alpha : float, default 1e-4
        Weight of the neighbours.
    beta : float, default 0.75
        The power.
    k : float, default 1
        What is added, above 0.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an option out of range, or an input that is not float32 or float64 with channels.

    Notes
    -----
    Channels are axis 1 of ``(N, F)``, images and volumes, and the last axis of sequences
    ``(N, T, F)``. Forward: ``y = x d^-beta`` with ``d = k + alpha / size S(x^2)``, where ``S`` sums
    over the neighbours; dividing by `size` follows PyTorch, not the paper. Pullback:
    ``dx = dy d^-beta - 2 alpha beta / size x S'(dy x d^(-beta - 1))`` with ``S'`` the sum over those
    whose neighbour one is.

    References
    ----------
    A. Krizhevsky, I. Sutskever and G. Hinton, "ImageNet classification with deep convolutional
    neural networks", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import local_response_norm
    >>> local_response_norm(3, alpha=3.0, beta=1.0).apply({}, np.array([[1.0, 1.0, 2.0]]))[0].round(3)
    array([[0.333, 0.143, 0.333]])
    """
    size = _checks.integer("local_response_norm", "size", size, 1)
    alpha = _checks.number("local_response_norm", "alpha", alpha, minimum=0)
    beta = _checks.number("local_response_norm", "beta", beta)
    k = _checks.number("local_response_norm", "k", k, above=0)
    before, after, weight = size // 2, (size - 1) // 2, alpha / size

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return _checks.any_shape("local_response_norm", shape, 2), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        _checks.leaves("local_response_norm", params, {})
        axis = channel_axis(_checks.any_ranked("local_response_norm", x, 2).ndim)
        d = k + weight * kernels.window_sums(x * x, before, after, axis)
        factor = numerics.power(d, -beta)
        return x * factor, {"x": x, "d": d, "factor": factor}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        x, d, factor = cache["x"], cache["d"], cache["factor"]
        _checks.gradient("local_response_norm", dout, x.shape, x.dtype)
        scaled = dout * factor  # after and before change places: the sums go the other way
        sums = kernels.window_sums(scaled * x / d, after, before, channel_axis(x.ndim))
        return {}, scaled - (2 * weight * beta) * x * sums

    options = {"alpha": alpha, "beta": beta, "k": k}
    return Preserving(init, apply, vjp, Spec(local_response_norm, (size,), options))
