"""The only place that words a refusal.

Every refusal reads ``who: `what` must ..., got ...``. A combinator puts the child's name in front on
the way out, so inside a network it reads ``lenet/conv2: `x` must ...``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any, NoReturn, TypeVar

import numpy as np

from funcnn.types import Array, Key, Shape

T = TypeVar("T")
Window = int | tuple[int, ...]


class Refusal(Exception):
    """What every refusal is, beside a `ValueError` or a `TypeError`: a kind, a path and a text."""

    def __init__(self, who: str, text: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(who, text, path)
        self.who, self.text, self.path = who, text, path

    def __str__(self) -> str:
        return f"{'/'.join(self.path) or self.who}: {self.text}"

    def inside(self, name: str) -> Refusal:
        """The same refusal, seen from the network that calls its child `name`."""
        self.path = (name, *self.path)
        self.args = (self.who, self.text, self.path)
        return self


class RefusedValue(Refusal, ValueError):
    """A value or a shape that cannot be."""


class RefusedType(Refusal, TypeError):
    """A thing of the wrong kind."""


def refuse(who: str, text: str) -> NoReturn:
    """Refuse a value or a shape."""
    raise RefusedValue(who, text)


def refuse_type(who: str, text: str) -> NoReturn:
    """Refuse a thing of the wrong kind."""
    raise RefusedType(who, text)


def shown(value: object) -> str:
    """What somebody gave, on one line of a message."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape}"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 100 and "\n" not in text else f"a {type(value).__name__}"


# --- options, checked once, when a layer is built -------------------------------------------------


def integer(who: str, name: str, value: object, minimum: int | None = None) -> int:
    """An int (never a bool), at least `minimum`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        refuse_type(who, f"`{name}` must be an int, got {shown(value)}")
    if minimum is not None and value < minimum:
        refuse(who, f"`{name}` must be at least {minimum}, got {value}")
    return int(value)


def integers(who: str, name: str, value: object, count: int, minimum: int = 0) -> tuple[int, ...]:
    """One int for each of `count` axes; a single int stands for all of them."""
    if isinstance(value, list):  # a spec that holds it would change with it
        text = f"`{name}` must be an int or a tuple of {count}, got {shown(value)}"
        refuse_type(who, f"{text}: write {tuple(value)}")
    if isinstance(value, tuple):
        if len(value) != count:
            refuse(who, f"`{name}` must be an int or {count} of them, got {shown(value)}")
        return tuple(integer(who, name, part, minimum) for part in value)
    return (integer(who, name, value, minimum),) * count


def number(
    who: str,
    name: str,
    value: object,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
) -> float:
    """A finite real number within bounds (`above` and `below` are exclusive)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        refuse_type(who, f"`{name}` must be a number, got {shown(value)}")
    real = float(value)
    bounds = (
        (minimum, operator.ge, "at least"),
        (above, operator.gt, "above"),
        (maximum, operator.le, "at most"),
        (below, operator.lt, "below"),
    )
    for bound, holds, word in bounds:
        if bound is not None and not holds(real, bound):
            refuse(who, f"`{name}` must be {word} {bound}, got {shown(value)}")
    if not math.isfinite(real):
        refuse(who, f"`{name}` must be finite, got {shown(value)}")
    return real


def choice(who: str, name: str, value: object, options: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in options:
        words = ", ".join(map(repr, options))
        refuse(who, f"`{name}` must be one of {words}, got {shown(value)}")
    return value


def boolean(who: str, name: str, value: object) -> bool:
    """True or False, nothing that merely looks like it."""
    if not isinstance(value, (bool, np.bool_)):
        refuse_type(who, f"`{name}` must be True or False, got {shown(value)}")
    return bool(value)


def instance(who: str, name: str, value: object, kind: type[T], words: str) -> T:
    """A thing of some kind, and not the function that makes one."""
    if not isinstance(value, kind):
        hint = f": write {value.__name__}()" if isinstance(value, FunctionType) else ""
        refuse_type(who, f"`{name}` must be {words}, got {shown(value)}{hint}")
    return value


def key(who: str, value: object) -> Key:
    """A key, and not the int it was meant to be made from."""
    if not isinstance(value, Key):
        refuse_type(
            who,
            f"`key` must be a funcnn Key, got {shown(value)}: write funcnn.random.key(0)",
        )
    return value


# --- shapes, checked in `init` ---------------------------------------------------------------------


def shape(who: str, value: object, axes: str) -> tuple[int, ...]:
    """A shape with the axes of, say, ``"N, C, H, W"``: ints of at least 0, -1 for any batch."""
    rank = axes.count(",") + 1
    if not isinstance(value, tuple) or not all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value
    ):
        refuse_type(who, f"`shape` must be a tuple of ints ({axes}), got {shown(value)}")
    if len(value) != rank:
        refuse(who, f"`shape` must have {rank} axes ({axes}), got {value}")
    if any(n < (-1 if axis == 0 else 1) for axis, n in enumerate(value)):
        refuse(who, f"`shape` must be positive (-1: any batch), got {value}")
    return tuple(map(int, value))


def any_shape(who: str, value: object, min_rank: int = 1) -> tuple[int, ...]:
    """A shape of any rank from `min_rank` up."""
    rank = max(min_rank, len(value) if isinstance(value, tuple) else min_rank)
    return shape(who, value, ", ".join(["N", *(["..."] * (rank - 1))]))


def sizes(who: str, value: object) -> tuple[int, ...]:
    """The shape of an array about to be made: a tuple of ints of at least 0, perhaps empty."""
    if not isinstance(value, tuple) or not all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value
    ):
        refuse_type(who, f"`shape` must be a tuple of ints, got {shown(value)}")
    if any(n < 0 for n in value):
        refuse(who, f"`shape` must not be negative, got {value}")
    return tuple(map(int, value))


def float_dtype(who: str, value: object) -> np.dtype[Any]:
    """The dtype float32 or float64, under any name that NumPy knows."""
    try:
        found: np.dtype[Any] | None = np.dtype(value)  # type: ignore[call-overload]
    except TypeError:
        found = None
    if found is None or value is None or found not in (np.float32, np.float64):
        refuse_type(who, f"`dtype` must be float32 or float64, got {shown(value)}")
    return found.newbyteorder("=")  # in the machine's own byte order


def integer_dtype(who: str, value: object) -> np.dtype[Any]:
    """An integer dtype, under any name that NumPy knows."""
    try:
        found: np.dtype[Any] | None = np.dtype(value)  # type: ignore[call-overload]
    except TypeError:
        found = None
    if found is None or found.kind not in "iu":
        refuse_type(who, f"`dtype` must be an integer dtype, got {shown(value)}")
    return found.newbyteorder("=")


# --- several inputs: their shapes in `init`, their arrays in `apply` ---------------------------------


def together(who: str, value: object, words: str, name: str = "x") -> tuple[Any, ...]:
    """A tuple with one thing for each of, say, ``"x, carry"``."""
    if not isinstance(value, tuple):
        refuse_type(who, f"`{name}` must be a tuple ({words}), got {type(value).__name__}")
    if len(value) != words.count(",") + 1:
        refuse(who, f"`{name}` must be a tuple ({words}), got {len(value)} things")
    return value


def exact_shape(who: str, found: Shape, wanted: Shape, name: str) -> None:
    """A shape that follows from the other inputs."""
    if found != wanted:
        refuse(who, f"`{name}` must have shape {wanted}, got {found}")


# --- arrays, checked in `apply` before any arithmetic ----------------------------------------------


def array(who: str, x: object, name: str = "x") -> Array:
    """A NumPy array, not something that could become one, nor one with an arithmetic of its own."""
    if type(x) is np.ndarray:
        return x
    if isinstance(x, np.memmap):
        return x
    if isinstance(x, np.ma.MaskedArray):
        kind = type(x).__name__
        refuse_type(who, f"`{name}` must be a plain NumPy array, got {kind}: write {name}.filled(0)")
    if isinstance(x, np.ndarray):
        kind = type(x).__name__
        refuse_type(who, f"`{name}` must be a plain NumPy array, got {kind}: write np.asarray({name})")
    refuse_type(who, f"`{name}` must be a NumPy array, got {type(x).__name__}")


def floating(who: str, x: object, name: str = "x") -> Array:
    """An array of float32 or float64."""
    found = array(who, x, name)
    if found.dtype.char not in "fd" or not found.dtype.isnative:
        wanted = "float64" if found.dtype.char == "d" else "float32"
        refuse_type(
            who,
            f"`{name}` must be float32 or float64, got {found.dtype}: "
            f"write {name}.astype(np.{wanted})",
        )
    return found


def ranked(who: str, x: object, axes: str, name: str = "x") -> Array:
    """A float array with the axes of, say, ``"N, C, H, W"``."""
    found = floating(who, x, name)
    rank = axes.count(",") + 1
    if found.ndim != rank:
        refuse(who, f"`{name}` must have {rank} axes ({axes}), got shape {found.shape}")
    if 0 in found.shape[1:]:
        _refuse_empty(who, found, name)
    return found


def any_ranked(who: str, x: object, min_rank: int = 1, name: str = "x") -> Array:
    """A float array of any rank from `min_rank` up."""
    found = floating(who, x, name)
    if found.ndim < min_rank:
        refuse(who, f"`{name}` must have at least {min_rank} axes, got shape {found.shape}")
    if 0 in found.shape[1:]:
        _refuse_empty(who, found, name)
    return found


def _refuse_empty(who: str, x: Array, name: str) -> NoReturn:
    refuse(who, f"`{name}` must not be empty beyond the batch, got shape {x.shape}")


def sized(who: str, x: Array, axis: int, size: int, word: str, name: str = "x") -> None:
    """An axis of the size that the parameters were made for."""
    if x.shape[axis] != size:
        refuse(who, f"`{name}` must have {size} {word}, got shape {x.shape}")


def same_dtype(
    who: str, x: Array, weight: Array, name: str = "x", like: str = "the parameters are"
) -> None:
    """One dtype for the parameters and what they meet, or for two inputs."""
    if x.dtype != weight.dtype:
        refuse_type(
            who,
            f"`{name}` must be {weight.dtype} as {like}, got {x.dtype}: "
            f"write {name}.astype(np.{weight.dtype})",
        )


def labels(who: str, target: Array, classes: int, name: str = "target") -> Array:
    """Integer classes from 0 to ``classes - 1``."""
    array(who, target, name)
    if target.dtype.kind not in "iu":
        refuse_type(who, f"`{name}` must be integers, got {target.dtype}")
    if not target.size:
        return target
    least, most = np.minimum.reduce(target, None), np.maximum.reduce(target, None)
    if least < 0 or most >= classes:
        worst = least if least < 0 else most
        refuse(who, f"`{name}` must lie in 0..{classes - 1}, got {worst}")
    return target


# --- parameters ------------------------------------------------------------------------------------


def leaves(who: str, params: object, shapes: Mapping[str, tuple[int | None, ...]]) -> None:
    """A flat dict with just these arrays, all of one dtype; None in a shape stands for any size."""
    if not isinstance(params, dict):
        refuse_type(who, f"`params` must be a dict, got {type(params).__name__}")
    if params.keys() != shapes.keys():
        wanted, got = ", ".join(sorted(shapes)) or "nothing", ", ".join(sorted(params))
        refuse(who, f"`params` must hold {wanted}, got {got or 'nothing'}")
    dtype: np.dtype[Any] | None = None
    for name, wanted_shape in shapes.items():
        leaf = params[name]
        if type(leaf) is not np.ndarray or leaf.dtype is not dtype:
            leaf = floating(who, leaf, f"params[{name!r}]")
            if dtype is not None and leaf.dtype != dtype:
                other = next(iter(shapes))
                refuse_type(
                    who,
                    f"`params[{name!r}]` must be {dtype} as `params[{other!r}]` is, got {leaf.dtype}",
                )
            dtype = leaf.dtype
        if leaf.shape != wanted_shape and not _fits(leaf.shape, wanted_shape):
            shown = "(" + ", ".join("*" if n is None else str(n) for n in wanted_shape)
            shown += ",)" if len(wanted_shape) == 1 else ")"
            refuse(who, f"`params[{name!r}]` must have shape {shown}, got {leaf.shape}")


@lru_cache(maxsize=1024)
def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    pairs = zip(wanted, shape, strict=False)
    return len(shape) == len(wanted) and all(want in (None, got) for want, got in pairs)


def children(who: str, params: object, names: Shape) -> dict[str, Any]:
    """A dict whose entries belong to children of this combinator, and to nobody else."""
    if not isinstance(params, dict):
        refuse_type(who, f"`params` must be a dict, got {type(params).__name__}")
    for name in params:
        if name not in names:
            refuse(
                who,
                f"`params` must belong to this network: it has no child {name!r}, "
                f"only {', '.join(names)}",
            )
    return params


# --- gradients, checked in `vjp` --------------------------------------------------------------------


def gradient(who: str, dout: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """A `dout` of the output's shape and dtype.

    Another shape could broadcast into a wrong number; another dtype, give a gradient that does not fit
    its parameter.
    """
    floating(who, dout, "dout")
    if dout.dtype != dtype:
        refuse_type(
            who,
            f"`dout` must be {dtype} as the output is, got {dout.dtype}: write dout.astype(np.{dtype})",
        )
    if dout.shape != shape:
        refuse(who, f"`dout` must have the output's shape {shape}, got {dout.shape}")


def kept(who: str, cache: Any, name: str) -> Any:
    """What a combinator keeps under a name, which the cache of another network does not hold."""
    try:
        return cache[name]
    except (KeyError, IndexError, TypeError):  # also for what is no dict at all
        got = f"one without {name!r}" if isinstance(cache, dict) else type(cache).__name__
        refuse_type(who, f"`cache` must be what `apply` of this network has returned, got {got}")


def feature_axis(who: str, axis: int, rank: int) -> None:
    """An axis that exists and is not the batch's."""
    if not -rank < axis < rank or axis == 0:
        refuse(who, f"`axis` must name one of the axes 1..{rank - 1}, got {axis}")
