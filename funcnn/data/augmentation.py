"""Changes of images, drawn anew for every batch: pure functions of a key.

An `Augmentation` is data, as an initializer is: it prints, pickles and compares. `augmentations` makes
one of several. `funcnn.fit` and `Batches` take one, or any function ``(key, x) -> x``. Where ``x`` is a
tuple or a dict, every image in it ``(N, C, H, W)`` is changed, all in the same way.

Examples
--------
>>> import numpy as np
>>> from funcnn import random
>>> from funcnn.data import augmentations, random_flip, random_shift
>>> change = augmentations(random_shift(2), random_flip())
>>> change
augmentations(random_shift(2), random_flip())
>>> change(random.key(0), np.ones((4, 1, 28, 28), np.float32)).shape
(4, 1, 28, 28)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import pi
from typing import Any, NamedTuple, cast

import numpy as np

from funcnn import checks, numerics, random, tree
from funcnn.data.examples import read_late
from funcnn.types import Array, Key

__all__ = [
    "Augmentation",
    "augmentations",
    "cutout",
    "random_affine",
    "random_crop",
    "random_flip",
    "random_shift",
]

# Degrees and pixels, beyond which an image would be turned or moved as if by chance.
_AMOUNT = checks.Number(minimum=0, maximum=1e6)


@dataclass(frozen=True, repr=False)
class Augmentation:
    """A change of a batch: call it with a key and the examples.

    Parameters
    ----------
    change : callable
        ``(key, x, *options) -> x``, or ``(key, x, y, *options) -> (x, y)``; a function at the top of
        a module, so that it can be pickled.
    options : tuple
        What `change` takes beyond the batch.
    shown : str
        How it prints: the call that made it.
    targets : bool, default False
        Whether it changes the targets, too.

    Examples
    --------
    >>> random_shift(2) == random_shift(2), random_shift(2) == random_shift(3)
    (True, False)
    """

    change: Callable[..., Any]
    options: tuple[Any, ...]
    shown: str
    targets: bool = False

    def __call__(self, key: Key, x: Any) -> Any:
        """The examples, changed.

        Raises
        ------
        TypeError
            If it changes the targets, too: `pair` does.
        """
        if self.targets:
            text = f"the targets change, too: write {self.shown}.pair(key, x, y)"
            checks.refuse_type(text, self.shown.partition("(")[0])
        return self.pair(key, x, None)[0]

    def pair(self, key: Key, x: Any, y: Any) -> tuple[Any, Any]:
        """The examples and their targets, changed."""
        return checks.named(self._changed, self.shown.partition("(")[0])(key, x, y)

    def _changed(self, key: Key, x: Any, y: Any) -> tuple[Any, Any]:
        checks.key(key)
        if self.targets:
            changed, targets = self.change(key, x, y, *self.options)
            return changed, targets
        return self.change(key, x, *self.options), y

    def __repr__(self) -> str:
        return self.shown


# --- several ------------------------------------------------------------------------------------------


@checks.named
def augmentations(*parts: Augmentation) -> Augmentation:
    """Make one change of several, one after the other.

    Parameters
    ----------
    *parts : Augmentation
        Each draws from a key of its own.

    Returns
    -------
    Augmentation

    Raises
    ------
    TypeError
        For something else.

    Examples
    --------
    >>> augmentations(random_flip(), cutout(8))
    augmentations(random_flip(), cutout(8))
    """
    for part in parts:
        if not isinstance(part, Augmentation):
            checks.refuse_type(f"every part must be an Augmentation, got {checks.shown(part)}")
    shown = f"augmentations({', '.join(map(repr, parts))})"
    targets = any(part.targets for part in parts)
    return Augmentation(_all_pairs if targets else _all, (parts,), shown, targets)


def _all(key: Key, x: Any, changes: tuple[Augmentation, ...]) -> Any:
    return _all_pairs(key, x, None, changes)[0]


def _all_pairs(key: Key, x: Any, y: Any, changes: tuple[Augmentation, ...]) -> tuple[Any, Any]:
    for i, change in enumerate(changes):
        x, y = change.pair(random.fold_in(key, i), x, y)
    return x, y


def _of_images(change: Callable[..., Array], options: tuple[Any, ...], shown: str) -> Augmentation:
    """A change of images ``(N, C, H, W)``, and of every image in a tuple or a dict, each alike."""
    return Augmentation(_each_image, (change, *options), shown)


class _Some(NamedTuple):
    """Which rows of a batch are changed: what is drawn is drawn for all, whoever changes some."""

    among: int
    rows: Any = slice(None)

    def of(self, drawn: Array) -> Array:
        return np.asarray(drawn[self.rows])


def _each_image(key: Key, x: Any, change: Callable[..., Array], *options: Any) -> Any:
    return _of_each(x, lambda array: change(key, _Some(*_shape(array)[:1] or [0]), array, *options))


def _of_each(x: Any, changed: Callable[[Any], Any]) -> Any:
    """The images changed; without any image, the change refuses what there is."""
    images = any(len(_shape(array)) == 4 for _, array in tree.leaves(x))
    return tree.map(lambda array: array if images and len(_shape(array)) != 4 else changed(array), x)


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(getattr(array, "shape", ()))


def goes_by_rows(change: object) -> bool:
    """Whether an example becomes the same whatever stands beside it in the batch."""
    if not isinstance(change, Augmentation):
        return False
    return change.change is _each_image or (
        change.change is _all and all(map(goes_by_rows, change.options[0]))
    )


def changed_late(augmentation: Augmentation, key: Key, x: Any) -> Any:
    """The examples of a change that goes by rows, each changed when it is looked at."""
    if augmentation.change is _all:
        for i, part in enumerate(augmentation.options[0]):
            x = changed_late(part, random.fold_in(key, i), x)
        return x
    change, *options = augmentation.options

    def late(array: Any) -> Any:
        count = len(array)

        @partial(checks.named, who=augmentation.shown.partition("(")[0])
        def read(index: Any) -> Array:
            some = _Some(count, np.arange(count)[index])
            return np.asarray(change(key, some, np.asarray(array[index]), *options))

        return read_late(count, read)

    return _of_each(x, late)


# --- moving -------------------------------------------------------------------------------------------


@checks.takes(probability=checks.Number(minimum=0, maximum=1), vertical=checks.Flag())
def random_flip(probability: float = 0.5, *, vertical: bool = False) -> Augmentation:
    """Mirror some of the images.

    Parameters
    ----------
    probability : float, default 0.5
        Of each image to be mirrored.
    vertical : bool, default False
        Whether up and down change places, instead of left and right.

    Returns
    -------
    Augmentation
        Of images ``(N, C, H, W)``.

    Raises
    ------
    ValueError, TypeError
        For a probability outside 0..1.

    Examples
    --------
    >>> random_flip(1.0)(random.key(0), np.array([[[[1.0, 2.0]]]]))
    array([[[[2., 1.]]]])
    """
    shown = [repr(probability)] if probability != 0.5 else []
    shown += ["vertical=True"] if vertical else []
    return _of_images(_flip, (probability, vertical), f"random_flip({', '.join(shown)})")


def _flip(key: Key, some: _Some, x: Array, probability: float, vertical: bool) -> Array:
    found = checks.ranked(x, "N, C, H, W")
    flipped = found[:, :, ::-1] if vertical else found[..., ::-1]
    chosen = some.of(random.bernoulli(key, probability, (some.among,)))
    return np.where(chosen[:, None, None, None], flipped, found)


@checks.takes(pixels=checks.Integer(0))
def random_shift(pixels: int) -> Augmentation:
    """Move each image by whole pixels, up to so many in both directions; zeros move in.

    Parameters
    ----------
    pixels : int
        The farthest move.

    Returns
    -------
    Augmentation
        Of images ``(N, C, H, W)``.

    Raises
    ------
    ValueError, TypeError
        For a number of pixels below 0; when called, for images that are smaller.

    Examples
    --------
    >>> random_shift(1)(random.key(0), np.ones((1, 1, 3, 3))).shape
    (1, 1, 3, 3)
    """
    return _of_images(_crop, (pixels, None), f"random_shift({pixels})")


@checks.takes(size=checks.Integers(2, 1), padding=checks.Integer(0))
def random_crop(size: int | tuple[int, int], padding: int = 0) -> Augmentation:
    """Cut a part out of each image, at a place of its own.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the part.
    padding : int, default 0
        Zeros on each side that may be cut out, too.

    Returns
    -------
    Augmentation
        Of images ``(N, C, H, W)``, to ``(N, C, *size)``.

    Raises
    ------
    ValueError, TypeError
        For a size below 1, or padding below 0; when called, for images that are too small, and for
        padding larger than they are.

    Notes
    -----
    As `torchvision.transforms.RandomCrop`; every place is equally likely.

    Examples
    --------
    >>> random_crop(32, padding=4)(random.key(0), np.ones((2, 3, 32, 32))).shape
    (2, 3, 32, 32)
    """
    height, width = cast(tuple[int, int], size)
    shown = f"random_crop({size!r}{f', padding={padding}' if padding else ''})"
    return _of_images(_crop, (padding, (height, width)), shown)


def _crop(key: Key, some: _Some, x: Array, padding: int, size: tuple[int, int] | None) -> Array:
    found = checks.ranked(x, "N, C, H, W")
    _check_side("padding" if size else "pixels", padding, found)
    height, width = size or (found.shape[2], found.shape[3])
    room = found.shape[2] + 2 * padding - height, found.shape[3] + 2 * padding - width
    if min(room) < 0:
        checks.refuse(f"`x` must be at least {height} x {width}, got shape {found.shape}")
    places = _places(key, some, room)
    padded = np.pad(found, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (2, 3))
    return np.ascontiguousarray(windows[np.arange(len(found)), :, places[0], places[1]])


def _check_side(name: str, pixels: int, images: Array) -> None:
    """Refuse more pixels than the images have on their longer side."""
    most = max(images.shape[2:])
    if pixels > most:
        text = f"`{name}` must be at most {most} for images of shape {images.shape}"
        checks.refuse(f"{text}, got {checks.shown(pixels)}")


def _places(key: Key, some: _Some, room: tuple[int, int]) -> tuple[Array, Array]:
    """For each image a row from 0 to ``room[0]``, and a column from 0 to ``room[1]``."""
    down, right = random.split(key)
    return (
        some.of(random.randint(down, (some.among,), 0, room[0] + 1)),
        some.of(random.randint(right, (some.among,), 0, room[1] + 1)),
    )


@checks.takes(rotation=_AMOUNT, scale=checks.Number(minimum=0, below=1), shear=_AMOUNT, shift=_AMOUNT)
def random_affine(
    *, rotation: float = 0.0, scale: float = 0.0, shear: float = 0.0, shift: float = 0.0
) -> Augmentation:
    """Turn, enlarge, slant and move each image a little, by amounts of its own.

    Parameters
    ----------
    rotation : float, default 0.0
        The largest angle, in degrees, either way.
    scale : float, default 0.0
        The largest change of size: 0.1 for sizes from 0.9 to 1.1.
    shear : float, default 0.0
        The largest slant: how many pixels to the side for each pixel down, either way.
    shift : float, default 0.0
        The farthest move, in pixels, down and across.

    Returns
    -------
    Augmentation
        Of images ``(N, C, H, W)``; zeros move in.

    Raises
    ------
    ValueError, TypeError
        For amounts below 0, or above 1e6, or a change of size of 1 or more.

    Notes
    -----
    All amounts are uniform. Pixel values are interpolated bilinearly, around the image's centre: the
    result at ``p`` is the image at ``A p + t`` with
    ``A = [[cos a, -sin a], [sin a, cos a]] [[1, 0], [s, 1]] / size``.

    References
    ----------
    P. Simard, D. Steinkraus and J. Platt, "Best practices for convolutional neural networks applied
    to visual document analysis", 2003.

    Examples
    --------
    >>> random_affine(rotation=10, shift=1.5)(random.key(0), np.ones((2, 1, 8, 8))).shape
    (2, 1, 8, 8)
    """
    options = {"rotation": rotation, "scale": scale, "shear": shear, "shift": shift}
    shown = ", ".join(f"{name}={value!r}" for name, value in options.items() if value)
    return _of_images(_affine, tuple(options.values()), f"random_affine({shown})")


def _affine(
    key: Key, some: _Some, x: Array, rotation: float, scale: float, shear: float, shift: float
) -> Array:
    found = checks.ranked(x, "N, C, H, W")
    _, _, height, width = found.shape
    turn, size, slant, down, right = (
        limit * random.uniform(own, (some.among, 1, 1), -1.0, 1.0, dtype=np.float64)
        for own, limit in zip(
            random.split(key, 5), (rotation * pi / 180, scale, shear, shift, shift), strict=True
        )
    )
    y = np.arange(height)[:, None] - (height - 1) / 2  # of the result, around its centre
    x_ = np.arange(width)[None, :] - (width - 1) / 2
    sine, cosine, size, slant, down, right = map(
        some.of, (numerics.sin(turn), numerics.cos(turn), size, slant, down, right)
    )
    across = x_ + slant * y
    rows = (cosine * y - sine * across) / (1 + size) + down + (height - 1) / 2  # N, H, W
    columns = (sine * y + cosine * across) / (1 + size) + right + (width - 1) / 2
    return _interpolated(found, rows, columns)


def _interpolated(images: Array, rows: Array, columns: Array) -> Array:
    """The images at places between their pixels; zeros outside."""
    count, channels, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = np.clip(rows + 1, 0, height + 1)
    columns = np.clip(columns + 1, 0, width + 1)
    top = np.minimum(rows.astype(np.int64), height)
    left = np.minimum(columns.astype(np.int64), width)
    below = (rows - top).astype(images.dtype)[:, None]
    beside = (columns - left).astype(images.dtype)[:, None]
    flat = padded.reshape(count, channels, (height + 2) * (width + 2))
    first = (top * (width + 2) + left).reshape(count, 1, height * width)

    def pixels(offset: int) -> Array:
        taken = np.take_along_axis(flat, first + offset, 2)
        return taken.reshape(images.shape)

    upper = pixels(0) * (1 - beside) + pixels(1) * beside
    lower = pixels(width + 2) * (1 - beside) + pixels(width + 3) * beside
    out: Array = upper * (1 - below) + lower * below
    return out


# --- hiding -------------------------------------------------------------------------------------------


@checks.takes(size=checks.Integer(1))
def cutout(size: int) -> Augmentation:
    """Hide a square of each image behind zeros.

    Parameters
    ----------
    size : int
        The side of the square, in pixels.

    Returns
    -------
    Augmentation
        Of images ``(N, C, H, W)``.

    Raises
    ------
    ValueError, TypeError
        For a size below 1; when called, for images that are smaller.

    Notes
    -----
    The square's centre is any pixel, so that a part of the square may lie outside.

    References
    ----------
    T. DeVries and G. Taylor, "Improved regularization of convolutional neural networks with cutout",
    2017.

    Examples
    --------
    >>> int(np.count_nonzero(cutout(3)(random.key(2), np.ones((1, 1, 6, 6))) == 0))
    9
    """
    return _of_images(_cutout, (size,), f"cutout({size})")


def _cutout(key: Key, some: _Some, x: Array, size: int) -> Array:
    found = checks.ranked(x, "N, C, H, W")
    _check_side("size", size, found)
    _, _, height, width = found.shape
    rows, columns = _places(key, some, (height - 1, width - 1))

    def hidden(centres: Array, length: int) -> Array:
        first = centres[:, None] - size // 2
        at = np.arange(length)
        return (at >= first) & (at < first + size)

    square = hidden(rows, height)[:, :, None] & hidden(columns, width)[:, None, :]
    return np.where(square[:, None], found.dtype.type(0), found)
