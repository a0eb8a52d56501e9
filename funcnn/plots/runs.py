"""Pictures of a training: how the loss went down, and what is taken for what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcnn import checks, metrics, numerics
from funcnn.plots.style import BLUE, GREY, ORANGE, new_figure
from funcnn.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion", "curves", "live", "training_report"]

_FRACTIONS = ("accuracy", "precision", "recall", "f1", "top")  # shown in per cent
_AXES = ("epoch", "step", "seconds")
_MOST_COUNTS = 20  # classes beyond which numbers in the cells cannot be read


@checks.named
def curves(history: Mapping[str, Array]) -> Figure:
    """Draw how a training went: the loss, and each metric, epoch by epoch.

    Parameters
    ----------
    history : mapping of str to ndarray
        As `funcnn.fit` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each quantity, training and validation together; the learning rate where it
        changes. A circle marks the best validation, where it is known which that is: of the loss,
        and of what is called as a metric of `funcnn.metrics`.

    Raises
    ------
    ValueError
        For a history without a loss, or with lengths that differ.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> figure = curves({"epoch": np.array([1, 2]), "loss": np.array([0.7, 0.4])})
    >>> figure.axes[0].get_xlabel()
    'epoch'
    """
    panels = _panels(history)
    figure = new_figure(6.4, 1.2 + 1.9 * len(panels))
    _draw_curves(figure, history, panels)
    return figure


@checks.takes(every=checks.Integer(1))
def live(every: int = 1) -> Callable[[Any], None]:
    """Draw the curves of a training while it goes on, in a notebook.

    Parameters
    ----------
    every : int, default 1
        After how many epochs they are drawn anew.

    Returns
    -------
    callable
        One of the `callbacks` of `funcnn.fit`, for one training.

    Raises
    ------
    ValueError, TypeError
        For something else than a number from 1.
    ImportError
        Without matplotlib, and outside notebooks without IPython.

    Examples
    --------
    >>> callback = live(every=5)  # fit(..., callbacks=(callback,))
    """
    try:
        from IPython.display import display
    except ImportError:
        raise ImportError("IPython is needed: pip install ipython") from None
    records: list[Mapping[str, float]] = []
    shown: list[Any] = []  # where the picture is, once it is

    def draw(epoch: Any) -> None:
        if records and epoch.record["epoch"] <= records[-1]["epoch"]:
            return  # a resumed training asks again about its last epoch
        records.append(epoch.record)
        if len(records) % every == 0:
            figure = curves({name: np.array([r[name] for r in records]) for name in records[0]})
            if shown:
                shown[0].update(figure)
            else:
                shown.append(display(figure, display_id=True))

    return draw


@checks.named
def confusion(matrix: Array, labels: Sequence[str] | None = None) -> Figure:
    """Draw a confusion matrix.

    Parameters
    ----------
    matrix : ndarray of ints, ``(C, C)``
        Counts: truth down, prediction across, as `funcnn.metrics.confusion_matrix` gives them.
    labels : sequence of str, optional
        What the classes are called; by default their numbers.

    Returns
    -------
    matplotlib.figure.Figure
        Colours say what part of a true class went where, on a scale that shows small parts; the
        numbers are counts.

    Raises
    ------
    ValueError, TypeError
        For a matrix that is not square or not of counts, or another number of labels.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> confusion(np.array([[9, 1], [0, 8]]), ["cat", "dog"]).axes[0].get_ylabel()
    'true class'
    """
    counts, names = _counts(matrix, labels)
    figure = new_figure(5.6, 5.0)
    _draw_confusion(figure, counts, names)
    return figure


@checks.named
def training_report(
    history: Mapping[str, Array], matrix: Array, labels: Sequence[str] | None = None
) -> Figure:
    """Draw a training on one sheet: the curves on the left, the confusion matrix on the right.

    Parameters
    ----------
    history : mapping of str to ndarray
        As for `curves`.
    matrix : ndarray of ints, ``(C, C)``
        As for `confusion`.
    labels : sequence of str, optional
        What the classes are called.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError, TypeError
        For what `curves` or `confusion` refuses.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> history = {"epoch": np.array([1, 2]), "loss": np.array([0.7, 0.4])}
    >>> len(training_report(history, np.array([[9, 1], [0, 8]])).axes)
    3
    """
    panels = _panels(history)
    counts, names = _counts(matrix, labels)
    figure = new_figure(11.0, 4.8)
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.05, 1.0))
    left, right = parts
    _draw_curves(left, history, panels)
    _draw_confusion(right, counts, names)
    return figure


# --- curves -------------------------------------------------------------------------------------------


def _panels(history: Mapping[str, Array]) -> list[str]:
    """The quantities to draw: the loss first, the learning rate last and only if it changes."""
    if not isinstance(history, Mapping):
        checks.refuse_type(f"`history` must be a dict of arrays, got {type(history).__name__}")
    if "loss" not in history:
        checks.refuse(f"`history` must hold 'loss', got {', '.join(map(str, history)) or 'nothing'}")
    if not len(history["loss"]):
        checks.refuse("`history` must hold at least one epoch")
    lengths = {len(values) for values in history.values()}
    if len(lengths) != 1:
        checks.refuse(f"`history` must hold arrays of one length, got {sorted(lengths)}")
    names = [name.removeprefix("validation_") for name in history if name not in _AXES]
    names = [name for name in dict.fromkeys(names) if name != "learning_rate"]
    rates = set(np.asarray(history.get("learning_rate", ())).tolist())
    return [*names, "learning_rate"] if len(rates) > 1 else names


def _draw_curves(paper: Any, history: Mapping[str, Array], panels: list[str]) -> None:
    x = np.asarray(history.get("epoch", np.arange(1, len(history["loss"]) + 1)))
    rows = np.atleast_1d(paper.subplots(len(panels), 1, sharex=True))
    for axes, name in zip(rows, panels, strict=True):
        percent = name.startswith(_FRACTIONS)
        lines = [("training", name, BLUE, "-"), ("validation", f"validation_{name}", ORANGE, "--")]
        shown = [line for line in lines if line[1] in history]
        for part, key, colour, style in shown:
            values = np.asarray(history[key], np.float64) * (100 if percent else 1)
            axes.plot(x, values, style, color=colour, label=part, marker="." if len(x) < 40 else "")
            best = best_of(name, values) if part == "validation" else None
            if best is not None:
                _mark_best(axes, x, values, best, percent)
        axes.set_ylabel(name.replace("_", " ") + (" (%)" if percent else ""))
        axes.grid(alpha=0.3)
        if _spans_decades([np.asarray(history[key]) for _, key, _, _ in shown]) and not percent:
            axes.set_yscale("log")
        if name == panels[0] and len(shown) > 1:
            axes.legend(frameon=False)
    rows[-1].set_xlabel("epoch")
    rows[-1].xaxis.get_major_locator().set_params(integer=True)


def best_of(name: str, values: Array) -> int | None:
    """The place of the best value; None where none is finite, or nobody knows what is better."""
    which = "min" if name == "loss" else metrics.better(getattr(metrics, name, None))
    if which is None or not np.isfinite(values).any():
        return None
    return int(np.nanargmin(values) if which == "min" else np.nanargmax(values))


def _mark_best(axes: Any, x: Array, values: Array, best: int, percent: bool) -> None:
    low = values[best] == np.nanmin(values)
    axes.plot(x[best], values[best], "o", color=ORANGE, fillstyle="none", markersize=9)
    axes.annotate(
        f"{values[best]:.2f} %" if percent else f"{values[best]:.4g}",
        (x[best], values[best]),
        xytext=(0, 9 if low else -15),
        textcoords="offset points",
        ha="right" if best > len(x) / 2 else "left",
        color=ORANGE,
    )


def _spans_decades(arrays: list[Array]) -> bool:
    """Whether a logarithmic axis tells more: all above 0, the largest 10 times the smallest."""
    values = np.concatenate(arrays)
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > 10 * values.min())


# --- confusion ----------------------------------------------------------------------------------------


def _counts(matrix: Array, labels: Sequence[str] | None) -> tuple[Array, list[str]]:
    counts = checks.array(matrix, "matrix")
    if counts.dtype.kind not in "iu":
        checks.refuse_type(f"`matrix` must be counts, got {counts.dtype}")
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        checks.refuse(f"`matrix` must have shape (C, C), got {counts.shape}")
    if counts.min() < 0:
        checks.refuse(f"`matrix` must not be negative, got {counts.min()}")
    names = [str(i) for i in range(len(counts))]
    if labels is not None:
        names = list(map(str, checks.Instance(Iterable, "a list of names").check("labels", labels)))
    if len(names) != len(counts):
        checks.refuse(f"`labels` must name {len(counts)} classes, got {len(names)}")
    return counts, names


def _draw_confusion(paper: Any, counts: Array, names: list[str]) -> None:
    from matplotlib.colors import PowerNorm

    axes = paper.subplots()
    rows = numerics.sum(counts, 1, True)
    parts = 100 * counts / np.maximum(rows, 1)
    image = axes.imshow(parts, cmap="Blues", norm=PowerNorm(0.4, 0, 100))  # so that 1 % is seen
    bar = paper.colorbar(image, ax=axes, ticks=[0, 1, 5, 20, 50, 100], shrink=0.85)
    bar.set_label("part of the true class (%)")
    places = range(len(names))
    if len(names) <= _MOST_COUNTS:
        axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(places, names)
        for row in places:
            for column in places:
                if count := int(counts[row, column]):
                    colour = "white" if parts[row, column] > 20 else "black"
                    axes.text(column, row, count, ha="center", va="center", color=colour, size=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    right, total = int(numerics.sum(np.diagonal(counts))), int(numerics.sum(counts))
    if total:
        title = f"{total - right} of {total} wrong: {100 * right / total:.2f} % right"
        axes.set_title(title, size=10, color=GREY)
