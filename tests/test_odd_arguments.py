"""Every argument of every public function, given something odd: it works, or one line says why not.

The options of constructors are in ``test_declarations``, odd files in ``test_fuzzing``; schedules,
initializers and draws meet many more values in tests of their own.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funcnn import (
    checkpoints,
    checks,
    data,
    dense,
    losses,
    metrics,
    model_files,
    models,
    optimizers,
    random,
    tree,
)
from funcnn.checks import Refusal

# What needs more than a call: processes, extras, files of others. Their own tests give them odd things.
ELSEWHERE = {
    "assert_portable", "assert_reproducible", "cifar10", "compile_kernels", "environments", "live",
    "mlflow", "mnist", "mpi", "sweeps.map", "read_image_folder", "statistics", "tensorboard", "wandb",
}  # fmt: skip
SLOW = {"check_layer", "html_report"}
ROOMS = (
    "funcnn", "checkpoints", "combinators", "data", "diagnose", "distributed", "doctor", "losses",
    "metrics", "model_files", "models", "optimizers", "plots", "profiling", "testing",
    "tracing", "training", "tree",
)  # fmt: skip

# Nothing among them is a whole number of which an array could be large, or a file's descriptor.
VALUES: tuple[Any, ...] = (
    None, True, -1, 10**400, 0.5, 1e300, math.nan, -math.inf, "x", "", "a" * 5000, b"x", (), (-1,),
    ("a", None), [3], {"a": None}, {1: np.ones(2)}, range(3), object(), np.array(["a"]),
    np.array([None]), np.zeros((2, 0)), np.float64(math.nan), np.ones((1,) * 40), 1j, {1, 2},
)  # fmt: skip

KEY = random.key(0)
NET: Any = dense(3)
X: Any = random.normal(KEY, (6, 4))
Y = np.array([0, 1, 2, 0, 1, 2])
PARAMS = NET.init(KEY, (6, 4))[1]
LOSS: Any = losses.softmax_cross_entropy()
SGD: Any = optimizers.sgd(0.1)
DATASET = data.Dataset(X, Y)
ONES = np.ones((3, 3))
TEXT: Any = models.transformer_lm(7, 8, features=4, heads=2, depth=1)


def run(setting: Any) -> Any:
    """What `distributed.map` calls."""
    return {"a": setting["a"]}


NAMED: dict[str, Any] = {
    "net": NET, "params": PARAMS, "loss": LOSS, "optimizer": SGD, "x": X, "y": Y, "key": KEY,
    "dataset": DATASET, "train": DATASET, "shape": (6, 4), "state": SGD.init(PARAMS), "updates": PARAMS,
    "grads": PARAMS, "lr": 0.1, "tree": PARAMS, "a": PARAMS, "b": PARAMS, "classes": 3, "size": 4,
    "path": Path("made"), "epochs": 1, "progress": False, "prediction": X[:, :3], "target": Y,
    "matrix": np.eye(3, dtype=int), "history": {"loss": np.ones(2)}, "count": 5, "layer": NET,
    "fn": np.add, "directory": Path("."), "images": np.zeros((2, 1, 4, 4), np.uint8),
    "features": 4, "heads": 2, "steps": 10, "points": 2,
}  # fmt: skip
USUAL: dict[str, dict[str, Any]] = {
    "augmentations": {"parts": ()},
    "autoencoder": {"image_shape": (1, 8, 8), "code": 2},
    "byte_pair_tokenizer": {"text": "abab", "vocabulary_size": 257},
    "check_loss": {"prediction": X[:, :3], "target": Y},
    "character_tokenizer": {"text": "abc"},
    "char_rnn": {"vocabulary_size": 5, "hidden": 4},
    "better": {"metric": metrics.accuracy},
    "with_lengths": {"metric": metrics.accuracy},
    "cast": {"dtype": np.float64},
    "col2im": {"columns": np.ones((4, 18)), "shape": (2, 1, 4, 4), "kernel_size": 2},
    "digest": {"tree": PARAMS},
    "encoder_decoder": {"source_size": 5, "target_size": 5, "max_length": 6, "features": 4, "heads": 2},
    "fold_in": {"data": 1},
    "ema_params": {"state": optimizers.ema().init(PARAMS)},
    "from_frame": {"frame": {"a": [1.0, 2.0], "b": ["u", "v"]}, "target": "b"},
    "generate": {
        "net": TEXT,
        "params": TEXT.init(KEY, (1, 8))[1],
        "prompt": np.array([1, 2]),
        "count": 2,
    },
    "grid": {"options": {}},
    "html_report": {"path": Path("report.html")},
    "im2col": {"x": np.ones((2, 1, 4, 4)), "kernel_size": 2},
    "is_statistic": {"path": "a/b"},
    "load_safetensors": {"path": Path("safe")},
    "load_tokenizer": {"path": Path("tokens")},
    "learning_rate_finder": {"optimizer": optimizers.sgd},
    "map": {"others": (PARAMS,), "run": run, "settings": [{"a": 1}]},
    "map_several": {"fn": lambda path, leaf: (leaf, leaf), "number": 2, "others": ()},
    "map_with_path": {"fn": lambda path, leaf, other: other, "others": (PARAMS,)},
    "mae": {"prediction": X, "target": X},
    "matmul": {"a": ONES, "b": ONES},
    "mlflow": {"experiment": "x"},
    "mlp": {"hidden": (4,)},
    "mlp_mixer": {"image_size": (8, 8)},
    "new_figure": {"width": 2.0, "height": 2.0},
    "normalize": {"others": (DATASET,)},
    "one_hot": {"labels": Y},
    "path": {"keys": ("a",)},
    "place": {"path": "a/b"},
    "power": {"x": ONES, "y": 2.0},
    "prepared": {"source": X, "change": np.copy},
    "pixels": {"images": np.zeros((2, 1, 4, 4), np.uint8)},
    "r2": {"prediction": X, "target": X},
    "random_shift": {"pixels": 1},
    "read_npz": {"path": Path("set.npz"), "x": "x", "y": "y"},
    "read_npy": {"x": Path("x.npy"), "y": Path("y.npy")},
    "read_csv": {"path": Path("table.csv"), "target": "b", "kind": "number"},
    "read_idx": {"path": Path("images.idx")},
    "read_image_folder": {"path": Path("."), "size": 4},
    "reduce": {"fn": lambda total, leaf: total, "initial": 0.0},
    "replace": {"changes": {"bias": np.zeros(3, np.float32)}},
    "resize": {"size": (2, 2), "images": np.zeros((2, 1, 4, 4))},
    "resnet_small": {"depth": 8, "width": 2},
    "rmse": {"prediction": X, "target": X},
    "save": {"meta": {"a": 1}, "path": Path("made.npz")},
    "scale": {"factor": 2.0},
    "select": {"pattern": "*"},
    "split": {"fraction": 0.5},
    "stacked_matmul": {"a": ONES[None], "b": ONES[None], "out": np.ones((1, 3, 3))},
    "statistics": {"net": NET},
    "stream": {"begin": lambda key, epoch: iter([DATASET, DATASET]), "steps": 2},
    "summed_matmul": {"a": ONES[None], "b": ONES[None], "dtype": np.float64},
    "top_k": {"k": 2},
    "transformer_decoder_block": {"hidden": 8},
    "transformer_encoder_block": {"hidden": 8},
    "transformer_lm": {"vocabulary_size": 5, "max_length": 6, "features": 4, "heads": 2},
    "unflatten": {"vector": tree.flatten(PARAMS), "like": PARAMS},
    "use": {"mode": "fast"},
    "vgg_small": {"widths": (2, 2, 2), "hidden": (4,)},
    "walk": {"outs": [], "trees": (PARAMS,)},
    "wandb": {"project": "x", "mode": "disabled"},
    "write_whole": {"content": b"x"},
}

FILES: dict[str, dict[str, Any]] = {"funcnn.model_files": {"path": Path("saved")}}


def _functions() -> Iterator[Any]:
    """The public functions, once each, but for constructors."""
    seen = set()
    for room in ROOMS:
        module = import_module("funcnn" if room == "funcnn" else f"funcnn.{room}")
        for name in getattr(module, "__all__", dir(module)):
            function = getattr(module, name)
            if not inspect.isfunction(function) or checks.declaration(function) or function in seen:
                continue
            seen.add(function)
            where = f"{function.__module__.rpartition('.')[2]}.{name}"
            if not ELSEWHERE & {name, where}:
                yield pytest.param(function, id=where)


def _call(function: Any, name: str = "", odd: Any = None) -> Any:
    """The function with its usual arguments, but for one."""
    signature = inspect.signature(function)
    own = NAMED | USUAL.get(function.__name__, {}) | FILES.get(function.__module__, {})
    given = {key: own.get(key, each.default) for key, each in signature.parameters.items()}
    missing = [key for key, value in given.items() if value is Parameter.empty]
    assert not missing, f"say what is usual for {missing}"
    if name:
        kind = signature.parameters[name].kind
        given[name] = {kind.VAR_POSITIONAL: (odd,), kind.VAR_KEYWORD: {"odd": odd}}.get(kind, odd)
    call = inspect.BoundArguments(signature, given)
    found = function(*call.args, **call.kwargs)
    return list(found) if isinstance(found, Iterator) else found


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a file of each kind that functions read."""
    monkeypatch.chdir(tmp_path)
    checkpoints.save("made", PARAMS)
    checkpoints.save_safetensors("safe", PARAMS)
    model_files.save("saved", NET, PARAMS)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    np.savez("set.npz", x=X, y=Y)
    Path("table.csv").write_text("a,b\n1,2\n3,4\n")
    Path("images.idx").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3]))
    data.character_tokenizer("ab").save("tokens")


@pytest.mark.parametrize("function", list(_functions()))
def test_odd_arguments_are_taken_or_refused_in_one_line(function: Any) -> None:
    _call(function)
    for name in inspect.signature(function).parameters:
        for odd in VALUES[:: 5 if function.__name__ in SLOW else 1]:
            try:
                _call(function, name, odd)
            except Refusal as refusal:
                text = str(refusal)
                assert len(text) < 300, text
                assert "\n" not in text, text
                assert re.match(r"[\w/]+: ", text), text
            except OSError:  # as from Python
                assert name in ("path", "x", "y", "checkpoint", "resume", "log")
            except AssertionError as error:
                assert function.__name__.startswith("check_"), error  # noqa: PT017
