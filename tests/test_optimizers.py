"""What every optimizer keeps to, and what the names of the transformations promise."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from funcnn import checks, numerics, optimizers, random, schedules, tree
from funcnn.checks import Refusal
from funcnn.optimizers import Optimizer, apply_updates, chain, check_state, learning_rate
from funcnn.testing import _values
from funcnn.types import Array, Params, rebuild

_KEY = random.key(31)
_SGD = optimizers.sgd(0.1)
_LOOSE: Any = optimizers  # to call what mypy would refuse

CASES = [
    optimizers.sgd(0.1),
    optimizers.sgd(schedules.linear(0.1, 0.0, 5), 0.9, nesterov=True, weight_decay=0.1, mask="*"),
    optimizers.momentum(0.1),
    optimizers.nesterov(0.1),
    optimizers.adagrad(0.1, initial=0.1),
    optimizers.adadelta(),
    optimizers.rmsprop(0.01, momentum=0.9, centered=True),
    optimizers.adam(schedules.cosine(0.01, 10)),
    optimizers.adamw(0.01, 0.3, mask="*"),
    optimizers.nadam(),
    optimizers.radam(0.01, beta2=0.9),
    optimizers.amsgrad(),
    optimizers.adamax(),
    optimizers.adabelief(),
    optimizers.lion(0.01, 0.1, mask="*"),
    optimizers.lamb(0.1, 0.1, mask="*"),
    optimizers.lars(0.1, 0.1, mask="*"),
    optimizers.adafactor(0.1, 0.1, mask="*"),
    optimizers.muon(0.1, 0.1),
    optimizers.muon(matrices="dense1/*", others=optimizers.sgd(0.1)),
    optimizers.lbfgs(0.5, memory=2),
    optimizers.sgd(0.1, 0.9, dampening=0.5),
    optimizers.asgd(0.1, decay=0.1, start=2, weight_decay=0.1),
    optimizers.rprop(0.01),
    chain(optimizers.momentum(0.1), optimizers.average(1)),
    chain(optimizers.scale(-0.1)),
    chain(optimizers.clip(0.1), _SGD),
    chain(optimizers.clip_by_norm(0.1), _SGD),
    chain(optimizers.clip_by_global_norm(0.1), optimizers.add_decayed_weights(0.1, "*"), _SGD),
    chain(_SGD, optimizers.freeze("dense1/*")),
    chain(optimizers.adam(), optimizers.ema(0.9)),
    optimizers.accumulate(optimizers.adam(), 3),
    optimizers.skip_nonfinite(optimizers.adam()),
    optimizers.lookahead(optimizers.adam(), 2, 0.3),
    optimizers.per_path({"dense1/*": optimizers.adam(), "*": _SGD}),
]

each = pytest.mark.parametrize("optimizer", CASES, ids=repr)


def _params(dtype: Any = np.float64) -> Params:
    def draw(label: str, *shape: int) -> Array:
        return random.normal(random.fold_in(_KEY, label), shape, dtype=dtype)

    return {
        "batch_norm1": {
            "running_mean": draw("m", 3),
            "running_variance": draw("v", 2, 2) ** 2,
            "scale": draw("s", 3),
        },
        "conv1": {"weight": draw("w", 3, 2, 2, 2)},
        "dense1": {"bias": draw("b", 4), "weight": draw("d", 4, 3)},
        "temperature": draw("t"),
    }


def _gradient(params: Params) -> Params:
    """Not zero for the statistics, which must not matter."""
    return tree.map(lambda leaf: np.asarray(leaf * leaf.dtype.type(0.7) + leaf.dtype.type(0.1)), params)


def _frozen(params: Params) -> Params:
    for _, leaf in tree.leaves(params):
        leaf.flags.writeable = False
    return params


def _trajectory(optimizer: Optimizer, params: Params, steps: int = 5) -> list[tuple[Params, Params]]:
    """Parameters and states; all of them read-only on the way."""
    params, state, visited = _frozen(params), _frozen(optimizer.init(params)), []
    for _ in range(steps):
        updates, state = optimizer.update(_frozen(_gradient(params)), state, params)
        params = _frozen(apply_updates(params, _frozen(updates)))
        visited.append((params, _frozen(state)))
    return visited


@each
def test_statistics_are_neither_touched_nor_decayed(optimizer: Optimizer) -> None:
    start = _params()
    params, state = start, optimizer.init(start)
    for _ in range(4):
        grads = _gradient(params)
        grads["batch_norm1"]["running_mean"][:] = 1e30
        updates, state = optimizer.update(grads, state, params)
        for name in ("running_mean", "running_variance"):
            assert not updates["batch_norm1"][name].any()
        params = apply_updates(params, updates)
    for name in ("running_mean", "running_variance"):
        assert params["batch_norm1"][name].tobytes() == start["batch_norm1"][name].tobytes()


@each
def test_statistics_do_not_count_in_norms(optimizer: Optimizer) -> None:
    params = _params()
    grads, others = _gradient(params), _gradient(params)
    others["batch_norm1"]["running_mean"] = np.full(3, 1e3)
    state = optimizer.init(params)
    assert tree.equal(
        optimizer.update(grads, state, params)[0], optimizer.update(others, state, params)[0]
    )


@each
def test_same_bits_again_and_nothing_is_written(optimizer: Optimizer) -> None:
    first, second = (_trajectory(optimizer, _params()) for _ in range(2))
    for (params, state), (again, state_again) in zip(first, second, strict=True):
        assert tree.equal(params, again)
        assert tree.equal(state, state_again)
    assert not tree.equal(first[0][0], first[-1][0])


@each
@pytest.mark.parametrize("kernels", ["off", "auto"])
def test_the_order_in_memory_changes_no_bit(optimizer: Optimizer, kernels: Any) -> None:
    params = _params(np.float32)
    params["dense1"]["weight"] = random.normal(_KEY, (65, 70))
    params["dense2"] = {"bias": np.zeros(0, np.float32), "weight": np.zeros((3, 0), np.float32)}
    with numerics.compiled(kernels):
        _, state = optimizer.update(_gradient(params), optimizer.init(params), params)
        given = (_gradient(params), state, params)
        wanted = optimizer.update(*given)
        for layout in _values.LAYOUTS:
            found = optimizer.update(*(_frozen(tree.map(layout, part)) for part in given))
            assert tree.equal(wanted, found), layout.__name__
        ones = tree.map(np.ones_like, params)
        views = tree.map(lambda leaf: np.broadcast_to(leaf.dtype.type(1), leaf.shape), params)
        assert tree.equal(optimizer.update(ones, state, params), optimizer.update(views, state, params))


@each
def test_state_is_a_tree_of_arrays_that_can_be_taken_up_again(optimizer: Optimizer) -> None:
    visited = _trajectory(optimizer, _params())
    params, state = visited[1]
    for path, leaf in tree.leaves(state):
        assert isinstance(leaf, np.ndarray), path
        assert leaf.dtype in (np.float64, np.int64), path
    assert tree.leaves(state).__len__() == tree.leaves(optimizer.init(params)).__len__()
    state = tree.map(np.copy, state)
    for expected, _ in visited[2:]:
        updates, state = optimizer.update(_gradient(params), state, params)
        params = apply_updates(params, updates)
        assert tree.equal(params, expected)


@each
def test_float32_stays_float32(optimizer: Optimizer) -> None:
    params = _params(np.float32)
    for path, leaf in tree.leaves(_trajectory(optimizer, params)[-1][0]):
        assert isinstance(leaf, np.ndarray), path
        assert leaf.dtype == np.float32, path
    state = _trajectory(optimizer, params)[-1][1]
    for path, leaf in tree.leaves(state):
        assert leaf.dtype == np.float32 or not leaf.ndim, path
    narrow = tree.cast(_trajectory(optimizer, params)[-1][0], np.float64)
    wide = _trajectory(optimizer, tree.cast(params, np.float64))[-1][0]
    assert tree.allclose(narrow, wide, 1e-3, 1e-4)


@each
def test_pickled_and_rebuilt_it_is_the_same(optimizer: Optimizer) -> None:
    expected = _trajectory(optimizer, _params())[-1]
    for other in (pickle.loads(pickle.dumps(optimizer)), rebuild(optimizer.spec)):
        assert repr(other) == repr(optimizer)
        found = _trajectory(other, _params())[-1]
        assert tree.equal(found[0], expected[0])
        assert tree.equal(found[1], expected[1])


@each
def test_the_order_of_keys_does_not_matter(optimizer: Optimizer) -> None:
    params = _params()
    turned = dict(reversed(params.items()))
    assert tree.equal(_trajectory(optimizer, params)[-1][0], _trajectory(optimizer, turned)[-1][0])


@each
def test_portable_arithmetic_gives_nearly_the_same(optimizer: Optimizer) -> None:
    fast = _trajectory(optimizer, _params())[-1][0]
    with numerics.portable():
        portable = _trajectory(optimizer, _params())[-1][0]
    assert tree.allclose(fast, portable, 1e-9, 1e-9)


@each
def test_what_does_not_match_is_refused(optimizer: Optimizer) -> None:
    params = _params()
    state = optimizer.init(params)
    short, wide, narrow = (_gradient(params) for _ in range(3))
    del short["dense1"]["bias"]
    wide["dense1"]["bias"] = np.zeros((4, 4))
    narrow["dense1"]["bias"] = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="trees must match at 'dense1': only one has bias"):
        optimizer.update(short, state, params)
    with pytest.raises(ValueError, match=r"got \(4, 4\) for \(4,\) at 'dense1/bias'"):
        optimizer.update(wide, state, params)
    with pytest.raises(TypeError, match="dtypes of `params`, got float32 for float64 at 'dense1/bias'"):
        optimizer.update(narrow, state, params)
    with pytest.raises(ValueError, match="trees must match: a dict here, a leaf there"):
        optimizer.update([1.0], state, params)


def test_every_constructor_is_among_the_cases() -> None:
    made = repr(CASES) + "".join(repr(rebuild(case.spec).spec) for case in CASES)
    for name in _LOOSE.__all__:
        own = name.startswith(("scale_by_", "trace", "from_"))
        if checks.declaration(getattr(optimizers, name)) and not own:
            assert f"{name}(" in made, f"add a case of {name}"


# --- what is refused, for every optimizer ---------------------------------------------------------


def _wrong_leaves(leaf: Array) -> Iterator[tuple[str, Any]]:
    """What a leaf must not be; each is of the right size, or broadcasts to it."""
    yield "a list", leaf.tolist()
    yield "a number", 1.5
    yield "nothing", None
    yield "NumPy's own number", np.float64(1.5)
    yield "bool", leaf > 0
    yield "integers", leaf.astype(np.int32)
    yield "float16", leaf.astype(np.float16)
    yield "long double", leaf.astype(np.longdouble)
    yield "complex", leaf.astype(np.complex128)
    yield "objects", leaf.astype(object)
    yield "text", leaf.astype("U8")
    yield "other byte order", leaf.astype(leaf.dtype.newbyteorder())
    yield "the other float", leaf.astype(np.float32)
    yield "masked", np.ma.array(leaf)
    if leaf.ndim == 2:
        yield "a matrix", leaf.view(np.matrix)
        yield "turned", np.zeros(leaf.shape[::-1])
        yield "half of it", leaf[: len(leaf) // 2]
    if leaf.size:
        yield "empty", leaf.reshape(-1)[:0]
    if leaf.ndim:
        yield "one number", np.zeros(())
    yield "one axis more", leaf[None]
    yield "a dict", {"w": leaf}
    yield "a tuple", (leaf,)


def _without(params: Params, path: str) -> Params:
    first, _, rest = path.partition("/")
    if rest:
        return {**params, first: _without(params[first], rest)}
    return {name: part for name, part in params.items() if name != first}


def _wrong_trees(params: Params) -> Iterator[tuple[str, str, Any]]:
    """Where something is wrong, what it is, and the tree."""
    others: tuple[Any, ...] = (None, [], (), np.zeros(3), "state", 3)
    for wrong in others:
        yield "", "another thing", wrong
    for path, leaf in tree.leaves(params):
        for what, wrong in _wrong_leaves(leaf):
            yield path, what, tree.map_with_path(lambda p, x: wrong if p == path else x, params)  # noqa: B023
    for path, _ in tree.leaves(params):
        yield path, "missing", _without(params, path)
    yield "more", "something more", {**params, "more": np.zeros(3)}


def _refused(call: Callable[[], object], where: str, what: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    text = str(caught.value)
    assert isinstance(caught.value, Refusal), f"{what} at {where!r}: {text}"
    assert len(text) < 300, text
    assert "\n" not in text, text
    assert all(part in text for part in where.split("/")), f"{what} at {where!r}: {text}"


_NEVER = (
    "a list", "a number", "nothing", "bool", "integers", "float16", "objects", "other byte order",
    "masked", "a matrix",
)  # fmt: skip
_SMALL: Params = {"dense1": {"bias": np.ones(3), "weight": np.ones((3, 2))}}


@each
def test_wrong_gradients_are_refused(optimizer: Optimizer) -> None:
    state = optimizer.init(_SMALL)
    for where, what, grads in _wrong_trees(_SMALL):
        _refused(lambda: optimizer.update(grads, state, _SMALL), where, what)  # noqa: B023


@each
def test_wrong_parameters_are_refused(optimizer: Optimizer) -> None:
    state = optimizer.init(_SMALL)
    for where, what, params in _wrong_trees(_SMALL):
        _refused(lambda: optimizer.update(_SMALL, state, params), where, what)  # noqa: B023
    for where, what, params in _wrong_trees(_SMALL):
        if where and what in _NEVER:
            _refused(lambda: optimizer.init(params), where, what)  # noqa: B023


@each
def test_wrong_states_are_refused(optimizer: Optimizer) -> None:
    state = optimizer.init(_SMALL)
    for _ in range(2):  # so that the next one is for `accumulate` to take
        _, state = optimizer.update(_SMALL, state, _SMALL)
    for where, what, wrong in _wrong_trees(state):
        last = where.rpartition("/")[2]
        _refused(lambda: optimizer.update(_SMALL, wrong, _SMALL), last, what)  # noqa: B023
        _refused(lambda: check_state(optimizer, wrong, _SMALL), last, what)  # noqa: B023
    for path, leaf in tree.leaves(state):
        if leaf.ndim:
            continue
        bad = (-1, -5, -(2**63), 2**63 - 1) if leaf.dtype == np.int64 else (np.nan, np.inf, -0.5)
        for value in bad:
            forged = tree.replace(state, {path: np.array(value, leaf.dtype)})
            last = path.rpartition("/")[2]
            _refused(lambda: optimizer.update(_SMALL, forged, _SMALL), last, repr(value))  # noqa: B023
            _refused(lambda: check_state(optimizer, forged, _SMALL), last, repr(value))  # noqa: B023
    check_state(optimizer, state, _SMALL)


def test_a_deep_place_is_named_in_one_line() -> None:
    params: Params = {"w": np.ones(2)}
    wrong: Params = {"w": np.ones(3)}
    for _ in range(900):
        params, wrong = {"block": params}, {"block": wrong}
    _refused(lambda: optimizers.adam().update(wrong, optimizers.adam().init(params), params), "w", "")
    assert optimizers.adam().update(params, optimizers.adam().init(params), params)


@pytest.mark.parametrize(
    ("update", "kind", "message"),
    [
        (
            lambda p: optimizers.adagrad().update(
                p, optimizers.adagrad().init({"w": np.ones((1, 2))}), p
            ),
            ValueError,
            "scale_by_adagrad1: `state['square']` must have the shapes of `params`, got (1, 2) for "
            "(3, 2) at 'w'",
        ),
        (
            lambda p: optimizers.scale_by_adam().update(
                p, optimizers.scale_by_adam().init(p) | {"count": np.array(-5)}, p
            ),
            ValueError,
            "scale_by_adam: `state['count']` must be at least 0 and below 4611686018427387904, got -5",
        ),
        (
            lambda p: optimizers.adagrad().update(
                {"w": p["w"].view(np.matrix)}, optimizers.adagrad().init(p), p
            ),
            TypeError,
            "scale_by_adagrad1: `grads['w']` must be a plain NumPy array, got matrix: "
            "write np.asarray(grads['w'])",
        ),
        (
            lambda p: apply_updates(p, {"w": p["w"].astype(np.float16)}),
            TypeError,
            "apply_updates: `updates['w']` must be float32 or float64, got float16: "
            "write updates['w'].astype(np.float32)",
        ),
        (
            lambda p: apply_updates(p, {}),
            ValueError,
            "apply_updates: `updates` must match `params`: trees must match: only one has w",
        ),
        (
            lambda p: optimizers.sgd_update(p, {"w": p["w"].astype(np.float32)}, 0.1),
            TypeError,
            "sgd_update: `grads` must have the dtypes of `params`, got float32 for float64 at 'w'",
        ),
        (
            lambda p: optimizers.adam().init([p["w"]]),  # type: ignore[arg-type]
            TypeError,
            "adam: `params` must be a dict of arrays, got list",
        ),
    ],
)
def test_refusals_read(update: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        update({"w": np.ones((3, 2))})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.sgd(0.1),
        optimizers.momentum(0.03),
        optimizers.nesterov(0.03),
        optimizers.adagrad(0.3),
        optimizers.adadelta(epsilon=1e-2),
        optimizers.rmsprop(0.02),
        optimizers.adam(0.05),
        optimizers.adamw(0.05),
        optimizers.nadam(0.05),
        optimizers.radam(0.05),
        optimizers.amsgrad(0.05),
        optimizers.adamax(0.05),
        optimizers.adabelief(0.05),
        optimizers.lion(0.03),
        optimizers.lamb(0.05),
        optimizers.lars(1.0, coefficient=0.02),
        optimizers.adafactor(0.05),
        optimizers.muon(0.05),
        optimizers.asgd(0.1, decay=0.01),
        optimizers.rprop(0.01),
        optimizers.sgd(0.1, 0.9, dampening=0.5),
        optimizers.lbfgs(),
    ],
    ids=repr,
)
def test_it_fits_a_line(optimizer: Optimizer) -> None:
    """A least-squares problem with a known answer, in 200 steps."""
    x = random.normal(_KEY, (64, 5), dtype=np.float64)
    weight = random.normal(random.fold_in(_KEY, "w"), (2, 5), dtype=np.float64)
    y = x @ weight.T + 0.5
    params: Params = {"weight": 0.1 * np.ones((2, 5)), "bias": 0.1 * np.ones(2)}
    state = optimizer.init(params)
    start = float(np.mean((x @ params["weight"].T + params["bias"] - y) ** 2))
    for _ in range(200):
        error = x @ params["weight"].T + params["bias"] - y
        grads = {"weight": error.T @ x / 64, "bias": error.mean(0)}
        updates, state = optimizer.update(grads, state, params)
        params = apply_updates(params, updates)
    loss = float(np.mean((x @ params["weight"].T + params["bias"] - y) ** 2))
    assert loss < 0.02 * start


# --- every magnitude ------------------------------------------------------------------------------

_START: Params = {
    "bias": random.normal(_KEY, (5,)),
    "dense1": {"weight": random.normal(random.fold_in(_KEY, "weight"), (6, 4))},
    "temperature": random.normal(random.fold_in(_KEY, "t"), ()),
}
_MANY = (1e-38, 1e-30, 1e-20, 1e-12, 1e-3, 1.0, 1e10, 1e19, 1e25, 1e38)


def _at_magnitudes(magnitudes: tuple[float, ...], step: int) -> Params:
    """A gradient whose elements are about as large as one of these."""

    def leaf(path: str, param: Array) -> Array:
        key = random.fold_in(random.fold_in(_KEY, path), step)
        sign = np.sign(random.normal(random.fold_in(_KEY, path), param.shape, dtype=np.float64))
        size = random.uniform(key, param.shape, 0.5, 1.5, dtype=np.float64)
        which = random.randint(random.fold_in(key, 1), param.shape, 0, len(magnitudes))
        return np.asarray(sign * size * np.array(magnitudes)[which]).astype(np.float32)

    return tree.map_with_path(leaf, _START)


_EXACT = [  # with an epsilon that hides nothing
    optimizers.adam(0.1, epsilon=0.0),
    optimizers.adam(0.1, 0.0, 0.5, 0.0),
    optimizers.amsgrad(0.1, epsilon=0.0),
    optimizers.nadam(0.1, epsilon=0.0),
    optimizers.radam(0.1, beta2=0.9, epsilon=0.0),
    optimizers.adamax(0.1, epsilon=0.0),
    optimizers.adabelief(0.1, epsilon=0.0),
    optimizers.adagrad(0.1, epsilon=0.0),
    optimizers.rmsprop(0.1, epsilon=0.0),
    optimizers.rmsprop(0.1, epsilon=0.0, centered=True),
]
_SQUARING = [
    case for case in CASES if any(f"{name}(" in repr(case) for name in (
        "adagrad", "adadelta", "rmsprop", "adam", "adamw", "nadam", "radam", "amsgrad", "adamax",
        "adabelief", "lamb", "lars", "adafactor", "muon", "clip_by_norm", "clip_by_global_norm",
    ))
]  # fmt: skip
_SEQUENCES = {
    "huge, then ordinary": ((1e20,), (1.0,), (1.0,), (1.0,)),
    "as huge as it goes, then ordinary": ((1e38,), (1.0,), (1.0,)),
    "ordinary, then huge": ((1.0,), (1.0,), (1e30,), (1.0,)),
    "all huge": ((1e37,),) * 4,
    "all small": ((1e-15,),) * 4,
    "all tiny": ((1e-37,),) * 4,
    "all of them": (_MANY,) * 5,
    "growing": ((1e-30,), (1e-10,), (1.0,), (1e10,), (1e30,)),
    "falling": ((1e38,), (1e20,), (1.0,), (1e-20,), (1e-38,)),
}


@pytest.mark.parametrize("sequence", _SEQUENCES.values(), ids=_SEQUENCES)
@pytest.mark.parametrize("optimizer", [*_SQUARING, *_EXACT], ids=repr)
def test_float32_moves_as_far_as_float64_at_every_magnitude(
    optimizer: Optimizer, sequence: tuple[tuple[float, ...], ...]
) -> None:
    """In float64 these squares are ordinary; float32 must know them as well."""
    if "adafactor" in repr(optimizer) and min(min(part) for part in sequence) < 1e-2:
        pytest.skip("its least mean square is the epsilon of the dtype")
    wide_start = tree.cast(_START, np.float64)
    state, wide_state = optimizer.init(_START), optimizer.init(wide_start)
    for step, magnitudes in enumerate(sequence):
        grads = _at_magnitudes(magnitudes, step)
        updates, state = optimizer.update(grads, state, _START)
        wide, wide_state = optimizer.update(tree.cast(grads, np.float64), wide_state, wide_start)
        for (path, found), (_, wanted) in zip(tree.leaves(updates), tree.leaves(wide), strict=True):
            within = np.abs(wanted) < 1e37  # what float32 can hold, before the learning rate, too
            assert np.isfinite(found[within]).all(), path
            least = 1e-6 if "lookahead" in repr(optimizer) else 1e-35
            np.testing.assert_allclose(found[within], wanted[within], 2e-4, least, err_msg=path)


def test_it_moves_again_after_a_huge_gradient() -> None:
    """Against the formula with 60 digits."""
    mpmath = pytest.importorskip("mpmath")
    optimizer, params = optimizers.adam(0.01), {"w": np.zeros(1, np.float32)}
    state, mean, square = optimizer.init(params), mpmath.mpf(0), mpmath.mpf(0)
    with mpmath.workdps(60):
        for step in range(1, 3000):
            gradient = np.float32(1e20 if step == 1 else 1.0)
            mean = 0.9 * mean + (1 - mpmath.mpf(0.9)) * float(gradient)
            square = 0.999 * square + (1 - mpmath.mpf(0.999)) * float(gradient) ** 2
            root = mpmath.sqrt(square / (1 - mpmath.mpf(0.999) ** step))
            wanted = -0.01 * mean / (1 - mpmath.mpf(0.9) ** step) / (root + 1e-8)
            updates, state = optimizer.update({"w": np.full(1, gradient)}, state, params)
            assert abs(float(updates["w"][0]) / float(wanted) - 1) < 1e-3, step
    assert updates["w"][0] < 0


@pytest.mark.parametrize("optimizer", _EXACT, ids=repr)
@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(np.float32, -110), (np.float32, 120), (np.float64, -950), (np.float64, 600), (np.float64, 1015)],
)
def test_without_epsilon_the_unit_of_the_gradient_does_not_matter(
    optimizer: Optimizer, dtype: Any, exponent: int
) -> None:
    params = {"w": random.normal(_KEY, (3, 4), dtype=dtype)}
    state, scaled = optimizer.init(params), optimizer.init(params)
    unit = np.ldexp(dtype(1), exponent)
    for step in range(5):
        grads = {"w": random.normal(random.fold_in(_KEY, step), (3, 4), dtype=dtype)}
        updates, state = optimizer.update(grads, state, params)
        others, scaled = optimizer.update({"w": grads["w"] * unit}, scaled, params)
        if "radam" not in repr(optimizer) or step > 4:  # which begins with the plain gradient
            rtol = 1e-3 if dtype is np.float32 else 1e-10
            np.testing.assert_allclose(others["w"], updates["w"], rtol)


@pytest.mark.parametrize("optimizer", [*CASES, *_EXACT], ids=repr)
@pytest.mark.parametrize("gradient", [0.0, 1e-45, -1e-45, 1e-40])
def test_nothing_and_next_to_nothing_give_a_finite_update(
    optimizer: Optimizer, gradient: float
) -> None:
    params = tree.map(lambda leaf: np.full_like(leaf, 0.5), _START)
    params["dense1"]["bias"] = params["bias"]
    state = optimizer.init(params)
    for _ in range(3):
        grads = tree.map(lambda leaf: np.full_like(leaf, gradient), params)
        updates, state = optimizer.update(grads, state, params)
        assert all(np.isfinite(leaf).all() for _, leaf in tree.leaves(updates))
        if not gradient and "weight_decay" not in repr(optimizer) and "weights" not in repr(optimizer):
            least = 0.06 if "adamw" in repr(optimizer) or "lion" in repr(optimizer) else 0.0
            assert all(np.abs(leaf).max() <= least for _, leaf in tree.leaves(updates))


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e10, 1e30, 3e38])
def test_clipping_sets_the_norm_at_every_magnitude(size: float) -> None:
    grads = {"a": np.full((50,), size, np.float32), "b": np.full((3, 2), -size, np.float32)}
    for limit in (1e-37, 1e-3, 1.0, 1e30):
        for clip in (optimizers.clip_by_global_norm(limit), optimizers.clip_by_norm(limit)):
            updates, _ = clip.update(grads, {}, grads)
            parts = [updates] if "global" in repr(clip) else [{name: updates[name]} for name in updates]
            for part in parts:
                before = tree.norm({name: grads[name] for name in part})
                wanted = before * min(1.0, limit / (before + 1e-6))
                assert tree.norm(part) == pytest.approx(wanted, rel=1e-5)
    wide = {"w": np.array([3e200, 4e200])}
    for clip in (optimizers.clip_by_global_norm(1.0), optimizers.clip_by_norm(1.0)):
        np.testing.assert_allclose(clip.update(wide, {}, wide)[0]["w"], [0.6, 0.8], 1e-12)
    ratio = optimizers.scale_by_trust_ratio()
    scaled = ratio.update(wide, {}, {"w": np.array([5.0, 0.0])})[0]
    np.testing.assert_allclose(scaled["w"], [3.0, 4.0], 1e-12)


# --- the learning rate ----------------------------------------------------------------------------


def test_the_learning_rate_can_be_read() -> None:
    params = {"w": np.zeros(1)}
    rate = schedules.step_decay(0.8, 0.5, 2)
    for optimizer in (
        optimizers.sgd(rate),
        optimizers.lbfgs(rate),
        chain(optimizers.clip(1.0), optimizers.adamw(rate)),
        optimizers.accumulate(optimizers.adam(rate), 1),
        optimizers.per_path({"*": optimizers.adam(rate)}),
    ):
        state, seen = optimizer.init(params), []
        for _ in range(4):
            seen.append(learning_rate(state))
            _, state = optimizer.update({"w": np.ones(1)}, state, params)
        assert seen == [0.8, 0.8, 0.4, 0.4]
    assert learning_rate(optimizers.adam(0.3).init(params)) == 0.3
    with pytest.raises(ValueError, match="learning_rate: `state` must hold a learning rate"):
        learning_rate(optimizers.trace().init(params))


def test_a_schedule_sets_the_step() -> None:
    optimizer, params = optimizers.sgd(schedules.linear(1.0, 0.0, 4)), {"w": np.zeros(1)}
    state, steps = optimizer.init(params), []
    for _ in range(5):
        updates, state = optimizer.update({"w": np.ones(1)}, state, params)
        steps.append(-float(updates["w"][0]))
    assert steps == [1.0, 0.75, 0.5, 0.25, 0.0]


# --- what the names promise -----------------------------------------------------------------------


def test_decay_is_for_weights_by_default() -> None:
    params = _params()
    zeros = tree.zeros_like(params)
    updates, _ = optimizers.add_decayed_weights(0.1).update(zeros, {}, params)
    moved = [path for path, leaf in tree.leaves(updates) if leaf.any()]
    assert moved == ["conv1/weight", "dense1/weight"]
    np.testing.assert_array_equal(updates["dense1"]["weight"], 0.1 * params["dense1"]["weight"])
    by_name, _ = optimizers.add_decayed_weights(0.1, "*/bias").update(zeros, {}, params)
    assert [path for path, leaf in tree.leaves(by_name) if leaf.any()] == ["dense1/bias"]
    by_rule, _ = optimizers.add_decayed_weights(0.1, _is_scalar).update(zeros, {}, params)
    assert [path for path, leaf in tree.leaves(by_rule) if leaf.any()] == ["temperature"]


def _is_scalar(path: str, leaf: Array) -> bool:
    return leaf.ndim == 0


def test_clipping_leaves_small_gradients_alone() -> None:
    params = _params()
    grads = tree.scale(_gradient(params), 1e-3)
    for transformation in (
        optimizers.clip(1.0),
        optimizers.clip_by_norm(1.0),
        optimizers.clip_by_global_norm(1.0),
    ):
        updates, _ = transformation.update(grads, {}, params)
        moving = tree.map_with_path(lambda path, leaf: leaf * (not tree.is_statistic(path)), grads)
        assert tree.allclose(updates, moving, rtol=0, atol=0)


def test_clipping_bounds_the_norm() -> None:
    params = _params()
    grads = tree.scale(_gradient(params), 1e3)
    whole, _ = optimizers.clip_by_global_norm(0.5).update(grads, {}, params)
    assert abs(tree.norm(whole) - 0.5) < 1e-6
    single, _ = optimizers.clip_by_norm(0.5).update(grads, {}, params)
    for path, leaf in tree.leaves(single):
        if not tree.is_statistic(path):
            assert abs(tree.norm({"leaf": leaf}) - 0.5) < 1e-6
    element, _ = optimizers.clip(0.5).update(grads, {}, params)
    assert max(np.abs(leaf).max() for _, leaf in tree.leaves(element)) == 0.5


def test_nothing_passes_unclipped_because_another_leaf_is_nan() -> None:
    """As in PyTorch, all of them become NaN."""
    grads = {"a": np.array([np.nan]), "b": np.array([1e3])}
    updates, _ = optimizers.clip_by_global_norm(1.0).update(grads, {}, grads)
    assert np.isnan(updates["b"]).all()


def test_accumulation_waits() -> None:
    """Three parts of a batch make the step of the whole batch."""
    inner = optimizers.adam(0.1)
    params = {"w": np.array([1.0, 2.0])}
    parts = [{"w": np.array(part)} for part in ([1.0, 0.0], [2.0, -3.0], [0.0, 6.0])]
    optimizer = optimizers.accumulate(inner, 3)
    state = optimizer.init(params)
    for part in parts[:2]:
        updates, state = optimizer.update(part, state, params)
        assert not updates["w"].any()
    updates, state = optimizer.update(parts[2], state, params)
    wanted, _ = inner.update({"w": np.array([1.0, 1.0])}, inner.init(params), params)
    np.testing.assert_allclose(updates["w"], wanted["w"], rtol=1e-14)
    assert int(state["count"]) == 0
    assert not state["sum"]["w"].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_steps_are_left_out(bad: float) -> None:
    optimizer = optimizers.skip_nonfinite(optimizers.adam(0.1))
    params = {"w": np.ones(2)}
    _, state = optimizer.update({"w": np.ones(2)}, optimizer.init(params), params)
    updates, later = optimizer.update({"w": np.array([1.0, bad])}, state, params)
    assert not updates["w"].any()
    assert int(later["skipped"]) == 1
    assert tree.equal(later["inner"], state["inner"])
    assert optimizer.update({"w": np.ones(2)}, later, params)[0]["w"].all()


def test_asgd_averages_where_it_has_been() -> None:
    optimizer, params = optimizers.asgd(0.1, decay=0.0, start=2), {"w": np.array([4.0])}
    state, visited = optimizer.init(params), []
    for step in range(6):
        updates, state = optimizer.update({"w": np.array([float(step)])}, state, params)
        params = apply_updates(params, updates)
        visited.append(params["w"])
        wanted = visited[-1] if step <= 3 else np.mean(visited[3:], 0)
        np.testing.assert_allclose(optimizers.ema_params(state)["w"], wanted, 1e-12)


def test_average_holds_the_last_statistics() -> None:
    optimizer = chain(optimizers.sgd(1.0), optimizers.ema(0.5))
    params = {"running_mean": np.zeros(2), "w": np.zeros(2)}
    state = optimizer.init(params)
    params = {**params, "running_mean": np.array([5.0, 6.0])}
    _, state = optimizer.update({"running_mean": np.zeros(2), "w": np.ones(2)}, state, params)
    average = optimizers.ema_params(state)
    np.testing.assert_array_equal(average["running_mean"], [5.0, 6.0])
    np.testing.assert_array_equal(average["w"], [-0.5, -0.5])
    inside = optimizers.accumulate(optimizer, 2)
    assert tree.equal(optimizers.ema_params(inside.init(params)), params)
    with pytest.raises(ValueError, match="ema_params: `state` must be that of an optimizer with `ema`"):
        optimizers.ema_params(optimizers.adam().init(params))


def test_frozen_leaves_stay() -> None:
    params = _params()
    optimizer = chain(optimizers.adamw(0.1, 0.5), optimizers.freeze("conv*", "*/bias"))
    updates, _ = optimizer.update(_gradient(params), optimizer.init(params), params)
    moved = [path for path, leaf in tree.leaves(updates) if leaf.any()]
    assert moved == ["batch_norm1/scale", "dense1/weight", "temperature"]
    with pytest.raises(ValueError, match="freeze: `patterns` must fit a parameter, got 'encoder/\\*'"):
        optimizers.freeze("encoder/*").init(params)


def test_each_path_has_its_own_optimizer() -> None:
    params = _params()
    optimizer = optimizers.per_path({"*/bias": optimizers.sgd(0.0), "*": optimizers.sgd(1.0)})
    updates, state = optimizer.update(_gradient(params), optimizer.init(params), params)
    assert not updates["dense1"]["bias"].any()
    np.testing.assert_array_equal(updates["dense1"]["weight"], -_gradient(params)["dense1"]["weight"])
    assert {name: learning_rate(part) for name, part in state.items()} == {"rule1": 0.0, "rule2": 1.0}
    with pytest.raises(ValueError, match="per_path: `rules` must have a pattern for every leaf"):
        optimizers.per_path({"dense1/*": _SGD}).init(params)


def test_muon_updates_are_orthogonal() -> None:
    params = {"tall": random.normal(_KEY, (6, 3), dtype=np.float64)}
    optimizer = optimizers.scale_by_muon(iterations=12)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    values = np.linalg.svd(updates["tall"], compute_uv=False) / np.sqrt(2)
    assert ((values > 0.65) & (values < 1.25)).all()
    with pytest.raises(ValueError, match="scale_by_muon: leaves must be matrices"):
        optimizer.update({"v": np.ones(3)}, optimizer.init({"v": np.ones(3)}), {"v": np.ones(3)})


def test_adafactor_remembers_rows_and_columns() -> None:
    state = optimizers.scale_by_factored_rms().init({"w": np.zeros((50, 80)), "b": np.zeros(7)})
    assert tree.count(state) == 1 + 50 + 80 + 7


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.sgd(-0.1), "`learning_rate` must be at least 0"),
        (lambda: optimizers.adafactor(-0.1), "adafactor: `learning_rate` must be at least 0"),
        (lambda: optimizers.sgd(0.1, 1.5), "sgd: `momentum` must be below 1"),
        (
            lambda: optimizers.sgd(0.1, 0.9, nesterov=True, dampening=0.5),
            "trace: `dampening` must be 0 with `nesterov`, got 0.5",
        ),
        (lambda: optimizers.adam(0.1, beta1=1.0), "adam: `beta1` must be below 1"),
        (lambda: optimizers.clip(0.0), "clip: `limit` must be above 0"),
        (lambda: optimizers.accumulate(_SGD, 0), "accumulate: `steps` must be at least 1"),
        (lambda: optimizers.adamw(weight_decay=-1.0), "adamw: `weight_decay` must be at least 0"),
        (lambda: optimizers.lbfgs(memory=0), "lbfgs: `memory` must be at least 1"),
    ],
)
def test_bad_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _LOOSE.sgd("fast"), "`learning_rate` must be a number"),
        (lambda: _LOOSE.chain(optimizers.adam), "chain: every child must be an Optimizer"),
        (lambda: _LOOSE.lookahead(0.1), "lookahead: every child must be an Optimizer"),
        (lambda: optimizers.per_path({}), "per_path: `rules` must map patterns to optimizers"),
        (lambda: _LOOSE.freeze(3), "freeze: `patterns` must be strings"),
        (lambda: _LOOSE.add_decayed_weights(0.1, 3), "`mask` must be a pattern or a function"),
    ],
)
def test_bad_kinds_are_refused(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_a_foreign_state_is_refused() -> None:
    params = {"w": np.zeros(1)}
    with pytest.raises(ValueError, match="adam: `state` must belong to this optimizer"):
        optimizers.adam().update(params, optimizers.momentum(0.1).init(params), params)


@pytest.mark.parametrize("update", [np.zeros((2, 2)), np.zeros(3)])
def test_updates_of_another_shape_are_refused(update: Array) -> None:
    with pytest.raises(ValueError, match="apply_updates: `updates` must have the shapes of `params`"):
        apply_updates({"w": np.zeros(2)}, {"w": update})


# --- every option acts or is refused --------------------------------------------------------------

REQUIRED: dict[str, Any] = {
    "learning_rate": 0.1, "factor": -0.1, "limit": 0.1, "rules": {"*": optimizers.adam()}, "steps": 2,
    "optimizer": optimizers.adam(), "inner": optimizers.adam(),
}  # fmt: skip
HARMLESS = {  # by definition: nothing decays; no step is ever rectified
    "add_decayed_weights(rate=0): mask", "radam(beta2=0): epsilon", "scale_by_radam(beta2=0): epsilon",
}  # fmt: skip
BUILDERS = {name: getattr(optimizers, name) for name in _LOOSE.__all__}


def _idle(build: Any, values: dict[str, Any], beside: dict[str, Any]) -> set[str]:
    """Options which, changed, change nothing in twelve steps, and are not refused."""
    given, found = {**values, **beside}, set()

    def behaviour(options: dict[str, Any]) -> Any:
        try:
            visited = _trajectory(build(**options), _params(), 12)
        except Refusal as refusal:
            return str(refusal)
        return [leaf.tobytes() for params, _ in visited for _, leaf in tree.leaves(params)]

    for name, constraint in checks.declaration(build).items():
        inner: Any = constraint
        while hasattr(inner, "inner"):
            inner = inner.inner
        others: list[Any] = [True, False, 0.25, 0.75, 3, "*", "dense1/*"]
        lawful = [value for value in others if _takes(inner, value) and value != given.get(name)]
        if name not in beside and lawful:
            before = behaviour(given)
            if all(behaviour({**given, name: value}) == before for value in lawful):
                found.add(name)
    return found


def _takes(constraint: Any, value: Any) -> bool:
    try:
        return constraint.check("x", value) is value
    except (Refusal, TypeError):
        return False


@pytest.mark.parametrize("name", BUILDERS)
def test_an_option_that_acts_acts_beside_any_zero_or_is_refused(name: str) -> None:
    build, declared = BUILDERS[name], checks.declaration(BUILDERS[name])
    if name == "muon" or name == "scale_by_muon":  # `nesterov` is True unless one says otherwise
        declared = {n: kind for n, kind in declared.items() if n != "decay"}
    signature = inspect.signature(build).parameters if declared else {}
    values = {
        n: REQUIRED.get(n, 0.5) if kind.default is kind.empty else kind.default
        for n, kind in signature.items()
        if kind.kind is not kind.VAR_POSITIONAL
    }
    always = _idle(build, values, {})
    for other in declared:
        for zero in (0.0, False):
            if other == "learning_rate" or not _takes(declared[other], zero):
                continue
            idle = {f"{name}({other}=0): {n}" for n in _idle(build, values, {other: zero}) - always}
            assert idle <= HARMLESS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.sgd(0.1, nesterov=True), "sgd: `nesterov` must be False for momentum 0.0"),
        (lambda: optimizers.sgd(0.1, dampening=0.5), "sgd: `dampening` must be 0.0 for momentum 0.0"),
        (lambda: optimizers.sgd(0.1, mask="*"), "sgd: `mask` must be None for weight_decay 0.0, got"),
        (lambda: optimizers.adamw(0.1, 0.0, mask="*"), "adamw: `mask` must be None for weight_decay 0"),
        (lambda: optimizers.trace(0.0, nesterov=True), "trace: `nesterov` must be False for decay 0.0"),
        (lambda: optimizers.nesterov(0.1, 0.0), "nesterov: `decay` must be above 0, got 0.0"),
        (lambda: optimizers.rprop(least=2.0, most=1.0), "rprop: `least` must be at most `most`, 1.0"),
        (lambda: optimizers.scale_by_rprop(least=2.0, most=1.0), "scale_by_rprop: `least` must be at"),
        (lambda: optimizers.asgd(decay=0.0, power=0.5), "asgd: `power` must be 0.75 for decay 0.0"),
    ],
)
def test_options_that_do_nothing_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_a_chain_is_one_part_after_the_other() -> None:
    """It may walk over its trees once for all of them."""
    inner = [optimizers.trace(0.5), optimizers.scale_by_learning_rate(schedules.linear(1.0, 0.0, 4))]
    parts = [
        optimizers.clip(0.1), optimizers.scale_by_nadam(), optimizers.add_decayed_weights(0.5, "*/s*"),
        optimizers.scale_by_trust_ratio(), optimizers.chain(*inner), optimizers.scale(3.0),
    ]  # fmt: skip
    params = _params(np.float32)
    whole = optimizers.chain(*parts)
    state, states = whole.init(params), [part.init(params) for part in parts]
    for _ in range(3):
        grads = wanted = _gradient(params)
        updates, state = whole.update(grads, state, params)
        for i, part in enumerate(parts):
            wanted, states[i] = part.update(wanted, states[i], params)
        assert tree.equal(updates, wanted)
        assert tree.equal(list(state.values())[1], states[4])
        params = optimizers.apply_updates(params, updates)


def test_a_chain_of_nothing_changes_nothing_and_checks_as_all_do() -> None:
    params = _params()
    grads = _gradient(params)
    updates, state = chain().update(grads, chain().init(params), params)
    assert state == {}
    assert np.array_equal(updates["dense1"]["weight"], grads["dense1"]["weight"])
    longer = tree.map(lambda leaf: leaf[None], grads)
    wrong: list[Any] = [{"dense1": 3}, {**grads, "temperature": "hot"}, longer]
    for other in wrong:
        with pytest.raises((TypeError, ValueError), match=r"^chain: `grads"):
            chain().update(other, {}, params)
    with pytest.raises(ValueError, match=r"^chain: `state` must hold nothing, got x"):
        chain().update(grads, {"x": 1}, params)


@pytest.mark.parametrize("make", [optimizers.adam, optimizers.rmsprop, optimizers.adadelta])
def test_a_mean_square_below_zero_is_refused(make: Any) -> None:
    params, optimizer = {"w": np.ones(3, np.float32)}, make(0.1)
    state = optimizer.update({"w": np.ones(3, np.float32)}, optimizer.init(params), params)[1]
    check_state(optimizer, state, params)
    squares = [path for path, _ in tree.leaves(state) if "square" in path]
    assert squares
    forged = tree.map_with_path(lambda path, leaf: -leaf - 5 if path in squares else leaf, state)
    with pytest.raises(ValueError, match="`state` must give finite updates"):
        check_state(optimizer, forged, params)
