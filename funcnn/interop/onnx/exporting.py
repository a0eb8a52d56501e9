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
from funcnn.interop.onnx.exporting_around import AROUND
from funcnn.interop.onnx.exporting_graph import OPSET, Graph, Value, tensor
from funcnn.interop.onnx.exporting_layers import ELEMENTWISE, LINEAR
from funcnn.interop.onnx.exporting_operators import LOADED
from funcnn.interop.onnx.exporting_pooling import POOLING
from funcnn.interop.onnx.exporting_recurrent import RECURRENT
from funcnn.interop.onnx.exporting_sequences import SEQUENCES
from funcnn.interop.onnx.exporting_shapes import NORMS, SHAPE
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
    net.init(random.NO_DRAW, shape)  # which refuses what is no shape of an input
    model = _of_any_batch(net, params, shape)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as problem:  # of two kinds, one of which it does not show
        checks.refuse(f"`net` must make a valid model: {files.short(str(problem), 150, 60)}")
    files.write(path, model.SerializeToString())


# --- one graph for the whole ----------------------------------------------------------------------

_Built = tuple[Graph, Any, Any]


def _of_any_batch(net: Layer[Any, Any], params: Params, shape: Any) -> Any:
    """The model, for any batch unless a network out of another model has one inside it."""
    two, three = (structure.with_batch(shape, size) for size in (2, 3))  # what differs is free
    try:
        return _with_free_steps(net, params, two, three)
    except checks.RefusedValue:
        try:
            return _with_free_steps(net, params, shape, shape)
        except checks.Refusal:
            pass
        raise


def _with_free_steps(net: Layer[Any, Any], params: Params, shape: Any, other_batch: Any) -> Any:
    """The model, with as many free axes as the layers allow."""
    free: dict[int, int] = {}
    built = _built(net, params, shape, other_batch)
    kinds = built[0].kinds
    for size in sorted({shape[axis] for _, shape, axis in _steps(kinds, shape)}):
        for other in (size + 1000, 1 if size > 1 else 2):  # `learned_positions` have an end
            try:
                tried = {**free, size: other}
                built = _built(net, params, shape, _resized(kinds, other_batch, tried))
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
        fitting(leaves, dict(tree.leaves(net.init(random.NO_DRAW, one)[1])))
    dtypes = {leaf.dtype.newbyteorder("=") for leaf in leaves.values()} or {np.dtype(np.float32)}
    if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        got = " and ".join(sorted(map(str, dtypes)))
        checks.refuse_type(f"`params` must be of float32 or of float64, got {got}")
    size = sum(leaf.nbytes for leaf in leaves.values())
    if size > _LARGEST:
        checks.refuse(f"`params` must take less than 2 GiB for one file of ONNX, got {size} bytes")
    g = Graph(params, *dtypes)
    return g, *grown(g, net, params, shape, other)


def grown(g: Graph, net: Layer[Any, Any], params: Params, shape: Any, other: Any) -> tuple[Any, Any]:
    """A network in a graph: what goes in, for two shapes at once, and what comes out."""
    x = _values(structure.over_shapes(lambda name, one: name, shape), shape, other)
    return x, _child(g, structure.place_of(net).path, net, params, x, at=())


def fitting(leaves: dict[str, Array], wanted: dict[str, Array]) -> None:
    """Refuse leaves that are not of these names and shapes."""
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
        batch = {0: "N"}
        sizes = [
            a if a == b else batch.get(axis) or names.get((a, b), f"{name}/{axis}")
            for axis, (a, b) in pairs
        ]
        kind = helper.np_dtype_to_tensor_dtype(g.kinds.get(value.name, g.dtype))
        return helper.make_tensor_value_info(name, kind, sizes)

    outs = dict(named("out", out))
    g.nodes += [helper.make_node("Identity", [one.name], [name], name) for name, one in outs.items()]
    graph = helper.make_graph(
        g.nodes, "funcnn", [info(name, one) for name, one in named("x", x)],
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


def named(word: str, values: Any) -> list[tuple[str, Any]]:
    """Each value of a tree with its path, which begins with a word."""
    return [(f"{word}/{path}" if path else word, value) for path, value in tree.items(values)]


# --- layers ---------------------------------------------------------------------------------------

_RULES = {
    **ELEMENTWISE, **LINEAR, **POOLING, **SHAPE, **NORMS, **SEQUENCES, **RECURRENT, **LOADED,
}  # fmt: skip


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
        return _run(g, inside[0][1], g.frozen(params) if kind == "freeze" else params, x)
    if kind in ("tied", "weight_norm", "spectral_norm"):
        return _child(g, (), inside[0][1], g.inner_params(layer, inside[0][1], params), x)
    if not layer.spec.build.__module__.startswith("funcnn.") or not (kind in _RULES or kind in AROUND):
        checks.refuse(f"`net` must have layers that can be written as ONNX, got {checks.shown(layer)}")
    spec = layer.spec
    given = inspect.signature(spec.build).bind_partial(*spec.args, **spec.options).arguments
    options = SimpleNamespace(**given, inside=spec.children)
    if kind in AROUND:
        runs = {name: _runner(g, name, child, params) for name, child in inside}
        names = AROUND[kind](g, x, options, runs)
    else:
        names = _RULES[kind](g, x, options, params)
    shapes = (tree.map(lambda value, at=at: value.shapes[at], x) for at in (0, 1))
    return _values(names, *(layer.init(random.NO_DRAW, shape)[0] for shape in shapes))


def _runner(g: Graph, name: str, child: Layer[Any, Any], params: Params) -> Callable[[Any], Any]:
    own = params.get(name, {}) if name else params
    return lambda x: _child(g, (name,) if name else (), child, own, x)
