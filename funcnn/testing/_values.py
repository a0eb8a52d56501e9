"""Trees as the laws see them: dicts, tuples and lists, with arrays or plain data as leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from funcnn.types import Array, Shape


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All leaves with their paths; dicts in sorted order."""
    if isinstance(tree, dict):
        for name in sorted(tree, key=str):
            yield from leaves(tree[name], joined(path, name))
    elif isinstance(tree, (tuple, list)):
        for index, part in enumerate(tree):
            yield from leaves(part, joined(path, index))
    else:
        yield path, tree


def joined(path: str, name: object) -> str:
    """One step further down a path."""
    return f"{path}/{name}" if path else str(name)


def mapped(fn: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The same tree, with ``fn(leaf, ...)`` at the leaves."""
    return mapped_with_path(lambda _, *group: fn(*group), tree, *others)


def mapped_with_path(fn: Callable[..., Any], tree: Any, *others: Any, path: str = "") -> Any:
    """The same tree, with ``fn(path, leaf, ...)`` at the leaves."""
    if isinstance(tree, dict):
        return {
            name: mapped_with_path(
                fn, part, *[other[name] for other in others], path=joined(path, name)
            )
            for name, part in tree.items()
        }
    if isinstance(tree, (tuple, list)):
        parts = [
            mapped_with_path(fn, *group, path=joined(path, index))
            for index, group in enumerate(zip(tree, *others, strict=True))
        ]
        return tree._make(parts) if hasattr(tree, "_make") else type(tree)(parts)
    return fn(path, tree, *others)


def replaced(tree: Any, at: str, new: Any, path: str = "") -> Any:
    """The same tree, with another leaf at one path."""
    return mapped_with_path(lambda here, leaf: new if here == at else leaf, tree, path=path)


def is_float(leaf: object) -> bool:
    """Whether this is an array that has a gradient."""
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"


def cast(tree: Any, dtype: Any) -> Any:
    """The floating leaves in another dtype; the others as they are."""
    return mapped(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, tree)


def copied(tree: Any) -> Any:
    """A tree of writable copies."""
    return mapped(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, tree)


def frozen(tree: Any) -> Any:
    """The same tree, its arrays made read-only."""
    for _, leaf in leaves(tree):
        if isinstance(leaf, np.ndarray):
            leaf.flags.writeable = False
    return tree


def batch(tree: Any, part: slice) -> Any:
    """A part of the batch, read-only and in memory of its own."""
    return frozen(mapped(lambda leaf: leaf[part].copy(), tree))


def shapes(tree: Any) -> Any:
    """The tree of the arrays' shapes."""
    return mapped(np.shape, tree)


def is_shape(shape: object) -> bool:
    """Whether this is one shape, rather than a tuple of shapes for several arrays."""
    return isinstance(shape, tuple) and all(isinstance(size, (int, np.integer)) for size in shape)


def over_shapes(fn: Callable[[str, Shape], Any], shape: Shape, path: str = "x") -> Any:
    """``fn(path, shape)`` for one shape, or for each of several."""
    if is_shape(shape):
        return fn(path, shape)
    return tuple(over_shapes(fn, part, joined(path, index)) for index, part in enumerate(shape))


def each_shape(shape: Shape, path: str = "x") -> Iterator[tuple[str, Shape]]:
    """Each single shape with its path."""
    if is_shape(shape):
        yield path, shape
    else:
        for index, part in enumerate(shape):
            yield from each_shape(part, joined(path, index))


def with_batch(shape: Shape, size: int) -> Shape:
    """The shape, or shapes, of a batch of another size."""
    resized: Shape = over_shapes(lambda _, one: (size, *one[1:]), shape)
    return resized


def inner(a: Any, b: Any) -> float:
    """The exactly rounded sum of the products of all floating leaves."""
    return math.fsum(_products(a, b))


def magnitude(a: Any, b: Any) -> float:
    """The sum of the absolute values of these products: what rounding errors are relative to."""
    return math.fsum(map(abs, _products(a, b)))


def _products(a: Any, b: Any) -> list[float]:
    pairs = zip(leaves(a), leaves(b), strict=True)
    return [
        product
        for (_, left), (_, right) in pairs
        if is_float(left)
        for product in (left * right).ravel().tolist()
    ]


# --- other places in memory for the same values ---------------------------------------------------


def transposed(x: Array) -> Array:
    """The first axis fastest, as Fortran has it."""
    return np.asfortranarray(x)


def batch_last(x: Array) -> Array:
    """The batch axis fastest, the others as in C."""
    if not x.ndim:
        return x.copy()
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


def strided(x: Array) -> Array:
    """Every second element of a larger array; what lies between must not be read."""
    if not x.ndim:
        return x.copy()
    poison = math.nan if x.dtype.kind == "f" else 0
    around = np.full((*x.shape[:-1], 2 * x.shape[-1]), poison, x.dtype)
    around[..., ::2] = x
    return around[..., ::2]


def backwards(x: Array) -> Array:
    """From the last example to the first, with a negative stride."""
    if not x.ndim:
        return x.copy()
    return np.ascontiguousarray(x[::-1])[::-1]


LAYOUTS: tuple[Callable[[Array], Array], ...] = (transposed, batch_last, strided, backwards)
