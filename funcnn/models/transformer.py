"""Blocks of transformers, composed of public layers."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypedDict, Unpack, overload

from funcnn import checks
from funcnn.checks import Choice, Flag
from funcnn.combinators import named, residual, serial
from funcnn.combinators.contexts import clean_padding, keep_context, residual_with_context
from funcnn.combinators.sequences import time_distributed
from funcnn.layers.activations import gelu, relu
from funcnn.layers.attentions import cross_attention, multi_head_attention
from funcnn.layers.linear import dense
from funcnn.layers.normalization import layer_norm
from funcnn.layers.regularization import dropout
from funcnn.types import Layer, Mask, Sequence

__all__ = ["transformer_decoder_block", "transformer_encoder_block"]

_On: TypeAlias = Literal[True]
_Off: TypeAlias = Literal[False]
_Net: TypeAlias = Layer[Any, Any]


class _Options(TypedDict, total=False):
    """What both blocks take beside the options that change their type."""

    rate: float
    norm: str
    activation: str
    kv_heads: int | None
    rotary_base: float | None


@overload
def transformer_encoder_block(
    features: int, heads: int, hidden: int, *, masked: _Off = ..., **options: Unpack[_Options]
) -> Layer[Sequence, Sequence]: ...
@overload
def transformer_encoder_block(
    features: int, heads: int, hidden: int, *, masked: _On, **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Mask], tuple[Sequence, Mask]]: ...
@checks.named
def transformer_encoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    masked: bool = False,
    rate: float = 0.0,
    norm: str = "pre",
    activation: str = "relu",
    kv_heads: int | None = None,
    rotary_base: float | None = None,
) -> Layer[Any, Any]:
    """Attention of a sequence to itself, then two dense layers at every step; the shape stays.

    Parameters
    ----------
    features : int
        F, of the input ``(N, T, F)`` and of the output.
    heads : int
        Heads of the attention.
    hidden : int
        Features between the two dense layers.
    masked : bool, default False
        Whether a mask goes along, ``(x, mask) -> (y, mask)``: booleans ``(N, T)``, False for padding.
        So blocks can follow each other; `drop_context` ends it.
    rate : float, default 0.0
        The fraction that is dropped in training, of attention weights and of features.
    norm : "pre" or "post", default "pre"
        Whether `layer_norm` stands in front of each part, or behind the sum with its input.
    activation : "relu" or "gelu", default "relu"
        Between the two dense layers.
    kv_heads : int, optional
        Heads of keys and values; by default `heads`.
    rotary_base : float, optional
        For rotary positions.

    Returns
    -------
    Layer
        A `serial` with the children ``attention`` and ``feed_forward``; for ``"post"`` also
        ``attention_norm`` and ``feed_forward_norm``.

    Raises
    ------
    ValueError, TypeError
        For an option that cannot be.

    Notes
    -----
    With ``"pre"``: ``x + f(norm(x))``; with ``"post"``: ``norm(x + f(x))``, for both parts.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017. R. Xiong et al., "On layer normalization
    in the transformer architecture", 2020.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import transformer_encoder_block
    >>> block = transformer_encoder_block(8, 2, 32)
    >>> out_shape, params = block.init(random.key(0), (2, 5, 8))
    >>> out_shape, list(params)
    ((2, 5, 8), ['attention', 'feed_forward'])
    """
    masked = Flag().check("masked", masked)
    post = Choice("pre", "post").check("norm", norm) == "post"
    build: Any = multi_head_attention
    attend = build(heads, masked=masked, rate=rate, kv_heads=kv_heads, rotary_base=rotary_base)
    feed = _feed_forward(features, hidden, activation, rate)
    context = "mask" if masked else ""
    return serial(
        *([clean_padding()] if masked else []),
        *_part("attention", (attend,), rate, post, context, looking=masked),
        *_part("feed_forward", feed, rate, post, context),
    )


@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: _Off = ...,
    masked: _Off = ...,
    **options: Unpack[_Options],
) -> Layer[Sequence, Sequence]: ...
@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: _On,
    masked: _Off = ...,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Sequence], tuple[Sequence, Sequence]]: ...
@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: _On,
    masked: _On,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Sequence, Mask], tuple[Sequence, Sequence, Mask]]: ...
@checks.named
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: bool = False,
    masked: bool = False,
    rate: float = 0.0,
    norm: str = "pre",
    activation: str = "relu",
    kv_heads: int | None = None,
    rotary_base: float | None = None,
) -> Layer[Any, Any]:
    """Causal attention, attention to a memory if there is one, then two dense layers at every step.

    Parameters
    ----------
    features : int
        F, of the input ``(N, T, F)`` and of the output.
    heads : int
        Heads of each attention.
    hidden : int
        Features between the two dense layers.
    memory : bool, default False
        Whether a memory ``(N, S, M)`` goes along, ``(x, memory) -> (y, memory)``. So blocks can
        follow each other; `drop_context` ends it.
    masked : bool, default False
        Whether a mask of the memory goes along, too: booleans ``(N, S)``, False for padding.
    rate : float, default 0.0
        The fraction that is dropped in training, of attention weights and of features.
    norm : "pre" or "post", default "pre"
        Whether `layer_norm` stands in front of each part, or behind the sum with its input.
    activation : "relu" or "gelu", default "relu"
        Between the two dense layers.
    kv_heads : int, optional
        Heads of keys and values; by default `heads`.
    rotary_base : float, optional
        For rotary positions in the causal attention.

    Returns
    -------
    Layer
        A `serial` with the children ``attention``, ``cross_attention`` if there is a memory, and
        ``feed_forward``; for ``"post"`` also ``attention_norm`` and so on.

    Raises
    ------
    ValueError, TypeError
        For an option that cannot be, a mask without a memory.

    Notes
    -----
    With ``"pre"``: ``x + f(norm(x))``; with ``"post"``: ``norm(x + f(x))``, for each part. A step
    of the output depends on no later step of the input.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017. Without a memory: A. Radford et al.,
    "Improving language understanding by generative pre-training", 2018.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import transformer_decoder_block
    >>> block = transformer_decoder_block(8, 2, 32, memory=True)
    >>> out_shape, params = block.init(random.key(0), ((2, 5, 8), (2, 7, 6)))
    >>> out_shape, list(params)
    (((2, 5, 8), (2, 7, 6)), ['attention', 'cross_attention', 'feed_forward'])
    """
    memory, masked = (
        Flag().check(name, value) for name, value in (("memory", memory), ("masked", masked))
    )
    if masked and not memory:
        checks.refuse("`masked` must be False without a memory, got True")
    post = Choice("pre", "post").check("norm", norm) == "post"
    attend = multi_head_attention(
        heads, causal=True, rate=rate, kv_heads=kv_heads, rotary_base=rotary_base
    )
    context = ("memory, mask" if masked else "memory") if memory else ""
    parts = _part("attention", (attend,), rate, post, context)
    if memory:
        build: Any = cross_attention
        look = build(heads, masked=masked, rate=rate, kv_heads=kv_heads)
        parts += _part("cross_attention", (look,), rate, post, context, looking=True)
    feed = _feed_forward(features, hidden, activation, rate)
    return serial(*parts, *_part("feed_forward", feed, rate, post, context))


def _dropout(rate: float) -> list[_Net]:
    return [dropout(rate)] if rate else []


def _feed_forward(features: int, hidden: int, activation: str, rate: float) -> tuple[_Net, ...]:
    """Two dense layers at every step."""
    Choice("relu", "gelu").check("activation", activation)
    act: _Net = gelu() if activation == "gelu" else relu()
    expand, contract = (time_distributed(dense(size)) for size in (hidden, features))
    return named("expand", expand), act, *_dropout(rate), named("contract", contract)


def _part(
    name: str, layers: tuple[_Net, ...], rate: float, post: bool, context: str, looking: bool = False
) -> tuple[_Net, ...]:
    """Layers added to their input, with normalisation; `looking` at the context, or beside it."""
    norm: _Net = layer_norm()
    keep: Any = keep_context
    first: tuple[_Net, ...]
    layers = (*layers, *_dropout(rate))
    if looking:
        first = () if post else (named("norm", keep(norm, context)),)
        whole: _Net = residual_with_context(serial(*first, *layers))
    else:
        first = () if post else (named("norm", norm),)
        whole = residual(*first, *layers)
        whole = keep(whole, context) if context else whole
    after = (named(f"{name}_norm", keep(norm, context) if context else norm),) if post else ()
    return named(name, whole), *after
