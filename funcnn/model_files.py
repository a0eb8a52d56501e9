"""A network and its parameters in one file, without pickle: nothing in the file can run."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import numpy as np

from funcnn import (
    checkpoints,
    checks,
    combinators,
    files,
    initializers,
    layers,
)
from funcnn.initializers import Initializer
from funcnn.types import Layer, Params, Spec

__all__ = ["load", "save"]

_VERSION = 1
_ROOMS = (layers, combinators)
Node = dict[str, Any]


@checks.named
def save(path: str | PathLike[str], net: Layer[Any, Any], params: Params) -> None:
    """Write a network and its parameters to one file, for `load`.

    Parameters
    ----------
    path : path
        Where to; a file that is there is replaced, whole. See `funcnn.checkpoints.write_whole`.
    net : Layer
        The network. Layers of one's own must be made by functions at the top of a module.
    params : dict
        Its parameters.

    Raises
    ------
    TypeError
        For what is no network, or what `funcnn.checkpoints.save` refuses.
    ValueError
        For a network with options that are no plain data.
    OSError
        Where the file cannot be written; what was there before is untouched.

    Notes
    -----
    The file is a checkpoint, with the network as JSON beside the arrays: for each layer the name of
    its constructor, its arguments, options and layers. `funcnn.checkpoints.load` and `numpy.load`
    read the arrays as well.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from funcnn import dense, load, random, relu, save, serial
    >>> net = serial(dense(8), relu(), dense(2))
    >>> _, params = net.init(random.key(0), (1, 3))
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "net.npz"
    >>> save(file, net, params)
    >>> load(file)[0]
    serial(dense(8), relu(), dense(2))
    """
    where = files.checked_path(path)
    checks.Instance(Layer, "a layer").check("net", net)
    checkpoints.save(where, params, {"model": {"version": _VERSION, "net": _node(net.spec)}})


@checks.named
def load(
    path: str | PathLike[str], *, allow: tuple[Callable[..., Any], ...] = ()
) -> tuple[Layer[Any, Any], Params]:
    """Read back a network and its parameters.

    Parameters
    ----------
    path : path
        A file that `save` wrote.
    allow : tuple of callable, default ()
        Constructors of one's own that the file may name. No other code is run or imported.

    Returns
    -------
    tuple of Layer and dict
        The network, and its parameters.

    Raises
    ------
    ValueError
        For a file that is broken, of a newer version, no model, or with a layer that is not allowed.
    OSError
        For a file that cannot be opened.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from funcnn import dense, load, random, save
    >>> _, params = dense(2).init(random.key(0), (1, 3))
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "net.npz"
    >>> save(file, dense(2), params)
    >>> net, params = load(file)
    >>> net.apply(params, np.zeros((1, 3), np.float32))[0]
    array([[0., 0.]], dtype=float32)
    """
    where = files.checked_path(path)
    if not isinstance(allow, (tuple, list)) or not all(map(callable, allow)):
        checks.refuse_type(f"`allow` must be a tuple of functions, got {checks.shown(allow)}")
    params, meta = checkpoints.load(where)
    model = meta.get("model")
    if not isinstance(model, dict) or type(model.get("version")) is not int:
        files.refuse(where, "must hold a model: this file is another checkpoint")
    if not 1 <= model["version"] <= _VERSION:
        newer = f"got {model['version']}: a newer funcnn wrote it"
        files.refuse(where, f"must hold a model of version {_VERSION} or older, {newer}")
    with files.whole(where, "a model"):
        try:
            return _built(
                model.get("net"), _constructors() | {_place(own): own for own in allow}
            ), params
        except checks.Refusal as problem:
            raise ValueError(str(problem))


def _constructors() -> dict[str, Callable[..., Any]]:
    """Whatever builds a layer in this library, by its name."""
    return {name: getattr(room, name) for room in _ROOMS for name in room.__all__}


def _place(function: Callable[..., Any]) -> str:
    """Where a function can be imported from: ``package.module:name``."""
    return f"{function.__module__}:{function.__qualname__}"


# --- to JSON ------------------------------------------------------------------------------------------


def _node(spec: Spec) -> Node:
    name = spec.kind
    if _constructors().get(name) is not spec.build:
        name = _place(spec.build)
        if "<" in name or name == _place(Spec().build):
            checks.refuse(f"`net` must be made by functions at the top of a module, got {name}")
    return {
        "layer": name,
        "args": [_value(part) for part in spec.args],
        "options": {option: _value(part) for option, part in spec.options.items()},
        "layers": [_node(child) for child in spec.children],
    }


def _value(value: Any) -> Any:
    """An option as JSON; what JSON does not know, under the name of its kind."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is tuple:
        return {"tuple": [_value(part) for part in value]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _value(part) for key, part in value.items()}}
    if isinstance(value, Initializer):
        return {"initializer": _initializer(value)}
    return checks.refuse(f"`net` must have options that are plain data, got {checks.shown(value)}")


def _initializer(value: Initializer) -> Node:
    """The call that made an initializer of this library, as it prints."""
    try:
        call: Any = ast.parse(repr(value), mode="eval").body
        args = [ast.literal_eval(part) for part in call.args]
        options = {part.arg: ast.literal_eval(part.value) for part in call.keywords}
        name, same = call.func.id, _started(call.func.id, args, options) == value
    except (AttributeError, SyntaxError, ValueError, TypeError):
        same = False
    if not same:
        checks.refuse(f"`net` must have initializers of this library, got {checks.shown(value)}")
    return {"name": name, "args": _value(tuple(args)), "options": _value(options)}


def _started(name: str, args: Any, options: Any) -> Initializer:
    if name not in initializers.__all__ or name == "Initializer":
        raise ValueError(f"{name!r} is no initializer")
    made: Initializer = getattr(initializers, name)(*args, **options)
    return made


# --- and back -----------------------------------------------------------------------------------------


def _built(node: Any, known: Mapping[str, Callable[..., Any]]) -> Layer[Any, Any]:
    if not isinstance(node, dict) or node.keys() != {"layer", "args", "options", "layers"}:
        raise ValueError("it has a layer without a constructor, arguments, options and layers")
    name = node["layer"]
    if name not in known:
        allowed = f"write allow=({name.rpartition(':')[2]},)" if ":" in name else "is it newer?"
        raise ValueError(f"this funcnn does not know the layer {name!r}: {allowed}")
    args = [_plain(part) for part in node["args"]]
    options = {option: _plain(part) for option, part in node["options"].items()}
    made = known[name](*args, *(_built(child, known) for child in node["layers"]), **options)
    if not isinstance(made, Layer) or _node(made.spec) != node:
        raise ValueError(f"{name!r} does not build what it was")
    return made


def _plain(value: Any) -> Any:
    """An option again."""
    if not isinstance(value, dict):
        return value
    ((kind, part),) = value.items()
    if kind == "float":
        return float(part)
    if kind == "tuple":
        return tuple(map(_plain, part))
    if kind == "dict":
        return {key: _plain(inner) for key, inner in part.items()}
    if kind == "initializer":
        return _started(part["name"], _plain(part["args"]), _plain(part["options"]))
    raise ValueError(f"it has an option of the unknown kind {kind!r}")
