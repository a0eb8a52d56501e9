"""What all poolings of windows share, for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from funcnn import checks
from funcnn._kernels.axes import channels_second_shape, turning
from funcnn._kernels.windows import (
    Padding,
    Window,
    expanded,
    on_image,
    output_size,
    overhanging,
    window,
)
from funcnn.checks import Choice, Constraint, Either, Flag, Number, Optional, Sides, Sizes
from funcnn.types import Array, Cache, Key, Layer, Params, Shape

Ints = int | tuple[int, ...]
Forward = Callable[..., tuple[Any, Any]]
Gradient = Callable[..., Array]


def options(axes: int, *names: str) -> dict[str, Constraint]:
    """What poolings over so many axes declare: what all have, and some options more."""
    every: dict[str, Constraint] = {
        "kernel_size": Sizes(axes, 1),
        "stride": Optional(Sizes(axes, 1)),
        "ceil_mode": Flag(),
        "padding": Either(Choice("same", "valid"), Sides(axes)),
        "dilation": Sizes(axes, 1),
        "count_include_pad": Flag(),
        "norm_type": Number(minimum=1),
        "return_indices": Flag(),
    }
    return {name: every[name] for name in ("kernel_size", "stride", "ceil_mode", *names)}


def pooling(
    axes: str,
    kernel: Ints,
    stride: Ints | None,
    padding: Padding | str,
    dilation: Ints,
    ceil_mode: bool,
    forward: Forward,
    gradient: Gradient,
    *,
    counting: bool = False,
    indexed: bool = False,
) -> Layer[Any, Any]:
    """A pooling of windows; `forward` leaves a record for `gradient`.

    Both get the window as it stands, and if they are `counting` once more, without what `ceil_mode`
    lets overhang the padding. What is `indexed` gives images and their winners.
    """
    rank = axes.count(",") - 1
    channels_second = turning(rank + 2)
    fixed = window(expanded(kernel, rank), kernel if stride is None else stride, padding, dilation)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(fixed.kernel, fixed.dilation, strict=True))
    if any(low == high and 2 * low > n for (low, high), n in zip(fixed.padding, spans, strict=True)):
        pads = tuple(low if low == high else (low, high) for low, high in fixed.padding)
        checks.refuse(f"`padding` must be at most half of the kernel {spans}, got {pads}")
    if any(max(pair) >= span for pair, span in zip(fixed.padding, spans, strict=True) if any(pair)):
        checks.refuse(f"`padding` must be below the kernel {spans}, got {fixed.padding}")
    if ceil_mode and padding == "same":
        checks.refuse("`ceil_mode` must be False for padding 'same', got True")

    @lru_cache(maxsize=64)
    def placed(shape: tuple[int, ...]) -> tuple[tuple[Window, ...], tuple[int, ...]]:
        """The window over ``(N, C, *spatial)``, and the shape that comes out."""
        counted = on_image(fixed, padding, shape[2:])
        at = overhanging(counted, shape[2:]) if ceil_mode else counted
        places = output_size(at, shape[2:])
        if min(places) < 1:
            got = channels_second_shape(shape)
            checks.refuse(f"`x` must not be smaller than the kernel {spans}, got shape {got}")
        windows = (at, counted) if counting else (at,)
        return windows, channels_second_shape((*shape[:2], *places))

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        out_shape = placed(channels_second_shape(checks.shape(shape, axes)))[1]
        return (out_shape, out_shape) if indexed else out_shape, {}

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Any, Cache]:
        image = channels_second(checks.inputs(params, {}, x, axes))
        out, record = forward(image, *placed(image.shape)[0])
        cache = {"record": record, "shape": image.shape, "dtype": x.dtype}
        return tuple(map(channels_second, out)) if indexed else channels_second(out), cache

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Array]:
        shape = cache["shape"]
        windows, out_shape = placed(shape)
        if indexed:
            dout, _ = checks.together(dout, "y, indices", "dout")
        checks.gradient(dout, out_shape, cache["dtype"])
        dx = gradient(channels_second(dout), cache["record"], shape, *windows)
        return {}, channels_second(dx)

    return Layer(init, apply, vjp)
