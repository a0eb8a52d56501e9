"""What all pictures share: a figure to draw on, and colours that everybody can tell apart."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

from funcnn.checks import Number, takes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BLUE", "COLOURS", "GREY", "ORANGE", "new_figure"]

# Okabe and Ito's colours: told apart with any kind of colour vision, and in grey.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#000000")
GREY = "#666666"


@takes(width=Number(above=0), height=Number(above=0))
def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that arranges its own parts, and shows itself in a notebook.

    Parameters
    ----------
    width, height : float
        In inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> new_figure(4, 3).axes
    []
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("matplotlib is needed: pip install matplotlib") from None
    figure = Figure((width, height), dpi=120, layout="constrained")
    vars(figure)["_repr_png_"] = partial(png, figure)
    return figure


def png(figure: Any) -> bytes:
    """A figure as a file, which a notebook shows at the end of a cell."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
