"""What a batch is: an array, or tuples and dicts of them, with one example in each row.

Every array of such a tree has the batch axis first, and all have one length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcnn import checks, files, tree
from funcnn.types import Array, Shape, X

__all__ = ["prepared"]

_NUMBERS = "biuf"


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

    @property
    def dtype(self) -> Any:
        return self[:1].dtype


@dataclass(frozen=True, eq=False)
class _Late:
    """Rows that a function reads when they are looked at."""

    count: int
    read: Callable[[Any], Array]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Array:
        return self.read(index)


def has_whole_rows(x: Any) -> bool:
    """Whether some rows lie in memory as among many others: then what is computed has the same bits."""
    leaves = [array for _, array in tree.leaves(x)]
    return all(isinstance(array, _Prepared) or array.flags.c_contiguous for array in leaves)


def read_late(count: int, read: Callable[[Any], Array]) -> Any:
    """So many rows, which ``read(index)`` gives."""
    return _Prepared(_Late(count, read), np.asarray)


def chosen(x: X, places: Array) -> X:
    """The same rows of every array, read when they are looked at."""

    def late(array: Any) -> Any:
        return read_late(len(places), lambda index: np.array(array[places[index]]))

    return tree.map(late, x)


@checks.named
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

    Raises
    ------
    ValueError, TypeError
        For what is no array, and what is no function.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.data import pixels, prepared
    >>> images = prepared(np.full((1000, 28, 28), 255, np.uint8), pixels)
    >>> len(images), images.shape, images[:2].max()
    (1000, (1000, 1, 28, 28), np.float32(1.0))
    """
    if not isinstance(source, _Prepared):
        checks.array(source, "source")
        check_numbers(source)
    if not callable(change):
        checks.refuse_type(f"`change` must be a function, got {checks.shown(change)}")
    return _Prepared(source, change)


def is_on_disk(x: Any) -> bool:
    """Whether an array may be larger than the memory."""
    return isinstance(x, (np.memmap, _Prepared))


def taken(x: X, index: Any) -> X:
    """The same rows of every array."""
    return tree.map(lambda array: array[index], x)


def concatenated(batches: Sequence[X]) -> X:
    """The rows of several trees, one behind the other."""
    return tree.map(lambda *arrays: np.concatenate(arrays), *batches)


def shape(x: Any, count: int) -> Shape:
    """The shape of a batch of so many examples; of several arrays, a tree of shapes."""
    return tree.map(lambda array: (count, *array.shape[1:]), x)


def length(x: Any, y: Any = ()) -> int:
    """The number of examples, which all arrays agree on; `y` may have none."""
    if type(x) is type(y) is np.ndarray and x.ndim and y.ndim and len(x) == len(y):
        return len(x)  # the short way for what is usual
    named = _named(x, y)
    for name, array in named:
        if not isinstance(array, _Prepared) and not checks.array(array, name).ndim:
            checks.refuse(f"`{name}` must have a batch axis, got shape ()")
    if not named or named[0][0].partition("/")[0] != "x":
        checks.refuse("`x` must hold at least one array, got none")
    (first, one), *others = named
    for name, other in others:
        if len(other) != len(one):
            text = f"`{first}` and `{name}` must have one length, got {len(one)} and {len(other)}"
            checks.refuse(text)
    return len(one)


def check_numbers(x: Any, y: Any = ()) -> None:
    """Refuse arrays of anything but numbers."""
    if type(x) is type(y) is np.ndarray and x.dtype.kind in _NUMBERS and y.dtype.kind in _NUMBERS:
        return
    for name, array in _named(x, y):
        if not isinstance(array, _Prepared) and array.dtype.kind not in _NUMBERS:
            got = files.short(str(array.dtype), 60, 30)
            checks.refuse_type(f"`{name}` must be booleans, integers or real numbers, got {got}")


def _named(x: Any, y: Any) -> list[tuple[str, Any]]:
    """All arrays, by their paths."""
    return [
        (f"{name}/{path}" if path else name, array)
        for name, inside in (("x", x), ("y", y))
        for path, array in tree.leaves(inside)
    ]
