"""Networks as functions of JAX: every case of the registry gives what it gives here, gradients too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcnn as f
from funcnn import random, tree
from funcnn.types import Array, Layer, Spec
from tests import registry

pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import jax

from funcnn.interop.jax import functions, to_function
from tests.test_interop_onnx import REFUSED, drawn, example

KEY = random.key(0)


def error(mine: Any, theirs: Any) -> float:
    """The largest error, of trees, in parts of the largest number."""
    pairs = zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True)
    worst = 0.0
    for one, other in pairs:
        assert one.shape == other.shape
        away = np.abs(np.asarray(one, np.float64) - np.asarray(other)).max(initial=0)
        worst = max(worst, float(away / max(1, np.abs(one).max(initial=0))))
    return worst


def agrees(case: registry.Case) -> float:
    """The largest error of a case in float64: of the output, and of the gradients."""
    net, params, x = case.layer, drawn(case.layer, case.shape, np.float64), example(case, np.float64)
    out, cache = net.apply(params, x)
    leaves, structure = jax.tree.flatten(x)
    floats = [leaf for leaf in leaves if leaf.dtype.kind == "f"]

    def whole(given: Any) -> Any:
        rest = iter(given)
        return structure.unflatten([next(rest) if a.dtype.kind == "f" else a for a in leaves])

    dout = jax.tree.map(lambda leaf: np.cos(np.arange(leaf.size)).reshape(leaf.shape), out)
    dout = jax.tree.map(lambda d, leaf: d * (leaf.dtype.kind == "f"), dout, out)
    with jax.enable_x64(True):
        function = to_function(net)

        def value(params: Any, given: Any) -> Any:
            out = function(params, whole(given))
            parts = jax.tree.map(lambda y, d: (y * d).sum() if y.dtype.kind == "f" else 0.0, out, dout)
            return sum(jax.tree.leaves(parts)), out

        quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
        both = jax.value_and_grad(value, argnums=(0, 1), has_aux=True)
        run = jax.jit(both, compiler_options=quick)
        (_, theirs), (dparams, dx) = run(params, floats)
        mine, own = net.vjp(cache, dout)
        moving = [d for d, a in zip(jax.tree.leaves(own), leaves, strict=True) if a.dtype.kind == "f"]
        return max(error(out, theirs), error((mine, moving), (dparams, dx)))


CASES = [case for case in registry.layers() if case.id not in REFUSED]


@pytest.mark.sampled(110)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_case_agrees(case: registry.Case) -> None:
    assert agrees(case) < 1e-8


def test_a_wrong_function_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = f.tanh(), np.ones((2, 3), np.float32)
    assert error(net.apply({}, x)[0], to_function(net)({}, x)) < 1e-6
    monkeypatch.setitem(functions.FUNCTIONS, "Tanh", functions.FUNCTIONS["Sigmoid"])
    assert error(net.apply({}, x)[0], to_function(net)({}, x)) > 1e-3


def test_it_stays_float32_and_can_be_mapped_over_params() -> None:
    net = f.serial(f.conv(2, 3), f.relu(), f.max_pool(2), f.flatten(), f.dense(3))
    x = random.normal(KEY, (4, 1, 8, 8))
    several = [net.init(random.fold_in(KEY, name), x.shape)[1] for name in "ab"]
    run = jax.jit(jax.vmap(to_function(net), (0, None)))
    out = run(jax.tree.map(lambda *a: np.stack(a), *several), x)
    assert out.dtype == np.float32
    assert error(np.stack([net.apply(params, x)[0] for params in several]), out) < 1e-5


def test_second_derivatives_are_there() -> None:
    net, x = f.serial(f.dense(3), f.tanh(), f.dense(1)), random.normal(KEY, (1, 2), dtype=np.float64)
    _, params = net.init(KEY, x.shape)
    params = tree.map(lambda leaf: leaf.astype(np.float64), params)

    def slope(x: Array) -> Array:
        return net.vjp(net.apply(params, x)[1], np.ones((1, 1)))[1]

    steps = [np.eye(2)[[at]] * 1e-6 for at in (0, 1)]
    numeric = np.stack([(slope(x + step) - slope(x - step))[0] / 2e-6 for step in steps])
    with jax.enable_x64(True):
        hessian = jax.jit(jax.hessian(lambda x: to_function(net)(params, x).sum()))(x)
    np.testing.assert_allclose(hessian.reshape(2, 2), numeric, rtol=1e-6)


def test_what_stands_still_has_no_gradient() -> None:
    net = f.serial(f.freeze(f.dense(3)), f.batch_norm(), f.dense(3), f.stop_gradient(), f.dense(2))
    x = random.normal(KEY, (4, 3))
    _, params = net.init(KEY, x.shape)
    gradient = jax.jit(jax.grad(lambda params: to_function(net)(params, x).sum()))(params)
    moved = {path for path, leaf in tree.leaves(jax.tree.map(np.asarray, gradient)) if leaf.any()}
    assert moved == {"dense3/weight", "dense3/bias"}


def test_a_loaded_model_goes_to_jax() -> None:
    from funcnn.interop.onnx.loading_operators import operator

    net = f.serial(f.dense(3), operator("ReduceL2", inputs=2, constants={"1": ("int64", (1,))}))
    x = random.normal(KEY, (4, 3))
    _, params = net.init(KEY, x.shape)
    assert error(net.apply(params, x)[0], to_function(net)(params, x)) < 1e-6


def test_what_cannot_be_is_refused() -> None:
    own = f.relu()
    mine = Layer(own.init, own.apply, own.vjp, Spec(lambda: own))
    net, x = f.serial(f.dense(3), f.named("body", mine)), np.ones((2, 4), np.float32)
    _, params = net.init(KEY, x.shape)
    with pytest.raises(ValueError, match=r"^body: `net` must have layers that can be written as ONNX"):
        to_function(net)(params, x)
    with pytest.raises(TypeError, match=r"^to_function: `net` must be a Layer, got 3$"):
        to_function(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`params` must have 'dense1/bias' of shape \(3,\), got none"):
        to_function(net)({"dense1": {"weight": params["dense1"]["weight"]}}, x)
    wide = {"dense1": {**params["dense1"], "bias": np.zeros(4, np.float32)}}
    with pytest.raises(ValueError, match=r"of shape \(3,\), got \(4,\)"):
        jax.jit(to_function(net))(wide, x)
