"""Prove that portable mode gives the same bits on other processors, under emulation.

    scripts/prove_processors.py --trainings                  # arm64, s390x and riscv64, in minutes
    scripts/prove_processors.py                              # every digest there: half an hour
    scripts/prove_processors.py ppc64el loong64 --blas openblas --fast   # fast mode for contrast
    scripts/prove_processors.py arm64 --wheel 2.5.5          # NumPy's own wheel, with its OpenBLAS
    scripts/prove_processors.py armhf i386                   # which portable mode must refuse
    scripts/prove_processors.py s390x --tests --every 12     # pytest there, on every twelfth test

Debian's packages of Python, NumPy and pytest for each processor are unpacked into a folder and run by
QEMU's user mode: neither root nor a kernel module is needed. There, in portable mode, everything
that `scripts/portable_digests.py` knows is computed, and files are saved and exchanged with this
machine, both ways. QEMU_CPU, if set, chooses the processor's model: of what the default has on arm64,
vectors of 2048 bits and SME, OpenBLAS's kernels are wrong, and refused; neoverse-v1 is right. Exit code
1 if a digest or a file differs, or a machine that must be refused is not; 3 if it cannot run here, or
not for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = json.loads((ROOT / "tests" / "golden_portable.json").read_text())
_NEEDED = ("numpy", "threadpoolctl", "pytest", "hypothesis", "mpmath")
PACKAGES = tuple(f"python3-{name}" for name in _NEEDED)
BLAS = {"reference": "blas", "openblas": "openblas-pthread"}  # folders of the library, in Debian


class Processor(NamedTuple):
    """What QEMU and Debian call a processor, and the Debian releases to try, in turn."""

    qemu: str
    triple: str
    suites: tuple[str, ...] = ("trixie", "sid")


PROCESSORS = {
    "arm64": Processor("aarch64", "aarch64-linux-gnu"),
    "s390x": Processor("s390x", "s390x-linux-gnu"),
    "riscv64": Processor("riscv64", "riscv64-linux-gnu"),
    "ppc64el": Processor("ppc64le", "powerpc64le-linux-gnu"),
    "loong64": Processor("loongarch64", "loongarch64-linux-gnu", ("sid",)),
    "armhf": Processor("arm", "arm-linux-gnueabihf"),  # 32 bits: portable mode refuses these two
    "i386": Processor("i386", "i386-linux-gnu"),
}
REFUSED = {"armhf", "i386"}
# Of the tests: those of the type checker, and a false alarm of Debian's Hypothesis under Python 3.13.
NOT_THERE = [f"--ignore=tests/test_{name}.py" for name in ("readme", "wiring")]
NOT_THERE += ["-W", "ignore::hypothesis.errors.HypothesisWarning"]


class Missing(Exception):
    """Something that cannot be had here, or not today, or not in time."""


class Failed(Exception):
    """What a program said last that ended with an error."""


def _run(command: list[str], minutes: float, **options: Any) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60 * minutes, **options
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{Path(command[0]).name} took more than {minutes:g} minutes") from None


def fetch(cache: Path, debian: str, suite: str, packages: tuple[str, ...]) -> tuple[Path, int]:
    """A folder with Debian packages of a processor unpacked, and the bytes that were downloaded."""
    home = cache / f"{suite}-{debian}"
    root, stamp = home / "root", home / f"has-{'-'.join(packages)}"
    if stamp.exists():
        return root, 0
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    source = f"deb [signed-by={keys}] http://deb.debian.org/debian {suite} main\n"
    (home / "sources.list").write_text(source)
    (home / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{home}/sources.list";\nDir::Etc::sourceparts "-";\n'
        f'Dir::State "{home}/state";\nDir::State::status "{home}/status";\nDir::Cache "{home}/cache";\n'
        f'APT::Architecture "{debian}";\nAPT::Architectures {{ "{debian}"; }};\n'
        'APT::Install-Recommends "false";\nAcquire::Languages "none";\nAcquire::http::Timeout "30";\n'
        'APT::Update::Error-Mode "any";\n'
    )
    ours = {**os.environ, "APT_CONFIG": str(home / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--download-only", *packages]):
        done = _run(["apt-get", "-qq", *command], 5, env=ours)
        if done.returncode:
            raise Missing(f"apt-get {command[0]}: {(done.stderr.strip() or 'failed').splitlines()[0]}")
    archives = sorted((home / "cache" / "archives").glob("*.deb"))
    root.mkdir(exist_ok=True)
    for archive in archives:
        done = _run(["dpkg-deb", "-x", str(archive), str(root)], 5)
        if done.returncode:
            raise Missing(f"{archive.name}: {done.stderr.strip()}")
    for link in ("lib", "lib64"):  # where programs look for their loader
        if not os.path.lexists(root / link):
            (root / link).symlink_to(f"usr/{link}")
    stamp.touch()
    return root, sum(archive.stat().st_size for archive in archives)


def fetch_any(
    cache: Path, debian: str, suites: tuple[str, ...], packages: tuple[str, ...]
) -> tuple[Path, int]:
    """`fetch` from the first release that has all of them today."""
    missing = []
    for suite in suites:
        try:
            return fetch(cache, debian, suite, packages)
        except Missing as told:
            missing.append(f"{suite}: {told}")
    raise Missing("; ".join(missing))


def wheel(root: Path, processor: Processor, version: str, python: str) -> Path:
    """A folder with NumPy's own wheel for a processor, which brings an OpenBLAS."""
    folder = root.parent / f"numpy-{version}"
    if not folder.exists():
        systems = [f"--platform=manylinux_2_{glibc}_{processor.qemu}" for glibc in (17, 27, 28, 34)]
        wanted = [
            f"--target={folder}",
            f"--python-version={python}",
            "--only-binary=:all:",
            *systems,
            f"numpy=={version}",
        ]
        pip = [sys.executable, "-m", "pip"] if find_spec("pip") else ["pip"]
        done = _run([*pip, "install", "-qq", "--no-deps", "--ignore-requires-python", *wanted], 5)
        if done.returncode:
            raise Missing(f"pip: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    return folder


def python_of(root: Path, processor: Processor, qemu: Path, options: argparse.Namespace) -> Path:
    """A command that runs Python there, also when a program there starts `sys.executable`."""
    found = sorted(root.glob("usr/bin/python3.[0-9]*"))
    if not found:
        raise Missing("no Python among the packages")
    libraries = [f"{root}/usr/lib/{processor.triple}/{name}" for name in (BLAS[options.blas], "lapack")]
    if not any(Path(folder).is_dir() for folder in libraries[:1]):
        raise Missing(f"no {options.blas} BLAS among the packages")
    given = {"LD_LIBRARY_PATH": ":".join(libraries), "OPENBLAS_NUM_THREADS": "1"}
    if options.wheel:
        version = found[0].name.removeprefix("python")
        given["PYTHONPATH"] = str(wheel(root, processor, options.wheel, version))
    command = root / f"python-{options.wheel or options.blas}"
    variables = " ".join(f'-E {name}="{value}"' for name, value in given.items())
    command.write_text(f'#!/bin/sh\nexec "{qemu}" -L "{root}" {variables} "{found[0]}" "$@"\n')
    command.chmod(0o755)
    custom = root / "usr/lib/python3/dist-packages/sitecustomize.py"
    custom.write_text(f"import sys\nsys.executable = {str(command)!r}\n")
    return command


def compute(python: Path | str, out: Path, *options: str) -> dict[str, Any]:
    """What `scripts/portable_digests.py` finds with an interpreter."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    script = ROOT / "scripts" / "portable_digests.py"
    minutes = 10 if "--trainings" in options else 60
    done = _run([str(python), str(script), str(out), *options], minutes, env=_environment())
    if done.returncode:
        raise Failed((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def _environment() -> Mapping[str, str]:
    """This machine's, without what names its own processor or packages."""
    own = ("OPENBLAS_CORETYPE", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def differing(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """The names of what is not the same in both."""
    return [name for name in here if there.get(name) != here[name]]


def row(
    name: str, options: argparse.Namespace, qemus: Path, here: dict[str, Any]
) -> tuple[bool | None, str]:
    """One processor's row of the table, and whether it is as promised; None: nobody knows."""
    processor, began = PROCESSORS[name], time.monotonic()
    suites = (options.suite,) if options.suite else processor.suites
    packages = (*PACKAGES, "libopenblas0-pthread") if options.blas == "openblas" else PACKAGES
    label = f"| {name}"
    few = ("--trainings",) if options.trainings else ()
    try:
        root, size = fetch_any(options.cache, name, suites, packages)
        python = python_of(root, processor, qemus / f"qemu-{processor.qemu}", options)
        if options.tests is not None:
            return _tested(label, python, options.tests)
        folder = root.parent / (options.wheel or options.blas)
        try:
            found = compute(python, folder / "out.json", *few, "--read", str(options.cache / "here"))
            slack = (folder / "fast.json", *few, "--mode", "fast")
            fast = compute(python, *slack) if options.fast else None
        except Failed as ended:
            _, told, faults = str(ended).partition("portable mode is not possible on this machine: ")
            if told and name in REFUSED:
                return True, f"{label} | refused, as it must be: {faults} |"
            return False, f"{label} | FAILED: {ended} |"
        back = compute(sys.executable, folder / "back" / "out.json", "--files", "--read", str(folder))
    except Missing as missing:
        return None, f"{label} | MISSING: {missing} |"
    digests, facts = here["digests"], found["facts"]
    other = differing(digests, found["digests"])
    trainings = [f"training {run}" for run in GOLDEN]
    kept = sum(found["digests"].get(f"training {run}") == bits for run, bits in GOLDEN.items())
    wrong = differing({k: v for k, v in here["files"].items() if k.startswith("save")}, found["files"])
    crossed = {**{f"there: {k}": v for k, v in found["files"].items()}, **back["files"]}
    wrong += [k for k, v in crossed.items() if "load" in k and v != "same"]
    contrast, unknown = "-", "the wheel's" if options.wheel else options.blas
    if fast is not None:
        same = here["fast"].keys() - differing(here["fast"], fast["digests"])
        contrast = f"{len(same.intersection(trainings))} of {len(trainings)}"
        contrast += f", {len(same)} of {len(here['fast'])}" if not few else ""
    cells = (
        unknown if facts["blas"].startswith("not known") else facts["blas"],
        f"{facts['order']} | {facts['python']}, {facts['numpy']}",
        f"{kept} of {len(GOLDEN)} | {len(digests) - len(other)} of {len(digests)}",
        f"{'both ways' if not wrong else 'WRONG: ' + ', '.join(wrong)} | {contrast}",
        f"{time.monotonic() - began:.0f} s | {size / 1e6:.0f} MB |",
    )
    for part in other[:10]:
        print(f"{name}: other bits in {part}: {found['digests'].get(part)}", file=sys.stderr)
    if name in REFUSED:
        return False, f"{label} | FAILED: portable mode did not refuse it |"
    return not other and not wrong and kept == len(GOLDEN), " | ".join((label, *cells))


def _tested(label: str, python: Path, arguments: list[str]) -> tuple[bool | None, str]:
    """What pytest says there."""
    chosen = ["-q", "-p", "no:cacheprovider", "-m", "not slow", *NOT_THERE]
    done = _run([str(python), "-m", "pytest", *chosen, *arguments], 120, env=_environment(), cwd=ROOT)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(f"{label} {line}", file=sys.stderr)
    return not done.returncode, f"{label} | tests: {lines[-1] if lines else 'nothing'} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("processors", nargs="*", help=", ".join(PROCESSORS))
    parser.add_argument("--blas", choices=tuple(BLAS), default="reference")
    parser.add_argument("--suite", help="Debian's release: others have other versions of NumPy")
    parser.add_argument("--fast", action="store_true", help="fast mode, too, for contrast")
    parser.add_argument(
        "--wheel", metavar="VERSION", help="NumPy's own wheel instead of Debian's NumPy"
    )
    parser.add_argument("--trainings", action="store_true", help="of the digests, only the trainings")
    parser.add_argument("--tests", nargs="...", help="instead, run pytest there, with what follows")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "processors")
    options = parser.parse_args(arguments)
    options.cache = options.cache.resolve()
    names = options.processors or ["arm64", "s390x", "riscv64"]
    if unknown := set(names) - PROCESSORS.keys():
        parser.error(f"no processor {', '.join(sorted(unknown))}: there are {', '.join(PROCESSORS)}")
    lacking = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if platform.machine() != "x86_64" or not sys.platform.startswith("linux") or lacking:
        print("left out: this needs Linux on x86-64 with apt-get and dpkg-deb")
        return 3
    try:
        qemus = fetch(options.cache, "amd64", "trixie", ("qemu-user",))[0] / "usr" / "bin"
        few = ("--trainings",) if options.trainings else ()
        here = compute(sys.executable, options.cache / "here" / "out.json", *few)
        if options.fast:
            fast = compute(sys.executable, options.cache / "fast.json", *few, "--mode", "fast")
            here["fast"] = fast["digests"]
    except Missing as missing:
        print(f"left out: {missing}")
        return 3
    print("| processor | BLAS | byte order | Python, NumPy | trainings | digests | files | fast mode "
          "| time | download |\n|" + "---|" * 10)  # fmt: skip
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = [pool.submit(row, name, options, qemus, here) for name in names]
        results = [one.result() for one in rows]
    for _, text in results:
        print(text)
    verdicts = [kept for kept, _ in results]
    print(f"{verdicts.count(True)} of {len(results)} processors are as promised")
    return 1 if False in verdicts else 3 if None in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
