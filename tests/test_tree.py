"""Trees: every verb, and what is refused with its path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from funcnn import numerics, tree
from funcnn.types import Array

Tree = Any
_X = np.zeros(2)


class Pair(NamedTuple):
    x: Any
    y: Any


_names = st.text("abz_", min_size=1, max_size=3)
_arrays = st.lists(st.integers(0, 3), max_size=3).map(
    lambda shape: np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
)
trees: st.SearchStrategy[Tree] = st.recursive(
    _arrays,
    lambda inner: (
        st.dictionaries(_names, inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=8,
)


def _sample() -> Tree:
    return {
        "dense1": {"weight": np.array([[3.0, 4.0]]), "bias": np.array([12.0])},
        "scale": np.array(2.0),
    }


@settings(max_examples=60, deadline=None)
@given(trees)
def test_one_vector_and_back(params: Tree) -> None:
    vector = tree.flatten(params)
    assert vector.shape == (tree.count(params),)
    assert tree.equal(tree.unflatten(vector, params), params)


@settings(max_examples=60, deadline=None)
@given(trees)
def test_leaves_are_sorted_and_do_not_depend_on_the_order_of_filling(params: Tree) -> None:
    def turned(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: turned(node[key]) for key in reversed(list(node))}
        if isinstance(node, Pair):
            return Pair(turned(node.x), turned(node.y))
        return tuple(map(turned, node)) if isinstance(node, tuple) else node

    paths = [path for path, _ in tree.leaves(params)]
    assert len(set(paths)) == len(paths)
    assert paths == [path for path, _ in tree.leaves(turned(params))]
    places = [[(len(key), key) if key.isdigit() else (0, key) for key in p.split("/")] for p in paths]
    assert places == sorted(places)
    assert tree.equal(params, turned(params))


@settings(max_examples=60, deadline=None)
@given(trees)
def test_map_makes_a_new_tree_of_the_same_paths(params: Tree) -> None:
    doubled = tree.map(lambda leaf: 2 * leaf, params)
    assert [path for path, _ in tree.leaves(doubled)] == [path for path, _ in tree.leaves(params)]
    assert tree.equal(doubled, tree.add(params, params))
    assert tree.equal(doubled, tree.scale(params, 2.0))
    assert tree.equal(tree.map_with_path(lambda path, leaf: 2 * leaf, params), doubled)
    same, paths = tree.map_several(lambda path, leaf: (leaf, path), 2, params)
    assert tree.equal(same, params)
    assert tree.leaves(paths) == [(path, path) for path, _ in tree.leaves(params)]


@settings(max_examples=60, deadline=None)
@given(trees)
def test_select_and_replace_by_path(params: Tree) -> None:
    part = tree.select(params, "*a*")
    assert [path for path, _ in tree.leaves(part)] == [p for p, _ in tree.leaves(params) if "a" in p]
    assert tree.equal(tree.replace(params, part), params)
    zeros = tree.replace(params, tree.zeros_like(part))
    for path, leaf in tree.leaves(zeros):
        assert not np.any(leaf) if "a" in path else leaf is dict(tree.leaves(params))[path]


def test_map_over_several() -> None:
    found = tree.map(lambda a, b, c: a + b * c, {"x": {"y": 1}}, {"x": {"y": 2}}, {"x": {"y": 3}})
    assert found == {"x": {"y": 7}}
    assert tree.map(lambda leaf: leaf, {}) == {}
    assert tree.leaves({}) == []


def test_a_tree_may_be_an_array_a_tuple_a_named_tuple_or_a_dict() -> None:
    x, y, mask = np.ones((2, 3)), np.zeros(2), np.array([True, False])
    assert tree.map(np.ndim, x) == 2
    assert tree.leaves(x) == [("", x)]
    whole = (Pair(x, {"y": y}), (), mask)
    assert [path for path, _ in tree.leaves(whole)] == ["0/0", "0/1/y", "2"]
    halves = tree.map(lambda leaf: leaf[:1], whole)
    assert isinstance(halves[0], Pair)
    assert halves[0].x.shape == (1, 3)
    assert halves[1] == ()
    joined = tree.map(lambda *parts: np.concatenate(parts), whole, whole)
    assert joined[0].y["y"].shape == (4,)
    assert tree.select(whole, "*y")["0"]["1"]["y"] is y
    assert tree.equal(tree.replace(whole, tree.select(whole, "0/*")), whole)
    assert tree.flatten(whole[0]).shape == (8,)
    many = tuple(np.full(1, place) for place in range(12))
    assert tree.flatten(many).tolist() == list(range(12))  # place 10 after 9, not after 1


def test_trees_of_another_form_are_not_equal() -> None:
    x = np.ones(2)
    assert not tree.equal((x,), {"0": x})
    assert not tree.equal((x,), x)
    assert not tree.equal({"a": {}}, {})
    assert not tree.equal({"a/b": x}, {"a": {"b": x}})
    assert not tree.allclose((x, x), (x,))
    assert tree.equal({"a/b": x, "a": {"b": 2 * x}}, {"a": {"b": 2 * x}, "a/b": x})
    both = {"a/b": x, "a": {"b": 2 * x}}
    assert tree.equal(tree.unflatten(tree.flatten(both), both), both)


def _deep(levels: int, leaf: Array) -> Tree:
    node: Tree = leaf
    for level in range(levels):
        node = (node,) if level % 2 else {"a": node, "b": leaf}
    return node


def test_a_tree_may_be_deeper_than_the_stack() -> None:
    params, other = _deep(1_500, _X), _deep(1_500, np.zeros(3))
    assert tree.count(params) == 2 * 751
    assert tree.norm(tree.add(params, params)) == 0
    assert len(tree.leaves(tree.select(params, "*b"))) == 750
    assert tree.equal(tree.unflatten(tree.flatten(params), params), params)
    assert tree.equal(tree.replace(params, {"b" if isinstance(params, dict) else "0/b": _X}), params)
    assert not tree.equal(params, other)
    with pytest.raises(ValueError, match="trees must match at '0/a/0") as caught:
        tree.add(params, _deep(1_498, _X))
    assert len(str(caught.value)) < 300


def test_a_tree_that_holds_itself_is_refused() -> None:
    loop: dict[str, Any] = {"x": _X}
    loop["loop"] = (loop, loop)
    with pytest.raises(ValueError, match="at most 2000 levels: does it hold itself"):
        tree.leaves(loop)


def test_reduce_goes_from_the_first_path_to_the_last() -> None:
    assert tree.reduce(lambda text, leaf: text + leaf, {"b": "2", "a": {"z": "1"}}, "0") == "012"


def test_norm_and_dot_are_over_all_leaves_in_float64() -> None:
    params = _sample()
    assert tree.norm(params) == np.sqrt(9 + 16 + 144 + 4)
    assert tree.dot(params, tree.scale(params, 2)) == 2 * (9 + 16 + 144 + 4)
    big = {"w": np.full(10, 1e30, np.float32)}
    assert tree.norm(big) == pytest.approx(np.sqrt(10) * 1e30, rel=1e-6)  # float32 would overflow
    assert tree.norm({}) == 0.0
    with numerics.portable():
        assert tree.norm(params) == np.sqrt(9 + 16 + 144 + 4)


def test_cast_leaves_integers_alone() -> None:
    found = tree.cast({"w": np.ones(2), "step": np.array(3)}, np.float32)
    assert found["w"].dtype == np.float32
    assert found["step"].dtype == np.int64


def test_scale_stays_in_the_leafs_dtype() -> None:
    assert tree.scale({"w": np.ones(2, np.float32)}, 0.1)["w"].dtype == np.float32


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (np.zeros(2), np.zeros(2), True),
        (np.zeros(2), -np.zeros(2), False),
        (np.array([np.nan]), np.array([np.nan]), True),
        (np.zeros(2), np.zeros(2, np.float32), False),
        (np.zeros(2), np.zeros((2, 1)), False),
        (np.zeros((2, 3)), np.zeros((3, 2)).T, True),
    ],
)
def test_equal_means_the_same_bits(a: Array, b: Array, same: bool) -> None:
    assert tree.equal({"w": a}, {"w": b}) is same
    assert not tree.equal({"w": a}, {"v": a})
    assert not tree.equal({"w": a}, {"w": a, "v": a})


def test_allclose_wants_the_same_shapes() -> None:
    assert tree.allclose({"w": np.ones(2)}, {"w": np.ones(2) + 1e-9})
    assert not tree.allclose({"w": np.ones(2)}, {"w": np.ones(2) + 1e-3})
    assert tree.allclose({"w": np.ones(2)}, {"w": np.ones(2) + 1e-3}, rtol=1e-2)
    assert not tree.allclose({"w": np.ones(2)}, {"w": np.ones((2, 1))})
    assert not tree.allclose({"w": np.ones(2)}, {})


def test_select_takes_a_function_and_leaves_no_empty_parts() -> None:
    assert tree.select(_sample(), lambda path: path.endswith("scale")) == {"scale": 2.0}
    assert tree.select(_sample(), "nothing*") == {}


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("running_mean", True),
        ("a/running_var", True),
        ("running_mean/weight", False),
        ("arunning_mean", False),
    ],
)
def test_statistics_are_known_by_their_name(path: str, is_one: bool) -> None:
    assert tree.is_statistic(path) is is_one


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: tree.map(np.add, {"a": {"w": _X}}, {"a": {"v": _X}}),
            ValueError,
            "tree: trees must match at 'a': only one has v, w",
        ),
        (
            lambda: tree.replace((_X, _X), {"2": _X}),
            ValueError,
            "tree: `changes` must name leaves of the tree, got '2'",
        ),
        (lambda: tree.add({"a": _X}, {}), ValueError, "tree: trees must match: only one has a"),
        (
            lambda: tree.add({"a": {"b": _X}}, {"a": _X}),
            ValueError,
            "tree: trees must match at 'a': a dict here, a leaf there",
        ),
        (
            lambda: tree.add({"a": _X}, {"a": {"b": _X}}),
            ValueError,
            "tree: trees must match at 'a': a leaf here, a dict there",
        ),
        (
            lambda: tree.add({"a": (_X, _X)}, {"a": (_X,)}),
            ValueError,
            "tree: trees must match at 'a': 2 things here, 1 there",
        ),
        (
            lambda: tree.add((_X, (_X,)), (_X, {"0": _X})),
            ValueError,
            "tree: trees must match at '1': a tuple here, a dict there",
        ),
        (
            lambda: tree.map(np.add, _X, (_X,)),
            ValueError,
            "tree: trees must match: a leaf here, a tuple there",
        ),
        (
            lambda: tree.leaves({"a": {1: _X}}),
            TypeError,
            "tree: keys must be strings, got 1 at 'a'",
        ),
        (
            lambda: tree.add({"a": {}}, {"a": {str(i): _X for i in range(9)}}),
            ValueError,
            "tree: trees must match at 'a': only one has 0, 1, 2, 3, ...",
        ),
        (
            lambda: tree.replace({"a": {"w": _X}}, {"a/v": _X}),
            ValueError,
            "tree: `changes` must name leaves of the tree, got 'a/v'",
        ),
        (
            lambda: tree.replace({"a": {"w": _X}}, {"a": {"v": _X}}),
            ValueError,
            "tree: `changes` must name leaves of the tree, got 'a/v'",
        ),
        (
            lambda: tree.unflatten(_X, {"w": np.zeros(3)}),
            ValueError,
            "tree: `vector` must have shape (3,), got (2,)",
        ),
        (
            lambda: tree.dot({"w": _X}, {"w": np.zeros(1)}),
            ValueError,
            "tree: leaves must have one shape, got (2,) and (1,)",
        ),
    ],
)
def test_what_does_not_match_is_refused_with_its_path(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_errors_of_the_function_pass_through() -> None:
    with pytest.raises(ZeroDivisionError):
        tree.map(lambda leaf: 1 // leaf, {"a": 0})


def test_nothing_is_mutated() -> None:
    params = _sample()
    for _, leaf in tree.leaves(params):
        leaf.flags.writeable = False
    before = repr(params)
    tree.add(params, params)
    tree.scale(params, 3)
    tree.cast(params, np.float32)
    tree.replace(params, {"scale": np.array(5.0)})
    tree.unflatten(tree.flatten(params), params)
    tree.select(params, "*")
    assert repr(params) == before


@given(trees)
def test_items_are_the_leaves_in_the_order_in_which_the_tree_has_them(one: Tree) -> None:
    def depth_first(node: Tree, keys: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
        if not isinstance(node, (dict, tuple)):
            return [("/".join(keys), node)]
        inside = node.items() if isinstance(node, dict) else enumerate(node)
        return [found for key, part in inside for found in depth_first(part, (*keys, str(key)))]

    found = tree.items(one)
    assert [(path, id(leaf)) for path, leaf in found] == [
        (path, id(leaf)) for path, leaf in depth_first(one)
    ]
    assert sorted(map(id, dict(found).values())) == sorted(map(id, dict(tree.leaves(one)).values()))


def test_items_of_a_tree_deeper_than_pythons_stack() -> None:
    deep: Tree = 1
    for _ in range(1_500):
        deep = {"b": deep, "a": 2}
    found = tree.items(deep)
    assert [found[0][1], len(found), found[1][0].count("/"), found[-1][0]] == [1, 1_501, 1_499, "a"]


@pytest.mark.parametrize("verb", ["digest", "count", "norm", "zeros_like", "equal", "allclose"])
def test_a_tree_too_deep_or_in_itself_is_refused_by_every_verb(verb: str) -> None:
    around: dict[str, Any] = {}
    around["a"] = around
    deep: Any = np.zeros(2)
    for _ in range(3000):
        deep = {"a": deep}
    call = getattr(tree, verb)
    for wrong in (around, deep):
        with pytest.raises(ValueError, match="levels: does it hold itself"):
            call(wrong, wrong) if verb in ("equal", "allclose") else call(wrong)


def test_a_norm_is_right_where_its_square_is_not() -> None:
    for size in (1e-320, 1e-200, 1.0, 1e200, 1e307):
        assert tree.norm({"w": np.array([3 * size, 4 * size])}) == pytest.approx(5 * size, rel=1e-3)
    assert tree.norm({"w": np.array([1e300, np.inf])}) == np.inf
    assert np.isnan(tree.norm({"w": np.array([1e300, np.nan])}))
    assert tree.norm({}) == tree.norm({"w": np.zeros((0, 3))}) == 0
