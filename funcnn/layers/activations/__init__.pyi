"""The public names of `funcnn.layers.activations`, and where each has its home."""

from funcnn.layers.activations.gates import *
from funcnn.layers.activations.learned import *
from funcnn.layers.activations.smooth import *
from funcnn.layers.activations.softmaxes import *
from funcnn.layers.activations.straight import *
