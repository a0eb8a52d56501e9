"""A network and its parameters in one file, without pickle: nothing in the file can run."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from os import PathLike
from typing import Any

import numpy as np

from funcnn import checkpoints, checks, combinators, files, initializers, layers, structure, tree
from funcnn.initializers import Initializer
from funcnn.types import Layer, Params, Spec

__all__ = ["load", "save"]

_VERSION = 1
_ROOMS = (layers, combinators)
_MOST = 10_000  # layers: each takes a call or two to build, however few bytes ask for it
_COPIES = ("times", "layers")  # options that say how often a layer is built
_OTHERWISE = {"tied", "weight_norm", "spectral_norm"}  # whose layers have params that these make
Node = dict[str, Any]


@checks.takes(net=checks.NET)
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
        For a network of more than 10,000 layers or with options that are no plain data, and for
        parameters that do not fit it.
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
    node = _node(net.spec)
    if (count := _count(node)) > _MOST:
        checks.refuse(f"`net` must have at most {_MOST} layers, got {count}")
    if isinstance(params, dict) and (misfit := _misfit(net, params)):
        checks.refuse(f"`params` must fit `net`: {misfit}")
    checkpoints.save(where, params, {"model": {"version": _VERSION, "net": node}})


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
        For a file that is broken, of a newer version, no model, with a layer that is not allowed,
        more than 10,000 layers, or parameters that do not fit the network.
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
    if not isinstance(allow, (tuple, list)) or not all(
        callable(own) and hasattr(own, "__qualname__") for own in allow
    ):
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
            if (count := _count(model.get("net"))) > _MOST:
                raise ValueError(f"it has {files.short(str(count))} layers, more than {_MOST}")
            net = _built(model["net"], _constructors() | {_place(own): own for own in allow})
        except checks.Refusal as problem:
            raise ValueError(str(problem))
        if misfit := _misfit(net, params):
            raise ValueError(f"its parameters do not fit its network: {misfit}")
    return net, params


@cache
def _constructors() -> dict[str, Callable[..., Any]]:
    """Whatever builds a layer in this library, by its name."""
    return {name: getattr(room, name) for room in _ROOMS for name in room.__all__}


def _place(function: Callable[..., Any]) -> str:
    """Where a function can be imported from: ``package.module:name``."""
    return f"{function.__module__}:{function.__qualname__}"


# --- to JSON ------------------------------------------------------------------------------------------


def _node(spec: Spec) -> Node:
    return {**_call(spec), "layers": [_node(child) for child in spec.children]}


def _call(spec: Spec) -> Node:
    """The constructor of a layer, and what it was given beside layers."""
    name = spec.kind
    if _constructors().get(name) is not spec.build:
        name = _place(spec.build)
        if "<" in name or name == _place(Spec().build):
            checks.refuse(f"`net` must be made by functions at the top of a module, got {name}")
    return {
        "layer": name,
        "args": [_value(part) for part in spec.args],
        "options": {option: _value(part) for option, part in spec.options.items()},
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
    with suppress(AttributeError, SyntaxError, ValueError, TypeError):
        call: Any = ast.parse(repr(value), mode="eval").body
        name, args = call.func.id, [ast.literal_eval(part) for part in call.args]
        options = {part.arg: ast.literal_eval(part.value) for part in call.keywords}
        if _started(name, args, options) == value:
            return {"name": name, "args": _value(tuple(args)), "options": _value(options)}
    return checks.refuse(f"`net` must have initializers of this library, got {checks.shown(value)}")


def _started(name: str, args: Any, options: Any) -> Initializer:
    if name not in vars(initializers)["__all__"] or name == "Initializer":
        raise ValueError(f"{checks.shown(name)} is no initializer")
    made: Initializer = getattr(initializers, name)(*args, **options)
    return made


# --- and back -----------------------------------------------------------------------------------------


def _count(node: Any) -> int:
    """How many layers a node describes, itself and all copies included."""
    if not isinstance(node, dict) or node.keys() != {"layer", "args", "options", "layers"}:
        raise ValueError("it has a layer without a constructor, arguments, options and layers")
    copies = [node["options"].get(name) for name in _COPIES]
    times = math.prod(n for n in copies if type(n) is int and n > 0)
    inside = sum(map(_count, node["layers"]))
    return 1 + times * inside if inside else times


def _built(node: Node, known: Mapping[str, Callable[..., Any]]) -> Layer[Any, Any]:
    name = node["layer"]
    if name not in known:
        allowed = f"write allow=({name.rpartition(':')[2]},)" if ":" in name else "is it newer?"
        raise ValueError(f"this funcnn does not know the layer {checks.shown(name)}: {allowed}")
    args = [_plain(part) for part in node["args"]]
    options = {option: _plain(part) for option, part in node["options"].items()}
    inside = [_built(child, known) for child in node["layers"]]
    made = known[name](*args, *inside, **options)
    if (
        not isinstance(made, Layer)
        or not _is_call(made.spec, node)
        or made.spec.children != tuple(child.spec for child in inside)
    ):
        raise ValueError(f"{checks.shown(name)} does not build what it was")
    return made


def _is_call(spec: Spec, node: Node) -> bool:
    """Whether a node says how a layer is built; options that came later have their defaults."""
    call = _call(spec)
    options = {name: value for name, value in call["options"].items() if name in node["options"]}
    return {**call, "options": options, "layers": node["layers"]} == node


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
    raise ValueError(f"it has an option of the unknown kind {checks.shown(kind)}")


# --- parameters and network ---------------------------------------------------------------------------


def _misfit(net: Layer[Any, Any], params: Params) -> str:
    """What a layer of this library says of parameters that it refuses whatever its input; or nothing.

    Each layer is given what cannot be an input: most check their parameters before they look at it,
    and none begins to compute.
    """
    try:
        ones = tree.map(_ones, params)
    except checks.Refusal:
        return ""  # it is no tree, as `checkpoints.save` says
    todo: list[tuple[tuple[str, ...], Layer[Any, Any], Any]] = [((), net, ones)]
    while todo:
        path, layer, own = todo.pop()
        kind = layer.spec.kind
        if _constructors().get(kind) is not layer.spec.build:
            continue  # of the user's own
        try:
            with np.errstate(all="ignore"):
                layer.apply(own, object())
        except checks.Refusal as problem:
            if problem.text.startswith("`params"):
                return ": ".join(filter(None, ["/".join((*path, *problem.path)), problem.text]))
        except Exception:
            pass  # a layer of the user's own, inside of this one, looked at the input
        if kind not in _OTHERWISE and isinstance(own, dict):
            for name, child in reversed(structure.children(layer)):
                below = (*path, name) if name else path
                todo.append((below, child, own.get(name, {}) if name else own))
    return ""


def _ones(leaf: Any) -> Any:
    """An array of a parameter's shape that takes no memory, of the dtype in which layers compute."""
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f":
        return np.broadcast_to(np.float32(1), leaf.shape)
    return leaf
