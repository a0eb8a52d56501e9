"""Compiled kernels: the choice between the sets, the cache on disk, and what the kernels compute."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcnn
from funcnn import (
    adaptive_avg_pool,
    adaptive_avg_pool1d,
    adaptive_max_pool,
    avg_pool,
    avg_pool1d,
    celu,
    checkpoints,
    dense,
    elu,
    embedding_bag,
    fit,
    gelu,
    global_avg_pool,
    global_max_pool,
    glu,
    gru,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    lp_pool,
    lp_pool1d,
    lstm,
    mish,
    numerics,
    optimizers,
    pad,
    random,
    relu,
    relu6,
    rnn,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softmin,
    softplus,
    swiglu,
    tanh,
    tanh_shrink,
    threshold,
    tree,
    upsample,
)  # fmt: skip
from funcnn._kernels import convolution, elementwise, framing, normalization
from funcnn._kernels.embedding import add_rows
from funcnn._kernels.images import batch_first, batch_last, is_batch_last, turned
from funcnn._kernels.pooling import compiled as pooling, separable, unpooling
from funcnn._kernels.upsampling import compiled as resizing
from funcnn._kernels.windows import output_size, window
from funcnn.machine import code
from funcnn.machine.threads import in_team
from funcnn.numerics import sets
from funcnn.numerics.jit import In, Out, kernel
from funcnn.testing import _values, digest
from funcnn.types import Array
from tests import registry
from tests.elsewhere import environment

needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed")
CONVOLVE = """
import numpy as np
from funcnn import conv, random
layer = conv(4, 3)
_, params = layer.init(random.key(0), (4, 3, 8, 8))
layer.apply(params, np.ones((4, 3, 8, 8), np.float32))
"""
POOL = """
import numpy as np
from funcnn import max_pool
max_pool(2).apply({}, np.ones((4, 3, 8, 8), np.float32))
"""


def _run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, check=False)


# --- the choice -------------------------------------------------------------------------------------


def test_these_tests_run_numpy_alone() -> None:
    assert not numerics.compiling()
    assert numerics.kernels() == "NumPy's (compiled ones are off)"


def test_another_word_is_refused() -> None:
    text = "^numerics: `use` must be one of 'auto', 'require', 'off', got 'on'$"
    with pytest.raises(ValueError, match=text), numerics.compiled("on"):  # type: ignore[arg-type]
        pass
    done = _run("import funcnn; funcnn.dense(3)", FUNCNN_COMPILED="yes")
    assert done.stderr.splitlines()[-1].endswith(
        "numerics: `FUNCNN_COMPILED` must be one of 'auto', 'require', 'off', got 'yes'"
    )


def test_without_numba_require_refuses_and_auto_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "numba_fault", lambda: "Numba, which is not installed")
    text = r'^compiled kernels need Numba, which is not installed: pip install "funcnn\[fast\]"$'
    with pytest.raises(ValueError, match=text.replace("^", "^numerics: ")), numerics.compiled():
        pass
    with numerics.compiled("auto"):
        assert not numerics.compiling()
        assert numerics.kernels() == "NumPy's (compiled ones need Numba, which is not installed)"


@pytest.mark.parametrize("word", ["auto", "require", "off"])
def test_a_process_without_numba(word: str) -> None:
    code = f"import sys; sys.modules['numba'] = None{CONVOLVE}\nprint(numerics.kernels())"
    done = _run(code.replace("import conv,", "import conv, numerics,"), FUNCNN_COMPILED=word)
    if word == "require":
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].endswith('not installed: pip install "funcnn[fast]"')
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("NumPy's (compiled ones ")


def test_nothing_is_compiled_ahead_without_numba() -> None:
    code = "import runpy, sys; sys.modules['numba'] = None; runpy.run_module('{}', run_name='__main__')"
    done = _run(code.format("funcnn.compile"))
    assert done.returncode == 1
    line = 'numerics: compiled kernels need Numba, which is not installed: pip install "funcnn[fast]"'
    assert done.stderr == f"{line}\n"


@pytest.mark.parametrize("version", ["99.0", "0.61.2"])
def test_a_numba_that_cannot_be_used_is_as_good_as_none(tmp_path: Path, version: str) -> None:
    package = tmp_path / "numba"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('it wants an older NumPy')")
    (package / "_version.py").write_text(f"""version_json = '{{"version": "{version}"}}'""")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}){CONVOLVE}\nprint(numerics.kernels())"
    code = code.replace("import conv,", "import conv, numerics,")
    done = _run(code, FUNCNN_COMPILED="auto", NUMBA_CACHE_DIR=str(tmp_path))
    why = {
        "99.0": "Numba, which cannot be imported (ImportError: it wants an older NumPy)",
        "0.61.2": "Numba 0.62 or newer, got 0.61.2",
    }
    assert (done.stdout, done.stderr) == (f"NumPy's (compiled ones need {why[version]})\n", "")


@needs_numba
@pytest.mark.parametrize("word", ["auto", "require"])
def test_a_numba_that_is_switched_off_is_as_good_as_none(word: str) -> None:
    code = f"{CONVOLVE}\nprint(numerics.kernels())".replace("import conv,", "import conv, numerics,")
    done = _run(code.removeprefix("\n"), FUNCNN_COMPILED=word, NUMBA_DISABLE_JIT="1")
    why = "need Numba, which NUMBA_DISABLE_JIT switches off"
    assert (why in done.stdout, why in done.stderr) == (word == "auto", word == "require")


@needs_numba
def test_the_choice_holds_inside_the_block_and_in_threads_that_copy_the_context() -> None:
    with numerics.compiled("require"):
        assert numerics.compiling()
        assert numerics.kernels().startswith("compiled by Numba ")
        with numerics.compiled("off"):
            assert not numerics.compiling()
        with numerics.portable():
            assert numerics.kernels().startswith("compiled by Numba ")
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(numerics.compiling).result()
            assert pool.submit(copy_context().run, numerics.compiling).result()
    assert not numerics.compiling()


def test_it_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    funcnn.show_config()
    assert "kernels        NumPy's (compiled ones are off)\n" in capsys.readouterr().out
    assert funcnn.doctor().machine["kernels"] == numerics.kernels()
    net, x, y = dense(1), np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    batches = funcnn.data.Batches(funcnn.data.Dataset(x, y), 2)
    fit(net, funcnn.mean_squared_error(), optimizers.sgd(0.1), batches, epochs=1,
        key=random.key(0), checkpoint=tmp_path / "run")  # fmt: skip
    assert checkpoints.load(tmp_path / "run")[1]["kernels"] == numerics.kernels()


# --- the cache --------------------------------------------------------------------------------------


@needs_numba
def test_a_first_run_says_so_and_leaves_code_for_the_next(tmp_path: Path) -> None:
    variables = {"FUNCNN_COMPILED": "require", "XDG_CACHE_HOME": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    several = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", POOL], env=environment(**variables),
                         stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]  # fmt: skip
    line = "funcnn: compiling kernels, once for this machine (python -m funcnn.compile does it ahead)\n"
    for process in several:
        assert process.communicate()[1] in {line, ""}
        assert process.returncode == 0
    unwritten = "from funcnn.machine import code; code.writable = None"
    alone = "import sys; assert 'llvmlite' in sys.modules and 'numba' not in sys.modules"
    again = _run(f"{unwritten}{POOL}{alone}", **variables)
    assert (again.returncode, again.stderr) == (0, "")


def test_code_that_is_not_whole_or_anothers_is_none(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    assert code.kept(path) is None
    code.keep(b"name\n\ncode", path)
    assert code.kept(path) == b"name\n\ncode"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "other").write_bytes(path.read_bytes())
    assert code.kept(tmp_path / "other") is None
    for damaged in (b"", path.read_bytes()[:-1], path.read_bytes() + b"x", bytes(100)):
        path.write_bytes(damaged)
        assert code.kept(path) is None
    code.keep(b"", tmp_path / "nowhere" / "kernel")


@needs_numba
def test_code_is_kept_apart_for_every_processor_version_and_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def folder() -> Path | None:
        code.folder.cache_clear()
        return code.folder(str(tmp_path / "source"))

    (tmp_path / "source").touch()
    found = [folder()]
    others: list[Callable[[pytest.MonkeyPatch], None]] = [
        lambda patch: patch.setattr(code, "processor", lambda: "pdp11"),
        lambda patch: patch.setattr(code, "features", lambda: "+avx9"),
        lambda patch: patch.setattr(code, "_about", lambda name: b"1.0"),
        lambda patch: patch.setattr(np, "__version__", "9.0.0"),
        lambda patch: patch.setenv("NUMBA_OPT", "1"),
        lambda patch: patch.setenv("NUMBA_CACHE_DIR", str(tmp_path)),
    ]
    for change in others:
        with monkeypatch.context() as patched:
            change(patched)
            found.append(folder())
    (tmp_path / "source").write_text("another")
    found.append(folder())
    code.folder.cache_clear()
    assert None not in found
    assert len(set(found)) == len(found)


@needs_numba
def test_a_kernel_takes_only_what_it_is_made_for(tmp_path: Path) -> None:
    def leaky(x: In, out: Out, slope: float) -> None:
        for i in range(len(x)):
            out[i] = x[i] if x[i] > 0 else slope * x[i]

    run = kernel(leaky)
    x, out = np.array([-2, 3], np.float32), np.empty(2, np.float32)
    on_disk = np.memmap(tmp_path / "x", np.float32, "w+", shape=2)
    on_disk[:] = x
    unaligned = np.zeros(9, np.uint8)[1:].view(np.float32)
    unaligned[:] = x
    for good in (x, on_disk, unaligned, x[None, :, None]):
        run(good, out, np.float64(0.5))
        assert out.tolist() == [-1, 3]
    sealed = out.copy()
    sealed.flags.writeable = False
    for wrong in (
        (np.zeros((2, 3), np.float32).T, out, 0.5), (np.zeros(4, np.float32)[::2], out, 0.5),
        (x, sealed, 0.5),
        (x, out.astype(np.float64), 0.5), (x, [0.0, 0.0], 0.5), (x, out, "0.5"), (x, out),
        (x.astype(">f4"), out, 0.5), (x, out, 0.5, 0.5), (x, np.empty(2, np.int32), 0.5),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            run(*wrong)


@needs_numba
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.name == "nt", reason="it asks for a file system")
def test_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = _run(POOL, FUNCNN_COMPILED="require", NUMBA_CACHE_DIR=str(tmp_path / "file"))
    assert done.returncode == 0, done.stderr
    why = "for this process alone: no folder can keep them (NUMBA_CACHE_DIR names one)"
    assert done.stderr == f"funcnn: compiling kernels, {why}\n"
    ahead = [sys.executable, "-m", "funcnn.compile"]
    refused = subprocess.run(
        ahead, env=environment(NUMBA_CACHE_DIR=str(tmp_path / "file")), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert refused.stderr.endswith("`NUMBA_CACHE_DIR` must name a folder that can keep kernels\n")


@needs_numba
def test_code_that_cannot_be_loaded_is_run_by_numba() -> None:
    code = "from funcnn.machine import code; code.load = lambda made: None; import numpy as np; "
    layer = "from funcnn import softmax; print(softmax().apply({}, np.log([[2, 6]]))[0][0].tolist())"
    done = _run(f"{code}{layer}", FUNCNN_COMPILED="require")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx([0.25, 0.75])


@needs_numba
def test_numba_waits_for_a_kernel_that_is_not_on_disk() -> None:
    root = Path(funcnn.__file__).parent
    paths = [path.relative_to(root.parent).with_suffix("") for path in root.rglob("*compiled.py")]
    modules = sorted(".".join(path.parts) for path in paths)
    done = _run(f"import sys, {', '.join(modules)}; assert 'numba' not in sys.modules")
    assert (done.returncode, done.stderr) == (0, "")


@needs_numba
def test_what_is_compiled_ahead_is_what_runs() -> None:
    """A kernel runs for the dtype of its first array."""
    import numba

    root = Path(funcnn.__file__).parent
    for path in root.rglob("*compiled.py"):
        import_module(".".join(path.relative_to(root.parent).with_suffix("").parts))
    jit, translation = (import_module(f"funcnn.numerics.{name}") for name in ("jit", "translation"))
    for one in jit.every:
        for dtype in map(np.dtype, one.dtypes):
            first = translation.signature(one.function, dtype).args[0]
            assert first.dtype == numba.from_dtype(dtype), one.function


@needs_numba
@pytest.mark.slow
def test_all_are_compiled_ahead() -> None:
    """In the folder of the other tests, where most of them are by now: to make all takes minutes."""
    done = _run("from funcnn.compile import compile_kernels; print(compile_kernels())")
    assert f" kernels for {code.processor()}, in " in done.stdout
    alone = "compile_kernels(); import sys; assert 'numba' not in sys.modules"
    again = _run(f"from funcnn.compile import compile_kernels; {alone}")
    assert (again.returncode, again.stderr) == (0, "")


OUTLIVES = """
import ctypes, gc
import numpy as np
from funcnn import max_pool
from funcnn.machine import code
from funcnn.numerics import jit
max_pool(2).apply({}, np.ones((4, 3, 8, 8), np.float32))
functions = [one for kernel in jit.every for one in kernel.by_dtype.values()]
places = [ctypes.c_void_p.from_address(id(one) + object.__basicsize__).value for one in functions]
before = [ctypes.string_at(place, 32) for place in places]
vars(code).clear()  # as at the end of a process
gc.collect()
assert functions and before == [ctypes.string_at(place, 32) for place in places]
"""


@needs_numba
def test_a_kernel_outlives_the_module_that_loaded_it() -> None:
    """Python reads its definition when it drops it."""
    variables = {"FUNCNN_COMPILED": "require", "PYTHONMALLOC": "debug"}  # overwrites what is freed
    done = _run(OUTLIVES, **variables)
    assert done.returncode == 0, done.stderr


# --- which layers -----------------------------------------------------------------------------------


@needs_numba
def test_the_registry_knows_which_layers_run_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[None] = []

    def asked() -> bool:
        ran.append(None)
        return False

    twins = import_module("funcnn.numerics.twins")
    monkeypatch.setattr(twins, "chosen", lambda: "require")
    faults = map(str, count())  # another each time: answers are kept
    monkeypatch.setattr(twins, "numba_fault", lambda: next(faults))
    monkeypatch.setattr(twins, "compiling", asked)
    wrong = []
    for case in registry.layers():
        subject = registry.subject(case)
        dout = subject.fresh("training", subject.params, subject.x).dout  # drawn by a kernel, too
        ran.clear()
        subject.fresh("training", subject.params, subject.x, dout)
        if ran and case not in registry.compiled_layers():
            wrong.append(case.id)
    assert wrong == []


# --- convolution ------------------------------------------------------------------------------------

WINDOWS: tuple[tuple[Any, ...], ...] = (
    ((9, 8), (3, 3), 1, 1, 1),
    ((9, 8), (3, 2), 2, 1, 1),
    ((9, 8), (5, 5), 1, 0, 1),
    ((9, 8), (3, 3), 1, 2, 2),
    ((9, 8), (3, 3), 1, ((3, 0), (0, 4)), 1),
    ((9, 8), (2, 3), (2, 1), ((0, 1), (1, 2)), 1),
    ((9, 8), (1, 1), 1, 0, 1),
    ((9, 8), (1, 1), (2, 3), ((0, 1), (0, 0)), 1),
    ((9, 8), (3, 3), 3, ((2, 0), (0, 0)), 2),
    ((2, 9), (3, 3), 1, 3, 1),
    ((13,), (3,), 1, 1, 1),
    ((13,), (4,), 2, 1, 1),
    ((13,), (3,), 1, ((4, 0),), 2),
    ((5, 6, 7), (3, 3, 2), 1, 1, 1),
    ((5, 6, 7), (3, 2, 2), (2, 1, 2), ((1, 0), (0, 1), (0, 0)), 1),
)


def _operands(
    batch: int, outs: int, groups: int, at: tuple[Any, ...], dtype: Any
) -> tuple[Any, Array, Array, Array, Array]:
    spatial, kernel, stride, padding, dilation = at
    win = window(kernel, stride, padding, dilation)
    key = random.key(0)
    shapes = (
        (batch, 4, *spatial), (outs, 4 // groups, *kernel), (outs,),
        (batch, outs, *output_size(win, spatial)),
    )  # fmt: skip
    x, weight, bias, dout = (
        random.normal(random.fold_in(key, str(i)), shape, dtype=dtype) for i, shape in enumerate(shapes)
    )
    for one in (x, weight, bias, dout):
        one.flags.writeable = False
    return win, x, weight, bias, dout


def _all_three(win: Any, x: Array, weight: Array, bias: Array | None, dout: Array, groups: int) -> Any:
    return {
        "out": convolution.convolve(x, weight, bias, win, groups),
        "dweight": convolution.weight_gradient(x, dout, weight.shape, win, groups),
        "dx": convolution.input_gradient(dout, weight, x.shape, win, groups),
    }


@pytest.fixture(params=[True, False], ids=["panels", "in place"])
def paneled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether images are copied into panels, for few filters too, or read where they lie."""
    module = import_module("funcnn._kernels.convolution.paneled_compiled")
    monkeypatch.setattr(module, "IN_PLACE", not request.param)
    monkeypatch.setattr(module, "_LEAST", 1)
    return bool(request.param)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("at", WINDOWS, ids=str)
@pytest.mark.parametrize("batch", [1, 5, 33])
def test_convolution_as_numpy_computes_it(
    batch: int, at: tuple[Any, ...], dtype: Any, paneled: bool
) -> None:
    tolerance = 2e-5 if dtype == np.float32 else 1e-13
    for outs, groups in ((1, 1), (3, 1), (7, 1), (8, 4), (12, 2)):
        win, x, weight, bias, dout = _operands(batch, outs, groups, at, dtype)
        with numerics.compiled("off"):
            wanted = _all_three(win, x, weight, bias, dout, groups)
        with numerics.compiled("require"):
            found = _all_three(win, x, weight, bias, dout, groups)
        for name, one in found.items():
            assert one.dtype == dtype
            scale = max(1.0, float(np.abs(wanted[name]).max()))
            np.testing.assert_allclose(one, wanted[name], 0, tolerance * scale, err_msg=name)


@needs_numba
@pytest.mark.parametrize("at", [WINDOWS[0], ((9, 8), (1, 1), 2, 0, 1)], ids=str)
def test_ordinary_convolutions_are_not_declined(at: tuple[Any, ...]) -> None:
    compiled = import_module("funcnn._kernels.convolution.compiled")
    win, x, weight, bias, dout = _operands(32, 6, 1, at, np.float32)
    with numerics.compiled("require"):
        assert compiled.convolve(x, weight, bias, win) is not NotImplemented
        assert compiled.weight_gradient(x, dout, weight.shape, win) is not NotImplemented
        assert compiled.input_gradient(dout, weight, x.shape, win) is not NotImplemented


@needs_numba
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("at", WINDOWS, ids=str)
def test_an_output_changes_to_the_bit_only_where_it_sees_what_changes(
    at: tuple[Any, ...], value: float, paneled: bool
) -> None:
    win, x, weight, bias, dout = _operands(35 if paneled else 5, 6, 2, at, np.float32)
    first, last, middle = (0,) * len(at[0]), [n - 1 for n in at[0]], [n // 2 for n in at[0]]
    for pixel in ((0, 0, *first), (4, 3, *last), (2, 1, *middle)):
        changed = x.copy()
        changed[pixel] = value
        with numerics.compiled("off"), np.errstate(all="ignore"):
            there = (changed != x).astype(np.float32)
            reach = _all_three(win, there, np.ones_like(weight), None, dout, 2)
        with numerics.compiled("require"), np.errstate(all="ignore"):
            before = _all_three(win, x, weight, bias, dout, 2)
            after = _all_three(win, changed, weight, bias, dout, 2)
        unseen = reach["out"] == 0
        assert (before["out"] == after["out"])[unseen].all()
        assert (before["out"] != after["out"])[~unseen].all()
        seen = reach["dweight"] != 0
        assert (before["dweight"] == after["dweight"])[~seen].all()
        assert not np.isfinite(after["dweight"][seen]).any() or np.isfinite(value)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
@pytest.mark.parametrize(
    "shape", [(32, 3, 7, 9), (16, 2, 65), (8, 1, 3, 4, 5), (5, 3, 4), (0, 3, 8), (8, 0, 3)]
)
def test_images_are_turned_as_they_are(shape: tuple[int, ...], dtype: Any) -> None:
    x = random.normal(random.key(0), shape).astype(dtype)
    for one in (x, x[..., ::-1], x[::2]):
        with numerics.compiled("require"):
            found = [in_team(workers, partial(turned, one)) for workers in (1, 2)]
        for each in found:
            np.testing.assert_array_equal(each, one, strict=True)
            assert is_batch_last(each) or each.size == 0 or len(each) < 2


@needs_numba
def test_a_panel_serves_some_places_of_a_row_and_filters_meet_it_in_turn(
    paneled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("funcnn._kernels.convolution.paneled_compiled")
    monkeypatch.setattr(module, "_PANEL", 1 << 13)
    monkeypatch.setattr(module, "_FILTERS", 1 << 9)
    module._columns.cache_clear()
    for at in (((9, 8), (3, 3), 1, 1, 1), ((6, 19), (2, 3), (1, 2), ((0, 1), (3, 0)), (1, 2))):
        win, x, weight, bias, dout = _operands(32, 58, 2, at, np.float32)
        with numerics.compiled("off"):
            wanted = _all_three(win, x, weight, bias, dout, 2)
        with numerics.compiled("require"):
            found = _all_three(win, x, weight, bias, dout, 2)
        for name, one in found.items():
            np.testing.assert_allclose(one, wanted[name], 0, 2e-4, err_msg=name)
    module._columns.cache_clear()


@needs_numba
@pytest.mark.parametrize("at", WINDOWS, ids=str)
def test_any_number_of_threads_gives_the_same_bits(at: tuple[Any, ...], paneled: bool) -> None:
    win, x, weight, bias, dout = _operands(40 if paneled else 8, 6, 1, at, np.float32)
    with numerics.compiled("require"):
        found = {
            digest(in_team(workers, lambda: _all_three(win, x, weight, bias, dout, 1)))
            for workers in (1, *[2, 3] * 20)
        }
    assert len(found) == 1


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_products_of_single_taps_as_numpy_computes_them(dtype: Any) -> None:
    """Behind a large product, and back; any number of threads gives the same bits."""
    x = random.normal(random.key(0), (32, 16, 16, 32), dtype=dtype).transpose(3, 0, 1, 2)
    weight, bias = random.normal(random.key(1), (64, 32, 1, 1), dtype=dtype), np.arange(64, dtype=dtype)
    at = window((1, 1))

    def both() -> tuple[Array, ...]:
        out = convolution.convolve(x, weight, bias, at)
        dweight = convolution.weight_gradient(x, out, weight.shape, at)
        return out, convolution.bias_gradient(out), dweight

    with numerics.compiled("off"):
        expected = both()
    with numerics.compiled("require"):
        found = [in_team(workers, both) for workers in (1, *[2, 3] * 5)]
    assert len(set(map(digest, found))) == 1
    for one, other in zip(expected, found[0], strict=True):
        np.testing.assert_allclose(other, one, 1e-4, 1e-6 * float(np.abs(one).max()))


# --- pooling ----------------------------------------------------------------------------------------


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("at", WINDOWS, ids=str)
@pytest.mark.parametrize("batch", [1, 5, 24])
def test_max_pool_as_numpy_computes_it(batch: int, at: tuple[Any, ...], dtype: Any) -> None:
    """To the bit, with NaN, infinity, zeros of both signs and equals; either may give the gradient."""
    spatial, kernel, stride, padding, dilation = at
    win = window(kernel, stride, padding, dilation)
    x = random.normal(random.key(0), (batch, 3, *spatial), dtype=dtype).round()
    odd = random.randint(random.key(1), x.shape, 0, 40)
    for place, value in enumerate((np.nan, np.inf, -np.inf, -0.0, 0.0)):
        x[odd == place] = value
    x[0, 0] = -np.inf
    places = output_size(win, spatial)
    dout = random.normal(random.key(2), (batch, 3, *places), dtype=dtype)
    with numerics.compiled("off"):
        wanted, record = separable.max_pool(x, win)
        dx = separable.max_pool_gradient(dout, record, x.shape, win)
    with numerics.compiled("require"):
        found, winners = separable.max_pool(x, win)
        again = separable.max_pool_gradient(dout, winners, x.shape, win)
        third = separable.max_pool_gradient(dout, record, x.shape, win)
    np.testing.assert_allclose(third, dx, 0, 1e-5)
    assert digest(found) == digest(wanted)
    np.testing.assert_allclose(again, dx, 0, 1e-5)
    with numerics.compiled("off"):
        other = separable.max_pool_gradient(dout, winners, x.shape, win)
    np.testing.assert_allclose(other, dx, 0, 1e-5)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 5, 24])
@pytest.mark.parametrize(
    "layer",
    [adaptive_max_pool((3, 2)), adaptive_avg_pool((3, 2)), adaptive_avg_pool((9, 4)),
     global_max_pool(), avg_pool(3, stride=2, padding=1, count_include_pad=False),
     avg_pool(2), avg_pool((1, 2), stride=3), global_avg_pool(), lp_pool(2, ceil_mode=True),
     upsample((2, 3)), upsample(size=(7, 9), mode="bicubic")],
    ids=str,
)  # fmt: skip
def test_windows_and_bins_as_numpy_sees_them(layer: Any, batch: int, dtype: Any) -> None:
    """With what is not finite; and either set goes back from what the other has kept."""
    x = random.normal(random.key(0), (batch, 3, 7, 5), dtype=dtype).round(1)
    x[0, 1, 2, :3] = np.nan, np.inf, -np.inf
    x[-1, 2] = 0
    x[0, 0, [1, 1, 4], [1, 2, 0]] = np.nan  # of several in a bin, the last one gets the gradient
    found = {}
    with np.errstate(all="ignore"):
        words: tuple[Any, ...] = ("off", "require")
        for there, back in product(words, repeat=2):
            with numerics.compiled(there):
                out, cache = layer.apply({}, x)
            with numerics.compiled(back):
                dx = layer.vjp(cache, random.normal(random.key(1), out.shape, dtype=dtype))[1]
            found[there, back] = out, dx
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for pair in found.values():
        for one, other in zip(found["off", "off"], pair, strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            np.testing.assert_allclose(other, one, tolerance, tolerance)


@needs_numba
def test_means_of_large_bins_as_numpy_takes_them() -> None:
    """So many numbers that they are added up along one axis after the other."""
    layer, x = adaptive_avg_pool((3, 2)), random.normal(random.key(0), (4, 3, 40, 37))
    x[0, 1, 2, :3] = np.nan, np.inf, -np.inf
    found = []
    with np.errstate(all="ignore"):
        for word in ("off", "require"):
            with numerics.compiled(word):
                out, cache = layer.apply({}, x)
                found.append((out, layer.vjp(cache, random.normal(random.key(1), out.shape))[1]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, 1e-5, 1e-6)


@needs_numba
@pytest.mark.parametrize(
    "layer",
    [funcnn.max_pool(2), funcnn.max_pool(3, stride=2, padding=1), avg_pool(3, stride=2, padding=1),
     lp_pool(2), adaptive_max_pool((3, 2)), adaptive_avg_pool((3, 2)), upsample(2),
     upsample((2, 3), mode="bilinear")],
    ids=str,
)  # fmt: skip
def test_any_number_of_threads_pools_to_the_same_bits(layer: Any) -> None:
    x = random.normal(random.key(0), (20, 5, 9, 8))

    def both_ways() -> tuple[Array, Array]:
        out, cache = layer.apply({}, x)
        return layer.vjp(cache, random.normal(random.key(1), out.shape))[1], out

    with numerics.compiled("require"):
        found = {digest(in_team(workers, both_ways)) for workers in (1, *[2, 3] * 10)}
    assert len(found) == 1


@needs_numba
@pytest.mark.parametrize(
    "layer", [pad((2, (0, 1)), mode=mode) for mode in ("constant", "reflect", "replicate", "circular")]
    + [pad((0, (0, 3)), mode="replicate"), upsample((2, 3))], ids=str,
)  # fmt: skip
@pytest.mark.parametrize(("batch", "dtype"), [(2, np.float32), (45, np.float64), (39, np.float32)])
def test_copies_have_the_bits_of_what_they_are_of(layer: Any, batch: int, dtype: Any) -> None:
    """NaN of any bits, infinity, and zeros of both signs; and any number of threads adds up as one."""
    x = np.resize(np.array([np.nan, -np.nan, np.inf, -0.0, 0.0, 1, 7], dtype), (4, 5, 3, batch))
    x.view(np.uint8).reshape(x.size, -1)[::7, 0] += 5
    x = batch_first(x)
    with numerics.compiled("off"):
        out, cache = layer.apply({}, x)
        dout = random.normal(random.key(0), batch_last(out).shape, dtype=dtype)
        dx = layer.vjp(cache, batch_first(dout))[1]

    def both_ways() -> tuple[Array, Array]:
        found, cache = layer.apply({}, x)
        return found.view(f"u{x.itemsize}"), layer.vjp(cache, batch_first(dout))[1]

    with numerics.compiled("require"):
        found = [in_team(workers, both_ways) for workers in (1, 2, 3, 2, 3)]
    assert len(set(map(digest, found))) == 1
    assert digest(found[0][0]) == digest(out.view(f"u{x.itemsize}"))
    np.testing.assert_allclose(found[0][1], dx, 1e-5, 1e-5)


@needs_numba
def test_ordinary_copies_are_not_declined() -> None:
    x, widths = batch_first(np.ones((3, 4, 4, 2), np.float32)), ((1, 1), (0, 2))
    for mode in ("constant", "reflect"):
        assert framing.pad(x, widths, mode, 0.0).shape == (2, 3, 6, 6)
    assert framing.pad_gradient(x, (2, 2), widths, "replicate").shape == (2, 3, 2, 2)
    assert resizing.repeated(x, (2, 3)).shape == (2, 3, 8, 12)
    assert resizing.repeated_gradient(x, (2, 1)).shape == (2, 3, 2, 4)
    assert pooling.sums(x, window((2, 2), 2)).shape == (2, 3, 2, 2)
    assert pooling.max_pool_gradient(x, None, (2, 3, 8, 8), window((2, 2), 2)).shape == (2, 3, 8, 8)
    assert pooling.means(x, (1, 1)).shape == (2, 3, 1, 1)


@needs_numba
@pytest.mark.parametrize(
    "layer",
    [avg_pool1d(2), lp_pool1d(2), adaptive_avg_pool1d(50001), upsample(2), pad(1, mode="reflect")],
    ids=str,
)
def test_tables_of_long_sequences_are_small(layer: Any) -> None:
    x, found = random.normal(random.key(0), (2, 100_000, 1)), []
    for word in ("off", "require"):
        with numerics.compiled(word):
            out, cache = layer.apply({}, x)
            found.append((out, layer.vjp(cache, out)[1]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, 1e-5, 1e-6)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_is_found(dtype: Any) -> None:
    x = random.normal(random.key(0), (3, 50, 100), dtype=dtype).transpose(1, 2, 0)
    x[0, 0, 0], places = np.finfo(dtype).max, [(0, 0, 0), (49, 99, 2), (7, 30, 1)]
    with numerics.compiled("require"):
        assert elementwise.all_finite(x)
        for place, value in product(places, (np.nan, np.inf, -np.inf)):
            odd = x.copy("K")
            odd[place] = value
            assert not elementwise.all_finite(odd)
            assert not in_team(2, partial(elementwise.all_finite, odd[::-1]))


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("batch", "kind"), [(1, np.int64), (5, np.uint64), (5, np.uint8)])
def test_unpooling_as_numpy_does_it(batch: int, kind: Any, dtype: Any) -> None:
    """Of several in one place, the last is there; all else of them gets no gradient."""
    x = random.normal(random.key(0), (batch, 3, 2, 4), dtype=dtype)
    indices = random.randint(random.key(1), x.shape, 0, 24)
    indices[0, 0] = 7
    indices = indices.astype(kind)
    dout = random.normal(random.key(2), (batch, 3, 4, 6), dtype=dtype)
    found = []
    words: tuple[Any, ...] = ("off", "require")
    for word in words:
        with numerics.compiled(word):
            out, there = unpooling.unpool(x, indices, (4, 6))
            found.append((out, there, unpooling.unpool_gradient(dout, indices, there)))
    assert digest(found[0]) == digest(found[1])
    assert found[0][0][0, 0, 1, 1] == x[0, 0, 1, 3]
    assert np.count_nonzero(found[0][1][0, 0]) == 1


# --- normalization ----------------------------------------------------------------------------------


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("order", "axes", "scale"),
    [
        ((0, 1, 2), (2,), (1, 1, 5)),
        ((0, 1, 2), (2,), (1, 1, 1)),
        ((0, 1, 2), (2,), (1, 7, 1)),
        ((0, 1, 2), (1, 2), (1, 7, 5)),
        ((0, 1, 2), (1, 2), (1, 1, 5)),
        ((0, 1, 2), (1, 2), (9, 1, 1)),
        ((1, 2, 0), (0, 2), (1, 7, 1)),
        ((1, 2, 0), (0, 2), (1, 1, 5)),
        ((1, 2, 0), (2,), (1, 7, 5)),
        ((1, 2, 0), (2,), (1, 1, 1)),
        ((1, 2, 0), (1, 2), (1, 7, 5)),
        ((1, 2, 0), (1, 2), (1, 1, 5)),
        ((2, 1, 0), (1, 2), (1, 1, 5)),
        ((2, 1, 0), (1, 2), (1, 1, 1)),
        ((0, 1, 2), (0, 1), (1, 1, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("centred", [True, False])
def test_normalization_as_numpy_computes_it(
    order: Any, axes: Any, scale: Any, dtype: Any, centred: bool
) -> None:
    shape, key = (9, 7, 5), random.key(0)
    inside = tuple(shape[k] for k in order)

    def drawn(label: str) -> Array:
        laid = random.normal(random.fold_in(key, label), inside, dtype=dtype)
        return laid.transpose(np.argsort(order))

    x, dout = drawn("x") * 3 + 2, drawn("dout")
    factor, bias = random.normal(random.key(1), (2, *scale), dtype=dtype)
    found = {}
    for word in ("off", "require"):
        with numerics.compiled(word):
            offset, rstd, *others, shrink = normalization.centre(x, axes, 1e-5, centred)
            out = normalization.scaled(offset, rstd, factor, bias)
            slopes = normalization.centre_gradients(dout, offset, rstd, factor, shrink, axes, centred)
        assert shrink is None
        found[word] = [offset, rstd, *others, out, *slopes]
    tolerance = 2e-5 if dtype == np.float32 else 1e-13
    for one, other in zip(found["off"], found["require"], strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(other, one, tolerance, tolerance * float(np.abs(one).max()))


@needs_numba
@pytest.mark.parametrize(
    ("sizes", "axes", "scale"),
    [
        ((1000, 24), (0,), (1, 24)),  # columns of rows
        ((6, 300, 8), (1,), (1, 1, 8)),  # of each example by itself
        ((8, 5, 40), (0, 2), (1, 5, 1)),
        ((300, 16), (1,), (1, 16)),
        ((2, 3, 40, 40, 20), (1, 2, 3), (2, 3, 1, 1, 1)),  # groups, channels, places, images
        ((9, 3, 11, 7, 20), (1, 2, 3), (9, 3, 1, 1, 1)),
        ((3, 40, 33, 20), (0, 1, 2), (3, 40, 33, 1)),
    ],
    ids=str,
)
def test_normalization_of_many_numbers(sizes: Any, axes: Any, scale: Any) -> None:
    """As NumPy computes it; any number of threads gives the same bits. Axes lie in memory in order."""
    x, dout = random.normal(random.key(0), (2, *sizes), dtype=np.float32) * 3 + 1
    factor, bias = random.normal(random.key(1), (2, *scale), dtype=np.float32)

    def both_ways() -> list[Array]:
        offset, rstd, *others, shrink = normalization.centre(x, axes, 1e-5)
        out = normalization.scaled(offset, rstd, factor, bias)
        slopes = normalization.centre_gradients(dout, offset, rstd, factor, shrink, axes)
        return [offset, rstd, *others, out, *slopes]

    with numerics.compiled("off"):
        expected = both_ways()
    with numerics.compiled("require"):
        found = [in_team(workers, both_ways) for workers in (1, *[2, 3] * 5)]
    assert len(set(map(digest, found))) == 1
    for one, other in zip(expected, found[0], strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(other, one, 2e-5, 2e-5 * float(np.abs(one).max()))


@needs_numba
@pytest.mark.parametrize("scale", [(9, 35, 1), (9, 1, 1), (1, 1, 30)], ids=str)
def test_a_group_as_a_whole_has_the_bits_of_its_parts(
    scale: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, dout = random.normal(random.key(0), (2, 9, 35, 30), dtype=np.float32) * 3 + 1
    factor, found = random.normal(random.key(1), scale), []
    kernels = import_module("funcnn._kernels.normalization.compiled")
    with numerics.compiled("require"):
        for least in (9, 10):
            monkeypatch.setattr(kernels, "_MANY", least)
            offset, rstd, *others, shrink = normalization.centre(x, (1,), 1e-5)
            slopes = normalization.centre_gradients(dout, offset, rstd, factor, shrink, (1,))
            found.append(digest([offset, rstd, *others[:2], *slopes]))
    assert found[0] == found[1]


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [None, 5.0, 1e30, np.nan])
def test_normalization_at_once_has_the_bits_of_two_passes(value: float | None, dtype: Any) -> None:
    """Of images, for any number of threads, also if one channel is constant, huge or NaN."""
    x = random.normal(random.key(0), (4, 9, 8, 130), dtype=dtype).transpose(3, 0, 1, 2)
    if value is not None:
        x[:, 2] = value if value != 1e30 else x[:, 2] * np.sqrt(np.finfo(dtype).max)
    scale, bias = random.normal(random.key(1), (2, 1, 4, 1, 1), dtype=dtype)
    axes = (0, 2, 3)
    with numerics.compiled("require"), np.errstate(all="ignore"):
        for leaves in ((scale, bias), (scale, None), (None, None)):
            assert (normalization.at_once(x, axes, 1e-5, *leaves) is None) == (value is not None)
            at = normalization.centre(x, axes, 1e-5)
            wanted = at, normalization.scaled(at.offset, at.rstd, *leaves)
            run = partial(normalization.normalized, x, axes, 1e-5, *leaves)
            assert {digest(in_team(workers, run)) for workers in (1, *[2, 3] * 3)} == {digest(wanted)}


# --- updates ----------------------------------------------------------------------------------------


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1.0, 1e-20, 1e18, np.nan, np.inf])
@pytest.mark.parametrize("rate", [0.1, 3.0, 0.0, 1e-40, 1e35])
def test_adam_has_the_bits_of_numpy(rate: float, size: float, dtype: Any) -> None:
    """In both modes, and whether or not the rate is multiplied in the same pass."""

    def tree_of(label: str) -> Any:
        sizes: Any = {"w": (80, 71), "large": (20_003,), "small": (3,), "one": (), "none": (0, 2)}
        key = random.fold_in(random.key(0), label)
        return {name: random.normal(key, sizes[name], dtype=dtype) for name in sizes}

    def trained(mode: Any = "fast") -> Any:
        found, state = [], optimizer.init(params)
        with numerics.use(mode), np.errstate(all="ignore"):
            for _ in range(3):
                updates, state = optimizer.update(grads, state, params)
                found.append(updates)
        return tuple(found), state

    params, grads, optimizer = tree_of("params"), tree_of("grads"), optimizers.adam(rate)
    grads["w"][3, 4] *= size
    with numerics.compiled("off"):
        wanted = trained()
    with numerics.compiled("require"):
        assert tree.equal(wanted, trained())
        assert tree.equal(wanted, in_team(2, partial(trained, "portable")))


@needs_numba
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_adam_sees_an_update_beyond_float32_that_its_rate_brings_back(mode: Any) -> None:
    """After a steep gradient, the mean is large while the mean square forgets at once."""

    def trained() -> Any:
        optimizer, params = (
            optimizers.adam(1e-3, beta2=0.0, epsilon=1e-10),
            {"w": np.zeros(3, np.float32)},
        )
        grads = {"w": np.array([1e30, 1.0, 0.0], np.float32)}
        state = optimizer.init(params)
        with numerics.use(mode):
            _, state = optimizer.update(grads, state, params)
            return optimizer.update({"w": np.zeros(3, np.float32)}, state, params)

    with numerics.compiled("off"):
        wanted = trained()
    assert tree.is_finite(wanted)
    with numerics.compiled("require"):
        assert tree.equal(wanted, trained())


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.1, 1.0, 3.0, 1e-35, 1e35])
@pytest.mark.parametrize("odd", [1.0, np.nan, np.inf])
def test_updates_of_many_numbers_have_the_bits_of_numpy(odd: float, rate: float, dtype: Any) -> None:
    """For any number of threads, in any order in memory, and where numbers are out of the dtype."""
    params, grads = random.normal(random.key(0), (2, 331, 257), dtype=dtype)
    grads[3, :5] = 0, -0.0, np.finfo(dtype).max, np.finfo(dtype).tiny, odd
    sgd = optimizers.sgd(rate, 0.5, nesterov=rate == 0.1, weight_decay=0.25)
    optimizer = optimizers.chain(optimizers.scale(5.0), sgd)

    def updated(params: Any, grads: Any) -> Any:
        state = optimizer.init(params)
        updates, state = optimizer.update(grads, state, params)
        updates, state = optimizer.update(grads, state, params)
        return updates, optimizers.apply_updates(params, updates), state

    layouts: Any = (np.array, *_values.LAYOUTS)
    for layout in layouts:
        given = [{"w": layout(params)}, {"w": layout(grads)}]
        for leaf in (given[0]["w"], given[1]["w"]):
            leaf.flags.writeable = False
        with numerics.compiled("off"), np.errstate(all="ignore"):
            wanted = updated(*given), optimizers.sgd_update(given[0], given[1], min(rate, 10))
        with numerics.compiled("require"), np.errstate(all="ignore"):
            for workers in (1, 2, 3):
                found = in_team(workers, partial(updated, *given))
                moved = optimizers.sgd_update(given[0], given[1], min(rate, 10), workers=workers)
                assert tree.equal(wanted, (found, moved)), (layout.__name__, workers)


def _leaves(found: list[Any]) -> list[tuple[str, Any]]:
    return [leaf for i, one in enumerate(found) for leaf in tree.leaves({str(i): one})]


# --- recurrent layers -------------------------------------------------------------------------------


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "layer",
    [lstm(7), lstm(5, bidirectional=True), gru(6, reverse=True), gru(17, layers=2, bias=False),
     rnn(5), rnn(5, nonlinearity="relu", reverse=True)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("batch", [2, 19, 32])
def test_recurrent_layers_as_numpy_computes_them(
    layer: Any, batch: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed compiled may be pulled back without, too."""
    monkeypatch.setattr(import_module("funcnn._kernels.recurrent.compiled"), "_PART", 1)
    _, params = layer.init(random.key(0), (batch, 5, 3))
    params = tree.map(lambda leaf: leaf.astype(dtype), params)
    x = random.normal(random.key(1), (batch, 5, 3), dtype=dtype)
    found = {}
    for word in ("off", "require"):
        with numerics.compiled(word):
            out, cache = layer.apply(params, x)
            dout = out * 2 + 1
            found[word] = [out, *layer.vjp(cache, dout)]
    assert "entering" in cache["walks"][0]
    with numerics.compiled("off"):
        found["mixed"] = [out, *layer.vjp(cache, dout)]
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for word in ("require", "mixed"):
        for (path, one), (_, other) in zip(_leaves(found["off"]), _leaves(found[word]), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            np.testing.assert_allclose(other, one, tolerance, tolerance, err_msg=path)


@needs_numba
@pytest.mark.parametrize("layer", [lstm(7), gru(6, reverse=True), rnn(5)], ids=str)
def test_any_number_of_threads_walks_to_the_same_bits(
    layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("funcnn._kernels.recurrent.compiled"), "_PART", 1)
    _, params = layer.init(random.key(0), (64, 9, 16))
    x = random.normal(random.key(1), (64, 9, 16))

    def both_ways() -> str:
        out, cache = layer.apply(params, x)
        assert len(cache["walks"][0]["entering"]) > 1
        return digest((out, layer.vjp(cache, out)))

    with numerics.compiled("require"):
        assert len({in_team(workers, both_ways) for workers in (1, 2, 3) * 3}) == 1


# --- rows of a table --------------------------------------------------------------------------------


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_rows_are_added_as_numpy_adds_them(count: int, dtype: Any) -> None:
    indices = np.arange(200, dtype=np.uint16) ** 2 % count
    rows = random.normal(random.key(0), (200, 5), dtype=dtype)[::-1]
    with numerics.compiled("off"):
        wanted = add_rows(indices, rows, count)
    with numerics.compiled("require"):
        found = add_rows(indices, rows, count)
        assert add_rows(indices[:0], rows[:0], count).shape == (count, 5)
        with pytest.raises(IndexError):
            add_rows(np.array([0, count]), rows[:2], count)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, 0, 1e-4 if dtype == np.float32 else 1e-13)


@needs_numba
@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bags_of_rows_as_numpy_adds_them(mode: str, dtype: Any) -> None:
    layer = embedding_bag(40, 5, mode=mode, padding_index=3)
    tokens = np.arange(60, dtype=np.uint8).reshape(6, 10) ** 2 % 40
    tokens[1] = 3
    table = random.normal(random.key(0), (40, 5), dtype=dtype)
    table[3] = np.nan  # which nobody sees
    dout = random.normal(random.key(1), (5, 6), dtype=dtype).T
    dout[1] = np.nan
    found = {}
    for word in ("off", "require"):
        with numerics.compiled(word):
            out, cache = layer.apply({"weight": table}, tokens)
            found[word] = [out, layer.vjp(cache, dout)[0]["weight"]]
    for one, other in zip(found["off"], found["require"], strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(other, one, 1e-5, 1e-6)


# --- functions of numbers ---------------------------------------------------------------------------


@needs_numba
@pytest.mark.parametrize(
    ("name", "most"), [("exp", 1.0), ("tanh", 1.5), ("sigmoid", 2.3)], ids=lambda one: str(one)
)
def test_functions_of_numbers_are_right_to_the_last_bits(name: str, most: float) -> None:
    run = _of_each(name)
    exact: Any = {"exp": np.exp, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[name]
    odd = [0.0, 1e-45, 1e-30, 0.5499999, 0.55, 87.3, 88.72283, 103.2, 1e30]
    x = np.concatenate([np.linspace(-104, 88.7, 300_001), np.linspace(-1, 1, 100_001), odd])
    x = np.concatenate([x, -x]).clip(-1e30, 88.72283).astype(np.float32)
    out = np.empty_like(x)
    run(x, out)
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64))
        unit = np.spacing(np.abs(wanted).astype(np.float32)).astype(np.float64)
    assert (np.abs(out - wanted) <= most * unit).all()
    limits = np.array([np.inf, -np.inf, np.nan, 100, -0.0], np.float32)
    out = np.empty_like(limits)
    run(limits, out)
    with np.errstate(all="ignore"):
        wanted = exact(limits)
    np.testing.assert_array_equal(out, wanted)
    assert np.signbit(out[-1]) == np.signbit(wanted[-1])


def _of_each(name: str) -> Any:
    function = getattr(import_module("funcnn._kernels.scalars"), name)

    def run(x: Array, out: Array) -> None:
        for i in range(len(x)):
            out[i] = function(x[i])

    return import_module("numba").njit(run)


@needs_numba
def test_the_logarithm_of_a_sum_is_right_to_the_last_bits() -> None:
    x = np.concatenate([np.linspace(0, 9, 300_001), 10.0 ** np.linspace(-44, 37, 100_001), [0.0]])
    x = x.astype(np.float32)
    out = np.empty_like(x)
    _of_each("log1p_from_0")(x, out)
    wanted = np.log1p(x.astype(np.float64))
    assert (np.abs(out - wanted) <= 2.0 * np.spacing(wanted.astype(np.float32))).all()


# --- functions of every element, and along an axis -------------------------------------------------

ODD = np.array(
    [[np.inf, 0.0, 1e-40, 88.7, -12, 2], [-np.inf, -0.0, -87.5, -100, -103.9, -110],
     [3e38, -3e38, 0.3, 5, np.inf, 1], [np.nan, 1, 20, 0, -1, 9]], np.float32,
)  # fmt: skip


FUNCTIONS = [
    gelu(), gelu("tanh"), silu(), sigmoid(), hard_swish(), leaky_relu(0.1), leaky_relu(0.0),
    relu(), relu6(), hard_tanh(-0.5, 2.0), hard_sigmoid(), threshold(0.3, 20.0), soft_shrink(0.3),
    hard_shrink(0.3), softplus(2.0), log_sigmoid(), swiglu(), elu(1.5), celu(0.5), selu(), mish(),
    tanh(), tanh_shrink(), glu(), softmax(), log_softmax(), softmin(), softmax(axis=1),
    log_softmax(axis=1),
]  # fmt: skip


@needs_numba
@pytest.mark.parametrize("layer", FUNCTIONS, ids=str)
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)], ids=str)
def test_functions_as_numpy_computes_them(layer: Any, order: Any) -> None:
    """With infinity and NaN, subnormal exponentials, and a class that is all but sure."""
    plain = np.concatenate([3 * random.normal(random.key(0), (5, 4, 6)), ODD[None]])
    x = plain.transpose(order).copy().transpose(np.argsort(order))
    dout = random.normal(random.key(1), layer.apply({}, x)[0].shape)
    found = {}
    for word in ("off", "require"):
        with numerics.compiled(word), np.errstate(all="ignore"):
            out, cache = layer.apply({}, x)
            found[word] = [out, layer.vjp(cache, dout)[1]]
    for one, other in zip(found["off"], found["require"], strict=True):
        assert (one.shape, one.dtype, one.strides) == (other.shape, other.dtype, other.strides)
        np.testing.assert_allclose(other, one, 2e-5, 1e-7)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", FUNCTIONS, ids=str)
def test_threads_share_a_function_of_many_numbers(layer: Any, dtype: Any) -> None:
    """With the bits of one thread, which are as NumPy computes them."""
    x = random.normal(random.key(0), (5, 70, 102), dtype=dtype)
    dout = random.normal(random.key(1), layer.apply({}, x)[0].shape, dtype=dtype)
    for order in ((0, 1, 2), (1, 2, 0)):
        there = x.transpose(order).copy().transpose(np.argsort(order))

        def both_ways(x: Array = there) -> list[Array]:
            out, cache = layer.apply({}, x)
            return [out, layer.vjp(cache, dout)[1]]

        _are_shared(both_ways, dtype)


def _are_shared(run: Any, dtype: Any) -> None:
    with numerics.compiled("off"):
        wanted = run()
    with numerics.compiled("require"):  # all are kept, so that each lies elsewhere
        found = [in_team(workers, run) for workers in (1, 2, 3, 2, 3)]
    assert len(set(map(digest, found))) == 1
    tolerance = (2e-5, 1e-6) if dtype == np.float32 else (1e-12, 1e-14)
    for one, other in zip(wanted, found[0], strict=True):
        np.testing.assert_allclose(other, one, *tolerance)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [10, 9000])
def test_threads_share_a_cross_entropy(classes: int, dtype: Any) -> None:
    z = random.normal(random.key(0), (27000 // classes, classes), dtype=dtype)
    labels = random.randint(random.key(1), z.shape[:1], 0, classes)
    loss = funcnn.softmax_cross_entropy(reduction="none")

    def both_ways() -> list[Any]:
        values, cache = loss.apply(z, labels)
        return [values, loss.vjp(cache)]

    _are_shared(both_ways, dtype)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_share_a_sum_of_branches(dtype: Any) -> None:
    """In either mode with the bits of NumPy, in any order in memory."""
    a, b = random.normal(random.key(0), (2, 5, 140, 102), dtype=dtype)
    a[0, 0, :2], b[0, 0, 1:3] = np.inf, -np.inf
    for order in ((0, 1, 2), (1, 2, 0)):
        c, d = (each.transpose(order).copy().transpose(np.argsort(order)) for each in (a, b))
        for x, y in ((c, d), (c, b), (a, d), (c[:, ::2], d[:, ::2]), (c[:1], d[:1]), (c, d[:1])):
            _is_added_as_numpy_adds(x, y)
    for kind in (">f4", np.float16, np.int64, np.complex64):
        with np.errstate(invalid="ignore"):
            x, y = a.astype(kind), b.astype(kind)
        _is_added_as_numpy_adds(x, y)


def _is_added_as_numpy_adds(x: Array, y: Array) -> None:
    with np.errstate(invalid="ignore"):
        wanted = x + y
    modes: tuple[numerics.Mode, ...] = "fast", "portable"
    for mode, workers in product(modes, (1, 2, 3)):
        with numerics.compiled("require"), numerics.use(mode), np.errstate(invalid="ignore"):
            found = in_team(workers, partial(elementwise.added, x, y))
        assert (found.dtype, found.strides) == (wanted.dtype, wanted.strides)
        np.testing.assert_array_equal(found, wanted)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(5, 70, 80), (5, 1, 80), (5, 70, 1), (5, 1, 1)], ids=str)
def test_threads_share_what_is_dropped(sizes: Any, dtype: Any) -> None:
    x = random.normal(random.key(0), (5, 70, 80), dtype=dtype)
    mask = random.bernoulli(random.key(1), 0.5, sizes)
    _are_shared(lambda: [elementwise.dropped(x, mask, 1.5, 0.25, -2.0)], dtype)


@needs_numba
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 6, 6, 5), (1, 3, 2, 2), (3, 7, 1, 1)])
def test_what_is_dropped_is_dropped_for_every_memory_order(shape: Any, dtype: Any) -> None:
    plain = random.normal(random.key(0), shape, dtype=dtype)
    orders = ((0, 1, 2, 3), (1, 2, 3, 0), (2, 0, 3, 1))
    for order, sizes in product(orders, product(*((1, n) for n in shape))):
        x = plain.transpose(order).copy().transpose(np.argsort(order))
        mask = random.bernoulli(random.key(1), 0.5, sizes)
        x[~np.broadcast_to(mask, shape)] = np.nan
        run = partial(elementwise.dropped, x, mask, 1.5, 0.25, -2.0)
        out = numerics.compiled("require")(run)()
        assert (out.dtype, out.strides) == (dtype, np.empty_like(x).strides)
        np.testing.assert_allclose(out, run(), 1e-6, 1e-6)


# --- other processors -------------------------------------------------------------------------------

ELSEWHERE = """
from funcnn.machine import code
code.features, code.width = lambda: "", lambda: {width}
import pytest
raise SystemExit(pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", "-k", {names!r}, *{tests!r}]))
"""


@pytest.mark.slow
@needs_numba
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names are of x86-64")
@pytest.mark.parametrize(("processor", "width"), [("nehalem", 16), ("haswell", 32)])
def test_code_for_other_processors_computes_the_same(
    processor: str, width: int, tmp_path: Path
) -> None:
    """With narrower vectors."""
    if width >= code.width():
        pytest.skip("all other tests run code with such vectors here")
    others = ("test_large_products.py", "test_attention.py")
    tests = [__file__, *(str(Path(__file__).with_name(name)) for name in others)]
    names = "as_numpy or to_the_bit or bits or alone or memory_order or added or finite"
    done = _run(
        ELSEWHERE.format(width=width, names=names, tests=tests), NUMBA_CPU_NAME=processor,
        NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


@needs_numba
@pytest.mark.sampled(20)
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id) for case in registry.compiled_layers()]
)
def test_any_order_in_memory_in_float32(case: registry.Case) -> None:
    """The laws run in float64 and on few examples, which some kernels leave to NumPy."""
    subject = registry.subject(case)
    x = _values.mapped(lambda leaf: np.repeat(leaf, 12, 0), subject.x)
    params, x = (_values.frozen(_values.cast(some, np.float32)) for some in (subject.params, x))
    layer = case.layer
    for key in subject.modes.values():
        with numerics.compiled("require"):
            out, cache = layer.apply(params, x, key=key)
            dout = subject.dout(out)
            wanted = _values.leaves((out, layer.vjp(cache, dout)))
            size = max(1, *(np.abs(leaf).max(initial=0) for _, leaf in wanted))
            for layouts in product(_values.LAYOUTS, repeat=2):
                given = map(_values.mapped, (*layouts, layouts[0]), (params, x, dout))
                own, seen, slope = map(_values.frozen, given)
                again, cache = layer.apply(own, seen, key=key)
                found = again, layer.vjp(cache, slope)
                for (path, one), (_, other) in zip(wanted, _values.leaves(found), strict=True):
                    assert (one.shape, one.dtype) == (other.shape, other.dtype), path
                    np.testing.assert_allclose(other, one, 1e-4, 1e-5 * size, err_msg=path)


@needs_numba
@pytest.mark.parametrize(
    "layer", [relu(), gelu(), softplus(), hard_tanh(), softmax(), swiglu(), upsample(2)], ids=repr
)
def test_numbers_that_share_a_place(layer: Any) -> None:
    """An axis of stride 0 is the last one for some of NumPy's functions, and for others it is not."""
    x = random.normal(random.key(0), (16, 4, 10, 6))
    with numerics.compiled("require"):
        for axis in range(x.ndim):
            shared = np.broadcast_to(x.take([0], axis), x.shape)
            out, cache = layer.apply({}, shared.copy())
            dout = random.normal(random.key(1), out.shape).take([0], axis)
            dout = np.broadcast_to(dout, out.shape)
            again, same = layer.apply({}, shared)
            np.testing.assert_allclose(again, out, 1e-6, 1e-6)
            wanted = layer.vjp(cache, dout.copy())[1]
            for each in (cache, same):
                np.testing.assert_allclose(layer.vjp(each, dout)[1], wanted, 1e-5, 1e-6)
