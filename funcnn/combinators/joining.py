"""Branches side by side: what several layers make of one input, and how it becomes one again."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, cast, overload

import numpy as np

from funcnn import checks
from funcnn._kernels import joining
from funcnn._wiring import Alike
from funcnn.checks import Choice, Integer, Layers, When, declared
from funcnn.structure import (
    Child,
    apply_in_turn,
    bare,
    collected,
    init_child,
    name_children,
    params_vjp_child,
    vjp_in_turn,
)
from funcnn.types import Cache, Key, Layer, Params, Preserving, Shape, Spec, X, Y

__all__ = ["branch", "dense_connect", "each", "merge", "parallel"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
X1 = TypeVar("X1")
X2 = TypeVar("X2")
X3 = TypeVar("X3")

_WAYS = Choice(*joining.WAYS)


class Parallel(Protocol):
    """The type of `funcnn.parallel`: what the first layer takes and gives, the others do, too."""

    def __call__(
        self,
        first: Layer[X, Y],
        /,
        *layers: Preserving | Alike[X, Y],
        merge: str = "sum",
        axis: int = 1,
    ) -> Layer[X, Y]: ...


def _parallel(*layers: Any, merge: str = "sum", axis: int = 1) -> Layer[Any, Any]:
    """Give one input to several layers, and merge what they make of it.

    Parameters
    ----------
    *layers : Layer
        At least one.
    merge : "sum", "mean", "product" or "concatenate", default "sum"
        How the outputs become one.
    axis : int, default 1
        The axis that ``"concatenate"`` joins: channels, or features.

    Returns
    -------
    Layer
        With params ``{name: params of the child}``.

    Raises
    ------
    ValueError, TypeError
        For outputs whose shapes do not fit together, another word; and what the children refuse,
        with their path.

    Notes
    -----
    Forward: ``y = f_1(x) + ... + f_n(x)``, or their mean, product or concatenation. Pullback: of
    ``dy``, each child gets all, one n-th, the product with the other outputs, or its part; the
    input's gradients add up.

    References
    ----------
    C. Szegedy et al., "Going deeper with convolutions", 2014.

    Examples
    --------
    >>> from funcnn import conv, parallel, random
    >>> both = parallel(conv(8, 1), conv(16, 3, padding=1), merge="concatenate")
    >>> both.init(random.key(0), (32, 3, 14, 14))[0]
    (32, 24, 14, 14)
    """
    return _joined(tuple(name_children(layers)), merge, axis)


def _joined(children: tuple[Child, ...], merge: str, axis: int) -> Layer[Any, Any]:
    fan, join = _fan_out(children), _fan_in(merge, axis, "the outputs")

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        shapes, params = fan.init(checks.key(key), shape)
        return join.init(key, shapes)[0], params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        outs, cache = fan.apply(params, x, key=key)
        out, cache["_joined"] = join.apply({}, outs)
        return out, cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        return fan.vjp(cache, join.vjp(cache["_joined"], dout)[1])

    def params_vjp(cache: Cache, dout: Any) -> Params:
        assert fan.params_vjp is not None
        return fan.params_vjp(cache, join.vjp(cache["_joined"], dout)[1])

    def remake(children: tuple[Child, ...]) -> Layer[Any, Any]:
        return _joined(children, merge, axis)

    return Layer(init, apply, vjp, Spec(), params_vjp, children, remake, fan.statistics)


_parallel.__name__ = _parallel.__qualname__ = "parallel"
_declare = declared(
    layers=Layers(several=True), merge=_WAYS, axis=When(Integer(), "merge", "concatenate")
)
parallel = cast(Parallel, _declare(_parallel))


@overload
def branch(l1: Layer[X, A], /) -> Layer[X, tuple[A]]: ...
@overload
def branch(l1: Layer[X, A], l2: Layer[X, B], /) -> Layer[X, tuple[A, B]]: ...
@overload
def branch(l1: Layer[X, A], l2: Layer[X, B], l3: Layer[X, C], /) -> Layer[X, tuple[A, B, C]]: ...
@overload
def branch(
    l1: Layer[X, Y], l2: Layer[X, Y], l3: Layer[X, Y], l4: Layer[X, Y], /, *layers: Layer[X, Y]
) -> Layer[X, tuple[Y, ...]]: ...
@declared(layers=Layers(several=True))
def branch(*layers: Any) -> Layer[Any, Any]:
    """Give one input to several layers, and keep what each of them makes of it.

    Parameters
    ----------
    *layers : Layer
        At least one.

    Returns
    -------
    Layer
        On one input, with a tuple of outputs, and params ``{name: params of the child}``.

    Raises
    ------
    ValueError, TypeError
        What the children refuse, with their path.

    Notes
    -----
    Forward: ``y = (f_1(x), ..., f_n(x))``. Pullback: ``dx = df_1(dy_1) + ... + df_n(dy_n)``. What
    follows takes a tuple: `merge`, `concatenate`, `bilinear`, attention to a memory.

    Examples
    --------
    >>> from funcnn import branch, dense, identity, merge, random, serial
    >>> highway = serial(branch(dense(4), identity()), merge("product"))
    >>> highway.init(random.key(0), (32, 4))[0]
    (32, 4)
    """
    return _fan_out(tuple(name_children(layers)))


@overload
def each(l1: Layer[X1, A], /) -> Layer[tuple[X1], tuple[A]]: ...
@overload
def each(l1: Layer[X1, A], l2: Layer[X2, B], /) -> Layer[tuple[X1, X2], tuple[A, B]]: ...
@overload
def each(
    l1: Layer[X1, A], l2: Layer[X2, B], l3: Layer[X3, C], /
) -> Layer[tuple[X1, X2, X3], tuple[A, B, C]]: ...
@overload
def each(
    l1: Layer[X, Y], l2: Layer[X, Y], l3: Layer[X, Y], l4: Layer[X, Y], /, *layers: Layer[X, Y]
) -> Layer[tuple[X, ...], tuple[Y, ...]]: ...
@declared(layers=Layers(several=True))
def each(*layers: Any) -> Layer[Any, Any]:
    """Give each of several inputs to a layer of its own: input ``i`` to layer ``i``.

    Parameters
    ----------
    *layers : Layer
        As many as there are inputs; `identity` passes one on.

    Returns
    -------
    Layer
        On a tuple of inputs, with a tuple of outputs, and params ``{name: params of the child}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is no tuple, or of another length; what the children refuse, with their
        path.

    Notes
    -----
    Forward: ``y = (f_1(x_1), ..., f_n(x_n))``. Pullback: ``dx = (df_1(dy_1), ..., df_n(dy_n))``.
    ``stax.parallel`` does the same. To give one input to all layers, see `branch`.

    Examples
    --------
    >>> from funcnn import conv, dense, each, flatten, merge, random, serial
    >>> image, numbers = serial(conv(4, 3), flatten()), dense(5)
    >>> net = serial(each(image, numbers), merge("concatenate"), dense(2))
    >>> net.init(random.key(0), ((32, 3, 8, 8), (32, 7)))[0]
    (32, 2)
    """
    return _beside(tuple(name_children(layers)))


@declared(how=_WAYS, axis=When(Integer(), "how", "concatenate"))
def merge(how: str = "sum", *, axis: int = 1) -> Layer[Any, Any]:
    """Make one array of several.

    Parameters
    ----------
    how : "sum", "mean", "product" or "concatenate", default "sum"
        Element by element, or side by side.
    axis : int, default 1
        The axis that ``"concatenate"`` joins: channels, or features.

    Returns
    -------
    Layer
        On a tuple of arrays, without parameters.

    Raises
    ------
    ValueError, TypeError
        For arrays whose shapes or dtypes do not fit together.

    Notes
    -----
    Forward: ``y = x_1 + ... + x_n``, or the mean, the product, the concatenation. Pullback: of
    ``dy``, each gets all, one n-th, the product with all the others (never a quotient: zeros are as
    good as other numbers), or its part.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import merge
    >>> out, cache = merge("product").apply({}, (np.array([[2.0, 0.0]]), np.array([[3.0, 5.0]])))
    >>> out, merge("product").vjp(cache, np.ones((1, 2)))[1]
    (array([[6., 0.]]), (array([[3., 5.]]), array([[2., 0.]])))
    """
    return _fan_in(how, axis, "`x`")


@overload
def dense_connect(*layers: Preserving, axis: int = 1) -> Preserving: ...
@overload
def dense_connect(*layers: Preserving | Alike[X, X], axis: int = 1) -> Layer[X, X]: ...
@declared(layers=Layers(several=True), axis=Integer())
def dense_connect(*layers: Preserving | Alike[Any, Any], axis: int = 1) -> Layer[Any, Any]:
    """Give each layer the input and all that the layers before it have made, side by side.

    Parameters
    ----------
    *layers : Layer
        At least one; each keeps all sizes but that of the axis.
    axis : int, default 1
        The axis along which they are joined: channels, or features.

    Returns
    -------
    Layer
        Of the input and all outputs side by side, with params ``{name: params of the child}``.

    Raises
    ------
    ValueError, TypeError
        For a layer that changes another size; and what the children refuse, with their path.

    Notes
    -----
    Forward: ``h_0 = x``, ``h_k = [h_{k-1}, f_k(h_{k-1})]``, ``y = h_n``. Pullback, last to first:
    ``dh_k`` comes apart into ``a`` and ``b``, and ``dh_{k-1} = a + df_k(b)``.

    References
    ----------
    G. Huang et al., "Densely connected convolutional networks", 2017.

    Examples
    --------
    >>> from funcnn import conv, dense_connect, random
    >>> block = dense_connect(conv(4, 3, padding=1), conv(4, 3, padding=1))
    >>> out_shape, params = block.init(random.key(0), (32, 6, 14, 14))
    >>> out_shape, params["conv2"]["weight"].shape
    ((32, 14, 14, 14), (4, 10, 3, 3))
    """
    return _dense_connected(tuple(name_children(layers)), axis)


def _dense_connected(children: tuple[Child, ...], axis: int) -> Layer[Any, Any]:
    if not children:
        checks.refuse("there must be at least one layer")
    names, silent = tuple(name for name, _ in children), bare(children)

    def longer(before: Shape, new: Shape) -> Shape:
        return _joined_shape("concatenate", axis, (before, new), "what a layer takes and gives")

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checks.key(key)
        params: Params = {}
        for child in silent:
            new = init_child(child, key, checks.any_shape(shape), params)
            shape = longer(shape, checks.any_shape(new))
        return shape, params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.children(params, names)
        checks.floating(x)
        cache: dict[str, Any] = {}
        sizes = []
        for child in silent:
            out = checks.floating(apply_in_turn((child,), params, x, key, cache))
            longer(x.shape, out.shape)
            sizes.append(x.shape[axis])
            x = np.concatenate((x, out), axis)
        return x, {**cache, "_sizes": tuple(sizes), "_shape": x.shape, "_dtype": x.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        checks.gradient(dout, cache["_shape"], cache["_dtype"])
        dparams: Params = {}
        for child, size in zip(reversed(silent), reversed(cache["_sizes"]), strict=True):
            before, new = np.split(dout, [size], axis)
            dout = before + vjp_in_turn((child,), cache, new, dparams)
        return {name: dparams[name] for name in names if name in dparams}, dout

    def remake(children: tuple[Child, ...]) -> Layer[Any, Any]:
        return _dense_connected(children, axis)

    return Layer(init, apply, vjp, Spec(), None, children, remake, collected(children))


def _fan_out(children: tuple[Child, ...]) -> Layer[Any, Any]:
    """From one input to a tuple of outputs: the same input to each."""
    beside, count = _beside(children), len(children)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return beside.init(key, (shape,) * count)

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        return beside.apply(params, (x,) * count, key=key)

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams, dxs = beside.vjp(cache, dout)
        return dparams, joining.total(list(dxs))

    return beside._replace(init=init, apply=apply, vjp=vjp, remake=_fan_out)


def _beside(children: tuple[Child, ...]) -> Layer[Any, Any]:
    """From a tuple of inputs to a tuple of outputs, one of each for a child."""
    if not children:
        checks.refuse("there must be at least one layer")
    names, silent = tuple(name for name, _ in children), bare(children)

    def one_each(values: Any, name: str) -> Any:
        """Pairs of a child and its part."""
        if not isinstance(values, tuple):
            checks.refuse_type(f"`{name}` must be a tuple, got {type(values).__name__}")
        if len(values) != len(children):
            checks.refuse(f"`{name}` must be a tuple of {len(children)}, got one of {len(values)}")
        return zip(silent, values, strict=True)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checks.key(key)
        params: Params = {}
        pairs = one_each(shape, "shape")
        return tuple(init_child(child, key, one, params) for child, one in pairs), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.children(params, names)
        cache: Cache = {}
        outs = [apply_in_turn((child,), params, one, key, cache) for child, one in one_each(x, "x")]
        return tuple(outs), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams: Params = {}
        pairs = one_each(dout, "dout")
        return dparams, tuple(vjp_in_turn((child,), cache, one, dparams) for child, one in pairs)

    def params_vjp(cache: Cache, dout: Any) -> Params:
        dparams: Params = {}
        for child, one in one_each(dout, "dout"):
            params_vjp_child(child, cache, one, dparams)
        return dparams

    return Layer(init, apply, vjp, Spec(), params_vjp, children, _beside, collected(children))


def _fan_in(how: str, axis: int, words: str) -> Layer[Any, Any]:
    """From a tuple to one array."""

    def several(value: object, name: str) -> tuple[Any, ...]:
        if not isinstance(value, tuple):
            checks.refuse_type(f"`{name}` must be a tuple, got {type(value).__name__}")
        if not value:
            checks.refuse(f"`{name}` must be a tuple of at least one, got an empty one")
        return value

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        shapes = tuple(checks.any_shape(one) for one in several(shape, "shape"))
        return _joined_shape(how, axis, shapes, words), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        arrays = [checks.any_ranked(one) for one in several(x, "x")]
        dtypes = sorted({str(array.dtype) for array in arrays})
        if len(dtypes) > 1:
            checks.refuse_type(f"{words} must have one dtype, got {' and '.join(dtypes)}")
        out_shape = _joined_shape(how, axis, tuple(array.shape for array in arrays), words)
        out, kept = joining.join(how, axis, arrays)
        return out, {"kept": kept, "shape": out_shape, "dtype": out.dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        checks.gradient(dout, cache["shape"], cache["dtype"])
        return {}, tuple(joining.parts(how, axis, cache["kept"], dout))

    return Layer(init, apply, vjp)


def _joined_shape(how: str, axis: int, shapes: tuple[Shape, ...], words: str) -> Shape:
    """The shape of all arrays together."""
    first = shapes[0]
    if how != "concatenate":
        if any(shape != first for shape in shapes):
            checks.refuse(f"{words} must have one shape, got {list(shapes)}")
        return first
    checks.feature_axis(axis, len(first))
    place = axis % len(first)
    rest = [(len(shape), *shape[:place], *shape[place + 1 :]) for shape in shapes]
    if any(other != rest[0] for other in rest):
        checks.refuse(f"{words} must differ in axis {axis} alone, got {list(shapes)}")
    return (*first[:place], sum(shape[place] for shape in shapes), *first[place + 1 :])
