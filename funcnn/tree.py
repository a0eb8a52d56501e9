"""Trees: nested dicts with arrays at the leaves, and the few verbs they need.

Parameters, gradients and optimizer states are all such trees. A leaf is anything that is not a dict;
its path joins the keys with ``/``: ``"conv1/weight"``. Leaves are visited in sorted order of their
keys, so that every result is independent of the order in which a dict was filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from math import sqrt
from typing import Any, TypeVar

import numpy as np

from funcnn import numerics
from funcnn._checks import array, float_dtype, number, refuse, refuse_type, shown
from funcnn.types import Array, Params

__all__ = [
    "add",
    "allclose",
    "cast",
    "count",
    "dot",
    "equal",
    "flatten",
    "is_statistic",
    "leaves",
    "map",
    "map_with_path",
    "norm",
    "reduce",
    "replace",
    "scale",
    "select",
    "unflatten",
    "zeros_like",
]

T = TypeVar("T")


def _join(path: str, key: str) -> str:
    return f"{path}/{key}" if path else key


def _match(path: str, first: Mapping[str, Any], others: tuple[Any, ...]) -> None:
    """Refuse trees whose keys differ at this path."""
    here = f" at {path!r}" if path else ""
    for other in others:
        if not isinstance(other, dict):
            refuse("tree", f"trees must match{here}: a dict here, a leaf there")
        if other.keys() != first.keys():
            missing = sorted(str(key) for key in first.keys() ^ other.keys())
            refuse("tree", f"trees must match{here}: only one has {', '.join(missing)}")


def map_with_path(fn: Callable[..., Any], tree: Params, *others: Params) -> Params:
    """Apply ``fn(path, leaf, ...)`` to every leaf of one tree, or of several that match.

    Parameters
    ----------
    fn : callable
        ``(path, leaf, *leaves_of_the_others) -> leaf``.
    tree, *others : dict
        Trees with the same keys.

    Returns
    -------
    dict
        A new tree with the keys of `tree`.

    Raises
    ------
    ValueError
        Where the trees do not match; the message has the path.

    Examples
    --------
    >>> map_with_path(lambda path, leaf: path, {"dense1": {"weight": 1}})
    {'dense1': {'weight': 'dense1/weight'}}
    """

    def visit(path: str, node: Any, *rest: Any) -> Any:
        if isinstance(node, dict):
            _match(path, node, rest)
            return {k: visit(_join(path, k), v, *[r[k] for r in rest]) for k, v in node.items()}
        if any(isinstance(other, dict) for other in rest):
            refuse("tree", f"trees must match at {path!r}: a leaf here, a dict there")
        return fn(path, node, *rest)

    if not isinstance(tree, dict):
        refuse_type("tree", f"a tree must be a dict, got {type(tree).__name__}")
    return dict(visit("", tree, *others))


def map(fn: Callable[..., Any], tree: Params, *others: Params) -> Params:
    """Apply ``fn(leaf, ...)`` to every leaf of one tree, or of several that match.

    Parameters
    ----------
    fn : callable
        ``(leaf, *leaves_of_the_others) -> leaf``.
    tree, *others : dict
        Trees with the same keys.

    Returns
    -------
    dict
        A new tree with the keys of `tree`.

    Raises
    ------
    ValueError
        Where the trees do not match; the message has the path.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.map(lambda a, b: a + b, {"w": 1, "b": {"x": 2}}, {"w": 10, "b": {"x": 20}})
    {'w': 11, 'b': {'x': 22}}
    """
    if not isinstance(tree, dict):
        refuse_type("tree", f"a tree must be a dict, got {type(tree).__name__}")
    try:
        return _map(fn, tree, others)
    except _Mismatch:  # walk again, slowly, to word the refusal with its path
        return map_with_path(lambda path, *parts: fn(*parts), tree, *others)


class _Mismatch(Exception):
    """Two trees that differ; the path is found on a second walk."""


def _map(fn: Callable[..., Any], node: Params, others: tuple[Any, ...]) -> Params:
    mapped = {}
    for other in others:
        if not isinstance(other, dict) or other.keys() != node.keys():
            raise _Mismatch
    for key, value in node.items():
        parts = [other[key] for other in others]
        if isinstance(value, dict):
            mapped[key] = _map(fn, value, tuple(parts))
            continue
        for part in parts:
            if isinstance(part, dict):
                raise _Mismatch
        mapped[key] = fn(value, *parts)
    return mapped


def leaves(tree: Params) -> list[tuple[str, Any]]:
    """Every leaf with its path, sorted.

    Parameters
    ----------
    tree : dict
        A tree.

    Returns
    -------
    list of (str, leaf)

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.leaves({"dense1": {"weight": 1, "bias": 2}})
    [('dense1/bias', 2), ('dense1/weight', 1)]
    """

    def visit(path: str, node: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key in sorted(node):
                yield from visit(_join(path, key), node[key])
        else:
            yield path, node

    return list(visit("", tree)) if tree else []


def reduce(fn: Callable[[T, Any], T], tree: Params, initial: T) -> T:
    """Fold the leaves, in sorted order of their paths, into one value.

    Parameters
    ----------
    fn : callable
        ``(so_far, leaf) -> so_far``.
    tree : dict
        A tree.
    initial : object
        The value before the first leaf.

    Returns
    -------
    object
        The value after the last leaf.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.reduce(lambda total, leaf: total + leaf, {"a": 1, "b": {"c": 2}}, 0)
    3
    """
    for _, leaf in leaves(tree):
        initial = fn(initial, leaf)
    return initial


def count(tree: Params) -> int:
    """Number of scalars in all leaves.

    Parameters
    ----------
    tree : dict
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
    return sum(int(np.size(leaf)) for _, leaf in leaves(tree))


def _paired(a: Params, b: Params) -> list[tuple[Any, Any]] | None:
    """The leaves of two trees side by side; None where the trees differ."""
    first, second = leaves(a), leaves(b)
    if [path for path, _ in first] != [path for path, _ in second]:
        return None
    return [(x, y) for (_, x), (_, y) in zip(first, second, strict=True)]


def equal(a: Params, b: Params) -> bool:
    """Whether two trees have the same paths and, leaf by leaf, the same dtype, shape and bits.

    Parameters
    ----------
    a, b : dict
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
    pairs = _paired(a, b)

    def same(x: Any, y: Any) -> bool:
        x, y = np.asarray(x), np.asarray(y)
        return bool(x.dtype == y.dtype) and x.shape == y.shape and x.tobytes() == y.tobytes()

    return pairs is not None and all(same(x, y) for x, y in pairs)


def allclose(a: Params, b: Params, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Whether two trees have the same paths and shapes, and values that are nearly equal.

    Parameters
    ----------
    a, b : dict
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
    pairs = _paired(a, b)
    return pairs is not None and all(
        np.shape(x) == np.shape(y) and bool(np.allclose(x, y, rtol, atol)) for x, y in pairs
    )


def zeros_like(tree: Params) -> Params:
    """A tree of zeros with the same paths, shapes and dtypes.

    Parameters
    ----------
    tree : dict
        A tree of arrays.

    Returns
    -------
    dict

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.zeros_like({"bias": np.ones(2)})
    {'bias': array([0., 0.])}
    """
    return map(np.zeros_like, tree)


def add(a: Params, b: Params) -> Params:
    """Leaf by leaf, ``a + b``.

    Parameters
    ----------
    a, b : dict
        Trees that match.

    Returns
    -------
    dict

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.add({"w": np.ones(2)}, {"w": np.ones(2)})
    {'w': array([2., 2.])}
    """
    return map(lambda x, y: x + y, a, b)


def scale(tree: Params, factor: float) -> Params:
    """Every leaf times a number, in the leaf's own dtype.

    Parameters
    ----------
    tree : dict
        A tree of arrays.
    factor : float
        The number.

    Returns
    -------
    dict

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.scale({"w": np.ones(2)}, 3)
    {'w': array([3., 3.])}
    """
    times = number("scale", "factor", factor)
    return map(lambda leaf: leaf * leaf.dtype.type(times), tree)


def cast(tree: Params, dtype: Any) -> Params:
    """Every floating leaf in another dtype; integer leaves stay as they are.

    Parameters
    ----------
    tree : dict
        A tree of arrays.
    dtype : numpy dtype
        ``np.float32`` or ``np.float64``.

    Returns
    -------
    dict

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.cast({"w": np.ones(1), "step": np.array(3)}, np.float32)
    {'w': array([1.], dtype=float32), 'step': array(3)}
    """

    wanted = float_dtype("cast", dtype)

    def convert(leaf: Array) -> Array:
        return leaf.astype(wanted) if leaf.dtype.kind == "f" else leaf

    return map(convert, tree)


def dot(a: Params, b: Params) -> float:
    """Sum over all leaves and elements of ``a * b``, in float64.

    Parameters
    ----------
    a, b : dict
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
        if np.shape(x) != np.shape(y):
            refuse("tree", f"leaves must have one shape, got {np.shape(x)} and {np.shape(y)}")
        return float(numerics.sum(np.multiply(x, y, dtype=np.float64).reshape(-1)))

    return reduce(lambda total, leaf: total + float(leaf), map(product, a, b), 0.0)


def norm(tree: Params) -> float:
    """The Euclidean norm of all leaves taken as one vector, in float64.

    Parameters
    ----------
    tree : dict
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
    return sqrt(dot(tree, tree))


def select(tree: Params, pattern: str | Callable[[str], bool]) -> Params:
    """The part of a tree whose leaves' paths fit a pattern.

    Parameters
    ----------
    tree : dict
        A tree.
    pattern : str or callable
        A shell pattern (``"conv*/weight"``; ``*`` also crosses ``/``) or ``path -> bool``.

    Returns
    -------
    dict
        The fitting leaves under their old paths; empty dicts are left out.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.select({"conv1": {"weight": 1, "bias": 2}, "dense1": {"bias": 3}}, "*/bias")
    {'conv1': {'bias': 2}, 'dense1': {'bias': 3}}
    """
    if not callable(pattern) and not isinstance(pattern, str):
        refuse_type("select", f"`pattern` must be a str or a function, got {shown(pattern)}")
    fits = pattern if callable(pattern) else lambda path: fnmatchcase(path, pattern)

    def visit(path: str, node: Params) -> Params:
        kept: Params = {}
        for key, value in node.items():
            here = _join(path, key)
            if isinstance(value, dict):
                if inner := visit(here, value):
                    kept[key] = inner
            elif fits(here):
                kept[key] = value
        return kept

    return visit("", tree)


def replace(tree: Params, changes: Mapping[str, Any]) -> Params:
    """A tree with some leaves exchanged.

    Parameters
    ----------
    tree : dict
        A tree.
    changes : mapping of str to leaf
        The new leaf for each path; or a tree of them, such as `select` returns.

    Returns
    -------
    dict

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
    new = {}
    for key, value in changes.items():
        inner = leaves({key: value}) if isinstance(value, dict) else [(key, value)]
        new.update(dict(inner))
    known = {path for path, _ in leaves(tree)}
    for path in new:
        if path not in known:
            refuse("tree", f"`changes` must name leaves of the tree, got {path!r}")
    return map_with_path(lambda path, leaf: new.get(path, leaf), tree)


def flatten(tree: Params) -> Array:
    """All leaves as one vector, in sorted order of their paths.

    Parameters
    ----------
    tree : dict
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


def unflatten(vector: Array, like: Params) -> Params:
    """Cut one vector into a tree, the inverse of `flatten`.

    Parameters
    ----------
    vector : ndarray, ``(count(like),)``
        The values.
    like : dict
        A tree with the paths, shapes and dtypes wanted.

    Returns
    -------
    dict

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
    array("unflatten", vector, "vector")
    if np.shape(vector) != (count(like),):
        refuse("tree", f"`vector` must have shape ({count(like)},), got {np.shape(vector)}")
    cut: dict[str, Array] = {}
    start = 0
    for path, leaf in leaves(like):
        stop = start + np.size(leaf)
        cut[path] = vector[start:stop].reshape(np.shape(leaf)).astype(leaf.dtype)
        start = stop
    return map_with_path(lambda path, leaf: cut[path], like)


def is_statistic(path: str) -> bool:
    """Whether a path names a running statistic: a leaf that no optimizer may touch.

    Parameters
    ----------
    path : str
        As `leaves` gives it.

    Returns
    -------
    bool
        True where the last part starts with ``running_``.

    Examples
    --------
    >>> is_statistic("batch_norm1/running_mean"), is_statistic("batch_norm1/scale")
    (True, False)
    """
    return path.rpartition("/")[2].startswith("running_")
