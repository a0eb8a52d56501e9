"""Kernels of portable mode that pass over memory: in any order there, on any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from funcnn import numerics, relu
from funcnn._kernels import attention, convolution, normalization
from funcnn._kernels.windows import output_size, window
from funcnn.machine.threads import in_team
from funcnn.types import Array

if find_spec("numba") is None:
    pytest.skip("Numba is not installed", allow_module_level=True)

from tests.test_portable_compiled import _drawn, _same

ODD = [None, 0.0, -0.0, np.nan, np.inf, 1e-42, 1e30]


def _batch_last(x: Array) -> Array:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)


ORDERS: list[Callable[[Array], Array]] = [
    np.ascontiguousarray, _batch_last, lambda x: x.T.copy().T, lambda x: x[:, ::-1],
    lambda x: np.repeat(x, 2, -1)[..., ::2],
]  # fmt: skip


def _plain(found: Any) -> list[Array]:
    """What there is; a NaN has a sign, which means nothing."""
    return [np.nan_to_num(one, nan=7.5) for one in found if one is not None]


def _same_for_every_team(compute: Callable[[], Any], note: str = "") -> None:
    for workers in (1, 2, 3):
        _same(partial(in_team, workers, lambda: _plain(compute())), f"{note} {workers}")


NORMS = [
    ((32, 5, 9, 8), (0, 2, 3), (1, 5, 1, 1)), ((6, 5, 4), (2,), (1, 1, 4)), ((7, 33), (0,), (1, 33)),
    ((3, 2, 5, 6000), (3,), (1, 1, 1, 6000)), ((5, 4, 6), (1, 2), (1, 1, 6)),
    ((5, 4, 6), (1, 2), (1, 4, 6)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "axes", "sizes"), NORMS, ids=str)
def test_bits_of_normalization_are_the_same(shape: Any, axes: Any, sizes: Any) -> None:
    for i, (odd, order) in enumerate(zip(ODD, [*ORDERS, *ORDERS], strict=False)):
        dtype = (np.float32, np.float64)[i % 2]
        x, dout = (order(_drawn(name, shape, dtype)).copy("K") for name in "xd")
        if odd is not None:
            x.flat[5] = dout.flat[9] = odd
        scale, bias = _drawn("scale", sizes, dtype), _drawn("bias", sizes, dtype)

        def all() -> Any:
            found = normalization.centre(x, axes, 1e-5)  # noqa: B023 - runs at once
            offset, rstd, _, _, shrink = found
            some = [(scale, bias), (scale, None), (None, None)]  # noqa: B023
            outs = [normalization.scaled(offset, rstd, *pair) for pair in some]
            rest = rstd, scale, shrink, axes  # noqa: B023
            both = [normalization.centre_gradients(dout, offset, *rest, one) for one in (True, False)]  # noqa: B023
            return [*found, *outs, *both[0], *both[1]]

        _same_for_every_team(all, f"{odd} {i}")


@pytest.mark.parametrize("shape", [(32, 5, 9, 8), (0, 3), (1,), (3, 9000)], ids=str)
def test_bits_of_relu_are_the_same(shape: tuple[int, ...]) -> None:
    layer = relu()
    for i, order in enumerate(ORDERS[: 3 if len(shape) < 2 else 5]):
        dtype = (np.float32, np.float64)[i % 2]
        x, dout = _drawn("x", shape, dtype), _drawn("dout", shape, dtype)
        for one in (x, dout):
            for step, odd in enumerate(ODD[1:], 7):
                one.flat[::step] = odd
        for given in (dout, order(dout)):

            def both() -> Any:
                out, cache = layer.apply({}, order(x))  # noqa: B023 - runs at once
                return out, layer.vjp(cache, given)[1]  # noqa: B023

            _same_for_every_team(both)


def test_ordinary_passes_are_not_declined() -> None:
    kernels = import_module("funcnn._kernels.normalization.portable_compiled")
    functions = import_module("funcnn._kernels.elementwise.portable_compiled")
    for shape, axes, sizes in NORMS[:3]:
        x, scale = _batch_last(_drawn("x", shape)), _drawn("scale", sizes)
        x = x if axes[0] == 0 else np.ascontiguousarray(x)
        with numerics.portable(), numerics.compiled("require"):
            offset, mean, variance = kernels.deviations(x, axes, True, None)
            assert kernels.scaled(offset, variance, scale, scale) is not NotImplemented
            given = x, scale, variance, offset, mean, mean, None
            assert kernels.combined(*given) is not NotImplemented
            assert kernels.products_over(x, offset, axes) is not NotImplemented
            assert functions.applied(x, None, ("relu",)) is not NotImplemented
            assert functions.sloped(x, offset, None, ("relu",)) is not NotImplemented


# Batch, heads of queries and of keys, steps of both, features of keys and of values.
ATTENTION = [
    (2, 2, 2, 5, 5, 3, 3), (3, 4, 2, 7, 9, 8, 5), (1, 1, 1, 1, 1, 1, 1), (2, 3, 1, 70, 67, 16, 16),
    (5, 2, 2, 64, 64, 4, 12), (2, 1, 1, 3, 1, 2, 2),
]  # fmt: skip


def _heads(name: str, batch: int, heads: int, steps: int, features: int) -> Array:
    return _drawn(name, (batch, steps, heads, features)).transpose(0, 2, 1, 3)


def _attention(at: tuple[int, ...]) -> tuple[Array, ...]:
    batch, heads, groups, steps, keys, features, width = at
    return (
        _heads("q", batch, heads, steps, features), _heads("k", batch, groups, keys, features),
        _heads("v", batch, groups, keys, width), _heads("dout", batch, heads, steps, width),
    )  # fmt: skip


def _seen(at: tuple[int, ...]) -> list[Array | None]:
    """Everything; what has been; few pairs, so that some queries see one key, and some none."""
    pairs = at[3], at[4]
    few = np.abs(_drawn("seen", (at[0], *pairs))) > 1.5
    return [None, attention.visible(pairs, True), attention.visible(pairs, False, few)]


@pytest.mark.parametrize("at", ATTENTION, ids=str)
@pytest.mark.parametrize("odd", [None, 0.0, 3e38, np.inf, np.nan])
def test_bits_of_attention_are_the_same(at: tuple[int, ...], odd: float | None) -> None:
    shape = at[:2] + at[3:5]
    kept = (np.abs(_drawn("kept", shape)) > 0.4) * np.float32(1.25)
    q, k, v, dout = (x.copy() for x in _attention(at))
    for i, x in enumerate((q, k, v, dout) if odd is not None else ()):
        x.flat[(7 * i) % x.size] = odd
    for seen in _seen(at):
        for how in (attention.Scores(0.7, seen), attention.Scores(2.0, seen, kept=kept)):

            def both() -> Any:
                made = attention.attend(q, k, v, how)  # noqa: B023 - runs at once
                return [*made, *attention.attend_gradients(q, k, v, made, how, dout)]  # noqa: B023

            _same_for_every_team(both)


def test_ordinary_attention_is_not_declined() -> None:
    kernels = import_module("funcnn._kernels.attention.portable_compiled")
    with numerics.portable(), numerics.compiled("require"):
        for at in ATTENTION[:5]:
            q, k, v, dout = _attention(at)
            for seen in _seen(at):
                how = attention.Scores(0.7, seen)
                assert (made := kernels.attend(q, k, v, how)) is not NotImplemented
                assert kernels.attend_gradients(q, k, v, made, how, dout) is not NotImplemented


DEPTHWISE: list[tuple[Any, ...]] = [  # batch, sizes, kernel, stride, padding, dilation, filters
    (32, (9, 8), (3, 3), 1, 1, 1, 1), (5, (9, 8), (3, 3), 2, 1, 1, 2), (7, (6, 6), (1, 3), 1, 0, 1, 3),
    (1, (12, 7), (3, 5), (2, 1), ((2, 0), (1, 1)), (1, 2), 1), (2, (5, 6), (2, 2), (1, 3), 0, 1, 1),
    (3, (5, 5), (5, 5), 1, ((4, 0), (6, 3)), 1, 1), (4, (9,), (3,), 1, 1, 1, 1),
]  # fmt: skip


@pytest.mark.parametrize("at", DEPTHWISE, ids=str)
def test_bits_of_depthwise_convolutions_are_the_same(at: tuple[Any, ...]) -> None:
    batch, spatial, kernel, stride, padding, dilation, times = at
    win = window(kernel, stride, padding, dilation)
    weight, bias = _drawn("w", (3 * times, 1, *kernel)), _drawn("bias", (3 * times,))
    for odd, order in zip([None, np.nan, -0.0, 1e30], ORDERS, strict=False):
        x = _drawn("x", (batch, 3, *spatial)).copy()
        dout = _drawn("dout", (batch, 3 * times, *output_size(win, spatial))).copy()
        if odd is not None:
            x.flat[5] = dout.flat[7] = odd
        x, dout = order(x), order(dout)

        def all() -> Any:
            out = convolution.convolve(x, weight, bias, win, 3)  # noqa: B023 - runs at once
            dweight = convolution.weight_gradient(x, dout, weight.shape, win, 3)  # noqa: B023
            return out, dweight, convolution.input_gradient(dout, weight, x.shape, win, 3)  # noqa: B023

        _same_for_every_team(all, f"{odd}")


def test_ordinary_depthwise_convolutions_are_not_declined() -> None:
    kernels = import_module("funcnn._kernels.convolution.depthwise_portable")
    win, weight = window((3, 3), 1, 1, 1), _drawn("w", (3, 1, 3, 3))
    for x in (_drawn("x", (5, 3, 8, 9)), _drawn("x", (5, 3, 8, 9)).round()):
        with numerics.portable(), numerics.compiled("require"):
            assert kernels.convolve(x, weight, None, win, 3) is not NotImplemented
            assert kernels.weight_gradient(x, x, weight.shape, win, 3) is not NotImplemented


STRIDED: list[tuple[Any, ...]] = [  # sizes, kernel, stride, padding
    ((16, 16), (3, 3), 2, 1), ((16, 16), (5, 5), 2, 2), ((10, 9), (4, 3), (2, 1), ((3, 0), (1, 1))),
    ((15, 14), (3, 3), (3, 2), 1),
]  # fmt: skip


@pytest.mark.parametrize("at", STRIDED, ids=str)
def test_bits_of_strided_input_gradients_are_the_same(at: tuple[Any, ...]) -> None:
    kernels = import_module("funcnn._kernels.convolution.portable_compiled")
    spatial, kernel, stride, padding = at
    win, weight = window(kernel, stride, padding), _drawn("w", (6, 2, *kernel))
    for odd in (None, np.nan, -0.0):
        dout = _drawn("dout", (32, 6, *output_size(win, spatial))).copy()
        if odd is not None:
            dout.flat[7] = odd
        given = _batch_last(dout), weight, (32, 4, *spatial), win, 2
        _same_for_every_team(lambda: [convolution.input_gradient(*given)])  # noqa: B023 - at once
        with numerics.portable(), numerics.compiled("require"):
            declined = kernels.input_gradient(*given) is NotImplemented
        assert not declined or odd is not None or spatial != (16, 16)
