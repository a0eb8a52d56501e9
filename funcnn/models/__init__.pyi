"""The public names of `funcnn.models`, and where each has its home."""

from funcnn.models.generation import *
from funcnn.models.text import *
from funcnn.models.transformer import *
from funcnn.models.vision import *
