"""The public names of `funcnn.layers.convolution`, and where each has its home."""

from funcnn.layers.convolution.depthwise import *
from funcnn.layers.convolution.plain import *
from funcnn.layers.convolution.transposed import *
