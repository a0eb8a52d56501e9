"""The public names of `funcnn.losses`, and where each has its home."""

from funcnn.losses.alignment import ctc as ctc
from funcnn.losses.binary import (
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
    focal as focal,
    hinge as hinge,
)
from funcnn.losses.classification import (
    multi_margin as multi_margin,
    nll as nll,
    softmax_cross_entropy as softmax_cross_entropy,
)
from funcnn.losses.core import one_hot as one_hot
from funcnn.losses.distributions import (
    gaussian_nll as gaussian_nll,
    kl_divergence as kl_divergence,
    poisson_nll as poisson_nll,
)
from funcnn.losses.embeddings import (
    contrastive as contrastive,
    cosine_embedding as cosine_embedding,
    triplet as triplet,
)
from funcnn.losses.regression import (
    huber as huber,
    l1 as l1,
    log_cosh as log_cosh,
    mean_squared_error as mean_squared_error,
    smooth_l1 as smooth_l1,
)
