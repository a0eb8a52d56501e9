"""What a network takes and keeps, found by running it."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from funcnn import numerics, random, tree
from funcnn.structure import Place, each_shape, over_shapes, place_of, watched, with_batch
from funcnn.types import Cache, Key, Layer, Params, Shape

_LITTLE = 1 << 26  # bytes: a fraction of a second


class Cost(NamedTuple):
    """Operations of a layer's own products, the bytes that it is the first to keep, and those of
    them that do not grow with the batch; None where a cache cannot be pickled.
    """

    flops: int
    kept: int | None
    fixed: int | None


_Pass = tuple[dict[Place, int], dict[Place, int] | None]  # operations, and bytes kept


def measure(net: Layer[Any, Any], params: Params, shape: Shape) -> dict[Place, Cost]:
    """What a training pass takes and keeps, layer by layer.

    It is run on 2 and on 3 examples: what they differ in is one example's. A batch that keeps little
    is run as it is, as kernels choose by its size the order of their results in memory.
    """
    params = tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    batch = each_shape(shape)[0][1][0]

    def run(size: int) -> _Pass:
        return _run_one_of(net, params, with_batch(shape, size))

    (flops, kept), (more_flops, more_kept) = run(2), run(3)
    steps = batch - 2
    total = {place: some + steps * (more_flops[place] - some) for place, some in flops.items()}
    if kept is None or more_kept is None:
        return {place: Cost(total[place], None, None) for place in flops}
    each = {place: more_kept[place] - kept[place] for place in flops}
    whole = {place: kept[place] + steps * each[place] for place in flops}
    if sum(whole.values()) <= _LITTLE:
        with suppress(TypeError, ValueError):  # one example may have no statistics
            whole = run(batch)[1] or whole
    return {place: Cost(total[place], whole[place], kept[place] - 2 * each[place]) for place in flops}


def _run_one_of(net: Layer[Any, Any], params: Params, shape: Shape) -> _Pass:
    """A pass on whichever kind of input of this shape the network takes."""
    refusals: list[Exception] = []
    for x in _inputs(shape):
        try:
            return _run(net, params, x)
        except (TypeError, ValueError) as refusal:
            refusals.append(refusal)
    raise refusals[0]


def _inputs(shape: Shape) -> Iterator[Any]:
    """Inputs of a shape: of floats, or with integers or masks in some places."""
    places = [place for place, _ in each_shape(shape)]
    for kinds in sorted(product("fi?", repeat=len(places)), key=lambda kinds: -kinds.count("f")):
        kind = dict(zip(places, kinds, strict=True))
        yield over_shapes(lambda place, one: np.full(one, kind[place] == "?", kind[place]), shape)  # noqa: B023


def _run(net: Layer[Any, Any], params: Params, x: Any) -> _Pass:
    flops: Counter[Place] = Counter()
    caches: list[tuple[Place, Cache]] = []
    inside = [0]  # operations of the layers inside each layer that is running

    def see(place: Place, layer: Layer[Any, Any], made: Layer[Any, Any]) -> Layer[Any, Any]:
        def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
            before = counter.operations
            inside.append(0)
            out, cache = made.apply(params, x, key=key)
            spent = counter.operations - before
            flops[place] += spent - inside.pop()
            inside[-1] += spent
            caches.append((place, cache))
            return out, cache

        return made._replace(apply=apply, spec=layer.spec)

    with numerics.counting() as counter, np.errstate(all="ignore"):
        _, cache = watched(net, see, place_of(net)).apply(params, x, key=random.key(0))
    try:
        return flops, _kept(caches, cache, (params, x))
    except (pickle.PicklingError, AttributeError, TypeError):
        return flops, None


def _kept(caches: list[tuple[Place, Cache]], cache: Cache, given: Any) -> dict[Place, int]:
    """Bytes of all memory behind a network's cache, each with the first layer that keeps it."""
    left = _memory(cache)
    for key in _memory(given):
        left.pop(key, None)
    kept: Counter[Place] = Counter()
    for place, own in caches:
        kept[place] += sum(left.pop(key, 0) for key in _memory(own))
    return kept


def _memory(data: Any) -> dict[int, int]:
    """Bytes of each piece of memory behind arrays, wherever in some data: pickling finds them."""
    found: dict[int, int] = {}

    class Finder(pickle.Pickler):
        def persistent_id(self, part: Any) -> str | None:
            if not isinstance(part, np.ndarray):
                return None
            while isinstance(part.base, np.ndarray):
                part = part.base
            found[id(part)] = part.nbytes
            return ""

    Finder(BytesIO()).dump(data)
    return found
