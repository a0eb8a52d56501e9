"""What a layer, a loss or an optimizer is, as data: the call that builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias

import numpy as np

P = ParamSpec("P")
On: TypeAlias = Literal[True]
Off: TypeAlias = Literal[False]
Trait: TypeAlias = Literal[
    "couples_batch",
    "meets_shards",
    "statistics",
    "stochastic",
    "monotone",
    "maximum",
    "inference",
    "integers",
    "walks",
]
"""What a combinator or a trainer must know of a layer.

``couples_batch``: an example's output depends on its neighbours in the batch.
``meets_shards``: couples the batch where it is cut, too, by `funcnn.machine.lockstep`.
``statistics``: parameters named ``running_*`` get new values in training, by `Layer.statistics`.
``stochastic``: draws from its key in training.
``monotone``: elementwise and non-decreasing (commutes with taking a maximum).
``maximum``: each output is the largest of some inputs.
``inference``: what is inside runs without a key, in training too.
``integers``: passes integers and booleans on, beside floats.
``walks``: goes from step to step, which takes many small calls where it is not compiled.
"""


def _undeclared(*args: Any, **options: Any) -> Any:
    raise TypeError("a layer without a `Spec` can be neither printed, pickled nor built again")


class Spec(NamedTuple):
    """What a layer, loss or optimizer is, as data: the call that builds it.

    Parameters
    ----------
    build : callable
        The public constructor, importable by name. Its ``__name__`` is the `kind`.
    args : tuple
        Positional arguments, before the children.
    options : mapping
        Keyword arguments.
    children : tuple of Spec
        The layers a combinator combines, its last positional arguments.
    traits : frozenset of str
        See `Trait`; those of the children count without being repeated.

    Examples
    --------
    >>> from funcnn import conv
    >>> conv(6, 5, stride=2).spec.kind
    'conv'
    """

    build: Callable[..., Any] = _undeclared
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})
    children: tuple[Spec, ...] = ()
    traits: frozenset[Trait] = frozenset()

    @property
    def kind(self) -> str:
        """The constructor's name: ``"conv"``."""
        return str(self.build.__name__)

    @property
    def name(self) -> str | None:
        """The name given by `funcnn.named`, if any."""
        return str(self.args[0]) if self.kind == "named" else None

    def __repr__(self) -> str:
        before, after = self.outside()
        return f"{self.kind}({', '.join([*before, *map(repr, self.children), *after])})"

    def outside(self) -> tuple[list[str], list[str]]:
        """The arguments before the children, and the options that are not as by default, as text."""
        from inspect import signature  # deferred: printing is rare, `inspect` is slow to import

        defaults = {n: p.default for n, p in signature(self.build).parameters.items()}
        options = [
            f"{option}={value!r}"
            for option, value in _plain(dict(self.options)).items()
            if type(value) is not type(defaults.get(option)) or value != defaults.get(option)
        ]
        return [repr(_plain(part)) for part in self.args], options

    def __reduce__(self) -> tuple[Any, ...]:
        return Spec, (self.build, self.args, dict(self.options), self.children, self.traits)


def _plain(value: Any) -> Any:
    """Numbers as they are written in code, where NumPy's own were given."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return tuple(map(_plain, value)) if type(value) is tuple else value


def has_trait(spec: Spec, trait: Trait, *, training: bool = True, without: Trait | None = None) -> bool:
    """Whether a layer, or any layer inside it, has a trait.

    Parameters
    ----------
    spec : Spec
        Of the layer.
    trait : Trait
        Which one.
    training : bool, default True
        Whether there is a key. Without one nothing is drawn, statistics stay, and those that were
        kept stand in for those of the batch.
    without : Trait, optional
        Layers with this trait do not count.

    Returns
    -------
    bool

    Examples
    --------
    >>> from funcnn import relu, serial
    >>> has_trait(serial(relu(), relu()).spec, "monotone")
    True
    """
    training = training and "inference" not in spec.traits
    own = set(spec.traits)
    if not training:
        own -= {"stochastic", "statistics"} | ({"couples_batch"} if "statistics" in own else set())
    inside = (has_trait(child, trait, training=training, without=without) for child in spec.children)
    return (trait in own and without not in own) or any(inside)


def rebuild(spec: Spec) -> Any:
    """Build again what a `Spec` describes.

    Parameters
    ----------
    spec : Spec
        Of a layer, a loss or an optimizer.

    Returns
    -------
    Layer, Loss or Optimizer
        With the same bits for the same keys.

    Examples
    --------
    >>> from funcnn import conv, relu, serial
    >>> rebuild(serial(conv(6, 5), relu()).spec)
    serial(conv(6, 5), relu())
    """
    return spec.build(*spec.args, *map(rebuild, spec.children), **spec.options)
