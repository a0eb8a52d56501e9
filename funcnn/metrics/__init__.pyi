"""The public names of `funcnn.metrics`, and where each has its home."""

from funcnn.metrics.classification import *
from funcnn.metrics.core import *
from funcnn.metrics.ranking import *
from funcnn.metrics.regression import *
