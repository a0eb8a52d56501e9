"""Examples blended with one another, and their targets alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import checks, numerics, random, tree
from funcnn.data.augmentation import Augmentation
from funcnn.data.examples import length
from funcnn.types import Array, Key

__all__ = ["mixup"]


@checks.takes(classes=checks.Integer(2), alpha=checks.Number(above=0, maximum=4))
def mixup(classes: int, alpha: float = 0.2) -> Augmentation:
    """Blend each example, and its class, with another of the batch.

    Parameters
    ----------
    classes : int
        How many there are.
    alpha : float, default 0.2
        How much is blended: near 0, next to nothing; 1, any amount is equally likely.

    Returns
    -------
    Augmentation
        Of examples of any shape and labels ``(N,)``, or probabilities ``(N, classes)``; the targets
        become probabilities, for `funcnn.softmax_cross_entropy`.

    Raises
    ------
    ValueError, TypeError
        For classes below 2, or an alpha outside ``0 < alpha <= 4``.

    Notes
    -----
    ``x = w x + (1 - w) x[order]``, and the same for ``y``, with ``w`` from the distribution
    Beta(alpha, alpha), one for each example, and ``order`` a permutation of the batch. Beta is drawn
    by Jöhnk's method: ``u / (u + v)`` for the first ``u = U ** (1 / alpha)``,
    ``v = V ** (1 / alpha)`` with a sum of at most 1.

    References
    ----------
    H. Zhang et al., "mixup: Beyond empirical risk minimization", 2018. M. Jöhnk, "Erzeugung von
    betaverteilten und gammaverteilten Zufallszahlen", Metrika 8, 1964.

    Examples
    --------
    >>> x, y = mixup(2).pair(random.key(0), np.array([[0.0], [1.0]]), np.array([0, 1]))
    >>> bool(np.allclose(x[:, 0], y[:, 1])), y.shape
    (True, (2, 2))
    """
    shown = f"mixup({classes}{f', {alpha!r}' if alpha != 0.2 else ''})"
    return Augmentation(_mixup, (classes, alpha), shown, targets=True)


def _mixup(key: Key, x: Any, y: Any, classes: int, alpha: float) -> tuple[Any, Array]:
    dtypes = [checks.any_ranked(array).dtype for _, array in tree.leaves(x)]
    count, targets = length(x), checks.array(y, "y")
    if targets.dtype.kind in "iu" and targets.shape == (count,):
        checks.labels(targets, classes, "y")
        targets = targets[:, None] == np.arange(classes)
    if targets.shape != (count, classes):
        wanted = f"labels ({count},) or probabilities ({count}, {classes})"
        checks.refuse(f"`y` must be {wanted}, got shape {targets.shape}")
    weights, order = random.split(key)
    weight, other = _beta(weights, alpha, count), random.permutation(order, count)

    def blended(values: Array) -> Array:
        own = weight.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(own * values + (1 - own) * values[other])

    return tree.map(blended, x), blended(targets.astype(dtypes[-1]))


def _beta(key: Key, alpha: float, count: int) -> Array:
    """Draws from Beta(alpha, alpha). For a small alpha both powers vanish, and their ratio counts."""
    out, missing = np.empty(count), np.ones(count, bool)
    round_ = 0
    while missing.any():
        first, second = (
            random.uniform(own, (count,), dtype=np.float64)
            for own in random.split(random.fold_in(key, round_))
        )
        with np.errstate(all="ignore"):
            u, v = (numerics.power(draw, 1 / alpha) for draw in (first, second))
            ratio = 1 / (1 + numerics.power(second / first, 1 / alpha))
            share = np.where(u + v > 0, u / (u + v), ratio)
        accepted = missing & (u + v <= 1) & ~np.isnan(share)
        out[accepted] = share[accepted]
        missing &= ~accepted
        round_ += 1
    return out
