"""Attention of many heads: of a sequence to itself, to a memory, or of three sequences."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack, overload

import numpy as np

from funcnn import checks, random
from funcnn._kernels import attention as kernels, heads as many
from funcnn.checks import Constraint, Flag, Integer, Number, Optional, Shapes, declared
from funcnn.initializers import glorot_uniform, zeros
from funcnn.initializers.core import BIAS_INIT, INITIALIZER, Initializer
from funcnn.layers.attentions.looking import OFFSET, SCORES, WINDOW, Look, ScoreOptions
from funcnn.types import Array, Cache, Counts, Key, Layer, Off, On, Params, Sequence, Shape

__all__ = ["cross_attention", "multi_head_attention"]

_GLOROT = glorot_uniform()
_ZEROS = zeros()

_DECLARED: dict[str, Constraint] = {
    "heads": Integer(1),
    "features": Optional(Integer(1)),
    "kv_heads": Optional(Integer(1)),
    "bias": Flag(),
    "weight_init": INITIALIZER,
    "bias_init": BIAS_INIT,
    **SCORES,
}


class _HeadOptions(ScoreOptions, total=False):
    """What layers of many heads take beside the options that change their type."""

    features: int | None
    kv_heads: int | None
    bias: bool
    weight_init: Initializer
    bias_init: Initializer


class _SelfOptions(_HeadOptions, total=False):
    causal: bool
    window: int | None
    offset: int
    rotary_base: float | None


class _AnyCross(_HeadOptions, total=False):
    """The same, for a number of inputs that no type says."""

    masked: bool
    biased: bool


class _AnySelf(_SelfOptions, total=False):
    separate: bool
    masked: bool
    biased: bool


@overload
def multi_head_attention(
    heads: int,
    *,
    separate: Off = ...,
    masked: Off = ...,
    biased: Off = ...,
    return_weights: Off = ...,
    **options: Unpack[_SelfOptions],
) -> Layer[Sequence, Sequence]: ...
@overload
def multi_head_attention(
    heads: int,
    *,
    separate: Off = ...,
    masked: On,
    biased: Off = ...,
    return_weights: Off = ...,
    **options: Unpack[_SelfOptions],
) -> Layer[tuple[Sequence, Counts], Sequence]: ...
@overload
def multi_head_attention(
    heads: int,
    *,
    separate: On,
    masked: Off = ...,
    biased: Off = ...,
    return_weights: Off = ...,
    **options: Unpack[_SelfOptions],
) -> Layer[tuple[Sequence, Sequence, Sequence], Sequence]: ...
@overload
def multi_head_attention(
    heads: int, *, return_weights: Off = ..., **options: Unpack[_AnySelf]
) -> Layer[Any, Sequence]: ...
@overload
def multi_head_attention(
    heads: int, *, return_weights: On, **options: Unpack[_AnySelf]
) -> Layer[Any, tuple[Sequence, Array]]: ...
@declared(
    separate=Flag(),
    causal=Flag(),
    window=WINDOW,
    offset=OFFSET,
    rotary_base=Optional(Number(minimum=1e-300)),
    **_DECLARED,
)
def multi_head_attention(
    heads: int,
    *,
    features: int | None = None,
    kv_heads: int | None = None,
    separate: bool = False,
    masked: bool = False,
    biased: bool = False,
    causal: bool = False,
    window: int | None = None,
    offset: int = 0,
    scale: float | None = None,
    soft_cap: float | None = None,
    bias: bool = True,
    rate: float = 0.0,
    rotary_base: float | None = None,
    return_weights: bool = False,
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
    separate : bool, default False
        Whether queries, keys and values are made of three inputs, ``(query, key, value)``, of any
        widths; the last two have one length.
    masked : bool, default False
        Whether a mask is the last input: booleans ``(N, T)``, True for the steps that are seen
        (False: padding), or ``(N, T, T)``, row ``t`` for what step ``t`` sees; or the lengths,
        ints ``(N,)``.
    biased : bool, default False
        Whether numbers that are added to the scores are an input behind the sequence, ``(N, T, T)``
        or, for each head, ``(N, heads, T, T)``; what gets ``-inf`` is not seen. See `alibi` and
        `relative_positions`.
    causal : bool, default False
        Whether step ``t`` sees only the steps up to ``t``.
    window : int, optional
        How far a step sees: the steps at most so far away from it.
    offset : int, default 0
        The place of the first query among separate keys, for what is causal, a window, or rotary.
    scale : float, optional
        Of the scores; by default ``1 / sqrt(features / heads)``.
    soft_cap : float, optional
        What bounds the scores: ``s`` becomes ``soft_cap * tanh(s / soft_cap)``.
    bias : bool, default True
        Whether to add biases.
    rate : float, default 0.0
        The fraction of the attention weights that is dropped in training.
    rotary_base : float, optional
        Turns queries and keys by their position, as `rotary` does; usually 10000.
    return_weights : bool, default False
        Whether the weights ``(N, heads, T, T)`` are a second output, before any is dropped.
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
    if offset and (not separate or not (causal or window is not None or rotary_base is not None)):
        words = "separate inputs that are causal, rotary or have a window"
        checks.refuse(f"`offset` must be 0 without {words}, got {offset}")
    look = Look(masked, biased, return_weights, scale, soft_cap, rate, causal, window, offset)
    of = _Heads(3 if separate else 1, heads, groups, features, bias, rotary_base, look)
    return _many_heads(of, weight_init, bias_init)


@overload
def cross_attention(
    heads: int,
    *,
    masked: Off = ...,
    biased: Off = ...,
    return_weights: Off = ...,
    **options: Unpack[_HeadOptions],
) -> Layer[tuple[Sequence, Sequence], Sequence]: ...
@overload
def cross_attention(
    heads: int,
    *,
    masked: On,
    biased: Off = ...,
    return_weights: Off = ...,
    **options: Unpack[_HeadOptions],
) -> Layer[tuple[Sequence, Sequence, Counts], Sequence]: ...
@overload
def cross_attention(
    heads: int, *, return_weights: Off = ..., **options: Unpack[_AnyCross]
) -> Layer[Any, Sequence]: ...
@overload
def cross_attention(
    heads: int, *, return_weights: On, **options: Unpack[_AnyCross]
) -> Layer[Any, tuple[Sequence, Array]]: ...
@declared(**_DECLARED)
def cross_attention(
    heads: int,
    *,
    features: int | None = None,
    kv_heads: int | None = None,
    masked: bool = False,
    biased: bool = False,
    scale: float | None = None,
    soft_cap: float | None = None,
    bias: bool = True,
    rate: float = 0.0,
    return_weights: bool = False,
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
        Whether a mask is the last input: booleans ``(N, S)`` or ``(N, T, S)``, True for the steps
        of the memory that are seen; or the lengths, ints ``(N,)``.
    biased : bool, default False
        Whether numbers that are added to the scores are an input behind the memory, ``(N, T, S)`` or
        ``(N, heads, T, S)``; what gets ``-inf`` is not seen.
    scale : float, optional
        Of the scores; by default ``1 / sqrt(features / heads)``.
    soft_cap : float, optional
        What bounds the scores: ``s`` becomes ``soft_cap * tanh(s / soft_cap)``.
    bias : bool, default True
        Whether to add biases.
    rate : float, default 0.0
        The fraction of the attention weights that is dropped in training.
    return_weights : bool, default False
        Whether the weights ``(N, heads, T, S)`` are a second output, before any is dropped.
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
    look = Look(masked, biased, return_weights, scale, soft_cap, rate)
    of = _Heads(2, heads, groups, features, bias, None, look)
    return _many_heads(of, weight_init, bias_init)


class _Heads(NamedTuple):
    """What the options of a layer of many heads say."""

    inputs: int  # one for all, one for queries and one for the rest, or three
    heads: int
    groups: int  # heads of keys and values
    features: int | None
    bias: bool
    base: float | None  # of the rotation
    look: Look

    @property
    def names(self) -> tuple[str, ...]:
        """The sequences that go in."""
        return (("x",), ("x", "memory"), ("query", "key", "value"))[self.inputs - 1]

    def shapes(self, widths: Any) -> dict[str, dict[str, tuple[Any, ...]]]:
        """The parameters for queries, keys and values of these widths."""
        query, key, value = widths
        width = self.features or query
        size, rest = divmod(width, self.heads)
        if rest or (self.base is not None and size % 2):
            even = " of even size" if self.base is not None else ""
            checks.refuse(f"`features` must fill {self.heads} heads{even}, got {width}")
        rows = self.groups * size
        weights = {"query": (width, query), "key": (rows, key), "value": (rows, value)}
        weights["out"] = (width, width)
        return {
            name: {"weight": shape, "bias": shape[:1]} if self.bias else {"weight": shape}
            for name, shape in weights.items()
        }

    def parts(self, value: Any, name: str) -> tuple[list[Any], list[Any]]:
        """What queries, keys and values are made of, and what is behind; or the shapes of all these."""
        words = ", ".join([*self.names, *self.look.words])
        parts = (value,) if words == "x" else checks.together(value, words, name)
        return self.three(parts[: self.inputs]), list(parts[self.inputs :])

    def three(self, inputs: Any) -> list[Any]:
        """One for queries, keys and values each."""
        return [*inputs, *[inputs[-1]] * (3 - len(inputs))]

    def widths(self, params: Params) -> list[int]:
        """The widths of the inputs that these parameters are for; it checks them."""
        checks.children(params, ("query", "key", "value", "out"))
        query: Shapes = {"weight": (self.features, None), **({"bias": (None,)} if self.bias else {})}
        checks.leaves(params.get("query", {}), query, "query")
        found: list[Any] = [params["query"]["weight"].shape[1], None, None]
        for place, name in enumerate(("query", "key", "value", "out")):
            if name in ("key", "value"):
                found[place] = found[place - 1] if place >= self.inputs else None
            checks.leaves(params.get(name, {}), self.shapes(found)[name], name)
            if name in ("key", "value"):
                found[place] = params[name]["weight"].shape[1]
        return found

    def checked(self, params: Params, x: Any) -> tuple[list[Array], list[Any]]:
        """The parts of an input that fits the parameters: sequences, and what is behind them."""
        widths = self.widths(params)
        inputs, rest = self.parts(x, "x")
        for name, one, width in zip((*self.names, "", ""), inputs, widths, strict=False):
            if name:
                checks.ranked(one, "N, T, F", name)
                checks.sized(one, 2, width, "features", name)
                checks.same_dtype(one, params["query"]["weight"], name, params=params)
        for own in params.values():
            checks.same_dtype(inputs[0], own["weight"], self.names[0], params=params)
        self.fitting([one.shape for one in inputs])
        return inputs, rest

    def fitting(self, shapes: list[Shape]) -> Shape:
        """The pairs of queries and keys, if these sequences belong together."""
        x, memory, value = shapes
        name = self.names[-1] if self.inputs == 2 else "key"
        checks.exact_shape(memory, (x[0], *memory[1:]), name)
        checks.exact_shape(value, (*memory[:2], *value[2:]), "value")
        return (*x[:2], memory[1])


def _many_heads(of: _Heads, weight_init: Initializer, bias_init: Initializer) -> Layer[Any, Any]:
    """Attention to a memory, of a sequence to itself, or of three inputs."""
    if of.heads % of.groups:
        checks.refuse(f"`kv_heads` must divide {of.heads} heads, got {of.groups}")
    starts, look = {"weight": weight_init, "bias": bias_init}, of.look

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        inputs, rest = of.parts(shape, "shape")
        x, memory, value = (
            checks.shape(one, axes)
            for one, axes in zip(inputs, ("N, T, F", "N, S, F", "N, S, F"), strict=True)
        )
        pairs = of.fitting([x, memory, value])
        look.fitting(look.named(rest), of.heads, pairs)
        checks.key(key)
        params: Params = {}
        for name, own in of.shapes((x[2], memory[2], value[2])).items():
            params[name] = {}
            for leaf, leaf_shape in own.items():
                params[name][leaf] = starts[leaf](random.fold_in(key, f"{name}/{leaf}"), leaf_shape)
        out_shape = (*x[:2], of.features or x[2])
        return look.whole(out_shape, (x[0], of.heads, *pairs[1:])), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        inputs, rest = of.checked(params, x)
        pairs = (*inputs[0].shape[:2], inputs[1].shape[1])
        context = look.checked(rest, of.heads, pairs, inputs[0], f"`{of.names[0]}` is")
        mask = context.get("mask")
        if mask is not None:
            idle = kernels.idle(mask, of.inputs == 1)
            first = min(of.inputs - 1, 1)  # of those that make keys
            cleaned = [
                np.where(kernels.unclean(one, idle), 0, one) for one in inputs[first : of.inputs]
            ]
            inputs = of.three([*inputs[:first], *cleaned])
        how = look.scores(context, (pairs[0], of.heads, *pairs[1:]), key, inputs[0])
        out, record = many.attend(inputs, params, (of.heads, of.groups), how, of.base, look.offset)
        shapes = {name: one.shape for name, one in look.named(rest).items()}
        return look.whole(out, record["made"][1]), {"record": record, "mask": mask, "shapes": shapes}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        record = cache["record"]
        mixed, weights, _ = record["made"]
        dout, dweights = look.parts(dout)
        width = mixed.shape[1] * mixed.shape[3]
        checks.gradient(dout, (mixed.shape[0], mixed.shape[2], width), mixed.dtype)
        if dweights is not None:
            checks.gradient(dweights, weights.shape, mixed.dtype)
        seen = look.seen(record["how"], cache["mask"], weights.shape[2:])
        dparams, dxs, dscores = many.attend_gradients(record, dout, dweights, seen, of.bias, of.inputs)
        dxs += look.gradients(cache["shapes"], dscores, mixed.dtype)
        return dparams, tuple(dxs) if len(dxs) > 1 else dxs[0]

    return Layer(init, apply, vjp, look.spec)
