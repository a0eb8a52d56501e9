"""Trees: an array, or tuples and dicts of trees, and the few verbs they need.

Inputs, outputs and targets are such trees; parameters, gradients and optimizer states are trees of
dicts alone. A leaf is anything that is neither a dict nor a tuple. Its path joins the keys, or the
places in a tuple, with ``/``: ``"conv1/weight"``, ``"0/mask"``; the path of a lone leaf is ``""``.
Leaves are visited in sorted order of the keys, so that no result depends on the order in which a
dict was filled.
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
