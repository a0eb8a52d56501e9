"""Portable mode compiled: its bits are those of NumPy's kernels."""

from __future__ import annotations

import json
import math
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import gru, lstm, max_pool, numerics, random, tree
from funcnn._kernels import convolution
from funcnn._kernels.windows import output_size, window
from funcnn.machine.threads import in_team
from funcnn.testing import digest
from funcnn.training import identity
from funcnn.types import Array
from tests import registry, test_optimizers
from tests.elsewhere import environment
from tests.registry import Case, LossCase
from tests.test_compiled import WINDOWS

if find_spec("numba") is None:
    pytest.skip("Numba is not installed", allow_module_level=True)

GOLDEN = json.loads((Path(__file__).parent / "golden_portable.json").read_text())
ODD = [
    0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 5e-324, -1e-310, 1e-30, 1.0, -1.0, 2.0, 0.5,
    88.7, -88.0, -104.0, -745.0, 709.8, 3e38, -3e38, 1e300, 1e-9, 1 - 2**-53,
]  # fmt: skip


def _same(compute: Callable[[], Any], note: str = "") -> Any:
    """What NumPy's kernels give, which the compiled ones give as well."""
    with numerics.portable(), np.errstate(all="ignore"):
        with numerics.compiled("off"):
            wanted = compute()
            bits = digest(wanted)
        with numerics.compiled("require"):
            assert digest(compute()) == bits, note
    return wanted


def _drawn(label: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    return random.normal(random.fold_in(random.key(0), label), shape, dtype=dtype)


# --- every case of the registry ---------------------------------------------------------------------


@pytest.mark.sampled(12)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in registry.layers()])
def test_bits_of_layers_are_the_same(case: Case) -> None:
    subject = registry.subject(case)
    params = subject.started[1]

    def single(x: Any) -> Any:
        if isinstance(x, (tuple, list)):
            return tuple(map(single, x))
        if isinstance(x, dict):
            return {name: single(one) for name, one in x.items()}
        return x.astype(np.float32) if x.dtype.kind == "f" else x

    for mode in subject.distinct_modes:
        run = subject.run(mode)
        for given, dout in ((subject.params, run.dout), (params, single(run.dout))):
            x = subject.x if given is subject.params else single(subject.x)
            both = partial(subject.fresh, mode, given, x, dout)
            _same(lambda: both()._replace(cache=None), mode)  # noqa: B023 - runs at once


@pytest.mark.sampled(12)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in registry.losses()])
def test_bits_of_losses_are_the_same(case: LossCase) -> None:
    subject = registry.loss_subject(case)

    def both() -> Any:
        value, cache = case.loss.apply(subject.prediction, subject.target)
        return value, case.loss.vjp(cache)

    _same(both)


@pytest.mark.sampled(12)
@test_optimizers.each
def test_bits_of_optimizers_are_the_same(optimizer: Any) -> None:
    start = test_optimizers._params()
    grads = test_optimizers._gradient(start)

    def some_steps() -> Any:
        state, found = optimizer.init(start), []
        for _ in range(3):
            updates, state = optimizer.update(grads, state, start)
            found.append(updates)
        return found

    _same(some_steps)


def test_bits_on_record_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
    runs = import_module("portable_runs").RUNS
    with numerics.portable(), numerics.compiled("require"):
        assert {name: digest(run()) for name, run in runs.items()} == GOLDEN


def test_ranks_may_differ_in_their_kernels() -> None:
    def told() -> Any:
        return identity.facts({"effects": {}}, {"w": np.ones(3, np.float32)})

    _same(lambda: np.frombuffer(json.dumps(told()).encode(), np.uint8))
    with numerics.compiled("off"):
        alone = told()
    with numerics.compiled("require"):
        assert told() != alone  # in fast mode, kernels round otherwise


# --- products ---------------------------------------------------------------------------------------

SHAPES = [
    ((6, 75), (75, 40)), ((1, 7), (7, 1)), ((5, 1), (1, 9)), ((13, 300), (300, 17)),
    ((2, 3, 4), (4, 5)), ((3, 1, 6, 2), (4, 2, 7)), ((4, 5), (3, 5, 2)), ((11, 129), (129, 61)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_bits_of_products_are_the_same_for_every_memory_order(shapes: Any) -> None:
    a, b = (_drawn(str(shape), shape) for shape in shapes)

    def orders(x: Array) -> list[Array]:
        turned = x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
        packed = np.zeros(x.shape, [("x", "f4"), ("y", "u1")])
        packed["x"] = x
        some = np.repeat(x, 2, -1)[..., ::2], x[..., ::-1, :], x.astype(">f4"), packed["x"]
        return [x, turned, *some]

    for left, right in product(orders(a), orders(b)):
        wanted = _same(partial(numerics.matmul, left, right))
        for out in (np.empty(wanted.shape, np.float32), np.empty(wanted.T.shape, np.float32).T):
            _same(partial(numerics.matmul, left, right, out))


def test_bits_of_products_are_the_same_for_every_team() -> None:
    for shapes in (
        ((300, 90), (90, 170)), ((40, 90), (90, 1200)), ((9, 60, 70), (9, 70, 120)),
        ((35, 1300), (1300, 75)),
    ):  # fmt: skip
        a, b = (_drawn(str(shape), shape) for shape in shapes)
        for workers in (1, 2, 3):
            _same(partial(in_team, workers, partial(numerics.matmul, a, b)), f"{shapes} {workers}")


def test_products_write_nowhere_else() -> None:
    a, b = _drawn("a", (13, 20)), _drawn("b", (20, 29))
    room = np.full((17, 40), 7, np.float32)
    with numerics.portable(), numerics.compiled("require"):
        numerics.matmul(a, b, room[2:15, 5:34])
    around = np.ones(room.shape, bool)
    around[2:15, 5:34] = False
    assert (room[around] == 7).all()


def _hard(name: str) -> tuple[Array, Array]:
    """Operands whose products are in doubt, one way or another."""
    a, b = _drawn("a", (7, 60)), _drawn("b", (60, 33))
    if name == "zeros":
        a[2], b[:, ::3], a[:, 5:] = 0, 0, 0
    elif name == "whole numbers":
        a, b = a.round(), b.round()
    elif name == "cancellation":
        a[:, 30:], b[30:] = a[:, :30], -b[:30]
    elif name == "nearly cancellation":
        a[:, 30:], b[30:] = a[:, :30], -b[:30]
        a[:, 59] *= np.float32(1 + 2**-20)
    elif name == "halves between two numbers":
        a[:] = b[:] = 0
        a[:, 0], b[0], a[:, 1], b[1] = 1 + 2**-23, 1, 2**-12, 2**-12
        a[3:, 2], b[2] = 2**-60, -(2**-60)
    elif name == "subnormal results":
        a *= np.float32(1e-22)
        b *= np.float32(1e-22)
    elif name == "the largest numbers":
        a *= np.float32(3e38) / np.abs(a).max()
    elif name == "of all sizes":
        a *= np.float32(10) ** _drawn("sizes", a.shape).clip(-3, 3).round() ** 3
    elif name == "one outlier":
        b[3, 4] = 1e30
    elif name == "infinity":
        a[1, 2], b[3, 4], b[7, 9] = np.inf, -np.inf, np.nan
    return a, b


HARD = [
    "plain", "zeros", "whole numbers", "cancellation", "nearly cancellation",
    "halves between two numbers", "subnormal results", "the largest numbers", "of all sizes",
    "one outlier", "infinity",
]  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_bits_of_hard_products_are_the_same(name: str) -> None:
    a, b = _hard(name)
    _same(lambda: numerics.matmul(a, b))
    _same(lambda: numerics.matmul(b.T, a.T))


def test_ordinary_products_are_not_declined() -> None:
    compiled = import_module("funcnn.numerics._compiled")
    for name in [*HARD[:3], *HARD[5:7], "one outlier"]:
        assert compiled.matmul(*_hard(name)) is not NotImplemented, name


def test_sums_that_are_rounded_twice_are_seen() -> None:
    """The plant: a bracket too narrow to see that a sum lies halfway between two numbers."""
    a, b = _hard("halves between two numbers")
    single = (a.astype(np.float64) @ b).astype(np.float32)
    wanted = _same(lambda: numerics.matmul(a, b))
    assert (single[3:] != wanted[3:]).any()


# --- convolution and pooling ------------------------------------------------------------------------


@pytest.mark.parametrize("at", WINDOWS, ids=str)
@pytest.mark.parametrize("batch", [1, 5, 32])
def test_bits_of_convolutions_are_the_same(batch: int, at: tuple[Any, ...]) -> None:
    spatial, kernel, stride, padding, dilation = at
    win = window(kernel, stride, padding, dilation)
    for outs, groups in ((3, 1), (26, 2), (8, 4)):
        x, weight = _drawn("x", (batch, 4, *spatial)), _drawn("w", (outs, 4 // groups, *kernel))
        bias = _drawn("bias", (outs,))
        dout = _drawn("dout", (batch, outs, *output_size(win, spatial)))
        dout *= random.bernoulli(random.key(3), 0.3, dout.shape)
        _same(partial(convolution.convolve, x, weight, bias, win, groups))
        _same(partial(convolution.weight_gradient, x, dout, weight.shape, win, groups))
        _same(partial(convolution.input_gradient, dout, weight, x.shape, win, groups))


def test_bits_of_convolutions_are_the_same_for_every_team() -> None:
    win = window((3, 3), 1, 1, 1)
    x, weight, bias = _drawn("x", (7, 4, 13, 9)), _drawn("w", (10, 4, 3, 3)), _drawn("bias", (10,))
    dout = _drawn("dout", (7, 10, 13, 9))

    def all() -> Any:
        out = convolution.convolve(x, weight, bias, win)
        dweight = convolution.weight_gradient(x, dout, weight.shape, win)
        return out, dweight, convolution.input_gradient(dout, weight, x.shape, win)

    for workers in (1, 2, 3):
        _same(partial(in_team, workers, all), f"{workers}")


@pytest.mark.parametrize("shape", [(128, 3, 28, 28), (40, 2, 5, 30, 30), (64, 9, 4000)], ids=str)
def test_sums_that_a_plan_cuts_are_cut_alike(shape: tuple[int, ...]) -> None:
    kernel = (5,) * (len(shape) - 2)
    win = window(kernel, 1, 0, 1)
    dout = _drawn("dout", (shape[0], 4, *output_size(win, shape[2:])))
    weight = (4, shape[1], *kernel)
    compiled = import_module("funcnn._kernels.convolution.portable_compiled")
    plans = import_module("funcnn._kernels.convolution.plans")
    way = plans.plan("weight", shape, weight, win)
    assert sum(len(ends) - 1 for _, _, ends in compiled._chunks(shape, win, 1, way)) > 1
    x = _drawn("x", shape)
    _same(lambda: convolution.weight_gradient(x, dout, weight, win))


FAR = ((1, 3), (3, 2), (3, 2), ((3, 1), (2, 3)), (2, 1))  # some outputs see nothing but padding


@pytest.mark.parametrize("at", [*WINDOWS, FAR], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -0.0])
def test_bits_of_convolutions_with_odd_numbers_are_the_same(value: float, at: tuple[Any, ...]) -> None:
    spatial, kernel, stride, padding, dilation = at
    win = window(kernel, stride, padding, dilation)
    for outs, groups in ((6, 1), (14, 1), (8, 4)):
        x, weight = _drawn("x", (5, 4, *spatial)), _drawn("w", (outs, 4 // groups, *kernel))
        dout = _drawn("d", (5, outs, *output_size(win, spatial)))
        for one in (x, weight, dout):
            before = one.copy()
            one.flat[[3, one.size // 2]] = value
            _same(partial(convolution.convolve, x, weight, None, win, groups))
            _same(partial(convolution.weight_gradient, x, dout, weight.shape, win, groups))
            _same(partial(convolution.input_gradient, dout, weight, x.shape, win, groups))
            one[...] = before


@pytest.mark.parametrize("options", [(2, 2), (3, 3), (3, 2), (2, 3)], ids=str)
def test_bits_of_pooling_are_the_same(options: tuple[int, int]) -> None:
    layer = max_pool(options[0], stride=options[1])
    x = _drawn("x", (5, 3, 9, 8)).round()
    x.flat[::7], x.flat[3::11], x.flat[5] = -0.0, np.inf, np.nan
    dout = _drawn("dout", layer.apply({}, x)[0].shape).round() * np.float32(-1)

    def both() -> Any:
        out, cache = layer.apply({}, x)
        return out, layer.vjp(cache, dout)[1]

    _same(both)


# --- recurrent layers -------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [lstm(30), lstm(3, reverse=True, bias=False), gru(30),
                                   gru(3, reverse=True, bias=False)], ids=repr)  # fmt: skip
@pytest.mark.parametrize("odd", [None, np.nan, np.inf, 1e-42])
def test_bits_of_recurrent_layers_are_the_same(
    layer: Any, odd: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = import_module("funcnn._kernels.recurrent.portable_compiled")
    monkeypatch.setattr(kernels, "_PART", 1)
    x = _drawn("x", (19, 5, 4))
    params = layer.init(random.key(0), x.shape)[1]
    dout = _drawn("dout", layer.apply(params, x)[0].shape)
    for one, place in ((x, (7, 4, 1)), (dout, (18, 2, 0))):
        before = one[place]
        one[place] = before if odd is None else odd

        def both() -> Any:
            out, cache = layer.apply(params, x)
            found = tree.flatten((out, layer.vjp(cache, dout)))
            return np.nan_to_num(found, nan=7.5)  # a NaN has a sign, which means nothing

        for workers in (1, 3):
            _same(partial(in_team, workers, both))
        one[place] = before


@pytest.mark.parametrize("cell", [lstm, gru])
@pytest.mark.parametrize("order", ["C", "F"])
def test_gradients_of_a_carry_may_lie_in_any_order(cell: Any, order: Any) -> None:
    layer, x = cell(3, carry=True), _drawn("x", (2, 2, 2))
    states = _drawn("h", (2, 1, 3)), _drawn("c", (2, 1, 3))
    carry: Any = states if cell is lstm else states[0]
    params = layer.init(random.key(0), tree.map(np.shape, (x, carry)))[1]
    dcarry = tree.map(lambda one: np.array(one, order=order), carry)

    def both() -> Any:
        (out, _), cache = layer.apply(params, (x, carry))
        return tree.flatten(layer.vjp(cache, (out, dcarry)))

    _same(both)


@pytest.mark.parametrize("cell", [lstm, gru])
@pytest.mark.parametrize("shape", [(2, 1, 3), (1, 2, 3), (3, 2, 3)])
def test_a_gradient_may_lie_anywhere(cell: Any, shape: tuple[int, ...]) -> None:
    """A single step, or a single example, makes it contiguous: then nothing copies it."""
    layer, x = cell(4), random.normal(random.key(1), shape)
    _, params = layer.init(random.key(0), shape)
    plain = random.normal(random.key(2), (*shape[:2], 4))
    dout = np.zeros(plain.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(plain.shape)
    dout[...] = plain
    with numerics.portable(), numerics.compiled("require"):
        _, cache = layer.apply(params, x)
        assert digest(layer.vjp(cache, dout)) == digest(layer.vjp(cache, plain))


@pytest.mark.parametrize("layer", [lstm(9), gru(9)], ids=repr)
def test_ordinary_walks_are_not_declined(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = import_module("funcnn._kernels.recurrent.portable_compiled")
    twins, declined = import_module("funcnn._kernels.recurrent"), []

    def told(kernel: Any, *args: Any) -> Any:
        found = kernel(*args)
        declined.append(found is NotImplemented)
        return found

    for name in ("forward", "backward"):
        monkeypatch.setattr(kernels, name, partial(told, getattr(kernels, name)))
        choosing = import_module("funcnn.numerics.twins").compiled_in(portable=kernels.__name__)
        monkeypatch.setattr(twins, name, choosing(getattr(twins, name).__wrapped__))
    x = _drawn("x", (4, 3, 5))
    params = layer.init(random.key(0), x.shape)[1]
    with numerics.portable(), numerics.compiled("require"):
        out, cache = layer.apply(params, x)
        layer.vjp(cache, out)
    assert declined == [False, False]


# --- sums and elementary functions ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(32, 3, 5, 4), (33, 10), (7,), (1, 9, 1), (4, 0, 2)], ids=str)
def test_bits_of_sums_are_the_same(shape: tuple[int, ...], dtype: Any) -> None:
    x = _drawn("x", shape, dtype)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    some = [each for count in range(len(shape)) for each in combinations(range(len(shape)), count + 1)]
    for one in (x, last, x.T.copy().T, x[::-1], x[..., ::2]):
        for axis in (None, -1, *some):
            for keep in (False, True):
                _same(partial(numerics.sum, one, axis, keep), f"{axis} {keep}")


NAMES = (
    "exp", "expm1", "log", "log1p", "tanh", "tanh_slope", "sigmoid", "softplus", "erf", "erfc", "sin",
    "cos", "rsqrt",
)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_bits_of_functions_are_the_same(name: str, dtype: Any) -> None:
    """Of each operation rounded as it stands: one that is fused would show in some of these."""
    drawn = random.normal(random.key(0), (20_000,), dtype=np.float64)
    sizes = 10.0 ** np.linspace(-40, 3, 5_000)
    with np.errstate(over="ignore"):
        x = np.concatenate([ODD, 3 * drawn, 50 * drawn[:5_000], sizes, -sizes]).astype(dtype)
    if dtype == np.float32:  # some of all there are
        x = np.append(x, np.arange(0, 1 << 32, 40_009).astype(np.uint32).view(dtype))
    function = getattr(numerics, name)
    wanted = _same(lambda: np.nan_to_num(function(x), nan=7.5))
    assert wanted.dtype == dtype
    _same(lambda: function(x[5:25].reshape(4, 5).T))
    _same(lambda: function(x[1]))


def test_bits_of_powers_are_the_same() -> None:
    x, y = np.meshgrid(ODD, ODD)
    drawn = 5 * random.normal(random.key(0), (2, 20_000), dtype=np.float64)
    base = np.concatenate([x.ravel(), np.abs(drawn[0]), drawn[0]])
    power = np.concatenate([y.ravel(), drawn[1], drawn[1].round()])
    _same(lambda: np.nan_to_num(numerics.power(base, power), nan=7.5))
    _same(lambda: numerics.power(np.abs(drawn), 0.3))
    assert math.isfinite(drawn.max())


# --- other processors -------------------------------------------------------------------------------

ELSEWHERE = """
import json, sys
sys.path[:0] = {paths!r}
from funcnn.machine import code
code.features, code.width = lambda: "", lambda: {width}
from funcnn import numerics
from funcnn.machine.threads import in_team
from funcnn.testing import digest
from funcnn.training import identity
import portable_runs
with numerics.portable():
    print(json.dumps({{name: digest(run()) for name, run in portable_runs.RUNS.items()}}))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names are of x86-64")
@pytest.mark.parametrize(("processor", "width"), [("nehalem", 16), ("haswell", 32)])
def test_bits_of_other_processors_are_those_on_record(
    processor: str, width: int, tmp_path: Path
) -> None:
    """Without fused operations, and with vectors of another width."""
    root = Path(__file__).parent.parent
    code = ELSEWHERE.format(paths=[str(root), str(root / "scripts")], width=width)
    variables = {
        "FUNCNN_COMPILED": "require", "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(**variables),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == GOLDEN


PLAIN = (  # what is made of operations that are rounded as they stand
    "numerics.halving", "_kernels.normalization.portable_compiled",
    "_kernels.elementwise.portable_compiled",
)  # fmt: skip


@pytest.mark.slow
def test_no_operation_of_sums_and_functions_may_be_fused_or_reordered() -> None:
    plain = {f"funcnn.{name}" for name in PLAIN}
    for name in plain | {"funcnn.numerics._compiled"}:
        import_module(name)
    jit, translation = (import_module(f"funcnn.numerics.{name}") for name in ("jit", "translation"))
    seen = {}
    for kernel in jit.every:
        name = kernel.function.__qualname__
        if kernel.function.__module__ in plain or name.startswith("each_"):
            signature = translation.signature(kernel.function, np.dtype(kernel.dtypes[0]))
            made = jit.numba.njit(signature, **kernel.options)(kernel.function)
            (found,) = made.overloads.values()
            text = found.library.get_llvm_str()
            assert re.search("= f(mul|add|sub|div|cmp) ", text)
            seen[name] = bool(re.search(r"= f\w+ (contract|reassoc|fast)", text))
    assert len(seen) > 8
    assert not any(seen.values()), seen
