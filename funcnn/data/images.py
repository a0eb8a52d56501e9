"""Images in, images out."""

from __future__ import annotations

import numpy as np

from funcnn import checks
from funcnn.types import Array

__all__ = ["pixels", "resize"]


@checks.named
def pixels(images: Array) -> Array:
    """Bytes from 0 to 255 as float32 from 0 to 1, with an axis for the channels.

    Parameters
    ----------
    images : ndarray of uint8, ``(N, H, W)`` or ``(N, C, H, W)``
        As files hold them.

    Returns
    -------
    ndarray of float32, ``(N, C, H, W)``
        With one channel where there was no such axis.

    Raises
    ------
    ValueError, TypeError
        For something other than a batch of images of bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.data import pixels
    >>> pixels(np.array([[[0, 255]]], np.uint8))
    array([[[[0., 1.]]]], dtype=float32)
    """
    found = checks.array(images, "images")
    if found.dtype != np.uint8:
        checks.refuse_type(f"`images` must be uint8, got {found.dtype}")
    if found.ndim not in (3, 4):
        checks.refuse(f"`images` must have axes (N, H, W) or (N, C, H, W), got shape {found.shape}")
    floats = found.astype(np.float32)
    floats /= np.float32(255)
    return floats[:, None] if found.ndim == 3 else floats


@checks.takes(size=checks.Integers(2, 1))
def resize(images: Array, size: tuple[int, int]) -> Array:
    """Enlarge or shrink images by bilinear interpolation.

    Parameters
    ----------
    images : ndarray of floats, ``(N, C, H, W)``
        What to resize.
    size : (int, int)
        The new height and width.

    Returns
    -------
    ndarray, ``(N, C, *size)``

    Raises
    ------
    ValueError, TypeError
        For something other than a batch of float images.

    Notes
    -----
    Pixel centres lie at half-integers, and what lies beyond the outermost centres takes their
    value: PyTorch's ``interpolate(mode="bilinear", align_corners=False)``.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.data import resize
    >>> resize(np.array([[[[0.0, 1.0]]]]), (1, 4))
    array([[[[0.  , 0.25, 0.75, 1.  ]]]])
    """
    found = checks.ranked(images, "N, C, H, W", "images")
    return _along(_along(found, 2, size[0]), 3, size[1])


def _along(images: Array, axis: int, size: int) -> Array:
    """Interpolate along one axis."""
    old = images.shape[axis]
    centres = (np.arange(size) + 0.5) * (old / size) - 0.5
    centres = np.clip(centres, 0, old - 1)
    low = np.minimum(centres.astype(np.int64), max(old - 2, 0))
    high = np.minimum(low + 1, old - 1)
    shape = [1] * images.ndim
    shape[axis] = size
    weight = (centres - low).astype(images.dtype).reshape(shape)
    resized: Array = images.take(low, axis) * (1 - weight) + images.take(high, axis) * weight
    return resized
