"""The laws of batches: of none, of one, and of any number of examples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from itertools import product
from typing import Any

import numpy as np

from funcnn import structure
from funcnn.testing import _values
from funcnn.testing._calculus import STEP, agree_on_slope, moved
from funcnn.testing._laws import ROUNDING, Law, agree, breach, law, names_its_layer
from funcnn.testing._subject import Run, Subject
from funcnn.types import Array

_SIZES = (2, 3, 8, 33)  # even and odd, and beyond what kernels and loops take at a time


@law("-1 stands for any batch")
def _any_batch(subject: Subject) -> None:
    out_shape, params = subject.started
    any_shape = structure.with_batch(subject.shape, -1)
    found_shape, found = subject.layer.init(subject.init_key, any_shape)
    if found_shape != structure.with_batch(out_shape, -1):
        breach(f"init of {any_shape}", structure.with_batch(out_shape, -1), found_shape)
    agree("params", params, found)


def _of_size(subject: Subject, mode: str, size: int) -> Iterator[tuple[Any, Run]]:
    """A batch, and the pass on it; one whose statistics are undefined may be refused by name."""
    x = subject.batch_of(size)
    shape = _values.shapes(x)
    out_shape, params = subject.layer.init(subject.init_key, shape)
    agree("params of another batch", subject.started[1], params)
    try:
        run = subject.fresh(mode, subject.params, x)
    except ValueError as error:
        refused = subject.has("couples_batch") and names_its_layer(error, subject.spec)
        if mode == "training" and refused:
            return
        raise
    if _values.shapes(run.out) != out_shape:
        breach(f"out ({mode})", f"shape {out_shape}, as init says", _values.shapes(run.out))
    if _values.shapes(run.dx) != shape:
        breach(f"dx ({mode})", f"shape {shape}", _values.shapes(run.dx))
    yield x, run


@law("an empty batch works")
def _empty(subject: Subject) -> None:
    zeros = _values.mapped(np.zeros_like, subject.params)
    for mode in subject.modes:
        for _, run in _of_size(subject, mode, 0):
            agree(f"dparams ({mode})", zeros, run.dparams, 0.0)


@law("a batch of one works")
def _single(subject: Subject) -> None:
    for mode in subject.modes:
        for _, run in _of_size(subject, mode, 1):
            for path, leaf in _values.leaves((run.out, run.dparams, run.dx), "run"):
                if _values.is_float(leaf) and not np.isfinite(leaf).all():
                    breach(f"{path} ({mode})", "finite numbers", leaf)
            if _values.shapes(run.dparams) != _values.shapes(subject.params):
                breach(f"dparams ({mode})", "the tree of params", _values.shapes(run.dparams))


@law("a batch is its examples")
def _examples(subject: Subject) -> None:
    # However many there are: each stands in larger batches several times, in no order.
    count = structure.each_shape(subject.shape)[0][1][0]
    for mode, dtype in product(subject.distinct_modes, ROUNDING):
        if not subject.tells_examples(mode):
            continue
        dout = subject.run(mode, dtype).dout

        def on(chosen: Any, mode: str = mode, dtype: Any = dtype, dout: Any = dout) -> Run:
            return subject.fresh(mode, *subject.given(dtype, chosen), _values.batch(dout, chosen))

        alone = [on(slice(i, i + 1)) for i in range(count)]
        for size in dict.fromkeys((count, *_SIZES)):
            order = np.argsort(subject.draw("order", (size,))) % count
            where = f"({mode}, {np.dtype(dtype)}, {size} examples)"
            _agree_on_examples(where, alone, order, on(order), ROUNDING[dtype])


def _agree_on_examples(where: str, alone: list[Run], order: Array, found: Run, rounding: float) -> None:
    """What a batch of examples gives is what they give alone; the gradients of params add up."""

    def joined(*parts: Array) -> Array:
        return np.concatenate(parts)[order]

    def added(*parts: Array) -> Array:
        return reduce(np.add, [parts[i] for i in order])

    for name, both in (("out", joined), ("dx", joined), ("dparams", added), ("only_dparams", added)):
        expected = _values.mapped(both, *(getattr(run, name) for run in alone))
        agree(f"{name} {where}", expected, getattr(found, name), rounding)


@law("vjp agrees with central differences in a batch of any size")
def _sizes(subject: Subject) -> None:
    # Along one direction of everything, where a batch need not be its examples: that is a law, too.
    for mode, size in product(subject.distinct_modes, _SIZES):
        for x, run in () if subject.tells_examples(mode) else _of_size(subject, mode, size):
            given = {"params": subject.params, "x": x}
            way = _values.mapped_with_path(partial(_way, subject), given)
            ends = [
                moved(subject, mode, _values.mapped(partial(_step, step), given, way))
                for step in (STEP, -STEP)
            ]
            slopes = {"params": run.dparams, "x": run.dx}
            agree_on_slope(f"params and x ({mode}, {size} examples)", run, ends, slopes, way)


def _way(subject: Subject, path: str, leaf: Array) -> Array:
    """A direction for what has a gradient."""
    moves = _values.is_float(leaf) and not subject.is_stopped(path)
    return subject.draw(f"{path} 0", leaf.shape) if moves else np.zeros_like(leaf)


def _step(step: float, leaf: Array, way: Array) -> Array:
    return leaf + step * way if _values.is_float(leaf) else leaf


BATCHES: tuple[Law, ...] = (_any_batch, _empty, _single, _examples, _sizes)
