"""What layers without parameters share: functions of arrays become a layer.

`parameterless` checks what goes in, and leaves the rest to two functions, one for each direction.
`elementwise` needs no more than a function of numbers and its slope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import checks
from funcnn._kernels.elementwise import Twin, applied, pulled, sloped
from funcnn.types import Array, Cache, Key, L, Params, Preserving, Shape, Spec, Trait

__all__ = ["elementwise", "moving", "parameterless"]

Forward = Callable[[Array], tuple[Any, dict[str, Any]]]
Pullback = Callable[[Cache, Any], Any]
Function = Callable[[Array], Any]


def parameterless(
    kind: type[L],
    forward: Forward,
    pullback: Pullback,
    out_shape: Callable[[Shape], Shape] | None = None,
    *,
    min_rank: int = 1,
    axes: str = "",
    training: Callable[[Array, Key], tuple[Any, dict[str, Any]]] | None = None,
    traits: frozenset[Trait] = frozenset(),
) -> L:
    """A layer without parameters, out of one function for each direction.

    Parameters
    ----------
    kind : type
        `Preserving` or `Layer`.
    forward : callable
        ``x -> (out, kept)``, with a dict of what the pullback needs.
    pullback : callable
        ``(kept, dout) -> dx``.
    out_shape : callable, optional
        ``shape -> shape``, and refuses shapes that cannot be; by default the shape stays.
    min_rank : int, default 1
        How many axes `x` has at least.
    axes : str, default ''
        Those of `x`, such as ``"N, C, H, W"``; by default, whichever it has.
    training : callable, optional
        ``(x, key) -> (out, kept)`` in place of `forward` where there is a key.
    traits : frozenset of Trait
        What options make of the layer.

    Returns
    -------
    Layer
        Without parameters, of this kind.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.types import Preserving
    >>> twice = parameterless(Preserving, lambda x: (2 * x, {}), lambda kept, dout: 2 * dout)
    >>> twice.apply({}, np.array([1.0, 2.0]))[0]
    array([2., 4.])
    """

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        found = checks.shape(shape, axes) if axes else checks.any_shape(shape, min_rank)
        return found if out_shape is None else out_shape(found), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        if axes:
            checks.inputs(params, {}, x, axes)
        else:
            checks.alone(params, x, min_rank)
        if out_shape is not None:
            out_shape(x.shape)
        out, kept = forward(x) if key is None or training is None else training(x, checks.key(key))
        return out, {"out_shape": out.shape, "dtype": out.dtype, **kept}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        checks.gradient(dout, cache["out_shape"], cache["dtype"])
        return {}, pullback(cache, dout)

    return kind(init, apply, vjp, Spec(traits=traits))


def moving(
    kind: type[L],
    forward: Callable[[Array], Array],
    backward: Callable[[Array, tuple[int, ...]], Array],
    out_shape: Callable[[tuple[int, ...]], tuple[int, ...]],
    min_rank: int = 1,
    axes: str = "",
) -> L:
    """A layer that moves numbers, and keeps nothing but a shape.

    Parameters
    ----------
    kind : type
        `Preserving` or `Layer`.
    forward : callable
        ``x -> out``, a linear map.
    backward : callable
        ``(dout, shape of x) -> dx``, its adjoint.
    out_shape : callable
        ``shape -> shape``, and refuses shapes that cannot be.
    min_rank : int, default 1
        How many axes `x` has at least.
    axes : str, default ''
        Those of `x`, such as ``"N, C, H, W"``; by default, whichever it has.

    Returns
    -------
    Layer
        Without parameters, of this kind.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.types import Preserving
    >>> turn = lambda x, shape=None: x[:, ::-1]
    >>> turned = moving(Preserving, turn, turn, lambda shape: shape)
    >>> turned.apply({}, np.array([[1.0, 2.0]]))[0]
    array([[2., 1.]])
    """
    return parameterless(
        kind,
        lambda x: (forward(x), {"shape": x.shape}),
        lambda kept, dout: backward(dout, kept["shape"]),
        out_shape,
        min_rank=min_rank,
        axes=axes,
    )


def elementwise(
    value: Function,
    slope: Function,
    *options: float,
    from_output: bool = False,
    dead: bool = False,
    twin: Twin = (),
) -> Preserving:
    """A layer that applies one function to every element.

    Parameters
    ----------
    value : callable
        The function, of an array.
    slope : callable
        Its derivative, in memory of its own; or, for one of 0 and 1, where it is 1.
    *options : float
        What both are made of. For an option that float32 does not hold, they compute in float64.
    from_output : bool, default False
        Whether the slope is a function of the output, which is kept instead of the input; where the
        function is one pass of NumPy's.
    dead : bool, default False
        Whether the slope is 0 for a part of the numbers: where it is, nothing passes, not even of an
        infinite gradient. So it always is with a slope that says where it is 1.
    twin : tuple, optional
        The name of a compiled pair of functions that are the same, and their options.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Examples
    --------
    >>> import numpy as np
    >>> layer = elementwise(lambda x: x * x, lambda x: 2 * x)
    >>> out, cache = layer.apply({}, np.array([3.0, np.inf]))
    >>> out, layer.vjp(cache, np.ones(2))[1]
    (array([ 9., inf]), array([ 6., inf]))
    """
    if checks.beyond({"options": options}, np.float32):
        value, slope, twin = _in_float64(value), _in_float64(slope), ()
    if not from_output:
        value, slope = _in_blocks(value), _in_blocks(slope)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return checks.any_shape(shape), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.alone(params, x)
        small = from_output and x.size < _WORTH
        out = applied(x, value, twin) if twin and not small else value(x)
        return out, {"out": out} if from_output else {"x": x}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        kept = cache["out" if from_output else "x"]
        checks.gradient(dout, kept.shape, kept.dtype)
        return {}, (pulled if twin else sloped)(kept, dout, slope, twin, dead)

    return Preserving(init, apply, vjp)


# Measured in November 2026 with AVX-512 and 1 MiB of cache a core: from 2**14 to 2**17, all the same;
# what is smaller takes less time at once.
_BLOCK, _LARGE = 1 << 16, 1 << 19  # numbers
_WORTH = 1 << 15  # from which on several threads are faster than one pass of NumPy's


def _in_blocks(function: Function) -> Function:
    """The same function, of one block after the other, whose intermediate results stay in the cache."""

    def blocked(x: Array) -> Any:
        line = x.ravel("K") if x.size > _LARGE else x
        if x.size <= _LARGE or not np.may_share_memory(line, x):
            return function(x)
        first = function(line[:_BLOCK])
        out = np.empty_like(x, first.dtype)  # in the same order of memory
        target = out.ravel("K")
        target[:_BLOCK] = first
        for start in range(_BLOCK, x.size, _BLOCK):
            target[start : start + _BLOCK] = function(line[start : start + _BLOCK])
        return out

    return blocked


def _in_float64(function: Function) -> Function:
    """The same function, computed in float64; conditions stay what they are."""

    def wide(x: Array) -> Any:
        found = function(x.astype(np.float64))
        return found if found.dtype == np.bool_ else found.astype(x.dtype)

    return wide
