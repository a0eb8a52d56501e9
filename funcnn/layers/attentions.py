"""Attention: from three sequences, of many heads, to itself or to a memory."""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, overload

import numpy as np

from funcnn import checks, random
from funcnn._kernels import attention as kernels, heads as many
from funcnn.checks import Constraint, Flag, Integer, Number, Optional, Shapes, declared
from funcnn.initializers import BIAS_INIT, INITIALIZER, Initializer, glorot_uniform, zeros
from funcnn.types import Array, Cache, Key, Layer, Mask, Params, Sequence, Shape, Spec

__all__ = ["attention", "cross_attention", "multi_head_attention"]

_GLOROT = glorot_uniform()
_ZEROS = zeros()
_On: TypeAlias = Literal[True]
_Off: TypeAlias = Literal[False]

_RATE = Number(minimum=0, below=1)
_DECLARED: dict[str, Constraint] = {
    "heads": Integer(1),
    "features": Optional(Integer(1)),
    "kv_heads": Optional(Integer(1)),
    "masked": Flag(),
    "bias": Flag(),
    "rate": _RATE,
    "weight_init": INITIALIZER,
    "bias_init": BIAS_INIT,
}


class _HeadOptions(TypedDict, total=False):
    """What layers of many heads take beside the option that changes their type."""

    features: int | None
    kv_heads: int | None
    bias: bool
    rate: float
    weight_init: Initializer
    bias_init: Initializer


class _SelfOptions(_HeadOptions, total=False):
    causal: bool
    rotary_base: float | None


@overload
def attention(
    *, masked: _Off = ..., causal: bool = ..., rate: float = ...
) -> Layer[tuple[Sequence, Sequence, Sequence], Sequence]: ...
@overload
def attention(
    *, masked: _On, causal: bool = ..., rate: float = ...
) -> Layer[tuple[Sequence, Sequence, Sequence, Mask], Sequence]: ...
@declared(masked=Flag(), causal=Flag(), rate=_RATE)
def attention(*, masked: bool = False, causal: bool = False, rate: float = 0.0) -> Layer[Any, Any]:
    """Scaled dot-product attention, ``((N, T, D), (N, S, D), (N, S, E)) -> (N, T, E)``.

    Parameters
    ----------
    masked : bool, default False
        Whether a mask is the fourth input: booleans ``(N, S)`` or ``(N, T, S)``, True for the keys
        that a query sees.
    causal : bool, default False
        Whether query ``t`` sees only the keys up to ``t``.
    rate : float, default 0.0
        The fraction of the weights that is dropped in training.

    Returns
    -------
    Layer
        Without parameters, on a tuple of queries, keys and values.

    Raises
    ------
    ValueError, TypeError
        For inputs that do not fit together, a mask that is not boolean, no keys at all.

    Notes
    -----
    Forward: ``p = softmax(q kᵀ / sqrt(D))`` over the keys that are seen, ``y = p v``; a query that
    sees nothing gets zeros, one that sees a single key its value, whatever the score. Pullback:
    ``dv = pᵀ dy``, ``dp = dy vᵀ``, ``ds = p (dp - sum(p dp)) / sqrt(D)``, ``dq = ds k``,
    ``dk = dsᵀ q``; where a query sees a single key, ``ds`` is 0 up to the rounding of ``dp``. Scores
    must not overflow, as those of queries and keys of 1e20 do in float32: a row of infinite ones is
    NaN, as in PyTorch.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017. Masks as in PyTorch's
    ``scaled_dot_product_attention``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import attention
    >>> q, k = np.zeros((1, 1, 2)), np.zeros((1, 3, 2))
    >>> v = np.array([[[1.0], [2.0], [9.0]]])
    >>> seen = np.array([[True, True, False]])
    >>> attention(masked=True).apply({}, (q, k, v, seen))[0]
    array([[[1.5]]])
    """
    words = "q, k, v, mask" if masked else "q, k, v"

    def out_shape(q: Shape, k: Shape, v: Shape, *mask: Shape) -> Shape:
        """The shape that comes out, if those that go in fit together."""
        checks.exact_shape(k, (q[0], k[1], q[2]), "k")
        checks.exact_shape(v, (q[0], k[1], v[2]), "v")
        _fitting_masks(mask, (*q[:2], k[1]))
        return (*q[:2], v[2])

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        q, k, v, *mask = checks.together(shape, words, "shape")
        q, k = checks.shape(q, "N, T, D"), checks.shape(k, "N, S, D")
        return out_shape(q, k, checks.shape(v, "N, S, E"), *mask), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        q, k, v, *mask = checks.together(x, words)
        for name, one in (("q", q), ("k", k), ("v", v)):
            checks.ranked(one, "N, T, D" if one is q else "N, S, D", name)
            checks.same_dtype(one, q, name, "`q` is")
        _boolean_masks(mask)
        shape = out_shape(*(one.shape for one in x))
        scale, kept = 1 / sqrt(q.shape[2]), _kept(rate, key, (*shape[:1], 1, shape[1], k.shape[1]), q)
        seen = kernels.visible((shape[1], k.shape[1]), causal, *mask)
        heads = q[:, None], k[:, None], v[:, None]
        out, p = kernels.attend(*heads, seen, scale, kept)
        cache = {"heads": heads, "p": p, "kept": kept, "out": out, "mask": mask}
        return out[:, 0], cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        (q, k, v), p, out = cache["heads"], cache["p"], cache["out"]
        checks.gradient(dout, out[:, 0].shape, out.dtype)
        scale, kept = 1 / sqrt(q.shape[3]), cache["kept"]
        seen = kernels.visible((q.shape[2], k.shape[2]), causal, *cache["mask"])
        dheads = kernels.attend_gradients(q, k, v, p, out, dout[:, None], seen, scale, kept)
        return {}, (*(dhead[:, 0] for dhead in dheads), *_no_gradient(cache["mask"], q))

    return Layer(init, apply, vjp, _stochastic(rate))


@overload
def multi_head_attention(
    heads: int, *, masked: _Off = ..., **options: Unpack[_SelfOptions]
) -> Layer[Sequence, Sequence]: ...
@overload
def multi_head_attention(
    heads: int, *, masked: _On, **options: Unpack[_SelfOptions]
) -> Layer[tuple[Sequence, Mask], Sequence]: ...
@declared(causal=Flag(), rotary_base=Optional(Number(minimum=1e-300)), **_DECLARED)
def multi_head_attention(
    heads: int,
    *,
    features: int | None = None,
    kv_heads: int | None = None,
    masked: bool = False,
    causal: bool = False,
    bias: bool = True,
    rate: float = 0.0,
    rotary_base: float | None = None,
    weight_init: Initializer = _GLOROT,
    bias_init: Initializer = _ZEROS,
) -> Layer[Any, Any]:
    """Attention of a sequence to itself, of many heads, ``(N, T, F) -> (N, T, features)``.

    Parameters
    ----------
    heads : int
        How many; they share the features evenly.
    features : int, optional
        Features of all heads together, and of the output; by default those of the input.
    kv_heads : int, optional
        Heads of keys and values, a divisor of `heads`: each serves a group of queries. By default
        `heads`; 1 is multi-query attention.
    masked : bool, default False
        Whether a mask is a second input: booleans ``(N, T)``, True for the steps that are seen
        (False: padding), or ``(N, T, T)``, row ``t`` for what step ``t`` sees.
    causal : bool, default False
        Whether step ``t`` sees only the steps up to ``t``.
    bias : bool, default True
        Whether to add biases.
    rate : float, default 0.0
        The fraction of the attention weights that is dropped in training.
    rotary_base : float, optional
        Turns queries and keys by their position, as `rotary` does; usually 10000.
    weight_init, bias_init : Initializer
        Where the parameters start.

    Returns
    -------
    Layer
        With params ``{"query": ..., "key": ..., "value": ..., "out": ...}``, each ``{"weight":
        (out, in), "bias": (out,)}``.

    Raises
    ------
    ValueError, TypeError
        For features that the heads cannot share, an input of the wrong shape or dtype.

    Notes
    -----
    Forward: ``q, k, v = W_q x + b_q, W_k x + b_k, W_v x + b_v``, cut into heads; `attention` in each
    head; ``y = W_o`` times all heads side by side ``+ b_o``. A step that sees nothing gets ``b_o``.
    Pullback: those of `dense` and `attention`, and ``dx = W_qᵀ dq + W_kᵀ dk + W_vᵀ dv``.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017. J. Ainslie et al., "GQA: training
    generalized multi-query transformer models from multi-head checkpoints", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import multi_head_attention, random
    >>> layer = multi_head_attention(4, kv_heads=2, causal=True)
    >>> out_shape, params = layer.init(random.key(0), (2, 5, 16))
    >>> out, cache = layer.apply(params, np.ones((2, 5, 16), np.float32))
    >>> out.shape == out_shape, params["query"]["weight"].shape, params["key"]["weight"].shape
    (True, (16, 16), (8, 16))
    """
    groups = heads if kv_heads is None else kv_heads
    of = _Heads(False, heads, groups, features, masked, causal, bias, rate, rotary_base)
    return _many_heads(of, weight_init, bias_init)


@overload
def cross_attention(
    heads: int, *, masked: _Off = ..., **options: Unpack[_HeadOptions]
) -> Layer[tuple[Sequence, Sequence], Sequence]: ...
@overload
def cross_attention(
    heads: int, *, masked: _On, **options: Unpack[_HeadOptions]
) -> Layer[tuple[Sequence, Sequence, Mask], Sequence]: ...
@declared(**_DECLARED)
def cross_attention(
    heads: int,
    *,
    features: int | None = None,
    kv_heads: int | None = None,
    masked: bool = False,
    bias: bool = True,
    rate: float = 0.0,
    weight_init: Initializer = _GLOROT,
    bias_init: Initializer = _ZEROS,
) -> Layer[Any, Any]:
    """Attention of a sequence to a memory, of many heads, ``((N, T, F), (N, S, M)) -> (N, T, F)``.

    Parameters
    ----------
    heads : int
        How many; they share the features evenly.
    features : int, optional
        Features of all heads together, and of the output; by default those of the first input.
    kv_heads : int, optional
        Heads of keys and values, a divisor of `heads`; by default `heads`.
    masked : bool, default False
        Whether a mask is the third input: booleans ``(N, S)`` or ``(N, T, S)``, True for the steps
        of the memory that are seen.
    bias : bool, default True
        Whether to add biases.
    rate : float, default 0.0
        The fraction of the attention weights that is dropped in training.
    weight_init, bias_init : Initializer
        Where the parameters start.

    Returns
    -------
    Layer
        On a tuple ``(x, memory)`` or ``(x, memory, mask)``, with the params of
        `multi_head_attention`; the weights of ``"key"`` and ``"value"`` have M columns.

    Raises
    ------
    ValueError, TypeError
        For features that the heads cannot share, inputs that do not fit together.

    Notes
    -----
    As `multi_head_attention`, but keys and values are made of the memory: ``k = W_k m + b_k`` and
    ``v = W_v m + b_v``. Pullback: ``dx = W_qᵀ dq``, ``dm = W_kᵀ dk + W_vᵀ dv``.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import cross_attention, random
    >>> layer = cross_attention(2)
    >>> _, params = layer.init(random.key(0), ((2, 5, 8), (2, 7, 6)))
    >>> x, memory = np.ones((2, 5, 8), np.float32), np.ones((2, 7, 6), np.float32)
    >>> layer.apply(params, (x, memory))[0].shape
    (2, 5, 8)
    """
    groups = heads if kv_heads is None else kv_heads
    of = _Heads(True, heads, groups, features, masked, False, bias, rate, None)
    return _many_heads(of, weight_init, bias_init)


class _Heads(NamedTuple):
    """What the options of a layer of many heads say."""

    crossed: bool  # whether keys and values are made of a memory
    heads: int
    groups: int  # heads of keys and values
    features: int | None
    masked: bool
    causal: bool
    bias: bool
    rate: float
    base: float | None  # of the rotation

    def shapes(self, inputs: int, memory: int | None) -> dict[str, dict[str, tuple[Any, ...]]]:
        """The parameters for inputs of these widths."""
        width = self.features or inputs
        size, rest = divmod(width, self.heads)
        if rest or (self.base is not None and size % 2):
            even = " of even size" if self.base is not None else ""
            checks.refuse(f"`features` must fill {self.heads} heads{even}, got {width}")
        rows = self.groups * size
        weights = {"query": (width, inputs), "key": (rows, memory), "value": (rows, memory)}
        weights["out"] = (width, width)
        return {
            name: {"weight": shape, "bias": shape[:1]} if self.bias else {"weight": shape}
            for name, shape in weights.items()
        }

    def parts(self, value: Any, name: str) -> tuple[Any, Any, list[Any]]:
        """The sequence, what it attends to, and the mask if any; or the shapes of all these."""
        words = ", ".join(["x", *["memory"] * self.crossed, *["mask"] * self.masked])
        x, *rest = (value,) if words == "x" else checks.together(value, words, name)
        return x, rest[0] if self.crossed else x, rest[-1:] if self.masked else []

    def widths(self, params: Params) -> tuple[int, int]:
        """The features of the input and of the memory that these parameters are for; it checks them."""
        checks.children(params, ("query", "key", "value", "out"))
        query: Shapes = {"weight": (self.features, None)} | ({"bias": (None,)} if self.bias else {})
        checks.leaves(params.get("query", {}), query, "query")
        inputs = params["query"]["weight"].shape[1]
        memory = None if self.crossed else inputs
        for name in ("query", "key", "value", "out"):
            checks.leaves(params.get(name, {}), self.shapes(inputs, memory)[name], name)
            memory = params["key"]["weight"].shape[1] if name == "key" else memory
        return inputs, params["key"]["weight"].shape[1]

    def checked(self, params: Params, x: Any) -> tuple[Array, Array, list[Array]]:
        """The parts of an input that fits the parameters."""
        inputs, memory_width = self.widths(params)
        x, memory, mask = self.parts(x, "x")
        for name, one, width in (("x", x, inputs), ("memory", memory, memory_width)):
            checks.ranked(one, "N, T, F", name)
            checks.sized(one, 2, width, "features", name)
            checks.same_dtype(one, params["query"]["weight"], name, params=params)
        for own in params.values():
            checks.same_dtype(x, own["weight"], params=params)
        _boolean_masks(mask)
        _fitting(x.shape, memory.shape, [one.shape for one in mask])
        return x, memory, mask


def _many_heads(of: _Heads, weight_init: Initializer, bias_init: Initializer) -> Layer[Any, Any]:
    """Attention to a memory, or of a sequence to itself."""
    if of.heads % of.groups:
        checks.refuse(f"`kv_heads` must divide {of.heads} heads, got {of.groups}")
    starts = {"weight": weight_init, "bias": bias_init}

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        x, memory, mask = of.parts(shape, "shape")
        x = checks.shape(x, "N, T, F")
        memory = checks.shape(memory, "N, S, F")
        _fitting(x, memory, mask)
        checks.key(key)
        params: Params = {}
        for name, own in of.shapes(x[2], memory[2]).items():
            params[name] = {}
            for leaf, leaf_shape in own.items():
                params[name][leaf] = starts[leaf](random.fold_in(key, f"{name}/{leaf}"), leaf_shape)
        return (*x[:2], of.features or x[2]), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        x, memory, mask = of.checked(params, x)
        if mask:
            idle = kernels.idle(mask[0], not of.crossed)
            memory = np.where(kernels.unclean(memory, idle), 0, memory)
            x = x if of.crossed else memory
        kept = _kept(of.rate, key, (x.shape[0], of.heads, x.shape[1], memory.shape[1]), x)
        seen = kernels.visible((x.shape[1], memory.shape[1]), of.causal, *mask)
        source = memory if of.crossed else None
        out, record = many.attend(x, source, params, (of.heads, of.groups), seen, kept, of.base)
        return out, {"record": record, "mask": mask}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        record, mask = cache["record"], cache["mask"]
        q, k, _ = record["heads"]
        checks.gradient(dout, (q.shape[0], q.shape[2], of.heads * q.shape[3]), q.dtype)
        seen = kernels.visible((q.shape[2], k.shape[2]), of.causal, *mask)
        dparams, dxs = many.attend_gradients(record, dout, seen, of.bias)
        dxs += _no_gradient(mask, dxs[0])
        return dparams, tuple(dxs) if of.crossed or of.masked else dxs[0]

    return Layer(init, apply, vjp, _stochastic(of.rate))


def _fitting(x: Shape, memory: Shape, mask: list[Shape]) -> None:
    """Refuse shapes that do not belong together."""
    checks.exact_shape(memory, (x[0], *memory[1:]), "memory")
    _fitting_masks(mask, (*x[:2], memory[1]))


def _stochastic(rate: float) -> Spec:
    """What dropping makes of a layer."""
    return Spec(traits=frozenset({"stochastic"}) if rate else frozenset())


def _kept(rate: float, key: Key | None, shape: tuple[int, ...], like: Array) -> Array | None:
    """Factors of 0 and ``1 / (1 - rate)`` in training."""
    if key is None or not rate:
        return None
    kept: Array = random.bernoulli(key, 1 - rate, shape) * like.dtype.type(1 / (1 - rate))
    return kept


def _boolean_masks(masks: list[Array]) -> None:
    for mask in masks:
        if checks.array(mask, "mask").dtype != np.bool_:
            checks.refuse_type(f"`mask` must be boolean, got {mask.dtype}")


def _fitting_masks(shapes: Any, pairs: Shape) -> None:
    """One flag for each key, or for each pair of a query and a key."""
    for shape in shapes:
        wanted = pairs if len(shape) == 3 else (pairs[0], pairs[2])
        checks.exact_shape(shape, wanted, "mask")


def _no_gradient(masks: list[Array], like: Array) -> list[Array]:
    """What a mask gets back."""
    return [np.zeros(mask.shape, like.dtype) for mask in masks]
