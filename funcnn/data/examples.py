"""What a batch is: an array, or tuples and dicts of them, with one example in each row.

Every array of such a tree has the batch axis first, and all have one length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from funcnn import checks, tree
from funcnn.types import Array, Shape

__all__ = ["prepared"]

T = TypeVar("T")


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
        With a length and a shape. It stands in for an array in the ``x`` of a `Dataset`: in
        `Batches`, `funcnn.fit`, `funcnn.evaluate` and `funcnn.predict`, which take a few rows at a
        time.

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


def taken(x: T, index: Any) -> T:
    """The same rows of every array."""
    return tree.map(lambda array: array[index], x)


def concatenated(batches: Sequence[T]) -> T:
    """The rows of several trees, one behind the other."""
    return tree.map(lambda *arrays: np.concatenate(arrays), *batches)


def shape(x: Any, count: int) -> Shape:
    """The shape of a batch of so many examples; of several arrays, a tree of shapes."""
    shapes: Shape = tree.map(lambda array: (count, *array.shape[1:]), x)
    return shapes


def length(x: Any, y: Any = ()) -> int:
    """The number of examples, which all arrays agree on; `y` may have none."""
    if type(x) is type(y) is np.ndarray and x.ndim and y.ndim and len(x) == len(y):
        return len(x)  # the short way for what is usual
    named = [("/".join(["x", path] if path else "x"), array) for path, array in tree.leaves(x)]
    if not named:
        checks.refuse("`x` must hold at least one array, got none")
    named += [("/".join(["y", path] if path else "y"), array) for path, array in tree.leaves(y)]
    for name, array in named:
        if not isinstance(array, _Prepared) and not checks.array(array, name).ndim:
            checks.refuse(f"`{name}` must have a batch axis, got shape ()")
    (first, one), *others = named
    for name, other in others:
        if len(other) != len(one):
            text = f"`{first}` and `{name}` must have one length, got {len(one)} and {len(other)}"
            checks.refuse(text)
    return len(one)
