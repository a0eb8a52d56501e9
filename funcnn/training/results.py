"""How a training went, epoch by epoch, and how that shows itself."""

from __future__ import annotations

from funcnn.types import Array
from funcnn.types.shown import grid

__all__ = ["History"]

_ENDS = 5  # epochs that a table shows at its start and at its end


class History(dict[str, Array]):
    """One value for each epoch, by its name: a dict that shows itself in few lines.

    Examples
    --------
    >>> import numpy as np
    >>> History(epoch=np.array([1, 2]), loss=np.array([0.5, 0.25]))
    <2 epochs: loss 0.5 -> 0.25>
    """

    __slots__ = ()

    def __repr__(self) -> str:
        count = max(map(len, self.values()), default=0)
        ends = [
            f"{name.replace('_', ' ')} {values[0]:.4g} -> {values[-1]:.4g}"
            for name, values in self.items()
            if len(values) and name not in ("epoch", "step", "learning_rate")
        ]
        return f"<{count} epochs{': ' if ends else ''}{', '.join(ends)}>"

    def _repr_html_(self) -> str:
        rows = list(zip(*self.values(), strict=True))
        cut = rows if len(rows) <= 2 * _ENDS else [*rows[:_ENDS], ("...",) * len(self), *rows[-_ENDS:]]
        lines = ((cell if isinstance(cell, str) else f"{cell:.6g}" for cell in row) for row in cut)
        return grid(self, lines)
