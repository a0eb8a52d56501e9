"""Convolution over images, time and volumes."""

from __future__ import annotations

from funcnn._kernels import convolution
from funcnn._kernels.windows import Padding, expanded
from funcnn.checks import Integer, declared
from funcnn.initializers import Initializer, he_normal, zeros
from funcnn.layers.convolution.skeleton import (
    Ints,
    Rule,
    convolution_of,
    divides,
    options,
    padded,
    placing,
)
from funcnn.types import Image, Layer, Sequence, Volume

__all__ = ["conv", "conv1d", "conv3d"]

_HE = he_normal()
_ZEROS = zeros()


@declared(out_channels=Integer(1), **padded(2), **options(2, "groups"))
def conv(
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: Padding | str = 0,
    padding_mode: str = "zeros",
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = _HE,
    bias_init: Initializer = _ZEROS,
) -> Layer[Image, Image]:
    """Two-dimensional convolution, ``(N, C, H, W) -> (N, out_channels, H', W')``.

    Parameters
    ----------
    out_channels : int
        Channels that come out; a multiple of `groups`.
    kernel_size : int or (int, int)
        Height and width of the filters.
    stride : int or (int, int), default 1
        Step of the window.
    padding : int, one int or (low, high) pair for each axis, "same" or "valid", default 0
        Zeros on both sides of each axis. ``"same"`` pads so that ``H' = ceil(H / stride)``, with the
        odd zero at the high end, as TensorFlow and JAX do; ``"valid"`` is 0.
    padding_mode : "zeros", "reflect", "replicate" or "circular", default "zeros"
        What stands there instead of zeros, as in `pad`.
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
        With params ``{"weight": (out_channels, C / groups, kh, kw), "bias": (out_channels,)}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images with the channels and dtype of the weight, or
        is smaller than the kernel.

    Notes
    -----
    ``H' = floor((H + padding - dilation (kh - 1) - 1) / stride) + 1``. Forward, with ``X`` the columns
    of `funcnn.im2col` and ``K`` the filters as rows: ``Y = K X + b`` (a cross-correlation, as in
    every framework). Pullback: ``dK = dY Xᵀ``, ``db = sum(dY)``, ``dx = col2im(Kᵀ dY)``, which for
    stride 1 is the full convolution of ``dY`` with the kernel rotated by 180 degrees.

    What meets padding is multiplied by 0 or left out, whichever is faster: of an infinite weight or
    ``dY`` comes NaN there, or nothing, as in PyTorch.

    References
    ----------
    Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    K. Chellapilla, S. Puri and P. Simard, "High performance convolutional neural networks for
    document processing", 2006.

    Examples
    --------
    >>> from funcnn import conv, random
    >>> out_shape, params = conv(6, 5).init(random.key(0), (32, 3, 28, 28))
    >>> out_shape, params["weight"].shape, params["bias"].shape
    ((32, 6, 24, 24), (6, 3, 5, 5), (6,))
    """
    rule = _plain(2, out_channels, kernel_size, stride, padding, padding_mode, dilation, groups)
    return convolution_of("N, C, H, W", rule, bias, weight_init, bias_init)


@declared(out_features=Integer(1), **padded(1), **options(1, "groups"))
def conv1d(
    out_features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: Padding | str = 0,
    padding_mode: str = "zeros",
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = _HE,
    bias_init: Initializer = _ZEROS,
) -> Layer[Sequence, Sequence]:
    """Convolution over time, ``(N, T, F) -> (N, T', out_features)``.

    Parameters
    ----------
    out_features : int
        Features that come out; a multiple of `groups`.
    kernel_size : int
        Time steps that a filter sees.
    stride : int, default 1
        Step of the window.
    padding : int, ((low, high),), "same", "causal" or "valid", default 0
        Zeros before the first and after the last time step. ``"causal"`` puts all of them before,
        ``dilation (kernel_size - 1)``, so that no output sees a later input; ``"same"`` makes
        ``T' = ceil(T / stride)`` with the odd zero at the end; ``"valid"`` is 0.
    padding_mode : "zeros", "reflect", "replicate" or "circular", default "zeros"
        What stands there instead of zeros, as in `pad`.
    dilation : int, default 1
        Distance between the taps of a filter.
    groups : int, default 1
        Blocks of features that do not see each other; divides the features on both sides.
    bias : bool, default True
        Whether to add a bias to each feature.
    weight_init, bias_init : Initializer
        Where the parameters start.

    Returns
    -------
    Layer
        With params ``{"weight": (out_features, F / groups, kernel_size), "bias": (out_features,)}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences with the features and dtype of the weight, or
        is shorter than the kernel.

    Notes
    -----
    ``T' = floor((T + padding - dilation (kernel_size - 1) - 1) / stride) + 1``. Formula and pullback
    are those of `conv`, over one axis.

    References
    ----------
    A. van den Oord et al., "WaveNet: a generative model for raw audio", 2016 (causal, dilated).

    Examples
    --------
    >>> from funcnn import conv1d, random
    >>> out_shape, params = conv1d(16, 3, padding="causal").init(random.key(0), (32, 100, 8))
    >>> out_shape, params["weight"].shape
    ((32, 100, 16), (16, 8, 3))
    """
    rule = _plain(1, out_features, kernel_size, stride, padding, padding_mode, dilation, groups)
    return convolution_of("N, T, F", rule, bias, weight_init, bias_init)


@declared(out_channels=Integer(1), **padded(3), **options(3, "groups"))
def conv3d(
    out_channels: int,
    kernel_size: int | tuple[int, int, int],
    *,
    stride: int | tuple[int, int, int] = 1,
    padding: Padding | str = 0,
    padding_mode: str = "zeros",
    dilation: int | tuple[int, int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: Initializer = _HE,
    bias_init: Initializer = _ZEROS,
) -> Layer[Volume, Volume]:
    """Three-dimensional convolution, ``(N, C, D, H, W) -> (N, out_channels, D', H', W')``.

    Parameters
    ----------
    out_channels : int
        Channels that come out; a multiple of `groups`.
    kernel_size : int or (int, int, int)
        Depth, height and width of the filters.
    stride, padding, padding_mode, dilation, groups, bias, weight_init, bias_init
        As in `conv`, with three axes.

    Returns
    -------
    Layer
        With params ``{"weight": (out_channels, C / groups, kd, kh, kw), "bias": (out_channels,)}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of volumes with the channels and dtype of the weight, or
        is smaller than the kernel.

    Notes
    -----
    Shapes, formula and pullback are those of `conv`, over three axes.

    Examples
    --------
    >>> from funcnn import conv3d, random
    >>> out_shape, params = conv3d(8, 3, padding=1).init(random.key(0), (4, 2, 8, 16, 16))
    >>> out_shape, params["weight"].shape
    ((4, 8, 8, 16, 16), (8, 2, 3, 3, 3))
    """
    rule = _plain(3, out_channels, kernel_size, stride, padding, padding_mode, dilation, groups)
    return convolution_of("N, C, D, H, W", rule, bias, weight_init, bias_init)


def _plain(
    axes: int,
    outs: int,
    kernel: Ints,
    stride: Ints,
    padding: Padding | str,
    border: str,
    dilation: Ints,
    groups: int,
) -> Rule:
    """Filters that see all channels of their group."""
    divides(groups, outs)
    size = expanded(kernel, axes)
    return Rule(
        filters=lambda ins: (outs, ins // groups, *size),
        channels=lambda weight: (weight[1] * groups, outs, groups),
        place=placing(size, stride, padding, dilation),
        kernels=convolution,
        border=border,
    )
