"""Normalisation with running statistics: over the batch, and what other families do with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import checks
from funcnn._kernels import normalization as kernels
from funcnn._kernels.channels import channel_axis, other_axes, spread
from funcnn.checks import Flag, Number, Shapes, When, declared
from funcnn.initializers import ones, zeros
from funcnn.machine import lockstep
from funcnn.types import Array, Cache, Key, Params, Preserving, Shape, Spec, Trait

__all__ = ["batch_norm"]

_STARTS = {"scale": ones(), "bias": zeros(), "running_mean": zeros(), "running_var": ones()}


@declared(
    "couples_batch",
    "meets_shards",
    momentum=When(Number(minimum=0, maximum=1), "track_running", True),
    epsilon=Number(minimum=0),
    affine=Flag(),
    bias=When(Flag(), "affine", True),
    track_running=Flag(),
)
def batch_norm(
    *,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    affine: bool = True,
    bias: bool = True,
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
    bias : bool, default True
        Whether a bias belongs to the scale.
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
        For an option out of range, an input without the channels and the dtype of the
        parameters, or, in training, a batch with fewer than two values per channel.

    Notes
    -----
    Channels are axis 1 of ``(N, F)``, images and volumes, and the last axis of sequences
    ``(N, T, F)``.

    With a key (training), over all other axes: ``y = scale z + bias`` with
    ``z = (x - mean(x)) r``, ``r = 1 / sqrt(var(x) + epsilon)``. New running statistics,
    ``running = (1 - momentum) running + momentum batch`` with the unbiased variance of the batch,
    come out as ``statistics(cache)``, of this layer and of every network that has it inside:
    ``tree.replace(params, ...)`` carries them on. Without a key, the running ones take the place
    of the batch's, and are constants. Where the batch is cut into shards, the statistics are still
    those of the batch: sums over the shards, in their order.

    In float32 the variance of numbers of 1e20 is beyond the largest number: outputs and gradients
    are right, but its running value is infinite, and `funcnn.train_step` keeps the last finite ones.

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
    >>> out.ravel().round(3), layer.statistics(cache)["running_mean"]
    (array([-1.,  1.], dtype=float32), array([0.2], dtype=float32))
    """
    return normalized(affine * (1 + bias), track_running, momentum, epsilon, other_axes)


def normalized(
    learned: int,
    track_running: bool,
    momentum: float,
    epsilon: float,
    axes_of: Callable[[int], tuple[int, ...]],
) -> Preserving:
    """Mean 0 and variance 1 over some axes; without that of the batch, for each example by itself.

    Learned is a scale, a scale and a bias, or nothing. Running statistics are for each channel.
    """
    names = ["scale", "bias"][:learned] + ["running_mean", "running_var"] * track_running
    shapes: Shapes = dict.fromkeys(names, (None,))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = checks.any_shape(shape, 2)
        axes_of(len(checked))  # which may refuse it
        channels = (checked[channel_axis(len(checked))],)
        checks.key(key)
        return checked, {name: _STARTS[name](key, channels) for name in names}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, shapes)
        rank, axis = checks.any_ranked(x, 2).ndim, channel_axis(x.ndim)
        for leaf in params.values():
            checks.sized(x, axis, leaf.size, "channels")
            checks.same_dtype(x, leaf)
        axes = axes_of(rank)
        shard = lockstep.current() if axes[0] == 0 else None
        if key is not None:
            checks.key(key)
            count = _counted(x, axes, shard)
        leaves = {name: spread(leaf, rank) for name, leaf in params.items()}
        scale = leaves["scale"] if learned else np.ones((1,) * rank, x.dtype)
        cache: dict[str, Any] = {"scale": scale}
        if track_running and key is None:
            mean, rstd = leaves["running_mean"], kernels.inverse_root(leaves["running_var"], epsilon)
            out, offset = kernels.standardized(x, mean, rstd, cache["scale"], leaves.get("bias"))
            return out, {**cache, "offset": offset, "rstd": rstd, "constant": True}  # statistics
        (offset, rstd, mean, variance, shrink), out = kernels.normalized(
            x, axes, epsilon, leaves.get("scale"), leaves.get("bias"), shard=shard
        )
        if track_running:
            new = {"running_mean": mean, "running_var": variance * (count / (count - 1))}
            if axes[0]:  # each example has its own: what counts is their mean
                whole = lockstep.current()
                new = {name: kernels.mean_over(own, (0,), whole) for name, own in new.items()}
            cache |= {name: _moved(params[name], new[name], momentum) for name in new}
        return out, {**cache, "offset": offset, "rstd": rstd, "shrink": shrink}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        offset, rstd, scale = cache["offset"], cache["rstd"], cache["scale"]
        checks.gradient(dout, offset.shape, offset.dtype)
        if "constant" in cache:
            dscale, dbias = kernels.scale_gradients(dout, offset, scale)
            dscale, dx = dscale * rstd, dout * (scale * rstd)
        else:
            axes = axes_of(dout.ndim)
            shard = lockstep.current() if axes[0] == 0 else None
            dx, dscale, dbias = kernels.centre_gradients(
                dout, offset, rstd, scale, cache["shrink"], axes, shard=shard
            )
        zero = np.zeros(dout.shape[channel_axis(dout.ndim)], rstd.dtype)
        slopes = {"scale": dscale.reshape(-1), "bias": dbias.reshape(-1)}
        return {name: slopes.get(name, zero) for name in names}, dx

    traits: tuple[Trait, ...] = ("statistics",) if track_running else ()
    return Preserving(init, apply, vjp, Spec(traits=frozenset(traits)), statistics=_running)


def _running(cache: Cache) -> Params:
    return {name: cache[name] for name in ("running_mean", "running_var") if name in cache}


def _counted(x: Array, axes: tuple[int, ...], shard: lockstep.Shard | None) -> int:
    """How many values each mean is of, which must have a variance."""
    count = kernels.count_of(x, axes, shard)
    if count < 2 or (axes[0] and not x.size):
        text = "`x` must have at least 2 values per channel in training"
        checks.refuse(f"{text}, got shape {x.shape}")
    return count


def _moved(old: Array, new: Array, momentum: float) -> Array:
    """A running statistic that has taken a step towards the batch's."""
    return np.asarray((1 - momentum) * old + momentum * new.reshape(-1))
