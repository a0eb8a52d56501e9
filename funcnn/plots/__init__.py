"""Plots: pictures of a training and of a network, and a report of both in one file.

Every function returns a `matplotlib.figure.Figure`, to be saved or shown; none touches pyplot's
global state. Matplotlib is an extra: ``pip install matplotlib``.

Examples
--------
>>> import numpy as np
>>> from funcnn import plots
>>> history = {"epoch": np.array([1, 2]), "loss": np.array([0.7, 0.4])}
>>> figure = plots.curves(history)
>>> [axes.get_ylabel() for axes in figure.axes]
['loss']
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
