"""The laws that every layer keeps; those of its calculus and of batches stand beside them."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from funcnn import structure
from funcnn.checks import named
from funcnn.testing import _values
from funcnn.testing._batches import BATCHES
from funcnn.testing._calculus import CALCULUS
from funcnn.testing._laws import (
    ROUNDING,
    Law,
    agree,
    agree_each,
    at_once,
    breach,
    is_refusal,
    law,
    refuses,
    slopes_fit,
)
from funcnn.testing._locality import locality, neighbours
from funcnn.testing._outside import outside
from funcnn.testing._subject import RESULTS, Run, Subject
from funcnn.types import Key, Layer, Shape, Trait, rebuild

__all__ = ["LAWS", "check_layer"]

# --- purity ---------------------------------------------------------------------------------------


@law("nothing is mutated")
def _pure(subject: Subject) -> None:
    # With writable arrays, so that a write shows in what it changes.
    for mode, key in subject.modes.items():
        params, x = _values.copied((subject.params, subject.x))
        out, cache = subject.layer.apply(params, x, key=key)
        dout = _values.copied(subject.dout(out))
        given = (params, x, out, cache, dout)
        kept = _values.copied(given)
        subject.layer.vjp(cache, dout)
        if subject.layer.params_vjp is not None:
            subject.layer.params_vjp(cache, dout)
        agree("params", subject.params, params)
        agree("x", subject.x, x)
        agree_each(("params", "x", "out", "cache", "dout"), kept, given, f" ({mode})")


@law("earlier results survive later calls")
def _survives(subject: Subject) -> None:
    # A result may share memory with the arrays that went in or with the cache, as nothing ever
    # writes there; it must not lie in scratch memory that a later call uses again, or the next but one.
    for mode, dtype in product(subject.modes, ROUNDING):
        first = subject.fresh(mode, *subject.given(dtype))
        kept = _values.copied(first)
        other = subject.given(dtype, slice(None, None, -1))
        for later in subject.modes:
            subject.fresh(later, *other)
        agree_each(Run._fields, kept, first, f" ({mode}, {np.dtype(dtype)})")
        again = subject.layer.vjp(first.cache, first.dout)
        agree(f"vjp ({mode}, {np.dtype(dtype)})", (kept.dparams, kept.dx), again)


@law("same key, same bits")
def _reproducible(subject: Subject) -> None:
    first, second = (subject.layer.init(subject.init_key, subject.shape) for _ in range(2))
    agree("init", first, second)
    for mode, dtype in product(subject.modes, ROUNDING):
        one, other = subject.run(mode, dtype), subject.fresh(mode, *subject.given(dtype))
        agree_each(Run._fields, one, other, f" ({mode}, {np.dtype(dtype)})")


@law("threads do not disturb each other")
def _threads(subject: Subject) -> None:
    inputs = (subject.x, _values.batch(subject.x, slice(None, None, -1)))
    for mode in subject.modes:

        def thrice(x: Any, mode: str = mode) -> list[Run]:
            return [subject.fresh(mode, subject.params, x) for _ in range(3)]

        alone = [subject.fresh(mode, subject.params, x) for x in inputs]
        together = at_once([partial(thrice, x) for x in inputs])
        for expected, several in zip(alone, together, strict=False):
            for found in several:
                agree(f"out ({mode})", expected.out, found.out)
                agree(f"dparams ({mode})", expected.dparams, found.dparams)
                agree(f"dx ({mode})", expected.dx, found.dx)


# --- shapes and dtypes ----------------------------------------------------------------------------


@law("the predicted shape is the real shape")
def _shape(subject: Subject) -> None:
    out_shape, params = subject.started
    x = _values.frozen(_values.cast(subject.x, np.float32))
    for mode, key in subject.modes.items():
        out, _ = subject.layer.apply(params, x, key=key)
        if _values.shapes(out) != out_shape:
            breach(f"out ({mode})", f"shape {out_shape}, as init says", _values.shapes(out))


@law("gradient tree = params tree")
def _tree(subject: Subject) -> None:
    for mode in subject.modes:
        run = subject.run(mode)
        slopes_fit(f"dparams ({mode})", subject.params, run.dparams)
        slopes_fit(f"dx ({mode})", subject.x, run.dx)


@law("float32 stays float32")
def _dtype(subject: Subject) -> None:
    # And float64 stays float64.
    given = (subject.started[1], _values.cast(subject.x, np.float32))
    _all_have_dtype("params", given[0], np.float32)
    for mode in subject.modes:
        narrow = subject.fresh(mode, *_values.frozen(given))
        for name in RESULTS:
            _all_have_dtype(f"{name} ({mode})", getattr(narrow, name), np.float32)
            if any(_values.is_float(leaf) for _, leaf in _values.leaves(given)):
                _all_have_dtype(f"{name} ({mode})", getattr(subject.run(mode), name), np.float64)


def _all_have_dtype(where: str, tree: Any, dtype: Any) -> None:
    for path, leaf in _values.leaves(tree, where):
        if _values.is_float(leaf) and leaf.dtype != dtype:
            breach(path, np.dtype(dtype), leaf.dtype)


@law("an axis without elements works, or is refused")
def _nothing(subject: Subject) -> None:
    given = dict(_values.leaves(subject.x, "x"))

    def resized(path: str, shape: Shape) -> Any:
        return np.resize(given[path], shape)

    for path, one in structure.each_shape(subject.shape):
        for axis, size in enumerate(one[1:], 1):
            where = f"{path} without elements along axis {axis}"

            def emptied(_: str, old: Shape, axis: int = axis, size: int = size) -> Shape:
                return (*old[:axis], 0, *old[axis + 1 :]) if old[axis : axis + 1] == (size,) else old

            shape = structure.over_shapes(emptied, subject.shape)
            x = _values.frozen(structure.over_shapes(resized, shape, "x"))
            try:
                run = subject.fresh("training", subject.params, x)
            except Exception as error:
                is_refusal(where, subject.spec, (ValueError, TypeError), error)
                continue
            wanted, found = (subject.params, x), (run.dparams, run.dx)
            agree(f"shapes of dparams and dx, for {where}", *map(_values.shapes, (wanted, found)))
            for at, leaf in _values.leaves((run.out, run.dparams, run.dx), "run"):
                if _values.is_float(leaf) and not np.isfinite(leaf).all():
                    breach(f"{at}, for {where}", "finite numbers", leaf)


# --- memory and files -----------------------------------------------------------------------------


@law("the order in memory changes nothing")
def _layouts(subject: Subject) -> None:
    for mode in subject.distinct_modes:
        for dtype, layout in product(ROUNDING, _values.LAYOUTS):
            run = subject.run(mode, dtype)
            laid = _values.frozen(_values.mapped(layout, (*subject.given(dtype), run.dout)))
            found = subject.fresh(mode, *laid)
            tail = f" ({mode}, {np.dtype(dtype)}, {layout.__name__} memory)"
            agree_each(RESULTS, run.results, found.results, tail, ROUNDING[dtype])
        run = subject.run(mode)
        # A gradient of ones, all in one place: what the pullback of a sum is.
        ones = _values.frozen(_values.mapped(np.ones_like, run.dout))
        flat = _values.mapped(lambda leaf: np.broadcast_to(leaf.dtype.type(1), leaf.shape), run.dout)
        slopes = [subject.layer.vjp(run.cache, dout) for dout in (ones, flat)]
        agree(f"vjp ({mode}, broadcast memory)", slopes[0], slopes[1], ROUNDING[np.float64])


@law("layer, params and cache survive pickling")
def _pickling(subject: Subject) -> None:
    try:
        layer = pickle.loads(pickle.dumps(subject.layer))
    except Exception as error:
        breach("spec", "a `build` at the top of a module and options that can be pickled", error)
    agree("init", subject.started, layer.init(subject.init_key, subject.shape))
    params = pickle.loads(pickle.dumps(subject.params))
    for mode, key in subject.modes.items():
        run = subject.run(mode)
        try:
            cache = pickle.loads(pickle.dumps(run.cache))
        except Exception as error:
            breach(f"cache ({mode})", "data that can be pickled", error)
        agree(f"cache ({mode})", run.cache, cache)
        agree(f"out ({mode})", run.out, layer.apply(params, subject.x, key=key)[0])
        # pickle lays unusual strides out anew, and sums may then run in another order
        tolerance = None if _strides(cache) == _strides(run.cache) else ROUNDING[np.float64]
        agree(f"vjp ({mode})", (run.dparams, run.dx), layer.vjp(cache, run.dout), tolerance)


def _strides(tree: Any) -> list[tuple[int, ...]]:
    return [leaf.strides for _, leaf in _values.leaves(tree) if isinstance(leaf, np.ndarray)]


@law("the spec rebuilds the layer")
def _rebuilt(subject: Subject) -> None:
    layer = rebuild(subject.spec)
    if not isinstance(layer, Layer) or repr(layer) != repr(subject.layer):
        breach("spec", repr(subject.layer), repr(layer))
    agree("init", subject.started, layer.init(subject.init_key, subject.shape))
    # What it was given before must not matter: this one has seen larger numbers, the other has not.
    larger = _values.mapped(lambda leaf: 3 * leaf if _values.is_float(leaf) else leaf, subject.x)
    with np.errstate(all="ignore"):
        layer.apply(subject.params, _values.frozen(larger))
    for mode, key in subject.modes.items():
        run = subject.run(mode)
        out, cache = layer.apply(subject.params, subject.x, key=key)
        agree(f"out ({mode})", run.out, out)
        agree(f"vjp ({mode})", (run.dparams, run.dx), layer.vjp(cache, run.dout))


# --- refusals -------------------------------------------------------------------------------------


@law("a wrong rank or size is refused")
def _wrong_shape(subject: Subject) -> None:
    # `apply` takes what `init` takes, as long as the parameters would have the same shapes.
    for path, near, shape in _near(subject.shape):
        where = f"{path} of shape {near}"
        try:
            out_shape, params = subject.layer.init(subject.init_key, shape)
            fits = _values.shapes(params) == _values.shapes(subject.params)
        except Exception as error:
            is_refusal(f"init, for {where}", subject.spec, ValueError, error)
            fits, out_shape = False, ()
        old = dict(_values.leaves(subject.x, "x"))[path]
        if not _values.is_float(old):
            leaf = np.resize(old, near)
        elif fits or subject.spec.children:
            leaf = subject.draw(where, near)
        else:  # arithmetic before the refusal overflows, and shows
            leaf = np.full(near, np.finfo(old.dtype).max)
        x = _values.frozen(_values.replaced(subject.x, path, leaf, "x"))
        if fits:
            try:
                found = _values.shapes(subject.layer.apply(subject.params, x)[0])
            except ValueError as error:
                if all(_values.is_float(leaf) for _, leaf in _values.leaves(x)):
                    raise
                # integers may be about the size that has changed, as lengths are
                is_refusal(where, subject.spec, ValueError, error)
                continue
            if found != out_shape:
                breach(f"out, for {where}", f"shape {out_shape}, as init says", found)
        else:
            refuses(where, subject.spec, ValueError, subject.layer.apply, subject.params, x)


def _near(shape: Shape) -> Iterator[tuple[str, Shape, Shape]]:
    """Shapes that differ a little, in one size or in the rank: the path, its shape, all shapes."""
    several = not structure.is_shape(shape)
    for path, one in structure.each_shape(shape):
        changed = [(*one, 2), (one[0], 1, *one[1:]), *(one[:rank] for rank in range(1, len(one)))]
        for axis in range(0 if several else 1, len(one)):
            sizes = {1, one[axis] - 1, one[axis] + 1} - {0, one[axis]}
            changed += [(*one[:axis], size, *one[axis + 1 :]) for size in sorted(sizes)]
        for near in changed:
            yield path, near, _with_shape(shape, path, near)


def _with_shape(shape: Shape, path: str, near: Shape) -> Shape:
    """All shapes, one of them another."""
    changed: Shape = structure.over_shapes(lambda here, old: near if here == path else old, shape)
    return changed


@law("a wrong dtype is refused")
def _wrong_dtype(subject: Subject) -> None:
    params, given = subject.started[1], _values.cast(subject.x, np.float32)
    leaves = list(_values.leaves(given, "x"))
    floats = [leaf for _, leaf in (*leaves, *_values.leaves(params)) if _values.is_float(leaf)]
    for path, leaf in leaves:
        wrong: tuple[Any, ...] = ()
        if leaf.dtype.kind == "f":
            wrong = (np.float16, np.complex64)
            if not subject.has("integers"):
                wrong += (np.int64, np.bool_)
            if len(floats) > 1:  # one dtype for everything
                wrong += (np.float64,)
        elif leaf.dtype.kind in "iu":
            wrong = (np.float32, np.complex64)
        for dtype in wrong:
            x = _values.replaced(given, path, np.ones(leaf.shape, dtype), "x")
            where = f"{path} of {np.dtype(dtype)}"
            refuses(where, subject.spec, TypeError, subject.layer.apply, params, x)


LAWS: tuple[Law, ...] = (
    _pure,
    _survives,
    _reproducible,
    outside,
    _shape,
    _tree,
    _dtype,
    *CALCULUS,
    *BATCHES,
    locality,
    _layouts,
    neighbours,
    _pickling,
    _rebuilt,
    _wrong_shape,
    _wrong_dtype,
    _nothing,
    _threads,
)
"""The laws that every layer keeps, in the order in which `check_layer` checks them."""


@named
def check_layer(
    layer: Layer[Any, Any],
    shape: Shape,
    *,
    key: Key | None = None,
    x: Any = None,
    traits: Iterable[Trait] = (),
    stopped: Iterable[str] = (),
    seed: int = 0,
) -> None:
    """Prove a layer: all the laws, on one input.

    Parameters
    ----------
    layer : Layer
        Yours, or a whole network.
    shape : Shape
        Of its input, with a batch of at least 2; for several inputs, a tuple of shapes. Small is
        quick.
    key : Key, optional
        Where the parameters and the random inputs come from, instead of `seed`.
    x : array or tuple of arrays, optional
        The input, instead of random normals; needed for integers.
    traits : iterable of Trait
        Beyond those of the layer's spec.
    stopped : iterable of str
        Leaves whose gradient is zero by definition: ``"x"``, ``"params/dense1/weight"``, or the
        start of such a path.
    seed : int
        For `key`.

    Raises
    ------
    AssertionError
        For the first law that is broken; the message has the law, the leaf, and what was expected
        and found.
    ValueError, TypeError
        For something that is not a layer, a batch of less than 2, an `x` of another shape, or an
        unknown trait.

    Notes
    -----
    Parameters, input, cache and gradients are read-only. Every law holds without a key and with
    one. Gradients are checked in float64, along random directions of every single leaf, at
    parameters moved away from where they start. Non-differentiable points are almost surely far
    from random normals; where they are not, give an `x`.

    What float64 proves, float32 repeats. Batches of up to 33 examples are made from those of the input.
    The layer is built anew from its spec, and must not remember what it has seen.

    Where no thread can start, as in a browser, the law that threads do not disturb each other is not
    tried.

    What a layer returns may share memory with what went in or with its cache, as nothing ever
    writes there, but not with scratch memory that a later call uses again.

    Examples
    --------
    >>> from funcnn import conv, relu, serial
    >>> from funcnn.testing import check_layer
    >>> check_layer(serial(conv(2, 3), relu()), (2, 1, 5, 5))
    """
    subject = Subject(layer, shape, key=key, x=x, traits=traits, stopped=stopped, seed=seed)
    for one in LAWS:
        one(subject)
