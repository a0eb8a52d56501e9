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
    losses,
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
from funcnn.layers.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)
from funcnn.layers.pooling import avg_pool, max_pool
from funcnn.layers.recurrent import gru, lstm, rnn
from funcnn.layers.regularization import drop_path, dropout, gaussian_noise, spatial_dropout
from funcnn.layers.shape import flatten, identity
from funcnn.losses import (
    binary_cross_entropy_with_logits,
    contrastive,
    cosine_embedding,
    ctc,
    focal,
    gaussian_nll,
    hinge,
    huber,
    kl_divergence,
    l1,
    log_cosh,
    mean_squared_error,
    multi_margin,
    nll,
    one_hot,
    poisson_nll,
    smooth_l1,
    softmax_cross_entropy,
    triplet,
)
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
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "celu",
    "checkpoints",
    "col2im",
    "contrastive",
    "conv",
    "conv1d",
    "conv3d",
    "conv_transpose",
    "conv_transpose1d",
    "cosine_embedding",
    "ctc",
    "data",
    "dense",
    "depthwise_conv",
    "drop_path",
    "dropout",
    "elu",
    "evaluate",
    "fit",
    "flatten",
    "focal",
    "gaussian_nll",
    "gaussian_noise",
    "gelu",
    "glu",
    "group_norm",
    "gru",
    "hard_shrink",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "hinge",
    "huber",
    "identity",
    "im2col",
    "initializers",
    "instance_norm",
    "kl_divergence",
    "l1",
    "layer_norm",
    "leaky_relu",
    "local_response_norm",
    "log_cosh",
    "log_sigmoid",
    "log_softmax",
    "losses",
    "lstm",
    "max_pool",
    "maxout",
    "mean_squared_error",
    "metrics",
    "mish",
    "multi_margin",
    "named",
    "nll",
    "numerics",
    "one_hot",
    "optimizers",
    "parallel",
    "poisson_nll",
    "predict",
    "prelu",
    "random",
    "relu",
    "relu6",
    "residual",
    "rms_norm",
    "rnn",
    "schedules",
    "selu",
    "separable_conv",
    "serial",
    "sgd",
    "sgd_update",
    "sigmoid",
    "silu",
    "smooth_l1",
    "soft_shrink",
    "softmax",
    "softmax_cross_entropy",
    "softmin",
    "softplus",
    "softsign",
    "spatial_dropout",
    "swiglu",
    "tanh",
    "tanh_shrink",
    "threshold",
    "train_state",
    "train_step",
    "tree",
    "triplet",
    "value_and_grad",
]

__version__ = "0.1.0"
