"""What PyTorch has as a function and not as a class, and what combinators make of their modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from funcnn._kernels.windows import Window, expanded, on_image, overhanging, window
from funcnn.combinators.graphs import at_wire
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
        options = (f"{name}={value!r}" for name, value in vars(self.options).items())
        return ", ".join((self.kind, *options))


# --- layers with a function -----------------------------------------------------------------------


def _flags(mask: Any, steps: int) -> Any:
    """Which steps count: flags, or a length for each sequence."""
    return mask if mask.dtype == torch.bool else torch.arange(steps, device=mask.device) < mask[:, None]


def _scored(q: Any, k: Any, v: Any, rest: list[Any], o: Options, training: bool) -> tuple[Any, Any]:
    """What heads ``(N, H, T, D)`` mix, and their weights; as our options say."""
    asked, shape = vars(o), (q.shape[2], k.shape[2])
    offset = asked.get("offset", 0)
    seen = torch.ones(shape, dtype=torch.bool, device=q.device)
    if asked.get("causal"):
        seen = seen.tril(offset)
    if asked.get("window") is not None:
        places = [torch.arange(n, device=q.device) for n in shape]
        seen = seen & ((places[0][:, None] + offset - places[1]).abs() <= o.window)
    if o.masked:
        mask = _flags(rest.pop(), shape[1])
        seen = seen & (mask[:, None, None] if mask.ndim == 2 else mask[:, None])
    bias = rest.pop() if o.biased else None
    bias = bias[:, None] if bias is not None and bias.ndim == 3 else bias
    if o.soft_cap is None and not o.return_weights:
        mask = seen if bias is None else torch.where(seen, bias, -torch.inf)
        drop = o.rate if training else 0.0
        fused = F.scaled_dot_product_attention
        return fused(q, k, v, mask, drop, scale=o.scale, enable_gqa=True), None
    groups = q.shape[1] // k.shape[1]
    k, v = (one.repeat_interleave(groups, 1) for one in (k, v))
    scores = torch.matmul(q, k.mT) * (o.scale or q.shape[3] ** -0.5)
    if o.soft_cap is not None:
        scores = o.soft_cap * (scores / o.soft_cap).tanh()
    scores = scores if bias is None else scores + bias
    scores = torch.where(seen, scores, -torch.inf)
    blind = scores.isneginf().all(-1, keepdim=True)
    weights = torch.where(blind, 0.0, torch.where(blind, 0.0, scores).softmax(-1))
    return torch.matmul(F.dropout(weights, o.rate, training), v), weights


def _attention(m: Any, x: Any, o: Options) -> Any:
    q, k, v, *rest = x
    out, weights = _scored(q[:, None], k[:, None], v[:, None], rest, o, m.training)
    return (out[:, 0], weights[:, 0]) if o.return_weights else out[:, 0]


def _cleaned(x: Any, idle: Any) -> Any:
    """Without what could spoil a product in steps that do not count."""
    return torch.where(idle[..., None] & ~(x.abs() < torch.finfo(x.dtype).max ** 0.5), 0, x)


def _heads(m: Any, x: Any, o: Options) -> Any:
    x = x if isinstance(x, tuple) else (x,)
    count = 3 if getattr(o, "separate", False) else 1 + (m.kind == "cross_attention")
    inputs, rest = list(x[:count]), list(x[count:])
    if o.masked:
        mask = _flags(rest[-1], inputs[-1].shape[1])
        idle = ~mask if mask.ndim == 2 else ~mask.any(1) & (~mask.any(2) if count == 1 else True)
        first = min(count, 2) - 1
        inputs[first:] = [_cleaned(one, idle) for one in inputs[first:]]
    inputs += inputs[-1:] * (3 - count)
    width = len(m.query.weight) // o.heads
    q, k, v = (
        project(one).unflatten(2, (-1, width)).transpose(1, 2)
        for project, one in zip((m.query, m.key, m.value), inputs, strict=True)
    )
    if getattr(o, "rotary_base", None) is not None:
        q, k = _rotated(q, o.rotary_base, True, o.offset), _rotated(k, o.rotary_base, True)
    out, weights = _scored(q, k, v, rest, o, m.training)
    out = m.out(out.transpose(1, 2).flatten(2))
    return (out, weights) if o.return_weights else out


def _beside_a_bias(x: Any, bias: Any) -> Any:
    return x, bias.to(x.dtype).expand(len(x), -1, -1, -1)


def _away(x: Any) -> Any:
    """How far each key is behind each query."""
    places = torch.arange(x.shape[1], device=x.device)
    return places[:, None] - places


def _alibi(m: Any, x: Any, o: Options) -> Any:
    below = 2 ** (o.heads.bit_length() - 1)
    powers = [*range(1, below + 1), *(k + 0.5 for k in range(o.heads - below))]
    slopes = 2 ** (-8 * torch.tensor(powers, dtype=torch.float64, device=x.device) / below)
    return _beside_a_bias(x, -slopes[:, None, None] * _away(x).abs())


def _relative_positions(m: Any, x: Any, o: Options) -> Any:
    away = _away(x)
    half = o.buckets // 2 if o.both else o.buckets
    ahead = torch.where(away < 0, half, 0) if o.both else 0
    away = away.abs() if o.both else away.clamp(min=0)
    exact = half // 2
    grown = (away.clamp(min=exact).double() / exact).log()
    wide = grown / torch.tensor(o.max_distance / exact, dtype=torch.float64).log()
    wide = (exact + (wide * (half - exact)).long()).clamp(max=half - 1)
    return _beside_a_bias(x, m.weight[ahead + torch.where(away < exact, away, wide)].permute(2, 0, 1))


def _last_step(m: Any, x: Any, o: Options) -> Any:
    if not o.masked:
        return x[:, -1]
    x, mask = x[0], _flags(x[1], x[0].shape[1])
    place = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return torch.where(mask.any(1)[:, None], x[torch.arange(len(x), device=x.device), place], 0)


def _masked_pool(m: Any, x: Any, o: Options) -> Any:
    x, mask = x[0], _flags(x[1], x[0].shape[1])[..., None]
    if m.kind == "masked_mean_pool":
        return torch.where(mask, x, 0).sum(1) / mask.sum(1).clamp(min=1)
    return torch.where(mask.any(1), torch.where(mask, x, -torch.inf).max(1).values, 0)


def _waves(x: Any, base: float, offset: int = 0) -> Any:
    """The angle of each step at each pair of features."""
    steps, features = x.shape[-2:]
    speeds = base ** (-torch.arange(0, features, 2, dtype=x.dtype, device=x.device) / features)
    places = torch.arange(offset, offset + steps, dtype=x.dtype, device=x.device)
    return places[:, None] * speeds


def _rotated(x: Any, base: float, interleaved: bool, offset: int = 0) -> Any:
    angles, axis = _waves(x, base, offset), -1 if interleaved else -2
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


def _dropped(m: Any, x: Any, o: Options, axes: int) -> Any:
    """One draw for each place along the first axes."""
    kept = F.dropout(x.new_ones(x.shape[:axes]), o.rate, m.training)
    return x * kept.reshape(*x.shape[:axes], *[1] * (x.ndim - axes))


def _merged(how: str, axis: int, parts: Any) -> Any:
    if how == "concatenate":
        return torch.cat(tuple(parts), axis)
    together = torch.stack(tuple(parts))
    return {"sum": together.sum, "mean": together.mean, "product": together.prod}[how](0)


# --- combinators: functions of the modules inside -------------------------------------------------


def _chain(modules: Iterable[Any], x: Any) -> Any:
    for module in modules:
        x = module(x)
    return x


def _residual(m: Any, x: Any, o: Options) -> Any:
    past = getattr(m, "shortcut", None)
    out = _chain((module for module in m.children() if module is not past), x)
    return out + (x if past is None else past(x))


def _dense_connect(m: Any, x: Any, o: Options) -> Any:
    for module in m.children():
        x = torch.cat((x, module(x)), o.axis)
    return x


def _bidirectional(m: Any, x: Any, o: Options) -> Any:
    forward, backward = m.children()
    return _merged(o.merge, 2, (forward(x), backward(x.flip(1)).flip(1)))


def _with_encoder(m: Any, x: Any, o: Options) -> Any:
    memory = m.encoder(x[1] if len(x) == 2 else x[1:])
    return m.decoder((x[0], *(memory if isinstance(memory, tuple) else (memory,))))


def _graph(m: Any, x: Any, o: Options) -> Any:
    wires, values, last = o.wires or {}, {"x": x}, "x"
    for place, module in m.named_children():
        name = place.removesuffix("_") if hasattr(m, place.removesuffix("_")) else place
        values[name] = module(at_wire(values, wires.get(name, last)))
        last = name
    return at_wire(values, o.output or last)


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
    "local_response_norm": lambda m, x, o: F.local_response_norm(x[..., None], **vars(o))[..., 0],
    "spatial_dropout": lambda m, x, o: _dropped(m, x, o, 2),
    "drop_path": lambda m, x, o: _dropped(m, x, o, 1),
    "gaussian_noise": lambda m, x, o: x + o.std * torch.randn_like(x) if m.training else x,
    "attention": _attention,
    "multi_head_attention": _heads,
    "cross_attention": _heads,
    "alibi": _alibi,
    "relative_positions": _relative_positions,
    "last_step": _last_step,
    "masked_mean_pool": _masked_pool,
    "masked_max_pool": _masked_pool,
    "learned_positions": lambda m, x, o: x + m.weight[: x.shape[1]],
    "positional_encoding": _waving,
    "rotary": lambda m, x, o: _rotated(x, o.base, o.interleaved, o.offset),
    "stop_gradient": lambda m, x, o: x.detach(),
    "drop_context": lambda m, x, o: x[0],
    "clean_padding": lambda m, x, o: (_cleaned(x[0], ~_flags(x[-1], x[0].shape[1])), *x[1:]),
    "residual": _residual,
    "parallel": lambda m, x, o: _merged(o.merge, o.axis, [one(x) for one in m.children()]),
    "branch": lambda m, x, o: tuple(one(x) for one in m.children()),
    "each": lambda m, x, o: tuple(one(part) for one, part in zip(m.children(), x, strict=True)),
    "dense_connect": _dense_connect,
    "share": lambda m, x, o: _chain([m.layer] * o.times, x),
    "time_distributed": lambda m, x, o: m.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2]),
    "bidirectional": _bidirectional,
    "keep_context": lambda m, x, o: (m.layer(x[0]), *x[1:]),
    "residual_with_context": lambda m, x, o: (x[0] + m.layer(x), *x[1:]),
    "with_context": lambda m, x, o: (m.layer(x), *x[1:]),
    "with_encoder": _with_encoder,
    "graph": _graph,
}
"""What `Own` modules compute, of the module, its input and the options."""


def _value(o: Options) -> dict[str, Any]:
    return {"value": o.value} if o.mode == "constant" else {}


def _sections(x: Any, o: Options) -> Any:
    return list(o.sections) if isinstance(o.sections, tuple) else x.shape[o.axis] // o.sections
