"""Walks of a recurrent cell: in one or two directions, some on top of each other, with their carry."""

from __future__ import annotations

from itertools import product
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, random
from funcnn._kernels import recurrent as kernels
from funcnn._kernels.steps import counted
from funcnn.initializers import Initializer, uniform
from funcnn.types import Array, Cache, Key, Layer, Params, Shape, Spec


class Stack(NamedTuple):
    """Walks in one or two directions, some on top of each other, as the options say."""

    cell: kernels.Cell
    hidden: int
    layers: int
    both: bool
    backward: bool
    carried: bool
    ragged: bool
    bias: bool
    rate: float
    projection: int | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The features of each state."""
        return (self.projection or self.hidden, self.hidden)[: self.cell.states]

    @property
    def levels(self) -> list[tuple[str, ...]]:
        """The names at each level of the tree of parameters."""
        stacked = [tuple(f"layer{k + 1}" for k in range(self.layers))] * (self.layers > 1)
        return stacked + [("forward", "backward")] * self.both

    @property
    def walks(self) -> list[tuple[str, ...]]:
        """Those of every layer, in every direction: their paths in the tree."""
        return list(product(*self.levels))

    def shapes(self, walk: int, features: Any) -> dict[str, tuple[Any, ...]]:
        """The parameters of one walk."""
        rows, size = self.cell.gates * self.hidden, self.sizes[0]
        columns = features if walk <= self.both else (1 + self.both) * size
        found: dict[str, tuple[Any, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, size)}
        if self.bias:
            found |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        return found | {"weight_hr": (size, self.hidden)} if self.projection else found

    def states(self, carry: Any) -> tuple[Any, ...]:
        """The parts of a carry, which is one array or a pair of them."""
        return checks.together(carry, "h, c", "carry") if self.cell.states > 1 else (carry,)

    def parts(self, value: Any, name: str) -> tuple[Any, tuple[Any, ...], Any]:
        """The input, the states that it carries, and the lengths; or the shapes of all these."""
        words = ", ".join(["x", *["carry"] * self.carried, *["lengths"] * self.ragged])
        x, *rest = (value,) if words == "x" else checks.together(value, words, name)
        return x, self.states(rest[0]) if self.carried else (), rest[-1] if self.ragged else None

    def whole(self, out: Any, carry: tuple[Any, ...], *rest: Any) -> Any:
        """The other way round: one thing, or a tuple of several."""
        state = [carry if self.cell.states > 1 else carry[0]] if self.carried else []
        return (out, *state, *rest) if state or rest else out

    def leaves(self, params: Params, walk: int, features: int | None) -> Params:
        """The parameters of one walk, checked."""
        for names, part in zip(self.levels, self.walks[walk], strict=True):
            params = checks.children(params, names).get(part, {})
        checks.leaves(params, self.shapes(walk, features), *self.walks[walk])
        return params

    def checked_shape(self, shape: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        """The shapes of the input and of the states that it carries, if all fit together."""
        x, carry, lengths = self.parts(shape, "shape")
        batch, steps, features = checks.shape(x, "N, T, F")
        for size, state in zip(self.sizes, carry, strict=False):
            checked = checks.shape(state, "N, layers, H")
            checks.exact_shape(checked, (batch, len(self.walks), size), "carry")
        if self.ragged:
            checks.counts_shape(lengths, (batch, steps))
        return (batch, steps, features), carry

    def checked(self, params: Params, value: Any) -> tuple[list[Params], Any, tuple[Any, ...], Any]:
        """The parameters of each walk, and the parts of an input that fits them."""
        count = len(self.walks)
        owns = [self.leaves(params, 0, None)]
        features = owns[0]["weight_ih"].shape[1]
        owns += [self.leaves(params, k, features) for k in range(1, count)]
        x, carry, lengths = self.parts(value, "x")
        checks.ranked(x, "N, T, F")
        checks.sized(x, 2, features, "features")
        for own in owns:
            checks.same_dtype(x, own["weight_ih"], params=params)
        for size, state in zip(self.sizes, carry, strict=False):
            checks.ranked(state, "N, layers, H", "carry")
            checks.exact_shape(state.shape, (x.shape[0], count, size), "carry")
            checks.same_dtype(state, x, "carry", "`x` is")
        if self.ragged:
            checks.counts(lengths, x.shape[:2])
        return owns, x, carry or self.start(x.shape[0], x.dtype), lengths

    def start(self, batch: int, dtype: np.dtype[Any]) -> tuple[Array, ...]:
        """States of zeros."""
        return tuple(np.zeros((batch, len(self.walks), size), dtype) for size in self.sizes)

    def kept(self, key: Key | None, layer: int, x: Array) -> Array | None:
        """In training, factors of 0 and ``1 / (1 - rate)`` for what a layer gives to the next."""
        if key is None or not self.rate or layer == self.layers:
            return None
        drawn = random.bernoulli(random.fold_in(key, f"layer{layer}"), 1 - self.rate, x.shape)
        kept: Array = drawn * x.dtype.type(1 / (1 - self.rate))
        return kept

    def gradients(self, dout: Any, shape: Shape, dtype: np.dtype[Any]) -> tuple[Any, tuple[Array, ...]]:
        """Those of the output and of the states that it comes with, checked."""
        dcarry = self.start(shape[0], dtype)
        if self.carried:
            dout, dcarry = checks.together(dout, "out, carry", "dout")
            dcarry = self.states(dcarry)
        checks.gradient(dout, shape, dtype)
        for size, state in zip(self.sizes, dcarry, strict=True):
            checks.gradient(state, (shape[0], len(self.walks), size), dtype)
        return dout, dcarry


def recurrent(
    of: Stack, weight_init: Initializer | None, bias_init: Initializer | None
) -> Layer[Any, Any]:
    """A stack of walks in one or two directions, all with one kind of cell."""
    if of.both and of.backward:
        checks.refuse("`reverse` must be False where `bidirectional` is True, got True")
    if of.rate and of.layers == 1:
        checks.refuse(f"`rate` must be 0.0 for layers 1, got {of.rate}")
    start = uniform(1 / sqrt(of.hidden))
    draws = {"weight": weight_init or start, "bias": bias_init or start}
    walks, hidden, directions = of.walks, of.sizes[0], 1 + of.both

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        (batch, steps, features), carry = of.checked_shape(shape)
        checks.key(key)
        params: Params = {}
        for k, path in enumerate(walks):
            own = {}
            for name, leaf_shape in of.shapes(k, features).items():
                draw = draws[name.partition("_")[0]]
                own[name] = draw(random.fold_in(key, "/".join((*path, name))), leaf_shape)
            _enter(params, path, own)
        return of.whole((batch, steps, directions * hidden), carry), params

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        owns, x, carry, lengths = of.checked(params, x)
        counts = counted(lengths, x.shape[1]) if of.ragged else None
        last: tuple[Array, ...] = tuple(map(np.empty_like, carry))
        caches, drops, outs = list[Cache](), list[Any](), list[Array]()
        for k, own in enumerate(owns):
            first, reverse = tuple(state[:, k] for state in carry), of.backward or k % directions == 1
            out, final, cache = kernels.walk(of.cell, x, own, first, counts, reverse)
            for state, part in zip(last, final, strict=True):
                state[:, k] = part
            caches, outs = [*caches, cache], [*outs, out]
            if len(outs) == directions:
                x, outs = np.concatenate(outs, 2) if of.both else out, []
                drops.append(of.kept(key, len(drops) + 1, x))
                x = x if drops[-1] is None else x * drops[-1]
        cache = {"walks": caches, "drops": drops, "shape": x.shape, "dtype": x.dtype}
        return of.whole(x, last), {**cache, "lengths": np.shape(lengths)}

    def vjp(cache: Cache, dout: Any, of_input: bool = True) -> tuple[Params, Any]:
        dout, dcarry = of.gradients(dout, cache["shape"], cache["dtype"])
        dfirst, dparams, dxs = tuple(map(np.empty_like, dcarry)), Params(), list[Array]()
        for path in walks:  # in their order
            _enter(dparams, path, {})
        for k in reversed(range(len(walks))):
            place, reverse = k % directions * hidden, of.backward or k % directions == 1
            if not dxs and cache["drops"][k // directions] is not None:
                dout = dout * cache["drops"][k // directions]
            part, last = dout[:, :, place : place + hidden], tuple(state[:, k] for state in dcarry)
            wanted = of_input or k >= directions
            made = cache["walks"][k]
            down, dx, first = kernels.walk_gradients(of.cell, made, part, last, reverse, wanted)
            for state, dstate in zip(dfirst, first, strict=True):
                state[:, k] = dstate
            _enter(dparams, walks[k], {name: down[name] for name in of.shapes(k, 0)})
            dxs.append(dx)
            if len(dxs) == directions and wanted:
                dout, dxs = dxs[0] + dxs[1] if of.both else dx, []
        return dparams, of.whole(dout, dfirst, *[np.zeros(cache["lengths"], dout.dtype)] * of.ragged)

    spec = Spec(traits=frozenset({"walks", "stochastic"} if of.rate else {"walks"}))
    return Layer(init, apply, vjp, spec, lambda cache, dout: vjp(cache, dout, of_input=False)[0])


def _enter(tree: Params, path: tuple[str, ...], own: Params) -> None:
    """Put the parameters of one walk in their place."""
    for part in path:
        tree = tree.setdefault(part, {})
    tree.update(own)
