"""What PyTorch has as a function and not as a class, and what combinators make of their modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from funcnn._kernels.windows import Window, expanded, on_image, overhanging, window
from funcnn.types import Array

Options = Any
Leaves = dict[str, Array]


class Own(nn.Module):  # type: ignore[misc]  # PyTorch's types are not read
    """A function of a module, its input and its options, where PyTorch has no class."""

    def __init__(self, kind: str, options: Options, leaves: Leaves | None = None) -> None:
        super().__init__()
        self.kind, self.options = kind, options
        for name, leaf in (leaves or {}).items():
            self.register_parameter(name, nn.Parameter(torch.empty(leaf.shape)))

    def forward(self, x: Any) -> Any:
        """The output for one input, or for a tuple of several."""
        return FUNCTIONS[self.kind](self, x, self.options)

    def extra_repr(self) -> str:
        """What it prints as."""
        return ", ".join(
            [self.kind, *(f"{name}={value!r}" for name, value in vars(self.options).items())]
        )


# --- layers with a function -----------------------------------------------------------------------


def _seen(q: Any, k: Any, causal: bool, mask: list[Any]) -> Any:
    """Which keys each query sees, with an axis for the heads; None for all."""
    if not causal and not mask:
        return None
    seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)
    seen = seen.tril() if causal else seen
    for one in mask:
        seen = seen & (one[:, None, None] if one.ndim == 2 else one[:, None])
    return seen


def _attention(m: Any, x: Any, o: Options) -> Any:
    q, k, v, *mask = x
    seen = _seen(q, k, o.causal, mask)
    drop = o.rate if m.training else 0.0
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], seen, drop)[:, 0]


def _cleaned(x: Any, idle: Any) -> Any:
    """Without what could spoil a product in steps that do not count."""
    return torch.where(idle[..., None] & ~(x.abs() < torch.finfo(x.dtype).max ** 0.5), 0, x)


def _heads(m: Any, x: Any, o: Options) -> Any:
    x, *rest = x if isinstance(x, tuple) else (x,)
    itself = m.kind == "multi_head_attention"
    memory = x if itself else rest.pop(0)
    for mask in rest:
        idle = ~mask if mask.ndim == 2 else ~mask.any(1) & (~mask.any(2) if itself else True)
        memory = _cleaned(memory, idle)
    x = memory if itself else x
    width = len(m.query.weight) // o.heads
    q, k, v = (
        project(one).unflatten(2, (-1, width)).transpose(1, 2)
        for project, one in ((m.query, x), (m.key, memory), (m.value, memory))
    )
    if getattr(o, "rotary_base", None) is not None:
        q, k = _rotated(q, o.rotary_base, True), _rotated(k, o.rotary_base, True)
    seen = _seen(x, memory, getattr(o, "causal", False), rest)
    drop = o.rate if m.training else 0.0
    out = F.scaled_dot_product_attention(q, k, v, seen, drop, enable_gqa=True)
    return m.out(out.transpose(1, 2).flatten(2))


def _waves(x: Any, base: float) -> Any:
    """The angle of each step at each pair of features."""
    steps, features = x.shape[-2:]
    speeds = base ** (-torch.arange(0, features, 2, dtype=x.dtype, device=x.device) / features)
    return torch.arange(steps, dtype=x.dtype, device=x.device)[:, None] * speeds


def _rotated(x: Any, base: float, interleaved: bool) -> Any:
    angles, axis = _waves(x, base), -1 if interleaved else -2
    pairs = x.unflatten(-1, (-1, 2) if interleaved else (2, -1))
    a, b = pairs.unbind(axis)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([a * cos - b * sin, b * cos + a * sin], axis).flatten(-2)


def _waving(m: Any, x: Any, o: Options) -> Any:
    angles = _waves(x, o.base)
    return x + torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, : x.shape[2]]


def _maxout(m: Any, x: Any, o: Options) -> Any:
    place = o.axis % x.ndim
    return x.unflatten(place, (-1, o.pieces)).amax(place + 1)


def _swiglu(m: Any, x: Any, o: Options) -> Any:
    gate, value = x.chunk(2, o.axis)
    return F.silu(gate) * value


def _normed(m: Any, x: Any, o: Options, norm: Any) -> Any:
    """A normalisation over some axes, which PyTorch has at the end."""
    axes = sorted(axis % x.ndim for axis in (o.axes if isinstance(o.axes, tuple) else (o.axes,)))
    ends = tuple(range(-len(axes), 0))
    moved = x.movedim(axes, ends)
    weights = {name: leaf for name, leaf in m.named_parameters() if leaf is not None}
    return norm(moved, moved.shape[-len(axes) :], **weights, eps=o.epsilon).movedim(ends, axes)


def _over_pixels(x: Any) -> tuple[int, ...]:
    return (1,) if x.ndim == 3 else tuple(range(2, x.ndim))


def _sides(widths: Any, x: Any) -> list[int]:
    """What PyTorch pads by: the last axis first."""
    count = x.ndim - 2
    each = widths if isinstance(widths, tuple) else (widths,) * count
    pairs = [one if isinstance(one, tuple) else (one, one) for one in each]
    return [side for pair in reversed(pairs) for side in pair]


def _stood(x: Any, o: Options) -> tuple[Window, Window]:
    """A pooling's window on an input, and once more without what overhangs the padding."""
    kernel = expanded(o.kernel_size, x.ndim - 2)
    fixed = window(kernel, kernel if o.stride is None else o.stride, o.padding, o.dilation)
    counted = on_image(fixed, o.padding, tuple(x.shape[2:]))
    return overhanging(counted, tuple(x.shape[2:])) if o.ceil_mode else counted, counted


def _max_pool(m: Any, x: Any, o: Options) -> Any:
    at, _ = _stood(x, o)
    framed = F.pad(x, _sides(at.padding, x), value=-torch.inf)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.ndim - 3]
    out, found = pool(framed, at.kernel, at.stride, 0, at.dilation, return_indices=True)
    places, flat = torch.unravel_index(found, framed.shape[2:]), 0
    for n, place, (low, _) in zip(x.shape[2:], places, at.padding, strict=True):
        flat = flat * n + place - low
    return (out, flat) if o.return_indices else out


def _avg_pool(m: Any, x: Any, o: Options) -> Any:
    at, counted = _stood(x, o)
    overhang = tuple(
        (0, high - end) for (_, high), (_, end) in zip(at.padding, counted.padding, strict=True)
    )
    one = F.pad(torch.ones_like(x), _sides(counted.padding, x), value=float(o.count_include_pad))
    taps = x.new_ones(x.shape[1], 1, *at.kernel)
    total, count = (
        (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3](
            part, taps, None, at.stride, 0, at.dilation, x.shape[1]
        )
        for part in (F.pad(x, _sides(at.padding, x)), F.pad(one, _sides(overhang, x)))
    )
    return total / count.clamp(min=1)


def _lp_pool(m: Any, x: Any, o: Options) -> Any:
    pool = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)[x.ndim - 3]
    return pool(x.abs(), o.norm_type, o.kernel_size, o.stride, o.ceil_mode)


def _drop_path(m: Any, x: Any, o: Options) -> Any:
    kept = F.dropout(x.new_ones(len(x)), o.rate, m.training)
    return x * kept.reshape(-1, *[1] * (x.ndim - 1))


def _noise(m: Any, x: Any, o: Options) -> Any:
    return x + o.std * torch.randn_like(x) if m.training else x


def _spatial_dropout(m: Any, x: Any, o: Options) -> Any:
    kept = F.dropout(x.new_ones(x.shape[:2]), o.rate, m.training)
    return x * kept.reshape(*x.shape[:2], *[1] * (x.ndim - 2))


def _clean(m: Any, x: Any, o: Options) -> Any:
    return _cleaned(x[0], ~x[1]), x[1]


def _merged(how: str, axis: int, parts: Any) -> Any:
    if how == "concatenate":
        return torch.cat(tuple(parts), axis)
    together = torch.stack(tuple(parts))
    return {"sum": together.sum, "mean": together.mean, "product": together.prod}[how](0)


# --- combinators: functions of the modules inside -------------------------------------------------


def _inside(m: Any) -> list[Any]:
    return list(m.children())


def _chain(modules: list[Any], x: Any) -> Any:
    for module in modules:
        x = module(x)
    return x


def _residual(m: Any, x: Any, o: Options) -> Any:
    past = getattr(m, "shortcut", None)
    out = _chain([module for module in _inside(m) if module is not past], x)
    return out + (x if past is None else past(x))


def _dense_connect(m: Any, x: Any, o: Options) -> Any:
    for module in _inside(m):
        x = torch.cat((x, module(x)), o.axis)
    return x


def _bidirectional(m: Any, x: Any, o: Options) -> Any:
    forward, backward = _inside(m)
    return _merged(o.merge, 2, (forward(x), backward(x.flip(1)).flip(1)))


def _with_context(m: Any, x: Any, o: Options) -> Any:
    return x[0] + m.layer(x), *x[1:]


def _kept_context(m: Any, x: Any, o: Options) -> Any:
    return m.layer(x[0]), *x[1:]


def _beside(m: Any, xs: Any) -> tuple[Any, ...]:
    return tuple(module(x) for module, x in zip(_inside(m), xs, strict=True))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "hard_sigmoid": lambda m, x, o: F.relu6(x + 3) / 6,  # theirs has a slope of 1/6 in float32
    "maxout": _maxout,
    "swiglu": _swiglu,
    "reshape": lambda m, x, o: x.reshape(len(x), *o.shape),
    "transpose": lambda m, x, o: x.permute(0, *o.axes),
    "pad": lambda m, x, o: F.pad(x, _sides(o.widths, x), o.mode, **_value(o)),
    "crop": lambda m, x, o: F.pad(x, [-side for side in _sides(o.widths, x)]),
    "split": lambda m, x, o: torch.split(x, _sections(x, o), o.axis),
    "concatenate": lambda m, x, o: torch.cat(x, o.axis),
    "merge": lambda m, x, o: _merged(o.how, o.axis, x),
    "global_avg_pool": lambda m, x, o: x.mean(_over_pixels(x)),
    "global_max_pool": lambda m, x, o: x.amax(_over_pixels(x)),
    **dict.fromkeys(("max_pool", "max_pool1d", "max_pool3d"), _max_pool),
    **dict.fromkeys(("avg_pool", "avg_pool1d", "avg_pool3d"), _avg_pool),
    **dict.fromkeys(("lp_pool", "lp_pool1d", "lp_pool3d"), _lp_pool),
    "layer_norm": lambda m, x, o: _normed(m, x, o, F.layer_norm),
    "rms_norm": lambda m, x, o: _normed(m, x, o, F.rms_norm),
    "instance_norm": lambda m, x, o: F.instance_norm(x, **dict(m.named_parameters()), eps=o.epsilon),
    "local_response_norm": lambda m, x, o: F.local_response_norm(x[..., None], **vars(o))[..., 0],
    "spatial_dropout": _spatial_dropout,
    "drop_path": _drop_path,
    "gaussian_noise": _noise,
    "attention": _attention,
    "multi_head_attention": _heads,
    "cross_attention": _heads,
    "learned_positions": lambda m, x, o: x + m.weight[: x.shape[1]],
    "positional_encoding": _waving,
    "rotary": lambda m, x, o: _rotated(x, o.base, o.interleaved),
    "stop_gradient": lambda m, x, o: x.detach(),
    "drop_context": lambda m, x, o: x[0],
    "clean_padding": _clean,
    "residual": _residual,
    "parallel": lambda m, x, o: _merged(o.merge, o.axis, [one(x) for one in _inside(m)]),
    "branch": lambda m, x, o: tuple(one(x) for one in _inside(m)),
    "each": lambda m, x, o: _beside(m, x),
    "dense_connect": _dense_connect,
    "share": lambda m, x, o: _chain([m.layer] * o.times, x),
    "time_distributed": lambda m, x, o: m.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2]),
    "bidirectional": _bidirectional,
    "keep_context": _kept_context,
    "residual_with_context": _with_context,
}
"""What `Own` modules compute, of the module, its input and the options."""


def _value(o: Options) -> dict[str, Any]:
    return {"value": o.value} if o.mode == "constant" else {}


def _sections(x: Any, o: Options) -> Any:
    return list(o.sections) if isinstance(o.sections, tuple) else x.shape[o.axis] // o.sections
