"""Losses in float32 say what they say in float64, rounded: numbers, options and weights of any size.

An answer that float32 cannot hold is infinite where the numbers are that large, and refused where it
is an option that asks for too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from funcnn import checks, losses, numerics
from funcnn.testing import _values
from funcnn.types import Array, Loss
from tests import registry
from tests.registry import LossCase

f32 = np.float32
nan, inf = np.nan, np.inf
_MOST = float(np.finfo(f32).max) * (1 - 1e-5)
_TINY = 16 * float(np.finfo(f32).smallest_subnormal)
_CASES = [pytest.param(case, id=case.id) for case in registry.losses()]


def _pull(loss: Loss, prediction: Any, target: Any) -> list[Array]:
    """Value and slopes, one after the other."""
    value, cache = loss.apply(prediction, target)
    return [np.asarray(leaf) for _, leaf in _values.leaves((value, loss.vjp(cache)))]


_LEAST = {"triplet": 1e-12}  # a difference next to which epsilon has no digits left


def _near(tree: Any, seed: int, least: float) -> Any:
    """The same numbers with other last digits, as float32 rounds them."""
    draw = np.random.default_rng(seed)

    def move(leaf: Any) -> Any:
        if not _values.is_float(leaf):
            return leaf
        sign = draw.choice([-1, 1], leaf.shape)
        return leaf * (1 + 8 * np.finfo(f32).eps * sign) + least * sign

    return _values.mapped(move, tree)


def _disagree(loss: Loss, prediction: Any, target: Any) -> list[str]:
    """Where float32 does not say what float64 says, both given the same numbers."""
    given = _values.cast((prediction, target), f32)
    wide = _values.cast(given, np.float64)
    wanted = _pull(loss, *wide)
    moved, least = [], _LEAST.get(loss.spec.kind, 0.0)
    for seed in range(6):
        try:
            moved.append(_pull(loss, _near(wide[0], seed, least), wide[1]))
        except ValueError:  # a probability above 1, say
            continue
    wrong: list[str] = []
    slopes = np.abs(np.concatenate([leaf.reshape(-1) for leaf in wanted[1:]]))
    steepest, noise = np.max(slopes, initial=0, where=np.isfinite(slopes)), 0.0
    if loss.spec.kind == "contrastive":  # whose slopes can cancel, up to rounding
        x = np.abs(wide[0]).max(-1, keepdims=True)
        scale = 1e-37 + loss.spec.options["temperature"]
        noise = 1e-6 * np.max(x / (x * x + 1e-12)) / scale
    for which, (found, right) in enumerate(zip(_pull(loss, *given), wanted, strict=True)):
        assert found.dtype == f32
        with np.errstate(all="ignore"):
            spread = np.max([np.abs(other[which] - right) for other in moved], 0, initial=0)
            scale = np.abs(right) if which == 0 else steepest
            slack = 8 * spread + 2e-5 * np.where(np.isfinite(scale), scale, 0) + _TINY + noise
            off = ~(np.abs(found - right) <= slack) & ~(found == right)
            off &= ~(np.abs(right) + spread >= _MOST) | np.isnan(found)
            off &= ~np.isnan(right)
        for index in np.argwhere(off)[:2]:
            at = tuple(index)
            name = "slope" if which else "value"
            wrong.append(f"{name} {found[at]}, not {right[at]} at {which} {at}")
    return wrong


# --- numbers of any size --------------------------------------------------------------------------


def _sized(case: LossCase) -> Iterator[tuple[str, Any]]:
    """The prediction of a case at many magnitudes: as a whole, and each of its numbers at another."""
    unit = max(float(np.abs(leaf).max()) for _, leaf in _values.leaves(case.prediction)) or 1.0
    for size in (1e-45, 1e-38, 1e-30, 1e-19, 1e-6, 1e6, 1e19, 1.5e19, 1e30, 1e38, 3e38):
        yield f"{size}", _values.mapped(lambda x, s=size: x * (s / unit), case.prediction)
    draw = np.random.default_rng(7)
    for least, most in ((-45, 38), (-20, 20), (15, 38)):

        def mixed(leaf: Array, least: int = least, most: int = most) -> Array:
            power = draw.integers(least, most, leaf.shape)
            return np.asarray(np.sign(leaf) * 3 * 10.0**power)

        yield f"1e{least} to 1e{most}", _values.mapped(mixed, case.prediction)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("case", _CASES)
def test_numbers_of_any_size(case: LossCase) -> None:
    wrong = []
    for size, prediction in _sized(case):
        for mode in ("fast", "portable"):
            try:
                with np.errstate(all="ignore"), numerics.use(mode):
                    found = _disagree(case.loss, prediction, case.target)
            except ValueError as refusal:
                if not re.search(r"in 0\.\.1|negative", str(refusal)):
                    raise
                continue
            wrong += [f"{mode} at {size}: {text}" for text in found]
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:12])


def _naive(prediction: Array, target: Array) -> tuple[Any, Any]:
    d = prediction - target
    return np.sum(d * d) / d.dtype.type(d.size), {"d": d}


def _cut(prediction: Array, target: Array) -> tuple[Any, Any]:
    value, cache = _naive(prediction, target)
    return np.minimum(value, value.dtype.type(1e10)) if value.dtype == f32 else value, cache


@pytest.mark.parametrize(("apply", "size"), [(_naive, 1.5e19), (_cut, 1e6)])
def test_losses_as_one_writes_them_first_are_caught(apply: Any, size: float) -> None:
    loss = Loss(apply, lambda cache: 2 * cache["d"] / cache["d"].size)
    with np.errstate(all="ignore"):
        assert _disagree(loss, np.full(8, size), np.zeros(8))
        assert not _disagree(loss, np.ones(8), np.zeros(8))


# --- options of any size --------------------------------------------------------------------------

_SIZES = (1e-320, 1e-300, 1e-46, 1e-44, 1e-40, 1e-30, 1e30, 1e46, 1e300, 1.7e308)


def _numbers(constraint: Any) -> bool:
    inner = getattr(constraint, "inner", constraint)
    return isinstance(inner, checks.Number)


def _options() -> Iterator[Any]:
    for case in registry.losses():
        for name, constraint in checks.declaration(case.loss.spec.build).items():
            if _numbers(constraint):
                yield pytest.param(case, name, id=f"{case.id} {name}")


def _with(loss: Loss, **options: Any) -> Loss:
    made: Loss = loss.spec.build(*loss.spec.args, **{**loss.spec.options, **options})
    return made


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("case", "option"), list(_options()))
def test_options_of_any_size(case: LossCase, option: str) -> None:
    wrong = []
    for size in (sign * size for size in _SIZES for sign in (1, -1)):
        try:
            loss = _with(case.loss, **{option: size})
        except ValueError:  # outside the declared range
            continue
        wide = _pull(loss, *_values.cast((case.prediction, case.target), np.float64))
        assert not any(np.isnan(leaf).any() for leaf in wide), f"{option}={size} in float64"
        try:
            found = _disagree(loss, case.prediction, case.target)
            narrow = _pull(loss, *_values.cast((case.prediction, case.target), f32))
        except ValueError as refusal:
            text = str(refusal)
            assert f"`{option}` must give numbers that float32 can hold, got {size}" in text
            assert max(float(np.abs(leaf).max()) for leaf in wide) > _MOST, text
            assert not 1e-37 < abs(size) < _MOST, text
            continue
        finite = all(np.isfinite(leaf).all() for leaf in narrow)
        assert finite or 1e-37 < abs(size) < _MOST, f"{option}={size}: {narrow}"
        wrong += [f"{option}={size}: {text}" for text in found]
    assert not wrong, "\n".join(wrong[:12])


# --- weights of any size --------------------------------------------------------------------------

_SCALES = (1e-300, 1e-50, 1e-44, 1e-38, 1e-20, 1e-3, 7.0, 1e20, 1e37)


def _weighted() -> Iterator[Any]:
    for case in registry.losses():
        if case.loss.spec.options.get("class_weight") is not None:
            yield pytest.param(case, "class_weight", id=case.id)
        if case.loss.spec.kind == "weighted" and not case.loss.spec.options["lengths"]:
            yield pytest.param(case, "", id=case.id)


def _scaled(case: LossCase, option: str, scale: float) -> tuple[Loss, Any]:
    if option:
        weights = case.loss.spec.options[option]
        return _with(case.loss, **{option: tuple(w * scale for w in weights)}), case.target
    known, weight = case.target
    return case.loss, (known, weight.astype(np.float64) * scale)


def _single(target: Any, option: str) -> Any:
    """The target in float32, but weights as they are given."""
    if option:
        return _values.cast(target, f32)
    return _values.cast(target[0], f32), target[1]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("case", "option"), list(_weighted()))
def test_weights_of_any_size(case: LossCase, option: str, dtype: Any) -> None:
    """The mean of labels or values is that of other weights in proportion; all others are, too."""
    options = case.loss.spec.options
    relative = options["reduction"] == "mean" and case.loss.spec.kind in ("nll", "weighted")
    relative |= options["reduction"] == "mean" and (
        case.loss.spec.kind == "softmax_cross_entropy" and case.target.dtype.kind != "f"
    )
    prediction = _values.cast(case.prediction, dtype)
    plain = _pull(case.loss, *_values.cast((case.prediction, case.target), np.float64))
    for scale in _SCALES:
        loss, target = _scaled(case, option, scale)
        target = _single(target, option) if dtype is f32 else target
        for found, right in zip(_pull(loss, prediction, target), plain, strict=True):
            wanted = right if relative else right * scale
            assert np.isfinite(found).all(), scale
            least = 0 if dtype is np.float64 else _TINY
            size = np.abs(wanted).max()
            np.testing.assert_allclose(found, wanted, 1e-4, 1e-5 * size + least, err_msg=f"{scale}")


def test_the_largest_weights_make_a_mean() -> None:
    z, labels = np.array([[1, 2, 3], [0, 1, -1]], f32), np.array([0, 2])
    for build in (losses.softmax_cross_entropy, losses.nll):
        for dtype, most in ((np.float32, 3e38), (np.float64, 1.7e308)):
            plain = _pull(build(class_weight=[1, 1, 1]), z.astype(dtype), labels)
            found = _pull(build(class_weight=[most] * 3), z.astype(dtype), labels)
            for a, b in zip(found, plain, strict=True):
                np.testing.assert_allclose(a, b, 1e-6)
    each = losses.weighted(losses.l1(reduction="none"))
    for dtype, weight in ((f32, 3e38), (f32, 1e-45), (f32, 1e-50), (f32, 1e300), (np.float64, 1.7e308)):
        given = np.array([3, 5, 7, 9], dtype)
        value, slope = _pull(each, given, (np.zeros(4, dtype), np.full(4, weight)))
        assert value == pytest.approx(6, rel=1e-6)
        np.testing.assert_allclose(slope, 0.25, 1e-6)


# --- what weighs nothing --------------------------------------------------------------------------

_ELEMENTWISE = [case for case in registry.losses() if case.loss.spec.options.get("reduction") == "none"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in _ELEMENTWISE])
def test_what_weighs_nothing_may_be_anything(case: LossCase, reduction: str) -> None:
    """Prediction and target, with every loss."""
    if "couples_batch" in case.loss.spec.traits or case.loss.spec.kind == "weighted":
        return
    loss = losses.weighted(case.loss, reduction=reduction)
    given = _values.cast((case.prediction, case.target), f32)
    examples = len(next(leaf for _, leaf in _values.leaves(given)))
    weight = (np.arange(examples) % 2 == 0).astype(f32)
    plain = _pull(loss, given[0], (given[1], weight))
    for junk, whole in ((nan, -(2**31)), (inf, 2**31 - 1), (-inf, -1), (-5.0, 99)):

        def fill(leaf: Any, junk: float = junk, whole: int = whole) -> Any:
            out = leaf.copy()
            out[1::2] = junk if out.dtype.kind == "f" else np.array(whole).astype(out.dtype)
            return out

        prediction, target = _values.mapped(fill, given)
        for found, right in zip(_pull(loss, prediction, (target, weight)), plain, strict=True):
            assert found.tobytes() == right.tobytes(), junk
