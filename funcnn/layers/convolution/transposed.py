"""Transposed convolution, which makes images larger."""

from __future__ import annotations

from funcnn import checks
from funcnn._kernels.axes import channels_second_shape
from funcnn._kernels.convolution import transposed
from funcnn._kernels.windows import Window, expanded, window
from funcnn.checks import Integer, Sizes, declared
from funcnn.initializers import Initializer, he_normal, zeros
from funcnn.layers.convolution.skeleton import (
    Ints,
    Rule,
    convolution_of,
    divides,
    options,
)
from funcnn.types import Image, Layer, Sequence

__all__ = [
    "conv_transpose",
    "conv_transpose1d",
]

_HE = he_normal()
_ZEROS = zeros()


@declared(out_channels=Integer(1), padding=Sizes(2), output_padding=Sizes(2), **options(2, "groups"))
def conv_transpose(
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = _HE,
    bias_init: Initializer = _ZEROS,
) -> Layer[Image, Image]:
    """Transposed convolution, ``(N, C, H, W) -> (N, out_channels, H', W')``, which makes images larger.

    Parameters
    ----------
    out_channels : int
        Channels that come out; a multiple of `groups`.
    kernel_size : int or (int, int)
        Height and width of the filters.
    stride : int or (int, int), default 1
        Distance of the places where neighbouring inputs write.
    padding : int or (int, int), default 0
        Rows and columns that are cut off at both sides of the output: the padding of the
        convolution that this one undoes in shape.
    output_padding : int or (int, int), default 0
        How much less to cut off at the high side; below the stride.
    dilation : int or (int, int), default 1
        Distance between the taps of a filter.
    groups : int, default 1
        Blocks of channels that do not see each other; divides the channels on both sides.
    bias : bool, default True
        Whether to add a bias to each channel.
    weight_init, bias_init : Initializer
        Where the parameters start.

    Returns
    -------
    Layer
        With params ``{"weight": (C, out_channels / groups, kh, kw), "bias": (out_channels,)}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images with the channels and dtype of the weight, or
        of which the padding would leave nothing.

    Notes
    -----
    ``H' = (H - 1) stride + dilation (kh - 1) + 1 - 2 padding + output_padding``. This is the
    adjoint of `conv` with the same weight: forward is its ``col2im(Kᵀ x)``, plus ``b``. Pullback:
    ``dx`` is the convolution of ``dy`` with the weight, ``dK = X dYᵀ`` for the columns ``dY`` of
    ``dy``, ``db = sum(dy)``. (PyTorch takes an `output_padding` that is below the dilation, too.)

    References
    ----------
    M. Zeiler et al., "Deconvolutional networks", 2010.
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016.

    Examples
    --------
    >>> from funcnn import conv_transpose, random
    >>> layer = conv_transpose(8, 4, stride=2, padding=1)
    >>> out_shape, params = layer.init(random.key(0), (32, 16, 7, 7))
    >>> out_shape, params["weight"].shape
    ((32, 8, 14, 14), (16, 8, 4, 4))
    """
    rule = _transposed(2, out_channels, kernel_size, stride, padding, output_padding, dilation, groups)
    return convolution_of("N, C, H, W", rule, bias, weight_init, bias_init)


@declared(out_features=Integer(1), padding=Sizes(1), output_padding=Sizes(1), **options(1, "groups"))
def conv_transpose1d(
    out_features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = _HE,
    bias_init: Initializer = _ZEROS,
) -> Layer[Sequence, Sequence]:
    """Transposed convolution over time, ``(N, T, F) -> (N, T', out_features)``.

    Parameters
    ----------
    out_features : int
        Features that come out; a multiple of `groups`.
    kernel_size : int
        Time steps that a filter writes.
    stride, padding, output_padding, dilation, groups, bias, weight_init, bias_init
        As in `conv_transpose`, with one axis.

    Returns
    -------
    Layer
        With params ``{"weight": (F, out_features / groups, kernel_size), "bias": (out_features,)}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences with the features and dtype of the weight, or
        of which the padding would leave nothing.

    Notes
    -----
    Shapes, formula and pullback are those of `conv_transpose`, over one axis.

    Examples
    --------
    >>> from funcnn import conv_transpose1d, random
    >>> out_shape, params = conv_transpose1d(4, 2, stride=2).init(random.key(0), (32, 50, 8))
    >>> out_shape, params["weight"].shape
    ((32, 100, 4), (8, 4, 2))
    """
    rule = _transposed(1, out_features, kernel_size, stride, padding, output_padding, dilation, groups)
    return convolution_of("N, T, F", rule, bias, weight_init, bias_init)


def _transposed(
    axes: int,
    outs: int,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> Rule:
    """Filters that write what those of a convolution see."""
    divides(groups, outs)
    size, steps, pads, extra = (expanded(n, axes) for n in (kernel, stride, padding, output_padding))
    if any(more >= step for more, step in zip(extra, steps, strict=True)):
        checks.refuse(f"`output_padding` must be below the stride {steps}, got {extra}")
    sides = tuple((pad, pad - more) for pad, more in zip(pads, extra, strict=True))
    at = window(size, steps, sides, dilation)

    def place(shape: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
        places = transposed.reach(at, shape[2:])
        if min(places) < 1:
            got = channels_second_shape(shape)
            checks.refuse(f"`x` must reach beyond the padding {pads}, got shape {got}")
        return at, places

    return Rule(
        filters=lambda ins: (ins, outs // groups, *size),
        channels=lambda weight: (weight[0], outs, groups),
        place=place,
        kernels=transposed,
    )
