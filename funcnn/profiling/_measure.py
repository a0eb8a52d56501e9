"""What a network takes and keeps, found by running it."""

from __future__ import annotations

import pickle
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from itertools import combinations, islice, product
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics, random, tree
from funcnn.structure import Place, each_shape, over_shapes, place_of, statistics, watched, with_batch
from funcnn.types import Array, Cache, Key, Layer, Params, Shape

_LITTLE = 1 << 26  # bytes: a fraction of a second
_TRIES = 1_000  # kinds of input: those of six arrays


class Cost(NamedTuple):
    """Operations of a layer's own products, the bytes that it is the first to keep, and those of
    them that do not grow with the batch; None where a cache cannot be pickled.
    """

    flops: int
    kept: int | None
    fixed: int | None


class _Pass(NamedTuple):
    """What one pass has shown, by the places of layers."""

    flops: Counter[Place]
    kept: Counter[Place]
    knows_all: bool


def measure(net: Layer[Any, Any], params: Params, shape: Shape) -> dict[Place, Cost]:
    """What a training pass takes and keeps, layer by layer.

    It is run on 2 and on 3 examples: what they differ in is one example's. A batch that keeps little
    is run as it is, as kernels choose by its size the order of their results in memory.
    """
    params = tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    batch = each_shape(shape)[0][1][0]

    def run(size: int) -> _Pass:
        return _run_one_of(net, params, with_batch(shape, size))

    two, three = run(2), run(3)
    known = two.knows_all and three.knows_all

    def at(some: int, more: int, size: int) -> int:
        return some + (size - 2) * (more - some)

    kept = {place: at(two.kept[place], three.kept[place], batch) for place in two.flops}
    if sum(kept.values()) <= _LITTLE:
        with suppress(TypeError, ValueError):  # one example may have no statistics
            kept = run(batch).kept
    costs = {}
    for place, some in two.flops.items():
        flops, fixed = at(some, three.flops[place], batch), at(two.kept[place], three.kept[place], 0)
        costs[place] = Cost(flops, *(kept[place], fixed) if known else (None, None))
    return costs


def _run_one_of(net: Layer[Any, Any], params: Params, shape: Shape) -> _Pass:
    """A pass on whichever kind of input of this shape the network takes."""
    refusals: list[Exception] = []
    for x in islice(_inputs(shape), _TRIES):
        try:
            return _run(net, params, x)
        except (TypeError, ValueError) as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _inputs(shape: Shape) -> Iterator[Any]:
    """Inputs of a shape: of floats, or with integers or masks in some places, fewest first."""
    places = [place for place, _ in each_shape(shape)]
    for count in range(len(places) + 1):
        for some in combinations(places, count):
            for kinds in product("i?", repeat=count):
                yield over_shapes(partial(_input, dict(zip(some, kinds, strict=True))), shape)


def _input(kinds: dict[str, str], place: str, shape: Shape) -> Array:
    kind = kinds.get(place, "f")
    return np.full(shape, kind == "?", kind)  # zeros, or a mask in which everything counts


class _Piece(NamedTuple):
    """A piece of memory, which may be gone."""

    number: int
    bytes: int


class _Kept(NamedTuple):
    """What a layer keeps: it stands for its cache while the rest of the network runs."""

    place: Place
    pieces: dict[_Piece, None]
    statistics: Params | None  # None of a combinator, whose cache stays


class _Ledger:
    """All memory that a pass has met."""

    def __init__(self) -> None:
        self._met: list[tuple[weakref.ref[Array], _Piece]] = []
        self._last: dict[int, int] = {}  # by the address of an array, which another may have later
        self.knows_all = True

    def look(self, data: Any) -> tuple[dict[_Piece, None], list[_Kept]]:
        """The memory behind all arrays, wherever in some data, and what stands for caches.

        Pickling finds them.
        """
        pieces: dict[_Piece, None] = {}
        layers: list[_Kept] = []

        class Finder(pickle.Pickler):
            def persistent_id(finder, part: Any) -> str | None:
                if isinstance(part, _Kept):
                    layers.append(part)
                elif isinstance(part, np.ndarray):
                    pieces[self._piece(part)] = None
                else:
                    return None
                return ""

        try:
            Finder(BytesIO()).dump(data)
        except (pickle.PicklingError, AttributeError, TypeError):
            self.knows_all = False
        return pieces, layers

    def _piece(self, array: Array) -> _Piece:
        while isinstance(array.base, np.ndarray):
            array = array.base
        number = self._last.get(id(array))
        if number is None or self._met[number][0]() is not array:
            number = self._last[id(array)] = len(self._met)
            self._met.append((weakref.ref(array), _Piece(number, array.nbytes)))
        return self._met[number][1]


def _run(net: Layer[Any, Any], params: Params, x: Any) -> _Pass:
    """A pass in which each layer's cache is gone once it is looked at."""
    ledger, flops = _Ledger(), Counter[Place]()
    own: list[_Kept] = []  # of layers in the order in which they end, combinators after what is inside
    inside = [0]  # operations of the layers inside each layer that is running

    def see(place: Place, layer: Layer[Any, Any], made: Layer[Any, Any]) -> Layer[Any, Any]:
        def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
            before = counter.operations
            inside.append(0)
            out, cache = made.apply(params, x, key=key)
            spent = counter.operations - before
            flops[place] += spent - inside.pop()
            inside[-1] += spent
            new = None if layer.children else statistics(made, cache)
            own.append(_Kept(place, ledger.look(cache)[0], new))
            return out, cache if layer.children else own[-1]

        if layer.children:
            return made._replace(apply=apply, spec=layer.spec)
        return made._replace(apply=apply, spec=layer.spec, statistics=lambda kept: kept.statistics)

    with numerics.counting() as counter, np.errstate(all="ignore"):
        given, _ = ledger.look((params, x))
        _, cache = watched(net, see, place_of(net)).apply(params, x, key=random.key(0))
    left, alive = ledger.look(cache)
    for one in alive:
        left |= one.pieces
    for piece in given:
        left.pop(piece, None)
    kept: Counter[Place] = Counter()
    kept_too = set(map(id, alive))  # and not thrown away, as within `remat`
    for one in own:
        if one.statistics is None or id(one) in kept_too:
            for piece in one.pieces.keys() & left.keys():
                kept[one.place] += piece.bytes
                del left[piece]
    return _Pass(flops, kept, ledger.knows_all)
