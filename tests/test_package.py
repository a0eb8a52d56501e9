"""The package: light to import, whole without its extras, each named where it is missing."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

import funcnn
from funcnn import plots
from funcnn.training.trackers import tensorboard

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = {"matplotlib", "tqdm", "safetensors", "tensorboardX", "torch", "jax"}


def _loaded(program: str) -> set[str]:
    """The modules that a fresh interpreter has loaded for a program, beyond NumPy's own."""
    shown = f"import sys, numpy; a = set(sys.modules); {program}; print(*(set(sys.modules) - a))"
    run = subprocess.run(
        [sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_takes_few_modules() -> None:
    loaded = _loaded("import funcnn")
    assert "funcnn" in loaded
    assert len(loaded) <= 5
    assert not {name.split(".")[0] for name in loaded} & EXTRAS
    assert not any(name.startswith("numpy.random") for name in loaded)


def test_training_takes_no_extra() -> None:
    program = """
from funcnn import data, dense, fit, flatten, optimizers, random, serial, softmax_cross_entropy
small = data.digits().take(slice(64))
net = serial(flatten(), dense(10))
adam = optimizers.adam(0.1)
fit(net, softmax_cross_entropy(), adam, small, key=random.key(0), epochs=1, progress=False)
"""
    loaded = _loaded(f"exec({program!r})")
    assert "funcnn.training.loop" in loaded
    assert not {name.split(".")[0] for name in loaded} & EXTRAS


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("matplotlib", "plot", lambda path: plots.curves({"loss": np.ones(1)})),
        ("tensorboardX", "tensorboard", tensorboard),
    ],
)
def test_a_missing_extra_is_named_in_one_line(
    module: str, extra: str, use: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(ImportError) as caught:
        use(tmp_path / "file")
    assert str(caught.value) in (
        f"{module} is needed: pip install {module}",
        f'{module} is needed: pip install "funcnn[{extra}]"',
    )
    wanted = PROJECT["project"]["optional-dependencies"][extra]
    assert [text.partition(">")[0] for text in wanted] == [module]


def test_what_is_shipped() -> None:
    here = Path(funcnn.__file__).parent
    assert (here / "py.typed").is_file()
    assert (here / "data" / "digits_8x8.npz").is_file()
    assert (ROOT / "LICENSE").is_file()
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    assert PROJECT["project"]["version"] == funcnn.__version__
    known = {".py", ".pyi", ".pyc"}
    other = {path for path in here.rglob("*") if path.suffix not in known and path.is_file()}
    assert other == {here / "py.typed", here / "data" / "digits_8x8.npz"}


PACKAGES = sorted(stub.parent for stub in Path(funcnn.__file__).parent.rglob("__init__.pyi"))


def _public(module: ModuleType) -> list[str]:
    """What a module lists, or else what it defines without a leading underscore."""
    defined = ast.parse(inspect.getsource(module)).body
    classes = [one.name for one in defined if isinstance(one, (ast.ClassDef, ast.FunctionDef))]
    bound = [one.targets[0] for one in defined if isinstance(one, ast.Assign)]
    bound += [one.target for one in defined if isinstance(one, ast.AnnAssign)]
    names = classes + [one.id for one in bound if isinstance(one, ast.Name)]
    public = [name for name in names if name[0] != "_" and len(name) > 1]
    return list(getattr(module, "__all__", public))


@pytest.mark.parametrize("package", PACKAGES, ids=[package.name for package in PACKAGES])
def test_every_name_of_a_stub_is_there(package: Path) -> None:
    name = ".".join(package.relative_to(Path(funcnn.__file__).parent.parent).parts)
    module = importlib.import_module(name)
    assert module.__all__
    for public in module.__all__:
        found = getattr(module, public)
        assert public in dir(module)
        if inspect.ismodule(found):
            assert found.__name__ == f"{name}.{public}"
    body = ast.parse((package / "__init__.pyi").read_text()).body
    for statement in body:
        if isinstance(statement, ast.ImportFrom) and statement.module != name:
            home = importlib.import_module(str(statement.module))
            names = [alias.name for alias in statement.names]
            theirs = _public(home)
            assert {*(theirs if names == ["*"] else names)} <= {*module.__all__} & {*theirs}


def test_every_room_is_an_attribute_of_the_package() -> None:
    rooms = {path.stem for path in Path(funcnn.__file__).parent.glob("[a-z]*")} - {"py"}
    program = f"import funcnn; [getattr(funcnn, room) for room in {sorted(rooms)!r}]"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_layers_may_be_imported_from_their_room() -> None:
    program = "import funcnn.layers.attentions; from funcnn.layers import attention, conv, embedding"
    program += "; assert callable(attention) and callable(embedding) and callable(conv)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.slow
def test_wheel_and_archive(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    copy = tmp_path / "copy"
    copied = "pyproject.toml LICENSE README.md funcnn tests"
    program = f"""
import os, shutil
from pathlib import Path
copy = Path({str(copy)!r}); copy.mkdir()
for name in {copied.split()!r}:
    at = Path({str(ROOT)!r}, name)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(at, copy / name, ignore=skip) if at.is_dir() else shutil.copy(at, copy)
os.chdir(copy)
from hatchling import build
build.build_wheel("dist"); build.build_sdist("dist")
"""
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    with ZipFile(next(copy.glob("dist/*.whl"))) as wheel:
        packed = [(set(wheel.namelist()), "")]
    with tarfile.open(next(copy.glob("dist/*.tar.gz"))) as archive:
        packed.append((set(archive.getnames()), f"funcnn-{funcnn.__version__}/"))
    for names, root in packed:
        shipped = {"funcnn/py.typed", "funcnn/__init__.pyi", "funcnn/data/digits_8x8.npz"}
        assert {root + name for name in shipped} <= names
        assert any(name.endswith("/LICENSE") for name in names)
        assert not [name for name in names if "tests" in name.split("/")]
