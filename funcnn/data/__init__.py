"""Data: sets to learn from, batches of them, and changes of images, all as pure functions.

Examples
--------
>>> from funcnn import data, random
>>> train, test = data.split(random.key(0), data.digits(), 0.2)
>>> len(train), len(test), train.x.shape[1:]
(1437, 360, (1, 28, 28))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from funcnn._lazy import lazily

if TYPE_CHECKING:
    from funcnn.data.augmentation import (
        Augmentation,
        augmentations,
        cutout,
        mixup,
        random_affine,
        random_crop,
        random_flip,
        random_shift,
    )
    from funcnn.data.batches import Batches, Dataset, prepared, split
    from funcnn.data.files import read_csv, read_npy, read_npz
    from funcnn.data.images import pixels, resize
    from funcnn.data.scaling import Normalization, normalization, normalize
    from funcnn.data.sets import cifar10, digits, mnist, read_idx
    from funcnn.data.toys import blobs, moons, spirals, xor

__all__ = [
    "Augmentation",
    "Batches",
    "Dataset",
    "Normalization",
    "augmentations",
    "blobs",
    "cifar10",
    "cutout",
    "digits",
    "mixup",
    "mnist",
    "moons",
    "normalization",
    "normalize",
    "pixels",
    "prepared",
    "random_affine",
    "random_crop",
    "random_flip",
    "random_shift",
    "read_csv",
    "read_idx",
    "read_npy",
    "read_npz",
    "resize",
    "spirals",
    "split",
    "xor",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "augmentation": (
            "Augmentation augmentations cutout mixup random_affine random_crop random_flip "
            "random_shift"
        ),
        "batches": "Batches Dataset prepared split",
        "files": "read_csv read_npy read_npz",
        "images": "pixels resize",
        "scaling": "Normalization normalization normalize",
        "sets": "cifar10 digits mnist read_idx",
        "toys": "blobs moons spirals xor",
    },
)
