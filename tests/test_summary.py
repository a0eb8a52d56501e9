"""Summaries: what they count is what is there."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from funcnn import (
    attention,
    avg_pool,
    batch_norm,
    bidirectional,
    bilinear,
    branch,
    conv,
    conv1d,
    conv_transpose,
    dense,
    dense_connect,
    depthwise_conv,
    drop_path,
    dropout,
    flatten,
    freeze,
    gelu,
    global_avg_pool,
    global_max_pool,
    group_norm,
    gru,
    identity,
    initializers,
    instance_norm,
    layer_norm,
    local_response_norm,
    lstm,
    max_pool,
    max_pool1d,
    max_pool3d,
    merge,
    multi_head_attention,
    named,
    numerics,
    parallel,
    random,
    relu,
    remat,
    repeat,
    residual,
    rms_norm,
    rnn,
    separable_conv,
    serial,
    share,
    sigmoid,
    softmax,
    spatial_dropout,
    spectral_norm,
    split,
    structure,
    summary,
    tanh,
    tied,
    time_distributed,
    transpose,
    tree,
    weight_norm,
)
from funcnn.models import (
    autoencoder,
    char_rnn,
    lenet,
    mlp,
    mlp_mixer,
    resnet_small,
    transformer_lm,
    vgg_small,
)
from funcnn.numerics.sets import chosen
from funcnn.testing import _values
from funcnn.types import Array, Cache, Key, Layer, Params, Shape, Spec, has_trait
from tests import registry

Net = Layer[Any, Any]
KEY = random.key(0)


def _memory(node: Any) -> dict[int, int]:
    """Bytes of the memory behind each array of a tree."""
    found = {}
    for _, leaf in _values.leaves(node):
        if isinstance(leaf, np.ndarray):
            while isinstance(leaf.base, np.ndarray):
                leaf = leaf.base
            found[id(leaf)] = leaf.nbytes
    return found


def _kept(net: Net, shape: Shape, x: Any = None) -> int:
    """What a training pass really keeps, beyond the params and the input."""
    if x is None:
        x = structure.over_shapes(lambda path, one: random.normal(KEY, one), shape)
    x = _values.mapped(lambda leaf: leaf.astype("f4" if leaf.dtype.kind == "f" else leaf.dtype, "C"), x)
    _, params = net.init(KEY, shape)
    _, cache = net.apply(params, x, key=KEY)
    given = _memory((params, x))
    return sum(size for key, size in _memory(cache).items() if key not in given)


_IMAGE, _VECTOR, _SEQUENCE = (16, 8, 12, 12), (64, 32), (16, 12, 32)
_LAYERS: list[tuple[Net, Shape]] = [
    (serial(dense(16), relu(), dense(8)), _VECTOR),
    (serial(relu(), dense(16), tanh(), dropout(0.5), softmax()), _VECTOR),
    (serial(dense(16), gelu(), dropout(0.0), sigmoid()), _VECTOR),
    (serial(conv(16, 3, padding=1), relu(), conv(8, 3, stride=2), flatten(), dense(4)), _IMAGE),
    (serial(conv(16, 3), relu(), max_pool(2), conv(8, 3)), _IMAGE),
    (serial(max_pool(3, stride=2, padding=1), avg_pool(2), flatten()), _IMAGE),
    (serial(conv(8, 1), global_max_pool(), dense(3)), _IMAGE),
    (serial(conv(8, 1), batch_norm(), relu(), global_avg_pool()), _IMAGE),
    (serial(conv_transpose(8, 3, stride=2), relu(), separable_conv(8, 3)), _IMAGE),
    (serial(group_norm(2), spatial_dropout(0.5), drop_path(0.5)), _IMAGE),
    (serial(instance_norm(), conv(4, 1), instance_norm(affine=True)), _IMAGE),
    (serial(local_response_norm(3), conv(4, 1)), _IMAGE),
    (serial(split(2), merge("product"), conv(4, 1)), _IMAGE),
    (max_pool3d(2), (4, 3, 4, 6, 8)),
    (max_pool1d(2), _SEQUENCE),
    (serial(conv1d(8, 3), relu(), conv1d(8, 3)), _SEQUENCE),
    (serial(layer_norm(), time_distributed(dense(16)), rms_norm()), _SEQUENCE),
    (serial(transpose(2, 1), time_distributed(dense(4))), _SEQUENCE),
    *((serial(cell(16), time_distributed(dense(4))), _SEQUENCE) for cell in (rnn, gru, lstm)),
    (serial(lstm(8, layers=2), gru(8, bidirectional=True)), _SEQUENCE),
    (multi_head_attention(4), _SEQUENCE),
    (serial(multi_head_attention(4, kv_heads=2, causal=True, rate=0.2), layer_norm()), _SEQUENCE),
    (attention(), ((4, 8, 16), (4, 12, 16), (4, 12, 8))),
    (bilinear(4), ((16, 8), (16, 4))),
    (residual(dense(32), relu(), dense(32)), _VECTOR),
    (residual(conv(4, 3, stride=2), batch_norm(), shortcut=conv(4, 3, stride=2)), _IMAGE),
    (parallel(dense(8), serial(dense(8), relu()), merge="product"), _VECTOR),
    (parallel(conv(8, 1), conv(4, 3, padding=1), merge="concatenate"), _IMAGE),
    (serial(branch(dense(32), identity()), merge("product"), dense(4)), _VECTOR),
    (dense_connect(conv(4, 3, padding=1), serial(relu(), conv(4, 3, padding=1))), _IMAGE),
    (repeat(serial(dense(32), relu()), times=3), _VECTOR),
    (share(serial(dense(32), tanh()), times=3), _VECTOR),
    (serial(dense(32), remat(serial(dense(64), batch_norm(), relu())), relu()), _VECTOR),
    (serial(freeze(serial(dense(8), relu())), dense(4)), _VECTOR),
    (bidirectional(gru(8)), _SEQUENCE),
    (serial(weight_norm(dense(32)), relu(), spectral_norm(dense(32))), _VECTOR),
    (serial(spectral_norm(conv(8, 3)), relu(), weight_norm(conv(8, 3))), _IMAGE),
    (tied(serial(dense(32), relu(), dense(32)), ties={"dense2": "dense1"}), _VECTOR),
]
_MODELS: list[tuple[Net, Shape]] = [
    (lenet(), (32, 1, 28, 28)),
    (mlp((64, 32), 10, rate=0.5), (32, 1, 8, 8)),
    (vgg_small(widths=(8, 16)), (8, 3, 16, 16)),
    (resnet_small(depth=8, width=8), (8, 3, 16, 16)),
    (mlp_mixer((16, 16), depth=2), (8, 3, 16, 16)),
    (autoencoder((1, 8, 8), 4), (16, 1, 8, 8)),
    (char_rnn(20, 16), (8, 12)),
    (transformer_lm(20, 12, features=16, rate=0.1), (8, 12)),
]


@pytest.mark.parametrize(("net", "shape"), [*_LAYERS, *_MODELS], ids=lambda value: repr(value)[:60])
def test_cache_bytes_are_those_of_the_cache(net: Net, shape: Shape) -> None:
    x = random.randint(KEY, shape, 0, 5) if "embedding" in repr(net) else None
    assert summary(net, shape).cache_bytes == _kept(net, shape, x)


@pytest.mark.parametrize("batch", [1, 2, 150])
def test_cache_bytes_are_those_of_the_cache_in_every_case(batch: int) -> None:
    for case in registry.layers():
        shape, x = structure.with_batch(case.shape, batch), case.x
        if x is not None:
            x = _values.mapped(lambda leaf: np.resize(leaf, (batch, *leaf.shape[1:])), x)
        try:
            kept = _kept(case.layer, shape, x)
        except ValueError:  # one example has no variance
            assert (batch, has_trait(case.layer.spec, "couples_batch")) == (1, True)
        else:
            assert summary(case.layer, shape).cache_bytes == kept, case.id


def test_a_large_batch_is_told_from_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def seen() -> Net:
        layer = relu()

        def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
            ran.append(len(x))
            return layer.apply(params, x, key=key)

        return layer._replace(apply=apply, spec=Spec(seen))

    table = summary(serial(seen(), batch_norm()), (1 << 16, 1024))
    assert table.rows[0].cache_bytes == (1 << 16) * 1024 * 4
    assert (table.rows[1].fixed_bytes, table.fixed_bytes) == (3 * 1024 * 4, 3 * 1024 * 4)
    assert sorted(set(ran)) == [2, 3]


@pytest.mark.parametrize(("net", "shape"), [*_LAYERS, *_MODELS], ids=lambda value: repr(value)[:60])
def test_parameters_and_shapes_are_the_real_ones(net: Net, shape: Shape) -> None:
    out_shape, params = net.init(KEY, shape)
    table = summary(net, shape)
    assert table.out_shape == out_shape
    assert table.parameters == tree.count(params)
    assert sum(row.parameters for row in table.rows) == table.parameters
    assert sum(row.trainable for row in table.rows) == table.trainable


# --- layers of users -------------------------------------------------------------------------------


class _Odd:
    """Something in a cache that is no tree."""

    def __init__(self, array: Array) -> None:
        self.array = array + 1


def _halves() -> Net:
    """A layer of somebody's own."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {"weight": np.ones(shape[1:], np.float32)}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        square = numerics.matmul(x, x.T)
        return x * params["weight"] / 2, {"odd": [_Odd(square)], "again": square[1:]}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        return {"weight": dout[0]}, dout

    return Layer(init, apply, vjp, Spec(_halves))


def _both(layer: Net) -> Net:
    """A combinator of somebody's own."""
    inner: Net = serial(named("one", layer), named("two", layer))
    return inner._replace(spec=Spec(_both, children=(layer.spec,)))


def test_layers_of_users_are_measured_too() -> None:
    table = summary(serial(dense(4), _halves(), relu()), (2, 3))
    row = table.rows[1]
    assert (row.path, row.parameters, row.flops, row.cache_bytes) == ("_halves1", 4, 32, 32)
    assert table.flops == 2 * 2 * 3 * 4 + 32
    assert str(table).splitlines()[3].split() == ["_halves1", "_halves", "(2,", "4)", "4", "32", "32"]


def test_a_cache_that_cannot_be_pickled_shows_a_question_mark() -> None:
    layer = _halves()

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        out, cache = layer.apply(params, x, key=key)
        return out, {"cache": cache, "function": lambda: None}

    table = summary(serial(dense(4), layer._replace(apply=apply)), (2, 3))
    assert table.flops == 2 * 2 * 3 * 4 + 32
    assert table.cache_bytes is None
    assert str(table).splitlines()[-1].split()[-3:] == ["20", "80", "?"]


def test_combinators_of_users_show_their_layers() -> None:
    table = summary(serial(_both(dense(4))), (2, 4))
    assert [(row.path, row.parameters) for row in table.rows] == [
        ("_both1/one", 20), ("_both1/two", 20),
    ]  # fmt: skip
    assert [row.flops for row in table.rows] == [2 * 2 * 4 * 4] * 2
    assert "_both" in table.svg()


@pytest.mark.parametrize("case", registry.layers()[::7], ids=lambda case: case.id)
def test_every_layer_can_be_summed_up_and_drawn(case: registry.Case) -> None:
    table = summary(case.layer, case.shape)
    out_shape, params = case.layer.init(KEY, case.shape)
    assert table.out_shape == out_shape
    assert table.parameters == tree.count(params)
    ElementTree.fromstring(table.svg())


# --- operations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "shape", "flops"),
    [
        (dense(3), (2, 4), 2 * 3 * 4 * 2),
        (conv(5, 3, padding=1), (2, 4, 6, 6), 2 * 5 * 36 * 2 * 4 * 9),
        (conv(4, 3, groups=2, bias=False), (1, 4, 5, 5), 4 * 9 * (2 * 2 * 9)),
        (depthwise_conv(3), (2, 4, 6, 6), 2 * 4 * 16 * 2 * 9),
        (separable_conv(8, 3), (2, 4, 6, 6), 2 * 16 * 2 * (4 * 9 + 4 * 8)),
        (conv_transpose(3, 2, stride=2, bias=False), (1, 4, 3, 3), 4 * 9 * 2 * 3 * 4),
        (conv_transpose(3, 3), (2, 4, 5, 5), 2 * 2 * 4 * 25 * 3 * 9),
        (bilinear(4), ((16, 8), (16, 4)), 2 * 16 * 4 * 8 * 4),
        (max_pool(2), (1, 1, 4, 4), 0),
        (residual(dense(3), relu()), (2, 3), 2 * 2 * 3 * 3),
        (share(dense(3), times=3), (2, 3), 3 * 2 * 2 * 3 * 3),
        (time_distributed(dense(4)), (2, 5, 3), 2 * 10 * 3 * 4),
        (multi_head_attention(2, bias=False), (1, 3, 4), 4 * 2 * 3 * 16 + 2 * 9 * 4 * 2),
        (rnn(3), (1, 2, 4), 2 * 3 * 2 * (4 + 3)),
        (lstm(3), (2, 5, 4), 2 * 5 * 4 * 3 * 2 * (4 + 3)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("mode", [numerics.fast, numerics.portable])
def test_operations_counted_by_hand(net: Net, shape: Shape, flops: int, mode: Any) -> None:
    with mode():
        assert summary(net, shape).flops == flops
        more = summary(net, structure.with_batch(shape, 640))
        assert more.flops == 640 * flops // structure.each_shape(shape)[0][1][0]


def test_lenet_costs_what_is_written_of_it() -> None:
    table = summary(lenet(), (1, 1, 32, 32))
    products = {row.path: row.flops for row in table.rows if row.kind in ("conv", "dense")}
    macs = {"conv1": 117_600, "conv2": 240_000, "dense1": 48_000, "dense2": 10_080, "dense3": 840}
    assert products == {path: 2 * macs[path] for path in macs}


@pytest.mark.parametrize("case", registry.layers()[::5], ids=lambda case: case.id)
def test_counting_gives_what_computing_gives_but_for_the_numbers(case: registry.Case) -> None:
    """Shapes, dtypes and orders in memory: what comes later is measured on them."""
    subject = registry.subject(case)
    out, _ = subject.layer.apply(subject.params, subject.x, key=KEY)
    with numerics.counting(), np.errstate(all="ignore"):
        zeros, _ = subject.layer.apply(subject.params, subject.x, key=KEY)
    for (_, one), (_, other) in zip(_values.leaves(out), _values.leaves(zeros), strict=True):
        assert (one.shape, one.dtype, one.strides) == (other.shape, other.dtype, other.strides)


def test_nobody_counts_outside() -> None:
    with numerics.portable(), numerics.counting() as counter:
        assert numerics.mode() == "portable"
        assert chosen() == "off"  # of compiled kernels
        assert numerics.matmul(np.ones(3), np.ones((2, 3, 4))).tolist() == [[0.0] * 4] * 2
        assert numerics.matmul(np.ones((2, 3)), np.ones(3)).tolist() == [0.0, 0.0]
        summed = numerics.summed_matmul(np.ones((3, 1, 2)), np.ones((3, 2, 1)), np.float32)
        assert summed.tolist() == [[0.0]]
        assert summed.dtype == np.float32
        numerics.stacked_matmul(np.ones((3, 1, 2)), np.ones((3, 2, 1)), out := np.ones((3, 1, 1)))
        assert not out.any()
        assert counter.operations == 2 * (2 * 4 * 3 + 2 * 3 + 6 + 6)
    assert (numerics.counter(), numerics.mode()) == (None, "fast")
    assert numerics.matmul(np.ones((1, 2)), np.ones((2, 1))).item() == 2


# --- the whole ------------------------------------------------------------------------------------


def test_a_billion_parameters_are_told_at_once_in_little_memory() -> None:
    """In a process of its own, whose highest memory says how much was ever taken."""
    program = """
import resource, time
from funcnn import dense, summary
from funcnn.models import transformer_lm
summary(transformer_lm(10, 4, features=8, heads=2, depth=1), (1, 4))
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
table = summary(transformer_lm(50257, 2048, features=2048, heads=16, depth=24), (8, 2048))
assert table.parameters > 1.3e9, table.parameters
seconds = time.process_time() - start
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 2
    assert kilobytes < 8_000


def test_costs_take_no_more_memory_than_inference() -> None:
    one = 4 << 19  # bytes that pass from layer to layer
    net = repeat(tanh(), times=60)
    summary(net, (2, 2)).rows  # noqa: B018 - what is made once
    tracemalloc.start()
    table = summary(net, (2, 1 << 18))
    assert table.cache_bytes == 59 * one  # the first keeps the input
    assert tracemalloc.get_traced_memory()[1] < 8 * one
    tracemalloc.stop()


def test_the_kind_of_each_input_is_found() -> None:
    def takes(*kinds: str) -> Net:
        def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
            if [leaf.dtype.kind for leaf in x] != list(kinds):
                raise TypeError(f"takes: `x` must be of {kinds}")
            return x[0], {"x": x[0] + 1}

        def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
            return shape[0], {}

        return Layer(init, apply, lambda cache, dout: ({}, dout), Spec(takes, kinds))

    for kinds in ("f", "i", "b", "fib", "bbb", "ffffib"):
        assert summary(takes(*kinds), ((4, 3),) * len(kinds)).cache_bytes is not None
    with pytest.raises(TypeError, match="takes: `x` must be of"):
        summary(takes(*"c" * 20), ((4, 3),) * 20).rows  # noqa: B018 - soon, too


def test_what_remat_keeps_is_its_own() -> None:
    net = serial(dense(32), remat(serial(dense(64), batch_norm(), relu())), relu())
    rows = [(row.kind, row.cache_bytes) for row in summary(net, (64, 32)).rows]
    statistics = 2 * 64 * 4
    assert rows == [
        ("dense", 0), ("remat", 64 * 32 * 4 + statistics), ("dense", 0), ("batch_norm", 0), ("relu", 0),
        ("relu", 64 * 64 * 4),
    ]  # fmt: skip


def test_it_reads_as_a_table() -> None:
    net = serial(named("stem", conv(4, 3)), relu(), flatten(), dense(10))
    assert str(summary(net, (32, 1, 8, 8))) == (
        "path      kind     output         parameters    FLOPs  cache bytes\n"
        "------------------------------------------------------------------\n"
        "stem      conv     (32, 4, 6, 6)          40   82_944        8_192\n"
        "relu1     relu     (32, 4, 6, 6)           0        0       18_432\n"
        "flatten1  flatten  (32, 144)               0        0            0\n"
        "dense1    dense    (32, 10)            1_450   92_160            0\n"
        "------------------------------------------------------------------\n"
        "(32, 1, 8, 8) -> (32, 10)              1_490  175_104       26_624"
    )


def test_trainable_and_other_parameters_are_told_apart() -> None:
    net = serial(freeze(named("stem", conv(4, 3))), batch_norm(), flatten(), dense(10))
    table = summary(net, (32, 1, 8, 8))
    frozen, running = 4 * 9 + 4, 2 * 4
    assert table.trainable == table.parameters - frozen - running
    assert str(table).splitlines()[-1] == f"trainable: {table.trainable:_}"
    plain = summary(tied(serial(dense(4), dense(4)), ties={"dense2": "dense1"}), (2, 4))
    assert plain.trainable == plain.parameters == 20
    assert "trainable" not in str(plain)
    assert summary(freeze(batch_norm()), (2, 4)).trainable == 0
    assert summary(named("a", freeze(dense(2))), (2, 4)).trainable == 0


def test_wrong_use_is_refused() -> None:
    anything: Any = summary
    with pytest.raises(TypeError, match="summary: `net` must be a layer, got 3"):
        anything(3, (1, 2))
    with pytest.raises(ValueError, match="must have a batch of at least 1") as caught:
        summary(dense(3), (-1, 4))
    assert str(caught.value) == "summary: `shape` must have a batch of at least 1, got (-1, 4)"
    wrong: Any = serial
    with pytest.raises(ValueError, match="conv1") as inside:
        summary(wrong(flatten(), dense(2), conv(3, 3)), (2, 4))
    assert str(inside.value) == "conv1: `shape` must have 4 axes (N, C, H, W), got (2, 2)"


# --- the picture ----------------------------------------------------------------------------------


def test_the_picture_shows_each_layer_inside_its_bounds() -> None:
    net: Net = serial(
        conv(4, 3),
        parallel(conv(2, 1), serial(conv(2, 3, padding=1), relu()), merge="concatenate"),
        residual(conv(4, 1), relu()),
        residual(conv(8, 1, stride=2), shortcut=conv(8, 1, stride=2)),
        dense_connect(conv(2, 1), relu()),
        branch(identity(), relu()),
        merge("mean"),
        repeat(named("block", residual(relu())), times=50),
        flatten(),
    )
    root = ElementTree.fromstring(summary(net, (2, 3, 9, 9)).svg())
    space = "{http://www.w3.org/2000/svg}"
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [box for box in root.iter(f"{space}rect") if box.attrib["width"] != "100%"]
    for box in boxes:
        left, top = float(box.attrib["x"]), float(box.attrib["y"])
        assert left >= 0
        assert top >= 0
        assert left + float(box.attrib["width"]) <= width
        assert top + float(box.attrib["height"]) <= height
    words = [text.text for text in root.iter(f"{space}text")]
    assert "repeat: 50 times" in words
    assert words.count("relu()") == 5  # a repeated block is drawn once
    assert words.count("+") == 3
    layers = [box for box in boxes if "stroke-dasharray" not in box.attrib]
    for one in layers:
        for other in layers:
            assert one is other or not _overlap(one.attrib, other.attrib)


def _overlap(a: dict[str, str], b: dict[str, str]) -> bool:
    return all(
        float(a[start]) < float(b[start]) + float(b[size])
        and float(b[start]) < float(a[start]) + float(a[size])
        for start, size in (("x", "width"), ("y", "height"))
    )


def test_words_are_escaped() -> None:
    net = dense(2, weight_init=initializers.normal(0.5))
    drawn = ElementTree.fromstring(summary(named("a", net), (1, 2)).svg())
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "dense(2, weight_init=normal(0.5))" in words
    assert "&lt;" in summary(_odd(), (1, 2)).svg()


def _odd(words: str = "") -> Net:
    return relu()._replace(spec=Spec(_odd, ("a < b & c",)))


def test_shapes_too_deep_to_be_shapes_are_refused() -> None:
    deep: Any = (2, 3)
    for _ in range(3_000):
        deep = (deep,)
    below: Any = (2, 3)
    for _ in range(3_000):
        below = {"a": below}
    shapes: tuple[Any, ...] = (deep, below, None, [2, 3], "x")
    for shape in shapes:
        with pytest.raises((ValueError, TypeError), match=r"^summary: `shape` must be [^\n]{1,200}$"):
            summary(dense(3), shape)
