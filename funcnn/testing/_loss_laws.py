"""The laws that every loss keeps."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from funcnn import random
from funcnn.checks import refuse_type, shown
from funcnn.metrics import Mean
from funcnn.testing import _values
from funcnn.testing._laws import (
    Law,
    agree,
    agree_each,
    at_once,
    breach,
    is_refusal,
    law,
    refuses,
    slopes_fit,
)
from funcnn.types import Array, Cache, Loss, has_trait, rebuild

__all__ = ["LOSS_LAWS", "LossSubject", "check_loss"]

_STEP = 1e-6
_DIRECTIONS = 3
_ROUNDING = 1e-9


class LossSubject:
    """A loss with a prediction and a target, for the laws to look at.

    Parameters
    ----------
    loss : Loss
        The loss.
    prediction, target : array or tuple of arrays
        What it is applied to; float leaves are cast as the laws need.
    seed : int
        For the random directions.

    Raises
    ------
    TypeError
        For something that is not a loss.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import mean_squared_error
    >>> LossSubject(mean_squared_error(), np.ones((2, 3)), np.zeros((2, 3))).value.item()
    1.0
    """

    def __init__(self, loss: Loss, prediction: Any, target: Any, *, seed: int = 0) -> None:
        if not isinstance(loss, Loss):
            refuse_type(f"`loss` must be a Loss, got {shown(loss)}", "check_loss")
        self.loss, self.spec, self.key = loss, loss.spec, random.key(seed)
        self.prediction, self.target = _values.frozen(
            _values.cast(_values.copied((prediction, target)), np.float64)
        )

    def pull(self, prediction: Any, target: Any) -> tuple[Any, Cache, Any]:
        """Value, cache and gradient."""
        value, cache = self.loss.apply(prediction, target)
        return value, cache, self.loss.vjp(cache)

    @property
    def value(self) -> Any:
        """The value in float64."""
        return self.loss.apply(self.prediction, self.target)[0]

    def draw(self, label: str, leaf: Array) -> Array:
        """Random normals of the shape of a leaf."""
        return random.normal(random.fold_in(self.key, label), leaf.shape, dtype=np.float64)

    def reversed(self) -> tuple[Any, Any]:
        """Prediction and target from the last example to the first."""
        both: tuple[Any, Any] = _values.batch((self.prediction, self.target), slice(None, None, -1))
        return both


@law("the value is one finite number")
def _value(subject: LossSubject) -> None:
    # Or finite numbers, for reduction="none".
    value = subject.value
    if np.ndim(value) and subject.spec.options.get("reduction") != "none":
        breach("value", "a scalar", f"shape {np.shape(value)}")
    if not np.isfinite(value).all():
        breach("value", "finite", value)


@law("nothing is mutated")
def _pure(subject: LossSubject) -> None:
    prediction, target = _values.copied((subject.prediction, subject.target))
    value, cache = subject.loss.apply(prediction, target)
    given = (prediction, target, value, cache)
    kept = _values.copied(given)
    subject.loss.vjp(cache)
    agree("prediction", subject.prediction, prediction)
    agree("target", subject.target, target)
    agree_each(("prediction", "target", "value", "cache"), kept, given)


@law("earlier results survive later calls")
def _survives(subject: LossSubject) -> None:
    first = subject.pull(subject.prediction, subject.target)
    kept = _values.copied(first)
    subject.pull(*subject.reversed())
    agree_each(("value", "cache", "dprediction"), kept, first)


@law("same input, same bits")
def _reproducible(subject: LossSubject) -> None:
    runs = [subject.pull(subject.prediction, subject.target) for _ in range(2)]
    agree_each(("value", "cache", "dprediction"), runs[0], runs[1])
    _, cache, dprediction = runs[0]
    agree("dprediction, called twice,", dprediction, subject.loss.vjp(_values.frozen(cache)))


@law("the gradient has the prediction's shape and dtype")
def _tree(subject: LossSubject) -> None:
    for dtype in (np.float32, np.float64):
        given = _values.frozen(_values.cast((subject.prediction, subject.target), dtype))
        value, _, gradient = subject.pull(*given)
        if not isinstance(value, (np.ndarray, np.generic)) or value.dtype != dtype:
            breach("value", np.dtype(dtype), getattr(value, "dtype", type(value).__name__))
        slopes_fit("dprediction", given[0], gradient)


@law("vjp agrees with central differences")
def _calculus(subject: LossSubject) -> None:
    value, _, gradient = subject.pull(subject.prediction, subject.target)
    slopes = dict(_values.leaves(gradient, "prediction"))
    for path, leaf in _values.leaves(subject.prediction, "prediction"):
        if not _values.is_float(leaf):
            if np.any(slopes[path]):
                breach(path, "a gradient of zeros", slopes[path])
            continue
        for direction in range(_DIRECTIONS):
            way = subject.draw(f"{path} {direction}", leaf)
            ends = []
            for step in (_STEP, -_STEP):
                moved = _values.replaced(subject.prediction, path, leaf + step * way, "prediction")
                ends.append(subject.loss.apply(_values.frozen(moved), subject.target)[0])
            change = np.asarray(ends[0] - ends[1])
            expected = _values.inner(change, np.ones_like(change)) / (2 * _STEP)
            found = _values.inner(slopes[path], way)
            sizes = _values.magnitude(np.asarray(value), np.ones(np.shape(value)))
            tolerance = 1e-6 * _values.magnitude(slopes[path], way) + 1e-9 * sizes
            if not abs(expected - found) <= max(tolerance, 1e-9):
                breach(path, f"a slope of {expected:.9g}", f"{found:.9g}")


@law("the order in memory changes nothing")
def _layouts(subject: LossSubject) -> None:
    value, _, gradient = subject.pull(subject.prediction, subject.target)
    narrow = _values.cast((subject.prediction, subject.target), np.float32)  # has kernels of its own
    for layout in _values.LAYOUTS:
        subject.pull(*_values.frozen(_values.mapped(layout, narrow)))
        given = _values.mapped(layout, (subject.prediction, subject.target))
        found, _, slope = subject.pull(*_values.frozen(given))
        agree(f"value ({layout.__name__} memory)", value, found, _ROUNDING)
        agree(f"dprediction ({layout.__name__} memory)", gradient, slope, _ROUNDING)


@law("the mean is over what its weight says")
def _weighs(subject: LossSubject) -> None:
    # A batch is worth its parts, unless the examples are losses of one another.
    if has_trait(subject.spec, "couples_batch") or subject.spec.options.get("reduction") == "none":
        return
    summed = 0.0
    for part in subject.loss.parts:
        summed += part.factor * _is_worth_its_parts(
            part.loss, part.of(subject.prediction), part.of(subject.target)
        )
    if not subject.loss.parts:
        _is_worth_its_parts(subject.loss, subject.prediction, subject.target)
    elif not abs(subject.value - summed) <= _ROUNDING * max(1, abs(summed)):
        breach("value", f"{summed}, the sum of its losses", subject.value)


def _is_worth_its_parts(loss: Loss, prediction: Any, target: Any) -> float:
    value = float(loss.apply(prediction, target)[0])
    whole, parts = Mean().add(value, _weight(loss, prediction, target)), Mean()
    for part in (slice(0, 1), slice(1, None)):
        some, known = _values.batch((prediction, target), part)
        parts = parts.add(loss.apply(some, known)[0], _weight(loss, some, known))
    if not abs(whole.weight - parts.weight) <= _ROUNDING * abs(whole.weight):
        breach("weight", f"{whole.weight}, the sum over two parts", parts.weight)
    if not abs(whole.value - parts.value) <= _ROUNDING * max(1, abs(whole.value)):
        breach("value", f"{whole.value}, the mean of two parts by their weights", parts.value)
    return value


def _weight(loss: Loss, prediction: Any, target: Any) -> float | None:
    if loss.weight is None:
        return len(next(leaf for _, leaf in _values.leaves(prediction)))
    return loss.weight(target)


_PROBES = (1e3, -1e3, 0.125)  # far on both sides, so that what only lies beyond a kink shows
_ANYTHING = (np.nan, np.inf, -np.inf, 1e300)


@law("what does not count may hold anything")
def _uncounted(subject: LossSubject) -> None:
    # What other numbers do not change, to the bit, must be left alone by NaN and infinity, too.
    given = (subject.prediction, subject.target)
    wanted = _outcome(subject, given)
    for path, places in uncounted(subject).items():
        leaf = dict(_values.leaves(given, "given"))[path]
        if path.startswith("given/0") and _values.is_float(leaf):
            slope = dict(_values.leaves(wanted[1], "given/0"))[path]
            if slope[places].any():
                breach(path, "a slope of 0 where nothing counts", slope[places])
        for value in _fillings(leaf):
            filled = leaf.copy()
            filled[places] = value
            found = _outcome(subject, _values.frozen(_values.replaced(given, path, filled, "given")))
            agree_each(("value", "dprediction"), wanted, found, f" with {value} where nothing counts")


def uncounted(subject: LossSubject) -> dict[str, Array]:
    """Which entries of the predictions and targets change nothing, as masks by path."""
    given = (subject.prediction, subject.target)
    wanted = _bits(_outcome(subject, given))
    found = {}
    for path, leaf in _values.leaves(given, "given"):
        whole = isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iu"
        if not (whole or _values.is_float(leaf)):
            continue
        probes = _whole_probes(leaf) if whole else (1 + np.abs(leaf).max()) * np.array(_PROBES)
        free = np.zeros(leaf.shape, bool)
        for index in np.ndindex(leaf.shape):
            free[index] = all(
                _bits(_attempt(subject, given, path, index, probe)) == wanted for probe in probes
            )
        if free.any():
            found[path] = free
    return found


def _whole_probes(leaf: Array) -> list[int]:
    """All numbers that occur, those between, and one beyond on each side."""
    limits = np.iinfo(leaf.dtype)
    least, most = max(int(leaf.min()) - 1, limits.min), min(int(leaf.max()) + 1, limits.max)
    return list(range(least, most + 1))


def _fillings(leaf: Array) -> tuple[Any, ...]:
    if _values.is_float(leaf):
        return _ANYTHING
    return np.iinfo(leaf.dtype).min, np.iinfo(leaf.dtype).max


def _outcome(subject: LossSubject, given: Any) -> tuple[Any, Any]:
    value, _, gradient = subject.pull(*given)
    return value, gradient


def _attempt(subject: LossSubject, given: Any, path: str, index: Any, probe: Any) -> Any:
    """Value and gradient with another number in one place; None where that is refused."""
    moved = dict(_values.leaves(given, "given"))[path].copy()
    moved[index] = probe
    try:
        return _outcome(subject, _values.frozen(_values.replaced(given, path, moved, "given")))
    except (ValueError, TypeError):
        return None


def _bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for _, leaf in _values.leaves(tree)]


@law("an example changes no bit of another's")
def _locality(subject: LossSubject) -> None:
    # Whatever one prediction holds: only a loss that couples its batch may look at others.
    if has_trait(subject.spec, "couples_batch"):
        return
    for dtype in (np.float32, np.float64):
        given = _values.frozen(_values.cast((subject.prediction, subject.target), dtype))
        old = dict(_others(*_outcome(subject, given)))
        for path, leaf in _values.leaves(given[0], "prediction"):
            for number in _ANY_SIZE if _values.is_float(leaf) else ():
                moved = leaf.copy()
                moved[:1] = number
                prediction = _values.replaced(given[0], path, moved, "prediction")
                try:
                    with np.errstate(all="ignore"):
                        found = _outcome(subject, _values.frozen((prediction, given[1])))
                except (ValueError, TypeError):
                    continue  # not in the domain of this loss
                for at, part in _others(*found):
                    if part.tobytes() != old[at].tobytes():
                        breach(f"{at} of others ({np.dtype(dtype)}) beside {number}", old[at], part)


_ANY_SIZE = (np.nan, np.inf, -np.inf, 1e20, -3e38, 1e-38)


def _others(value: Any, gradient: Any) -> Iterator[tuple[str, Array]]:
    """What belongs to all examples but the first."""
    if np.ndim(value):
        yield "value", value[1:]
    for path, leaf in _values.leaves(gradient, "dprediction"):
        yield path, leaf[1:]


@law("an empty batch is refused, or finite")
def _empty(subject: LossSubject) -> None:
    # A mean over nothing is undefined; a loss may say so, but must not answer NaN.
    given = _values.batch((subject.prediction, subject.target), slice(0, 0))
    try:
        value, _, gradient = subject.pull(*given)
    except Exception as error:
        is_refusal("an empty batch", subject.spec, ValueError, error)
        return
    if not np.isfinite(value).all():
        breach("value of an empty batch", "finite, or a refusal", value)
    if _values.shapes(gradient) != _values.shapes(given[0]):
        breach("dprediction", _values.shapes(given[0]), _values.shapes(gradient))


@law("loss and cache survive pickling")
def _pickling(subject: LossSubject) -> None:
    value, cache, gradient = subject.pull(subject.prediction, subject.target)
    try:
        loss = pickle.loads(pickle.dumps(subject.loss))
    except Exception as error:
        breach("spec", "a `build` at the top of a module and options that can be pickled", error)
    try:
        cache = pickle.loads(pickle.dumps(cache))
    except Exception as error:
        breach("cache", "data that can be pickled", error)
    agree("value", value, loss.apply(subject.prediction, subject.target)[0])
    agree("dprediction", gradient, loss.vjp(cache))


@law("the spec rebuilds the loss")
def _rebuilt(subject: LossSubject) -> None:
    loss = rebuild(subject.spec)
    if not isinstance(loss, Loss) or repr(loss) != repr(subject.loss):
        breach("spec", repr(subject.loss), repr(loss))
    agree("value", subject.value, loss.apply(subject.prediction, subject.target)[0])


@law("a wrong shape is refused")
def _wrong_shape(subject: LossSubject) -> None:
    # A prediction that does not fit its target: NumPy would broadcast it.
    for path, leaf in _values.leaves(subject.prediction, "prediction"):
        for near in _near(leaf):
            moved = _values.frozen(_values.replaced(subject.prediction, path, near, "prediction"))
            refuses(
                f"{path} of shape {near.shape}",
                subject.spec,
                ValueError,
                subject.loss.apply,
                moved,
                subject.target,
            )


def _near(leaf: Array) -> Iterator[Array]:
    yield leaf[:1] if len(leaf) > 1 else np.concatenate([leaf, leaf])
    yield leaf[None]
    yield leaf[..., None]


@law("a wrong dtype is refused")
def _wrong_dtype(subject: LossSubject) -> None:
    given, target = _values.cast((subject.prediction, subject.target), np.float32)
    for path, leaf in _values.leaves(given, "prediction"):
        if _values.is_float(leaf):
            for bad in (leaf.tolist(), leaf.astype(np.int64), leaf.astype(np.float16)):
                moved = _values.replaced(given, path, bad, "prediction")
                _refuses_type(subject, path, bad, moved, target)
    for path, leaf in _values.leaves(target, "target"):
        for kind in ("U9", "M8[s]", "O", "c8"):
            bad = np.zeros(leaf.shape, kind) if kind == "M8[s]" else leaf.astype(kind)
            _refuses_type(subject, path, bad, given, _values.replaced(target, path, bad, "target"))


def _refuses_type(subject: LossSubject, path: str, bad: Any, prediction: Any, target: Any) -> None:
    where = f"{path} of {getattr(bad, 'dtype', 'list')}"
    refuses(where, subject.spec, TypeError, subject.loss.apply, prediction, target)


@law("threads do not disturb each other")
def _threads(subject: LossSubject) -> None:
    inputs = ((subject.prediction, subject.target), subject.reversed())
    alone = [subject.pull(*given) for given in inputs]

    def thrice(prediction: Any, target: Any) -> list[tuple[Any, Cache, Any]]:
        return [subject.pull(prediction, target) for _ in range(3)]

    together = at_once([partial(thrice, *given) for given in inputs])
    for (value, _, gradient), several in zip(alone, together, strict=False):
        for found, _, slope in several:
            agree("value", value, found)
            agree("dprediction", gradient, slope)


LOSS_LAWS: tuple[Law, ...] = (
    _pure,
    _survives,
    _reproducible,
    _value,
    _tree,
    _calculus,
    _layouts,
    _weighs,
    _uncounted,
    _empty,
    _pickling,
    _rebuilt,
    _wrong_shape,
    _wrong_dtype,
    _threads,
    _locality,
)
"""The laws that every loss keeps, in the order in which `check_loss` checks them."""


def check_loss(loss: Loss, prediction: Any, target: Any, *, seed: int = 0) -> None:
    """Prove a loss: all the laws, on one prediction and target.

    Parameters
    ----------
    loss : Loss
        Yours, or one of the library's.
    prediction, target : array or tuple of arrays
        What it is applied to, a few examples; float leaves are cast as the laws need.
    seed : int
        For the random directions of the gradient check.

    Raises
    ------
    AssertionError
        For the first law that is broken; the message has the law, the leaf, and what was expected
        and found.
    TypeError
        For something that is not a loss.

    Notes
    -----
    A loss may refuse an empty batch, whose mean is undefined, or give a finite value for it. Where no
    thread can start, the law that threads do not disturb each other is not tried.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import softmax_cross_entropy
    >>> from funcnn.testing import check_loss
    >>> check_loss(softmax_cross_entropy(), np.eye(3), np.array([2, 0, 1]))
    """
    subject = LossSubject(loss, prediction, target, seed=seed)
    for one in LOSS_LAWS:
        one(subject)
