"""Sweeps: one function over many settings, by ranks or by processes, with results in a table."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from itertools import product
from operator import eq
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from funcnn import checks, files, tree
from funcnn.distributed.engines import ALONE, Engine, check_share, in_sweep, mpi
from funcnn.distributed.workers import Run, Tasks, check_run, here, in_processes, on_ranks, words
from funcnn.machine.threads import processors
from funcnn.types.shown import grid as html_grid

__all__ = ["Row", "Table", "grid", "map"]

_ENDS = 5  # rows that a table shows at its start and at its end
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # where launchers say how many
_START = b'{"key": "'  # of each line in a file


# --- the table ----------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One run of a sweep: its setting, its result or its error in one line, and how long it took.

    Examples
    --------
    >>> from funcnn.distributed import Row
    >>> Row({"width": 8}, {"loss": 0.5}, None, 2.0).values()
    {'seconds': 2.0, 'error': None, 'width': 8, 'loss': 0.5}
    """

    setting: dict[str, Any]
    result: Any
    error: str | None
    seconds: float

    def values(self) -> dict[str, Any]:
        """All of it by name; what is no dict of results is called ``result``."""
        return {"seconds": self.seconds, "error": self.error, **self.setting, **self.results()}

    def results(self) -> dict[str, Any]:
        """What the run gave, by name; nothing if it failed."""
        found = self.result if isinstance(self.result, dict) else {"result": self.result}
        return {} if self.error else found


class Table(tuple[Row, ...]):
    """The rows of a sweep, in the order of its settings: a tuple that shows itself in few lines.

    Parameters
    ----------
    rows : iterable of Row
        One for each setting.

    Examples
    --------
    >>> from funcnn.distributed import Row, Table
    >>> table = Table([Row({"width": 8}, {"loss": 0.5}, None, 2.0), Row({"width": 9}, None, "no", 0.0)])
    >>> table
    <2 runs, 1 failed>
    >>> print(table)
    width  loss  seconds  error
    8      0.5   2
    9            0        no
    >>> table.column("loss"), table.best("loss", "min").setting
    ([0.5, None], {'width': 8})
    """

    __slots__ = ()

    @property
    def names(self) -> list[str]:
        """Of the columns: settings, results, seconds, and errors if there are some."""
        names = [name for row in self for name in row.setting]
        names += [name for row in self for name in row.results()]
        last = ["seconds", *["error" for row in self if row.error]]
        return [name for name in dict.fromkeys(names) if name not in last] + [*dict.fromkeys(last)]

    @checks.named
    def column(self, name: str) -> list[Any]:
        """One value for each row, by its name; None where a run has none, or failed."""
        if name not in (*self.names, "error"):
            checks.refuse(f"`name` must be one of {', '.join(self.names)}, got {checks.shown(name)}")
        return [row.values().get(name) for row in self]

    @checks.named
    def best(self, name: str, which: Literal["max", "min"] = "max") -> Row:
        """The first row with the largest number of a column, or the smallest."""
        checks.Choice("max", "min").check("which", which)
        pairs = zip(self.column(name), self, strict=True)
        numbers = (int, float, np.integer, np.floating)
        found = [(v, row) for v, row in pairs if isinstance(v, numbers) and v == v]
        if not found:
            checks.refuse(f"no row has a number as {checks.shown(name)}")
        pick = max if which == "max" else min
        return pick(found, key=lambda pair: pair[0])[1]

    def _lines(self) -> list[list[str]]:
        names = self.names
        rows = [[_cell(row.values().get(name)) for name in names] for row in self]
        cut = [*rows[:_ENDS], ["..."] * len(names), *rows[-_ENDS:]]
        return [names, *(rows if len(rows) <= 2 * _ENDS else cut)]

    def __repr__(self) -> str:
        failed = len([row for row in self if row.error])
        return f"<{len(self)} runs{f', {failed} failed' if failed else ''}>"

    def __str__(self) -> str:
        lines = self._lines()
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        padded = ([f"{cell:{n}}" for cell, n in zip(line, widths, strict=True)] for line in lines)
        return "\n".join("  ".join(cells).rstrip() for cells in padded)

    def _repr_html_(self) -> str:
        head, *rows = self._lines()
        return html_grid(head, rows)


def _cell(value: object) -> str:
    """A value in a table, in few letters."""
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else "" if value is None else checks.shown(value)
    return files.short(text, 60, 50)


@checks.named
def grid(**options: Iterable[Any]) -> list[dict[str, Any]]:
    """List all combinations of some options, the last one varying fastest.

    Parameters
    ----------
    **options : iterable
        The values of each option.

    Returns
    -------
    list of dict
        Settings for `map`.

    Examples
    --------
    >>> from funcnn import distributed
    >>> distributed.grid(width=[8, 16], rate=[0.1])
    [{'width': 8, 'rate': 0.1}, {'width': 16, 'rate': 0.1}]
    """
    for name, values in options.items():
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            checks.refuse_type(f"`{name}` must be a list of values, got {checks.shown(values)}")
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


# --- the settings -------------------------------------------------------------------------------------


def _checked_settings(settings: Any) -> list[dict[str, Any]]:
    if not isinstance(settings, Iterable) or isinstance(settings, (str, bytes, Mapping)):
        checks.refuse_type(f"`settings` must be a list of dicts, got {checks.shown(settings)}")
    given = list(settings)
    for i, setting in enumerate(given):
        if not isinstance(setting, Mapping) or not all(isinstance(name, str) for name in setting):
            checks.refuse_type(f"settings[{i}] must be a dict of names, got {checks.shown(setting)}")
    return [dict(setting) for setting in given]


def _packed(settings: list[dict[str, Any]]) -> Tasks:
    found = {}
    for i, setting in enumerate(settings):
        try:
            found[i] = pickle.dumps(setting)
        except Exception as problem:
            checks.refuse(f"settings[{i}] must be data that can be pickled: {words(problem)}")
    return found


# --- the file of a sweep ------------------------------------------------------------------------------


def _keys(run: Any, settings: list[dict[str, Any]]) -> list[str]:
    """What names each result in a file."""
    name = getattr(run, "__qualname__", None)
    if name is None:
        checks.refuse_type(f"`run` must have a name, by which `file` knows it, got {checks.shown(run)}")
    module = run.__module__
    if module == "__main__":  # the name that it has for others
        main = sys.modules[module]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec else Path(getattr(main, "__file__", module)).stem
    return [tree.digest({"run": f"{module}.{name}", "setting": setting}) for setting in settings]


def _read(path: str) -> dict[str, dict[str, Any]]:
    """The results in a file by their keys; a last line that was not written whole is cut off."""
    with files.named(path):
        if files.check_target(path) is None:
            return {}
    with files.opened(path) as file:
        text = file.read()
    *lines, torn = text.split(b"\n")
    found = {}
    with files.whole(path, "the file of a sweep"):
        for line in lines:
            record = files.json_object(line, finite=False)
            found[record["key"]] = {"result": record["result"], "seconds": float(record["seconds"])}
        if torn[: len(_START)] != _START[: len(torn)]:
            raise ValueError("its last line is none of a sweep")
    if torn:
        files.write(path, text[: -len(torn)])
    return found


def _kept(row: Row, path: str, key: str) -> Row:
    """The row as it is read from the file again, where it has been written."""
    record = {"key": key, "setting": row.setting, "result": row.result, "seconds": row.seconds}
    try:
        result = json.dumps(row.result, default=_plain)
    except (TypeError, ValueError, RecursionError) as problem:
        return row._replace(result=None, error=f"the result must be what JSON can hold: {problem}")
    record["setting"] = json.loads(json.dumps(row.setting, default=_plain, skipkeys=True))
    line = json.dumps({**record, "result": json.loads(result)})
    files.append(path, line.encode() + b"\n")
    return row._replace(result=json.loads(result))


def _plain(value: Any) -> Any:
    """An array as JSON has it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"not a {type(value).__name__}")


# --- the sweep ----------------------------------------------------------------------------------------


def _say(shown: bool, line: str) -> None:
    if shown:
        with suppress(Exception):  # a closed stream ends no sweep
            print(files.short(line, 160, 130), flush=True)


def _told(row: Row) -> str:
    """A row on one line."""
    options = ", ".join(f"{name}={_cell(value)}" for name, value in row.setting.items())
    said = "  ".join(f"{name} {_cell(value)}" for name, value in row.results().items())
    return f"{options}: {row.error or said}  {row.seconds:.1f} s"


def _row(setting: dict[str, Any], outcome: bytes) -> Row:
    try:
        return Row(setting, *pickle.loads(outcome))
    except Exception as problem:
        return Row(setting, None, f"the result cannot be read: {words(problem)}", 0.0)


@checks.named
def map(
    run: Run,
    settings: Iterable[Mapping[str, Any]],
    *,
    processes: int | None = None,
    file: str | PathLike[str] | None = None,
    progress: bool = True,
    engine: Engine | None = None,
) -> Table:
    """Run a function on each of many settings, on all processors or all ranks of an MPI job.

    Parameters
    ----------
    run : callable
        ``run(setting) -> result``, a pure function at the top level of a module. The result is a
        dict of numbers or other data, or a number.
    settings : iterable of dict
        Such as `grid` lists.
    processes : int, optional
        How many compute where there are no ranks: by default as many as there are processors;
        0 is this process itself, as it is by default within a run of another sweep.
    file : str or os.PathLike, optional
        Where each result is kept, as a line of JSON: a second call with the same file computes
        what is not there yet. Results must be what JSON can hold; arrays become lists. A result is
        known by the name of `run` and its setting: after a change of `run`, take another file.
    progress : bool, optional
        Whether to print a line for each run.
    engine : Engine, optional
        The ranks that compute; by default all that ``mpiexec`` or ``srun`` has started. Rank 0
        hands out the settings, and each rank returns the whole table.

    Returns
    -------
    Table
        A `Row` for each setting, in their order. A run that fails, or whose process is killed, is
        a row with an error; with `file`, it is tried again by the next call.

    Raises
    ------
    ValueError
        If other processes cannot import `run`, or if `file` is not that of a sweep.
    KeyboardInterrupt
        After Ctrl-C; a note on it says how to go on.

    Examples
    --------
    >>> from funcnn import distributed
    >>> def run(setting):
    ...     return {"loss": setting["width"] ** -2}
    >>> table = distributed.map(run, distributed.grid(width=[1, 2]), processes=0, progress=False)
    >>> table.column("loss")
    [1.0, 0.25]
    """
    if not callable(run):
        checks.refuse_type(f"`run` must be a function, got {checks.shown(run)}")
    given = _checked_settings(settings)
    usual = 0 if in_sweep.get() else processors()
    count = usual if processes is None else checks.Integer(0).check("processes", processes)
    check_share(None, None, engine)
    path = None if file is None else files.checked_path(file, "file")
    if engine is None:
        launched = any(os.environ.get(name, "1") != "1" for name in _SIZES)
        engine = mpi() if launched and not in_sweep.get() else ALONE
    several = engine.ranks > 1
    if several or count:
        check_run(run, 0 if several else count)
    keys, tasks = _keys(run, given) if path is not None else [], _packed(given)
    shown = progress and engine.rank == 0
    with engine.together():
        engine.agree(lambda: {"number of settings": len(given)}, eq)
        known = engine.first(lambda: _read(path)) if path is not None else {}
        rows = {
            i: Row(given[i], known[key]["result"], None, known[key]["seconds"])
            for i, key in enumerate(keys)
            if key in known
        }
        if rows:
            _say(shown, f"{len(rows)} of {len(given)} runs are known from {file}")
        left = {i: task for i, task in tasks.items() if i not in rows}
        if several:
            outcomes = on_ranks(run, left, engine.comm)
        else:
            outcomes = in_processes(run, left, count) if count else here(run, left)
        try:
            with closing(outcomes):
                for i, outcome in outcomes:
                    row = _row(given[i], outcome)
                    rows[i] = row if path is None or row.error else _kept(row, path, keys[i])
                    _say(shown, f"run {len(rows)}/{len(given)}  {_told(rows[i])}")
        except KeyboardInterrupt as stop:
            more = f"the same call goes on from {path}" if path else "file= would keep them"
            stop.add_note(f"{len(rows)} of {len(given)} runs are done: {more}")
            raise
        if several:
            rows = engine.comm.bcast(rows)
    return Table(rows[i] for i in range(len(given)))
