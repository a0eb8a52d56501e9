"""How many operations products take: counted, not done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from funcnn.numerics import modes, sets
from funcnn.types import Array


class Counter:
    """The mode in force, in which products give zeros and are counted.

    Parameters
    ----------
    own : module
        The mode that does everything else.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import numerics
    >>> with numerics.counting() as counter:
    ...     out = numerics.matmul(np.ones((2, 3)), np.ones((3, 4)))
    >>> out.shape, counter.operations
    ((2, 4), 48)
    """

    def __init__(self, own: modes.Arithmetic) -> None:
        self._own = own
        self._found: list[int] = []  # several threads may append to it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    @property
    def operations(self) -> int:
        """Multiplications and additions so far."""
        return sum(self._found)

    def _count(self, pairs: int) -> None:
        if counter() is self:
            self._found.append(2 * pairs)

    @contextmanager
    def one_product(self, pairs: int) -> Iterator[None]:
        """Count so many pairs of numbers, whatever the products inside multiply."""
        self._count(pairs)
        here = _counter.set(None)
        try:
            yield
        finally:
            _counter.reset(here)

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """As `funcnn.numerics.matmul`."""
        if out is None:
            stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            shape = (*stack, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ()))
            out = np.zeros(shape, np.result_type(a, b))
        else:
            out[...] = 0
        self._count(out.size * a.shape[-1])
        return out

    def stacked_matmul(self, a: Array, b: Array, out: Array) -> Array:
        """As `funcnn.numerics.stacked_matmul`."""
        return self.matmul(a, b, out)

    def summed_matmul(self, a: Array, b: Array, dtype: DTypeLike) -> Array:
        """As `funcnn.numerics.summed_matmul`."""
        stack = np.broadcast_shapes(a.shape[:-3], b.shape[:-3])
        out = np.zeros((*stack, a.shape[-2], b.shape[-1]), dtype)
        self._count(out.size * a.shape[-3] * a.shape[-1])
        return out


_counter: ContextVar[Counter | None] = ContextVar("funcnn.numerics.counter", default=None)
counter = _counter.get
"""Who counts in this thread at this place, if anybody.

A kernel that multiplies more than its product takes, or in pieces, says so there.
"""


@contextmanager
def counting() -> Iterator[Counter]:
    """Count the operations of products inside a ``with`` block, instead of doing them.

    Returns
    -------
    context manager
        Its value is a `Counter`, with the number of ``operations`` so far.

    Notes
    -----
    A multiplication and the addition that follows it are two operations. A convolution counts as the
    product of its filters and columns, whichever way it is computed. Compiled kernels, which cannot be
    counted, do not run inside the block; NumPy's take their place.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import conv, numerics, random
    >>> layer = conv(6, 5)
    >>> _, params = layer.init(random.key(0), (1, 1, 28, 28))
    >>> with numerics.counting() as counter:
    ...     out, _ = layer.apply(params, np.ones((1, 1, 28, 28), np.float32))
    >>> counter.operations == 2 * 6 * 24 * 24 * 25
    True
    """
    own: Any = Counter(modes.arithmetic())
    mode, here = modes._current.set(own), _counter.set(own)
    try:
        with sets.compiled("off"):
            yield own
    finally:
        _counter.reset(here)
        modes._current.reset(mode)
