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

from funcnn import (
    checkpoints,
    data,
    initializers,
    metrics,
    numerics,
    optimizers,
    random,
    schedules,
    tree,
)
from funcnn._kernels.columns import col2im, im2col
from funcnn.combinators import named, parallel, residual, serial
from funcnn.layers.activations import (
    celu,
    elu,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    maxout,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softmin,
    softplus,
    softsign,
    swiglu,
    tanh,
    tanh_shrink,
    threshold,
)
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
from funcnn.layers.recurrent import gru, lstm, rnn
from funcnn.layers.shape import flatten, identity
from funcnn.losses import mean_squared_error, one_hot, softmax_cross_entropy
from funcnn.optimizers import Optimizer, adam, adamw, apply_updates, sgd, sgd_update
from funcnn.training import (
    TrainState,
    evaluate,
    fit,
    predict,
    train_state,
    train_step,
    value_and_grad,
)
from funcnn.types import Key, Layer, Loss, Params, Shape, Spec

__all__ = [
    "Key",
    "Layer",
    "Loss",
    "Optimizer",
    "Params",
    "Shape",
    "Spec",
    "TrainState",
    "adam",
    "adamw",
    "apply_updates",
    "avg_pool",
    "celu",
    "checkpoints",
    "col2im",
    "conv",
    "conv1d",
    "conv3d",
    "conv_transpose",
    "conv_transpose1d",
    "data",
    "dense",
    "depthwise_conv",
    "elu",
    "evaluate",
    "fit",
    "flatten",
    "gelu",
    "glu",
    "gru",
    "hard_shrink",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "identity",
    "im2col",
    "initializers",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "lstm",
    "max_pool",
    "maxout",
    "mean_squared_error",
    "metrics",
    "mish",
    "named",
    "numerics",
    "one_hot",
    "optimizers",
    "parallel",
    "predict",
    "prelu",
    "random",
    "relu",
    "relu6",
    "residual",
    "rnn",
    "schedules",
    "selu",
    "separable_conv",
    "serial",
    "sgd",
    "sgd_update",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softmax_cross_entropy",
    "softmin",
    "softplus",
    "softsign",
    "swiglu",
    "tanh",
    "tanh_shrink",
    "threshold",
    "train_state",
    "train_step",
    "tree",
    "value_and_grad",
]

__version__ = "0.1.0"
