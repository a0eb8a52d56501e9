"""Experiment trackers: callbacks that write a training for TensorBoard, MLflow or W&B."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import struct
import time
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from funcnn import checks, files, tree
from funcnn.training.events import Begin, Callback, Epoch, FitResult, Step

__all__ = ["Tracker", "mlflow", "tensorboard", "wandb"]

Picture = Callable[[FitResult], Any]


class Tracker(Callback):
    """What every tracker is told: a subclass says how its package writes it.

    Parameters
    ----------
    every : int, optional
        Steps after which the loss of a batch is written, beside what each epoch gives.
    pictures : mapping of str to callable, optional
        ``result -> figure`` of matplotlib, drawn at the end.

    Notes
    -----
    It is told the settings of the training; loss, metrics, learning rate and digest of the weights
    of each epoch; at the end the pictures, the file of the checkpoint, and how it ended. Numbers
    that are not finite are left out. A resumed training goes on in the run that has its settings; an
    epoch at whose end it died is written twice, with the same numbers.

    Examples
    --------
    >>> class Printed(Tracker):
    ...     def numbers(self, values: dict[str, float], step: int) -> None:
    ...         print(step, values)
    >>> from funcnn import dense, optimizers, random, train_state
    >>> from funcnn.training import Step
    >>> state = train_state(dense(1), optimizers.sgd(0.1), random.key(0), (1, 1))._replace(step=20)
    >>> Printed(every=10).step(Step(state, 0.25))
    20 {'step_loss': 0.25}
    """

    def __init__(self, every: int | None = None, pictures: Mapping[str, Picture] | None = None) -> None:
        self._every, self._pictures = every, dict(pictures or {})
        self._checkpoint: str | None = None

    def open(self, name: str, settings: dict[str, Any], resumed: bool) -> None:
        """Begin a run, or go on with the one of this name."""
        raise NotImplementedError

    def numbers(self, values: dict[str, float], step: int) -> None:
        """Write numbers that belong to a step."""
        raise NotImplementedError

    def note(self, name: str, text: str, step: int) -> None:
        """Write a text, such as a digest."""
        raise NotImplementedError

    def picture(self, name: str, figure: Any, step: int) -> None:
        """Write a figure of matplotlib."""
        raise NotImplementedError

    def file(self, path: str) -> None:
        """Keep a file with the run."""
        raise NotImplementedError

    def close(self, error: BaseException | None) -> None:
        """End the run, well or not."""
        raise NotImplementedError

    def begin(self, begin: Begin) -> None:
        """Begin the run with the settings of the training."""
        self._checkpoint = begin.checkpoint
        name = tree.digest(begin.settings)[:16]
        count = sum(leaf.size for _, leaf in tree.leaves(begin.state.params))
        more = {"epochs": begin.epochs, "steps in an epoch": begin.steps, "parameters": count}
        self.open(name, {**begin.settings, **more}, begin.resumed)

    def step(self, step: Step) -> None:
        """Write the loss of each so many steps."""
        if self._every and step.state.step % self._every == 0:
            self._finite({"step_loss": step.loss}, step.state.step)

    def epoch(self, epoch: Epoch) -> None:
        """Write what the history has of the epoch, and the digest of the weights."""
        step = int(epoch.record["step"])
        rest = {name: value for name, value in epoch.record.items() if name not in ("epoch", "step")}
        self._finite(rest, step)
        self.note("weights", tree.digest(epoch.state.params), step)

    def end(self, result: FitResult) -> None:
        """Write the pictures, keep the checkpoint, end the run."""
        for name, draw in self._pictures.items():
            drawn = draw(result)
            if drawn is None:
                checks.refuse_type(f"`pictures` must return figures, got None for {checks.shown(name)}")
            self.picture(name, drawn, result.state.step)
        if self._checkpoint is not None:
            self.file(self._checkpoint)
        self.close(None)

    def error(self, error: BaseException) -> None:
        """End the run as one that failed."""
        self.close(error)

    def _finite(self, values: Mapping[str, float], step: int) -> None:
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if finite:
            self.numbers(finite, step)


_NONE: Any = None  # before a run begins, and after its end
_EVERY = checks.Optional(checks.Integer(1))


def _needed(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ImportError(f'{package} is needed: pip install "funcnn[{extra}]"') from None


def _png(figure: Any) -> bytes:
    """A figure of matplotlib as a file."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _make(directory: Path) -> None:
    """Make a folder, and those above it."""
    with files.named(str(directory)):
        with contextlib.suppress(FileNotFoundError):
            os.stat(directory)  # what has no name is refused before a folder is made
        for folder in (*reversed(directory.parents), directory):
            folder.mkdir(exist_ok=True)


def _check(every: int | None, pictures: Mapping[str, Picture] | None) -> None:
    _EVERY.check("every", every)
    if pictures is not None and not (
        isinstance(pictures, Mapping) and all(map(callable, pictures.values()))
    ):
        got = checks.shown(pictures)
        checks.refuse_type(f"`pictures` must be a mapping of names to functions, got {got}")


# --- TensorBoard --------------------------------------------------------------------------------------


class _TensorBoard(Tracker):
    """A file of events in a folder, whole after each epoch."""

    def __init__(self, directory: Path, every: int | None, pictures: Any) -> None:
        super().__init__(every, pictures)
        self._directory, self._writer = directory, _NONE
        parts = ("event_file_writer", "summary", "proto.event_pb2", "proto.summary_pb2")
        found = [_needed(f"tensorboardX.{part}", "tensorboard") for part in parts]
        self._files, self._makes, self._events, self._summaries = found

    def open(self, name: str, settings: dict[str, Any], resumed: bool) -> None:
        _make(self._directory)
        self._writer = self._files.EventsWriter(os.fspath(self._directory / "events"))  # at once
        self.note("settings", json.dumps(settings, indent=1), 0)

    def numbers(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            metric = name.removeprefix("validation_")
            tag = f"{metric}/{'training' if metric == name else 'validation'}"
            self._write("scalar", tag, value, step)

    def note(self, name: str, text: str, step: int) -> None:
        self._write("text", name, text, step)

    def picture(self, name: str, figure: Any, step: int) -> None:
        content = _png(figure)
        made = self._summaries.Summary()
        image = made.value.add(tag=name).image
        image.encoded_image_string, image.colorspace = content, 4
        image.width, image.height = struct.unpack_from(">II", content, 16)  # PNG's header
        self._event(made, step)

    def file(self, path: str) -> None:
        self.note("checkpoint", os.path.abspath(path), 0)

    def close(self, error: BaseException | None) -> None:
        if self._writer is not None:
            self.note("end", "finished" if error is None else f"{type(error).__name__}: {error}", 0)
            self._writer.close()
            self._writer = _NONE

    def epoch(self, epoch: Epoch) -> None:
        super().epoch(epoch)
        self._writer.flush()

    def _write(self, kind: str, tag: str, value: Any, step: int) -> None:
        self._event(getattr(self._makes, kind)(tag, value), step)

    def _event(self, summary: Any, step: int) -> None:
        event = self._events.Event(step=step, wall_time=time.time(), summary=summary)
        self._writer.write_event(event)


@checks.named
def tensorboard(
    directory: str | PathLike[str],
    *,
    every: int | None = None,
    pictures: Mapping[str, Picture] | None = None,
) -> Tracker:
    """Make a callback that writes a training for TensorBoard.

    Parameters
    ----------
    directory : path
        Of this run; a new file is begun in it, also by a resumed training.
    every, pictures : optional
        See `Tracker`.

    Returns
    -------
    Tracker
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
    _check(every, pictures)
    return _TensorBoard(Path(where), every, pictures)


# --- MLflow -------------------------------------------------------------------------------------------

_TAG = "funcnn.training"  # by which a resumed training finds its run


class _MLflow(Tracker):
    """A run of an experiment, written by a client of its own: nothing global is changed."""

    def __init__(self, client: Any, experiment: str, every: int | None, pictures: Any) -> None:
        super().__init__(every, pictures)
        self._client, self._experiment, self._run = client, experiment, ""

    def open(self, name: str, settings: dict[str, Any], resumed: bool) -> None:
        known = self._client.get_experiment_by_name(self._experiment)
        place = known.experiment_id if known else self._client.create_experiment(self._experiment)
        found = resumed and self._client.search_runs(
            [place], f"tags.`{_TAG}` = '{name}'", max_results=1, order_by=["attributes.start_time DESC"]
        )
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, "RUNNING")
            return
        self._run = self._client.create_run(place, tags={_TAG: name}).info.run_id
        for key, value in settings.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._client.log_param(self._run, key.replace(" ", "_"), text[:500])
        self._client.log_dict(self._run, settings, "settings.json")

    def numbers(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def note(self, name: str, text: str, step: int) -> None:
        self._client.set_tag(self._run, name, text)

    def picture(self, name: str, figure: Any, step: int) -> None:
        self._client.log_figure(self._run, figure, f"{name}.png")

    def file(self, path: str) -> None:
        self._client.log_artifact(self._run, path)

    def close(self, error: BaseException | None) -> None:
        if self._run:
            if error is not None:
                self.note("error", f"{type(error).__name__}: {error}", 0)
            killed = isinstance(error, KeyboardInterrupt)
            status = "FINISHED" if error is None else "KILLED" if killed else "FAILED"
            self._client.set_terminated(self._run, status)
            self._run = ""


@checks.named
def mlflow(
    experiment: str,
    *,
    tracking_uri: str | None = None,
    every: int | None = None,
    pictures: Mapping[str, Picture] | None = None,
) -> Tracker:
    """Make a callback that writes a training as a run of MLflow.

    Parameters
    ----------
    experiment : str
        The name of the experiment, which is made where there is none.
    tracking_uri : str, optional
        Of the server or store; by default MLflow's own.
    every, pictures : optional
        See `Tracker`.

    Returns
    -------
    Tracker
        For ``callbacks`` of `funcnn.fit`. A resumed training goes on in the run of its settings.

    Raises
    ------
    ImportError
        Without the package ``mlflow``, or ``mlflow-skinny``.

    Examples
    --------
    >>> from funcnn.training import mlflow
    >>> try:
    ...     mlflow("")
    ... except ValueError as error:
    ...     print(error)
    mlflow: `experiment` must be a name, got ''
    """
    _check_name("experiment", experiment)
    _check(every, pictures)
    client = _needed("mlflow.tracking", "mlflow").MlflowClient(tracking_uri=tracking_uri)
    return _MLflow(client, experiment, every, pictures)


# --- Weights & Biases ---------------------------------------------------------------------------------


class _WandB(Tracker):
    """A run of a project. Its name begins with the digest of the settings, to be found again."""

    def __init__(self, package: Any, options: dict[str, Any], every: int | None, pictures: Any) -> None:
        super().__init__(every, pictures)
        self._package, self._options, self._run = package, options, _NONE

    def open(self, name: str, settings: dict[str, Any], resumed: bool) -> None:
        folder = Path(self._options["dir"]) / "wandb"
        _make(folder.parent)
        before = sorted(folder.glob(f"*run-*-{name}-*")) if resumed else []  # by date
        run = before[-1].name.partition("run-")[2].partition("-")[2] if before else ""
        self._run = self._package.init(
            id=run or f"{name}-{time.time_ns():x}", resume="allow", config=settings, **self._options
        )

    def numbers(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def note(self, name: str, text: str, step: int) -> None:
        self._run.summary[name] = text

    def picture(self, name: str, figure: Any, step: int) -> None:
        from PIL import Image  # which matplotlib needs as well

        opened = Image.open(io.BytesIO(_png(figure)))
        self._run.log({name: self._package.Image(opened)}, step=step)

    def file(self, path: str) -> None:
        kept = self._package.Artifact(f"checkpoint-{self._run.id}", type="checkpoint")
        kept.add_file(path)
        self._run.log_artifact(kept)

    def close(self, error: BaseException | None) -> None:
        if self._run is not None:
            if error is not None:
                self.note("error", f"{type(error).__name__}: {error}", 0)
            self._run.finish(exit_code=0 if error is None else 1)
            self._run = _NONE


@checks.takes(mode=checks.Choice("online", "offline", "disabled"))
def wandb(
    project: str,
    *,
    mode: str = "online",
    directory: str | PathLike[str] = ".",
    every: int | None = None,
    pictures: Mapping[str, Picture] | None = None,
) -> Tracker:
    """Make a callback that writes a training as a run of Weights & Biases.

    Parameters
    ----------
    project : str
        The name of the project.
    mode : "online", "offline" or "disabled", default "online"
        Whether to send it as it goes, to keep it in files for ``wandb sync``, or to do nothing.
    directory : path, default "."
        In which its folder ``wandb`` lies.
    every, pictures : optional
        See `Tracker`.

    Returns
    -------
    Tracker
        For ``callbacks`` of `funcnn.fit`. A resumed training goes on in the run of its settings, if
        `directory` still has it.

    Raises
    ------
    ImportError
        Without the package ``wandb``.

    Examples
    --------
    >>> from funcnn.training import wandb
    >>> try:
    ...     wandb("digits", mode="later")
    ... except ValueError as error:
    ...     print(error)
    wandb: `mode` must be one of 'online', 'offline', 'disabled', got 'later'
    """
    _check_name("project", project)
    _check(every, pictures)
    where = files.checked_folder(directory)
    package = _needed("wandb", "wandb")
    settings = package.Settings(silent=True)
    options = {"project": project, "mode": mode, "dir": where, "settings": settings}
    return _WandB(package, options, every, pictures)


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str):
        checks.refuse_type(f"`{name}` must be a name, got {checks.shown(value)}")
    if not value.strip():
        checks.refuse(f"`{name}` must be a name, got {checks.shown(value)}")
