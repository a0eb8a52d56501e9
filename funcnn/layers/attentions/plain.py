"""Attention of queries to keys and values, without parameters."""

from __future__ import annotations

from math import sqrt
from typing import Any, Unpack, overload

import numpy as np

from funcnn import checks
from funcnn._kernels import attention as kernels
from funcnn.checks import Flag, declared
from funcnn.layers.attentions.looking import OFFSET, SCORES, WINDOW, Look, ScoreOptions
from funcnn.types import Array, Cache, Counts, Key, Layer, Off, On, Params, Sequence, Shape

__all__ = ["attention"]


class _Options(ScoreOptions, total=False):
    causal: bool
    window: int | None
    offset: int


@overload
def attention(
    *, masked: Off = ..., biased: Off = ..., return_weights: Off = ..., **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Sequence, Sequence], Sequence]: ...
@overload
def attention(
    *, masked: On, biased: Off = ..., return_weights: Off = ..., **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Sequence, Sequence, Counts], Sequence]: ...
@overload
def attention(
    *, masked: Off = ..., biased: On, return_weights: Off = ..., **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Sequence, Sequence, Array], Sequence]: ...
@overload
def attention(
    *, masked: On, biased: On, return_weights: Off = ..., **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Sequence, Sequence, Array, Counts], Sequence]: ...
@overload
def attention(
    *, masked: bool = ..., biased: bool = ..., return_weights: On, **options: Unpack[_Options]
) -> Layer[Any, tuple[Sequence, Array]]: ...
@declared(causal=Flag(), window=WINDOW, offset=OFFSET, **SCORES)
def attention(
    *,
    masked: bool = False,
    biased: bool = False,
    causal: bool = False,
    window: int | None = None,
    offset: int = 0,
    scale: float | None = None,
    soft_cap: float | None = None,
    rate: float = 0.0,
    return_weights: bool = False,
) -> Layer[Any, Any]:
    """Scaled dot-product attention, ``((N, T, D), (N, S, D), (N, S, E)) -> (N, T, E)``.

    Parameters
    ----------
    masked : bool, default False
        Whether a mask is the last input: booleans ``(N, S)`` or ``(N, T, S)``, True for the keys
        that a query sees; or the lengths of the keys, ints ``(N,)``.
    biased : bool, default False
        Whether numbers that are added to the scores are an input behind the values, ``(N, T, S)``;
        what gets ``-inf`` is not seen.
    causal : bool, default False
        Whether query ``t`` sees only the keys up to ``t``.
    window : int, optional
        How far a query sees: the keys at most so many steps away from it.
    offset : int, default 0
        The place of the first query among the keys, for `causal` and `window`.
    scale : float, optional
        Of the scores; by default ``1 / sqrt(D)``.
    soft_cap : float, optional
        What bounds the scores: ``s`` becomes ``soft_cap * tanh(s / soft_cap)``.
    rate : float, default 0.0
        The fraction of the weights that is dropped in training.
    return_weights : bool, default False
        Whether the weights ``(N, T, S)`` are a second output, before any is dropped.

    Returns
    -------
    Layer
        Without parameters, on a tuple of queries, keys and values; with a bias and a mask at its end
        if they are asked for.

    Raises
    ------
    ValueError, TypeError
        For inputs that do not fit together, a mask that is not boolean, no keys at all, an `offset`
        that would do nothing.

    Notes
    -----
    Forward: ``p = softmax(q kᵀ / sqrt(D) + bias)`` over the keys that are seen, ``y = p v``; a query
    that sees nothing gets zeros, one that sees a single key its value, whatever the score. Pullback:
    ``dv = pᵀ dy``, ``dp = dy vᵀ``, ``dbias = p (dp - sum(p dp))``, ``ds = dbias / sqrt(D)``,
    ``dq = ds k``, ``dk = dsᵀ q``; a cap multiplies ``ds`` by ``1 - tanh²``. Where a query sees a single
    key, ``ds`` is 0 up to the rounding of ``dp``. Scores may be larger than the largest
    number, as those of queries and keys of 1e20 are in float32, where PyTorch gives NaN.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017. Windows: I. Beltagy, M. Peters and A. Cohan,
    "Longformer: the long-document transformer", 2020. The cap: Gemma Team, "Gemma 2", 2024. Masks as in
    PyTorch's ``scaled_dot_product_attention``.

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
    if offset and not causal and window is None:
        checks.refuse(f"`offset` must be 0 without `causal` or `window`, got {offset}")
    look = Look(masked, biased, return_weights, scale, soft_cap, rate, causal, window, offset)
    words = ", ".join(["q", "k", "v", *look.words])

    def fitting(q: Shape, k: Shape, v: Shape) -> Shape:
        """The pairs of queries and keys, if the sequences fit together."""
        checks.exact_shape(k, (q[0], k[1], q[2]), "k")
        checks.exact_shape(v, (q[0], k[1], v[2]), "v")
        return (*q[:2], k[1])

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        q, k, v, *rest = checks.together(shape, words, "shape")
        q, k, v = map(checks.shape, (q, k, v), ("N, T, D", "N, S, D", "N, S, E"))
        pairs = fitting(q, k, v)
        look.fitting(look.named(rest), 1, pairs)
        return look.whole((*q[:2], v[2]), pairs), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        q, k, v, *rest = checks.together(x, words)
        for name, one in (("q", q), ("k", k), ("v", v)):
            checks.ranked(one, "N, T, D" if one is q else "N, S, D", name)
            checks.same_dtype(one, q, name, "`q` is")
        for name, one in look.named(rest).items():
            if name == "mask":
                checks.mask(one, name)
        pairs = fitting(q.shape, k.shape, v.shape)
        context = look.checked(rest, 1, pairs, q, "`q` is")
        how = look.scores(context, (pairs[0], 1, *pairs[1:]), key, q)
        how = how._replace(scale=how.scale or 1 / sqrt(q.shape[2]))
        # How a product rounds depends on gaps in memory, and a copy without what is hidden has none.
        q, k, v = heads = tuple(np.ascontiguousarray(one)[:, None] for one in (q, k, v))
        made = kernels.attend(q, k, v, how)
        shapes = {name: one.shape for name, one in look.named(rest).items()}
        cache = {"heads": heads, "made": made, "how": how._replace(seen=None), "shapes": shapes}
        return look.whole(made[0][:, 0], made[1][:, 0]), {**cache, "mask": context.get("mask")}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        (q, k, v), made, how = cache["heads"], cache["made"], cache["how"]
        dout, dweights = look.parts(dout)
        checks.gradient(dout, made[0][:, 0].shape, q.dtype)
        if dweights is not None:
            checks.gradient(dweights, made[1][:, 0].shape, q.dtype)
            dweights = dweights[:, None]
        how = how._replace(seen=look.seen(how, cache["mask"], made[1].shape[2:]))
        dout = np.ascontiguousarray(dout)[:, None]
        *dheads, dscores = kernels.attend_gradients(q, k, v, made, how, dout, dweights)
        rest = look.gradients(cache["shapes"], dscores, q.dtype)
        return {}, (*(dhead[:, 0] for dhead in dheads), *rest)

    return Layer(init, apply, vjp, look.spec)
