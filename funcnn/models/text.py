"""Networks that say what comes next in a text."""

from __future__ import annotations

from typing import Any, TypedDict, Unpack, overload

from funcnn.checks import Choice, Flag, Integer, Number, Optional, takes
from funcnn.combinators import named, serial, tied
from funcnn.combinators.contexts import drop_context, keep_context, with_encoder
from funcnn.combinators.sequences import time_distributed
from funcnn.initializers import normal
from funcnn.layers.embeddings import embedding, learned_positions
from funcnn.layers.linear import dense
from funcnn.layers.normalization import layer_norm
from funcnn.layers.recurrent import gru, lstm, rnn
from funcnn.layers.regularization import dropout
from funcnn.models.transformer import transformer_decoder_block, transformer_encoder_block
from funcnn.types import Counts, Layer, Off, On, Sequence, Tokens

__all__ = ["char_rnn", "encoder_decoder", "transformer_lm"]

Net = Layer[Any, Any]
_ONE, _RATE = Integer(1), Number(minimum=0, below=1)


@takes(
    vocabulary_size=_ONE, hidden=_ONE, cell=Choice("lstm", "gru", "rnn"), layers=_ONE, features=_ONE,
    rate=_RATE,
)  # fmt: skip
def char_rnn(
    vocabulary_size: int,
    hidden: int = 128,
    *,
    cell: str = "lstm",
    layers: int = 1,
    features: int = 32,
    rate: float = 0.0,
) -> Layer[Tokens, Sequence]:
    """Read a text character by character, and say at each what comes next.

    Parameters
    ----------
    vocabulary_size : int
        How many characters there are.
    hidden : int, default 128
        Features of the hidden state.
    cell : "lstm", "gru" or "rnn", default "lstm"
        What reads.
    layers : int, default 1
        How many of them are stacked.
    features : int, default 32
        That each character is given.
    rate : float, default 0.0
        The fraction of the features that is dropped in training, before and behind what reads.

    Returns
    -------
    Layer
        From characters ``(N, T)`` to logits ``(N, T, vocabulary_size)``, for
        ``softmax_cross_entropy`` with the text one character further on.

    Raises
    ------
    ValueError, TypeError
        For a size below 1, another cell; and what its layers refuse, with their path.

    Notes
    -----
    ``embedding``, then the cell, then ``dense`` at every step.

    References
    ----------
    A. Graves, "Generating sequences with recurrent neural networks", 2013.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import char_rnn
    >>> out_shape, params = char_rnn(65).init(random.key(0), (8, 50))
    >>> out_shape, list(params)
    ((8, 50, 65), ['embedding1', 'lstm1', 'logits'])
    """
    read: Any = {"lstm": lstm, "gru": gru, "rnn": rnn}[cell]
    drop: list[Net] = [dropout(rate)] if rate else []
    logits = named("logits", time_distributed(dense(vocabulary_size)))
    return serial(
        embedding(vocabulary_size, features), *drop, read(hidden, layers=layers), *drop, logits
    )


@takes(
    vocabulary_size=_ONE, max_length=_ONE, features=_ONE, heads=_ONE, depth=_ONE,
    hidden=Optional(_ONE), rate=_RATE, tie=Flag(),
)  # fmt: skip
def transformer_lm(
    vocabulary_size: int,
    max_length: int,
    *,
    features: int = 64,
    heads: int = 4,
    depth: int = 2,
    hidden: int | None = None,
    rate: float = 0.0,
    tie: bool = True,
) -> Layer[Tokens, Sequence]:
    """Look back at a text from each of its tokens, and say what comes next: a decoder-only transformer.

    Parameters
    ----------
    vocabulary_size : int
        How many tokens there are.
    max_length : int
        The most tokens that a text can have.
    features : int, default 64
        Of each token.
    heads : int, default 4
        Of the attention; they share the features evenly.
    depth : int, default 2
        How many blocks.
    hidden : int, optional
        Features between the dense layers of a block; by default ``4 * features``.
    rate : float, default 0.0
        The fraction that is dropped in training.
    tie : bool, default True
        Whether the embedding is also the weight of the last layer.

    Returns
    -------
    Layer
        From tokens ``(N, T)`` to logits ``(N, T, vocabulary_size)``, for ``softmax_cross_entropy``
        with the text one token further on.

    Raises
    ------
    ValueError, TypeError
        For a size below 1, heads that do not divide the features; and what its layers refuse, with
        their path.

    Notes
    -----
    ``embedding`` and ``learned_positions``, `depth` times `transformer_decoder_block` (pre-norm,
    gelu), ``layer_norm``, ``dense`` at every step. A logit depends on no later token.

    References
    ----------
    A. Radford et al., "Language models are unsupervised multitask learners", 2019. O. Press and L.
    Wolf, "Using the output embedding to improve language models", 2017.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import transformer_lm
    >>> out_shape, params = transformer_lm(65, 128).init(random.key(0), (8, 50))
    >>> out_shape, list(params)
    ((8, 50, 65), ['embedding1', 'learned_positions1', 'block1', 'block2', 'layer_norm1'])
    """
    hidden = 4 * features if hidden is None else hidden
    drop: list[Net] = [dropout(rate)] if rate else []

    def block() -> Net:
        return transformer_decoder_block(features, heads, hidden, rate=rate, activation="gelu")

    net: Layer[Tokens, Sequence] = serial(
        embedding(vocabulary_size, features, weight_init=normal(0.02)),
        learned_positions(max_length),
        *drop,
        *(named(f"block{i + 1}", block()) for i in range(depth)),
        layer_norm(),
        named("logits", time_distributed(dense(vocabulary_size, bias=False))),
    )
    return tied(net, ties={"logits/weight": "embedding1/weight"}) if tie else net


class _Options(TypedDict, total=False):
    features: int
    heads: int
    depth: int
    hidden: int | None
    rate: float


@overload
def encoder_decoder(
    source_size: int,
    target_size: int,
    max_length: int,
    *,
    masked: Off = ...,
    **options: Unpack[_Options],
) -> Layer[tuple[Tokens, Tokens], Sequence]: ...
@overload
def encoder_decoder(
    source_size: int, target_size: int, max_length: int, *, masked: On, **options: Unpack[_Options]
) -> Layer[tuple[Tokens, Tokens, Counts], Sequence]: ...
@takes(
    source_size=_ONE, target_size=_ONE, max_length=_ONE, features=_ONE, heads=_ONE, depth=_ONE,
    hidden=Optional(_ONE), masked=Flag(), rate=_RATE,
)  # fmt: skip
def encoder_decoder(
    source_size: int,
    target_size: int,
    max_length: int,
    *,
    features: int = 64,
    heads: int = 4,
    depth: int = 2,
    hidden: int | None = None,
    masked: bool = False,
    rate: float = 0.0,
) -> Layer[Any, Sequence]:
    """Read one text, and say of another what comes next: a transformer that translates.

    Parameters
    ----------
    source_size, target_size : int
        How many tokens there are in the text that is read, and in the one that is written.
    max_length : int
        The most tokens that either can have.
    features : int, default 64
        Of each token.
    heads : int, default 4
        Of each attention; they share the features evenly.
    depth : int, default 2
        How many blocks the encoder has, and the decoder.
    hidden : int, optional
        Features between the dense layers of a block; by default ``4 * features``.
    masked : bool, default False
        Whether a mask of the text that is read is a third input: booleans ``(N, S)``, False for
        padding, or its lengths, ints ``(N,)``.
    rate : float, default 0.0
        The fraction that is dropped in training.

    Returns
    -------
    Layer
        From ``(target, source)`` or ``(target, source, mask)``, tokens ``(N, T)`` and ``(N, S)``, to
        logits ``(N, T, target_size)``, for ``softmax_cross_entropy`` with the target one token further
        on.

    Raises
    ------
    ValueError, TypeError
        For a size below 1, heads that do not divide the features; and what its layers refuse, with
        their path.

    Notes
    -----
    `with_encoder` of two chains: ``embedding`` and ``learned_positions``, then `depth` times
    `transformer_encoder_block`, or `transformer_decoder_block` with the encoder's output as its memory
    (pre-norm, gelu), ``layer_norm``, and in the decoder ``dense`` at every step. A logit depends on no
    later token of the target.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import encoder_decoder
    >>> net = encoder_decoder(30, 40, 16)
    >>> out_shape, params = net.init(random.key(0), ((8, 12), (8, 10)))
    >>> out_shape, list(params)
    ((8, 12, 40), ['encoder', 'decoder'])
    """
    sizes = (features, heads, 4 * features if hidden is None else hidden)
    drop: list[Net] = [dropout(rate)] if rate else []
    encode: Any = transformer_encoder_block
    decode: Any = transformer_decoder_block
    keep: Any = keep_context
    leave: Any = drop_context
    memory = "memory, mask" if masked else "memory"

    def embedded(size: int, context: str) -> Net:
        layers: Net = serial(
            embedding(size, features, weight_init=normal(0.02)), learned_positions(max_length), *drop
        )
        return keep(layers, context) if context else layers

    def blocks(build: Any, **options: Any) -> list[Net]:
        made = (build(*sizes, rate=rate, activation="gelu", **options) for _ in range(depth))
        return [named(f"block{i + 1}", block) for i, block in enumerate(made)]

    norm: Net = layer_norm()
    encoder: Net = serial(
        named("tokens", embedded(source_size, "mask" if masked else "")),
        *blocks(encode, masked=masked),
        named("norm", keep(norm, "mask") if masked else norm),
    )
    decoder: Net = serial(
        named("tokens", embedded(target_size, memory)),
        *blocks(decode, memory=True, masked=masked),
        leave(memory),
        named("norm", norm),
        named("logits", time_distributed(dense(target_size, bias=False))),
    )
    return with_encoder(encoder, decoder)
