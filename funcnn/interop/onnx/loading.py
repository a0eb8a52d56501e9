"""Networks out of ONNX models: `load`."""

from __future__ import annotations

import os
from os import PathLike
from typing import Any

from funcnn import checks, files
from funcnn.interop.onnx import loading_files as reading
from funcnn.interop.onnx.loading_building import Builder
from funcnn.interop.onnx.loading_operators import operator, weight
from funcnn.interop.onnx.loading_sequences import time_first
from funcnn.interop.onnx.loading_values import Stored, Wire
from funcnn.types import Layer, Params, Shape

__all__ = ["LAYERS", "load"]

LAYERS = (operator, weight, time_first)
"""Layers that only `load` makes: ``funcnn.load(path, allow=LAYERS)`` reads what `funcnn.save` wrote."""


@checks.named
def load(path: str | PathLike[str], *, shape: Shape | None = None) -> tuple[Layer[Any, Any], Params]:
    """A network and its parameters out of an ONNX model.

    Parameters
    ----------
    path : path
        The model; arrays that lie in other files must be in the same folder.
    shape : Shape, optional
        Of the input, or a tuple of those of several, -1 for a free batch axis, where the model leaves
        sizes open that matter.

    Returns
    -------
    tuple of Layer and dict
        The network, which takes the inputs of the model and gives its outputs, a tuple of them where
        there are several; and its parameters.

    Raises
    ------
    ValueError, TypeError
        For a file that is no such model, or is broken, and for what is not known here: the message
        names the operator, the node and the attribute.
    OSError
        For a file that cannot be opened.

    Notes
    -----
    A node that is a layer of this library becomes that layer; others become an operator without
    parameters, with a gradient. A chain is a `funcnn.serial`, anything else a `funcnn.graph`. Arrays
    of floats with at least one axis are parameters; scalars, integers and what comes from ``Constant``
    are constants. One array in several nodes is tied, see `funcnn.tied`.

    A node in training mode is refused: here a key asks for it. Opsets from 6 on are read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np, onnx
    >>> from onnx import helper, numpy_helper
    >>> w = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    >>> x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])
    >>> y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2])
    >>> nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "model.onnx"
    >>> onnx.save(helper.make_model(helper.make_graph(nodes, "small", [x], [y], [w])), file)
    >>> net, params = load(file)
    >>> net
    serial(dense(2, bias=False), relu())
    >>> net.apply(params, np.ones((1, 3), np.float32))[0]
    array([[3., 3.]], dtype=float32)
    """
    where = files.checked_path(path)
    model, folder = reading.model(where), os.path.dirname(os.path.abspath(where))
    with files.whole(where, "an ONNX model"):
        version, inputs = reading.opset(model), reading.inputs(model.graph, shape)
        arrays = [Stored.of(reading.array(one, folder), one.name) for one in model.graph.initializer]
        free = sorted(
            {size for one in inputs for size in one.sizes if isinstance(size, str)} - {"batch"}
        )
        refusals = []
        for pair in _TRIED if free else _TRIED[:1]:
            sizes = {name: [size + size // 2 * at for size in pair] for at, name in enumerate(free)}
            try:
                return _built(Builder(folder, version), model.graph, inputs, arrays, sizes)
            except checks.Refusal as refusal:
                refusals.append(refusal)
        raise refusals[0]


_TRIED = ((64, 96), (16, 24), (4, 6), (2, 3))
"""Pairs of sizes for axes that a model leaves free: what its nodes are must hold for both."""


def _built(
    builder: Builder,
    graph: Any,
    inputs: list[reading.Input],
    arrays: list[Stored],
    sizes: dict[str, list[int]],
) -> tuple[Layer[Any, Any], Params]:
    """The network, if it takes free axes of these sizes, and batches of 2 and 3."""
    both = {"batch": [2, 3], **sizes}
    for at, one in enumerate(inputs):
        shapes = tuple(
            tuple(both[size][probe] if isinstance(size, str) else size for size in one.sizes)
            for probe in (0, 1)
        )
        ref = "x" if len(inputs) == 1 else f"x/{at}"
        builder.define(one.name, Wire(ref, shapes, one.dtype))
    for array in arrays:
        builder.define(array.name, array)
    outputs = [one.name for one in graph.output]
    for node in graph.node:
        builder.uses.update(node.input)
    builder.uses.update(outputs)
    for node in graph.node:
        builder.add(node)
    return builder.network(outputs)
