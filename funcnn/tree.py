"""Trees: an array, or tuples and dicts of trees, and the few verbs they need.

Inputs, outputs and targets are such trees; parameters, gradients and optimizer states are trees of
dicts alone. A leaf is anything that is neither a dict nor a tuple. Its path joins the keys, or the
places in a tuple, with ``/``: ``"conv1/weight"``, ``"0/mask"``; the path of a lone leaf is ``""``.
Leaves are visited in sorted order of the keys, so that no result depends on the order in which a
dict was filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from math import sqrt
from operator import itemgetter
from typing import Any, NoReturn, TypeVar

import numpy as np

from funcnn import numerics
from funcnn._checks import RefusedValue, array, float_dtype, number, refuse, refuse_type, shown
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
    "map_several",
    "map_with_path",
    "norm",
    "path",
    "place",
    "reduce",
    "replace",
    "scale",
    "select",
    "unflatten",
    "walk",
    "zeros_like",
]

T = TypeVar("T")
_DEEPEST = 2_000  # levels; a tree that holds itself has more
_Keys = tuple[Any, ...]
_Parts = list[dict[Any, Any]]


def walk(outs: _Parts, *trees: Any) -> Iterator[tuple[_Keys, list[Any], _Parts, _Parts]]:
    """Visit what holds the leaves of one tree, or of several that match. Every verb stands on this.

    Parameters
    ----------
    outs : list of dict
        Empty dicts; in the end, each holds under ``""`` a tree like the first one.
    *trees : tree
        Trees that match.

    Yields
    ------
    keys : tuple
        What leads to a dict or a tuple; its path is ``path(keys)``.
    names : list
        The keys or places of the leaves in it.
    insides : list of dict
        What each tree has there, by name.
    into : list of dict
        Where results belong, by name; one for each of `outs`.

    Notes
    -----
    It keeps a stack of its own: a tree may be deeper than Python's.

    Examples
    --------
    >>> for keys, names, (inside,), _ in walk([], {"a": 1, "b": {"c": (2, 3)}}):
    ...     print(repr(path(*keys)), [inside[name] for name in names])
    '' []
    '' [1]
    'b' []
    'b/c' [2, 3]
    """
    todo: list[tuple[_Keys, _Parts, _Parts]] = [((), [{"": tree} for tree in trees], outs)]
    tuples = []
    while todo:
        keys, insides, into = todo.pop()
        rest, names = insides[1:], []
        for name, first in insides[0].items():
            if isinstance(first, (dict, tuple)):
                here = (*keys, name)
                opened = _opened(here, [inside[name] for inside in insides])
                below: _Parts = []
                for out in into:
                    out[name] = new = dict.fromkeys(opened[0])  # in the same order
                    below.append(new)
                todo.append((here, opened, below))
                if isinstance(first, tuple):
                    tuples.append((first, name, into))
            else:
                for inside in rest:
                    if isinstance(inside[name], (dict, tuple)):
                        _mismatch((*keys, name), first, inside[name])
                names.append(name)
        yield keys, names, insides, into
    for node, name, into in reversed(tuples):  # the inner ones first
        for out in into:
            parts = out[name].values()
            out[name] = node._make(parts) if hasattr(node, "_make") else tuple(parts)


def _opened(keys: _Keys, nodes: list[Any]) -> _Parts:
    """What these dicts or tuples hold, by key or place; they must match."""
    first = nodes[0]
    if len(keys) > _DEEPEST:
        refuse("tree", f"a tree must have at most {_DEEPEST} levels: does it hold itself?")
    if isinstance(first, dict):
        for node in nodes:
            if node is not first and (not isinstance(node, dict) or node.keys() != first.keys()):
                _mismatch(keys, first, node)
        for key in first:
            if not isinstance(key, str):
                refuse_type("tree", f"keys must be strings, got {shown(key)}{_at(keys)}")
        return nodes
    for node in nodes:
        if not isinstance(node, tuple) or len(node) != len(first):
            _mismatch(keys, first, node)
    return [dict(enumerate(node)) for node in nodes]


def path(*keys: Any) -> str:
    """The path to which keys lead, as `walk` gives them.

    Parameters
    ----------
    *keys : str or int
        The first stands for the whole tree and has no name.

    Returns
    -------
    str

    Examples
    --------
    >>> path("", "encoder", 0, "weight")
    'encoder/0/weight'
    """
    return "/".join([str(key) for key in keys[1:]])


def place(path: str) -> str:
    """A path as a message quotes it: a long one without its middle.

    Parameters
    ----------
    path : str
        As `leaves` gives it.

    Returns
    -------
    str

    Examples
    --------
    >>> place("conv1/weight")
    "'conv1/weight'"
    """
    return repr(path if len(path) <= 80 else f"{path[:40]}...{path[-40:]}")


def _at(keys: _Keys) -> str:
    """Where something is, in a message."""
    return f" at {place(path(*keys))}" if len(keys) > 1 else ""


def _mismatch(keys: _Keys, first: Any, other: Any) -> NoReturn:
    """Refuse what differs at these keys."""
    here, there = _kind(first), _kind(other)
    if here != there:
        text = f"{here} here, {there} there"
    elif here == "a tuple":
        text = f"{len(first)} things here, {len(other)} there"
    else:
        missing = sorted(str(key)[:40] for key in first.keys() ^ other.keys())
        text = f"only one has {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}"
    refuse("tree", f"trees must match{_at(keys)}: {text}")


def _kind(node: Any) -> str:
    return "a dict" if isinstance(node, dict) else "a tuple" if isinstance(node, tuple) else "a leaf"


def map_several(
    fn: Callable[..., tuple[Any, ...]], number: int, tree: Any, *others: Any
) -> tuple[Any, ...]:
    """Apply a function with several results to every leaf: one new tree for each result.

    Parameters
    ----------
    fn : callable
        ``(path, leaf, *leaves_of_the_others) -> (leaf, ...)``.
    number : int
        How many results it has.
    tree, *others : tree
        Trees that match.

    Returns
    -------
    tuple
        So many new trees of the form of `tree`.

    Raises
    ------
    ValueError
        Where the trees do not match; the message has the path.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.map_several(lambda path, leaf: (path, -leaf), 2, {"w": 1, "x": (2, 3)})
    ({'w': 'w', 'x': ('x/0', 'x/1')}, {'w': -1, 'x': (-2, -3)})
    """
    whole: _Parts = [{} for _ in range(number)]
    for keys, names, insides, outs in walk(whole, tree, *others):
        for name in names:
            results = fn(path(*keys, name), *[inside[name] for inside in insides])
            for out, result in zip(outs, results, strict=True):
                out[name] = result
    return tuple(out[""] for out in whole)


def map_with_path(fn: Callable[..., Any], tree: T, *others: Any) -> T:
    """Apply ``fn(path, leaf, ...)`` to every leaf of one tree, or of several that match.

    Parameters
    ----------
    fn : callable
        ``(path, leaf, *leaves_of_the_others) -> leaf``.
    tree, *others : tree
        Trees that match: dicts with the same keys, tuples of the same length.

    Returns
    -------
    tree
        A new tree of the form of `tree`; named tuples stay what they are.

    Raises
    ------
    ValueError
        Where the trees do not match; the message has the path.

    Examples
    --------
    >>> map_with_path(lambda path, leaf: path, {"dense1": {"weight": 1}})
    {'dense1': {'weight': 'dense1/weight'}}
    """
    whole: dict[str, T] = {}
    for keys, names, insides, (out,) in walk([whole], tree, *others):
        for name in names:
            out[name] = fn(path(*keys, name), *[inside[name] for inside in insides])
    return whole[""]


def map(fn: Callable[..., Any], tree: T, *others: Any) -> T:
    """Apply ``fn(leaf, ...)`` to every leaf of one tree, or of several that match.

    Parameters
    ----------
    fn : callable
        ``(leaf, *leaves_of_the_others) -> leaf``.
    tree, *others : tree
        Trees that match: dicts with the same keys, tuples of the same length.

    Returns
    -------
    tree
        A new tree of the form of `tree`; named tuples stay what they are.

    Raises
    ------
    ValueError
        Where the trees do not match; the message has the path.

    Examples
    --------
    >>> from funcnn import tree
    >>> tree.map(lambda a, b: a + b, {"w": 1, "b": {"x": 2}}, {"w": 10, "b": {"x": 20}})
    {'w': 11, 'b': {'x': 22}}
    >>> tree.map(lambda leaf: -leaf, (1, (2, 3)))
    (-1, (-2, -3))
    """
    whole: dict[str, T] = {}
    for _, names, insides, (out,) in walk([whole], tree, *others):
        for name in names:
            out[name] = fn(*[inside[name] for inside in insides])
    return whole[""]


def _paired(*trees: Any) -> list[tuple[Any, ...]]:
    """The keys to each leaf, and the leaf of each tree, in sorted order of the keys."""
    found = [
        ((*keys, name), *[inside[name] for inside in insides])
        for keys, names, insides, _ in walk([], *trees)
        for name in names
    ]
    return sorted(found, key=itemgetter(0))


def leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with its path, sorted.

    Parameters
    ----------
    tree : tree
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
    return [(path(*keys), leaf) for keys, leaf in _paired(tree)]


def reduce(fn: Callable[[T, Any], T], tree: Any, initial: T) -> T:
    """Fold the leaves, in sorted order of their paths, into one value.

    Parameters
    ----------
    fn : callable
        ``(so_far, leaf) -> so_far``.
    tree : tree
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
    return sum(int(np.size(leaf)) for _, leaf in leaves(tree))


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
        return all(holds(x, y) for _, x, y in _paired(a, b))
    except RefusedValue:
        return False


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
        return np.shape(x) == np.shape(y) and bool(np.allclose(x, y, rtol, atol))

    return _all(near, a, b)


def zeros_like(tree: T) -> T:
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


def add(a: T, b: T) -> T:
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
    return map(lambda x, y: np.asarray(x + y), a, b)  # a sum of numbers, too, stays an array


def scale(tree: T, factor: float) -> T:
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
    times = number("scale", "factor", factor)
    return map(lambda leaf: np.asarray(leaf * leaf.dtype.type(times)), tree)


def cast(tree: T, dtype: Any) -> T:
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

    wanted = float_dtype("cast", dtype)

    def convert(leaf: Array) -> Array:
        return leaf.astype(wanted) if leaf.dtype.kind == "f" else leaf

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
        if np.shape(x) != np.shape(y):
            refuse("tree", f"leaves must have one shape, got {np.shape(x)} and {np.shape(y)}")
        return float(numerics.sum(np.multiply(x, y, dtype=np.float64).reshape(-1)))

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
    return sqrt(dot(tree, tree))


def select(tree: Any, pattern: str | Callable[[str], bool]) -> Params:
    """The part of a tree whose leaves' paths fit a pattern.

    Parameters
    ----------
    tree : tree
        A tree.
    pattern : str or callable
        A shell pattern (``"conv*/weight"``; ``*`` also crosses ``/``) or ``path -> bool``.

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
    if not callable(pattern) and not isinstance(pattern, str):
        refuse_type("select", f"`pattern` must be a str or a function, got {shown(pattern)}")
    fits = pattern if callable(pattern) else lambda path: fnmatchcase(path, pattern)

    kept: Params = {}
    fitting = {here for here, _ in leaves(tree) if fits(here)}
    ahead: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while ahead:
        keys, node = ahead.pop()
        if isinstance(node, (dict, tuple)):
            inside = node.items() if isinstance(node, dict) else enumerate(node)
            ahead += reversed([((*keys, str(key)), part) for key, part in inside])
        elif "/".join(keys) in fitting:
            into = kept
            for key in keys[:-1]:
                into = into.setdefault(key, {})
            into[keys[-1]] = node
    return kept


def replace(tree: T, changes: Mapping[str, Any]) -> T:
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
    new, known = dict(leaves(dict(changes))), {path for path, _ in leaves(tree)}
    for path in new:
        if path not in known:
            refuse("tree", f"`changes` must name leaves of the tree, got {path!r}")
    return map_with_path(lambda path, leaf: new.get(path, leaf), tree)


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


def unflatten(vector: Array, like: T) -> T:
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
    array("unflatten", vector, "vector")
    if np.shape(vector) != (count(like),):
        refuse("tree", f"`vector` must have shape ({count(like)},), got {np.shape(vector)}")
    start, ends = 0, {}
    for keys, leaf in _paired(like):
        ends[keys] = start = start + np.size(leaf)
    whole: dict[str, T] = {}
    for keys, names, (inside,), (out,) in walk([whole], like):
        for name in names:
            leaf, end = inside[name], ends[(*keys, name)]
            out[name] = vector[end - leaf.size : end].reshape(leaf.shape).astype(leaf.dtype)
    return whole[""]


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
