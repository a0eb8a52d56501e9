"""What all attention has in common: which keys a query sees, and what becomes of the scores."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import numpy as np

from funcnn import checks, random
from funcnn._kernels import attention as kernels
from funcnn._kernels.steps import counted
from funcnn.checks import Constraint, Flag, Integer, Number, Optional
from funcnn.types import Array, Key, Shape, Spec

RATE = Number(minimum=0, below=1)
SCORES: dict[str, Constraint] = {
    "masked": Flag(),
    "biased": Flag(),
    "return_weights": Flag(),
    "scale": Optional(Number(above=0, held=True)),
    "soft_cap": Optional(Number(minimum=1e-30, held=True)),
    "rate": RATE,
}
WINDOW = Optional(Integer(0))
OFFSET = Integer(0)


class ScoreOptions(TypedDict, total=False):
    """What all attention takes beside the options that change its type."""

    scale: float | None
    soft_cap: float | None
    rate: float


class Look(NamedTuple):
    """What the options of attention say."""

    masked: bool
    biased: bool
    weights: bool  # whether they come out, too
    scale: float | None
    cap: float | None
    rate: float
    causal: bool = False
    window: int | None = None
    offset: int = 0

    @property
    def words(self) -> list[str]:
        """The inputs behind the sequences."""
        return ["bias"] * self.biased + ["mask"] * self.masked

    @property
    def spec(self) -> Spec:
        """What dropping makes of a layer."""
        return Spec(traits=frozenset({"stochastic"} if self.rate else ()))

    def named(self, rest: Any) -> dict[str, Any]:
        """Bias and mask, or their shapes, by name."""
        return dict(zip(self.words, rest, strict=True))

    def fitting(self, shapes: dict[str, Shape], heads: int, pairs: Shape) -> None:
        """Refuse shapes that do not belong to ``(N, T, S)`` pairs of queries and keys."""
        for name, shape in shapes.items():
            wanted: dict[int, Shape] = {3: pairs}
            if name == "mask":
                wanted |= {1: pairs[:1], 2: (pairs[0], pairs[2])}
            elif heads > 1:
                wanted[4] = (pairs[0], heads, *pairs[1:])
            checks.exact_shape(shape, wanted.get(len(shape), wanted[2 if name == "mask" else 3]), name)

    def checked(self, rest: Any, heads: int, pairs: Shape, like: Array, word: str) -> dict[str, Array]:
        """Bias and mask by name, if they fit; of lengths, flags."""
        found = self.named(rest)
        for name, one in found.items():
            if name == "mask":
                checks.mask(one, name)
            else:
                checks.floating(one, name)
                checks.same_dtype(one, like, name, word)
        self.fitting({name: one.shape for name, one in found.items()}, heads, pairs)
        if "mask" in found:
            if found["mask"].ndim == 1:
                checks.counts(found["mask"], (pairs[0], pairs[2]), "mask")
            found["mask"] = counted(found["mask"], pairs[2])
        return found

    def scores(
        self, rest: dict[str, Array], shape: Shape, key: Key | None, like: Array
    ) -> kernels.Scores:
        """What becomes of the scores ``(N, H, T, S)``; a scale of 0 is still to be found."""
        bias, kept = rest.get("bias"), None
        if bias is not None and bias.ndim == 3:
            bias = bias[:, None]
        if key is not None and self.rate:
            kept = random.bernoulli(key, 1 - self.rate, shape) * like.dtype.type(1 / (1 - self.rate))
        how = kernels.Scores(self.scale or 0.0, None, bias, self.cap, kept)
        return how._replace(seen=self.seen(how, rest.get("mask"), shape[2:]))

    def seen(self, how: kernels.Scores, mask: Array | None, steps: Any) -> Array | None:
        """What each query sees."""
        return kernels.visible(steps, self.causal, mask, how.bias, self.window, self.offset)

    def whole(self, out: Any, weights: Any) -> Any:
        """What comes out, or its shape."""
        return (out, weights) if self.weights else out

    def parts(self, dout: Any) -> tuple[Any, Any]:
        """The gradients of both."""
        return checks.together(dout, "out, weights", "dout") if self.weights else (dout, None)

    def gradients(self, shapes: dict[str, Shape], dscores: Array | None, dtype: Any) -> list[Array]:
        """What bias and mask get back."""
        found = []
        for name, shape in shapes.items():
            if name == "mask" or dscores is None:
                found.append(np.zeros(shape, dtype))
            else:
                found.append(kernels.over_heads(dscores) if len(shape) == 3 else dscores)
        return found
