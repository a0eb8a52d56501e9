"""Losses of sequences whose alignment with their labels is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import _checks, numerics
from funcnn.losses.core import REDUCTIONS, batch, over, quiet, reduced, share
from funcnn.types import Array, Cache, Loss, Spec

__all__ = ["ctc"]

_NEVER = -np.inf  # the logarithm of 0


def _log_sum(*terms: Array) -> Array:
    """``log(exp(a) + exp(b) + ...)``."""
    stacked = np.stack(terms)
    top = np.max(stacked, 0)
    top = np.where(top == _NEVER, 0, top)
    out: Array = top + numerics.log(numerics.sum(numerics.exp(stacked - top), 0))
    return out


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
    blank = _checks.integer("ctc", "blank", blank, 0)
    zero_infinity = _checks.boolean("ctc", "zero_infinity", zero_infinity)
    _checks.choice("ctc", "reduction", reduction, REDUCTIONS)

    def apply(prediction: Array, target: tuple[Array, ...]) -> tuple[Any, Cache]:
        log_p = _checks.ranked("ctc", batch("ctc", prediction, 3), "N, T, C", "prediction")
        labels, lengths, steps = _checked(log_p, target, blank)
        fits = _needed(labels, lengths) <= steps
        if not (fits.all() or zero_infinity):
            worst = int(np.argmin(fits))
            _checks.refuse(
                "ctc",
                f"`target` must fit into the time steps, got {lengths[worst]} labels that need "
                f"{_needed(labels, lengths)[worst]} of {steps[worst]} steps",
            )
        return forward(log_p, labels, lengths, steps, fits)

    @quiet
    def forward(
        log_p: Array, labels: Array, lengths: Array, steps: Array, fits: Array
    ) -> tuple[Any, Cache]:
        examples, total, _ = log_p.shape
        states = np.full((examples, 2 * labels.shape[1] + 1), blank)
        states[:, 1::2] = labels
        ends = 2 * lengths  # the last state is this one or the one before
        position = np.arange(states.shape[1])
        scores = np.take_along_axis(log_p, states[:, None, :], 2).transpose(1, 0, 2)  # (T, N, S)
        skips = np.zeros(states.shape, bool)
        skips[:, 3::2] = labels[:, 1:] != labels[:, :-1]
        inside = (position <= ends[:, None])[None] & (np.arange(total)[:, None] < steps)[:, :, None]
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
        if zero_infinity:
            fits = fits & (log_total != _NEVER)
        values = np.where(fits, -log_total, 0).astype(log_p.dtype)
        through = numerics.exp(np.minimum(ahead + behind - scores - log_total[:, None], 0))
        possible = fits[:, None] & (ahead != _NEVER) & (behind != _NEVER)
        posterior = np.where(possible, through, 0)
        weight = (1 / np.maximum(lengths, 1)).astype(log_p.dtype) if reduction == "mean" else 1
        cache = {"posterior": posterior, "states": states, "weight": weight, "shape": log_p.shape}
        return reduced(values * weight, reduction), cache

    @quiet
    def vjp(cache: Cache) -> Array:
        posterior, states, shape = cache["posterior"], cache["states"], cache["shape"]
        dprediction = np.zeros(shape, posterior.dtype)
        row, time = np.arange(shape[0])[:, None, None], np.arange(shape[1])[:, None]
        np.subtract.at(dprediction, (row, time, states[:, None, :]), posterior.transpose(1, 0, 2))
        weight = np.reshape(cache["weight"], (-1, 1, 1))
        out: Array = (dprediction * weight * share(shape[0], reduction, dprediction.dtype)).astype(
            posterior.dtype
        )
        return out

    options = {"blank": blank, "zero_infinity": zero_infinity, "reduction": reduction}
    weight = over(reduction, lambda target: len(target[0]))
    return Loss(apply, vjp, Spec(ctc, options=options), weight)


def _needed(labels: Array, lengths: Array) -> Array:
    """How many time steps the labels take: one each, and one between two of the same."""
    position = np.arange(1, labels.shape[1])
    repeats = (labels[:, 1:] == labels[:, :-1]) & (position < lengths[:, None])
    needed: Array = lengths + np.count_nonzero(repeats, axis=1)
    return needed


def _checked(log_p: Array, target: object, blank: int) -> tuple[Array, Array, Array]:
    """Labels (a blank beyond their length), their lengths, and the numbers of time steps."""
    examples, total, classes = log_p.shape
    if not isinstance(target, tuple) or len(target) not in (2, 3):
        _checks.refuse_type(
            "ctc", "`target` must be a tuple (labels, label_lengths) or with input_lengths"
        )
    if blank >= classes:
        _checks.refuse("ctc", f"`blank` must be one of {classes} classes, got {blank}")
    labels, lengths, *rest = target
    steps = rest[0] if rest else np.full(examples, total)
    labels = _checks.array("ctc", labels, "labels")
    if labels.ndim != 2 or len(labels) != examples:
        _checks.refuse("ctc", f"`labels` must have the shape ({examples}, L), got {labels.shape}")
    for name, value, most in (
        ("label_lengths", lengths, labels.shape[1]),
        ("input_lengths", steps, total),
    ):
        found = _checks.array("ctc", value, name)
        if found.dtype.kind not in "iu":
            _checks.refuse_type("ctc", f"`{name}` must be integers, got {found.dtype}")
        if found.shape != (examples,):
            _checks.refuse("ctc", f"`{name}` must have the shape ({examples},), got {found.shape}")
        least = 0 if name == "label_lengths" else 1
        if found.min() < least or found.max() > most:
            worst = found.min() if found.min() < least else found.max()
            _checks.refuse("ctc", f"`{name}` must lie in {least}..{most}, got {worst}")
    inside = np.arange(labels.shape[1]) < lengths[:, None]
    _checks.labels("ctc", np.where(inside, labels, labels.dtype.type(0)), classes, "labels")
    if (inside & (labels == blank)).any():
        _checks.refuse("ctc", f"`labels` must not be the blank, got {blank}")
    labels = np.where(inside, labels, blank)
    return labels.astype(np.intp), lengths.astype(np.intp), steps.astype(np.intp)
