"""Recurrent layers: one implementation of stacks, directions, carries and lengths for all cells."""

from __future__ import annotations

from itertools import product
from math import sqrt
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, overload

import numpy as np

from funcnn import checks, random
from funcnn._kernels import recurrent as kernels
from funcnn.checks import Choice, Constraint, Flag, Integer, Optional, When, declared
from funcnn.initializers import INITIALIZER, Initializer, uniform
from funcnn.types import Array, Cache, Key, Labels, Layer, Params, Sequence, Shape

__all__ = ["gru", "lstm", "rnn"]

_Pair: TypeAlias = tuple[Sequence, Sequence]  # hidden state and memory
_On: TypeAlias = Literal[True]
_Off: TypeAlias = Literal[False]

_DECLARED: dict[str, Constraint] = {
    "hidden": Integer(1),
    "layers": Integer(1),
    **dict.fromkeys(("bidirectional", "reverse", "carry", "lengths", "bias"), Flag()),
    "weight_init": Optional(INITIALIZER),
    "bias_init": When(Optional(INITIALIZER), "bias", True),
}


class _Options(TypedDict, total=False):
    """What all recurrent layers take beside the options that change their type."""

    layers: int
    bidirectional: bool
    reverse: bool
    bias: bool
    weight_init: Initializer | None
    bias_init: Initializer | None


class _RNNOptions(_Options, total=False):
    nonlinearity: str


@overload
def rnn(
    hidden: int, *, carry: _Off = ..., lengths: _Off = ..., **options: Unpack[_RNNOptions]
) -> Layer[Sequence, Sequence]: ...
@overload
def rnn(
    hidden: int, *, carry: _On, lengths: _Off = ..., **options: Unpack[_RNNOptions]
) -> Layer[tuple[Sequence, Sequence], tuple[Sequence, Sequence]]: ...
@overload
def rnn(
    hidden: int, *, carry: _Off = ..., lengths: _On, **options: Unpack[_RNNOptions]
) -> Layer[tuple[Sequence, Labels], Sequence]: ...
@overload
def rnn(
    hidden: int, *, carry: _On, lengths: _On, **options: Unpack[_RNNOptions]
) -> Layer[tuple[Sequence, Sequence, Labels], tuple[Sequence, Sequence]]: ...
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
        ``(x, h, lengths)``. What lies beyond them has no influence, and the output there is 0.
    bias : bool, default True
        Whether to add the two biases.
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
    of = _Stack(cell, hidden, layers, bidirectional, reverse, carry, lengths, bias)
    return _recurrent(of, weight_init, bias_init)


@overload
def lstm(
    hidden: int, *, carry: _Off = ..., lengths: _Off = ..., **options: Unpack[_Options]
) -> Layer[Sequence, Sequence]: ...
@overload
def lstm(
    hidden: int, *, carry: _On, lengths: _Off = ..., **options: Unpack[_Options]
) -> Layer[tuple[Sequence, _Pair], tuple[Sequence, _Pair]]: ...
@overload
def lstm(
    hidden: int, *, carry: _Off = ..., lengths: _On, **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Labels], Sequence]: ...
@overload
def lstm(
    hidden: int, *, carry: _On, lengths: _On, **options: Unpack[_Options]
) -> Layer[tuple[Sequence, _Pair, Labels], tuple[Sequence, _Pair]]: ...
@declared(**_DECLARED)
def lstm(
    hidden: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    reverse: bool = False,
    carry: bool = False,
    lengths: bool = False,
    bias: bool = True,
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
        Whether the lengths of the sequences, ints ``(N,)``, are the last input. What lies beyond
        them has no influence, and the output there is 0.
    bias : bool, default True
        Whether to add the two biases.
    weight_init, bias_init : Initializer, optional
        Where the parameters start; by default uniform within ``1 / sqrt(hidden)``.

    Returns
    -------
    Layer
        With params ``{"weight_ih": (4H, F), "weight_hh": (4H, H), "bias_ih": (4H,), "bias_hh":
        (4H,)}``, the gates in the order i, f, g, o; nested for directions and stacks as in `rnn`.
        ``h`` and ``c`` have shape ``(N, layers * directions, H)``.

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
    ``dc_{t-1} = dc f``; the rest as in `rnn`.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; the forget gate from F. Gers
    et al., "Learning to forget", 2000. Layout as in PyTorch's ``LSTM``.

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
    of = _Stack(kernels.LSTM, hidden, layers, bidirectional, reverse, carry, lengths, bias)
    return _recurrent(of, weight_init, bias_init)


@overload
def gru(
    hidden: int, *, carry: _Off = ..., lengths: _Off = ..., **options: Unpack[_Options]
) -> Layer[Sequence, Sequence]: ...
@overload
def gru(
    hidden: int, *, carry: _On, lengths: _Off = ..., **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Sequence], tuple[Sequence, Sequence]]: ...
@overload
def gru(
    hidden: int, *, carry: _Off = ..., lengths: _On, **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Labels], Sequence]: ...
@overload
def gru(
    hidden: int, *, carry: _On, lengths: _On, **options: Unpack[_Options]
) -> Layer[tuple[Sequence, Sequence, Labels], tuple[Sequence, Sequence]]: ...
@declared(**_DECLARED)
def gru(
    hidden: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    reverse: bool = False,
    carry: bool = False,
    lengths: bool = False,
    bias: bool = True,
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
        Whether the lengths of the sequences, ints ``(N,)``, are the last input. What lies beyond
        them has no influence, and the output there is 0.
    bias : bool, default True
        Whether to add the two biases.
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
    ``db_n = da_n r``; ``dh_{t-1} = dh z + W_hhᵀ db``; the rest as in `rnn`.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014. As in
    PyTorch's ``GRU``, the reset gate acts behind the product with ``W_hh``.

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
    of = _Stack(kernels.GRU, hidden, layers, bidirectional, reverse, carry, lengths, bias)
    return _recurrent(of, weight_init, bias_init)


class _Stack(NamedTuple):
    """Walks in one or two directions, some on top of each other, as the options say."""

    cell: kernels.Cell
    hidden: int
    layers: int
    both: bool
    backward: bool
    carried: bool
    ragged: bool
    bias: bool

    @property
    def levels(self) -> list[tuple[str, ...]]:
        """The names at each level of the tree of parameters."""
        stacked = [tuple(f"layer{k + 1}" for k in range(self.layers))] * (self.layers > 1)
        return stacked + [("forward", "backward")] * self.both

    @property
    def walks(self) -> list[tuple[str, ...]]:
        """Those of every layer, in every direction: their paths in the tree."""
        return list(product(*self.levels))

    def shapes(self, walk: int, features: Any) -> dict[str, tuple[Any, ...]]:
        """The parameters of one walk."""
        rows = self.cell.gates * self.hidden
        columns = features if walk <= self.both else (1 + self.both) * self.hidden
        weights = {"weight_ih": (rows, columns), "weight_hh": (rows, self.hidden)}
        return {**weights, "bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {**weights}

    def states(self, carry: Any) -> tuple[Any, ...]:
        """The parts of a carry, which is one array or a pair of them."""
        return checks.together(carry, "h, c", "carry") if self.cell.states > 1 else (carry,)

    def parts(self, value: Any, name: str) -> tuple[Any, tuple[Any, ...], Any]:
        """The input, the states that it carries, and the lengths; or the shapes of all these."""
        words = ", ".join(["x", *["carry"] * self.carried, *["lengths"] * self.ragged])
        x, *rest = (value,) if words == "x" else checks.together(value, words, name)
        return x, self.states(rest[0]) if self.carried else (), rest[-1] if self.ragged else None

    def whole(self, out: Any, carry: tuple[Any, ...], *rest: Any) -> Any:
        """The other way round: one thing, or a tuple of several."""
        state = [carry if self.cell.states > 1 else carry[0]] if self.carried else []
        return (out, *state, *rest) if state or rest else out

    def leaves(self, params: Params, walk: int, features: int | None) -> Params:
        """The parameters of one walk, checked."""
        for names, part in zip(self.levels, self.walks[walk], strict=True):
            params = checks.children(params, names).get(part, {})
        checks.leaves(params, self.shapes(walk, features), *self.walks[walk])
        return params

    def checked_shape(self, shape: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        """The shapes of the input and of the states that it carries, if all fit together."""
        x, carry, lengths = self.parts(shape, "shape")
        batch, steps, features = checks.shape(x, "N, T, F")
        for state in carry:
            checked = checks.shape(state, "N, layers, H")
            checks.exact_shape(checked, (batch, len(self.walks), self.hidden), "carry")
        if self.ragged:
            checks.exact_shape(checks.shape(lengths, "N"), (batch,), "lengths")
        return (batch, steps, features), carry

    def checked(self, params: Params, value: Any) -> tuple[list[Params], Any, tuple[Any, ...], Any]:
        """The parameters of each walk, and the parts of an input that fits them."""
        count = len(self.walks)
        owns = [self.leaves(params, 0, None)]
        features = owns[0]["weight_ih"].shape[1]
        owns += [self.leaves(params, k, features) for k in range(1, count)]
        x, carry, lengths = self.parts(value, "x")
        checks.ranked(x, "N, T, F")
        checks.sized(x, 2, features, "features")
        for own in owns:
            checks.same_dtype(x, own["weight_ih"], params=params)
        for state in carry:
            checks.ranked(state, "N, layers, H", "carry")
            checks.exact_shape(state.shape, (x.shape[0], count, self.hidden), "carry")
            checks.same_dtype(state, x, "carry", "`x` is")
        if self.ragged:
            checks.labels(checks.array(lengths, "lengths"), x.shape[1] + 1, "lengths")
            checks.exact_shape(lengths.shape, x.shape[:1], "lengths")
        return owns, x, carry or self.start(x.shape[0], x.dtype), lengths

    def start(self, batch: int, dtype: np.dtype[Any]) -> tuple[Array, ...]:
        """States of zeros."""
        return (np.zeros((batch, len(self.walks), self.hidden), dtype),) * self.cell.states


def _recurrent(
    of: _Stack, weight_init: Initializer | None, bias_init: Initializer | None
) -> Layer[Any, Any]:
    """A stack of walks in one or two directions, all with one kind of cell."""
    if of.both and of.backward:
        checks.refuse("`reverse` must be False where `bidirectional` is True, got True")
    start = uniform(1 / sqrt(of.hidden))
    draws = {"weight": weight_init or start, "bias": bias_init or start}
    walks, hidden, directions = of.walks, of.hidden, 1 + of.both

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        (batch, steps, features), carry = of.checked_shape(shape)
        checks.key(key)
        params: Params = {}
        for k, path in enumerate(walks):
            own = {}
            for name, leaf_shape in of.shapes(k, features).items():
                draw = draws[name.partition("_")[0]]
                own[name] = draw(random.fold_in(key, "/".join((*path, name))), leaf_shape)
            _enter(params, path, own)
        return of.whole((batch, steps, directions * hidden), carry), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        owns, x, carry, lengths = of.checked(params, x)
        last, caches, outs = tuple(map(np.empty_like, carry)), [], []
        for k, own in enumerate(owns):
            first, reverse = tuple(state[:, k] for state in carry), of.backward or k % directions == 1
            out, final, cache = kernels.walk(of.cell, x, own, first, lengths, reverse)
            for state, part in zip(last, final, strict=True):
                state[:, k] = part
            caches.append(cache)
            outs.append(out)
            if len(outs) == directions:
                x, outs = np.concatenate(outs, 2) if of.both else out, []
        return of.whole(x, last), {"walks": caches, "shape": x.shape}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        (batch, _, _), dtype = cache["shape"], cache["walks"][0]["x"].dtype
        dcarry = of.start(batch, dtype)
        if of.carried:
            dout, dcarry = checks.together(dout, "out, carry", "dout")
            dcarry = of.states(dcarry)
        checks.gradient(dout, cache["shape"], dtype)
        for state in dcarry:
            checks.gradient(state, (batch, len(walks), hidden), dtype)
        dfirst, dparams, dxs = tuple(map(np.empty_like, dcarry)), Params(), []
        for path in walks:  # in their order
            _enter(dparams, path, {})
        for k in reversed(range(len(walks))):
            place, reverse = k % directions * hidden, of.backward or k % directions == 1
            part, last = dout[:, :, place : place + hidden], tuple(state[:, k] for state in dcarry)
            down, dx, first = kernels.walk_gradients(of.cell, cache["walks"][k], part, last, reverse)
            for state, dstate in zip(dfirst, first, strict=True):
                state[:, k] = dstate
            _enter(dparams, walks[k], {name: down[name] for name in of.shapes(k, 0)})
            dxs.append(dx)
            if len(dxs) == directions:
                dout, dxs = dxs[0] + dxs[1] if of.both else dx, []
        return dparams, of.whole(dout, dfirst, *[np.zeros(batch, dtype)] * of.ragged)

    return Layer(init, apply, vjp)


def _enter(tree: Params, path: tuple[str, ...], own: Params) -> None:
    """Put the parameters of one walk in their place."""
    for part in path:
        tree = tree.setdefault(part, {})
    tree.update(own)
