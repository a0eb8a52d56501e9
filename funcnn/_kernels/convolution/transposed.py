"""Transposed convolution: a convolution's input gradient, run forward."""

from __future__ import annotations

from funcnn import numerics
from funcnn._kernels import borders, convolution
from funcnn._kernels.convolution.plans import general
from funcnn._kernels.windows import Window
from funcnn.types import Array


def reach(window: Window, spatial: tuple[int, ...]) -> tuple[int, ...]:
    """How many outputs the inputs reach along each axis.

    What is padding to the convolution is cut off here; a smaller, even negative, high padding leaves
    more of the output.

    Examples
    --------
    >>> from funcnn._kernels.windows import window
    >>> reach(window((3, 3), stride=2, padding=1), (4, 4))
    (7, 7)
    """
    return tuple(
        (n - 1) * s + d * (k - 1) + 1 - low - high
        for n, k, s, (low, high), d in zip(spatial, *window, strict=True)
    )


def convolve(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """``out[n, o, p * stride + k * dilation] = bias[o] + sum_ck weight[c, o, k] x[n, c, p]``."""
    if counter := numerics.counter():
        with counter.one_product(x.size * weight[0].size):
            return convolve(x, weight, bias, window, groups)
    at, beyond = _mirrored(window)
    shape = (x.shape[0], weight.shape[1] * groups, *reach(at, x.shape[2:]))
    way = general("input", shape, weight.shape, at)
    out = convolution.input_gradient(x, weight, shape, at, groups, way)
    if beyond:
        out = borders.pad(out, beyond, "constant", 0.0)
    if bias is not None:
        out += bias.reshape(-1, *(1,) * (x.ndim - 2))
    return out


def weight_gradient(
    x: Array, dout: Array, weight_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """``dweight[c, o, k] = sum_np x[n, c, p] dout[n, o, p * stride + k * dilation]``."""
    at, beyond = _mirrored(window)
    dout = borders.crop(dout, beyond) if beyond else dout
    way = general("weight", dout.shape, weight_shape, at)
    return convolution.weight_gradient(dout, x, weight_shape, at, groups, way)


def input_gradient(
    dout: Array, weight: Array, x_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """``dx[n, c, p] = sum_ok weight[c, o, k] dout[n, o, p * stride + k * dilation]``."""
    at, beyond = _mirrored(window)
    dout = borders.crop(dout, beyond) if beyond else dout
    way = general("convolve", dout.shape, weight.shape, at)
    return convolution.convolve(dout, weight, None, at, groups, way)


def _mirrored(window: Window) -> tuple[Window, borders.Widths]:
    """The convolution's window, and how much lies beyond it that no input reaches."""
    pads = tuple((low, max(high, 0)) for low, high in window.padding)
    beyond = tuple((0, max(-high, 0)) for _, high in window.padding)
    return window._replace(padding=pads), beyond if any(map(any, beyond)) else ()
