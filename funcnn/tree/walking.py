"""The one walk over trees, and the verbs that only walk."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, NoReturn, TypeVar

from funcnn.checks import Integer, named, refuse, refuse_type, shown

__all__ = [
    "is_statistic",
    "items",
    "leaves",
    "map",
    "map_several",
    "map_with_path",
    "path",
    "place",
    "reduce",
    "walk",
]

T = TypeVar("T")
_DEEPEST = 2_000  # levels; a tree that holds itself has more
_Keys = tuple[Any, ...]
_Parts = list[dict[Any, Any]]
_Group = tuple[_Keys, list[Any], _Parts, _Parts]
_Closing = tuple[tuple[Any, ...], Any, _Parts]


def walk(outs: _Parts, *trees: Any) -> Iterator[_Group]:
    """Visit what holds the leaves of one tree, or of several that match. Every verb stands on this.

    Parameters
    ----------
    outs : list of dict
        Empty dicts; in the end, each holds under ``""`` a tree like the first one.
    *trees : tree
        Trees that match.

    Returns
    -------
    iterator
        A group ``(keys, names, insides, into)`` for each dict and each tuple. What leads there are
        `keys`, and its path is ``path(*keys)``. The leaves have `names`, their keys or places; each
        tree has there what stands in `insides`, and results belong in `into`, one for each of `outs`.

    Notes
    -----
    It keeps a stack of its own: a tree may be deeper than Python's. Trees that do not match are
    refused before the first group; results become tuples when the last group has been taken.

    Examples
    --------
    >>> for keys, names, (inside,), _ in walk([], {"a": 1, "b": {"c": (2, 3)}}):
    ...     print(repr(path(*keys)), [inside[name] for name in names])
    '' []
    '' [1]
    'b' []
    'b/c' [2, 3]
    """
    for out in outs if isinstance(outs, list) else (None,):
        if not isinstance(out, dict):
            refuse_type(f"`outs` must be a list of dicts, got {shown(outs)}", "tree")
    groups: list[_Group] = []
    tuples: list[_Closing] = []
    todo: list[tuple[_Keys, _Parts, _Parts]] = [
        ((), list(builtins.map(dict.fromkeys, repeat(("",)), trees)), outs)
    ]
    while todo:
        keys, insides, into = todo.pop()
        rest, names = insides[1:], []
        for name, first in insides[0].items():
            kind = type(first)
            if kind is not dict and not isinstance(first, (dict, tuple)):
                for inside in rest:
                    other = inside[name]
                    if type(other) is not kind and isinstance(other, (dict, tuple)):
                        _mismatch((*keys, name), first, other)
                names.append(name)
                continue
            here, nodes = (*keys, name), list(builtins.map(itemgetter(name), insides))
            usual = kind is dict and len(here) <= _DEEPEST
            for inside in rest:
                node = inside[name]
                usual = usual and type(node) is dict and node.keys() == first.keys()
            for key in first:
                usual = usual and type(key) is str
            if not usual:
                nodes = _opened(here, nodes)
            below: _Parts = []
            for out in into:
                out[name] = new = dict.fromkeys(nodes[0])  # in the same order
                below.append(new)
            todo.append((here, nodes, below))
            if isinstance(first, tuple):
                tuples.append((first, name, into))
        groups.append((keys, names, insides, into))
    return chain(groups, _closed(tuples)) if tuples else iter(groups)


def _closed(tuples: list[_Closing]) -> Iterator[_Group]:
    """Make tuples of what stands for them, the inner ones first, once all results are there."""
    node: Any
    for node, name, into in reversed(tuples):
        for out in into:
            parts = out[name].values()
            out[name] = node._make(parts) if hasattr(node, "_make") else tuple(parts)
    yield from ()


def _opened(keys: _Keys, nodes: list[Any]) -> _Parts:
    """What these dicts or tuples hold, by key or place; they must match."""
    first = nodes[0]
    if len(keys) > _DEEPEST:
        refuse(f"a tree must have at most {_DEEPEST} levels: does it hold itself?", "tree")
    if isinstance(first, dict):
        for node in nodes:
            if node is not first and (not isinstance(node, dict) or node.keys() != first.keys()):
                _mismatch(keys, first, node)
        for key in first:
            if not isinstance(key, str):
                refuse_type(f"keys must be strings, got {shown(key)}{_at(keys)}", "tree")
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
    return "/".join(builtins.map(str, keys[1:]))


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
    _text(path)
    return repr(path if len(path) <= 80 else f"{path[:40]}...{path[-40:]}")


def _text(path: str) -> str:
    """A path, and nothing else."""
    if not isinstance(path, str):
        refuse_type(f"`path` must be a str, got {shown(path)}", "tree")
    return path


def _callable(fn: Callable[..., Any]) -> None:
    if not callable(fn):
        refuse_type(f"`fn` must be a function, got {shown(fn)}", "tree")


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
    refuse(f"trees must match{_at(keys)}: {text}", "tree")


def _kind(node: Any) -> str:
    return "a dict" if isinstance(node, dict) else "a tuple" if isinstance(node, tuple) else "a leaf"


@named
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
    _callable(fn)
    whole: _Parts = [{} for _ in range(Integer(0).check("number", number))]
    for keys, names, insides, outs in walk(whole, tree, *others):
        for name in names:
            results = fn(path(*keys, name), *builtins.map(itemgetter(name), insides))
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
    _callable(fn)
    whole: dict[str, T] = {}
    for keys, names, insides, (out,) in walk([whole], tree, *others):
        for name in names:
            out[name] = fn(path(*keys, name), *builtins.map(itemgetter(name), insides))
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
    _callable(fn)
    whole: dict[str, T] = {}
    for _, names, insides, (out,) in walk([whole], tree, *others):
        for name in names:
            out[name] = fn(*builtins.map(itemgetter(name), insides))
    return whole[""]


def paired(*trees: Any) -> list[tuple[Any, ...]]:
    """The keys to each leaf, and the leaf of each tree, in sorted order of the keys."""
    found = [
        ((*keys, name), *builtins.map(itemgetter(name), insides))
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
    return [(path(*keys), leaf) for keys, leaf in paired(tree)]


def ordered(tree: Any) -> list[tuple[_Keys, Any]]:
    """The keys to each leaf, and the leaf, in the tree's own order."""
    places: dict[_Keys, tuple[int, ...]] = {(): ()}
    found = []
    for keys, names, (inside,), _ in walk([], tree):
        for place, name in enumerate(inside):
            places[(*keys, name)] = (*places[keys], place)
        found += [(places[(*keys, name)], (*keys, name), inside[name]) for name in names]
    return [(keys, leaf) for _, keys, leaf in sorted(found, key=itemgetter(0))]


def nested(leaves: Iterable[tuple[Iterable[str], Any]]) -> dict[str, Any]:
    """Dicts in dicts, of the keys to each leaf, and the leaf."""
    whole: dict[str, Any] = {}
    for (*parents, last), leaf in leaves:
        node = whole
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return whole


def items(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with its path, in the tree's own order: that of a network's layers.

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
    >>> tree.items({"dense1": {"weight": 1, "bias": 2}})
    [('dense1/weight', 1), ('dense1/bias', 2)]
    """
    return [(path(*keys), leaf) for keys, leaf in ordered(tree)]


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
    _callable(fn)
    for _, leaf in leaves(tree):
        initial = fn(initial, leaf)
    return initial


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
    return _text(path).rpartition("/")[2].startswith("running_")
