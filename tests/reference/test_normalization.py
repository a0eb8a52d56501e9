"""Normalisations against PyTorch's, with their running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    random,
    rms_norm,
)
from funcnn.types import Array, Layer, Params, Shape
from tests.reference.agreement import agrees, torch

F: Any = torch.nn.functional

SHAPES = ((6, 3), (3, 3, 4, 5), (2, 3, 2, 3, 4), (4, 5, 3))

ON_EVERY_SET_OF_KERNELS = True


def _channels_second(x: Any) -> Any:
    """PyTorch's sequences are ``(N, F, T)``."""
    return x.transpose(1, 2) if x.ndim == 3 else x


def _normal(label: str, *shape: int) -> Array:
    return random.normal(random.fold_in(random.key(11), label), shape, dtype=np.float64)


def _near(mine: Array, theirs: Any) -> None:
    np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("track_running", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.3, "epsilon": 0.1}], ids=str)
def test_batch_norm(options: Any, affine: bool, track_running: bool, shape: Shape) -> None:
    """Three passes of training, then one of inference: outputs, gradients, statistics."""
    if not track_running:  # there is nothing for a momentum to act on
        options = {name: option for name, option in options.items() if name != "momentum"}
    layer: Layer[Array, Array] = batch_norm(affine=affine, track_running=track_running, **options)
    params: Params = layer.init(random.key(0), shape)[1]
    theirs = torch.nn.BatchNorm1d(
        3,
        eps=options.get("epsilon", 1e-5),
        momentum=options.get("momentum", 0.1),
        affine=affine,
        track_running_stats=track_running,
        dtype=torch.float64,
    )
    theirs._check_input_dim = lambda x: None  # one class for any number of axes
    for name, leaf in params.items():
        drawn = np.abs(_normal(name, *leaf.shape)) if name == "running_var" else _normal(name, 3)
        params[name] = drawn
        their_name = {"scale": "weight"}.get(name, name)
        getattr(theirs, their_name).data = torch.tensor(drawn)

    for step in range(4):
        key = random.key(step) if step < 3 else None
        theirs.train(key is not None)
        x = 3 * _normal(f"x{step}", *shape) + 1
        out, cache = layer.apply(params, x, key=key)
        dout = _normal(f"dout{step}", *shape)
        dparams, dx = layer.vjp(cache, dout)

        tensor = torch.tensor(x, requires_grad=True)
        wanted = _channels_second(theirs(_channels_second(tensor)))
        learned = [theirs.weight, theirs.bias] if affine else []
        slopes = torch.autograd.grad(wanted, [tensor, *learned], torch.tensor(dout))
        _near(out, wanted)
        for mine, slope in zip((dx, *(dparams[n] for n in ("scale", "bias") if affine)), slopes,
                               strict=True):  # fmt: skip
            _near(mine, slope)
        new = layer.statistics(cache)
        assert list(new) == (["running_mean", "running_var"] if track_running and step < 3 else [])
        params = {**params, **new}
        for name in new:
            _near(params[name], getattr(theirs, name))


def test_batch_norm_of_one_value_is_refused_as_in_pytorch() -> None:
    layer: Layer[Array, Array] = batch_norm()
    params = layer.init(random.key(0), (1, 3))[1]
    x = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch.nn.BatchNorm1d(3)(torch.tensor(x))
    with pytest.raises(ValueError, match="at least 2 values per channel in training") as caught:
        layer.apply(params, x, key=random.key(0))
    assert str(caught.value) == (
        "batch_norm: `x` must have at least 2 values per channel in training, got shape (1, 3)"
    )
    assert layer.apply(params, x)[0].shape == (1, 3)


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_layer_norm(epsilon: float) -> None:
    for shape, count in (((4, 5), 1), ((2, 3, 4), 1), ((2, 3, 4), 2), ((2, 3, 4, 5), 3)):
        axes, sizes = tuple(range(-count, 0)), shape[-count:]

        def reference(x: Any, *leaves: Any, sizes: Any = sizes) -> Any:
            return F.layer_norm(x, sizes, *leaves, eps=epsilon)

        agrees(layer_norm(axes, epsilon=epsilon), shape, reference)
        agrees(layer_norm(axes, epsilon=epsilon, bias=False), shape, reference)
        agrees(layer_norm(axes, epsilon=epsilon, affine=False), shape, reference)


def test_layer_norm_of_inner_axes() -> None:
    def channels(x: Any, scale: Any, bias: Any) -> Any:
        return F.layer_norm(x.movedim(1, -1), scale.shape, scale, bias).movedim(-1, 1)

    def outer(x: Any, scale: Any, bias: Any) -> Any:
        return F.layer_norm(x.movedim(2, 1), scale.shape, scale, bias).movedim(1, 2)

    agrees(layer_norm(1), (2, 3, 4, 5), channels)
    agrees(layer_norm((3, 1)), (2, 3, 4, 5), outer)


@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_rms_norm(epsilon: float) -> None:
    for shape, count in (((4, 5), 1), ((2, 3, 4), 1), ((2, 3, 4), 2)):
        axes, sizes = tuple(range(-count, 0)), shape[-count:]

        def reference(x: Any, *leaves: Any, sizes: Any = sizes) -> Any:
            return F.rms_norm(x, sizes, *leaves, eps=epsilon)

        agrees(rms_norm(axes, epsilon=epsilon), shape, reference)
        agrees(rms_norm(axes, epsilon=epsilon, affine=False), shape, reference)


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm(groups: int, epsilon: float) -> None:
    for shape in ((4, 12), (2, 6, 3, 4), (2, 6, 2, 2, 3), (2, 5, 6)):

        def reference(x: Any, *leaves: Any) -> Any:
            return _channels_second(F.group_norm(_channels_second(x), groups, *leaves, eps=epsilon))

        agrees(group_norm(groups, epsilon=epsilon), shape, reference)
        agrees(group_norm(groups, epsilon=epsilon, affine=False), shape, reference)


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_instance_norm(epsilon: float) -> None:
    def reference(x: Any, scale: Any = None, bias: Any = None) -> Any:
        out = F.instance_norm(_channels_second(x), weight=scale, bias=bias, eps=epsilon)
        return _channels_second(out)

    for shape in ((2, 6, 3, 4), (2, 6, 2, 2, 3), (2, 5, 6)):
        agrees(instance_norm(epsilon=epsilon), shape, reference)
        agrees(instance_norm(epsilon=epsilon, affine=True), shape, reference)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("momentum", [0.1, 0.4])
def test_instance_norm_with_running_statistics(
    momentum: float, affine: bool, bias: bool, shape: Shape
) -> None:
    """Three passes of training, then one of inference: outputs, gradients, statistics."""
    layer: Layer[Array, Array] = instance_norm(
        momentum=momentum, affine=affine, bias=bias, track_running=True
    )
    kind = (torch.nn.InstanceNorm1d, torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)[len(shape) % 3]
    theirs = kind(
        3, momentum=momentum, affine=affine, bias=bias, track_running_stats=True, dtype=torch.float64
    )
    params: Params = layer.init(random.key(0), shape)[1]
    params = {name: np.abs(_normal(name, 3)) for name in params}
    for name, leaf in params.items():
        getattr(theirs, {"scale": "weight"}.get(name, name)).data = torch.tensor(leaf)
    for step in range(4):
        key = random.key(step) if step < 3 else None
        theirs.train(key is not None)
        x, dout = 3 * _normal(f"x{step}", *shape) + 1, _normal(f"dout{step}", *shape)
        out, cache = layer.apply(params, x, key=key)
        dparams, dx = layer.vjp(cache, dout)
        tensor = torch.tensor(x, requires_grad=True)
        wanted = _channels_second(theirs(_channels_second(tensor)))
        learned = list(theirs.parameters())
        slopes = torch.autograd.grad(wanted, [tensor, *learned], torch.tensor(dout))
        _near(out, wanted)
        mine = (dx, *(dparams[name] for name in ("scale", "bias") if name in dparams))
        for one, slope in zip(mine, slopes, strict=True):
            _near(one, slope)
        new = layer.statistics(cache)
        params = {**params, **new}
        for name in ("running_mean", "running_var"):
            _near(params[name], getattr(theirs, name))
        assert bool(new) == (key is not None)


def test_scale_without_offset() -> None:
    agrees(group_norm(3, bias=False), (2, 6, 3, 4), lambda x, scale: F.group_norm(x, 3, scale))
    agrees(
        instance_norm(affine=True, bias=False), (2, 6, 3, 4), lambda x, s: F.instance_norm(x, weight=s)
    )
    layer: Layer[Array, Array] = batch_norm(bias=False, track_running=False)
    agrees(layer, (4, 3, 2, 2), lambda x, s: F.batch_norm(x, None, None, s, training=True))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_local_response_norm(size: int) -> None:
    for options in ({}, {"alpha": 2.0, "beta": 0.5, "k": 0.75}, {"alpha": 0.5, "beta": 2.0}):

        def reference(x: Any, options: Any = options) -> Any:
            return _channels_second(F.local_response_norm(_channels_second(x), size, **options))

        for shape in ((2, 6, 3, 4), (2, 6, 2, 2, 3), (2, 5, 6)):
            agrees(local_response_norm(size, **options), shape, reference)
