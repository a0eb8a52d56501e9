"""Builds a network out of the nodes of an ONNX model, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from funcnn import checks, combinators, files, random, structure, tree
from funcnn.checks import shown
from funcnn.combinators import time_distributed
from funcnn.interop.onnx import loading_files as reading
from funcnn.interop.onnx.loading_operators import OPERATORS, Known, dtypes_of, operator, plain, weight
from funcnn.interop.onnx.loading_rules import RULES
from funcnn.interop.onnx.loading_values import Missing, Node, Stored, Value, Wire
from funcnn.interop.onnx.loading_versions import as_inputs, settled
from funcnn.layers import dense, transpose
from funcnn.types import Layer, Params

Ref = str | tuple[str, ...]


class _Placed(NamedTuple):
    """A layer in its place: what it takes, its params, and the arrays of the file that these are."""

    layer: Layer[Any, Any]
    base: str
    takes: Ref
    params: Params
    sources: Mapping[str, str]


class Builder:
    """What is built so far; of each value it knows the shape for two sizes of the batch."""

    def __init__(self, folder: str, version: int) -> None:
        self.folder, self.version = folder, version
        self.values: dict[str, Value] = {}
        self.uses: Counter[str] = Counter()
        self._placed: dict[str, _Placed] = {}
        self._weights: dict[str, Wire] = {}

    def define(self, name: str, value: Value) -> None:
        """Give a value its name, which no other has."""
        if not name or name in self.values:
            checks.refuse(f"each value must have a name of its own, got {reading.unit(name)} twice")
        self.values[name] = value

    # --- nodes --------------------------------------------------------------------------------------

    def add(self, proto: Any) -> None:
        """Build what a node stands for; refusals name it."""
        name = proto.name or ", ".join(map(str, proto.output))  # bytes, if it is no text
        where = f"{reading.unit(proto.op_type)} node {reading.unit(name)}"
        try:
            found = self._outcome(proto)
        except checks.Refusal as refusal:
            checks.refuse(f"{where}: {files.short(str(refusal))}")
        except Exception as problem:  # a file may hold anything
            checks.refuse(f"{where} must be as ONNX says: {files.short(repr(problem))}")
        for name, value in zip(proto.output, found, strict=False):
            if name:
                self.define(name, value)
        if missing := [name for name in proto.output[len(found) :] if self.uses[name]]:
            checks.refuse(f"{where}: output {reading.unit(missing[0])} is not known here")

    def _outcome(self, proto: Any) -> list[Value]:
        """What a node gives: by a rule of its own, or as an operator."""
        if proto.domain not in ("", "ai.onnx", "ai.onnx.ml"):
            checks.refuse(f"the domain must be ONNX's own, got {reading.unit(proto.domain)}")
        if proto.op_type not in RULES and proto.op_type not in OPERATORS:
            checks.refuse("funcnn does not know this operator")
        for name in proto.input:
            if name and name not in self.values:
                checks.refuse(f"input {reading.unit(name)} must come from a node before this one")
        inputs = [self.values[name] if name else Missing() for name in proto.input]
        options = reading.attributes(proto, self.folder)
        used = [self.uses[name] > 0 for name in proto.output]
        alone = [self.uses[name] == 1 for name in proto.input]
        node = Node(self, proto.op_type, self.version, inputs, options, used, alone)
        as_inputs(node)
        found = RULES[node.kind](node) if node.kind in RULES else None
        if found is None:
            found = self._generic(node)
        node.finish()
        return found if isinstance(found, list) else [found]

    def _generic(self, node: Node) -> Value | list[Value]:
        """A node as an operator; with nothing but constants, its result."""
        if node.kind not in OPERATORS:
            checks.refuse("funcnn does not know this operator with such inputs")
        of, attributes = OPERATORS[node.kind], settled(node)
        constants, wires = {}, []
        for at, value in enumerate(node.inputs):
            given = of.dtype == "bool" or at in of.given
            fixed = node.stored(at) if given else node.const(at)
            if isinstance(value, Missing) or fixed is not None:
                constants[str(at)] = None if fixed is None else plain(fixed)
            else:
                wires.append(self.wire(value))
        layer = operator(node.kind, inputs=len(node.inputs), attributes=attributes, constants=constants)
        if not wires:
            out = layer.init(random.NO_DRAW, ())[0]
            several = out if isinstance(out, tuple) and out and isinstance(out[0], tuple) else (out,)
            if all(isinstance(one, Known) for one in several):
                return [Stored(one.value, "", False) for one in several]
        kinds = ["" if isinstance(one, Missing) else one.dtype for one in node.inputs]
        dtypes = dtypes_of(node.kind, node.options, kinds)
        made: Value | list[Value] = self.emit(layer, wires, dtype=dtypes, base=node.kind.lower())
        return made

    def wire(self, value: Value) -> Wire:
        """A value as something that a layer takes: an array of the file through a layer that has it."""
        if isinstance(value, Wire):
            return value
        assert isinstance(value, Stored)
        if not value.trainable:
            layer = operator("Identity", constants={"0": plain(value.array)})
            return self._one(layer, [], dtype=value.dtype, base="constant")
        if not value.name or value.name not in self._weights:
            own, sources = {"value": value.array}, {"value": value.name}
            self._weights[value.name] = self._one(
                weight(value.array.shape), [], params=own, sources=sources, dtype=value.dtype
            )
        return self._weights[value.name]

    def emit(
        self,
        layer: Layer[Any, Any],
        wires: list[Wire],
        *,
        params: Params | None = None,
        sources: Mapping[str, str] | None = None,
        dtype: str | list[str] = "",
        base: str = "",
    ) -> Any:
        """Put a layer behind what it takes; its output, or a list of them."""
        name = f"{base or layer.spec.kind}.{len(self._placed)}"
        asked = {str(at): one.dtype for at, one in enumerate(wires) if _head(one.ref) == "x"}
        if layer.spec.kind == "operator" and {*asked.values()} - {"float32", "float64"}:
            layer = operator(*layer.spec.args, **{**layer.spec.options, "takes": asked})
        alone = len(wires) == 1
        takes = wires[0].ref if alone else tuple(wire.ref for wire in wires)
        shapes = []
        for probe in (0, 1):
            given = tuple(wire.shapes[probe] for wire in wires)
            out, own = layer.init(random.NO_DRAW, given[0] if alone else given)
            shapes.append(out)
        _refuse_misfit(own, params or {})
        self._placed[name] = _Placed(layer, base or layer.spec.kind, takes, params or {}, sources or {})
        dtype = dtype or (wires[0].dtype if wires else "float32")
        kinds = [dtype] if isinstance(dtype, str) else dtype
        if structure.is_shape(shapes[0]):
            return Wire(name, tuple(shapes), kinds[0])
        pairs = enumerate(zip(*shapes, strict=True))
        return [Wire(f"{name}/{at}", pair, kinds[min(at, len(kinds) - 1)]) for at, pair in pairs]

    def _one(self, layer: Layer[Any, Any], wires: list[Wire], **options: Any) -> Wire:
        """The only output of a layer."""
        found = self.emit(layer, wires, **options)
        assert isinstance(found, Wire)
        return found

    def turned(self, wire: Wire) -> Wire:
        """Sequences with their last two axes the other way round; twice is nothing."""
        placed = self._placed.get(wire.ref)
        if placed is not None and repr(placed.layer) == "transpose(2, 1)":
            assert isinstance(placed.takes, str)
            return wire._replace(ref=placed.takes, shapes=tuple((n, b, a) for n, a, b in wire.shapes))
        return self._one(transpose(2, 1), [wire])

    def biased(self, wire: Wire, bias: Stored) -> Wire | None:
        """The same product with a bias, if it is one with a matrix of the file."""
        placed = self._placed.get(wire.ref)
        if placed is None or placed.layer.spec.kind not in ("dense", "time_distributed"):
            return None
        sequences = placed.layer.spec.kind == "time_distributed"
        spec = placed.layer.spec.children[0] if sequences else placed.layer.spec
        if (bias.array.size, *bias.array.shape[-1:]) != spec.args * 2 or spec.options["bias"]:
            return None
        layer = time_distributed(dense(*spec.args)) if sequences else dense(*spec.args)
        params = {**placed.params, "bias": bias.array.reshape(-1)}
        sources = {**placed.sources, "bias": bias.name}
        self._placed[wire.ref] = placed._replace(layer=layer, params=params, sources=sources)
        return wire

    # --- the whole ----------------------------------------------------------------------------------

    def network(self, outputs: list[str]) -> tuple[Layer[Any, Any], Params]:
        """All layers that lead to an output, under names of their kind and ordinal."""
        refs = tuple(self._output(name).ref for name in outputs)
        needed = set(map(_head, refs))
        for name, placed in reversed(self._placed.items()):
            if name in needed:
                needed |= {_head(ref) for ref in _each(placed.takes)}
        count: Counter[str] = Counter()
        names, layers, wires, before = {"x": "x"}, [], {}, "x"
        for name, placed in self._placed.items():
            if name not in needed:
                continue
            count[placed.base] += 1
            names[name] = f"{placed.base}{count[placed.base]}"
            layers.append((names[name], placed.layer))
            takes = _renamed(placed.takes, names)
            if takes != before:
                wires[names[name]] = takes
            before = names[name]
        output = _renamed(refs[0] if len(refs) == 1 else refs, names)
        params = {names[name]: self._placed[name].params for name in names if name != "x"}
        inside = _under_names(layers)
        if wires or output != before:
            net: Layer[Any, Any] = combinators.graph(*inside, wires=wires, output=output)
        else:
            net = combinators.serial(*inside)
        sources = {names[name]: self._placed[name].sources for name in names if name != "x"}
        return _tied(net, {name: own for name, own in params.items() if own}, sources)

    def _output(self, name: str) -> Wire:
        if name not in self.values:
            checks.refuse(f"output {reading.unit(name)} must come from a node")
        found = self.wire(self.values[name])
        if _head(found.ref) != "x":
            return found
        return self._one(operator("Identity"), [found], base="identity")


def _each(ref: Ref) -> tuple[str, ...]:
    return (ref,) if isinstance(ref, str) else ref


def _head(ref: str) -> str:
    return ref.partition("/")[0]


def _renamed(ref: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(ref, str):
        return tuple(_renamed(one, names) for one in ref)
    head, *parts = ref.split("/")
    return "/".join((names[head], *parts))


def _under_names(layers: list[tuple[str, Layer[Any, Any]]]) -> list[Layer[Any, Any]]:
    """Layers that a combinator gives these names."""
    seen: Counter[str] = Counter()
    found = []
    for name, layer in layers:
        kind = layer.spec.kind
        same = name == f"{kind}{seen[kind] + 1}"
        seen[kind] += same
        found.append(layer if same else combinators.named(name, layer))
    return found


def _refuse_misfit(own: Params, params: Params) -> None:
    wanted = {path: leaf.shape for path, leaf in tree.leaves(own)}
    got = {path: leaf.shape for path, leaf in tree.leaves(params)}
    if wanted != got:
        checks.refuse(f"its arrays must fit its input, shapes {shown(wanted)}, got {shown(got)}")


def _tied(
    net: Layer[Any, Any], params: Params, sources: Mapping[str, Mapping[str, str]]
) -> tuple[Layer[Any, Any], Params]:
    """One array of the file in several places is one leaf."""
    first: dict[str, str] = {}
    ties: dict[str, str] = {}
    leaves = dict(tree.leaves(params))
    for name, own in sources.items():
        for leaf, source in own.items():
            path = f"{name}/{leaf}"
            known = first.setdefault(source, path) if source else path
            same = leaves[known].shape == leaves[path].shape
            if known != path and same and not tree.is_statistic(leaf):
                ties[path] = known
    if not ties:
        return net, params
    return combinators.tied(net, ties=ties), tree.select(params, lambda path: path not in ties)
