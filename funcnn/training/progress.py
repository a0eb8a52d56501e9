"""How a training says how it goes: a bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from types import TracebackType
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Says how a training goes, on standard output; with ``shown=False``, nothing.

    On a terminal and in a notebook, with ``tqdm`` installed, each epoch has a bar; a line for each
    epoch stays. Elsewhere, as in a file, there are the lines alone.

    Parameters
    ----------
    epochs, steps : int
        Of the whole training, and in each epoch.
    shown : bool, optional
        Whether to say anything; by default, it does.

    Examples
    --------
    >>> with Progress(epochs=3, steps=10, shown=True) as progress:
    ...     progress.epoch({"epoch": 1, "loss": 0.5}, seconds=40.0)
    epoch   1/3  loss 0.5000  40.0 s, 1:20 left
    """

    def __init__(self, epochs: int, steps: int, shown: bool | None) -> None:
        self._shown = shown is not False
        self._epochs, self._steps = epochs, steps
        self._bar: Any = None
        live = self._shown and (_in_notebook() or _is_terminal(sys.stdout))
        self._make_bar = _tqdm() if live else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def step(self, loss: float) -> None:
        """One step is done; `loss` is the epoch's mean so far."""
        if self._make_bar is not None:
            with _whatever_the_stream():
                if self._bar is None:
                    self._bar = self._make_bar(
                        total=self._steps, leave=False, unit="step", file=sys.stdout
                    )
                self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
                self._bar.update()

    def epoch(self, record: dict[str, float], seconds: float) -> None:
        """An epoch is done, which took so long."""
        self._close()
        if self._shown:
            hidden = ("epoch", "step", "learning_rate")
            parts = [
                f"{name.replace('_', ' ')} {value:.4f}"
                for name, value in record.items()
                if name not in hidden
            ]
            left = self._epochs - int(record["epoch"])
            parts.append(f"{seconds:.1f} s" + (f", {_clock(left * seconds)} left" if left > 0 else ""))
            _say(f"epoch {record['epoch']:>3}/{self._epochs}  {'  '.join(parts)}")

    def _close(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            with _whatever_the_stream():
                bar.close()


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds as a clock shows them: ``1:20``, ``2:03:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _say(line: str) -> None:
    with _whatever_the_stream():
        print(line, flush=True)


def _whatever_the_stream() -> suppress:
    """A stream may be missing, closed, broken or no stream at all: it ends no training."""
    return suppress(Exception)


def _is_terminal(stream: Any) -> bool:
    """Whether somebody looks on, and sees what is written."""
    with _whatever_the_stream():
        stream.write("")
        stream.flush()
        return bool(stream.isatty())
    return False


def _in_notebook() -> bool:
    """Whether this is a cell of a notebook, which shows more than text."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _tqdm() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a notebook without ipywidgets gets a bar of text
            from tqdm import auto
    except ImportError:  # plain lines do without
        return None
    return auto.tqdm
