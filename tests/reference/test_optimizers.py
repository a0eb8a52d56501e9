"""Optimizers against PyTorch's and optax's: fifty steps of the same trajectory, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from funcnn import optimizers, random, schedules, tree
from funcnn.optimizers import Optimizer, apply_updates, chain
from funcnn.types import Array, Params
from tests.reference.agreement import torch

STEPS = 50
_KEY = random.key(23)


def _normal(label: str, *shape: int) -> Array:
    return random.normal(random.fold_in(_KEY, label), shape, dtype=np.float64)


START: Params = {
    "conv1": {"bias": _normal("b", 3), "weight": _normal("w", 3, 2, 2, 2)},
    "dense1": {"bias": _normal("c", 4), "weight": _normal("v", 4, 5)},
    "scale": _normal("s"),
}
FEW: Params = {"dense1": START["dense1"], "scale": START["scale"]}
MATRICES: Params = {"tall": _normal("tall", 6, 3), "wide": _normal("wide", 3, 5)}
_CENTRE = tree.map(lambda leaf: 0.3 * leaf[..., ::-1] if leaf.ndim else 0.3 * leaf, START | MATRICES)


def _slope(path: str, x: Any) -> Any:
    """A gradient that is neither linear nor monotone, from ``+ - * /`` alone: for tensors, too."""
    centre = _centre(path)
    difference = x - (torch.tensor(centre.copy()) if isinstance(x, torch.Tensor) else centre)
    return difference / (1 + difference * difference) + 0.1 * x * x * x


def _centre(path: str) -> Array:
    return np.asarray(dict(tree.leaves(_CENTRE))[path])


def _gradient(params: Params) -> Params:
    return tree.map_with_path(lambda path, leaf: np.asarray(_slope(path, leaf)), params)


def _ours(optimizer: Optimizer, start: Params) -> list[Params]:
    params, state, visited = start, optimizer.init(start), []
    for _ in range(STEPS):
        updates, state = optimizer.update(_gradient(params), state, params)
        params = apply_updates(params, updates)
        visited.append(params)
    return visited


def _same(mine: list[Params], theirs: list[Params]) -> None:
    for step, (ours, its) in enumerate(zip(mine, theirs, strict=True)):
        for (path, leaf), (_, other) in zip(tree.leaves(ours), tree.leaves(its), strict=True):
            np.testing.assert_allclose(
                leaf, other, rtol=1e-10, atol=1e-10, err_msg=f"{path} at step {step}"
            )
    moved = tree.norm(tree.add(mine[-1], tree.scale(mine[0], -1)))
    assert moved > 1e-4, "a trajectory that stands still proves nothing"


# --- PyTorch --------------------------------------------------------------------------------------


def _torchs(
    make: Callable[[list[Any]], Any],
    start: Params,
    prepare: Callable[[list[Any]], Any] | None = None,
    follow: Callable[[Any], Any] | None = None,
) -> list[Params]:
    """The trajectory; `prepare` sees the tensors before each step, `follow` makes a scheduler."""
    paths = [path for path, _ in tree.leaves(start)]
    tensors = [torch.tensor(leaf.copy()) for _, leaf in tree.leaves(start)]
    optimizer = make(tensors)
    scheduler = follow(optimizer) if follow else None
    visited = []
    for _ in range(STEPS):
        for path, tensor in zip(paths, tensors, strict=True):
            tensor.grad = _slope(path, tensor)
        if prepare is not None:
            prepare(tensors)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        found = {p: t.numpy().copy() for p, t in zip(paths, tensors, strict=True)}
        visited.append(tree.map_with_path(lambda path, _, found=found: found[path], start))
    return visited


# Where steps are of one size, close to a minimum, a difference in the last bit grows tenfold every few
# steps: the learning rates are such that fifty steps do not get there.
_TORCH = torch.optim
TORCH_CASES = {
    "sgd": (optimizers.sgd(0.1), lambda p: _TORCH.SGD(p, 0.1)),
    "sgd, weight decay": (
        optimizers.sgd(0.1, weight_decay=0.1, mask="*"),
        lambda p: _TORCH.SGD(p, 0.1, weight_decay=0.1),
    ),
    "sgd, nesterov": (
        optimizers.sgd(0.05, 0.8, nesterov=True, weight_decay=0.1, mask="*"),
        lambda p: _TORCH.SGD(p, 0.05, 0.8, nesterov=True, weight_decay=0.1),
    ),
    "sgd, dampening": (
        optimizers.sgd(0.05, 0.8, dampening=0.3),
        lambda p: _TORCH.SGD(p, 0.05, 0.8, dampening=0.3),
    ),
    "asgd": (optimizers.asgd(0.05), lambda p: _TORCH.ASGD(p, 0.05)),
    "asgd, options": (
        optimizers.asgd(0.1, decay=0.1, power=0.5, start=5, weight_decay=0.1, mask="*"),
        lambda p: _TORCH.ASGD(p, 0.1, lambd=0.1, alpha=0.5, t0=5, weight_decay=0.1),
    ),
    "rprop": (optimizers.rprop(), lambda p: _TORCH.Rprop(p)),
    "rprop, options": (
        optimizers.rprop(0.05, shrink=0.3, grow=1.5, least=1e-3, most=0.2),
        lambda p: _TORCH.Rprop(p, 0.05, (0.3, 1.5), (1e-3, 0.2)),
    ),
    "momentum": (optimizers.momentum(0.05), lambda p: _TORCH.SGD(p, 0.05, 0.9)),
    "nesterov": (optimizers.nesterov(0.05), lambda p: _TORCH.SGD(p, 0.05, 0.9, nesterov=True)),
    "adagrad": (optimizers.adagrad(0.1), lambda p: _TORCH.Adagrad(p, 0.1)),
    "adagrad, initial": (
        optimizers.adagrad(0.1, initial=0.3, epsilon=1e-3),
        lambda p: _TORCH.Adagrad(p, 0.1, initial_accumulator_value=0.3, eps=1e-3),
    ),
    "adadelta": (optimizers.adadelta(), lambda p: _TORCH.Adadelta(p)),
    "adadelta, options": (
        optimizers.adadelta(0.5, decay=0.7, epsilon=1e-2),
        lambda p: _TORCH.Adadelta(p, 0.5, rho=0.7, eps=1e-2),
    ),
    "rmsprop": (optimizers.rmsprop(), lambda p: _TORCH.RMSprop(p)),
    "rmsprop, momentum": (
        optimizers.rmsprop(0.01, decay=0.9, epsilon=1e-3, momentum=0.7),
        lambda p: _TORCH.RMSprop(p, 0.01, 0.9, 1e-3, momentum=0.7),
    ),
    "rmsprop, centered": (
        optimizers.rmsprop(0.01, centered=True, epsilon=1e-4),
        lambda p: _TORCH.RMSprop(p, 0.01, centered=True, eps=1e-4),
    ),
    "adam": (optimizers.adam(0.05), lambda p: _TORCH.Adam(p, 0.05)),
    "adam, options": (
        optimizers.adam(0.05, 0.8, 0.95, 1e-3),
        lambda p: _TORCH.Adam(p, 0.05, (0.8, 0.95), 1e-3),
    ),
    "adam, L2 penalty": (
        chain(optimizers.add_decayed_weights(0.1, "*"), optimizers.adam(0.05)),
        lambda p: _TORCH.Adam(p, 0.05, weight_decay=0.1),
    ),
    "adamw": (optimizers.adamw(0.05, mask="*"), lambda p: _TORCH.AdamW(p, 0.05)),
    "adamw, options": (
        optimizers.adamw(0.05, 0.2, beta1=0.8, beta2=0.95, epsilon=1e-3, mask="*"),
        lambda p: _TORCH.AdamW(p, 0.05, (0.8, 0.95), 1e-3, 0.2),
    ),
    "amsgrad": (optimizers.amsgrad(0.05), lambda p: _TORCH.Adam(p, 0.05, amsgrad=True)),
    "amsgrad, options": (
        optimizers.amsgrad(0.05, 0.8, 0.9, 1e-3),
        lambda p: _TORCH.Adam(p, 0.05, (0.8, 0.9), 1e-3, amsgrad=True),
    ),
    "adamax": (optimizers.adamax(0.05), lambda p: _TORCH.Adamax(p, 0.05)),
    "adamax, options": (
        optimizers.adamax(0.05, 0.8, 0.9, 1e-3),
        lambda p: _TORCH.Adamax(p, 0.05, (0.8, 0.9), 1e-3),
    ),
    "nadam": (optimizers.nadam(0.002), lambda p: _TORCH.NAdam(p, 0.002)),
    "nadam, options": (
        optimizers.nadam(0.002, 0.8, 0.9, 1e-3, momentum_decay=0.1),
        lambda p: _TORCH.NAdam(p, 0.002, (0.8, 0.9), 1e-3, momentum_decay=0.1),
    ),
    "radam": (optimizers.radam(0.05), lambda p: _TORCH.RAdam(p, 0.05)),
    "radam, options": (
        optimizers.radam(0.05, 0.8, 0.9, 1e-3),
        lambda p: _TORCH.RAdam(p, 0.05, (0.8, 0.9), 1e-3),
    ),
    "adafactor": (optimizers.adafactor(), lambda p: _TORCH.Adafactor(p)),
    "adafactor, steep": (optimizers.adafactor(0.5), lambda p: _TORCH.Adafactor(p, 0.5)),
    "adafactor, options": (
        optimizers.adafactor(0.02, 0.1, decay=0.6, limit=1.5, least=0.7, mask="*"),
        lambda p: _TORCH.Adafactor(p, 0.02, beta2_decay=-0.6, eps=(None, 0.7), d=1.5, weight_decay=0.1),
    ),
    "lbfgs": (optimizers.lbfgs(0.3), lambda p: _Lbfgs(p, 0.3, 10, None)),
    "lbfgs, short memory": (optimizers.lbfgs(0.3, memory=3), lambda p: _Lbfgs(p, 0.3, 3, None)),
}


class _Lbfgs:
    """PyTorch's L-BFGS, one iteration for each step."""

    def __init__(self, tensors: list[Any], rate: float, memory: int, search: str | None) -> None:
        self.optimizer = _TORCH.LBFGS(
            tensors, rate, max_iter=1, max_eval=26, history_size=memory, line_search_fn=search
        )

    def step(self, closure: Callable[[], Any] = lambda: torch.zeros(())) -> None:
        self.optimizer.step(closure)


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    """PyTorch keeps NAdam's running product in its default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", TORCH_CASES)
def test_trajectory_equals_pytorchs(name: str) -> None:
    mine, theirs = TORCH_CASES[name]
    _same(_ours(mine, START), _torchs(theirs, START))


def test_the_mean_of_asgd_equals_pytorchs() -> None:
    mine = optimizers.asgd(0.1, decay=0.1, start=5)
    tensors = [torch.tensor(leaf.copy()) for _, leaf in tree.leaves(START)]
    theirs = _TORCH.ASGD(tensors, 0.1, lambd=0.1, t0=5)
    params, state = START, mine.init(START)
    for _ in range(20):
        updates, state = mine.update(_gradient(params), state, params)
        params = optimizers.apply_updates(params, updates)
        for (path, _), tensor in zip(tree.leaves(START), tensors, strict=True):
            tensor.grad = _slope(path, tensor)
        theirs.step()
    for (path, leaf), tensor in zip(tree.leaves(optimizers.ema_params(state)), tensors, strict=True):
        np.testing.assert_allclose(leaf, theirs.state[tensor]["ax"].numpy(), 1e-10, err_msg=path)


def _value(path: str, x: Any) -> Any:
    """Of which `_slope` is the derivative."""
    centre = _centre(path)
    difference = x - (torch.tensor(centre.copy()) if isinstance(x, torch.Tensor) else centre)
    logarithm = torch.log1p if isinstance(x, torch.Tensor) else np.log1p
    return (0.5 * logarithm(difference * difference) + 0.1 * x * x * x * x / 4).sum()


@pytest.mark.parametrize("rate", [1.0, 0.05, 8.0])
def test_lbfgs_with_a_line_search_equals_pytorchs(rate: float) -> None:
    """The rate is where the search begins: too near, or too far."""

    def value_and_grad(params: Params) -> tuple[float, Params]:
        total = sum(float(_value(path, leaf)) for path, leaf in tree.leaves(params))
        return total, _gradient(params)

    paths = [path for path, _ in tree.leaves(START)]
    tensors = [torch.tensor(leaf.copy()) for _, leaf in tree.leaves(START)]
    theirs = _Lbfgs(tensors, rate, 10, "strong_wolfe")

    def closure() -> Any:
        for path, tensor in zip(paths, tensors, strict=True):
            tensor.grad = _slope(path, tensor)
        return torch.tensor(sum(float(_value(p, t)) for p, t in zip(paths, tensors, strict=True)))

    mine = optimizers.lbfgs(rate)
    params, state = START, mine.init(START)
    values = []
    for step in range(STEPS):
        theirs.step(closure)
        value, grads = value_and_grad(params)
        values.append(value)
        updates, state = mine.update(grads, state, params, value_and_grad)
        params = apply_updates(params, updates)
        for (path, leaf), tensor in zip(tree.leaves(params), tensors, strict=True):
            np.testing.assert_allclose(
                leaf, tensor.numpy(), rtol=1e-10, atol=1e-10, err_msg=f"{path} at step {step}"
            )
    assert values == sorted(values, reverse=True)
    assert tree.norm(value_and_grad(params)[1]) < 1e-4


def test_clipping_equals_pytorchs() -> None:
    sgd = optimizers.sgd(0.1)
    utilities = torch.nn.utils

    def each(tensors: list[Any]) -> None:
        for tensor in tensors:
            utilities.clip_grad_norm_([tensor], 0.4)

    for mine, prepare in (
        (optimizers.clip(0.2), lambda p: utilities.clip_grad_value_(p, 0.2)),
        (optimizers.clip_by_global_norm(0.7), lambda p: utilities.clip_grad_norm_(p, 0.7)),
        (optimizers.clip_by_norm(0.4), each),
    ):
        _same(_ours(chain(mine, sgd), START), _torchs(lambda p: _TORCH.SGD(p, 0.1), START, prepare))


def test_accumulation_equals_pytorchs() -> None:
    """Whose gradients add up until they are set to zero."""
    paths = [path for path, _ in tree.leaves(START)]
    tensors = [torch.tensor(leaf.copy()) for _, leaf in tree.leaves(START)]
    theirs = _TORCH.Adam(tensors, 0.05)
    mine = _ours(optimizers.accumulate(optimizers.adam(0.05), 3), START)
    for step in range(STEPS):
        for path, tensor in zip(paths, tensors, strict=True):
            part = _slope(path, tensor) / 3
            tensor.grad = part if step % 3 == 0 else tensor.grad + part
        if step % 3 == 2:
            theirs.step()
        for (_, leaf), tensor in zip(tree.leaves(mine[step]), tensors, strict=True):
            np.testing.assert_allclose(leaf, tensor.numpy(), rtol=1e-10, atol=1e-10)


def test_ema_equals_pytorchs() -> None:
    """Its average starts as a copy of the first parameters."""
    averaging = torch.optim.swa_utils
    model = torch.nn.Linear(5, 4).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor(START["dense1"]["weight"]))
        model.bias.copy_(torch.tensor(START["dense1"]["bias"]))
    average = averaging.AveragedModel(
        model, multi_avg_fn=averaging.get_ema_multi_avg_fn(0.9), use_buffers=False
    )
    average.update_parameters(model)
    mine = chain(optimizers.adam(0.05), optimizers.ema(0.9))
    params = {"dense1": START["dense1"]}
    state = mine.init(params)
    theirs = _TORCH.Adam(model.parameters(), 0.05)
    for _ in range(STEPS):
        for name, tensor in (("weight", model.weight), ("bias", model.bias)):
            tensor.grad = _slope(f"dense1/{name}", tensor.detach())
        theirs.step()
        average.update_parameters(model)
        updates, state = mine.update(_gradient(params), state, params)
        params = apply_updates(params, updates)
    found = optimizers.ema_params(state)["dense1"]
    for name in ("weight", "bias"):
        wanted = getattr(average.module, name).detach().numpy()
        np.testing.assert_allclose(found[name], wanted, rtol=1e-10)


# --- schedules ------------------------------------------------------------------------------------

_RATES = torch.optim.lr_scheduler
SCHEDULES: dict[str, tuple[schedules.Schedule, Callable[[Any], Any]]] = {
    "linear": (schedules.linear(0.1, 0.02, 30), lambda o: _RATES.LinearLR(o, 1.0, 0.2, 30)),
    "polynomial": (
        schedules.polynomial(0.1, 0.0, 30, 1.7),
        lambda o: _RATES.PolynomialLR(o, 30, 1.7),
    ),
    "exponential": (schedules.exponential(0.1, 0.93), lambda o: _RATES.ExponentialLR(o, 0.93)),
    "step_decay": (schedules.step_decay(0.1, 0.3, 7), lambda o: _RATES.StepLR(o, 7, 0.3)),
    "stairs": (
        schedules.join([0.1, 0.05, 0.025], [5, 31]),
        lambda o: _RATES.MultiStepLR(o, [5, 31], 0.5),
    ),
    "cosine": (
        schedules.cosine(0.1, STEPS, 0.01),
        lambda o: _RATES.CosineAnnealingLR(o, STEPS, 0.01),
    ),
    "cosine_restarts": (
        schedules.cosine_restarts(0.1, 6, 2, 0.01),
        lambda o: _RATES.CosineAnnealingWarmRestarts(o, 6, 2, 0.01),
    ),
    "cosine_restarts, even": (
        schedules.cosine_restarts(0.1, 6),
        lambda o: _RATES.CosineAnnealingWarmRestarts(o, 6),
    ),
    "one_cycle": (
        schedules.one_cycle(0.1, STEPS + 1),
        lambda o: _RATES.OneCycleLR(o, 0.1, STEPS + 1, cycle_momentum=False),
    ),
    "one_cycle, linear": (
        schedules.one_cycle(0.1, STEPS + 1, rise=0.4, start_divisor=5, stop_divisor=7, shape="linear"),
        lambda o: _RATES.OneCycleLR(
            o,
            0.1,
            STEPS + 1,
            pct_start=0.4,
            anneal_strategy="linear",
            cycle_momentum=False,
            div_factor=5,
            final_div_factor=7,
        ),
    ),
    "warmup": (
        schedules.warmup(schedules.exponential(0.1, 0.9), 10, 0.01),
        lambda o: _RATES.SequentialLR(
            o, [_RATES.LinearLR(o, 0.1, 1.0, 10), _RATES.ExponentialLR(o, 0.9)], [10]
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # PyTorch's SequentialLR calls itself so
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_equals_pytorchs(name: str) -> None:
    mine, theirs = SCHEDULES[name]
    optimizer = _TORCH.SGD([torch.zeros(1)], 0.1)
    scheduler = theirs(optimizer)
    for step in range(STEPS):
        np.testing.assert_allclose(
            mine(step), optimizer.param_groups[0]["lr"], rtol=1e-12, atol=1e-17, err_msg=f"{step}"
        )
        optimizer.step()
        scheduler.step()


def test_schedule_inside_an_optimizer() -> None:
    mine, theirs = SCHEDULES["cosine"]
    _same(
        _ours(optimizers.adam(mine), START),
        _torchs(lambda p: _TORCH.Adam(p, 0.1), START, follow=theirs),
    )


# --- optax ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def optax() -> Any:
    """optax on JAX in float64, where both are installed."""
    pytest.importorskip("jax", reason="JAX is not installed: pip install jax optax")
    return pytest.importorskip("optax", reason="optax is not installed: pip install optax")


def _optaxs(optimizer: Any, start: Params) -> list[Params]:
    import jax

    with jax.enable_x64(True):
        params, state, visited = start, optimizer.init(start), []
        update = jax.jit(optimizer.update)
        for _ in range(STEPS):
            updates, state = update(_gradient(params), state, params)
            params = tree.map(lambda a, b: np.asarray(a + np.asarray(b)), params, updates)
            visited.append(params)
    return visited


OPTAX_CASES: dict[str, tuple[Optimizer, Callable[[Any], Any]]] = {
    "adam": (optimizers.adam(0.05), lambda o: o.adam(0.05)),
    "adabelief": (optimizers.adabelief(0.05), lambda o: o.adabelief(0.05)),
    "adabelief, options": (
        optimizers.adabelief(0.05, 0.8, 0.9, 1e-4),
        lambda o: o.adabelief(0.05, 0.8, 0.9, 1e-4, 1e-4),
    ),
    "lion": (optimizers.lion(0.01, mask="*"), lambda o: o.lion(0.01)),
    "lion, options": (
        optimizers.lion(0.01, 0.1, beta1=0.7, beta2=0.8, mask="*"),
        lambda o: o.lion(0.01, 0.7, 0.8, weight_decay=0.1),
    ),
    "lamb": (optimizers.lamb(0.05), lambda o: o.lamb(0.05)),
    "lamb, options": (
        optimizers.lamb(0.05, 0.1, beta1=0.8, beta2=0.9, epsilon=1e-3, mask="*"),
        lambda o: o.lamb(0.05, 0.8, 0.9, 1e-3, weight_decay=0.1),
    ),
    "lars": (optimizers.lars(1.0), lambda o: o.lars(1.0)),
    "lars, options": (
        optimizers.lars(0.5, 0.1, coefficient=0.1, epsilon=0.01, momentum=0.7, nesterov=True, mask="*"),
        lambda o: o.lars(0.5, 0.1, trust_coefficient=0.1, eps=0.01, momentum=0.7, nesterov=True),
    ),
    "trace": (
        chain(optimizers.trace(0.8, nesterov=True), optimizers.scale(-0.05)),
        lambda o: o.chain(o.trace(0.8, nesterov=True), o.scale(-0.05)),
    ),
    "freeze": (
        chain(optimizers.adam(0.05), optimizers.freeze("*/bias", "scale")),
        lambda o: o.chain(
            o.adam(0.05),
            o.masked(o.set_to_zero(), {"dense1": {"bias": True, "weight": False}, "scale": True}),
        ),
    ),
    "per_path": (
        optimizers.per_path({"dense1/*": optimizers.sgd(0.1), "*": optimizers.adam(0.05)}),
        lambda o: o.multi_transform(
            {"a": o.sgd(0.1), "b": o.adam(0.05)}, {"dense1": "a", "scale": "b"}
        ),
    ),
    "default mask": (
        optimizers.adamw(0.05, 0.3),
        lambda o: o.adamw(
            0.05,
            weight_decay=0.3,
            mask={"dense1": {"bias": False, "weight": True}, "scale": False},
        ),
    ),
}


@pytest.mark.parametrize("name", OPTAX_CASES)
def test_trajectory_equals_optaxs(name: str, optax: Any) -> None:
    mine, theirs = OPTAX_CASES[name]
    _same(_ours(mine, FEW), _optaxs(theirs(optax), FEW))


@pytest.mark.parametrize("options", [{}, {"nesterov": False, "decay": 0.8, "weight_decay": 0.1}])
def test_muon_equals_optaxs(options: dict[str, Any], optax: Any) -> None:
    """On the transposed matrices, as optax has the inputs first."""
    from optax.contrib import muon

    names = {"nesterov": "nesterov", "decay": "beta", "weight_decay": "weight_decay"}
    theirs = muon(0.02, **{names[name]: value for name, value in options.items()})

    def turned(params: Params) -> Params:
        return tree.map(np.transpose, params)

    inner: Any = theirs.update
    turning = theirs._replace(
        init=lambda params: theirs.init(turned(params)),
        update=lambda grads, state, params: _turned_update(inner, turned, grads, state, params),
    )
    _same(_ours(optimizers.muon(0.02, **options), MATRICES), _optaxs(turning, MATRICES))


def _turned_update(update: Any, turned: Any, grads: Params, state: Any, params: Params) -> Any:
    updates, state = update(turned_jax(grads), state, turned_jax(params))
    return turned_jax(updates), state


def turned_jax(params: Params) -> Params:
    """The transposed matrices, inside a traced function."""
    return tree.map(lambda leaf: leaf.T, params)


def test_muon_leaves_other_leaves_to_adam(optax: Any) -> None:
    from optax.contrib import muon

    vectors = {"scale": START["scale"]}
    _same(_ours(optimizers.muon(0.02), vectors), _optaxs(muon(0.02, nesterov=False), vectors))


def test_lookahead_equals_optaxs(optax: Any) -> None:
    import jax

    mine = _ours(optimizers.lookahead(optimizers.adam(0.05), steps=4, rate=0.3), FEW)
    theirs = optax.lookahead(optax.adam(0.05), sync_period=4, slow_step_size=0.3)
    with jax.enable_x64(True):
        params = optax.LookaheadParams.init_synced(FEW)
        state, visited = theirs.init(params), []
        update = jax.jit(theirs.update)
        for _ in range(STEPS):
            updates, state = update(_gradient(tree.map(np.asarray, params.fast)), state, params)
            params = optax.apply_updates(params, updates)
            visited.append(tree.map(np.asarray, params.fast))
    _same(mine, visited)


def test_schedules_equal_optaxs(optax: Any) -> None:
    import jax

    with jax.enable_x64(True):
        pairs = [
            (schedules.linear(0.1, 0.5, 20), optax.linear_schedule(0.1, 0.5, 20)),
            (schedules.polynomial(0.1, 0.02, 20, 3), optax.polynomial_schedule(0.1, 0.02, 3, 20)),
            (schedules.exponential(0.1, 0.5, 9), optax.exponential_decay(0.1, 9, 0.5)),
            (schedules.cosine(0.1, 30, 0.01), optax.cosine_decay_schedule(0.1, 30, 0.1)),
            (
                schedules.warmup(schedules.cosine(0.1, 30), 10),
                optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 40),
            ),
            (
                schedules.join([schedules.linear(0.0, 1.0, 5), 0.3], [8]),
                optax.join_schedules(
                    [optax.linear_schedule(0.0, 1.0, 5), optax.constant_schedule(0.3)], [8]
                ),
            ),
        ]
        for mine, theirs in pairs:
            for step in range(STEPS):
                np.testing.assert_allclose(mine(step), float(theirs(step)), rtol=1e-12, atol=1e-16)
