"""The rooms: imports point strictly down, and arithmetic that could differ has one home."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import funcnn

ROOT = Path(funcnn.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))

FLOORS = (
    {"types", "_lazy"},
    {"checks"},
    {"machine", "files"},
    {"numerics"},
    {"tree", "random"},
    {"_kernels", "initializers", "schedules"},
    {"parameterless"},
    {"structure", "_wiring", "layers", "losses", "optimizers", "data", "metrics"},
    {"combinators", "distributed", "tracing", "checkpoints"},
    {"training", "testing", "profiling", "plots", "diagnose", "doctor"} | {"model_files", "compile"},
    {"models"},
    {"interop"},
    {"looking", "outline", "sequences", "reparametrization"},  # names of version 0.1
    {"__init__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

REQUIRED = {"numpy", "threadpoolctl"}  # others are extras, imported where they are used
MACHINERY = {"numerics.translation", "numerics.linking"}
COMPILER = {"numba", "llvmlite"}  # by what compiled kernels are made of, which nothing else imports
FORBIDDEN_ROOMS = {"utils", "helpers", "misc", "common"}


def _module(path: Path) -> str:
    """``layers.linear`` for a file; a package is itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {_module(path) for path in FILES}


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name of the module"
            for name in node.names:
                yield node.lineno, f"{node.module}.{name.name}"


def _own(name: str) -> str:
    """The module of ours that an import reaches: ``layers.linear``, or ``__init__``."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or "__init__"


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_imports_point_strictly_down(path: Path) -> None:
    here = _module(path)
    room = here.split(".")[0]
    assert room not in FORBIDDEN_ROOMS
    assert room in FLOOR, f"{room} is no known room: give it a floor"
    for line, name in _imports(path):
        if name.split(".")[0] != "funcnn":
            continue
        there = _own(name)
        where = f"line {line}: {here} imports {there}"
        if there.split(".")[0] == room:
            family = here.split(".")[:2] == there.split(".")[:2]
            assert room != "layers" or family, f"{where}: shared maths goes a floor down"
        else:
            assert FLOOR[there.split(".")[0]] < FLOOR[room], f"{where}, which is not below it"


# --- what is private ------------------------------------------------------------------------------

NAMED_TUPLES = {"_replace", "_fields", "_make", "_asdict"}  # public, in spite of their names
NAMED_TUPLES |= {"_getvalue"}  # and Numba's, of its structures


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _defined(tree: ast.Module) -> set[str]:
    """Names of all that a file defines, in whatever scope."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def _leaks(source: str, room: str, own: set[str]) -> list[str]:
    """What a file of a room uses of another room though its name begins with ``_``.

    A room's own name may: `_kernels` is private to the library, not to itself.
    """
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for name in node.names:
                package, *parts = f"{start}{name.name}".split(".")
                if package == "funcnn" and parts[:1] != [room]:
                    found += [f"{node.lineno}: {part}" for part in parts[1:] if _is_private(part)]
        elif isinstance(node, ast.Attribute) and _is_private(node.attr):
            if node.attr not in own | NAMED_TUPLES:
                found.append(f"{node.lineno}: {node.attr}")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            read = str(getattr(node.args[1], "value", ""))
            if _is_private(read) and read not in own:
                found.append(f"{node.lineno}: {read}")
    return found


def _room(path: Path) -> str:
    return _module(path).split(".")[0]


OWN: dict[str, set[str]] = {}
for _path in FILES:
    OWN.setdefault(_room(_path), set()).update(_defined(ast.parse(_path.read_text())))


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_nothing_private_is_used_from_another_room(path: Path) -> None:
    assert _leaks(path.read_text(), _room(path), OWN[_room(path)]) == []


@pytest.mark.parametrize(
    "line",
    [
        "from funcnn.numerics import _fast",
        "from funcnn.numerics._fast import matmul",
        "from funcnn._kernels.linear import _product",
        "import funcnn.numerics._fast",
        "from funcnn import tree\ntree.walking._opened({})",
        "from funcnn.numerics import modes\nmodes._current.get()",
        "def f(key):\n    return key._high",
        "from funcnn import tree\ngetattr(tree, '_opened')",
    ],
)
def test_what_is_private_is_seen(line: str) -> None:
    assert len(_leaks(line, "layers", {"_own"})) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from funcnn._kernels import linear",
        "from funcnn._lazy import lazily",
        "from funcnn.layers._table import row",
        "def f(self, spec):\n    return self._own, spec._replace(), spec.__name__",
        "_own = 3",
        "from numpy import _core",
    ],
)
def test_what_is_not_private_to_another_room_is_allowed(line: str) -> None:
    assert _leaks(line, "layers", {"_own"}) == []


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_only_numpy_is_required(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    names = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in body if isinstance(node, ast.ImportFrom)]
    top = {name.split(".")[0] for name in names}
    allowed = REQUIRED | (COMPILER if _module(path) in MACHINERY else set())
    room, *place = _module(path).split(".")
    if room == "interop" and len(place) > 1:  # the package of a neighbour, which it names when missing
        allowed |= {place[0]}
    assert top <= allowed | {"funcnn"} | sys.stdlib_module_names


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_what_imports_the_compiler_is_imported_late(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    homes = {node.module for node in body if isinstance(node, ast.ImportFrom)}
    late = {f"funcnn.{name}" for name in MODULES if name.rpartition(".")[2] in FAST_ALONE}
    late.discard("funcnn.numerics.tiles")
    assert path.stem in FAST_ALONE or not homes & late


# --- arithmetic -----------------------------------------------------------------------------------

_NUMPY = """
    dot vdot inner matmul einsum einsum_path tensordot kron convolve correlate cross trace linalg fft
    polynomial sum nansum prod nanprod mean nanmean average var nanvar std nanstd median nanmedian
    percentile quantile ptp cov corrcoef
    exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 sin cos tan sinh cosh tanh
    arcsin arccos arctan arctan2 arcsinh arccosh arctanh asin acos atan atan2 asinh acosh atanh
    sinc hypot cbrt power float_power pow i0 interp trapezoid random matvec vecmat vecdot
    logspace geomspace blackman hamming hanning kaiser polyfit roots
"""

METHODS = {"sum", "prod", "mean", "var", "std", "dot", "trace"}
_MATH = """
    exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh asin acos atan atan2 asinh acosh
    atanh pow hypot cbrt dist erf erfc gamma lgamma
"""
NUMPY, MATH = set(_NUMPY.split()), set(_MATH.split())

_RANDOM = "default_rng Generator RandomState SeedSequence normal random uniform standard_normal seed"
IMPORTED = {"numpy": NUMPY, "math": MATH, "numpy.random": set(_RANDOM.split())}
REDUCTIONS = {"add", "multiply", "logaddexp"}


def _numpy_names(tree: ast.Module, module: str) -> set[str]:
    """The names under which a file knows a module."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == module
    }


def _module_names(tree: ast.Module) -> set[str]:
    """Names that stand for modules, whose functions are no methods of arrays."""
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    return imported | {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == "arithmetic()"
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_exact_power(node: ast.BinOp) -> bool:
    """A square, or a power of a whole number: these are the same everywhere."""

    def whole(operand: ast.expr) -> bool:
        if isinstance(operand, ast.UnaryOp):
            return whole(operand.operand)
        return (
            isinstance(operand, ast.Constant)
            and isinstance(operand.value, (int, float))
            and (operand.value == int(operand.value))
        )

    square = isinstance(node.right, ast.Constant) and node.right.value == 2
    return square or whole(node.left)


def sins(source: str) -> list[str]:
    """Arithmetic in a file whose bits could differ between machines, with its line."""
    tree = ast.parse(source)
    numpy, math, modules = (
        _numpy_names(tree, "numpy"),
        _numpy_names(tree, "math"),
        _module_names(tree),
    )
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.BinOp, ast.AugAssign)):
            if isinstance(node.op, ast.MatMult):
                found.append((node.lineno, "@"))
            elif isinstance(node.op, ast.Pow) and not (
                isinstance(node, ast.BinOp) and _is_exact_power(node)
            ):
                found.append((node.lineno, "**"))
        elif isinstance(node, ast.Name) and node.id == "pow":
            found.append((node.lineno, "pow()"))
        elif isinstance(node, ast.ImportFrom) and node.module in IMPORTED:
            bad = IMPORTED[node.module]
            found += [(node.lineno, alias.name) for alias in node.names if alias.name in bad]
        elif isinstance(node, ast.Attribute):
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in numpy:
                if node.attr in NUMPY:
                    found.append((node.lineno, f"np.{node.attr}"))
            elif isinstance(owner, ast.Name) and owner.id in math:
                if node.attr in MATH:
                    found.append((node.lineno, f"math.{node.attr}"))
            elif isinstance(owner, ast.Attribute) and owner.attr in REDUCTIONS:
                if node.attr in ("reduce", "reduceat"):
                    found.append((node.lineno, f"{owner.attr}.{node.attr}"))
            elif ast.unparse(owner) == "arithmetic()":  # of `numerics`: the mode in force
                continue
            elif node.attr in METHODS and not (isinstance(owner, ast.Name) and owner.id in modules):
                found.append((node.lineno, f".{node.attr}()"))
    return [f"{line}: {what}" for line, what in sorted(found)]


ON_PURPOSE = {
    "testing._digests": ["np.random"],  # disturbs the global state
    "testing._outside": ["np.random"],  # looks whether others disturb it
    "machine.trial": ["np.matmul", "np.vecdot", "np.einsum", ".sum()"],  # tries them, in whole numbers
    "interop.jax.functions": [".sum()", ".mean()", "@"],  # of arrays of JAX
    "interop.torch.functions": ["**", ".sum()", ".mean()", ".prod()", ".std()"],  # of tensors
}


# Kernels that never run in portable mode.
FAST_ALONE = {"compiled", "framing", "jit", "lanes", "scalars", "sparse", "tiles", "translation"} | {
    "fast_compiled", "halving", "handover", "linking", "numbers", "packing", "pairs", "panels",
    "rounded", "singles", "vectors", "paneled_compiled",
    "_compiled", "portable_compiled", "depthwise_portable",  # which prove the bits of their results
}  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if not _module(p).startswith("numerics") and p.stem not in FAST_ALONE],
    ids=_module,
)
def test_arithmetic_that_could_differ_is_called_through_numerics(path: Path) -> None:
    allowed = ON_PURPOSE.get(_module(path), [])
    found = sins(path.read_text())
    assert [sin for sin in found if sin.partition(": ")[2] not in allowed] == []


@pytest.mark.parametrize(
    "line",
    [
        "a @ b",
        "a @= b",
        "np.dot(a, b)",
        "np.einsum('ij,jk', a, b)",
        "np.linalg.norm(a)",
        "np.sum(a)",
        "a.sum(0)",
        "(a * b).mean()",
        "a[0].var()",
        "f = np.exp",
        "np.add.reduce(a)",
        "np.add.reduceat(a, i)",
        "a ** 0.5",
        "a ** 3",
        "a **= 2",
        "rate ** step",
        "pow(rate, step)",
        "np.geomspace(1, 2, 5)",
        "math.exp(1)",
        "math.log(2)",
        "from math import exp",
        "from numpy import tanh",
        "np.random.normal()",
        "from numpy.random import default_rng",
    ],
)
def test_sins_are_seen(line: str) -> None:
    assert len(sins(f"import math\nimport numpy as np\n{line}")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "a * b + c / d",
        "np.sqrt(a)",
        "np.maximum(a, 0).max()",
        "np.add.at(a, i, b)",
        "np.cumsum(a)",
        "from funcnn import numerics\nnumerics.sum(a)",
        "from funcnn import tree\ntree.dot(a, b)",
        "arithmetic().sum(a)",
        "now = arithmetic()\nnow.sum(a)",
        "a ** 2",
        "2 ** n",
        "2.0 ** -24",
        "math.sqrt(2)",
        "math.prod(shape)",
        "math.fsum(values)",
        "sum(counts)",  # of floats, `tests.slips` catches it
    ],
)
def test_what_is_exact_is_allowed(line: str) -> None:
    assert sins(f"import math\nimport numpy as np\n{line}") == []
