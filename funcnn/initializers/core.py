"""What an initializer is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funcnn import checks, random
from funcnn.types import Array, Key

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Initializer"]


class Initializer(NamedTuple):
    """A way to begin: call it with a key and a shape.

    Parameters
    ----------
    draw : callable
        ``(key, shape, dtype, *options) -> array``: a function at the top of a module, so that the
        initializer can be pickled.
    options : tuple
        What `draw` takes beyond key, shape and dtype.
    shown : str
        How it prints: the call that made it.
    min_rank : int
        How many axes a shape must have at least.

    Examples
    --------
    >>> from funcnn import random
    >>> from funcnn.initializers import he_normal, he_uniform
    >>> he_normal()(random.key(0), (3, 2)).dtype
    dtype('float32')
    >>> he_normal() == he_normal(), he_normal() == he_uniform()
    (True, False)
    """

    draw: Callable[..., Array]
    options: tuple[Any, ...] = ()
    shown: str = ""
    min_rank: int = 0

    def __call__(self, key: Key, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> Array:
        """Draw an array, or nothing but its shape.

        Parameters
        ----------
        key : Key
            Where the randomness comes from. From `funcnn.random.NO_DRAW` come zeros that take no
            memory.
        shape : tuple of int
            The shape of the result; of weights, ``(out, in, *kernel)``.
        dtype : dtype
            float32 or float64.

        Returns
        -------
        array
            Of `shape` and `dtype`.

        Raises
        ------
        TypeError
            If an argument is of the wrong kind.
        ValueError
            If `shape` has too few axes to have fans, or `draw` gives something else than asked for.

        Examples
        --------
        >>> from funcnn import random
        >>> from funcnn.initializers import ones
        >>> ones()(random.key(0), (3,))
        array([1., 1., 1.], dtype=float32)
        """
        try:
            return self._drawn(key, shape, dtype)
        except checks.Refusal as refusal:
            raise refusal.by(repr(self).partition("(")[0])

    def _drawn(self, key: Key, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        shape, kind = checks.sizes(shape), checks.float_dtype(dtype)
        if len(shape) < self.min_rank:
            checks.refuse(
                f"`shape` must have at least {self.min_rank} axes (out, in, ...), got {shape}"
            )
        if checks.key(key) == random.NO_DRAW:
            return random.uniform(key, shape, dtype=kind)
        drawn = checks.array(self.draw(key, shape, kind, *self.options), "draw(...)")
        if drawn.shape != shape or drawn.dtype != kind:
            wanted, got = f"{kind} of shape {shape}", f"{drawn.dtype} of shape {drawn.shape}"
            checks.refuse(f"`draw(...)` must be {wanted}, got {got}")
        return drawn

    def __repr__(self) -> str:
        return self.shown or f"{self.draw.__name__}({', '.join(map(repr, self.options))})"


INITIALIZER = checks.Instance(Initializer, "an Initializer")
"""What a constructor declares of an option that takes an initializer."""

BIAS_INIT = checks.When(INITIALIZER, "bias", True)
"""What it declares of `bias_init`."""
