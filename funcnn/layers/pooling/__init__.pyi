"""The public names of `funcnn.layers.pooling`, and where each has its home."""

from funcnn.layers.pooling.averages import *
from funcnn.layers.pooling.maxima import *
from funcnn.layers.pooling.norms import *
from funcnn.layers.pooling.places import *
from funcnn.layers.pooling.sequences import *
from funcnn.layers.pooling.unpooling import *
