"""The public names of `funcnn.layers`, and where each has its home."""

from funcnn.layers.activations import *
from funcnn.layers.attentions import *
from funcnn.layers.convolution import *
from funcnn.layers.distances import *
from funcnn.layers.embeddings import *
from funcnn.layers.linear import *
from funcnn.layers.normalization import *
from funcnn.layers.pooling import *
from funcnn.layers.recurrent import *
from funcnn.layers.regularization import *
from funcnn.layers.resizing import *
from funcnn.layers.shape import *
