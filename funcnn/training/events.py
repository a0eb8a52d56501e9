"""A callback of `fit` that writes what TensorBoard shows."""

from __future__ import annotations

import contextlib
import math
import os
import time
import weakref
from os import PathLike
from pathlib import Path
from typing import Any

from funcnn import checks, files
from funcnn.training.loop import Epoch

__all__ = ["tensorboard"]


class _Callback:
    """What `tensorboard` makes; the file is opened by the first epoch, and whole after each."""

    def __init__(self, directory: Path, make_writer: Any, make_event: Any, scalar: Any) -> None:
        self._directory, self._make_writer = directory, make_writer
        self._make_event, self._scalar = make_event, scalar
        self._writer: Any = None

    def __call__(self, epoch: Epoch) -> None:
        if self._writer is None:
            with files.named(str(self._directory)):
                with contextlib.suppress(FileNotFoundError):
                    os.stat(self._directory)  # what has no name is refused before a folder is made
                for folder in (*reversed(self._directory.parents), self._directory):
                    folder.mkdir(exist_ok=True)
            self._writer = self._make_writer(os.fspath(self._directory / "events"))
            weakref.finalize(self, self._writer.close)
        for name, value in epoch.record.items():
            if name in ("epoch", "step") or not math.isfinite(value):
                continue
            metric = name.removeprefix("validation_")
            tag = f"{metric}/{'training' if metric == name else 'validation'}"
            step, summary = int(epoch.record["step"]), self._scalar(tag, value)
            self._writer.write_event(
                self._make_event(step=step, wall_time=time.time(), summary=summary)
            )
        self._writer.flush()


@checks.named
def tensorboard(directory: str | PathLike[str]) -> Any:
    """Make a callback that writes loss, metrics and learning rate for TensorBoard.

    Parameters
    ----------
    directory : path
        Of this run; a new file is begun in it.

    Returns
    -------
    callable
        For ``callbacks`` of `funcnn.fit`. Training and validation share a group of charts.

    Raises
    ------
    ImportError
        Without the package ``tensorboardX``.

    Examples
    --------
    >>> import tempfile
    >>> callback = tensorboard(tempfile.mkdtemp())  # fit(..., callbacks=(callback,))
    """
    where = files.checked_folder(directory)
    try:
        from tensorboardX.event_file_writer import EventsWriter  # writes at once, unlike SummaryWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar
    except ImportError:
        raise ImportError("tensorboardX is needed: pip install tensorboardX") from None
    return _Callback(Path(where), EventsWriter, Event, scalar)
