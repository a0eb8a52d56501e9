"""The public names of `funcnn.tree`, and where each has its home."""

from funcnn.tree.digests import *
from funcnn.tree.verbs import *
from funcnn.tree.walking import *
