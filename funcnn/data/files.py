"""Files to learn from: NumPy's own, and arrays that stay on the disk."""

from __future__ import annotations

from os import PathLike

import numpy as np

from funcnn import checks, files
from funcnn.data.batches import Dataset
from funcnn.types import Array

__all__ = ["read_npy", "read_npz"]


@checks.takes(x=checks.STR, y=checks.STR)
def read_npz(path: str | PathLike[str], x: str = "x", y: str = "y") -> Dataset:
    """Read examples and targets from a ``.npz`` file.

    Parameters
    ----------
    path : path
        The file, as `numpy.savez` writes it.
    x, y : str
        The names of the arrays.

    Returns
    -------
    Dataset
        In the dtypes of the file, and the machine's byte order.

    Raises
    ------
    ValueError
        For a file that is broken, lacks an array, holds anything but numbers and booleans of up to
        64 bits, or has not one target for each example.
    OSError
        For a file that cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "set.npz"
    >>> np.savez(file, images=np.zeros((2, 3)), labels=np.array([0, 1]))
    >>> len(read_npz(file, "images", "labels"))
    2
    """
    where = files.checked_path(path)
    with files.opened(where) as file, files.whole(where, "a whole .npz file"):
        if file.read(6) == files.NPY:
            raise ValueError("it is one array, not several")
        archive = files.Archive(file, deflated=True)
        for name in (x, y):
            if f"{name}.npy" not in archive.names():
                known = ", ".join(sorted(other.removesuffix(".npy") for other in archive.names()))
                raise ValueError(f"it has no {checks.shown(name)}, only {known or 'nothing'}")
        return _one_each(where, archive.array(f"{x}.npy"), archive.array(f"{y}.npy"))


@checks.named
def read_npy(x: str | PathLike[str], y: str | PathLike[str]) -> Dataset:
    """Open examples and targets in ``.npy`` files that stay on the disk: they may exceed the memory.

    Parameters
    ----------
    x, y : path
        The files, as `numpy.save` writes them.

    Returns
    -------
    Dataset
        Of read-only, memory-mapped arrays: `Batches`, `funcnn.fit` and `funcnn.evaluate` read no
        more than a batch at a time.

    Raises
    ------
    ValueError
        For files that are broken, hold anything but numbers and booleans of up to 64 bits, or have
        not one target for each example.
    OSError
        For files that cannot be opened.

    Notes
    -----
    `funcnn.data.split` makes copies; the parts of such a set are slices: ``set.take(slice(0, n))``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "x.npy", np.zeros((100, 3), np.float32))
    >>> np.save(folder / "y.npy", np.zeros(100, int))
    >>> type(read_npy(folder / "x.npy", folder / "y.npy").x).__name__
    'memmap'
    """
    first, second = files.checked_path(x, "x"), files.checked_path(y, "y")
    return _one_each(first, _mapped(first), _mapped(second))


def _mapped(path: str) -> Array:
    with files.opened(path) as file, files.whole(path, "a whole .npy file"):
        if file.read(4) == b"PK\3\4":
            files.refuse(path, "must be a .npy file, got several arrays")
        file.seek(0)
        header = files.npy_header(file)
        header.check(files.size(file))
        if 0 in header.shape:  # nothing cannot be mapped
            return np.empty(header.shape, header.dtype)
        return files.checked_booleans(
            np.memmap(file, header.dtype, "r", header.length, header.shape, header.order)
        )


def _one_each(path: str, x: Array, y: Array) -> Dataset:
    if not x.ndim or not y.ndim or len(x) != len(y):
        files.refuse(path, f"must have one target for each example, got {x.shape} and {y.shape}")
    return Dataset(x, y)
