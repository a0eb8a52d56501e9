"""Blocks of transformers, composed of public layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypedDict, Unpack, overload

from funcnn import checks
from funcnn.checks import Choice, Flag, Integer, Number, takes
from funcnn.combinators import named, residual, serial
from funcnn.combinators.contexts import clean_padding, keep_context, residual_with_context
from funcnn.combinators.graphs import graph
from funcnn.combinators.sequences import time_distributed
from funcnn.layers.activations import gelu, relu
from funcnn.layers.attentions import cross_attention, multi_head_attention
from funcnn.layers.linear import dense
from funcnn.layers.normalization import layer_norm
from funcnn.layers.regularization import dropout
from funcnn.types import Array, Counts, Layer, Off, On, Sequence

__all__ = ["transformer_decoder_block", "transformer_encoder_block"]

_Net: TypeAlias = Layer[Any, Any]
_DECLARED: Any = {  # what both blocks take; the attention declares the rest
    **dict.fromkeys(("features", "heads", "hidden"), Integer(1)),
    **dict.fromkeys(("masked", "biased", "causal", "bias"), Flag()),
    "rate": Number(minimum=0, below=1),
    "norm": Choice("pre", "post"),
    "activation": Choice("relu", "gelu"),
}


class _Options(TypedDict, total=False):
    """What both blocks take beside the options that change their type."""

    causal: bool
    rate: float
    norm: str
    activation: str
    kv_heads: int | None
    rotary_base: float | None
    window: int | None
    scale: float | None
    soft_cap: float | None
    bias: bool


@overload
def transformer_encoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    masked: Off = ...,
    biased: Off = ...,
    **options: Unpack[_Options],
) -> Layer[Sequence, Sequence]: ...
@overload
def transformer_encoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    masked: On,
    biased: Off = ...,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Counts], tuple[Sequence, Counts]]: ...
@overload
def transformer_encoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    masked: Off = ...,
    biased: On,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Array], tuple[Sequence, Array]]: ...
@overload
def transformer_encoder_block(
    features: int, heads: int, hidden: int, *, masked: On, biased: On, **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Array, Counts], tuple[Sequence, Array, Counts]]: ...
@takes(**_DECLARED)
def transformer_encoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    masked: bool = False,
    biased: bool = False,
    causal: bool = False,
    rate: float = 0.0,
    norm: str = "pre",
    activation: str = "relu",
    kv_heads: int | None = None,
    rotary_base: float | None = None,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    bias: bool = True,
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
        Whether a mask goes along, ``(x, mask) -> (y, mask)``: booleans ``(N, T)``, False for padding,
        or the lengths. So blocks can follow each other; `drop_context` ends it.
    biased : bool, default False
        Whether a bias of the scores goes along, in front of a mask: see `alibi`.
    causal : bool, default False
        Whether a step sees only the steps up to itself.
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
    window : int, optional
        How far a step sees.
    scale, soft_cap : float, optional
        Of the scores; see `attention`.
    bias : bool, default True
        Whether attention, dense layers and normalisations have biases.

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
    build: Any = multi_head_attention
    attend = build(
        heads, masked=masked, biased=biased, causal=causal, rate=rate, kv_heads=kv_heads,
        rotary_base=rotary_base, window=window, scale=scale, soft_cap=soft_cap, bias=bias,
    )  # fmt: skip
    context = ", ".join(["bias"] * biased + ["mask"] * masked)
    part = _parts(rate, norm, context, bias)
    return serial(
        *([clean_padding()] if masked else []),
        *part("attention", attend, looking=bool(context)),
        *part("feed_forward", *_feed_forward(features, hidden, activation, rate, bias)),
    )


@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: Off = ...,
    masked: Off = ...,
    biased: Off = ...,
    **options: Unpack[_Options],
) -> Layer[Sequence, Sequence]: ...
@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: On,
    masked: Off = ...,
    biased: Off = ...,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Sequence], tuple[Sequence, Sequence]]: ...
@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: On,
    masked: On,
    biased: Off = ...,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Sequence, Counts], tuple[Sequence, Sequence, Counts]]: ...
@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: On,
    masked: Off = ...,
    biased: On,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Sequence, Array], tuple[Sequence, Sequence, Array]]: ...
@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: On,
    masked: On,
    biased: On,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Sequence, Array, Counts], tuple[Sequence, Sequence, Array, Counts]]: ...
@overload
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: Off = ...,
    masked: Off = ...,
    biased: On,
    **options: Unpack[_Options],
) -> Layer[tuple[Sequence, Array], tuple[Sequence, Array]]: ...
@takes(memory=Flag(), **_DECLARED)
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int,
    *,
    memory: bool = False,
    masked: bool = False,
    biased: bool = False,
    causal: bool = True,
    rate: float = 0.0,
    norm: str = "pre",
    activation: str = "relu",
    kv_heads: int | None = None,
    rotary_base: float | None = None,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    bias: bool = True,
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
        Whether a mask of the memory goes along, too: booleans ``(N, S)``, False for padding, or the
        lengths.
    biased : bool, default False
        Whether a bias of the scores of the attention to itself goes along, ``(x, bias)`` or ``(x,
        memory, bias)``, in front of a mask: see `alibi`.
    causal : bool, default True
        Whether a step sees only the steps up to itself.
    rate : float, default 0.0
        The fraction that is dropped in training, of attention weights and of features.
    norm : "pre" or "post", default "pre"
        Whether `layer_norm` stands in front of each part, or behind the sum with its input.
    activation : "relu" or "gelu", default "relu"
        Between the two dense layers.
    kv_heads : int, optional
        Heads of keys and values; by default `heads`.
    rotary_base : float, optional
        For rotary positions in the attention to itself.
    window : int, optional
        How far a step sees, in the attention to itself.
    scale, soft_cap : float, optional
        Of the scores in both attentions; see `attention`.
    bias : bool, default True
        Whether attention, dense layers and normalisations have biases.

    Returns
    -------
    Layer
        A `serial`, or a `graph` for a memory and a bias, with the children ``attention``,
        ``cross_attention`` if there is a memory, and ``feed_forward``; for ``"post"`` also
        ``attention_norm`` and so on.

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
    if masked and not memory:
        checks.refuse("`masked` must be False without a memory, got True")
    makers: Any = (multi_head_attention, cross_attention)
    attend, look = (
        partial(each, heads, rate=rate, kv_heads=kv_heads, scale=scale, soft_cap=soft_cap, bias=bias)
        for each in makers
    )
    own = attend(biased=biased, causal=causal, rotary_base=rotary_base, window=window)
    mask, apart = ["mask"] * masked, memory and biased
    context = ", ".join(["memory"] * memory + ["bias"] * biased + mask)
    part = _parts(rate, norm, "bias" if biased else context, bias)
    parts = part("attention", own, looking=biased)
    if memory:
        part = _parts(rate, norm, ", ".join(["memory", *mask]), bias)
        parts += part("cross_attention", look(masked=masked), looking=True)
    part = _parts(rate, norm, "" if apart else context, bias)
    parts += part("feed_forward", *_feed_forward(features, hidden, activation, rate, bias))
    return _apart(parts, masked, "_norm" if norm == "post" else "") if apart else serial(*parts)


def _apart(parts: tuple[_Net, ...], masked: bool, norm: str) -> _Net:
    """Each part with what it looks at, of ``(x, memory, bias, mask)``."""
    mask = ("x/3",) * masked
    wires: dict[str, Any] = {
        "attention": ("x/0", "x/2"),
        "cross_attention": (f"attention{norm}/0", "x/1", *mask),
        "feed_forward": f"cross_attention{norm}/0",
    }
    return graph(*parts, wires=wires, output=(f"feed_forward{norm}", "x/1", "x/2", *mask))


def _dropout(rate: float) -> list[_Net]:
    return [dropout(rate)] if rate else []


def _feed_forward(
    features: int, hidden: int, activation: str, rate: float, bias: bool
) -> tuple[_Net, ...]:
    """Two dense layers at every step."""
    act: _Net = gelu() if activation == "gelu" else relu()
    expand, contract = (time_distributed(dense(size, bias=bias)) for size in (hidden, features))
    return named("expand", expand), act, *_dropout(rate), named("contract", contract)


def _parts(rate: float, norm: str, context: str, bias: bool) -> Callable[..., tuple[_Net, ...]]:
    """What makes a part of a block: layers added to their input, with normalisation."""
    post = norm == "post"
    keep: Any = keep_context

    def part(name: str, *layers: _Net, looking: bool = False) -> tuple[_Net, ...]:
        """`looking` at the context, or beside it."""
        scaled: _Net = layer_norm(bias=bias)
        kept = keep(scaled, context) if context else scaled
        first = () if post else (named("norm", kept if looking else scaled),)
        layers = (*first, *layers, *_dropout(rate))
        if looking:
            whole: _Net = residual_with_context(serial(*layers))
        else:
            whole = keep(residual(*layers), context) if context else residual(*layers)
        return (named(name, whole), *((named(f"{name}_norm", kept),) if post else ()))

    return part
