"""funcnn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

import funcnn
from benchmarks import catalogue, models
from benchmarks.cases import Case, arrays
from funcnn import data, numerics, optimizers, random
from funcnn.machine.blas import on_one_blas_thread
from funcnn.machine.memory import keep_freed_memory
from funcnn.machine.threads import in_team

_choices = ExitStack()  # for the rest of a process, as PyTorch's number of threads


def variants() -> list[str]:
    """NumPy's kernels alone, and the compiled ones where Numba is installed."""
    with numerics.compiled("auto"):
        return ["fast", "compiled"] if numerics.compiling() else ["fast"]


def version() -> str:
    with numerics.compiled("auto"):
        return f"{funcnn.__version__}, kernels {numerics.kernels()}"


def network(case: Case) -> funcnn.Layer[Any, Any]:
    made: list[funcnn.Layer[Any, Any]] = []
    for kind, *options in case.layers:
        if kind == "conv":
            made.append(funcnn.conv(options[0], options[1], padding=options[2]))
        else:
            made.append(getattr(funcnn, kind)(*options))
    net: funcnn.Layer[Any, Any] = getattr(funcnn, "serial")(*made)  # noqa: B009 - any length
    return net


def build(case: Case, variant: str) -> Callable[[], object]:
    """The work of a case: in portable mode, on one thread, with compiled kernels, or none of these."""
    _choices.enter_context(numerics.compiled("require" if "compiled" in variant else "off"))
    if case.work == "layer":
        return layer(catalogue.find(case.name))
    workers = 1 if "one thread" in variant else None
    mode: numerics.Mode = "portable" if "portable" in variant else "fast"
    if case.work == "model":
        return model(models.find(case.name), workers, mode)
    net = network(case)
    x, labels = arrays(case)
    _, params = net.init(funcnn.random.key(0), case.shape)
    if case.work == "inference":
        return shared(lambda: net.apply(params, x), workers)
    if case.work == "gradients":
        out, _ = net.apply(params, x)

        def both_ways() -> object:
            _, cache = net.apply(params, x)
            return net.vjp(cache, out)

        return shared(both_ways, workers)
    gradients = funcnn.value_and_grad(net, funcnn.softmax_cross_entropy(), workers=workers)
    held = [params]

    def step() -> object:
        loss, grads = gradients(held[0], x, labels)
        held[0] = funcnn.sgd_update(held[0], grads, lr=0.01, workers=workers)
        return loss

    return step if mode == "fast" else numerics.use(mode)(step)


def layer(entry: catalogue.Entry) -> Callable[[], object]:
    """Forward and backward of one layer, in training, as `value_and_grad` would run it."""
    keep_freed_memory()
    kind = entry.ours.partition("(")[0]
    home = funcnn if hasattr(funcnn, kind) else funcnn.models
    net: funcnn.Layer[Any, Any] = eval(entry.ours, {kind: getattr(home, kind)})
    _, params = net.init(funcnn.random.key(0), entry.shape)
    x = natural(catalogue.inputs(entry), entry.sequence)
    key = funcnn.random.key(1) if net.spec.traits & {"stochastic", "statistics"} else None
    out, _ = net.apply(params, x, key=key)
    dout = [one.copy(order="K") for one in out] if isinstance(out, tuple) else out.copy(order="K")

    def both_ways() -> object:
        _, cache = net.apply(params, x, key=key)
        return net.vjp(cache, tuple(dout) if isinstance(dout, list) else dout)

    return shared(both_ways, None)


def shared(work: Callable[[], object], workers: int | None) -> Callable[[], object]:
    """The same work, on so many threads, as `value_and_grad` and `predict` would run it."""
    return lambda: on_one_blas_thread(lambda: in_team(workers, work))


def model(entry: models.Model, workers: int | None, mode: Any) -> Callable[[], object]:
    """A training step of a network, with Adam."""
    net: funcnn.Layer[Any, Any] = eval(entry.ours, _Names())
    batch = data.Dataset(*models.data(entry))
    loss = funcnn.softmax_cross_entropy() if entry.classes else funcnn.mean_squared_error()
    optimizer = optimizers.adam(1e-3)
    held = [funcnn.train_state(net, optimizer, random.key(0), entry.shape)]
    train = funcnn.train_step(net, loss, optimizer, workers=workers)

    def step() -> object:
        held[0], metrics = train(held[0], batch)
        return metrics

    return step if mode == "fast" else numerics.use(mode)(step)


class _Names(dict[str, Any]):
    """Everything public, by its name."""

    def __missing__(self, name: str) -> Any:
        return getattr(funcnn if hasattr(funcnn, name) else funcnn.models, name)


def natural(x: Any, batch_last: bool) -> Any:
    """In the memory order in which it would leave the layer before: of images, batch-last."""
    if isinstance(x, tuple):
        return tuple(natural(one, batch_last) for one in x)
    if x.ndim >= 4:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    return np.ascontiguousarray(x.T).T if batch_last else x
