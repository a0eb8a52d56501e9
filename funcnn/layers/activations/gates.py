"""Activations of several neighbours along an axis, which make one output."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from funcnn import checks
from funcnn._kernels import elementwise as kernels
from funcnn._kernels.elementwise import chosen
from funcnn.checks import Integer, declared
from funcnn.parameterless import parameterless
from funcnn.types import Array, Cache, Preserving, Shape

__all__ = ["glu", "maxout", "swiglu"]


@declared(axis=Integer())
def glu(axis: int = -1) -> Preserving:
    """Gated linear unit: the first half of an axis, gated by the second.

    Parameters
    ----------
    axis : int, default -1
        The axis that is halved; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the axis has half the size.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input does not have or whose size is odd, or an input that is not
        float32 or float64.

    Notes
    -----
    Forward: ``y = a s`` with ``s = sigmoid(b)`` for the halves ``a, b`` of ``x``. Pullback:
    ``da = dy s``, ``db = dy a s (1 - s)``.

    References
    ----------
    Y. Dauphin et al., "Language modeling with gated convolutional networks", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import glu
    >>> glu().apply({}, np.array([[2.0, 3.0, 0.0, 0.0]]))[0]
    array([[1. , 1.5]])
    """

    return parameterless(
        Preserving,
        lambda x: (kernels.glu(x, axis), {"x": x}),
        lambda kept, dout: kernels.glu_gradient(kept["x"], dout, axis),
        partial(_divided, axis=axis, pieces=2),
    )


@declared(axis=Integer())
def swiglu(axis: int = -1) -> Preserving:
    """Gated unit of transformers: the second half of an axis, times the `silu` of the first.

    Parameters
    ----------
    axis : int, default -1
        The axis that is halved; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the axis has half the size.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input does not have or whose size is odd, or an input that is not
        float32 or float64.

    Notes
    -----
    Forward: ``y = a s b`` with ``s = sigmoid(a)`` for the halves ``a, b`` of ``x``. Pullback:
    ``da = dy b s (1 + a (1 - s))``, ``db = dy a s``. The gate comes first, as in the paper's
    ``Swish(x W) * (x V)``.

    References
    ----------
    N. Shazeer, "GLU variants improve transformer", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import swiglu
    >>> swiglu().apply({}, np.array([[0.0, 2.0, 3.0, 1.0]]))[0].round(4)
    array([[0.    , 1.7616]])
    """

    return parameterless(
        Preserving,
        lambda x: (kernels.swiglu(x, axis), {"x": x}),
        lambda kept, dout: kernels.swiglu_gradient(kept["x"], dout, axis),
        partial(_divided, axis=axis, pieces=2),
    )


@declared(pieces=Integer(1), axis=Integer())
def maxout(pieces: int, *, axis: int = -1) -> Preserving:
    """Largest of every few neighbours along one axis.

    Parameters
    ----------
    pieces : int
        How many neighbours make one output.
    axis : int, default -1
        The axis that shrinks, such as 1 for the channels of images; not the batch axis.

    Returns
    -------
    Layer
        Without parameters; the axis has a part of the size.

    Raises
    ------
    ValueError, TypeError
        For an axis that the input does not have or whose size is not a multiple of `pieces`, or an
        input that is not float32 or float64.

    Notes
    -----
    Forward: ``y_i = max(x_{k i}, ..., x_{k i + k - 1})`` for ``k = pieces``. Pullback: the winner gets
    all of ``dy``; among equals the first. Behind a `dense` or `conv` with ``k`` times the features it
    is the unit of the paper.

    References
    ----------
    I. Goodfellow et al., "Maxout networks", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import maxout
    >>> maxout(2).apply({}, np.array([[1.0, 2.0, 4.0, 3.0]]))[0]
    array([[2., 4.]])
    """

    def candidates(x: Array) -> list[Array]:
        """Views of the first of all neighbours, of the second, ..."""
        before = (slice(None),) * (axis % x.ndim)
        return [x[(*before, slice(first, None, pieces))] for first in range(pieces)]

    def largest(x: Array) -> Array:
        out = candidates(x)[0].copy(order="K")
        for candidate in candidates(x)[1:]:
            np.maximum(out, candidate, out=out)
        return out

    def pullback(kept: Cache, dout: Array) -> Any:
        x = kept["x"]
        out, dx = largest(x), np.empty_like(x)
        undecided = np.ones(dout.shape, np.bool_)
        for candidate, dcandidate in zip(candidates(x), candidates(dx), strict=True):
            wins = undecided & ((candidate == out) | (candidate != candidate))
            chosen(dout, wins, dcandidate)
            undecided &= ~wins
        return dx

    return parameterless(
        Preserving,
        lambda x: (largest(x), {"x": x}),
        pullback,
        partial(_divided, axis=axis, pieces=pieces),
    )


def _divided(shape: Shape, axis: int, pieces: int) -> Shape:
    """The shape after so many neighbours along an axis, which is not the batch's, have become one."""
    checks.feature_axis(axis, len(shape))
    place = axis % len(shape)
    if shape[place] % pieces:
        checks.refuse(f"`x` must have a multiple of {pieces} along axis {axis}, got shape {shape}")
    return (*shape[:place], shape[place] // pieces, *shape[place + 1 :])
