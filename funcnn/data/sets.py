"""Data sets that are shipped, and the formats of those that are not."""

from __future__ import annotations

import gzip
import os
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from funcnn import checks, files
from funcnn.data.batches import Dataset
from funcnn.data.images import pixels, resize
from funcnn.types import Array

__all__ = ["cifar10", "digits", "mnist", "read_idx"]

# The third byte of an IDX file says what its elements are; they are stored big-endian.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@checks.takes(size=checks.Integer(1))
def digits(size: int = 28) -> Dataset:
    """1,797 handwritten digits, shipped with the package.

    Parameters
    ----------
    size : int, default 28
        Height and width, enlarged from 8 x 8 by bilinear interpolation.

    Returns
    -------
    Dataset
        ``x``: float32, ``(1797, 1, size, size)``, 0 (paper) to 1 (ink); ``y``: int64, 0 to 9.

    References
    ----------
    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998 (its test set), CC BY 4.0.

    Examples
    --------
    >>> from funcnn.data import digits
    >>> digits().x.shape, digits(8).x.max(), digits().y[:4]
    ((1797, 1, 28, 28), np.float32(1.0), array([0, 1, 2, 3]))
    """
    with np.load(Path(__file__).with_name("digits_8x8.npz")) as stored:
        images = stored["images"].astype(np.float32)[:, None] / np.float32(16)
        labels = stored["labels"].astype(np.int64)
    return Dataset(images if size == 8 else resize(images, (size, size)), labels)


@checks.takes(memory_map=checks.Flag())
def read_idx(path: str | PathLike[str], *, memory_map: bool = False) -> Array:
    """Read an array from an IDX file, the format of MNIST, gzipped or not.

    Parameters
    ----------
    path : path
        The file.
    memory_map : bool, default False
        Whether the values stay on the disk until they are used: they may exceed the memory, but
        must not be gzipped.

    Returns
    -------
    ndarray
        In the machine's byte order; a memory-mapped one is read-only, and in the file's.

    Raises
    ------
    ValueError
        For a file that is not IDX, is cut short, or is longer than it says.
    OSError
        For a file that cannot be opened.

    References
    ----------
    Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", 1998.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two-labels"
    >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3]))
    >>> read_idx(file)
    array([7, 3], dtype=uint8)
    """
    where = files.checked_path(path)
    with files.opened(where) as file, files.whole(where, "a whole IDX file"):
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if zipped and memory_map:
            files.refuse(where, "must be unzipped to be memory-mapped")
        source: Any = gzip.GzipFile(fileobj=file) if zipped else file
        dtype, shape, header = _idx_header(where, source)
        wanted, there = header + prod(shape) * dtype.itemsize, files.size(file)
        if wanted > there * files.DEFLATE if zipped else wanted != there:
            text = f"must have {wanted} bytes for shape {shape}, got {there}"
            files.refuse(where, text + " zipped" * zipped)
        try:
            if memory_map:
                return np.memmap(file, np.uint8, "r")[header:].view(dtype).reshape(shape)
            found = np.empty(shape, dtype)
        except ValueError as problem:  # too many axes, or an empty array with a giant one
            files.refuse(where, f"must have a shape that NumPy can hold: {problem}")
        files.fill(source, found)
        if source.read(1):  # at the end, gzip's own sum is checked
            files.refuse(where, f"must have {wanted} bytes for shape {shape}, got more")
        return files.native(found)


def _idx_header(path: str, file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """The dtype, the shape, and how many bytes say so."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES:
        files.refuse(path, f"must be an IDX file, got {start.hex() or 'nothing'}")
    length = 4 * start[3]
    sizes = file.read(length)
    if len(sizes) < length:
        files.refuse(path, f"must have a header of {4 + length} bytes, got {4 + len(sizes)}")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    return np.dtype(_IDX_TYPES[start[2]]), shape, 4 + length


@checks.named
def mnist(directory: str | PathLike[str], part: str = "train") -> Dataset:
    """Read MNIST, or Fashion-MNIST, from its IDX files.

    Parameters
    ----------
    directory : path
        Where ``train-images-idx3-ubyte`` and its siblings lie, each with ``.gz`` or without.
    part : "train" or "test", default "train"
        60,000 images to train on, or 10,000 to test on.

    Returns
    -------
    Dataset
        ``x``: float32, ``(N, 1, 28, 28)``, 0 to 1; ``y``: int64, 0 to 9.

    Raises
    ------
    ValueError
        For files that are missing, broken, or do not belong together.

    References
    ----------
    Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    Examples
    --------
    >>> from funcnn.data import mnist
    >>> mnist("nowhere")
    Traceback (most recent call last):
    ...
    funcnn.checks.RefusedValue: mnist: nowhere must hold train-images-idx3-ubyte (or .gz)
    """
    stem = {"train": "train", "test": "t10k"}[checks.Choice("train", "test").check("part", part)]
    where = files.checked_folder(directory)
    images = read_idx(_existing(where, f"{stem}-images-idx3-ubyte"))
    labels = read_idx(_existing(where, f"{stem}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.ndim != 1 or images.dtype != np.uint8 or labels.dtype != np.uint8:
        got = f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
        files.refuse(where, f"must hold byte images (N, H, W) and labels (N,), got {got}")
    if len(images) != len(labels):
        got = f"{len(labels)} for {len(images)}"
        files.refuse(where, f"must hold one label for each image, got {got}")
    checks.labels(labels, 10, "labels")
    return Dataset(pixels(images), labels.astype(np.int64))


def _existing(directory: str, name: str) -> str:
    """The file, plain or gzipped."""
    plain = os.path.join(directory, name)
    for path in (plain, f"{plain}.gz"):
        if os.path.isfile(path):
            return path
    return files.refuse(directory, f"must hold {name} (or .gz)")


_CIFAR_RECORD = 1 + 3 * 32 * 32  # the label, then the red, green and blue pixels row by row


@checks.takes(part=checks.Choice("train", "test"))
def cifar10(directory: str | PathLike[str], part: str = "train") -> Dataset:
    """Read CIFAR-10 from its binary files.

    Parameters
    ----------
    directory : path
        Where ``data_batch_1.bin`` and its siblings lie.
    part : "train" or "test", default "train"
        50,000 images to train on, or 10,000 to test on.

    Returns
    -------
    Dataset
        ``x``: float32, ``(N, 3, 32, 32)``, 0 to 1; ``y``: int64, 0 to 9 for airplane, automobile,
        bird, cat, deer, dog, frog, horse, ship, truck.

    Raises
    ------
    ValueError
        For files that are missing or broken.

    References
    ----------
    A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Examples
    --------
    >>> from funcnn.data import cifar10
    >>> cifar10("nowhere", "test")
    Traceback (most recent call last):
    ...
    funcnn.checks.RefusedValue: cifar10: nowhere must hold test_batch.bin
    """
    names = ["test_batch.bin"] if part == "test" else [f"data_batch_{i}.bin" for i in range(1, 6)]
    where = files.checked_folder(directory)
    records = np.concatenate([_cifar_records(where, name) for name in names])
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    return Dataset(pixels(images), records[:, 0].astype(np.int64))


def _cifar_records(directory: str, name: str) -> Array:
    path = os.path.join(directory, name)
    if not os.path.isfile(path):
        files.refuse(directory, f"must hold {name}")
    with files.opened(path) as file:
        size = files.size(file)
        if not size or size % _CIFAR_RECORD:
            files.refuse(path, f"must have records of {_CIFAR_RECORD} bytes, got {size} bytes")
        records = files.fill(file, np.empty((size // _CIFAR_RECORD, _CIFAR_RECORD), np.uint8))
    checks.labels(records[:, 0], 10, f"labels in {files.short_path(path)}")
    return records
