"""The Lp norm of each window."""

from __future__ import annotations

from typing import Any

from funcnn._kernels.pooling import norms as kernels
from funcnn._kernels.windows import Window
from funcnn.checks import declared
from funcnn.layers.pooling.skeleton import Ints, options, pooling
from funcnn.types import Array, Image, Layer, Sequence, Volume

__all__ = ["lp_pool", "lp_pool1d", "lp_pool3d"]


@declared(**options(2, "norm_type"))
def lp_pool(
    kernel_size: int | tuple[int, int],
    *,
    norm_type: float = 2.0,
    stride: int | tuple[int, int] | None = None,
    ceil_mode: bool = False,
) -> Layer[Image, Image]:
    """Lp norm of each window, ``(N, C, H, W) -> (N, C, H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Height and width of the window.
    norm_type : float, default 2.0
        The exponent ``p``, at least 1: at 1 the sum of absolute values; the larger, the closer to
        their maximum.
    stride : int or (int, int), optional
        Step of the window; by default the kernel size.
    ceil_mode : bool, default False
        Whether a last window that starts on the image may reach beyond it; its sum is then scaled
        up to the full size of the window, as in PyTorch.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of images, or is smaller than the window.

    Notes
    -----
    Forward: ``y = (sum |x|^p)^(1/p)``. Pullback: ``dx = dy sign(x) (|x| / y)^(p - 1)``, and 0 where
    ``x = 0``. Neither overflows where the result does not; infinities share a slope as equals do.
    (PyTorch leaves out the absolute value: for an odd ``p``, or one that is no integer, they agree
    where ``x`` is not negative.)

    References
    ----------
    P. Sermanet, S. Chintala and Y. LeCun, "Convolutional neural networks applied to house numbers
    digit classification", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import lp_pool
    >>> lp_pool((1, 2)).apply({}, np.array([[[[3.0, -4.0]]]]))[0]
    array([[[[5.]]]])
    """
    return _lp_pool("N, C, H, W", kernel_size, norm_type, stride, ceil_mode)


@declared(**options(1, "norm_type"))
def lp_pool1d(
    kernel_size: int, *, norm_type: float = 2.0, stride: int | None = None, ceil_mode: bool = False
) -> Layer[Sequence, Sequence]:
    """Lp norm of each window of time steps, feature by feature, ``(N, T, F) -> (N, T', F)``.

    Parameters
    ----------
    kernel_size : int
        Time steps that a window sees.
    norm_type, stride, ceil_mode
        As in `lp_pool`, with one axis.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of sequences, or is smaller than the window.

    Notes
    -----
    Shapes, formula and pullback are those of `lp_pool`, over one axis.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import lp_pool1d
    >>> lp_pool1d(2).apply({}, np.array([[[3.0], [-4.0]]]))[0]
    array([[[5.]]])
    """
    return _lp_pool("N, T, F", kernel_size, norm_type, stride, ceil_mode)


@declared(**options(3, "norm_type"))
def lp_pool3d(
    kernel_size: int | tuple[int, int, int],
    *,
    norm_type: float = 2.0,
    stride: int | tuple[int, int, int] | None = None,
    ceil_mode: bool = False,
) -> Layer[Volume, Volume]:
    """Lp norm of each window, ``(N, C, D, H, W) -> (N, C, D', H', W')``.

    Parameters
    ----------
    kernel_size : int or (int, int, int)
        Depth, height and width of the window.
    norm_type, stride, ceil_mode
        As in `lp_pool`, with three axes.

    Returns
    -------
    Layer
        Without parameters.

    Raises
    ------
    ValueError, TypeError
        For an input that is not a batch of volumes, or is smaller than the window.

    Notes
    -----
    Shapes, formula and pullback are those of `lp_pool`, over three axes.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import lp_pool3d
    >>> lp_pool3d((1, 2, 2)).apply({}, np.full((1, 1, 1, 2, 2), 2.0))[0]
    array([[[[[4.]]]]])
    """
    return _lp_pool("N, C, D, H, W", kernel_size, norm_type, stride, ceil_mode)


def _lp_pool(
    axes: str, kernel: Ints, power: float, stride: Ints | None, ceil_mode: bool
) -> Layer[Any, Any]:
    """The pooling of a norm: the way back needs what went in, and what `kernels.norm` records."""

    def forward(x: Array, at: Window, counted: Window) -> tuple[Array, dict[str, Any]]:
        out, record = kernels.norm(x, at, counted, power)
        return out, {"x": x, "record": record}

    def gradient(
        dout: Array, kept: dict[str, Any], shape: tuple[int, ...], at: Window, counted: Window
    ) -> Array:
        return kernels.norm_gradient(dout, kept["x"], kept["record"], at, counted, power)

    return pooling(axes, kernel, stride, 0, 1, ceil_mode, forward, gradient, counting=True)
