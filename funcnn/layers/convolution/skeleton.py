"""What all convolutions share, for any number of spatial axes: checks, parameters and pullbacks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

from funcnn import checks, random
from funcnn._kernels import borders
from funcnn._kernels.axes import channels_second_shape, turning
from funcnn._kernels.convolution import arranged, bias_gradient
from funcnn._kernels.windows import Padding, Window, on_image, output_size, window
from funcnn.checks import Beside, Choice, Constraint, Either, Flag, Integer, Shapes, Sides, Sizes
from funcnn.initializers.core import BIAS_INIT, INITIALIZER, Initializer
from funcnn.types import Array, Cache, Key, Layer, Params, Shape

Ints = int | tuple[int, ...]


def padded(axes: int) -> dict[str, Constraint]:
    """What those convolutions declare that see beyond the input."""
    words = ("same", "valid", "causal") if axes == 1 else ("same", "valid")
    modes = Choice("zeros", "reflect", "replicate", "circular")
    return {
        "padding": Either(Choice(*words), Sides(axes)),
        "padding_mode": Beside(modes, "padding"),
    }


def options(axes: int, *groups: str) -> dict[str, Constraint]:
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


class Kernels(Protocol):
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


class Rule(NamedTuple):
    """What tells one kind of convolution from another; shapes are ``(N, C, *spatial)``."""

    filters: Callable[[int], tuple[int, ...]]  # the weight's shape, for so many channels
    channels: Callable[[tuple[int, ...]], tuple[int, int, int]]  # in, out and groups, of a weight's
    place: Callable[[tuple[int, ...]], tuple[Window, tuple[int, ...]]]  # and the places it takes
    kernels: Kernels
    border: str = "zeros"  # what stands around the image


def placing(
    kernel: tuple[int, ...], stride: Ints, padding: Padding | str, dilation: Ints
) -> Callable[[tuple[int, ...]], tuple[Window, tuple[int, ...]]]:
    """Where the window stands on an input."""
    fixed = window(kernel, stride, padding, dilation)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, fixed.dilation, strict=True))

    def place(shape: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
        at = on_image(fixed, padding, shape[2:])
        places = output_size(at, shape[2:])
        if min(places) < 1:
            got = channels_second_shape(shape)
            checks.refuse(f"`x` must not be smaller than the kernel {spans}, got shape {got}")
        return at, places

    return place


def divides(groups: int, outs: int) -> None:
    if outs % groups:
        checks.refuse(f"`out_channels` must be a multiple of {groups} groups, got {outs}")


class _Placed(NamedTuple):
    """How a layer's filters stand on an input."""

    at: Window
    groups: int
    out_shape: tuple[int, ...]
    border: borders.Widths  # what the image repeats of itself before the filters see it


def _grouped(image: tuple[int, ...], groups: int, word: str) -> None:
    if image[1] % groups:
        got = channels_second_shape(image)
        checks.refuse(f"`x` must have a multiple of {groups} {word}, got shape {got}")


def _repeated(at: Window, mode: str, image: tuple[int, ...]) -> tuple[Window, borders.Widths]:
    """The window, and the border that it has left to copies of the image."""
    if mode == "zeros" or not any(map(any, at.padding)):
        return at, ()
    if not borders.repeatable(image[2:], at.padding, mode):
        got = channels_second_shape(image)
        checks.refuse(f"`x` must not be smaller than its border {at.padding}, got shape {got}")
    return at._replace(padding=((0, 0),) * len(at.kernel)), at.padding


def convolution_of(
    axes: str, rule: Rule, bias: bool, weight_init: Initializer, bias_init: Initializer
) -> Layer[Array, Array]:
    """The convolution that a rule computes, over the axes of space or time."""
    word, kernels = ("features" if axes == "N, T, F" else "channels"), rule.kernels
    rank = axes.count(",") + 1
    channels_second = turning(rank)

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
        _grouped(image, groups, word)
        at, places = rule.place(image)
        at, border = _repeated(at, rule.border, image)
        return _Placed(at, groups, channels_second_shape((image[0], outs, *places)), border)

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        image = channels_second_shape(checks.shape(shape, axes))
        filters = rule.filters(image[1])
        _, outs, groups = rule.channels(filters)
        _grouped(image, groups, word)
        out_shape = placed(image, filters).out_shape
        weight_key, bias_key = random.split(checks.key(key))
        params = {"weight": weight_init(weight_key, filters)}
        return out_shape, params | ({"bias": bias_init(bias_key, (outs,))} if bias else {})

    def apply(params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Cache]:
        weight = params.get("weight") if isinstance(params, dict) else None
        image = channels_second(checks.inputs(params, shapes(getattr(weight, "shape", ())), x, axes))
        assert weight is not None
        at, groups, _, border = placed(image.shape, weight.shape)
        image = arranged(image)  # as both directions read it
        seen = borders.pad(image, border, rule.border, 0.0) if border else image
        out = kernels.convolve(seen, weight, params.get("bias"), at, groups)
        return channels_second(out), {"x": image, "weight": weight}

    def params_vjp(cache: Cache, dout: Array) -> Params:
        x, weight = cache["x"], cache["weight"]
        at, groups, out_shape, border = placed(x.shape, weight.shape)
        checks.gradient(dout, out_shape, x.dtype)
        slope = channels_second(dout)
        seen = borders.pad(x, border, rule.border, 0.0) if border else x
        dparams = {"weight": kernels.weight_gradient(seen, slope, weight.shape, at, groups)}
        return dparams | ({"bias": bias_gradient(slope)} if bias else {})

    def vjp(cache: Cache, dout: Array) -> tuple[Params, Array]:
        dparams, x, weight = params_vjp(cache, dout), cache["x"], cache["weight"]
        at, groups, _, border = placed(x.shape, weight.shape)
        shape = (*x.shape[:2], *borders.grown(x.shape[2:], border)) if border else x.shape
        dx = kernels.input_gradient(channels_second(dout), weight, shape, at, groups)
        if border:
            dx = borders.pad_gradient(dx, x.shape[2:], border, rule.border)
        return dparams, channels_second(dx)

    return Layer(init, apply, vjp, params_vjp=params_vjp)
