"""Linear layers."""

from __future__ import annotations

from typing import Any

from funcnn import checks, random
from funcnn._kernels import linear
from funcnn.checks import Flag, Integer, Shapes, declared
from funcnn.initializers import lecun_normal, variance_scaling, zeros
from funcnn.initializers.core import BIAS_INIT, INITIALIZER, Initializer
from funcnn.types import Cache, Key, Layer, Params, Shape, Vector

__all__ = ["bilinear", "dense"]

# Behind convolutions that keep the signal's size, a classifier starts with small logits: unsure of all.
_SMALL = variance_scaling(2 / 9, "fan_in", "uniform")
_LECUN = lecun_normal()
_ZEROS = zeros()


@declared(out_features=Integer(1), bias=Flag(), weight_init=INITIALIZER, bias_init=BIAS_INIT)
def dense(
    out_features: int,
    *,
    bias: bool = True,
    weight_init: Initializer = _SMALL,
    bias_init: Initializer = _ZEROS,
) -> Layer[Vector, Vector]:
    """Fully connected layer, ``(N, F) -> (N, out_features)``.

    Parameters
    ----------
    out_features : int
        Features that come out.
    bias : bool, default True
        Whether to add a bias.
    weight_init, bias_init : Initializer
        Where the parameters start; by default the weight has variance ``2 / (9 F)``,
        half of PyTorch's, so that a classifier begins unsure of everything.

    Returns
    -------
    Layer
        With params ``{"weight": (out_features, F), "bias": (out_features,)}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of vectors of the width and dtype of the weight.

    Notes
    -----
    Forward: ``y = x Wᵀ + b``. Pullback: ``dW = dyᵀ x``, ``db = sum(dy)`` over the batch,
    ``dx = dy W``. For sequences, wrap it in `funcnn.time_distributed`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import dense, random
    >>> layer = dense(3)
    >>> out_shape, params = layer.init(random.key(0), (2, 5))
    >>> out, cache = layer.apply(params, np.ones((2, 5), np.float32))
    >>> out.shape == out_shape == (2, 3)
    True
    """
    shapes: Shapes = {"weight": (out_features, None), **({"bias": (out_features,)} if bias else {})}

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        batch, features = checks.shape(shape, "N, F")
        weight_key, bias_key = random.split(checks.key(key))
        params = {"weight": weight_init(weight_key, (out_features, features))}
        if bias:
            params["bias"] = bias_init(bias_key, (out_features,))
        return (batch, out_features), params

    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Cache]:
        checks.inputs(params, shapes, x, "N, F")
        weight = params["weight"]
        if x.shape[1] != weight.shape[1]:
            checks.sized(x, 1, weight.shape[1], "features")
        return linear.affine(x, weight, params.get("bias")), {"x": x, "weight": weight}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        x, weight = cache["x"], cache["weight"]
        checks.gradient(dout, (x.shape[0], out_features), x.dtype)
        dweight, dbias = linear.affine_gradients(x, weight, dout)
        dx = linear.affine_input_gradient(x, weight, dout)
        return {"weight": dweight, "bias": dbias} if bias else {"weight": dweight}, dx

    def params_vjp(cache: Cache, dout: Vector) -> Params:
        x, weight = cache["x"], cache["weight"]
        checks.gradient(dout, (x.shape[0], out_features), x.dtype)
        dweight, dbias = linear.affine_gradients(x, weight, dout)
        return {"weight": dweight, "bias": dbias} if bias else {"weight": dweight}

    return Layer(init, apply, vjp, params_vjp=params_vjp)


@declared(out_features=Integer(1), bias=Flag(), weight_init=INITIALIZER, bias_init=BIAS_INIT)
def bilinear(
    out_features: int,
    *,
    bias: bool = True,
    weight_init: Initializer = _LECUN,
    bias_init: Initializer = _ZEROS,
) -> Layer[tuple[Vector, Vector], Vector]:
    """A form linear in each of two inputs, ``((N, I), (N, J)) -> (N, out_features)``.

    Parameters
    ----------
    out_features : int
        Features that come out.
    bias : bool, default True
        Whether to add a bias.
    weight_init, bias_init : Initializer
        Where the parameters start.

    Returns
    -------
    Layer
        On a tuple of two batches, with params ``{"weight": (out_features, I, J), "bias":
        (out_features,)}``.

    Raises
    ------
    ValueError, TypeError
        For inputs that are not two batches of vectors of the widths and dtype of the weight.

    Notes
    -----
    Forward: ``y_o = x1ᵀ W_o x2 + b_o``. With ``z = x1 x2ᵀ`` for each example, this is linear in
    ``z``. Pullback: ``dW_o = sum(dy_o z)`` over the batch, ``db = sum(dy)``, ``dz = sum(dy_o W_o)``,
    ``dx1 = dz x2``, ``dx2 = dzᵀ x1``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import bilinear, random
    >>> layer = bilinear(3)
    >>> out_shape, params = layer.init(random.key(0), ((2, 5), (2, 4)))
    >>> x = np.ones((2, 5), np.float32), np.ones((2, 4), np.float32)
    >>> layer.apply(params, x)[0].shape == out_shape == (2, 3)
    True
    """
    shapes: Shapes = {"weight": (out_features, None, None)}
    shapes |= {"bias": (out_features,)} if bias else {}

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        first, second = checks.together(shape, "x1, x2", "shape")
        batch, left = checks.shape(first, "N, F")
        right = checks.shape(second, "N, F")[1]
        checks.exact_shape(second, (batch, right), "x2")
        weight_key, bias_key = random.split(checks.key(key))
        params = {"weight": weight_init(weight_key, (out_features, left, right))}
        if bias:
            params["bias"] = bias_init(bias_key, (out_features,))
        return (batch, out_features), params

    def apply(params: Params, x: tuple[Vector, Vector], *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, shapes)
        weight = params["weight"]
        x1, x2 = checks.together(x, "x1, x2")
        for name, one, size in (("x1", x1, weight.shape[1]), ("x2", x2, weight.shape[2])):
            checks.ranked(one, "N, F", name)
            checks.sized(one, 1, size, "features", name)
            checks.same_dtype(one, weight, name, params=params)
        checks.exact_shape(x2.shape, (len(x1), x2.shape[1]), "x2")
        out = linear.bilinear(x1, x2, weight, params.get("bias"))
        return out, {"x1": x1, "x2": x2, "weight": weight}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Any]:
        x1, x2, weight = cache["x1"], cache["x2"], cache["weight"]
        checks.gradient(dout, (len(x1), out_features), x1.dtype)
        dweight, dbias, *dx = linear.bilinear_gradients(x1, x2, weight, dout)
        return {"weight": dweight, "bias": dbias} if bias else {"weight": dweight}, tuple(dx)

    return Layer(init, apply, vjp)
