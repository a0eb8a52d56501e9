"""The script: it learns, it resumes, and whatever is wrong with its input is said in one line."""

from __future__ import annotations

import gzip
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from funcnn import (
    checkpoints,
    optimizers,
    random,
    sgd_update,
    softmax_cross_entropy,
    train_state,
    tree,
    value_and_grad,
)
from tests.elsewhere import environment
from tests.test_data import idx

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "train_lenet.py"


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], env=environment(OPENBLAS_NUM_THREADS="1"),
        capture_output=True, text=True, cwd=cwd or ROOT, timeout=300, check=False,
    )  # fmt: skip


def refused(message: str, *arguments: object) -> None:
    """One line on stderr, exit code 2, no traceback."""
    done = run(*arguments)
    assert done.returncode == 2, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert re.search(f"^train_lenet: .*{message}", lines[0]), lines[0]


def mnist_files(folder: Path, count: int = 40) -> Path:
    """Images of ten kinds, easy to tell apart."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 2 : 2 * label + 8, 4:24] = 255
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


# --- it works -------------------------------------------------------------------------------------


def test_random_images_are_learnt_by_heart(tmp_path: Path) -> None:
    done = run("--data", "random", "--plot", tmp_path / "lenet.png")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("step    1/200  loss ")
    losses = [float(line.split()[-1]) for line in lines if line.startswith("step")]
    assert len(losses) == 11
    assert 2.2 < losses[0] < 2.8
    assert losses[-1] < 0.5
    assert (tmp_path / "lenet.png").stat().st_size > 10_000


def test_random_images_start_near_log_10_for_any_seed_and_end_below_a_half() -> None:
    script, loss = runpy.run_path(str(SCRIPT)), softmax_cross_entropy()
    net, step = script["lenet"], value_and_grad(script["lenet"], loss)
    # 1815, 8897: with labels drawn one by one these started at 2.13 and 2.16; 1826 at 2.796. The
    # slowest of 500, 375 and 393, end at 0.54 and 0.63 with three quarters of the variance in `dense`.
    for seed in (*range(100), 375, 393, 1815, 1826, 8897):
        train, _ = script["datasets"](Namespace(data="random", seed=seed))
        counts = np.bincount(train.y, minlength=10)
        assert counts.min() == 3
        assert counts.max() == 4
        params = train_state(net, optimizers.sgd(0.01), random.key(seed), train.x.shape).params
        assert 2.2 < loss.apply(net.apply(params, train.x)[0], train.y)[0] < 2.8
        if seed in (0, 1, 375, 393):
            for _ in range(200):
                params = sgd_update(params, step(params, train.x, train.y)[1], 0.01)
            assert loss.apply(net.apply(params, train.x)[0], train.y)[0] < 0.5


def test_piped_output_is_plain_lines(tmp_path: Path) -> None:
    log = tmp_path / "lenet.jsonl"
    done = run("--epochs", 2, "--log", log)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\r" not in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[0].startswith("epoch   1/2  loss ")
    assert "confusion matrix" in done.stdout
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]


def test_mnist_files_are_learnt(tmp_path: Path) -> None:
    done = run("--data", "mnist", "--data-dir", mnist_files(tmp_path), "--epochs", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no training images there")


def test_resumed_equals_one_go(tmp_path: Path) -> None:
    half, rest, whole = (tmp_path / name for name in ("half.npz", "rest.npz", "whole.npz"))
    assert run("--data", "random", "--epochs", 15, "--save", half).returncode == 0
    assert run("--data", "random", "--epochs", 30, "--resume", half, "--save", rest).returncode == 0
    assert run("--data", "random", "--epochs", 30, "--save", whole).returncode == 0
    assert rest.read_bytes() == whole.read_bytes()


def test_a_training_that_has_ended_is_followed_by_one_that_begins_with_its_weights(
    tmp_path: Path,
) -> None:
    """More epochs are another schedule of the learning rate: the refusal names the way."""
    ended, more = tmp_path / "ended.npz", tmp_path / "more.npz"
    assert run("--epochs", 1, "--save", ended).returncode == 0
    refused(
        r"optimizer was adam\(.*cosine\(0\.002, 45\)\), now adam\(.*cosine\(0\.002, 90\)\); "
        "a new one can begin with its weights, given as `params`",
        "--epochs", 2, "--resume", ended,
    )  # fmt: skip
    assert run("--epochs", 0, "--params", ended, "--save", more).returncode == 0
    weights = [checkpoints.load(file)[0]["params"] for file in (ended, more)]
    assert tree.equal(*weights)


def test_a_seed_is_another_training(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.npz" for seed in (0, 1)]
    for seed, file in enumerate(files):
        assert run("--data", "random", "--epochs", 1, "--seed", seed, "--save", file).returncode == 0
    weights = [checkpoints.load(file)[0]["params"]["conv1"]["weight"] for file in files]
    assert not np.array_equal(*weights)


@pytest.mark.slow
def test_the_demonstration_reaches_98_per_cent() -> None:
    found = []
    for seed in range(3):
        done = run("--seed", seed)
        match = re.search(r"test accuracy ([\d.]+)%", done.stdout)
        assert match is not None, done
        found.append(float(match[1]))
    assert found[0] >= 98.0
    assert np.mean(found) >= 98.5


# --- what is wrong is said in one line ------------------------------------------------------------


def broken(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / name
        file.write_bytes(content(file.read_bytes()))

    return change


LABELS, IMAGES = "t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / IMAGES).unlink(), "must hold t10k-images-idx3-ubyte"),
        (lambda folder: (folder / LABELS).unlink(), "must hold t10k-labels-idx1-ubyte"),
        (broken(LABELS, lambda _: b""), "must be an IDX file, got nothing"),
        (broken(LABELS, lambda old: b"\1" + old[1:]), "must be an IDX file, got 01000801"),
        (broken(LABELS, lambda old: old[:-1]), "must have 48 bytes"),
        (broken(LABELS, lambda old: old[:-1] + b"\x0a"), r"must lie in 0\.\.9, got 10"),
        (broken(LABELS, lambda _: idx(np.zeros(39, np.uint8))), "got 39 for 40"),
        (broken(IMAGES, lambda old: old[:-5]), "must be a whole IDX file"),
        (broken(IMAGES, lambda old: old[:30] + b"\0\0" + old[32:]), "must "),
        (broken(IMAGES, lambda _: idx(np.zeros(40, np.uint8))), "must hold byte images"),
        (
            lambda folder: (folder / "train-images-idx3-ubyte").write_bytes(b""),
            "must be an IDX file, got nothing",
        ),
    ],
)
def test_broken_files_are_refused(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = mnist_files(tmp_path)
    change(folder)
    refused(message, "--data", "mnist", "--data-dir", folder, "--epochs", 1)


def test_missing_folders_are_refused(tmp_path: Path) -> None:
    refused("nowhere must hold t10k", "--data", "mnist", "--data-dir", tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    refused("file must hold t10k", "--data", "mnist", "--data-dir", tmp_path / "file")


def test_bad_checkpoints_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    refused("No such file or directory", "--resume", file)
    file.write_bytes(b"nothing")
    refused("must be a checkpoint", "--resume", file)
    checkpoints.save(file, {"w": np.ones(2)})
    refused("must be a checkpoint that `fit` wrote: give other weights as `params`", "--resume", file)
    assert run("--data", "random", "--epochs", 1, "--save", file).returncode == 0
    refused("must be a checkpoint of this training: key was", "--data", "random", "--seed", 0,
            "--resume", file)  # fmt: skip
    refused("must ", "--resume", file)
    refused("Is a directory", "--resume", tmp_path)
    refused("conv1: `x` must have 3 channels", "--params", file)  # of random images in colour
    checkpoints.save(file, {"w": np.ones(2)})
    refused("`params` must hold", "--params", file)
    refused("No such file or directory", "--params", tmp_path / "nowhere.npz")


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_an_interruption_ends_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    heeding = """import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")"""
    options = ["--data", "random", "--epochs", "1000000", "--save", str(file)]
    process = subprocess.Popen(
        [sys.executable, "-c", heeding, str(SCRIPT), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()  # of the first epoch
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    (line,) = errors.splitlines()
    assert line.startswith(f"train_lenet: fit: interrupted: {file} holds the training up to step ")


@pytest.mark.parametrize("option", ["--save", "--plot", "--log"])
def test_places_that_cannot_be_written_are_refused_at_once(tmp_path: Path, option: str) -> None:
    message = "must be a file in a directory that can be written to"
    refused(message, option, tmp_path / "nowhere" / "file.png")
    refused(message, option, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", -1), "`epochs` must be at least 0, got -1"),
        (("--batch-size", 0), "`size` must be at least 1, got 0"),
        (("--lr", -1), "--lr must be above 0, got -1"),
        (("--lr", "nan"), "--lr must be above 0, got nan"),
        (("--seed", -1), "`seed` must be at least 0, got -1"),
        (("--plot", "picture.bogus"), r"--plot must end in one of .*got picture\.bogus"),
        (("--data", "random", "--lr", "1e30"), "the loss is (nan|inf) at step"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments: tuple[object, ...], message: str) -> None:
    refused(message, *arguments)


def test_without_matplotlib_a_plot_is_refused_before_the_training(tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.modules['matplotlib'] = sys.modules['matplotlib.figure'] = None;"
        f"sys.argv = ['train_lenet', '--plot', {str(tmp_path / 'x.png')!r}];"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 2
    assert done.stderr == "train_lenet: matplotlib is needed: pip install matplotlib\n"
    assert done.stdout == ""
