"""Trees as the laws see them: their leaves, other values in them, and other places in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import tree
from funcnn.types import Array


def leaves(data: Any, path: str = "") -> list[tuple[str, Any]]:
    """All leaves with their paths; of caches too, in which there may be lists, and other keys."""
    if isinstance(data, np.ndarray):
        return [(path, data)]
    return tree.leaves({path: _as_tree(data)} if path else _as_tree(data))


def _as_tree(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(name): _as_tree(part) for name, part in data.items()}
    return tuple(map(_as_tree, data)) if isinstance(data, (tuple, list)) else data


def mapped(fn: Callable[..., Any], data: Any, *others: Any) -> Any:
    """The same tree, with ``fn(leaf, ...)`` at the leaves."""
    return tree.map(fn, data, *others)


def mapped_with_path(fn: Callable[..., Any], data: Any, path: str = "") -> Any:
    """The same tree, with ``fn(path, leaf)`` at the leaves."""
    return tree.map_with_path(fn, {path: data})[path] if path else tree.map_with_path(fn, data)


def replaced(data: Any, at: str, new: Any, path: str = "") -> Any:
    """The same tree, with another leaf at one path."""
    return mapped_with_path(lambda here, leaf: new if here == at else leaf, data, path)


def is_float(leaf: object) -> bool:
    """Whether this is an array that has a gradient."""
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"


def cast(data: Any, dtype: Any) -> Any:
    """The floating leaves in another dtype; the others as they are."""
    return mapped(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, data)


def copied(data: Any) -> Any:
    """A tree of writable copies."""
    return mapped(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, data)


def frozen(data: Any) -> Any:
    """The same tree, its arrays made read-only."""
    if isinstance(data, np.ndarray):
        data.flags.writeable = False
    elif isinstance(data, (dict, tuple, list)):
        for part in data.values() if isinstance(data, dict) else data:
            frozen(part)
    return data


def batch(data: Any, part: Any) -> Any:
    """A part of the batch, read-only and in memory of its own."""
    return frozen(mapped(lambda leaf: leaf[part].copy(), data))


def shapes(data: Any) -> Any:
    """The tree of the arrays' shapes."""
    return mapped(np.shape, data)


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
    """The first axis fastest, as Fortran has it, and no number at a multiple of its size."""
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:]
    out = memory.view(x.dtype).reshape(x.shape, order="F")
    out[...] = x
    return out


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
