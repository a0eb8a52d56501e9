"""Combinators for sequences: one layer at every time step, both directions, a context on the side."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypeVarTuple, overload

import numpy as np

from funcnn import checks, tree
from funcnn._kernels import attention
from funcnn.checks import Choice, Layers, bare, declared
from funcnn.structure import (
    Child,
    apply_in_turn,
    init_child,
    params_gradient,
    params_vjp_child,
    vjp_in_turn,
)
from funcnn.types import Array, Cache, Key, Layer, Mask, Params, Sequence, Shape, Vector, X, Y

__all__ = [
    "bidirectional",
    "clean_padding",
    "drop_context",
    "keep_context",
    "residual_with_context",
    "time_distributed",
]

C = TypeVarTuple("C")

# a word for each kind of context, so that a type checker knows it in the middle of a network
_Mask: TypeAlias = Literal["mask"]
_Memory: TypeAlias = Literal["memory"]
_Both: TypeAlias = Literal["memory, mask"]
_CONTEXT = Choice("mask", "memory", "memory, mask")


@declared(layer=Layers())
def time_distributed(layer: Layer[Vector, Vector]) -> Layer[Sequence, Sequence]:
    """Give every time step to one layer, ``(N, T, F) -> (N, T, G)``.

    Parameters
    ----------
    layer : Layer
        From vectors ``(N, F)`` to vectors ``(N, G)``: a `dense`, or a `serial` of several.

    Returns
    -------
    Layer
        With the params of the layer.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, a layer that does not give vectors; and what
        the layer refuses.

    Notes
    -----
    Forward: the steps of all examples are one batch of ``N * T`` vectors. Pullback: the layer's, of
    the same batch. What depends on the batch, as `batch_norm` does, sees all steps.

    Examples
    --------
    >>> from funcnn import dense, random, time_distributed
    >>> out_shape, params = time_distributed(dense(4)).init(random.key(0), (2, 5, 3))
    >>> out_shape, list(params)
    ((2, 5, 4), ['weight', 'bias'])
    """

    def merged(x: Array) -> Any:
        return np.ascontiguousarray(x).reshape(x.shape[0] * x.shape[1], x.shape[2])

    def split(shape: Shape, out_shape: Shape) -> Shape:
        if len(out_shape) != 2:
            checks.refuse(f"the layer must give vectors (N, F), got shape {out_shape}")
        return (*shape[:2], out_shape[1])

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        batch, steps, features = checks.shape(shape, "N, T, F")
        out_shape, params = layer.init(key, (-1 if batch < 0 else batch * steps, features))
        return split(shape, out_shape), params

    def apply(params: Params, x: Sequence, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.ranked(x, "N, T, F")
        out, cache = layer.apply(params, merged(x), key=key)
        shape = split(x.shape, out.shape)
        return out.reshape(shape), _marked(cache, "_out", (shape, out.dtype))

    def inner(cache: Cache, dout: Array) -> tuple[Cache, Any]:
        """What the layer pulls back."""
        checks.gradient(dout, *_mark(cache, "_out"))
        return _unmarked(cache, "_out"), merged(dout)

    def vjp(cache: Cache, dout: Sequence) -> tuple[Params, Any]:
        dparams, dx = layer.vjp(*inner(cache, dout))
        return dparams, dx.reshape(*dout.shape[:2], dx.shape[1])

    def params_vjp(cache: Cache, dout: Sequence) -> Params:
        return params_gradient(layer, *inner(cache, dout))

    return Layer(init, apply, vjp, params_vjp=params_vjp)


@declared(layer=Layers(), merge=Choice("concatenate", "sum", "mean", "product"))
def bidirectional(
    layer: Layer[Sequence, Sequence], *, merge: str = "concatenate"
) -> Layer[Sequence, Sequence]:
    """Run two copies of a layer over a sequence, one of them from the end to the start.

    Parameters
    ----------
    layer : Layer
        From sequences to sequences of the same length.
    merge : "concatenate", "sum", "mean" or "product", default "concatenate"
        How the two outputs become one, time step by time step.

    Returns
    -------
    Layer
        With params ``{"forward": ..., "backward": ...}``, each as the layer has them.

    Raises
    ------
    ValueError, TypeError
        For another word, a layer that changes the length; and what the layer refuses.

    Notes
    -----
    Forward: ``a = f(x)`` and ``b = r(g(r(x)))``, where ``r`` reverses time; ``y`` is ``a`` beside
    ``b``, ``a + b``, ``(a + b) / 2`` or ``a * b``. Pullback: ``da`` and ``db`` are the parts of
    ``dy``, ``dy`` twice, ``dy / 2`` twice, or ``dy * b`` and ``dy * a``; ``dx = df(da) +
    r(dg(r(db)))``.

    References
    ----------
    M. Schuster and K. Paliwal, "Bidirectional recurrent neural networks", 1997.

    Examples
    --------
    >>> from funcnn import bidirectional, gru, random
    >>> out_shape, params = bidirectional(gru(4)).init(random.key(0), (2, 5, 3))
    >>> out_shape, list(params)
    ((2, 5, 8), ['forward', 'backward'])
    """
    layer = bare(layer)
    return _both_ways((("forward", layer), ("backward", layer)), merge)


def _both_ways(children: tuple[Child, ...], merge: str) -> Layer[Any, Any]:

    def merged(shape: Shape, out_shape: Shape) -> Shape:
        if len(out_shape) != 3 or out_shape[:2] != shape[:2]:
            checks.refuse(f"the layer must keep the {shape[1]} time steps, got shape {out_shape}")
        return (*out_shape[:2], out_shape[2] * (2 if merge == "concatenate" else 1))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = checks.shape(shape, "N, T, F")
        params: Params = {}
        shapes = [init_child(child, checks.key(key), checked, params) for child in children]
        return merged(checked, shapes[0]), params

    def apply(params: Params, x: Sequence, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.children(params, ("forward", "backward"))
        checks.ranked(x, "N, T, F")
        cache: Cache = {}
        a = apply_in_turn(children[:1], params, x, key, cache)
        b = apply_in_turn(children[1:], params, x[:, ::-1], key, cache)
        b = b[:, ::-1]
        cache["_out"] = (merged(x.shape, a.shape), a.dtype)
        if merge == "concatenate":
            return np.concatenate((a, b), 2), cache
        if merge == "product":
            cache["_factors"] = (a, b)
            return a * b, cache
        return (a + b if merge == "sum" else (a + b) * a.dtype.type(0.5)), cache

    def parts(cache: Cache, dout: Array) -> tuple[Array, Array]:
        """The gradients of both outputs, each in the order in which its copy ran."""
        checks.gradient(dout, *cache["_out"])
        if merge == "concatenate":
            half = dout.shape[2] // 2
            return dout[:, :, :half], dout[:, ::-1, half:]
        if merge == "product":
            a, b = cache["_factors"]
            return dout * b, (dout * a)[:, ::-1]
        share = dout if merge == "sum" else dout * dout.dtype.type(0.5)
        return share, share[:, ::-1]

    def vjp(cache: Cache, dout: Sequence) -> tuple[Params, Any]:
        dparams: Params = {}
        da, db = (
            vjp_in_turn((child,), cache, part, dparams)
            for child, part in zip(children, parts(cache, dout), strict=True)
        )
        return dparams, da + db[:, ::-1]

    def params_vjp(cache: Cache, dout: Sequence) -> Params:
        dparams: Params = {}
        for child, part in zip(children, parts(cache, dout), strict=True):
            params_vjp_child(child, cache, part, dparams)
        return dparams

    def remake(children: tuple[Child, ...]) -> Layer[Any, Any]:
        return _both_ways(children, merge)

    return Layer(init, apply, vjp, params_vjp=params_vjp, children=children, remake=remake)


@overload
def keep_context(layer: Layer[X, Y], context: _Mask) -> Layer[tuple[X, Mask], tuple[Y, Mask]]: ...
@overload
def keep_context(
    layer: Layer[X, Y], context: _Memory
) -> Layer[tuple[X, Sequence], tuple[Y, Sequence]]: ...
@overload
def keep_context(
    layer: Layer[X, Y], context: _Both
) -> Layer[tuple[X, Sequence, Mask], tuple[Y, Sequence, Mask]]: ...
@declared(layer=Layers(), context=_CONTEXT)
def keep_context(layer: Layer[Any, Any], context: str) -> Layer[Any, Any]:
    """Run a layer on the first of several inputs, and pass on the others, ``(x, c) -> (f(x), c)``.

    Parameters
    ----------
    layer : Layer
        On the first input alone.
    context : "mask", "memory" or "memory, mask"
        What the others are: a mask of booleans, a memory of floats, or one after the other.

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
    ``dx = df(dy)``; the gradient of a memory is passed on, that of a mask is zeros.

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
        return whole, _marked(cache, "_context", _outlines(rest, like))

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        first, *rest = checks.together(dout, words, "dout")
        dcontext = _passed(_mark(cache, "_context"), rest)
        dparams, dx = layer.vjp(_unmarked(cache, "_context"), first)
        return dparams, (dx, *dcontext)

    def params_vjp(cache: Cache, dout: Any) -> Params:
        first = checks.together(dout, words, "dout")[0]
        return params_gradient(layer, _unmarked(cache, "_context"), first)

    return Layer(init, apply, vjp, params_vjp=params_vjp)


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

    def same(shape: Shape, out_shape: Shape) -> Shape:
        if shape != out_shape:
            checks.refuse(f"the layer must keep the shape {shape}, got {out_shape}")
        return out_shape

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        first, *context = _several(shape, "shape")
        out_shape, params = layer.init(key, shape)
        return (same(first, out_shape), *context), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        first, *context = _arrays(x)
        out: Any
        out, cache = layer.apply(params, x, key=key)
        same(first.shape, out.shape)
        return (first + out, *context), _marked(cache, "_context", _outlines(context, first))

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        first, *context = _several(dout, "dout")
        passed = _passed(_mark(cache, "_context"), context)
        dparams, (dx, *dcontext) = layer.vjp(_unmarked(cache, "_context"), first)
        both = [theirs + ours for theirs, ours in zip(passed, dcontext, strict=True)]
        return dparams, (first + dx, *both)

    def params_vjp(cache: Cache, dout: Any) -> Params:
        return params_gradient(layer, _unmarked(cache, "_context"), _several(dout, "dout")[0])

    return Layer(init, apply, vjp, params_vjp=params_vjp)


@overload
def drop_context(context: _Mask) -> Layer[tuple[Sequence, Mask], Sequence]: ...
@overload
def drop_context(context: _Memory) -> Layer[tuple[Sequence, Sequence], Sequence]: ...
@overload
def drop_context(context: _Both) -> Layer[tuple[Sequence, Sequence, Mask], Sequence]: ...
@declared(context=_CONTEXT)
def drop_context(context: str) -> Layer[Any, Any]:
    """Go on with the first of several inputs, ``(x, c) -> x``.

    Parameters
    ----------
    context : "mask", "memory" or "memory, mask"
        What the others are.

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
def clean_padding() -> Layer[tuple[Sequence, Mask], tuple[Sequence, Mask]]:
    """Let nothing of the padding spoil what follows, ``(x, mask) -> (x, mask)``.

    Returns
    -------
    Layer
        On a tuple, without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences and a mask of its steps.

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

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        x, mask = checks.together(shape, "x, mask", "shape")
        x = checks.shape(x, "N, T, F")
        checks.exact_shape(mask, x[:2], "mask")
        return (x, mask), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        x, mask = _inputs(x, "x, mask")
        checks.ranked(x, "N, T, F")
        checks.exact_shape(mask.shape, x.shape[:2], "mask")
        clean = np.where(attention.unclean(x, ~mask), 0, x)
        return (clean, mask), {"shape": x.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dx, dmask = checks.together(dout, "x, mask", "dout")
        checks.gradient(dx, cache["shape"], cache["dtype"])
        return {}, (dx, np.zeros(dmask.shape, dx.dtype))

    return Layer(init, apply, vjp)


def _inputs(x: object, words: str) -> tuple[Any, ...]:
    """A tuple of arrays of the kinds that the words say."""
    found = checks.together(x, words)
    for name, one in zip(words.split(", ")[1:], found[1:], strict=True):
        if name == "memory":
            checks.floating(one, name)
            if like := _floats(found[0]):
                checks.same_dtype(one, like[0], name, "`x` is")
        elif checks.array(one, name).dtype != np.bool_:
            checks.refuse_type(f"`{name}` must be boolean, got {one.dtype}")
    return found


def _floats(x: Any) -> list[Array]:
    """The floating arrays of a tree."""
    return [leaf for _, leaf in tree.leaves(x) if checks.array(leaf).dtype.kind == "f"]


def _marked(cache: Cache, name: str, mark: Any) -> Cache:
    """The layer's own cache, so that statistics have the path of their parameters, and a mark."""
    own = cache if isinstance(cache, dict) else {"_cache": cache}
    return {**own, name: (mark, own.get(name))}  # a layer inside may have such a mark, too


def _mark(cache: Cache, name: str) -> Any:
    """The outermost mark of a name."""
    return checks.kept(cache, name)[0]


def _unmarked(cache: Cache, name: str) -> Cache:
    """What the layer gave."""
    own = {part: value for part, value in cache.items() if part != name}
    inner = cache[name][1]
    own |= {} if inner is None else {name: inner}
    return own["_cache"] if own.keys() == {"_cache"} else own


def _several(value: object, name: str) -> tuple[Any, ...]:
    """A tuple of one thing and its context."""
    if not isinstance(value, tuple):
        checks.refuse_type(f"`{name}` must be a tuple (x, ...), got {type(value).__name__}")
    if not value:
        checks.refuse(f"`{name}` must be a tuple (x, ...), got an empty one")
    return value


def _arrays(x: object) -> tuple[Any, ...]:
    return tuple(checks.array(one) for one in _several(x, "x"))


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
