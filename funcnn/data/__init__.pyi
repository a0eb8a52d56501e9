"""The public names of `funcnn.data`, and where each has its home."""

from funcnn.data.augmentation import (
    Augmentation as Augmentation,
    augmentations as augmentations,
    cutout as cutout,
    mixup as mixup,
    random_affine as random_affine,
    random_crop as random_crop,
    random_flip as random_flip,
    random_shift as random_shift,
)
from funcnn.data.batches import (
    Batches as Batches,
    Dataset as Dataset,
    split as split,
)
from funcnn.data.examples import prepared as prepared
from funcnn.data.files import read_csv as read_csv, read_npy as read_npy, read_npz as read_npz
from funcnn.data.images import pixels as pixels, resize as resize
from funcnn.data.scaling import (
    Normalization as Normalization,
    normalization as normalization,
    normalize as normalize,
)
from funcnn.data.sets import (
    cifar10 as cifar10,
    digits as digits,
    mnist as mnist,
    read_idx as read_idx,
)
from funcnn.data.toys import blobs as blobs, moons as moons, spirals as spirals, xor as xor
