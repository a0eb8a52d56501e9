"""Optimizers in float32 move as in float64, rounded: gradients, parameters and options of any size."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from funcnn import checks, optimizers, random, schedules, tree
from funcnn.optimizers import Optimizer, chain
from funcnn.types import Array, Params, rebuild
from tests.test_optimizers import CASES

f32 = np.float32
_KEY = random.key(77)
_MOST = float(np.finfo(f32).max) * (1 - 1e-5)
_PARAMS: Params = {
    "bias": random.normal(_KEY, (5,)),
    "dense1": {"bias": random.normal(_KEY, (3,)), "weight": random.normal(_KEY, (6, 4))},
    "temperature": random.normal(_KEY, ()),
}

# Parts that are not among the cases by themselves.
PARTS = [
    optimizers.trace(0.9),
    optimizers.trace(0.5, nesterov=True),
    optimizers.scale_by_adam(),
    optimizers.scale_by_amsgrad(),
    optimizers.scale_by_nadam(),
    optimizers.scale_by_radam(),
    optimizers.scale_by_adamax(),
    optimizers.scale_by_belief(),
    optimizers.scale_by_adagrad(),
    optimizers.scale_by_adadelta(),
    optimizers.scale_by_rms(),
    optimizers.scale_by_rms(centered=True),
    optimizers.scale_by_lion(),
    optimizers.scale_by_rprop(),
    optimizers.scale_by_factored_rms(),
    optimizers.scale_by_parameter_size(),
    optimizers.scale_by_trust_ratio(),
    optimizers.scale_by_learning_rate(0.1),
    optimizers.add_decayed_weights(0.1, "*"),
    optimizers.scale(3.0),
    optimizers.ema(0.9),
    optimizers.average(),
    optimizers.clip(0.1),
    optimizers.clip_by_norm(0.1),
    optimizers.clip_by_global_norm(0.1),
    optimizers.lamb(0.1, 0.1, mask="*"),
    optimizers.nesterov(0.1),
    optimizers.momentum(0.01),
]
_ALL = {repr(case): case for case in (*CASES, *PARTS)}
each = pytest.mark.parametrize("optimizer", _ALL.values(), ids=_ALL)


def _grads(step: int, size: float, like: Params = _PARAMS) -> Params:
    def leaf(path: str, param: Array) -> Array:
        key = random.fold_in(random.fold_in(_KEY, path), step)
        sign = np.sign(random.normal(random.fold_in(_KEY, path), param.shape, dtype=np.float64))
        return np.asarray(sign * random.uniform(key, param.shape, 0.5, 1.0, dtype=np.float64) * size)

    return tree.cast(tree.map_with_path(leaf, like), f32)


def _steps(
    optimizer: Optimizer, gradients: list[Params], params: Params = _PARAMS
) -> Iterator[tuple[Params, Params]]:
    """Each update in float32, and in float64 from the same state."""
    wide = tree.cast(params, np.float64)
    state, wide_state = optimizer.init(params), optimizer.init(wide)
    for grads in gradients:
        found, state = optimizer.update(grads, state, params)
        wanted, wide_state = optimizer.update(tree.cast(grads, np.float64), wide_state, wide)
        yield found, wanted


def _differ(found: Params, wanted: Params, least: float = 1e-43) -> list[str]:
    wrong, rtol = [], 1e-3
    for (path, got), (_, right) in zip(tree.leaves(found), tree.leaves(wanted), strict=True):
        assert got.dtype == f32
        scale = float(np.max(np.abs(right), initial=0, where=np.abs(right) < _MOST))
        off = np.isnan(got) | ~(np.abs(got - right) <= rtol * np.abs(right) + 1e-6 * scale + least)
        off &= ~((np.abs(right) >= _MOST * (1 - rtol)) & (np.abs(got) >= _MOST * (1 - rtol)))
        off |= np.isnan(right)
        for place in np.argwhere(off)[:2]:
            at = tuple(place)
            wrong.append(f"{path} {at}: {got[at]}, not {right[at]}")
    return wrong


# --- gradients and parameters of any size ---------------------------------------------------------

_LEAST = {"adafactor": 1e-2, "factored": 1e-2}  # the least mean square is the epsilon of the dtype


def _noise(optimizer: Optimizer) -> float:
    """What the last digits of the parameters are worth."""
    return 1e-6 if "lookahead" in repr(optimizer) else 1e-43


@pytest.mark.sampled(3)
@each
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-30, 1e-19, 1e-6, 1e10, 1e19, 1e30, 1e38, 3e38])
def test_gradients_of_any_size(optimizer: Optimizer, size: float) -> None:
    if any(size < least for name, least in _LEAST.items() if name in repr(optimizer)):
        pytest.skip("its least mean square is the epsilon of the dtype")
    tiny = size < 1e-36  # a mean of such gradients has few digits
    with np.errstate(all="ignore"):
        gradients = [_grads(0, size), _grads(1, size), _grads(2, 1.0)]
    for step, (found, wanted) in enumerate(_steps(optimizer, gradients)):
        wrong = _differ(found, wanted, _noise(optimizer))
        if tiny or (size > 1e38 and step):
            wrong = [text for text in wrong if "nan" in text or "inf" in text]
        assert not wrong, f"step {step}: {wrong[:6]}"


@each
def test_gradients_of_mixed_sizes(optimizer: Optimizer) -> None:
    def mix(path: str, param: Array, steps: int = 0) -> Array:
        power = random.randint(random.fold_in(_KEY, path), param.shape, -2, 38)
        return np.asarray(np.sign(param) * 10.0**power)

    gradients = [tree.cast(tree.map_with_path(mix, _PARAMS), f32), _grads(1, 1.0), _grads(2, 1e-3)]
    for step, (found, wanted) in enumerate(_steps(optimizer, gradients)):
        wrong = _differ(found, wanted, _noise(optimizer))
        assert not wrong, f"step {step}: {wrong[:6]}"


@pytest.mark.sampled(2)
@each
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-20, 1e20, 3e38])
def test_parameters_of_any_size(optimizer: Optimizer, size: float) -> None:
    params = tree.map(lambda leaf: np.asarray(np.full_like(leaf, size) * np.sign(leaf)), _PARAMS)
    for found, wanted in _steps(optimizer, [_grads(0, 1.0), _grads(1, 1.0)], params):
        assert not _differ(found, wanted), _differ(found, wanted)[:6]


def test_sums_come_back_from_beyond_float32() -> None:
    big = {"w": np.full(2, 3e38, f32)}
    start = {"w": np.zeros(2, f32)}
    for optimizer, right in (
        (optimizers.nesterov(0.1), -5.7e37),
        (chain(optimizers.scale(1e10), optimizers.scale(1e-12)), 3e36),
        (optimizers.sgd(1e-3, 0.5, nesterov=True), -4.5e35),
    ):
        updates, _ = optimizer.update(big, optimizer.init(start), start)
        np.testing.assert_allclose(updates["w"], right, 1e-5)
    twice = optimizers.accumulate(optimizers.sgd(0.1), 2)
    _, state = twice.update(big, twice.init(start), start)
    np.testing.assert_allclose(twice.update(big, state, start)[0]["w"], -3e37, 1e-5)


# --- options of any size --------------------------------------------------------------------------

_SIZES = (1e-320, 1e-46, 1e-44, 1e-40, 1e-30, 1e30, 1e46, 1e300, 1.7e308, 1 - 1e-16)


def _options() -> Iterator[Any]:
    seen = set()
    for case in (*PARTS, *CASES):
        for name, constraint in checks.declaration(case.spec.build).items():
            inner = getattr(constraint, "inner", constraint)
            if isinstance(inner, checks.Number) and (case.spec.kind, name) not in seen:
                seen.add((case.spec.kind, name))
                yield pytest.param(case, name, id=f"{case.spec.kind} {name}")


def _with(case: Optimizer, option: str, size: float) -> Optimizer:
    spec = case.spec
    call = inspect.signature(spec.build).bind(*spec.args, *map(rebuild, spec.children), **spec.options)
    made: Optimizer = spec.build(**{**call.arguments, option: size})
    return made


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("case", "option"), list(_options()))
@pytest.mark.parametrize("gradient", [1.0, 1e-30, 1e30, 0.0])
def test_options_of_any_size(case: Optimizer, option: str, gradient: float) -> None:
    wrong = []
    for size in _SIZES:
        try:
            optimizer = _with(case, option, size)
        except ValueError as refusal:
            if f"`{option}`" not in str(refusal):
                raise
            continue
        if gradient == 1e-30 and any(name in repr(optimizer) for name in _LEAST):
            continue
        if "centered=True" in repr(optimizer) and option == "decay" and size < 0.5:
            continue  # a variance of rounding errors
        lost = gradient == 1e-30 and 0.5 < size < 1  # a mean that float32 does not have
        gradients = [_grads(step, gradient) for step in range(1 if lost else 3)]
        least = max(_noise(optimizer), 1e-7 * max(gradient, 1.0) if "decay" in option else 0)
        try:
            for step, (found, wanted) in enumerate(_steps(optimizer, gradients)):
                huge = any(not np.isfinite(leaf).all() for _, leaf in tree.leaves(found))
                if huge and 1e-37 < size < 1e38:
                    continue  # an ordinary option of a huge gradient
                assert not huge, f"{option}={size} at step {step}: {found}"
                found_wrong = _differ(found, wanted, least)
                wrong += [f"{option}={size} step {step}: {text}" for text in found_wrong]
        except ValueError as refusal:
            if f"`{option}` must" not in str(refusal) or 1e-37 < size < 1e38:
                raise
    assert not wrong, "\n".join(wrong[:12])


def test_learning_rates_of_any_size() -> None:
    params: Params = {"w": np.array([1, 0, 1e30], f32)}
    tiny: Params = {"w": np.array([1e-30, 0, 0], f32)}
    right = np.array([-1e16, 0, 0], f32)
    for rate in (1e46, schedules.constant(1e46), lambda step: 1e46):
        optimizer = optimizers.sgd(rate)
        updates, state = optimizer.update(tiny, optimizer.init(params), params)
        np.testing.assert_allclose(updates["w"], right, 1e-6)
        with pytest.raises(ValueError, match="`learning_rate` must give numbers that float32 can hold"):
            optimizer.update(params, state, params)
    np.testing.assert_allclose(optimizers.sgd_update(tiny, tiny, 1e46)["w"], right, 1e-6)
    moved = optimizers.sgd_update(tiny, params, 1e-46)["w"]
    np.testing.assert_allclose(moved, [1e-30, 0, -1e-16], 1e-6)
    with pytest.raises(ValueError, match="sgd_update: `lr` must give numbers that float32 can hold"):
        optimizers.sgd_update(params, params, 1e300)


# --- what these tests find ------------------------------------------------------------------------


def _forgetful(epsilon: float) -> Optimizer:
    """Adagrad as one writes it first."""

    def update(grads: Params, state: Params, params: Params) -> tuple[Params, Params]:
        square = tree.map(lambda s, g: s + g * g, state, grads)
        return tree.map(lambda g, s: g / (np.sqrt(s) + g.dtype.type(epsilon)), grads, square), square

    return Optimizer(tree.zeros_like, update)


@pytest.mark.parametrize(("epsilon", "size"), [(1e-8, 1e30), (1e-46, 1e-30), (1e-46, 0.0)])
def test_an_optimizer_as_one_writes_it_first_is_caught(epsilon: float, size: float) -> None:
    with np.errstate(all="ignore"):
        assert not any(_differ(*pair) for pair in _steps(_forgetful(1e-8), [_grads(0, 1.0)]))
        assert any(_differ(*pair) for pair in _steps(_forgetful(epsilon), [_grads(0, size)]))
