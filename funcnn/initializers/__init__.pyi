"""The public names of `funcnn.initializers`, and where each has its home."""

from funcnn.initializers.core import *
from funcnn.initializers.distributions import *
from funcnn.initializers.fans import *
from funcnn.initializers.structured import *
