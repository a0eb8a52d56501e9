"""How parameters begin: values that draw an array of a given shape from a key.

An `Initializer` is data: it can be pickled, compared and printed, and any layer takes any of them.

Examples
--------
>>> from funcnn import initializers, random
>>> start = initializers.he_normal()
>>> start
he_normal()
>>> start(random.key(0), (64, 32, 3, 3)).shape
(64, 32, 3, 3)

Notes
-----
Fans follow the layout of the weights, ``(out, in, *kernel)``:
``fan_in = in * prod(kernel)`` and ``fan_out = out * prod(kernel)``.
"""

from __future__ import annotations

from funcnn.initializers.core import BIAS_INIT as BIAS_INIT, INITIALIZER as INITIALIZER, Initializer
from funcnn.initializers.distributions import constant, normal, ones, truncated_normal, uniform, zeros
from funcnn.initializers.fans import (
    gain,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    variance_scaling,
)
from funcnn.initializers.structured import dirac, eye, orthogonal, sparse

__all__ = [
    "Initializer",
    "constant",
    "dirac",
    "eye",
    "gain",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "sparse",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "zeros",
]
