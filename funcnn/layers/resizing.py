"""Layers that change the size of sequences, images and volumes, and compute next to nothing."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks
from funcnn._kernels import borders, upsampling
from funcnn._kernels.axes import channels_second, channels_second_shape
from funcnn._kernels.shapes import rearranged
from funcnn.checks import Choice, Flag, Integer, Number, Optional, Several, Sizes, When, declared, shown
from funcnn.parameterless import moving
from funcnn.types import Array, Image, Layer, Preserving

__all__ = ["channel_shuffle", "crop", "pad", "pixel_shuffle", "pixel_unshuffle", "upsample"]

Widths = int | tuple[int | tuple[int, int], ...]
_WIDTHS = Several(Sizes(2))


@declared(
    widths=_WIDTHS,
    mode=Choice("constant", "reflect", "replicate", "circular"),
    value=When(Number(held=True), "mode", "constant"),
)
def pad(widths: Widths, *, mode: str = "constant", value: float = 0.0) -> Preserving:
    """Put a border around each example, along the axes of space or time.

    Parameters
    ----------
    widths : int, or one int or (low, high) pair for each axis of space or time
        How many elements to add before the first and after the last: ``pad(2)`` on all sides,
        ``pad((2, 1))`` twice 2 in height and twice 1 in width, ``pad(((3, 0),))`` before a sequence.
    mode : "constant", "reflect", "replicate" or "circular", default "constant"
        What the border shows: `value`; the image in a mirror, its edge not repeated; the edge; the
        image once more.
    value : float, default 0.0
        Of a constant border.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, images or volumes, or smaller than what the
        border repeats of it.

    Notes
    -----
    ``H' = H + low + high``. Pullback: the gradient of each copy goes back to its original.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import pad
    >>> pad(((2, 1),), mode="reflect").apply({}, np.array([[[1.0], [2.0], [3.0]]]))[0].ravel()
    array([3., 2., 1., 2., 3., 2.])
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        pairs = _pairs(widths, shape)
        batch, channels, *spatial = channels_second_shape(shape)
        if not borders.repeatable(tuple(spatial), pairs, mode):
            checks.refuse(f"`x` must not be smaller than its border {pairs}, got shape {shape}")
        return channels_second_shape((batch, channels, *borders.grown(tuple(spatial), pairs)))

    def forward(x: Array) -> Array:
        pairs = _pairs(widths, x.shape)
        return channels_second(borders.pad(channels_second(x), pairs, mode, value))

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        pairs, spatial = _pairs(widths, shape), channels_second_shape(shape)[2:]
        return channels_second(borders.pad_gradient(channels_second(dout), spatial, pairs, mode))

    return moving(Preserving, forward, backward, out_shape, min_rank=3)


@declared(widths=_WIDTHS)
def crop(widths: Widths) -> Preserving:
    """Cut off the border of each example, along the axes of space or time.

    Parameters
    ----------
    widths : int, or one int or (low, high) pair for each axis of space or time
        How many elements to leave out before the first and after the last, as in `pad`.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, images or volumes, or of which nothing would
        be left.

    Notes
    -----
    ``H' = H - low - high``; the output is a view. Pullback: zeros where the border was.

    Examples
    --------
    >>> from funcnn import crop, random
    >>> crop(((0, 1), 2)).init(random.key(0), (32, 3, 29, 32))[0]
    (32, 3, 28, 28)
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        pairs = _pairs(widths, shape)
        batch, channels, *spatial = channels_second_shape(shape)
        left = tuple(n - low - high for n, (low, high) in zip(spatial, pairs, strict=True))
        if min(left) < 1:
            checks.refuse(f"`x` must be larger than the border {pairs}, got shape {shape}")
        return channels_second_shape((batch, channels, *left))

    def forward(x: Array) -> Array:
        return channels_second(borders.crop(channels_second(x), _pairs(widths, x.shape)))

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        pairs = _pairs(widths, shape)
        return channels_second(borders.pad(channels_second(dout), pairs, "constant", 0.0))

    return moving(Preserving, forward, backward, out_shape, min_rank=3)


class _Factor(NamedTuple):
    """A positive number; an int stays one."""

    def check(self, name: str, value: Any, /) -> float:
        number = Number(above=0, maximum=2.0**31)
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        return Integer(1).check(name, value) if whole else number.check(name, value)

    def wrong(self) -> tuple[object, ...]:
        return (0, *Number(above=0).wrong())


_LINES = ("linear", "bilinear", "trilinear", "bicubic")
_AXES = {"linear": "N, T, F", "trilinear": "N, C, D, H, W"}


@declared(
    scale=Optional(Several(_Factor())),
    size=Optional(Several(Integer(1))),
    mode=Choice("nearest", "nearest-exact", *_LINES),
    align_corners=When(Flag(), "mode", *_LINES),
)
def upsample(
    scale: float | tuple[float, ...] | None = None,
    *,
    size: int | tuple[int, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Preserving:
    """Make sequences, images or volumes larger or smaller, along the axes of space or time.

    Parameters
    ----------
    scale : float, or one for each axis of space or time, optional
        How many pixels stand for one: ``H' = floor(H scale)``.
    size : int, or one for each axis, optional
        In place of a scale, how many come out.
    mode : str, default "nearest"
        ``"nearest"`` repeats pixels, ``"nearest-exact"`` those that lie nearest to the new centres.
        ``"linear"`` (sequences), ``"bilinear"`` (images) and ``"trilinear"`` (volumes) draw lines
        between the centres, ``"bicubic"`` (images) curves.
    align_corners : bool, default False
        For lines and curves: whether the centres of the corner pixels stay in the corners, instead
        of the outer edges of these pixels.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of what the mode is for, or of which nothing would be left.

    Notes
    -----
    Output row ``i`` lies at row ``s = (i + 1/2) / scale - 1/2`` of the input, or with `align_corners`
    at ``s = i (H - 1) / (H' - 1)``; without a scale, it is ``H' / H``. With lines it is ``1 - t`` times
    row ``floor(s)`` and ``t`` times the next, ``t = s - floor(s)``; with curves, a sum of four rows.
    The rows at the ends stand for those beyond. ``"nearest"`` takes row ``floor(i / scale)``,
    ``"nearest-exact"`` row ``floor((i + 1/2) / scale)``. Pullback: the transposed of this linear map.
    Where it makes images smaller, it leaves out pixels; `adaptive_avg_pool` counts all.

    References
    ----------
    R. Keys, "Cubic convolution interpolation for digital image processing", 1981 (with ``a = -0.75``,
    as in PyTorch).

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import upsample
    >>> upsample((1, 2)).apply({}, np.array([[[[1.0, 2.0]]]]))[0]
    array([[[[1., 1., 2., 2.]]]])
    >>> upsample(size=(1, 3), mode="bilinear").apply({}, np.array([[[[1.0, 2.0]]]]))[0]
    array([[[[1. , 1.5, 2. ]]]])
    """
    if (scale is None) == (size is None):
        checks.refuse(f"`scale` or `size` must be given, and not both, got {scale} and {size}")
    given: Any = size if scale is None else scale
    kind = mode if mode.startswith("nearest") else "cubic" if mode == "bicubic" else "linear"
    whole = mode == "nearest" and np.asarray(scale).dtype.kind == "i"

    def lines(shape: tuple[int, ...]) -> tuple[upsampling.Line, ...]:
        axes = _AXES.get(mode, "N, C, H, W")
        if kind in ("linear", "cubic") and len(shape) != axes.count(",") + 1:
            checks.refuse(f"`x` must have {axes.count(',') + 1} axes ({axes}), got shape {shape}")
        spatial = channels_second_shape(shape)[2:]
        each = given if isinstance(given, tuple) else (given,) * len(spatial)
        if len(each) != len(spatial) or len(spatial) > 3:
            count = len(each) + 2 if isinstance(given, tuple) else "3 to 5"
            checks.refuse(f"`x` must have {count} axes, got shape {shape}")
        counts = (
            each if scale is None else tuple(int(n * s) for n, s in zip(spatial, each, strict=True))
        )
        if min(counts) < 1:
            checks.refuse(f"`x` must be larger for the scale {scale}, got shape {shape}")
        factors = (None,) * len(each) if scale is None else each
        pairs = zip(spatial, counts, factors, strict=True)
        return tuple(upsampling.Line(*one, kind, align_corners) for one in pairs)

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        counts = (line.places for line in lines(shape))
        return channels_second_shape((*channels_second_shape(shape)[:2], *counts))

    def forward(x: Array) -> Array:
        found, image = lines(x.shape), channels_second(x)
        if whole:
            return channels_second(upsampling.repeated(image, _factors(found)))
        return channels_second(upsampling.resized(image, found))

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        found, slope = lines(shape), channels_second(dout)
        if whole:
            return channels_second(upsampling.repeated_gradient(slope, _factors(found)))
        return channels_second(upsampling.resized_gradient(slope, found))

    return moving(Preserving, forward, backward, out_shape, min_rank=3)


def _factors(lines: tuple[upsampling.Line, ...]) -> tuple[int, ...]:
    return tuple(line.places // line.size for line in lines)


@declared(factor=Integer(1))
def pixel_shuffle(factor: int) -> Layer[Image, Image]:
    """Lay channels out as pixels, ``(N, C r r, H, W) -> (N, C, H r, W r)``.

    Parameters
    ----------
    factor : int
        The ``r`` by which height and width grow.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images with a multiple of ``r r`` channels.

    Notes
    -----
    ``y[n, c, h r + i, w r + j] = x[n, (c r + i) r + j, h, w]``. Pullback: `pixel_unshuffle`.

    References
    ----------
    W. Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", 2016.

    Examples
    --------
    >>> from funcnn import pixel_shuffle, random
    >>> pixel_shuffle(2).init(random.key(0), (32, 12, 14, 14))[0]
    (32, 3, 28, 28)
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, height, width = shape
        if channels % (factor * factor):
            checks.refuse(f"`x` must have a multiple of {factor * factor} channels, got shape {shape}")
        return (batch, channels // (factor * factor), height * factor, width * factor)

    return moving(
        Layer,
        lambda x: _more_pixels(x, factor),
        lambda dout, shape: _fewer_pixels(dout, factor),
        out_shape,
        axes="N, C, H, W",
    )


@declared(groups=Integer(1))
def channel_shuffle(groups: int) -> Preserving:
    """Deal out the channels of each group in turn, so that groups behind it see all groups before it.

    Parameters
    ----------
    groups : int
        How many groups of neighbouring channels there are; a divisor of their number.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For channels that the groups do not divide.

    Notes
    -----
    Channels are axis 1 of images and volumes, and the last axis of sequences ``(N, T, F)``.
    ``y[:, k G + g] = x[:, g C / G + k]`` for ``G`` groups. Pullback: the same with ``C / G`` groups.

    References
    ----------
    X. Zhang et al., "ShuffleNet: an extremely efficient convolutional neural network for mobile
    devices", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import channel_shuffle
    >>> channel_shuffle(2).apply({}, np.arange(6.0).reshape(1, 1, 6))[0]
    array([[[0., 3., 1., 4., 2., 5.]]])
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        if channels_second_shape(shape)[1] % groups:
            checks.refuse(f"`x` must have a multiple of {groups} channels, got shape {shape}")
        return shape

    def dealt(x: Array, hands: int) -> Array:
        _, c, *spatial = x.shape
        return rearranged(x, (hands, c // hands, prod(spatial)), (1, 0, 2), (c, *spatial))

    def backward(dout: Array, shape: tuple[int, ...]) -> Array:
        return channels_second(dealt(channels_second(dout), channels_second_shape(shape)[1] // groups))

    return moving(
        Preserving, lambda x: channels_second(dealt(channels_second(x), groups)), backward, out_shape,
        min_rank=3,
    )  # fmt: skip


@declared(factor=Integer(1))
def pixel_unshuffle(factor: int) -> Layer[Image, Image]:
    """Lay pixels out as channels, ``(N, C, H r, W r) -> (N, C r r, H, W)``.

    Parameters
    ----------
    factor : int
        The ``r`` by which height and width shrink.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images with a height and width that `factor` divides.

    Notes
    -----
    ``y[n, (c r + i) r + j, h, w] = x[n, c, h r + i, w r + j]``. Pullback: `pixel_shuffle`.

    Examples
    --------
    >>> from funcnn import pixel_unshuffle, random
    >>> pixel_unshuffle(2).init(random.key(0), (32, 3, 28, 28))[0]
    (32, 12, 14, 14)
    """

    def out_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, channels, height, width = shape
        if height % factor or width % factor:
            checks.refuse(f"`x` must have multiples of {factor} as height and width, got shape {shape}")
        return (batch, channels * factor * factor, height // factor, width // factor)

    return moving(
        Layer,
        lambda x: _fewer_pixels(x, factor),
        lambda dout, shape: _more_pixels(dout, factor),
        out_shape,
        axes="N, C, H, W",
    )


def _pairs(widths: Widths, shape: tuple[int, ...]) -> borders.Widths:
    """A (low, high) pair for each axis of space or time that this shape has."""
    if isinstance(widths, int):
        return ((widths, widths),) * (len(shape) - 2)
    pairs = tuple((side, side) if isinstance(side, int) else side for side in widths)
    if len(shape) != len(pairs) + 2:
        checks.refuse(
            f"`x` must have {len(pairs) + 2} axes for the widths {shown(pairs)}, got shape {shape}"
        )
    return pairs


def _more_pixels(x: Array, r: int) -> Array:
    """``(N, C r r, H, W) -> (N, C, H r, W r)``."""
    _, deep, h, w = x.shape
    c = deep // (r * r)
    return rearranged(x, (c, r, r, h, w), (0, 3, 1, 4, 2), (c, h * r, w * r))


def _fewer_pixels(x: Array, r: int) -> Array:
    """``(N, C, H r, W r) -> (N, C r r, H, W)``."""
    _, c, h, w = x.shape
    return rearranged(x, (c, h // r, r, w // r, r), (0, 2, 4, 1, 3), (c * r * r, h // r, w // r))
