"""Data: sets to learn from, batches of them, and changes of images, all as pure functions.

Examples
--------
>>> from funcnn import data, random
>>> train, test = data.split(random.key(0), data.digits(), 0.2)
>>> len(train), len(test), train.x.shape[1:]
(1437, 360, (1, 28, 28))
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
