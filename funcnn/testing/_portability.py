"""The proof that a function gives the same bits under other BLAS kernels, threads and vector units."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from functools import cache
from importlib import import_module
from typing import Any

from funcnn import numerics
from funcnn.checks import Function, refuse, takes
from funcnn.testing._digests import _importable, _same
from funcnn.tree.digests import leaf_digests, total_digest

__all__ = ["assert_portable", "environments"]

# What each of OpenBLAS's kernels needs of a processor, as NumPy names the features.
_CORES = {
    "Prescott": {"SSE3"},
    "Nehalem": {"SSE42"},
    "Sandybridge": {"AVX"},
    "Haswell": {"AVX2", "FMA3"},
    "Zen": {"AVX2", "FMA3"},
    "SkylakeX": {"AVX512_SKX"},
    "Cooperlake": {"AVX512_SKX", "AVX512BF16"},
    "SapphireRapids": {"AVX512_SPR"},
    "ARMV8": {"ASIMD"},
    "NEOVERSEN1": {"ASIMDHP", "ASIMDDP"},
    "ARMV8SVE": {"SVE"},
}
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
_KERNELS, _OFF = "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"

_CHILD = """
import json, pickle, sys
sys.path[:] = json.loads(sys.argv[1])
from funcnn.testing._portability import _run_pickled
print("\\n" + json.dumps(_run_pickled(sys.stdin.buffer.read())))
"""

_EFFECT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from numpy._core import _multiarray_umath as core
from threadpoolctl import threadpool_info
blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
print([(library["num_threads"], library.get("architecture")) for library in blas])
print([feature for feature in core.__cpu_dispatch__ if core.__cpu_features__[feature]])
"""


def environments() -> dict[str, dict[str, str]]:
    """Settings that change how this machine computes, as variables of the environment.

    Returns
    -------
    dict of str to dict
        A name for each, such as ``"OpenBLAS kernels for Haswell"``, and its variables: one and two
        BLAS threads, every OpenBLAS kernel that this processor can run, and NumPy without any of the
        vector instructions that it chooses at run time, and without each.

    Notes
    -----
    Of settings with one effect the first is kept, as a fresh process for each shows: with another
    BLAS there are no kernels of OpenBLAS, and on one processor there may be no second thread.

    Examples
    --------
    >>> from funcnn.testing import environments
    >>> environments()["1 BLAS thread"]
    {'OPENBLAS_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1'}
    """
    core: Any = import_module("numpy._core._multiarray_umath")  # where NumPy says what it can do
    able = {feature for feature, there in core.__cpu_features__.items() if there}
    off = [name for name in os.environ.get(_OFF, "").replace(",", " ").split() if name not in able]
    candidates = _candidates(able, [name for name in core.__cpu_dispatch__ if name in able], off)
    return _distinct(candidates, _effect)


def _candidates(
    able: AbstractSet[str], switchable: Sequence[str], off: Sequence[str]
) -> dict[str, dict[str, str]]:
    """What may be tried on a processor with these features, where some are switched off already."""
    found: dict[str, dict[str, str]] = {
        f"{count} BLAS thread{'s' * (count > 1)}": dict.fromkeys(_THREADS, str(count))
        for count in (1, 2)
    }
    found["nothing set"] = {}
    for name, needed in _CORES.items():
        if needed <= able:
            found[f"OpenBLAS kernels for {name}"] = {_KERNELS: name}
    if switchable:
        found["NumPy without any vector unit"] = {_OFF: " ".join([*off, *switchable])}
    for feature in switchable:
        found[f"NumPy without {feature}"] = {_OFF: " ".join([*off, feature])}
    return found


def _distinct(
    candidates: Mapping[str, dict[str, str]], effect: Callable[[dict[str, str]], str]
) -> dict[str, dict[str, str]]:
    """Of settings with one effect the first; none that does not run, or changes nothing."""
    found, seen = {}, {""}
    for name, variables in candidates.items():
        shown = effect(variables)
        if shown not in seen and variables:
            found[name] = variables
        seen.add(shown)
    return found


def _effect(variables: Mapping[str, str]) -> str:
    """What BLAS and NumPy say of themselves in a process with these variables; "" if it dies."""
    inherited = {name: os.environ[name] for name in (*_THREADS, _KERNELS, _OFF) if name in os.environ}
    return _effect_of(tuple({**inherited, **variables}.items()))


@cache
def _effect_of(variables: tuple[tuple[str, str], ...]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _EFFECT, json.dumps(sys.path)],
        capture_output=True, text=True, check=False, env={**os.environ, **dict(variables)},
    )  # fmt: skip
    return "" if done.returncode else done.stdout


@takes(fn=Function(0))
def assert_portable(
    fn: Callable[[], Any],
    digest: str | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Prove that a function, in portable mode, gives the same bits however this machine computes.

    Parameters
    ----------
    fn : callable
        ``() -> tree`` of arrays and plain data, at the top of a module: for instance trains a
        network, and returns its parameters.
    digest : str, optional
        What `funcnn.testing.digest` gave of the result in portable mode, perhaps years ago on
        another machine.
    settings : mapping of str to mapping, optional
        Names and variables of the environment for each further run; by default a short choice of
        `environments`: one and two BLAS threads, and the oldest and plainest instructions.

    Raises
    ------
    AssertionError
        If two results differ; the message has the setting and the first leaf that does. If the
        digest is another; the message has it.
    ValueError
        For a function that other processes cannot import, or that fails there.

    Notes
    -----
    Each setting has a fresh process of its own. What they cannot show, other processors, follows
    from how portable arithmetic is built, see `funcnn.numerics`; a digest on record shows it.

    Examples
    --------
    >>> from funcnn.testing import assert_portable
    >>> assert_portable(environments, settings={})
    """
    pickled = _importable("assert_portable", fn)
    if settings is None:
        known = environments()
        cores = [name for name in known if name.startswith("OpenBLAS")]
        wanted = ["1 BLAS thread", "2 BLAS threads", *cores[:1], "NumPy without any vector unit"]
        settings = {name: known[name] for name in wanted if name in known}
    expected = _run_pickled(pickled)
    total = total_digest(expected)
    if digest is not None and total != digest:
        raise AssertionError(f"not reproducible: the digest is {total}, expected {digest}")
    for name, variables in settings.items():
        _same(f"the run with {name}", expected, run_elsewhere(pickled, variables))


def run_elsewhere(
    pickled: bytes, variables: Mapping[str, str], python: str = sys.executable
) -> dict[str, str]:
    """Run a pickled function in portable mode in a fresh process; the digest of each leaf."""
    entries = [entry or os.getcwd() for entry in sys.path]
    code = _CHILD
    if python != sys.executable:  # another interpreter has a library and packages of its own
        entries = [entry for entry in entries if "lib/python" not in entry]
        code = code.replace("sys.path[:] =", "sys.path[:0] =")
    done = subprocess.run(
        [python, "-c", code, json.dumps(entries)],
        input=pickled, capture_output=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.decode().strip().splitlines()
        refuse(f"`fn` must run in another process: {lines[-1] if lines else '?'}", "assert_portable")
    found: dict[str, str] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def _run_pickled(pickled: bytes) -> dict[str, str]:
    with numerics.portable():
        return leaf_digests(pickle.loads(pickled)())
