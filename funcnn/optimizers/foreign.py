"""Optimizers of another library: pairs of ``init`` and ``update`` on trees of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Whatever, declared
from funcnn.optimizers.agreement import alike, both, hold
from funcnn.optimizers.core import Optimizer, State
from funcnn.tree.walking import nested
from funcnn.types import Array, Params

__all__ = ["from_optax"]


@declared(tx=Whatever())
def from_optax(tx: Any) -> Optimizer:
    """Train with an optimizer of optax.

    Parameters
    ----------
    tx : optax.GradientTransformation
        Such as ``optax.adam(1e-3)``, or a chain that scales by a learning rate of its own.

    Returns
    -------
    Optimizer
        Its state holds the leaves of optax's under the names that they have there, such as
        ``{"0": {"count": (), "mu": tree, "nu": tree}}``, to be saved and resumed like any other.

    Raises
    ------
    TypeError
        For something without ``init`` and ``update``.
    ImportError
        Without JAX, which optax computes with: ``pip install optax``.

    Notes
    -----
    The updates are those of ``jax.jit(tx.update)`` to the bit, in the dtype of the parameters; only
    running statistics stay where they are, as with every optimizer here. It cannot be pickled.

    References
    ----------
    DeepMind et al., "The DeepMind JAX ecosystem", 2020: optax.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import optimizers
    >>> import optax  # doctest: +SKIP
    >>> optimizer = optimizers.from_optax(optax.sgd(0.5))  # doctest: +SKIP
    """
    for name in ("init", "update"):
        if not callable(getattr(tx, name, None)):
            checks.refuse_type(
                f"`tx` must be a GradientTransformation of optax, got {checks.shown(tx)}"
            )

    @cache
    def step(jax: Any) -> Any:
        return jax.jit(tx.update)

    def init(params: Params) -> State:
        with _numbers_as_they_are() as jax:
            return _by_path(jax, tx.init(params))

    def update(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        both(lambda _, grad: grad, params, grads, "grads")
        with _numbers_as_they_are() as jax:
            wanted = jax.eval_shape(tx.init, params)
            fresh = _by_path(jax, wanted, lambda leaf: leaf)
            hold(state, *fresh)
            tree.map_with_path(alike, fresh, state)
            kept = dict(tree.leaves(state))
            memory = jax.tree_util.tree_map_with_path(lambda path, _: kept[_path(jax, path)], wanted)
            updates, memory = step(jax)(_without_statistics(grads), memory, params)
            updates = tree.map(np.asarray, updates)
            return _without_statistics(updates), _by_path(jax, memory)

    return Optimizer(init, update)


@contextmanager
def _numbers_as_they_are() -> Iterator[Any]:
    """JAX, which makes float32 of float64 unless it is told not to."""
    try:
        import jax
    except ImportError:
        raise ImportError("optax is needed: pip install optax") from None
    with jax.enable_x64(True):
        yield jax


def _by_path(jax: Any, state: Any, leaf: Callable[[Any], Any] = np.asarray) -> State:
    """optax's state as nested dicts."""
    pairs = jax.tree_util.tree_leaves_with_path(state)
    return nested((_path(jax, path).split("/"), leaf(value)) for path, value in pairs)


def _path(jax: Any, path: Any) -> str:
    """A leaf's place under optax's own names: ``0/mu/dense1/weight``."""
    return str(jax.tree_util.keystr(path, simple=True, separator="/"))


def _without_statistics(updates: Params) -> Params:
    def leaf(path: str, update: Array) -> Array:
        return np.zeros_like(update) if tree.is_statistic(path) else update

    return tree.map_with_path(leaf, updates)
