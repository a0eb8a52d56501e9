"""Running statistics: what a training pass has left of them in a network's cache."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from funcnn import structure, tree
from funcnn.types import Cache, Layer, Params

__all__ = ["statistics"]


def statistics(net: Layer[Any, Any] | Cache, cache: Cache = None) -> Params:
    """New values of the running statistics that a training pass has left in its cache.

    Parameters
    ----------
    net : Layer
        The network. (Version 0.1 took the cache alone; this still works, and warns.)
    cache : Cache, optional
        Of ``net.apply(params, x, key=key)``.

    Returns
    -------
    dict
        A part of the tree of ``params``, to carry on with ``tree.replace(params, ...)``; empty for
        a network without running statistics.

    Notes
    -----
    These are ``net.statistics(cache)``; but a layer written for version 0.1, which leaves them under
    ``cache["running"]``, is understood, too.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import batch_norm, random, serial
    >>> net, x = serial(batch_norm()), np.array([[1.0], [3.0]], np.float32)
    >>> _, params = net.init(random.key(0), x.shape)
    >>> _, cache = net.apply(params, x, key=random.key(1))
    >>> list(statistics(net, cache)["batch_norm1"])
    ['running_mean', 'running_var']
    """
    if isinstance(net, Layer):
        return structure.statistics(net, cache)
    text = "statistics(cache) is of version 0.1: write net.statistics(cache)"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return _of_cache(net)


def _of_cache(cache: Cache) -> Params:
    """What can be told without the network, by the names in its cache."""
    if not isinstance(cache, dict):
        return {}
    found: Params = {}
    for name, part in cache.items():
        if name in ("running", "statistics"):
            found |= part
        elif name in ("layer", "uses"):  # of a combinator that has the params of its layer
            found |= _of_cache(part if name == "layer" else part[-1])
        elif tree.is_statistic(name) and isinstance(part, np.ndarray):
            found[name] = part
        elif name not in ("params", "x") and (inner := _of_cache(part)):
            found[name] = inner
    return found
