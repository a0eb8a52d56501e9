"""Networks as deep as can be work; deeper ones are refused in one line, and so is everything else."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcnn import (
    bidirectional,
    branch,
    checks,
    dense,
    dense_connect,
    freeze,
    frozen_paths,
    graph,
    identity,
    keep_context,
    mean_squared_error,
    merge,
    named,
    parallel,
    random,
    relu,
    remat,
    repeat,
    residual,
    residual_with_context,
    serial,
    share,
    summary,
    tied,
    time_distributed,
    value_and_grad,
)
from funcnn.checks.declarations import DEEPEST
from funcnn.testing import _values
from funcnn.tracing import trace, trace_backward
from funcnn.types import Layer, rebuild

Net = Layer[Any, Any]
X = np.ones((2, 3), np.float32)
S = np.ones((2, 4, 3), np.float32)
M = np.ones((2, 4), np.bool_)

_WAYS: dict[str, tuple[Callable[[Any], Net], Net, Any]] = {
    "serial": (serial, dense(3), X),
    "named": (lambda layer: named("a", layer), dense(3), X),
    "residual": (residual, dense(3), X),
    "shortcut": (lambda layer: residual(identity(), shortcut=layer), dense(3), X),
    "both": (lambda layer: residual(named("a", serial(layer))), dense(3), X),
    "repeat": (lambda layer: repeat(layer, times=1), dense(3), X),
    "share": (lambda layer: share(layer, times=1), dense(3), X),
    "parallel": (lambda layer: parallel(layer, identity()), dense(3), X),
    "dense_connect": (dense_connect, dense(1), X),
    "graph": (graph, dense(3), X),
    "branch": (lambda layer: serial(branch(layer, identity()), merge("mean")), dense(3), X),
    "remat": (remat, dense(3), X),
    "freeze": (freeze, dense(3), X),
    "tied": (
        lambda layer: tied(serial(layer, dense(3), dense(3)), ties={"dense2": "dense1"}),
        relu(),
        X,
    ),
    "bidirectional": (lambda layer: bidirectional(layer, merge="sum"), time_distributed(dense(3)), S),
    "keep_context": (lambda layer: keep_context(layer, "mask"), identity(), S),
    "residual_with_context": (
        lambda layer: residual_with_context(serial(layer, merge("mean"))),
        branch(merge("mean"), merge("mean")),
        (S, S),
    ),
}


def _nested(way: str) -> tuple[Net, Any, Callable[[Any], Net]]:
    """The deepest network that can be built, and its input."""
    around, net, x = _WAYS[way]
    while True:
        try:
            deeper = around(net)
        except checks.Refusal:
            return net, x, around
        net = deeper
        if way == "keep_context":
            x = (x, M)
        if way in ("bidirectional", "share") and _depth(net) > 12:  # each doubles the work
            return net, x, around


def _depth(net: Net) -> int:
    depth, level = 0, [net.spec]
    while level:
        depth, level = depth + 1, [child for spec in level for child in spec.children]
    return depth


@pytest.mark.parametrize("way", _WAYS)
def test_the_deepest_networks_work(way: str) -> None:
    net, x, _ = _nested(way)
    shape = _values.shapes(x)
    out_shape, params = net.init(random.key(0), shape)
    out, cache = net.apply(params, x, key=random.key(1))
    assert _values.shapes(out) == out_shape
    dout = _values.mapped(lambda leaf: np.ones(leaf.shape, np.float32), out)
    dparams, _ = net.vjp(cache, dout)
    assert _values.shapes(dparams) == _values.shapes(params)
    if net.params_vjp is not None:
        net.params_vjp(cache, dout)
    for again in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), rebuild(net.spec)):
        assert repr(again) == repr(net)
    assert eval(repr(net), {**vars(__import__("funcnn"))}).spec == net.spec
    pickle.loads(pickle.dumps((params, cache)))
    frozen_paths(net, shape)
    summary(net, shape)
    trace(net, params, x)
    if not isinstance(x, tuple):
        trace_backward(net, params, mean_squared_error(), x, np.zeros_like(out))
        value_and_grad(net, mean_squared_error())(params, x, np.zeros_like(out), None)


@pytest.mark.parametrize("way", _WAYS)
def test_deeper_ones_are_refused_in_one_line(way: str) -> None:
    around, net, _ = _WAYS[way]

    def build() -> None:
        deeper = net
        for _ in range(1000):
            deeper = around(deeper)

    with pytest.raises(ValueError, match=f": layers must be nested at most {DEEPEST} deep, got") as e:
        build()
    assert len(str(e.value)) < 100


def test_a_thousand_layers_in_a_row_work() -> None:
    net = serial(*[dense(2), relu()] * 500)
    _, params = net.init(random.key(0), (2, 2))
    out, cache = net.apply(params, np.ones((2, 2), np.float32))
    net.vjp(cache, out)
    assert repr(pickle.loads(pickle.dumps(net))) == repr(net)
    assert len(trace(net, params, np.ones((2, 2), np.float32))) == 1001
    summary(net, (2, 2))


def _wide() -> Net:
    return serial(*(named(f"layer_with_a_long_name_{i}", dense(2)) for i in range(500)))


def _deep() -> Net:
    net: Net = dense(3)
    for i in range(30):
        net = serial(named(f"block_with_a_long_name_{i}", net))
    return net


_LONG: list[Callable[[], object]] = [
    lambda: _wide().apply({"stranger": X}, X),
    lambda: _wide().apply(dict.fromkeys(map(str, range(999)), X), X),
    lambda: dense(3).apply(dict.fromkeys(map(str, range(999)), X), X),
    lambda: tied(_wide(), ties={"nothing": "here"}).init(random.key(0), (2, 2)),
    lambda: _deep().init(random.key(0), (2, 3, 4)),
    lambda: _deep().apply({}, X),
    lambda: serial([_wide()]),  # type: ignore[call-overload]
    lambda: named("a" * 500 + " ", dense(3)),
    lambda: named("a" * 500, dense(3)).init(random.key(0), (2, 3, 4)),
    lambda: serial(named("a" * 500, dense(3)), named("a" * 500, dense(3))),
    lambda: branch(*[identity()] * 400).vjp({}, (1,) * 300),
    lambda: merge().init(random.key(0), tuple((2, n) for n in range(1, 400))),
    lambda: dense("a\nb" * 300),  # type: ignore[arg-type]
    lambda: dense(3).init(random.key(0), (1,) * 900),
]


@pytest.mark.parametrize("call", _LONG)
def test_refusals_are_short_lines(call: Callable[[], object]) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    text = str(caught.value)
    assert isinstance(caught.value, checks.Refusal)
    assert len(text) < 300
    assert "\n" not in text
    assert ": " in text
