"""Activations with parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks
from funcnn._kernels import channels, elementwise as kernels
from funcnn.checks import Flag, Number, Shapes, declared
from funcnn.initializers import constant
from funcnn.types import Cache, Key, Params, Preserving, Shape

__all__ = ["prelu"]

_LARGEST = float(np.finfo(np.float32).max)  # as parameters start in float32


@declared(per_channel=Flag(), initial_slope=Number(minimum=-_LARGEST, maximum=_LARGEST))
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
    start, least_rank = constant(initial_slope), 2 if per_channel else 1
    shapes: Shapes = {"slope": (None,) if per_channel else (1,)}

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = checks.any_shape(shape, least_rank)
        count = checked[channels.channel_axis(len(checked))] if per_channel else 1
        return checked, {"slope": start(checks.key(key), (count,))}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, shapes)
        slope = params["slope"]
        checks.any_ranked(x, least_rank)
        if per_channel:
            checks.sized(x, channels.channel_axis(x.ndim), slope.size, "channels")
        checks.same_dtype(x, slope, params=params)
        return kernels.prelu(x, channels.spread(slope, x.ndim)), {"x": x, "slope": slope}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        x, slope = cache["x"], cache["slope"]
        checks.gradient(dout, x.shape, x.dtype)
        dx, dslope = kernels.prelu_gradients(x, channels.spread(slope, x.ndim), dout)
        return {"slope": dslope}, dx

    return Preserving(init, apply, vjp)
