"""What the nodes of an ONNX model hand on: arrays of the file, and wires between layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks
from funcnn.checks import shown
from funcnn.interop.onnx.loading_files import unit
from funcnn.interop.onnx.loading_operators import Known
from funcnn.types import Array, Layer, Shape


class Wire(NamedTuple):
    """The output of a layer: what a graph calls it, its shape for two batch sizes, its dtype."""

    ref: str
    shapes: tuple[Shape, ...]
    dtype: str

    @property
    def rank(self) -> int:
        """How many axes it has."""
        return len(self.shapes[0])

    @property
    def known(self) -> tuple[Array, Array] | None:
        """Its numbers for both sizes, if they follow from shapes."""
        first, second = self.shapes
        if isinstance(first, Known) and isinstance(second, Known):
            return first.value, second.value
        return None

    @property
    def is_float(self) -> bool:
        """Whether it is of floats."""
        return self.dtype in ("float32", "float64")

    @property
    def is_layers(self) -> bool:
        """Whether a layer of this library takes it: floats, with an axis, and not empty."""
        return self.is_float and self.rank > 0 and 0 not in self.shapes[0]


_TURNED = "\0T"  # no name in a file has it at its end


def transposed(name: str) -> str:
    """The name of a transposed array of the file; of one without a name none."""
    return name.removesuffix(_TURNED) if name.endswith(_TURNED) else name and name + _TURNED


class Stored(NamedTuple):
    """An array that is known: of the file, under this name, or computed from such."""

    array: Array
    name: str
    trainable: bool

    @classmethod
    def of(cls, array: Array, name: str) -> Stored:
        """An array of the file: of floats with an axis, it is parameters."""
        return cls(array, name, array.dtype.kind == "f" and array.ndim > 0)

    @property
    def turned(self) -> Stored:
        """The transposed matrix, which is tied to others that are transposed."""
        return Stored(self.array.T, transposed(self.name), self.trainable)

    @property
    def dtype(self) -> str:
        """As a wire has it."""
        return str(self.array.dtype)


class Missing(NamedTuple):
    """An input that is left out."""


Value = Wire | Stored | Missing


@dataclass
class Node:
    """A node of the model while it is built: what it takes, and how to build it."""

    builder: Any
    kind: str
    version: int
    inputs: list[Value]
    options: dict[str, Any]
    used: list[bool]  # each output
    alone: list[bool]  # who takes each input
    read: set[str] = field(default_factory=set)  # of the attributes

    # --- attributes ---------------------------------------------------------------------------------

    def option(self, name: str, default: Any) -> Any:
        """An attribute, of the kind that the default has."""
        self.read.add(name)
        found = self.options.get(name, default)
        kind = type(default)
        if default is not None and type(found) is not kind:
            checks.refuse(f"attribute {name} must be a {kind.__name__}, got {shown(found)}")
        return found

    def axis(self, default: int) -> int:
        """The attribute of that name, an axis of the first input."""
        found, rank = self.option("axis", default), self.wire().rank
        if not -rank <= found < rank:
            checks.refuse(f"attribute axis must be one of {rank} axes, got {found}")
        return int(found)

    def only(self, name: str, *values: Any) -> None:
        """Refuse an attribute that is anything but what is done here."""
        self.read.add(name)
        if (got := self.options.get(name, values[0])) not in values:
            checks.refuse(f"attribute {name} must be {shown(values[0])}, got {shown(got)}")

    def finish(self) -> None:
        """Refuse attributes that nobody has read."""
        if unknown := sorted(self.options.keys() - self.read):
            checks.refuse(f"attribute {unit(unknown[0])} is not known here")

    # --- inputs -------------------------------------------------------------------------------------

    def has(self, at: int) -> bool:
        """Whether there is such an input."""
        return at < len(self.inputs) and not isinstance(self.inputs[at], Missing)

    def array(self, at: int) -> Array:
        """An input that must be an array of the file."""
        found = self.stored(at)
        if found is None:
            checks.refuse(f"input {at} must be an array in the file, and not computed")
        return found

    def stored(self, at: int) -> Array | None:
        """An input that is an array of the file, or follows from shapes alone; None if it is not."""
        value = self.inputs[at] if at < len(self.inputs) else None
        if isinstance(value, Stored):
            return value.array
        return self.const(at)

    def const(self, at: int) -> Array | None:
        """An input that is known and no parameter."""
        value = self.inputs[at] if at < len(self.inputs) else None
        if isinstance(value, Stored):
            return None if value.trainable else value.array
        if isinstance(value, Wire) and value.known is not None:
            first, second = value.known
            if first.shape == second.shape and np.array_equal(first, second):
                return first
        return None

    def values(self, at: int) -> tuple[Array, Array] | None:
        """An input that is known for each of the two batch sizes."""
        value = self.inputs[at]
        if isinstance(value, Wire) and value.known is not None:
            return value.known
        return None if (found := self.const(at)) is None else (found, found)

    def source(self, at: int) -> str:
        """The name of an array in the file."""
        value = self.inputs[at]
        return value.name if isinstance(value, Stored) else ""

    def wire(self, at: int = 0) -> Wire:
        """An input that a layer takes."""
        if not self.has(at):
            checks.refuse(f"input {at} must be there")
        found: Wire = self.builder.wire(self.inputs[at])
        return found

    def takes_floats(self, *places: int) -> bool:
        """Whether these inputs, by default the first, are wires of floats."""
        found = [self.inputs[at] if at < len(self.inputs) else None for at in places or (0,)]
        return all(isinstance(one, Wire) and one.is_layers for one in found)

    # --- outputs ------------------------------------------------------------------------------------

    def emit(self, layer: Layer[Any, Any], *wires: Wire, **options: Any) -> Any:
        """Put a layer behind the first input, or behind these wires."""
        return self.builder.emit(layer, list(wires) or [self.wire()], **options)
