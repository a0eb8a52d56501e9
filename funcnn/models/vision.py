"""Networks for images, and for vectors."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from funcnn import checks
from funcnn.checks import Each, Integer, Integers, Number, takes
from funcnn.combinators import named, residual, serial
from funcnn.combinators.sequences import time_distributed
from funcnn.layers.activations import gelu, relu, sigmoid
from funcnn.layers.convolution import conv
from funcnn.layers.linear import dense
from funcnn.layers.normalization import batch_norm, layer_norm
from funcnn.layers.pooling import global_avg_pool, max_pool
from funcnn.layers.regularization import dropout
from funcnn.layers.resizing import upsample
from funcnn.layers.shape import flatten, reshape, transpose
from funcnn.types import Image, Layer, Sequence, Vector

__all__ = ["autoencoder", "lenet", "mlp", "mlp_mixer", "resnet_small", "vgg_small"]

Net = Layer[Any, Any]
_ONE, _SIZES, _RATE = Integer(1), Each(Integer(1)), Number(minimum=0, below=1)
_in_series: Callable[..., Net] = serial  # of a list of layers, whose joints no checker sees


@takes(classes=_ONE, channels=Integers(2, 1), hidden=_SIZES)
def lenet(
    classes: int = 10, *, channels: tuple[int, int] = (6, 16), hidden: tuple[int, ...] = (120, 84)
) -> Layer[Image, Vector]:
    """LeNet-5 with rectifiers: two convolutions, each pooled, then dense layers.

    Parameters
    ----------
    classes : int, default 10
        Features that come out.
    channels : (int, int), default (6, 16)
        Of the two 5x5 convolutions.
    hidden : tuple of int, default (120, 84)
        Features between the dense layers.

    Returns
    -------
    Layer
        From images ``(N, C, H, W)`` of at least 16x16 to logits ``(N, classes)``.

    Raises
    ------
    ValueError, TypeError
        For a size below 1; and what its layers refuse, with their path.

    Notes
    -----
    ``conv, relu, max_pool`` twice, ``flatten``, then ``dense, relu`` for each of `hidden`, ``dense``.
    The original has 32x32 inputs, squashing functions and learned average pools.

    References
    ----------
    Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import lenet
    >>> out_shape, params = lenet().init(random.key(0), (32, 1, 28, 28))
    >>> out_shape, list(params)
    ((32, 10), ['conv1', 'conv2', 'dense1', 'dense2', 'dense3'])
    """
    first, second = channels
    stages: list[Net] = [conv(first, 5), relu(), max_pool(2), conv(second, 5), relu(), max_pool(2)]
    return _in_series(*stages, *_head(classes, hidden))


@takes(hidden=_SIZES, classes=_ONE, rate=_RATE)
def mlp(hidden: tuple[int, ...], classes: int, *, rate: float = 0.0) -> Layer[Any, Vector]:
    """Dense layers with rectifiers between them, on whatever the features of an example are.

    Parameters
    ----------
    hidden : tuple of int
        Features between the dense layers; empty for a linear model.
    classes : int
        Features that come out.
    rate : float, default 0.0
        The fraction of the hidden features that is dropped in training.

    Returns
    -------
    Layer
        From any ``(N, ...)`` to ``(N, classes)``.

    Raises
    ------
    ValueError, TypeError
        For a size below 1, a rate out of range; and what its layers refuse, with their path.

    Notes
    -----
    ``flatten``, then ``dense, relu`` (and ``dropout``) for each of `hidden`, ``dense``.

    References
    ----------
    D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating errors",
    1986.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import mlp
    >>> out_shape, params = mlp((64, 32), 10).init(random.key(0), (5, 1, 8, 8))
    >>> out_shape, [part["weight"].shape for part in params.values()]
    ((5, 10), [(64, 64), (32, 64), (10, 32)])
    """
    return _in_series(*_head(classes, hidden, rate))


@takes(classes=_ONE, widths=Each(_ONE, least=1), convolutions=_ONE, hidden=_SIZES, rate=_RATE)
def vgg_small(
    classes: int = 10,
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    convolutions: int = 2,
    hidden: tuple[int, ...] = (128,),
    rate: float = 0.0,
) -> Layer[Image, Vector]:
    """Stages of 3x3 convolutions, each stage half as large as the one before, then dense layers.

    Parameters
    ----------
    classes : int, default 10
        Features that come out.
    widths : tuple of int, default (32, 64, 128)
        Channels of each stage.
    convolutions : int, default 2
        In each stage.
    hidden : tuple of int, default (128,)
        Features between the dense layers.
    rate : float, default 0.0
        The fraction of the hidden features that is dropped in training.

    Returns
    -------
    Layer
        From images to logits ``(N, classes)``; a side of ``2**len(widths)`` at least. It has running
        statistics.

    Raises
    ------
    ValueError, TypeError
        For a size below 1, no width, a rate out of range; and what its layers refuse, with their
        path.

    Notes
    -----
    For each width ``conv, batch_norm, relu`` as often as told and ``max_pool``; ``flatten``, then
    ``dense, relu`` (and ``dropout``) for each of `hidden`, ``dense``.

    References
    ----------
    K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image
    recognition", 2015; with batch normalisation (Ioffe and Szegedy, 2015).

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import vgg_small
    >>> out_shape, params = vgg_small(widths=(8, 16)).init(random.key(0), (32, 3, 32, 32))
    >>> out_shape, list(params)
    ((32, 10), ['stage1', 'stage2', 'dense1', 'dense2'])
    """
    stages = [
        named(
            f"stage{i}",
            _in_series(*(_normalized_conv(width) for _ in range(convolutions)), max_pool(2)),
        )
        for i, width in enumerate(widths, 1)
    ]
    return _in_series(*stages, *_head(classes, hidden, rate))


@takes(classes=_ONE, depth=Integer(8), width=_ONE)
def resnet_small(classes: int = 10, *, depth: int = 20, width: int = 16) -> Layer[Image, Vector]:
    """The residual network for CIFAR: three stages, each of half the size and twice the channels.

    Parameters
    ----------
    classes : int, default 10
        Features that come out.
    depth : int, default 20
        Layers with weights on the longest way, ``6 n + 2``: 8, 14, 20, 32, 44, 56.
    width : int, default 16
        Channels of the first stage.

    Returns
    -------
    Layer
        From images to logits ``(N, classes)``. It has running statistics.

    Raises
    ------
    ValueError, TypeError
        For another depth, a size below 1; and what its layers refuse, with their path.

    Notes
    -----
    A block is ``relu(x + f(x))`` with ``f = conv, batch_norm, relu, conv, batch_norm``. Where a stage
    begins with fewer pixels, ``x`` goes through a strided 1x1 convolution and ``batch_norm`` (option
    B of the paper). Behind the stages: ``global_avg_pool`` and ``dense``.

    References
    ----------
    K. He et al., "Deep residual learning for image recognition", 2015.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import resnet_small
    >>> out_shape, params = resnet_small(depth=8).init(random.key(0), (2, 3, 32, 32))
    >>> out_shape, list(params)
    ((2, 10), ['stem', 'stage1', 'stage2', 'stage3', 'dense1'])
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest:
        checks.refuse(f"`depth` must be 6 n + 2, such as 8, 14 or 20, got {depth}")
    stages: list[Net] = []
    for i, (channels, stride) in enumerate(((width, 1), (2 * width, 2), (4 * width, 2)), 1):
        first, others = _block(channels, stride), [_block(channels) for _ in range(blocks - 1)]
        stages.append(named(f"stage{i}", _in_series(first, *others)))
    head: list[Net] = [global_avg_pool(), dense(classes)]
    return _in_series(named("stem", _normalized_conv(width)), *stages, *head)


@takes(
    image_size=Integers(2, 1), classes=_ONE, patch=_ONE, features=_ONE, token_hidden=_ONE,
    channel_hidden=_ONE, depth=_ONE,
)  # fmt: skip
def mlp_mixer(
    image_size: tuple[int, int],
    classes: int = 10,
    *,
    patch: int = 4,
    features: int = 64,
    token_hidden: int = 32,
    channel_hidden: int = 128,
    depth: int = 4,
) -> Layer[Image, Vector]:
    """Patches of an image, mixed by dense layers along the patches and along the features in turn.

    Parameters
    ----------
    image_size : (int, int)
        Height and width, multiples of `patch`.
    classes : int, default 10
        Features that come out.
    patch : int, default 4
        Side of a patch.
    features : int, default 64
        That each patch is given.
    token_hidden, channel_hidden : int, default 32 and 128
        Features between the two dense layers along the patches, and along the features.
    depth : int, default 4
        How many blocks.

    Returns
    -------
    Layer
        From images to logits ``(N, classes)``.

    Raises
    ------
    ValueError, TypeError
        For a size below 1 or one that is no multiple; and what its layers refuse, with their path.

    Notes
    -----
    With ``x`` of shape ``(N, T, F)``, T patches, a block is ``x + tokens(norm(x)ᵀ)ᵀ``, then
    ``x + channels(norm(x))``, each function ``dense, gelu, dense``. Behind the blocks:
    ``layer_norm``, the mean over the patches, ``dense``.

    References
    ----------
    I. Tolstikhin et al., "MLP-Mixer: an all-MLP architecture for vision", 2021.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import mlp_mixer
    >>> out_shape, params = mlp_mixer((32, 32), depth=1).init(random.key(0), (2, 3, 32, 32))
    >>> out_shape, list(params["block1"])
    ((2, 10), ['tokens', 'channels'])
    """
    height, width = image_size
    if height % patch or width % patch:
        checks.refuse(f"`image_size` must be multiples of {patch}, got {image_size}")
    patches = height // patch * (width // patch)

    def mixing(hidden: int, out: int) -> Layer[Sequence, Sequence]:
        return time_distributed(serial(dense(hidden), gelu(), dense(out)))

    def block(i: int) -> Net:
        along = (transpose(2, 1), mixing(token_hidden, patches), transpose(2, 1))
        tokens = named("tokens", residual(layer_norm(), *along))
        channels = named("channels", residual(layer_norm(), mixing(channel_hidden, features)))
        return named(f"block{i}", serial(tokens, channels))

    stem: list[Net] = [
        named("stem", conv(features, patch, stride=patch)), reshape(features, patches), transpose(2, 1),
    ]  # fmt: skip
    blocks = [block(i) for i in range(1, depth + 1)]
    head: list[Net] = [layer_norm(), global_avg_pool(), dense(classes)]
    return _in_series(*stem, *blocks, *head)


@takes(image_shape=Integers(3, 1), code=_ONE, widths=Each(_ONE, least=1))
def autoencoder(
    image_shape: tuple[int, int, int], code: int, *, widths: tuple[int, ...] = (16, 32)
) -> Layer[Image, Image]:
    """Squeeze an image into a few numbers, and draw it again from them.

    Parameters
    ----------
    image_shape : (int, int, int)
        Channels, height and width; these are multiples of ``2**len(widths)``.
    code : int
        How many numbers.
    widths : tuple of int, default (16, 32)
        Channels of the stages, each of half the size.

    Returns
    -------
    Layer
        From images with values in 0..1 to images, with params ``{"encoder": ..., "decoder": ...}``.

    Raises
    ------
    ValueError, TypeError
        For a size below 1 or one that is no multiple; and what its layers refuse, with their path.

    Notes
    -----
    Encoder: ``conv`` of stride 2 and ``relu`` for each width, ``flatten``, ``dense``. Decoder:
    ``dense``, ``reshape``, then for each stage back ``upsample, conv``, with ``relu`` between and
    ``sigmoid`` behind. Upsampling and convolution draw no chequered patterns, as transposed
    convolutions do (Odena et al., 2016).

    References
    ----------
    G. Hinton and R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", 2006.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.models import autoencoder
    >>> out_shape, params = autoencoder((1, 28, 28), 16).init(random.key(0), (32, 1, 28, 28))
    >>> out_shape, params["encoder"]["dense1"]["weight"].shape
    ((32, 1, 28, 28), (16, 1568))
    """
    channels, height, width = image_shape
    step = 2 ** len(widths)
    if height % step or width % step:
        checks.refuse(f"`image_shape` must have multiples of {step} as sides, got {image_shape}")
    small = (widths[-1], height // step, width // step)
    down: list[Net] = []
    for size in widths:
        down += [conv(size, 3, stride=2, padding=1), relu()]
    up: list[Net] = [dense(prod(small)), relu(), reshape(*small)]
    for size in (*widths[-2::-1], channels):
        up += [upsample(2), conv(size, 3, padding=1), relu()]
    up[-1] = sigmoid()
    encoder = _in_series(*down, flatten(), dense(code))
    return serial(named("encoder", encoder), named("decoder", _in_series(*up)))


def _head(classes: int, hidden: tuple[int, ...], rate: float = 0.0) -> list[Net]:
    """Dense layers on all features."""
    layers: list[Net] = [flatten()]
    for size in hidden:
        layers += [dense(size), relu()]
        layers += [dropout(rate)] if rate else []
    return [*layers, dense(classes)]


def _normalized_conv(channels: int, stride: int = 1) -> Layer[Image, Image]:
    return serial(conv(channels, 3, stride=stride, padding=1, bias=False), batch_norm(), relu())


def _block(channels: int, stride: int = 1) -> Layer[Image, Image]:
    """Two convolutions around which the input goes."""
    body: list[Net] = [
        conv(channels, 3, stride=stride, padding=1, bias=False), batch_norm(), relu(),
        conv(channels, 3, padding=1, bias=False), batch_norm(),
    ]  # fmt: skip
    past: Net | None = None
    if stride > 1:
        past = serial(conv(channels, 1, stride=stride, bias=False), batch_norm())
    return serial(residual(*body, shortcut=past), relu())
