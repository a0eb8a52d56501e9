"""Trees: an array, or tuples and dicts of trees, and the few verbs they need.

Inputs, outputs and targets are such trees; parameters, gradients and optimizer states are trees of
dicts alone. A leaf is anything that is neither a dict nor a tuple. Its path joins the keys, or the
places in a tuple, with ``/``: ``"conv1/weight"``, ``"0/mask"``; the path of a lone leaf is ``""``.
Leaves are visited in sorted order of the keys, so that no result depends on the order in which a
dict was filled.
"""

from __future__ import annotations

from funcnn.tree.verbs import (
    add,
    allclose,
    cast,
    count,
    dot,
    equal,
    flatten,
    norm,
    replace,
    scale,
    select,
    unflatten,
    zeros_like,
)
from funcnn.tree.walking import (
    is_statistic,
    items,
    leaves,
    map,
    map_several,
    map_with_path,
    path,
    place,
    reduce,
    walk,
)

__all__ = [
    "add",
    "allclose",
    "cast",
    "count",
    "dot",
    "equal",
    "flatten",
    "is_statistic",
    "items",
    "leaves",
    "map",
    "map_several",
    "map_with_path",
    "norm",
    "path",
    "place",
    "reduce",
    "replace",
    "scale",
    "select",
    "unflatten",
    "walk",
    "zeros_like",
]
