"""Prove that portable mode gives the same bits however this machine computes.

    scripts/prove_portable.py            # BLAS threads and kernels, vector units, memory, workers
    scripts/prove_portable.py --full     # other versions of NumPy and Python too
    scripts/prove_portable.py --python /opt/python3.13/bin/python3.13 --blas BLIS=/usr/lib/libblis.so.4

Each row trains four small networks in a process of its own and compares the digests of their final
parameters, losses, outputs and gradients with the ones on record in tests/golden_portable.json. For
contrast, the last column says how many of the four keep in fast mode the bits that they have in fast
mode without any setting. Exit code 1 if a portable digest is another.

Other processors cannot be shown on one machine. That they give these bits, too, follows from what
portable arithmetic is built of, see `funcnn.numerics`; run this script there to see it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from funcnn.testing import environments

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden_portable.json"
VERSIONS = ("2.0.2", "2.1.3", "2.2.6", "2.3.5")
RUN = """
import ctypes, json, sys
sys.path[:0] = [{root!r}, {scripts!r}]
from funcnn import numerics
from funcnn.testing import digest
import portable_runs
with numerics.use({mode!r}):
    found = {{name: digest(run()) for name, run in portable_runs.RUNS.items()}}
try:
    calls = ctypes.CDLL(None).calls_of_another_blas()
except (AttributeError, OSError, TypeError):
    calls = 0
print(json.dumps([found, calls]))
"""

# A BLAS of another kind, put in front of NumPy's own by the dynamic linker: textbook loops that add
# from the last product to the first, so that every sum is taken in another order. With FORWARD it
# hands over to the library that the environment names instead.
BLAS = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
static int calls;
int calls_of_another_blas(void) { return calls; }
static void *theirs(const char *name) {
  static void *library;
  if (!library && !(library = dlopen(getenv("ANOTHER_BLAS"), RTLD_NOW | RTLD_LOCAL))) abort();
  void *found = dlsym(library, name);
  if (!found) abort();
  return found; }
#ifdef FORWARD
#define BODY(R, NAME, TYPES, ARGS, ...) { calls++; static R (*f) TYPES; \\
  if (!f) f = (R (*) TYPES) theirs("cblas_" NAME); return f ARGS; }
#else
#define BODY(R, NAME, TYPES, ARGS, ...) { calls++; __VA_ARGS__ }
#endif
#define GEMM(FULL, NAME, T, I) void FULL(int order, int ta, int tb, I m, I n, I k, T alpha, \\
    const T *a, I lda, const T *b, I ldb, T beta, T *c, I ldc) BODY(void, NAME, \\
  (int, int, int, int, int, int, T, const T *, int, const T *, int, T, T *, int), \\
  (order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc), \\
  int col = order == 102; ta = ta != 111; tb = tb != 111; \\
  for (I i = 0; i < m; i++) for (I j = 0; j < n; j++) { T s = 0; \\
    for (I p = k; p-- > 0;) s += a[(ta ^ col) ? p * lda + i : i * lda + p] \\
                               * b[(tb ^ col) ? j * ldb + p : p * ldb + j]; \\
    T *o = &c[col ? j * ldc + i : i * ldc + j]; *o = alpha * s + (beta == 0 ? 0 : beta * *o); })
#define SYRK(FULL, NAME, T, I) void FULL(int order, int upper, int trans, I n, I k, T alpha, \\
    const T *a, I lda, T beta, T *c, I ldc) BODY(void, NAME, \\
  (int, int, int, int, int, T, const T *, int, T, T *, int), \\
  (order, upper, trans, n, k, alpha, a, lda, beta, c, ldc), \\
  int col = order == 102, t = trans != 111; \\
  for (I i = 0; i < n; i++) for (I j = 0; j < n; j++) { \\
    if (upper == 121 ? j < i : j > i) continue; \\
    T s = 0; \\
    for (I p = k; p-- > 0;) s += a[(t ^ col) ? p * lda + i : i * lda + p] \\
                               * a[(t ^ col) ? p * lda + j : j * lda + p]; \\
    T *o = &c[col ? j * ldc + i : i * ldc + j]; *o = alpha * s + (beta == 0 ? 0 : beta * *o); })
#define GEMV(FULL, NAME, T, I) void FULL(int order, int ta, I m, I n, T alpha, const T *a, I lda, \\
    const T *x, I ix, T beta, T *y, I iy) BODY(void, NAME, \\
  (int, int, int, int, T, const T *, int, const T *, int, T, T *, int), \\
  (order, ta, m, n, alpha, a, lda, x, ix, beta, y, iy), \\
  int t = (ta != 111) ^ (order == 102); \\
  I rows = ta != 111 ? n : m; I inner = ta != 111 ? m : n; \\
  for (I i = 0; i < rows; i++) { T s = 0; \\
    for (I p = inner; p-- > 0;) s += (t ? a[p * lda + i] : a[i * lda + p]) * x[p * ix]; \\
    y[i * iy] = alpha * s + (beta == 0 ? 0 : beta * y[i * iy]); })
#define DOT(FULL, NAME, T, I) T FULL(I n, const T *x, I ix, const T *y, I iy) BODY(T, NAME, \\
  (int, const T *, int, const T *, int), (n, x, ix, y, iy), \\
  T s = 0; for (I p = n; p-- > 0;) s += x[p * ix] * y[p * iy]; return s;)
#define ALL(BEFORE, AFTER, I) \\
  GEMM(BEFORE##sgemm##AFTER, "sgemm", float, I) GEMM(BEFORE##dgemm##AFTER, "dgemm", double, I) \\
  SYRK(BEFORE##ssyrk##AFTER, "ssyrk", float, I) SYRK(BEFORE##dsyrk##AFTER, "dsyrk", double, I) \\
  GEMV(BEFORE##sgemv##AFTER, "sgemv", float, I) GEMV(BEFORE##dgemv##AFTER, "dgemv", double, I) \\
  DOT(BEFORE##sdot##AFTER, "sdot", float, I) DOT(BEFORE##ddot##AFTER, "ddot", double, I)
ALL(scipy_cblas_, 64_, int64_t)  /* NumPy's wheels */
ALL(cblas_, 64_, int64_t)        /* NumPy built on another 64-bit BLAS */
#ifndef FORWARD
ALL(cblas_, , int)               /* and on a system's BLAS */
#endif
"""


class Setting(NamedTuple):
    """A way to compute: variables of the environment, an interpreter; whether BLAS is another."""

    variables: Mapping[str, str]
    python: str = sys.executable
    another_blas: bool = False


class Outcome(NamedTuple):
    """The digest of each run, and how often another BLAS was called; or what went wrong."""

    digests: Mapping[str, str]
    calls: int = 0
    problem: str = ""


def outcome(mode: str, setting: Setting) -> Outcome:
    """Run all of it in a process of its own."""
    code = RUN.format(root=str(ROOT), scripts=str(ROOT / "scripts"), mode=mode)
    done = subprocess.run(
        [setting.python, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **setting.variables},
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return Outcome({}, problem=lines[-1] if lines else f"exit code {done.returncode}")
    found, calls = json.loads(done.stdout.splitlines()[-1])
    return Outcome(found, calls)


def verdict(found: Outcome, setting: Setting, golden: dict[str, str]) -> str:
    """``same bits``, or what is wrong."""
    if found.problem:
        return f"FAILED: {found.problem}"
    if setting.another_blas and not found.calls:
        return "FAILED: NumPy did not call it"
    others = [run for run in golden if found.digests[run] != golden[run]]
    return f"OTHER BITS: {', '.join(others)}" if others else "same bits"


def basic_settings() -> dict[str, Setting]:
    """What needs nothing but this interpreter."""
    found = {name: Setting(variables) for name, variables in environments().items()}
    if sys.platform.startswith("linux"):
        features = ",".join(f"-{name}" for name in ("AVX512F", "AVX2", "FMA", "FMA4"))
        variables = {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={features}"}
        found["C library without AVX2 and FMA"] = Setting(variables)
    found["NumPy's kernels alone"] = Setting({"FUNCNN_COMPILED": "off"})
    if find_spec("numba") is not None:
        found["compiled kernels"] = Setting({"FUNCNN_COMPILED": "require"})
    for order in ("F", "batch-last"):
        found[f"{order}-ordered input"] = Setting({"PORTABLE_RUN_ORDER": order})
    for count in ("1", "2", "4"):
        found[f"{count} worker{'s' * (count > '1')}"] = Setting({"PORTABLE_RUN_WORKERS": count})
    return found


def other_blas(folder: Path, libraries: list[str]) -> Iterator[tuple[str, Setting]]:
    """The textbook BLAS and others from files, where a C compiler is to be had."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        print("left out: another BLAS needs Linux and a C compiler")
        return
    source = folder / "blas.c"
    source.write_text(BLAS)
    for name, *options in (("textbook",), ("forward", "-DFORWARD")):
        command = [compiler, "-O2", "-w", "-shared", "-fPIC", *options, str(source), "-ldl"]
        subprocess.run([*command, "-o", str(folder / f"lib{name}.so")], check=True)
    preload = {"LD_PRELOAD": str(folder / "libtextbook.so")}
    yield "a textbook BLAS that adds backwards", Setting(preload, another_blas=True)
    for library in libraries:
        name, _, file = library.rpartition("=")
        preload = {"LD_PRELOAD": str(folder / "libforward.so"), "ANOTHER_BLAS": file}
        yield f"NumPy on {name or file}", Setting(preload, another_blas=True)


def other_installations(folder: Path, pythons: list[str]) -> Iterator[tuple[str, Setting]]:
    """Interpreters with other versions of NumPy and Python, as far as they can be installed."""
    wanted = [(sys.executable, f"numpy=={version}") for version in VERSIONS]
    wanted += [(python, "numpy") for python in pythons]
    for number, (python, about) in enumerate(wanted):
        inside = str(folder / str(number) / "bin" / "python")
        install = [inside, "-m", "pip", "install", "--quiet", about, "threadpoolctl"]
        try:
            for command in ([python, "-m", "venv", str(folder / str(number))], install):
                subprocess.run(command, check=True, capture_output=True)
        except (subprocess.CalledProcessError, OSError):
            print(f"left out: {about} cannot be installed for {python}")
            continue
        code = "import sys, numpy; print(f'Python {sys.version.split()[0]}, NumPy {numpy.__version__}')"
        label = subprocess.run([inside, "-c", code], check=True, capture_output=True, text=True)
        yield label.stdout.strip(), Setting({}, inside)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Prove that portable mode gives the same bits.")
    parser.add_argument("--full", action="store_true", help="other versions of NumPy and Python too")
    parser.add_argument("--python", nargs="+", default=[], help="interpreters, beside those on PATH")
    parser.add_argument("--blas", nargs="+", default=[], metavar="[NAME=]FILE",
                        help="BLAS libraries that export cblas_sgemm")  # fmt: skip
    parser.add_argument("--record", action="store_true", help="write down what this machine gives")
    options = parser.parse_args(arguments)
    if options.record:
        here = outcome("portable", Setting({}))
        GOLDEN.write_text(json.dumps(here.digests, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    pythons = list(options.python)
    if options.full:
        on_path = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
        pythons += [python for python in on_path if python]

    settings = basic_settings()
    with tempfile.TemporaryDirectory() as name:
        settings.update(other_blas(Path(name), options.blas))
        if options.full or pythons:
            settings.update(other_installations(Path(name), pythons))
        print("| setting | portable | fast |\n|---|---|---|")
        plain = outcome("fast", Setting({}))
        failed = 0
        for label, setting in settings.items():
            found = verdict(outcome("portable", setting), setting, golden)
            failed += found != "same bits"
            fast = outcome("fast", setting).digests
            kept = sum(fast.get(run) == plain.digests[run] for run in golden)
            print(f"| {label} | {found} | {kept} of {len(golden)} the same |", flush=True)
    print(f"{len(settings) - failed} of {len(settings)} settings give the bits on record")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
