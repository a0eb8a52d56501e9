"""The public names of `funcnn.plots`, and where each has its home."""

from funcnn.plots.networks import *
from funcnn.plots.report import *
from funcnn.plots.runs import *
from funcnn.plots.style import new_figure as new_figure
