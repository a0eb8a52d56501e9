"""Matrices and filters of a certain structure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcnn import checks, random
from funcnn.initializers.core import Initializer
from funcnn.types import Array, Key

__all__ = ["dirac", "eye", "orthogonal", "sparse"]


@checks.takes(gain=checks.Number(above=0.0))
def orthogonal(gain: float = 1.0) -> Initializer:
    """Begin with a random orthogonal matrix: it neither stretches nor shrinks what it turns.

    Parameters
    ----------
    gain : float
        A factor on the matrix.

    Returns
    -------
    Initializer
        For weights ``(out, in, *kernel)``, read as a matrix ``(out, in * prod(kernel))``.

    Raises
    ------
    TypeError
        If `gain` is no number.
    ValueError
        If `gain` is not above 0.

    Notes
    -----
    The shorter axis of the matrix holds orthonormal vectors, times `gain`: ``W W' = gain**2 I`` for
    a wide one, ``W' W = gain**2 I`` for a tall one. Every such matrix is equally likely. They are
    normal numbers made orthonormal in float64 by the modified Gram-Schmidt process, with sums in an
    order of its own: the same bits everywhere, for some ``n**2 * m`` operations, where ``n <= m``
    are the axes (512 by 512 takes a fraction of a second).

    References
    ----------
    A. M. Saxe, J. L. McClelland, S. Ganguli (2014). Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random
    >>> weight = orthogonal()(random.key(0), (3, 5), np.float64)
    >>> bool(np.allclose(weight @ weight.T, np.eye(3)))
    True
    """
    return Initializer(_orthogonal, (gain,), f"orthogonal({gain!r})", 2)


def _orthogonal(key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], gain: float) -> Array:
    rows, columns = shape[0], math.prod(shape[1:])
    vectors = random.normal(key, (min(rows, columns), max(rows, columns)), dtype=np.float64)
    for index, vector in enumerate(vectors):
        vector /= np.sqrt(_sum_last(vector * vector))
        rest = vectors[index + 1 :]
        rest -= _sum_last(rest * vector)[:, None] * vector
    matrix = vectors if rows <= columns else vectors.T
    scaled: Array = float(checks.within(gain, "gain", dtype)) * matrix
    return scaled.astype(dtype, order="C").reshape(shape)


def _sum_last(x: Array) -> Array:
    """The sums along the last axis, by folding it in halves: in the same order everywhere."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        folded: Array = x[..., :half] + x[..., half : 2 * half]
        if x.shape[-1] % 2:
            folded[..., 0] += x[..., -1]
        x = folded
    return x[..., 0]


@checks.named
def eye() -> Initializer:
    """Begin with the identity: 1 on the diagonal, 0 elsewhere.

    Returns
    -------
    Initializer
        For weights ``(out, in)``, which need not be square.

    Notes
    -----
    As `torch.nn.init.eye_`.

    Examples
    --------
    >>> from funcnn import random
    >>> eye()(random.key(0), (2, 3))
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    return Initializer(_eye, (), "eye()", 2)


@checks.takes(groups=checks.Integer(1))
def dirac(groups: int = 1) -> Initializer:
    """Begin with a convolution that changes nothing: each channel goes through as it is.

    Parameters
    ----------
    groups : int, default 1
        The groups of the convolution.

    Returns
    -------
    Initializer
        For weights ``(out, in / groups, *kernel)``, 1 at the centre of the kernel that leads from a
        channel to the same channel of its group, and 0 elsewhere.

    Raises
    ------
    TypeError, ValueError
        If `groups` is not an int of at least 1; when used, if it does not divide the channels.

    Notes
    -----
    As `torch.nn.init.dirac_`.

    References
    ----------
    S. Zagoruyko, N. Komodakis (2017). DiracNets: training very deep neural networks without
    skip-connections.

    Examples
    --------
    >>> from funcnn import random
    >>> dirac()(random.key(0), (2, 2, 3))[:, :, 1]
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    return Initializer(_dirac, (groups,), f"dirac({groups if groups != 1 else ''})", 3)


@checks.takes(sparsity=checks.Number(minimum=0, maximum=1), std=checks.Number(above=0.0))
def sparse(sparsity: float, std: float = 0.01) -> Initializer:
    """Begin with normal numbers around 0, most of which are 0: as many in each column.

    Parameters
    ----------
    sparsity : float
        The fraction of each column that is 0, rounded up to whole entries.
    std : float, default 0.01
        The standard deviation of the others.

    Returns
    -------
    Initializer
        For weights ``(out, in)``.

    Raises
    ------
    TypeError, ValueError
        If `sparsity` is no number from 0 to 1, or `std` none above 0.

    Notes
    -----
    As `torch.nn.init.sparse_`.

    References
    ----------
    J. Martens (2010). Deep learning via Hessian-free optimization. ICML.

    Examples
    --------
    >>> from funcnn import random
    >>> np.count_nonzero(sparse(0.75)(random.key(0), (8, 3)), axis=0)
    array([2, 2, 2])
    """
    shown = f"sparse({sparsity!r}{f', {std!r}' if std != 0.01 else ''})"
    return Initializer(_sparse, (sparsity, std), shown, 2)


def _matrix(shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        checks.refuse(f"`shape` must have 2 axes (out, in), got {shape}")


def _eye(_key: Key, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    _matrix(shape)
    return np.eye(*shape, dtype=dtype)


def _dirac(_key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], groups: int) -> Array:
    if shape[0] % groups:
        checks.refuse(f"`groups` must divide the {shape[0]} channels that come out, got {groups}")
    out, own = np.zeros(shape, dtype), shape[0] // groups
    centre = tuple(size // 2 for size in shape[2:])
    for group in range(groups if out.size else 0):
        for channel in range(min(own, shape[1])):
            out[(group * own + channel, channel, *centre)] = 1
    return out


def _sparse(
    key: Key, shape: tuple[int, ...], dtype: np.dtype[Any], sparsity: float, std: float
) -> Array:
    _matrix(shape)
    values, order = random.split(key)
    out = random.normal(values, shape, 0.0, std, dtype)
    zeros = math.ceil(sparsity * shape[0])
    places = np.argsort(random.uniform(order, shape, dtype=np.float64), axis=0, kind="stable")
    np.put_along_axis(out, places[:zeros], 0, axis=0)
    return out
