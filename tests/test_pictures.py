"""Folders of pictures: what is read, and what is refused in one line."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import data

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    for label in ("rose", "iris", ".git"):
        (tmp_path / label).mkdir()
    Image.fromarray(pixels).save(tmp_path / "rose" / "b.png")
    Image.fromarray(pixels[:, ::-1]).save(tmp_path / "rose" / "a.PNG")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "iris" / "grey.png")
    Image.fromarray(pixels).resize((40, 20)).save(tmp_path / "iris" / "c.jpg", quality=95)
    (tmp_path / "iris" / "notes.txt").write_text("no picture")
    (tmp_path / "iris" / ".hidden.png").write_text("no picture")
    (tmp_path / "labels.csv").write_text("a")
    return tmp_path


def test_classes_and_files_come_in_the_order_of_their_names(folder: Path) -> None:
    found = data.read_image_folder(folder, size=4)
    assert isinstance(found, data.Dataset)
    assert found.words["class"] == ("iris", "rose")
    assert found.y.tolist() == [0, 0, 1, 1]
    assert found.x.shape == (4, 3, 4, 4)
    assert found.x.dtype == np.float32
    pixels = np.arange(48, dtype=np.float32).reshape(4, 4, 3).transpose(2, 0, 1) * 5 / 255
    np.testing.assert_allclose(found.x[3], pixels, rtol=1e-6)
    np.testing.assert_allclose(found.x[2], pixels[..., ::-1], rtol=1e-6)
    np.testing.assert_allclose(found.x[1], pixels[[0, 0, 0]], rtol=1e-6)
    assert 0 <= found.x.min() <= found.x.max() <= 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sizes_and_channels(folder: Path, channels: int) -> None:
    assert data.read_image_folder(folder, size=(3, 5), channels=channels).x.shape == (4, channels, 3, 5)


def test_sixteen_bits_are_not_cut_off(folder: Path) -> None:
    pixels = np.array([[0, 65535], [32896, 257]], np.uint16)
    Image.fromarray(pixels).save(folder / "iris" / "a.png")
    found = data.read_image_folder(folder, size=2, channels=1)
    np.testing.assert_allclose(found.x[0, 0], np.array([[0, 255], [128, 1]]) / 255, rtol=1e-6)


def _bomb(side: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def _whole() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a whole picture"),
        (b"words", "must be a whole picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "must be a whole picture"),
        (_whole()[:5000], "must be a whole picture"),
        (_whole()[:20], "must be a whole picture"),
        (_bomb(9000), "must have at most 67108864 pixels, got"),
        (_bomb(60000), "must be a whole picture: Image size .3600000000 pixels. exceeds"),  # by Pillow
        (_bomb(10), "must be a whole picture"),
    ],
    ids=range(8),
)
def test_what_is_no_whole_picture_is_refused_in_one_line(
    folder: Path, content: bytes, message: str
) -> None:
    (folder / "rose" / "wrong.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^read_image_folder: .*wrong\.png {message}") as caught:
        data.read_image_folder(folder, size=4)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
def test_a_pipe_or_a_device_among_the_pictures_is_refused_and_not_waited_for(folder: Path) -> None:
    wrong = folder / "rose" / "wrong.png"
    for place in ("", "/dev/zero"):
        wrong.symlink_to(place) if place else os.mkfifo(wrong)
        with pytest.raises(ValueError, match=r"wrong\.png must be a regular file, got a dev"):
            data.read_image_folder(folder, size=4)
        wrong.unlink()


def test_folders_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must have a folder for each class, got none$"):
        data.read_image_folder(tmp_path, size=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty must hold PNG or JPEG files, got none$"):
        data.read_image_folder(tmp_path, size=4)
    with pytest.raises(OSError, match="nowhere"):
        data.read_image_folder(tmp_path / "nowhere", size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "`size` must be"),
        ({"size": "large"}, "`size` must be"),
        ({"size": (2, 2, 2)}, "`size` must be an int or 2 of them"),
        ({"size": 4, "channels": 2}, "`channels` must be 1, 3 or 4, got 2"),
        ({"size": 4, "channels": True}, "`channels` must be an int, got True"),
        ({"size": 4, "channels": [3]}, "`channels` must be an int, got \\[3\\]"),
    ],
)
def test_wrong_options_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^read_image_folder: {message}"):
        data.read_image_folder(folder, **options)


def test_without_pillow_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'^Pillow is needed: pip install "funcnn\[images\]"$'):
        data.read_image_folder(folder, size=4)
