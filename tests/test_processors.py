"""What `scripts/prove_processors.py` says, without an emulator: of good news, bad news, and none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = json.loads((ROOT / "tests" / "golden_portable.json").read_text())
REFUSAL = "funcnn.checks.RefusedValue: numerics: portable mode is not possible on this machine: floats"
TRAININGS = {f"training {name}": bits for name, bits in GOLDEN.items()}


@pytest.fixture(scope="module")
def prover() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield import_module("prove_processors")


@pytest.fixture
def there(prover: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an emulated machine finds; this one finds the same, or what it is changed to."""
    found: dict[str, Any] = {
        "facts": {"order": "big", "python": "3.13.5", "numpy": "2.2.4", "blas": "not known to it"},
        "digests": {**TRAININGS, "layer relu()": "0f"},
        "files": {"save sample.npz": "55", "load sample.npz": "same"},
    }
    here: dict[str, Any] = json.loads(json.dumps(found))

    def compute(python: Path | str, out: Path, *options: str) -> Any:
        answer = here if python == sys.executable else found
        if "error" in answer:
            raise answer["error"]
        return answer

    monkeypatch.setattr(
        prover, "fetch", lambda cache, name, *rest: (tmp_path / name / "root", 5_000_000)
    )
    monkeypatch.setattr(prover, "python_of", lambda root, *rest: root / "python")
    monkeypatch.setattr(prover, "compute", compute)
    monkeypatch.setattr(prover.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(prover.shutil, "which", lambda name: name)
    monkeypatch.setattr(sys, "platform", "linux")
    return found


def _said(prover: Any, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = prover.main([*arguments])
    return status, capsys.readouterr().out


def test_equal_bits_are_proof(prover: Any, there: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = _said(prover, capsys)
    assert status == 0
    for name in ("arm64", "s390x", "riscv64"):
        row = f"| {name} | reference | big | 3.13.5, 2.2.4 | 4 of 4 | 5 of 5 | both ways | - | "
        assert row in out
    assert "3 of 3 processors are as promised" in out


@pytest.mark.parametrize(
    ("part", "name", "value", "shown"),
    [
        ("digests", "layer relu()", "0e", "4 of 4 | 4 of 5"),
        ("digests", "training mlp", "0e", "3 of 4 | 4 of 5"),
        ("files", "save sample.npz", "56", "WRONG: save sample.npz"),
        ("files", "load sample.npz", "OTHER VALUES", "WRONG: there: load sample.npz"),
    ],
)
def test_other_bits_are_shown(
    part: str, name: str, value: str, shown: str,
    prover: Any, there: Any, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    there[part][name] = value
    status, out = _said(prover, capsys, "s390x")
    assert status == 1
    assert shown in out


def test_a_part_that_is_not_computed_there_is_shown(
    prover: Any, there: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    del there["digests"]["layer relu()"]
    status, out = _said(prover, capsys, "s390x")
    assert (status, "4 of 4 | 4 of 5" in out) == (1, True)


@pytest.mark.parametrize("name", ["armhf", "i386", "arm64"])
def test_some_machines_must_be_refused(
    name: str, prover: Any, there: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    must = name != "arm64"
    status, out = _said(prover, capsys, name)
    assert (status, "did not refuse it" in out) == (1, True) if must else (0, False)
    there["error"] = prover.Failed(REFUSAL)
    status, out = _said(prover, capsys, name)
    assert (status, "refused, as it must be: floats |" in out) == (0, True) if must else (1, False)
    there["error"] = prover.Failed("ImportError: no numpy")
    status, out = _said(prover, capsys, name)
    assert (status, "FAILED: ImportError: no numpy" in out) == (1, True)


def test_what_is_missing_is_not_passed(
    prover: Any, there: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(cache: Path, name: str, suite: str, packages: Any) -> Any:
        asked.append(suite)
        if name == "s390x":
            raise prover.Missing("apt-get install: 404")
        return cache / name, 0

    monkeypatch.setattr(prover, "fetch", fetch)
    status, out = _said(prover, capsys, "arm64", "s390x")
    assert status == 3
    assert "| s390x | MISSING: trixie: apt-get install: 404; sid: apt-get install: 404 |" in out
    assert "1 of 2 processors are as promised" in out
    there["digests"]["training mlp"] = "0e"
    assert _said(prover, capsys, "arm64", "s390x")[0] == 1  # a fault outweighs what is missing


def test_where_it_cannot_run_it_says_so(
    prover: Any, there: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, answer in [
        (prover.platform, "machine", "aarch64"),
        (prover.shutil, "which", None),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *asked, answer=answer: answer)
            status, out = _said(prover, capsys)
        assert status == 3
        assert out == "left out: this needs Linux on x86-64 with apt-get and dpkg-deb\n"

    def fetch(*asked: Any) -> Any:
        raise prover.Missing("apt-get update: no network")

    monkeypatch.setattr(prover, "fetch", fetch)
    status, out = _said(prover, capsys)
    assert (status, out) == (3, "left out: apt-get update: no network\n")


def test_a_program_that_does_not_end_is_given_up(prover: Any) -> None:
    with pytest.raises(prover.Missing, match=r"^sleep took more than 0\.001 minutes$"):
        prover._run(["sleep", "5"], 0.001)
