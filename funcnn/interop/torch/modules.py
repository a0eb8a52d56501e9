"""The table of layers: the class of PyTorch that each kind is, of its options and its leaves.

PyTorch's sequences are ``(N, F, T)``, ours ``(N, T, F)``: hooks turn them on the way in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from funcnn import checks
from funcnn._kernels.windows import expanded, on_image, window
from funcnn.interop.torch.functions import Leaves, Options, Own

# --- inputs on their way in and out ---------------------------------------------------------------


def _turn(x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(map(_turn, x))
    return x.transpose(1, 2) if x.ndim == 3 else x


def _channels_second(module: Any, args: tuple[Any, ...]) -> Any:
    return (_turn(args[0]),)


def _channels_last(module: Any, args: tuple[Any, ...], out: Any) -> Any:
    return _turn(out)


def _turned(module: Any) -> Any:
    """The same module for sequences ``(N, T, F)``."""
    module.register_forward_pre_hook(_channels_second)
    module.register_forward_hook(_channels_last)
    return module


def _unpacked(module: Any, args: tuple[Any, ...]) -> Any:
    return args[0]


def _unpacked_to(size: Any, module: Any, args: tuple[Any, ...]) -> Any:
    x, indices = args[0]
    return x, indices.long(), None if size is None else list(expanded(size, x.ndim - 2))


def _places(module: Any, args: tuple[Any, ...]) -> Any:
    return (args[0].long(),)


def _bags(module: Any, args: tuple[Any, ...]) -> Any:
    tokens, *weights = args[0] if isinstance(args[0], tuple) else args
    return (tokens.long(), None, *weights)


def _no_padding(module: Any, args: tuple[Any, ...], out: Any) -> Any:
    return torch.where((args[0] == module.padding_idx)[..., None], 0, out)


def _padded(o: Options, module: Any, args: tuple[Any, ...]) -> Any:
    """The input with the border that a convolution's options say."""
    at = window(module.kernel_size, o.stride, o.padding, o.dilation)
    pads = on_image(at, o.padding, tuple(args[0].shape[2:])).padding
    sides = [side for pair in reversed(pads) for side in pair]
    return (F.pad(args[0], sides, "constant" if o.padding_mode == "zeros" else o.padding_mode),)


# --- layers with a class --------------------------------------------------------------------------


class BatchNorm(nn.BatchNorm2d):  # type: ignore[misc]
    """Batch normalisation of any number of axes."""

    def _check_input_dim(self, input: Any) -> None: ...


class InstanceNorm(nn.InstanceNorm2d):  # type: ignore[misc]
    """Instance normalisation of any number of axes and channels."""

    def forward(self, x: Any) -> Any:
        """The output, for a batch."""
        own = self.training or not self.track_running_stats
        return F.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum, self.eps
        )


def _conv(o: Options, p: Leaves, weight: str = "weight", **over: Any) -> Any:
    outs, group_ins, *kernel = p[weight].shape
    o = SimpleNamespace(**{"groups": 1, **vars(o), **over})
    plain = _is_plain(o.padding)
    module = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(kernel) - 1](
        group_ins * o.groups, outs, kernel, o.stride, o.padding if plain else 0, o.dilation, o.groups,
        o.bias, o.padding_mode if plain else "zeros",
    )  # fmt: skip
    if len(kernel) == 1:
        _turned(module)
    if not plain:
        module.register_forward_pre_hook(partial(_padded, o))
    return module


def _depthwise(o: Options, p: Leaves) -> Any:
    return _conv(o, p, groups=len(p["weight"]) // o.multiplier)


def _separable(o: Options, p: Leaves) -> Any:
    deep, (outs, ins) = p["depthwise.weight"], p["pointwise.weight"].shape[:2]
    module = nn.Sequential()
    groups = len(deep) // o.multiplier
    module.add_module("depthwise", _conv(o, p, "depthwise.weight", groups=groups, bias=False))
    module.add_module("pointwise", nn.Conv2d(ins, outs, 1, bias=o.bias))
    return module


def _conv_transpose(o: Options, p: Leaves) -> Any:
    ins, group_outs, *kernel = p["weight"].shape
    module = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[len(kernel) - 1](
        ins, group_outs * o.groups, kernel, o.stride, o.padding, o.output_padding, o.groups, o.bias,
        o.dilation,
    )  # fmt: skip
    return _turned(module) if len(kernel) == 1 else module


def _of_two(module: Any) -> Any:
    """A module of two inputs takes a tuple of them."""
    module.register_forward_pre_hook(_unpacked)
    return module


def _bilinear(o: Options, p: Leaves) -> Any:
    outs, first, second = p["weight"].shape
    return _of_two(nn.Bilinear(first, second, outs, o.bias))


def _embedding(o: Options, p: Leaves) -> Any:
    module = nn.Embedding(*p["weight"].shape, o.padding_index)
    module.register_forward_pre_hook(_places)
    if o.padding_index is not None:
        module.register_forward_hook(_no_padding)
    return module


def _embedding_bag(o: Options, p: Leaves) -> Any:
    module = nn.EmbeddingBag(*p["weight"].shape, mode=o.mode, padding_idx=o.padding_index)
    module.register_forward_pre_hook(_bags)
    return module


def _running_norm(cls: Any, o: Options, p: Leaves) -> Any:
    features = next((len(leaf) for leaf in p.values()), 1)
    return _turned(cls(features, o.epsilon, o.momentum, o.affine, o.track_running, bias=o.bias))


def _group_norm(o: Options, p: Leaves) -> Any:
    channels = len(p["weight"]) if o.affine else o.groups  # without weights any number will do
    return _turned(nn.GroupNorm(o.groups, channels, o.epsilon, o.affine, bias=o.bias))


def _upsample(o: Options, p: Leaves) -> Any:
    align = None if o.mode.startswith("nearest") else o.align_corners
    return _turned(nn.Upsample(o.size, o.scale, o.mode, align))


class _Walks(nn.Module):  # type: ignore[misc]
    """What our recurrent layers take beside the sequence: a carry, lengths, the other direction."""

    options: Options

    def forward(self, x: Any) -> Any:
        """Run over a sequence, or over the tuple that the options ask for."""
        o = self.options
        x, *rest = x if isinstance(x, tuple) else (x,)
        lengths = _lengths(rest.pop()) if o.lengths else None
        first = _each(lambda state: state.transpose(0, 1).contiguous(), rest[0]) if rest else None
        steps = torch.arange(x.shape[1], device=x.device)[None].expand(x.shape[:2])
        ends = (
            torch.full((len(x), 1), x.shape[1], device=x.device)
            if lengths is None
            else lengths[:, None]
        )
        counted = (steps < ends)[..., None]
        back = torch.where(counted[..., 0], ends - 1 - steps, steps)[..., None]
        if o.reverse:
            x = x.take_along_dim(back, 1)
        if lengths is None:
            out, last = super().forward(x, first)
        else:  # PyTorch takes no empty sequence: one step of it runs, and is forgotten
            packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), True, enforce_sorted=False)
            out, last = super().forward(packed, first)
            out = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0]
            out = torch.where(counted, out, 0)
            if first is not None:
                last = _each(lambda a, b: torch.where(ends[None] > 0, a, b), last, first)
        if o.reverse:
            out = out.take_along_dim(back, 1)
        return (out, _each(lambda state: state.transpose(0, 1), last)) if o.carry else out


def _lengths(counts: Any) -> Any:
    """How many steps count, from the first on; PyTorch knows no gaps."""
    if counts.dtype != torch.bool:
        return counts.long()
    if (counts[:, 1:] > counts[:, :-1]).any():
        checks.refuse("`lengths` must be flags without a gap in PyTorch")
    return torch.count_nonzero(counts, 1)


class LSTM(_Walks, nn.LSTM):  # type: ignore[misc]
    """`funcnn.lstm`."""


class GRU(_Walks, nn.GRU):  # type: ignore[misc]
    """`funcnn.gru`."""


class RNN(_Walks, nn.RNN):  # type: ignore[misc]
    """`funcnn.rnn`."""


def _recurrent(cls: Any, o: Options, p: Leaves) -> Any:
    extra = {"nonlinearity": o.nonlinearity} if cls is RNN else {}
    if not getattr(o, "reset_after", True):
        checks.refuse("`reset_after` must be True in PyTorch, got False")
    if getattr(o, "projection", None) is not None:
        extra = {"proj_size": o.projection}
    module = cls(
        p["weight_ih_l0"].shape[1], o.hidden, num_layers=o.layers, bias=o.bias,
        batch_first=True, bidirectional=o.bidirectional, dropout=o.rate, **extra,
    )  # fmt: skip
    module.options = o
    return module


def _each(fn: Callable[..., Any], *states: Any) -> Any:
    """A function of a carry, which is one array or a pair of them."""
    if isinstance(states[0], tuple):
        return tuple(fn(*parts) for parts in zip(*states, strict=True))
    return fn(*states)


def _many_heads(kind: str, o: Options, p: Leaves) -> Any:
    module = Own(kind, o)
    for name in ("query", "key", "value", "out"):
        outs, ins = p[f"{name}.weight"].shape
        module.add_module(name, nn.Linear(ins, outs, o.bias))
    return module


def _turned_own(kind: str, o: Options, p: Leaves) -> Any:
    return _turned(Own(kind, o, p))


def _pool(cls: Any, o: Options, p: Leaves) -> Any:
    """Their options have our names."""
    return cls(**vars(o))


def _turned_pool(cls: Any, o: Options, p: Leaves) -> Any:
    return _turned(cls(**vars(o)))


def _window_pool(kind: str, cls: Any, o: Options, p: Leaves) -> Any:
    """A class, or where it lacks the padding or the dilation, `Own`."""
    given = dict(vars(o))
    dilated = "avg" in kind and np.any(np.asarray(given.pop("dilation")) != 1)
    if dilated or not _is_plain(o.padding):
        return _turned(Own(kind, o))
    pads, kernels = np.broadcast_arrays(o.padding, o.kernel_size)
    if (2 * pads > kernels).any():
        got = f"{checks.shown(o.padding)} and {checks.shown(o.kernel_size)}"
        checks.refuse(f"`padding` must be at most half of `kernel_size` in PyTorch, got {got}")
    return _turned(cls(**given))


def _is_plain(padding: Any) -> bool:
    """Whether it is an int, or one for each axis."""
    return isinstance(padding, int) or all(isinstance(side, int) for side in padding)


def _unpool(cls: Any, o: Options, p: Leaves) -> Any:
    module = _turned(cls(o.kernel_size, o.stride, o.padding))
    module.register_forward_pre_hook(partial(_unpacked_to, o.output_size))
    return module


_TURNED = ("pad", "crop", "lp_pool1d", "local_response_norm", "spatial_dropout")

MODULES: dict[str, Callable[[Options, Leaves], Any]] = {
    "identity": lambda o, p: nn.Identity(),
    "relu": lambda o, p: nn.ReLU(),
    "relu6": lambda o, p: nn.ReLU6(),
    "hard_tanh": lambda o, p: nn.Hardtanh(o.minimum, o.maximum),
    "threshold": lambda o, p: nn.Threshold(o.threshold, o.value),
    "leaky_relu": lambda o, p: nn.LeakyReLU(o.negative_slope),
    "rrelu": lambda o, p: nn.RReLU(o.lower, o.upper),
    "prelu": lambda o, p: _turned(nn.PReLU(len(p["weight"]))),
    "elu": lambda o, p: nn.ELU(o.alpha),
    "celu": lambda o, p: nn.CELU(o.alpha),
    "selu": lambda o, p: nn.SELU(),
    "gelu": lambda o, p: nn.GELU(o.approximate),
    "silu": lambda o, p: nn.SiLU(),
    "mish": lambda o, p: nn.Mish(),
    "softplus": lambda o, p: nn.Softplus(o.beta, 600.0),  # beyond it theirs is the identity
    "sigmoid": lambda o, p: nn.Sigmoid(),
    "log_sigmoid": lambda o, p: nn.LogSigmoid(),
    "hard_swish": lambda o, p: nn.Hardswish(),
    "tanh": lambda o, p: nn.Tanh(),
    "softsign": lambda o, p: nn.Softsign(),
    "soft_shrink": lambda o, p: nn.Softshrink(o.threshold),
    "hard_shrink": lambda o, p: nn.Hardshrink(o.threshold),
    "tanh_shrink": lambda o, p: nn.Tanhshrink(),
    "softmax": lambda o, p: nn.Softmax(o.axis),
    "log_softmax": lambda o, p: nn.LogSoftmax(o.axis),
    "softmin": lambda o, p: nn.Softmin(o.axis),
    "glu": lambda o, p: nn.GLU(o.axis),
    "dense": lambda o, p: nn.Linear(p["weight"].shape[1], o.out_features, o.bias),
    "bilinear": _bilinear,
    "pairwise_distance": lambda o, p: _of_two(nn.PairwiseDistance(o.norm_type, o.epsilon, o.keepdims)),
    "cosine_similarity": lambda o, p: _of_two(nn.CosineSimilarity(o.axis, o.epsilon)),
    "embedding": _embedding,
    "embedding_bag": _embedding_bag,
    **dict.fromkeys(("conv", "conv1d", "conv3d"), _conv),
    **dict.fromkeys(("conv_transpose", "conv_transpose1d", "conv_transpose3d"), _conv_transpose),
    "depthwise_conv": _depthwise,
    "separable_conv": _separable,
    "max_pool": partial(_window_pool, "max_pool", nn.MaxPool2d),
    "max_pool1d": partial(_window_pool, "max_pool1d", nn.MaxPool1d),
    "max_pool3d": partial(_window_pool, "max_pool3d", nn.MaxPool3d),
    "max_unpool": partial(_unpool, nn.MaxUnpool2d),
    "max_unpool1d": partial(_unpool, nn.MaxUnpool1d),
    "max_unpool3d": partial(_unpool, nn.MaxUnpool3d),
    "avg_pool": partial(_window_pool, "avg_pool", nn.AvgPool2d),
    "avg_pool1d": partial(_window_pool, "avg_pool1d", nn.AvgPool1d),
    "avg_pool3d": partial(_window_pool, "avg_pool3d", nn.AvgPool3d),
    "adaptive_avg_pool": partial(_pool, nn.AdaptiveAvgPool2d),
    "adaptive_avg_pool1d": partial(_turned_pool, nn.AdaptiveAvgPool1d),
    "adaptive_avg_pool3d": partial(_pool, nn.AdaptiveAvgPool3d),
    "adaptive_max_pool": partial(_pool, nn.AdaptiveMaxPool2d),
    "adaptive_max_pool1d": partial(_turned_pool, nn.AdaptiveMaxPool1d),
    "adaptive_max_pool3d": partial(_pool, nn.AdaptiveMaxPool3d),
    "batch_norm": partial(_running_norm, BatchNorm),
    "group_norm": _group_norm,
    "instance_norm": partial(_running_norm, InstanceNorm),
    "dropout": lambda o, p: nn.Dropout(o.rate),
    "alpha_dropout": lambda o, p: (nn.FeatureAlphaDropout if o.channels else nn.AlphaDropout)(o.rate),
    "channel_shuffle": lambda o, p: _turned(nn.ChannelShuffle(o.groups)),
    "flatten": lambda o, p: nn.Flatten(),
    "upsample": _upsample,
    "pixel_shuffle": lambda o, p: nn.PixelShuffle(o.factor),
    "pixel_unshuffle": lambda o, p: nn.PixelUnshuffle(o.factor),
    "lstm": partial(_recurrent, LSTM),
    "gru": partial(_recurrent, GRU),
    "rnn": partial(_recurrent, RNN),
    "multi_head_attention": partial(_many_heads, "multi_head_attention"),
    "cross_attention": partial(_many_heads, "cross_attention"),
    **{kind: partial(_turned_own, kind) for kind in _TURNED},
}
"""What each kind of layer is, of its options and its leaves; a kind that is missing here is `Own`."""
