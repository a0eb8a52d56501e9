"""PyTorch, in each memory format and with each number of threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import catalogue, models, torch_layers
from benchmarks.cases import Case, arrays


def variants() -> list[str]:
    counts = sorted({1, len(os.sched_getaffinity(0))})
    return [f"{form}, {n} threads" for form in ("contiguous", "channels_last") for n in counts]


def version() -> str:
    return str(torch.__version__)


def network(case: Case) -> Any:
    layers: list[Any] = []
    sample = torch.zeros(case.shape)
    for kind, *options in case.layers:
        width = sample.shape[1]
        if kind == "conv":
            layers.append(torch.nn.Conv2d(width, options[0], options[1], padding=options[2]))
        elif kind == "dense":
            layers.append(torch.nn.Linear(width, options[0]))
        else:
            known = {
                "relu": torch.nn.ReLU,
                "max_pool": torch.nn.MaxPool2d,
                "avg_pool": torch.nn.AvgPool2d,
                "flatten": torch.nn.Flatten,
            }
            layers.append(known[kind](*options))
        with torch.no_grad():
            sample = layers[-1](sample)
    return torch.nn.Sequential(*layers)


def build(case: Case, variant: str) -> Callable[[], object]:
    form, threads = variant.split(", ")
    torch.set_num_threads(int(threads.split()[0]))
    if case.work == "layer":
        return layer(catalogue.find(case.name), form == "channels_last")
    if case.work == "model":
        return model(models.find(case.name), form == "channels_last")
    net = network(case)
    images, targets = arrays(case)
    x, labels = torch.from_numpy(images), torch.from_numpy(targets)
    if form == "channels_last" and x.ndim == 4:
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    if case.work == "inference":

        def infer() -> object:
            with torch.inference_mode():
                return net(x)

        return infer
    if case.work == "gradients":
        x.requires_grad_(True)
        with torch.no_grad():
            dout = net(x).clone()

        def both_ways() -> object:
            net.zero_grad(set_to_none=True)
            x.grad = None
            net(x).backward(dout)
            return x.grad

        return both_ways
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def layer(entry: catalogue.Entry, channels_last: bool) -> Callable[[], object]:
    """Forward and backward of one layer, in training."""
    net = eval(entry.theirs, vars(torch_layers))
    given = catalogue.inputs(entry)
    xs = [torch.from_numpy(x) for x in (given if isinstance(given, tuple) else (given,))]
    if entry.sequence:
        xs = [x.transpose(1, 2).contiguous() for x in xs]
    if channels_last:
        if all(x.ndim < 4 for x in xs):
            raise NotImplementedError("images alone have memory formats")
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        net = net.to(memory_format=formats[xs[0].ndim])
        xs = [x.contiguous(memory_format=formats[x.ndim]) for x in xs]
    for x in xs:
        x.requires_grad_(x.is_floating_point())
    with torch.no_grad():
        douts = [out.clone() for out in several(net(*xs))]

    def both_ways() -> object:
        net.zero_grad(set_to_none=True)
        for x in xs:
            x.grad = None
        torch.autograd.backward(several(net(*xs)), douts)
        return xs

    return both_ways


def model(entry: models.Model, channels_last: bool) -> Callable[[], object]:
    """A training step of a network."""
    net = eval(entry.theirs, vars(torch_layers))
    x, target = map(torch.from_numpy, models.data(entry))
    if channels_last:
        if x.ndim < 4:
            raise NotImplementedError("images alone have memory formats")
        net = net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        out = net(x)
        if entry.classes:
            loss = torch.nn.functional.cross_entropy(out.flatten(0, -2), target.flatten())
        else:
            loss = torch.nn.functional.mse_loss(out, target)
        loss.backward()
        optimizer.step()
        return loss

    return step


def several(out: Any) -> list[Any]:
    return list(out) if isinstance(out, tuple) else [out]
