"""Pooling over the time steps that count: the last one, their mean, their maximum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np

from funcnn import checks
from funcnn._kernels import steps
from funcnn.checks import Flag, declared
from funcnn.types import Array, Cache, Counts, Key, Layer, Off, On, Params, Sequence, Shape, Vector

__all__ = ["last_step", "masked_max_pool", "masked_mean_pool"]


@overload
def last_step(*, masked: Off = ...) -> Layer[Sequence, Vector]: ...
@overload
def last_step(*, masked: On) -> Layer[tuple[Sequence, Counts], Vector]: ...
@declared(masked=Flag())
def last_step(*, masked: bool = False) -> Layer[Any, Vector]:
    """The last time step of each sequence, ``(N, T, F) -> (N, F)``.

    Parameters
    ----------
    masked : bool, default False
        Whether a mask is a second input: flags for the steps that count, booleans ``(N, T)``, or the
        lengths, ints ``(N,)``. The last step is the last that counts then.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, or a mask that does not fit.

    Notes
    -----
    A sequence of which no step counts gives zeros. Pullback: the step gets ``dy``, all others 0.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import last_step
    >>> x = np.array([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    >>> last_step(masked=True).apply({}, (x, np.array([3, 1])))[0].ravel()
    array([3., 4.])
    """
    return _pool(steps.last, steps.put_last, masked)


@declared()
def masked_mean_pool() -> Layer[tuple[Sequence, Counts], Vector]:
    """The mean of the time steps that count, ``((N, T, F), mask) -> (N, F)``.

    Returns
    -------
    Layer
        Without parameters, on a tuple of sequences and a mask: flags for the steps that count,
        booleans ``(N, T)``, or the lengths, ints ``(N,)``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not such a tuple.

    Notes
    -----
    A sequence of which no step counts gives zeros. Pullback: each step that counts gets ``dy``
    divided by how many they are, all others 0.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import masked_mean_pool
    >>> x = np.array([[[1.0], [2.0], [np.nan]]])
    >>> masked_mean_pool().apply({}, (x, np.array([2])))[0]
    array([[1.5]])
    """
    return _pool(steps.mean, steps.spread)


@declared()
def masked_max_pool() -> Layer[tuple[Sequence, Counts], Vector]:
    """The maximum over the time steps that count, ``((N, T, F), mask) -> (N, F)``.

    Returns
    -------
    Layer
        Without parameters, on a tuple of sequences and a mask: flags for the steps that count,
        booleans ``(N, T)``, or the lengths, ints ``(N,)``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not such a tuple.

    Notes
    -----
    A sequence of which no step counts gives zeros. Pullback: for each feature, the first step that
    is the largest gets ``dy``, all others 0.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import masked_max_pool
    >>> x = np.array([[[-1.0], [-2.0], [np.nan]]])
    >>> masked_max_pool().apply({}, (x, np.array([2])))[0]
    array([[-1.]])
    """
    return _pool(steps.maximum, steps.put)


def _pool(
    forward: Callable[[Array, Array], tuple[Any, Array]],
    backward: Callable[[Array, Array, Array], Any],
    masked: bool = True,
) -> Layer[Any, Any]:
    """One vector of each sequence, of the steps that count: all, or those that the second input flags.

    ``forward(x, flags) -> (out, places)`` and ``backward(dout, places, flags) -> dx``; `places` say
    where the vector comes from.
    """

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        x, *counts = checks.together(shape, "x, mask", "shape") if masked else (shape,)
        batch, length, features = checks.shape(x, "N, T, F")
        for one in counts:
            checks.counts_shape(one, (batch, length), "mask")
        return (batch, features), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        x, *counts = checks.together(x, "x, mask") if masked else (x,)
        batch, length, _ = checks.ranked(x, "N, T, F").shape
        every = np.ones((batch, length), np.bool_)
        flags = [steps.counted(checks.counts(one, (batch, length), "mask"), length) for one in counts]
        count = flags[0] if masked else every
        out, places = forward(x, count)
        cache = {"places": places, "counts": count, "shape": out.shape, "dtype": x.dtype}
        return out, cache | {"shapes": [one.shape for one in counts]}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Any]:
        count, places = cache["counts"], cache["places"]
        checks.gradient(dout, cache["shape"], cache["dtype"])
        dx = backward(dout, places, count)
        return {}, (dx, *(np.zeros(shape, dout.dtype) for shape in cache["shapes"])) if masked else dx

    return Layer(init, apply, vjp)
