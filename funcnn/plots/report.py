"""A report of a run in one file."""

from __future__ import annotations

import base64
import html
import platform
from collections.abc import Mapping, Sequence
from importlib import import_module
from os import PathLike
from typing import Any

import numpy as np

from funcnn import checks, files, numerics, tree
from funcnn.plots.runs import best_of, confusion, curves
from funcnn.plots.style import png
from funcnn.types import Array, Layer, Params

__all__ = ["html_report"]

_PARAMS = checks.Instance(dict, "a dict")
_DICT = checks.Optional(checks.Instance(Mapping, "a dict"))

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto }
table { border-collapse: collapse } th, td { text-align: left; padding: .15rem 1.5rem .15rem 0 }
td { font-variant-numeric: tabular-nums } img { max-width: 100%; height: auto }
"""


@checks.takes(net=checks.NET, params=_PARAMS, title=checks.STR, figures=_DICT, notes=_DICT)
def html_report(
    path: str | PathLike[str],
    net: Layer[Any, Any],
    params: Params,
    history: Mapping[str, Array],
    *,
    title: str = "Training",
    matrix: Array | None = None,
    labels: Sequence[str] | None = None,
    figures: Mapping[str, Any] | None = None,
    notes: Mapping[str, object] | None = None,
) -> None:
    """Write a report of a run as one HTML file, with its pictures inside.

    Parameters
    ----------
    path : path
        Where to; a file that is there is replaced, whole.
    net : Layer
        What was trained.
    params : dict
        Its parameters.
    history : mapping of str to ndarray
        As `funcnn.fit` returns it.
    title : str, default "Training"
        The heading.
    matrix : ndarray of ints, ``(C, C)``, optional
        A confusion matrix, to be drawn.
    labels : sequence of str, optional
        What the classes are called.
    figures : mapping of str to matplotlib.figure.Figure, optional
        More pictures, with their headings.
    notes : mapping of str to object, optional
        More lines for the table: the data, the optimizer, the seed.

    Raises
    ------
    ValueError, TypeError
        For what `curves` or `confusion` refuses.
    ImportError
        Without matplotlib.
    OSError
        Where the file cannot be written.

    Notes
    -----
    The file needs nothing beside it, neither network nor scripts. It says which numerics mode and
    kernels are in force, and with which versions: what the bits of the run depend on.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from funcnn import dense, random
    >>> _, params = dense(2).init(random.key(0), (1, 3))
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "run.html"
    >>> html_report(file, dense(2), params, {"epoch": np.array([1]), "loss": np.array([0.5])})
    >>> file.read_text().count("data:image/png;base64")
    1
    """
    where = files.checked_path(path)
    pictures = {"Learning curves": curves(history)}
    if matrix is not None:
        pictures["Confusion matrix"] = confusion(matrix, labels)
    pictures.update({html.escape(str(name)): figure for name, figure in (figures or {}).items()})
    version = import_module("funcnn").__version__
    facts: dict[str, object] = {
        "parameters": f"{tree.count(params):,}",
        **_lasts(history),
        **_bests(history),
        **(notes or {}),
        "numerics mode": numerics.mode(),
        "kernels": numerics.kernels(),
        "versions": f"funcnn {version}, NumPy {np.__version__}, Python {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
    }
    rows = "\n".join(
        f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    sections = "\n".join(
        f'<h2>{name}</h2>\n<img alt="{name}" src="{_inline(figure)}">'
        for name, figure in pictures.items()
    )
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n<table>\n{rows}\n</table>\n"
        f"<h2>Network</h2>\n<pre>{html.escape(_pretty(net))}</pre>\n{sections}\n</body>\n</html>\n"
    )
    files.write(where, page.encode())


def _lasts(history: Mapping[str, Array]) -> dict[str, object]:
    """What the last epoch left."""
    known = {name: values for name, values in history.items() if len(values)}
    return {f"last {name.replace('_', ' ')}": f"{values[-1]:.6g}" for name, values in known.items()}


def _bests(history: Mapping[str, Array]) -> dict[str, object]:
    """The best validation of each kind whose best is known, and its epoch."""
    found: dict[str, object] = {}
    for name, values in history.items():
        known, metric = np.asarray(values, np.float64), name.removeprefix("validation_")
        place = best_of(metric, known) if metric != name else None
        if place is not None:
            words = name.replace("_", " ")
            found[f"best {words}"] = f"{known[place]:.6g} (epoch {place + 1})"
    return found


def _pretty(net: Layer[Any, Any]) -> str:
    """A line for each layer of the outermost `serial`."""
    if net.spec.kind != "serial":
        return repr(net)
    inner = ",\n".join(f"    {child!r}" for child in net.spec.children)
    return f"serial(\n{inner},\n)"


def _inline(figure: Any) -> str:
    if not hasattr(figure, "savefig"):
        checks.refuse_type(f"`figures` must be matplotlib figures, got {checks.shown(figure)}")
    return f"data:image/png;base64,{base64.b64encode(png(figure)).decode()}"
