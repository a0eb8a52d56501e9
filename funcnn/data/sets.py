"""Data sets that are shipped, and the formats of those that are not."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from os import PathLike
from pathlib import Path

import numpy as np

from funcnn import _checks
from funcnn.data.batches import Dataset
from funcnn.data.images import resize
from funcnn.types import Array

__all__ = ["digits", "mnist", "read_idx"]

# The third byte of an IDX file says what its elements are; they are stored big-endian.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


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
    size = _checks.integer("digits", "size", size, 1)
    with np.load(Path(__file__).with_name("digits_8x8.npz")) as stored:
        images = stored["images"].astype(np.float32)[:, None] / np.float32(16)
        labels = stored["labels"].astype(np.int64)
    return Dataset(images if size == 8 else resize(images, (size, size)), labels)


def read_idx(path: str | PathLike[str]) -> Array:
    """Read an array from an IDX file, the format of MNIST, gzipped or not.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ndarray
        In the machine's byte order.

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
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
            _checks.refuse("read_idx", f"{path} must be whole, got a broken gzip file ({problem})")
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        _checks.refuse("read_idx", f"{path} must be an IDX file, got {content[:4].hex() or 'nothing'}")
    dtype, rank = np.dtype(_IDX_TYPES[content[2]]), content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        _checks.refuse("read_idx", f"{path} must have a header of {header} bytes, got {len(content)}")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", rank, 4))
    wanted = header + prod(shape) * dtype.itemsize
    if len(content) != wanted:
        _checks.refuse(
            "read_idx", f"{path} must have {wanted} bytes for shape {shape}, got {len(content)}"
        )
    return np.frombuffer(content, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))


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
    funcnn._checks.RefusedValue: mnist: nowhere must hold train-images-idx3-ubyte (or .gz)
    """
    stem = {"train": "train", "test": "t10k"}[_checks.choice("mnist", "part", part, ("train", "test"))]
    images = read_idx(_existing(directory, f"{stem}-images-idx3-ubyte"))
    labels = read_idx(_existing(directory, f"{stem}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.ndim != 1 or images.dtype != np.uint8 or labels.dtype != np.uint8:
        _checks.refuse(
            "mnist",
            f"{directory} must hold byte images (N, H, W) and labels (N,), "
            f"got {images.dtype} {images.shape} and {labels.dtype} {labels.shape}",
        )
    if len(images) != len(labels):
        _checks.refuse(
            "mnist",
            f"{directory} must hold one label for each image, got {len(labels)} for {len(images)}"
        )
    _checks.labels("mnist", labels, 10, "labels")
    pixels = images.astype(np.float32)[:, None] / np.float32(255)
    return Dataset(pixels, labels.astype(np.int64))


def _existing(directory: str | PathLike[str], name: str) -> Path:
    """The file, plain or gzipped."""
    plain, zipped = Path(directory) / name, Path(directory) / f"{name}.gz"
    if not plain.is_file() and not zipped.is_file():
        _checks.refuse("mnist", f"{directory} must hold {name} (or .gz)")
    return plain if plain.is_file() else zipped
