"""Convolutions against PyTorch's, over a grid of options."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from funcnn import (
    conv,
    conv1d,
    conv3d,
    conv_transpose,
    conv_transpose1d,
    conv_transpose3d,
    depthwise_conv,
    separable_conv,
)
from tests.reference.agreement import agrees, torch

F: Any = torch.nn.functional

ON_EVERY_SET_OF_KERNELS = True


def _over_time(convolve: Any, x: Any, *leaves: Any, **options: Any) -> Any:
    """PyTorch's sequences are ``(N, F, T)``."""
    return convolve(x.transpose(1, 2), *leaves, **options).transpose(1, 2)


IMAGES: tuple[Any, ...] = ((2, 4, 7, 9), (3, 4, 8, 6))
KERNELS: tuple[Any, ...] = (1, 2, 3, (3, 2), (1, 4), 5)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2, (1, 2)])
@pytest.mark.parametrize("padding", [0, 1, (2, 0), (3, 4)])
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1)])
def test_conv(stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    for kernel, shape in product(KERNELS, IMAGES):
        spans = [
            (d * (k - 1) + 1, n + 2 * p)
            for n, k, d, p in zip(shape[2:], *map(_pair, (kernel, dilation, padding)), strict=True)
        ]
        if all(span <= size for span, size in spans):
            layer = conv(8, kernel, groups=groups, **options)
            agrees(layer, shape, lambda *leaves: F.conv2d(*leaves, groups=groups, **options))


def _pair(option: Any) -> tuple[int, int]:
    return (option, option) if isinstance(option, int) else option


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (4, 1), ((3, 2), (1, 3))])
def test_conv_same(kernel: Any, dilation: Any) -> None:
    for shape in IMAGES:
        layer = conv(3, kernel, padding="same", dilation=dilation)
        agrees(layer, shape, lambda *leaves: F.conv2d(*leaves, padding="same", dilation=dilation))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 0), ((1, 0), (0, 2)), ((0, 3), 1)])
def test_borders(padding: Any, mode: str) -> None:
    """What PyTorch does inside its modules, and by `pad` where the sides differ."""
    (top, bottom), (left, right) = (
        (side, side) if isinstance(side, int) else side
        for side in (padding if isinstance(padding, tuple) else (padding, padding))
    )
    their = "constant" if mode == "zeros" else mode

    def reference(x: Any, *leaves: Any, **options: Any) -> Any:
        return F.conv2d(F.pad(x, (left, right, top, bottom), their), *leaves, **options)

    given: dict[str, Any] = {"padding": padding, "padding_mode": mode}
    for kernel, stride in product(KERNELS[2:5], (1, 2)):
        layer = conv(4, kernel, stride=stride, groups=2, **given)
        agrees(layer, IMAGES[0], lambda *leaves, s=stride: reference(*leaves, stride=s, groups=2))
        deep = depthwise_conv(kernel, stride=stride, **given)
        agrees(deep, IMAGES[0], lambda *leaves, s=stride: reference(*leaves, stride=s, groups=4))

    def over_volumes(x: Any, *leaves: Any) -> Any:
        return F.conv3d(F.pad(x, (left, right, top, bottom, 1, 1), their), *leaves)

    sides = ((1, 1), (top, bottom), (left, right))
    agrees(conv3d(2, 2, padding=sides, padding_mode=mode), (1, 2, 3, 4, 4), over_volumes)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders_are_those_of_pytorchs_modules(mode: Any) -> None:
    for padding in ("same", (2, 1)):
        theirs = torch.nn.Conv2d(4, 3, 3, padding=padding, padding_mode=mode, dtype=torch.float64)

        def reference(x: Any, *leaves: Any, module: Any = theirs) -> Any:
            names = dict(zip(("weight", "bias"), leaves, strict=True))
            return torch.func.functional_call(module, names, (x,))

        agrees(conv(3, 3, padding=padding, padding_mode=mode), IMAGES[0], reference)


def test_causal_borders() -> None:
    def reference(x: Any, *leaves: Any) -> Any:
        line = F.pad(x.transpose(1, 2), (4, 0), "replicate")
        return F.conv1d(line, *leaves, dilation=2).transpose(1, 2)

    agrees(conv1d(2, 3, padding="causal", dilation=2, padding_mode="replicate"), (2, 5, 3), reference)


def test_conv_without_bias() -> None:
    agrees(conv(3, 3, bias=False), (2, 2, 5, 5), F.conv2d)


@pytest.mark.parametrize(("kernel", "padding"), [(5, 0), (3, 1)])
def test_conv_of_usual_sizes(kernel: int, padding: int) -> None:
    """Large enough for every path that the shapes can choose."""
    for batch, channels, size in ((5, 3, 28), (2, 16, 12), (3, 64, 6), (1, 1, 5)):
        layer, shape = conv(24, kernel, padding=padding), (batch, channels, size, size)
        agrees(layer, shape, lambda *leaves: F.conv2d(*leaves, padding=padding))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_conv1d(stride: int, padding: int, dilation: int, groups: int) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    for kernel, length in product((1, 2, 3, 4), (10, 13)):
        layer = conv1d(6, kernel, **options)  # type: ignore[arg-type]
        agrees(layer, (3, length, 3), lambda *leaves: _over_time(F.conv1d, *leaves, **options))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_causal_conv1d(kernel: int, dilation: int, stride: int) -> None:
    def reference(x: Any, weight: Any, bias: Any) -> Any:
        padded = F.pad(x, (0, 0, dilation * (kernel - 1), 0))
        return _over_time(F.conv1d, padded, weight, bias, dilation=dilation, stride=stride)

    layer = conv1d(4, kernel, padding="causal", dilation=dilation, stride=stride)
    for length in (1, 2, 9, 12):
        agrees(layer, (2, length, 3), reference)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, (1, 2, 1)])
@pytest.mark.parametrize("padding", [0, (1, 0, 2)])
@pytest.mark.parametrize("stride", [1, 2, (1, 2, 3)])
def test_conv3d(stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding}
    options |= {"dilation": dilation, "groups": groups}
    kernels: tuple[Any, ...] = (1, 2, (3, 1, 2))
    for kernel in kernels:
        layer = conv3d(4, kernel, **options)
        agrees(layer, (2, 2, 4, 5, 6), lambda *leaves: F.conv3d(*leaves, **options))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, (1, 3)])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
@pytest.mark.parametrize(
    ("stride", "extra"), [(1, 0), (2, 0), (2, 1), (3, 2), ((3, 2), (2, 0)), ((1, 3), (0, 1))]
)
def test_conv_transpose(stride: Any, extra: Any, padding: Any, dilation: Any, groups: int) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding, "output_padding": extra}
    options |= {"groups": groups, "dilation": dilation}
    for kernel, shape in product(KERNELS, ((2, 4, 5, 6), (3, 2, 6, 5))):
        layer = conv_transpose(6, kernel, **options)
        agrees(layer, shape, lambda *leaves: F.conv_transpose2d(*leaves, **options))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(
    ("stride", "padding", "extra"), [(1, 0, 0), (1, 1, 0), (2, 1, 1), (3, 0, 2), (4, 2, 0)]
)
def test_conv_transpose1d(stride: int, padding: int, extra: int, dilation: int, groups: int) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding, "output_padding": extra}
    options |= {"groups": groups, "dilation": dilation}
    for kernel, length in product((1, 2, 3, 4), (4, 7)):
        layer = conv_transpose1d(6, kernel, **options)
        agrees(
            layer, (2, length, 4), lambda *leaves: _over_time(F.conv_transpose1d, *leaves, **options)
        )


@pytest.mark.parametrize("stride", [1, (1, 2, 3)])
@pytest.mark.parametrize("extra", [0, (0, 1, 1)])
@pytest.mark.parametrize("dilation", [1, (1, 2, 3)])
def test_conv_transpose3d(dilation: Any, extra: Any, stride: Any) -> None:
    if extra and stride == dilation == 1:
        pytest.skip("one of both must leave room")
    kinds: tuple[Any, ...] = ((1, 0, 1), (2, (0, 1, 0), 2), ((1, 3, 2), (0, 2, 1), 1))
    for kernel, padding, groups in kinds:
        options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        options |= {"groups": groups, "output_padding": extra}
        layer = conv_transpose3d(4, kernel, **options)
        agrees(layer, (2, 2, 3, 4, 3), lambda *leaves, o=options: F.conv_transpose3d(*leaves, **o))


@pytest.mark.parametrize(("stride", "dilation", "extra"), [(1, 3, 2), (2, 4, 3), (1, 2, 1), (3, 2, 2)])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_output_padding_below_the_dilation(
    padding: int, stride: int, dilation: int, extra: int
) -> None:
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation}
    options["output_padding"] = extra
    layer, line = conv_transpose(2, 3, **options), conv_transpose1d(2, 3, **options)
    agrees(layer, (2, 3, 5, 6), lambda *leaves: F.conv_transpose2d(*leaves, **options))
    agrees(line, (2, 6, 3), lambda *leaves: _over_time(F.conv_transpose1d, *leaves, **options))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, (1, 2)])
@pytest.mark.parametrize("stride", [1, (2, 1)])
def test_depthwise(stride: Any, padding: Any, dilation: int, multiplier: int, bias: bool) -> None:
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    depthwise = depthwise_conv((3, 2), multiplier=multiplier, bias=bias, **options)
    agrees(depthwise, IMAGES[0], lambda *leaves: F.conv2d(*leaves, groups=4, **options))

    def reference(x: Any, deep: Any, *point: Any) -> Any:
        return F.conv2d(F.conv2d(x, deep, groups=4, **options), *point)

    separable = separable_conv(5, (3, 2), multiplier=multiplier, bias=bias, **options)
    agrees(separable, IMAGES[0], reference)


def test_depthwise_of_many_channels() -> None:
    """More than one chunk of work."""
    for multiplier in (1, 2):
        layer = depthwise_conv(3, padding=1, multiplier=multiplier)
        agrees(layer, (6, 20, 20, 21), lambda *leaves: F.conv2d(*leaves, padding=1, groups=20))
