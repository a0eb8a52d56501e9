"""How a network is shown: on lines that are not too long, and as a part of a page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from funcnn.types.specs import Spec

_WIDTH = 88  # of a line


def indented(spec: Spec, room: int = _WIDTH) -> str:
    """The call that builds a network; on several lines, if one would be longer than this."""
    whole = repr(spec)
    if len(whole) <= room or not spec.children:
        return whole
    before, after = spec.outside()
    parts = [*before, *(indented(child, room - 4) for child in spec.children), *after]
    inside = ",\n".join(parts).replace("\n", "\n    ")
    return f"{spec.kind}(\n    {inside},\n)"


def page(name: str, layer: Any) -> str:
    """A network in HTML: each layer that has some inside can be closed."""
    label = f"<b>{escape(name)}</b> " if name else ""
    inside = dict(layer.children) if len(layer.children) > 1 or "" not in dict(layer.children) else {}
    if layer.spec.kind == "named":
        return page(name or layer.spec.name, layer.children[0][1])
    if not inside:
        return f"<div style='margin-left:1.5em'>{label}<code>{escape(repr(layer.spec))}</code></div>"
    rest = ", ".join(part for some in layer.spec.outside() for part in some)
    head = f"<summary>{label}<code>{escape(layer.spec.kind)}({escape(rest)})</code></summary>"
    below = "".join(page(each, child) for each, child in inside.items())
    return f"<details open style='margin-left:1.5em'>{head}{below}</details>"


def grid(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in HTML."""

    def row(kind: str, cells: Iterable[str]) -> str:
        return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"

    return f"<table>{row('th', head)}{''.join(row('td', cells) for cells in rows)}</table>"
