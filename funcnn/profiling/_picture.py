"""The graph of a network as an SVG picture: from the top down, branches side by side."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import NamedTuple, TypeAlias

from funcnn.structure import Node
from funcnn.types import Shape

_GAP = 26  # between a box and the next, where the shape stands
_PAD = 12  # within a frame
_BOX = 30  # height of a layer
_LETTER = 7.2  # width of a letter, nearly
_FAMILIES = {
    "conv": "#cfe3f7", "dense": "#cfe3f7", "bilinear": "#cfe3f7", "embedding": "#cfe3f7",
    "norm": "#e2d6f3", "pool": "#f9dcc4", "drop": "#e6e6e6", "noise": "#e6e6e6",
    "lstm": "#cdebd6", "gru": "#cdebd6", "rnn": "#cdebd6", "attention": "#f7d0d7",
    "flatten": "#f2f2f2", "reshape": "#f2f2f2", "transpose": "#f2f2f2", "upsample": "#f2f2f2",
}  # fmt: skip
_ACTIVATION = "#fdf3c4"


class _Block(NamedTuple):
    """A part of the picture: its size, where lines come in and go out, and how it is drawn.

    Lines run down its `spine`; `draw` takes the place of the upper left corner. A line that goes on
    inside has no arrow's head above.
    """

    width: float
    height: float
    spine: float
    draw: Callable[[float, float], list[str]]
    goes_on: bool = False


_Draw: TypeAlias = Callable[[Node], _Block]


def picture(root: Node) -> str:
    """The whole drawing."""
    block = _stack([_words(_shape(root.shape)), _block(root)])
    width, height = block.width + 2 * _PAD, block.height + _GAP + 2 * _PAD
    parts = block.draw(_PAD, _PAD)
    x, y = _PAD + block.spine, _PAD + block.height
    parts += [_arrow(x, y, y + _GAP - 4)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" '
            'font-size="12">',
            f"<title>{escape(_title(root))}</title>",
            '<rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _block(node: Node) -> _Block:
    if not node.children:
        return _layer(node)
    return _DRAWN.get(node.spec.kind, _framed)(node)


def _title(node: Node) -> str:
    spec = node.spec
    if not node.children:
        return repr(spec)
    times = spec.options.get("times")
    name = node.path[-1] if node.path else spec.name or spec.kind
    return f"{name}, {times} times" if times else name


def _shape(shape: Shape) -> str:
    return " × ".join(map(str, shape)) if all(isinstance(n, int) for n in shape) else str(shape)


# --- parts ----------------------------------------------------------------------------------------


def _text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" {style}>{escape(words)}</text>'


def _line(*points: tuple[float, float]) -> str:
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{way}" fill="none" stroke="#555" stroke-width="1.2"/>'


def _arrow(x: float, top: float, bottom: float) -> str:
    head = f"{x - 3.5:.1f},{bottom - 6:.1f} {x + 3.5:.1f},{bottom - 6:.1f} {x:.1f},{bottom:.1f}"
    return _line((x, top), (x, bottom - 5)) + f'<polygon points="{head}" fill="#555"/>'


def _joint(x: float, top: float, bottom: float, block: _Block) -> str:
    return _line((x, top), (x, bottom)) if block.goes_on else _arrow(x, top, bottom)


def _words(words: str) -> _Block:
    width = _LETTER * len(words)
    style = 'fill="#777" font-size="11"'
    return _Block(width, 14, width / 2, lambda x, y: [_text(x + width / 2, y + 11, words, style)])


def _layer(node: Node) -> _Block:
    """A box with the call that makes the layer, and the shape that comes out under it."""
    words, shape = repr(node.spec), _shape(node.out_shape)
    words = words if len(words) <= 44 else f"{node.spec.kind}(…)"
    width = max(_LETTER * len(words) + 20, 90.0)
    changes = node.out_shape != node.shape
    height = _BOX + (16 if changes else 0)

    def draw(x: float, y: float) -> list[str]:
        path = escape("/".join(node.path) or node.spec.kind)
        fill = next((c for part, c in _FAMILIES.items() if part in node.spec.kind), _ACTIVATION)
        parts = [
            f'<g><title>{path}</title><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{_BOX}" rx="6" fill="{fill}" stroke="#888"/>',
            _text(x + width / 2, y + 19, words),
            "</g>",
        ]
        if changes:
            parts.append(_line((x + width / 2, y + _BOX), (x + width / 2, y + height)))
            style = 'fill="#777" font-size="10.5" style="text-anchor:start"'
            parts.append(_text(x + width / 2 + 5, y + _BOX + 13, shape, style))
        return parts

    right = width / 2 + 5 + 6.2 * len(shape) if changes else 0
    return _Block(max(width, right), height, width / 2, draw)


def _sign(words: str) -> _Block:
    """A small circle where lines meet."""

    def draw(x: float, y: float) -> list[str]:
        circle = f'<circle cx="{x + 9:.1f}" cy="{y + 9:.1f}" r="9" fill="white" stroke="#555"/>'
        return [circle, _text(x + 9, y + 13, words, 'font-weight="bold"')]

    return _Block(18, 18, 9, draw)


def _stack(blocks: list[_Block]) -> _Block:
    """Blocks below each other, with arrows between them."""
    spine = max(block.spine for block in blocks)
    width = spine + max(block.width - block.spine for block in blocks)
    height = sum(block.height for block in blocks) + _GAP * (len(blocks) - 1)

    def draw(x: float, y: float) -> list[str]:
        parts: list[str] = []
        for i, block in enumerate(blocks):
            parts += block.draw(x + spine - block.spine, y)
            y += block.height
            if i < len(blocks) - 1:
                parts.append(_joint(x + spine, y, y + _GAP, blocks[i + 1]))
                y += _GAP
        return parts

    return _Block(width, height, spine, draw, blocks[0].goes_on)


def _beside(blocks: list[_Block], sign: str) -> _Block:
    """Blocks side by side: one line comes apart above them, and meets in a sign below."""
    height = max(block.height for block in blocks)
    width = sum(block.width for block in blocks) + 2 * _PAD * (len(blocks) - 1)
    spines, left = [], 0.0
    for block in blocks:
        spines.append(left + block.spine)
        left += block.width + 2 * _PAD
    middle = (spines[0] + spines[-1]) / 2
    total = height + 2 * _GAP + 18
    meet = _sign(sign)

    def draw(x: float, y: float) -> list[str]:
        top, bottom = y + _GAP, y + _GAP + height
        parts = [_line((x + middle, y), (x + middle, y + 8))]
        for block, spine in zip(blocks, spines, strict=True):
            parts.append(_line((x + middle, y + 8), (x + spine, y + 8)))
            parts.append(_joint(x + spine, y + 8, top, block))
            parts += block.draw(x + spine - block.spine, top)
            start, end, level = top + block.height, bottom + _GAP, bottom + 10
            way = (x + spine, start), (x + spine, level), (x + middle, level), (x + middle, end)
            parts.append(_line(*way))
        return parts + meet.draw(x + middle - meet.spine, bottom + _GAP)

    return _Block(width, total, middle, draw, True)


def _frame(words: str, block: _Block) -> _Block:
    """A dashed frame with a name."""
    label = 6.4 * len(words) + 12
    width = max(block.width + 2 * _PAD, label + _PAD)
    height = block.height + 2 * _PAD + 14
    spine = max(block.spine + _PAD, label + 10)  # the line passes beside the name
    width = max(width, spine + block.width - block.spine + _PAD)

    def draw(x: float, y: float) -> list[str]:
        style = 'fill="#666" font-size="11" font-style="italic" style="text-anchor:start"'
        top = y + _PAD + 14
        return [
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8" '
            'fill="none" stroke="#aaa" stroke-dasharray="5 3"/>',
            _text(x + 8, y + 15, words, style),
            _line((x + spine, y), (x + spine, top)),
            *block.draw(x + spine - block.spine, top),
            _line((x + spine, top + block.height), (x + spine, y + height)),
        ]

    return _Block(width, height, spine, draw, True)


# --- combinators ----------------------------------------------------------------------------------


def _series(node: Node) -> _Block:
    """In series; a frame only for several layers, or a name."""
    name = node.path[-1] if node.path else ""
    if len(node.children) > 1:
        block = _stack([_block(child) for child in node.children])
        return _frame(name, block) if name else block
    block = _inner(node.children[0])
    return _frame(name, block) if name.rstrip("0123456789") not in ("", "serial") else block


def _framed(node: Node) -> _Block:
    """In a frame that says what happens to the layers in it."""
    kind, name = node.spec.kind, node.path[-1] if node.path else ""
    times = node.spec.options.get("times")
    shown = node.children[:1] if kind == "repeat" else node.children
    said = f"{kind}: {times} times" if times else kind
    words = said if not name or name.rstrip("0123456789") == kind else f"{name} ({said})"
    return _frame(words, _stack([_inner(child) for child in shown]))


def _inner(node: Node) -> _Block:
    """Without the frame that a series would have: there is one already."""
    if node.spec.kind in ("named", "serial"):
        blocks = [_inner(c) if node.spec.kind == "named" else _block(c) for c in node.children]
        return _stack(blocks)
    return _block(node)


def _residual(node: Node) -> _Block:
    """What is added goes along an arc at the left, or through the shortcut."""
    if node.children[-1].spec.name == "shortcut":
        body = _stack([_block(child) for child in node.children[:-1]])
        return _beside([_block(node.children[-1]), body], "+")
    body, meet = _stack([_block(child) for child in node.children]), _sign("+")
    room = 26.0
    height = body.height + 2 * _GAP + meet.height

    def draw(x: float, y: float) -> list[str]:
        line, side = x + room + body.spine, x + 6
        bottom = y + _GAP + body.height + _GAP
        start, end = y + 6, bottom + meet.height / 2
        arc = (
            f"M{line:.1f},{start:.1f} H{side + 12:.1f} "
            f"Q{side:.1f},{start:.1f} {side:.1f},{start + 12:.1f} "
            f"V{end - 12:.1f} Q{side:.1f},{end:.1f} {side + 12:.1f},{end:.1f} H{line - 9:.1f}"
        )
        return [
            f'<path d="{arc}" fill="none" stroke="#c0392b" stroke-width="1.4"/>',
            _joint(line, y, y + _GAP, body),
            *body.draw(x + room, y + _GAP),
            _arrow(line, bottom - _GAP, bottom),
            *meet.draw(line - meet.spine, bottom),
        ]

    return _Block(body.width + room, height, body.spine + room, draw, True)


_SIGNS = {"sum": "+", "mean": "x̄", "product": "×", "concatenate": "‖"}


def _parallel(node: Node) -> _Block:
    how = node.spec.options.get("merge", "concatenate")
    return _beside([_block(child) for child in node.children], _SIGNS[how])


def _dense_connect(node: Node) -> _Block:
    """Around each layer an arc, with which its output is joined."""
    blocks = []
    for child in node.children:
        through = _Block(2, 0, 1, lambda x, y: [])
        blocks.append(_beside([through, _block(child)], "‖"))
    return _frame("dense_connect", _stack(blocks))


_DRAWN: dict[str, _Draw] = {
    "serial": _series,
    **dict.fromkeys(("named", "tied"), lambda node: _block(node.children[0])),
    "residual": _residual,
    "residual_with_context": _residual,
    "parallel": _parallel,
    "bidirectional": _parallel,
    "branch": lambda node: _beside([_block(child) for child in node.children], "( )"),
    "dense_connect": _dense_connect,
}
