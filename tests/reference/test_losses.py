"""Losses against PyTorch's: values and gradients, over options and reductions, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from funcnn import cosine_similarity, log_softmax, losses, pairwise_distance, random
from funcnn.types import Array, Layer, Loss
from tests.reference.agreement import torch

F: Any = torch.nn.functional
_KEY = random.key(17)
_TOLERANCE = 1e-12

REDUCTIONS = ("mean", "sum", "none")
Reference = Callable[..., Any]


def _normal(label: str, *shape: int) -> Array:
    return random.normal(random.fold_in(_KEY, label), shape, dtype=np.float64)


def _tensors(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_tensors, value))
    return torch.tensor(value)


def _agrees(loss: Loss, prediction: Any, target: Any, reference: Reference) -> None:
    """Value and gradient equal those of ``reference(*prediction, target)`` of tensors."""
    value, cache = loss.apply(prediction, target)
    found = loss.vjp(cache)
    parts = prediction if isinstance(prediction, tuple) else (prediction,)
    leaves = [torch.tensor(part, requires_grad=True) for part in parts]
    wanted = reference(*leaves, _tensors(target))
    slopes = torch.autograd.grad(torch.sum(wanted), leaves)
    assert np.shape(value) == tuple(wanted.shape)
    np.testing.assert_allclose(value, wanted.detach().numpy(), rtol=_TOLERANCE, atol=_TOLERANCE)
    for mine, theirs in zip(found if isinstance(found, tuple) else (found,), slopes, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=_TOLERANCE, atol=_TOLERANCE)


X, Y = _normal("x", 6, 4), _normal("y", 6, 4)
LABELS = np.array([3, 0, 1, 0, 2, 2])
TOKENS = _normal("tokens", 3, 5, 4)
TOKEN_LABELS = np.array([[0, 1, -1, 2, 3], [-1, -1, -1, -1, -1], [3, 3, 0, 1, -1]])
SOFT = np.exp(Y) / np.exp(Y).sum(-1, keepdims=True)
ZERO_ONE = (Y > 0).astype(np.float64)
WEIGHT = (0.5, 2.0, 0.0, 1.5)


def _classes_second(scores: Any) -> Any:
    """Our classes are on the last axis, PyTorch's on the second."""
    return torch.movedim(scores, -1, 1)


def _cross_entropy() -> Iterator[Any]:
    for weight in (None, WEIGHT):
        for smoothing in (0.0, 0.3):
            for x, y, ignored in (
                (X, LABELS, None),
                (X, SOFT, None),
                (X, LABELS, 2),
                (TOKENS, np.abs(TOKEN_LABELS), None),
                (TOKENS, TOKEN_LABELS, -1),
            ):
                yield pytest.param(weight, smoothing, x, y, ignored)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("weight", "smoothing", "x", "y", "ignored"), list(_cross_entropy()))
def test_softmax_cross_entropy(
    weight: Any, smoothing: float, x: Array, y: Array, ignored: int | None, reduction: str
) -> None:
    loss = losses.softmax_cross_entropy(
        class_weight=weight, label_smoothing=smoothing, ignore_index=ignored, reduction=reduction
    )

    def reference(scores: Any, target: Any) -> Any:
        return F.cross_entropy(
            _classes_second(scores),
            target if target.is_floating_point() else target.long(),
            None if weight is None else torch.tensor(weight).double(),
            ignore_index=-100 if ignored is None else ignored,
            reduction=reduction,
            label_smoothing=smoothing,
        )

    _agrees(loss, x, y, reference)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize(
    ("x", "y", "ignored"),
    [(X, LABELS, None), (TOKENS, np.abs(TOKEN_LABELS), None), (TOKENS, TOKEN_LABELS, -1)],
)
def test_nll(x: Array, y: Array, ignored: int | None, weight: Any, reduction: str) -> None:
    _agrees(
        losses.nll(class_weight=weight, ignore_index=ignored, reduction=reduction),
        x,
        y,
        lambda scores, target: F.nll_loss(
            _classes_second(scores),
            target,
            None if weight is None else torch.tensor(weight).double(),
            ignore_index=-100 if ignored is None else ignored,
            reduction=reduction,
        ),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, 3.0, WEIGHT])
def test_binary_cross_entropy_with_logits(weight: Any, reduction: str) -> None:
    _agrees(
        losses.binary_cross_entropy_with_logits(positive_weight=weight, reduction=reduction),
        10 * X,
        SOFT,
        lambda z, t: F.binary_cross_entropy_with_logits(
            z,
            t,
            reduction=reduction,
            pos_weight=None if weight is None else torch.tensor(weight).double(),
        ),
    )


SEVERAL = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 1]])


def _listed(known: Array) -> Any:
    """The right classes of each example, as PyTorch has them: then -1."""
    rows = [[*np.flatnonzero(row), *[-1] * len(row)][: len(row)] for row in known]
    return torch.tensor(np.array(rows))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0.0, 0.4, -0.3])
def test_margins(margin: float, reduction: str) -> None:
    signs = 2 * ZERO_ONE - 1
    _agrees(losses.soft_margin(reduction=reduction), 5 * X, signs,
            lambda z, t: F.soft_margin_loss(z, t, reduction=reduction))  # fmt: skip
    _agrees(losses.hinge_embedding(margin=margin, reduction=reduction), X, signs,
            lambda z, t: F.hinge_embedding_loss(z, t, margin, reduction=reduction))  # fmt: skip
    _agrees(losses.margin_ranking(margin=margin, reduction=reduction), (X, Y), signs.astype(np.int64),
            lambda a, b, t: F.margin_ranking_loss(a, b, t, margin, reduction=reduction))  # fmt: skip
    _agrees(losses.binary_cross_entropy(reduction=reduction), SOFT, ZERO_ONE,
            lambda p, t: F.binary_cross_entropy(p, t, reduction=reduction))  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_several_labels(weight: Any, reduction: str) -> None:
    right = _listed(SEVERAL)
    _agrees(losses.multi_label_margin(reduction=reduction), X, SEVERAL,
            lambda z, t: F.multilabel_margin_loss(z, right, reduction=reduction))  # fmt: skip
    tensor = None if weight is None else torch.tensor(weight).double()
    _agrees(losses.multi_label_soft_margin(class_weight=weight, reduction=reduction), X, SEVERAL,
            lambda z, t: F.multilabel_soft_margin_loss(z, t, tensor, reduction=reduction))  # fmt: skip


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_weights_of_elements(reduction: str) -> None:
    weight = np.abs(Y)
    inner = losses.binary_cross_entropy_with_logits(reduction="none")

    def reference(z: Any, target: Any) -> Any:
        known, each = target
        return F.binary_cross_entropy_with_logits(z, known, each, reduction=reduction)

    _agrees(losses.weighted(inner, reduction=reduction), X, (ZERO_ONE, weight), reference)


@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal(gamma: float, alpha: float | None) -> None:
    def reference(z: Any, t: Any) -> Any:
        right = torch.sigmoid(z) * t + (1 - torch.sigmoid(z)) * (1 - t)
        weight = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
        entropy = F.binary_cross_entropy_with_logits(z, t, reduction="none")
        return weight * (1 - right) ** gamma * entropy

    loss = losses.focal(gamma=gamma, alpha=alpha, reduction="none")
    _agrees(loss, 3 * X, ZERO_ONE, reference)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize(("power", "margin"), [(1, 1.0), (2, 1.0), (1, 0.3), (2, 2.0)])
def test_multi_margin(power: int, margin: float, weight: Any, reduction: str) -> None:
    _agrees(
        losses.multi_margin(power=power, margin=margin, class_weight=weight, reduction=reduction),
        X,
        LABELS,
        lambda x, y: F.multi_margin_loss(
            x,
            y,
            power,
            margin,
            None if weight is None else torch.tensor(weight).double(),
            reduction=reduction,
        ),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("build", "options", "reference"),
    [
        pytest.param(losses.mean_squared_error, {}, F.mse_loss, id="mean_squared_error"),
        pytest.param(losses.l1, {}, F.l1_loss, id="l1"),
        pytest.param(losses.huber, {}, F.huber_loss, id="huber"),
        pytest.param(losses.huber, {"delta": 0.4}, F.huber_loss, id="huber, delta"),
        pytest.param(losses.smooth_l1, {}, F.smooth_l1_loss, id="smooth_l1"),
        pytest.param(losses.smooth_l1, {"beta": 0.4}, F.smooth_l1_loss, id="smooth_l1, beta"),
    ],
)
def test_distances(build: Any, options: Any, reference: Any, reduction: str) -> None:
    loss = build(**options, reduction=reduction)
    for x, y in ((X, Y), (X[:, 0], Y[:, 0]), (TOKENS, TOKENS[::-1].copy())):
        _agrees(loss, x, y, lambda p, t: reference(p, t, reduction=reduction, **options))


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # PyTorch's own, of its "mean"
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batch_mean"])
def test_kl_divergence(reduction: str, log_target: bool) -> None:
    hard = np.eye(4)[LABELS]
    for target in (np.log(SOFT),) if log_target else (SOFT, hard):
        _agrees(
            losses.kl_divergence(log_target=log_target, reduction=reduction),
            X,
            target,
            lambda x, y: F.kl_div(x, y, reduction=reduction.replace("_", ""), log_target=log_target),
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("log_input", [True, False])
def test_poisson_nll(log_input: bool, full: bool, reduction: str) -> None:
    counts = np.array([[0.0, 1.0, 2.0, 7.0]] * 6)
    options = {} if log_input else {"epsilon": 1e-4}
    _agrees(
        losses.poisson_nll(log_input=log_input, full=full, reduction=reduction, **options),
        X if log_input else np.abs(X),
        counts,
        lambda x, y: F.poisson_nll_loss(x, y, log_input, full, eps=1e-4, reduction=reduction),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("epsilon", [1e-6, 1.0])
def test_gaussian_nll(epsilon: float, full: bool, reduction: str) -> None:
    _agrees(
        losses.gaussian_nll(full=full, epsilon=epsilon, reduction=reduction),
        (X, np.exp(Y)),
        TOKENS[0, :4].repeat(2, 0)[:6],
        lambda mean, variance, y: F.gaussian_nll_loss(
            mean, y, variance, full=full, eps=epsilon, reduction=reduction
        ),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0.0, 0.3, -0.5])
def test_cosine_embedding(margin: float, reduction: str) -> None:
    _agrees(
        losses.cosine_embedding(margin=margin, reduction=reduction),
        (X, Y),
        np.array([1, -1, -1, 1, -1, -1]),
        lambda a, b, y: F.cosine_embedding_loss(a, b, y, margin, reduction=reduction),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("norm", [1, 1.5, 2, 3, 4.5])
@pytest.mark.parametrize(("margin", "epsilon"), [(1.0, 1e-6), (0.2, 1e-2)])
def test_triplet(margin: float, epsilon: float, norm: float, swap: bool, reduction: str) -> None:
    options: dict[str, Any] = {"margin": margin, "swap": swap, "reduction": reduction}
    for other in (2 * X - Y, X + Y):
        _agrees(
            losses.triplet(norm_type=norm, epsilon=epsilon, **options),
            (X, Y, other),
            (),
            lambda a, p, n, _: F.triplet_margin_loss(a, p, n, p=norm, eps=epsilon, **options),
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("margin", [1.0, 0.2])
def test_triplet_with_a_distance(margin: float, swap: bool, reduction: str) -> None:
    options: dict[str, Any] = {"margin": margin, "swap": swap, "reduction": reduction}
    distances: list[tuple[Any, Any]] = [
        (pairwise_distance(norm_type=3), torch.nn.PairwiseDistance(3)),
        (cosine_similarity(), torch.nn.CosineSimilarity()),
    ]
    for (mine, theirs), other in product(distances, (2 * X - Y, X + Y)):

        def reference(a: Any, p: Any, n: Any, _: Any, theirs: Any = theirs) -> Any:
            return F.triplet_margin_with_distance_loss(a, p, n, distance_function=theirs, **options)

        _agrees(losses.triplet(distance=mine, **options), (X, Y, other), (), reference)


def test_triplet_swaps_where_the_other_is_closer_to_the_like() -> None:
    plain, swapped = (
        losses.triplet(swap=swap, reduction="none").apply((X, Y, X + Y), ())[0]
        for swap in (False, True)
    )
    assert (swapped >= plain).all()
    assert (swapped > plain).any()
    assert (swapped == plain).any()


@pytest.mark.parametrize("temperature", [0.5, 0.05])
def test_contrastive_is_a_cross_entropy_of_cosines(temperature: float) -> None:
    """Written down as in the paper: the partner of each is its class, among all others."""
    views = _normal("views", 8, 5)

    def reference(x: Any, _: Any) -> Any:
        z = F.normalize(x)
        scores = (z @ z.T / temperature).masked_fill(torch.eye(8, dtype=bool), -torch.inf)
        return F.cross_entropy(scores, torch.arange(8).roll(4))

    _agrees(losses.contrastive(temperature=temperature), views, np.arange(8) % 4, reference)


CTC_TARGETS = (
    (np.array([[1, 2, 2], [3, 1, 0], [2, 0, 0], [1, 1, 1]]), np.array([3, 2, 1, 0]), None),
    (np.array([[1, 2], [2, 2], [3, 1], [1, 3]]), np.array([2, 2, 2, 1]), np.array([7, 3, 5, 2])),
)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("labels", "lengths", "steps"), CTC_TARGETS)
def test_ctc(labels: Array, lengths: Array, steps: Array | None, reduction: str) -> None:
    """Through the logarithm of the softmax: PyTorch's gradient is meant to be pulled back by it."""
    logits = _normal("speech", 4, 7, 4)
    softmax: Layer[Any, Any] = log_softmax()
    log_p, cache = softmax.apply({}, logits)
    target = (labels, lengths) if steps is None else (labels, lengths, steps)
    loss = losses.ctc(reduction=reduction)
    value, loss_cache = loss.apply(log_p, target)
    _, found = softmax.vjp(cache, loss.vjp(loss_cache))

    leaf = torch.tensor(logits, requires_grad=True)
    wanted = F.ctc_loss(
        torch.log_softmax(leaf, -1).transpose(0, 1),
        torch.tensor(labels),
        torch.tensor(np.full(4, 7) if steps is None else steps),
        torch.tensor(lengths),
        reduction=reduction,
    )
    (slope,) = torch.autograd.grad(torch.sum(wanted), [leaf])
    np.testing.assert_allclose(value, wanted.detach().numpy(), rtol=1e-11)
    np.testing.assert_allclose(found, slope.numpy(), rtol=0, atol=1e-11)


def test_ctc_counts_what_cannot_be_as_zero_if_asked() -> None:
    log_p = np.log(np.full((2, 2, 3), 1 / 3))
    target = (np.array([[1, 1], [1, 2]]), np.array([2, 2]))
    value, cache = losses.ctc(zero_infinity=True, reduction="none").apply(log_p, target)
    wanted = F.ctc_loss(
        torch.tensor(log_p).transpose(0, 1),
        *map(torch.tensor, (target[0], np.array([2, 2]), target[1])),
        reduction="none",
        zero_infinity=True,
    )
    np.testing.assert_allclose(value, wanted.numpy(), rtol=1e-12)
    assert value[0] == 0
    assert not losses.ctc(zero_infinity=True).vjp(cache)[0].any()


@pytest.mark.parametrize(("name", "build"), [("log_cosh", losses.log_cosh), ("hinge", losses.hinge)])
def test_losses_that_only_optax_has(name: str, build: Any) -> None:
    jax: Any = pytest.importorskip("jax", reason="JAX is not installed: pip install jax optax")
    optax: Any = pytest.importorskip("optax", reason="optax is not installed: pip install optax")
    reference = {"log_cosh": optax.log_cosh, "hinge": optax.hinge_loss}[name]
    target = Y if name == "log_cosh" else 2 * ZERO_ONE - 1
    loss = build(reduction="sum")
    value, cache = loss.apply(X, target)
    with jax.enable_x64(True):
        wanted, slope = jax.value_and_grad(lambda x: reference(x, target).sum())(X)
        np.testing.assert_allclose(value, np.asarray(wanted), rtol=1e-12)
        np.testing.assert_allclose(loss.vjp(cache), np.asarray(slope), rtol=1e-12, atol=1e-12)
