"""Ranks compute what one process does, to the bit; one that fails ends all, with one clear line."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from funcnn import (
    batch_norm,
    checkpoints,
    checks,
    contrastive,
    data,
    dense,
    distributed,
    each,
    embedding,
    evaluate,
    fit,
    flatten,
    inference_mode,
    mean_squared_error,
    merge,
    optimizers,
    predict,
    random,
    relu,
    remat,
    residual,
    serial,
    softmax_cross_entropy,
    tree,
    value_and_grad,
)
from funcnn.data import augmentation
from funcnn.data.examples import concatenated, taken
from funcnn.distributed import Engine
from funcnn.distributed.exchange import added_up
from funcnn.machine.lockstep import in_lockstep
from funcnn.structure import statistics
from funcnn.testing import digest
from funcnn.types import Layer, Loss, Spec, Trait, has_trait
from tests import registry
from tests.ranks import on_ranks

ROOT = Path(__file__).parent.parent
KEY = random.key(0)


@pytest.fixture(scope="module")
def prove() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        return import_module("prove_ranks")


def gradient(i: int, order: str = "C") -> dict[str, Any]:
    """A tree of arrays of several dtypes, empty ones and numbers among them."""
    own = random.fold_in(KEY, i)
    image = np.moveaxis(random.normal(own, (3, 5, 2, 4)), 0, -1)  # batch last
    return {
        "a": {"weight": random.normal(own, (7, 5)).T if order == "T" else random.normal(own, (5, 7))},
        "image": image,
        "double": random.normal(own, (3,), dtype=np.float64),
        "empty": np.zeros((0, 4), np.float32),
        "number": np.float32(i) * np.ones(()),
    }


# --- the exchange -------------------------------------------------------------------------------------


@pytest.mark.threads
@pytest.mark.parametrize("ranks", [2, 3, 5, 8])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_sum_over_ranks_is_that_of_one_process(ranks: int, count: int) -> None:
    grads = [gradient(i, "T") for i in range(count)]
    wanted = added_up(grads)

    def work(engine: Engine) -> Any:
        return engine.added(lambda: [grads[i] for i in engine.own(count)])

    for total in on_ranks(ranks, work):
        assert digest(total) == digest(wanted)
        for (_, leaf), (_, other) in zip(tree.leaves(total), tree.leaves(wanted), strict=True):
            assert leaf.strides == other.strides or leaf.size < 2
            assert leaf.flags.owndata or leaf.base.flags.owndata


@pytest.mark.threads
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_parts_meet_in_their_order_on_every_rank(ranks: int) -> None:
    parts = [
        (np.full((2, 3), i).T, {"y": random.normal(KEY, (3, 4, 5)).transpose(2, 0, 1)})
        for i in range(5)
    ]
    found = on_ranks(ranks, lambda engine: engine.gathered(lambda: [parts[i] for i in engine.own(5)]))
    for all_parts in found:
        assert [digest(part) for part in all_parts] == [digest(part) for part in parts]
        for part, wanted in zip(all_parts, parts, strict=True):
            for (_, leaf), (_, other) in zip(tree.leaves(part), tree.leaves(wanted), strict=True):
                assert leaf.strides == other.strides  # the sums of others depend on it


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 100])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 13])
def test_ranks_own_parts_side_by_side(ranks: int, count: int) -> None:
    class Comm:
        size = ranks

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def allgather(self, said: Any) -> list[Any]:
            return [said] * self.size

    own = [Engine(Comm(rank)).own(count) for rank in range(ranks)]
    assert [i for part in own for i in part] == list(range(count))
    assert max(map(len, own)) - min(map(len, own)) <= 1
    assert count == 0 or own[0][0] == 0


@pytest.mark.threads
def test_an_error_of_one_rank_is_raised_on_all() -> None:
    def work(engine: Engine) -> str:
        def fail() -> list[Any]:
            if engine.rank == 1:
                checks.refuse("`x` is wrong", "dense")
            return []

        for call in (engine.gathered, engine.added):
            with pytest.raises(checks.RefusedValue, match="dense: `x` is wrong") as caught:
                call(fail)
        assert caught.value.__notes__ == ["on rank 1 of 3"]
        with pytest.raises(RuntimeError, match="Odd: what cannot be sent"):
            engine.first(odd)
        return engine.first(lambda: f"of {engine.rank}")

    assert on_ranks(3, work) == ["of 0"] * 3


def odd() -> None:
    class Odd(Exception):
        pass

    raise Odd("what cannot be sent")


@pytest.mark.threads
def test_ranks_that_disagree_are_refused_by_name() -> None:
    def work(engine: Engine) -> None:
        engine.agree(lambda: {"weights": 1, "key": engine.rank // 2}, lambda one, other: one == other)

    with pytest.raises(
        ValueError, match=r"^ranks must agree on the key: rank 2 on \S+ has 1, rank 0 on \S+ 0$"
    ):
        on_ranks(4, work)
    on_ranks(2, work)

    def differ_late(engine: Engine) -> None:
        net = "x" * 300 + str(engine.rank) + "y" * 300
        engine.agree(lambda: {"net": net}, lambda one, other: one == other)

    with pytest.raises(
        ValueError, match=r"rank 1 on \S+ has \.\.\.x+1y+\.\.\..*, rank 0 on \S+ \.\.\.x+0y+"
    ) as caught:
        on_ranks(2, differ_late)
    assert len(str(caught.value)) < 300


def test_the_model_of_an_exchange_finds_latency_and_bandwidth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    cost: Any = import_module("cost_of_ranks")
    network = cost.Network(2e-6, 10e9)
    for messages in (cost.ours, cost.theirs):
        rows = [
            (ranks, size, network.seconds(messages(ranks), cost.sent(ranks, size)))
            for ranks in (2, 4)
            for size in cost.SIZES
        ]
        np.testing.assert_allclose(cost.fitted(messages, rows), network, rtol=1e-6)
    cost.show_model("net", 5e-3, 669_706, network, network)
    *ranks, end = capsys.readouterr().out.splitlines()
    assert "512 ranks, modelled: 2.61 ms, Allreduce 0.57 ms; 66% of full speed" in ranks[2]
    assert end == "  net: half of full speed up to 1024 ranks; one batch in all is fastest on 32"


# --- training -----------------------------------------------------------------------------------------


@pytest.mark.threads
@pytest.mark.parametrize(
    ("name", "mode", "ranks"),
    [
        ("cnn", "fast", 3), ("lstm", "fast", 2), ("transformer", "fast", 3), ("batch norm", "fast", 3),
        ("cnn", "portable", 2), ("batch norm", "portable", 2),
    ],
)  # fmt: skip
def test_a_training_has_the_same_bits_on_ranks(prove: Any, name: str, mode: str, ranks: int) -> None:
    alone = prove.train(name, mode, 2, None)
    assert on_ranks(ranks, lambda engine: prove.train(name, mode, 1, engine)) == [alone] * ranks


@pytest.mark.threads
@pytest.mark.parametrize("shards", [None, 3])
def test_trees_and_losses_that_couple_a_batch_meet_on_all_ranks(shards: int | None) -> None:
    net: Any = serial(each(dense(6), dense(6)), merge("concatenate"))
    x, y = (random.normal(KEY, (70, 3)), random.normal(KEY, (70, 4))), np.arange(70) % 35
    _, params = net.init(KEY, ((70, 3), (70, 4)))

    def work(engine: Any) -> str:
        step = value_and_grad(net, contrastive(), shards=shards, engine=engine)
        whole = step(params, x, y, KEY), predict(net, params, x, engine=engine)
        record = evaluate(net, params, data.Dataset(x, y), contrastive(), engine=engine)
        return digest({"step": whole[0], "prediction": whole[1], "record": record})

    assert set(on_ranks(3, work)) == {work(None), work(Engine())}


def test_each_rank_reads_its_own_part_of_a_batch() -> None:
    images = random.normal(KEY, (10, 3))
    read: list[int] = []

    def seen(rows: Any) -> Any:
        read.append(len(rows))
        return rows * 2

    batches = data.Batches(data.Dataset(data.prepared(images, seen), np.arange(10)), 4)
    late, now = (batches.batch(KEY, 1, 1, late=late) for late in (True, False))
    read.clear()
    assert digest(late.x[1:3]) == digest(now.x[1:3])
    assert read == [2]
    assert digest((late.x[:], late.y)) == digest((now.x, now.y))
    assert (late.x.shape, late.x.dtype, len(late)) == (now.x.shape, now.x.dtype, 4)
    shifted = batches._replace(augment=lambda key, x: x + 1)
    assert isinstance(shifted.batch(KEY, 0, 0, late=True).x, np.ndarray)
    mixed = batches._replace(augment=data.mixup(10), dataset=data.Dataset(images, np.arange(10)))
    assert isinstance(mixed.batch(KEY, 0, 0, late=True).x, np.ndarray)
    fortran = batches._replace(dataset=data.Dataset(np.asfortranarray(images), np.arange(10)))
    assert isinstance(fortran.batch(KEY, 0, 0, late=True).x, np.ndarray)  # whose parts lie otherwise


AUGMENTATIONS = [
    data.random_flip(), data.random_flip(0.3, vertical=True), data.random_shift(2), data.cutout(3),
    data.random_crop(5, padding=1), data.random_affine(rotation=20, scale=0.1, shear=0.1, shift=1.0),
    data.augmentations(data.random_shift(1), data.augmentations(data.random_flip(), data.cutout(2))),
]  # fmt: skip


@pytest.mark.parametrize("augment", AUGMENTATIONS, ids=repr)
def test_each_rank_changes_its_own_part_of_a_batch(augment: Any) -> None:
    read: list[int] = []

    def seen(rows: Any) -> Any:
        read.append(len(rows))
        return rows

    images, masks = random.normal(KEY, (30, 2, 7, 8)), random.uniform(KEY, (30, 1, 7, 8))
    x = {"image": data.prepared(images, seen), "mask": masks, "age": np.arange(30.0)}
    for some in (x, x["image"]):
        batches = data.Batches(data.Dataset(some, np.arange(30)), 16, augment=augment)
        late, now = (batches.batch(KEY, 1, 0, late=late) for late in (True, False))
        read.clear()
        assert digest(taken(late.x, slice(3, 6))) == digest(taken(now.x, slice(3, 6)))
        assert read == [3]
        assert digest(tree.map(lambda leaf: leaf[:], late.x)) == digest(now.x)
        assert digest(late.y) == digest(now.y)


def test_all_augmentations_are_there() -> None:
    made = [name for name in augmentation.__all__ if name not in ("Augmentation", "augmentations")]
    assert [name for name in made if not any(repr(one).startswith(name) for one in AUGMENTATIONS)] == []


def test_an_augmentation_that_refuses_says_so_late_as_well() -> None:
    dataset = data.Dataset(np.zeros((9, 1, 4, 4), np.float32), np.arange(9))
    batches = data.Batches(dataset, 4, augment=data.random_crop(5))
    for late in (False, True):
        with pytest.raises(ValueError, match=r"^random_crop: `x` must be at least 5 x 5, got shape \("):
            _ = batches.batch(KEY, 0, 0, late=late).x[:2]


@pytest.mark.threads
def test_each_rank_loads_its_own_part_of_a_batch() -> None:
    read: list[int] = []

    def pictures(key: Any, epoch: int, step: int) -> Any:
        def seen(places: Any) -> Any:
            read.extend(places)
            return random.normal(KEY, (40, 6))[places]

        places = random.permutation(random.fold_in(key, epoch), 40)[step * 20 : step * 20 + 20]
        return data.prepared(places, seen), places % 3

    train = data.Loader(pictures, 2)
    net, loss = serial(dense(3)), softmax_cross_entropy()

    def work(engine: Any) -> str:
        result = fit(
            net, loss, optimizers.sgd(0.1), train, key=KEY, epochs=2, shards=4, workers=1,
            engine=engine, progress=False,
        )  # fmt: skip
        return digest(result.params)

    late = train.batch(KEY, 1, 1, late=True)
    read.clear()
    assert digest(late.x[4:6]) == digest(train.batch(KEY, 1, 1).x[4:6])
    assert len(read) == 2 + 20
    assert set(on_ranks(2, work)) == {work(None)}


@pytest.mark.threads
def test_a_training_with_augmentations_has_the_same_bits_on_ranks(prove: Any) -> None:
    augment = data.augmentations(data.random_flip(), data.random_affine(rotation=10, shift=1.0))

    def work(engine: Any) -> Any:
        return prove.train("cnn", "fast", 1, engine, augment=augment)

    assert set(on_ranks(3, work)) == {work(None)}


# --- what couples a batch -----------------------------------------------------------------------------

LARGE = np.array([1.0, 1e30, 1e-30, 1e4, 1.0]), np.array([0.0, 0.0, 0.0, 1e7, 3.0])
NETS: dict[str, Any] = {
    "vectors": serial(dense(5), batch_norm(), relu(), dense(3)),
    "without affine": serial(batch_norm(affine=False, track_running=False), dense(3)),
    "rematerialised": serial(dense(5), remat(serial(batch_norm(), relu())), batch_norm(), dense(3)),
    "side by side": serial(residual(serial(dense(5), batch_norm())), dense(3)),
    "as in inference": serial(inference_mode(batch_norm()), dense(3)),
}


def batch(dtype: Any) -> tuple[Any, Any]:
    """Examples with a constant feature, and with features of all sizes."""
    x = random.normal(KEY, (8, 5), dtype=np.float64) * LARGE[0] + LARGE[1]
    x[:, 4] = 3.0
    return x.astype(dtype), np.arange(8) % 3


def gradients(net: Any, shards: int | None, dtype: Any = np.float64, engine: Any = None) -> Any:
    x, y = batch(dtype)
    params = tree.map(lambda leaf: leaf.astype(dtype), net.init(KEY, x.shape)[1])
    step = value_and_grad(net, softmax_cross_entropy(), statistics=True, shards=shards, engine=engine)
    return step(params, x, y, KEY)


def assert_close(one: Any, other: Any) -> None:
    for (path, leaf), (_, wanted) in zip(tree.leaves(one), tree.leaves(other), strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-9, atol=1e-9, err_msg=path)


@pytest.mark.threads
@pytest.mark.parametrize("name", NETS)
def test_a_network_that_couples_its_batch_is_the_same_when_cut(name: str) -> None:
    whole = gradients(NETS[name], None)
    for shards in (1, 2, 8, 100):
        assert_close(gradients(NETS[name], shards), whole)


CUT = [
    pytest.param(case, id=case.id)
    for case in registry.layers()
    if has_trait(case.layer.spec, "meets_shards") and not has_trait(case.layer.spec, "stochastic")
]
STATISTICS = [
    pytest.param(case, id=case.id)
    for case in registry.layers()
    if has_trait(case.layer.spec, "statistics")
]


def test_every_layer_that_couples_its_batch_meets_shards() -> None:
    specs = [case.layer.spec for case in registry.layers()]
    assert [s for s in specs if has_trait(s, "couples_batch", without="meets_shards")] == []


@pytest.mark.threads
@pytest.mark.parametrize("case", CUT)
def test_every_layer_that_meets_shards_is_the_same_when_cut(case: registry.Case) -> None:
    subject = registry.subject(case)
    params, x = subject.params, subject.x
    out, cache = case.layer.apply(params, x, key=KEY)
    dout = subject.dout(out)
    dparams, dx = case.layer.vjp(cache, dout)
    count = len(tree.leaves(x)[0][1])
    caches: dict[int, Any] = {}

    def forward(i: int) -> Any:
        one, caches[i] = case.layer.apply(params, taken(x, slice(i, i + 1)), key=KEY)
        return one

    def backward(i: int) -> Any:
        return case.layer.vjp(caches[i], taken(dout, slice(i, i + 1)))

    outs = in_lockstep(forward, count, 2, lambda say: say())
    slopes = in_lockstep(backward, count, 2, lambda say: say())
    assert_close(concatenated(outs), out)
    assert_close(concatenated([own for _, own in slopes]), dx)
    assert_close(added_up([own for own, _ in slopes]), dparams)
    for i in range(count):
        assert_close(statistics(case.layer, caches[i]), statistics(case.layer, cache))


@pytest.mark.threads
@pytest.mark.parametrize("case", STATISTICS)
def test_every_layer_with_statistics_has_one_digest_on_ranks(case: registry.Case) -> None:
    subject = registry.subject(case)
    target = subject.dout(case.layer.apply(subject.params, subject.x, key=KEY)[0])
    loss = Loss(_total, lambda target: target, Spec(mean_squared_error))

    def work(engine: Engine) -> str:
        step = value_and_grad(case.layer, loss, statistics=True, shards=3, engine=engine)
        return digest(step(subject.params, subject.x, target, KEY)[1:])

    assert set(on_ranks(3, work)) == {work(Engine())}


def _total(prediction: Any, target: Any) -> tuple[Any, Any]:
    pairs = zip(tree.leaves(prediction), tree.leaves(target), strict=True)
    return sum(float((one * other).sum()) for (_, one), (_, other) in pairs), target


@pytest.mark.threads
def test_a_layer_that_does_not_meet_others_is_seen() -> None:
    def centre() -> Any:
        def apply(params: Any, x: Any, *, key: Any = None) -> Any:
            return x - x.mean(0), None

        def vjp(cache: Any, dout: Any) -> Any:
            return {}, dout - dout.mean(0)

        return Layer(lambda key, shape: (shape, {}), apply, vjp, Spec(centre, traits=traits))

    traits = frozenset[Trait]({"couples_batch", "meets_shards"})
    with pytest.raises(AssertionError):
        assert_close(
            gradients(serial(centre(), dense(3)), 4), gradients(serial(centre(), dense(3)), None)
        )
    traits = frozenset[Trait]({"couples_batch"})
    text = (
        r"^value_and_grad: `shards` must be left out for a network with a layer that couples its batch"
    )
    with pytest.raises(ValueError, match=text):
        gradients(serial(centre(), dense(3)), 4)


@pytest.mark.threads
@pytest.mark.parametrize(("ranks", "shards"), [(3, 8), (4, 2), (8, 3)])
def test_shards_that_meet_have_the_same_bits_on_any_number_of_ranks(ranks: int, shards: int) -> None:
    net = NETS["rematerialised"]
    alone = digest(gradients(net, shards, np.float32))
    found = on_ranks(ranks, lambda engine: digest(gradients(net, shards, np.float32, engine)))
    assert found == [alone] * ranks


@pytest.mark.threads
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_shard_that_fails_while_others_wait_says_why(ranks: int) -> None:
    net = serial(embedding(5, 4), flatten(), batch_norm(), dense(3))
    x, y = np.arange(12).reshape(6, 2) % 5, np.arange(6) % 3
    _, params = net.init(KEY, x.shape)
    x[4, 1] = 7

    def work(engine: Any) -> None:
        step = value_and_grad(net, softmax_cross_entropy(), statistics=True, shards=6, engine=engine)
        step(params, x, y, KEY)

    with pytest.raises(ValueError, match=r"^embedding1: .* 7"):
        on_ranks(ranks, work)
    x[4, 1] = 4
    on_ranks(ranks, work)


@pytest.mark.threads
def test_shards_that_meet_need_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def start(thread: Any) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        threading_start(thread)

    threading_start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    text = r"^value_and_grad: `shards` of a network that couples its batch need a thread each: can't"
    with pytest.raises(ValueError, match=text):
        gradients(NETS["vectors"], 8)
    assert not any(thread.is_alive() for thread in started)


# --- MPI ----------------------------------------------------------------------------------------------


def run(prove: Any, ranks: int, *action: str) -> subprocess.CompletedProcess[str]:
    needs_mpi()
    found: subprocess.CompletedProcess[str] = prove.mpiexec(
        ranks, "-m", "tests.mpi_programs", *action, timeout=120
    )
    return found


def needs_mpi() -> None:
    beside = Path(sys.executable).parent / "mpiexec"
    if find_spec("mpi4py") is None or not (beside.exists() or shutil.which("mpiexec")):
        pytest.skip("mpi4py or mpiexec is not installed")


@pytest.mark.threads
def test_ranks_of_mpi_agree_or_say_why_not_and_an_error_of_one_ends_all(prove: Any) -> None:
    done = run(prove, 3, "agree_and_fail")
    assert done.returncode
    line = r"^funcnn: rank 1 of 3 on \S+ ends the run: OSError: the disk is gone$"
    assert re.search(line, done.stderr, re.M), done.stderr
    assert "has died" not in done.stderr  # nobody has
    said = set(done.stdout.splitlines())
    for name in ("cnn", "batch norm"):
        said.remove(f"{name}: {prove.train(name, 'fast', 2, None)}")
    wanted = {
        "train": r"train: .* rank 0 .*", "key": r"key: rank 2 on \S+ has .*",
        "epochs": r"epochs: .* has 3, .* 2", "shards": r"shards: .* has 5, .* 4",
        "optimizer": r"optimizer: .*", "patience": r"patience: .*",
        "checkpoint": r"checkpoint: .* has none, rank 0 on \S+ one",
    }  # fmt: skip
    assert len(said) == len(wanted)  # every rank has said the same
    for line in said:
        option, _, text = line.partition(": ")
        assert re.fullmatch(f"fit: ranks must agree on the {wanted[option]}", text), line
        assert len(text) < 300


def died(rank: int, ranks: int) -> str:
    """The words for a rank that has died: ours, or those of Open MPI's launcher."""
    open_mpis = rf"rank {rank} with PID \d+ on node \S+ exited|Process name: \S+@1,{rank}\]"
    return rf"rank {rank} of {ranks} on \S+ has died|{open_mpis}"


ENDS = f"rank 1 of 3 on {platform.node()} ends the run: "
ENDED = f"{ENDS}its script has ended, and other ranks wait for it"


@pytest.mark.threads
def test_sweeps_within_sweeps_and_a_rank_that_leaves(prove: Any) -> None:
    done = run(prove, 3, "sweep_and_leave", "sys.exit")
    assert done.returncode
    assert re.findall("funcnn: (.*)", done.stderr) == [ENDED]
    rows, _, error = done.stdout.partition(" RefusedValue: ")
    assert rows == "[[2, 0], [2, 2], None, None]"
    assert re.fullmatch("`engine` must be left out in a run of a sweep, got rank . of 3\n", error)


@pytest.mark.slow
@pytest.mark.threads
@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("ends", ENDED),
        ("raises", f"{ENDS}ZeroDivisionError: division by zero"),
        ("Ctrl-C", f"{ENDS}KeyboardInterrupt"),
        ("os._exit", None),
        ("SIGTERM", None),
        ("elsewhere", None),
    ],
)
def test_ways_to_leave(prove: Any, how: str, line: str | None) -> None:
    done = run(prove, 3, "leave", how)
    assert done.returncode
    if line is None:
        assert re.search(died(1, 3), done.stderr), done.stderr
        assert done.stderr.count("has died") <= 1  # who was ended by the launcher is not named
    else:
        assert re.findall("funcnn: (.*)", done.stderr) == [line]


def killed(path: Path, rank: int, ranks: int, moment: float) -> None:
    """Kill one rank of a training, some time after it has begun."""
    prove: Any = import_module("prove_ranks")
    with prove.started(ranks, "-m", "tests.mpi_programs", "go_on", str(path)) as job:
        try:
            while not path.exists():
                time.sleep(0.01)
                assert job.poll() is None, job.communicate()
            time.sleep(moment)
            pids = path.with_suffix(".npz.pids").read_text().split()
            os.kill(int(pids[rank]), signal.SIGKILL)
            _, said = job.communicate(timeout=30)
        finally:
            job.kill()
    assert job.returncode
    assert re.search(died(rank, ranks), said), said
    assert said.count("has died") <= 1


@pytest.mark.threads
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_rank_that_is_killed_ends_all_and_the_checkpoint_is_whole(prove: Any, tmp_path: Path) -> None:
    needs_mpi()
    path = tmp_path / "run.npz"
    killed(path, 2, 3, 0.3)
    epochs = checkpoints.load(path)[1]["cursor"]["epoch"] + 1
    end = prove.train("batch norm", "fast", 2, None, epochs=epochs)
    assert prove.train("batch norm", "fast", 2, None, epochs=epochs, resume=path) == end


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the other kernels are those of x86-64")
def test_processors_mix_in_portable_mode_alone(prove: Any) -> None:
    done = run(prove, 2, "mix")
    refusal, end = done.stdout.splitlines()
    text = r"fit: ranks must agree on the processor: rank 1 on \S+ has .*Nehalem.*, rank 0 on \S+ .*"
    assert re.fullmatch(text, refusal), done.stdout + done.stderr
    assert end == prove.train("cnn", "portable", 2, None)


@pytest.mark.slow
@pytest.mark.threads
@pytest.mark.parametrize("seed", range(20))
def test_ranks_killed_at_any_moment(prove: Any, tmp_path: Path, seed: int) -> None:
    needs_mpi()
    path, ranks = tmp_path / "run.npz", 2 + seed % 3
    moment = float(random.uniform(random.key(seed), (), 0.0, 1.5))
    killed(path, seed % ranks, ranks, moment)
    epochs = checkpoints.load(path)[1]["cursor"]["epoch"] + 1
    end = prove.train("batch norm", "fast", 1, None, epochs=epochs)
    again = 1 + (seed + 1) % 4
    assert f"end: {end}" in run(prove, again, "resume", str(path), str(epochs)).stdout


@pytest.mark.slow
@pytest.mark.threads
def test_a_rank_that_is_stopped_makes_the_others_wait_and_changes_nothing(
    prove: Any, tmp_path: Path
) -> None:
    needs_mpi()
    path = tmp_path / "run.npz"
    with prove.started(3, "-m", "tests.mpi_programs", "stop_and_go", str(path)) as job:
        while not (pid := path.with_suffix(".pid")).exists():
            time.sleep(0.01)
            assert job.poll() is None, job.communicate()
        time.sleep(0.3)
        os.kill(int(pid.read_text()), signal.SIGSTOP)
        time.sleep(4)
        assert job.poll() is None
        os.kill(int(pid.read_text()), signal.SIGCONT)
        said, errors = job.communicate(timeout=60)
    assert job.returncode == 0, errors
    assert said == f"end: {prove.train('cnn', 'fast', 1, None, epochs=60)}\n"


@pytest.mark.slow
@pytest.mark.threads
@pytest.mark.parametrize("mode", ["fast", "portable"])
def test_one_digest_for_any_number_of_ranks_and_threads(prove: Any, mode: str) -> None:
    needs_mpi()
    found = prove.digests([1, 2, 3, 4, 8], [mode], [1, 2], list(prove.CASES))
    assert [len(set(row.values())) for row in found.values()] == [1] * len(prove.CASES)
    assert {len(row) for row in found.values()} == {10}


def test_the_script_of_the_documentation_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "how-to" / "cluster.md").read_text()
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    exec(compile(script, "train.py", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.startswith("[")
    assert (tmp_path / "run.npz").exists()


def test_mpi_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "mpi4py"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r'^mpi4py is needed: pip install "funcnn\[mpi\]"$'):
        distributed.mpi()


@pytest.mark.parametrize("comm", [3, "world", object])
def test_what_is_no_communicator_is_refused(comm: Any) -> None:
    for make in (Engine, distributed.mpi):
        with pytest.raises(TypeError, match=r"`comm` must be an MPI communicator, got"):
            make(comm)
