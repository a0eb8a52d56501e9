"""The public names of `funcnn.layers.normalization`, and where each has its home."""

from funcnn.layers.normalization.batches import *
from funcnn.layers.normalization.examples import *
from funcnn.layers.normalization.neighbours import *
