"""Settings of the documentation: MyST pages and notebooks, and a reference made from the rooms."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import funcnn  # noqa: E402

project = "funcnn"
author = "The funcnn authors"
copyright = f"2026, {author}"
release = funcnn.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "py:obj"

html_theme = "furo"
html_title = "funcnn"
html_show_sourcelink = False
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_math_renderer = "mathml"  # browsers draw it themselves: pages need no network

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/html", 0)]

autosummary_generate = False
# Where a neighbour is not installed, its notebook is shown without its results.
NEEDED = {"torch": ("torch",), "onnx": ("onnx", "onnxruntime")}
MISSING = [name for names in NEEDED.values() for name in names if not importlib.util.find_spec(name)]
autodoc_mock_imports = MISSING
nb_execution_excludepatterns = [
    f"tutorials/{page}.md" for page, names in NEEDED.items() if {*names} & {*MISSING}
]
autodoc_typehints = "none"  # the docstring's own words say it
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

ROOMS = {
    "layers": "Layers",
    "combinators": "Combinators",
    "losses": "Losses",
    "optimizers": "Optimizers",
    "schedules": "Schedules",
    "initializers": "Initializers",
    "training": "Training",
    "distributed": "Several processes",
    "data": "Data",
    "metrics": "Metrics",
    "models": "Models",
    "random": "Keys and random numbers",
    "tree": "Trees",
    "numerics": "Arithmetic",
    "checkpoints": "Checkpoints",
    "model_files": "Networks in files",
    "plots": "Plots",
    "profiling": "What a network takes",
    "tracing": "What happens inside",
    "diagnose": "Finding trouble",
    "testing": "Laws and digests",
    "types": "Types",
    "interop.sklearn": "scikit-learn",
    "interop.torch": "PyTorch",
    "interop.onnx": "ONNX",
    "interop.jax": "JAX",
    "doctor": "What this machine is",
    "compile": "Compiling ahead",
}
TOP = ("col2im", "im2col")  # whose home is no public room
Said = dict[str, str]


def said_in(source: str) -> Said:
    """What stands below the assignments of a file, as their docstrings: its first paragraph."""
    found = {}
    for before, after in itertools.pairwise(ast.parse(source).body):
        targets = (
            [before.target] if isinstance(before, ast.AnnAssign) else getattr(before, "targets", [])
        )
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            words = inspect.cleandoc(str(after.value.value)).partition("\n\n")[0]
            found |= {target.id: words for target in targets if isinstance(target, ast.Name)}
    return found


def said_of(module: Any) -> Said:
    """The same of all files of a room."""
    path = Path(str(module.__file__))
    files = path.parent.rglob("*.py") if path.stem == "__init__" else [path]
    return {name: words for file in files for name, words in said_in(file.read_text("utf-8")).items()}


def public(module: Any) -> list[str]:
    """The names of a room, without the rooms in it."""
    names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    return sorted(names, key=str.lower)


def entries(module: Any, names: list[str]) -> str:
    """A table of functions and classes, and what there is to say of each."""
    kinds = {name: "class" if inspect.isclass(getattr(module, name)) else "function" for name in names}
    table = "".join(f"   {name}\n" for name in names)
    whole = "\n".join(f".. auto{kind}:: {name}\n" for name, kind in kinds.items())
    return f".. currentmodule:: {module.__name__}\n\n.. autosummary::\n\n{table}\n{whole}"


def page(room: str, title: str) -> str:
    """A page of the reference, in MyST."""
    module = importlib.import_module(f"funcnn.{room}")
    names, words = public(module), said_of(module)
    made = [
        n
        for n in names
        if inspect.isfunction(getattr(module, n)) or inspect.isclass(getattr(module, n))
    ]
    rest = "".join(f"`{name}`\n: {words[name]}\n\n" for name in names if name not in made)
    text = f"# {title}\n\n```{{eval-rst}}\n.. automodule:: funcnn.{room}\n"
    return text + (f"\n{entries(module, made)}" if made else "") + f"```\n\n{rest}"


def top() -> str:
    """The page of what is imported from `funcnn` itself."""
    whole = "```{eval-rst}\n.. automodule:: funcnn\n\n" + entries(funcnn, list(TOP)) + "```\n"
    return f"""# funcnn

Every layer, combinator and loss, and what a training needs, can be imported from `funcnn` itself.
All other names have a room: `funcnn.optimizers`, `funcnn.data` and so on. Two functions stand at the
top alone:

{whole}"""


def pages() -> dict[str, str]:
    """All pages of the reference, by the names of their files."""
    table = "\n".join(("```{toctree}", ":maxdepth: 1", "", "top", *ROOMS, "```"))
    first = f"# Reference\n\nThe public names, room by room.\n\n{table}\n"
    return {"index": first, "top": top(), **{room: page(room, title) for room, title in ROOMS.items()}}


def write_reference() -> None:
    """Write the pages of the reference, each only where it changes."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def without_sections(
    app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Make headings in a module's docstring plain ones: the page has the sections."""
    if what == "module":
        text = re.sub(r"^(\w[\w ]*)\n-{3,}$", r".. rubric:: \1\n", "\n".join(lines), flags=re.M)
        lines[:] = text.split("\n")


def names_alone(app: Any, page: str, text: list[str]) -> None:
    """Leave of a page of the reference its names, without what their docstrings say."""
    if page.startswith("reference/"):
        listed = re.compile(r"^\.\. (?:autosummary|automodule)::.*\n(?:\n(?: .*\n)+)?", re.M)
        text[0] = re.sub(r"^\.\. auto(?=function|class)", ".. py:", listed.sub("", text[0]), flags=re.M)


def formula(display: str, page: Any, node: Any) -> None:
    """A formula, written as MathML."""
    from docutils import nodes
    from latex2mathml.converter import convert

    page.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Make the pages of the reference before Sphinx looks for sources."""
    from sphinx.ext.autodoc.mock import mock

    with mock(MISSING):
        write_reference()
    app.add_html_math_renderer(
        "mathml", (partial(formula, "inline"), None), (partial(formula, "block"), None)
    )
    app.connect("autodoc-process-docstring", without_sections, priority=100)
    if app.tags.has("short"):
        app.connect("source-read", names_alone)
