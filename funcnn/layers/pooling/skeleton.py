"""What all poolings of windows share, for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from funcnn import checks
from funcnn._kernels.axes import channels_second_shape, turning
from funcnn._kernels.windows import Window, expanded, output_size, overhanging, window
from funcnn.checks import Constraint, Flag, Number, Optional, Sizes
from funcnn.types import Array, Cache, Key, Layer, Params, Shape

Ints = int | tuple[int, ...]
Forward = Callable[[Array, Window], tuple[Array, Any]]
Gradient = Callable[[Array, Any, tuple[int, ...], Window], Array]


def options(axes: int, *names: str) -> dict[str, Constraint]:
    """What poolings over so many axes declare: what all have, and some options more."""
    every: dict[str, Constraint] = {
        "kernel_size": Sizes(axes, 1),
        "stride": Optional(Sizes(axes, 1)),
        "ceil_mode": Flag(),
        "padding": Sizes(axes),
        "dilation": Sizes(axes, 1),
        "count_include_pad": Flag(),
        "norm_type": Number(minimum=1),
    }
    return {name: every[name] for name in ("kernel_size", "stride", "ceil_mode", *names)}


def pooling(
    axes: str,
    kernel: Ints,
    stride: Ints | None,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    forward: Forward,
    gradient: Gradient,
) -> Layer[Any, Any]:
    """A pooling of windows; `forward` leaves a record for `gradient`."""
    rank = axes.count(",") - 1
    channels_second = turning(rank + 2)
    pads = expanded(padding, rank)
    fixed = window(expanded(kernel, rank), kernel if stride is None else stride, pads, dilation)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(fixed.kernel, fixed.dilation, strict=True))
    if any(2 * pad > span for pad, span in zip(pads, spans, strict=True)):
        checks.refuse(f"`padding` must be at most half of the kernel {spans}, got {pads}")

    @lru_cache(maxsize=64)
    def placed(shape: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
        """The window over ``(N, C, *spatial)``, and the shape that comes out."""
        at = overhanging(fixed, shape[2:]) if ceil_mode else fixed
        places = output_size(at, shape[2:])
        if min(places) < 1:
            got = channels_second_shape(shape)
            checks.refuse(f"`x` must not be smaller than the kernel {spans}, got shape {got}")
        return at, channels_second_shape((*shape[:2], *places))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return placed(channels_second_shape(checks.shape(shape, axes)))[1], {}

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        image = channels_second(checks.inputs(params, {}, x, axes))
        out, record = forward(image, placed(image.shape)[0])
        return channels_second(out), {"record": record, "shape": image.shape, "dtype": x.dtype}

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        shape = cache["shape"]
        at, out_shape = placed(shape)
        checks.gradient(dout, out_shape, cache["dtype"])
        dx = gradient(channels_second(dout), cache["record"], shape, at)
        return {}, channels_second(dx)

    return Layer(init, apply, vjp)
