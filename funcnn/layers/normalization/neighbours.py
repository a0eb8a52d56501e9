"""Normalisation over neighbouring channels."""

from __future__ import annotations

from math import sqrt
from typing import Any

from funcnn import numerics
from funcnn._kernels import normalization as kernels
from funcnn._kernels.channels import channel_axis
from funcnn._kernels.elementwise import finite
from funcnn.checks import Integer, Number, declared
from funcnn.parameterless import parameterless
from funcnn.types import Array, Cache, Preserving

__all__ = ["local_response_norm"]


@declared(
    size=Integer(1),
    alpha=Number(minimum=0, held=True),
    beta=Number(minimum=-100, maximum=100),
    k=Number(above=0, held=True),
)
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
        The power, from -100 to 100.
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
    whose neighbour one is. What is computed and kept is ``r = sqrt(d)``, a length, which does not
    overflow where the squares of large elements would.

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
    before, after, weight = size // 2, (size - 1) // 2, alpha / size
    falls = beta > 0  # then r^(-2 beta) may vanish where `y` does not: one r belongs to `x`

    def forward(x: Array) -> tuple[Any, Cache]:
        r = kernels.window_roots(x, sqrt(weight), sqrt(k), before, after, channel_axis(x.ndim))
        gain = finite(numerics.power(r, falls - 2 * beta))
        return (x / r if falls else x) * gain, {"x": x, "r": r, "gain": gain}

    def pullback(cache: Cache, dout: Any) -> Any:
        x, r, gain = cache["x"], cache["r"], cache["gain"]
        factor = finite(gain / r) if falls else gain
        axis, root = channel_axis(x.ndim), sqrt(weight)
        slope = dout * (x / r * x.dtype.type(2 * beta * root)) * factor
        return dout * factor - kernels.window_shares(slope, x, r, root, before, after, axis)

    return parameterless(Preserving, forward, pullback, min_rank=2)
