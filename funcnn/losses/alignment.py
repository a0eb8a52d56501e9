"""Losses of sequences whose alignment with their labels is unknown."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, numerics
from funcnn.checks import Flag, Integer
from funcnn.losses.core import REDUCTION, batch, over, reduced, share
from funcnn.losses.rounding import enough, loss
from funcnn.types import Array, Cache, Loss

__all__ = ["ctc"]

_NEVER = -np.inf  # the logarithm of 0
_LONG = 2.0**13  # from here on, float32 has fewer than ten binary digits behind the point
_ENDLESS = 1e30  # a sum of such numbers over many time steps could be infinite in float32


def _log_sum(*terms: Array) -> Array:
    """``log(exp(a) + exp(b) + ...)``."""
    stacked = np.stack(terms)
    top = np.max(stacked, 0)
    top = np.where(top == _NEVER, 0, top)
    return top + numerics.log(numerics.sum(numerics.exp(stacked - top), 0))


def _later(states: Array, by: int) -> Array:
    """Each state's logarithm where the state `by` steps further on sees it."""
    out = np.full_like(states, _NEVER)
    out[:, by:] = states[:, : states.shape[1] - by]
    return out


def _paths(scores: Array, skips: Array, alive: Array) -> Array:
    """The logarithm of the sum over all paths that end in each state at each time, ``(T, N, S)``.

    A path stays, goes on by one state, or skips the blank between two different labels.
    """
    steps, examples, states = scores.shape
    paths = np.empty_like(scores)
    reach = np.full((examples, states), _NEVER, scores.dtype)
    reach[:, :2] = 0  # a path begins with the first blank or the first label
    for step in range(steps):
        here = np.where(alive[step] & (reach != _NEVER), reach + scores[step], _NEVER)
        paths[step] = here
        reach = _log_sum(here, _later(here, 1), np.where(skips, _later(here, 2), _NEVER))
    return paths


class _Spoken(NamedTuple):
    """Labels ``(N, L)``, a blank beyond their lengths, these, and the numbers of time steps."""

    labels: Array
    lengths: Array
    steps: Array

    def needed(self) -> Array:
        """How many time steps the labels take: one each, and one between two of the same."""
        position = np.arange(1, self.labels.shape[1])
        repeats = self.labels[:, 1:] == self.labels[:, :-1]
        repeats &= position < self.lengths[:, None]
        needed: Array = self.lengths + np.count_nonzero(repeats, axis=1)
        return needed


def _posterior(log_p: Array, spoken: _Spoken, blank: int) -> tuple[Array, Array, Array]:
    """The logarithm of the labels' probability, ``(N,)``; the probability of being in each state at
    each time, ``(T, N, S)``; and the states, labels with a blank around each, ``(N, S)``.
    """
    labels, lengths, steps = spoken
    examples, total, _ = log_p.shape
    states = np.full((examples, 2 * labels.shape[1] + 1), blank)
    states[:, 1::2] = labels
    ends = 2 * lengths  # the last state is this one or the one before
    position = np.arange(states.shape[1])
    scores = np.take_along_axis(log_p, states[:, None, :], 2).transpose(1, 0, 2)  # (T, N, S)
    skips = np.zeros(states.shape, bool)
    skips[:, 3::2] = labels[:, 1:] != labels[:, :-1]
    inside = (position <= ends[:, None])[None] & (np.arange(total)[:, None] < steps)[:, :, None]
    enough((~inside | (scores > -_ENDLESS) | (scores == _NEVER)).transpose(1, 0, 2), log_p)
    ahead = _paths(scores, skips, inside)
    # The backward paths are the forward paths of states and times in reverse, from each end.
    turn = (ends[:, None] - position) % states.shape[1]
    clock = (steps - 1 - np.arange(total)[:, None]) % total  # (T, N)
    row = np.arange(examples)
    reverse = (clock[:, :, None], row[None, :, None], turn[None])
    turned_skips = np.zeros_like(skips)
    turned_skips[:, 2:] = np.take_along_axis(skips, turn, 1)[:, :-2]
    behind = _paths(scores[reverse], turned_skips, inside)[reverse]
    last = ahead[steps - 1, row]
    log_total = _log_sum(
        last[row, ends], np.where(lengths > 0, last[row, np.maximum(ends - 1, 0)], _NEVER)
    )
    through = numerics.exp(np.minimum(ahead + behind - scores - log_total[:, None], 0))
    return log_total, np.where((ahead == _NEVER) | (behind == _NEVER), 0, through), states


@loss(blank=Integer(0), zero_infinity=Flag(), reduction=REDUCTION)
def ctc(*, blank: int = 0, zero_infinity: bool = False, reduction: str = "mean") -> Loss:
    """Connectionist temporal classification: the probability of labels under every alignment.

    Parameters
    ----------
    blank : int, default 0
        The class that stands for no label.
    zero_infinity : bool, default False
        Whether labels that cannot be count as 0. Without it, those that do not fit into their time
        steps are refused, and those of probability 0 have the value inf and the gradient 0.
    reduction : "mean", "sum" or "none", default "mean"
        What becomes of the values of the examples; the mean is that of each value divided by the
        number of its labels.

    Returns
    -------
    Loss
        ``prediction`` holds log-probabilities ``(N, T, C)``; ``target`` is a tuple
        ``(labels, label_lengths)`` or ``(labels, label_lengths, input_lengths)``, of integers
        ``(N, L)``, ``(N,)`` and ``(N,)``. What lies beyond the lengths does not count.

    Raises
    ------
    ValueError, TypeError
        For labels that are blank or outside ``0..C-1``, lengths that do not fit, an empty batch.

    Notes
    -----
    The labels with a blank around each are the states; a path stays, goes on, or skips a blank
    between two different labels. Forward: ``-log(sum over paths of prod(p))``, by the forward
    recursion. Gradient: minus the probability of being in a state with this class at this time,
    by the forward and the backward recursion. As `torch.nn.CTCLoss`, but batch first; PyTorch's
    gradient by log-probabilities is larger by their exponential, which `log_softmax` cancels.

    References
    ----------
    A. Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data
    with recurrent neural networks", 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import ctc
    >>> even = np.log(np.full((1, 2, 2), 0.5))
    >>> value, _ = ctc().apply(even, (np.array([[1]]), np.array([1])))  # "1-", "-1" and "11"
    >>> round(float(np.exp(-value)), 4)
    0.75
    """

    def apply(prediction: Array, target: tuple[Array, ...]) -> tuple[Any, Cache]:
        log_p = checks.ranked(batch(prediction, 3), "N, T, C", "prediction")
        spoken = _checked(log_p, target, blank)
        needed, steps = spoken.needed(), spoken.steps
        fits = needed <= steps
        if not (fits.all() or zero_infinity):
            worst = int(np.argmin(fits))
            checks.refuse(
                f"`target` must fit into the time steps, got {spoken.lengths[worst]} labels that "
                f"need {needed[worst]} of {steps[worst]} steps",
            )
        log_total, posterior, states = _posterior(log_p, spoken, blank)
        # A posterior is the exponential of differences of such numbers, whose last digits it needs.
        enough((log_total > -_LONG) | (log_total == _NEVER), log_p)
        if zero_infinity:
            fits &= log_total != _NEVER
        values = np.where(fits, -log_total, 0).astype(log_p.dtype)
        weight = np.maximum(spoken.lengths, 1) if reduction == "mean" else np.ones(len(fits))
        weight = (1 / weight).astype(log_p.dtype)
        posterior = np.where(fits[:, None], posterior, 0)
        cache = {"posterior": posterior, "states": states, "weight": weight, "shape": log_p.shape}
        return reduced(values * weight, reduction), cache

    def vjp(cache: Cache) -> Array:
        posterior, states, shape = cache["posterior"], cache["states"], cache["shape"]
        dprediction = np.zeros(shape, posterior.dtype)
        row, time = np.arange(shape[0])[:, None, None], np.arange(shape[1])[:, None]
        np.subtract.at(dprediction, (row, time, states[:, None, :]), posterior.transpose(1, 0, 2))
        dprediction *= cache["weight"].reshape(-1, 1, 1)
        dprediction *= share(shape[0], reduction, dprediction.dtype)
        return dprediction

    return Loss(apply, vjp, weight=over(reduction, lambda target: len(target[0])))


def _checked(log_p: Array, target: object, blank: int) -> _Spoken:
    """What is said, and when."""
    examples, total, classes = log_p.shape
    if not isinstance(target, tuple) or len(target) not in (2, 3):
        checks.refuse_type("`target` must be a tuple (labels, label_lengths) or with input_lengths")
    if blank >= classes:
        checks.refuse(f"`blank` must be one of {classes} classes, got {checks.shown(blank)}")
    labels = checks.integers(target[0], "labels")
    if labels.ndim != 2 or len(labels) != examples:
        checks.refuse(f"`labels` must have the shape ({examples}, L), got {labels.shape}")
    lengths = _counts("label_lengths", target[1], examples, 0, labels.shape[1])
    steps = np.full(examples, total)
    if len(target) == 3:
        steps = _counts("input_lengths", target[2], examples, 1, total)
    inside = np.arange(labels.shape[1]) < lengths[:, None]
    checks.labels(np.where(inside, labels, 0), classes, "labels")
    if (inside & (labels == blank)).any():
        checks.refuse(f"`labels` must not be the blank, got {blank}")
    return _Spoken(np.where(inside, labels, blank).astype(np.intp), lengths, steps)


def _counts(name: str, value: object, examples: int, least: int, most: int) -> Array:
    """How many labels or steps each example has."""
    found = checks.integers(value, name)
    if found.shape != (examples,):
        checks.refuse(f"`{name}` must have the shape ({examples},), got {found.shape}")
    low, high = found.min(), found.max()
    if low < least or high > most:
        checks.refuse(f"`{name}` must lie in {least}..{most}, got {low if low < least else high}")
    return found.astype(np.intp)
