"""The law of locality: what an output does not see may hold anything, and changes no bit of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from funcnn import random
from funcnn.testing import _values
from funcnn.testing._laws import breach, law
from funcnn.testing._subject import Subject
from funcnn.types import Array, Key

_FAR = 10.0  # what may be the largest becomes it, and gates open
_VISIBLE = 1e-9  # of the largest value, in float64: more than rounding, less than any effect
_POISONS = ((0.0, 1e4, -1e8), (np.nan, np.inf, -np.inf))
_DRAWS = 64  # inputs, among which a gate that was shut is open, and a loser wins

Tree = dict[str, Any]


@law("an output changes only when something it sees changes")
def locality(subject: Subject) -> None:
    # What sees a part of the input is measured: in float64, whatever moves when that part moves, at
    # this input or at another. Then numbers that would show through any other arithmetic take the
    # part's place, and what does not see it must keep its bits. The same goes for `dx`, which sees
    # parts of `x` and of `dout`. An `x` whose gradient is 0 by definition is left out.
    for mode in subject.distinct_modes:
        key, given = subject.modes[mode], {"x": subject.x, "dout": subject.run(mode).dout}
        starts = {dtype: _run(subject, key, given, dtype) for dtype in (np.float32, np.float64)}
        looks: list[_Look] = [_Look(key, given, starts[np.float64])]
        for path, name, part in _parts(given):
            if subject.is_stopped(path):
                continue
            views = _blind(subject, mode, looks, path, part)
            blind = next(views)
            for (dtype, start), poison in product(starts.items(), _POISONS):
                poisoned = _with(given, path, part, np.resize(poison, part.size))
                found = _run(subject, key, poisoned, dtype)
                changed = {at: _changed(leaf, found[at]) for at, leaf in start.items()}
                while any((changed[at] & blind[at]).any() for at in changed):
                    looked = next(views, None)
                    if looked is None:
                        at = next(at for at in changed if (changed[at] & blind[at]).any())
                        where = tuple(np.argwhere(changed[at] & blind[at])[0].tolist())
                        breach(
                            f"{at}{list(where)} ({mode}, {np.dtype(dtype)}) "
                            f"when {name} becomes {', '.join(map(str, poison))}",
                            f"{start[at][where].item()!r} as before",
                            repr(found[at][where].item()),
                        )
                    blind = looked


@law("an example keeps its bits beside any other, wherever they lie in memory")
def neighbours(subject: Subject) -> None:
    # Kernels are chosen by strides, and what is not finite is computed once more, in copies.
    for mode in subject.distinct_modes:
        if subject.couples(mode):
            continue
        given = {"x": subject.x, "dout": subject.run(mode).dout}
        beside = _values.mapped(_spoilt, given)
        for layout in _values.LAYOUTS:
            start, found = (
                _run(subject, subject.modes[mode], each, np.float32, layout) for each in (given, beside)
            )
            for at, leaf in start.items():
                if (changed := _changed(leaf[:-1], found[at][:-1])).any():
                    where = tuple(np.argwhere(changed)[0].tolist())
                    breach(
                        f"{at}{list(where)} ({mode}, {layout.__name__} memory, the last example NaN)",
                        f"{leaf[where].item()!r} as before",
                        repr(found[at][where].item()),
                    )


class _Look(NamedTuple):
    """An input, and what comes out for it."""

    key: Key | None
    given: Tree
    start: dict[str, Array]


def _blind(
    subject: Subject, mode: str, looks: list[_Look], path: str, part: Array
) -> Iterator[dict[str, Array]]:
    """What has not moved yet with a part of what is given, at more and more inputs."""
    blind: dict[str, Array] = {}
    for draw in range(_DRAWS):
        if draw == len(looks):
            looks.append(_look(subject, mode, draw))
        key, given, start = looks[draw]
        old = dict(_values.leaves(given))[path].reshape(-1)[part]
        step = _FAR * (subject.draw(f"step {draw}", part.shape) if part.size > 1 else np.ones(1))
        for moved in (old + step, old - step, 0 * old):
            found = _run(subject, key, _with(given, path, part, moved))
            for at, leaf in start.items():
                near = _VISIBLE * max(1.0, float(np.abs(leaf).max(initial=0)))
                with np.errstate(all="ignore"):
                    still = np.abs(found[at] - leaf) <= near
                blind[at] = still & blind.get(at, still)
        yield blind


def _look(subject: Subject, mode: str, draw: int) -> _Look:
    """At another input."""
    key = subject.modes[mode]
    key = None if key is None else random.fold_in(key, draw)
    x = _values.mapped_with_path(_drawn(subject, draw), subject.x, path="x")
    given = {"x": x, "dout": subject.run(mode).dout}
    return _Look(key, given, _run(subject, key, given))


def _drawn(subject: Subject, draw: int) -> Any:
    """Another input for each path."""
    return lambda path, leaf: (
        subject.draw(f"{path} {draw}", leaf.shape) if _values.is_float(leaf) else leaf
    )


def _run(
    subject: Subject,
    key: Key | None,
    given: Tree,
    dtype: Any = np.float64,
    layout: Callable[[Array], Array] = np.asarray,
) -> dict[str, Array]:
    """The leaves of the output and of the gradient of the input that are numbers."""
    given = _values.frozen(_values.mapped(layout, _values.cast(given, dtype)))
    with np.errstate(all="ignore"):
        out, cache = subject.layer.apply(subject.params_in(dtype), given["x"], key=key)
        dx = subject.layer.vjp(cache, given["dout"])[1]
    found = _values.leaves({"out": out, "dx": dx})
    return {
        path: leaf
        for path, leaf in found
        if _values.is_float(leaf) and not subject.is_stopped(path.removeprefix("d"))
    }


def _parts(given: Tree) -> Iterator[tuple[str, str, Array]]:
    """An element of each array, and the last slice along each axis: where, its name, flat indices."""
    for path, leaf in _values.leaves(given):
        if _values.is_float(leaf) and leaf.size > 1:
            places = np.arange(leaf.size).reshape(leaf.shape)
            middle = tuple(n // 2 for n in leaf.shape)
            yield path, f"{path}{list(middle)}", places[middle].reshape(1)
            for axis, n in enumerate(leaf.shape):
                if n > 1:
                    name = ", ".join([*":" * axis, str(n - 1), *":" * (leaf.ndim - axis - 1)])
                    yield path, f"{path}[{name}]", places.take(n - 1, axis).ravel()


def _with(given: Tree, path: str, part: Array, values: Array) -> Tree:
    """What is given, with other values in a part of one array."""
    leaf = dict(_values.leaves(given))[path].copy()
    leaf.reshape(-1)[part] = values
    replaced: Tree = _values.replaced(given, path, leaf)
    return replaced


def _spoilt(leaf: Array) -> Array:
    """The same, but for the last example."""
    if _values.is_float(leaf) and leaf.ndim:
        leaf = leaf.copy()
        leaf[-1] = np.nan
    return leaf


def _changed(old: Array, new: Array) -> Array:
    """Where the bits are others."""
    bits = f"u{old.dtype.itemsize}"
    return np.asarray(np.ascontiguousarray(old).view(bits) != np.ascontiguousarray(new).view(bits))
