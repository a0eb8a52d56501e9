"""Convolutions: one implementation for any number of spatial axes, plain, depthwise or transposed."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

from funcnn import _checks, random
from funcnn._kernels import convolution
from funcnn._kernels.axes import channels_second, channels_second_shape
from funcnn._kernels.convolution import depthwise, transposed
from funcnn._kernels.windows import Window, causal_padding, output_size, same_padding, window
from funcnn.initializers import Initializer, he_normal, initializer, zeros
from funcnn.types import Array, Cache, Image, Key, Layer, Params, Sequence, Shape, Spec, Volume

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
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": bias,
        "weight_init": weight_init,
        "bias_init": bias_init,
    }
    return _convolution(Spec(conv, (out_channels, kernel_size), options), "N, C, H, W")


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
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": bias,
        "weight_init": weight_init,
        "bias_init": bias_init,
    }
    return _convolution(Spec(conv1d, (out_features, kernel_size), options), "N, T, F")


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
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": bias,
        "weight_init": weight_init,
        "bias_init": bias_init,
    }
    return _convolution(Spec(conv3d, (out_channels, kernel_size), options), "N, C, D, H, W")


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
    options = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
        "groups": groups,
        "bias": bias,
        "weight_init": weight_init,
        "bias_init": bias_init,
    }
    return _transposed(Spec(conv_transpose, (out_channels, kernel_size), options), "N, C, H, W")


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
    options = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
        "groups": groups,
        "bias": bias,
        "weight_init": weight_init,
        "bias_init": bias_init,
    }
    return _transposed(Spec(conv_transpose1d, (out_features, kernel_size), options), "N, T, F")


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
    options = {
        "multiplier": multiplier,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "bias": bias,
        "weight_init": weight_init,
        "bias_init": bias_init,
    }
    return _depthwise(Spec(depthwise_conv, (kernel_size,), options), "N, C, H, W")


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
    given = {"bias": bias, "weight_init": weight_init, "bias_init": bias_init}
    options = {
        "multiplier": multiplier,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        **given,
    }
    spec = Spec(separable_conv, (out_channels, kernel_size), options)
    depthwise = _depthwise(spec._replace(options={**options, "bias": False}), "N, C, H, W")
    flat = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **given}
    pointwise = _convolution(Spec(separable_conv, (out_channels, 1), flat), "N, C, H, W")

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        depth_key, point_key = random.split(_checks.key("separable_conv", key))
        between, deep = depthwise.init(depth_key, shape)
        out_shape, point = pointwise.init(point_key, between)
        return out_shape, {"depthwise": deep, "pointwise": point}

    def apply(params: Params, x: Image, *, key: Key | None = None) -> tuple[Image, Cache]:
        _checks.children("separable_conv", params, ("depthwise", "pointwise"))
        between, deep = depthwise.apply(params.get("depthwise", {}), x)
        out, point = pointwise.apply(params.get("pointwise", {}), between)
        return out, {"depthwise": deep, "pointwise": point}

    def vjp(cache: Cache, dout: Image) -> tuple[Params, Image]:
        point, between = pointwise.vjp(cache["pointwise"], dout)
        deep, dx = depthwise.vjp(cache["depthwise"], between)
        return {"depthwise": deep, "pointwise": point}, dx

    return Layer(init, apply, vjp, spec)


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
    kernels: Callable[[tuple[int, ...]], _Kernels]  # for a weight's shape


class _Placed(NamedTuple):
    """How a layer's filters stand on an input."""

    at: Window
    groups: int
    out_shape: tuple[int, ...]
    kernels: _Kernels


def _convolution(spec: Spec, axes: str) -> Layer[Array, Array]:
    """The plain convolution that a spec describes, over the axes of space or time."""
    who = spec.kind
    out_channels = _checks.integer(who, "out_channels", spec.args[0], 1)
    groups, kernel, place = _options(spec, axes)
    if out_channels % groups:
        _checks.refuse(who, f"`out_channels` must be a multiple of {groups} groups, got {out_channels}")

    def filters(ins: int) -> tuple[int, ...]:
        return (out_channels, ins // groups, *kernel)

    def channels(weight: tuple[int, ...]) -> tuple[int, int, int]:
        return weight[1] * groups, out_channels, groups

    def kernels(weight: tuple[int, ...]) -> _Kernels:
        return depthwise if weight[1] == 1 < groups else convolution

    return _layer(spec, axes, kernel, _Rule(filters, channels, place, kernels))


def _depthwise(spec: Spec, axes: str) -> Layer[Array, Array]:
    """The convolution of each channel by itself that a spec describes."""
    multiplier = _checks.integer(spec.kind, "multiplier", spec.options["multiplier"], 1)
    _, kernel, place = _options(spec, axes)

    def filters(ins: int) -> tuple[int, ...]:
        return (ins * multiplier, 1, *kernel)

    def channels(weight: tuple[int, ...]) -> tuple[int, int, int]:
        return weight[0] // multiplier, weight[0], weight[0] // multiplier

    def kernels(weight: tuple[int, ...]) -> _Kernels:
        return depthwise

    return _layer(spec, axes, kernel, _Rule(filters, channels, place, kernels))


def _transposed(spec: Spec, axes: str) -> Layer[Array, Array]:
    """The transposed convolution that a spec describes."""
    who, rank = spec.kind, axes.count(",") - 1
    out_channels = _checks.integer(who, "out_channels", spec.args[0], 1)
    groups, kernel, stride, dilation = _sizes(spec, rank)
    pads = _checks.integers(who, "padding", spec.options["padding"], rank)
    extra = _checks.integers(who, "output_padding", spec.options["output_padding"], rank)
    if any(more >= s for more, s in zip(extra, stride, strict=True)):
        _checks.refuse(who, f"`output_padding` must be below the stride {stride}, got {extra}")
    if out_channels % groups:
        _checks.refuse(who, f"`out_channels` must be a multiple of {groups} groups, got {out_channels}")
    sides = tuple((pad, pad - more) for pad, more in zip(pads, extra, strict=True))
    at = window(kernel, stride, sides, dilation)

    def filters(ins: int) -> tuple[int, ...]:
        return (ins, out_channels // groups, *kernel)

    def channels(weight: tuple[int, ...]) -> tuple[int, int, int]:
        return weight[0], out_channels, groups

    def place(shape: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
        places = transposed.reach(at, shape[2:])
        if min(places) < 1:
            got = channels_second_shape(shape)
            _checks.refuse(who, f"`x` must reach beyond the padding {pads}, got shape {got}")
        return at, places

    def kernels(weight: tuple[int, ...]) -> _Kernels:
        return transposed

    return _layer(spec, axes, kernel, _Rule(filters, channels, place, kernels))


def _sizes(
    spec: Spec, rank: int
) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Groups, kernel, stride and dilation: what all kinds have."""
    who, given = spec.kind, spec.options
    groups = _checks.integer(who, "groups", given.get("groups", 1), 1)
    kernel = _checks.integers(who, "kernel_size", spec.args[-1], rank, 1)
    stride = _checks.integers(who, "stride", given["stride"], rank, 1)
    return groups, kernel, stride, _checks.integers(who, "dilation", given["dilation"], rank, 1)


def _options(
    spec: Spec, axes: str
) -> tuple[int, tuple[int, ...], Callable[[tuple[int, ...]], tuple[Window, tuple[int, ...]]]]:
    """Groups, kernel, and where the window stands on an input."""
    who, rank, padding = spec.kind, axes.count(",") - 1, spec.options["padding"]
    groups, kernel, stride, dilation = _sizes(spec, rank)
    pads: tuple[int, ...] | tuple[tuple[int, int], ...] = (0,) * rank
    if isinstance(padding, str):
        words = ("same", "valid", "causal") if rank == 1 else ("same", "valid")
        if _checks.choice(who, "padding", padding, words) == "causal":
            pads = causal_padding(kernel, dilation)
    else:
        pads = _checks.integers(who, "padding", padding, rank)
    fixed = window(kernel, stride, pads, dilation)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))

    def place(shape: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
        at = fixed
        if padding == "same":
            at = fixed._replace(padding=same_padding(kernel, stride, dilation, shape[2:]))
        places = output_size(at, shape[2:])
        if min(places) < 1:
            got = channels_second_shape(shape)
            _checks.refuse(who, f"`x` must not be smaller than the kernel {spans}, got shape {got}")
        return at, places

    return groups, kernel, place


def _grouped(who: str, shape: tuple[int, ...], groups: int) -> None:
    """Refuse channels that do not fall into groups."""
    if shape[1] % groups:
        got = channels_second_shape(shape)
        _checks.refuse(who, f"`x` must have a multiple of {groups} {_word(shape)}, got shape {got}")


def _word(shape: tuple[int, ...]) -> str:
    """What the channels of such an array are called."""
    return "features" if len(shape) == 3 else "channels"


def _layer(spec: Spec, axes: str, kernel: tuple[int, ...], rule: _Rule) -> Layer[Array, Array]:
    """The convolution that a spec describes and a rule computes."""
    who, given = spec.kind, spec.options
    bias = _checks.boolean(who, "bias", given["bias"])
    weight_init, bias_init = (
        initializer(who, name, given[name]) for name in ("weight_init", "bias_init")
    )

    @lru_cache(maxsize=16)
    def shapes(weight: tuple[int, ...]) -> dict[str, tuple[int | None, ...]]:
        """Those of the parameters, as far as the weight's own says."""
        found: dict[str, tuple[int | None, ...]] = {"weight": (None, None, *kernel), "bias": (None,)}
        if len(weight) == 2 + len(kernel):
            ins, outs, _ = rule.channels(weight)
            found = {"weight": rule.filters(ins), "bias": (outs,)}
        return found if bias else {"weight": found["weight"]}

    @lru_cache(maxsize=64)
    def placed(image: tuple[int, ...], weight: tuple[int, ...]) -> _Placed:
        """What follows from the shapes alone, which are found to fit."""
        ins, outs, groups = rule.channels(weight)
        if image[1] != ins:
            got = channels_second_shape(image)
            _checks.refuse(who, f"`x` must have {ins} {_word(image)}, got shape {got}")
        _grouped(who, image, groups)
        at, places = rule.place(image)
        out_shape = channels_second_shape((image[0], outs, *places))
        return _Placed(at, groups, out_shape, rule.kernels(weight))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        image = channels_second_shape(_checks.shape(who, shape, axes))
        filters = rule.filters(image[1])
        _, outs, groups = rule.channels(filters)
        _grouped(who, image, groups)
        _, places = rule.place(image)
        weight_key, bias_key = random.split(_checks.key(who, key))
        params = {"weight": weight_init(weight_key, filters)}
        if bias:
            params["bias"] = bias_init(bias_key, (outs,))
        return channels_second_shape((image[0], outs, *places)), params

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        weight = params.get("weight") if isinstance(params, dict) else None
        _checks.leaves(who, params, shapes(getattr(weight, "shape", ())))
        assert weight is not None
        image = channels_second(_checks.ranked(who, x, axes))
        at, groups, _, kernels = placed(image.shape, weight.shape)
        _checks.same_dtype(who, x, weight)
        image = convolution.batch_last(image)  # as both directions read it
        out = kernels.convolve(image, weight, params.get("bias"), at, groups)
        return channels_second(out), {"x": image, "weight": weight}

    def params_vjp(cache: Cache, dout: Array) -> Params:
        x, weight = cache["x"], cache["weight"]
        at, groups, out_shape, kernels = placed(x.shape, weight.shape)
        _checks.gradient(who, dout, out_shape, x.dtype)
        slope = channels_second(dout)
        dparams = {"weight": kernels.weight_gradient(x, slope, weight.shape, at, groups)}
        if bias:
            dparams["bias"] = convolution.bias_gradient(slope)
        return dparams

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        dparams, x, weight = params_vjp(cache, dout), cache["x"], cache["weight"]
        at, groups, _, kernels = placed(x.shape, weight.shape)
        dx = kernels.input_gradient(channels_second(dout), weight, x.shape, at, groups)
        return dparams, channels_second(dx)

    return Layer(init, apply, vjp, spec, params_vjp)
