"""Running statistics: where a network's cache has them, and how a wrapper's cache leaves them there."""

from __future__ import annotations

from typing import Any

from funcnn import checks
from funcnn.types import Cache, Params

__all__ = ["statistics"]


def statistics(cache: Cache) -> Params:
    """New values of the running statistics that a training pass has left in its cache.

    Parameters
    ----------
    cache : Cache
        Of ``net.apply(params, x, key=key)``.

    Returns
    -------
    dict
        A part of the tree of ``params``, to carry on with ``tree.replace(params, ...)``; empty for
        a network without running statistics.

    Notes
    -----
    A layer leaves them under ``cache["running"]``; a combinator's cache has its children's caches
    under their names.

    Examples
    --------
    >>> from funcnn.combinators import statistics
    >>> statistics({"conv1": {}, "batch_norm1": {"running": {"running_mean": 0.5}}})
    {'batch_norm1': {'running_mean': 0.5}}
    """
    if not isinstance(cache, dict):
        return {}
    found = dict(cache.get("running", {}))
    for name, child in cache.items():
        if name != "running" and (inner := statistics(child)):
            found[name] = inner
    return found


def marked(cache: Cache, name: str, mark: Any) -> Cache:
    """The layer's own cache, so that statistics have the path of their parameters, and a mark."""
    own = cache if isinstance(cache, dict) else {"_cache": cache}
    return {**own, name: (mark, own.get(name))}  # a layer inside may have such a mark, too


def mark(cache: Cache, name: str) -> Any:
    """The outermost mark of a name."""
    return checks.kept(cache, name)[0]


def unmarked(cache: Cache, name: str) -> Cache:
    """What the layer gave."""
    own = {part: value for part, value in cache.items() if part != name}
    inner = cache[name][1]
    own |= {} if inner is None else {name: inner}
    return own["_cache"] if own.keys() == {"_cache"} else own
