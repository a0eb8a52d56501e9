"""Cases of the losses, beyond the first two."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcnn import losses, pairwise_distance, random
from funcnn.types import Array, Loss
from tests.registry import LossCase

_KEY = random.key(11)
_REDUCTIONS = ("mean", "sum", "none")


def _normal(label: str, *shape: int) -> Array:
    return random.normal(random.fold_in(_KEY, label), shape, dtype=np.float64)


def _log_softmax(x: Array) -> Array:
    return np.asarray(x - np.log(np.sum(np.exp(x), -1, keepdims=True)))


def _each_reduction(loss: Any, **options: Any) -> list[Loss]:
    return [loss(reduction=reduction, **options) for reduction in _REDUCTIONS]


_X, _Y = _normal("x", 4, 3), _normal("y", 4, 3)
_LABELS = np.array([2, 0, 1, 0])
_TOKENS = np.array([[2, 0, 1, -1], [0, -1, 2, 1]])
_ZERO_ONE = (_Y > 0).astype(np.float64)
_SIGNS = 2 * _ZERO_ONE - 1
_SOFT = np.exp(_log_softmax(_Y))
_WEIGHT = (0.5, 2.0, 1.0)
_COUNTS = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 5.0], [1.0, 1.0, 4.0], [0.0, 9.0, 2.0]])
_FAR = 3 * _normal("far", 4, 3)  # some within the bend of a loss, some beyond

_CROSS_ENTROPY = [
    LossCase(loss, prediction, target, note=note)
    for options in (
        {"class_weight": _WEIGHT},
        {"label_smoothing": 0.2},
        {"label_smoothing": 0.2, "class_weight": _WEIGHT},
    )
    for prediction, target, note in (
        (_X, _LABELS, "labels"),
        (_X, _SOFT, "soft targets"),
        (_normal("tokens", 2, 4, 3), np.abs(_TOKENS), "sequences"),
    )
    for loss in _each_reduction(losses.softmax_cross_entropy, **options)
] + [
    LossCase(loss, _normal("tokens", 2, 4, 3), _TOKENS, note="a mask")
    for options in (
        {"ignore_index": -1},
        {"ignore_index": -1, "class_weight": _WEIGHT, "label_smoothing": 0.1},
    )
    for loss in _each_reduction(losses.softmax_cross_entropy, **options)
]

_NOTHING = (0.0, 2.0, 1.0)  # what is of the first class does not count
_SPARSE = np.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.0]])

_UNCOUNTED = (
    [
        LossCase(loss, _X, target, note=note)
        for options in ({"class_weight": _NOTHING}, {"class_weight": _NOTHING, "label_smoothing": 0.1})
        for target, note in ((_LABELS, "a class of weight 0"), (_SPARSE, "sparse targets"))
        for loss in _each_reduction(losses.softmax_cross_entropy, **options)
    ]
    + [
        LossCase(loss, _log_softmax(_X), _LABELS, note="a class of weight 0")
        for loss in _each_reduction(losses.nll, class_weight=_NOTHING)
    ]
    + [
        LossCase(loss, _X, _LABELS, note="a class of weight 0")
        for loss in _each_reduction(losses.multi_margin, class_weight=_NOTHING, power=2)
    ]
    + [
        LossCase(loss, _X, _ZERO_ONE, note="ones do not count")
        for loss in _each_reduction(losses.binary_cross_entropy_with_logits, positive_weight=_NOTHING)
    ]
    + [
        LossCase(loss, _X, _ZERO_ONE, note="one answer does not count")
        for alpha in (0.0, 1.0)
        for loss in _each_reduction(losses.focal, alpha=alpha)
    ]
    + [
        LossCase(loss, _log_softmax(_X), _SPARSE, note="sparse targets")
        for loss in _each_reduction(losses.kl_divergence)
    ]
)

_REFUSED_CROSS_ENTROPY = [
    LossCase(
        losses.softmax_cross_entropy(ignore_index=-1),
        _X,
        np.array([2, -1, 0, 1]),
        refused=(
            (
                _X,
                np.array([-1, -1, -1, -1]),
                "softmax_cross_entropy: `target` must have an example that counts: "
                "all are ignored or weigh 0",
            ),
            (
                _X,
                np.array([-2, -1, 0, 1]),
                "softmax_cross_entropy: `target` must lie in 0..2, got -2",
            ),
        ),
    ),
    LossCase(
        losses.softmax_cross_entropy(class_weight=(1.0, 2.0, 3.0), reduction="sum"),
        _X,
        _LABELS,
        refused=(
            (
                _X[:, :2],
                _LABELS % 2,
                "softmax_cross_entropy: `class_weight` must have a number for each of 2 classes, got 3",
            ),
        ),
    ),
]

_CLASSES = (
    [
        LossCase(loss, _log_softmax(_X), _LABELS)
        for options in ({}, {"class_weight": _WEIGHT})
        for loss in _each_reduction(losses.nll, **options)
    ]
    + [
        LossCase(loss, _log_softmax(_normal("tokens", 2, 4, 3)), _TOKENS, note="a mask")
        for loss in _each_reduction(losses.nll, ignore_index=-1)
    ]
    + [
        LossCase(loss, _X, _SOFT)
        for options in ({}, {"positive_weight": 3.0}, {"positive_weight": _WEIGHT})
        for loss in _each_reduction(losses.binary_cross_entropy_with_logits, **options)
    ]
    + [
        LossCase(loss, 3 * _X, _ZERO_ONE)
        for options in ({}, {"gamma": 0.5}, {"gamma": 0.0, "alpha": None}, {"alpha": None})
        for loss in _each_reduction(losses.focal, **options)
    ]
    + [LossCase(loss, _X, _SIGNS) for loss in _each_reduction(losses.hinge)]
    + [
        LossCase(loss, prediction, target, note=note)
        for options in ({}, {"power": 2, "margin": 0.5}, {"class_weight": _WEIGHT})
        for prediction, target, note in (
            (_X, _LABELS, "labels"),
            (_normal("tokens", 2, 4, 3), np.abs(_TOKENS), "sequences"),
        )
        for loss in _each_reduction(losses.multi_margin, **options)
    ]
    + [
        LossCase(
            losses.binary_cross_entropy_with_logits(),
            _X,
            _ZERO_ONE,
            note="zeros and ones",
            refused=(
                (
                    _X,
                    np.full((4, 3), 1.5),
                    "binary_cross_entropy_with_logits: `target` must lie in 0..1, got 1.5",
                ),
            ),
        ),
        LossCase(
            losses.focal(),
            _X,
            1 - _ZERO_ONE,
            note="refusals",
            refused=((_X, np.full((4, 3), 0.5), "focal: `target` must be 0 or 1, got 0.5"),),
        ),
        LossCase(
            losses.hinge(),
            _X,
            -_SIGNS,
            note="refusals",
            refused=((_X, np.zeros((4, 3)), "hinge: `target` must be -1 or 1, got 0.0"),),
        ),
    ]
)

_NUMBERS = [
    LossCase(loss, prediction, target, note=note)
    for build, every_options in (
        (losses.l1, ({},)),
        (losses.huber, ({}, {"delta": 2.0})),
        (losses.smooth_l1, ({}, {"beta": 0.5})),
        (losses.log_cosh, ({},)),
    )
    for options in every_options
    for prediction, target, note in ((_X, _FAR, "vectors"), (_FAR[:, 0], _X[:, 0], "numbers"))
    for loss in _each_reduction(build, **options)
] + [LossCase(losses.log_cosh(), 1e3 * _X, _Y, note="far away")]

_DISTRIBUTIONS = (
    [
        LossCase(losses.kl_divergence(reduction=reduction), _log_softmax(_X), target, note=note)
        for reduction in (*_REDUCTIONS, "batch_mean")
        for target, note in ((_SOFT, "soft"), (np.eye(3)[_LABELS], "hard"))
    ]
    + [
        LossCase(loss, _log_softmax(_X), _log_softmax(_Y))
        for loss in _each_reduction(losses.kl_divergence, log_target=True)
    ]
    + [
        LossCase(loss, _X, _COUNTS)
        for options in ({}, {"full": True})
        for loss in _each_reduction(losses.poisson_nll, **options)
    ]
    + [
        LossCase(loss, np.exp(_X), _COUNTS)
        for loss in _each_reduction(losses.poisson_nll, log_input=False, epsilon=1e-3)
    ]
    + [
        LossCase(loss, (_X, np.exp(_Y)), _FAR)
        for options in ({}, {"full": True, "epsilon": 1e-3})
        for loss in _each_reduction(losses.gaussian_nll, **options)
    ]
    + [
        LossCase(
            losses.gaussian_nll(),
            (_X, np.ones((4, 3))),
            _Y,
            note="refusals",
            refused=(
                (
                    (_X, -np.ones((4, 3))),
                    _Y,
                    "gaussian_nll: `variance` must not be negative, got -1.0",
                ),
                (
                    (_X, np.ones((4, 1))),
                    _Y,
                    "gaussian_nll: `variance` must have the shape (4, 3) of `mean`, got (4, 1)",
                ),
            ),
        )
    ]
)

_PAIRS = np.array([5, 7, 3, 7, 5, 3])

_EMBEDDINGS = (
    [
        LossCase(loss, (_X, _Y), np.array([1, -1, -1, 1]))
        for options in ({}, {"margin": -0.5})
        for loss in _each_reduction(losses.cosine_embedding, **options)
    ]
    + [
        LossCase(loss, (_X, _Y, 0.5 * (_X + _Y) + 0.1 * _FAR), ())
        for options in ({}, {"margin": 0.2, "epsilon": 1e-3}, {"norm_type": 3, "swap": True})
        for loss in _each_reduction(losses.triplet, **options)
    ]
    + [
        LossCase(
            losses.triplet(distance=pairwise_distance(epsilon=0.1), margin=0.4, swap=True),
            (_X, _Y, 0.5 * (_X + _Y) + 0.1 * _FAR),
            (),
        )
    ]
    + [
        LossCase(loss, _normal("views", 6, 3), target, note=note)
        for options in ({}, {"temperature": 0.1})
        for target, note in ((_PAIRS, "pairs"), (_PAIRS % 2, "kinds"))
        for loss in _each_reduction(losses.contrastive, **options)
        if note == "pairs" or not options
    ]
    + [
        LossCase(
            losses.contrastive(),
            _X,
            np.array([0, 1, 0, 1]),
            note="refusals",
            refused=(
                (
                    _X,
                    np.array([0, 1, 0, 2]),
                    "contrastive: `target` must have each number twice, got 1 once",
                ),
            ),
        )
    ]
)

_SPOKEN = _log_softmax(_normal("spoken", 3, 6, 4))
_WORDS = (np.array([[1, 2, 2], [3, 1, 0], [2, 0, 0]]), np.array([3, 2, 1]))

_ALIGNMENTS = [
    LossCase(loss, _SPOKEN, target, note=note)
    for target, note in (
        (_WORDS, "labels"),
        ((*_WORDS, np.array([6, 4, 5])), "labels and steps"),
        ((_WORDS[0], np.array([3, 0, 2 - 1])), "no label"),
    )
    for loss in _each_reduction(losses.ctc)
] + [
    LossCase(
        losses.ctc(blank=3),
        _SPOKEN,
        (np.array([[1, 0], [0, 0], [2, 1]]), np.array([2, 2, 2])),
        refused=(
            (
                _SPOKEN,
                (np.array([[1, 0], [0, 3], [2, 1]]), np.array([2, 2, 2])),
                "ctc: `labels` must not be the blank, got 3",
            ),
            (
                _SPOKEN,
                (np.array([[1, 0], [0, 0], [2, 1]]), np.array([2, 2, 2]), np.array([6, 2, 6])),
                "ctc: `target` must fit into the time steps, got 2 labels that need 3 of 2 steps",
            ),
        ),
    ),
    LossCase(
        losses.ctc(zero_infinity=True),
        _SPOKEN,
        (*_WORDS, np.array([3, 6, 6])),
        note="one does not fit",
    ),
]

_PART = 1 / (1 + np.exp(-_X))
_BOTH = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
_MASK = np.array([[True, False, True], [True, True, True], [False, True, True], [True, True, False]])
_SOME = np.array([0.5, 0.0, 2.0, 1.0])

_MARGINS = (
    [
        LossCase(loss, _PART, target, note=note)
        for target, note in ((_SOFT, "soft"), (_ZERO_ONE, "zeros and ones"))
        for loss in _each_reduction(losses.binary_cross_entropy)
    ]
    + [LossCase(loss, _X, _SIGNS) for loss in _each_reduction(losses.soft_margin)]
    + [
        LossCase(loss, _X, _SIGNS)
        for options in ({}, {"margin": 0.3})
        for loss in _each_reduction(losses.hinge_embedding, **options)
    ]
    + [
        LossCase(loss, (_X, _Y), _SIGNS.astype(np.int64))
        for options in ({}, {"margin": 0.5})
        for loss in _each_reduction(losses.margin_ranking, **options)
    ]
    + [
        LossCase(loss, prediction, target, note=note)
        for prediction, target, note in (
            (_X, _BOTH, "floats"),
            (_X, _BOTH.astype(np.int64), "integers"),
            (_X[:, None], _BOTH[:, None], "sequences"),
        )
        for loss in (
            *_each_reduction(losses.multi_label_margin),
            *_each_reduction(losses.multi_label_soft_margin),
            *_each_reduction(losses.multi_label_soft_margin, class_weight=_NOTHING),
        )
    ]
    + [
        LossCase(loss, prediction, (target, weight), note=note)
        for inner, prediction, target, weight, note in (
            (losses.huber(reduction="none"), _X, _FAR, _MASK, "a mask"),
            (losses.l1(reduction="none"), _X, _FAR, _SOME, "examples"),
            (losses.softmax_cross_entropy(reduction="none"), _X, _LABELS, _SOME, "labels"),
            (
                losses.cosine_embedding(reduction="none"),
                (_X, _Y),
                np.array([1, -1, 1, 1]),
                _SOME,
                "pairs",
            ),
        )
        for loss in _each_reduction(lambda inner=inner, **options: losses.weighted(inner, **options))
    ]
    + [
        LossCase(
            losses.weighted(losses.softmax_cross_entropy(reduction="none"), lengths=True),
            _X.reshape(2, 2, 3),
            (np.array([[0, 2], [1, 9]]), np.array([2, 1])),
            note="lengths",
            refused=(
                (
                    _X,
                    (_LABELS, np.array([2, 1])),
                    "weighted: `target` must be sequences (N, T, ...), got shape (4,)",
                ),
            ),
        ),
        LossCase(
            losses.weighted(losses.l1(reduction="none")),
            _Y,
            (_FAR, _MASK),
            note="refusals",
            refused=(
                (_Y, _FAR, "weighted: `target` must be a tuple (target, weight)"),
                (
                    _Y,
                    (_FAR, np.ones(3)),
                    "weighted: `weight` must have the shape (4, 3) or that of its first axes, got (3,)",
                ),
                (_Y, (_FAR, -_SOME), "weighted: `weight` must be finite and at least 0, got -2.0"),
                (_Y, (_FAR, 0 * _SOME), "weighted: `weight` must be above 0 somewhere"),
            ),
        ),
    ]
)

_JOINT = losses.sum_losses(
    {"digit": losses.softmax_cross_entropy(ignore_index=-1), "mask": losses.l1(reduction="sum")},
    weights={"mask": 0.5},
)
_PAIR = losses.sum_losses((losses.mean_squared_error(), losses.huber()), weights=(2.0, 0.0))
_OUT = {"digit": _normal("digit", 2, 4, 3), "mask": _Y[:2]}
_SUMS = [
    LossCase(
        _PAIR,
        (_X, _Y),
        (_FAR, _FAR),
        refused=(
            ((_X,), (_FAR, _FAR), "sum_losses: `prediction` must be a tuple of 2, got a tuple of 1"),
        ),
    ),
    LossCase(
        _JOINT,
        _OUT,
        {"digit": _TOKENS, "mask": _FAR[:2]},
        refused=(
            (
                _X,
                _Y,
                "sum_losses: `prediction` must be a dict of digit, mask, got an array of shape (4, 3)",
            ),
            (
                _OUT,
                {"digit": _TOKENS},
                "sum_losses: `target` must be a dict of digit, mask, got a dict with ['digit']",
            ),
            (
                _OUT,
                {"digit": _TOKENS, "mask": _FAR},
                "sum_losses/mask: `target` must have the shape (2, 3), got (4, 3)",
            ),
        ),
    ),
]

LOSSES = [
    *_SUMS,
    *_CROSS_ENTROPY,
    *_UNCOUNTED,
    *_REFUSED_CROSS_ENTROPY,
    *_CLASSES,
    *_NUMBERS,
    *_DISTRIBUTIONS,
    *_EMBEDDINGS,
    *_ALIGNMENTS,
    *_MARGINS,
]
