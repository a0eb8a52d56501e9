"""MyGrad, where it has the layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mygrad
import numpy as np
from mygrad.nnet.activations import relu
from mygrad.nnet.layers import conv_nd, max_pool
from mygrad.nnet.losses import softmax_crossentropy

from benchmarks.cases import Case, arrays


def variants() -> list[str]:
    return ["NumPy"]


def version() -> str:
    return str(mygrad.__version__)


def build(case: Case, variant: str) -> Callable[[], object]:
    if case.work == "model":
        raise NotImplementedError("written for funcnn and PyTorch alone")
    if any(kind == "avg_pool" for kind, *_ in case.layers):
        raise NotImplementedError("MyGrad has no average pooling")
    draw = np.random.default_rng(0)
    x, labels = arrays(case)
    params: list[Any] = []

    def weight(*shape: int) -> Any:
        fan = int(np.prod(shape[1:]))
        params.append(mygrad.tensor(draw.standard_normal(shape, np.float32) * fan**-0.5))
        params.append(mygrad.tensor(np.zeros(shape[0], np.float32)))
        return params[-2], params[-1]

    applied: list[Callable[[Any], Any]] = []
    shape = case.shape
    for kind, *options in case.layers:
        if kind == "conv":
            w, b = weight(options[0], shape[1], options[1], options[1])

            def convolve(h: Any, w: Any = w, b: Any = b, pad: int = options[2]) -> Any:
                return conv_nd(h, w, stride=1, padding=pad) + b.reshape(1, -1, 1, 1)

            applied.append(convolve)
            size = shape[2] + 2 * options[2] - options[1] + 1
            shape = (shape[0], options[0], size, size)
        elif kind == "max_pool":

            def pool(h: Any, size: int = options[0]) -> Any:
                return max_pool(h, (size, size), size)

            applied.append(pool)
            shape = (*shape[:2], shape[2] // options[0], shape[3] // options[0])
        elif kind == "flatten":
            applied.append(lambda h: h.reshape(h.shape[0], -1))
            shape = (shape[0], int(np.prod(shape[1:])))
        elif kind == "relu":
            applied.append(relu)
        else:
            w, b = weight(options[0], shape[1])

            def connect(h: Any, w: Any = w, b: Any = b) -> Any:
                return mygrad.matmul(h, w.T) + b

            applied.append(connect)
            shape = (shape[0], options[0])

    def forward(h: Any) -> Any:
        for function in applied:
            h = function(h)
        return h

    if case.work == "inference":

        def infer() -> object:
            with mygrad.no_autodiff:
                return forward(x)

        return infer
    if case.work == "gradients":
        dout = np.array(forward(x).data)

        def both_ways() -> object:
            h = mygrad.tensor(x)
            forward(h).backward(dout)
            return h.grad

        return both_ways

    def step() -> object:
        loss = softmax_crossentropy(forward(x), labels)
        loss.backward()
        for param in params:
            param.data -= 0.01 * param.grad
        return loss

    return step
