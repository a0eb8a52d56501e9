"""Layers that carry a context, a mask or a memory, through a network on the side."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypeVarTuple, overload

import numpy as np

from funcnn import checks, tree
from funcnn._kernels import attention
from funcnn._kernels.steps import counted
from funcnn.checks import Choice, Layers, bare, declared
from funcnn.structure import (
    Child,
    apply_in_turn,
    collected,
    init_child,
    is_shape,
    params_gradient,
    vjp_in_turn,
    within,
)
from funcnn.types import Array, Cache, Counts, Key, Layer, Params, Sequence, Shape, Spec, X, Y

__all__ = [
    "clean_padding",
    "drop_context",
    "keep_context",
    "residual_with_context",
    "with_context",
    "with_encoder",
]

C = TypeVarTuple("C")

# a word for each kind of context, so that a type checker knows it in the middle of a network
_Counts: TypeAlias = Literal["mask", "lengths"]
_Memory: TypeAlias = Literal["memory", "bias"]
_Both: TypeAlias = Literal["memory, mask", "memory, lengths", "bias, mask", "bias, lengths"]
_All: TypeAlias = Literal["memory, bias, mask", "memory, bias, lengths"]
_CONTEXT = Choice(
    "mask", "lengths", "memory", "bias", "memory, bias",
    "memory, mask", "memory, lengths", "bias, mask", "bias, lengths",
    "memory, bias, mask", "memory, bias, lengths",
)  # fmt: skip


@overload
def keep_context(layer: Layer[X, Y], context: _Counts) -> Layer[tuple[X, Counts], tuple[Y, Counts]]: ...
@overload
def keep_context(
    layer: Layer[X, Y], context: _Memory
) -> Layer[tuple[X, Sequence], tuple[Y, Sequence]]: ...
@overload
def keep_context(
    layer: Layer[X, Y], context: _Both
) -> Layer[tuple[X, Sequence, Counts], tuple[Y, Sequence, Counts]]: ...
@overload
def keep_context(
    layer: Layer[X, Y], context: Literal["memory, bias"]
) -> Layer[tuple[X, Sequence, Array], tuple[Y, Sequence, Array]]: ...
@overload
def keep_context(
    layer: Layer[X, Y], context: _All
) -> Layer[tuple[X, Sequence, Array, Counts], tuple[Y, Sequence, Array, Counts]]: ...
@declared(layer=Layers(), context=_CONTEXT)
def keep_context(layer: Layer[Any, Any], context: str) -> Layer[Any, Any]:
    """Run a layer on the first of several inputs, and pass on the others, ``(x, c) -> (f(x), c)``.

    Parameters
    ----------
    layer : Layer
        On the first input alone.
    context : "mask", "lengths", "memory", "bias", "memory, mask" and so on
        What the others are: which steps count, as flags ``(N, T)`` or lengths ``(N,)``; a memory or a
        bias of floats; or several of these in the order memory, bias, mask.

    Returns
    -------
    Layer
        On a tuple, with the params of the layer.

    Raises
    ------
    ValueError, TypeError
        For an input that is not such a tuple; and what the layer refuses.

    Notes
    -----
    A context is what many layers of a network look at, and none of them changes. Pullback:
    ``dx = df(dy)``; the gradient of floats is passed on, that of a mask or of lengths is zeros.

    Examples
    --------
    >>> from funcnn import keep_context, lstm, random
    >>> keep_context(lstm(4), "mask").init(random.key(0), ((2, 5, 3), (2, 5)))[0]
    ((2, 5, 4), (2, 5))
    """
    words = f"x, {context}"

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        x, *rest = checks.together(shape, words, "shape")
        out_shape, params = layer.init(key, x)
        return (out_shape, *rest), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        first, *rest = _inputs(x, words)
        out, cache = layer.apply(params, first, key=key)
        whole = _inputs((out, *rest), words)  # a memory has the dtype of what comes out, too
        like = (_floats(out) or rest or _floats(first))[0]
        return whole, {"layer": cache, "context": _outlines(rest, like)}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        first, *rest = checks.together(dout, words, "dout")
        dcontext = _passed(checks.kept(cache, "context"), rest)
        dparams, dx = layer.vjp(cache["layer"], first)
        return dparams, (dx, *dcontext)

    def params_vjp(cache: Cache, dout: Any) -> Params:
        first = checks.together(dout, words, "dout")[0]
        return params_gradient(layer, cache["layer"], first)

    return Layer(init, apply, vjp, params_vjp=params_vjp, statistics=within(layer))


@declared(layer=Layers())
def residual_with_context(layer: Layer[tuple[X, *C], X]) -> Layer[tuple[X, *C], tuple[X, *C]]:
    """Add what a layer makes of all inputs to the first, ``(x, c) -> (x + f(x, c), c)``.

    Parameters
    ----------
    layer : Layer
        On a tuple; it gives the shape of the first input.

    Returns
    -------
    Layer
        On a tuple, with the params of the layer.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a tuple of arrays, a layer that changes the shape; and what the
        layer refuses.

    Notes
    -----
    Pullback: with ``dx', dc' = df(dy)``, ``dx = dy + dx'`` and the context gets ``dc + dc'`` (zeros
    for integers and booleans).

    Examples
    --------
    >>> from funcnn import cross_attention, random, residual_with_context
    >>> block = residual_with_context(cross_attention(2))
    >>> block.init(random.key(0), ((2, 5, 4), (2, 7, 3)))[0]
    ((2, 5, 4), (2, 7, 3))
    """

    inner = _with_context(layer)

    def same(shape: Shape, out_shape: Shape) -> None:
        if shape != out_shape:
            checks.refuse(f"the layer must keep the shape {shape}, got {out_shape}")

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        out_shape, params = inner.init(key, shape)
        same(shape[0], out_shape[0])
        return out_shape, params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        first, *_ = map(checks.array, _several(x, "x"))
        (out, *context), cache = inner.apply(params, x, key=key)
        same(first.shape, out.shape)
        return (first + out, *context), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams, (dx, *dcontext) = inner.vjp(cache, dout)
        return dparams, (dout[0] + dx, *dcontext)

    return Layer(init, apply, vjp, params_vjp=inner.params_vjp, statistics=inner.statistics)


@declared(layer=Layers())
def with_context(layer: Layer[tuple[X, *C], Y]) -> Layer[tuple[X, *C], tuple[Y, *C]]:
    """Give all inputs to a layer, and pass on all but the first, ``(x, c) -> (f(x, c), c)``.

    Parameters
    ----------
    layer : Layer
        On a tuple.

    Returns
    -------
    Layer
        On a tuple, with the params of the layer.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a tuple; and what the layer refuses.

    Notes
    -----
    Pullback: with ``dx', dc' = df(dy)``, ``dx = dx'`` and the context gets ``dc + dc'`` (zeros for
    integers and booleans).

    Examples
    --------
    >>> from funcnn import lstm, random, with_context
    >>> with_context(lstm(4, lengths=True)).init(random.key(0), ((2, 5, 3), (2,)))[0]
    ((2, 5, 4), (2,))
    """

    return _with_context(layer)


def _with_context(layer: Layer[Any, Any]) -> Layer[Any, Any]:
    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        _, *context = _several(shape, "shape")
        out_shape, params = layer.init(key, shape)
        return (out_shape, *context), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        first, *context = _several(x, "x")
        out, cache = layer.apply(params, x, key=key)
        like = (_floats(out) or _floats(first))[0]
        return (out, *context), {"layer": cache, "context": _outlines(context, like)}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        first, *context = _several(dout, "dout")
        passed = _passed(checks.kept(cache, "context"), context)
        dparams, (dx, *dcontext) = layer.vjp(cache["layer"], first)
        return dparams, (dx, *(a + b for a, b in zip(passed, dcontext, strict=True)))

    def params_vjp(cache: Cache, dout: Any) -> Params:
        return params_gradient(layer, cache["layer"], _several(dout, "dout")[0])

    return Layer(init, apply, vjp, params_vjp=params_vjp, statistics=within(layer))


@declared(encoder=Layers(), decoder=Layers())
def with_encoder(encoder: Layer[Any, Any], decoder: Layer[Any, Y]) -> Layer[Any, Y]:
    """Give a decoder the first input, and what an encoder makes of the others, ``g(x, f(c))``.

    Parameters
    ----------
    encoder : Layer
        On the second input, or on a tuple of all from the second on; it may give a tuple, too.
    decoder : Layer
        On a tuple of the first input and all that the encoder gives.

    Returns
    -------
    Layer
        On a tuple, with params ``{"encoder": ..., "decoder": ...}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a tuple of at least two; and what the two refuse, with their path.

    Notes
    -----
    Pullback: ``dx, dm = dg(dy)`` and ``dc = df(dm)``.

    Examples
    --------
    >>> from funcnn import cross_attention, gru, random, with_encoder
    >>> net = with_encoder(gru(6), cross_attention(2))
    >>> out_shape, params = net.init(random.key(0), ((2, 5, 4), (2, 7, 3)))
    >>> out_shape, list(params)
    ((2, 5, 4), ['encoder', 'decoder'])
    """
    return _encoded((("encoder", bare(encoder)), ("decoder", bare(decoder))))


def _encoded(children: tuple[Child, ...]) -> Layer[Any, Any]:
    first, last = children[:1], children[1:]

    def inputs(x: Any, name: str) -> tuple[Any, Any]:
        """What the decoder gets, and what the encoder."""
        one, *rest = _several(x, name)
        if not rest:
            checks.refuse(f"`{name}` must be a tuple (x, context, ...), got one of 1")
        return one, rest[0] if len(rest) == 1 else tuple(rest)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        x, context = inputs(shape, "shape")
        params: Params = {}
        memory = init_child(children[0], checks.key(key), context, params)
        together = (x, memory) if is_shape(memory) else (x, *memory)
        return init_child(children[1], key, together, params), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.children(params, ("encoder", "decoder"))
        x, context = inputs(x, "x")
        cache: Cache = {}
        memory = apply_in_turn(first, params, context, key, cache)
        cache["_several"] = isinstance(memory, tuple)
        together = (x, *memory) if cache["_several"] else (x, memory)
        return apply_in_turn(last, params, together, key, cache), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams: Params = {}
        dx, *dmemory = vjp_in_turn(last, cache, dout, dparams)
        dcontext = tuple(dmemory) if checks.kept(cache, "_several") else dmemory[0]
        dcontext = vjp_in_turn(first, cache, dcontext, dparams)
        dparams = {name: dparams[name] for name, _ in children if name in dparams}
        return dparams, (dx, *dcontext) if isinstance(dcontext, tuple) else (dx, dcontext)

    return Layer(init, apply, vjp, Spec(), None, children, _encoded, collected(children))


@overload
def drop_context(context: _Counts) -> Layer[tuple[Sequence, Counts], Sequence]: ...
@overload
def drop_context(context: _Memory) -> Layer[tuple[Sequence, Sequence], Sequence]: ...
@overload
def drop_context(context: _Both) -> Layer[tuple[Sequence, Sequence, Counts], Sequence]: ...
@overload
def drop_context(
    context: Literal["memory, bias"],
) -> Layer[tuple[Sequence, Sequence, Array], Sequence]: ...
@overload
def drop_context(context: _All) -> Layer[tuple[Sequence, Sequence, Array, Counts], Sequence]: ...
@declared(context=_CONTEXT)
def drop_context(context: str) -> Layer[Any, Any]:
    """Go on with the first of several inputs, ``(x, c) -> x``.

    Parameters
    ----------
    context : "mask", "lengths", "memory", "bias", "memory, mask" and so on
        What the others are, as for `keep_context`.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not such a tuple.

    Notes
    -----
    Pullback: ``dx = dy``, and zeros for the context.

    Examples
    --------
    >>> from funcnn import drop_context, random
    >>> drop_context("mask").init(random.key(0), ((2, 5, 3), (2, 5)))[0]
    (2, 5, 3)
    """
    words = f"x, {context}"

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return checks.shape(checks.together(shape, words, "shape")[0], "N, T, F"), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        first, *rest = _inputs(x, words)
        checks.ranked(first, "N, T, F")
        out = (first.shape, first.dtype)
        return first, {"out": out, "context": tuple(one.shape for one in rest)}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        checks.gradient(dout, *cache["out"])
        return {}, (dout, *(np.zeros(shape, dout.dtype) for shape in cache["context"]))

    return Layer(init, apply, vjp)


@declared()
def clean_padding() -> Layer[tuple[Sequence, *C], tuple[Sequence, *C]]:
    """Let nothing of the padding spoil what follows, ``(x, mask) -> (x, mask)``.

    Returns
    -------
    Layer
        On a tuple, without parameters. More may stand between a sequence and its mask: a bias.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences with a mask of their steps, or their lengths.

    Notes
    -----
    Forward: what is NaN, infinite or huge in a step that does not count becomes 0; all other numbers
    stay. A layer that treats each step alone would keep NaN in that step, but the gradient of its
    weights, a sum over all steps, would be NaN. Pullback: ``dx = dy``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import clean_padding
    >>> x, mask = np.array([[[1.0], [np.nan]]]), np.array([[True, False]])
    >>> clean_padding().apply({}, (x, mask))[0][0].ravel()
    array([1., 0.])
    """

    def ends(x: Any, name: str) -> tuple[Any, Any, Any]:
        """The sequence, the mask, and what is between."""
        x = _several(x, name)
        if len(x) < 2:
            checks.together(x, "x, mask", name)
        return x[0], x[-1], x[1:-1]

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        x, mask, between = ends(shape, "shape")
        x = checks.shape(x, "N, T, F")
        return (x, *between, checks.counts_shape(mask, x[:2], "mask")), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        x, mask, between = ends(x, "x")
        checks.ranked(x, "N, T, F")
        checks.counts(mask, x.shape[:2], "mask")
        clean = np.where(attention.unclean(x, ~counted(mask, x.shape[1])), 0, x)
        return (clean, *between, mask), {"outlines": _outlines([x, *between, mask], x)}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        return {}, tuple(_passed(cache["outlines"], list(_several(dout, "dout"))))

    return Layer(init, apply, vjp)


def _inputs(x: object, words: str) -> tuple[Any, ...]:
    """A tuple of arrays of the kinds that the words say."""
    found = checks.together(x, words)
    for name, one in zip(words.split(", ")[1:], found[1:], strict=True):
        if name in ("memory", "bias"):
            checks.floating(one, name)
            if like := _floats(found[0]):
                checks.same_dtype(one, like[0], name, "`x` is")
        else:
            checks.mask(one, name)
    return found


def _floats(x: Any) -> list[Array]:
    """The floating arrays of a tree."""
    return [leaf for _, leaf in tree.leaves(x) if checks.array(leaf).dtype.kind == "f"]


def _several(value: object, name: str) -> tuple[Any, ...]:
    """A tuple of one thing and its context."""
    if not isinstance(value, tuple):
        checks.refuse_type(f"`{name}` must be a tuple (x, ...), got {type(value).__name__}")
    if not value:
        checks.refuse(f"`{name}` must be a tuple (x, ...), got an empty one")
    return value


def _outlines(context: list[Array], like: Array) -> tuple[tuple[Shape, np.dtype[Any], bool], ...]:
    """The shape of each context, the dtype of its gradient, and whether that is more than zeros."""
    floats = [one.dtype.kind == "f" for one in context]
    return tuple(
        (one.shape, one.dtype if has else like.dtype, has)
        for one, has in zip(context, floats, strict=True)
    )


def _passed(outlines: Any, dcontext: list[Array]) -> list[Array]:
    """The gradients of the context that come from behind."""
    if len(outlines) != len(dcontext):
        checks.refuse(f"`dout` must have {len(outlines) + 1} parts, got {len(dcontext) + 1}")
    for one, (shape, dtype, has) in zip(dcontext, outlines, strict=True):
        zeros = checks.floating(one, "dout").dtype  # of any kind, where there is no gradient
        checks.gradient(one, shape, dtype if has else zeros)
    return [
        one if has else np.zeros(shape, dtype)
        for one, (shape, dtype, has) in zip(dcontext, outlines, strict=True)
    ]
