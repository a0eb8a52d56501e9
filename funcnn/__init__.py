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

from typing import TYPE_CHECKING

from funcnn._lazy import lazily

if TYPE_CHECKING:
    from funcnn import (
        checkpoints,
        data,
        initializers,
        losses,
        metrics,
        models,
        numerics,
        optimizers,
        random,
        schedules,
        tree,
    )
    from funcnn._kernels.columns import col2im, im2col
    from funcnn.combinators import (
        branch,
        dense_connect,
        freeze,
        frozen_paths,
        merge,
        named,
        parallel,
        remat,
        repeat,
        residual,
        serial,
        share,
        stop_gradient,
        tied,
    )
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
    from funcnn.layers.attention import attention, cross_attention, multi_head_attention
    from funcnn.layers.convolution import (
        conv,
        conv1d,
        conv3d,
        conv_transpose,
        conv_transpose1d,
        depthwise_conv,
        separable_conv,
    )
    from funcnn.layers.embedding import embedding, learned_positions, positional_encoding, rotary
    from funcnn.layers.linear import bilinear, dense
    from funcnn.layers.normalization import (
        batch_norm,
        group_norm,
        instance_norm,
        layer_norm,
        local_response_norm,
        rms_norm,
    )
    from funcnn.layers.pooling import (
        adaptive_avg_pool,
        adaptive_avg_pool1d,
        adaptive_avg_pool3d,
        adaptive_max_pool,
        adaptive_max_pool1d,
        adaptive_max_pool3d,
        avg_pool,
        avg_pool1d,
        avg_pool3d,
        global_avg_pool,
        global_max_pool,
        lp_pool,
        lp_pool1d,
        lp_pool3d,
        max_pool,
        max_pool1d,
        max_pool3d,
    )
    from funcnn.layers.recurrent import gru, lstm, rnn
    from funcnn.layers.regularization import drop_path, dropout, gaussian_noise, spatial_dropout
    from funcnn.layers.shape import (
        concatenate,
        crop,
        flatten,
        identity,
        pad,
        pixel_shuffle,
        pixel_unshuffle,
        reshape,
        split,
        transpose,
        upsample,
    )
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
    from funcnn.outline import summary
    from funcnn.reparametrization import spectral_norm, weight_norm
    from funcnn.sequences import (
        bidirectional,
        drop_context,
        keep_context,
        residual_with_context,
        time_distributed,
    )
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
    "adaptive_avg_pool",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool",
    "adaptive_max_pool1d",
    "adaptive_max_pool3d",
    "apply_updates",
    "attention",
    "avg_pool",
    "avg_pool1d",
    "avg_pool3d",
    "batch_norm",
    "bidirectional",
    "bilinear",
    "binary_cross_entropy_with_logits",
    "branch",
    "celu",
    "checkpoints",
    "col2im",
    "concatenate",
    "contrastive",
    "conv",
    "conv1d",
    "conv3d",
    "conv_transpose",
    "conv_transpose1d",
    "cosine_embedding",
    "crop",
    "cross_attention",
    "ctc",
    "data",
    "dense",
    "dense_connect",
    "depthwise_conv",
    "drop_context",
    "drop_path",
    "dropout",
    "elu",
    "embedding",
    "evaluate",
    "fit",
    "flatten",
    "focal",
    "freeze",
    "frozen_paths",
    "gaussian_nll",
    "gaussian_noise",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
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
    "keep_context",
    "kl_divergence",
    "l1",
    "layer_norm",
    "leaky_relu",
    "learned_positions",
    "local_response_norm",
    "log_cosh",
    "log_sigmoid",
    "log_softmax",
    "losses",
    "lp_pool",
    "lp_pool1d",
    "lp_pool3d",
    "lstm",
    "max_pool",
    "max_pool1d",
    "max_pool3d",
    "maxout",
    "mean_squared_error",
    "merge",
    "metrics",
    "mish",
    "models",
    "multi_head_attention",
    "multi_margin",
    "named",
    "nll",
    "numerics",
    "one_hot",
    "optimizers",
    "pad",
    "parallel",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_nll",
    "positional_encoding",
    "predict",
    "prelu",
    "random",
    "relu",
    "relu6",
    "remat",
    "repeat",
    "reshape",
    "residual",
    "residual_with_context",
    "rms_norm",
    "rnn",
    "rotary",
    "schedules",
    "selu",
    "separable_conv",
    "serial",
    "sgd",
    "sgd_update",
    "share",
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
    "spectral_norm",
    "split",
    "stop_gradient",
    "summary",
    "swiglu",
    "tanh",
    "tanh_shrink",
    "threshold",
    "tied",
    "time_distributed",
    "train_state",
    "train_step",
    "transpose",
    "tree",
    "triplet",
    "upsample",
    "value_and_grad",
    "weight_norm",
]

__version__ = "0.1.0"

__getattr__, __dir__ = lazily(
    __name__,
    {
        "": (
            "checkpoints data initializers losses metrics models numerics optimizers random "
            "schedules tree"
        ),
        "_kernels.columns": "col2im im2col",
        "combinators": (
            "branch dense_connect freeze frozen_paths merge named parallel remat repeat residual "
            "serial share stop_gradient tied"
        ),
        "layers.activations": (
            "celu elu gelu glu hard_shrink hard_sigmoid hard_swish hard_tanh leaky_relu "
            "log_sigmoid log_softmax maxout mish prelu relu relu6 selu sigmoid silu soft_shrink "
            "softmax softmin softplus softsign swiglu tanh tanh_shrink threshold"
        ),
        "layers.attention": "attention cross_attention multi_head_attention",
        "layers.convolution": (
            "conv conv1d conv3d conv_transpose conv_transpose1d depthwise_conv separable_conv"
        ),
        "layers.embedding": "embedding learned_positions positional_encoding rotary",
        "layers.linear": "bilinear dense",
        "layers.normalization": (
            "batch_norm group_norm instance_norm layer_norm local_response_norm rms_norm"
        ),
        "layers.pooling": (
            "adaptive_avg_pool adaptive_avg_pool1d adaptive_avg_pool3d adaptive_max_pool "
            "adaptive_max_pool1d adaptive_max_pool3d avg_pool avg_pool1d avg_pool3d global_avg_pool "
            "global_max_pool lp_pool lp_pool1d lp_pool3d max_pool max_pool1d max_pool3d"
        ),
        "layers.recurrent": "gru lstm rnn",
        "layers.regularization": "drop_path dropout gaussian_noise spatial_dropout",
        "layers.shape": (
            "concatenate crop flatten identity pad pixel_shuffle pixel_unshuffle reshape split "
            "transpose upsample"
        ),
        "losses": (
            "binary_cross_entropy_with_logits contrastive cosine_embedding ctc focal gaussian_nll "
            "hinge huber kl_divergence l1 log_cosh mean_squared_error multi_margin nll one_hot "
            "poisson_nll smooth_l1 softmax_cross_entropy triplet"
        ),
        "optimizers": "Optimizer adam adamw apply_updates sgd sgd_update",
        "outline": "summary",
        "reparametrization": "spectral_norm weight_norm",
        "sequences": (
            "bidirectional drop_context keep_context residual_with_context time_distributed"
        ),
        "training": "TrainState evaluate fit predict train_state train_step value_and_grad",
        "types": "Key Layer Loss Params Shape Spec",
    },
)
