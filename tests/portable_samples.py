"""Functions that other processes import, to be proven portable or found not to be."""

from __future__ import annotations

import os
from typing import Any

from funcnn import numerics, random


def product() -> Any:
    """Large enough for the number of BLAS threads, and its kernels, to show."""
    x = random.normal(random.key(0), (96, 600))
    return {"gram": numerics.matmul(x, x.T)}


def product_in_fast_mode() -> Any:
    """What a run does that leaves portable mode on the way."""
    with numerics.fast():
        return product()


def fails_if_told_to() -> Any:
    """Fails where an environment variable says so."""
    if "PLANTED" in os.environ:
        raise RuntimeError("planted")
    return 1
