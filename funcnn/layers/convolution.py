"""Convolutions: one implementation for any number of spatial axes, plain, depthwise or transposed."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from funcnn import checks, random
from funcnn._kernels import convolution
from funcnn._kernels.axes import channels_second, channels_second_shape
from funcnn._kernels.convolution import depthwise, transposed
from funcnn._kernels.windows import (
    Window,
    causal_padding,
    expanded,
    output_size,
    same_padding,
    window,
)
from funcnn.checks import Choice, Constraint, Either, Flag, Integer, Shapes, Sizes, declared
from funcnn.initializers import BIAS_INIT, INITIALIZER, Initializer, he_normal, zeros
from funcnn.types import Array, Cache, Image, Key, Layer, Params, Sequence, Shape, Volume

__all__ = [
    "conv",
    "conv1d",
    "conv3d",
    "conv_transpose",
    "conv_transpose1d",
    "depthwise_conv",
    "separable_conv",
]

_HE = he_normal()
_ZEROS = zeros()

Ints = int | tuple[int, ...]


def _padding(axes: int) -> Constraint:
    words = ("same", "valid", "causal") if axes == 1 else ("same", "valid")
    return Either(Choice(*words), Sizes(axes))


def _options(axes: int, *groups: str) -> dict[str, Constraint]:
    """What all convolutions over so many axes declare, and perhaps groups."""
    return {
        "kernel_size": Sizes(axes, 1),
        "stride": Sizes(axes, 1),
        "dilation": Sizes(axes, 1),
        "bias": Flag(),
        "weight_init": INITIALIZER,
        "bias_init": BIAS_INIT,
        **dict.fromkeys(groups, Integer(1)),
    }


@declared(out_channels=Integer(1), padding=_padding(2), **_options(2, "groups"))
def conv(
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
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
    padding : int, (int, int), "same" or "valid", default 0
        Zeros on both sides of each axis. ``"same"`` pads so that ``H' = ceil(H / stride)``, with the
        odd zero at the high end, as TensorFlow and JAX do; ``"valid"`` is 0.
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
    rule = _plain(2, out_channels, kernel_size, stride, padding, dilation, groups)
    return _layer("N, C, H, W", rule, bias, weight_init, bias_init)


@declared(out_features=Integer(1), padding=_padding(1), **_options(1, "groups"))
def conv1d(
    out_features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int | str = 0,
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
    padding : int, "same", "causal" or "valid", default 0
        Zeros before the first and after the last time step. ``"causal"`` puts all of them before,
        ``dilation (kernel_size - 1)``, so that no output sees a later input; ``"same"`` makes
        ``T' = ceil(T / stride)`` with the odd zero at the end; ``"valid"`` is 0.
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
    rule = _plain(1, out_features, kernel_size, stride, padding, dilation, groups)
    return _layer("N, T, F", rule, bias, weight_init, bias_init)


@declared(out_channels=Integer(1), padding=_padding(3), **_options(3, "groups"))
def conv3d(
    out_channels: int,
    kernel_size: int | tuple[int, int, int],
    *,
    stride: int | tuple[int, int, int] = 1,
    padding: int | tuple[int, int, int] | str = 0,
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
    stride, padding, dilation, groups, bias, weight_init, bias_init
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
    rule = _plain(3, out_channels, kernel_size, stride, padding, dilation, groups)
    return _layer("N, C, D, H, W", rule, bias, weight_init, bias_init)


@declared(out_channels=Integer(1), padding=Sizes(2), output_padding=Sizes(2), **_options(2, "groups"))
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
    rule = _transposed(
        2, out_channels, kernel_size, stride, padding, output_padding, dilation, groups
    )
    return _layer("N, C, H, W", rule, bias, weight_init, bias_init)


@declared(out_features=Integer(1), padding=Sizes(1), output_padding=Sizes(1), **_options(1, "groups"))
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
    rule = _transposed(
        1, out_features, kernel_size, stride, padding, output_padding, dilation, groups
    )
    return _layer("N, T, F", rule, bias, weight_init, bias_init)


@declared(multiplier=Integer(1), padding=_padding(2), **_options(2))
def depthwise_conv(
    kernel_size: int | tuple[int, int],
    *,
    multiplier: int = 1,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
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
    stride, padding, dilation, bias, weight_init, bias_init
        As in `conv`.

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
    The same as ``conv(C * multiplier, kernel_size, groups=C)``, without knowing ``C`` beforehand.

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
    rule = _depthwise(2, multiplier, kernel_size, stride, padding, dilation)
    return _layer("N, C, H, W", rule, bias, weight_init, bias_init)


@declared(
    out_channels=Integer(1), multiplier=Integer(1), padding=_padding(2), **_options(2)
)
def separable_conv(
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    multiplier: int = 1,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
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
    stride, padding, dilation
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
    options: dict[str, Any] = {
        "multiplier": multiplier,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
    }
    spatial = checks.bare(
        depthwise_conv(kernel_size, bias=False, weight_init=weight_init, **options)
    )
    mix = checks.bare(conv(out_channels, 1, bias=bias, weight_init=weight_init, bias_init=bias_init))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        depth_key, point_key = random.split(checks.key(key))
        between, deep = spatial.init(depth_key, shape)
        out_shape, point = mix.init(point_key, between)
        return out_shape, {"depthwise": deep, "pointwise": point}

    def apply(params: Params, x: Image, *, key: Key | None = None) -> tuple[Image, Cache]:
        checks.children(params, ("depthwise", "pointwise"))
        between, deep = spatial.apply(params.get("depthwise", {}), x)
        out, point = mix.apply(params.get("pointwise", {}), between)
        return out, {"depthwise": deep, "pointwise": point}

    def vjp(cache: Cache, dout: Image) -> tuple[Params, Image]:
        point, between = mix.vjp(cache["pointwise"], dout)
        deep, dx = spatial.vjp(cache["depthwise"], between)
        return {"depthwise": deep, "pointwise": point}, dx

    return Layer(init, apply, vjp)


class _Kernels(Protocol):
    """What a module must define to compute a convolution."""

    def convolve(
        self, x: Array, weight: Array, bias: Array | None, window: Window, groups: int
    ) -> Array: ...
    def weight_gradient(
        self, x: Array, dout: Array, weight_shape: tuple[int, ...], window: Window, groups: int
    ) -> Array: ...
    def input_gradient(
        self, dout: Array, weight: Array, x_shape: tuple[int, ...], window: Window, groups: int
    ) -> Array: ...


class _Rule(NamedTuple):
    """What tells one kind of convolution from another; shapes are ``(N, C, *spatial)``."""

    filters: Callable[[int], tuple[int, ...]]  # the weight's shape, for so many channels
    channels: Callable[[tuple[int, ...]], tuple[int, int, int]]  # in, out and groups, of a weight's
    place: Callable[[tuple[int, ...]], tuple[Window, tuple[int, ...]]]  # and the places it takes
    kernels: _Kernels


def _plain(
    axes: int, outs: int, kernel: Ints, stride: Ints, padding: Ints | str, dilation: Ints, groups: int
) -> _Rule:
    """Filters that see all channels of their group."""
    _divides(groups, outs)
    size = expanded(kernel, axes)
    return _Rule(
        lambda ins: (outs, ins // groups, *size),
        lambda weight: (weight[1] * groups, outs, groups),
        _placing(size, stride, padding, dilation),
        convolution,
    )


def _depthwise(
    axes: int, multiplier: int, kernel: Ints, stride: Ints, padding: Ints | str, dilation: Ints
) -> _Rule:
    """As many filters for each channel."""
    size = expanded(kernel, axes)
    return _Rule(
        lambda ins: (ins * multiplier, 1, *size),
        lambda weight: (weight[0] // multiplier, weight[0], weight[0] // multiplier),
        _placing(size, stride, padding, dilation),
        depthwise,
    )


def _transposed(
    axes: int,
    outs: int,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> _Rule:
    """Filters that write what those of a convolution see."""
    _divides(groups, outs)
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

    return _Rule(
        lambda ins: (ins, outs // groups, *size),
        lambda weight: (weight[0], outs, groups),
        place,
        transposed,
    )


def _divides(groups: int, outs: int) -> None:
    if outs % groups:
        checks.refuse(f"`out_channels` must be a multiple of {groups} groups, got {outs}")


def _placing(
    kernel: tuple[int, ...], stride: Ints, padding: Ints | str, dilation: Ints
) -> Callable[[tuple[int, ...]], tuple[Window, tuple[int, ...]]]:
    """Where the window stands on an input."""
    fixed = window(kernel, stride, 0 if isinstance(padding, str) else padding, dilation)
    if padding == "causal":
        fixed = fixed._replace(padding=causal_padding(kernel, fixed.dilation))
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, fixed.dilation, strict=True))

    def place(shape: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
        at = fixed
        if padding == "same":
            pads = same_padding(kernel, fixed.stride, fixed.dilation, shape[2:])
            at = fixed._replace(padding=pads)
        places = output_size(at, shape[2:])
        if min(places) < 1:
            got = channels_second_shape(shape)
            checks.refuse(f"`x` must not be smaller than the kernel {spans}, got shape {got}")
        return at, places

    return place


class _Placed(NamedTuple):
    """How a layer's filters stand on an input."""

    at: Window
    groups: int
    out_shape: tuple[int, ...]


def _layer(
    axes: str, rule: _Rule, bias: bool, weight_init: Initializer, bias_init: Initializer
) -> Layer[Array, Array]:
    """The convolution that a rule computes, over the axes of space or time."""
    word, kernels = ("features" if axes == "N, T, F" else "channels"), rule.kernels
    rank = axes.count(",") + 1

    @lru_cache(maxsize=16)
    def shapes(weight: tuple[int, ...]) -> Shapes:
        """Those of the parameters, as far as the weight's own says."""
        found: Shapes = {"weight": (None, None, *rule.filters(1)[2:]), "bias": (None,)}
        if len(weight) == rank:
            ins, outs, _ = rule.channels(weight)
            found = {"weight": rule.filters(ins), "bias": (outs,)}
        return found if bias else {"weight": found["weight"]}

    @lru_cache(maxsize=64)
    def placed(image: tuple[int, ...], weight: tuple[int, ...]) -> _Placed:
        """What follows from the shapes alone, which are found to fit."""
        ins, outs, groups = rule.channels(weight)
        if image[1] != ins:
            checks.refuse(f"`x` must have {ins} {word}, got shape {channels_second_shape(image)}")
        grouped(image, groups)
        at, places = rule.place(image)
        return _Placed(at, groups, channels_second_shape((image[0], outs, *places)))

    def grouped(image: tuple[int, ...], groups: int) -> None:
        if image[1] % groups:
            got = channels_second_shape(image)
            checks.refuse(f"`x` must have a multiple of {groups} {word}, got shape {got}")

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        image = channels_second_shape(checks.shape(shape, axes))
        filters = rule.filters(image[1])
        _, outs, groups = rule.channels(filters)
        grouped(image, groups)
        out_shape = placed(image, filters).out_shape
        weight_key, bias_key = random.split(checks.key(key))
        params = {"weight": weight_init(weight_key, filters)}
        return out_shape, params | ({"bias": bias_init(bias_key, (outs,))} if bias else {})

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        weight = params.get("weight") if isinstance(params, dict) else None
        image = channels_second(checks.inputs(params, shapes(getattr(weight, "shape", ())), x, axes))
        assert weight is not None
        at, groups, _ = placed(image.shape, weight.shape)
        image = convolution.arranged(image)  # as both directions read it
        out = kernels.convolve(image, weight, params.get("bias"), at, groups)
        return channels_second(out), {"x": image, "weight": weight}

    def params_vjp(cache: Cache, dout: Array) -> Params:
        x, weight = cache["x"], cache["weight"]
        at, groups, out_shape = placed(x.shape, weight.shape)
        checks.gradient(dout, out_shape, x.dtype)
        slope = channels_second(dout)
        dparams = {"weight": kernels.weight_gradient(x, slope, weight.shape, at, groups)}
        return dparams | ({"bias": convolution.bias_gradient(slope)} if bias else {})

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        dparams, x, weight = params_vjp(cache, dout), cache["x"], cache["weight"]
        at, groups, _ = placed(x.shape, weight.shape)
        dx = kernels.input_gradient(channels_second(dout), weight, x.shape, at, groups)
        return dparams, channels_second(dx)

    return Layer(init, apply, vjp, params_vjp=params_vjp)
