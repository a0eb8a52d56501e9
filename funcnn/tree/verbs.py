"""Verbs on trees of arrays: counting, comparing, adding, choosing by path, one vector and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from math import inf, sqrt
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.checks import (
    Instance,
    Number,
    RefusedValue,
    array,
    float_dtype,
    named,
    refuse,
    refuse_type,
    shown,
    takes,
    within,
)
from funcnn.tree.walking import (
    leaves,
    map,
    map_with_path,
    nested,
    ordered,
    paired,
    path,
    place,
    reduce,
    walk,
)
from funcnn.types import Array, Layer, Params, X

__all__ = [
    "add",
    "allclose",
    "cast",
    "count",
    "dot",
    "equal",
    "flatten",
    "is_finite",
    "norm",
    "replace",
    "scale",
    "select",
    "unflatten",
    "zeros_like",
]


def count(tree: Any) -> int:
    """Number of scalars in all leaves.

    Parameters
    ----------
    tree : tree
        A tree of arrays.

    Returns
    -------
    int

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.count({"weight": np.zeros((3, 4)), "bias": np.zeros(3)})
    15
    """
    total = 0
    for _, names, (inside,), _ in walk([], tree):
        for name in names:
            total += int(np.size(inside[name]))
    return total


def equal(a: Any, b: Any) -> bool:
    """Whether two trees match and have, leaf by leaf, the same dtype, shape and bits.

    Parameters
    ----------
    a, b : tree
        Trees.

    Returns
    -------
    bool
        NaN equals NaN of the same bits; ``-0.0`` does not equal ``0.0``.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.equal({"w": np.zeros(2)}, {"w": np.zeros(2)})
    True
    >>> tree.equal({"w": np.zeros(2)}, {"w": np.zeros(2, np.float32)})
    False
    """

    def same(x: Any, y: Any) -> bool:
        x, y = np.asarray(x), np.asarray(y)
        return bool(x.dtype == y.dtype) and x.shape == y.shape and x.tobytes() == y.tobytes()

    return _all(same, a, b)


def _all(holds: Callable[[Any, Any], bool], a: Any, b: Any) -> bool:
    """Whether two trees match, and something holds for each pair of leaves."""
    try:
        return all(holds(x, y) for _, x, y in paired(a, b))
    except RefusedValue:
        for tree in (a, b):
            list(leaves(tree))  # refuses what is too deep to be compared
        return False


@takes(rtol=Number(minimum=0), atol=Number(minimum=0))
def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Whether two trees match and have the same shapes, and values that are nearly equal.

    Parameters
    ----------
    a, b : tree
        Trees.
    rtol, atol : float
        As in `numpy.allclose`.

    Returns
    -------
    bool

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.allclose({"w": np.ones(2)}, {"w": np.ones(2) + 1e-9})
    True
    """

    def near(x: Any, y: Any) -> bool:
        with np.errstate(over="ignore"):  # of a large tolerance
            return np.shape(x) == np.shape(y) and bool(np.allclose(_array(x), _array(y), rtol, atol))

    return _all(near, a, b)


def is_finite(tree: Any) -> bool:
    """Whether all numbers in all leaves are finite.

    Parameters
    ----------
    tree : tree
        A tree of arrays.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import tree
    >>> tree.is_finite({"a": np.ones(2), "b": (np.array(np.nan),)})
    False
    """
    return all(np.isfinite(_array(leaf)).all() for _, leaf in leaves(tree))


def _array(leaf: Any) -> Array:
    """A leaf, of numbers."""
    found = np.asarray(leaf)
    if found.dtype.kind not in "biuf":
        refuse_type(f"leaves must be arrays of numbers, got {shown(leaf)}", "tree")
    return found


def _alike(x: Any, y: Any) -> tuple[Array, Array]:
    """Two leaves of one shape."""
    if np.shape(x) != np.shape(y):
        refuse(f"leaves must have one shape, got {np.shape(x)} and {np.shape(y)}", "tree")
    return _array(x), _array(y)


def zeros_like(tree: X) -> X:
    """A tree of zeros with the same paths, shapes and dtypes.

    Parameters
    ----------
    tree : tree
        A tree of arrays.

    Returns
    -------
    tree

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.zeros_like({"bias": np.ones(2)})
    {'bias': array([0., 0.])}
    """
    return map(np.zeros_like, tree)


def add(a: X, b: X) -> X:
    """Leaf by leaf, ``a + b``.

    Parameters
    ----------
    a, b : tree
        Trees that match.

    Returns
    -------
    tree

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.add({"w": np.ones(2)}, {"w": np.ones(2)})
    {'w': array([2., 2.])}
    """
    return map(lambda *pair: np.asarray(np.add(*_alike(*pair))), a, b)


@takes(factor=Number())
def scale(tree: X, factor: float) -> X:
    """Every leaf times a number, in the leaf's own dtype.

    Parameters
    ----------
    tree : tree
        A tree of arrays.
    factor : float
        The number.

    Returns
    -------
    tree

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.scale({"w": np.ones(2)}, 3)
    {'w': array([3., 3.])}
    """

    def times(leaf: Array) -> Array:
        found = _array(leaf)
        floats = found.dtype.kind == "f"
        number = within(factor, "factor", found.dtype) if floats else found.dtype.type(factor)
        return np.asarray(found * number)

    return map(times, tree)


@named
def cast(tree: X, dtype: Any) -> X:
    """Every floating leaf in another dtype; integer leaves stay as they are.

    Parameters
    ----------
    tree : tree
        A tree of arrays.
    dtype : numpy dtype
        ``np.float32`` or ``np.float64``.

    Returns
    -------
    tree

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.cast({"w": np.ones(1), "step": np.array(3)}, np.float32)
    {'w': array([1.], dtype=float32), 'step': array(3)}
    """

    wanted = float_dtype(dtype)

    def convert(leaf: Array) -> Array:
        found = _array(leaf)
        return found.astype(wanted) if found.dtype.kind == "f" else found

    return map(convert, tree)


def dot(a: Any, b: Any) -> float:
    """Sum over all leaves and elements of ``a * b``, in float64.

    Parameters
    ----------
    a, b : tree
        Trees that match.

    Returns
    -------
    float

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.dot({"w": np.array([1.0, 2.0])}, {"w": np.array([3.0, 4.0])})
    11.0
    """

    def product(x: Array, y: Array) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(numerics.sum(np.multiply(*_alike(x, y), dtype=np.float64).reshape(-1)))

    return reduce(lambda total, leaf: total + float(leaf), map(product, a, b), 0.0)


def norm(tree: Any) -> float:
    """The Euclidean norm of all leaves taken as one vector, in float64.

    Parameters
    ----------
    tree : tree
        A tree of arrays.

    Returns
    -------
    float

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.norm({"a": np.array([3.0]), "b": {"c": np.array([4.0])}})
    5.0
    """
    found = dot(tree, tree)
    if found != found or 1e-290 < found < inf:
        return sqrt(found)
    most = reduce(lambda so_far, leaf: max(so_far, float(np.max(np.abs(leaf), initial=0))), tree, 0.0)
    if not 0 < most < inf:
        return most
    share = map(lambda leaf: np.asarray(leaf, np.float64) / most, tree)
    return most * sqrt(dot(share, share))


def select(tree: Any, pattern: str | Callable[[str], bool] | Layer[Any, Any]) -> Params:
    """The part of a tree whose leaves' paths fit a pattern.

    Parameters
    ----------
    tree : tree
        A tree.
    pattern : str, callable or Layer
        A shell pattern (``"conv*/weight"``; ``*`` also crosses ``/``), ``path -> bool``, or a part of
        a network, such as ``net[0:3]``, for the params of the layers inside it.

    Returns
    -------
    dict
        The fitting leaves under their old paths, in the tree's own order; what is left of a tuple is
        a dict, too: ``{"1": ...}``.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.select({"conv1": {"weight": 1, "bias": 2}, "dense1": {"bias": 3}}, "*/bias")
    {'conv1': {'bias': 2}, 'dense1': {'bias': 3}}
    """
    if isinstance(pattern, Layer) and pattern.children:
        inside = {name for name, _ in pattern.children}
        return select(tree, lambda path: path.partition("/")[0] in inside)
    if not isinstance(pattern, str) and (isinstance(pattern, type) or not callable(pattern)):
        kinds = "a str, a function or a network"
        refuse_type(f"`pattern` must be {kinds}, got {shown(pattern)}", "select")
    fits = pattern if callable(pattern) else lambda path: fnmatchcase(path, pattern)

    kept = ((keys, leaf) for keys, leaf in ordered(tree) if fits(path(*keys)))
    return nested(([str(key) for key in keys[1:] or keys], leaf) for keys, leaf in kept)


@takes(changes=Instance(Mapping, "a dict of leaves"))
def replace(tree: X, changes: Mapping[str, Any]) -> X:
    """A tree with some leaves exchanged.

    Parameters
    ----------
    tree : tree
        A tree.
    changes : mapping of str to leaf
        The new leaf for each path; or a tree of them, such as `select` returns.

    Returns
    -------
    tree

    Raises
    ------
    ValueError
        For a path that is no leaf of `tree`.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.replace({"conv1": {"weight": 1, "bias": 2}}, {"conv1/bias": 0})
    {'conv1': {'weight': 1, 'bias': 0}}
    """
    new = dict(leaves(dict(changes)))
    whole = map_with_path(new.pop, tree)
    for name in new:
        refuse(f"`changes` must name leaves of the tree, got {place(name)}", "tree")
    return whole


def flatten(tree: Any) -> Array:
    """All leaves as one vector, in sorted order of their paths.

    Parameters
    ----------
    tree : tree
        A tree of arrays.

    Returns
    -------
    ndarray, ``(count(tree),)``
        Undone by `unflatten`.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.flatten({"w": np.ones((2, 1)), "b": np.zeros(1)})
    array([0., 1., 1.])
    """
    parts = [np.ravel(leaf) for _, leaf in leaves(tree)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


@named
def unflatten(vector: Array, like: X) -> X:
    """Cut one vector into a tree, the inverse of `flatten`.

    Parameters
    ----------
    vector : ndarray, ``(count(like),)``
        The values.
    like : tree
        A tree with the paths, shapes and dtypes wanted.

    Returns
    -------
    tree

    Raises
    ------
    ValueError
        For a vector of another length.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.unflatten(np.arange(3.0), {"w": np.ones((2, 1)), "b": np.zeros(1)})
    {'w': array([[1.],
           [2.]]), 'b': array([0.])}
    """
    array(vector, "vector")
    if np.shape(vector) != (count(like),):
        refuse(f"`vector` must have shape ({count(like)},), got {np.shape(vector)}", "tree")
    start, ends = 0, {}
    for keys, leaf in paired(like):
        ends[keys] = start = start + np.size(leaf)
    whole: dict[str, X] = {}
    for keys, names, (inside,), (out,) in walk([whole], like):
        for name in names:
            leaf, end = inside[name], ends[(*keys, name)]
            out[name] = vector[end - leaf.size : end].reshape(leaf.shape).astype(leaf.dtype)
    return whole[""]
