"""Digests, the proof that a run is reproducible, and a LeNet that is."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from funcnn import (
    conv,
    dense,
    flatten,
    max_pool,
    numerics,
    random,
    relu,
    serial,
    sgd_update,
    softmax_cross_entropy,
    value_and_grad,
)
from funcnn.testing import assert_reproducible, digest
from tests import elsewhere


class Pair(NamedTuple):
    """A container that is no plain tuple."""

    first: Any
    second: Any


# --- order ----------------------------------------------------------------------------------------

_ORDERS = """
import sys
from tests import registry

def order(tree):
    if isinstance(tree, dict):
        return [(name, order(part)) for name, part in tree.items()]
    return list(map(order, tree)) if isinstance(tree, (tuple, list)) else ""

for case in registry.layers()[int(sys.argv[1])::8]:
    subject = registry.subject(case)
    if subject.params:
        run = subject.run("training")
        trees = (subject.started[1], run.dparams, run.cache, subject.layer.statistics(run.cache))
        print(case.id, *map(order, trees))
"""


@pytest.mark.sampled(8)
@pytest.mark.parametrize("eighth", range(8))
def test_keys_come_in_one_order(eighth: int) -> None:
    """Whatever the seed of the hashes of strings; a checkpoint's bytes depend on the order."""
    command = [sys.executable, "-c", _ORDERS, str(eighth)]
    environments = (elsewhere.environment(PYTHONHASHSEED=seed) for seed in ("0", "1", "2"))
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, env=each) for each in environments]
    first, *others = (run.communicate()[0].decode().splitlines() for run in runs)
    assert len(first) > 25
    for other in others:
        assert other == first


# --- digest ---------------------------------------------------------------------------------------


def test_the_digest_is_fixed() -> None:
    tree = {"conv1": {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}, "step": 7}
    assert digest(tree) == "bb4a95f6a1635a2bf3d7c3ed093dc3825249bc185e0d2a806c6b2294993dcc5e"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))),
        (np.arange(6.0)[::-2], np.array([5.0, 3.0, 1.0])),
        (np.arange(3, dtype=">i4"), np.arange(3, dtype="<i4")),
        (np.float32(1), np.array(1, np.float32)),
        ((1, [2.0]), [1, (2.0,)]),
        (Pair(1, 2), (1, 2)),
    ],
)
def test_equal_digests(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


DIFFERENT: list[Any] = [
    {},
    [],
    None,
    {"a": {}},
    {"a": 1},
    {"a": True},
    {"a": 1.0},
    {"b": 1},
    {1: 1},
    {"1": 1},
    {"a": {"b": 1}},
    {"a/b": 1},
    [[1], 2],
    [1, [2]],
    np.zeros(2),
    -np.zeros(2),
    np.zeros(2, np.float32),
    np.zeros((2, 1)),
    np.zeros((1, 2)),
    np.zeros(0),
    "a",
    b"a",
]


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(DIFFERENT, 2)))
def test_other_digests(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


@pytest.mark.parametrize("leaf", [object(), np.array([None]), {1, 2}])
def test_digest_refuses_what_has_no_bits(leaf: Any) -> None:
    with pytest.raises(TypeError, match=r"^digest: leaves must be "):
        digest({"a": leaf})


# --- assert_reproducible --------------------------------------------------------------------------

_calls: list[int] = []


def steady(value: float = 1.0) -> Any:
    return {"a": [np.full(3, value), np.ones(2)]}


def drifting() -> Any:
    _calls.append(0)
    return {"a": [np.zeros(3), np.full(2, len(_calls))]}


def from_global_state() -> Any:
    return np.random.default_rng(np.random.randint(2**31)).normal(size=3)  # noqa: NPY002


def from_hashes() -> Any:
    return [hash(name) % 1000 for name in ("relu", "conv", "dense", "serial")]


def of_fresh_memory() -> Any:
    return np.empty(1024, np.uint8)


def test_steady_functions_pass() -> None:
    assert_reproducible(steady)
    assert_reproducible(partial(steady, 2.0), runs=1, processes=2)
    assert_reproducible(lambda: steady(), runs=5, processes=0)


def test_the_leaf_that_differs_is_named() -> None:
    message = r"^not reproducible: in run 2, .* the leaf at \('a', 1\) has other bits than in run 1"
    with pytest.raises(AssertionError, match=message):
        assert_reproducible(drifting, processes=0)


def test_global_randomness_is_found() -> None:
    with pytest.raises(AssertionError, match="in run 2, after other random calls"):
        assert_reproducible(from_global_state, processes=0)


def test_the_order_of_hashes_is_found_in_another_process() -> None:
    assert_reproducible(from_hashes, runs=3, processes=0)
    with pytest.raises(AssertionError, match="in process 1, the leaf at"):
        assert_reproducible(from_hashes)


def test_fresh_memory_is_found() -> None:
    with pytest.raises(AssertionError, match="in run "):
        assert_reproducible(of_fresh_memory, runs=3, processes=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": 0}, "`runs` must be at least 1, got 0"),
        ({"runs": 1, "processes": 0}, "must make at least 2 results, got 1"),
        ({"fn": lambda: 1}, "`fn` must be a function at the top of a module"),
    ],
)
def test_assert_reproducible_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^assert_reproducible: .*{message}"):
        assert_reproducible(**{"fn": steady, **arguments})


# --- LeNet ----------------------------------------------------------------------------------------


def trained(pickled: bool = False) -> Any:
    """Parameters and losses of a short training; the layers may be pickled in between."""
    net = serial(
        conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2), flatten(), dense(120),
        relu(), dense(10),
    )  # fmt: skip
    start, data, targets = random.split(random.key(0), 3)
    _, params = net.init(start, (8, 3, 28, 28))
    images, labels = random.normal(data, (8, 3, 28, 28)), random.randint(targets, (8,), 0, 10)
    losses = []
    for _ in range(5):
        if pickled:
            net, params = pickle.loads(pickle.dumps((net, params)))
        loss, grads = value_and_grad(net, softmax_cross_entropy())(params, images, labels)
        params = sgd_update(params, grads, lr=0.01)
        losses.append(loss)
    assert losses[-1] < losses[0]
    return params, losses


def test_training_is_reproducible() -> None:
    assert_reproducible(trained)


def test_portable_training_gives_the_bits_on_record() -> None:
    with numerics.portable():
        assert digest(trained()) == "6c4f9670ca2e2b7a52bb2409dc3d350f172c75e37cfb4665b06ff3b2782483c9"


def test_pickling_in_between_changes_no_bit() -> None:
    assert digest(trained()) == digest(trained(pickled=True))
