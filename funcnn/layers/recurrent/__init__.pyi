"""The public names of `funcnn.layers.recurrent`, and where each has its home."""

from funcnn.layers.recurrent.cells import *
