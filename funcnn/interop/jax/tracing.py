"""Networks as functions of JAX: the graph that becomes an ONNX model, computed while it grows."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp

from funcnn import checks, random, tree
from funcnn.interop.jax.functions import FUNCTIONS
from funcnn.interop.onnx.exporting import fitting, grown, named
from funcnn.interop.onnx.exporting_graph import Graph, Value
from funcnn.interop.onnx.loading_operators import OPERATORS
from funcnn.types import Layer, Params

__all__ = ["to_function"]


@checks.named
def to_function(net: Layer[Any, Any]) -> Callable[[Params, Any], Any]:
    """A network as a function that JAX compiles and differentiates.

    Parameters
    ----------
    net : Layer
        A layer, or a whole network.

    Returns
    -------
    callable
        ``f(params, x) -> out``, the network in inference, for `jax.jit`, `jax.grad`, `jax.vmap` over
        params, and any order of derivatives. `x` and `out` are arrays, tuples and dicts as those of
        `net`.

    Raises
    ------
    ValueError, TypeError
        From `f`, for a layer of your own, with its path; params that are not the network's; and what
        the network refuses.

    Notes
    -----
    JAX computes the operators that `interop.onnx.export` would write, so what goes there goes here.
    Shapes are known while JAX traces. Running statistics and what is frozen have the gradient 0.

    JAX has 64 bits only where ``jax_enable_x64`` is on.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> from funcnn import dense, random, serial, tanh
    >>> net = serial(dense(3), tanh())
    >>> _, params = net.init(random.key(0), (1, 4))
    >>> x = np.ones((2, 4), np.float32)
    >>> f = jax.jit(to_function(net))
    >>> bool(np.allclose(f(params, x), net.apply(params, x)[0]))
    True
    >>> gradient = jax.grad(lambda params: f(params, x).sum())(params)
    >>> gradient["dense1"]["weight"].shape
    (3, 4)
    """
    if not isinstance(net, Layer):
        checks.refuse_type(f"`net` must be a Layer, got {checks.shown(net)}")

    def function(params: Params, x: Any) -> Any:
        params = tree.map_with_path(_leaf, params)
        x = jax.tree.map(jnp.asarray, x)
        shape = jax.tree.map(lambda one: tuple(one.shape), x)
        fitting(dict(tree.leaves(params)), dict(tree.leaves(net.init(random.NO_DRAW, shape)[1])))
        floats = [one.dtype for one in jax.tree.leaves((params, x)) if one.dtype.kind == "f"]
        g = _Traced(params, np.dtype(floats[0] if floats else np.float32))
        g.values |= named("x", x)
        out = grown(g, net, params, shape, shape)[1]
        return tree.map(lambda value: jnp.asarray(g.values[value.name]), out)

    return function


def _leaf(path: str, leaf: Any) -> Any:
    """A parameter; a running statistic does not move."""
    leaf = jnp.asarray(leaf)
    return lax.stop_gradient(leaf) if tree.is_statistic(path) else leaf


class _Traced(Graph):
    """A graph whose values are arrays: those of NumPy where they follow from shapes."""

    numpy, resizes = jnp, False

    def __init__(self, params: Params, dtype: np.dtype[Any]) -> None:
        super().__init__({}, dtype)
        self.values: dict[str, Any] = {}

    def enter(self, params: Params, *places: str) -> None:
        """Leaves need no names here."""

    def leaf(self, name: str, value: Any) -> str:
        """A leaf in another form."""
        return self.exact(value)

    def exact(self, value: Any) -> str:
        """An array in its own dtype."""
        self.values[name := self._fresh("number")] = value
        return name

    def add(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """What an operator gives: computed at once, and kept under its name."""
        found = _computed(operator, [self._array(one) for one in inputs], attributes)
        names = [self.exact(one) for one in (found if isinstance(found, tuple) else (found,))]
        return names[0] if outputs == 1 else names[:outputs]

    def _array(self, value: Any) -> Any:
        if value is None or isinstance(value, jax.Array):
            return value
        if isinstance(value, (str, Value)):
            return self.values[value if isinstance(value, str) else value.name]
        array = np.asarray(value)
        return array.astype(self.dtype) if array.dtype.kind == "f" else array

    def inner_params(self, layer: Layer[Any, Any], inner: Layer[Any, Any], params: Params) -> Params:
        """The weight that normalisations compute of others."""
        if layer.spec.kind == "tied":
            return super().inner_params(layer, inner, params)
        o, leaves = layer.spec.options, params["weight"]
        w = leaves["direction" if layer.spec.kind == "weight_norm" else "original"]
        matrix = jnp.moveaxis(w, o["axis"], 0).reshape(w.shape[o["axis"]], -1)
        if layer.spec.kind == "weight_norm":
            squares = jnp.sum(matrix * matrix, 1)
            factor = leaves["magnitude"] / jnp.sqrt(jnp.where(squares == 0, 1, squares))
            w = w * jnp.expand_dims(factor, [at for at in range(w.ndim) if at != o["axis"]])
        else:
            w = w / jnp.maximum(jnp.linalg.norm(jnp.matmul(leaves["running_u"], matrix)), o["epsilon"])
        return {**params, "weight": w}

    def cast(self, x: Any, dtype: Any) -> Any:
        """The same numbers in another dtype."""
        return self.add("Cast", x, to=np.dtype(dtype))

    def frozen(self, params: Params) -> Params:
        """Parameters whose gradient is 0."""
        found: Params = jax.tree.map(lax.stop_gradient, params)
        return found

    def still(self, x: Value) -> str:
        """A value behind which no gradient goes."""
        return self.exact(lax.stop_gradient(self.values[x.name]))


def _computed(operator: str, arrays: list[Any], attributes: dict[str, Any]) -> Any:
    if operator == "Shape":
        return np.array(arrays[0].shape[attributes.get("start", 0) : attributes.get("end")], np.int64)
    known = all(one is None or isinstance(one, np.ndarray) for one in arrays)
    if known and operator in OPERATORS and operator not in ("Cast", "Constant"):
        of = OPERATORS[operator]
        return of.forward(SimpleNamespace(**{**of.attributes, **attributes}), *arrays)
    if operator not in FUNCTIONS:
        checks.refuse(f"`net` must have layers that JAX computes, got the operator {operator}")
    return FUNCTIONS[operator](*arrays, **attributes)
