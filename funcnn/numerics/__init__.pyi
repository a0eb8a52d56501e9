"""The public names of `funcnn.numerics`, and where each has its home."""

from funcnn.machine.trial import faults as faults
from funcnn.numerics.counting import counter as counter, counting as counting
from funcnn.numerics.functions import *
from funcnn.numerics.modes import (
    Mode as Mode,
    arithmetic as arithmetic,
    fast as fast,
    mode as mode,
    portable as portable,
    use as use,
)
from funcnn.numerics.products import *
from funcnn.numerics.sets import (
    Use as Use,
    compiled as compiled,
    compiling as compiling,
    kernels as kernels,
)
