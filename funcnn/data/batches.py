"""Data sets, and batches drawn from them as pure functions of a key."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, random, tree
from funcnn.data.augmentation import Augmentation, changed_late, goes_by_rows
from funcnn.data.examples import check_numbers, chosen, has_whole_rows, length, taken
from funcnn.types import Array, Key
from funcnn.types.shown import grid

__all__ = ["Batches", "Dataset", "split"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples and what is to be said of them, one behind the other; unpacks as ``x, y = dataset``.

    Parameters
    ----------
    x : ndarray, ``(N, ...)``, or tuple or dict of them
        Examples; arrays may be memory-mapped, or `prepared` as they are read.
    y : ndarray, ``(N, ...)``, or tuple or dict of them
        Labels or targets; ``()`` for none.

    Raises
    ------
    ValueError, TypeError
        For arrays of different lengths, and what is no array.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.data import Dataset
    >>> dataset = Dataset(np.arange(10.0).reshape(5, 2), np.arange(5))
    >>> len(dataset), len(dataset[:3]), len(dataset[dataset.y > 3])
    (5, 3, 1)
    >>> dataset[2]
    (array([4., 5.]), np.int64(2))
    """

    x: Any
    y: Any

    def __post_init__(self) -> None:
        _check_rows(self.x, self.y)

    def __repr__(self) -> str:
        x, y = tree.map(_outline, (self.x, self.y))
        return f"{type(self).__name__}(x={x}, y={y})"

    def _repr_html_(self) -> str:
        found = tree.leaves({"x": self.x, "y": self.y})
        return grid(("", "type", "shape"), ((p, str(a.dtype), str(a.shape)) for p, a in found))

    def __len__(self) -> int:
        return length(self.x)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x, self.y))

    def __getitem__(self, index: Any) -> Any:
        """One example with its target, or a `Dataset` of several: a slice, a mask, places."""
        if not isinstance(index, (int, np.integer)) or isinstance(index, bool):
            return self.take(index)
        _check_inside(index, len(self))
        place = int(index) % len(self)
        one = self.take(slice(place, place + 1))
        return taken(one.x, 0), taken(one.y, 0)

    def take(self, index: Any) -> Dataset:
        """The examples at some places: a slice, a mask, or a list or an array of ints."""
        index = _places(index, len(self))
        return Dataset(taken(self.x, index), taken(self.y, index))

    def _replace(self, **changes: Any) -> Dataset:
        """The data set with another `x` or `y`."""
        return replace(self, **changes)


class _Outline(str):
    """A text that stands for an array."""

    __slots__ = ()
    __repr__ = str.__str__


def _outline(leaf: Any) -> _Outline:
    return _Outline(f"{leaf.dtype} {leaf.shape}")


@partial(checks.named, who="Dataset")
def _check_rows(x: object, y: object) -> None:
    length(x, y)
    check_numbers(x, y)


@partial(checks.named, who="Dataset")
def _places(index: Any, count: int) -> slice | Array:
    """Places of examples: a slice, or an array, which is a mask of all of them, or ints."""
    places = np.zeros((), object)
    with contextlib.suppress(Exception):  # of somebody's own `__array__`, or of rows of many lengths
        if isinstance(index, slice):
            index.indices(count)
            return index
        places = np.asarray(index, None if np.size(index) else np.int64)
    if isinstance(index, tuple) or places.ndim != 1 or places.dtype.kind not in "biu":
        wanted = "an int, a slice, a mask or ints, one behind the other"
        checks.refuse_type(f"`index` must be {wanted}, got {checks.shown(index)}")
    if places.dtype.kind == "b":
        if len(places) != count:
            checks.refuse(f"`index` must be a mask of {count} examples, got {len(places)}")
    elif len(places):
        _check_inside(places.min(), count)
        _check_inside(places.max(), count)
    return places


def _check_inside(index: Any, count: int) -> None:
    if not -count <= index < count:
        places = f"{-count}..{count - 1}" if count else "nothing"
        raise IndexError(f"Dataset: `index` must lie in {places}, got {checks.shown(index)}")


def checked(dataset: object, name: str = "dataset") -> Dataset:
    """A data set, and not the pair it was meant to be made from."""
    if not isinstance(dataset, Dataset):
        hint = ": write data.Dataset(x, y)" if isinstance(dataset, tuple) else ""
        hint = ": write data.Loader(function, steps)" if callable(dataset) else hint
        checks.refuse_type(f"`{name}` must be a Dataset, got {type(dataset).__name__}{hint}")
    return dataset


@checks.takes(fraction=checks.Number(minimum=0, maximum=1))
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
        For a fraction outside 0..1.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random
    >>> from funcnn.data import Dataset, split
    >>> train, test = split(random.key(0), Dataset(np.zeros((10, 2)), np.zeros(10)), 0.2)
    >>> len(train), len(test)
    (8, 2)
    """
    dataset = checked(dataset)
    order = random.permutation(checks.key(key), len(dataset))
    held_out = ceil(fraction * len(dataset) * (1 - 2**-50))  # the float 0.07 lies above 7 / 100
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
    @partial(checks.named, who="Batches")
    def steps(self) -> int:
        """Batches in an epoch."""
        size = checks.Integer(1).check("size", self.size)
        for name in ("shuffle", "drop_last"):
            checks.Flag().check(name, getattr(self, name))
        if self.augment is not None and not callable(self.augment):
            checks.refuse_type(f"`augment` must be a function, got {checks.shown(self.augment)}")
        whole, rest = divmod(len(checked(self.dataset)), size)
        return whole + (1 if rest and not self.drop_last else 0)

    @checks.named
    def batch(self, key: Key, epoch: int, step: int, *, late: bool = False) -> Dataset:
        """One batch: a function of the key, the epoch and the place in it alone.

        Parameters
        ----------
        key : Key
            Of the whole training.
        epoch, step : int
            From 0; ``step`` below `steps`.
        late : bool, default False
            Whether examples are read, and augmented, when they are looked at, as by processes of
            which each needs a part; not where `augment` is a function of one's own, or `mixup`,
            which see the whole batch.

        Returns
        -------
        Dataset
            Copies, in memory; if `late`, only the targets.

        Raises
        ------
        ValueError
            For a step that the epoch has not.
        """
        check_place(key, epoch, step, self.steps)
        part = slice(step * self.size, (step + 1) * self.size)
        places = _order(key, epoch, len(self.dataset))[part] if self.shuffle else part
        own = random.fold_in(random.fold_in(_epoch_key(key, epoch), step), "augment")
        by_rows = self.augment is None or goes_by_rows(self.augment)
        if late and by_rows and has_whole_rows(self.dataset.x):
            rows = np.arange(len(self.dataset))[places] if isinstance(places, slice) else places
            x, y = chosen(self.dataset.x, rows), taken(self.dataset.y, places)
            if isinstance(self.augment, Augmentation):
                x = changed_late(self.augment, own, x)
            return Dataset(x, tree.map(np.array, y))
        x, y = self.dataset.take(places)
        if self.augment is not None:
            x, y = tree.map(np.asarray, x), tree.map(np.asarray, y)
            if isinstance(self.augment, Augmentation):
                x, y = self.augment.pair(own, x, y)
            else:
                x = self.augment(own, x)
            Dataset(x, y)
        return Dataset(tree.map(np.array, x), tree.map(np.array, y))


def check_place(key: Key, epoch: int, step: int, steps: int) -> None:
    """Refuse the place of a batch that no training has."""
    checks.key(key)
    checks.Integer(0).check("epoch", epoch)
    if not 0 <= checks.Integer().check("step", step) < steps:
        checks.refuse(f"`step` must lie in 0..{steps - 1}, got {step}")


def _epoch_key(key: Key, epoch: int) -> Key:
    return random.fold_in(random.fold_in(key, "epoch"), epoch)


@lru_cache(maxsize=2)
def _order(key: Key, epoch: int, count: int) -> Array:
    """The order of an epoch, remembered because each of its batches asks for it."""
    order = random.permutation(_epoch_key(key, epoch), count)
    order.flags.writeable = False
    return order
