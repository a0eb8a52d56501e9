"""A callback of `fit` that writes what TensorBoard shows."""

from __future__ import annotations

import math
from os import PathLike, fspath
from typing import Any

from funcnn.training.loop import Epoch

__all__ = ["tensorboard"]


class _Callback:
    """What `tensorboard` makes; the file is opened by the first epoch."""

    def __init__(self, directory: str, writer: Any) -> None:
        self._directory, self._make = directory, writer
        self._writer: Any = None

    def __call__(self, epoch: Epoch) -> None:
        if self._writer is None:
            self._writer = self._make(self._directory)
        step = int(epoch.record["step"])
        for name, value in epoch.record.items():
            if name not in ("epoch", "step") and math.isfinite(value):
                part, found, metric = name.partition("_")
                tag = f"{metric}/validation" if found and part == "validation" else f"{name}/training"
                self._writer.add_scalar(tag, value, step)
        self._writer.flush()


def tensorboard(directory: str | PathLike[str]) -> Any:
    """Make a callback that writes loss, metrics and learning rate for TensorBoard.

    Parameters
    ----------
    directory : path
        Of this run; a new file is begun in it.

    Returns
    -------
    callable
        For ``callbacks`` of `funcnn.fit`. Training and validation share a chart.

    Raises
    ------
    ImportError
        Without the package ``tensorboardX``.

    Examples
    --------
    >>> import tempfile
    >>> callback = tensorboard(tempfile.mkdtemp())  # fit(..., callbacks=(callback,))
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError("tensorboardX is needed: pip install funcnn[tensorboard]") from None
    return _Callback(fspath(directory), SummaryWriter)
