"""Networks out of ONNX models: ONNX's own tests, exports of others, and files of strangers."""

from __future__ import annotations

import contextlib
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcnn as f
from funcnn import numerics, random, tree
from funcnn.checks import Refusal
from funcnn.types import Array, Layer, Params
from tests import registry

pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")

import onnx
import torch
from torch import nn

from funcnn.interop.onnx import (
    LAYERS,
    export,
    load,
    loading_learners,
    loading_operators,
    loading_rules,
)
from tests.onnx_models import Shipped, exported, model, node, real, shipped, variants
from tests.test_interop_onnx import (
    REFUSED,
    answer,
    difference,
    drawn,
    example,
    leaves,
    loaded as runtime_of,
)

KEY = random.key(0)


def _written(folder: Path, content: Any) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def _loaded(folder: Path, content: Any, **options: Any) -> tuple[Layer[Any, Any], Params]:
    return load(_written(folder, content), **options)


def _drawn(*shape: int, seed: int = 0) -> Array:
    return random.normal(random.key(seed), shape)


# --- ONNX's own tests -----------------------------------------------------------------------------

_SOME = ["add", "averagepool", "clip", "concat", "convtranspose", "einsum", "gather", "lstm", "matmul",
         "pad", "reducemean", "reshape", "scatterelements", "slice", "softmax", "topk",
         "where"]  # fmt: skip


def _outcome(folder: Path, case: Shipped) -> str:
    """How a model of ONNX's own tests fares: "passed", or why it is refused."""
    reasons = []
    for content, inputs in variants(case):
        for one in inputs:
            one.setflags(write=False)
        x = inputs[0] if len(inputs) == 1 else inputs
        try:
            net, params = _loaded(folder, content)
            out, _ = net.apply(params, x)
        except Refusal as refusal:
            reasons.append(str(refusal))
            assert len(reasons[-1]) < 300, reasons[-1]
            assert reasons[-1].isprintable(), reasons[-1]
            assert "must be as ONNX says" not in reasons[-1], (case.name, reasons[-1])
            continue
        for got, wanted in zip(out if isinstance(out, tuple) else (out,), case.outputs, strict=True):
            assert got.dtype == wanted.dtype, case.name
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5, err_msg=case.name)
        _check_gradients(case.name, net, params, x)
        return "passed"
    return reasons[0]


def _check_gradients(name: str, net: Layer[Any, Any], params: Params, x: Any) -> None:
    """Against central differences in float64, in one direction of inputs and parameters."""
    draw = np.random.default_rng(0)

    def drawn(path: str, leaf: Array) -> Array:
        """A step; integers and running statistics stay where they are."""
        moves = leaf.dtype.kind == "f" and not tree.is_statistic(path)
        return draw.standard_normal(leaf.shape) if moves else np.zeros(leaf.shape)

    def wide(leaf: Array) -> Array:
        """In float64, and off the corners of functions that have some."""
        off = draw.uniform(0.001, 0.01, leaf.shape)
        return np.asarray(leaf.astype(np.float64) + off) if leaf.dtype.kind == "f" else leaf

    point: Any = tree.map(wide, (params, x))
    step = tree.map_with_path(drawn, point)
    large = any(np.abs(leaf).max(initial=0) > 1e6 for _, leaf in tree.leaves(point[1]))
    if "'Cast" in repr(net) or large or not any(d.any() for _, d in tree.leaves(step[1])):
        return
    try:
        out, cache = net.apply(*point)
    except TypeError:  # constants of float32 alone, beside inputs of float64
        return
    floats = [leaf for _, leaf in tree.leaves(out) if leaf.dtype.kind == "f"]
    if not floats or not all(np.isfinite(leaf).all() for leaf in floats):
        return
    dout = tree.map_with_path(drawn, out)
    gradients = net.vjp(cache, dout)

    def value(size: float) -> float:
        moved = tree.map(lambda leaf, d: np.asarray(leaf + size * d) if d.any() else leaf, point, step)
        found, _ = net.apply(*moved)
        return sum(float((leaf * d).sum()) for (_, leaf), (_, d) in _pairs(found, dout) if d.any())

    slope = (value(1e-6) - value(-1e-6)) / 2e-6
    mine = sum(float((leaf * d).sum()) for (_, leaf), (_, d) in _pairs(gradients, step))
    assert abs(slope - mine) <= 1e-4 * (1 + abs(slope)), (name, slope, mine)


def _pairs(one: Any, other: Any) -> Any:
    first, second = tree.leaves(one), tree.leaves(other)
    assert [(path, leaf.shape) for path, leaf in first] == [(path, leaf.shape) for path, leaf in second]
    return zip(first, second, strict=True)


def test_some_of_onnxs_own_tests(tmp_path: Path) -> None:
    found = Counter(_outcome(tmp_path, case) for case in shipped(_SOME))
    assert found["passed"] >= 100, found


@pytest.mark.slow
def test_all_of_onnxs_own_tests(tmp_path: Path) -> None:
    found = Counter(_outcome(tmp_path, case) for case in shipped())
    assert found["passed"] >= 1100, found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["squeezenet", "shufflenet", "densenet121", "inception_v2", "resnet50"]
)
def test_real_networks(name: str, tmp_path: Path) -> None:
    case = real(name)
    net, params = _loaded(tmp_path, case.model)
    with numerics.portable():  # equal weights give equal, huge scores, if products are rounded alike
        found = net.apply(params, case.inputs[0])[0]
    np.testing.assert_allclose(found, case.outputs[0], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_every_operator_is_proved(tmp_path: Path) -> None:
    """Each that is claimed is in a model of ONNX's own tests that passes."""
    proved = set[str]()
    for case in shipped():
        if not {each.op_type for each in case.model.graph.node} <= proved and (
            _outcome(tmp_path, case) == "passed"
        ):
            proved |= {each.op_type for each in case.model.graph.node}
    left = (loading_operators.OPERATORS.keys() | loading_rules.RULES.keys()) - proved
    assert left == {  # whose tests ask for the mean, too; and what skl2onnx writes: see exports
        "LayerNormalization", *loading_learners.LEARNERS
    }  # fmt: skip


# --- what funcnn writes ---------------------------------------------------------------------------


def comes_back(case: registry.Case, path: Path) -> str:
    """A case of the registry exported and loaded: as onnxruntime, "equal", or why it is refused."""
    params, x = drawn(case.layer, case.shape, np.float32), example(case, np.float32)
    try:
        export(case.layer, params, case.shape, path)
    except Exception:  # what the checker of ONNX refuses is not for here
        return "not exported"
    try:
        net, own = load(path)
    except Refusal as refusal:
        return str(refusal)
    found = dict(leaves("x", x))
    inputs = tuple(found[one.name] for one in onnx.load(path).graph.input)
    out, _ = net.apply(own, inputs[0] if len(inputs) == 1 else inputs)
    outs = out if isinstance(out, tuple) else (out,)
    for got, wanted in zip(outs, answer(runtime_of(path), x).values(), strict=True):
        assert difference(wanted, got) < 1e-4, case.id
    return "equal"


def test_some_of_what_funcnn_exportscomes_back(tmp_path: Path) -> None:
    found = Counter(comes_back(case, tmp_path / "net.onnx") for case in registry.layers()[::23])
    assert found["equal"] >= 20, found


@pytest.mark.slow
def test_all_of_what_funcnn_exportscomes_back(tmp_path: Path) -> None:
    found = Counter(comes_back(case, tmp_path / "net.onnx") for case in registry.layers())
    assert found["equal"] == len(registry.layers()) - len(REFUSED), found


@pytest.mark.slow
def test_all_of_what_comes_back_goes_again(tmp_path: Path) -> None:
    path, unused = tmp_path / "net.onnx", "drop_context('mask') ((3, 4, 6), (3, 4))"
    for case in registry.layers():
        if case.id in {*REFUSED, unused}:  # of an input that nobody takes, the dtype is lost
            continue
        export(case.layer, drawn(case.layer, case.shape, np.float32), case.shape, path)
        found = dict(leaves("x", example(case, np.float32)))
        inputs = tuple(found[one.name] for one in onnx.load(path).graph.input)
        assert _goes_again(tmp_path, path.read_bytes(), inputs), case.id


# --- and once more to ONNX ------------------------------------------------------------------------


def _goes_again(folder: Path, content: Any, inputs: tuple[Array, ...]) -> bool:
    """Whether what was loaded is exported, and answers in onnxruntime as it does here."""
    net, params = _loaded(folder, content)
    x = inputs[0] if len(inputs) == 1 else inputs
    shapes = tuple(one.shape for one in inputs)
    export(net, params, shapes[0] if len(inputs) == 1 else shapes, folder / "again.onnx")
    out, _ = net.apply(params, x)
    given = answer(runtime_of(folder / "again.onnx"), x).values()
    for got, wanted in zip(given, out if isinstance(out, tuple) else (out,), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)
    return True


@pytest.mark.parametrize("name", ["language", "vision", "lstm", "images"])
def test_what_was_loaded_is_exported_again(name: str, tmp_path: Path) -> None:
    module, inputs = _module(name)
    content = exported(module, *map(torch.tensor, inputs))
    assert _goes_again(tmp_path, content, inputs)
    sizes = [one.dim_param for one in _output(tmp_path / "again.onnx").dim]
    assert sizes[0] == "N"  # of any batch, still


def _output(path: Path) -> Any:
    return onnx.load(path).graph.output[0].type.tensor_type.shape


_NOT_AGAIN = {
    "test_flexattention_double_expanded_ver26",  # whose constants are of float32, once alone
    "test_reduce_l2_empty_set_expanded",
    "test_reduce_sum_square_empty_set_expanded",
}


@pytest.mark.slow
def test_all_that_is_loaded_is_exported_again(tmp_path: Path) -> None:
    """But for float64 without parameters, which is exported as float32."""
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    again, lacking = 0, 0
    for case in shipped():
        for content, inputs in variants(case) if case.name not in _NOT_AGAIN else ():
            try:
                _, params = _loaded(tmp_path, content)
            except Refusal:
                continue
            if not inputs or (not params and any(one.dtype == np.float64 for one in inputs)):
                continue
            try:
                again += _goes_again(tmp_path, content, inputs)
            except (state.NotImplemented, state.RuntimeException, state.Fail):  # onnxruntime's own
                lacking += 1
    assert again >= 1900
    assert lacking < 40


# --- what PyTorch writes --------------------------------------------------------------------------


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        h = torch.relu(self.norm(self.first(x)))
        return self.last((h + self.second(h)).mean((2, 3)))


class _Several(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36 + 5, 3)

    def forward(self, image: Any, numbers: Any) -> Any:
        flat = self.conv(image).view(image.size(0), -1)
        return self.last(torch.cat([flat, numbers], 1)), 2 * numbers


class _Recurrent(nn.Module):  # type: ignore[misc]
    def __init__(self, kind: Any, both: bool) -> None:
        super().__init__()
        self.rnn = kind(6, 4, num_layers=2, batch_first=True, bidirectional=both)
        self.last = nn.Linear(4 * (1 + both), 2)

    def forward(self, x: Any) -> Any:
        return self.last(self.rnn(x)[0][:, -1])


class _Vision(nn.Module):  # type: ignore[misc]
    """With a token for each image, whose number the exported model computes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 5, 16))
        self.block = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.last = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), h], 1) + self.places
        return self.last(self.block(h)[:, 0])


class _Language(nn.Module):  # type: ignore[misc]
    """Causal attention, with a mask as a buffer and one matrix for words in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 16), nn.Embedding(20, 16)
        self.norm, self.inside, self.outside = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.register_buffer("mask", torch.tril(torch.ones(20, 20)).view(1, 1, 20, 20))

    def forward(self, tokens: Any) -> Any:
        batch, time = tokens.shape
        h = self.words(tokens) + self.places(torch.arange(time))
        q, k, v = (
            part.view(batch, time, 4, 4).transpose(1, 2)
            for part in self.inside(self.norm(h)).split(16, dim=2)
        )
        a = (q @ k.transpose(-2, -1)) * 0.5
        a = a.masked_fill(self.mask[:, :, :time, :time] == 0, float("-inf")).softmax(-1)
        h = h + self.outside((a @ v).transpose(1, 2).contiguous().view(batch, time, 16))
        return h @ self.words.weight.T


_MODULES: dict[str, tuple[Callable[[], Any], tuple[tuple[int, ...], ...]]] = {
    "chain": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(36, 10), nn.Softmax(1),
        ),
        ((2, 1, 8, 8),),
    ),
    "residual": (_Residual, ((2, 3, 8, 8),)),
    "several": (_Several, ((2, 3, 8, 8), (2, 5))),
    "lstm": (lambda: _Recurrent(nn.LSTM, True), ((2, 5, 6),)),
    "gru": (lambda: _Recurrent(nn.GRU, False), ((2, 5, 6),)),
    "rnn": (lambda: _Recurrent(nn.RNN, False), ((2, 5, 6),)),
    "sequences": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.PReLU(4), nn.MaxPool1d(2), nn.Conv1d(4, 2, 1),
            nn.AdaptiveAvgPool1d(1),
        ),
        ((2, 3, 12),),
    ),
    "images": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), nn.GroupNorm(2, 4),
            nn.GELU(), nn.InstanceNorm2d(4, affine=True), nn.Upsample(scale_factor=2),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelShuffle(2), nn.ReflectionPad2d(1),
            nn.AvgPool2d(3, 2, 1), nn.ConstantPad2d((1, 0, 2, 1), 3.0), nn.Conv2d(1, 2, 3, groups=1),
        ),
        ((2, 3, 4, 4),),
    ),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 3, dilation=2), nn.MaxPool3d(2), nn.BatchNorm3d(3)),
        ((2, 2, 7, 8, 6),),
    ),
    "activations": (
        lambda: nn.Sequential(
            nn.Linear(4, 4), nn.ELU(), nn.LeakyReLU(0.2), nn.SELU(), nn.Hardswish(), nn.Hardsigmoid(),
            nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Hardtanh(), nn.ReLU6(), nn.CELU(), nn.Softsign(),
            nn.Tanhshrink(), nn.GLU(), nn.LogSigmoid(), nn.LogSoftmax(1),
        ),
        ((3, 4),),
    ),
    "vision": (_Vision, ((2, 3, 8, 8),)),
    "language": (_Language, ((2, 5),)),
    "encoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False
        ),
        ((2, 7, 16),),
    ),
}  # fmt: skip


def _module(name: str) -> tuple[Any, tuple[Array, ...]]:
    build, shapes = _MODULES[name]
    torch.manual_seed(0)
    inputs = tuple(_drawn(*shape, seed=at) for at, shape in enumerate(shapes))
    if name == "language":
        inputs = (np.array([[1, 2, 10, 3, 0], [4, 4, 0, 7, 1]]),)
    return build().eval(), inputs


@pytest.mark.parametrize("name", _MODULES)
def test_exports_of_pytorch_give_what_pytorch_gives(name: str, tmp_path: Path) -> None:
    module, inputs = _module(name)
    tensors = tuple(map(torch.tensor, inputs))
    net, params = _loaded(tmp_path, exported(module, *tensors))
    for times in (1, 3):  # another batch size, too
        x = tuple(np.concatenate([one] * times) for one in inputs)
        with torch.no_grad():
            wanted = module(*map(torch.tensor, x))
        out, _ = net.apply(params, x[0] if len(x) == 1 else x)
        outs, wanteds = (one if isinstance(one, tuple) else (one,) for one in (out, wanted))
        for got, want in zip(outs, wanteds, strict=True):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)
        shapes = tuple(one.shape for one in x)
        found, drawn = net.init(KEY, shapes[0] if len(x) == 1 else shapes)
        assert found == (tuple(one.shape for one in out) if isinstance(out, tuple) else out.shape)
        assert tree.equal(tree.map(np.shape, drawn), tree.map(np.shape, params))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the exporter warns of itself
@pytest.mark.parametrize("name", _MODULES)
def test_exports_of_pytorchs_newer_exporter(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    module, inputs = _module(name)
    tensors, path = tuple(map(torch.tensor, inputs)), tmp_path / "model.onnx"
    free = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    torch.onnx.export(module, tensors, path, dynamo=True, dynamic_shapes=free, verbose=False)
    net, params = load(path)  # whose numbers lie in a file beside it
    out, _ = net.apply(params, inputs[0] if len(inputs) == 1 else inputs)
    with torch.no_grad():
        wanted = module(*tensors)
    pairs = zip(*(one if isinstance(one, tuple) else (one,) for one in (out, wanted)), strict=True)
    for got, want in pairs:
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["residual", "several", "language", "vision"])
def test_gradients_of_exports_are_those_of_pytorch(name: str, tmp_path: Path) -> None:
    module, inputs = _module(name)
    content = exported(module, *map(torch.tensor, inputs), folded=False)
    net, params = _loaded(tmp_path, content)
    _check_gradients(name, net, params, inputs[0] if len(inputs) == 1 else inputs)
    if name == "language":  # no gradient by its input: by its parameters, then
        out, cache = net.apply(params, inputs[0])
        dparams, _ = net.vjp(cache, np.ones_like(out))
        module(torch.tensor(inputs[0])).sum().backward()
        theirs = sorted(float(p.grad.norm()) for p in module.parameters())
        mine = sorted(float(np.linalg.norm(leaf)) for _, leaf in tree.leaves(dparams) if leaf.any())
        np.testing.assert_allclose(mine, theirs, rtol=1e-4)


def test_chains_become_layers_of_this_library(tmp_path: Path) -> None:
    module, inputs = _module("chain")
    net, params = _loaded(tmp_path, exported(module, torch.tensor(inputs[0])))
    assert repr(net) == (
        "serial(conv(4, 3), relu(), max_pool(2, stride=2), flatten(), dense(10), softmax())"
    )
    assert net.init(KEY, (-1, 1, 8, 8))[0] == (-1, 10)
    f.save(tmp_path / "net.npz", net, params)
    again, same = f.load(tmp_path / "net.npz")
    assert repr(again) == repr(net)
    assert tree.equal(same, params)
    net, params = _loaded(tmp_path, exported(_module("residual")[0], torch.zeros(2, 3, 8, 8)))
    assert repr(net) == (
        "graph(conv(8, 3, padding=1), relu(), conv(8, 3, padding=1), merge(), global_avg_pool(), "
        "dense(5), wires={'merge1': ('relu1', 'conv2')}, output='dense1')"
    )


def test_a_model_of_a_fixed_batch_takes_any(tmp_path: Path) -> None:
    module, inputs = _module("chain")
    net, params = _loaded(tmp_path, exported(module, torch.tensor(inputs[0]), free=False))
    x = _drawn(7, 1, 8, 8)
    with torch.no_grad():
        wanted = module(torch.tensor(x)).numpy()
    np.testing.assert_allclose(net.apply(params, x)[0], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["language", "vision", "lstm"])
def test_what_was_loaded_can_be_pickled_and_saved(name: str, tmp_path: Path) -> None:
    module, (x,) = _module(name)
    net, params = _loaded(tmp_path, exported(module, torch.tensor(x)))
    wanted, _ = net.apply(params, x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).apply(params, x)[0], wanted)
    f.save(tmp_path / "net.npz", net, params)
    again, same = f.load(tmp_path / "net.npz", allow=LAYERS)
    np.testing.assert_array_equal(again.apply(same, x)[0], wanted)


def test_a_network_of_pytorch_goes_on_training(tmp_path: Path) -> None:
    """PyTorch takes some steps, and funcnn the next ones: as if PyTorch had taken them all."""
    digits = f.data.digits(8)
    x, y = np.ascontiguousarray(digits.x[:256], np.float32), digits.y[:256]
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
    )
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    before = [step() for _ in range(5)]
    net, params = _loaded(tmp_path, exported(module, torch.tensor(x[:2])))
    result = f.fit(
        net, f.softmax_cross_entropy(), f.sgd(0.5), f.data.Dataset(x, y), key=KEY, epochs=5,
        batch_size=256, params=params, progress=False,
    )  # fmt: skip
    after = [step() for _ in range(5)]
    np.testing.assert_allclose(result.history["loss"], after, rtol=1e-4)
    assert after[-1] < 0.9 * before[0]


# --- as others write their models -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # a training that is not at its end
@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("table", [False, True])
def test_exports_of_skl2onnx(classes: int, table: bool, tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _drawn(60, 4), np.digitize(_drawn(60, seed=1), [0, 1][: classes - 1])
    kind = MLPClassifier if classes else MLPRegressor
    theirs = make_pipeline(StandardScaler(), kind(hidden_layer_sizes=(8, 5), max_iter=30)).fit(x, y)
    options = {"mlpclassifier": {"zipmap": table}} if classes else None
    content = skl2onnx.to_onnx(theirs, x[:1], options=options)
    net, params = _loaded(tmp_path, content.SerializeToString())
    assert [spec.kind for spec in net.spec.children].count("dense") == 3
    out, _ = net.apply(params, x)
    found = out if classes else (out,)
    wanted = (theirs.predict(x), theirs.predict_proba(x)) if classes else (theirs.predict(x)[:, None],)
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)
    if not table:
        assert _goes_again(tmp_path, content.SerializeToString(), (x,))


_KERAS = sorted(path.stem for path in (Path(__file__).parent / "stored").glob("keras_*.onnx"))


@pytest.mark.parametrize("name", _KERAS)
def test_exports_of_keras(name: str, tmp_path: Path) -> None:
    """Written in November 2026 by Keras 3.15 with TensorFlow 2.21 and tf2onnx 1.17."""
    path = Path(__file__).parent / f"stored/{name}.onnx"
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    inputs = tuple(arrays[key] for key in sorted(arrays) if key[0] == "x")
    net, params = load(path)
    out, _ = net.apply(params, inputs[0] if len(inputs) == 1 else inputs)
    for at, got in enumerate(out if isinstance(out, tuple) else (out,)):
        np.testing.assert_allclose(got, arrays[f"y{at}"], rtol=1e-4, atol=1e-5)
    assert _goes_again(tmp_path, path.read_bytes(), inputs)


def test_a_network_as_skl2onnx_writes_it(tmp_path: Path) -> None:
    """The features scaled, the classes by their names, the probabilities with a head of a table."""
    w, b = _drawn(4, 3), _drawn(1, 3, seed=1)
    nodes = [
        node("Scaler", "x", "s", offset=[1.0, 0.0, 2.0, 0.5], scale=[2.0], domain="ai.onnx.ml"),
        node("Cast", "s", "c", to=1), node("MatMul", "c w", "m"), node("Add", "m b", "a"),
        node("Softmax", "a", "p", axis=1), node("ArgMax", "p", "at", axis=1, keepdims=0),
        node("ArrayFeatureExtractor", "classes at", "row", domain="ai.onnx.ml"),
        node("Reshape", "row one", "labels"),
        node("ZipMap", "p", "table", classlabels_int64s=[5, 7, 9], domain="ai.onnx.ml"),
    ]  # fmt: skip
    arrays = {"w": w, "b": b, "classes": np.array([5, 7, 9]), "one": np.array([-1])}
    content = model(nodes, {"x": ("N", 4)}, ["labels", "table"], arrays, opset=15)
    content.opset_import.add(domain="ai.onnx.ml", version=1)
    content.opset_import.add(domain="", version=15)  # which it writes twice
    net, params = _loaded(tmp_path, content)
    assert {path: leaf.shape for path, leaf in tree.leaves(params)} == {
        "dense1/weight": (3, 4), "dense1/bias": (3,),
    }  # fmt: skip
    x = _drawn(5, 4, seed=4)
    labels, p = net.apply(params, x)[0]
    scores = ((x - np.array([1, 0, 2, 0.5], np.float32)) * 2) @ w + b
    np.testing.assert_array_equal(labels, np.array([5, 7, 9])[scores.argmax(1)])
    np.testing.assert_allclose(p, np.exp(scores) / np.exp(scores).sum(1, keepdims=True), rtol=1e-4)
    assert _goes_again(tmp_path, content, (x,))


def test_a_network_as_scikit_learn_writes_it(tmp_path: Path) -> None:
    w1, w2, b1, b2 = (
        _drawn(4, 8),
        _drawn(8, 3, seed=1),
        _drawn(1, 8, seed=2)[0],
        _drawn(1, 3, seed=3)[0],
    )
    nodes = [
        node("Cast", "x", "c", to=1), node("MatMul", "c w1", "m1"), node("Add", "m1 b1", "a1"),
        node("Relu", "a1", "h"), node("MatMul", "h w2", "m2"), node("Add", "m2 b2", "a2"),
        node("Softmax", "a2", "p"), node("ArgMax", "p", "labels", axis=1, keepdims=0),
    ]  # fmt: skip
    arrays = {"w1": w1, "w2": w2, "b1": b1, "b2": b2}
    net, params = _loaded(tmp_path, model(nodes, {"x": ("N", 4)}, ["labels", "p"], arrays, opset=15))
    assert {path: leaf.shape for path, leaf in tree.leaves(params)} == {
        "dense1/weight": (8, 4), "dense1/bias": (8,), "dense2/weight": (3, 8), "dense2/bias": (3,),
    }  # fmt: skip
    x = _drawn(5, 4, seed=4)
    labels, p = net.apply(params, x)[0]
    wanted = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_array_equal(labels, wanted.argmax(1))
    np.testing.assert_allclose(p, np.exp(wanted) / np.exp(wanted).sum(1, keepdims=True), rtol=1e-4)


def test_a_network_as_keras_writes_it(tmp_path: Path) -> None:
    """Images with channels last, turned at both ends; a shape that is computed; asymmetric padding."""
    filters, w, b = _drawn(3, 2, 3, 3), _drawn(27, 4, seed=1), _drawn(1, 4, seed=2)[0]
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t f", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Relu", "c", "r"),
        node("Transpose", "r", "back", perm=[0, 2, 3, 1]),
        node("Reshape", "back target", "flat"),
        node("MatMul", "flat w", "m"), node("Add", "m b", "y"),
    ]  # fmt: skip
    arrays = {"f": filters, "w": w, "b": b, "target": np.array([-1, 27])}
    net, params = _loaded(tmp_path, model(nodes, {"x": ("N", 6, 6, 2)}, ["y"], arrays))
    kinds = [spec.kind for spec in net.spec.children]
    assert kinds == ["transpose", "conv", "relu", "transpose", "reshape", "dense"]
    x = _drawn(2, 6, 6, 2, seed=3)
    session = runtime_of(tmp_path / "model.onnx")
    np.testing.assert_allclose(net.apply(params, x)[0], session.run(None, {"x": x})[0], rtol=1e-4)


def test_one_array_in_several_nodes_is_tied(tmp_path: Path) -> None:
    w = _drawn(4, 4)
    nodes = [
        node("MatMul", "x w", "a"), node("Tanh", "a", "b"), node("MatMul", "b w", "c"),
        node("Identity", "w", "same"), node("MatMul", "c same", "y"),
    ]  # fmt: skip
    net, params = _loaded(tmp_path, model(nodes, {"x": ("N", 4)}, ["y"], {"w": w}))
    assert [path for path, _ in tree.leaves(params)] == ["dense1/weight", "dense3/weight"]
    x = _drawn(3, 4, seed=1)
    np.testing.assert_allclose(net.apply(params, x)[0], np.tanh(x @ w) @ w @ w, rtol=1e-4, atol=1e-5)
    _check_gradients("tied", net, params, x)


# --- what is refused --------------------------------------------------------------------------------

_X: dict[str, tuple[Any, ...]] = {"x": ("N", 4)}
_IMAGE: dict[str, tuple[Any, ...]] = {"x": ("N", 1, 5, 5)}
_ONES = np.ones((1, 1, 2, 2), np.float32)
_SCATTERED = {"i": np.array([[0]]), "u": np.ones((1, 1), np.float32)}
_REFUSED: list[tuple[Any, str]] = [
    (
        model([node("Det", "x", "y")], _X, ["y"]),
        "load: 'Det' node 'y': funcnn does not know this operator",
    ),
    (
        model([node("LeakyRelu", "x", "y", alpha=0.1, beta=2)], _X, ["y"]),
        "load: 'LeakyRelu' node 'y': attribute 'beta' is not known here",
    ),
    (
        model([node("LeakyRelu", "x", "y", alpha=1)], _X, ["y"]),
        "load: 'LeakyRelu' node 'y': attribute alpha must be a float, got 1",
    ),
    (
        model([node("Relu", "z", "y"), node("Relu", "y", "z")], _X, ["z"]),
        "load: 'Relu' node 'y': input 'z' must come from a node before this one",
    ),
    (model([node("Relu", "x", "y")], _X, ["z"]), "load: output 'z' must come from a node"),
    (
        model([node("Relu", "x", "y"), node("Tanh", "x", "y")], _X, ["y"]),
        "load: each value must have a name of its own, got 'y' twice",
    ),
    (
        model([node("Relu", "x", "y")], _X, ["y"], opset=5),
        "load: the model must be of opset 6 to 28, got 5",
    ),
    (
        model([node("MatMul", "x w", "y")], _X, ["y"], {"w": np.ones((3, 2), np.float32)}),
        "load: 'MatMul' node 'y': its arrays must fit its input, shapes {'weight': (2, 4)}, got "
        "{'weight': (2, 3)}",
    ),
    (
        model([node("Conv", "x w", "y")], {"x": (1, 1, 4, 4), "w": (1, 1, 2, 2)}, ["y"]),
        "load: 'Conv' node 'y': input 1 must be an array in the file, and not computed",
    ),
    (
        model([node("Reshape", "x s", "y")], _X, ["y"], {"s": np.array([2, 2, -1, -1])}),
        "load: 'Reshape' node 'y': operator: the inputs must fit Reshape, got shapes [(2, 4), (4,)]: "
        "can only specify one unknown dimension",
    ),
    (
        model([node("Conv", "x w", "y", kernel_shape=[0, 0])], _IMAGE, ["y"], {"w": _ONES}),
        "load: 'Conv' node 'y': attribute kernel_shape must be 2 numbers from 1 up, got (0, 0)",
    ),
    (
        model([node("MaxPool", "x", "y", kernel_shape=[2, 2], pads=[0, 2, 0, 0])], _IMAGE, ["y"]),
        "load: 'MaxPool' node 'y': attribute pads must be below kernel_shape (2, 2), got (0, 2, 0, 0)",
    ),
    (
        model([node("ScatterElements", "x i u", "y", reduction="mul")], _X, ["y"], _SCATTERED),
        "load: 'ScatterElements' node 'y': attribute reduction 'mul' is not known here",
    ),
    (
        model([node("Einsum", "x", "y", equation="ii->i")], {"x": (4, 4)}, ["y"]),
        "load: 'Einsum' node 'y': operator: the inputs must fit Einsum, got shapes [(4, 4)]: 'ii->i' "
        "must name each axis once in each part",
    ),
    (
        model([node("Einsum", "x", "y", equation="ni,ij")], _X, ["y"]),
        "load: 'Einsum' node 'y': operator: the inputs must fit Einsum, got shapes [(2, 4)]: 2 terms "
        "for 1 inputs",
    ),
    (
        model([node("Reshape", "x s", "y")], _X, ["y"], {"s": np.array([-5, 4])}),
        "load: 'Reshape' node 'y': operator: the inputs must fit Reshape, got shapes [(2, 4), (2,)]: "
        "sizes [-5, 4]",
    ),
    (
        model([node("TopK", "x k", "y z")], _X, ["y"], {"k": np.array([5])}),
        "load: 'TopK' node 'y, z': operator: the inputs must fit TopK, got shapes [(2, 4), (1,)]: "
        "5 of 4",
    ),
    (
        model([node("Relu", "x", "y")], {"x": ("N", 1 << 50)}, ["y"]),
        "load: input 'x' must have sizes up to 2**40, got 1125899906842624",
    ),
]


@pytest.mark.parametrize(
    ("content", "message"), _REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_refusals_name_the_node(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        _loaded(tmp_path, content)
    assert str(caught.value) == message


_ALONG: dict[str, tuple[str, dict[str, Any]]] = {
    "Softmax": ("x", {}),
    "LogSoftmax": ("x", {}),
    "ArgMax": ("x", {}),
    "Flatten": ("x", {}),
    "Concat": ("x x", {}),
    "Split": ("x", {"num_outputs": 1}),
    "Gather": ("x i", {}),
    "GatherElements": ("x ii", {}),
    "ScatterElements": ("x ii u", {}),
    "TopK": ("x i", {}),
    "OneHot": ("x i uu", {}),
    "LayerNormalization": ("x w", {}),
    "RMSNormalization": ("x w", {}),
}


@pytest.mark.parametrize("kind", _ALONG)
@pytest.mark.parametrize("axis", [99, -99])
def test_an_axis_that_is_not_there_is_refused(kind: str, axis: int, tmp_path: Path) -> None:
    inputs, more = _ALONG[kind]
    arrays = {
        "i": np.array([1]), "ii": np.zeros((1, 1), np.int64), "u": np.ones((1, 1), np.float32),
        "uu": np.ones(2, np.float32), "w": np.ones(4, np.float32),
    }  # fmt: skip
    content = model([node(kind, inputs, "y", axis=axis, **more)], _X, ["y"], arrays, opset=23)
    with pytest.raises(Refusal, match=rf"^load: '{kind}' node 'y': .*(must fit|axis)") as caught:
        _loaded(tmp_path, content)
    assert "must be as ONNX says" not in str(caught.value)


@pytest.mark.parametrize(
    "how",
    [
        {"pads": [0, 1, 1, 0], "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
        {"output_shape": [11, 5], "strides": [2, 1]},
        {"output_shape": [10, 9], "strides": [2, 2]},
        {"auto_pad": "VALID", "strides": [2, 2], "dilations": [2, 1]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("spatial", [1, 2])
def test_transposed_convolutions_are_cut_as_onnxruntime_cuts_them(
    how: dict[str, Any], spatial: int, tmp_path: Path
) -> None:
    how = {name: one if isinstance(one, str) else one[::2] if len(one) == 4 and spatial == 1
           else one[:spatial] if len(one) == 2 else one for name, one in how.items()}  # fmt: skip
    w, x = _drawn(2, 3, *[4, 3][:spatial]), _drawn(2, 2, *[5, 4][:spatial], seed=1)
    shape = {"x": ("N", *x.shape[1:])}
    content = model([node("ConvTranspose", "x w", "y", **how)], shape, ["y"], {"w": w})
    net, params = _loaded(tmp_path, content)
    wanted = runtime_of(tmp_path / "model.onnx").run(None, {"x": x})[0]
    np.testing.assert_allclose(net.apply(params, x)[0], wanted, rtol=1e-4, atol=1e-5)
    _check_gradients("transposed", net, params, x)


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 99, b"{}", b"\x08\x07" * 50])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^load: .* must be an ONNX model"):
        _loaded(tmp_path, content)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.onnx")


_DOUBLING = [node("Concat", f"a{i} a{i}", f"a{i + 1}", axis=1) for i in range(50)]


def _bomb(kind: str, inputs: str, arrays: dict[str, Any], **attributes: Any) -> Any:
    return model(
        [node(kind, inputs, "y", **attributes), node("Relu", "x", "z")], _X, ["y", "z"], arrays
    )


@pytest.mark.parametrize(
    "content",
    [
        _bomb("ConstantOfShape", "s", {"s": np.array([1 << 20, 1 << 20])}),
        _bomb("Range", "a b c", {"a": np.array(0), "b": np.array(1 << 50), "c": np.array(1)}),
        _bomb("Tile", "w n", {"w": np.ones(9, np.float32), "n": np.array([1 << 40])}),
        _bomb("Expand", "w n", {"w": np.ones(1, np.float32), "n": np.array([1 << 40])}),
        _bomb("Pad", "x p", {"p": np.array([0, 0, 1 << 40, 0])}),
        _bomb("OneHot", "i d v", {"i": np.array([1]), "d": np.array(1 << 40), "v": np.array([0, 1])}),
        model(_DOUBLING, {"a0": ("N", 9)}, ["a50"]),
    ],
)  # fmt: skip
def test_large_arrays_are_not_made_while_a_model_is_read(content: Any, tmp_path: Path) -> None:
    path = _written(tmp_path, content)
    tracemalloc.start()
    try:
        with contextlib.suppress(Refusal):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


_PART = "must have an offset, and a length of 32, got offset"


def _outside(folder: Path, **entries: str) -> Any:
    content = model([node("MatMul", "x w", "y")], _X, ["y"], {"w": np.ones((4, 2), np.float32)})
    tensor = content.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return content


def test_arrays_in_other_files_of_the_folder_are_read(tmp_path: Path) -> None:
    w = _drawn(4, 2)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/w.bin").write_bytes(b"1234" + w.tobytes())
    content = _outside(tmp_path, location="more/w.bin", offset="4", length="32")
    _, params = _loaded(tmp_path, content)
    np.testing.assert_array_equal(params["dense1"]["weight"], w.T)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../w.bin"}, "must lie in the folder of the model, got '../w.bin'"),
        ({"location": "/etc/passwd"}, "must lie in the folder of the model, got '/etc/passwd'"),
        ({"location": "link.bin"}, "must lie in the folder of the model, got 'link.bin'"),
        ({}, "must lie in the folder of the model, got ''"),
        ({"location": "none.bin"}, "must lie in a file, got 'none.bin': No such file or directory"),
        ({"location": "w.bin", "offset": "1"}, "must end within its file, got offset 1"),
        ({"location": "w.bin", "offset": "-1"}, f"{_PART} '-1' and length '32'"),
        ({"location": "w.bin", "length": "8"}, f"{_PART} '0' and length '8'"),
    ],
)  # fmt: skip
def test_arrays_anywhere_else_are_refused(
    entries: dict[str, str], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for place in (tmp_path / "w.bin", folder / "w.bin"):
        place.write_bytes(bytes(32))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        _loaded(folder, _outside(folder, **entries))
    assert str(caught.value) == f"load: array 'w' {message}"


def test_free_axes_beside_the_batch(tmp_path: Path) -> None:
    nodes = [node("Add", "x places", "y")]
    content = model(nodes, {"x": ("N", "T", 3)}, ["y"], {"places": _drawn(4, 3)})
    net, params = _loaded(tmp_path, content, shape=(-1, 4, 3))
    assert net.apply(params, np.zeros((2, 4, 3), np.float32))[0].shape == (2, 4, 3)
    with pytest.raises(ValueError, match="must fit Add"):
        _loaded(tmp_path, content, shape=(-1, 5, 3))
    with pytest.raises(TypeError, match="`shape` must be a tuple of ints"):
        _loaded(tmp_path, content, shape=((-1, 5, 3), (2, 2)))
