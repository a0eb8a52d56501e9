"""Running statistics: where a network's cache has them."""

from __future__ import annotations

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
