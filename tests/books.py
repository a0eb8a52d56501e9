"""Scripts with cells, ``# %%``, run as notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.elsewhere import environment


def executed(cells: list[str], cwd: Path) -> list[Any]:
    """The outputs of each cell."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("matplotlib")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(book, timeout=300, kernel_name="python3")
    client.execute(cwd=str(cwd), env=environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"))
    return [cell.outputs for cell in book.cells]


def cells(script: Path, short: bool) -> list[str]:
    """Those of a script, perhaps with one epoch."""
    text = script.read_text("utf-8")
    assert "\nEPOCHS = 10\n" in text
    return (text.replace("EPOCHS = 10", "EPOCHS = 1") if short else text).split("\n# %%\n")[1:]
