"""The public names of `funcnn.training`, and where each has its home."""

from funcnn.training.evaluation import *
from funcnn.training.events import *
from funcnn.training.gradients import *
from funcnn.training.loop import *
from funcnn.training.results import *
from funcnn.training.state import *
from funcnn.training.trackers import *
