"""Broken and forged files of every kind: refused in one line, or read rightly, in little memory.

A forged file has every sum right and something in it that no honest program writes.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import random
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    adam,
    batch_norm,
    checkpoints,
    conv,
    data,
    dense,
    fit,
    flatten,
    load,
    mean_squared_error,
    model_files,
    named,
    relu,
    repeat,
    save,
    serial,
    tree,
    weight_norm,
)
from funcnn.checks import RefusedType, RefusedValue
from funcnn.initializers import normal
from funcnn.random import key

SLACK = 2 << 20  # bytes for what Python itself takes
F32, F64 = np.arange(12, dtype=np.float32), np.linspace(0, 1, 6)
TREE = {"dense1": {"weight": F32.reshape(3, 4), "bias": F64}, "empty": {}, "count": np.array(7)}
META = {"epoch": 3, "loss": [0.5, 1e300], "text": "é"}

STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 1 << 31, 1 << 63, 10**400, 0.5, -0.0, float("nan"), float("inf"),
    "", "a", "a/b", "a.b", "..", "\0", "\ud800", "é" * 3000, "<f4", "|O", "__metadata__", [], [1, 2],
    [[]], {}, {"": None}, {"a": None}, {"a": {"a": {}}}, {"dtype": "F32"}, [0, 1 << 62], [-4, 0],
]  # fmt: skip


# --- how files are broken and forged ------------------------------------------------------------------


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Some bytes changed, left out, repeated, moved or replaced by telling ones."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        at, length = rng.randrange(len(changed) + 1), rng.choice([1, 1, 2, 4, 8, 30])
        how = rng.randrange(7)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(changed):
            changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, ord("{"), ord("9"), ord('"'), ord("-")])
        elif how == 2:
            del changed[at : at + length]
        elif how == 3:
            changed[at:at] = rng.randbytes(length)
        elif how == 4:
            changed[at:at] = changed[at : at + 10 * length]
        elif how == 5:
            changed[at : at + length] = rng.choice([b"\xff", b"\0", b"\x7f", b" ", b"9"]) * length
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def strange_json(rng: random.Random, node: Any, chance: float = 0.15) -> Any:
    """A copy with something else in some places."""
    if rng.random() < chance:
        return rng.choice(STRANGE)
    if isinstance(node, dict):
        found = {}
        for key, value in node.items():
            if rng.random() < chance / 3:
                continue
            name = rng.choice(STRANGE) if rng.random() < chance / 3 else key
            found[name if isinstance(name, str) else key] = strange_json(rng, value, chance)
        return found
    if isinstance(node, list):
        found_list = [strange_json(rng, part, chance) for part in node]
        return found_list * rng.choice([1, 1, 1, 1, 0, 2])
    return node


def json_text(rng: random.Random, node: Any) -> bytes:
    """As JSON, now and then with what JSON does not know, or very deep, or said twice."""
    text = json.dumps(node, ensure_ascii=rng.random() < 0.9).encode(errors="surrogatepass")
    how = rng.randrange(20)
    if how == 0:
        return b"[" * rng.choice([10, 5_000]) + text
    if how == 1:
        return text[:-1] + b',"version":1,"version":1}'
    if how == 2:
        return b"\xef\xbb\xbf" + text
    if how == 3:
        return text.replace(b":", b": NaN, ", 1)
    return text


SHAPES = [
    "()", "(3,)", "(3, 4)", "(-3, -4)", "(0, 9999999999)", "(99999999999,)", "(1.0,)", "[3]", "3", "(3",
    "None", "(True,)", "(3, 4, 0)", "(" + "1," * 70 + ")", "(" + "9" * 5000 + ",)",
]  # fmt: skip


def strange_npy(rng: random.Random, array: Any) -> bytes:
    """A `.npy` file with something strange in its header, or values that do not fit it."""
    descr = rng.choice(
        ["<f4", ">f4", "<f8", "|b1", "|O", "<U3", "<c8", "<f16", "<V8", "<f5", "<M8[s]", "f", "(2,)f4"]
    )
    shape = rng.choice(SHAPES)
    real = np.lib.format.header_data_from_array_1_0(np.asarray(array))
    header = {
        "descr": repr(real["descr"]) if rng.random() < 0.5 else repr(descr),
        "fortran_order": rng.choice(["False", "False", "True", "0", "None"]),
        "shape": repr(real["shape"]) if rng.random() < 0.5 else shape,
    }
    if rng.random() < 0.1:
        header[rng.choice(["more", "descr", "shape", "fortran"])] = rng.choice(["1", "'<f4'", "()"])
    if rng.random() < 0.1:
        del header[rng.choice(list(header))]
    text = "{" + ", ".join(f"{name!r}: {value}" for name, value in header.items()) + "}"
    start = b"\x93NUMPY" + bytes([rng.choice([1, 1, 1, 2, 3, 0, 4]), 0])
    width = "<H" if start[6] == 1 else "<I"
    length = len(text) if rng.random() < 0.95 else rng.choice([0, 1, 60_000])
    values = np.asarray(array).tobytes()
    values = values if rng.random() < 0.8 else values[:-1] + b"12" * rng.choice([0, 1])
    return start + struct.pack(width, length) + text.encode() + values


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


def zipped(rng: random.Random, members: list[tuple[str, bytes]], method: int | None = None) -> bytes:
    """An archive with right sums; now and then with two members of one name, or packed ones."""
    buffer = io.BytesIO()
    methods = [zipfile.ZIP_STORED] * 12 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in members:
            way = method if method is not None and rng.random() < 0.9 else rng.choice(methods)
            safe = name.encode(errors="replace").decode()[:20_000]
            for _ in range(2 if rng.random() < 0.02 else 1):
                archive.writestr(zipfile.ZipInfo(safe), content, way)
    made = bytearray(buffer.getvalue())
    if rng.random() < 0.1:  # a flag or a method in the directory
        at = made.find(b"PK\1\2", rng.randrange(len(made)))
        if at >= 0:
            made[at + rng.choice([8, 9, 10])] = rng.choice([1, 8, 9, 12, 14, 32, 64, 99])
    return bytes(made)


# --- the kinds of files -------------------------------------------------------------------------------


def checkpoint() -> bytes:
    saved: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("funcnn.files.write", lambda path, content: saved.append(bytes(content)))
        checkpoints.save("checkpoint", TREE, META)
    return saved[0]


def forged_checkpoint(rng: random.Random) -> bytes:
    structure = tree.map(lambda leaf: None, TREE)
    leaves: dict[str, Any] = dict(tree.leaves(TREE))
    if rng.random() < 0.4:
        structure = strange_json(rng, structure)
        if isinstance(structure, dict) and rng.random() < 0.7:  # with an array for each name in it
            leaves = {}
            todo: list[tuple[str, Any]] = [(str(k), v) for k, v in structure.items()]
            while todo:
                name, node = todo.pop()
                if isinstance(node, dict):
                    todo += [(f"{name}/{key}", value) for key, value in node.items()]
                else:
                    leaves[name] = F32
    meta: Any = json.dumps(strange_json(rng, META) if rng.random() < 0.4 else META)
    if rng.random() < 0.2:
        meta = rng.choice([*STRANGE, "null", "[]", "{", "NaN", "[" * 5000, '{"a":1,"a":2}'])
    arrays = {}
    for name, leaf in leaves.items():
        arrays[name] = strange_npy(rng, leaf) if rng.random() < 0.15 else npy(leaf)
        if rng.random() < 0.1:
            arrays[name] = npy(
                np.asarray(leaf).astype(rng.choice([">f4", ">f8", "O", "U3", "c8", "?"]))
            )
    sha = hashlib.sha256(f"{json.dumps(structure)}\n{meta}\n".encode(errors="replace"))
    for name in sorted(arrays, key=lambda name: name.split("/")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                array = np.lib.format.read_array(io.BytesIO(arrays[name]), allow_pickle=False)
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        except Exception:  # no array, and no digest of it
            continue
        sha.update(f"{name} {little.dtype.str} {little.shape}\n".encode(errors="replace"))
        sha.update(little.tobytes())
    header: Any = {
        "format": "funcnn-checkpoint", "version": 1, "structure": structure, "meta": meta,
        "sha256": sha.hexdigest(),
    }  # fmt: skip
    if rng.random() < 0.2:
        header = strange_json(rng, header, 0.1)
    members = [
        ("funcnn.json", json_text(rng, header)),
        *((f"{name}.npy", leaf) for name, leaf in arrays.items()),
    ]
    if rng.random() < 0.05:
        members.append(
            (rng.choice(["x.npy", "dense1/bias", "", "/", "../x.npy", "dense1/BIAS.npy"]), npy(F32))
        )
    return zipped(rng, members, zipfile.ZIP_STORED if rng.random() < 0.9 else None)


def read_checkpoint(file: Path) -> int:
    params, meta = checkpoints.load(file)
    assert isinstance(meta, dict)
    checkpoints.save(file, params, meta)  # what is read could have been written,
    again, remembered = checkpoints.load(file)  # and is the same again
    assert tree.equal(again, params)
    assert json.dumps(remembered) == json.dumps(meta)
    return sum(leaf.nbytes for _, leaf in tree.leaves(params))


MODEL = serial(
    named("first", conv(2, 3, padding="same", weight_init=normal(0.1))), relu(),
    repeat(conv(2, 1), times=2), flatten(), relu(), weight_norm(dense(2)),
)  # fmt: skip


def model() -> bytes:
    saved: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("funcnn.files.write", lambda path, content: saved.append(bytes(content)))
        save("model", MODEL, MODEL.init(key(0), (1, 1, 2, 3))[1])
    return saved[0]


def forged_model(rng: random.Random) -> bytes:
    """With right sums around what no network of this library says of itself."""
    params, saved = MODEL.init(key(0), (1, 1, 2, 3))[1], list[bytes]()
    path, leaf = rng.choice(tree.leaves(params))
    if rng.random() < 0.4:
        params = tree.replace(params, {path: other_leaf(rng, leaf)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("funcnn.files.write", lambda path, content: saved.append(bytes(content)))
        node = model_files._node(MODEL.spec)
        if rng.random() < 0.8:
            node = strange_json(rng, node, rng.choice([0.003, 0.01, 0.05]))
        meta: Any = {"model": {"version": 1, "net": node}}
        if rng.random() < 0.1:
            meta = strange_json(rng, meta, 0.05)
        patch.setattr("funcnn.checkpoints.archives.check_meta", lambda _: None)
        checkpoints.save("model", params, meta)
    return saved[0]


def read_model(file: Path) -> int:
    net, params = load(file)
    save(file, net, params)
    again, found = load(file)
    assert again.spec == net.spec
    assert tree.equal(found, params)
    return sum(leaf.nbytes for _, leaf in tree.leaves(params))


def idx_file() -> bytes:
    return bytes([0, 0, 0x0D, 2]) + struct.pack(">2I", 3, 4) + F32.astype(">f4").tobytes()


def forged_idx(rng: random.Random) -> bytes:
    rank = rng.choice([0, 1, 1, 2, 3, 70, 255])
    shape = [rng.choice([0, 1, 3, 4, 1000, 1 << 31, (1 << 32) - 1]) for _ in range(rank)]
    start = bytes([0, 0, rng.choice([8, 9, 0xB, 0xC, 0xD, 0xE, 0, 7]), rank])
    content = start + struct.pack(f">{rank}I", *shape) + bytes(rng.choice([0, 1, 3, 12, 24, 48, 4000]))
    if rng.random() < 0.5:
        content = gzip.compress(content, mtime=0)
        if rng.random() < 0.3:
            content += rng.choice([b"x", bytes(8), gzip.compress(bytes(100_000), mtime=0)])
    return content


def read_idx(file: Path) -> int:
    found = data.read_idx(file)
    assert found.dtype.isnative
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if file.read_bytes()[:2] != b"\x1f\x8b":
            assert np.array_equal(
                data.read_idx(file, memory_map=True), found, equal_nan=found.dtype.kind == "f"
            )
    return found.nbytes


def npz_file() -> bytes:
    return zipped(
        random.Random(0), [("x.npy", npy(F32.reshape(4, 3))), ("y.npy", npy(np.arange(4)))], 8
    )


def forged_npz(rng: random.Random) -> bytes:
    x = strange_npy(rng, F32.reshape(4, 3)) if rng.random() < 0.6 else npy(F32.reshape(4, 3))
    y = strange_npy(rng, np.arange(4)) if rng.random() < 0.3 else npy(np.arange(4))
    names = ["x.npy", "y.npy"] if rng.random() < 0.9 else ["x", rng.choice(["y", "Y.npy", ""])]
    return zipped(rng, list(zip(names, [x, y], strict=True)), rng.choice([None, 0, 8]))


def read_npz(file: Path) -> int:
    found = data.read_npz(file)
    assert len(found.x) == len(found.y)
    assert found.x.dtype.kind in "biuf"
    assert found.x.dtype.isnative
    return int(found.x.nbytes + found.y.nbytes)


def read_npy(file: Path) -> int:
    found = data.read_npy(file, file)
    assert found.x.dtype.kind in "biuf"
    np.array(found.x).tolist()  # every byte of it is there
    return int(found.x.nbytes)


def csv_file() -> bytes:
    lines = ["length,width,species", *(f"{i / 7:.3f},{-i}e-3,{i % 3}" for i in range(20))]
    return "\n".join(lines).encode()


CELLS = [
    "1", "0", "2.5", "-1", "", "nan", "inf", "1e39", "1e-400", "1_0", "0x1", "é", '"', '"1"', "\0",
    " 1 ", "1e308", "9" * 400, "\u0661", "True", "None", "a" * 200_000,
]  # fmt: skip


def forged_csv(rng: random.Random) -> bytes:
    width = rng.choice([1, 2, 3])
    rows = [
        ",".join(
            rng.choice(CELLS[:3] if rng.random() < 0.9 else CELLS)
            for _ in range(width + (rng.random() < 0.02))
        )
        for _ in range(rng.choice([0, 1, 5]))
    ]
    head = rng.choice([",".join("abc"[:width]), ",".join("1" * width), "", "\ufeffa,b", "a,a,a"])
    return rng.choice(["\n", "\r\n", "\r"]).join([head, *rows]).encode()


def read_csv(file: Path) -> int:
    found = data.read_csv(file)
    assert np.isfinite(found.x).all()
    assert (found.y >= 0).all()
    return int(found.x.nbytes + found.y.nbytes)


def cifar_file() -> bytes:
    return b"".join(bytes([i]) + bytes([i] * 3072) for i in range(3))


def forged_cifar(rng: random.Random) -> bytes:
    labels = [
        rng.choice([0, 9, 5, 10, 255]) if rng.random() < 0.2 else 1 for _ in range(rng.randrange(5))
    ]
    return b"".join(bytes([label]) + rng.randbytes(3072) for label in labels)[
        : rng.choice([None, -1, 3073])
    ]


def read_cifar(file: Path) -> int:
    file.replace(file.with_name("test_batch.bin"))
    found = data.cifar10(file.parent, "test")
    assert found.x.shape[1:] == (3, 32, 32)
    assert set(found.y.tolist()) <= set(range(10))
    return int(found.x.nbytes + found.y.nbytes)


def safetensors(header: bytes, values: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + values


ST = {
    "__metadata__": {"format": "pt"},
    "dense1.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
    "dense1.bias": {"dtype": "F64", "shape": [6], "data_offsets": [48, 96]},
}


VALUES = F32.astype("<f4").tobytes() + F64.astype("<f8").tobytes()


def safetensors_file() -> bytes:
    return safetensors(json.dumps(ST).encode(), VALUES)


def forged_safetensors(rng: random.Random) -> bytes:
    header = strange_json(rng, ST, 0.05)
    return safetensors(json_text(rng, header), VALUES[: rng.choice([96, 96, 96, 48, 0])])


def read_safetensors(file: Path) -> int:
    params = checkpoints.load_safetensors(file)
    if params:
        checkpoints.save_safetensors(file, params)
        assert tree.equal(checkpoints.load_safetensors(file), params)
    return sum(leaf.nbytes for _, leaf in tree.leaves(params))


KINDS: dict[
    str, tuple[Callable[[], bytes], Callable[[random.Random], bytes], Callable[[Path], int]]
] = {
    "checkpoint": (checkpoint, forged_checkpoint, read_checkpoint),
    "model": (model, forged_model, read_model),
    "IDX": (idx_file, forged_idx, read_idx),
    "npz": (npz_file, forged_npz, read_npz),
    "npy": (lambda: npy(F32.reshape(3, 4)), lambda rng: strange_npy(rng, F32.reshape(3, 4)), read_npy),
    "CSV": (csv_file, forged_csv, read_csv),
    "CIFAR": (cifar_file, forged_cifar, read_cifar),
    "safetensors": (safetensors_file, forged_safetensors, read_safetensors),
}
if find_spec("onnx") is not None:
    from tests import onnx_models

    KINDS["ONNX"] = (
        lambda: onnx_models.honest().SerializeToString(), onnx_models.forged, onnx_models.read,
    )  # fmt: skip


# --- trainings that never were ------------------------------------------------------------------------

ROWS = data.Dataset(F32.reshape(4, 3), F32[:4, None])


def trained(**options: Any) -> object:
    net = serial(dense(2), batch_norm(), dense(1))
    return fit(
        net, mean_squared_error(), adam(0.1), ROWS, batch_size=2, validation=ROWS, key=key(0),
        progress=False, workers=1, **options,
    )  # fmt: skip


def other_leaf(rng: random.Random, leaf: Any) -> Any:
    wrong = [
        leaf.astype("f8"),
        leaf.astype("i8"),
        leaf[..., None],
        leaf > 0,
        leaf.astype("f2"),
        F32[:0],
    ]
    return rng.choice([*wrong, -leaf - 5, leaf])


def resumed_from_forged_files(file: Path, count: int) -> None:
    trained(epochs=1, checkpoint=file)
    params, meta = checkpoints.load(file)
    refused = 0
    for seed in range(count):
        rng = random.Random(f"training {seed}")
        path = rng.choice([path for path, _ in tree.leaves(params)])
        changed = tree.replace(params, {path: other_leaf(rng, dict(tree.leaves(params))[path])})
        other = strange_json(rng, meta, 0.01) if rng.random() < 0.8 else meta
        if not isinstance(other, dict):
            continue
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("funcnn.checkpoints.archives.check_meta", lambda _: None)
            checkpoints.save(file, changed if rng.random() < 0.3 else params, other)
        try:
            trained(epochs=2, resume=file)
        except (RefusedValue, RefusedType) as refusal:
            refused += 1
            text = str(refusal)
            assert text.isprintable(), text
            assert len(text) < 300, text
    assert 0 < refused < count


def test_a_training_goes_on_from_no_forged_file(tmp_path: Path) -> None:
    resumed_from_forged_files(tmp_path / "run.npz", 60)


@pytest.mark.slow
def test_a_training_goes_on_from_none_of_many_forged_files(tmp_path: Path) -> None:
    resumed_from_forged_files(tmp_path / "run.npz", 600)


LONG = ("checkpoint", "model", "safetensors", "ONNX")  # of which there are the most to try

# --- the tests ----------------------------------------------------------------------------------------


def tried(file: Path, content: bytes, read: Callable[[Path], int]) -> bool:
    """Whether a file is read; otherwise it is refused, in one short line."""
    file.write_bytes(content)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        declared = read(file)
    except (RefusedValue, RefusedType) as refusal:
        declared, text = 0, str(refusal)
        assert text.isprintable(), text
        assert len(text) < 300, text
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= 2 * (len(content) + declared) + SLACK
    return declared > 0


def fuzzed(folder: Path, kind: str, way: str, count: int) -> None:
    whole, forge, read = KINDS[kind]
    honest = whole()
    folder.mkdir(exist_ok=True)
    tracemalloc.start()
    try:
        assert tried(folder / "file", honest, read)
        taken = 0
        for seed in range(count):
            rng = random.Random(f"{kind} {way} {seed}")
            content = mutated(rng, honest) if way == "mutated" else forge(rng)
            try:
                taken += tried(folder / "file", content, read)
            except BaseException:
                print(f"seed {seed}: {content[:200]!r}")
                raise
    finally:
        tracemalloc.stop()
    if count >= 100:
        assert 0 < taken < count  # the broken ones are not all broken in the same place


@pytest.mark.parametrize("way", ["mutated", "forged"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_broken_files_are_refused_or_read(tmp_path: Path, kind: str, way: str) -> None:
    fuzzed(tmp_path, kind, way, 100)


@pytest.mark.parametrize("kind", ["checkpoint", "model", "npz", "npy", "CSV", "safetensors"])
def test_a_reader_that_lets_errors_through_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("funcnn.files.whole", lambda *_: contextlib.nullcontext())
    with pytest.raises(Exception) as caught:  # noqa: PT011
        fuzzed(tmp_path, kind, "mutated", 100)
    assert not isinstance(caught.value, RefusedValue)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["mutated", "forged"])
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_broken_files_are_refused_or_read(tmp_path: Path, kind: str, way: str) -> None:
    fuzzed(tmp_path, kind, way, 2000 if kind in LONG else 1000)
