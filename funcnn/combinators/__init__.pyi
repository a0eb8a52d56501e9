"""The public names of `funcnn.combinators`, and where each has its home."""

from funcnn.combinators.chain import *
from funcnn.combinators.contexts import *
from funcnn.combinators.freezing import *
from funcnn.combinators.graphs import *
from funcnn.combinators.joining import *
from funcnn.combinators.reparametrization import *
from funcnn.combinators.running import *
from funcnn.combinators.sequences import *
