"""The public names of `funcnn.layers.attentions`, and where each has its home."""

from funcnn.layers.attentions.biases import *
from funcnn.layers.attentions.heads import *
from funcnn.layers.attentions.plain import *
