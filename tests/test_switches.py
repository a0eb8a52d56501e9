"""The tests as on other machines: what `scripts/prove_switches.py` sets takes effect."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def prover() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS.parent / "scripts"))
        yield import_module("prove_switches")


def test_settings_take_effect(prover: Any) -> None:
    found = prover.settings()
    oracles = found["without the neighbours"]
    one = found.get("1 processor", prover.Setting())
    both = oracles._replace(variables={"PLANTED": "1"}, one_processor=one.one_processor)
    passed, shown, _ = prover.run(both, [str(TESTS / "seen_by_switches.py")])
    assert passed, shown
    assert shown == "3 passed"


def test_a_test_that_fails_is_seen(prover: Any, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it() -> None:\n    raise ValueError\n")
    passed, shown, _ = prover.run(prover.Setting(), [str(tmp_path / "test_it.py")])
    assert not passed
    assert shown == "1 failed"


@pytest.mark.slow
def test_every_setting_passes_what_is_most_about_numbers(
    prover: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status = prover.main(["--", "tests/test_numerics_exact.py", "tests/test_numerics_trial.py"])
    assert status == 0, capsys.readouterr()


def test_every_process_finds_what_the_caller_finds() -> None:
    """Whoever sets PYTHONPATH keeps what is there: by `tests.elsewhere`."""
    setting = "PYTHON" + "PATH"
    found = [path.name for path in TESTS.rglob("*.py") if f'"{setting}"' in path.read_text()]
    assert found == ["elsewhere.py"]
