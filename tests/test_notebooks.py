"""What a notebook shows: networks, tables, results, figures, and a training that goes on."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from funcnn import (
    conv,
    data,
    dense,
    fit,
    freeze,
    mean_squared_error,
    models,
    named,
    optimizers,
    plots,
    random,
    relu,
    residual,
    serial,
    summary,
)
from funcnn.training import FitResult, History
from tests.books import cells, executed
from tests.test_examples import EXAMPLES

NET = serial(
    named("stem", serial(conv(4, 3, padding=1), relu())),
    residual(conv(4, 3, padding=1), relu(), conv(4, 3, padding=1)),
    freeze(conv(2, 1)),
)


class Page(HTMLParser):
    """The texts of a page, and whether every tag that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.deepest: dict[str, int] = {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.deepest[tag] = max(self.deepest.get(tag, 0), self.open.count(tag))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def _html(shown: Any) -> Page:
    return Page(shown._repr_html_())


def test_a_deep_network_is_printed_with_an_indent_and_can_be_built_from_it() -> None:
    text = str(NET)
    assert text.splitlines()[:4] == [
        "serial(", "    named('stem', serial(conv(4, 3, padding=1), relu())),",
        "    residual(conv(4, 3, padding=1), relu(), conv(4, 3, padding=1)),",
        "    freeze(conv(2, 1)),",
    ]  # fmt: skip
    deep = models.resnet_small(depth=20)
    assert max(map(len, str(deep).splitlines())) <= 110
    names = {"named": named, "serial": serial, "residual": residual, "conv": conv, "relu": relu}
    assert repr(eval(text, {**names, "freeze": freeze})) == repr(NET)
    assert "\n" not in repr(deep)
    assert str(dense(3)) == repr(dense(3)) == "dense(3)"


def test_a_network_is_a_list_that_opens_and_closes() -> None:
    found = _html(NET)
    for text in ("stem", "conv1", "residual1", "conv(4, 3, padding=1)"):
        assert text in found.texts
    assert found.deepest["details"] == 2
    assert _html(dense(3)).texts == ["dense(3)"]


def test_a_summary_is_a_table() -> None:
    table = summary(serial(dense(3), relu()), (2, 4))
    found = _html(table)
    assert found.texts[:2] == ["path", "kind"]
    assert found.texts[6:9] == ["dense1", "dense", "(2, 3)"]
    assert "(2, 4) -> (2, 3)" in found.texts


def _result(epochs: int = 40) -> FitResult:
    x = random.normal(random.key(0), (32, 2))
    train = data.Dataset(x, np.ones((32, 400), np.float32))
    return fit(
        dense(400), mean_squared_error(), optimizers.sgd(0.1), train, key=random.key(1), epochs=epochs,
        progress=False,
    )  # fmt: skip


def test_results_and_histories_never_flood() -> None:
    result = _result()
    assert re.fullmatch(r"FitResult\(1_200 parameters, best epoch 40, <40 epochs: loss \S+ -> \S+>\)",
                        repr(result))  # fmt: skip
    rows = _html(result.history).texts
    assert rows[:4] == ["epoch", "step", "loss", "learning_rate"]
    assert {"1", "5", "...", "36", "40"} <= set(rows)
    assert not {"6", "35"} & set(rows)
    assert "1_200 parameters, best epoch 40" in _html(result).texts
    assert repr(_result(0).history) == "<0 epochs>"
    assert isinstance(result.history, dict)
    assert _html(History()).texts == []


def test_data_sets_never_flood() -> None:
    pair = data.Dataset({"image": np.zeros((9, 1, 8, 8)), "size": np.ones(9)}, np.arange(9))
    assert (
        repr(pair) == "Dataset(x={'image': float64 (9, 1, 8, 8), 'size': float64 (9,)}, y=int64 (9,))"
    )
    assert repr(data.Dataset(np.zeros((2, 3)), ())) == "Dataset(x=float64 (2, 3), y=())"
    assert "x/image" in _html(pair).texts
    assert repr(data.from_frame({"a": [1.0], "b": [0]})) == "Table(x=float32 (1, 1), y=int64 (1,))"


def test_what_is_shown_is_escaped() -> None:
    odd = NET._replace(spec=NET.spec._replace(options={"a": "<script>"}))
    assert "<script>" not in odd._repr_html_()


def test_live_curves_are_drawn_once_and_then_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    drawn: list[Any] = []
    handle = SimpleNamespace(update=lambda figure: drawn.append(("again", figure)))

    def show(figure: Any, display_id: bool) -> Any:
        drawn.append(("new", figure))
        return handle

    monkeypatch.setattr(display, "display", show)
    callback = plots.live(every=2)
    for epoch in (1, 2, 2, 3, 4):
        callback(SimpleNamespace(record={"epoch": epoch, "step": epoch, "loss": 1 / epoch}))
    assert [how for how, _ in drawn] == ["new", "again"]
    assert drawn[-1][1].axes[0].lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match="IPython is needed: pip install ipython"):
        plots.live()


CELLS = """
import numpy as np
from funcnn import *
from funcnn import data, plots, random
net = serial(dense(8), relu(), dense(1))
net
---
summary(net, (2, 2))
---
x = random.normal(random.key(0), (64, 2))
train = data.Dataset(x, x[:, :1])
train
---
result = fit(net, mean_squared_error(), optimizers.sgd(0.1), train, key=random.key(1), epochs=3,
             callbacks=(plots.live(),))
---
result
---
result.history
---
plots.curves(result.history)
---
print(net)
"""


@pytest.mark.slow
def test_a_notebook_shows_what_it_should(tmp_path: Path) -> None:
    outputs = executed(CELLS.strip().split("\n---\n"), tmp_path)
    for place, text in ((0, "dense1"), (1, "FLOPs"), (2, "x"), (4, "best epoch"), (5, "epoch")):
        (one,) = outputs[place]
        assert text in one.data["text/html"]
        assert len(one.data["text/plain"]) < 300
    lines = "".join(o.text for o in outputs[3] if o.output_type == "stream" and o.name == "stdout")
    assert re.search(r"epoch   3/3  loss \S+  \S+ s$", lines.strip())
    pictures = [o for o in outputs[3] if o.output_type == "display_data" and "image/png" in o.data]
    assert len(pictures) == 1
    assert not any(o.output_type == "stream" and "Warning" in o.text for o in outputs[3])
    assert "image/png" in outputs[6][0].data
    assert outputs[7][0].text.startswith("serial(")


def test_the_program_in_a_notebook_runs_short() -> None:
    pytest.importorskip("IPython")
    pytest.importorskip("matplotlib")
    found: dict[str, Any] = {}
    for cell in cells(EXAMPLES / "notebook.py", True):
        exec(cell, found)
    assert len(found["result"].history["validation_accuracy"]) == 1
    assert found["scores"].shape == (360, 10)


@pytest.mark.slow
def test_the_program_in_a_notebook_shows_what_it_should(tmp_path: Path) -> None:
    train, net, training, errors, accuracy = executed(cells(EXAMPLES / "notebook.py", True), tmp_path)
    for (shown,), text in ((train, "(1437, 1, 8, 8)"), (net, "batch_norm1")):
        assert text in shown.data["text/html"]
    assert "best epoch" in training[-1].data["text/html"]
    assert sum("image/png" in output.get("data", {}) for output in training) == 1
    assert "image/png" in errors[0].data
    assert 0 <= float(accuracy[0].data["text/plain"]) <= 1
    assert not any("Warning" in output.get("text", "") for output in training)
