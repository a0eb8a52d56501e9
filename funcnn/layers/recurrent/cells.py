"""Recurrent layers: what each cell is, with its options."""

from __future__ import annotations

from typing import Any, TypeAlias, TypedDict, Unpack, overload

from funcnn._kernels import recurrent as kernels
from funcnn.checks import Choice, Constraint, Flag, Integer, Number, Optional, When, declared
from funcnn.initializers.core import INITIALIZER, Initializer
from funcnn.layers.recurrent.stack import Stack, recurrent
from funcnn.types import Counts, Layer, Off, On, Sequence

__all__ = ["gru", "lstm", "rnn"]

_Pair: TypeAlias = tuple[Sequence, Sequence]  # hidden state and memory

_DECLARED: dict[str, Constraint] = {
    "hidden": Integer(1),
    "layers": Integer(1),
    **dict.fromkeys(("bidirectional", "reverse", "carry", "lengths", "bias"), Flag()),
    "weight_init": Optional(INITIALIZER),
    "bias_init": When(Optional(INITIALIZER), "bias", True),
    "rate": Number(minimum=0, below=1),
}


class _Options(TypedDict, total=False):
    """What all recurrent layers take beside the options that change their type."""

    layers: int
    bidirectional: bool
    reverse: bool
    bias: bool
    rate: float
    weight_init: Initializer | None
    bias_init: Initializer | None


class _RNNOptions(_Options, total=False):
    nonlinearity: str


class _LSTMOptions(_Options, total=False):
    projection: int | None


class _GRUOptions(_Options, total=False):
    reset_after: bool


@overload
def rnn(
    hidden: int, *, carry: Off = ..., lengths: Off = ..., **options: Unpack[_RNNOptions]
) -> Layer[Sequence, Sequence]: ...
@overload
def rnn(
    hidden: int, *, carry: On, lengths: Off = ..., **options: Unpack[_RNNOptions]
) -> Layer[tuple[Sequence, Sequence], tuple[Sequence, Sequence]]: ...
@overload
def rnn(
    hidden: int, *, carry: Off = ..., lengths: On, **options: Unpack[_RNNOptions]
) -> Layer[tuple[Sequence, Counts], Sequence]: ...
@overload
def rnn(
    hidden: int, *, carry: On, lengths: On, **options: Unpack[_RNNOptions]
) -> Layer[tuple[Sequence, Sequence, Counts], tuple[Sequence, Sequence]]: ...
@declared(nonlinearity=Choice("tanh", "relu"), **_DECLARED)
def rnn(
    hidden: int,
    *,
    nonlinearity: str = "tanh",
    layers: int = 1,
    bidirectional: bool = False,
    reverse: bool = False,
    carry: bool = False,
    lengths: bool = False,
    bias: bool = True,
    rate: float = 0.0,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> Layer[Any, Any]:
    """Recurrent layer after Elman, ``(N, T, F) -> (N, T, hidden)``.

    Parameters
    ----------
    hidden : int
        Features of the hidden state.
    nonlinearity : "tanh" or "relu", default "tanh"
        What bounds the hidden state.
    layers : int, default 1
        How many are stacked, each on the output of the one below.
    bidirectional : bool, default False
        Whether a second walk runs from the end to the start; its output is concatenated, and the
        output has ``2 * hidden`` features.
    reverse : bool, default False
        Whether to walk from the end to the start; each output stays at its input's place.
    carry : bool, default False
        Whether the hidden state is an input and an output, too: ``(x, h) -> (out, h)``. Otherwise
        it starts from zeros.
    lengths : bool, default False
        Whether the lengths of the sequences, ints ``(N,)``, are the last input, ``(x, lengths)`` or
        ``(x, h, lengths)``; or flags for the steps that count, booleans ``(N, T)``. What does not
        count has no influence: the output there is 0, and the carry stays.
    bias : bool, default True
        Whether to add the two biases.
    rate : float, default 0.0
        The fraction that is dropped in training of what each layer of a stack gives to the next.
    weight_init, bias_init : Initializer, optional
        Where the parameters start; by default uniform within ``1 / sqrt(hidden)``.

    Returns
    -------
    Layer
        With params ``{"weight_ih": (H, F), "weight_hh": (H, H), "bias_ih": (H,), "bias_hh": (H,)}``;
        within ``{"forward": ..., "backward": ...}`` for two directions, and that or this within
        ``{"layer1": ..., "layer2": ...}`` for a stack. A carry has shape
        ``(N, layers * directions, H)``, the directions of a layer side by side.

    Raises
    ------
    ValueError, TypeError
        For an input of the wrong shape or dtype, lengths outside ``0..T``, `reverse` with
        `bidirectional`.

    Notes
    -----
    Forward: ``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``. Pullback, from the last step to
    the first: ``dz_t = (dy_t + dh_t) * (1 - h_t**2)`` and ``dh_{t-1} = W_hhᵀ dz_t``; then
    ``dx_t = W_ihᵀ dz_t``, ``dW_ih = sum(dz_t x_tᵀ)``, ``dW_hh = sum(dz_t h_{t-1}ᵀ)``, and both
    biases get ``sum(dz_t)``. The carry that comes out is that after the last valid step.

    References
    ----------
    J. Elman, "Finding structure in time", 1990. Layout as in PyTorch's ``RNN``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import random, rnn
    >>> layer = rnn(8)
    >>> out_shape, params = layer.init(random.key(0), (2, 5, 3))
    >>> out, cache = layer.apply(params, np.ones((2, 5, 3), np.float32))
    >>> out.shape == out_shape == (2, 5, 8)
    True
    """
    cell = kernels.RNN_TANH if nonlinearity == "tanh" else kernels.RNN_RELU
    of = Stack(cell, hidden, layers, bidirectional, reverse, carry, lengths, bias, rate)
    return recurrent(of, weight_init, bias_init)


@overload
def lstm(
    hidden: int, *, carry: Off = ..., lengths: Off = ..., **options: Unpack[_LSTMOptions]
) -> Layer[Sequence, Sequence]: ...
@overload
def lstm(
    hidden: int, *, carry: On, lengths: Off = ..., **options: Unpack[_LSTMOptions]
) -> Layer[tuple[Sequence, _Pair], tuple[Sequence, _Pair]]: ...
@overload
def lstm(
    hidden: int, *, carry: Off = ..., lengths: On, **options: Unpack[_LSTMOptions]
) -> Layer[tuple[Sequence, Counts], Sequence]: ...
@overload
def lstm(
    hidden: int, *, carry: On, lengths: On, **options: Unpack[_LSTMOptions]
) -> Layer[tuple[Sequence, _Pair, Counts], tuple[Sequence, _Pair]]: ...
@declared(projection=Optional(Integer(1)), **_DECLARED)
def lstm(
    hidden: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    reverse: bool = False,
    carry: bool = False,
    lengths: bool = False,
    bias: bool = True,
    rate: float = 0.0,
    projection: int | None = None,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> Layer[Any, Any]:
    """Long short-term memory, ``(N, T, F) -> (N, T, hidden)``.

    Parameters
    ----------
    hidden : int
        Features of the hidden state, and of the memory.
    layers : int, default 1
        How many are stacked, each on the output of the one below.
    bidirectional : bool, default False
        Whether a second walk runs from the end to the start; its output is concatenated, and the
        output has ``2 * hidden`` features.
    reverse : bool, default False
        Whether to walk from the end to the start; each output stays at its input's place.
    carry : bool, default False
        Whether hidden state and memory are an input and an output, too:
        ``(x, (h, c)) -> (out, (h, c))``. Otherwise they start from zeros.
    lengths : bool, default False
        Whether the lengths of the sequences, ints ``(N,)``, are the last input, or flags for the
        steps that count, booleans ``(N, T)``. What does not count has no influence: the output there
        is 0, and the carry stays.
    bias : bool, default True
        Whether to add the two biases.
    rate : float, default 0.0
        The fraction that is dropped in training of what each layer of a stack gives to the next.
    projection : int, optional
        Features of the hidden state, and of the output, that a matrix makes of `hidden` ones.
    weight_init, bias_init : Initializer, optional
        Where the parameters start; by default uniform within ``1 / sqrt(hidden)``.

    Returns
    -------
    Layer
        With params ``{"weight_ih": (4H, F), "weight_hh": (4H, H), "bias_ih": (4H,), "bias_hh":
        (4H,)}``, the gates in the order i, f, g, o; nested for directions and stacks as in `rnn`.
        ``h`` and ``c`` have shape ``(N, layers * directions, H)``. With a projection to P features
        also ``"weight_hr": (P, H)``; ``weight_hh`` has P columns then, and ``h`` P features.

    Raises
    ------
    ValueError, TypeError
        For an input of the wrong shape or dtype, lengths outside ``0..T``, `reverse` with
        `bidirectional`.

    Notes
    -----
    Forward: ``z = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh`` in four blocks; ``i, f, o = sigmoid(z_i),
    sigmoid(z_f), sigmoid(z_o)``, ``g = tanh(z_g)``; ``c_t = f c_{t-1} + i g``,
    ``h_t = o tanh(c_t)``. Pullback: ``dc += dh o (1 - tanh(c_t)**2)``; ``dz_i = dc g i (1 - i)``,
    ``dz_f = dc c_{t-1} f (1 - f)``, ``dz_g = dc i (1 - g**2)``, ``dz_o = dh tanh(c_t) o (1 - o)``;
    ``dc_{t-1} = dc f``; the rest as in `rnn`. A projection is ``h_t = W_hr (o tanh(c_t))``.

    In float32, products with a carry of 1e19 and more may be too large on the way back: outputs
    are right, but gradients may be infinite or NaN.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; the forget gate from F. Gers
    et al., "Learning to forget", 2000; the projection from H. Sak, A. Senior and F. Beaufays, "Long
    short-term memory based recurrent neural network architectures", 2014. Layout as in PyTorch's
    ``LSTM``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import lstm, random
    >>> layer = lstm(8, layers=2, carry=True)
    >>> state = np.zeros((2, 2, 8), np.float32)
    >>> _, params = layer.init(random.key(0), ((2, 5, 3), (state.shape, state.shape)))
    >>> x = np.ones((2, 5, 3), np.float32)
    >>> (out, (h, c)), cache = layer.apply(params, (x, (state, state)))
    >>> out.shape, bool((out[:, -1] == h[:, 1]).all())
    ((2, 5, 8), True)
    """
    cell, size = kernels.LSTM, projection
    of = Stack(cell, hidden, layers, bidirectional, reverse, carry, lengths, bias, rate, size)
    return recurrent(of, weight_init, bias_init)


@overload
def gru(
    hidden: int, *, carry: Off = ..., lengths: Off = ..., **options: Unpack[_GRUOptions]
) -> Layer[Sequence, Sequence]: ...
@overload
def gru(
    hidden: int, *, carry: On, lengths: Off = ..., **options: Unpack[_GRUOptions]
) -> Layer[tuple[Sequence, Sequence], tuple[Sequence, Sequence]]: ...
@overload
def gru(
    hidden: int, *, carry: Off = ..., lengths: On, **options: Unpack[_GRUOptions]
) -> Layer[tuple[Sequence, Counts], Sequence]: ...
@overload
def gru(
    hidden: int, *, carry: On, lengths: On, **options: Unpack[_GRUOptions]
) -> Layer[tuple[Sequence, Sequence, Counts], tuple[Sequence, Sequence]]: ...
@declared(reset_after=Flag(), **_DECLARED)
def gru(
    hidden: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    reverse: bool = False,
    carry: bool = False,
    lengths: bool = False,
    bias: bool = True,
    rate: float = 0.0,
    reset_after: bool = True,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> Layer[Any, Any]:
    """Gated recurrent unit, ``(N, T, F) -> (N, T, hidden)``.

    Parameters
    ----------
    hidden : int
        Features of the hidden state.
    layers : int, default 1
        How many are stacked, each on the output of the one below.
    bidirectional : bool, default False
        Whether a second walk runs from the end to the start; its output is concatenated, and the
        output has ``2 * hidden`` features.
    reverse : bool, default False
        Whether to walk from the end to the start; each output stays at its input's place.
    carry : bool, default False
        Whether the hidden state is an input and an output, too: ``(x, h) -> (out, h)``. Otherwise
        it starts from zeros.
    lengths : bool, default False
        Whether the lengths of the sequences, ints ``(N,)``, are the last input, or flags for the
        steps that count, booleans ``(N, T)``. What does not count has no influence: the output there
        is 0, and the carry stays.
    bias : bool, default True
        Whether to add the two biases.
    rate : float, default 0.0
        The fraction that is dropped in training of what each layer of a stack gives to the next.
    reset_after : bool, default True
        Whether the reset gate acts behind the product with ``W_hh``, or in front of it.
    weight_init, bias_init : Initializer, optional
        Where the parameters start; by default uniform within ``1 / sqrt(hidden)``.

    Returns
    -------
    Layer
        With params ``{"weight_ih": (3H, F), "weight_hh": (3H, H), "bias_ih": (3H,), "bias_hh":
        (3H,)}``, the gates in the order r, z, n; nested for directions and stacks as in `rnn`. A
        carry has shape ``(N, layers * directions, H)``.

    Raises
    ------
    ValueError, TypeError
        For an input of the wrong shape or dtype, lengths outside ``0..T``, `reverse` with
        `bidirectional`.

    Notes
    -----
    Forward: ``a = W_ih x_t + b_ih`` and ``b = W_hh h_{t-1} + b_hh`` in three blocks;
    ``r = sigmoid(a_r + b_r)``, ``z = sigmoid(a_z + b_z)``, ``n = tanh(a_n + r b_n)``;
    ``h_t = (1 - z) n + z h_{t-1}``. Pullback: ``da_n = dh (1 - z) (1 - n**2)``,
    ``da_r = da_n b_n r (1 - r)``, ``da_z = dh (h_{t-1} - n) z (1 - z)``; ``db`` is ``da`` with
    ``db_n = da_n r``; ``dh_{t-1} = dh z + W_hhᵀ db``; the rest as in `rnn`. With the reset gate in
    front, ``n = tanh(a_n + W_n (r h_{t-1}) + b_hn)``, and ``W_nᵀ da_n`` is the slope of ``r h_{t-1}``.

    In float32, products with a carry of 1e19 and more may be too large on the way back: outputs
    are right, but gradients may be infinite or NaN.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014, whose reset gate
    acts in front. Behind, and with two biases, it is PyTorch's ``GRU``; Keras has both.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import gru, random
    >>> layer = gru(8, bidirectional=True, lengths=True)
    >>> _, params = layer.init(random.key(0), ((2, 5, 3), (2,)))
    >>> out, cache = layer.apply(params, (np.ones((2, 5, 3), np.float32), np.array([5, 2])))
    >>> out.shape, float(np.abs(out[1, 2:]).max())
    ((2, 5, 16), 0.0)
    """
    cell = kernels.GRU if reset_after else kernels.LATE_GRU
    of = Stack(cell, hidden, layers, bidirectional, reverse, carry, lengths, bias, rate)
    return recurrent(of, weight_init, bias_init)
