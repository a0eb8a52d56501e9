"""The public names of `funcnn.schedules`, and where each has its home."""

from funcnn.schedules.core import *
from funcnn.schedules.curves import *
from funcnn.schedules.joined import *
