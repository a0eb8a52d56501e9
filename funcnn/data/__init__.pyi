"""The public names of `funcnn.data`, and where each has its home."""

from funcnn.data.augmentation import *
from funcnn.data.batches import *
from funcnn.data.examples import prepared as prepared
from funcnn.data.files import *
from funcnn.data.frames import *
from funcnn.data.images import *
from funcnn.data.loading import *
from funcnn.data.mixing import *
from funcnn.data.pictures import *
from funcnn.data.scaling import *
from funcnn.data.sets import *
from funcnn.data.tables import *
from funcnn.data.texts import *
from funcnn.data.toys import *
