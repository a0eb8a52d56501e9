"""The public names of `funcnn.testing`, and where each has its home."""

from funcnn.testing._digests import *
from funcnn.testing._laws import *
from funcnn.testing._layer_laws import *
from funcnn.testing._loss_laws import *
from funcnn.testing._portability import *
from funcnn.testing._subject import *
