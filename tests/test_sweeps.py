"""Sweeps: rows in the order of the settings, whoever computes them and whatever goes wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from funcnn import distributed
from funcnn.distributed import Row, Table, grid
from funcnn.testing import digest
from tests.elsewhere import ROOT, environment
from tests.sweep_programs import noted, other, run
from tests.test_distributed import needs_mpi

quiet = partial(distributed.map, progress=False)


@pytest.fixture(autouse=True)
def path_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def script(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env=environment(), capture_output=True, text=True, timeout=60
    )


def same(one: Table, two: Table) -> None:
    """But for the seconds."""
    assert [row.setting for row in one] == [row.setting for row in two]
    assert [row.error for row in one] == [row.error for row in two]
    assert digest([row.result for row in one]) == digest([row.result for row in two])


# --- rows ---------------------------------------------------------------------------------------------


def test_processes_give_the_rows_of_one_and_a_killed_one_is_a_row() -> None:
    actions = ["sleep", None, "raise", "exit", "lock", None]
    settings = [{"seed": i, "action": action, "time": 0.3} for i, action in enumerate(actions)]
    alone = quiet(run, settings, processes=0)
    assert alone.column("seed") == list(range(6))
    assert alone.column("error")[:4] == [None, None, "ValueError: no such thing", "SystemExit: enough"]
    assert str(alone[4].error).startswith("the result cannot be pickled: ")
    kill = {"seed": 9, "action": "kill"}
    sweep = {"action": "sweep"}
    table = quiet(run, [*settings[:3], kill, *settings[3:], kill, sweep], processes=2)
    assert table[8].result is True  # a sweep within one has no processes of its own
    same(Table([*table[:3], *table[4:7]]), alone)
    for row in (table[3], table[7]):
        assert 0 < row.seconds < 60
        assert row[:3] == (kill, None, "the process was killed by SIGKILL")


def test_a_run_cannot_change_its_setting_or_that_of_others() -> None:
    def greedy(setting: dict[str, Any]) -> int:
        return len(setting.popitem()[1])

    shared = [1, 2]
    settings = [{"a": shared}, {"a": shared}]
    assert quiet(greedy, settings, processes=0).column("result") == [2, 2]
    assert settings == [{"a": [1, 2]}] * 2


def test_no_settings_no_rows_and_no_process() -> None:
    assert quiet(run, []) == ()


def test_a_grid_is_the_product() -> None:
    wanted = [(a, b) for a in (1, 2) for b in "xyz"]
    assert [tuple(setting.values()) for setting in grid(a=range(1, 3), b=list("xyz"))] == wanted
    assert grid() == [{}]
    for wrong in ("adam", 3):
        with pytest.raises(TypeError, match=r"^grid: `optimizer` must be a list of values, got "):
            grid(optimizer=wrong)  # type: ignore[arg-type]


def test_a_table_shows_itself_and_gives_columns_and_the_best() -> None:
    results: list[Any] = [
        {"loss": 2.0},
        {"loss": float("nan")},
        None,
        {"loss": 1.0, "x": 1},
        {"loss": 2.0},
    ]
    rows = [Row({"i": i}, result, None if result else "no", i / 4) for i, result in enumerate(results)]
    table = Table(rows)
    assert repr(table) == "<5 runs, 1 failed>"
    assert table.names == ["i", "loss", "x", "seconds", "error"]
    assert table.column("x") == [None, None, None, 1, None]
    assert (table.best("loss"), table.best("loss", "min")) == (rows[0], rows[3])
    assert table.best("seconds").setting == {"i": 4}
    assert str(table).splitlines()[3] == "2           0.5      no"
    assert len(str(Table(rows * 20)).splitlines()) == 12
    assert table._repr_html_().count("<tr>") == 6
    with pytest.raises(ValueError, match=r"^column: `name` must be one of i, loss, x, seconds, .*'y'$"):
        table.column("y")
    with pytest.raises(ValueError, match=r"^best: no row has a number as 'error'$"):
        table.best("error")
    with pytest.raises(ValueError, match=r"^best: `which` must be one of 'max', 'min', got 'most'$"):
        table.best("loss", "most")  # type: ignore[arg-type]


def test_each_finished_run_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    distributed.map(run, [{"seed": 0}, {"seed": 3, "action": "raise"}], processes=0)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("run 1/2  seed=0: mean ")
    assert first.endswith("  odd 0  0.0 s")
    assert second == "run 2/2  seed=3, action=raise: ValueError: no such thing  0.0 s"
    quiet(run, [{"seed": 0}], processes=0)
    assert capsys.readouterr().out == ""


# --- what is refused ----------------------------------------------------------------------------------


def test_what_other_processes_cannot_import_is_refused_before_anything_starts(tmp_path: Path) -> None:
    def inside(setting: dict[str, Any]) -> int:
        return 1

    wrongs: dict[str, Any] = {"<lambda>": lambda _: 1, "inside": inside, "partial": partial(inside)}
    for name, wrong in wrongs.items():
        with pytest.raises(ValueError, match=rf"^map: `run` must be .* can import, got .*{name}"):
            quiet(wrong, [{}], processes=2)
    text = "from funcnn import distributed\ndef run(setting):\n    return 1\n"
    call = "print(distributed.map(run, [{}], processes=1, progress=False))\n"
    file = tmp_path / "sweep.py"
    file.write_text(f"{text}{call}")
    said = script(str(file)).stderr
    assert said.count("Traceback") == 1, said
    assert 'map: a sweep of run must start below `if __name__ == "__main__":`, not at line 4 of' in said


@pytest.mark.parametrize("file", [None, "<stdin>"])
def test_what_stands_in_no_file_is_refused(file: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = ModuleType("__main__")
    if file:
        prompt.__file__ = file
    exec("def typed(setting): return 1", vars(prompt))
    monkeypatch.setitem(sys.modules, "__main__", prompt)
    text = r"^map: `run` must stand in a file that other processes can import, got typed of a notebook"
    with pytest.raises(ValueError, match=text):
        quiet(prompt.typed, [{}], processes=1)
    assert quiet(prompt.typed, [{}], processes=0).column("result") == [1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"run": 3}, "`run` must be a function, got 3"),
        ({"settings": {"a": 1}}, "`settings` must be a list of dicts, got {'a': 1}"),
        ({"settings": 3}, "`settings` must be a list of dicts, got 3"),
        ({"settings": [{}, 3]}, r"settings\[1\] must be a dict of names, got 3"),
        ({"settings": [{1: 2}]}, r"settings\[0\] must be a dict of names, got {1: 2}"),
        ({"settings": [{"f": lambda: 0}]}, r"settings\[0\] must be data that can be pickled: "),
        ({"processes": -1}, "`processes` must be at least 0, got -1"),
        ({"processes": True}, "`processes` must be an int, got True"),
        ({"file": 3}, "`file` must be a str or os.PathLike, got 3"),
        ({"file": "x", "run": partial(run)}, "`run` must have a name, by which `file` knows it"),
        ({"engine": "mpi"}, "`engine` must be an engine"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^map: {text}") as caught:
        quiet(**{"run": run, "settings": [{"seed": 0}], "processes": 0, **options})
    assert len(str(caught.value)) < 300


# --- resume -------------------------------------------------------------------------------------------


def test_a_killed_sweep_goes_on_with_the_same_results(tmp_path: Path) -> None:
    marks, path, whole = tmp_path / "marks", tmp_path / "sweep.jsonl", tmp_path / "whole.jsonl"
    poison = tmp_path / "marks.2"
    poison.touch()
    program = ("-m", "tests.sweep_programs", "resume", str(marks), str(path))
    assert script(*program).returncode == -signal.SIGKILL
    poison.unlink()
    kept = path.read_bytes()
    assert kept.count(b"\n") == 2
    settings = [{"seed": i, "marks": str(marks)} for i in range(4)]
    for end in (kept.index(b"\n") + 4, len(kept) - 9, len(kept) - 1):  # a last line, not written whole
        path.write_bytes(kept[:end])
        marks.write_text("")
        table = quiet(noted, settings, processes=0, file=path)
        assert marks.read_text() == "1\n2\n3\n"
        assert path.read_bytes().count(b"\n") == 4
    marks.write_text("")
    same(quiet(noted, settings[::-1], processes=0, file=path), Table(table[::-1]))
    assert marks.read_text() == ""
    same(quiet(noted, settings, processes=0, file=whole), table)
    assert np.isnan(table.column("nan")).all()
    assert table.column("far") == [-np.inf] * 4


def test_only_the_same_run_and_setting_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.jsonl"
    fresh = quiet(run, [{"seed": 1}, {"seed": 2, "action": "raise"}], processes=0, file=path)
    assert isinstance(fresh[0].result["drawn"], list)  # as it will be read
    assert len(path.read_text().splitlines()) == 1  # what failed is tried again
    assert quiet(other, [{"seed": 1}], processes=0, file=path).column("result") == [1.0]
    again = distributed.map(run, [{"seed": 1}, {"seed": 1.0}], processes=0, file=path)
    assert again[0] == fresh[0]
    assert "RefusedType" in str(again[1].error)  # another setting, and no key
    assert capsys.readouterr().out.splitlines()[0] == f"1 of 2 runs are known from {path}"
    assert [json.loads(line)["setting"] for line in path.read_text().splitlines()] == [{"seed": 1}] * 2


def test_what_json_cannot_hold_is_a_failed_row(tmp_path: Path) -> None:
    for value in (1j, {1, 2}, {(1, 2): 3}):
        table = quiet(lambda setting: setting["value"], [{"value": value}], processes=0)
        assert table[0].result == value
        table = quiet(lambda _: value, [{}], processes=0, file=tmp_path / "a")  # noqa: B023
        assert "the result must be what JSON can hold: " in str(table[0].error)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "no end", '{"a": 1}\n', "\n", '{"key": 1, "result"', "[1]\n"]
)
def test_another_file_is_refused_and_stays(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(ValueError, match="must be the file of a sweep"):
        quiet(other, [{"seed": 1}], processes=0, file=path)
    assert path.read_text() == text


# --- the end ------------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_processes_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    command = [sys.executable, str(ROOT / "tests/sweep_programs.py"), "sleep", str(path)]
    job = subprocess.Popen(
        command, env=environment(), stdout=-1, stderr=-1, text=True, start_new_session=True
    )
    assert job.stdout is not None
    assert job.stdout.readline().startswith("run 1/4  seed=0")
    start = time.monotonic()
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does
    _, said = job.communicate(timeout=30)  # until all of them have ended, who share the pipes
    assert time.monotonic() - start < 10
    assert said.splitlines()[-1] == f"1 of 4 runs are done: the same call goes on from {path}"
    assert said.count("Traceback") == 1


def test_an_error_of_the_disk_ends_the_processes(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    settings = [{"seed": 1, "action": "remove", "folder": str(folder)}] * 2
    others = multiprocessing.active_children()  # such as a pool that joblib keeps for the next search
    with pytest.raises(FileNotFoundError, match=r"sweep\.jsonl") as caught:
        quiet(run, settings, processes=1, file=folder / "sweep.jsonl")
    assert caught.traceback  # which would keep the processes
    assert [child for child in multiprocessing.active_children() if child not in others] == []


@pytest.mark.threads
def test_ranks_of_mpi_give_the_rows_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_mpi()
    path = tmp_path / "sweep.jsonl"
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    done = import_module("prove_ranks").mpiexec(
        3, "-m", "tests.sweep_programs", "ranks", str(path), timeout=60
    )
    assert done.returncode == 0, done.stderr
    settings = [{"seed": i, "action": "raise" if i == 2 else None} for i in range(5)]
    alone = quiet(run, settings, processes=0)
    found = f"{alone.column('mean')} ValueError: no such thing"
    assert [Path(f"{path}.{rank}").read_text() for rank in range(3)] == [found] * 3
    assert done.stdout.count("run ") == 5
    assert len(path.read_text().splitlines()) == 4
