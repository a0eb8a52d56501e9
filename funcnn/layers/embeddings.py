"""Embeddings: vectors for integers, and for places in a sequence."""

from __future__ import annotations

from math import prod
from typing import Any, TypedDict, Unpack, overload

import numpy as np

from funcnn import checks, numerics
from funcnn._kernels import embedding as kernels, positions
from funcnn.checks import Choice, Flag, Integer, Number, Optional, Shapes, When, declared
from funcnn.initializers import normal
from funcnn.initializers.core import INITIALIZER, Initializer
from funcnn.parameterless import parameterless
from funcnn.types import Array, Cache, Key, Layer, Off, On, Params, Sequence, Shape, Tokens, Vector

__all__ = ["embedding", "embedding_bag", "learned_positions", "positional_encoding", "rotary"]

_BASE = Number(minimum=1e-300)  # or an angle would be infinite
_UNIT = normal(1.0)
_SMALL = normal(0.02)


class _Options(TypedDict, total=False):
    """What `embedding_bag` takes beside the option that changes its type."""

    mode: str
    padding_index: int | None
    weight_init: Initializer


@declared(
    vocabulary_size=Integer(1),
    features=Integer(1),
    padding_index=Optional(Integer(0)),
    weight_init=INITIALIZER,
)
def embedding(
    vocabulary_size: int,
    features: int,
    *,
    padding_index: int | None = None,
    weight_init: Initializer = _UNIT,
) -> Layer[Tokens, Sequence]:
    """A learned vector for each integer, ``(N, T) -> (N, T, features)``.

    Parameters
    ----------
    vocabulary_size : int
        How many integers there are: ``0 .. vocabulary_size - 1``.
    features : int
        Features of each vector.
    padding_index : int, optional
        An integer that stands for nothing: its vector is zeros and gets no gradient.
    weight_init : Initializer
        Where the vectors start.

    Returns
    -------
    Layer
        With params ``{"weight": (vocabulary_size, features)}``. Integers of any shape ``(N, ...)``
        become ``(N, ..., features)``.

    Raises
    ------
    ValueError, TypeError
        For integers out of range, or an input that is not of integers.

    Notes
    -----
    Forward: ``y = W[x]``. Pullback: row ``i`` of ``dW`` is the sum of ``dy`` where ``x`` is ``i``,
    always in the same order; ``dx`` is zeros, in the dtype of ``dy``.

    References
    ----------
    Y. Bengio et al., "A neural probabilistic language model", 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import embedding, random
    >>> layer = embedding(10, 4)
    >>> out_shape, params = layer.init(random.key(0), (2, 3))
    >>> out, cache = layer.apply(params, np.array([[1, 2, 1], [9, 0, 0]]))
    >>> out.shape == out_shape == (2, 3, 4), bool((out[0, 0] == params["weight"][1]).all())
    (True, True)
    """
    if padding_index is not None and padding_index >= vocabulary_size:
        checks.refuse(f"`padding_index` must be below {vocabulary_size}, got {padding_index}")
    shapes: Shapes = {"weight": (vocabulary_size, features)}

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = checks.any_shape(shape)
        weight = weight_init(checks.key(key), (vocabulary_size, features))
        if padding_index is not None:
            kept = np.arange(vocabulary_size) != padding_index
            weight = weight * kept[:, None].astype(weight.dtype)
        return (*checked, features), {"weight": weight}

    def apply(params: Params, x: Tokens, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, shapes)
        checks.labels(checks.array(x), vocabulary_size, "x")
        if not x.ndim:
            checks.refuse("`x` must have at least 1 axis, got shape ()")
        out = np.take(params["weight"], x, 0)
        if padding_index is not None:  # whatever the weight says there: the gradient is exact
            out[x == padding_index] = 0
        return out, {"tokens": x, "dtype": out.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        tokens = cache["tokens"]
        checks.gradient(dout, (*tokens.shape, features), cache["dtype"])
        rows = dout.reshape(prod(tokens.shape), features)
        dweight = kernels.add_rows(tokens.reshape(-1), rows, vocabulary_size)
        if padding_index is not None:
            dweight[padding_index] = 0
        return {"weight": dweight}, np.zeros(tokens.shape, dout.dtype)

    return Layer(init, apply, vjp)


@overload
def embedding_bag(
    vocabulary_size: int, features: int, *, weighted: Off = ..., **options: Unpack[_Options]
) -> Layer[Tokens, Vector]: ...
@overload
def embedding_bag(
    vocabulary_size: int, features: int, *, weighted: On, **options: Unpack[_Options]
) -> Layer[tuple[Tokens, Vector], Vector]: ...
@declared(
    vocabulary_size=Integer(1),
    features=Integer(1),
    mode=Choice("sum", "mean", "max"),
    padding_index=Optional(Integer(0)),
    weighted=When(Flag(), "mode", "sum"),
    weight_init=INITIALIZER,
)
def embedding_bag(
    vocabulary_size: int,
    features: int,
    *,
    mode: str = "mean",
    padding_index: int | None = None,
    weighted: bool = False,
    weight_init: Initializer = _UNIT,
) -> Layer[Any, Any]:
    """The sum, mean or maximum of learned vectors for integers, ``(N, T) -> (N, features)``.

    Parameters
    ----------
    vocabulary_size : int
        How many integers there are: ``0 .. vocabulary_size - 1``.
    features : int
        Features of each vector.
    mode : "sum", "mean" or "max", default "mean"
        What becomes of the vectors of an example.
    padding_index : int, optional
        An integer that stands for nothing, and does not count; so bags may differ in size.
    weighted : bool, default False
        For ``"sum"``: whether a weight of each integer is the second input, ``(N, T)``.
    weight_init : Initializer
        Where the vectors start.

    Returns
    -------
    Layer
        With params ``{"weight": (vocabulary_size, features)}``.

    Raises
    ------
    ValueError, TypeError
        For integers out of range, or inputs that do not fit together.

    Notes
    -----
    Forward: ``y[n] = sum_t w[n, t] W[x[n, t]]``, that divided by how many count, or their maximum, of
    equals the first; a bag of nothing gives zeros. Pullback: row ``i`` of ``dW`` gathers ``w dy`` where
    ``x`` is ``i``, ``dy`` divided, or ``dy`` where it won; ``dw[n, t] = sum(W[x[n, t]] dy[n])``.

    References
    ----------
    A. Joulin et al., "Bag of tricks for efficient text classification", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import embedding_bag
    >>> layer = embedding_bag(3, 2, padding_index=0)
    >>> params = {"weight": np.array([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]])}
    >>> layer.apply(params, np.array([[1, 2, 0], [2, 0, 0]]))[0]
    array([[2., 3.],
           [3., 4.]])
    """
    if padding_index is not None and padding_index >= vocabulary_size:
        checks.refuse(f"`padding_index` must be below {vocabulary_size}, got {padding_index}")
    shapes: Shapes = {"weight": (vocabulary_size, features)}

    def init(key: Key, shape: Any) -> tuple[Shape, Params]:
        if weighted:
            shape, weights = checks.together(shape, "x, weights", "shape")
            checks.exact_shape(weights, checks.shape(shape, "N, T"), "weights")
        batch, _ = checks.shape(shape, "N, T")
        return (batch, features), {"weight": weight_init(checks.key(key), (vocabulary_size, features))}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, shapes)
        table, each = params["weight"], None
        if weighted:
            x, each = checks.together(x, "x, weights")
        checks.labels(checks.array(x), vocabulary_size, "x")
        if x.ndim != 2:
            checks.refuse(f"`x` must have 2 axes (N, T), got shape {x.shape}")
        if each is not None:
            checks.ranked(each, "N, T", "weights")
            checks.exact_shape(each.shape, x.shape, "weights")
            checks.same_dtype(each, table, "weights", params=params)
        seen = np.ones(x.shape, bool) if padding_index is None else x != padding_index
        out, kept = kernels.bag(table, x, seen, mode, each)
        cache = {"tokens": x, "kept": kept, "dtype": out.dtype}
        if weighted:
            cache |= {"rows": kernels.seen_rows(table, x, seen), "seen": seen}
        return out, cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        tokens, kept = cache["tokens"], cache["kept"]
        checks.gradient(dout, (len(tokens), features), cache["dtype"])
        dweight = kernels.add_shares(tokens, kept, dout, vocabulary_size)
        dx = np.zeros(tokens.shape, dout.dtype)
        if not weighted:
            return {"weight": dweight}, dx
        slopes = np.where(cache["seen"][..., None], cache["rows"] * dout[:, None], dout.dtype.type(0))
        return {"weight": dweight}, (dx, numerics.sum(slopes, -1))

    return Layer(init, apply, vjp)


@declared(base=_BASE)
def positional_encoding(*, base: float = 10000.0) -> Layer[Sequence, Sequence]:
    """Add sinusoids that tell where each time step is, ``(N, T, F) -> (N, T, F)``.

    Parameters
    ----------
    base : float, default 10000.0
        The slowest sinusoid takes nearly ``2 pi base`` steps.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences of float32 or float64.

    Notes
    -----
    Forward: ``y[:, t, 2i] = x[:, t, 2i] + sin(a)`` and ``y[:, t, 2i + 1] = x[:, t, 2i + 1] + cos(a)``
    with ``a = t / base**(2i / F)``. Pullback: ``dx = dy``.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import positional_encoding
    >>> positional_encoding().apply({}, np.zeros((1, 2, 2)))[0].round(4)
    array([[[0.    , 1.    ],
            [0.8415, 0.5403]]])
    """

    def forward(x: Array) -> tuple[Any, Cache]:
        _, steps, features = x.shape
        return x + positions.sinusoids(steps, features, base, x.dtype), {}

    return parameterless(Layer, forward, lambda cache, dout: dout, axes="N, T, F")


@declared(max_length=Integer(1), weight_init=INITIALIZER)
def learned_positions(
    max_length: int, *, weight_init: Initializer = _SMALL
) -> Layer[Sequence, Sequence]:
    """Add a learned vector for each time step, ``(N, T, F) -> (N, T, F)``.

    Parameters
    ----------
    max_length : int
        The most time steps that a sequence can have.
    weight_init : Initializer
        Where the vectors start.

    Returns
    -------
    Layer
        With params ``{"weight": (max_length, F)}``.

    Raises
    ------
    ValueError, TypeError
        For a sequence that is too long, or of the wrong width or dtype.

    Notes
    -----
    Forward: ``y[:, t] = x[:, t] + W[t]``. Pullback: ``dx = dy``, ``dW[t] = sum(dy[:, t])`` over the
    batch, and zeros beyond the steps that there are.

    References
    ----------
    J. Gehring et al., "Convolutional sequence to sequence learning", 2017.

    Examples
    --------
    >>> from funcnn import learned_positions, random
    >>> out_shape, params = learned_positions(50).init(random.key(0), (2, 7, 4))
    >>> out_shape, params["weight"].shape
    ((2, 7, 4), (50, 4))
    """
    shapes: Shapes = {"weight": (max_length, None)}

    def fitting(shape: Shape) -> Shape:
        if shape[1] > max_length:
            checks.refuse(f"`x` must have at most {max_length} time steps, got shape {shape}")
        return shape

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = fitting(checks.shape(shape, "N, T, F"))
        weight = weight_init(checks.key(key), (max_length, checked[2]))
        return checked, {"weight": weight}

    def apply(params: Params, x: Sequence, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.inputs(params, shapes, x, "N, T, F")
        weight = params["weight"]
        checks.sized(x, 2, weight.shape[1], "features")
        return x + weight[: fitting(x.shape)[1]], {"shape": x.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Sequence) -> tuple[Params, Sequence]:
        _, steps, features = cache["shape"]
        checks.gradient(dout, cache["shape"], cache["dtype"])
        dweight = np.zeros((max_length, features), dout.dtype)
        dweight[:steps] = numerics.sum(dout, 0)
        return {"weight": dweight}, dout

    return Layer(init, apply, vjp)


@declared(base=_BASE, interleaved=Flag(), offset=Integer(0))
def rotary(
    *, base: float = 10000.0, interleaved: bool = True, offset: int = 0
) -> Layer[Sequence, Sequence]:
    """Turn pairs of features by angles that grow with time, ``(N, T, F) -> (N, T, F)``.

    Parameters
    ----------
    base : float, default 10000.0
        The slowest pair takes nearly ``2 pi base`` steps for a turn.
    interleaved : bool, default True
        Whether neighbours make a pair; otherwise features ``i`` and ``i + F / 2`` do.
    offset : int, default 0
        The place of the first time step, for the rest of a sequence that began before.

    Returns
    -------
    Layer
        Without parameters. For queries and keys inside attention, see the option ``rotary_base`` of
        `multi_head_attention`.

    Raises
    ------
    ValueError, TypeError
        For an odd number of features, or an input that is not float32 or float64.

    Notes
    -----
    Forward: ``(a, b) -> (a cos(w) - b sin(w), a sin(w) + b cos(w))`` for pair ``i`` of step ``t``
    with ``w = (t + offset) / base**(2i / F)``: the inner product of two steps depends on their distance
    alone. Pullback: the turn by ``-w``.

    References
    ----------
    J. Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import rotary
    >>> rotary().apply({}, np.array([[[1.0, 0.0], [1.0, 0.0]]]))[0].round(4)
    array([[[1.    , 0.    ],
            [0.5403, 0.8415]]])
    """

    def even(shape: Shape) -> Shape:
        if shape[2] % 2:
            checks.refuse(f"`x` must have an even number of features, got shape {shape}")
        return shape

    def forward(x: Array) -> tuple[Any, Cache]:
        _, steps, features = x.shape
        cos, sin = positions.turns(steps, features, base, x.dtype, interleaved, offset)
        return positions.rotate(x, cos, sin, interleaved), {"cos": cos, "sin": sin}

    def pullback(cache: Cache, dout: Array) -> Array:
        return positions.rotate(dout, cache["cos"], -cache["sin"], interleaved)

    return parameterless(Layer, forward, pullback, even, axes="N, T, F")
