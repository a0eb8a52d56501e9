"""One layer for all operators of ONNX that have no layer of their own here: `operator`."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from funcnn import checks, files, random, structure
from funcnn.checks import Integer, Whatever, declared, shown
from funcnn.initializers import normal
from funcnn.interop.onnx.loading_choices import CHOICES
from funcnn.interop.onnx.loading_contractions import CONTRACTIONS
from funcnn.interop.onnx.loading_elementwise import ONE, SEVERAL, Operator
from funcnn.interop.onnx.loading_moves import MOVES
from funcnn.interop.onnx.loading_sums import SUMS
from funcnn.types import Array, Cache, Key, Layer, Params, Shape

__all__ = ["operator", "weight"]

OPERATORS: dict[str, Operator] = {**ONE, **SEVERAL, **MOVES, **SUMS, **CHOICES, **CONTRACTIONS}
"""What each operator of ONNX computes."""

_LARGEST_KNOWN = 1 << 16  # numbers: those that shapes are made of are few


class Known(tuple[int, ...]):
    """A shape of an array whose numbers are known without it: sizes, and what is made of them."""

    value: Array

    @classmethod
    def of(cls, value: Array) -> Known:
        """The shape of an array, with it."""
        found = cls(value.shape)
        found.value = value
        return found


def dtypes_of(kind: str, attributes: Mapping[str, Any], given: list[str]) -> list[str]:
    """The types of numbers that an operator gives, the last one for all others, of what it takes."""
    if kind in ("Cast", "ConstantOfShape"):
        return [str(attributes["to" if kind == "Cast" else "dtype"])]
    words = OPERATORS[kind].dtype.split() or ["0"]
    return [given[int(word)] or "float32" if word.isdigit() else word for word in words]


@declared(
    kind=Whatever(), inputs=Integer(0), attributes=Whatever(), constants=Whatever(), takes=Whatever()
)
def operator(
    kind: str,
    *,
    inputs: int = 1,
    attributes: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    takes: Mapping[str, str] | None = None,
) -> Layer[Any, Any]:
    """An operator of ONNX as a layer without parameters.

    Parameters
    ----------
    kind : str
        Its name there: ``"Transpose"``.
    inputs : int, default 1
        How many inputs it has, constant ones included.
    attributes : mapping of str, optional
        As ONNX has them; what is left out has its default.
    constants : mapping of str, optional
        Under the places of inputs, ``"1"``, arrays that never change, or their dtype and numbers,
        ``("int64", (0, -1))``; or None for an input that is left out. Those of floats get the dtype of
        the first array.
    takes : mapping of str, optional
        Under the places of inputs of a network, their dtype where it is not of floats: for `export`.

    Returns
    -------
    Layer
        Of the other inputs: a tuple, unless there is one. With one output, or a tuple of them.

    Raises
    ------
    ValueError, TypeError
        For an operator or attribute that is not known, and inputs that it cannot take.

    Notes
    -----
    Forward and pullback: see ONNX's "Operator schemas". Integers and booleans have the gradient 0.
    `init` knows shapes alone: where sizes are computed from an input's shape, it needs a batch size.

    Examples
    --------
    >>> import numpy as np
    >>> layer = operator("Mul", inputs=2, constants={"1": ("float64", 2.0)})
    >>> layer.apply({}, np.array([1.0, 3.0]))[0]
    array([2., 6.])
    """
    if kind not in OPERATORS:
        checks.refuse(f"`kind` must be an operator that funcnn knows, got {shown(kind)}")
    of, given = OPERATORS[kind], dict(attributes or {})
    if unknown := given.keys() - of.attributes.keys():
        checks.refuse(f"`attributes` must be those of {kind}, got {shown(min(unknown))}")
    a = SimpleNamespace(**{**of.attributes, **given})
    fixed = constant_arrays(constants)
    free = [at for at in range(inputs) if at not in fixed]

    def placed(x: Any) -> list[Any]:
        """All inputs, or the shapes of some, in their places."""
        given = (x,) if len(free) == 1 else x
        if not isinstance(given, tuple) or len(given) != len(free):
            checks.refuse_type(f"`x` must be a tuple of {len(free)} arrays, got {shown(x)}")
        return [fixed.get(at) if at in fixed else given[free.index(at)] for at in range(inputs)]

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        sizes = placed(shape)
        for at in free:
            if not structure.is_shape(sizes[at]):
                checks.refuse_type(f"`shape` must be a tuple of ints, got {shown(sizes[at])}")
        batches = (2, 3) if any(isinstance(one, tuple) and -1 in one for one in sizes) else (1,)
        found = [_outcome(kind, of, a, sizes, batch) for batch in batches]
        return (found[0] if len(found) == 1 else _merged(found[0], found[1])), {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {})
        arrays = placed(x)
        for at in free:
            checks.array(arrays[at])
        floats = [arrays[at].dtype for at in free if arrays[at].dtype.kind == "f"]
        for at in fixed:
            if floats and arrays[at] is not None and arrays[at].dtype.kind == "f":
                arrays[at] = arrays[at].astype(floats[0])
        out = _computed(kind, of, a, arrays)
        return out, {"inputs": tuple(arrays), "out": out}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        arrays, out = cache["inputs"], cache["out"]
        found: tuple[Any, ...] = ()
        if of.pullback is not None and not isinstance(out, tuple) and out.dtype.kind == "f":
            checks.gradient(dout, out.shape, out.dtype)
        if of.pullback is not None and (isinstance(out, tuple) or out.dtype.kind == "f"):
            found = of.pullback(a, arrays, out, dout)
        d = [_gradient(arrays[at], found[at] if at < len(found) else None) for at in free]
        return {}, d[0] if len(free) == 1 else tuple(d)

    return Layer(init, apply, vjp)


@declared(shape=Whatever())
def weight(shape: tuple[int, ...]) -> Layer[Any, Any]:
    """Parameters that an operator takes as if they were an input.

    Parameters
    ----------
    shape : tuple of int
        Of the array.

    Returns
    -------
    Layer
        Without inputs, on the empty tuple; with params ``{"value": shape}``.

    Raises
    ------
    ValueError, TypeError
        For params of another shape.

    Notes
    -----
    Forward: ``y = value``. Pullback: ``dvalue = dy``.

    Examples
    --------
    >>> from funcnn import random
    >>> weight((2, 3)).init(random.key(0), ())[0]
    (2, 3)
    """
    draw = normal(0.02)

    def init(key: Key, given: Shape) -> tuple[Shape, Params]:
        return shape, {"value": draw(random.fold_in(checks.key(key), "value"), shape)}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        checks.leaves(params, {"value": shape})
        return params["value"], {"dtype": params["value"].dtype}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        checks.gradient(dout, shape, cache["dtype"])
        return {"value": dout}, ()

    return Layer(init, apply, vjp)


_FEW = 4096  # numbers of a constant that are kept as plain data


def plain(value: Array) -> Any:
    """A constant as plain data: its dtype and numbers; a large one as it is."""
    return (str(value.dtype), _tuples(value.tolist())) if 0 < value.size <= _FEW else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def constant_arrays(constants: Mapping[str, Any] | None) -> dict[int, Any]:
    """The constants of an operator by their places, as arrays."""
    return {
        int(at): np.array(value[1], value[0]) if isinstance(value, tuple) else value
        for at, value in (constants or {}).items()
    }


# --- what an operator gives -------------------------------------------------------------------------


_MISFITS = (ValueError, TypeError, IndexError, AttributeError, ZeroDivisionError, OverflowError)


def _computed(kind: str, of: Operator, a: Any, arrays: list[Any]) -> Any:
    """The output; what NumPy cannot do is refused."""
    try:
        with np.errstate(all="ignore"):
            out = of.forward(a, *arrays)
    except _MISFITS as error:
        if isinstance(error, checks.Refusal):
            raise
        sizes = [one.shape for one in arrays if one is not None]
        checks.refuse(
            f"the inputs must fit {kind}, got shapes {shown(sizes)}: {files.short(str(error), 99, 60)}"
        )
    return tuple(map(np.asarray, out)) if isinstance(out, tuple) else np.asarray(out)


def _outcome(kind: str, of: Operator, a: Any, sizes: list[Any], batch: int) -> Any:
    """The shape of the output, with its numbers if they follow from what is known."""
    arrays: list[Any] = []
    for at, one in enumerate(sizes):
        if one is None or isinstance(one, np.ndarray):
            arrays.append(one)
        elif isinstance(one, Known):
            arrays.append(one.value)
        else:
            if at in of.static:
                checks.refuse(f"input {at} must follow from shapes, as {kind} makes a shape of it")
            concrete = tuple(batch if size == -1 else size for size in one)
            try:
                arrays.append(np.broadcast_to(np.float32(0), concrete))
            except ValueError:
                checks.refuse(f"`x` must have a shape that an array can have, got {shown(one)}")
    known = [isinstance(one, (Known, np.ndarray)) or one is None for one in sizes]
    shape_op = kind in ("Shape", "Size") and -1 not in sizes[0]
    shape = None if of.shape is None else _computed_shape(kind, of, a, arrays)
    if (all(known) or shape_op) and (shape is None or prod(shape) <= _LARGEST_KNOWN):
        out = _computed(kind, of, a, arrays)
        if isinstance(out, tuple):
            return tuple(map(Known.of, out))
        return Known.of(out) if out.size <= _LARGEST_KNOWN else out.shape
    if shape is not None:
        return shape if of.outputs == 1 else (shape,) * of.outputs
    out = _computed(kind, of, a, arrays)
    return tuple(one.shape for one in out) if isinstance(out, tuple) else out.shape


def _computed_shape(kind: str, of: Operator, a: Any, arrays: list[Any]) -> tuple[int, ...]:
    assert of.shape is not None
    probe = of._replace(forward=lambda a, *inputs: np.array(of.shape(a, *inputs), np.int64))  # type: ignore[misc]
    shape = tuple(_computed(kind, probe, a, arrays).tolist())
    if any(size < 0 for size in shape) or prod(shape) >= 1 << 62:
        checks.refuse(f"{kind} must make an array that there can be, got shape {shown(shape)}")
    return shape


def _merged(one: Any, other: Any) -> Any:
    """The shapes for two batch sizes as one; what differs is free."""
    if one and isinstance(one[0], tuple):
        return tuple(_merged(*pair) for pair in zip(one, other, strict=True))
    return tuple(size if size == again else -1 for size, again in zip(one, other, strict=True))


def _gradient(x: Array, d: Any) -> Any:
    """In the dtype of the input; 0 for one that cannot be moved a little."""
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
    if d is None or x.dtype.kind != "f":
        return np.zeros(x.shape, dtype)
    return np.ascontiguousarray(d, dtype).reshape(x.shape)
