"""Which training it is: what can be compared after a restart, of all that decides a run."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from funcnn import checks, numerics, random, tree
from funcnn.data import Augmentation, Batches, Dataset, Loader
from funcnn.data.examples import is_on_disk, length, shape
from funcnn.machine.processor import arithmetic
from funcnn.optimizers import Optimizer
from funcnn.training.evaluation import Metric, predict
from funcnn.types import Array, Key, Layer, Loss, Params, Spec

_ROWS = 1024  # of a data set, at a time; of one on the disk, so many are looked at in all
_MANY = 1 << 20  # of one array, about so many numbers are looked at
_LARGE = 1 << 28  # bytes on the disk that are looked at in all, a tenth of a second of hashing
_FIRST, _SPREAD = 4, 32  # batches that show whether a resumed training sees the same
_NEAR = 1e-4  # other processors and numbers of threads round otherwise; what is less counts as equal


def identity(
    net: Layer[Any, Any],
    loss: Loss,
    optimizer: Optimizer,
    batches: Batches | Loader,
    validation: Dataset | None,
    metrics: Mapping[str, Metric],
    params: Params | None,
    start: Params,
    key: Key,
    **choices: Any,
) -> dict[str, Any]:
    """What a training is, as JSON holds it: texts and digests, and the effects of its functions."""
    described: dict[str, Any] = {
        "key": list(key),
        "net": without_places(net),
        "loss": without_places(loss),
        "optimizer": without_places(optimizer),
        **_described_batches(batches, key),
        "validation": None if validation is None else _fingerprint(validation),
        "metrics": list(metrics),
        **choices,
        "params": None if params is None else _digest(tree.map(np.atleast_1d, params)),
        "effects": _effects(net, loss, optimizer, batches, validation, metrics, start, key),
    }
    found: dict[str, Any] = json.loads(json.dumps(described))
    return found


def facts(identity: Mapping[str, Any], params: Params, **more: Any) -> dict[str, Any]:
    """What all ranks of a training must agree on; what a function gives may be rounded otherwise."""
    effects = {f"effect of {name}": effect for name, effect in identity["effects"].items()}
    fast = numerics.mode() == "fast"
    return {
        "version of funcnn": import_module("funcnn").__version__,
        "version of NumPy": np.__version__,
        "kernels": numerics.kernels() if fast else "any",
        "processor": arithmetic() if fast else "any",
        **{name: fact for name, fact in identity.items() if name != "effects"},
        **more,
        "weights to begin with": _digest(params),
        **effects,
    }


# --- data ---------------------------------------------------------------------------------------------


def _described_batches(batches: Batches | Loader, key: Key) -> dict[str, Any]:
    """What shows that batches are others; of a loader, the first one."""
    own = batches if isinstance(batches, Batches) else None
    augment = own and own.augment
    known = augment is None or isinstance(augment, Augmentation)
    return {
        "batch_size": own and own.size,
        "shuffle": own and own.shuffle,
        "drop_last": own and own.drop_last,
        "train": _fingerprint(own.dataset if own else batches.batch(key, 0, 0)),
        "augment": augment and repr(augment) if known else "a function",
        "steps": batches.steps,
    }


def _fingerprint(dataset: Dataset) -> str:
    """What shows that a data set is another: its shape, and digests of its arrays."""
    shapes = tree.map(lambda array: tuple(array.shape), dataset.x)
    return f"{shapes} with x {_digest(dataset.x)}, targets {_digest(dataset.y)}"


def _digest(x: Any) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian values."""
    sha = hashlib.sha256()
    for name, array in tree.leaves(x):
        sha.update(f"{name} {tuple(array.shape)}".encode())
        count = len(array)
        if is_on_disk(array) and getattr(array, "nbytes", np.inf) > _LARGE:  # rows from all over it
            pieces = [slice(None, None, max(1, count // _ROWS))]
        else:
            pieces = [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]
        for piece in pieces:
            rows = np.asarray(array[piece])
            little = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
            sha.update(little.dtype.str.encode() + little.tobytes())
    return sha.hexdigest()[:6]


def is_digest(value: object) -> bool:
    """Whether this is what `_digest` gives."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{6}", value) is not None


# --- networks, losses and optimizers ------------------------------------------------------------------


def without_places(part: Any) -> str:
    """As it prints; a function in it without its place in memory, which is another in each process.

    Of an optimizer, a schedule of one's own is known by its numbers.
    """
    text = repr(part)
    if isinstance(part, Optimizer):
        for function in _functions(part.spec):
            text = text.replace(repr(function), _bynumbers(function))
    return _PLACED.sub("a function", text)


_PLACED = re.compile("<(?:[^<>]|<[a-z]+>)* at 0x[0-9a-fA-F]+>")
_STEPS = (*range(1000), *range(1000, 100_000, 99), *(2**k for k in range(17, 32)))


def _functions(spec: Spec) -> Iterator[Callable[[int], float]]:
    """The options that are functions which do not say what they are."""
    value: Any
    for value in (*spec.args, *spec.options.values()):
        if callable(value) and _PLACED.search(repr(value)):
            yield value
    for child in spec.children:
        yield from _functions(child)


def _bynumbers(schedule: Callable[[int], float]) -> str:
    """A schedule by its numbers at many steps; what is none keeps its name."""

    def number(step: int) -> str:
        try:
            return f"{float(schedule(step)):.9g}"
        except Exception:  # it may plan no more steps than there are
            return "nothing"

    numbers = [number(step) for step in _STEPS]
    if set(numbers) == {"nothing"}:
        return repr(schedule)
    return f"schedule {hashlib.sha256(' '.join(numbers).encode()).hexdigest()[:8]}"


# --- functions, by what they give ---------------------------------------------------------------------


def _effects(
    net: Layer[Any, Any],
    loss: Loss,
    optimizer: Optimizer,
    batches: Batches | Loader,
    validation: Dataset | None,
    metrics: Mapping[str, Metric],
    start: Params,
    key: Key,
) -> dict[str, list[Any]]:
    """What each function gives for the first batch as it is, initial parameters and a fixed key."""
    keys = random.split(random.fold_in(key, "effects"), 4)
    plain = batches._replace(augment=None) if isinstance(batches, Batches) else batches
    x, y = plain.batch(key, 0, 0)
    _, params = net.init(random.fold_in(key, "init"), shape(x, length(x)))
    with suppress(checks.Refusal):  # other params than the network's, which it refuses itself
        params = tree.map(lambda own, given: own.astype(given.dtype), params, start)

    def trained() -> Any:
        out, cache = net.apply(params, x, key=keys[0])
        return out, net.vjp(cache, out), net.apply(params, x)[0]

    def lost() -> Any:
        value, cache = loss.apply(net.apply(params, x, key=keys[0])[0], y)
        return value, loss.vjp(cache)

    def updated() -> Any:
        state, all_updates = optimizer.init(params), tuple[Params, ...]()
        for own in keys:
            updates, state = optimizer.update(_gradients(own, params), state, params)
            all_updates += (updates,)
        return all_updates

    found = {
        "net": [_numbers(lambda: params), _numbers(trained)],
        "loss": [_numbers(lost)],
        "optimizer": [_numbers(updated)],
    }
    if validation is not None and metrics:
        guesses = _guesses(predict(net, params, validation.x), validation.y)
        target = tree.map(np.asarray, validation.y)
        for name, metric in metrics.items():
            found[f"metrics[{name!r}]"] = [_numbers(metric, guess, target) for guess in guesses]
    return found


def _gradients(key: Key, params: Params) -> Params:
    def some(path: str, leaf: Array) -> Array:
        return random.normal(random.fold_in(key, path), leaf.shape, dtype=leaf.dtype)

    return tree.map_with_path(some, params)


def _guesses(prediction: Any, target: Any) -> list[Any]:
    """Predictions for each of which a metric of another effect may say something else."""
    places = [(axis, by) for axis in (0, -1) for by in range(4)]
    found = [tree.map(partial(np.roll, axis=axis, shift=by), prediction) for axis, by in places]
    if isinstance(prediction, np.ndarray) and np.shape(target) == prediction.shape:
        better = (target + share * (prediction - target) for share in (0.1, 0.01, 0.0))
        found += [guess.astype(prediction.dtype) for guess in better]
    return found


def shown_by(batch: Dataset, loaded: bool) -> list[Any]:
    """What shows that a batch is another: its digest if it is loaded, numbers if it is augmented."""
    all_of = tree.map(lambda array: array[:], tuple(batch))
    return [_fingerprint(batch)] if loaded else _numbers(lambda: all_of)


@lru_cache
def looked_at(steps: int) -> tuple[int, ...]:
    """The steps whose batches are remembered: some of the first epoch, and first ones of others.

    An iterator goes through its first epoch once more when its training is resumed, and no further.
    """
    first = {*range(min(_FIRST, steps)), *range(0, steps, -(-steps // _SPREAD)), steps - 1}
    return (*sorted(first), *(steps << power for power in range(32)))


def _numbers(function: Callable[..., Any], *args: Any) -> list[Any]:
    """Of what a function gives the shapes, the norm's logarithm, and how it lies to some directions."""
    try:
        with np.errstate(all="ignore"):
            leaves = [np.asarray(leaf) for _, leaf in tree.leaves(function(*args))]
            some = [leaf.ravel()[:: 1 + leaf.size // _MANY].astype(np.float64) for leaf in leaves]
            flat = np.concatenate(some)
            squared = numerics.sum(flat * flat)
    except Exception as problem:  # which is for the training to raise, if it comes there
        return [type(problem).__name__]
    norm = np.maximum(np.sqrt(squared), 1e-9)
    places = np.arange(flat.size)
    waves = [numerics.sum(flat * (places * step % 101 - 50.0)) / (50 * norm) for step in (1, 23, 37)]
    shapes = " ".join(f"{leaf.dtype}{leaf.shape}" for leaf in leaves[:8])
    return [shapes, *map(float, (numerics.log(norm), *waves))]


def alike(one: Any, other: Any) -> bool:
    """Whether two effects are the same but for rounding."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        near = math.isclose(one, other, rel_tol=_NEAR, abs_tol=_NEAR)
        return near or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and bool(one == other)
