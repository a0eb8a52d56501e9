"""The public names of `funcnn.combinators`, and where each has its home."""

from funcnn.combinators.chain import (
    named as named,
    repeat as repeat,
    residual as residual,
    serial as serial,
    share as share,
)
from funcnn.combinators.flow import (
    freeze as freeze,
    frozen_paths as frozen_paths,
    remat as remat,
    stop_gradient as stop_gradient,
    tied as tied,
)
from funcnn.combinators.joining import (
    branch as branch,
    dense_connect as dense_connect,
    merge as merge,
    parallel as parallel,
)
from funcnn.combinators.running import statistics as statistics
