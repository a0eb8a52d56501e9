"""Portable mode, end to end: nothing slips past it, and its bits are those on record."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Barrier, current_thread
from typing import Any

import numpy as np
import pytest

from funcnn import (
    batch_norm,
    checkpoints,
    data,
    dense,
    dropout,
    fit,
    metrics,
    numerics,
    optimizers,
    plots,
    random,
    relu,
    schedules,
    serial,
    softmax_cross_entropy,
    value_and_grad,
)
from funcnn.testing import _portability, assert_portable, digest, environments
from funcnn.types import Array
from tests import registry, test_data, test_metrics, test_optimizers, test_schedules
from tests.elsewhere import environment
from tests.portable_samples import fails_if_told_to, product, product_in_fast_mode
from tests.registry import Case, InitializerCase, LossCase
from tests.slips import Slip, Watched, caught, watched

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
PAPER = (ROOT / "docs/how-to/paper.md").read_text("utf-8")
GOLDEN = json.loads((ROOT / "tests" / "golden_portable.json").read_text())


def _each(cases: tuple[Any, ...]) -> list[Any]:
    return [pytest.param(case, id=case.id) for case in cases]


def _each_shown(parts: list[Any]) -> list[Any]:
    return [pytest.param(part, id=repr(part)) for part in parts]


# --- nothing slips past it ------------------------------------------------------------------------


@pytest.mark.parametrize("case", _each(registry.layers()))
def test_no_layer_slips_past(case: Case) -> None:
    subject = registry.subject(case)
    dout = {mode: watched(subject.run(mode).dout) for mode in subject.modes}
    with caught():
        case.layer.init(subject.init_key, case.shape)
        for mode in subject.modes:
            _, cache = case.layer.apply(
                watched(subject.params), watched(subject.x), key=subject.modes[mode]
            )
            case.layer.vjp(cache, dout[mode])


@pytest.mark.parametrize("case", _each(registry.losses()))
def test_no_loss_slips_past(case: LossCase) -> None:
    subject = registry.loss_subject(case)
    with caught():
        _, cache = case.loss.apply(watched(subject.prediction), watched(subject.target))
        case.loss.vjp(cache)


@pytest.mark.parametrize("case", _each(registry.initializers()))
def test_no_initializer_slips_past(case: InitializerCase) -> None:
    with caught():
        case.initializer(random.key(0), case.shape)


@test_optimizers.each
def test_no_optimizer_slips_past(optimizer: optimizers.Optimizer) -> None:
    start = test_optimizers._params()
    grads = test_optimizers._gradient(start)
    with caught():
        params, state = watched(start), optimizer.init(watched(start))
        for _ in range(4):
            updates, state = optimizer.update(watched(grads), watched(state), params)
            params = watched(optimizers.apply_updates(params, updates))


@test_schedules.each
def test_no_schedule_slips_past(schedule: schedules.Schedule) -> None:
    with caught():
        for step in range(30):
            schedule(step)


def test_no_random_stream_slips_past() -> None:
    key = random.key(3)
    with caught():
        for dtype in (np.float32, np.float64):
            random.normal(key, (40, 3), dtype=dtype)
            random.uniform(key, (40, 3), dtype=dtype)
            random.truncated_normal(key, (40, 3), dtype=dtype)
        random.bernoulli(key, 0.3, (40,))
        random.choice(key, 4, (9,), weights=np.array([0.5, 0.25, 0.125, 0.125]))
        random.permutation(key, 9)
        random.randint(key, (40,), 0, 7)


@pytest.mark.parametrize("change", _each_shown(test_data.CHANGES))
def test_no_augmentation_slips_past(change: data.Augmentation) -> None:
    with caught():
        change(random.key(0), watched(test_data.IMAGES))


def test_nothing_that_makes_or_scales_data_slips_past() -> None:
    images, labels = watched(test_data.IMAGES), test_data.LABELS
    with caught():
        for make, _ in test_data.TOYS:
            make(random.key(0), 30)
        data.mixup(3).pair(random.key(0), images, labels)
        data.normalize(data.Dataset(images, labels))
        data.resize(images, (5, 9))
        data.Batches(data.Dataset(images, labels), 4).batch(random.key(0), 0, 0)


def test_no_metric_slips_past() -> None:
    with caught():
        for metric in test_metrics.ALL + test_metrics.NUMBERS:
            prediction, target = test_metrics._given(metric)
            for weight in (None, np.arange(1.0, 7.0)):
                metric(watched(prediction), watched(target), weight=watched(weight))


def test_no_training_slips_past(tmp_path: Path) -> None:
    """The whole loop, with all that stands in it beside the parts."""
    with caught():
        x = random.normal(random.key(0), (40, 3))
        train = data.Dataset(x, (x[:, 0] > 0).astype(np.int64))
        decayed = optimizers.adamw(schedules.warmup(schedules.cosine(0.1, 9), 3))
        fit(
            serial(dense(4), batch_norm(), relu(), dropout(0.2), dense(2)), softmax_cross_entropy(),
            optimizers.chain(optimizers.clip_by_global_norm(1.0), decayed, optimizers.ema(0.9)), train,
            key=random.key(1), epochs=2, validation=train, metrics={"top": metrics.top_k(1)},
            checkpoint=tmp_path / "run.npz", log=tmp_path / "log", progress=False, workers=1,
        )  # fmt: skip


_tanh, _dot = np.tanh, np.dot

SLIPS: dict[str, Callable[[Array], Any]] = {
    "np.exp": lambda x: np.exp(x),
    "np.matmul": lambda x: np.matmul(x, x),
    "np.einsum": lambda x: np.einsum("ij,jk", x, x),
    "np.linalg.norm": lambda x: np.linalg.norm(x),
    "np.sum": lambda x: np.sum(x),
    "np.add.reduce": lambda x: np.add.reduce(x),
    "a function kept from before": lambda x: _tanh(x),
    "a product kept from before": lambda x: _dot(x, x),
    "@": lambda x: x @ x,
    "the method sum": lambda x: x.sum(0),
    "the method mean": lambda x: (2 * x[1:]).mean(),
    "the method var": lambda x: x.reshape(-1).var(),
    "the method dot": lambda x: x.T.dot(x),
    "a power": lambda x: x**1.5,
    "a result of numerics": lambda x: numerics.exp(x).sum(),
    "an array made on the way": lambda x: np.zeros_like(np.asarray(x)).mean(),
    "math": lambda x: math.exp(x[0, 0]),
    "sum() of floats": lambda x: sum([0.5, float(x[0, 0])]),
    "fast mode": lambda x: numerics.use("fast")(numerics.exp)(x),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_planted_slip_is_caught(name: str) -> None:
    x = watched(np.ones((3, 3)))
    with caught(), pytest.raises(Slip, match="is not called through numerics"):
        SLIPS[name](x)


def test_a_layer_with_a_planted_slip_is_caught() -> None:
    def vjp(cache: Any, dout: Any) -> Any:
        return {}, dout * cache["x"].sum()

    case = next(case for case in registry.layers() if case.layer.spec.kind == "relu")
    layer = case.layer._replace(vjp=vjp, apply=lambda params, x, *, key=None: (x, {"x": x}))
    with pytest.raises(Slip, match=r"^add\.reduce is not called through numerics$"):
        test_no_layer_slips_past(case._replace(layer=layer))


def test_what_is_exact_does_not_slip() -> None:
    x = watched(np.ones((3, 3)))
    with caught():
        found = [
            np.sqrt(x * x + x / 2 - x), x**2, np.maximum(x, 0).max(0), np.cumsum(x, 0), (x > 0).sum(),
            numerics.matmul(x, x), numerics.mean(x, 0), numerics.softplus(x), x.T[::-1].copy(),
        ]  # fmt: skip
    assert all(isinstance(y, Watched) for y in found if np.asarray(y).ndim and y.dtype.kind == "f")
    assert np.exp(np.zeros(1)) == 1  # and NumPy is itself again


# --- the bits on record ---------------------------------------------------------------------------

# When a release changes how a batch is cut or a layer adds up, its bits change, on every machine
# alike: `scripts/prove_portable.py --record` writes the new ones down.


@pytest.fixture(scope="module")
def prover() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield import_module("prove_portable")


@pytest.fixture(scope="module")
def runs() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield import_module("portable_runs")


def _digests(runs: Any) -> dict[str, str]:
    return {name: digest(run()) for name, run in runs.RUNS.items()}


@pytest.mark.parametrize(("workers", "order"), [(1, "C"), (2, "F"), (4, "batch-last")])
def test_workers_and_memory_order_do_not_show(
    runs: Any, workers: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WORKERS", workers)
    monkeypatch.setattr(runs, "ORDER", order)
    with numerics.portable():
        assert _digests(runs) == GOLDEN


@pytest.mark.parametrize("start", ["1 BLAS", "2 BLAS", "OpenBLAS kernels", "NumPy without any"])
def test_other_surroundings_do_not_show(prover: Any, start: str) -> None:
    settings = prover.basic_settings()
    names = [name for name in settings if name.startswith(start)]
    if not names:
        pytest.skip("this processor, this BLAS, or this NumPy, has no such setting")
    setting = settings[names[0]]
    assert prover.verdict(prover.outcome("portable", setting), setting, GOLDEN) == "same bits"


@pytest.mark.slow
def test_the_whole_matrix(prover: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status = prover.main([])
    shown = capsys.readouterr().out
    assert status == 0, shown
    assert "left out" in shown or "| a textbook BLAS that adds backwards | same bits | 0 of 4" in shown


def test_the_proof_sees_other_bits(prover: Any) -> None:
    setting = prover.Setting({})
    other = {**GOLDEN, "mlp": "0" * 64}
    assert prover.verdict(prover.Outcome(GOLDEN), setting, other) == "OTHER BITS: mlp"
    unused = prover.Setting({}, another_blas=True)
    assert prover.verdict(prover.Outcome(GOLDEN), unused, GOLDEN) == "FAILED: NumPy did not call it"
    broken = prover.outcome("portable", prover.Setting({"PORTABLE_RUN_WORKERS": "none"}))
    assert prover.verdict(broken, setting, GOLDEN).startswith("FAILED: ValueError: invalid literal")


# --- assert_portable ------------------------------------------------------------------------------


def test_what_is_portable_passes() -> None:
    assert_portable(product)


def test_a_digest_on_record_is_compared() -> None:
    with numerics.portable():
        known = digest(product())
    assert_portable(product, known, settings={})
    message = f"^not reproducible: the digest is {known}, expected abc$"
    with pytest.raises(AssertionError, match=message):
        assert_portable(product, "abc", settings={})


def test_a_product_in_fast_mode_is_caught() -> None:
    message = (
        r"^not reproducible: in the run with .+, the leaf at \('gram',\) has other bits than in run 1"
    )
    with pytest.raises(AssertionError, match=message):
        assert_portable(product_in_fast_mode)


def test_settings_are_variables_of_the_environment() -> None:
    assert_portable(fails_if_told_to, settings={"nothing set": {}})
    message = r"^assert_portable: `fn` must run in another process.*: RuntimeError: planted"
    with pytest.raises(ValueError, match=message):
        assert_portable(fails_if_told_to, settings={"a plant": {"PLANTED": "1"}})


@pytest.mark.parametrize("fn", [lambda: 1, partial(lambda x: x, 1)], ids=["lambda", "partial"])
def test_a_function_that_cannot_be_imported_is_refused(fn: Any) -> None:
    with pytest.raises(ValueError, match=r"^assert_portable: `fn` must be a function at the top of"):
        assert_portable(fn)


def test_a_function_of_a_module_that_others_cannot_find_is_refused() -> None:
    stranger = types.ModuleType("nowhere_to_be_found")
    exec("def fn():\n    return 1", stranger.__dict__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, stranger.__name__, stranger)
        with pytest.raises(ValueError, match=r"must run in another process: ModuleNotFoundError"):
            assert_portable(stranger.fn, settings={"nothing set": {}})


# What processors can do, as NumPy names it, and what of it NumPy can do without.
PROCESSORS: dict[str, tuple[set[str], list[str]]] = {
    "x86-64 with SSE3 alone": ({"SSE", "SSE2", "SSE3"}, []),
    "x86-64 with AVX2": ({"SSE3", "SSE42", "AVX", "FMA3", "AVX2", "X86_V3"}, ["X86_V3"]),
    "x86-64 with AVX-512": (
        {"SSE3", "SSE42", "AVX", "FMA3", "AVX2", "X86_V3", "AVX512_SKX", "X86_V4", "AVX512_ICL"},
        ["X86_V3", "X86_V4", "AVX512_ICL"],
    ),
    "Arm": ({"NEON", "ASIMD", "ASIMDHP", "ASIMDDP"}, ["ASIMDHP", "ASIMDDP"]),
    "another": (set(), []),
}
KERNELS = {
    "x86-64 with SSE3 alone": ["Prescott"],
    "x86-64 with AVX2": ["Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen"],
    "x86-64 with AVX-512": ["Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX"],
    "Arm": ["ARMV8", "NEOVERSEN1"],
    "another": [],
}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_only_what_a_processor_can_run_is_tried(processor: str) -> None:
    able, switchable = PROCESSORS[processor]
    found = _portability._candidates(able, switchable, [])
    cores = [variables.get("OPENBLAS_CORETYPE") for variables in found.values()]
    assert [core for core in cores if core] == KERNELS[processor]
    off = [variables.get("NPY_DISABLE_CPU_FEATURES") for variables in found.values()]
    wanted = [" ".join(switchable), *switchable] if switchable else []
    assert [names for names in off if names is not None] == wanted


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("blas", ["OpenBLAS", "OpenBLAS of few kernels", "another"])
@pytest.mark.parametrize("processors", [1, 2, 16])
def test_settings_with_one_effect_are_one(processor: str, blas: str, processors: int) -> None:
    able, switchable = PROCESSORS[processor]

    def effect(variables: Mapping[str, str]) -> str:
        threads = min(int(variables.get("OPENBLAS_NUM_THREADS", processors)), processors)
        core = variables.get("OPENBLAS_CORETYPE", KERNELS[processor][-1] if able else "GENERIC")
        if blas == "another":
            core = ""
        elif blas == "OpenBLAS of few kernels":
            core = {"Zen": "Haswell", "Nehalem": "Prescott"}.get(core, core)
        off = variables.get("NPY_DISABLE_CPU_FEATURES", "").split()
        return f"{threads} {core} {[name for name in switchable if name not in off]}"

    candidates = _portability._candidates(able, switchable, [])
    found = _portability._distinct(candidates, effect)
    effects = [effect(variables) for variables in found.values()]
    assert len(set(effects)) == len(effects)
    assert set(effects) | {effect({})} == {effect(variables) for variables in candidates.values()}
    assert effect({}) not in effects or processors <= 2
    assert "1 BLAS thread" in found
    assert ("NumPy without any vector unit" in found) == bool(switchable)


def test_a_setting_that_does_not_run_is_none() -> None:
    found = _portability._distinct({"dies": {"A": "1"}, "runs": {"B": "1"}}, lambda v: v.get("B", ""))
    assert found == {"runs": {"B": "1"}}
    assert _portability._effect({"NPY_DISABLE_CPU_FEATURES": "X", "NPY_ENABLE_CPU_FEATURES": "X"}) == ""


def test_what_is_switched_off_stays_off() -> None:
    found = _portability._candidates({"X86_V3"}, ["X86_V3"], ["X86_V4"])
    assert found["NumPy without any vector unit"] == {"NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3"}


def test_environments_are_those_of_this_processor() -> None:
    found = environments()
    assert "1 BLAS thread" in found
    effects = [_portability._effect(variables) for variables in found.values()]
    assert "" not in effects
    assert len(set(effects)) == len(effects)


def test_the_test_of_a_paper(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```py\n(# test_paper\.py.*?)^```", PAPER, re.M | re.S)
    (tmp_path / "test_paper.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_paper.py"],
        cwd=tmp_path, env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout


# --- the mode -------------------------------------------------------------------------------------


def test_the_mode_is_scoped() -> None:
    before = numerics.mode()
    with numerics.portable():
        assert numerics.mode() == "portable"
        with pytest.raises(ZeroDivisionError), numerics.fast():
            _ = 1 / (numerics.mode() != "fast")
        assert numerics.mode() == "portable"
    assert numerics.mode() == before


def test_threads_of_others_do_not_see_it() -> None:
    with numerics.portable(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(numerics.mode).result() == "fast"
        assert pool.submit(copy_context().run, numerics.mode).result() == "portable"


@pytest.mark.threads
def test_workers_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("funcnn.training.gradients._SMALL", 50)  # so that the batch makes two shards
    seen: set[tuple[str, str]] = set()
    both = Barrier(2, timeout=30)

    def apply(params: Any, x: Any, *, key: Any = None) -> Any:
        both.wait()  # so that each shard has a thread of its own
        seen.add((current_thread().name, numerics.mode()))
        return net.apply(params, x, key=key)

    net = dense(2)
    _, params = net.init(random.key(0), (32, 3))
    watching = net._replace(apply=apply)
    x, y = np.ones((32, 3), np.float32), np.zeros(32, np.int64)
    step = value_and_grad(watching, softmax_cross_entropy(), workers=3)
    with numerics.portable():
        step(params, x, y)
    assert len(seen) == 2
    assert {mode for _, mode in seen} == {"portable"}


def _fit(mode: Any, **options: Any) -> Any:
    x = random.normal(random.key(0), (40, 3))
    train = data.Dataset(x, (x[:, 0] > 0).astype(np.int64))
    return fit(
        dense(2), softmax_cross_entropy(), optimizers.adam(0.1), train,
        key=random.key(1), mode=mode, **{"epochs": 2, "progress": False, **options},
    )  # fmt: skip


def test_fit_takes_the_mode_in_force_or_one_of_its_own() -> None:
    outside = numerics.mode()
    named = _fit("portable")
    assert numerics.mode() == outside
    with numerics.portable():
        in_force = _fit(None)
        assert digest(_fit("fast").params) != digest(in_force.params)
    assert digest(named.params) == digest(in_force.params)


def test_checkpoints_remember_the_mode(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    _fit("portable", epochs=1, checkpoint=file)
    assert checkpoints.load(file)[1]["training"]["numerics"] == "portable"
    with pytest.raises(ValueError, match=r"^fit: .* numerics was portable, now fast; a new one can"):
        _fit("fast", resume=file)
    assert digest(_fit("portable", resume=file).params) == digest(_fit("portable").params)


def test_the_environment_sets_the_mode() -> None:
    code = "from funcnn import numerics; print(numerics.mode())"
    for word, expected in (("portable", "portable\n"), ("exact", "`FUNCNN_NUMERICS` must be")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False,
            env=environment(FUNCNN_NUMERICS=word),
        )  # fmt: skip
        assert expected in done.stdout + done.stderr


def test_reports_name_the_mode(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    net = dense(2)
    _, params = net.init(random.key(0), (1, 3))
    with numerics.portable():
        plots.html_report(tmp_path / "run.html", net, params, {"loss": np.ones(2)})
    assert "<th>numerics mode</th><td>portable</td>" in (tmp_path / "run.html").read_text()
