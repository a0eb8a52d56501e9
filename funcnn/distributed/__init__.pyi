"""The public names of `funcnn.distributed`, and where each has its home."""

from funcnn.distributed.engines import *
from funcnn.distributed.sweeps import *
