"""Networks as ONNX models: a walk over the layers, each of which adds its operators to one graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import chain, count
from os import PathLike
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from funcnn import checks, files, random, structure, tree
from funcnn.interop.onnx.exporting_graph import OPSET, Graph, Value, fixed, tensor
from funcnn.interop.onnx.exporting_layers import ELEMENTWISE, LINEAR
from funcnn.interop.onnx.exporting_pooling import POOLING
from funcnn.interop.onnx.exporting_sequences import SEQUENCES, taken
from funcnn.interop.onnx.exporting_shapes import NORMS, SHAPE, merged
from funcnn.types import Array, Layer, Params, Shape

__all__ = ["export"]

_LARGEST = 2**31 - 2**20  # bytes of numbers in one file: a message of protobuf has less than 2 GiB


@checks.named
def export(net: Layer[Any, Any], params: Params, shape: Shape, path: str | PathLike[str]) -> None:
    """Write a network as an ONNX model, as it is in inference.

    Parameters
    ----------
    net : Layer
        A layer, or a whole network.
    params : dict
        Its parameters, of float32 or float64.
    shape : Shape
        Of its input; or a tuple or dict of shapes for several. Whatever the batch, it is free in the
        model.
    path : str or os.PathLike
        Of the file.

    Raises
    ------
    ValueError, TypeError
        For a layer of your own, with its path; params that are not the network's, or take 2 GiB; and
        what the network refuses.

    Notes
    -----
    The model has inputs ``x``, or ``x/0``, ``x/1`` and so on for several, and outputs ``out`` in the
    same manner: floats in the dtype of the params (float32 where there are none), tokens and lengths
    in int64, masks as booleans. Its numbers have the paths of the params as names. Time steps are a
    free axis, too, where the layers allow; sizes that are equal in `shape` must then stay equal.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from funcnn import dense, random, relu, serial
    >>> net = serial(dense(3), relu())
    >>> _, params = net.init(random.key(0), (1, 4))
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "net.onnx"
    >>> export(net, params, (1, 4), file)
    >>> [node.name for node in onnx.load(file).graph.node]
    ['dense1/Gemm', 'relu1/Relu', 'out']
    """
    if not isinstance(net, Layer):
        checks.refuse_type(f"`net` must be a Layer, got {checks.shown(net)}")
    if not isinstance(params, dict):
        checks.refuse_type(f"`params` must be a dict, got {type(params).__name__}")
    path = files.checked_path(path)
    model = _with_free_steps(net, params, structure.with_batch(shape, -1))
    onnx.checker.check_model(model, full_check=True)
    files.write(path, model.SerializeToString())


# --- one graph for the whole ----------------------------------------------------------------------

_Built = tuple[Graph, Any, Any]


def _with_free_steps(net: Layer[Any, Any], params: Params, shape: Any) -> Any:
    """The model, with as many free axes as the layers allow."""
    free: dict[int, int] = {}
    built = _built(net, params, shape, shape)
    kinds = built[0].kinds
    for size in sorted({shape[axis] for _, shape, axis in _steps(kinds, shape)}):
        for other in (size + 1000, 1 if size > 1 else 2):  # `learned_positions` have an end
            try:
                tried = {**free, size: other}
                built = _built(net, params, shape, _resized(kinds, shape, tried))
            except checks.Refusal:
                continue
            free = tried
            break
    return _model(*built, free)


def _steps(kinds: dict[str, np.dtype[Any]], shape: Any) -> Iterator[tuple[str, Shape, int]]:
    """The axes that may be free: that of time, and of whatever is not of floats all but the batch."""
    for name, one in structure.each_shape(shape):
        last = len(one) if name in kinds else 2 if len(one) == 3 else 0
        yield from ((name, one, axis) for axis in range(1, last))


def _resized(kinds: dict[str, np.dtype[Any]], shape: Any, sizes: dict[int, int]) -> Any:
    places = {(name, axis) for name, _, axis in _steps(kinds, shape)}

    def other(name: str, one: Shape) -> Shape:
        return tuple(sizes.get(n, n) if (name, axis) in places else n for axis, n in enumerate(one))

    return structure.over_shapes(other, shape)


def _built(net: Layer[Any, Any], params: Params, shape: Any, other: Any) -> _Built:
    """A graph for two shapes of the input at once, what goes in and what comes out."""
    leaves = {path: checks.array(leaf, path) for path, leaf in tree.leaves(params)}
    for one in (shape, other):
        _fitting(leaves, dict(tree.leaves(net.init(random.NO_DRAW, one)[1])))
    dtypes = {leaf.dtype.newbyteorder("=") for leaf in leaves.values()} or {np.dtype(np.float32)}
    if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        got = " and ".join(sorted(map(str, dtypes)))
        checks.refuse_type(f"`params` must be of float32 or of float64, got {got}")
    size = sum(leaf.nbytes for leaf in leaves.values())
    if size > _LARGEST:
        checks.refuse(f"`params` must take less than 2 GiB for one file of ONNX, got {size} bytes")
    g = Graph(params, *dtypes)
    x = _values(structure.over_shapes(lambda name, one: name, shape), shape, other)
    return g, x, _child(g, structure.place_of(net).path, net, params, x, at=())


def _fitting(leaves: dict[str, Array], wanted: dict[str, Array]) -> None:
    for path in sorted({*leaves, *wanted}):
        shape, got = (part[path].shape if path in part else None for part in (wanted, leaves))
        if shape is None:
            checks.refuse(f"`params` must not have {tree.place(path)}, got shape {got}")
        if shape != got:
            words = f"{tree.place(path)} of shape {shape}"
            checks.refuse(f"`params` must have {words}, got {'none' if got is None else got}")


def _model(g: Graph, x: Any, out: Any, free: dict[int, int]) -> Any:
    """What is written: the graph with its inputs and outputs, all of which have names."""
    letters = chain("TS", (f"T{number}" for number in count(3)))
    names = dict(zip(free.items(), letters, strict=False))

    def info(name: str, value: Value) -> Any:
        pairs = enumerate(zip(*value.shapes, strict=True))
        sizes = [a if a == b else names.get((a, b), f"{name}/{axis}") for axis, (a, b) in pairs]
        kind = helper.np_dtype_to_tensor_dtype(g.kinds.get(value.name, g.dtype))
        return helper.make_tensor_value_info(name, kind, ["N", *sizes[1:]])

    outs = dict(_named("out", out))
    g.nodes += [helper.make_node("Identity", [one.name], [name], name) for name, one in outs.items()]
    graph = helper.make_graph(
        g.nodes, "funcnn", [info(name, one) for name, one in _named("x", x)],
        [info(name, one) for name, one in outs.items()],
        [tensor(name, value) for name, value in g.numbers.items()],
    )  # fmt: skip
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        graph, producer_name="funcnn", opset_imports=opset,
        ir_version=helper.find_min_ir_version_for(opset),
    )  # fmt: skip


# --- trees of values ------------------------------------------------------------------------------


def _values(names: Any, first: Any, second: Any) -> Any:
    """Values of a tree of names, or of values, and of two trees of shapes."""
    if isinstance(names, (str, Value)):
        return Value(names if isinstance(names, str) else names.name, (first, second))
    if isinstance(names, dict):
        return {name: _values(part, first[name], second[name]) for name, part in names.items()}
    return tuple(_values(*parts) for parts in zip(names, first, second, strict=True))


def _named(path: str, values: Any) -> Iterator[tuple[str, Value]]:
    """Each value of a tree with its path."""
    if isinstance(values, Value):
        yield path, values
        return
    for place, part in values.items() if isinstance(values, dict) else enumerate(values):
        yield from _named(f"{path}/{place}", part)


def _shapes(values: Any, which: int) -> Any:
    if isinstance(values, Value):
        return values.shapes[which]
    if isinstance(values, dict):
        return {name: _shapes(part, which) for name, part in values.items()}
    return tuple(_shapes(part, which) for part in values)


# --- layers ---------------------------------------------------------------------------------------

_RULES = {**ELEMENTWISE, **LINEAR, **POOLING, **SHAPE, **NORMS, **SEQUENCES}


def _child(
    g: Graph, name: tuple[str, ...], layer: Layer[Any, Any], params: Params, x: Any, at: Any = None
) -> Any:
    """A layer at its place; who refuses is named."""
    try:
        with g.inside(*(name if at is None else at)):
            g.enter(params)
            return _run(g, layer, params, x)
    except checks.Refusal as refusal:
        raise refusal.inside(*name) if name else refusal


def _run(g: Graph, layer: Layer[Any, Any], params: Params, x: Any) -> Any:
    """What a layer makes of the values of its input."""
    kind, inside = layer.spec.kind, structure.children(layer)
    if kind in ("named", "remat", "freeze", "inference_mode"):
        return _run(g, inside[0][1], params, x)
    if kind in ("tied", "weight_norm", "spectral_norm"):
        params = _inner_params(layer, inside[0][1], params)
        return _child(g, (), inside[0][1], params, x)
    if not layer.spec.build.__module__.startswith("funcnn.") or not (kind in _RULES or kind in _AROUND):
        checks.refuse(f"`net` must have layers that can be written as ONNX, got {checks.shown(layer)}")
    spec = layer.spec
    given = inspect.signature(spec.build).bind_partial(*spec.args, **spec.options).arguments
    options = SimpleNamespace(**given)
    if kind in _AROUND:
        runs = {name: _runner(g, name, child, params) for name, child in inside}
        names = _AROUND[kind](g, x, options, runs)
    else:
        names = _RULES[kind](g, x, options, params)
    shapes = (layer.init(random.NO_DRAW, _shapes(x, which))[0] for which in (0, 1))
    return _values(names, *shapes)


def _runner(g: Graph, name: str, child: Layer[Any, Any], params: Params) -> Callable[[Any], Any]:
    own = params.get(name, {}) if name else params
    return lambda x: _child(g, (name,) if name else (), child, own, x)


def _inner_params(layer: Layer[Any, Any], inner: Layer[Any, Any], params: Params) -> Params:
    """The parameters that a layer makes for the one inside it."""
    spy = inner._replace(apply=lambda params, x, *, key=None: (params, {}))
    found: Params = structure.remade(layer, (("", spy),)).apply(params, None)[0]
    return found


# --- layers of layers -----------------------------------------------------------------------------

_Runs = dict[str, Callable[[Any], Any]]


def _in_turn(g: Graph, x: Any, o: Any, runs: _Runs) -> Any:
    for run in runs.values():
        x = run(x)
    return x


def _added(g: Graph, a: Any, b: Any) -> Any:
    """Two trees, leaf by leaf."""
    if isinstance(a, Value):
        return g.Add(a, b)
    return tuple(_added(g, *pair) for pair in zip(a, b, strict=True))


def _residual(g: Graph, x: Any, o: Any, runs: _Runs) -> Any:
    body = {name: run for name, run in runs.items() if name != "shortcut"}
    return _added(g, _in_turn(g, x, o, body), runs.get("shortcut", lambda x: x)(x))


def _dense_connect(g: Graph, x: Value, o: Any, runs: _Runs) -> Any:
    for run in runs.values():
        new, axis = run(x), o.axis % x.rank
        first, second = (
            (*a[:axis], a[axis] + b[axis], *a[axis + 1 :])
            for a, b in zip(x.shapes, new.shapes, strict=True)
        )
        x = Value(g.Concat(x, new, axis=o.axis), (first, second))
    return x


def _share(g: Graph, x: Any, o: Any, runs: _Runs) -> Any:
    for _ in range(o.times):
        x = _in_turn(g, x, o, runs)
    return x


def _time_distributed(g: Graph, x: Value, o: Any, runs: _Runs) -> Any:
    (features,) = fixed(x, 2)
    rows = _in_turn(g, x.resized(g.Reshape(x, [-1, features]), features), o, runs)
    return g.reshape(rows, g.size(x, 0), g.size(x, 1), *fixed(rows))


def _bidirectional(g: Graph, x: Value, o: Any, runs: _Runs) -> Any:
    def reversed_(value: Value) -> Value:
        start = np.iinfo(np.int64).min
        return value._replace(name=g.Slice(value, [-1], [start], [1], [-1]))

    both = runs["forward"](x), reversed_(runs["backward"](reversed_(x)))
    return merged(g, both, o.merge, 2)


def _kept_context(g: Graph, x: Any, o: Any, runs: _Runs) -> Any:
    return _in_turn(g, taken(g, x, o.context)[0], o, runs), *x[1:]


def _graph(g: Graph, x: Any, o: Any, runs: _Runs) -> Any:
    values, last = {"x": x}, "x"
    for name, run in runs.items():
        values[name] = run(_wired(values, (o.wires or {}).get(name, last)))
        last = name
    return _wired(values, o.output or last)


def _wired(values: dict[str, Any], wire: Any) -> Any:
    """What a layer of a graph takes: a value by its name, a part of one, or a tuple of these."""
    if not isinstance(wire, str):
        return tuple(_wired(values, one) for one in wire)
    head, *parts = [wire] if wire in values else wire.split("/")
    found = values[head]
    for part in parts:
        found = found[part if isinstance(found, dict) else int(part)]
    return found


_AROUND: dict[str, Callable[[Graph, Any, Any, _Runs], Any]] = {
    "serial": _in_turn,
    "repeat": _in_turn,
    "share": _share,
    "graph": _graph,
    "residual": _residual,
    "dense_connect": _dense_connect,
    "parallel": lambda g, x, o, runs: merged(g, [run(x) for run in runs.values()], o.merge, o.axis),
    "branch": lambda g, x, o, runs: tuple(run(x) for run in runs.values()),
    "each": lambda g, x, o, runs: tuple(run(one) for run, one in zip(runs.values(), x, strict=True)),
    "time_distributed": _time_distributed,
    "bidirectional": _bidirectional,
    "keep_context": _kept_context,
    "residual_with_context": lambda g, x, o, runs: (g.Add(x[0], _in_turn(g, x, o, runs)), *x[1:]),
}
