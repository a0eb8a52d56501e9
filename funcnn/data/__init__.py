"""Data: sets to learn from, batches of them, and changes of images, all as pure functions.

Examples
--------
>>> from funcnn import data, random
>>> train, test = data.split(random.key(0), data.digits(), 0.2)
>>> len(train), len(test), train.x.shape[1:]
(1437, 360, (1, 28, 28))
"""

from __future__ import annotations

from funcnn.data.batches import Batches, Dataset, split
from funcnn.data.images import resize
from funcnn.data.sets import digits, mnist, read_idx

__all__ = ["Batches", "Dataset", "digits", "mnist", "read_idx", "resize", "split"]
