"""The public names of `funcnn.losses`, and where each has its home."""

from funcnn.losses.alignment import *
from funcnn.losses.binary import *
from funcnn.losses.classification import *
from funcnn.losses.core import *
from funcnn.losses.distributions import *
from funcnn.losses.embeddings import *
from funcnn.losses.joint import *
from funcnn.losses.multilabel import *
from funcnn.losses.regression import *
from funcnn.losses.weighting import *
