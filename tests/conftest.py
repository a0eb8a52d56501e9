"""Settings of the test run."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.extras import PACKAGE, missing

REFERENCE = Path(__file__).resolve().parent / "reference"
ORACLES = (
    "torch", "optax", "jax", "sklearn", "pandas", "polars", "onnx", "onnxruntime",
    "mpi4py", "mlflow", "wandb", "tensorboard",
)  # fmt: skip
NO_THREAD = "can't start new thread"
_COUNTED: dict[str, int] = {}  # cases of each sampled test, as they are collected
NEEDED = re.compile(r"(\w+) is needed: pip install ")

# NumPy's kernels alone, but where a test says otherwise: see `kernels`.
os.environ["FUNCNN_COMPILED"] = "off"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-oracles", action="store_true", help=f"as if {', '.join(ORACLES)} were not installed"
    )
    parser.addoption("--without-compiled", action="store_true", help="as if Numba were not installed")
    parser.addoption(
        "--without-threads", action="store_true", help="as where no thread can be started, in a browser"
    )
    parser.addoption(
        "--every", type=int, default=1, metavar="N", help="each N-th test alone: for a slow machine"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Skipping())
    if config.getoption("--without-oracles"):
        sys.modules.update(dict.fromkeys(ORACLES))  # type: ignore[arg-type]  # None: cannot be imported
    if config.getoption("--without-compiled"):
        sys.modules["numba"] = None  # type: ignore[assignment]
    if config.getoption("--without-threads"):
        threading.Thread.start = _refuse  # type: ignore[method-assign]


def pytest_report_header(config: pytest.Config) -> list[str]:
    missing = [name for name in ORACLES if find_spec(name) is None]
    left_out = [f"comparisons with {', '.join(missing)}"] if missing else []
    if find_spec("numba") is None:
        left_out.append("compiled kernels: Numba is not installed")
    if config.getoption("--without-threads"):
        left_out.append("tests that start threads themselves")
    return [f"left out: {what}" for what in left_out]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that says ``ON_EVERY_SET_OF_KERNELS = True`` runs on NumPy's, and on those compiled."""
    if getattr(metafunc.module, "ON_EVERY_SET_OF_KERNELS", False) and find_spec("numba") is not None:
        metafunc.parametrize("kernels", ["NumPy", "compiled"], indirect=True)


@pytest.fixture(autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """The set of kernels that a test runs on."""
    from funcnn import numerics  # deferred: what is set above holds when it is imported

    if getattr(request, "param", "NumPy") == "NumPy":
        yield
    else:
        with numerics.compiled("require"):
            yield


def _refuse(self: threading.Thread) -> None:
    raise RuntimeError(NO_THREAD)


class Skipping:
    """A plugin of its own: hooks of this file alone do not see the examples in the library."""

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave out what nothing can import where a library is missing: the header says which."""
        if REFERENCE in collection_path.parents:
            return True if find_spec("torch") is None else None
        module = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
        return True if module and missing(collection_path) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        """Skip a test, or an example, that needs what is not here."""
        try:
            return (yield)
        except Exception as error:
            reason = _missing_extra(error) or _missing_threads(item, error)
            if not reason:
                raise
            pytest.skip(reason)


def _missing_extra(error: Exception) -> str | None:
    """Whether the library asked for an extra that is not installed."""
    first = getattr(error, "failures", [error])[0]  # of an example: what follows fails as well
    cause = getattr(first, "exc_info", (None, first))[1]
    said = NEEDED.match(str(cause)) if isinstance(cause, ImportError) else None
    return f"{said[1]} is not installed" if said and find_spec(said[1]) is None else None


def _missing_threads(item: pytest.Item, error: Exception) -> str | None:
    """Whether the test started a thread itself where there are none; the library must do without."""
    if str(error) != NO_THREAD or not item.config.getoption("--without-threads"):
        return None
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    if any(PACKAGE in path.parents and PACKAGE / "testing" not in path.parents for path in frames):
        return None
    return "it starts threads itself"


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at marks
def pytest_itemcollected(item: pytest.Item) -> None:
    """Of a test that is marked `sampled`, make all cases but each n-th slow ones."""
    if sampled := item.get_closest_marker("sampled"):
        function = item.nodeid.partition("[")[0]
        _COUNTED[function] = _COUNTED.get(function, -1) + 1
        if _COUNTED[function] % sampled.args[0]:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)  # after those that other options leave out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep each N-th test, in the order of the files."""
    kept = items[:: config.getoption("--every")]
    left_out = set(items).difference(kept)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = kept


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("--without-threads") and item.get_closest_marker("threads"):
        pytest.skip("it is about threads")


def pytest_collection_finish() -> None:
    """Take the ten thousand collected tests out of every later garbage collection."""
    gc.collect()
    gc.freeze()
