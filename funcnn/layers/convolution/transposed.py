"""Transposed convolution, which makes images larger."""

from __future__ import annotations

from funcnn import checks
from funcnn._kernels.axes import channels_second_shape
from funcnn._kernels.convolution import transposed
from funcnn._kernels.windows import Window, expanded, window
from funcnn.checks import Integer, Sizes, declared
from funcnn.initializers import Initializer, he_normal, zeros
from funcnn.layers.convolution.skeleton import Ints, Rule, convolution_of, divides, options
from funcnn.types import Image, Layer, Sequence, Volume

__all__ = ["conv_transpose", "conv_transpose1d", "conv_transpose3d"]

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
        How much less to cut off at the high side; below the stride or the dilation.
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
    ``dy``, ``db = sum(dy)``.

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


@declared(out_channels=Integer(1), padding=Sizes(3), output_padding=Sizes(3), **options(3, "groups"))
def conv_transpose3d(
    out_channels: int,
    kernel_size: int | tuple[int, int, int],
    *,
    stride: int | tuple[int, int, int] = 1,
    padding: int | tuple[int, int, int] = 0,
    output_padding: int | tuple[int, int, int] = 0,
    dilation: int | tuple[int, int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = _HE,
    bias_init: Initializer = _ZEROS,
) -> Layer[Volume, Volume]:
    """Transposed convolution of volumes, ``(N, C, D, H, W) -> (N, out_channels, D', H', W')``.

    Parameters
    ----------
    out_channels : int
        Channels that come out; a multiple of `groups`.
    kernel_size : int or (int, int, int)
        Depth, height and width of the filters.
    stride, padding, output_padding, dilation, groups, bias, weight_init, bias_init
        As in `conv_transpose`, with three axes.

    Returns
    -------
    Layer
        With params ``{"weight": (C, out_channels / groups, kd, kh, kw), "bias": (out_channels,)}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of volumes with the channels and dtype of the weight, or
        of which the padding would leave nothing.

    Notes
    -----
    Shapes, formula and pullback are those of `conv_transpose`, over three axes.

    Examples
    --------
    >>> from funcnn import conv_transpose3d, random
    >>> out_shape, params = conv_transpose3d(4, 2, stride=2).init(random.key(0), (2, 8, 3, 5, 5))
    >>> out_shape, params["weight"].shape
    ((2, 4, 6, 10, 10), (8, 4, 2, 2, 2))
    """
    rule = _transposed(3, out_channels, kernel_size, stride, padding, output_padding, dilation, groups)
    return convolution_of("N, C, D, H, W", rule, bias, weight_init, bias_init)


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
    size, pads, extra = (expanded(n, axes) for n in (kernel, padding, output_padding))
    sides = tuple((pad, pad - more) for pad, more in zip(pads, extra, strict=True))
    at = window(size, stride, sides, dilation)
    most = tuple(map(max, at.stride, at.dilation))
    if any(more >= limit for more, limit in zip(extra, most, strict=True)):
        between = f"the stride {at.stride} or the dilation {at.dilation}"
        checks.refuse(f"`output_padding` must be below {between}, got {extra}")

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
