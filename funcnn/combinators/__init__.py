"""Combinators: layers made of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funcnn._lazy import lazily

if TYPE_CHECKING:
    from funcnn.combinators.chain import named, repeat, residual, serial, share
    from funcnn.combinators.flow import freeze, frozen_paths, remat, stop_gradient, tied
    from funcnn.combinators.joining import branch, dense_connect, merge, parallel
    from funcnn.combinators.running import statistics

__all__ = [
    "branch",
    "dense_connect",
    "freeze",
    "frozen_paths",
    "merge",
    "named",
    "parallel",
    "remat",
    "repeat",
    "residual",
    "serial",
    "share",
    "statistics",
    "stop_gradient",
    "tied",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "chain": "named repeat residual serial share",
        "flow": "freeze frozen_paths remat stop_gradient tied",
        "joining": "branch dense_connect merge parallel",
        "running": "statistics",
    },
)
