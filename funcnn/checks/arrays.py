"""What a layer's functions check: shapes in `init`, arrays in `apply`, gradients in `vjp`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any, NoReturn

import numpy as np

from funcnn.checks.refusals import refuse, refuse_type, shown
from funcnn.types import Array, Key, Shape

Shapes = dict[str, tuple[int | None, ...]]
"""The shape of each parameter of a layer; None stands for any size."""

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def key(value: object) -> Key:
    """A key, and not the int it was meant to be made from."""
    if not isinstance(value, Key):
        refuse_type(
            f"`key` must be a funcnn Key, got {shown(value)}: write funcnn.random.key(0)",
        )
    return value


# --- shapes, checked in `init` ---------------------------------------------------------------------


def shape(value: object, axes: str) -> tuple[int, ...]:
    """A shape with the axes of, say, ``"N, C, H, W"``: ints of at least 0, -1 for any batch."""
    rank = axes.count(",") + 1
    if not isinstance(value, tuple) or not all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value
    ):
        refuse_type(f"`shape` must be a tuple of ints ({axes}), got {shown(value)}")
    if len(value) != rank:
        refuse(f"`shape` must have {rank} axes ({axes}), got {value}")
    if any(n < (-1 if axis == 0 else 1) for axis, n in enumerate(value)):
        refuse(f"`shape` must be positive (-1: any batch), got {value}")
    return tuple(map(int, value))


def any_shape(value: object, min_rank: int = 1) -> tuple[int, ...]:
    """A shape of any rank from `min_rank` up."""
    rank = max(min_rank, len(value) if isinstance(value, tuple) else min_rank)
    return shape(value, ", ".join(["N", *(["..."] * (rank - 1))]))


def sizes(value: object) -> tuple[int, ...]:
    """The shape of an array about to be made: a tuple of ints of at least 0, perhaps empty."""
    if not isinstance(value, tuple) or not all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value
    ):
        refuse_type(f"`shape` must be a tuple of ints, got {shown(value)}")
    if any(n < 0 for n in value):
        refuse(f"`shape` must not be negative, got {shown(value)}")
    if len(value) > 32 or prod(map(int, value)) >= 2**48 or max(value, default=0) >= 2**48:
        refuse(f"`shape` must have at most 32 axes and fewer than 2**48 numbers, got {shown(value)}")
    return tuple(map(int, value))


def float_dtype(value: object) -> np.dtype[Any]:
    """The dtype float32 or float64, under any name that NumPy knows."""
    return _dtype(value, "fd", "float32 or float64")


def integer_dtype(value: object) -> np.dtype[Any]:
    """An integer dtype, under any name that NumPy knows."""
    return _dtype(value, np.typecodes["AllInteger"], "an integer dtype")


def number_dtype(value: object) -> np.dtype[Any]:
    """A dtype of numbers or booleans, under any name that NumPy knows."""
    chars = np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"
    return _dtype(value, chars, "a dtype of numbers")


def _dtype(value: object, chars: str, words: str) -> np.dtype[Any]:
    """In the machine's own byte order, and the one object that NumPy keeps."""
    try:
        found: np.dtype[Any] | None = np.dtype(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, DeprecationWarning):  # the last of a name that was one
        found = None
    if value is None or found is None or found.char not in chars:
        refuse_type(f"`dtype` must be {words}, got {shown(value)}")
    return np.dtype(found.type)


# --- several inputs: their shapes in `init`, their arrays in `apply` ---------------------------------


def together(value: object, words: str, name: str = "x") -> tuple[Any, ...]:
    """A tuple with one thing for each of, say, ``"x, carry"``."""
    if not isinstance(value, tuple):
        refuse_type(f"`{name}` must be a tuple ({words}), got {type(value).__name__}")
    if len(value) != words.count(",") + 1:
        refuse(f"`{name}` must be a tuple ({words}), got {len(value)} things")
    return value


def exact_shape(found: Shape, wanted: Shape, name: str) -> None:
    """A shape that follows from the other inputs."""
    if found != wanted:
        refuse(f"`{name}` must have shape {wanted}, got {found}")


# --- arrays, checked in `apply` before any arithmetic ----------------------------------------------


def array(x: object, name: str = "x") -> Array:
    """A NumPy array, not something that could become one, nor one with an arithmetic of its own."""
    if type(x) is np.ndarray or isinstance(x, np.memmap):
        return x
    kind = type(x).__name__
    if isinstance(x, np.ndarray):
        write = f"{name}.filled(0)" if isinstance(x, np.ma.MaskedArray) else f"np.asarray({name})"
        refuse_type(f"`{name}` must be a plain NumPy array, got {kind}: write {write}")
    return refuse_type(f"`{name}` must be a NumPy array, got {kind}")


def floating(x: object, name: str = "x") -> Array:
    """An array of float32 or float64."""
    found = x if type(x) is np.ndarray else array(x, name)
    if found.dtype.char not in "fd" or not found.dtype.isnative:
        wanted = "float64" if found.dtype.char == "d" else "float32"
        refuse_type(
            f"`{name}` must be float32 or float64, got {found.dtype}: write {name}.astype(np.{wanted})",
        )
    return found


def ranked(x: object, axes: str, name: str = "x") -> Array:
    """A float array with the axes of, say, ``"N, C, H, W"``."""
    found = floating(x, name)
    rank = axes.count(",") + 1
    if found.ndim != rank:
        refuse(f"`{name}` must have {rank} axes ({axes}), got shape {found.shape}")
    if 0 in found.shape[1:]:
        _refuse_empty(found, name)
    return found


def any_ranked(x: object, min_rank: int = 1, name: str = "x") -> Array:
    """A float array of any rank from `min_rank` up."""
    found = floating(x, name)
    if found.ndim < min_rank:
        refuse(f"`{name}` must have at least {min_rank} axes, got shape {found.shape}")
    if 0 in found.shape[1:]:
        _refuse_empty(found, name)
    return found


def _refuse_empty(x: Array, name: str) -> NoReturn:
    refuse(f"`{name}` must not be empty beyond the batch, got shape {x.shape}")


def sized(x: Array, axis: int, size: int, word: str, name: str = "x") -> None:
    """An axis of the size that the parameters were made for."""
    if x.shape[axis] != size:
        refuse(f"`{name}` must have {size} {word}, got shape {x.shape}")


def same_dtype(
    x: Array, weight: Array, name: str = "x", like: str = "the parameters are", params: object = None
) -> None:
    """One dtype for the parameters and what they meet, or for two inputs.

    Where the parameters, all of which are `params`, are of two themselves, that is what is refused.
    """
    if x.dtype != weight.dtype:
        one_dtype(params)
        if isinstance(params, dict) and len(params) == 1:
            like = f"`{_at((*params,))}` is"
        refuse_type(
            f"`{name}` must be {weight.dtype} as {like}, got {x.dtype}: "
            f"write {name}.astype(np.{weight.dtype})",
        )


def integers(value: object, name: str) -> Array:
    """An array of integers."""
    found = array(value, name)
    if found.dtype.kind not in "iu":
        refuse_type(f"`{name}` must be integers, got {found.dtype}")
    return found


def weights(value: object) -> Array:
    """Booleans, or finite numbers of at least 0."""
    found = array(value, "weight")
    if found.dtype.kind not in "biuf":
        refuse_type(f"`weight` must be booleans or numbers, got {found.dtype}")
    if found.size:
        least, most = np.minimum.reduce(found, None), np.maximum.reduce(found, None)
        if not (least >= 0 and most < np.inf):
            refuse(f"`weight` must be finite and at least 0, got {most if least >= 0 else least}")
    return found


def labels(target: Array, classes: int, name: str = "target") -> Array:
    """Integer classes from 0 to ``classes - 1``."""
    if type(target) is not np.ndarray:
        array(target, name)
    if target.dtype.kind not in "iu":
        refuse_type(f"`{name}` must be integers, got {target.dtype}")
    if not target.size:
        return target
    flat = target.ravel("K")  # in the order of memory: `argmin` would copy what has another
    least, most = flat.item(flat.argmin()), flat.item(flat.argmax())  # in a third of the time of `min`
    if least < 0 or most >= classes:
        worst = least if least < 0 else most
        refuse(f"`{name}` must lie in 0..{classes - 1}, got {worst}")
    return target


def mask(value: object, name: str) -> Array:
    """Which steps count: flags, or a length for each sequence."""
    found = array(value, name)
    if found.dtype.kind not in "biu":
        kind = "integers" if name == "lengths" else "boolean"
        refuse_type(f"`{name}` must be {kind}, got {found.dtype}")
    if found.dtype.kind != "b" and found.ndim != 1:
        refuse(f"`{name}` must be boolean or have 1 axis (N), got {found.dtype} {found.shape}")
    return found


def counts(value: object, shape: tuple[int, int], name: str = "lengths") -> Array:
    """Which steps of ``(N, T)`` count: a flag for each step, or a length for each sequence."""
    found = mask(value, name)
    if found.dtype != np.bool_:
        labels(found, shape[1] + 1, name)
    exact_shape(found.shape, shape if found.dtype == np.bool_ else shape[:1], name)
    return found


def counts_shape(found: Shape, shape: tuple[int, ...], name: str = "lengths") -> Shape:
    """The same of a shape: two axes of flags, or one of lengths."""
    exact_shape(found, shape if len(any_shape(found)) > 1 else shape[:1], name)
    return found


# --- parameters ------------------------------------------------------------------------------------


def leaves(params: object, shapes: Mapping[str, tuple[int | None, ...]], *path: str) -> None:
    """A flat dict with just these arrays, all of one dtype; None in a shape stands for any size.

    The path leads to a dict inside the layer's parameters.
    """
    if not isinstance(params, dict):
        refuse_type(f"`{_at(path)}` must be a dict, got {type(params).__name__}")
    if params.keys() != shapes.keys():
        wanted, got = (", ".join(sorted(map(str, each))) for each in (shapes, params))
        refuse(f"`{_at(path)}` must hold {wanted or 'nothing'}, got {got or 'nothing'}")
    dtype: np.dtype[Any] | None = None
    for name, wanted_shape in shapes.items():
        leaf = params[name]
        if type(leaf) is not np.ndarray or leaf.dtype not in _FLOATS:
            leaf = floating(leaf, _at((*path, name)))
        if leaf.dtype is not dtype:
            if dtype is not None and leaf.dtype != dtype:
                one_dtype(params, *path)
            dtype = leaf.dtype
        if leaf.shape != wanted_shape and not _fits(leaf.shape, wanted_shape):
            shown = "(" + ", ".join("*" if n is None else str(n) for n in wanted_shape)
            shown += ",)" if len(wanted_shape) == 1 else ")"
            refuse(f"`{_at((*path, name))}` must have shape {shown}, got {leaf.shape}")


def one_dtype(params: object, *path: str) -> None:
    """Refuse parameters of two dtypes, by the name of one whose dtype fewer have."""
    places: dict[np.dtype[Any], list[str]] = {}
    inside = [(params, path)]
    while inside:
        part, at = inside.pop(0)
        if isinstance(part, dict):
            inside += [(part[name], (*at, name)) for name in part]
        elif isinstance(part, np.ndarray) and part.dtype in _FLOATS:
            places.setdefault(part.dtype, []).append(_at(at))
    if len(places) > 1:
        odd, usual = sorted(places, key=lambda dtype: (len(places[dtype]), dtype == np.float32))
        text = f"`{places[odd][0]}` must be {usual} as `{places[usual][0]}` is, got {odd}"
        refuse_type(text)


def _at(path: tuple[str, ...]) -> str:
    """How one writes a place in the parameters: ``params['forward']['weight_ih']``."""
    return "params" + "".join(f"[{name!r}]" for name in path)


@lru_cache(maxsize=1024)
def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    pairs = zip(wanted, shape, strict=False)
    return len(shape) == len(wanted) and all(want in (None, got) for want, got in pairs)


def inputs(params: object, shapes: Shapes, x: object, axes: str) -> Array:
    """Params with just these arrays, and an `x` with the axes of, say, ``"N, C, H, W"``, of one dtype.

    What is right takes one short way; `leaves`, `ranked` and `same_dtype` word what is wrong.
    """
    if type(x) is np.ndarray and x.dtype in _FLOATS and x.ndim == axes.count(",") + 1:
        dtype = x.dtype
        if type(params) is dict and params.keys() == shapes.keys() and 0 not in x.shape[1:]:
            for name, wanted in shapes.items():
                leaf = params[name]
                if type(leaf) is not np.ndarray or leaf.dtype != dtype:
                    break
                if leaf.shape != wanted and not _fits(leaf.shape, wanted):
                    break
            else:
                return x
    leaves(params, shapes)
    found = ranked(x, axes)
    for name in shapes:
        same_dtype(found, params[name], params=params)  # type: ignore[index]
    return found


def alone(params: object, x: object, min_rank: int = 1) -> Array:
    """No params, and an `x` of any rank from `min_rank` up."""
    if type(params) is not dict or params:
        leaves(params, {})
    if type(x) is np.ndarray and x.dtype in _FLOATS and x.ndim >= min_rank and 0 not in x.shape[1:]:
        return x
    return any_ranked(x, min_rank)


def children(params: object, names: Shape) -> dict[str, Any]:
    """A dict whose entries belong to children of this combinator, and to nobody else."""
    if not isinstance(params, dict):
        refuse_type(f"`params` must be a dict, got {type(params).__name__}")
    for name in params:
        if name not in names:
            refuse(
                f"`params` must belong to this network: it has no child {shown(name)}, "
                f"only {', '.join(names)}",
            )
    return params


# --- gradients, checked in `vjp` --------------------------------------------------------------------


def gradient(dout: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """A `dout` of the output's shape and dtype.

    Another shape could broadcast into a wrong number; another dtype, give a gradient that does not fit
    its parameter.
    """
    if type(dout) is np.ndarray and dout.shape == shape and dout.dtype == dtype:
        return
    floating(dout, "dout")
    if dout.dtype != dtype:
        refuse_type(
            f"`dout` must be {dtype} as the output is, got {dout.dtype}: write dout.astype(np.{dtype})",
        )
    if dout.shape != shape:
        refuse(f"`dout` must have the output's shape {shape}, got {dout.shape}")


def kept(cache: Any, name: str) -> Any:
    """What a combinator keeps under a name, which the cache of another network does not hold."""
    try:
        return cache[name]
    except (KeyError, IndexError, TypeError):  # also for what is no dict at all
        got = f"one without {name!r}" if isinstance(cache, dict) else type(cache).__name__
        refuse_type(f"`cache` must be what `apply` of this network has returned, got {got}")


def feature_axis(axis: int, rank: int) -> None:
    """An axis that exists and is not the batch's."""
    if not -rank < axis < rank or axis == 0:
        refuse(f"`axis` must name one of the axes 1..{rank - 1}, got {axis}")
