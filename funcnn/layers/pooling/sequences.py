"""Pooling over the time steps that count: the last one, their mean, their maximum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np

from funcnn import checks
from funcnn._kernels import steps
from funcnn.checks import Flag, declared
from funcnn.parameterless import moving
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
    if masked:
        return _pool(steps.last, steps.put_last)

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        dx = np.zeros(shape, dout.dtype)
        dx[:, -1] = dout
        return dx

    return moving(
        Layer, lambda x: x[:, -1].copy(), backward, lambda shape: (shape[0], shape[2]), axes="N, T, F"
    )


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
) -> Layer[Any, Any]:
    """One vector of each sequence, of the steps that the second input flags.

    ``forward(x, flags) -> (out, places)`` and ``backward(dout, places, flags) -> dx``; `places` say
    where the vector comes from.
    """

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        x, counts = checks.together(shape, "x, mask", "shape")
        batch, length, features = checks.shape(x, "N, T, F")
        checks.counts_shape(counts, (batch, length), "mask")
        return (batch, features), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        x, counts = checks.together(x, "x, mask")
        batch, length, _ = checks.ranked(x, "N, T, F").shape
        flags = steps.counted(checks.counts(counts, (batch, length), "mask"), length)
        out, places = forward(x, flags)
        cache = {"places": places, "counts": flags, "shape": out.shape, "dtype": x.dtype}
        return out, cache | {"given": counts.shape}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Any]:
        checks.gradient(dout, cache["shape"], cache["dtype"])
        dx = backward(dout, cache["places"], cache["counts"])
        return {}, (dx, np.zeros(cache["given"], dout.dtype))

    return Layer(init, apply, vjp)
