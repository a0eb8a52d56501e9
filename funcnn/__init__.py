"""funcnn: a purely functional neural-network framework on NumPy.

A layer is pure functions, ``init(key, shape)``, ``apply(params, x)`` and ``vjp(cache, dout)``, and a
network is layers composed. Parameters are nested dicts of arrays. Nothing is hidden or mutated.

Examples
--------
>>> import numpy as np
>>> from funcnn import dense, random, relu, serial, softmax_cross_entropy, value_and_grad
>>> net = serial(dense(16), relu(), dense(3))
>>> _, params = net.init(random.key(0), (8, 4))
>>> x = random.normal(random.key(1), (8, 4))
>>> loss, grads = value_and_grad(net, softmax_cross_entropy())(params, x, np.zeros(8, int))
>>> list(grads)
['dense1', 'dense2']
"""

from __future__ import annotations

from funcnn import initializers, numerics, optimizers, random, schedules, tree
from funcnn._kernels.columns import col2im, im2col
from funcnn.combinators import named, parallel, residual, serial
from funcnn.layers.activations import log_softmax, relu, softmax
from funcnn.layers.convolution import (
    conv,
    conv1d,
    conv3d,
    conv_transpose,
    conv_transpose1d,
    depthwise_conv,
    separable_conv,
)
from funcnn.layers.linear import dense
from funcnn.layers.pooling import avg_pool, max_pool
from funcnn.layers.shape import flatten, identity
from funcnn.losses import mean_squared_error, one_hot, softmax_cross_entropy
from funcnn.optimizers import Optimizer, adam, adamw, apply_updates, sgd, sgd_update
from funcnn.training import value_and_grad
from funcnn.types import Key, Layer, Loss, Params, Shape, Spec

__all__ = [
    "Key",
    "Layer",
    "Loss",
    "Optimizer",
    "Params",
    "Shape",
    "Spec",
    "adam",
    "adamw",
    "apply_updates",
    "avg_pool",
    "col2im",
    "conv",
    "conv1d",
    "conv3d",
    "conv_transpose",
    "conv_transpose1d",
    "dense",
    "depthwise_conv",
    "flatten",
    "identity",
    "im2col",
    "initializers",
    "log_softmax",
    "max_pool",
    "mean_squared_error",
    "named",
    "numerics",
    "one_hot",
    "optimizers",
    "parallel",
    "random",
    "relu",
    "residual",
    "schedules",
    "separable_conv",
    "serial",
    "sgd",
    "sgd_update",
    "softmax",
    "softmax_cross_entropy",
    "tree",
    "value_and_grad",
]

__version__ = "0.1.0"
