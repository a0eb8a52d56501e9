"""Networks as modules, layer by layer, with the names that their parameters get."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from funcnn import checks, structure, tree
from funcnn.interop.torch.functions import FUNCTIONS, Options, Own
from funcnn.interop.torch.modules import MODULES
from funcnn.tree.walking import nested
from funcnn.types import Layer, Params, Spec


class Built(NamedTuple):
    """A module without numbers, and the path among the params of each name in its state dict."""

    module: Any
    paths: dict[str, str]


# --- parameters -----------------------------------------------------------------------------------

_RENAMED = {"scale": "weight", "slope": "weight"}


def _name(kind: str, path: str) -> str:
    """PyTorch's name of a leaf: in the second layer of an `lstm` ``weight_ih_l1_reverse``."""
    *places, leaf = path.split("/")
    if kind in ("lstm", "gru", "rnn"):
        level = next((int(place[5:]) - 1 for place in places if place.startswith("layer")), 0)
        return f"{leaf}_l{level}" + "_reverse" * ("backward" in places)
    return ".".join([*places, _RENAMED.get(leaf, leaf)])


class Spectral(nn.Module):  # type: ignore[misc]
    """`funcnn.spectral_norm` of a weight: it iterates behind the pass, not in front of it."""

    def __init__(self, options: Options, size: int) -> None:
        super().__init__()
        self.options, self.running_u = options, nn.Buffer(torch.empty(size))

    def forward(self, weight: Any) -> Any:
        """Divide by the largest singular value."""
        o, u = self.options, self.running_u
        matrix = weight.movedim(o.axis, 0).flatten(1)
        if self.training:
            with torch.no_grad():
                for _ in range(o.iterations):
                    v = F.normalize(torch.mv(matrix.T, u), dim=0, eps=o.epsilon)
                    u = F.normalize(torch.mv(matrix, v), dim=0, eps=o.epsilon)
            u, self.running_u = self.running_u, u
        return weight / torch.mv(matrix.T, u).norm().clamp(min=o.epsilon)


def _weight_norm(owner: Any, o: Options) -> dict[str, str]:
    parametrizations.weight_norm(owner, dim=o.axis)
    return {"original0": "weight/magnitude", "original1": "weight/direction"}


def _spectral_norm(owner: Any, o: Options) -> dict[str, str]:
    norm = Spectral(o, owner.weight.shape[o.axis])
    parametrize.register_parametrization(owner, "weight", norm, unsafe=True)
    return {"original": "weight/original", "0.running_u": "weight/running_u"}


_PIECES = {"weight_norm": ("direction", _weight_norm), "spectral_norm": ("original", _spectral_norm)}
"""The leaf that stands for a weight, and what computes it: PyTorch's names and our paths."""


def _owner(inner: Built) -> tuple[Any, str]:
    """The module that has the weight, and its place."""
    name = next(name for name, path in inner.paths.items() if path == "weight")
    prefix = name.removesuffix("weight")
    return inner.module.get_submodule(prefix.rstrip(".")), prefix


# --- the whole ------------------------------------------------------------------------------------


def build(net: Layer[Any, Any], params: Params) -> Built:
    """The module of a network, on whatever device PyTorch makes it."""
    return _child(net, params, "/".join(structure.place_of(net).path))


def _child(layer: Layer[Any, Any], params: Params, name: str = "") -> Built:
    try:
        return _made(layer, params)
    except checks.Refusal as refusal:
        raise refusal.inside(name) if name else refusal


def _made(layer: Layer[Any, Any], params: Params) -> Built:
    kind, inside = layer.spec.kind, structure.children(layer)
    if not isinstance(params, dict):
        checks.refuse_type(f"`params` must be a dict, got {type(params).__name__}")
    if kind in ("named", "remat"):
        return _made(inside[0][1], params)
    if kind == "freeze":
        built = _made(inside[0][1], params)
        built.module.requires_grad_(False)
        return built
    if kind == "inference_mode":
        built = _made(inside[0][1], params)
        built.module.register_forward_pre_hook(_still)
        return built
    if kind == "tied":
        return _tied(inside[0][1], params, _options(layer.spec).ties)
    if kind in ("weight_norm", "spectral_norm"):
        return _reparametrized(layer, inside[0][1], params)
    ours = layer.spec.build.__module__.startswith("funcnn.")
    if kind not in ("serial", "repeat", *FUNCTIONS, *MODULES) or not ours:
        checks.refuse(f"`net` must have layers that PyTorch has, got {checks.shown(layer)}")
    o = _options(layer.spec)
    if not inside:
        return _leaf(layer, params, kind, o)
    holder: Any = nn.Sequential() if kind in ("serial", "repeat") else Own(kind, o)
    paths: dict[str, str] = {}
    if inside[0][0]:
        checks.children(params, tuple(name for name, _ in inside))
    for name, child in inside:
        built = _child(child, params.get(name, {}) if name else params, name)
        place = f"{name or 'layer'}_" if hasattr(holder, name or "layer") else name or "layer"
        holder.add_module(place, built.module)
        paths |= {f"{place}.{n}": f"{name}/{p}" if name else p for n, p in built.paths.items()}
    return Built(holder, paths)


def _still(module: Any, args: tuple[Any, ...]) -> None:
    module.eval()


def _options(spec: Spec) -> Options:
    """What a layer was made with, but for how its parameters begin."""
    given = inspect.signature(spec.build).bind_partial(*spec.args, **spec.options).arguments
    begins = ("_init", "initial_slope")
    return SimpleNamespace(**{name: o for name, o in given.items() if not name.endswith(begins)})


def _leaf(layer: Layer[Any, Any], params: Params, kind: str, o: Options) -> Built:
    leaves = {path: checks.array(leaf, path) for path, leaf in tree.items(params)}
    paths = {_name(kind, path): path for path in leaves}
    named = {name: leaves[path] for name, path in paths.items()}
    module: Any = None
    try:
        module = MODULES.get(kind, partial(Own, kind))(o, named)
    except checks.Refusal:
        raise
    except (KeyError, ValueError, TypeError, AttributeError):  # what is wrong is said below
        pass
    wanted = {} if module is None else {n: part.numel() for n, part in module.state_dict().items()}
    counted = {name: size for name, size in wanted.items() if not is_counter(name)}
    if module is None or counted != {name: leaf.size for name, leaf in named.items()}:
        got = {path: leaf.shape for path, leaf in leaves.items()}
        checks.refuse(f"`params` must be those of {checks.shown(layer)}, got {checks.shown(got)}")
    return Built(module, paths)


def is_counter(name: str) -> bool:
    """Whether an entry of a state dict counts the batches of a batch normalisation."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _tied(layer: Layer[Any, Any], params: Params, ties: dict[str, str]) -> Built:
    """One leaf under several names."""
    whole = dict(tree.items(params))
    for place, source in ties.items():
        found = [path for path in whole if f"{path}/".startswith(f"{source}/")]
        whole |= {place + path.removeprefix(source): whole[path] for path in found}
    module, paths = _made(layer, nested((path.split("/"), leaf) for path, leaf in whole.items()))

    def first(path: str) -> str:
        for place, source in ties.items():
            if f"{path}/".startswith(f"{place}/"):
                return source + path.removeprefix(place)
        return path

    return Built(module, {name: first(path) for name, path in paths.items()})


def _reparametrized(around: Layer[Any, Any], layer: Layer[Any, Any], params: Params) -> Built:
    (leaf, pieces), o = _PIECES[around.spec.kind], _options(around.spec)
    weight = params.get("weight")
    if not isinstance(weight, dict) or leaf not in weight:
        checks.refuse(f"`params` must be those of {checks.shown(around)}, got {checks.shown(params)}")
    inner = _made(layer, {**params, "weight": weight[leaf]})
    owner, prefix = _owner(inner)
    new = {f"{prefix}parametrizations.weight.{n}": p for n, p in pieces(owner, o).items()}
    kept = {name: path for name, path in inner.paths.items() if path != "weight"}
    return Built(inner.module, {**new, **kept})
