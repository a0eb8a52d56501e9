"""Data: files are read exactly or refused in one line; batches and changes are functions of a key."""

from __future__ import annotations

import gzip
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    data,
    dense,
    evaluate,
    fit,
    numerics,
    predict,
    random,
    sgd,
    softmax_cross_entropy,
    tree,
)
from funcnn.data import Batches, Dataset
from funcnn.data.mixing import _beta
from funcnn.types import Array, Key

KEY = random.key(0)
IMAGES = random.uniform(random.key(1), (6, 3, 8, 8))
LABELS = np.arange(6) % 3


def idx(array: Array, code: int = 8) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, stem: str, count: int = 20, zipped: bool = False) -> tuple[Array, Array]:
    images = random.randint(random.fold_in(KEY, stem), (count, 28, 28), 0, 256).astype(np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = idx(array)
        file = folder / f"{stem}-{name}-ubyte{'.gz' if zipped else ''}"
        file.write_bytes(gzip.compress(content) if zipped else content)
    return images, labels


# --- IDX and MNIST --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")],
)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 3), ()])
def test_idx_files_are_read_back(tmp_path: Path, code: int, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    plain, zipped = tmp_path / "plain", tmp_path / "zipped"
    plain.write_bytes(idx(array, code))
    zipped.write_bytes(gzip.compress(idx(array, code)))
    for found in (data.read_idx(plain), data.read_idx(zipped)):
        assert np.array_equal(found, array)
        assert found.dtype == array.dtype
        assert found.dtype.isnative
    mapped = data.read_idx(plain, memory_map=True)
    assert np.array_equal(mapped, array)
    assert not mapped.flags.writeable


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an IDX file, got nothing"),
        (b"\x89PNG", "must be an IDX file, got 89504e47"),
        (bytes([0, 0, 7, 1, 0, 0, 0, 1, 5]), "must be an IDX file, got 00000701"),
        (bytes([0, 0, 8, 3, 0, 0]), "must have a header of 16 bytes, got 6"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"must have 18 bytes for shape \(2, 3\), got 17"),
        (bytes([0, 0, 8, 65]) + b"\0\0\0\1" * 65 + b"x", "must have a shape that NumPy can hold: "),
        (bytes([0, 0, 8, 3]) + bytes(4) + b"\xff" * 8, "must have a shape that NumPy can hold: "),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", r"must have 18 bytes for shape \(2, 3\), got 19"),
    ],
)
def test_broken_idx_files_are_refused(
    tmp_path: Path, content: bytes, message: str, memory_map: bool
) -> None:
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(ValueError, match=f"^read_idx: .*broken {message}"):
        data.read_idx(tmp_path / "broken", memory_map=memory_map)


def test_a_gzip_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(idx(np.arange(60, dtype=np.uint8).reshape(3, 20)))
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^read_idx: .*cut must "):
            data.read_idx(tmp_path / "cut")


def test_zipped_files_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "zipped").write_bytes(gzip.compress(idx(np.zeros(3, np.uint8))))
    with pytest.raises(ValueError, match="must be unzipped to be memory-mapped"):
        data.read_idx(tmp_path / "zipped", memory_map=True)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_read(tmp_path: Path, zipped: bool) -> None:
    for part, stem in (("train", "train"), ("test", "t10k")):
        images, labels = write_mnist(tmp_path, stem, zipped=zipped)
        found = data.mnist(tmp_path, part)
        assert found.x.dtype == np.float32
        assert np.array_equal(found.x, images[:, None].astype(np.float32) / np.float32(255))
        assert np.array_equal(found.y, labels)
        assert found.y.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("labels-idx1", np.zeros(19, np.uint8), "one label for each image, got 19 for 20"),
        ("labels-idx1", np.full(20, 10, np.uint8), r"`labels` must lie in 0..9, got 10"),
        ("labels-idx1", np.zeros((20, 1), np.uint8), "must hold byte images"),
        ("images-idx3", np.zeros(20, np.uint8), "must hold byte images"),
    ],
)
def test_mnist_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, array: Array, message: str
) -> None:
    write_mnist(tmp_path, "train")
    (tmp_path / f"train-{name}-ubyte").write_bytes(idx(array))
    with pytest.raises(ValueError, match=f"^mnist: .*{message}"):
        data.mnist(tmp_path)


# --- CIFAR-10 -------------------------------------------------------------------------------------


def cifar_records(count: int, salt: int) -> Array:
    own = random.fold_in(KEY, salt)
    records = random.randint(own, (count, 3073), 0, 256).astype(np.uint8)
    records[:, 0] %= 10
    return records


def test_cifar10_is_read(tmp_path: Path) -> None:
    parts = [cifar_records(3, i) for i in range(1, 6)]
    for i, records in enumerate(parts, 1):
        (tmp_path / f"data_batch_{i}.bin").write_bytes(records.tobytes())
    found = data.cifar10(tmp_path)
    everything = np.concatenate(parts)
    assert found.x.shape == (15, 3, 32, 32)
    assert found.x.dtype == np.float32
    assert np.array_equal(found.y, everything[:, 0])
    green = everything[4, 1 + 1024 + 2 * 32 + 5]  # channel 1, row 2, column 5 of the fifth image
    assert found.x[4, 1, 2, 5] == np.float32(green) / np.float32(255)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must hold test_batch.bin"),
        (b"", "must have records of 3073 bytes, got 0"),
        (bytes(3072), "must have records of 3073 bytes, got 3072"),
        (bytes(3074), "must have records of 3073 bytes, got 3074"),
        (bytes([10]) + bytes(3072), r"labels in .*test_batch.bin` must lie in 0\.\.9, got 10"),
    ],
)
def test_broken_cifar10_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(ValueError, match=f"^cifar10: .*{message}"):
        data.cifar10(tmp_path, "test")


# --- CSV ------------------------------------------------------------------------------------------


def csv_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "table.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_csv_is_read(tmp_path: Path) -> None:
    file = csv_file(tmp_path, 'length,"species, coded",width\n1.5,0,-2e-3\n\n 4 ,2,8\n')
    x, y = data.read_csv(file, "species, coded")
    assert np.array_equal(x, np.array([[1.5, -2e-3], [4, 8]], np.float32))
    assert x.dtype == np.float32
    assert y.tolist() == [0, 2]
    assert y.dtype == np.int64
    assert np.array_equal(data.read_csv(file, 1).y, y)
    numbers = data.read_csv(file, kind="number").y
    assert numbers.dtype == np.float32
    assert numbers.tolist() == [[np.float32(-2e-3)], [8]]
    bare = csv_file(tmp_path, "1;2\n3;4")
    assert data.read_csv(bare, 0, header=False, delimiter=";").y.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "must have at least one line of numbers"),
        ("a,b\n", {}, "must have at least one line of numbers"),
        ("1,2\n3,4\n", {}, "must have names in line 1: write header=False"),
        ("a,b\n1,2\n", {"header": False}, "must have a number in line 1, column 1, got 'a'"),
        ("a,b\n1,0\n2,\n", {}, "must have a number in line 3, column 2, got ''"),
        ("a,b\n1,0\nnan,1\n", {}, "must have a number in line 3, column 1, got 'nan'"),
        ("a,b\n1_0,0\n", {}, "must have a number in line 2, column 1, got '1_0'"),
        ("a,b\n1,0\n\n\n1,2,3\n", {}, "must have 2 columns in line 5, got 3"),
        ("a,b\n1,0\n2,1.5\n", {}, "must have whole numbers from 0 as classes, got 1.5 in line 3"),
        ("a,b\n1,-1\n", {}, "must have whole numbers from 0 as classes, got -1 in line 2"),
        ("a,b\n1,0\n", {"target": "c"}, "must have a column 'c', got a, b"),
        ("a,b\n1,0\n", {"target": 2}, "must have a column 2, got 2 columns"),
        ('a,b\n"1,0\n', {}, "must be a table in UTF-8"),
        ("a,b\n1e39,0\n", {}, "must have a number in line 2, column 1, got '1e39'"),
        ("a,b\n1,-1e39\n", {"kind": "number"}, "must have a number in line 2, column 2, got '-1e39'"),
        ("a,b\n1,9007199254740993\n", {}, "must have whole numbers from 0 as classes"),
        ("a,a\n1,0\n", {"target": "a"}, "must have one column 'a': write its place"),
        ("b\n1\n", {}, "must have a column beside the one to be predicted"),
    ],
)
def test_broken_csv_is_refused(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^read_csv: .*table.csv {message}"):
        data.read_csv(csv_file(tmp_path, text), **options)


@pytest.mark.parametrize("delimiter", ["", ";;", 3])
def test_delimiters_that_are_none_are_refused(tmp_path: Path, delimiter: Any) -> None:
    message = f"^read_csv: `delimiter` must be one character, got {delimiter!r}$"
    with pytest.raises(TypeError, match=message):
        data.read_csv(csv_file(tmp_path, "a,b\n1,0\n"), delimiter=delimiter)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(ValueError, match="must be a table in UTF-8"):
        data.read_csv(tmp_path / "table.csv")


# --- npz and npy ----------------------------------------------------------------------------------


def test_npz_is_read(tmp_path: Path) -> None:
    file = tmp_path / "set.npz"
    np.savez_compressed(file, x=IMAGES, y=LABELS)
    found = data.read_npz(file)
    assert np.array_equal(found.x, IMAGES)
    assert np.array_equal(found.y, LABELS)


def test_broken_npz_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "set.npz"
    np.savez(file, x=IMAGES, y=LABELS[:-1])
    with pytest.raises(ValueError, match="must have one target for each example"):
        data.read_npz(file)
    with pytest.raises(ValueError, match="it has no 'z', only x, y"):
        data.read_npz(file, "x", "z")
    np.savez(file, x=np.array([object()]), y=LABELS[:1])
    with pytest.raises(ValueError, match=r"^read_npz: .*must be a whole .npz file"):
        data.read_npz(file)
    np.savez(file, x=IMAGES, y=LABELS)
    whole = file.read_bytes()
    for length in [*range(40), *range(40, len(whole), 37)]:
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^read_npz: .*must be a whole .npz file"):
            data.read_npz(file)
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(ValueError, match="it is one array, not several"):
        data.read_npz(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError):
        data.read_npz(tmp_path / "nowhere.npz")


def test_broken_npy_is_refused(tmp_path: Path) -> None:
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, IMAGES)
    np.save(y, LABELS[:-1])
    with pytest.raises(ValueError, match="must have one target for each example"):
        data.read_npy(x, y)
    np.save(y, LABELS)
    whole = x.read_bytes()
    for length in [0, 1, 50, 127, 128, 129, len(whole) - 1]:
        x.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^read_npy: .*must be a whole .npy file"):
            data.read_npy(x, y)
    np.savez(x.with_suffix(".npz"), x=IMAGES)
    with pytest.raises(ValueError, match=r"must be a \.npy file, got several arrays"):
        data.read_npy(x.with_suffix(".npz"), y)


# --- larger than memory ---------------------------------------------------------------------------


def test_a_mapped_set_trains_to_the_same_bits(tmp_path: Path) -> None:
    flat = IMAGES.reshape(6, -1)
    np.save(tmp_path / "x.npy", flat)
    np.save(tmp_path / "y.npy", LABELS)
    mapped = data.read_npy(tmp_path / "x.npy", tmp_path / "y.npy")
    loss = softmax_cross_entropy()
    runs = [
        fit(dense(3), loss, sgd(0.1), train, key=KEY, epochs=2, batch_size=4, validation=train)
        for train in (Dataset(flat, LABELS), mapped)
    ]
    assert tree.equal(runs[0].params, runs[1].params)


def test_batches_of_a_mapped_set_copy_no_more_than_the_batch(tmp_path: Path) -> None:
    count, features = 20_000, 250  # 20 MB on the disk
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (count, features))
    file[:] = np.arange(count, dtype=np.float32)[:, None]
    del file
    np.save(tmp_path / "y.npy", np.arange(count))
    batches = Batches(data.read_npy(tmp_path / "x.npy", tmp_path / "y.npy"), 32)
    batches.batch(KEY, 0, 0)  # the order of the epoch is remembered
    tracemalloc.start()
    x, y = batches.batch(KEY, 0, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert type(x) is np.ndarray
    assert np.array_equal(x[:, 0], y)
    assert peak < 10 * x.nbytes


def test_bytes_on_the_disk_are_prepared_as_they_are_read(tmp_path: Path) -> None:
    _, labels = write_mnist(tmp_path, "train")
    whole = data.mnist(tmp_path)
    raw = data.read_idx(tmp_path / "train-images-idx3-ubyte", memory_map=True)
    late = Dataset(data.prepared(raw, data.pixels), labels.astype(np.int64))
    assert late.x.shape == whole.x.shape
    batch = Batches(late, 8).batch(KEY, 0, 1)
    assert np.array_equal(batch.x, Batches(whole, 8).batch(KEY, 0, 1).x)
    flat = data.prepared(raw, _flat_pixels)
    _, params = dense(10).init(KEY, (1, 784))
    wanted = predict(dense(10), params, whole.x.reshape(-1, 784))
    assert np.array_equal(predict(dense(10), params, flat), wanted)
    found = evaluate(dense(10), params, Dataset(flat, whole.y), softmax_cross_entropy())
    assert found["loss"] > 0
    again = pickle.loads(pickle.dumps(data.prepared(np.asarray(raw), data.pixels)))
    assert np.array_equal(again[:3], whole.x[:3])


def _flat_pixels(images: Array) -> Array:
    return data.pixels(images).reshape(len(images), -1)


@pytest.mark.parametrize(
    ("images", "kind"), [(np.zeros((2, 3, 3)), TypeError), (np.zeros((2, 3), np.uint8), ValueError)]
)
def test_pixels_refuses(images: Array, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^pixels: `images` must "):
        data.pixels(images)


# --- batches --------------------------------------------------------------------------------------


def test_an_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    batches = Batches(Dataset(np.arange(10.0), np.arange(10)), 4)
    orders = [
        np.concatenate([batches.batch(KEY, epoch, step).y for step in range(batches.steps)])
        for epoch in range(3)
    ]
    assert all(sorted(order.tolist()) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert np.array_equal(batches.batch(KEY, 1, 2).y, orders[1][8:])  # whatever was asked before
    plain = batches._replace(shuffle=False, drop_last=True)
    assert plain.steps == 2
    assert plain.batch(KEY, 5, 1).y.tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("step", [-1, 3])
def test_a_step_that_is_not_there_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match=rf"^batch: `step` must lie in 0..2, got {step}"):
        Batches(Dataset(np.arange(10.0), np.arange(10)), 4).batch(KEY, 0, step)


def test_batches_refuse_sizes_below_one() -> None:
    with pytest.raises(ValueError, match=r"^Batches: `size` must be at least 1, got 0"):
        _ = Batches(Dataset(np.arange(10.0), np.arange(10)), 0).steps


def test_split_parts_without_loss() -> None:
    train, test = data.split(KEY, Dataset(np.arange(11.0), np.arange(11)), 0.25)
    assert (len(train), len(test)) == (8, 3)
    assert sorted([*train.y.tolist(), *test.y.tolist()]) == list(range(11))
    assert np.array_equal(train.x, train.y)


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"),
    [(100, 0.07, 7), (100, 0.29, 29), (7, 5 / 7, 5), (10, 0.1 + 0.2, 3), (10, 0.31, 4), (3, 1e-9, 1),
     (0, 0.5, 0), (5, 0, 0), (5, 1, 5), (1, 0.5, 1)],
)  # fmt: skip
def test_split_holds_out_as_many_as_the_fraction_says(
    count: int, fraction: float, held_out: int
) -> None:
    train, test = data.split(KEY, Dataset(np.arange(float(count)), np.arange(count)), fraction)
    assert (len(train), len(test)) == (count - held_out, held_out)


def test_split_holds_out_whole_parts_exactly() -> None:
    """Decimal fractions, and parts of the whole: rounding of the float moves none of them."""
    for count in (10, 49, 100, 200, 999, 1797):
        dataset = Dataset(np.arange(float(count)), np.arange(count))
        for part in range(0, count + 1, max(1, count // 60)):
            assert len(data.split(KEY, dataset, part / count)[1]) == part
        for percent in range(101):
            wanted = -(-percent * count // 100)
            assert len(data.split(KEY, dataset, percent / 100)[1]) == wanted
            assert len(data.split(KEY, dataset, 1 - (100 - percent) / 100)[1]) == wanted


def test_a_batch_owns_its_memory() -> None:
    base = np.arange(10.0)
    batch = Batches(Dataset(base, np.arange(10)), 4, shuffle=False).batch(KEY, 0, 0)
    assert not np.shares_memory(batch.x, base)


# --- data sets ------------------------------------------------------------------------------------

TREE = Dataset({"image": IMAGES, "size": (np.arange(6.0), LABELS)}, (LABELS, np.arange(6.0)))


def test_a_data_set_gives_what_is_asked_for() -> None:
    dataset = Dataset(IMAGES, LABELS)
    assert len(dataset) == 6
    for place in (0, 3, -1, np.int64(5), np.uint8(2)):
        x, y = dataset[place]
        assert np.array_equal(x, IMAGES[place])
        assert y == LABELS[place]
    mask = LABELS == 1
    indices: list[Any] = [slice(None, 4), slice(None, None, -2), slice(9, 12), mask, mask.tolist()]
    for index in [*indices, [3, 0], [], np.array([5, 5])]:
        part = dataset[index]
        assert type(part) is Dataset
        expected = np.arange(6)[index if np.size(index) else slice(0)]
        assert np.array_equal(part.x, IMAGES[expected])
        assert np.array_equal(part.y, LABELS[expected])
        assert np.array_equal(dataset.take(index).y, part.y)
    x, y = dataset
    assert x is IMAGES
    assert y is LABELS


def test_a_data_set_can_be_changed_and_pickled() -> None:
    dataset = Dataset(IMAGES, LABELS)
    other = dataset._replace(y=LABELS + 1)
    assert other.x is IMAGES
    assert np.array_equal(other.y, LABELS + 1)
    again = pickle.loads(pickle.dumps(dataset))
    assert type(again) is Dataset
    assert np.array_equal(again.x, IMAGES)
    with pytest.raises(AttributeError):
        dataset.x = IMAGES  # type: ignore[misc]


@pytest.mark.parametrize(
    ("index", "kind", "message"),
    [
        (6, IndexError, r"`index` must lie in -6\.\.5, got 6"),
        (-7, IndexError, r"`index` must lie in -6\.\.5, got -7"),
        (True, TypeError, "`index` must be an int, a slice, a mask or ints, .*, got True"),
        (1.0, TypeError, "`index` must be an int, a slice, a mask or ints, .*, got 1.0"),
        ((1, 2), TypeError, r"`index` must be an int, .*, got \(1, 2\)"),
        ("x", TypeError, "`index` must be an int, .*, got 'x'"),
        (np.zeros((6, 1), bool), TypeError, r"`index` must be an int, .*, got an array of"),
        (np.zeros(5, bool), ValueError, "`index` must be a mask of 6 examples, got 5"),
        ([0, 9], IndexError, r"^Dataset: `index` must lie in -6\.\.5, got 9$"),
        ([-7, 0], IndexError, r"^Dataset: `index` must lie in -6\.\.5, got -7$"),
        (np.array([6], np.uint8), IndexError, r"^Dataset: `index` must lie in -6\.\.5, got 6$"),
        ([10**30], TypeError, "^Dataset: `index` must be an int, a slice"),
        ([[1], [2, 3]], TypeError, "^Dataset: `index` must be an int, a slice"),
        ([1, None], TypeError, "^Dataset: `index` must be an int, a slice"),
        (slice("a"), TypeError, "^Dataset: `index` must be an int, a slice.*got slice"),
        (slice(None, None, 0), TypeError, "^Dataset: `index` must be an int, a slice.*got slice"),
        (slice(0.5), TypeError, "^Dataset: `index` must be an int, a slice.*got slice"),
        (None, TypeError, "^Dataset: `index` must be an int, a slice"),
        (..., TypeError, "^Dataset: `index` must be an int, a slice"),
    ],
)
def test_a_data_set_refuses_what_is_no_place(index: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Dataset(IMAGES, LABELS)[index]
    with pytest.raises(kind, match=message):
        TREE[index]


@pytest.mark.parametrize(
    ("x", "y", "kind", "message"),
    [
        (np.zeros((3, 2)), np.zeros(4), ValueError, "`x` and `y` must have one length, got 3 and 4"),
        (np.zeros(3), {"a": np.zeros(4)}, ValueError, "`x` and `y/a` must have one length, got 3"),
        ((np.zeros(3), np.zeros(2)), np.zeros(3), ValueError, "`x/0` and `x/1` must have one length"),
        (np.zeros(3), np.float64(1), TypeError, "`y` must be a NumPy array, got float64"),
        (np.zeros(()), np.zeros(3), ValueError, r"`x` must have a batch axis, got shape \(\)"),
        ([1.0], np.zeros(1), TypeError, "`x` must be a NumPy array, got list"),
        ((np.zeros(1), [1]), np.zeros(1), TypeError, "`x/1` must be a NumPy array, got list"),
        (np.zeros(1), None, TypeError, "`y` must be a NumPy array, got NoneType"),
        ((), np.zeros(1), ValueError, "`x` must hold at least one array, got none"),
        (np.ma.masked_array([1.0]), np.zeros(1), TypeError, "`x` must be a plain NumPy array"),
        *[
            (x, y, TypeError, f"`{name}` must be booleans, integers or real numbers, got ")
            for odd in (
                np.array(["a", "b"]), np.array([b"a", b"b"]), np.array([None, 1]), np.zeros(2, "V4"),
                np.zeros(2, [("a", "f4"), ("b" * 999, "i4")]), np.zeros(2, "M8[s]"),
                np.zeros(2, "m8[s]"), np.zeros(2, np.complex64),
            )
            for x, y, name in (
                (odd, np.zeros(2), "x"), (np.zeros(2), odd, "y"),
                ({"q": (np.zeros(2), odd)}, (), "x/q/1"),
                (np.zeros(2), {"deep": {"er": odd}}, "y/deep/er"),
            )
        ],
    ],
)  # fmt: skip
def test_arrays_that_do_not_belong_together_are_refused_at_once(
    x: Any, y: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^Dataset: {message}"):
        Dataset(x, y)


def test_examples_are_trees() -> None:
    assert len(TREE) == 6
    x, y = TREE[2]
    assert np.array_equal(x["image"], IMAGES[2])
    assert x["size"] == (2.0, LABELS[2])
    assert y == (LABELS[2], 2.0)
    places = [4, 1]
    part = TREE[places]
    assert tree.equal(part.x, tree.map(lambda array: array[places], TREE.x))
    assert tree.equal(part.y, tree.map(lambda array: array[places], TREE.y))
    assert len(Dataset(TREE.x, ())) == 6
    train, test = data.split(KEY, TREE, 0.5)
    batches = [Batches(TREE, 4).batch(KEY, 0, i) for i in (0, 1)]
    for parts in ((train, test), batches):
        places = np.concatenate([part.y[1] for part in parts]).astype(int).tolist()
        assert sorted(places) == list(range(6))
        images = np.concatenate([part.x["image"] for part in parts])
        assert np.array_equal(images, IMAGES[places])
        assert np.array_equal(np.concatenate([part.x["size"][1] for part in parts]), LABELS[places])
    assert not np.shares_memory(batches[0].x["image"], IMAGES)


@pytest.mark.parametrize("change", [data.random_flip(0.5), data.augmentations(data.random_shift(2))])
def test_every_image_of_a_tree_is_changed_alike(change: data.Augmentation) -> None:
    x: dict[str, Any] = {"image": IMAGES, "other": (-IMAGES, LABELS, np.ones((6, 3)))}
    found = change(KEY, x)
    assert np.array_equal(found["image"], change(KEY, IMAGES))
    assert np.array_equal(found["other"][0], -found["image"])
    assert found["other"][1:] == (LABELS, x["other"][2])
    assert np.array_equal(Batches(TREE, 4, augment=change).batch(KEY, 0, 1).y[0],
                          Batches(TREE, 4).batch(KEY, 0, 1).y[0])  # fmt: skip
    with pytest.raises(ValueError, match="must have 4 axes"):
        change(KEY, (np.ones((2, 3)), np.ones((2, 4))))


def test_mixup_blends_every_array_of_a_tree_alike() -> None:
    x = {"one": np.eye(6), "other": (np.eye(6)[:, :, None],)}
    mixed, targets = data.mixup(6).pair(KEY, x, np.arange(6))
    assert np.allclose(mixed["one"], targets)
    assert np.allclose(mixed["other"][0][:, :, 0], targets)


# --- toy sets -------------------------------------------------------------------------------------

TOYS: list[tuple[Callable[..., Dataset], int]] = [
    (data.moons, 2), (data.spirals, 2), (data.xor, 2), (data.blobs, 3),
]  # fmt: skip


@pytest.mark.parametrize(("make", "classes"), TOYS)
def test_toy_sets_are_functions_of_their_key(make: Callable[..., Dataset], classes: int) -> None:
    one, same, other = make(KEY, 90), make(KEY, 90), make(random.key(1), 90)
    assert one.x.shape == (90, 2)
    assert one.x.dtype == np.float32
    assert one.y.dtype == np.int64
    assert set(one.y.tolist()) == set(range(classes))
    assert np.array_equal(one.x, same.x)
    assert not np.array_equal(one.x, other.x)
    with pytest.raises(ValueError, match=rf"^{make.__name__}: `count` must be at least 1, got 0"):
        make(KEY, 0)
    with pytest.raises(ValueError, match=rf"^{make.__name__}: `noise` must be at least 0"):
        make(KEY, noise=-1)


def test_toy_sets_have_the_shapes_of_their_names() -> None:
    x, y = data.moons(KEY, noise=0.0)
    upper, lower = x[y == 0], x[y == 1]
    assert np.allclose(np.hypot(upper[:, 0], upper[:, 1]), 1, atol=1e-6)
    assert upper[:, 1].min() >= 0
    assert np.allclose(np.hypot(lower[:, 0] - 1, lower[:, 1] - 0.5), 1, atol=1e-6)
    assert lower[:, 1].max() <= 0.5
    x, y = data.spirals(KEY, noise=0.0, arms=3)
    radius = np.hypot(x[:, 0], x[:, 1])
    assert radius.max() <= 1
    turned = np.arctan2(x[:, 1], x[:, 0]) - 3 * np.pi * radius - 2 * np.pi * y / 3
    assert np.allclose(np.cos(turned), 1, atol=1e-3)
    x, y = data.blobs(KEY, 3000, noise=0.1, centres=4)
    for label, centre in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        cloud = x[y == label]
        assert np.allclose(cloud.mean(0), centre, atol=0.02)
        assert np.allclose(cloud.std(0), 0.1, atol=0.02)


# --- normalisation --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 5), (40, 3, 4, 4)])
def test_normalised_examples_have_mean_0_and_deviation_1(shape: tuple[int, ...]) -> None:
    x = (5 + 3 * random.normal(KEY, shape)).astype(np.float32)
    y = np.zeros(40, int)
    train, test = data.normalize(Dataset(x[:30], y[:30]), Dataset(x[30:], y[30:]))
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    assert np.allclose(train.x.mean(axes), 0, atol=1e-5)
    assert np.allclose(train.x.std(axes), 1, atol=1e-5)
    assert train.x.dtype == np.float32
    change = data.normalization(Dataset(x[:30], y[:30]))
    assert np.array_equal(change(x[30:]), test.x)
    assert pickle.loads(pickle.dumps(change)) == change


def test_what_never_varies_is_not_divided() -> None:
    (train,) = data.normalize(Dataset(np.full((4, 2), 7.0), np.zeros(4)))
    assert np.array_equal(train.x, np.zeros((4, 2)))


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -1e-30])
@pytest.mark.parametrize("shape", [(1000, 2), (777, 2, 3, 3)])
def test_what_never_varies_is_not_divided_by_rounding(value: float, shape: tuple[int, ...]) -> None:
    """The mean of many equal numbers may be off by a bit; nobody divides by that bit."""
    change = data.normalization(Dataset(np.full(shape, value), np.zeros(shape[0])))
    assert change.centre == (value, value)
    assert change.deviation == (1.0, 1.0)


def test_a_set_on_the_disk_is_normalised_as_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", LABELS)
    (late,) = data.normalize(data.read_npy(tmp_path / "x.npy", tmp_path / "y.npy"))
    (now,) = data.normalize(Dataset(IMAGES, LABELS))
    assert not isinstance(late.x, np.ndarray)
    assert np.array_equal(late.x[:], now.x)


def test_normalize_refuses() -> None:
    with pytest.raises(ValueError, match=r"^normalize: `train` must have at least one example"):
        data.normalize(Dataset(np.zeros((0, 2)), np.zeros(0)))
    with pytest.raises(TypeError, match=r"^normalize: `x` must be float32 or float64, got uint8"):
        data.normalize(Dataset(np.zeros((3, 2), np.uint8), np.zeros(3)))
    for bad in (np.nan, np.inf):
        x = np.ones((4, 2))
        x[2, 1] = bad
        with pytest.raises(ValueError, match=r"^normalize: `train` must be finite, got .* at 1 of"):
            data.normalization(Dataset(x, np.zeros(4)))
    with pytest.raises(TypeError, match=r"^normalize: `train` must be a Dataset, got tuple"):
        data.normalization((np.ones((4, 2)), np.zeros(4)))  # type: ignore[arg-type]
    change = data.normalization(Dataset(np.ones((4, 2)), np.zeros(4)))
    with pytest.raises(ValueError, match=r"`x` must have 2 channels or features, got shape \(4, 3\)"):
        change(np.ones((4, 3)))


# --- augmentation ---------------------------------------------------------------------------------

CHANGES = [
    data.random_flip(),
    data.random_flip(0.3, vertical=True),
    data.random_shift(2),
    data.random_crop(8, padding=2),
    data.random_crop((5, 6)),
    data.random_affine(rotation=10.0, scale=0.1, shear=0.2, shift=1.5),
    data.cutout(3),
    data.augmentations(data.random_shift(1), data.random_flip(), data.cutout(2)),
]


@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_changes_are_pure_functions_of_their_key(change: data.Augmentation) -> None:
    x = IMAGES.copy()
    x.flags.writeable = False
    one = change(KEY, x)
    assert one.dtype == np.float32
    assert one.shape[:2] == x.shape[:2]
    assert np.array_equal(one, change(KEY, x))
    assert np.array_equal(one, pickle.loads(pickle.dumps(change))(KEY, x))
    assert any(not np.array_equal(one, change(random.key(i), x)) for i in (1, 2, 3))
    assert eval(repr(change), vars(data)) == change
    assert change(KEY, x.astype(np.float64)).dtype == np.float64
    assert change(KEY, x[:0]).shape[0] == 0
    with pytest.raises(TypeError, match=r"`x` must be a NumPy array|`x` must be float32"):
        change(KEY, np.zeros((2, 1, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="must have 4 axes"):
        change(KEY, np.zeros((2, 8)))
    with pytest.raises(TypeError, match="`key` must be a funcnn Key"):
        change(0, x)  # type: ignore[arg-type]


def test_a_flip_mirrors() -> None:
    assert np.array_equal(data.random_flip(1.0)(KEY, IMAGES), IMAGES[..., ::-1])
    assert np.array_equal(data.random_flip(1.0, vertical=True)(KEY, IMAGES), IMAGES[:, :, ::-1])
    assert np.array_equal(data.random_flip(0.0)(KEY, IMAGES), IMAGES)
    many = np.tile(np.array([0.0, 1.0]), (2000, 1, 1, 1))
    flipped = data.random_flip(0.3)(KEY, many)[:, 0, 0, 0]
    assert flipped.mean() == pytest.approx(0.3, abs=0.05)


def test_a_shift_moves_by_whole_pixels_and_zeros_move_in() -> None:
    moved = data.random_shift(2)(KEY, IMAGES)
    seen = set()
    for before, after in zip(IMAGES, moved, strict=True):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2)))
        windows = {(i, j): padded[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)}
        found = [place for place, window in windows.items() if np.array_equal(window, after)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 2
    big = np.zeros((3000, 1, 5, 5), np.float32)
    big[:, 0, 2, 2] = 1
    rows, columns = np.nonzero(data.random_shift(2)(KEY, big).sum((0, 1)) > 80)
    assert len(rows) == len(columns) == 25  # every move, about 120 times each


def test_a_crop_is_a_part_of_the_image() -> None:
    parts = data.random_crop((5, 6))(KEY, IMAGES)
    assert parts.shape == (6, 3, 5, 6)
    for before, after in zip(IMAGES, parts, strict=True):
        windows = [before[:, i : i + 5, j : j + 6] for i in range(4) for j in range(3)]
        assert sum(np.array_equal(window, after) for window in windows) == 1
    with pytest.raises(ValueError, match=r"^random_crop: `x` must be at least 9 x 9"):
        data.random_crop(9)(KEY, IMAGES)


def test_an_affine_change_of_nothing_changes_nothing() -> None:
    assert np.allclose(data.random_affine()(KEY, IMAGES), IMAGES, atol=1e-6)


def test_a_turn_turns() -> None:
    image = np.zeros((1, 1, 9, 9))
    image[0, 0, 4, 7] = 1.0  # right of the centre
    change = data.random_affine(rotation=90.0)
    angles = []
    for i in range(20):
        turned = change(random.key(i), image)[0, 0]
        row, column = np.unravel_index(turned.argmax(), turned.shape)
        assert abs(np.hypot(row - 4, column - 4) - 3) < 0.9
        angles.append(np.arctan2(row - 4, column - 4))
    assert min(angles) < -0.5
    assert max(angles) > 0.5


def test_an_affine_shift_by_a_whole_pixel_is_a_shift() -> None:
    change = data.random_affine(shift=2.0)
    one = np.zeros((500, 1, 9, 9))
    one[:, 0, 4, 4] = 1.0
    moved = change(KEY, one)
    assert np.allclose(moved.sum((1, 2, 3)), 1)  # bilinear weights add up
    rows = (moved[:, 0].sum(2) * np.arange(9)).sum(1) - 4
    assert rows.min() < -1.9
    assert rows.max() > 1.9
    assert abs(rows.mean()) < 0.2


def test_a_cutout_hides_one_square() -> None:
    hidden = data.cutout(3)(KEY, np.ones((200, 2, 8, 8))) == 0
    assert np.array_equal(hidden[:, 0], hidden[:, 1])
    areas = hidden[:, 0].sum((1, 2))
    assert areas.max() == 9
    assert areas.min() >= 4
    rows = hidden[:, 0].any(2).sum(1)
    columns = hidden[:, 0].any(1).sum(1)
    assert np.array_equal(areas, rows * columns)


def test_mixup_blends_examples_and_targets_alike() -> None:
    x = np.eye(6)
    mixed, targets = data.mixup(6).pair(KEY, x, np.arange(6))
    assert np.allclose(mixed, targets)  # one-hot examples, so both are the same blend
    assert np.allclose(targets.sum(1), 1)
    assert (targets > 0).sum(1).max() <= 2
    again, twice = data.mixup(6).pair(KEY, x, targets)
    assert np.allclose(twice.sum(1), 1)
    assert again.shape == (6, 6)


@pytest.mark.parametrize("mode", ["fast", "portable"])
@pytest.mark.parametrize("alpha", [5e-324, 1e-300, 1e-20, 1e-8, 1e-4, 0.01])
def test_mixup_ends_for_any_alpha(alpha: float, mode: Any) -> None:
    """However small: each weight is then as good as 0 or 1, each as likely."""
    x = np.array([[0.0], [1.0]] * 500)
    with numerics.use(mode):
        mixed, targets = data.mixup(2, alpha).pair(KEY, x, x[:, 0].astype(int))
    assert np.allclose(mixed[:, 0], targets[:, 1], rtol=0, atol=1e-15)
    assert np.isfinite(mixed).all()
    assert np.mean((mixed == 0) | (mixed == 1)) >= (0.7 if alpha > 1e-3 else 0.99)
    weights = _beta(KEY, alpha, 4000)
    assert weights.mean() == pytest.approx(0.5, abs=0.03)
    assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_weights_of_mixup_have_the_moments_of_beta(alpha: float) -> None:
    x = np.array([[0.0], [1.0]] * 4000)
    order = random.permutation(random.split(KEY)[1], 8000)
    differ = x[:, 0] != x[order, 0]
    mixed = data.mixup(2, alpha).pair(KEY, x, (x[:, 0]).astype(int))[0][:, 0]
    weights = np.where(x[:, 0] == 1, mixed, 1 - mixed)[differ]
    assert weights.mean() == pytest.approx(0.5, abs=0.02)
    assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.07)


def test_mixup_refuses() -> None:
    with pytest.raises(TypeError, match=r"^mixup: the targets change, too: write mixup\(3\).pair"):
        data.mixup(3)(KEY, IMAGES)
    with pytest.raises(ValueError, match=r"^mixup: `y` must lie in 0..2, got 3"):
        data.mixup(3).pair(KEY, IMAGES, LABELS + 1)
    with pytest.raises(ValueError, match=r"^mixup: `y` must be labels \(6,\) or probabilities"):
        data.mixup(3).pair(KEY, IMAGES, LABELS[:5])


def test_each_part_of_several_has_a_key_of_its_own() -> None:
    both = data.augmentations(data.random_shift(3), data.random_shift(3))
    once = data.random_shift(3)(random.fold_in(KEY, 0), IMAGES)
    assert np.array_equal(both(KEY, IMAGES), data.random_shift(3)(random.fold_in(KEY, 1), once))
    with_targets = data.augmentations(data.random_flip(), data.mixup(3))
    assert with_targets.targets
    x, y = with_targets.pair(KEY, IMAGES, LABELS)
    assert (x.shape, y.shape) == (IMAGES.shape, (6, 3))
    with pytest.raises(TypeError, match=r"^augmentations: every part must be an Augmentation"):
        data.augmentations(lambda key, x: x)  # type: ignore[arg-type]


def test_batches_take_any_function_and_changes_of_targets() -> None:
    dataset = Dataset(IMAGES, LABELS)

    def negative(key: Key, x: Array) -> Array:
        return -x

    plain = Batches(dataset, 4).batch(KEY, 0, 0)
    assert np.array_equal(Batches(dataset, 4, augment=negative).batch(KEY, 0, 0).x, -plain.x)
    mixed = Batches(dataset, 4, augment=data.mixup(3)).batch(KEY, 0, 0)
    assert mixed.y.shape == (4, 3)
    one = Batches(dataset, 4, augment=data.random_shift(2))
    assert np.array_equal(one.batch(KEY, 0, 0).x, one.batch(KEY, 0, 0).x)
    assert not np.array_equal(one.batch(KEY, 0, 0).x, one.batch(KEY, 1, 0).x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.random_flip(1.5), "random_flip: `probability` must be at most 1"),
        (lambda: data.random_shift(-1), "random_shift: `pixels` must be at least 0"),
        (lambda: data.random_crop(0), "random_crop: `size` must be at least 1"),
        (lambda: data.random_crop(3, padding=-1), "random_crop: `padding` must be at least 0"),
        (lambda: data.random_affine(scale=1.0), "random_affine: `scale` must be below 1"),
        (lambda: data.random_affine(rotation=-1.0), "random_affine: `rotation` must be at least 0"),
        (lambda: data.cutout(0), "cutout: `size` must be at least 1"),
        (lambda: data.mixup(1), "mixup: `classes` must be at least 2"),
        (lambda: data.mixup(3, 5.0), "mixup: `alpha` must be at most 4"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_images_are_resized_as_pytorch_does() -> None:
    torch = pytest.importorskip("torch")
    for size in [(8, 8), (28, 28), (5, 3), (1, 1), (16, 9)]:
        wanted = torch.nn.functional.interpolate(
            torch.from_numpy(IMAGES), size, mode="bilinear", align_corners=False
        )
        assert np.allclose(data.resize(IMAGES, size), wanted.numpy(), atol=1e-6)


ANY: Any = data  # to call what mypy would refuse


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: ANY.Batches(TREE, 2, shuffle="no").steps, TypeError, "Batches: `shuffle` must be Tr"),
        (lambda: ANY.Batches(TREE, 2, drop_last=1).steps, TypeError, "Batches: `drop_last` must be T"),
        (lambda: ANY.Batches(TREE, 2, augment=3).steps, TypeError, "Batches: `augment` must be a fun"),
        (lambda: ANY.Batches(TREE, 2).batch(KEY, -1, 0), ValueError, "batch: `epoch` must be at leas"),
        (lambda: ANY.Batches(TREE, 2).batch(KEY, 1.5, 0), TypeError, "batch: `epoch` must be an int"),
        (lambda: ANY.Batches(TREE, 2).batch(KEY, 0, 0.5), TypeError, "batch: `step` must be an int"),
        (lambda: ANY.Batches(TREE, 2).batch(KEY, 0, True), TypeError, "batch: `step` must be an int"),
        (lambda: ANY.Batches(TREE, 2, shuffle=False).batch(0, 0, 0), TypeError, "batch: `key` must b"),
        (lambda: ANY.Batches(TREE, 2, augment=lambda key, x: None).batch(KEY, 0, 0), TypeError,
         "Dataset: `x` must be a NumPy array, got NoneType"),
        (lambda: ANY.Batches(TREE, 2, augment=lambda key, x: [1, 2]).batch(KEY, 0, 0), TypeError,
         "Dataset: `x` must be a NumPy array, got list"),
        (lambda: ANY.Loader(3, 2).batch(KEY, 0, 0), TypeError, "batch: `load` must be a function, got"),
        (lambda: ANY.Loader(lambda *_: TREE[:0], 2).batch(KEY, 0, 0), ValueError, "batch: `load` mus"),
        (lambda: ANY.stream(3, 2), TypeError, "stream: `begin` must be a function of a key and"),
        (lambda: ANY.stream(lambda *_: iter([]), 0), ValueError, "stream: `steps` must be at least 1"),
        (lambda: ANY.stream(lambda *_: 3, 1).batch(KEY, 0, 0), TypeError, "stream: `begin` must give"),
        (lambda: ANY.prepared([1], ANY.pixels), TypeError, "prepared: `source` must be a NumPy array"),
        (lambda: ANY.prepared(np.array(["a"]), ANY.pixels), TypeError, "prepared: `x` must be bo"),
        (lambda: ANY.prepared(IMAGES, 3), TypeError, "prepared: `change` must be a function, got 3"),
    ],
)  # fmt: skip
def test_batches_refuse_what_is_none(
    make: Callable[[], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        make()
