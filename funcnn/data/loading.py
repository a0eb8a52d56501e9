"""Batches of one's own making: from a function of key, epoch and step, or from a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, tree
from funcnn.data.batches import Dataset, check_place
from funcnn.types import Key

__all__ = ["Loader", "stream"]


class Loader(NamedTuple):
    """Batches that a function makes; `funcnn.fit` takes it in place of a `Dataset`.

    Parameters
    ----------
    load : callable
        ``(key, epoch, step) -> batch``, a `Dataset` or a pair ``(x, y)``. If it is a function of
        these alone, a training can be resumed anywhere with the same bits. Where its ``x`` is memory-
        mapped, or `prepared`, each of several processes reads its own part of it alone.
    steps : int
        Batches in an epoch.

    Raises
    ------
    ValueError, TypeError
        When used, for fewer than one step, and for what is no batch.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.data import Loader
    >>> def noise(key, epoch, step):
    ...     x = random.normal(random.fold_in(random.fold_in(key, epoch), step), (8, 2))
    ...     return x, x[:, 0]
    >>> len(Loader(noise, steps=100).batch(random.key(0), epoch=3, step=99))
    8

    Pictures that are read when they are looked at, by the process that needs them:

    >>> import numpy as np
    >>> from funcnn.data import prepared
    >>> def read(places):  # such as from so many files
    ...     return np.stack([np.full((1, 8, 8), place, np.float32) for place in places])
    >>> def pictures(key, epoch, step):
    ...     places = random.permutation(random.fold_in(key, epoch), 100)[step * 10 : step * 10 + 10]
    ...     return prepared(places, read), places % 2
    >>> Loader(pictures, steps=10).batch(random.key(0), epoch=0, step=0).x.shape
    (10, 1, 8, 8)
    """

    load: Callable[[Key, int, int], Any]
    steps: int

    @checks.named
    def batch(self, key: Key, epoch: int, step: int, *, late: bool = False) -> Dataset:
        """One batch, as `Batches.batch` gives it; if `late`, as `load` does."""
        steps = checks.Integer(1).check("steps", self.steps)
        check_place(key, epoch, step, steps)
        if not callable(self.load):
            checks.refuse_type(f"`load` must be a function, got {checks.shown(self.load)}")
        found = self.load(key, epoch, step)
        if not isinstance(found, Dataset):
            if not isinstance(found, tuple) or len(found) != 2:
                got = f"a tuple of {len(found)}" if isinstance(found, tuple) else checks.shown(found)
                checks.refuse_type(f"`load` must give a Dataset or a pair (x, y), got {got}")
            found = Dataset(*found)
        if not len(found):
            checks.refuse("`load` must give at least one example, got none")
        if late:
            return found
        return Dataset(*tree.map(lambda array: np.asarray(array[:]), tuple(found)))


@checks.takes(begin=checks.Function(2, "a function of a key and an epoch"), steps=checks.Integer(1))
def stream(begin: Callable[[Key, int], Iterator[Any]], steps: int) -> Loader:
    """Make a loader of a function that begins an epoch, such as a generator function.

    Parameters
    ----------
    begin : callable
        ``(key, epoch) -> iterator`` over the batches of an epoch, each a `Dataset` or a pair
        ``(x, y)``.
    steps : int
        Batches in an epoch; an iterator that has more is not asked for them.

    Returns
    -------
    Loader
        Which goes through each epoch once. Where a training is resumed within an epoch, the
        batches in front of that place are made again and dropped.

    Raises
    ------
    ValueError, TypeError
        For fewer than one step, and what is no function; when used, for an iterator that ends too
        early.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random
    >>> from funcnn.data import stream
    >>> def lines(key, epoch):
    ...     for i in range(1000):
    ...         yield np.full((4, 2), i), np.arange(4)
    >>> stream(lines, steps=1000).batch(random.key(0), epoch=0, step=2).x[0]
    array([2, 2])
    """
    return Loader(_Stream(begin), steps)


class _Stream:
    """An iterator and the place where it is; for another place, one that is begun anew."""

    def __init__(self, begin: Callable[[Key, int], Iterator[Any]]) -> None:
        self._begin = begin
        self._batches: Iterator[Any] = iter(())
        self._next: tuple[Key, int, int] | None = None

    @partial(checks.named, who="stream")
    def __call__(self, key: Key, epoch: int, step: int) -> Any:
        skipped = 0
        if self._next != (key, epoch, step):
            begun, skipped = self._begin(key, epoch), step
            try:
                self._batches = iter(begun)
            except TypeError:
                checks.refuse_type(f"`begin` must give an iterator, got {checks.shown(begun)}")
        self._next = None  # an iterator that fails is not gone on with
        for place in range(step - skipped, step + 1):
            try:
                batch = next(self._batches)
            except StopIteration:
                checks.refuse(f"`begin` must give a batch for each step, got none for step {place}")
        self._next = (key, epoch, step + 1)
        return batch
