"""Options that float32 cannot hold: computed as in float64, or refused in one line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import (
    checks,
    data,
    elu,
    hard_tanh,
    leaky_relu,
    local_response_norm,
    pad,
    random,
    threshold,
)
from funcnn.checks import Beside, Constraint, Either, Number, Optional, Refusal, Several, When, declared
from funcnn.parameterless import elementwise
from funcnn.testing import Subject, _values
from funcnn.types import Layer, Preserving, Spec, rebuild
from tests import registry
from tests.registry import Case

FAR = (1e-300, 1e-46, 1e-44, 1e-40, 1e-30, 1e30, 1e300, -1e-46, -1e30, -1e300)


def _number(constraint: Constraint) -> bool:
    if isinstance(constraint, (Beside, When, Optional, Several)):
        return _number(constraint.inner)
    return isinstance(constraint, Number) or (
        isinstance(constraint, Either) and _number(constraint.other)
    )


def _changed(spec: Spec, name: str, value: float) -> Layer[Any, Any]:
    call = inspect.signature(spec.build).bind(*spec.args, *map(rebuild, spec.children), **spec.options)
    call.apply_defaults()
    call.arguments[name] = value
    made: Layer[Any, Any] = spec.build(*call.args, **call.kwargs)
    return made


def _is_short(refusal: Refusal, words: str) -> None:
    assert words in str(refusal)
    assert len(str(refusal)) < 300


def _far(case: Case) -> Iterator[tuple[Layer[Any, Any], float]]:
    """The layer with one number after the other far out, as long as it takes it.

    Beside it, what its slopes are multiplied with: rounding errors of sums that cancel are, too.
    """
    for name, constraint in checks.declaration(case.layer.spec.build).items():
        for value in FAR if _number(constraint) else ():
            try:
                layer = _changed(case.layer.spec, name, value)
                layer.init(registry.subject(case).init_key, case.shape)
            except Refusal as refusal:
                _is_short(refusal, f"{case.layer.spec.kind}: ")
            else:
                yield layer, abs(value) if name == "scale" else 1.0


NUMBERS = [
    case
    for case in registry.layers()
    if any(map(_number, checks.declaration(case.layer.spec.build).values()))
]


def _agrees(layer: Layer[Any, Any], case: Case, factor: float = 1.0) -> None:
    """Float32 says what float64 does, and neither says NaN; or it is refused in one line."""
    subject = Subject(layer, case.shape, x=case.x, stopped=case.stopped)
    narrow = _values.cast((subject.started[1], subject.x), np.float32)
    constant = _values.mapped(lambda a: np.zeros_like(a) if _values.is_float(a) else a, narrow)
    for params, x in (narrow, (narrow[0], constant[1])):
        for mode in subject.distinct_modes:
            try:
                layer.apply(params, x)
            except Refusal as refusal:
                _is_short(refusal, "that float32 can hold, got ")
                continue
            runs = []
            for dtype in (np.float32, np.float64):
                given = _values.cast((params, x), dtype)
                out, cache = layer.apply(*given, key=subject.modes[mode])
                dout = _values.cast(_values.cast(subject.dout(out), np.float32), dtype)
                runs.append((out, *layer.vjp(cache, dout)))
            drawn = mode == "training" and subject.has("stochastic")  # normals of other bits
            for (at, found), (_, exact) in zip(*map(_values.leaves, runs), strict=True):
                if _values.is_float(found):
                    assert not np.isnan(found).any(), f"{layer!r}, {mode}: NaN at {at}"
                    assert not np.isnan(exact).any(), f"{layer!r}, {mode}: NaN at {at} in float64"
                    beyond = np.abs(exact) > np.finfo(np.float32).max  # a slope that float32 has not
                    wanted = np.where(beyond, 0, exact)
                    near = 1e-5 * max(1.0, factor, float(np.abs(wanted).max(initial=0)))
                    right = beyond | (np.abs(found - wanted) <= near)
                    assert drawn or right.all(), f"{layer!r}, {mode}: at {at}"


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in NUMBERS])
def test_numbers_far_out_are_right_or_refused(case: Case) -> None:
    for layer, factor in _far(case):
        _agrees(layer, case, factor)


@declared(factor=Number())
def times(factor: float) -> Preserving:
    """Multiply: what float32 cannot hold is infinite."""
    return elementwise(lambda x: x * x.dtype.type(factor), lambda x: np.full_like(x, factor), dead=True)


def test_an_option_that_overflows_is_caught() -> None:
    case = Case(times(2.0), (2, 3))
    _agrees(case.layer, case)
    with pytest.raises(AssertionError, match="NaN at 0"), np.errstate(all="ignore"):
        _agrees(times(1e300), case)


@pytest.mark.parametrize(
    ("layer", "option"),
    [
        (leaky_relu(-1e300), "negative_slope"),
        (elu(1e300), "alpha"),
        (threshold(0.0, 1e39), "value"),
        (hard_tanh(-1.0, 1e300), "maximum"),
        (pad(1, value=-1e300), "value"),
        (local_response_norm(3, alpha=1e300), "alpha"),
        (local_response_norm(3, k=1e300), "k"),
    ],
    ids=repr,
)
def test_what_may_come_out_must_fit(layer: Layer[Any, Any], option: str) -> None:
    x = np.ones((2, 3, 4))
    assert np.isfinite(layer.apply({}, x)[0]).all()
    with pytest.raises(ValueError, match=f": `{option}` must give numbers that float32 can"):
        layer.apply({}, x.astype(np.float32))


# --- sizes beyond any memory ----------------------------------------------------------------------

_IMAGES = np.ones((2, 1, 8, 8), np.float32)


def _run(layer: Any) -> Any:
    _, params = layer.init(random.key(0), _IMAGES.shape)
    return layer.apply(params, _IMAGES)


@pytest.mark.parametrize("size", [2**61, 2**62])
@pytest.mark.parametrize(
    "use",
    [
        lambda size: _run(funcnn.conv(1, 3, padding=size)),
        lambda size: _run(funcnn.conv_transpose(1, 3, stride=size)),
        lambda size: _run(funcnn.upsample(size)),
        lambda size: _run(funcnn.pad(size)),
        lambda size: _run(funcnn.avg_pool(size, padding=size // 2)),
        lambda size: _run(funcnn.serial(funcnn.relu(), funcnn.upsample(size))),
        lambda size: funcnn.one_hot(np.zeros(2, np.int64), size),
        lambda size: data.moons(random.key(0), size),
        lambda size: data.resize(_IMAGES, (size, 2)),
        lambda size: data.mixup(size).pair(random.key(0), _IMAGES, np.zeros(2, np.int64)),
        lambda size: data.random_shift(size)(random.key(0), _IMAGES),
        lambda size: data.random_crop(4, padding=size)(random.key(0), _IMAGES),
        lambda size: data.cutout(size)(random.key(0), _IMAGES),
    ],
)
def test_sizes_beyond_any_memory_are_refused_in_one_line(use: Any, size: int) -> None:
    with pytest.raises(ValueError, match=r"^[a-z_/1]+: [^\n]{1,280}$") as caught:
        use(size)
    assert isinstance(caught.value, checks.Refusal)


def test_amounts_of_augmentations_and_noise() -> None:
    key = random.key(0)
    for pixels in (9, 10**9):
        with pytest.raises(ValueError, match=r"^random_shift: `pixels` must be at most 8 for images"):
            data.random_shift(pixels)(key, _IMAGES)
        with pytest.raises(ValueError, match=r"^cutout: `size` must be at most 8 for images of shape"):
            data.cutout(pixels)(key, _IMAGES)
    assert data.random_shift(8)(key, _IMAGES).shape == data.cutout(8)(key, _IMAGES).shape
    for option in ("rotation", "shear", "shift"):
        assert data.random_affine(**{option: 1e6})(key, _IMAGES).shape == _IMAGES.shape
        with pytest.raises(ValueError, match=rf"^random_affine: `{option}` must be at most 1000000.0"):
            data.random_affine(**{option: 1e300})
    assert np.isfinite(data.xor(key, 9, noise=1e30).x).all()
    with pytest.raises(ValueError, match=r"^moons: `noise` must be at most 1e\+30, got 1e\+300"):
        data.moons(key, 9, noise=1e300)
