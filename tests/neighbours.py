"""The table of layers at the neighbours, from what runs: ``python -m tests.neighbours`` writes it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from funcnn import checks, random
from funcnn.interop.torch import to_module
from tests import (
    registry,
    test_interop_jax as of_jax,
    test_interop_onnx as of_onnx,
    test_interop_onnx_loading as back,
    test_interop_torch as of_torch,
)

PAGE = Path(__file__).parent.parent / "docs/neighbours.md"
HEAD = """\
| layers | to PyTorch | from PyTorch | to ONNX | from ONNX | to JAX |
|---|---|---|---|---|---|
"""
FAMILIES = {
    "linear": "Linear",
    "distances": "Distances",
    "embeddings": "Tokens, positions",
    "convolution": "Convolution",
    "pooling": "Pooling",
    "shape": "Shape",
    "resizing": "Shape",
    "activations": "Activations",
    "normalization": "Normalisation",
    "regularization": "Regularisation",
    "recurrent": "Sequences",
    "attentions": "Sequences",
    "contexts": "Sequences",
    "sequences": "Sequences",
}
"""The title of each home of layers; all others are combinators."""


def _built(case: registry.Case) -> bool:
    try:
        to_module(case.layer, of_torch.drawn(case.layer, case.shape))
    except checks.Refusal:
        return False
    return True


def to_torch(case: registry.Case) -> bool:
    """Whether `to_module` gives a module with the same outputs, gradients and statistics."""
    return _built(case) and of_torch.agrees(case) < 1e-9


def from_torch(case: registry.Case) -> bool | None:
    """Whether a state dict comes back as the same params; None where there are none, or no module."""
    if not _built(case) or not case.layer.init(random.key(0), case.shape)[1]:
        return None
    of_torch.comes_back(case.layer, case.shape)
    return True


def to_onnx(case: registry.Case) -> bool:
    """Whether onnxruntime answers as the layer does."""
    if case.id in of_onnx.REFUSED:
        return False
    with tempfile.TemporaryDirectory() as folder:
        worst = of_onnx.agrees(case, Path(folder) / "net.onnx")
    return worst is not None and worst < 1e-5


def from_onnx(case: registry.Case) -> bool | None:
    """Whether what `export` has written comes back and answers alike; None where it cannot write."""
    if case.id in of_onnx.REFUSED:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return back.comes_back(case, Path(folder) / "net.onnx") == "equal"


def to_jax(case: registry.Case) -> bool:
    """Whether there is a function; `tests.test_interop_jax` compares it, case by case."""
    return case in of_jax.CASES


COLUMNS: tuple[Callable[[registry.Case], bool | None], ...] = (
    to_torch, from_torch, to_onnx, from_onnx, to_jax,
)  # fmt: skip


def kinds() -> dict[str, list[registry.Case]]:
    """Each kind of layer of the registry, with its cases, or else those that have it inside."""
    own: dict[str, list[registry.Case]] = {}
    inside: dict[str, list[registry.Case]] = {}
    for case in registry.layers():
        own.setdefault(case.layer.spec.kind, []).append(case)
        for spec in registry.specs(case.layer.spec):
            inside.setdefault(spec.kind, []).append(case)
    return {**inside, **own}


def homes() -> dict[str, str]:
    """The title of the family of each kind, in the order of the page."""
    found = {}
    for case in registry.layers():
        for spec in registry.specs(case.layer.spec):
            parts = spec.build.__module__.split(".")
            found[spec.kind] = next(
                (FAMILIES[part] for part in parts if part in FAMILIES), "Combinators"
            )
    order = [*dict.fromkeys(FAMILIES.values()), "Combinators"]
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1]), item[0])))


def mark(outcomes: list[bool | None]) -> str:
    """What a cell says of the cases of a layer."""
    told = {one for one in outcomes if one is not None}
    return {0: "-", 1: "yes" if True in told else "no", 2: "in part"}[len(told)]


def rows() -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """Family, marks, and the layers that have them."""
    cases = kinds()
    marks = {
        kind: tuple(mark([column(case) for case in cases[kind]]) for column in COLUMNS)
        for kind in homes()
    }
    for title, family in groupby(homes().items(), key=lambda item: item[1]):
        by_marks: dict[tuple[str, ...], list[str]] = {}
        for kind, _ in family:
            by_marks.setdefault(marks[kind], []).append(kind)
        for cells, names in by_marks.items():
            yield title, cells, names


def table() -> str:
    """The table as the page has it."""
    text, last = HEAD, ""
    for title, cells, names in rows():
        if title != last:
            text += f"| **{title}** |" + " |" * len(cells) + "\n"
            last = title
        text += f"| {', '.join(f'`{name}`' for name in names)} | {' | '.join(cells)} |\n"
    return text


def parts() -> tuple[str, str, str]:
    """What stands before the table, the table, and what stands behind it."""
    lines = PAGE.read_text("utf-8").splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if line.startswith("|")]
    cut: Any = "".join
    return cut(lines[: places[0]]), cut(lines[places[0] : places[-1] + 1]), cut(lines[places[-1] + 1 :])


if __name__ == "__main__":
    before, _, after = parts()
    PAGE.write_text(before + table() + after, "utf-8")
