"""Bringing examples to mean 0 and standard deviation 1, by what the training part alone knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from funcnn import checks, numerics
from funcnn.data.batches import Dataset, checked
from funcnn.data.examples import is_on_disk, prepared
from funcnn.types import Array

__all__ = ["Normalization", "normalization", "normalize"]

_CHUNK = 1024  # examples that are in memory at a time: a bound on memory, not on time


@dataclass(frozen=True)
class Normalization:
    """``(x - centre) / deviation``: call it with examples.

    Parameters
    ----------
    centre, deviation : tuple of float
        One for each channel or feature, axis 1.

    Examples
    --------
    >>> Normalization((1.0,), (2.0,))(np.array([[3.0]]))
    array([[1.]])
    """

    centre: tuple[float, ...]
    deviation: tuple[float, ...]

    @partial(checks.named, who="normalize")
    def __call__(self, x: Array) -> Array:
        """The examples, normalised, in their own dtype."""
        found = checks.any_ranked(x, 2)
        checks.sized(found, 1, len(self.deviation), "channels or features")
        shape = (1, -1, *[1] * (found.ndim - 2))
        mean, deviation = (
            np.array(part, found.dtype).reshape(shape) for part in (self.centre, self.deviation)
        )
        out: Array = (found - mean) / deviation
        return out


@partial(checks.named, who="normalize")
def normalization(train: Dataset) -> Normalization:
    """Learn from the training part how to bring examples to mean 0 and standard deviation 1.

    Parameters
    ----------
    train : Dataset
        With float examples ``(N, F)``, ``(N, C, H, W)`` or the like; may be memory-mapped.

    Returns
    -------
    Normalization
        To be called with examples. What never varies is only moved, not divided.

    Raises
    ------
    ValueError, TypeError
        For no examples, examples that are not floats with at least 2 axes, or numbers in them that
        are not finite.

    Examples
    --------
    >>> from funcnn.data import Dataset, normalization
    >>> normalization(Dataset(np.array([[1.0, 5.0], [3.0, 5.0]]), np.zeros(2)))
    Normalization(centre=(2.0, 5.0), deviation=(1.0, 1.0))
    """
    checked(train, "train")
    first = checks.any_ranked(train.x[:1], 2)
    if not first.size:
        checks.refuse("`train` must have at least one example")
    axes = (0, *range(2, first.ndim))
    terms = len(train) * first.size // first.shape[1]

    def averaged(of: Callable[[Array], Array]) -> Array:
        total = np.zeros(first.shape[1])
        for start in range(0, len(train), _CHUNK):
            total += numerics.sum(of(train.x[start : start + _CHUNK].astype(np.float64)), axes)
        return np.asarray(total / terms)

    shape = (1, -1, *[1] * (first.ndim - 2))
    own = first[0].reshape(first.shape[1], -1)[:, 0].astype(np.float64)
    # Relative to the first values, for which what never varies has a mean and a variance of exactly 0.
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        mean = own + averaged(lambda x: x - own.reshape(shape))
        variance = averaged(lambda x: (x - mean.reshape(shape)) * (x - mean.reshape(shape)))
    if not np.isfinite(variance).all():
        wrong = int(np.flatnonzero(~np.isfinite(variance))[0])
        checks.refuse(
            f"`train` must be finite, got a variance of {variance[wrong]} at {wrong} of axis 1",
        )
    deviation = np.where(variance > 0, np.sqrt(variance), 1.0)
    return Normalization(tuple(mean.tolist()), tuple(deviation.tolist()))


@checks.named
def normalize(train: Dataset, *others: Dataset) -> tuple[Dataset, ...]:
    """Bring data sets to mean 0 and standard deviation 1, by the first one's statistics.

    Parameters
    ----------
    train : Dataset
        Where mean and deviation come from.
    *others : Dataset
        Validation and test parts, which are changed in the same way.

    Returns
    -------
    tuple of Dataset
        All of them; what is on the disk is changed as it is read.

    Raises
    ------
    ValueError, TypeError
        For what `normalization` refuses.

    Examples
    --------
    >>> from funcnn.data import Dataset, normalize
    >>> train = Dataset(np.array([[1.0], [3.0]]), np.zeros(2))
    >>> train, test = normalize(train, Dataset(np.array([[4.0]]), np.zeros(1)))
    >>> train.x[:, 0], test.x[:, 0]
    (array([-1.,  1.]), array([2.]))
    """
    change = normalization(train)

    def changed(part: Dataset) -> Dataset:
        checked(part, "others")
        return Dataset(prepared(part.x, change) if is_on_disk(part.x) else change(part.x), part.y)

    return tuple(changed(part) for part in (train, *others))
