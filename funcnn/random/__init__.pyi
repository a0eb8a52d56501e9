"""The public names of `funcnn.random`, and where each has its home."""

from funcnn.random.continuous import *
from funcnn.random.discrete import *
from funcnn.random.keys import *
