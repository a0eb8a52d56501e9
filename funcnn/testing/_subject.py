"""What the laws of a layer look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set as AbstractSet
from functools import cached_property
from typing import Any, NamedTuple, get_args

import numpy as np

from funcnn import random, structure, tree
from funcnn.checks import STR, Each, refuse, refuse_type, shown
from funcnn.testing import _values
from funcnn.types import Array, Cache, Key, Layer, Params, Shape, Spec, Trait, has_trait

__all__ = ["Subject"]


class Run(NamedTuple):
    """A layer's forward and backward pass."""

    out: Any
    cache: Cache
    dout: Any
    dparams: Params
    dx: Any
    only_dparams: Params  # by `params_vjp`, where there is one

    @property
    def results(self) -> tuple[Any, ...]:
        """What others see of it: `RESULTS` are the names."""
        return self.out, self.dparams, self.dx, self.only_dparams


RESULTS = ("out", "dparams", "dx", "only_dparams")


class Subject:
    """A layer with an input, for the laws to look at.

    Parameters
    ----------
    layer : Layer
        The layer.
    shape : Shape
        Of its input, with a batch of at least 2; for several inputs, a tuple of shapes.
    key : Key, optional
        Where the parameters and the random inputs come from, instead of `seed`.
    x : array or tuple of arrays, optional
        The input, instead of random normals; needed for integers.
    traits : iterable of Trait
        Beyond those of the layer's spec.
    stopped : iterable of str
        Leaves whose gradient is zero by definition: ``"x"``, ``"params/dense1/weight"``, or the
        start of such a path.
    seed : int
        For `key`.

    Raises
    ------
    ValueError, TypeError
        For something that is not a layer, a batch of less than 2, an `x` of another shape, or an
        unknown trait.

    Examples
    --------
    >>> from funcnn import relu
    >>> Subject(relu(), (4, 3)).x.shape
    (4, 3)
    """

    def __init__(
        self,
        layer: Layer[Any, Any],
        shape: Shape,
        *,
        key: Key | None = None,
        x: Any = None,
        traits: Iterable[Trait] = (),
        stopped: Iterable[str] = (),
        seed: int = 0,
    ) -> None:
        if not isinstance(layer, Layer):
            refuse_type(f"`layer` must be a Layer, got {shown(layer)}", "check_layer")
        if any(not one or one[0] < 2 for _, one in structure.each_shape(shape)):
            refuse(f"`shape` must have a batch of at least 2, got {shape}", "check_layer")
        for name, words in (("traits", traits), ("stopped", stopped)):
            Each(STR, "words").check(name, list(words) if isinstance(words, AbstractSet) else words)
        self.layer, self.spec, self.shape = layer, layer.spec, shape
        self.key = random.key(seed) if key is None else key
        self.own_traits = layer.spec.traits | frozenset(traits)
        for trait in {*self.own_traits, *_traits(layer.spec)} - {*get_args(Trait)}:
            known = ", ".join(map(repr, get_args(Trait)))
            refuse(f"`traits` must be among {known}, got {shown(trait)}", "check_layer")
        self.stopped = tuple(stopped)
        self._drawn: dict[tuple[str, Shape], Array] = {}
        self._is_drawn = x is None
        if x is None:
            x = structure.over_shapes(self.draw, shape)
        if _values.shapes(x) != shape:
            refuse(f"`x` must have shape {shape}, got {_values.shapes(x)}", "check_layer")
        self.x = _values.frozen(_values.cast(_values.copied(x), np.float64))
        self.init_key = random.fold_in(self.key, "init")
        self.modes: dict[str, Key | None] = {
            "inference": None,
            "training": random.fold_in(self.key, "training"),
        }
        self._runs: dict[Any, Run] = {}
        self._cast: dict[Any, Params] = {}

    @property
    def distinct_modes(self) -> tuple[str, ...]:
        """The modes, without training where that is what inference is."""
        return tuple(self.modes)[: 1 + (self.has("stochastic") or self.has("statistics"))]

    def has(self, trait: Trait) -> bool:
        """Whether the layer, or one inside it, has a trait."""
        return trait in self.own_traits or has_trait(self.spec, trait)

    def couples(self, mode: str) -> bool:
        """Whether examples see each other: not in inference, where statistics are given."""
        return self.has("couples_batch") and (mode == "training" or not self.has("statistics"))

    def tells_examples(self, mode: str) -> bool:
        """Whether what comes out for an example is its own: neither its neighbours' nor a draw's."""
        return not (self.couples(mode) or (mode == "training" and self.has("stochastic")))

    def is_stopped(self, path: str) -> bool:
        """Whether the gradient at a path is zero by definition."""
        return tree.is_statistic(path) or any(f"{path}/".startswith(f"{s}/") for s in self.stopped)

    def draw(self, label: str, shape: Shape) -> Array:
        """Random normals, the same ones for the same label; read-only."""
        if (label, shape) not in self._drawn:
            drawn = random.normal(random.fold_in(self.key, label), shape, dtype=np.float64)
            self._drawn[label, shape] = _values.frozen(drawn)
        return self._drawn[label, shape]

    def dout(self, out: Any, label: str = "dout") -> Any:
        """A random gradient for an output; zeros for what has none."""

        def like(leaf: Array, drawn: Array) -> Array:
            return drawn.astype(leaf.dtype) if _values.is_float(leaf) else np.zeros_like(drawn)

        drawn = structure.over_shapes(self.draw, _values.shapes(out), label)
        return _values.frozen(_values.mapped(like, out, drawn))

    @cached_property
    def started(self) -> tuple[Shape, Params]:
        """What `init` gives."""
        out_shape, params = self.layer.init(self.init_key, self.shape)
        return out_shape, _values.frozen(params)

    @cached_property
    def params(self) -> Params:
        """Parameters in float64, away from special values: a weight of 1 would hide its absence."""

        def moved(path: str, leaf: Any) -> Any:
            if not _values.is_float(leaf):
                return leaf
            noise = 0.25 * self.draw(path, leaf.shape)
            return leaf + (np.abs(noise) if tree.is_statistic(path) else noise)

        wide = _values.cast(self.started[1], np.float64)
        return dict(_values.frozen(_values.mapped_with_path(moved, wide, path="params")))

    def params_in(self, dtype: Any) -> Params:
        """The same in a dtype."""
        if dtype not in self._cast:
            self._cast[dtype] = _values.frozen(_values.cast(self.params, dtype))
        return self._cast[dtype]

    def given(self, dtype: Any, chosen: Any = slice(None)) -> tuple[Params, Any]:
        """The parameters and the input in a dtype, or some examples of it."""
        return self.params_in(dtype), _values.batch(_values.cast(self.x, dtype), chosen)

    def batch_of(self, size: int) -> Any:
        """A batch of another size; of an `x` that was given, its first examples."""
        if not self._is_drawn:
            return _values.batch(self.x, slice(size))
        return structure.over_shapes(self.draw, structure.with_batch(self.shape, size))

    def fresh(self, mode: str, params: Params, x: Any, dout: Any = None) -> Run:
        """Forward and backward, with a random `dout` where none is given."""
        return self._back(*self.layer.apply(params, x, key=self.modes[mode]), dout)

    def run(self, mode: str, dtype: Any = np.float64) -> Run:
        """The pass that the laws share, all of it read-only."""
        if (mode, dtype) not in self._runs:
            params, x = self.given(dtype)
            passed = _values.frozen(self.layer.apply(params, x, key=self.modes[mode]))
            self._runs[mode, dtype] = _values.frozen(self._back(*passed))
        return self._runs[mode, dtype]

    def _back(self, out: Any, cache: Cache, dout: Any = None) -> Run:
        """The pass, when it has gone forward."""
        dout = self.dout(out) if dout is None else dout
        dparams, dx = self.layer.vjp(cache, dout)
        alone = self.layer.params_vjp
        return Run(out, cache, dout, dparams, dx, dparams if alone is None else alone(cache, dout))


def _traits(spec: Spec) -> Iterator[Trait]:
    """The traits of a layer and of those inside it."""
    yield from spec.traits
    for child in spec.children:
        yield from _traits(child)
