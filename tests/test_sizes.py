"""A reader takes in a file, and a function, at one go: both have an end."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import funcnn

ROOT = Path(funcnn.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py*") if path.suffix in (".py", ".pyi"))
LINES, CODE = 500, 60

LONGER = {"fit": "its 25 options stand on lines of their own, and again in the calls that take them"}

NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source: str) -> set[int]:
    """The lines that hold more than comments and docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def _functions(source: str) -> Iterator[tuple[str, int]]:
    """Each function, with its lines of code: those of the functions inside it, too."""
    code = code_lines(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            yield node.name, len(code & set(range(node.lineno, (node.end_lineno or 0) + 1)))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_no_file_and_no_function_is_long(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= LINES
    assert {name: size for name, size in _functions(source) if size > CODE and name not in LONGER} == {}


def test_what_may_be_longer_is() -> None:
    sizes = dict(pair for path in FILES for pair in _functions(path.read_text()))
    assert all(sizes[name] > CODE for name in LONGER)


def test_code_is_counted_without_words() -> None:
    source = '"""Words."""\n\n\ndef f() -> int:\n    """More\n    words."""\n    return 1  # one\n'
    assert code_lines(source) == {4, 7}
    assert list(_functions(source)) == [("f", 2)]
