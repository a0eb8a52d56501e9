"""The public names of `funcnn.layers.activations`, and where each has its home."""

from funcnn.layers.activations.gates import (
    glu as glu,
    maxout as maxout,
    swiglu as swiglu,
)
from funcnn.layers.activations.learned import prelu as prelu
from funcnn.layers.activations.smooth import (
    celu as celu,
    elu as elu,
    gelu as gelu,
    log_sigmoid as log_sigmoid,
    mish as mish,
    selu as selu,
    sigmoid as sigmoid,
    silu as silu,
    softplus as softplus,
    softsign as softsign,
    tanh as tanh,
    tanh_shrink as tanh_shrink,
)
from funcnn.layers.activations.softmaxes import (
    log_softmax as log_softmax,
    softmax as softmax,
    softmin as softmin,
)
from funcnn.layers.activations.straight import (
    hard_shrink as hard_shrink,
    hard_sigmoid as hard_sigmoid,
    hard_swish as hard_swish,
    hard_tanh as hard_tanh,
    leaky_relu as leaky_relu,
    relu as relu,
    relu6 as relu6,
    soft_shrink as soft_shrink,
    threshold as threshold,
)
