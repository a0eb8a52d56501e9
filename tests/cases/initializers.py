"""Initializers beyond those of the core."""

from __future__ import annotations

from funcnn import initializers as start
from tests.registry import InitializerCase

INITIALIZERS = [
    InitializerCase(each, shape)
    for each in (
        start.truncated_normal(0.5),
        start.orthogonal(2.0),
        start.variance_scaling(2.0, "fan_out", "truncated_normal"),
        start.variance_scaling(0.5, "fan_in", "uniform"),
    )
    for shape in ((6, 4), (3, 2, 3, 3))
]
