"""The words that every other room speaks: arrays by rank, `Layer`, `Loss`, `Spec`, `Key`.

Axis letters, here and in every docstring and comment:

===== ==========================================
N     examples in the batch
C     channels of an image (``O`` for those that come out)
D H W depth, height, width
T     time steps of a sequence
F     features of one example or time step
K     taps of a kernel, ``C * kh * kw``
===== ==========================================

There is no behaviour in this module beyond printing a network, pickling it by its `Spec`, and
looking up the layers inside it.
"""

# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, SupportsIndex, TypeAlias, TypeVar, overload

import numpy as np

from funcnn.types.shown import indented, page
from funcnn.types.specs import Off as Off, On as On, P as P, Spec, Trait, has_trait, rebuild

__all__ = [
    "Array",
    "Cache",
    "Counts",
    "Image",
    "Key",
    "Labels",
    "Layer",
    "Loss",
    "Mask",
    "Params",
    "Part",
    "Preserving",
    "Sequence",
    "Shape",
    "Spec",
    "Tokens",
    "Trait",
    "Vector",
    "Volume",
    "has_trait",
    "no_statistics",
    "rebuild",
]

Array: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[Any]]
"""An array of any rank and dtype."""

_Float: TypeAlias = np.dtype[np.floating[Any]]
_Integer: TypeAlias = np.dtype[np.integer[Any]]

Vector: TypeAlias = np.ndarray[tuple[int, int], _Float]
"""A batch of feature vectors, ``(N, F)``."""
Sequence: TypeAlias = np.ndarray[tuple[int, int, int], _Float]
"""A batch of sequences, ``(N, T, F)``."""
Image: TypeAlias = np.ndarray[tuple[int, int, int, int], _Float]
"""A batch of images, ``(N, C, H, W)``."""
Volume: TypeAlias = np.ndarray[tuple[int, int, int, int, int], _Float]
"""A batch of volumes, ``(N, C, D, H, W)``."""
Tokens: TypeAlias = np.ndarray[tuple[int, int], _Integer]
"""A batch of integer sequences, ``(N, T)``."""
Mask: TypeAlias = np.ndarray[tuple[int, int] | tuple[int, int, int], np.dtype[np.bool_]]
"""Which time steps count, ``(N, T)``, or which of them each one sees, ``(N, T, S)``."""
Labels: TypeAlias = np.ndarray[tuple[int], _Integer]
"""One integer class for each example, ``(N,)``."""
Counts: TypeAlias = Labels | Mask
"""Which time steps of each sequence count: the first so many, ``(N,)``, or flags, ``(N, T)``."""

Shape: TypeAlias = tuple[Any, ...]
"""Sizes of all axes, batch first (``-1``: any batch); for several inputs, a tuple of shapes."""
Params: TypeAlias = dict[str, Any]
"""A tree of parameters: nested dicts with arrays at the leaves."""
Cache: TypeAlias = Any
"""What `vjp` needs of the forward pass: picklable data, never a closure."""


class Key(NamedTuple):
    """An immutable source of randomness: 128 bits. Made by `funcnn.random.key`.

    Examples
    --------
    >>> from funcnn import random
    >>> random.key(0) == random.key(0)
    True
    """

    high: int
    low: int


_UNDECLARED = Spec()

R = TypeVar("R")
L = TypeVar("L", bound="Layer[Any, Any]")
# In front of a chain, nothing says yet what T is; with this bound, pyright lets the next layer say it.
T = TypeVar("T", bound=Any)
X = TypeVar("X")
Y = TypeVar("Y")
_X_contra = TypeVar("_X_contra", contravariant=True)
_Y_co = TypeVar("_Y_co", covariant=True)
_X_co = TypeVar("_X_co", covariant=True)
_Y_contra = TypeVar("_Y_contra", contravariant=True)


class Init(Protocol):
    """``(key, shape) -> (out_shape, params)``."""

    def __call__(self, key: Key, shape: Shape, /) -> tuple[Shape, Params]: ...


class Apply(Protocol[_X_contra, _Y_co]):
    """``(params, x, *, key=None) -> (out, cache)``; a key means training."""

    def __call__(
        self, params: Params, x: _X_contra, /, *, key: Key | None = None
    ) -> tuple[_Y_co, Cache]: ...


class Vjp(Protocol[_X_co, _Y_contra]):
    """``(cache, dout) -> (dparams, dx)``: the pullback of `Apply`."""

    def __call__(self, cache: Cache, dout: _Y_contra, /) -> tuple[Params, _X_co]: ...


class ParamsVjp(Protocol[_Y_contra]):
    """``(cache, dout) -> dparams``: a pullback that leaves out the input's gradient."""

    def __call__(self, cache: Cache, dout: _Y_contra, /) -> Params: ...


def no_statistics(cache: Cache, /) -> Params:
    """The running statistics of a layer that has none.

    Parameters
    ----------
    cache : Cache
        Of a training pass.

    Returns
    -------
    dict
        Nothing.

    Examples
    --------
    >>> from funcnn import dense
    >>> dense(3).statistics({})
    {}
    """
    return {}


class _Unmade: ...


class _Told(Protocol[_X_contra, _Y_co]):
    """``(x: X) -> Y``, but whoever asks what it takes is told that anything goes."""

    @overload
    def __call__(self, x: object, never: _Unmade, /) -> _Y_co: ...
    @overload
    def __call__(self, x: _X_contra, /) -> _Y_co: ...


class _Places(Generic[X, Y]):
    """What a layer does at each place of a chain, for the messages of mypy (`funcnn._wiring`)."""

    __slots__ = ()

    _layer1: Callable[[X], Y]
    _layer2: _Told[X, Y]
    _layer3: _Told[X, Y]
    _layer4: _Told[X, Y]
    _layer5: _Told[X, Y]
    _layer6: _Told[X, Y]
    _layer7: _Told[X, Y]
    _layer8: _Told[X, Y]
    _layer9: _Told[X, Y]
    _layer10: _Told[X, Y]
    _layer11: _Told[X, Y]
    _layer12: _Told[X, Y]
    _layer13: _Told[X, Y]
    _layer14: _Told[X, Y]
    _layer15: _Told[X, Y]
    _layer16: _Told[X, Y]
    _layer17: _Told[X, Y]
    _layer18: _Told[X, Y]
    _layer19: _Told[X, Y]
    _layer20: _Told[X, Y]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Layer(_Places[X, Y]):
    """A layer, or a whole network: pure functions, and the data that says what it is.

    A network holds the layers that it combines: ``net["conv1"]``, ``net["encoder/conv1"]``,
    ``net[0]``, ``len(net)`` and iteration give them, and ``net[0:3]`` is a part of a chain, whose
    layers keep their names: ``tree.select(params, net[0:3])`` are its params.

    Parameters
    ----------
    init : Init
        ``(key, shape) -> (out_shape, params)``. Shapes include the batch axis, which may be -1.
    apply : Apply
        ``(params, x, *, key=None) -> (out, cache)``. A key means training; without one, inference.
    vjp : Vjp
        ``(cache, dout) -> (dparams, dx)``, with ``dparams`` the same tree as ``params``. For an
        integer or boolean input, ``dx`` is zeros of its shape.
    spec : Spec, optional
        What the layer is: it prints, pickles and rebuilds it. A constructor that declares its
        options (`funcnn.checks.declared`) leaves it out.
    params_vjp : ParamsVjp, optional
        ``(cache, dout) -> dparams`` without the cost of ``dx``; where it is None, `vjp` serves.
    children : tuple of (str, Layer)
        The layers that it combines, by their names among its params; ``""`` for one that has all of
        its params.
    remake : callable, optional
        ``(children) -> Layer``: the same with other children under these names. Where it is None,
        the constructor serves.
    statistics : callable, optional
        ``(cache) -> new``: the new values of the running statistics that a training pass left in its
        cache, as a part of the tree of ``params``: ``tree.replace(params, new)`` carries them on. A
        combinator that leaves it out, and keeps its children's caches under their names, gives theirs.

    Examples
    --------
    >>> from funcnn import dense, random
    >>> layer = dense(10)
    >>> out_shape, params = layer.init(random.key(0), (32, 84))
    >>> out_shape, params["weight"].shape
    ((32, 10), (10, 84))
    >>> from funcnn import relu, serial, tree
    >>> net = serial(dense(8), relu(), dense(2))
    >>> len(net), net[0], net["dense2"], net[:2]
    (3, dense(8), dense(2), serial(dense(8), relu()))
    >>> _, params = net.init(random.key(0), (32, 4))
    >>> list(tree.select(params, net[:2]))
    ['dense1']
    """

    init: Init
    apply: Apply[X, Y]
    vjp: Vjp[X, Y]
    spec: Spec = _UNDECLARED
    params_vjp: ParamsVjp[Y] | None = None
    # Layers, too: a type checker infers less from a type inside itself
    children: tuple[tuple[str, Any], ...] = ()
    remake: Callable[[Any], Any] | None = None
    statistics: Callable[[Cache], Params] = no_statistics

    def _replace(self: L, **changes: Any) -> L:
        """The same layer with other parts."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        return repr(self.spec)

    def __str__(self) -> str:
        return indented(self.spec)

    def _repr_html_(self) -> str:
        return page("", self)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.spec,)

    def _inside(self) -> dict[str, Any]:
        """The layers inside, by name; what has a name by `funcnn.named` is one with its layer."""
        inside = dict(self.children)
        return inside[""]._inside() if self.spec.kind == "named" else inside

    def __bool__(self) -> bool:
        return True  # a layer with none inside, too

    def __len__(self) -> int:
        return len(self._inside())

    def __iter__(self) -> Iterator[Layer[Any, Any]]:
        return iter(self._inside().values())

    def __getitem__(self, index: SupportsIndex | str | slice) -> Layer[Any, Any]:
        kind, found, shown = self.spec.kind, self._inside(), reprlib.repr(index)
        if isinstance(index, str):
            name, _, further = index.partition("/")
            if name not in found:
                raise KeyError(f"{kind}: {shown} must name one of {reprlib.repr(list(found))}")
            inner: Layer[Any, Any] = found[name]
            return inner[further] if further else inner
        if isinstance(index, slice):
            if kind == "named":
                inner = self.children[0][1]
                return inner[index]
            if kind not in ("serial", "repeat") or self.remake is None:
                raise TypeError(f"{kind}: only a chain, made by `serial` or `repeat`, has slices")
            ends = (index.start, index.stop, index.step)
            if index.step == 0 or not all(isinstance(end, SupportsIndex | None) for end in ends):
                raise TypeError(f"{kind}: {shown} must go from place to place")
            part: Layer[Any, Any] = self.remake(self.children[index])
            return part
        if not isinstance(index, SupportsIndex) or isinstance(index, bool):
            raise TypeError(f"{kind}: {shown} must be a place, a name or a slice")
        if not -len(found) <= operator.index(index) < len(found):
            raise IndexError(f"{kind}: {shown} must be the place of one of {len(found)} layers")
        return list(self)[index]

    def _alike(self, x: X, /) -> Y:
        """Never called: what a layer does, for type checkers, wherever it stands (`funcnn._wiring`)."""
        raise NotImplementedError

    _at1 = _at2 = _at3 = _at4 = _at5 = _at6 = _at7 = _at8 = _at9 = _at10 = _alike
    _at11 = _at12 = _at13 = _at14 = _at15 = _at16 = _at17 = _at18 = _at19 = _at20 = _alike


class Preserving(Layer[Any, Any]):
    """A layer that gives back the kind of array it takes, whichever that is, such as `funcnn.relu`.

    A type checker takes it as ``Layer[X, X]`` for every ``X`` at once.

    Parameters
    ----------
    init, apply, vjp, spec, params_vjp, children, remake, statistics
        As for `Layer`.

    Examples
    --------
    >>> from funcnn import relu
    >>> isinstance(relu(), Preserving), isinstance(relu(), Layer)
    (True, True)
    """

    __slots__ = ()

    # fmt: off
    def _alike(self, x: X, /) -> X: raise NotImplementedError
    def _at1(self, x: T, /) -> T: raise NotImplementedError
    def _at2(self, x: T, /) -> T: raise NotImplementedError
    def _at3(self, x: T, /) -> T: raise NotImplementedError
    def _at4(self, x: T, /) -> T: raise NotImplementedError
    def _at5(self, x: T, /) -> T: raise NotImplementedError
    def _at6(self, x: T, /) -> T: raise NotImplementedError
    def _at7(self, x: T, /) -> T: raise NotImplementedError
    def _at8(self, x: T, /) -> T: raise NotImplementedError
    def _at9(self, x: T, /) -> T: raise NotImplementedError
    def _at10(self, x: T, /) -> T: raise NotImplementedError
    def _at11(self, x: T, /) -> T: raise NotImplementedError
    def _at12(self, x: T, /) -> T: raise NotImplementedError
    def _at13(self, x: T, /) -> T: raise NotImplementedError
    def _at14(self, x: T, /) -> T: raise NotImplementedError
    def _at15(self, x: T, /) -> T: raise NotImplementedError
    def _at16(self, x: T, /) -> T: raise NotImplementedError
    def _at17(self, x: T, /) -> T: raise NotImplementedError
    def _at18(self, x: T, /) -> T: raise NotImplementedError
    def _at19(self, x: T, /) -> T: raise NotImplementedError
    def _at20(self, x: T, /) -> T: raise NotImplementedError
    _layer1: None  # type: ignore[assignment]  # of a chain that it begins, nothing says yet what it takes
    def _layer2(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer3(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer4(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer5(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer6(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer7(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer8(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer9(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer10(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer11(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer12(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer13(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer14(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer15(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer16(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer17(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer18(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer19(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    def _layer20(self, x: T, /, *_: Any) -> T: raise NotImplementedError
    # fmt: on


class Loss(NamedTuple):
    """A loss: how far a prediction is from its target, and the slope.

    Parameters
    ----------
    apply : callable
        ``(prediction, target) -> (value, cache)``.
    vjp : callable
        ``(cache) -> dprediction``, the gradient of ``value`` (of its sum where it is an array).
    spec : Spec
        What the loss is.
    weight : callable, optional
        ``(target) -> float or None``: what ``value`` is a mean over, such as the number of labels
        that count or the sum of their weights; None where it is a sum. Without this function,
        ``value`` is a mean over the examples. `funcnn.metrics.Mean` makes one value of those of
        several batches.
    parts : tuple of Part
        The losses that it adds up, see `funcnn.sum_losses`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import mean_squared_error
    >>> loss = mean_squared_error()
    >>> value, cache = loss.apply(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]]))
    >>> float(value), loss.vjp(cache)
    (5.0, array([[1., 3.]]))
    """

    apply: Callable[[Any, Any], tuple[Any, Cache]]
    vjp: Callable[[Cache], Any]
    spec: Spec = Spec()
    weight: Callable[[Any], float | None] | None = None
    parts: tuple[Part, ...] = ()

    def __repr__(self) -> str:
        return repr(self.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.spec,)


class Part(NamedTuple):
    """One of the losses that `funcnn.sum_losses` adds up.

    Parameters
    ----------
    place : str or int
        Its name, or its place in a tuple.
    order : int
        Its place in any case.
    loss : Loss
        What is applied to them.
    factor : float
        How much it counts.

    Examples
    --------
    >>> from funcnn import l1, sum_losses
    >>> [part.name for part in sum_losses({"age": l1()}).parts]
    ['loss_age']
    """

    place: str | int
    order: int
    loss: Loss
    factor: float

    @property
    def name(self) -> str:
        """What its value is called in histories."""
        return f"loss_{self.place}"

    def of(self, whole: Any) -> Any:
        """Its own of all predictions or targets, which are a dict or a tuple."""
        return whole[self.order if isinstance(whole, tuple) else self.place]
