"""Networks and weights to PyTorch and back: every layer, two real architectures, broken states."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    attention,
    batch_norm,
    checkpoints,
    conv,
    cross_attention,
    data,
    dense,
    drop_path,
    dropout,
    embedding,
    flatten,
    gaussian_noise,
    gelu,
    global_avg_pool,
    graph,
    gru,
    layer_norm,
    learned_positions,
    lstm,
    max_pool,
    merge,
    multi_head_attention,
    named,
    prelu,
    random,
    relu,
    repeat,
    reshape,
    residual,
    serial,
    sgd,
    softmax_cross_entropy,
    spatial_dropout,
    tanh,
    tied,
    time_distributed,
    tree,
    weight_norm,
)
from funcnn.models import transformer_decoder_block, transformer_encoder_block
from funcnn.training import train_state, train_step
from funcnn.types import Layer, Params, Shape, Spec, has_trait
from tests import registry

pytest.importorskip("torch", reason="PyTorch is not installed")

import torch
from torch import nn
from torch.nn import functional as F

from funcnn.interop.torch import load_state_dict, match, state_dict, to_module
from funcnn.interop.torch.building import build
from funcnn.interop.torch.modules import MODULES

torch.set_num_threads(1)


# --- every layer ----------------------------------------------------------------------------------


def mapped(fn: Any, value: Any) -> Any:
    return tuple(mapped(fn, part) for part in value) if isinstance(value, tuple) else fn(value)


def parts(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in parts(part)] if isinstance(value, tuple) else [value]


def tensor(array: Any) -> Any:
    return torch.tensor(np.asarray(array), requires_grad=np.asarray(array).dtype.kind == "f")


def difference(mine: Any, theirs: Any) -> float:
    """The largest, of arrays of the same shape; no gradient is one of zeros."""
    if theirs is None:
        return float(np.abs(mine).max(initial=0))
    found = theirs.detach().numpy()
    if found.dtype.kind == "f":
        assert found.dtype == np.float64
    assert mine.size == found.size
    return float(np.abs(mine * 1.0 - found.reshape(mine.shape)).max(initial=0))


def drawn(layer: Layer[Any, Any], shape: Shape) -> Params:
    """Parameters of normals, variances of their sizes."""

    def leaf(path: str, like: Any) -> Any:
        value = random.normal(random.fold_in(random.key(7), path), like.shape, dtype=np.float64)
        return np.abs(value) + 0.1 if path.endswith("running_var") else value

    return tree.map_with_path(leaf, layer.init(random.key(7), shape)[1])


def largest_error(layer: Layer[Any, Any], params: Params, x: Any, training: bool = False) -> float:
    """Of outputs, all gradients and new statistics, against the module of the layer."""
    x = mapped(np.asarray, x)
    x = mapped(lambda leaf: leaf.astype(np.float64) if leaf.dtype.kind == "f" else leaf, x)
    out, cache = layer.apply(params, x, key=random.key(1) if training else None)
    dout = mapped(lambda part: random.normal(random.key(2), part.shape, dtype=np.float64), out)
    dparams, dx = layer.vjp(cache, dout)

    module = to_module(layer, params).train(training)
    given = mapped(tensor, mapped(np.copy, x))
    wanted = module(given)
    pairs = [pair for pair in zip(parts(wanted), parts(dout), strict=True) if pair[0].requires_grad]
    if pairs:
        torch.autograd.backward([part for part, _ in pairs], [torch.tensor(d) for _, d in pairs])

    errors = [difference(*pair) for pair in zip(parts(out), parts(wanted), strict=True)]
    errors += [
        difference(np.where(theirs.detach().isfinite(), mine, 0), theirs.grad)  # NaN in padding
        for mine, theirs in zip(parts(dx), parts(given), strict=True)
        if theirs.requires_grad
    ]
    slopes, new = dict(tree.leaves(dparams)), dict(tree.leaves(layer.statistics(cache)))
    theirs, kept = dict(module.named_parameters(remove_duplicate=False)), module.state_dict()
    for name, path in build(layer, params).paths.items():
        slope = slopes.pop(path, None)  # of a tied leaf at its first name
        errors.append(
            0.0 if slope is None else difference(slope, theirs[name].grad if name in theirs else None)
        )
        if path in new:
            errors.append(difference(new[path], kept[name]))
    assert not slopes
    return max(errors)


REFUSED = {
    "max_pool((1, 3), stride=2, padding=(0, 2), dilation=(1, 2)) (2, 1, 4, 5)": "to_module: `padding`"
    " must be at most half of `kernel_size` in PyTorch, got (0, 2) and (1, 3)",
    **{
        case.id: "to_module: `reset_after` must be True in PyTorch, got False"
        for case in registry.layers()
        if case.layer.spec.options.get("reset_after") is False
    },
}
"""The cases that PyTorch cannot express, and what they are told."""


def modes(case: registry.Case) -> tuple[bool, ...]:
    """Inference, and training where nothing is drawn."""
    return (False,) if has_trait(case.layer.spec, "stochastic") else (False, True)


def agrees(case: registry.Case) -> float:
    params = drawn(case.layer, case.shape)
    if case.id in REFUSED:
        with pytest.raises(ValueError, match="PyTorch") as caught:
            to_module(case.layer, params)
        assert str(caught.value) == REFUSED[case.id]
        return 0.0
    x = registry.subject(case).x if case.x is None else case.x
    return max(largest_error(case.layer, params, x, training) for training in modes(case))


def one_of_each_kind() -> list[registry.Case]:
    found: dict[str, registry.Case] = {}
    for case in registry.layers():
        kinds = dict.fromkeys(spec.kind for spec in registry.specs(case.layer.spec))  # in one order
        if kinds.keys() - found.keys() or case.id in REFUSED:
            found |= dict.fromkeys(kinds, case) | {case.id: case}
    return list({case.id: case for case in found.values()}.values())


@pytest.mark.parametrize("case", one_of_each_kind(), ids=lambda case: case.id)
def test_every_kind_of_layer_agrees(case: registry.Case) -> None:
    assert agrees(case) < 1e-9


@pytest.mark.slow
def test_every_case_agrees() -> None:
    errors = {case.id: agrees(case) for case in registry.layers()}
    assert {name for name, error in errors.items() if not error < 1e-9} == set()
    assert set(REFUSED) < set(errors)


def test_layers_of_a_graph_may_be_called_as_a_module_is() -> None:
    net = graph(
        named("train", dense(3)), named("options", dense(3)), merge(),
        wires={"options": "x", "merge1": ("train", "options")},
    )  # fmt: skip
    assert largest_error(net, drawn(net, (2, 4)), np.ones((2, 4))) < 1e-9


def test_a_wrong_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = serial(dense(3), tanh()), np.ones((2, 4))
    params = drawn(net, x.shape)
    assert largest_error(net, params, x) < 1e-9
    monkeypatch.setitem(MODULES, "tanh", lambda o, p: nn.Sigmoid())
    assert largest_error(net, params, x) > 1e-3
    monkeypatch.setitem(MODULES, "tanh", lambda o, p: Straight())
    assert largest_error(net, params, x) > 1e-3


class Straight(nn.Module):  # type: ignore[misc]
    """The right value, and another slope."""

    def forward(self, x: Any) -> Any:
        return x + (x.tanh() - x).detach()


def comes_back(net: Layer[Any, Any], shape: Shape) -> None:
    params = drawn(net, shape)
    again = load_state_dict(net, state_dict(net, params), shape)
    assert tree.equal(params, again)
    assert [path for path, _ in tree.items(params)] == [path for path, _ in tree.items(again)]


def nameless(state: dict[str, Any]) -> dict[str, Any]:
    """The same with names of modules that tell nothing but what is a query, a key, a value."""
    found: dict[str, Any] = {}
    numbers: dict[str, int] = {}
    for name, leaf in state.items():
        place, _, own = name.rpartition(".")
        place, inside, deeper = place.partition("parametrizations")
        parent, _, last = place.rstrip(".").rpartition(".")
        head = last in ("query", "key", "value")
        number = numbers.setdefault(parent + "/" if head else place, len(numbers))
        words = [f"m{number}", *[last] * head, *[inside + deeper] * bool(inside), own]
        found[".".join(words)] = leaf
    return found


def mutants(state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """States that lack something, or have something more, of another shape, or no number."""
    name = max((name for name in state if "num_batches" not in name), key=len)
    leaf, rest = state[name], {other: part for other, part in state.items() if other != name}
    yield "missing", rest
    yield "renamed", {**rest, f"{name}x": leaf}
    yield "beyond", {**state, "more.weight": leaf}
    yield "shape", {**state, name: leaf[None]}
    yield "rows", {**state, name: torch.cat([leaf, leaf])}
    yield "nan", {**state, name: leaf * torch.nan}
    yield "half", {**state, name: leaf.half()}


def goes_by_structure(case: registry.Case) -> None:
    """A state comes back whatever its modules are called, and a broken one does not."""
    if case.id in REFUSED:
        return
    comes_back(case.layer, case.shape)
    params = drawn(case.layer, case.shape)
    for state in (state_dict(case.layer, params), nameless(state_dict(case.layer, params))):
        assert tree.equal(load_state_dict(case.layer, state, case.shape), params)
        for kind, broken in mutants(state) if state else ():
            if (
                kind != "missing" or case.layer.spec.kind != "tied"
            ):  # a tied leaf may have one name alone
                refused(case.layer, broken, case.shape, " must ")


@pytest.mark.slow
def test_every_state_goes_by_its_structure() -> None:
    for case in registry.layers():
        goes_by_structure(case)


def test_a_state_of_each_kind_goes_by_its_structure() -> None:
    for case in one_of_each_kind():
        goes_by_structure(case)


def test_what_pytorch_does_not_have_is_refused_with_its_path() -> None:
    def mine() -> Layer[Any, Any]:
        return relu()._replace(spec=Spec(mine))

    net = named("net", serial(named("body", serial(dense(3), named("last", mine()))), dense(2)))
    with pytest.raises(ValueError, match="PyTorch") as caught:
        to_module(net, net.init(random.key(0), (1, 2))[1])
    text = "net/body/last: `net` must have layers that PyTorch has, got mine()"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "params",
    [
        {}, {"weight": np.ones((3, 2))}, {"weight": np.ones((2, 2)), "bias": np.ones(3)}, {"bias": {}},
        {"weight": np.ones((3, 2)), "bias": np.ones(3), "more": np.ones(1)},
    ],
)  # fmt: skip
def test_params_of_another_network_are_refused(params: Params) -> None:
    with pytest.raises(ValueError, match=r"dense1: `params` must be those of dense\(3\), got"):
        to_module(serial(dense(3)), {"dense1": params})


def test_params_that_are_no_tree_of_arrays_are_refused() -> None:
    net: Layer[Any, Any] = serial(dense(1), weight_norm(dense(1)))
    for params, text in (
        (
            {"dense1": {"weight": [[1.0]], "bias": [1.0]}},
            "dense1: `weight` must be a NumPy array, got list",
        ),
        ({"dense1": 3}, "dense1: `params` must be a dict, got int"),
        ({"dense2": {}}, "to_module: `params` must belong to this network: it has no child 'dense2'"),
        (3, "to_module: `params` must be a dict, got int"),
        (
            {"dense1": {"weight": np.ones((1, 1)), "bias": np.ones(1)}},
            "weight_norm1: `params` must be those",
        ),
    ):
        with pytest.raises((ValueError, TypeError)) as caught:
            to_module(net, params)  # type: ignore[arg-type]
        assert str(caught.value).startswith(text)


def test_nothing_is_shared_and_no_number_is_drawn() -> None:
    net, x = serial(dense(3), batch_norm(), dense(2)), torch.ones(4, 2)
    params = net.init(random.key(0), (4, 2))[1]
    before, state = tree.map(np.copy, params), torch.get_rng_state()
    module = to_module(net, params)
    assert torch.equal(state, torch.get_rng_state())
    assert not module.training
    module.train()(x).sum().backward()
    with torch.no_grad():
        for leaf in module.parameters():
            leaf += 1
    assert tree.equal(params, before)
    theirs = module.state_dict()
    loaded = load_state_dict(net, theirs, (4, 2))
    kept = tree.map(np.copy, loaded)
    for leaf in theirs.values():
        leaf.zero_()
    assert tree.equal(loaded, kept)
    assert all(leaf.flags.writeable and leaf.flags.c_contiguous for _, leaf in tree.leaves(loaded))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (dropout(0.25), (300, 40)),
        (spatial_dropout(0.25), (60, 50, 2, 2)),
        (spatial_dropout(0.25), (60, 3, 50)),
        (drop_path(0.25), (3000, 2)),
        (gaussian_noise(0.5), (300, 40)),
        (attention(rate=0.25), ((1, 40, 2), (1, 300, 2), (1, 300, 1))),
    ],
    ids=repr,
)
def test_what_is_random_in_training_has_the_same_law(layer: Layer[Any, Any], shape: Any) -> None:
    """On ones: which axes are drawn together, and how the values spread."""
    torch.manual_seed(0)
    x = tuple(map(np.ones, shape)) if isinstance(shape[0], tuple) else np.ones(shape)
    mine = layer.apply({}, x, key=random.key(0))[0]
    theirs = to_module(layer, {}).train()(mapped(tensor, x)).detach().numpy()
    assert not np.array_equal(mine, theirs)
    np.testing.assert_allclose(mine.mean(), theirs.mean(), rtol=0.1)
    np.testing.assert_allclose(mine.std(), theirs.std(), rtol=0.1)
    for axis in range(mine.ndim):
        apart = [np.ptp(one, axis).max(initial=0) > 0 for one in (mine, theirs)]
        assert apart[0] == apart[1]


def test_padding_may_hold_anything() -> None:
    net: Layer[Any, Any] = transformer_encoder_block(4, 2, 3, masked=True)
    mask = np.array([[True, True, False], [True, False, False]])
    x = random.normal(random.key(0), (2, 3, 4), dtype=np.float64)
    x[~mask] = np.nan
    assert largest_error(net, drawn(net, (x.shape, mask.shape)), (x, mask)) < 1e-12


def test_modules_can_be_copied_and_kept(tmp_path: Path) -> None:
    net: Layer[Any, Any] = serial(
        conv(2, 3, padding="same", stride=2), prelu(), flatten(), dense(4), reshape(2, 2),
        lstm(2, reverse=True),
    )  # fmt: skip
    module = to_module(net, drawn(net, (2, 1, 6, 6)))
    x = torch.ones(2, 1, 6, 6, dtype=torch.float64)
    torch.save(module, tmp_path / "whole.pt")
    for other in (copy.deepcopy(module), torch.load(tmp_path / "whole.pt", weights_only=False)):
        assert torch.equal(other(x), module(x))


# --- architectures --------------------------------------------------------------------------------


class BasicBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.downsample = None
        if stride > 1 or ins != outs:
            self.downsample = nn.Sequential(
                nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs)
            )

    def forward(self, x: Any) -> Any:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        ins = width
        for stage in range(4):
            outs, stride = width * 2**stage, 1 + (stage > 0)
            blocks = nn.Sequential(BasicBlock(ins, outs, stride), BasicBlock(outs, outs, 1))
            self.add_module(f"layer{stage + 1}", blocks)
            ins = outs
        self.fc = nn.Linear(ins, classes)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def resnet18(width: int, classes: int) -> Layer[Any, Any]:
    def block(outs: int, stride: int, changes: bool) -> Layer[Any, Any]:
        body: Any = (
            conv(outs, 3, stride=stride, padding=1, bias=False), batch_norm(), relu(),
            conv(outs, 3, padding=1, bias=False), batch_norm(),
        )  # fmt: skip
        past = serial(conv(outs, 1, stride=stride, bias=False), batch_norm()) if changes else None
        return serial(residual(*body, shortcut=past), relu())

    stages: Any = (
        block(width * 2**stage, 1 + (stage > 0 and not second), stage > 0 and not second)
        for stage in range(4)
        for second in (False, True)
    )
    start: Any = (conv(width, 7, stride=2, padding=3, bias=False), batch_norm(), relu())
    return serial(*start, max_pool(3, stride=2, padding=1), *stages, global_avg_pool(), dense(classes))


def learned(module: Any) -> Any:
    """In float64, with statistics of its own."""
    generator = torch.Generator().manual_seed(0)
    for name, leaf in module.double().state_dict().items():
        if leaf.is_floating_point():
            noise = torch.rand(leaf.shape, generator=generator, dtype=torch.float64)
            leaf.copy_(0.5 + noise if "var" in name else leaf + 0.1 * (noise - 0.5))
    return module


def same_function(net: Layer[Any, Any], shape: Shape, module: Any, x: Any, training: bool) -> None:
    """Loaded, the network gives the module's outputs and gradients."""
    theirs = module.state_dict()
    params, table = load_state_dict(net, theirs, shape), match(net, theirs, shape)
    out, cache = net.apply(params, x, key=random.key(0) if training else None)
    dout = random.normal(random.key(1), out.shape, dtype=np.float64)
    dparams = dict(tree.leaves(net.vjp(cache, dout)[0]))
    wanted = module.train(training)(torch.tensor(x))
    wanted.backward(torch.tensor(dout))
    scale = float(np.abs(out).max())
    assert difference(out, wanted) < 1e-9 * max(1, scale)
    leaves = dict(module.named_parameters())
    for path, name in table.items():
        if not tree.is_statistic(path):
            fused, _, third = name.partition("[")
            slope = leaves[fused].grad
            slope = slope.chunk(3)[int(third[0])] if third else slope
            size = max(1.0, float(slope.abs().max()))
            assert difference(dparams[path], slope) < 1e-9 * size, path


@pytest.mark.parametrize("training", [False, True])
def test_resnet18(training: bool) -> None:
    torch.manual_seed(0)
    module, net, shape = learned(ResNet18(8, 10)), resnet18(8, 10), (2, 3, 64, 64)
    x = random.normal(random.key(0), shape, dtype=np.float64)
    same_function(net, shape, module, x, training)


def test_what_went_where_in_resnet18() -> None:
    table = match(resnet18(8, 10), learned(ResNet18(8, 10)).state_dict(), (1, 3, 64, 64))
    assert table["conv1/weight"] == "conv1.weight"
    assert (
        table["serial3/residual1/shortcut/batch_norm1/running_var"]
        == "layer2.0.downsample.1.running_var"
    )
    assert table["serial8/residual1/conv2/weight"] == "layer4.1.conv2.weight"
    assert table["dense1/bias"] == "fc.bias"


class CausalBlock(nn.Module):  # type: ignore[misc]
    """A block of GPT-2, with its names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)}
        )
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(self, x: Any) -> Any:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.attn["c_attn"](self.ln_1(x)).chunk(3, 2)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](seen.transpose(1, 2).flatten(2))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):  # type: ignore[misc]
    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(words, width)
        self.wpe = nn.Embedding(16, width)
        self.h = nn.ModuleList(CausalBlock(width, 2) for _ in range(2))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, x: Any) -> Any:
        x = self.wte(x) + self.wpe(torch.arange(x.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def gpt2(words: int, width: int) -> Layer[Any, Any]:
    wide, narrow = time_distributed(dense(4 * width)), time_distributed(dense(width))
    block = serial(
        residual(layer_norm(), multi_head_attention(2, causal=True)),
        residual(layer_norm(), wide, gelu("tanh"), narrow),
    )
    net = serial(
        embedding(words, width), learned_positions(16), repeat(block, times=2), layer_norm(),
        named("head", time_distributed(dense(words, bias=False))),
    )  # fmt: skip
    return tied(net, ties={"head/weight": "embedding1/weight"})


def test_gpt2() -> None:
    torch.manual_seed(0)
    x = random.randint(random.key(0), (3, 7), 0, 11)
    same_function(gpt2(11, 8), (3, 7), learned(GPT2(11, 8)), x, False)


def test_tied_weights_must_be_the_same() -> None:
    theirs = dict(learned(GPT2(11, 8)).state_dict())
    theirs["lm_head.weight"] = theirs["lm_head.weight"] + 1
    refused(
        gpt2(11, 8), theirs, (3, 7), "must have the same numbers in 'wte.weight' and 'lm_head.weight'"
    )


def test_transposed_weights_of_gpt2_are_recognised() -> None:
    """Those of its first publication are ``(in, out)``."""
    theirs = {
        name: leaf.T if ".c_" in name and leaf.ndim > 1 else leaf
        for name, leaf in learned(GPT2(11, 8)).state_dict().items()
    }
    refused(gpt2(11, 8), theirs, (3, 7), "'h.0.attn.c_attn.weight' (8, 24) (transposed and fused)")


@pytest.mark.parametrize("cross", ["q_proj", "query", "to_q", "linear_q"])
def test_queries_keys_and_values_go_by_their_names(cross: str) -> None:
    """In whatever order they come."""
    net, shape = multi_head_attention(2), (2, 3, 4)
    params = drawn(net, shape)
    words = (
        [cross.replace("q", letter) for letter in "kvq"]
        if cross != "query"
        else ["key", "value", cross]
    )
    theirs = {
        f"attn.{word}.{leaf}": torch.tensor(params[name][leaf])
        for name, word in zip(("key", "value", "query", "out"), [*words, "out_proj"], strict=True)
        for leaf in ("weight", "bias")
    }
    if cross == "linear_q":  # a name that says nothing
        refused(net, theirs, shape, "missing query/weight (4, 4) and 5 more")
        names = {
            f"{name}/{leaf}": f"attn.linear_{name[0]}.{leaf}"
            for name in ("query", "key", "value")
            for leaf in ("weight", "bias")
        }
        assert tree.equal(load_state_dict(net, theirs, shape, names), params)
    else:
        assert tree.equal(load_state_dict(net, theirs, shape), params)


def test_fused_projections() -> None:
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(4, 2, batch_first=True).double()
    net, x = multi_head_attention(2), random.normal(random.key(0), (2, 3, 4), dtype=np.float64)
    params = load_state_dict(net, theirs.state_dict(), x.shape)
    assert match(net, theirs.state_dict(), x.shape)["key/bias"] == "in_proj_bias[1]"
    given = torch.tensor(x)
    assert difference(net.apply(params, x)[0], theirs(given, given, given)[0]) < 1e-12


@pytest.mark.parametrize(("build_", "module"), [(lstm, "LSTM"), (gru, "GRU")])
def test_recurrent_layers(build_: Any, module: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, module)(3, 4, 2, batch_first=True, bidirectional=True).double()
    net, x = (
        build_(4, layers=2, bidirectional=True),
        random.normal(random.key(0), (2, 5, 3), dtype=np.float64),
    )
    params = load_state_dict(net, theirs.state_dict(), x.shape)
    assert difference(net.apply(params, x)[0], theirs(torch.tensor(x))[0]) < 1e-12
    wrong = (gru if build_ is lstm else lstm)(4, layers=2, bidirectional=True)
    refused(wrong, theirs.state_dict(), x.shape, "layer1/forward/weight_ih must have shape (")


def test_a_model_goes_on_training_and_comes_back() -> None:
    """Three steps in PyTorch, three here, against six in PyTorch."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    ).double()
    net: Layer[Any, Any] = serial(conv(3, 3), batch_norm(), relu(), flatten(), dense(4))
    x = random.normal(random.key(0), (6, 8, 1, 6, 6), dtype=np.float64)
    labels = random.randint(random.key(1), (6, 8), 0, 4)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)

    def steps(some: range) -> None:
        for k in some:
            optimizer.zero_grad()
            F.cross_entropy(module(torch.tensor(x[k])), torch.tensor(labels[k])).backward()
            optimizer.step()

    steps(range(3))
    params = load_state_dict(net, module.state_dict(), x[0].shape)
    steps(range(3, 6))

    mine, loss = sgd(0.1), softmax_cross_entropy()
    now = train_state(net, mine, random.key(0), x[0].shape, params)
    step = train_step(net, loss, mine)
    for k in range(3, 6):
        now, _ = step(now, data.Dataset(x[k], labels[k]))
    for ours, theirs in zip(
        state_dict(net, now.params).values(), module.state_dict().values(), strict=True
    ):
        if ours.is_floating_point():
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    back = to_module(net, now.params)
    torch.testing.assert_close(back(torch.tensor(x[0])), module.eval()(torch.tensor(x[0])))
    module.load_state_dict(
        dict(zip(module.state_dict(), state_dict(net, now.params).values(), strict=True))
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_blocks_of_transformers(norm: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"dropout": 0.0, "batch_first": True, "norm_first": norm == "pre"}
    encoder = learned(nn.TransformerEncoderLayer(8, 2, 6, activation="gelu", **options))
    x = random.normal(random.key(0), (2, 3, 8), dtype=np.float64)
    net: Layer[Any, Any] = transformer_encoder_block(8, 2, 6, norm=norm, activation="gelu")
    same_function(net, x.shape, encoder, x, True)

    decoder = learned(nn.TransformerDecoderLayer(8, 2, 6, **options))
    memory = random.normal(random.key(1), (2, 4, 8), dtype=np.float64)
    net = transformer_decoder_block(8, 2, 6, memory=True, norm=norm)
    params = load_state_dict(net, decoder.state_dict(), (x.shape, memory.shape))
    future = torch.ones(3, 3, dtype=torch.bool).triu(1)
    wanted = decoder(torch.tensor(x), torch.tensor(memory), tgt_mask=future)
    assert difference(net.apply(params, (x, memory))[0][0], wanted) < 1e-12


def test_attention_to_a_memory_of_another_width() -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(4, 2, kdim=3, vdim=3, batch_first=True).double()
    net: Layer[Any, Any] = cross_attention(2)
    x = tuple(random.normal(random.key(k), (2, 3, 4 - k), dtype=np.float64) for k in (0, 1))
    params = load_state_dict(net, theirs.state_dict(), tuple(part.shape for part in x))
    q, memory = map(torch.tensor, x)
    assert difference(net.apply(params, x)[0], theirs(q, memory, memory)[0]) < 1e-12


@pytest.mark.parametrize("names", ["old", "new"])
def test_weight_norm_of_theirs(names: str) -> None:
    torch.manual_seed(0)
    theirs = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 2).double())
    state, net = dict(theirs.state_dict()), weight_norm(conv(3, 2))
    x = random.normal(random.key(0), (2, 2, 4, 4), dtype=np.float64)
    wanted = theirs(torch.tensor(x))
    if names == "old":
        state["weight_g"] = state.pop("parametrizations.weight.original0")
        state["weight_v"] = state.pop("parametrizations.weight.original1")
    state = {f"stem.{name}": leaf for name, leaf in state.items()}
    assert difference(net.apply(load_state_dict(net, state, x.shape), x)[0], wanted) < 1e-12


def test_a_head_that_is_called_value_is_no_value_of_an_attention() -> None:
    net: Layer[Any, Any] = serial(dense(4), named("value", dense(1)))
    params = drawn(net, (1, 3))
    state = {
        f"{place}.{name}": torch.tensor(params[path][name])
        for place, path in (("key", "dense1"), ("critic", "value"))
        for name in ("weight", "bias")
    }
    assert tree.equal(load_state_dict(net, state, (1, 3)), params)


# --- what does not fit ----------------------------------------------------------------------------

NET: Layer[Any, Any] = serial(conv(2, 3), batch_norm(), relu(), flatten(), dense(5), dense(4))
SHAPE = (2, 1, 5, 5)


def theirs() -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(18, 5), nn.Linear(5, 4)
    ).state_dict())  # fmt: skip


def refused(net: Layer[Any, Any], state: Any, shape: Any, text: str, **options: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        load_state_dict(net, state, shape, **options)
    message = str(caught.value)
    assert message.startswith("load_state_dict: ")
    assert text in message
    assert len(message) < 300
    assert "\n" not in message


def changed(name: str, value: Any) -> dict[str, Any]:
    state = theirs()
    if value is None:
        del state[name]
    else:
        state[name] = value
    return state


ONE = "2.weight"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (changed("3.bias", None), "missing dense2/bias (4,)"),
        (changed("1.running_var", None), "missing batch_norm1/running_var (2,)"),
        (changed("4.bias", torch.ones(4)), "unexpected '4.bias' (4,)"),
        (changed("3.extra", torch.ones(4)), "unexpected '3.extra' (4,)"),
        (changed("3.weight", torch.ones(5, 4)), "got (5, 4) (transposed) in '3.weight'"),
        (changed("3.weight", torch.ones(16, 5)), "got (16, 5) (fused) in '3.weight'"),
        (changed("0.weight", torch.ones(2, 3, 3)), "conv1/weight must have shape (2, 1, 3, 3), got"),
        ({}, "missing conv1/weight (2, 1, 3, 3), conv1/bias (2,) and 8 more"),
        (changed(ONE, torch.ones(5, 18).half()), "got float16 in '2.weight': write .float()"),
        (changed(ONE, torch.ones(5, 18).bfloat16()), "got bfloat16 in '2.weight': write .float()"),
        (changed(ONE, torch.ones(5, 18, dtype=torch.int64)), "float32 or float64, got int64"),
        (changed(ONE, torch.ones(5, 18, dtype=torch.complex64)), "float32 or float64, got complex64"),
        (changed(ONE, torch.ones(5, 18).double()), "must have one dtype, got float32 and float64"),
        (changed(ONE, torch.full((5, 18), torch.nan)), "must be finite, got nan in '2.weight'"),
        (changed(ONE, torch.full((5, 18), -torch.inf)), "must be finite, got -inf in '2.weight'"),
        (changed(ONE, torch.ones(5, 18, device="meta")), "got a meta tensor in '2.weight'"),
        (changed(ONE, torch.eye(5, 18).to_sparse()), "got a Tensor of torch.sparse_coo"),
        (changed(ONE, nn.UninitializedParameter()), "got a UninitializedParameter of torch.strided"),
        (changed(ONE, np.ma.masked_array(np.ones((5, 18)))), "got a MaskedArray in '2.weight'"),
        (changed(ONE, [[1.0]]), "must have tensors or arrays, got [[1.0]] in '2.weight'"),
        (changed(ONE, np.ones((5, 18), object)), "float32 or float64, got object in '2.weight'"),
        ({1: torch.ones(1)}, "must have names that are str, got 1"),
        (None, "must be a mapping or a path, got None"),
        ([("a", 1)], "must be a mapping or a path, got [('a', 1)]"),
        (nn.Linear(1, 1), "got a module: write module.state_dict()"),
    ],
    ids=range(25),
)  # fmt: skip
def test_what_does_not_fit_is_listed(state: Any, text: str) -> None:
    refused(NET, state, SHAPE, text)


def test_names_of_ours_tell_what_is_missing() -> None:
    """Though what is left would fit elsewhere."""
    net: Layer[Any, Any] = serial(dense(3), dense(3), dense(3))
    state = state_dict(net, drawn(net, (1, 3)))
    del state["dense2.bias"]
    refused(net, state, (1, 3), "fit the network: missing dense2/bias (3,)")
    state["dense3.weight"] = state["dense3.weight"][:2]
    refused(net, state, (1, 3), "dense3/weight must have shape (3, 3), got (2, 3)")


@pytest.mark.parametrize("tracked", [None, torch.tensor(7)])
def test_counters_of_batches_are_left_out(tracked: Any) -> None:
    params = load_state_dict(NET, changed("1.num_batches_tracked", tracked), SHAPE)
    assert list(params["batch_norm1"]) == ["scale", "bias", "running_mean", "running_var"]


def test_a_map_of_names() -> None:
    net, shape = serial(dense(3), dense(3)), (1, 3)
    state = {"b.weight": torch.zeros(3, 3), "b.bias": torch.zeros(3)}
    state |= {"a.weight": torch.ones(3, 3), "a.bias": torch.ones(3)}
    names = {
        f"dense{k}/{leaf}": f"{word}.{leaf}"
        for k, word in ((1, "a"), (2, "b"))
        for leaf in ("weight", "bias")
    }
    assert load_state_dict(net, state, shape)["dense1"]["weight"].sum() == 0
    assert load_state_dict(net, state, shape, names)["dense1"]["weight"].sum() == 9
    assert match(net, state, shape, names) == names
    refused(
        net,
        state,
        shape,
        "must have paths of leaves, got 'dense3/bias'",
        names={"dense3/bias": "a.bias"},
    )
    refused(net, state, shape, "must have names of the state, got 'c'", names={"dense1/bias": "c"})
    refused(net, state, shape, "must have names of the state, got []", names={"dense1/bias": []})
    refused(
        net,
        state,
        shape,
        "dense1/bias must have shape (3,), got (3, 3)",
        names={"dense1/bias": "a.weight"},
    )
    refused(net, state, shape, "`names` must be a mapping, got 3", names=3)


def test_usual_shapes_are_found() -> None:
    state = theirs()
    refused(NET, state, None, "`shape` must be given")
    net: Layer[Any, Any] = serial(conv(2, 3), relu(), flatten(), dense(4))
    params = drawn(net, (1, 3, 28, 28))
    assert tree.equal(load_state_dict(net, state_dict(net, params)), params)
    chain: Layer[Any, Any] = serial(dense(4), relu(), dense(2))
    params = drawn(chain, (1, 7))
    assert tree.equal(load_state_dict(chain, state_dict(chain, params)), params)


# --- files ----------------------------------------------------------------------------------------


def test_files(tmp_path: Path) -> None:
    params = drawn(NET, SHAPE)
    state, path = state_dict(NET, params), tmp_path / "net.safetensors"
    arrays: Params = {}
    for name, leaf in state.items():
        if leaf.ndim:
            place, _, own = name.rpartition(".")
            arrays.setdefault(place, {})[own] = leaf.numpy()
    checkpoints.save_safetensors(path, arrays)
    assert tree.equal(load_state_dict(NET, path, SHAPE), params)
    assert tree.equal(load_state_dict(NET, str(path), SHAPE), params)
    torch.save(state, tmp_path / "net.pt")
    assert tree.equal(load_state_dict(NET, tmp_path / "net.pt", SHAPE), params)
    torch.save(to_module(NET, params), tmp_path / "whole.pt")
    refused(NET, tmp_path / "whole.pt", SHAPE, "must be a file of weights")
    with pytest.raises(OSError, match="nowhere"):
        load_state_dict(NET, tmp_path / "nowhere.safetensors", SHAPE)


def test_the_order_of_a_file_is_that_of_its_names(tmp_path: Path) -> None:
    """``h.10`` comes behind ``h.2``."""
    net: Layer[Any, Any] = serial(*(dense(2) for _ in range(12)))
    params, path = drawn(net, (1, 2)), tmp_path / "net.safetensors"
    checkpoints.save_safetensors(path, {"h": {str(k): part for k, part in enumerate(params.values())}})
    assert tree.equal(load_state_dict(net, path, (1, 2)), params)


def test_resnet18_of_a_file(tmp_path: Path) -> None:
    """Whose entries are sorted by their names: those of a normalisation come before its convolution."""
    torch.manual_seed(0)
    module, path = learned(ResNet18(8, 10)), tmp_path / "net.safetensors"
    nested: Params = {}
    for name, leaf in module.state_dict().items():
        *places, own = name.split(".")
        node = nested
        for place in places:
            node = node.setdefault(place, {})
        node[own] = leaf.numpy()[()] if leaf.ndim else np.asarray(leaf)
    checkpoints.save_safetensors(path, nested)
    net, shape = resnet18(8, 10), (1, 3, 32, 32)
    assert match(net, path, shape) == match(net, module.state_dict(), shape)


def broken_files(tmp_path: Path, count: int) -> None:
    net, path = serial(dense(2), dense(1)), tmp_path / "net.safetensors"
    params = drawn(net, (1, 3))
    checkpoints.save_safetensors(path, params)
    whole, fine = np.frombuffer(path.read_bytes(), np.uint8), 0
    for k in range(count):
        key = random.fold_in(random.key(0), k)
        data = whole.copy()
        places = random.randint(key, (1 + k % 3,), 0, len(data))
        data[places] = random.randint(random.fold_in(key, 1), places.shape, 0, 256)
        path.write_bytes(data[: places[0]].tobytes() if k % 5 == 0 else data.tobytes())
        problem = ""
        try:
            load_state_dict(net, path, (1, 3))
        except (ValueError, TypeError) as caught:
            problem = str(caught)
        fine += not problem
        assert len(problem) < 300
        assert "\n" not in problem
    assert 0 < fine < count


def test_broken_files(tmp_path: Path) -> None:
    broken_files(tmp_path, 150)


@pytest.mark.slow
def test_many_broken_files(tmp_path: Path) -> None:
    broken_files(tmp_path, 2000)
