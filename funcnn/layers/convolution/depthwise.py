"""Convolution of each channel by itself, and with a mix of channels after it."""

from __future__ import annotations

from funcnn import checks, random
from funcnn._kernels.convolution import depthwise
from funcnn._kernels.windows import Padding, expanded
from funcnn.checks import Integer, declared
from funcnn.initializers import Initializer, he_normal, zeros
from funcnn.layers.convolution.plain import conv
from funcnn.layers.convolution.skeleton import Rule, convolution_of, options, padded, placing
from funcnn.types import Cache, Image, Key, Layer, Params, Shape

__all__ = ["depthwise_conv", "separable_conv"]

_HE = he_normal()
_ZEROS = zeros()


@declared(multiplier=Integer(1), **padded(2), **options(2))
def depthwise_conv(
    kernel_size: int | tuple[int, int],
    *,
    multiplier: int = 1,
    stride: int | tuple[int, int] = 1,
    padding: Padding | str = 0,
    padding_mode: str = "zeros",
    dilation: int | tuple[int, int] = 1,
    bias: bool = True,
    weight_init: Initializer = _HE,
    bias_init: Initializer = _ZEROS,
) -> Layer[Image, Image]:
    """Convolution of each channel by itself, ``(N, C, H, W) -> (N, C * multiplier, H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the filters.
    multiplier : int, default 1
        Filters for each channel; those of one channel come out as neighbours.
    stride : int or (int, int), default 1
        Step of the window.
    padding : int, one int or (low, high) pair for each axis, "same" or "valid", default 0
        Zeros on both sides of each axis. ``"same"`` pads so that ``H' = ceil(H / stride)``.
    padding_mode : "zeros", "reflect", "replicate" or "circular", default "zeros"
        What stands there instead of zeros, as in `pad`.
    dilation : int or (int, int), default 1
        Distance between the taps of a filter.
    bias : bool, default True
        Whether to add a bias to each channel.
    weight_init, bias_init : Initializer
        Where the parameters start.

    Returns
    -------
    Layer
        With params ``{"weight": (C * multiplier, 1, kh, kw), "bias": (C * multiplier,)}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images with the channels and dtype of the weight, or
        is smaller than the kernel.

    Notes
    -----
    Forward: filter ``j`` of channel ``c`` gives ``y_cj[p] = b_cj + sum_k K_cj[k] x_c[p stride + k
    dilation]``, the same as ``conv(C * multiplier, kernel_size, groups=C)`` without knowing ``C``
    beforehand. Pullback: ``dK_cj[k] = sum_np dy_cj[p] x_c[p stride + k dilation]``, ``db = sum(dy)``,
    and ``dx_c[p stride + k dilation]`` gathers ``sum_j K_cj[k] dy_cj[p]``.

    References
    ----------
    L. Sifre, "Rigid-motion scattering for image classification", 2014, section 6.2.

    Examples
    --------
    >>> from funcnn import depthwise_conv, random
    >>> layer = depthwise_conv(3, padding=1, multiplier=2)
    >>> out_shape, params = layer.init(random.key(0), (32, 16, 14, 14))
    >>> out_shape, params["weight"].shape
    ((32, 32, 14, 14), (32, 1, 3, 3))
    """
    size = expanded(kernel_size, 2)
    rule = Rule(
        filters=lambda ins: (ins * multiplier, 1, *size),
        channels=lambda weight: (weight[0] // multiplier, weight[0], weight[0] // multiplier),
        place=placing(size, stride, padding, dilation),
        kernels=depthwise,
        border=padding_mode,
    )
    return convolution_of("N, C, H, W", rule, bias, weight_init, bias_init)


@declared(out_channels=Integer(1), multiplier=Integer(1), **padded(2), **options(2))
def separable_conv(
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    multiplier: int = 1,
    stride: int | tuple[int, int] = 1,
    padding: Padding | str = 0,
    padding_mode: str = "zeros",
    dilation: int | tuple[int, int] = 1,
    bias: bool = True,
    weight_init: Initializer = _HE,
    bias_init: Initializer = _ZEROS,
) -> Layer[Image, Image]:
    """Depthwise convolution, then one by one, ``(N, C, H, W) -> (N, out_channels, H', W')``.

    Parameters
    ----------
    out_channels : int
        Channels that come out.
    kernel_size : int or (int, int)
        Height and width of the depthwise filters.
    multiplier : int, default 1
        Depthwise filters for each channel.
    stride, padding, padding_mode, dilation
        Of the depthwise convolution, as in `conv`.
    bias : bool, default True
        Whether to add a bias to each channel at the end.
    weight_init, bias_init : Initializer
        Where the parameters start.

    Returns
    -------
    Layer
        With params ``{"depthwise": {"weight": (C * multiplier, 1, kh, kw)}, "pointwise": {"weight":
        (out_channels, C * multiplier, 1, 1), "bias": (out_channels,)}}``.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images with the channels and dtype of the weight, or
        is smaller than the kernel.

    Notes
    -----
    The same as `depthwise_conv` without a bias, and ``conv(out_channels, 1)`` after it: a
    convolution whose filters are sums of `multiplier` products of a spatial filter and a mix of
    channels. Pullback: theirs, last to first.

    References
    ----------
    F. Chollet, "Xception: deep learning with depthwise separable convolutions", 2017.

    Examples
    --------
    >>> from funcnn import random, separable_conv
    >>> layer = separable_conv(32, 3, padding=1)
    >>> layer.init(random.key(0), (32, 16, 14, 14))[0]
    (32, 32, 14, 14)
    """
    spatial = checks.bare(
        depthwise_conv(
            kernel_size, multiplier=multiplier, stride=stride, padding=padding,
            padding_mode=padding_mode, dilation=dilation, bias=False, weight_init=weight_init,
        )
    )  # fmt: skip
    mix = checks.bare(conv(out_channels, 1, bias=bias, weight_init=weight_init, bias_init=bias_init))
    deep_shapes: checks.Shapes = {"weight": (None, 1, *expanded(kernel_size, 2))}
    point_shapes: checks.Shapes = {"weight": (out_channels, None, 1, 1)}
    point_shapes |= {"bias": (out_channels,)} if bias else {}

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        depth_key, point_key = random.split(checks.key(key))
        between, deep = spatial.init(depth_key, shape)
        out_shape, point = mix.init(point_key, between)
        return out_shape, {"depthwise": deep, "pointwise": point}

    def apply(params: Params, x: Image, *, key: Key | None = None) -> tuple[Image, Cache]:
        checks.children(params, ("depthwise", "pointwise"))
        checks.leaves(params.get("depthwise", {}), deep_shapes, "depthwise")
        checks.leaves(params.get("pointwise", {}), point_shapes, "pointwise")
        checks.same_dtype(params["pointwise"]["weight"], params["depthwise"]["weight"], params=params)
        between, deep = spatial.apply(params["depthwise"], x)
        out, point = mix.apply(params["pointwise"], between)
        return out, {"depthwise": deep, "pointwise": point}

    def vjp(cache: Cache, dout: Image) -> tuple[Params, Image]:
        point, between = mix.vjp(cache["pointwise"], dout)
        deep, dx = spatial.vjp(cache["depthwise"], between)
        return {"depthwise": deep, "pointwise": point}, dx

    return Layer(init, apply, vjp)
