"""Pictures show what they should, without global state; the report is one whole file."""

from __future__ import annotations

import errno
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    batch_norm,
    conv,
    dense,
    flatten,
    gru,
    mean_squared_error,
    numerics,
    plots,
    random,
    relu,
    serial,
    softmax_cross_entropy,
    tree,
    value_and_grad,
)
from funcnn.types import Array, Params

pytest.importorskip("matplotlib")

EPOCHS = np.arange(1, 5)
HISTORY = {
    "epoch": EPOCHS,
    "step": EPOCHS * 10,
    "learning_rate": np.array([0.1, 0.1, 0.05, 0.01]),
    "loss": np.array([2.0, 1.0, 0.5, 0.1]),
    "validation_loss": np.array([2.1, 1.2, 0.9, 1.0]),
    "validation_accuracy": np.array([0.5, 0.7, 0.9, 0.8]),
}
MATRIX = np.array([[9, 1, 0], [0, 8, 2], [0, 0, 10]])
NET = serial(conv(4, 3), batch_norm(), relu(), flatten(), dense(3))
LOSS = softmax_cross_entropy()
X = random.normal(random.key(1), (6, 1, 8, 8))
Y = np.arange(6) % 3


def start() -> Params:
    return NET.init(random.key(0), X.shape)[1]


def drawn(figure: Any, folder: Path) -> Array:
    """The picture's pixels, of which some must be painted."""
    from matplotlib.image import imread

    file = folder / "picture.png"
    figure.savefig(file, dpi=50)
    pixels = np.asarray(imread(file))
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10
    return pixels


# --- a training -----------------------------------------------------------------------------------


def test_curves_have_a_panel_for_each_quantity(tmp_path: Path) -> None:
    figure: Any = plots.curves(HISTORY)
    loss, accuracy, rate = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy (%)", "learning rate"]
    assert rate.get_xlabel() == "epoch"
    assert np.array_equal(loss.lines[0].get_ydata(), HISTORY["loss"])
    assert np.array_equal(loss.lines[1].get_ydata(), HISTORY["validation_loss"])
    assert [line.get_label() for line in loss.lines[:2]] == ["training", "validation"]
    assert np.allclose(accuracy.lines[0].get_ydata(), 100 * HISTORY["validation_accuracy"])
    assert loss.get_yscale() == "log"
    best = [(line.get_xdata()[0], line.get_ydata()[0]) for line in (loss.lines[2], accuracy.lines[1])]
    assert best == [(3, 0.9), (3, 90.0)]
    drawn(figure, tmp_path)


def test_a_learning_rate_that_never_changes_is_not_drawn() -> None:
    figure = plots.curves({**HISTORY, "learning_rate": np.full(4, 0.1)})
    assert len(figure.axes) == 2
    bare: Any = plots.curves({"loss": np.array([1.0])})
    assert np.array_equal(bare.axes[0].lines[0].get_xdata(), [1])


def test_a_validation_that_is_never_finite_is_drawn_without_a_best(tmp_path: Path) -> None:
    drawn(plots.curves({**HISTORY, "validation_loss": np.full(4, np.nan)}), tmp_path)


def test_the_best_is_marked_where_it_is_known_what_is_better() -> None:
    values = np.array([0.5, 0.2, 0.9])
    history = {"loss": values, "validation_loss": values, "validation_speed": values,
               "validation_perplexity": values, "validation_f1": values}  # fmt: skip
    figure: Any = plots.curves(history)
    marks = {axes.get_ylabel(): axes.lines[-1] for axes in figure.axes}
    best = {name: line.get_xdata()[0] for name, line in marks.items() if line.get_marker() == "o"}
    assert best == {"loss": 2, "perplexity": 2, "f1 (%)": 3}


def test_the_confusion_matrix_has_its_counts(tmp_path: Path) -> None:
    figure = plots.confusion(MATRIX, ["cat", "dog", "emu"])
    axes, bar = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert bar.get_ylabel() == "part of the true class (%)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "emu"]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(j, i): str(MATRIX[i, j]) for i in range(3) for j in range(3) if MATRIX[i, j]}
    assert axes.get_title() == "3 of 30 wrong: 90.00 % right"
    drawn(figure, tmp_path)


def test_a_class_without_examples_is_drawn(tmp_path: Path) -> None:
    drawn(plots.confusion(np.array([[5, 1], [0, 0]])), tmp_path)
    assert plots.confusion(np.zeros((2, 2), int)).axes[0].get_title() == ""


def test_the_training_report_has_both(tmp_path: Path) -> None:
    figure = plots.training_report(HISTORY, MATRIX)
    assert len(figure.axes) == 5
    pixels = drawn(figure, tmp_path)
    assert pixels.shape[1] > pixels.shape[0]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: plots.curves([1.0]), TypeError, "curves: `history` must be a dict"),  # type: ignore[arg-type]
        (lambda: plots.curves({}), ValueError, "curves: `history` must hold 'loss', got nothing"),
        (
            lambda: plots.curves({"loss": np.zeros(0)}),
            ValueError,
            "curves: `history` must hold at least one epoch",
        ),
        (
            lambda: plots.curves({"loss": np.zeros(2), "epoch": np.zeros(3)}),
            ValueError,
            r"curves: `history` must hold arrays of one length, got \[2, 3\]",
        ),
        (lambda: plots.confusion(np.eye(2)), TypeError, "confusion: `matrix` must be counts"),
        (
            lambda: plots.confusion(np.zeros((2, 3), int)),
            ValueError,
            r"confusion: `matrix` must have shape \(C, C\), got \(2, 3\)",
        ),
        (lambda: plots.confusion(-MATRIX), ValueError, "confusion: `matrix` must not be negative"),
        (
            lambda: plots.confusion(MATRIX, ["a"]),
            ValueError,
            "confusion: `labels` must name 3 classes, got 1",
        ),
        (lambda: plots.filters({}), ValueError, "filters: `params` must hold a weight"),
        (lambda: plots.filters(np.ones((2, 5))), ValueError, "filters: `weight` must have shape"),
        (
            lambda: plots.activations(NET, start(), X[:0]),
            ValueError,
            "activations: `x` must have at least one example",
        ),
        (
            lambda: plots.landscape(NET, start(), LOSS, X, Y, key=random.key(0), points=1),
            ValueError,
            "landscape: `points` must be at least 2, got 1",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    call: Callable[[], object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{message}"):
        call()


# --- a network ------------------------------------------------------------------------------------


def test_filters_are_those_of_the_first_layer(tmp_path: Path) -> None:
    params = start()
    figure: Any = plots.filters(params)
    weight = params["conv1"]["weight"]
    squares = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert all(np.array_equal(square, own[0]) for square, own in zip(squares, weight, strict=False))
    drawn(figure, tmp_path)
    colours = plots.filters(random.normal(random.key(0), (5, 3, 3, 3)))
    assert sum(bool(axes.images) for axes in colours.axes) == 5
    drawn(colours, tmp_path)
    assert len(plots.filters(random.normal(random.key(0), (7, 16))).axes) == 8
    many = plots.filters(random.normal(random.key(0), (40, 2, 3, 3)))
    assert "the first 64 of 80 squares" in many.get_suptitle()


def test_activations_have_a_row_for_each_layer(tmp_path: Path) -> None:
    figure: Any = plots.activations(NET, start(), X)
    names = [part.get_suptitle().split()[0] for part in figure.subfigs]
    assert names == ["input", "conv1", "batch_norm1", "relu1", "flatten1", "dense1"]
    out = NET.apply(start(), X)[0]
    heights = [bar.get_height() for bar in figure.subfigs[-1].axes[0].patches]
    assert np.allclose(heights, out[0], atol=1e-5)
    drawn(figure, tmp_path)
    _, params = gru(4).init(random.key(0), (2, 5, 3))
    steps: Any = plots.activations(gru(4), params, random.normal(random.key(1), (2, 5, 3)))
    assert steps.subfigs[1].axes[0].images[0].get_array().shape == (4, 5)


@pytest.mark.filterwarnings("ignore:value_and_grad. without a key:UserWarning")
def test_gradient_flow_has_the_sizes_of_the_gradients(tmp_path: Path) -> None:
    params = start()
    figure: Any = plots.gradient_flow(NET, params, LOSS, X, Y)
    axes = figure.axes[0]
    paths = [label.get_text() for label in axes.get_yticklabels()]
    assert paths[0] == "conv1/weight"
    assert not any("running" in path for path in paths)
    _, grads = value_and_grad(NET, LOSS)(params, X, Y)
    sizes = {path: float(np.sqrt(np.mean(leaf**2))) for path, leaf in tree.leaves(grads)}
    dots = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    for dot in dots:
        path = paths[int(dot.get_ydata()[0])]
        assert dot.get_xdata()[0] == pytest.approx(sizes[path], rel=1e-4)
    drawn(figure, tmp_path)
    nothing = plots.gradient_flow(NET, tree.zeros_like(params), LOSS, X, Y)
    assert any(text.get_text() == "0" for text in nothing.axes[0].texts)
    drawn(nothing, tmp_path)


def test_the_landscape_of_a_parabola(tmp_path: Path) -> None:
    """The squared error of a linear layer is a quadratic function along every direction."""
    net, loss = dense(2), mean_squared_error()
    x = random.normal(random.key(1), (50, 3), dtype=np.float64)
    params = tree.cast(net.init(random.key(0), (1, 3))[1], np.float64)
    y, _ = net.apply(params, x)
    found = plots.landscape(net, params, loss, x, y, key=random.key(2), points=5, span=2.0)
    assert np.array_equal(found.along, [-2, -1, 0, 1, 2])
    assert found.loss[2, 2] == 0
    assert np.allclose(found.loss[2, [0, 4]], 4 * found.loss[2, 3])
    assert np.allclose(found.loss, found.loss[::-1, ::-1])
    again = plots.landscape(net, params, loss, x, y, key=random.key(2), points=5, span=2.0)
    assert np.array_equal(found.loss, again.loss)
    other = plots.landscape(net, params, loss, x, y, key=random.key(3), points=5, span=2.0)
    assert not np.array_equal(found.loss, other.loss)
    drawn(plots.loss_landscape(net, params, loss, x, y, key=random.key(2), points=5), tmp_path)


def test_directions_are_as_long_as_the_filters() -> None:
    from funcnn.plots.networks import _direction

    params = start()
    direction = _direction(random.key(0), params)
    weight, own = params["conv1"]["weight"], direction["conv1"]["weight"]
    assert np.allclose(np.sqrt((weight**2).sum((1, 2, 3))), np.sqrt((own**2).sum((1, 2, 3))))
    assert not direction["conv1"]["bias"].any()
    assert not any(leaf.any() for _, leaf in tree.leaves(direction["batch_norm1"]))


def test_a_landscape_of_infinities_is_drawn(tmp_path: Path) -> None:
    net, loss = dense(1), mean_squared_error()
    params = {"weight": np.full((1, 1), 1e19, np.float32), "bias": np.zeros(1, np.float32)}
    x, y = np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32)
    drawn(plots.loss_landscape(net, params, loss, x, y, key=random.key(0), points=5), tmp_path)


# --- the report -----------------------------------------------------------------------------------


def test_the_report_is_one_file_with_its_pictures(tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    with numerics.portable():
        plots.html_report(
            file, NET, start(), HISTORY, title="A <run>", matrix=MATRIX, labels=["a", "b", "<c>"],
            figures={"Filters": plots.filters(start())}, notes={"data & seed": "digits, 0"},
        )  # fmt: skip
    page = file.read_text()
    assert page.startswith("<!doctype html>")
    assert page.count('src="data:image/png;base64,') == 3
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<title>A &lt;run&gt;</title>" in page
    assert "<tr><th>numerics mode</th><td>portable</td></tr>" in page
    assert "<tr><th>data &amp; seed</th><td>digits, 0</td></tr>" in page
    assert "<tr><th>best validation accuracy</th><td>0.9 (epoch 3)</td></tr>" in page
    assert "<tr><th>best validation loss</th><td>0.9 (epoch 3)</td></tr>" in page
    assert "conv(4, 3),\n    batch_norm(),\n" in page
    assert [path.name for path in tmp_path.iterdir()] == ["run.html"]


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.html"
    file.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*run\.html"):
        plots.html_report(file, NET, start(), HISTORY)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.html"]
    with pytest.raises(TypeError, match=r"^html_report: `figures` must be matplotlib figures, got 3"):
        plots.html_report(file, NET, start(), HISTORY, figures={"Three": 3})


# --- no extra, no state ---------------------------------------------------------------------------


def test_pyplot_is_never_loaded(tmp_path: Path) -> None:
    from subprocess import run

    code = (
        "import sys, numpy as np; from funcnn import plots;"
        "assert 'matplotlib' not in sys.modules;"
        "plots.training_report({'loss': np.ones(2)}, np.eye(2, dtype=int)).savefig(sys.argv[1]);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert run([sys.executable, "-c", code, tmp_path / "picture.png"], check=False).returncode == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: plots.curves(HISTORY),
        lambda: plots.confusion(MATRIX),
        lambda: plots.training_report(HISTORY, MATRIX),
        lambda: plots.filters(start()),
        lambda: plots.activations(NET, start(), X),
        lambda: plots.gradient_flow(NET, start(), LOSS, X, Y),
        lambda: plots.loss_landscape(NET, start(), LOSS, X, Y, key=random.key(0)),
        lambda: plots.html_report("never.html", NET, start(), HISTORY),
    ],
)
def test_a_missing_matplotlib_is_named(
    call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"^matplotlib is needed: pip install matplotlib$"):
        call()


def test_a_figure_shows_itself_in_a_notebook() -> None:
    figure: Any = plots.curves({"epoch": np.arange(1, 3), "loss": np.array([2.0, 1.0])})
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert pickle.loads(pickle.dumps(figure))._repr_png_().startswith(b"\x89PNG")
