"""The public names of `funcnn`, and where each has its home."""

from funcnn import (
    checkpoints as checkpoints,
    combinators as combinators,
    data as data,
    diagnose as diagnose,
    initializers as initializers,
    layers as layers,
    looking as looking,
    losses as losses,
    machine as machine,
    metrics as metrics,
    model_files as model_files,
    models as models,
    numerics as numerics,
    optimizers as optimizers,
    outline as outline,
    plots as plots,
    profiling as profiling,
    random as random,
    reparametrization as reparametrization,
    schedules as schedules,
    sequences as sequences,
    testing as testing,
    tracing as tracing,
    training as training,
    tree as tree,
)
from funcnn._kernels.convolution.textbook import col2im as col2im, im2col as im2col
from funcnn.combinators import (
    branch as branch,
    dense_connect as dense_connect,
    freeze as freeze,
    frozen_paths as frozen_paths,
    merge as merge,
    named as named,
    parallel as parallel,
    remat as remat,
    repeat as repeat,
    residual as residual,
    serial as serial,
    share as share,
    stop_gradient as stop_gradient,
    tied as tied,
)
from funcnn.combinators.reparametrization import (
    spectral_norm as spectral_norm,
    weight_norm as weight_norm,
)
from funcnn.combinators.sequences import (
    bidirectional as bidirectional,
    clean_padding as clean_padding,
    drop_context as drop_context,
    keep_context as keep_context,
    residual_with_context as residual_with_context,
    time_distributed as time_distributed,
)
from funcnn.doctor import doctor as doctor
from funcnn.layers.activations import (
    celu as celu,
    elu as elu,
    gelu as gelu,
    glu as glu,
    hard_shrink as hard_shrink,
    hard_sigmoid as hard_sigmoid,
    hard_swish as hard_swish,
    hard_tanh as hard_tanh,
    leaky_relu as leaky_relu,
    log_sigmoid as log_sigmoid,
    log_softmax as log_softmax,
    maxout as maxout,
    mish as mish,
    prelu as prelu,
    relu as relu,
    relu6 as relu6,
    selu as selu,
    sigmoid as sigmoid,
    silu as silu,
    soft_shrink as soft_shrink,
    softmax as softmax,
    softmin as softmin,
    softplus as softplus,
    softsign as softsign,
    swiglu as swiglu,
    tanh as tanh,
    tanh_shrink as tanh_shrink,
    threshold as threshold,
)
from funcnn.layers.attentions import (
    attention as attention,
    cross_attention as cross_attention,
    multi_head_attention as multi_head_attention,
)
from funcnn.layers.convolution import (
    conv as conv,
    conv1d as conv1d,
    conv3d as conv3d,
    conv_transpose as conv_transpose,
    conv_transpose1d as conv_transpose1d,
    depthwise_conv as depthwise_conv,
    separable_conv as separable_conv,
)
from funcnn.layers.embeddings import (
    embedding as embedding,
    learned_positions as learned_positions,
    positional_encoding as positional_encoding,
    rotary as rotary,
)
from funcnn.layers.linear import bilinear as bilinear, dense as dense
from funcnn.layers.normalization import (
    batch_norm as batch_norm,
    group_norm as group_norm,
    instance_norm as instance_norm,
    layer_norm as layer_norm,
    local_response_norm as local_response_norm,
    rms_norm as rms_norm,
)
from funcnn.layers.pooling import (
    adaptive_avg_pool as adaptive_avg_pool,
    adaptive_avg_pool1d as adaptive_avg_pool1d,
    adaptive_avg_pool3d as adaptive_avg_pool3d,
    adaptive_max_pool as adaptive_max_pool,
    adaptive_max_pool1d as adaptive_max_pool1d,
    adaptive_max_pool3d as adaptive_max_pool3d,
    avg_pool as avg_pool,
    avg_pool1d as avg_pool1d,
    avg_pool3d as avg_pool3d,
    global_avg_pool as global_avg_pool,
    global_max_pool as global_max_pool,
    lp_pool as lp_pool,
    lp_pool1d as lp_pool1d,
    lp_pool3d as lp_pool3d,
    max_pool as max_pool,
    max_pool1d as max_pool1d,
    max_pool3d as max_pool3d,
)
from funcnn.layers.recurrent import gru as gru, lstm as lstm, rnn as rnn
from funcnn.layers.regularization import (
    drop_path as drop_path,
    dropout as dropout,
    gaussian_noise as gaussian_noise,
    spatial_dropout as spatial_dropout,
)
from funcnn.layers.resizing import (
    crop as crop,
    pad as pad,
    pixel_shuffle as pixel_shuffle,
    pixel_unshuffle as pixel_unshuffle,
    upsample as upsample,
)
from funcnn.layers.shape import (
    concatenate as concatenate,
    flatten as flatten,
    identity as identity,
    reshape as reshape,
    split as split,
    transpose as transpose,
)
from funcnn.losses import (
    binary_cross_entropy as binary_cross_entropy,
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
    contrastive as contrastive,
    cosine_embedding as cosine_embedding,
    ctc as ctc,
    focal as focal,
    gaussian_nll as gaussian_nll,
    hinge as hinge,
    hinge_embedding as hinge_embedding,
    huber as huber,
    kl_divergence as kl_divergence,
    l1 as l1,
    log_cosh as log_cosh,
    margin_ranking as margin_ranking,
    mean_squared_error as mean_squared_error,
    multi_label_margin as multi_label_margin,
    multi_label_soft_margin as multi_label_soft_margin,
    multi_margin as multi_margin,
    nll as nll,
    one_hot as one_hot,
    poisson_nll as poisson_nll,
    smooth_l1 as smooth_l1,
    soft_margin as soft_margin,
    softmax_cross_entropy as softmax_cross_entropy,
    triplet as triplet,
    weighted as weighted,
)
from funcnn.model_files import load as load, save as save
from funcnn.optimizers import (
    Optimizer as Optimizer,
    adam as adam,
    adamw as adamw,
    apply_updates as apply_updates,
    sgd as sgd,
    sgd_update as sgd_update,
)
from funcnn.profiling import summary as summary
from funcnn.training import (
    TrainState as TrainState,
    evaluate as evaluate,
    fit as fit,
    predict as predict,
    train_state as train_state,
    train_step as train_step,
    value_and_grad as value_and_grad,
)
from funcnn.types import (
    Key as Key,
    Layer as Layer,
    Loss as Loss,
    Params as Params,
    Shape as Shape,
    Spec as Spec,
)

__version__: str
