"""optax's optimizers inside funcnn: optax's own trajectories, and the promises of all optimizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import checks, data, dense, fit, mean_squared_error, optimizers, random, tree
from funcnn.optimizers import Optimizer, apply_updates, check_state
from funcnn.types import Params

optax = pytest.importorskip("optax", reason="optax is not installed")
jax = pytest.importorskip("jax", reason="JAX is not installed")


def clipped() -> Any:
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(optax.cosine_decay_schedule(0.1, 9)))


TRANSFORMATIONS = {
    "adam": lambda: optax.adam(0.1),
    "clipped": clipped,
    "lion": lambda: optax.lion(0.01),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adafactor": lambda: optax.adafactor(0.1, min_dim_size_to_factor=2),
    "MultiSteps": lambda: optax.MultiSteps(optax.adam(0.1), 2),
}
SLOW = ("momentum", "adafactor")
each = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=pytest.mark.slow if name in SLOW else ())
        for name, make in TRANSFORMATIONS.items()
    ],
)


def start(dtype: Any) -> Params:
    """With names that need care, and running statistics."""
    return {
        "b": {"weight": np.linspace(-1, 1, 12, dtype=dtype).reshape(4, 3), "bias": np.ones(3, dtype)},
        "a": {"running_mean": np.full(3, 2, dtype), "scale": np.ones((), dtype)},
    }


def slope(params: Params, step: int) -> Params:
    return tree.map(lambda leaf: np.asarray(np.sin(leaf * 3 + step), leaf.dtype), params)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_trajectory_is_that_of_optax(make: Any, dtype: Any) -> None:
    ours = theirs = start(dtype)
    optimizer, tx = optimizers.from_optax(make()), make()
    state = optimizer.init(ours)
    with jax.enable_x64(True):
        memory, update = tx.init(theirs), jax.jit(tx.update)
    for step in range(7):
        grads = slope(ours, step)
        grads["a"]["running_mean"][:] = 0
        updates, state = optimizer.update(grads, state, ours)
        with jax.enable_x64(True):
            expected, memory = update(grads, memory, theirs)
            expected = jax.tree.map(np.asarray, expected)
        expected["a"]["running_mean"] = np.zeros(3, dtype)
        tree.map(np.testing.assert_array_equal, updates, expected)
        ours = theirs = apply_updates(ours, updates)
        assert all(leaf.dtype == dtype for _, leaf in tree.leaves(ours))
    assert all(isinstance(leaf, np.ndarray) for _, leaf in tree.leaves(state))


@each
def test_statistics_neither_move_nor_matter(make: Any) -> None:
    optimizer, params = optimizers.from_optax(make()), start(np.float32)
    one, two = slope(params, 0), slope(params, 0)
    two["a"]["running_mean"][:] = 1e30
    found = [optimizer.update(grads, optimizer.init(params), params)[0] for grads in (one, two)]
    tree.map(np.testing.assert_array_equal, *found)
    assert not found[0]["a"]["running_mean"].any()


@each
def test_a_training_resumes_to_the_same_bits(make: Any, tmp_path: Path) -> None:
    x = random.normal(random.key(0), (20, 3))
    train = data.Dataset(x, x[:, :1])

    def run(epochs: int, **options: Any) -> Params:
        return fit(dense(1), mean_squared_error(), optimizers.from_optax(make()), train,
                   key=random.key(1), epochs=epochs, batch_size=8, **options).params  # fmt: skip

    run(1, checkpoint=tmp_path / "run.npz")
    tree.map(np.testing.assert_array_equal, run(3, resume=tmp_path / "run.npz"), run(3))


def refused(optimizer: Optimizer, grads: Any, state: Any, params: Params) -> str:
    with pytest.raises(checks.Refusal) as refusal:
        optimizer.update(grads, state, params)
    return str(refusal.value)


def test_what_does_not_fit_is_refused() -> None:
    params = start(np.float32)
    optimizer = optimizers.from_optax(optax.adam(0.1))
    state, grads = optimizer.init(params), slope(params, 0)
    assert sorted(tree.select(state, "0/mu/b/*")["0"]["mu"]["b"]) == ["bias", "weight"]
    check_state(optimizer, state, params)
    narrow = tree.replace(state, {"0": {"mu": {"b": {"bias": np.ones(2, np.float32)}}}})
    assert "must be float32 of shape (3,), got float32 of shape (2,)" in refused(
        optimizer, grads, narrow, params
    )
    assert "`state` must hold 0, got nothing" in refused(optimizer, grads, {}, params)
    wide = tree.cast(grads, np.float64)
    assert "from_optax: `grads` must have the dtypes of `params`" in refused(
        optimizer, wide, state, params
    )
    with pytest.raises(
        TypeError, match="from_optax: `tx` must be a GradientTransformation of optax, got 3"
    ):
        optimizers.from_optax(3)
