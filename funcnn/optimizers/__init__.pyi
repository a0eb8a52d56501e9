"""The public names of `funcnn.optimizers`, and where each has its home."""

from funcnn.optimizers.adam_variants import *
from funcnn.optimizers.adaptive_moments import *
from funcnn.optimizers.clipping import *
from funcnn.optimizers.core import *
from funcnn.optimizers.descent import *
from funcnn.optimizers.foreign import *
from funcnn.optimizers.large_batches import *
from funcnn.optimizers.matrices import *
from funcnn.optimizers.parts import *
from funcnn.optimizers.quasi_newton import *
from funcnn.optimizers.rms import *
from funcnn.optimizers.signs import *
from funcnn.optimizers.wrappers import *
