"""State dicts: a network's parameters under PyTorch's names, matched by structure, shape and order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from funcnn import checks, random, tree
from funcnn.checkpoints import load_safetensors
from funcnn.interop.torch.building import Built, build, is_counter
from funcnn.types import Array, Layer, Params, Shape

__all__ = ["load_state_dict", "match", "state_dict", "to_module"]


@checks.named
def to_module(net: Layer[Any, Any], params: Params) -> Any:
    """The equal `torch.nn.Module`: the same outputs and gradients.

    Parameters
    ----------
    net : Layer
        A layer, or a whole network.
    params : dict
        Its parameters, which are copied.

    Returns
    -------
    torch.nn.Module
        In inference mode, as ``net.apply`` without a key; ``.train()`` is training. Its modules are
        named as the params are, and take what the layers take: sequences are ``(N, T, F)``.

    Raises
    ------
    ValueError, TypeError
        For a layer that PyTorch does not have, with its path, and params that are not the network's.

    Notes
    -----
    What is random in training draws from PyTorch's generator: the same distribution, other bits.

    Examples
    --------
    >>> from funcnn import dense, random, relu, serial
    >>> net = serial(dense(3), relu())
    >>> _, params = net.init(random.key(0), (2, 4))
    >>> to_module(net, params)
    Sequential(
      (dense1): Linear(in_features=4, out_features=3, bias=True)
      (relu1): ReLU()
    )
    """
    module, paths = _built(net, params)
    leaves = {path: torch.tensor(np.ascontiguousarray(leaf)) for path, leaf in tree.items(params)}
    shapes = {paths[name]: part.shape for name, part in module.state_dict().items() if name in paths}
    for path, leaf in leaves.items():
        leaf = leaf.reshape(shapes[path])
        leaves[path] = leaf if tree.is_statistic(path) else torch.nn.Parameter(leaf)
    state = {name: leaves[path] for name, path in paths.items()}
    counters = {name: torch.tensor(0) for name in module.state_dict() if is_counter(name)}
    module.load_state_dict({**state, **counters}, assign=True)
    return module.eval()


@checks.named
def state_dict(net: Layer[Any, Any], params: Params) -> dict[str, Any]:
    """Parameters as PyTorch's: the state dict of `to_module`.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters, which are copied.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    ValueError, TypeError
        What `to_module` refuses.

    Examples
    --------
    >>> from funcnn import batch_norm, random, serial
    >>> net = serial(batch_norm())
    >>> list(state_dict(net, net.init(random.key(0), (2, 4))[1]))[:3]
    ['batch_norm1.weight', 'batch_norm1.bias', 'batch_norm1.running_mean']
    """
    return dict(to_module(net, params).state_dict())


@checks.named
def load_state_dict(
    net: Layer[Any, Any], state: Any, shape: Shape | None = None, names: Mapping[str, str] | None = None
) -> Params:
    """The parameters of a network from a PyTorch state dict.

    Parameters
    ----------
    net : Layer
        The network.
    state : mapping of str to tensor or array, or path
        What ``module.state_dict()`` gives; or a ``.safetensors`` file, or one of ``torch.save``, which
        PyTorch reads with ``weights_only=True``.
    shape : Shape, optional
        Of the network's input. Without it, some usual shapes of a single input are tried.
    names : mapping of str to str, optional
        For the path of a leaf, the name of what belongs there, where order and shapes do not tell:
        ``{"conv1/weight": "features.0.weight"}``. `match` gives such a table.

    Returns
    -------
    dict
        The params, in the dtype of the state, copied.

    Raises
    ------
    ValueError, TypeError
        For a state that lacks something, or has something more or of another shape: the message lists
        it. For tensors that are not finite, dense, and float32 or float64.

    Notes
    -----
    If all names are those of `state_dict`, they decide. Otherwise the entries of one module, a weight
    with its bias, say, go to the next layer that has such entries of such shapes. The order is that of
    the mapping, of a file that of the names. Queries, keys and values are told apart by their names
    (``q_proj``, ``key``), or by their place in ``in_proj_weight`` or ``c_attn``. The counters of batch
    normalisations are left out. See `match` for what went where.

    Examples
    --------
    >>> import torch
    >>> from funcnn import dense, relu, serial
    >>> theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> net = serial(dense(3), relu(), dense(2))
    >>> params = load_state_dict(net, theirs.state_dict(), (1, 4))
    >>> params["dense2"]["weight"].shape
    (2, 3)
    """
    like, found, table = _loaded(net, state, shape, names)
    ours = isinstance(state, (str, os.PathLike))  # what was read from a file is nobody else's

    def leaf(path: str, shaped: Array) -> Array:
        values = found[table[path]].reshape(shaped.shape)
        return values if ours else np.array(values, order="C")

    return tree.map_with_path(leaf, like)


@checks.named
def match(
    net: Layer[Any, Any], state: Any, shape: Shape | None = None, names: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What `load_state_dict` takes from where: for the path of each leaf, a name in the state.

    Parameters
    ----------
    net, state, shape, names
        As for `load_state_dict`.

    Returns
    -------
    dict of str to str
        ``"in_proj_weight[0]"`` is the first third of what is called ``"in_proj_weight"``.

    Raises
    ------
    ValueError, TypeError
        What `load_state_dict` refuses.

    Examples
    --------
    >>> import torch
    >>> from funcnn import dense, serial
    >>> match(serial(dense(3)), {"fc.weight": torch.ones(3, 4), "fc.bias": torch.ones(3)}, (1, 4))
    {'dense1/weight': 'fc.weight', 'dense1/bias': 'fc.bias'}
    """
    return _loaded(net, state, shape, names)[2]


def _built(net: Layer[Any, Any], params: Params) -> Built:
    if not isinstance(net, Layer):
        checks.refuse_type(f"`net` must be a Layer, got {checks.shown(net)}")
    if not isinstance(params, dict):
        checks.refuse_type(f"`params` must be a dict, got {type(params).__name__}")
    with torch.device("meta"):
        return build(net, params)


# --- what comes in --------------------------------------------------------------------------------


def _read(state: Any) -> dict[str, Array]:
    """The entries of a state by their names, as arrays; without counters."""
    if isinstance(state, (str, os.PathLike)):
        state = _file(os.fspath(state))
    if isinstance(state, torch.nn.Module):
        checks.refuse_type("`state` must be a state dict, got a module: write module.state_dict()")
    if not isinstance(state, Mapping):
        checks.refuse_type(f"`state` must be a mapping or a path, got {checks.shown(state)}")
    found = {}
    for name, value in state.items():
        if not isinstance(name, str):
            checks.refuse_type(f"`state` must have names that are str, got {checks.shown(name)}")
        if not is_counter(name):
            found[name] = _array(name, value)
    if len(kinds := sorted({str(value.dtype) for value in found.values()})) > 1:
        checks.refuse_type(f"`state` must have one dtype, got {' and '.join(kinds)}")
    return found


def _file(path: str) -> Any:
    if path.endswith(".safetensors"):
        found = dict(tree.items(load_safetensors(path)))
        return {name.replace("/", "."): found[name] for name in sorted(found, key=_natural)}
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as problem:  # whatever a broken file makes of it
        why = checks.shown(str(problem).partition("\n")[0][:80])
        checks.refuse(f"{checks.shown(path)} must be a file of weights, got {why}")


def _natural(name: str) -> list[tuple[str, int, str]]:
    """``h/2`` comes before ``h/10``."""
    return [(text, len(digits), digits) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _array(name: str, value: Any) -> Array:
    where = f"in {checks.shown(name)}"
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        if value.dtype not in (torch.float32, torch.float64):
            checks.refuse_type(
                f"`state` must be float32 or float64, got {kind} {where}: write .float()"
            )
        try:
            value = value.detach().cpu().resolve_neg().numpy()
        except (RuntimeError, TypeError, ValueError):  # it is sparse, say, or has no numbers
            kind = "a meta tensor" if value.is_meta else f"a {type(value).__name__} of {value.layout}"
            checks.refuse_type(f"`state` must have dense tensors with numbers, got {kind} {where}")
    if type(value) not in (np.ndarray, np.memmap):  # the mask of an array, say, would be lost
        got = f"a {type(value).__name__}" if isinstance(value, np.ndarray) else checks.shown(value)
        checks.refuse_type(f"`state` must have tensors or arrays, got {got} {where}")
    if value.dtype not in (np.float32, np.float64):
        checks.refuse_type(f"`state` must be float32 or float64, got {value.dtype} {where}")
    if not np.isfinite(value).all():
        checks.refuse(f"`state` must be finite, got {value[~np.isfinite(value)][0]} {where}")
    native: Array = value.astype(value.dtype.newbyteorder("="), copy=False)
    return native


# --- what goes where ------------------------------------------------------------------------------

_HEADS = ("query", "key", "value")
_FUSED = re.compile(
    r"(.*?)\.?(?:in_proj_|(?:c_attn|qkv|Wqkv|in_proj|qkv_proj)\.)(weight|bias)(?:\[(\d)\])?"
)
_APART = re.compile(r"(.*?)\.?([qkv])_proj_(weight)")
_WORD = re.compile(r"(?:to_|w)?(q|k|v|query|key|value)(?:_?proj|_lin|_linear)?", re.IGNORECASE)
_NORMED = {"weight_g": "original0", "weight_v": "original1"}  # the older names


class _Group(NamedTuple):
    """The entries of one module: its place, whether it is of queries, keys or values, full names."""

    place: str
    head: str
    names: dict[str, str]


def _loaded(
    net: Layer[Any, Any], state: Any, shape: Shape | None, names: Mapping[str, str] | None
) -> tuple[Params, dict[str, Array], dict[str, str]]:
    """Params of the right shapes, the arrays by their names, and the name for each path."""
    found = _read(state)
    if shape is not None:
        return _fitted(net, found, shape, names)
    problems = []
    for usual in _usual(found):
        try:
            return _fitted(net, found, usual, names)
        except checks.Refusal as problem:
            problems.append(f"with {usual}, {problem}")
    told = max(problems, key=lambda text: "fit the network" in text)
    raise checks.RefusedValue(f"`shape` must be given where the state does not tell it: {told}")


def _usual(state: dict[str, Array]) -> Iterable[Shape]:
    """Shapes of an input, by the first weight."""
    size = next((value.shape[1] for value in state.values() if value.ndim > 1), 1)
    yield from ((-1, size), (-1, 16, size), (-1, 16))
    yield from ((-1, size, side, side) for side in (224, 28, 32, 64, 16, 8))


def _fitted(
    net: Layer[Any, Any], state: dict[str, Array], shape: Shape, names: Mapping[str, str] | None
) -> tuple[Params, dict[str, Array], dict[str, str]]:
    like = net.init(random.NO_DRAW, shape)[1]
    module, paths = _built(net, like)
    shapes = {name: tuple(part.shape) for name, part in module.state_dict().items() if name in paths}
    first = {path: name for name, path in reversed(paths.items())}
    shapes = {name: shapes[name] for name in paths}
    twins = {name: first[path] for name, path in paths.items() if first[path] != name}
    state = _apart(state, shapes)
    given = _given(first, shapes, state, {} if names is None else names)
    rest = {name: value.shape for name, value in state.items() if name not in given.values()}
    open_ = {name: wanted for name, wanted in shapes.items() if name not in given}
    pairs = {**given, **_paired(open_, rest, twins, paths)}
    for name, twin in twins.items():
        if name in pairs and not np.array_equal(state[pairs[name]], state[pairs[twin]]):
            both = f"{checks.shown(pairs[twin])} and {checks.shown(pairs[name])}"
            checks.refuse(f"`state` must have the same numbers in {both}, which are tied")
    return like, state, {paths[name]: pairs[name] for name in shapes if name not in twins}


def _given(
    first: dict[str, str], shapes: dict[str, Shape], state: dict[str, Array], names: Mapping[str, str]
) -> dict[str, str]:
    """The part of the map that was given."""
    if not isinstance(names, Mapping):
        checks.refuse_type(f"`names` must be a mapping, got {checks.shown(names)}")
    for path, name in names.items():
        if path not in first:
            checks.refuse(f"`names` must have paths of leaves, got {checks.shown(path)}")
        if not isinstance(name, str) or name not in state:
            checks.refuse(f"`names` must have names of the state, got {checks.shown(name)}")
        if shapes[first[path]] != state[name].shape:
            checks.refuse(_other(path, shapes[first[path]], name, state[name].shape))
    return {first[path]: name for path, name in names.items()}


def _apart(state: dict[str, Array], shapes: dict[str, Shape]) -> dict[str, Array]:
    """A state whose fused queries, keys and values have come apart."""
    wanted = {shape for name, shape in shapes.items() if _placed(name)[1]}
    found: dict[str, Array] = {}
    for name, value in state.items():
        thirds = (len(value) // 3, *value.shape[1:]) if value.ndim else ()
        if _FUSED.fullmatch(name) and len(value) % 3 == 0 and thirds in wanted:
            found |= {f"{name}[{k}]": part for k, part in enumerate(np.split(value, 3))}
        else:
            found[name] = value
    return found


def _placed(name: str) -> tuple[str, str, str]:
    """The place of an entry, whether it is one of queries, keys or values, and its own name there."""
    if (fused := _FUSED.fullmatch(name)) and fused[3]:
        head = _HEADS[int(fused[3])]
        return f"{fused[1]}.{head}", head, fused[2]
    if apart := _APART.fullmatch(name):
        head = _HEADS["qkv".index(apart[2])]
        return f"{apart[1]}.{head}", head, apart[3]
    place, _, own = name.rpartition(".")
    if own in _NORMED:
        return f"{place}.parametrizations.weight", "", _NORMED[own]
    word = _WORD.fullmatch(place.rpartition(".")[2])
    return place, _HEADS["qkv".index(word[1][0].lower())] if word else "", own


def _grouped(names: Iterable[str]) -> list[_Group]:
    """The entries of each module; heads are of a place that has all three."""
    found: dict[str, _Group] = {}
    for name in names:
        place, head, own = _placed(name)
        found.setdefault(place, _Group(place, head, {})).names[own] = name
    heads: dict[str, set[str]] = {}
    for place, group in found.items():
        heads.setdefault(place.rpartition(".")[0], set()).add(group.head)
    return [
        group if heads[place.rpartition(".")[0]] >= set(_HEADS) else group._replace(head="")
        for place, group in found.items()
    ]


def _paired(
    wanted: dict[str, Shape], rest: dict[str, Shape], twins: dict[str, str], paths: dict[str, str]
) -> dict[str, str]:
    """For each name of ours one of theirs; twins, which have the numbers of others, may have none."""
    if wanted.keys() - twins.keys() <= rest.keys() <= wanted.keys():
        pairs = {name: name for name in rest}
        for name in pairs:
            if wanted[name] != rest[name]:
                checks.refuse(_other(paths[name], wanted[name], name, rest[name]))
        return pairs
    pairs, left = {}, _grouped(rest)
    missing: list[_Group] = []
    ours = sorted(_grouped(wanted), key=lambda group: not group.head)
    for group in ours:
        alone = {own: name for own, name in group.names.items() if name not in twins}
        for names in (group.names, alone) if alone else (group.names,):
            if theirs := _first(names, group.head, left, wanted, rest):
                left.remove(theirs)
                pairs |= {name: theirs.names[own] for own, name in names.items()}
                break
        else:
            if alone:
                missing.append(group._replace(names=alone))
    if missing or left:
        if 2 * len(wanted.keys() & rest.keys()) > len(wanted):  # the names tell what is meant
            missing = _grouped(n for n in wanted if n not in twins and rest.get(n) != wanted[n])
            left = _grouped(name for name in rest if rest[name] != wanted.get(name))
        checks.refuse(_differences(missing, left, wanted, rest, paths))
    return pairs


def _first(
    names: dict[str, str],
    head: str,
    left: list[_Group],
    wanted: dict[str, Shape],
    rest: dict[str, Shape],
) -> _Group | None:
    """The next of theirs with entries of these names and shapes."""
    shapes = {own: wanted[name] for own, name in names.items()}
    for theirs in left:
        got = {own: rest[name] for own, name in theirs.names.items()}
        if got == shapes and (not head or theirs.head == head):
            return theirs
    return None


# --- what does not fit ----------------------------------------------------------------------------


def _differences(
    missing: list[_Group], left: list[_Group], wanted: dict[str, Shape], rest: dict[str, Shape],
    paths: dict[str, str],
) -> str:  # fmt: skip
    """What a state lacks, has of another shape, and has beyond."""
    lacks, others, waiting = [], [], list(left)
    for group in missing:
        found = [one for one in waiting if one.names.keys() & group.names.keys()]
        found = [one for one in found if one.head == group.head or not group.head]
        theirs = max(found, key=lambda one: _likeness(group, one, wanted, rest), default=None)
        if theirs:
            waiting.remove(theirs)
        for own, name in group.names.items():
            got = theirs.names.pop(own, None) if theirs else None
            if got is None:
                lacks.append(f"{paths[name]} {wanted[name]}")
            elif rest[got] != wanted[name]:
                others.append(_other(paths[name], wanted[name], got, rest[got]))
    needed = {wanted[name] for group in missing for name in group.names.values()}
    beyond = [
        f"{checks.shown(name)} {rest[name]}{_form(rest[name], needed)}"
        for group in left
        for name in group.names.values()
    ]
    lists = {"unexpected ": beyond, "": others, "missing ": lacks}
    few = 1 if sum(map(bool, lists.values())) > 1 or others else 2
    parts = [
        word + ", ".join(items[:few]) + (f" and {len(items) - few} more" if len(items) > few else "")
        for word, items in lists.items()
        if items
    ]
    return "`state` must fit the network: " + "; ".join(parts)


def _likeness(ours: _Group, theirs: _Group, wanted: dict[str, Shape], rest: dict[str, Shape]) -> int:
    """How many entries have the shape that they should have, or a form of it."""
    both = ours.names.keys() & theirs.names.keys()
    pairs = [(wanted[ours.names[own]], rest[theirs.names[own]]) for own in both]
    alike = sum(one == got or bool(_form(got, {one})) for one, got in pairs)
    return alike + len(wanted) * (ours.place == theirs.place)


def _other(path: str, wanted: Shape, name: str, got: Shape) -> str:
    return f"{path} must have shape {wanted}, got {got}{_form(got, {wanted})} in {checks.shown(name)}"


def _form(got: Shape, wanted: set[Shape]) -> str:
    """In words, how a shape is one of those that are wanted."""
    turned = got[::-1]
    if turned != got and turned in wanted:
        return " (transposed)"
    fused = {(count * one[0], *one[1:]) for one in wanted if one for count in (3, 4)}
    return " (fused)" if got in fused else " (transposed and fused)" if turned in fused else ""
