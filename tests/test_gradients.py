"""The gradient of a loss over shards of the batch: the same bits for any number of threads."""

from __future__ import annotations

import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from funcnn import (
    batch_norm,
    bilinear,
    branch,
    conv,
    dense,
    dropout,
    flatten,
    freeze,
    gru,
    lstm,
    max_pool,
    mean_squared_error,
    named,
    numerics,
    random,
    relu,
    remat,
    rnn,
    serial,
    softmax_cross_entropy,
    time_distributed,
    tree,
    triplet,
    value_and_grad,
)
from funcnn.machine import threads
from funcnn.machine.blas import on_one_blas_thread
from funcnn.machine.threads import _team, in_team, run_tasks
from funcnn.models import transformer_encoder_block
from funcnn.training.gradients import cut
from funcnn.types import Array, Cache, Key, Layer, Params, Shape, Spec, Trait, has_trait, no_statistics

KEY = random.key(0)
Net = Layer[Any, Any]
pytestmark = pytest.mark.filterwarnings("ignore:value_and_grad. without a key:UserWarning")


@pytest.fixture(autouse=True)
def small_batches_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems stand for large ones."""
    monkeypatch.setattr("funcnn.training.gradients._SMALL", 1 << 5)


@pytest.fixture(autouse=True)
def libraries_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """SciPy, which other tests may have loaded since, brings a BLAS of its own."""
    monkeypatch.setattr("funcnn.machine.blas._limit.libraries", None)


def _lenet() -> Net:
    return serial(conv(4, 3), relu(), max_pool(2), dropout(0.2), flatten(), dense(5))


def _problem(batch: int = 33) -> tuple[Net, Params, Array, Array]:
    net, x = _lenet(), random.normal(random.key(1), (batch, 2, 8, 8))
    y = random.randint(random.key(2), (batch,), 0, 5)
    return net, net.init(KEY, x.shape)[1], x, y


def _plain(net: Net, params: Params, x: Any, y: Any, key: Key | None = None) -> tuple[Any, Params]:
    """The whole batch at once, with the gradient of the input that nobody needs."""
    loss = softmax_cross_entropy()
    out, cache = net.apply(params, x, key=key)
    value, kept = loss.apply(out, y)
    return value, net.vjp(cache, loss.vjp(kept))[0]


def _same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    assert np.asarray(found[0]).tobytes() == np.asarray(expected[0]).tobytes()
    assert tree.equal(found[1], expected[1])


# --- the bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
@pytest.mark.parametrize("batch", [1, 15, 16, 33])
def test_the_same_bits_for_any_number_of_workers(batch: int, portable: bool) -> None:
    net, params, x, y = _problem(batch)
    with numerics.portable() if portable else nullcontext():
        runs = [
            value_and_grad(net, softmax_cross_entropy(), workers=workers)(params, x, y, KEY)
            for workers in (1, 2, 4, None)
        ]
        for run in runs[1:]:
            _same(run, runs[0])


@pytest.mark.parametrize("batch", [1, 16, 40])
def test_it_is_the_gradient_of_the_whole_batch(batch: int) -> None:
    net, params, x, y = _problem(batch)
    params, x = tree.cast(params, np.float64), x.astype(np.float64)
    value, grads = value_and_grad(net, softmax_cross_entropy())(params, x, y)
    expected, slopes = _plain(net, params, x, y)
    assert value == pytest.approx(expected, rel=1e-12)
    assert tree.allclose(grads, slopes, rtol=1e-10, atol=1e-12)


def test_shards_depend_on_the_sizes_alone() -> None:
    for batch in (0, 1, 15, 16, 17, 64, 600):
        for width in (1, 100, 3000, 100_000):
            parts = cut(batch, np.broadcast_to(np.float32(0), (batch, width)), {})
            covered = [i for part in parts for i in range(part.start, part.stop)]
            assert covered == list(range(batch))
            assert all(part.stop - part.start >= 8 for part in parts) or len(parts) == 1


def test_small_steps_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    x = np.broadcast_to(np.float32(0), (32, 3, 28, 28))
    assert len(cut(32, x, {})) == 1
    assert len(cut(32, x, {"weight": np.broadcast_to(np.float32(0), (1000, 1000))})) == 2
    assert len(cut(256, np.broadcast_to(np.float32(0), (256, 3, 28, 28)), {})) == 2


def test_recurrent_networks_walk() -> None:
    for layer in (lstm(3), gru(3), rnn(3, layers=2, rate=0.5), lstm(3, bidirectional=True)):
        assert has_trait(serial(layer, time_distributed(dense(2))).spec, "walks")
    assert not has_trait(transformer_encoder_block(4, 2, 8).spec, "walks")


@pytest.mark.parametrize(("shape", "dtype"), [((32, 64, 64), np.float32), ((32, 64), np.int64)])
def test_sequences_are_cut_where_the_weights_meet_many_steps(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: type
) -> None:
    monkeypatch.undo()
    few, many = ({"weight": np.broadcast_to(np.float32(0), size)} for size in (50_000, 100_000))
    x: Any = np.broadcast_to(np.zeros((), dtype), shape)
    assert [len(cut(32, x, weights)) for weights in (few, many)] == [1, 2]
    halves = {"a": x[:, :32], "b": x[:, 32:]}
    assert [len(cut(32, halves, weights)) for weights in (few, many)] == [1, 2]
    assert len(cut(32, x[:, :8], many)) == len(cut(32, x, many, walks=True)) == 1
    if find_spec("numba") is not None:  # then threads share single kernels
        more = {"weight": np.broadcast_to(np.float32(0), 600_000)}
        with numerics.compiled("require"):
            assert [len(cut(32, x, weights)) for weights in (many, more)] == [1, 2]
            with numerics.portable():  # with the same bits as without them
                assert len(cut(32, x, many)) == 2


def test_small_images_are_cut_where_many_filters_meet_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    x = np.broadcast_to(np.float32(0), (32, 3, 32, 32))
    few, many = ({"weight": np.broadcast_to(np.float32(0), (n, 1, 1, 1))} for n in (5_000, 10_000))
    with numerics.compiled("off"):
        assert [len(cut(32, x, weights)) for weights in (few, many)] == [1, 2]
        assert len(cut(32, x, {"weight": many["weight"].reshape(1, -1)})) == 1
        with numerics.portable():
            assert len(cut(32, x, many)) == 1
    if find_spec("numba") is not None:
        with numerics.compiled("require"):
            assert len(cut(32, x, many)) == 1


def test_vectors_are_not_cut_where_the_weights_are_more() -> None:
    x = np.broadcast_to(np.float32(0), (128, 784))
    weights = {"weight": np.broadcast_to(np.float32(0), (512, 784))}
    assert len(cut(128, x, weights)) == 1
    assert len(cut(128, x, {"weight": weights["weight"][:100]})) > 1
    assert len(cut(128, x.reshape(128, 1, 28, 28), weights)) > 1


@pytest.mark.threads
@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
def test_large_products_of_one_shard_are_shared_out(
    portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("_kernels.linear.LARGE", "numerics.large._SHARED"):
        monkeypatch.setattr(f"funcnn.{size}", 1)
    monkeypatch.setattr("funcnn.numerics.products.LARGE", 1)
    met: list[set[str]] = []

    def share(task: Any, count: int) -> list[Any]:
        met.append(set())
        here = met[-1]
        meeting = threading.Barrier(2 if _team.get() != 1 else 1, timeout=10)

        def noted(i: int) -> Any:
            here.add(threading.current_thread().name)
            meeting.wait()
            return task(i)

        return threads.share(noted, count)

    monkeypatch.setattr("funcnn.numerics.large.share", share)
    net = serial(dense(24), relu(), dense(20), relu(), dense(3))
    x, y = random.normal(random.key(1), (10, 30)), random.randint(random.key(2), (10,), 0, 3)
    _, params = net.init(KEY, x.shape)
    with numerics.portable() if portable else nullcontext():
        runs = []
        for workers in (1, 2):
            met.clear()
            runs.append(value_and_grad(net, softmax_cross_entropy(), workers=workers)(params, x, y))
            assert max(map(len, met)) == workers
    _same(runs[1], runs[0])
    monkeypatch.undo()
    value, grads = value_and_grad(net, softmax_cross_entropy())(params, x, y)
    assert value == pytest.approx(runs[0][0], rel=1e-6)
    assert tree.allclose(grads, runs[0][1], rtol=1e-4, atol=1e-6)


def test_the_number_of_blas_threads_does_not_show() -> None:
    net, params, x, y = _problem(64)
    runs = []
    for count in (1, 2):
        with threadpool_limits(count):
            runs.append(value_and_grad(net, softmax_cross_entropy())(params, x, y, KEY))
    _same(runs[1], runs[0])


def test_a_small_batch_draws_what_the_network_alone_would() -> None:
    net, params, x, y = _problem(8)
    found = value_and_grad(net, softmax_cross_entropy())(params, x, y, KEY)
    with threadpool_limits(1):
        expected = _plain(net, params, x, y, KEY)
    assert found[0] == expected[0]
    assert tree.allclose(found[1], expected[1], atol=1e-6)


def test_keys_matter_and_shards_draw_differently() -> None:
    net = serial(dropout(0.5), dense(1, bias=False))
    x = np.ones((16, 64), np.float32)
    _, params = net.init(KEY, x.shape)
    step = value_and_grad(net, mean_squared_error())
    zeros = np.zeros((16, 1), np.float32)
    assert step(params, x, zeros, KEY)[0] == step(params, x, zeros, KEY)[0]
    assert step(params, x, zeros, KEY)[0] != step(params, x, zeros, random.key(1))[0]
    assert step(params, x, zeros)[0] != step(params, x, zeros, KEY)[0]
    drawn: dict[int, Array] = {}
    spying = _spy(net, drawn)
    value_and_grad(spying, mean_squared_error(), workers=1)(params, x, zeros, KEY)
    first, second = drawn.values()
    assert not np.array_equal(first, second)


def _spy(net: Net, drawn: dict[int, Array]) -> Net:
    def apply(params: Params, x: Any, *, key: Key | None = None) -> Any:
        out = net.apply(params, x, key=key)
        drawn[len(drawn)] = out[0]
        return out

    return net._replace(apply=apply)


def test_tuples_go_in() -> None:
    net = bilinear(2)
    x = random.normal(random.key(1), (20, 3)), random.normal(random.key(2), (20, 4))
    _, params = net.init(KEY, ((20, 3), (20, 4)))
    y = np.zeros((20, 2), np.float32)
    runs = [value_and_grad(net, mean_squared_error(), workers=n)(params, x, y) for n in (1, 2)]
    _same(runs[0], runs[1])
    loss = mean_squared_error()
    out, cache = net.apply(params, x)
    assert tree.allclose(runs[0][1], net.vjp(cache, loss.vjp(loss.apply(out, y)[1]))[0], rtol=1e-4)


@pytest.mark.parametrize("batch", [6, 40])
def test_tuples_come_out(batch: int) -> None:
    """A loss of three outputs, and no target."""
    net, loss = branch(dense(2), dense(2), dense(2)), triplet()
    x = random.normal(random.key(1), (batch, 3)).astype(np.float64)
    _, params = net.init(KEY, x.shape)
    params = tree.cast(params, np.float64)
    out, cache = net.apply(params, x)
    wanted, kept = loss.apply(out, ())
    for workers in (1, 2):
        value, grads = value_and_grad(net, loss, workers=workers)(params, x, ())
        assert value == pytest.approx(float(wanted), rel=1e-12)
        assert tree.allclose(grads, net.vjp(cache, loss.vjp(kept))[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch", [6, 40])
def test_dicts_go_in_and_come_out(batch: int) -> None:
    layer, loss = dense(3), softmax_cross_entropy()

    def apply(params: Params, x: Any, *, key: Key | None = None) -> Any:
        out, cache = layer.apply(params, x["left"] + x["right"][0])
        return {"out": out, "side": (x["left"],)}, cache

    def vjp(cache: Cache, dout: Any) -> Any:
        return layer.vjp(cache, dout["out"])[0], None

    def of_out(prediction: Any, target: Any) -> Any:
        return loss.apply(prediction["out"], target["label"])

    def slope(cache: Cache) -> Any:
        slopes = loss.vjp(cache)
        return {"out": slopes, "side": (np.zeros((len(slopes), 4), np.float32),)}

    net: Net = Layer(layer.init, apply, vjp, dense(3).spec)
    x, y = random.normal(random.key(1), (batch, 4)), random.randint(random.key(2), (batch,), 0, 3)
    _, params = layer.init(KEY, x.shape)
    inputs, wrapped = {"left": x, "right": (x,)}, loss._replace(apply=of_out, vjp=slope)
    found = value_and_grad(net, wrapped, workers=2)(params, inputs, {"label": y})
    wanted = value_and_grad(layer, loss)(params, x + x, y)
    assert found[0] == pytest.approx(float(wanted[0]), rel=1e-6)
    assert tree.allclose(found[1], wanted[1], rtol=1e-5, atol=1e-6)
    inputs["right"] = (x[:-1],)
    message = f"^value_and_grad: `x/left` and `x/right/0` must have one length, got {batch} and"
    with pytest.raises(ValueError, match=message):
        value_and_grad(net, wrapped)(params, inputs, {"label": y})


def test_nothing_is_mutated() -> None:
    net, params, x, y = _problem(40)
    for leaf in (x, y, *(leaf for _, leaf in tree.leaves(params))):
        leaf.flags.writeable = False
    value_and_grad(net, softmax_cross_entropy())(params, x, y, KEY)


# --- what is not computed -------------------------------------------------------------------------


def _no_input_gradient() -> Layer[Any, Any]:
    """A dense layer that cannot say what its input's gradient is."""
    layer = dense(5)

    def vjp(cache: Cache, dout: Any) -> Any:
        raise AssertionError("nobody needs the gradient of the images")

    return layer._replace(vjp=vjp)


@pytest.mark.parametrize(
    "net",
    [
        _no_input_gradient(),
        serial(_no_input_gradient(), relu(), dense(5)),
        serial(serial(_no_input_gradient(), relu()), dense(5)),
        remat(serial(_no_input_gradient(), dense(5))),
    ],
    ids=repr,
)
def test_the_gradient_of_the_input_is_never_computed(net: Net) -> None:
    x, y = random.normal(random.key(1), (20, 4)), np.zeros(20, int)
    _, params = net.init(KEY, x.shape)
    _, grads = value_and_grad(net, softmax_cross_entropy())(params, x, y)
    assert tree.norm(grads) > 0


def test_what_lies_in_front_of_the_first_parameters_is_not_pulled_back() -> None:
    def vjp(cache: Cache, dout: Any) -> Any:
        raise AssertionError("there is nothing to learn in front")

    front: Net = relu()._replace(vjp=vjp)
    net = serial(front, flatten()._replace(vjp=vjp), dense(5))
    x, y = random.normal(random.key(1), (20, 4)), np.zeros(20, int)
    _, params = net.init(KEY, x.shape)
    value_and_grad(net, softmax_cross_entropy())(params, x, y)


def test_a_frozen_network_gives_zeros() -> None:
    net = freeze(dense(5))
    x, y = random.normal(random.key(1), (20, 4)), np.zeros(20, int)
    _, params = net.init(KEY, x.shape)
    _, grads = value_and_grad(net, softmax_cross_entropy())(params, x, y)
    assert tree.equal(grads, tree.zeros_like(params))


# --- running statistics and coupled batches -------------------------------------------------------


def test_running_statistics_cannot_be_lost() -> None:
    net = serial(dense(3), batch_norm())
    x, y = random.normal(random.key(1), (20, 4)), np.zeros(20, int)
    _, params = net.init(KEY, x.shape)
    with pytest.raises(ValueError, match="would be lost") as caught:
        value_and_grad(net, softmax_cross_entropy())(params, x, y, KEY)
    assert str(caught.value) == (
        "value_and_grad: the running statistics of serial(dense(3), batch_norm()) would be lost: "
        "write value_and_grad(net, loss, statistics=True), and carry on its third result with "
        "tree.replace(params, statistics)"
    )
    value_and_grad(net, softmax_cross_entropy())(params, x, y)  # none change without a key
    _, _, new = value_and_grad(net, softmax_cross_entropy(), statistics=True)(params, x, y, KEY)
    expected = net.statistics(net.apply(params, x, key=KEY)[1])
    assert [path for path, _ in tree.leaves(new)] == [
        "batch_norm1/running_mean",
        "batch_norm1/running_var",
    ]
    assert tree.allclose(new, expected)
    assert not tree.allclose(tree.replace(params, new), params)


def test_a_layer_that_keeps_its_statistics_to_itself_is_refused() -> None:
    net = batch_norm()._replace(statistics=no_statistics)
    x, y = random.normal(random.key(1), (20, 4)), np.zeros(20, int)
    _, params = net.init(KEY, x.shape)
    step = value_and_grad(net, softmax_cross_entropy(), statistics=True)
    with pytest.raises(ValueError, match="would be lost"):
        step(params, x, y, KEY)
    assert step(params, x, y)[2] == {}


@pytest.mark.parametrize("traits", [frozenset[Trait](), frozenset[Trait]({"couples_batch"})])
def test_a_coupled_network_runs_as_one_shard(traits: frozenset[Trait]) -> None:
    net, seen = dense(5), []

    def apply(params: Params, x: Any, *, key: Key | None = None) -> Any:
        seen.append(len(x))
        return net.apply(params, x, key=key)

    spec = net.spec._replace(traits=traits)
    x, y = random.normal(random.key(1), (40, 4)), np.zeros(40, int)
    step = value_and_grad(net._replace(apply=apply, spec=spec), softmax_cross_entropy(), workers=1)
    step(net.init(KEY, x.shape)[1], x, y)
    assert seen == ([40] if traits else [10] * 4)


KEYED = serial(
    named("encoder", serial(conv(4, 3), batch_norm(), relu())), flatten(), dropout(0.1),
    freeze(serial(dense(5), dropout(0.2))), dense(3), dropout(0.0), batch_norm(track_running=False),
)  # fmt: skip


@pytest.mark.filterwarnings("default")
def test_a_forgotten_key_is_told_once_by_the_names_of_the_layers() -> None:
    x, y = random.normal(random.key(1), (8, 2, 5, 5)), np.zeros(8, int)
    _, params = KEYED.init(KEY, x.shape)
    step = value_and_grad(KEYED, softmax_cross_entropy(), statistics=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            step(params, x, y, KEY)
        assert not caught
        for _ in range(3):
            step(params, x, y)
    (warning,) = caught
    assert str(warning.message) == (
        "value_and_grad: without a key, encoder/batch_norm1, dropout1, serial1/dropout1 run as in "
        "inference: write step(params, x, y, key)"
    )
    assert warning.category is UserWarning
    assert warning.filename == __file__


@pytest.mark.filterwarnings("error")
def test_a_network_that_needs_no_key_is_not_told() -> None:
    net = serial(dense(5), relu(), dropout(0.0), batch_norm(track_running=False), dense(3))
    x, y = random.normal(random.key(1), (8, 4)), np.zeros(8, int)
    value_and_grad(net, softmax_cross_entropy())(net.init(KEY, x.shape)[1], x, y)


@pytest.mark.filterwarnings("default")
def test_the_names_of_many_layers_are_not_all_told() -> None:
    net = serial(*[dropout(0.1) for _ in range(50)])
    with pytest.warns(UserWarning, match="dropout1, dropout2, dropout3 and 47 more run as") as caught:
        value_and_grad(net, mean_squared_error())({}, np.ones((2, 3)), np.ones((2, 3)))
    assert len(str(caught[0].message)) < 300


# --- threads --------------------------------------------------------------------------------------


def _threads_of_blas() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def _failing(running: list[int]) -> Net:
    """A layer that fails on the second shard, while the first takes its time."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> Any:
        running.append(1)
        try:
            if x[0, 0] == 1:
                raise ArithmeticError("the second shard")
            time.sleep(0.05)
            return x, {}
        finally:
            running.pop()

    def vjp(cache: Cache, dout: Any) -> Any:
        return {}, dout

    return Layer(init, apply, vjp, Spec(_failing))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_an_error_in_one_shard_leaves_nothing_running(workers: int) -> None:
    running: list[int] = []
    x = np.repeat(np.array([[0], [1]], np.float32), 16, 0)
    step = value_and_grad(_failing(running), mean_squared_error(), workers=workers)
    with threadpool_limits(2):
        before = _threads_of_blas()
        for _ in range(3):
            with pytest.raises(ArithmeticError, match="the second shard"):
                step({}, x, x)
            assert running == []
        assert _threads_of_blas() == before


def test_blas_gets_its_threads_back() -> None:
    net, params, x, y = _problem(32)
    during: list[list[int]] = []
    inner = net.apply

    def apply(params: Params, x: Any, *, key: Key | None = None) -> Any:
        during.append(_threads_of_blas())
        return inner(params, x, key=key)

    step = value_and_grad(net._replace(apply=apply), softmax_cross_entropy())
    with threadpool_limits(2):
        before = _threads_of_blas()
        step(params, x, y)
        assert _threads_of_blas() == before
        with ThreadPoolExecutor(1) as pool:  # where the main thread has set a limit before
            pool.submit(step, params, x, y).result()
            assert _threads_of_blas() == before
    assert during
    assert all(count == 1 for counts in during for count in counts)


@pytest.mark.threads
def test_the_last_thread_to_leave_gives_blas_its_threads_back() -> None:
    left = threading.Event()

    def other() -> None:
        entered.wait(30)
        left.wait(30)

    entered = threading.Barrier(2)
    with threadpool_limits(2):
        before = _threads_of_blas()
        thread = threading.Thread(target=on_one_blas_thread, args=(other,))

        def both() -> None:
            thread.start()
            entered.wait(30)

        on_one_blas_thread(both)
        left.set()
        thread.join()
        assert _threads_of_blas() == before
    with threadpool_limits(1):  # and whoever comes next may set them
        assert set(_threads_of_blas()) <= {1}


def test_tasks_come_back_in_order() -> None:
    def task(i: int) -> int:
        time.sleep(0.01 * (4 - i))
        return i

    for workers in (1, 2, 4, None):
        assert run_tasks(task, 5, workers) == [0, 1, 2, 3, 4]
    assert run_tasks(task, 0, 2) == []


@pytest.mark.threads
def test_a_task_has_no_team_of_its_own() -> None:
    assert threads.share(lambda i: threading.current_thread().name, 2) == ["MainThread"] * 2
    meeting = threading.Barrier(2, timeout=10)

    def task(i: int) -> int | None:
        meeting.wait()  # both at once
        return _team.get()

    assert in_team(2, lambda: (threads.share(task, 2), _team.get())) == ([1, 1], 2)
    assert _team.get() == 1


def test_after_an_error_the_rest_is_not_begun() -> None:
    begun: list[int] = []

    def task(i: int) -> None:
        begun.append(i)
        time.sleep(0.01)
        if i == 1:
            raise KeyError(i)

    with pytest.raises(KeyError):
        run_tasks(task, 50, 2)
    assert len(begun) <= 4


def test_calls_inside_calls_and_from_several_threads() -> None:
    net, params, x, y = _problem(33)
    step = value_and_grad(net, softmax_cross_entropy(), workers=2)
    expected = step(params, x, y, KEY)
    found = run_tasks(lambda i: step(params, x, y, KEY), 4, 2)  # on the very pool that it waits for
    start = threading.Barrier(4)

    def together(_: int) -> Any:
        start.wait()
        return [step(params, x, y, KEY) for _ in range(3)]

    with ThreadPoolExecutor(4) as users:
        for several in users.map(together, range(4)):
            found += several
    for run in found:
        _same(run, expected)


def test_modes_of_threads_do_not_mix() -> None:
    net, params, x, y = _problem(33)
    step = value_and_grad(net, softmax_cross_entropy(), workers=2)
    with numerics.portable():
        portable = step(params, x, y)
    fast = step(params, x, y)
    start = threading.Barrier(2)

    def call(mode: Any) -> Any:
        with numerics.use(mode):
            start.wait()
            return [step(params, x, y) for _ in range(3)]

    with ThreadPoolExecutor(2) as users:
        for runs, expected in zip(users.map(call, ("fast", "portable")), (fast, portable), strict=True):
            for run in runs:
                _same(run, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore")  # of forking with threads, Python's and JAX's: that is the point
def test_a_forked_process_computes_the_same() -> None:
    net, params, x, y = _problem(33)
    step = value_and_grad(net, softmax_cross_entropy(), workers=2)
    expected = step(params, x, y, KEY)  # the pool has a thread now
    child = os.fork()
    if child == 0:
        try:
            found = step(params, x, y, KEY)
            same = found[0] == expected[0] and tree.equal(found[1], expected[1])
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert _exit_code(child) == 0


def _exit_code(child: int) -> int:
    """Of a forked process, which must not hang."""
    for _ in range(1000):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore")  # of forking with threads
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_a_process_forked_during_a_step_of_another_thread_gets_its_threads_back(inside: bool) -> None:
    """The other thread is not in the child, and so can never leave there."""
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        entered.set()
        leave.wait(30)

    def fork_here() -> int:
        child = os.fork()
        if child == 0:
            if inside and set(_threads_of_blas()) - {1}:
                os._exit(1)
            if not inside:
                os._exit(_seen_in_child(before))
        return child

    def fork() -> int:
        thread = threading.Thread(target=on_one_blas_thread, args=(other,))
        thread.start()
        assert entered.wait(30)
        child = on_one_blas_thread(fork_here) if inside else fork_here()
        if child == 0:
            os._exit(_seen_in_child(before))
        leave.set()
        thread.join()
        return _exit_code(child)

    with threadpool_limits(2, user_api="blas"):
        before = _threads_of_blas()
        assert fork() == 0
        assert _threads_of_blas() == before


def _seen_in_child(before: list[int]) -> int:
    """0 if all is well in a child, outside of whatever was going on."""
    try:
        if _threads_of_blas() != before:
            return 2
        if set(on_one_blas_thread(_threads_of_blas)) - {1}:
            return 3
        return 0 if _threads_of_blas() == before else 4
    except BaseException:
        return 5


# --- refusals -------------------------------------------------------------------------------------


def test_wrong_use_is_refused() -> None:
    net, params, x, y = _problem(8)
    anything: Any = value_and_grad
    loss = softmax_cross_entropy()
    for call, error, message in (
        (lambda: anything(relu, loss), TypeError, "`net` must be a layer, got <function relu"),
        (lambda: anything(net, net), TypeError, "`loss` must be a loss, got serial(conv"),
        (lambda: anything(net, loss, workers=0), ValueError, "`workers` must be at least 1, got 0"),
        (lambda: anything(net, loss, workers=1.5), TypeError, "`workers` must be an int, got 1.5"),
        (
            lambda: value_and_grad(net, loss)(params, x, y[:5]),
            ValueError,
            "`x` and `y` must have one length, got 8 and 5",
        ),
        (
            lambda: value_and_grad(net, softmax_cross_entropy(reduction="none"))(params, x, y),
            ValueError,
            "`loss` must give one number, got an array of shape (8,): take the mean or the sum",
        ),
    ):
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value).startswith(f"value_and_grad: {message}")
