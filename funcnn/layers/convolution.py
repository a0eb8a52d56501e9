"""Convolutions: one implementation for any number of spatial axes."""

from __future__ import annotations

from funcnn import _checks, random
from funcnn._kernels import convolution as kernels
from funcnn._kernels.windows import Window, output_size, same_padding, window
from funcnn.initializers import Initializer, he_normal, zeros
from funcnn.types import Array, Cache, Image, Key, Layer, Params, Shape, Spec

__all__ = ["conv"]

_HE = he_normal()
_ZEROS = zeros()

Sizes = int | tuple[int, ...]


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


def _convolution(spec: Spec, axes: str) -> Layer[Array, Array]:
    """The convolution that a spec describes, over the axes after the channels."""
    who, rank, given = spec.kind, axes.count(",") - 1, spec.options
    out_channels = _checks.integer(who, "out_channels", spec.args[0], 1)
    kernel = _checks.integers(who, "kernel_size", spec.args[1], rank, 1)
    stride = _checks.integers(who, "stride", given["stride"], rank, 1)
    dilation = _checks.integers(who, "dilation", given["dilation"], rank, 1)
    groups = _checks.integer(who, "groups", given["groups"], 1)
    bias = _checks.boolean(who, "bias", given["bias"])
    same = given["padding"] == "same"
    if isinstance(given["padding"], str):
        _checks.choice(who, "padding", given["padding"], ("same", "valid"))
        pads = (0,) * rank
    else:
        pads = _checks.integers(who, "padding", given["padding"], rank)
    fixed = window(kernel, stride, pads, dilation)
    if out_channels % groups:
        _checks.refuse(who, f"`out_channels` must be a multiple of {groups} groups, got {out_channels}")

    def placed(shape: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
        """The window over this input, and the shape that comes out."""
        at = fixed
        if same:
            at = fixed._replace(padding=same_padding(kernel, stride, dilation, shape[2:]))
        places = output_size(at, shape[2:])
        if min(places) < 1:
            _checks.refuse(who, f"`x` must not be smaller than the kernel {kernel}, got shape {shape}")
        return at, (shape[0], out_channels, *places)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        checked = _checks.shape(who, shape, axes)
        if checked[1] % groups:
            _checks.refuse(who, f"`x` must have a multiple of {groups} channels, got shape {shape}")
        weight_key, bias_key = random.split(_checks.key(who, key))
        filters = (out_channels, checked[1] // groups, *kernel)
        params = {"weight": given["weight_init"](weight_key, filters)}
        if bias:
            params["bias"] = given["bias_init"](bias_key, (out_channels,))
        return placed(checked)[1], params

    shapes = {"weight": (out_channels, None, *kernel), "bias": (out_channels,)}
    if not bias:
        del shapes["bias"]

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        _checks.leaves(who, params, shapes)
        weight = params["weight"]
        _checks.ranked(who, x, axes)
        _checks.sized(who, x, 1, weight.shape[1] * groups, "channels")
        _checks.same_dtype(who, x, weight)
        at, _ = placed(x.shape)
        out = kernels.convolve(x, weight, params.get("bias"), at, groups)
        return out, {"x": x, "weight": weight}

    def params_vjp(cache: Cache, dout: Array) -> Params:
        x, weight = cache["x"], cache["weight"]
        at, out_shape = placed(x.shape)
        _checks.gradient(who, dout, out_shape)
        dparams = {"weight": kernels.weight_gradient(x, dout, weight.shape, at, groups)}
        if bias:
            dparams["bias"] = kernels.bias_gradient(dout)
        return dparams

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        dparams, shape = params_vjp(cache, dout), cache["x"].shape
        return dparams, kernels.input_gradient(dout, cache["weight"], shape, placed(shape)[0], groups)

    return Layer(init, apply, vjp, spec, params_vjp)
