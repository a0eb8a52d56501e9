"""A graph of ONNX while it grows: its nodes, its numbers, and the place where it grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import helper

from funcnn import checks, structure
from funcnn.types import Array, Layer, Params, Shape

OPSET = 22


@dataclass(frozen=True)
class Value:
    """An array in a graph: its name, and its shape for two sizes of each axis that is free."""

    name: str
    shapes: tuple[Shape, ...]

    @property
    def shape(self) -> Shape:
        """The sizes; -1 for an axis that is free."""
        return tuple(a if a == b else -1 for a, b in zip(*self.shapes, strict=True))

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.shapes[0])

    def turned(self, name: str, *axes: int) -> Value:
        """What has the same axes in another order."""
        return Value(name, tuple(tuple(shape[axis] for axis in axes) for shape in self.shapes))

    def resized(self, name: str, *sizes: int) -> Value:
        """What has the same batch, and other sizes behind it."""
        return Value(name, tuple((shape[0], *sizes) for shape in self.shapes))


class Graph:
    """Nodes and numbers. An operator is a method: ``g.Add(x, 1.0)`` is the name of what comes out.

    A number that is not a leaf of the params becomes one of the graph, in its dtype.
    """

    numpy: Any = np  # what makes leaves of others
    resizes = True  # images, by an operator of its own

    def __init__(self, params: Params, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.path: tuple[str, ...] = ()
        self.nodes: list[Any] = []
        self.numbers: dict[str, Array] = {}
        self.kinds: dict[str, np.dtype[Any]] = {}  # of what is not of floats
        self._leaves: dict[int, tuple[str, Array]] = {}
        self._count: dict[str, int] = {}
        self.enter(params)

    def __getattr__(self, operator: str) -> Any:
        if not operator[0].isupper():
            raise AttributeError(operator)
        return partial(self.add, operator)

    def add(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """A node: the name of what comes out, or those of several."""
        name = self._fresh(operator)
        outs = [name] if outputs == 1 else [f"{name}/{i}" for i in range(outputs)]
        names = [self._name(one) for one in inputs]
        self.nodes.append(helper.make_node(operator, names, outs, name, **attributes))
        return name if outputs == 1 else outs

    def enter(self, params: Params, *places: str) -> None:
        """Let the leaves of a layer have their paths as names."""
        for name, part in params.items():
            if isinstance(part, dict):
                self.enter(part, *places, name)
            elif id(part) not in self._leaves:
                self._leaves[id(part)] = ("/".join((*self.path, *places, name)), part)

    def leaf(self, name: str, value: Array) -> str:
        """A leaf in another form, under its own name."""
        return self._entered("/".join((*self.path, name)), value)

    def inner_params(self, layer: Layer[Any, Any], inner: Layer[Any, Any], params: Params) -> Params:
        """The parameters that a layer makes for the one inside it."""
        spy = inner._replace(apply=lambda params, x, *, key=None: (params, {}))
        found: Params = structure.remade(layer, (("", spy),)).apply(params, None)[0]
        return found

    def frozen(self, params: Params) -> Params:
        """Parameters that no training moves: the same, in a model of inference."""
        return params

    def still(self, x: Value) -> str:
        """A value behind which no gradient goes: the same, in a model of inference."""
        return x.name

    def exact(self, value: Array) -> str:
        """A number of the graph, in its own dtype; one that could pass for a parameter is a node."""
        name = self._fresh("number")
        if value.dtype.kind == "f" and value.ndim:
            self.nodes.append(helper.make_node("Constant", [], [name], name, value=tensor(name, value)))
        else:
            self.numbers[name] = value
        return name

    @contextmanager
    def inside(self, *names: str) -> Iterator[None]:
        """A layer inside the one where the graph grows now."""
        before, self.path = self.path, (*self.path, *names)
        try:
            yield
        finally:
            self.path = before

    def cast(self, x: Any, dtype: Any) -> Any:
        """The same numbers in another dtype."""
        return self.Cast(x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def steps(self, x: Value, axis: int = 1) -> Any:
        """The places ``0, 1, ...`` along an axis."""
        size = self.size(x, axis)
        return self.Range(0, self.Squeeze(size) if isinstance(size, str) else size, 1)

    def takes(self, x: Value, dtype: Any) -> Value:
        """An input, if it is one, that is not of floats."""
        self.marked(x.name, dtype)
        return x

    def marked(self, name: str, dtype: Any) -> str:
        """What is not of floats."""
        self.kinds[name] = np.dtype(dtype)
        return name

    def turned(self, x: Any) -> str:
        """``(N, T, F) -> (N, F, T)``, of the same dtype."""
        name = str(self.Transpose(x, perm=[0, 2, 1]))
        kind = self.kinds.get(x if isinstance(x, str) else x.name)
        return name if kind is None else self.marked(name, kind)

    def size(self, x: Value, axis: int) -> int | str:
        """The size of an axis: a number, or of a free one the name of it."""
        size = x.shape[axis]
        return str(self.Shape(x, start=axis, end=axis + 1)) if size < 0 else size

    def reshape(self, x: Any, *sizes: int | str) -> Any:
        """The same numbers in another shape; a size is a number, or comes from `size`."""
        free = [size for size in sizes if isinstance(size, str)]
        if len(free) > 1:
            return self.Reshape(x, self.Concat(*map(listed, sizes), axis=0))
        return self.Reshape(x, [-1 if isinstance(size, str) else size for size in sizes])

    def _fresh(self, name: str) -> str:
        whole = "/".join((*self.path, name))
        count = self._count[whole] = self._count.get(whole, 0) + 1
        return whole if count == 1 else f"{whole}{count}"

    def _name(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, (str, Value)):
            return value if isinstance(value, str) else value.name
        if id(value) in self._leaves:
            return self._entered(*self._leaves[id(value)])
        array = np.asarray(value)
        return self.exact(array.astype(self.dtype) if array.dtype.kind == "f" else array)

    def _entered(self, name: str, value: Array) -> str:
        """A number under a name; if another one has it already, under one like it."""
        count, found = 1, name
        while (there := self.numbers.setdefault(found, value)) is not value:
            if np.array_equal(there, value, equal_nan=True):
                break
            found = f"{name}{(count := count + 1)}"
        return found


def listed(size: int | str) -> Any:
    """A size as an array of one."""
    return size if isinstance(size, str) else [size]


def fixed(x: Value, *axes: int) -> tuple[int, ...]:
    """The sizes of axes, all of which must be known; of all but the batch, if none is named."""
    sizes = tuple(x.shape[axis] for axis in axes or range(1, x.rank))
    if -1 in sizes:
        checks.refuse(f"`x` must have fixed sizes, got {x.shape}")
    return sizes


def tensor(name: str, value: Array) -> Any:
    """An array as a graph holds it."""
    native = np.asarray(value, value.dtype.newbyteorder("="), order="C")
    return onnx.numpy_helper.from_array(native, name)
