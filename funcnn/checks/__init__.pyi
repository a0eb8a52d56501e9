"""The public names of `funcnn.checks`, and where each has its home."""

from funcnn.checks.arrays import *
from funcnn.checks.declarations import *
from funcnn.checks.options import *
from funcnn.checks.refusals import *
