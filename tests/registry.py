"""The registry: every configuration of every layer, loss and initializer, as data.

The cases themselves live in `tests/cases`, in one module for each family. A new module there is
found by itself; a new layer without a case, or an option that no case sets, fails a test.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from funcnn import numerics
from funcnn.initializers import Initializer
from funcnn.testing import LossSubject, Subject
from funcnn.types import Layer, Loss, Shape, Spec
from tests import cases


class Case(NamedTuple):
    """A layer with an input.

    `x` stands for random normals, `stopped` for the leaves without a gradient by definition (see
    `funcnn.testing.check_layer`), `refused` for inputs with the exact message that they get.
    """

    layer: Layer[Any, Any]
    shape: Shape
    x: Any = None
    stopped: tuple[str, ...] = ()
    refused: tuple[tuple[Any, str], ...] = ()
    note: str = ""

    @property
    def id(self) -> str:
        """What the layer prints as, the shape, and a note where that is not enough."""
        return " ".join(filter(None, [repr(self.layer), str(self.shape), self.note]))


class LossCase(NamedTuple):
    """A loss with a prediction and a target; `refused` holds others, with the exact message."""

    loss: Loss
    prediction: Any
    target: Any
    refused: tuple[tuple[Any, Any, str], ...] = ()
    note: str = ""

    @property
    def id(self) -> str:
        """What the loss prints as, and a note."""
        return " ".join(filter(None, [repr(self.loss), self.note]))


class InitializerCase(NamedTuple):
    """An initializer, with a shape that it can fill."""

    initializer: Initializer
    shape: tuple[int, ...] = (6, 4)
    random: bool = True

    @property
    def id(self) -> str:
        """What the initializer prints as, and the shape."""
        return f"{self.initializer!r} {self.shape}"


@cache
def _gathered(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(cases.__path__)):
        for case in getattr(import_module(f"tests.cases.{module}"), name, ()):
            if case.id in found:
                raise ValueError(f"two cases are called {case.id!r}: give one a note")
            found[case.id] = case
    return found


@cache
def _listed(name: str) -> tuple[Any, ...]:
    return tuple(_gathered(name).values())


def layers() -> tuple[Case, ...]:
    """All cases of layers and networks."""
    return _listed("LAYERS")


def losses() -> tuple[LossCase, ...]:
    """All cases of losses."""
    return _listed("LOSSES")


def initializers() -> tuple[InitializerCase, ...]:
    """All cases of initializers."""
    return _listed("INITIALIZERS")


@lru_cache(maxsize=16)
def _subject(case_id: str, kernels: str) -> Subject:
    case = _gathered("LAYERS")[case_id]
    return Subject(case.layer, case.shape, x=case.x, stopped=case.stopped)


def subject(case: Case) -> Subject:
    """What the laws look at, made once for all laws of a case."""
    return _subject(case.id, numerics.kernels())


COMPILED = re.compile(
    r".*(attention|conv|drop|noise|pool|norm|rnn|lstm|gru|glu|elu|mish|silu|sigmoid|softm|softplus|hard|shrink|tanh|threshold|upsample|unpool|embedding|merge|pad|crop|relative_positions).*"
)
"""The kinds of layers that run compiled kernels."""


def compiled_layers() -> tuple[Case, ...]:
    """The cases with such a layer inside."""

    def runs(case: Case) -> bool:
        return any(COMPILED.fullmatch(spec.kind) for spec in specs(case.layer.spec))

    return tuple(filter(runs, layers()))


def loss_subject(case: LossCase) -> LossSubject:
    """What the laws of a loss look at."""
    return LossSubject(case.loss, case.prediction, case.target)


def specs(spec: Spec) -> Iterator[Spec]:
    """A spec and all those inside it."""
    yield spec
    for child in spec.children:
        yield from specs(child)
