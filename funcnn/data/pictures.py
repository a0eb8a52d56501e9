"""A folder of pictures, with a folder for each class."""

from __future__ import annotations

import os
import warnings
from os import PathLike
from typing import Any, cast

import numpy as np

from funcnn import checks, files
from funcnn.data.tables import Table
from funcnn.types import Array

__all__ = ["read_image_folder"]

_KINDS = (".png", ".jpg", ".jpeg")
_MOST = 2**26  # pixels of one picture, 64 million: a bomb of a few kilobytes can claim more
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@checks.takes(size=checks.Integers(2, 1), channels=checks.Integer())
def read_image_folder(
    path: str | PathLike[str], *, size: int | tuple[int, int], channels: int = 3
) -> Table:
    """Read the pictures of a folder, PNG and JPEG, whose folders are the classes.

    Parameters
    ----------
    path : path
        The folder: ``rose/1.png``, ``rose/2.jpg``, ``iris/1.png``.
    size : int or tuple of int
        Height and width that all pictures get.
    channels : int, default 3
        1 for shades of grey, 3 for colours, 4 for colours with transparency.

    Returns
    -------
    Table
        A `Dataset`: ``x``: float32 in 0..1, ``(N, channels, height, width)``; ``y``: int64, ``(N,)``;
        in the order of the classes' names, which ``words["class"]`` holds, and of the files' names.

    Raises
    ------
    ValueError
        For a folder without classes, a class without pictures, and a file that is no whole picture
        or has more than 64 million pixels, with its name.
    OSError
        For a folder that cannot be opened.
    ImportError
        Without Pillow: ``pip install "funcnn[images]"``.

    Notes
    -----
    Pictures are turned as their camera says, and resized by area and lines between pixels (Pillow's
    bilinear filter). Files of other kinds, and those whose names begin with a dot, are left alone.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("rose", "iris"):
    ...     (folder / name).mkdir()
    ...     Image.new("RGB", (8, 6), "red").save(folder / name / "1.png")
    >>> found = read_image_folder(folder, size=4)
    >>> found.x.shape, found.y, found.words["class"]
    ((2, 3, 4, 4), array([0, 1]), ('iris', 'rose'))
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ImportError('Pillow is needed: pip install "funcnn[images]"') from None
    height, width = cast(tuple[int, int], size)
    if channels not in _MODES:
        checks.refuse(f"`channels` must be 1, 3 or 4, got {checks.shown(channels)}")
    where = files.checked_path(path)
    with files.named(where):
        classes = sorted(entry.name for entry in os.scandir(where) if _is_class(entry))
    if not classes:
        files.refuse(where, "must have a folder for each class, got none")

    def picture(name: str) -> Array:
        try:
            with (
                warnings.catch_warnings(),
                files.opened(name) as file,
                Image.open(file, formats=("PNG", "JPEG")) as image,
            ):
                warnings.simplefilter("ignore")  # of large pictures and odd metadata
                if image.width * image.height > _MOST:
                    files.refuse(name, f"must have at most {_MOST} pixels, got {image.size}")
                turned = ImageOps.exif_transpose(image)
                if turned.mode.startswith("I"):  # 16 bits, which Pillow would cut off
                    turned = Image.fromarray((np.asarray(turned) / 257).round().astype(np.uint8))
                small = turned.convert(_MODES[channels]).resize(
                    (width, height), Image.Resampling.BILINEAR
                )
                return np.asarray(small, np.float32).reshape(height, width, channels)
        except checks.Refusal:
            raise
        except Exception as problem:  # Pillow raises errors of all kinds for broken files
            files.refuse(name, f"must be a whole picture: {files.short(str(problem))}")

    names = [(code, name) for code, label in enumerate(classes) for name in _pictures(where, label)]
    x = np.empty((len(names), channels, height, width), np.float32)
    for i, (_, name) in enumerate(names):
        x[i] = picture(name).transpose(2, 0, 1)
    x /= 255
    y = np.array([code for code, _ in names], np.int64)
    return Table(x, y, (), {"class": tuple(classes)})


def _is_class(entry: Any) -> bool:
    return bool(entry.is_dir()) and not entry.name.startswith(".")


def _pictures(folder: str, label: str) -> list[str]:
    """The files of one class, in the order of their names."""
    inside = os.path.join(folder, label)
    kept = [
        name
        for name in os.listdir(inside)
        if name.lower().endswith(_KINDS) and not name.startswith(".")
    ]
    if not kept:
        files.refuse(inside, "must hold PNG or JPEG files, got none")
    return [os.path.join(inside, name) for name in sorted(kept)]
