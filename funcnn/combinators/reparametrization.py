"""Layers whose weight is computed from other parameters: weight and spectral normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import checks, random, tree
from funcnn._kernels import reparametrization as kernels
from funcnn.checks import Integer, Layers, Number, declared
from funcnn.structure import params_gradient
from funcnn.types import Array, Cache, Key, Layer, Params, Shape, X, Y, has_trait

__all__ = ["spectral_norm", "weight_norm"]

_WARM_UP = 15  # power iterations at the start, as in PyTorch


@declared(layer=Layers(), axis=Integer(0))
def weight_norm(layer: Layer[X, Y], *, axis: int = 0) -> Layer[X, Y]:
    """Learn the direction and the magnitude of a layer's weight apart from each other.

    Parameters
    ----------
    layer : Layer
        With a parameter ``"weight"`` of at least 2 axes: `dense`, any convolution.
    axis : 0 or 1, default 0
        The axis of the outputs, each of which has a magnitude; 1 for transposed convolutions.

    Returns
    -------
    Layer
        With the params of `layer`, where ``"weight"`` has become
        ``{"direction": weight.shape, "magnitude": (weight.shape[axis],)}``. It starts where `layer`
        alone would.

    Raises
    ------
    ValueError, TypeError
        For a layer without such a weight or with running statistics, or whose weight starts at 0,
        which has no direction; and what `layer` refuses.

    Notes
    -----
    Forward: the layer's, with ``w = g v / |v|`` for direction ``v`` and magnitude ``g``, output by
    output; 0 where ``v`` is 0, and then no gradient either. Pullback: of the layer's ``dw``,
    ``dg = <dw, v> / |v|`` and ``dv = g / |v| (dw - dg v / |v|)``, which is orthogonal to ``v``.

    References
    ----------
    T. Salimans and D. Kingma, "Weight normalization: a simple reparameterization to accelerate
    training of deep neural networks", 2016.

    Examples
    --------
    >>> from funcnn import dense, random, weight_norm
    >>> _, params = weight_norm(dense(3)).init(random.key(0), (32, 4))
    >>> {name: leaf.shape for name, leaf in params["weight"].items()}
    {'direction': (3, 4), 'magnitude': (3,)}
    """
    _wrappable(layer, axis)

    def begin(key: Key, weight: Array) -> Params:
        if key == random.NO_DRAW:  # nothing but shapes is asked for
            return {
                "direction": weight,
                "magnitude": random.uniform(key, weight.shape[axis : axis + 1]),
            }
        norms = kernels.slice_norms(weight, axis).reshape(-1)
        if not norms.all():
            where = f"output {int(np.argmin(norms))}"
            checks.refuse(f"`layer` must start with weights that are not all 0, got 0 for {where}")
        return {"direction": weight, "magnitude": norms}

    def compute(leaves: Params, key: Key | None) -> tuple[Array, Cache]:
        sizes = _sizes(leaves, "direction")
        checks.leaves(leaves, {"direction": sizes, "magnitude": (sizes[axis],)}, "weight")
        weight, norms = kernels.weight_norm(leaves["direction"], leaves["magnitude"], axis)
        return weight, {**leaves, "norms": norms}

    def pullback(kept: Cache, dweight: Array) -> Params:
        v, g, norms = kept["direction"], kept["magnitude"], kept["norms"]
        dv, dg = kernels.weight_norm_gradient(v, g, norms, dweight, axis)
        return {"direction": dv, "magnitude": dg}

    return _reparametrized(layer, begin, compute, pullback)


@declared("statistics", layer=Layers(), axis=Integer(0), iterations=Integer(1), epsilon=Number(above=0))
def spectral_norm(
    layer: Layer[X, Y], *, axis: int = 0, iterations: int = 1, epsilon: float = 1e-12
) -> Layer[X, Y]:
    """Divide a layer's weight by its largest singular value: a map that stretches nothing.

    Parameters
    ----------
    layer : Layer
        With a parameter ``"weight"`` of at least 2 axes: `dense`, any convolution.
    axis : 0 or 1, default 0
        The axis of the outputs, whose slices are the rows of the matrix; 1 for transposed
        convolutions.
    iterations : int, default 1
        Power iterations in each training pass.
    epsilon : float, default 1e-12
        The least norm that anything is divided by; above 0.

    Returns
    -------
    Layer
        With the params of `layer`, where ``"weight"`` has become
        ``{"original": weight.shape, "running_u": (weight.shape[axis],)}``.

    Raises
    ------
    ValueError, TypeError
        For a layer without such a weight or with running statistics, an option out of range; and
        what `layer` refuses.

    Notes
    -----
    Forward: the layer's, with ``w / s``, ``s = |wᵀ u|``, where ``u`` approaches the left singular
    vector of the largest singular value. It is a running statistic: each pass uses the ``u`` that
    comes in, and a training pass leaves the next one, ``u <- w wᵀ u`` brought to norm 1, in its
    cache. `init` runs 15 iterations. (PyTorch iterates before the pass, not after it.)

    Pullback: ``dw = (dŵ - <dŵ, ŵ> u vᵀ) / s`` with ``ŵ = w / s`` and ``v = wᵀ u / s``; ``u`` is a
    constant.

    References
    ----------
    T. Miyato et al., "Spectral normalization for generative adversarial networks", 2018.

    Examples
    --------
    >>> from funcnn import dense, random, spectral_norm
    >>> _, params = spectral_norm(dense(3)).init(random.key(0), (32, 4))
    >>> {name: leaf.shape for name, leaf in params["weight"].items()}
    {'original': (3, 4), 'running_u': (3,)}
    """
    _wrappable(layer, axis)

    def begin(key: Key, weight: Array) -> Params:
        u = random.normal(random.fold_in(key, "running_u"), weight.shape[axis : axis + 1])
        if key != random.NO_DRAW:
            u = kernels.power_iteration(kernels.as_matrix(weight, axis), u, _WARM_UP, epsilon)
        return {"original": weight, "running_u": u}

    def compute(leaves: Params, key: Key | None) -> tuple[Array, Cache]:
        sizes = _sizes(leaves, "original")
        checks.leaves(leaves, {"original": sizes, "running_u": (sizes[axis],)}, "weight")
        original, u = leaves["original"], leaves["running_u"]
        matrix = kernels.as_matrix(original, axis)
        v, s = kernels.unit(kernels.row_times(u, matrix), epsilon)
        weight = kernels.divided(original, s)
        kept = {"weight": weight, "u": u, "v": v, "s": s}
        if key is not None:
            kept["running_u"] = kernels.power_iteration(matrix, u, iterations, epsilon)
        return weight, kept

    def pullback(kept: Cache, dweight: Array) -> Params:
        weight, u, v, s = (kept[name] for name in ("weight", "u", "v", "s"))
        doriginal = kernels.spectral_norm_gradient(dweight, weight, u, v, s, axis)
        return {"original": doriginal, "running_u": np.zeros_like(u)}

    return _reparametrized(layer, begin, compute, pullback)


def _wrappable(layer: Layer[Any, Any], axis: int) -> None:
    """A layer whose statistics would not be mistaken for ours, and an axis of a matrix."""
    if axis > 1:
        checks.refuse(f"`axis` must be 0 or 1, got {axis}")
    if has_trait(layer.spec, "statistics"):
        checks.refuse(f"`layer` must not have running statistics, got {checks.shown(layer)}")


def _sizes(leaves: Params, name: str) -> tuple[int | None, ...]:
    """The shape of what stands for a weight; of two axes where there is none."""
    leaf = leaves.get(name)
    return leaf.shape if isinstance(leaf, np.ndarray) and leaf.ndim > 1 else (None, None)


def _reparametrized(
    layer: Layer[Any, Any],
    begin: Callable[[Key, Array], Params],
    compute: Callable[[Params, Key | None], tuple[Array, Cache]],
    pullback: Callable[[Cache, Array], Params],
) -> Layer[Any, Any]:
    """A layer whose weight is computed from the leaves that `begin` gives.

    New values of those that are running statistics are kept under their names.
    """

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        out_shape, params = layer.init(checks.key(key), shape)
        weight = params.get("weight")
        if not isinstance(weight, np.ndarray) or weight.ndim < 2:
            names = ", ".join(params) or "no parameters"
            checks.refuse(f"`layer` must have a weight of at least 2 axes, got {names}")
        return out_shape, {**params, "weight": begin(key, weight)}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        if not isinstance(params, dict):
            checks.refuse_type(f"`params` must be a dict, got {type(params).__name__}")
        leaves = params.get("weight")
        if not isinstance(leaves, dict):
            checks.refuse_type(f"`params['weight']` must be a dict, got {type(leaves).__name__}")
        weight, kept = compute(leaves, key)
        out, cache = layer.apply({**params, "weight": weight}, x, key=key)
        return out, {"layer": cache, "weight": kept}

    def whole(cache: Cache, dparams: Params) -> Params:
        """The layer's gradients, with that of the weight pulled back to what it is made of."""
        return {**dparams, "weight": pullback(cache["weight"], dparams["weight"])}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams, dx = layer.vjp(cache["layer"], dout)
        return whole(cache, dparams), dx

    def params_vjp(cache: Cache, dout: Any) -> Params:
        return whole(cache, params_gradient(layer, cache["layer"], dout))

    def carry(cache: Cache) -> Params:
        new = {name: leaf for name, leaf in cache["weight"].items() if tree.is_statistic(name)}
        return {"weight": new} if new else {}

    return Layer(init, apply, vjp, params_vjp=params_vjp, statistics=carry)
