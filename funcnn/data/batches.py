"""Data sets, and batches drawn from them as pure functions of a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from funcnn import _checks, random
from funcnn.data.augmentation import Augmentation
from funcnn.types import Array, Key

__all__ = ["Batches", "Dataset", "prepared", "split"]


class Dataset(NamedTuple):
    """Examples and what is to be said of them, one behind the other.

    Parameters
    ----------
    x : ndarray, ``(N, ...)``
        Examples; may be memory-mapped, or `prepared` as they are read.
    y : ndarray, ``(N, ...)``
        Labels or targets.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.data import Dataset
    >>> len(Dataset(np.zeros((5, 2)), np.zeros(5, int)))
    5
    """

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Any) -> Dataset:
        """The examples at some places: a slice, or an array of ints."""
        return Dataset(self.x[index], self.y[index])


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What `prepared` makes."""

    source: Any
    change: Callable[[Array], Array]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Array:
        return self.change(np.asarray(self.source[index]))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self[:1].shape[1:])


def prepared(source: Array, change: Callable[[Array], Array]) -> Any:
    """An array whose rows are prepared as they are read, such as bytes on the disk.

    Parameters
    ----------
    source : ndarray, ``(N, ...)``
        May be memory-mapped, and larger than the memory.
    change : callable
        ``(rows) -> rows``, such as `pixels` or a `Normalization`.

    Returns
    -------
    object
        With a length and a shape. It stands in for the ``x`` of a `Dataset`: in `Batches`,
        `funcnn.fit`, `funcnn.evaluate` and `funcnn.predict`, which take a few rows at a time.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.data import pixels, prepared
    >>> images = prepared(np.full((1000, 28, 28), 255, np.uint8), pixels)
    >>> len(images), images.shape, images[:2].max()
    (1000, (1000, 1, 28, 28), np.float32(1.0))
    """
    return _Prepared(source, change)


def is_on_disk(x: Any) -> bool:
    """Whether an array may be larger than the memory."""
    return isinstance(x, (np.memmap, _Prepared))


def checked(who: str, dataset: object, name: str = "dataset") -> Dataset:
    """A data set whose arrays have one length."""
    if not isinstance(dataset, Dataset):
        hint = ": write data.Dataset(x, y)" if isinstance(dataset, tuple) else ""
        _checks.refuse_type(who, f"`{name}` must be a Dataset, got {type(dataset).__name__}{hint}")
    examples(who, dataset.x, "x")
    examples(who, dataset.y, "y")
    if len(dataset.x) != len(dataset.y):
        _checks.refuse(
            who,
            f"`x` and `y` must have one length, got {len(dataset.x)} and {len(dataset.y)}",
        )
    return dataset


def examples(who: str, x: object, name: str) -> None:
    """An array, or what stands in for one that is larger than the memory."""
    if not isinstance(x, _Prepared) and not _checks.array(who, x, name).ndim:
        _checks.refuse(who, f"`{name}` must have a batch axis, got shape ()")


def split(key: Key, dataset: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """Part a data set in two, at random.

    Parameters
    ----------
    key : Key
        Says which examples go where.
    dataset : Dataset
        What to part.
    fraction : float
        What part of it goes to the second, rounded up to whole examples; between 0 and 1.

    Returns
    -------
    tuple of Dataset
        The larger part to train on, the rest to test on (for a fraction under a half).

    Raises
    ------
    ValueError, TypeError
        For a fraction outside 0..1, or arrays of different lengths.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random
    >>> from funcnn.data import Dataset, split
    >>> train, test = split(random.key(0), Dataset(np.zeros((10, 2)), np.zeros(10)), 0.2)
    >>> len(train), len(test)
    (8, 2)
    """
    dataset = checked("split", dataset)
    fraction = _checks.number("split", "fraction", fraction, minimum=0, maximum=1)
    order = random.permutation(_checks.key("split", key), len(dataset))
    held_out = -int(-fraction * len(dataset) // 1)
    return dataset.take(order[held_out:]), dataset.take(order[:held_out])


class Batches(NamedTuple):
    """How a data set comes in batches; nothing is remembered from one batch to the next.

    Parameters
    ----------
    dataset : Dataset
        Where the examples come from.
    size : int
        Examples in a batch.
    shuffle : bool, default True
        Whether each epoch has an order of its own.
    drop_last : bool, default False
        Whether to leave out a last batch that is not full.
    augment : Augmentation or callable, optional
        ``(key, x) -> x``, applied to the examples of each batch; an `Augmentation` such as `mixup`
        may change their targets, too.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random
    >>> from funcnn.data import Batches, Dataset
    >>> batches = Batches(Dataset(np.arange(10.0), np.arange(10)), size=4)
    >>> [len(batches.batch(random.key(0), epoch=0, step=i)) for i in range(batches.steps)]
    [4, 4, 2]
    """

    dataset: Dataset
    size: int
    shuffle: bool = True
    drop_last: bool = False
    augment: Callable[[Key, Array], Array] | None = None

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        size = _checks.integer("Batches", "size", self.size, 1)
        whole, rest = divmod(len(checked("Batches", self.dataset)), size)
        return whole + (1 if rest and not self.drop_last else 0)

    def batch(self, key: Key, epoch: int, step: int) -> Dataset:
        """One batch: a function of the key, the epoch and the place in it alone.

        Parameters
        ----------
        key : Key
            Of the whole training.
        epoch, step : int
            From 0; ``step`` below `steps`.

        Returns
        -------
        Dataset
            Copies, in memory.

        Raises
        ------
        ValueError
            For a step that the epoch has not.
        """
        if not 0 <= step < self.steps:
            _checks.refuse("batch", f"`step` must lie in 0..{self.steps - 1}, got {step}")
        places = slice(step * self.size, (step + 1) * self.size)
        if not self.shuffle:
            x, y = self.dataset.take(places)
        else:
            x, y = self.dataset.take(_order(key, epoch, len(self.dataset))[places])
        if self.augment is not None:
            own = random.fold_in(random.fold_in(_epoch_key(key, epoch), step), "augment")
            if isinstance(self.augment, Augmentation):
                x, y = self.augment.pair(own, np.asarray(x), np.asarray(y))
            else:
                x = self.augment(own, np.asarray(x))
        return Dataset(np.array(x), np.array(y))


def _epoch_key(key: Key, epoch: int) -> Key:
    return random.fold_in(random.fold_in(key, "epoch"), epoch)


@lru_cache(maxsize=2)
def _order(key: Key, epoch: int, count: int) -> Array:
    """The order of an epoch, remembered because each of its batches asks for it."""
    order = random.permutation(_epoch_key(key, epoch), count)
    order.flags.writeable = False
    return order
