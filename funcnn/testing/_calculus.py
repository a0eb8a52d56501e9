"""The laws of the calculus: what `vjp` gives is the gradient, and what traits promise holds."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from funcnn import random
from funcnn.structure import nodes, statistics
from funcnn.testing import _values
from funcnn.testing._laws import ROUNDING, Law, agree, agree_each, breach, differ, law
from funcnn.testing._subject import RESULTS, Run, Subject
from funcnn.tree import is_statistic
from funcnn.types import Array

STEP = 1e-6  # of the central differences: small, so that no kink lies within it
_DIRECTIONS = 3
_DRAWS = 64  # among which some must differ, even of a layer that rarely drops something
_SIZES = (1e-44, 1e-20, 1e20, 1e37)
_ROUNDING, _NARROW = ROUNDING[np.float64], ROUNDING[np.float32]


@law("vjp agrees with central differences")
def _calculus(subject: Subject) -> None:
    given = {"params": subject.params, "x": subject.x}
    for mode in subject.distinct_modes:
        run = subject.run(mode)
        slopes = dict(_values.leaves({"params": run.dparams, "x": run.dx}))
        for path, leaf in _values.leaves(given):
            if _values.is_float(leaf) and not subject.is_stopped(path):
                for direction in range(_DIRECTIONS):
                    way = subject.draw(f"{path} {direction}", leaf.shape)
                    ends = [
                        moved(subject, mode, _values.replaced(given, path, leaf + step * way))
                        for step in (STEP, -STEP)
                    ]
                    agree_on_slope(f"{path} ({mode})", run, ends, slopes[path], way)
            elif not is_statistic(path) and np.any(slopes[path]):
                breach(f"{path} ({mode})", "a gradient of zeros", slopes[path])


def moved(subject: Subject, mode: str, given: dict[str, Any]) -> Any:
    """What comes out for other parameters, or another input."""
    params, x = _values.frozen((given["params"], given["x"]))
    return subject.layer.apply(params, x, key=subject.modes[mode])[0]


def agree_on_slope(where: str, run: Run, ends: list[Any], gradient: Any, way: Any) -> None:
    """The slope of ``<out, dout>`` is the same by differences and by the gradient."""
    change = _values.mapped(lambda high, low: high - low if _values.is_float(high) else high, *ends)
    expected = _values.inner(change, run.dout) / (2 * STEP)
    found = _values.inner(gradient, way)
    scale = _values.magnitude(gradient, way) + 1e-3 * _values.magnitude(run.out, run.dout)
    if not abs(expected - found) <= 1e-6 * max(scale, 1e-3):
        breach(where, f"a slope of {expected:.9g}", f"{found:.9g}")


@law("vjp is linear, and the same when called twice")
def _linear(subject: Subject) -> None:
    for mode in subject.modes:
        run = subject.run(mode)
        once = (run.dparams, run.dx)
        agree(f"second vjp ({mode})", once, subject.layer.vjp(run.cache, run.dout))
        other = subject.dout(run.out, "another dout")
        both = _values.frozen(_values.mapped(_blend, run.dout, other))
        expected = _values.mapped(_blend, once, subject.layer.vjp(run.cache, other))
        agree(f"vjp ({mode})", expected, subject.layer.vjp(run.cache, both), _ROUNDING)


def _blend(a: Array, b: Array) -> Array:
    return a * 2.5 - b * 0.75 if _values.is_float(a) else a


@law("float32 says what float64 says")
def _precision(subject: Subject) -> None:
    # The calculus is proven in float64, and kernels may have ways of their own for float32.
    params, x = _values.frozen(_values.cast(subject.given(np.float32), np.float64))
    for mode in subject.modes:
        expected = subject.fresh(mode, params, x)
        found = _values.cast(subject.run(mode, np.float32).results, np.float64)
        drawn = mode == "training" and subject.has("stochastic")
        if not (drawn and differ(expected.out, found[0], _NARROW)):  # numbers of other bits were drawn
            agree_each(RESULTS, expected.results, found, f" ({mode})", _NARROW)


@law("no gradient comes from none")
def _nothing(subject: Subject) -> None:
    # Zero times infinity would be NaN: nothing on the way back may overflow where the output does not.
    for mode, dtype, size in product(subject.distinct_modes, ROUNDING, _SIZES):
        params = _values.cast(subject.started[1], dtype)
        x = _values.mapped(
            lambda leaf, size=size: leaf * size if _values.is_float(leaf) else leaf, subject.x
        )
        with np.errstate(all="ignore"):
            out, cache = subject.layer.apply(
                *_values.frozen((params, _values.cast(x, dtype))), key=subject.modes[mode]
            )
            if not all(np.isfinite(leaf).all() for _, leaf in _values.leaves(out)):
                continue
            zeros = _values.mapped(lambda leaf: 0 * leaf, _values.cast(subject.dout(out), dtype))
            dparams, dx = subject.layer.vjp(cache, zeros)
        for path, leaf in _values.leaves({"dparams": dparams, "dx": dx}):
            if np.any(leaf):
                where = f"{path} ({mode}, {np.dtype(dtype)}, x of size {size})"
                breach(where, "zeros for a dout of zeros", leaf.ravel()[np.flatnonzero(leaf)[0]].item())


@law("params_vjp is the part of vjp that it says")
def _params_vjp(subject: Subject) -> None:
    for mode, dtype in product(subject.modes, ROUNDING):
        run = subject.run(mode, dtype)
        agree(f"params_vjp ({mode}, {np.dtype(dtype)})", run.dparams, run.only_dparams, ROUNDING[dtype])


@law("running statistics are no parameters")
def _running(subject: Subject) -> None:
    # They have no gradient; they come out of training, and are found where `statistics` looks.
    still = tuple(
        "/".join(("params", *node.path, ""))
        for node in nodes(subject.layer, subject.shape)
        if "inference" in node.spec.traits
    )
    kept = {
        path: leaf
        for path, leaf in _values.leaves(subject.params, "params")
        if is_statistic(path) and not path.startswith(still)
    }
    if kept and not subject.has("statistics"):
        breach("spec.traits", "'statistics', as there are running statistics", "none")
    for mode in subject.modes:
        run = subject.run(mode)
        slopes = dict(_values.leaves(run.dparams, "params"))
        for path in kept:
            if np.any(slopes[path]):
                breach(f"{path} ({mode})", "a gradient of zeros", slopes[path])
        new = dict(_values.leaves(statistics(subject.layer, run.cache), "params"))
        if mode == "inference":
            agree("statistics (inference)", {path: kept.get(path) for path in new}, new)
        else:
            agree("statistics (training)", _outline(kept), _outline(new))


def _outline(leaves: dict[str, Array]) -> dict[str, str]:
    return {path: f"{leaf.dtype} {leaf.shape}" for path, leaf in leaves.items()}


@law("traits tell the truth")
def _traits(subject: Subject) -> None:
    if not (subject.has("stochastic") or subject.has("statistics")):
        quiet, loud = (subject.run(mode) for mode in ("inference", "training"))
        agree_each(RESULTS, quiet.results, loud.results, ", with a key,")
    if subject.has("stochastic"):
        _draws_from_its_key(subject)
    if "monotone" in subject.own_traits:
        _is_monotone(subject)
    if "maximum" in subject.own_traits:
        _is_maximum(subject)


def _draws_from_its_key(subject: Subject) -> None:
    first, key = list(_values.leaves(subject.run("training").out)), subject.modes["training"]
    assert key is not None
    for draw in range(_DRAWS):
        again, _ = subject.layer.apply(subject.params, subject.x, key=random.fold_in(key, draw))
        if any(
            not np.array_equal(one, other)
            for (_, one), (_, other) in zip(first, _values.leaves(again), strict=True)
        ):
            return
    breach("out (training)", "another draw from another key", f"the same from {_DRAWS} keys")


def _is_monotone(subject: Subject) -> None:
    x, out = subject.x, subject.run("inference").out
    order = np.argsort(x, axis=None)
    sorted_x = _values.frozen(x.ravel()[order].reshape(x.shape))
    sorted_out, _ = subject.layer.apply(subject.params, sorted_x)
    agree("out of sorted x", out.ravel()[order].reshape(x.shape), sorted_out, _ROUNDING)  # elementwise
    if np.any(np.diff(sorted_out.ravel()) < 0):
        breach("out of sorted x", "sorted values", sorted_out)


def _is_maximum(subject: Subject) -> None:
    x, out = subject.x, subject.run("inference").out
    if not np.isin(out, x).all():
        breach("out", "elements of x", out)
    raised, _ = subject.layer.apply(subject.params, _values.frozen(np.maximum(x, 0)))
    agree("out of max(x, 0)", np.maximum(out, 0), raised)


CALCULUS: tuple[Law, ...] = (
    _calculus,
    _linear,
    _precision,
    _nothing,
    _params_vjp,
    _running,
    _traits,
)
