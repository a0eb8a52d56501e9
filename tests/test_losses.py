"""What losses promise by name: values worked out by hand, what does not count, options that act."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from funcnn import losses, metrics, numerics, tree
from funcnn.testing import LOSS_LAWS, LossSubject
from funcnn.testing._loss_laws import uncounted
from funcnn.types import Array, Loss
from tests import registry
from tests.registry import LossCase

f32, inf, nan = np.float32, np.inf, np.nan
Z = np.array([[-inf, 0.5, 1.0], [0.3, -0.2, -inf]], f32)


def _pull(loss: Loss, prediction: Any, target: Any) -> tuple[Any, Any]:
    value, cache = loss.apply(prediction, target)
    return value, loss.vjp(cache)


# --- what does not count --------------------------------------------------------------------------


def test_ignored_logits_may_be_anything() -> None:
    loss = losses.softmax_cross_entropy(ignore_index=-1)
    value, dz = _pull(loss, Z, np.array([1, -1]))
    assert value == pytest.approx(0.974077, abs=1e-6)
    assert not dz[1].any()
    for anything in (nan, inf, -inf):
        filled = Z.copy()
        filled[1] = anything
        found, slope = _pull(loss, filled, np.array([1, -1]))
        assert found == value
        assert np.array_equal(slope, dz)


def test_impossible_classes_that_are_not_the_label_cost_nothing() -> None:
    weighted = losses.softmax_cross_entropy(class_weight=[1.0, 2.0, 3.0])
    value, dz = _pull(weighted, Z, np.array([1, 0]))
    assert value == pytest.approx(0.807410, abs=1e-6)
    assert np.isfinite(dz).all()
    assert dz[0, 0] == dz[1, 2] == 0
    sparse = np.array([[0, 0.25, 0.75], [0.5, 0.5, 0]], f32)
    value, dz = _pull(losses.softmax_cross_entropy(), Z, sparse)
    assert value == pytest.approx(np.mean([0.25 * 0.974077 + 0.75 * 0.474077, 0.724077]), abs=1e-6)
    assert np.isfinite(dz).all()
    assert losses.softmax_cross_entropy(label_smoothing=0.1).apply(Z, np.array([1, 0]))[0] == inf


def test_nothing_times_its_logarithm_is_nothing() -> None:
    log_p, t = np.array([[-inf, 0.0]], f32), np.array([[0.0, 1.0]], f32)
    assert losses.kl_divergence(reduction="sum").apply(log_p, t)[0] == 0
    assert losses.kl_divergence(log_target=True).apply(log_p, log_p)[0] == 0
    assert losses.poisson_nll().apply(np.array([-inf], f32), np.zeros(1, f32))[0] == 0
    counts = losses.poisson_nll(log_input=False, epsilon=0.0)
    value, slope = _pull(counts, np.zeros(1), np.zeros(1))
    assert (value, slope) == (0, 1)
    weightless = losses.binary_cross_entropy_with_logits(positive_weight=0.0)
    value, slope = _pull(weightless, np.array([nan, inf, -inf]), np.ones(3))
    assert value == 0
    assert not slope.any()


def test_sentences_that_cannot_be_count_as_zero_if_asked() -> None:
    log_p = np.log(np.full((2, 3, 3), 1 / 3, f32))
    log_p[0, :, 1] = -inf
    target = (np.array([[1], [1]]), np.array([1, 1]))
    value, slope = _pull(losses.ctc(zero_infinity=True), log_p, target)
    assert value == pytest.approx(0.752039, abs=1e-6)
    assert not slope[0].any()
    assert slope[1].any()
    value, slope = _pull(losses.ctc(reduction="none"), log_p, target)
    assert value.tolist() == [inf, pytest.approx(1.504077, abs=1e-6)]
    assert np.isfinite(slope).all()


def test_steps_and_labels_beyond_the_lengths_may_be_anything() -> None:
    log_p = np.log(np.full((2, 4, 3), 1 / 3, f32))
    labels, lengths, steps = np.array([[1, 2], [2, 1]]), np.array([1, 2]), np.array([2, 3])
    value, slope = _pull(losses.ctc(), log_p, (labels, lengths, steps))
    for anything in (nan, inf, -inf):
        filled, others = log_p.copy(), labels.copy()
        filled[0, 2:] = filled[1, 3:] = anything
        others[0, 1] = -7
        found, slopes = _pull(losses.ctc(), filled, (others, lengths, steps))
        assert found == value
        assert np.array_equal(slopes, slope)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.id)
        for case in registry.losses()
        if case.loss.spec.options.get("reduction") == "mean"
    ],
)
def test_what_does_not_count_may_hold_anything_in_portable_mode_too(case: LossCase) -> None:
    law = next(law for law in LOSS_LAWS if law.name == "what does not count may hold anything")
    with numerics.portable():
        law(registry.loss_subject(case))


_MASKS = {
    ("softmax_cross_entropy", "ignore_index"),
    ("softmax_cross_entropy", "class_weight"),
    ("nll", "ignore_index"),
    ("nll", "class_weight"),
    ("multi_margin", "class_weight"),
    ("binary_cross_entropy_with_logits", "positive_weight"),
    ("focal", "alpha"),
    ("multi_label_soft_margin", "class_weight"),
}
_ALWAYS = {"kl_divergence", "ctc", "nll", "weighted"}  # a probability of 0, padding, a mask


def test_the_law_of_what_does_not_count_has_something_to_look_at() -> None:
    """Each option that can take away all weight has a case where it does so."""
    found: set[Any] = set()
    for case in registry.losses():
        options = {name for name, value in case.loss.spec.options.items() if value is not None}
        asked = {(case.loss.spec.kind, option) for option in options} & _MASKS
        if (asked - found or case.loss.spec.kind in _ALWAYS - found) and uncounted(
            LossSubject(case.loss, case.prediction, case.target)
        ):
            found |= asked | {case.loss.spec.kind}
    assert found >= _MASKS | _ALWAYS


def test_every_option_by_which_something_does_not_count_is_known() -> None:
    masking = {
        (case.loss.spec.kind, option)
        for case in registry.losses()
        for option in case.loss.spec.options
        if option.endswith(("weight", "ignore_index", "alpha", "mask"))
    }
    assert masking == _MASKS


# --- options --------------------------------------------------------------------------------------


# Where the slope is not the value's, by intent, and no law would hold.
_BELOW = LossCase(losses.gaussian_nll(epsilon=1e-3), (np.zeros(2), np.array([1e-4, 1.0])), np.ones(2))


def _options() -> Iterator[Any]:
    shown = {("gaussian_nll", "epsilon")}
    for case in (*registry.losses(), _BELOW):
        defaults = inspect.signature(case.loss.spec.build).parameters
        for option, value in case.loss.spec.options.items():
            asked = option != "reduction" and value != defaults[option].default
            if asked and (case is _BELOW or (case.loss.spec.kind, option) not in shown):
                yield pytest.param(case, option, id=f"{case.id} {option}")


def _outcome(loss: Loss, case: LossCase) -> Any:
    try:
        value, slope = _pull(loss, case.prediction, case.target)
    except ValueError as refusal:
        return str(refusal)
    return [np.asarray(leaf).tolist() for _, leaf in tree.leaves((value, slope))]


@pytest.mark.parametrize(("case", "option"), list(_options()))
def test_no_option_is_silent(case: LossCase, option: str) -> None:
    """Wherever an option is not what it is by default, value or slope show it."""
    spec = case.loss.spec
    without = {name: value for name, value in spec.options.items() if name != option}
    try:
        plain = spec.build(*spec.args, **without)
    except ValueError:  # another option needs this one
        return
    assert _outcome(case.loss, case) != _outcome(plain, case)


def test_options_that_could_not_act_are_refused() -> None:
    soft = np.full((4, 3), 1 / 3)
    with pytest.raises(
        ValueError,
        match=r"^softmax_cross_entropy: `ignore_index` must be None for probabilities, got 0$",
    ):
        losses.softmax_cross_entropy(ignore_index=0).apply(soft, soft)
    with pytest.raises(
        ValueError, match=r"^poisson_nll: `epsilon` must be 1e-08 with log_input=True, got 0.5$"
    ):
        losses.poisson_nll(epsilon=0.5)


@pytest.mark.parametrize(
    "option", [(name, option) for name, option in sorted(_MASKS) if option.endswith("weight")]
)
def test_weights_that_float32_does_not_have_are_refused(option: tuple[str, str]) -> None:
    name, word = option
    loss = getattr(losses, name)(**{word: [1.0, 1e39, 1.0]})
    target = np.eye(3, dtype=f32) if name.startswith(("binary", "multi_label")) else np.arange(3)
    with pytest.raises(ValueError, match=rf"^{name}: `{word}` must be finite in float32, got 1e\+39$"):
        loss.apply(np.zeros((3, 3), f32), target)
    assert np.isfinite(
        loss.apply(np.zeros((3, 3)), target.astype(np.float64) if target.ndim > 1 else target)[0]
    )


def test_weights_may_be_those_of_values_or_of_examples() -> None:
    prediction, target = np.arange(12.0).reshape(4, 3), np.zeros((4, 3))
    each = losses.weighted(losses.mean_squared_error(reduction="none"))
    weight = np.array([1.0, 0.0, 3.0, 0.5])
    value, slope = _pull(each, prediction, (target, weight))
    assert value == pytest.approx((weight[:, None] * prediction**2).sum() / (3 * weight.sum()))
    assert slope == pytest.approx(2 * weight[:, None] * prediction / (3 * weight.sum()))
    assert value == each.apply(prediction, (target, np.repeat(weight, 3).reshape(4, 3)))[0]
    with pytest.raises(ValueError, match=r"^weighted: `loss` must have reduction='none', got l1\(\)$"):
        losses.weighted(losses.l1())
    with pytest.raises(ValueError, match=r"^weighted: `loss` must not couple its examples"):
        losses.weighted(losses.contrastive(reduction="none"))


def test_lengths_are_the_mask_that_they_stand_for() -> None:
    scores, labels = np.arange(24.0).reshape(2, 4, 3) % 5, np.array([[0, 1, 2, 2], [1, -7, 99, 3]])
    lengths = np.array([4, 1])
    mask = np.arange(4) < lengths[:, None]
    each = losses.softmax_cross_entropy(reduction="none")
    found = _pull(losses.weighted(each, lengths=True), scores, (labels, lengths))
    for one, other in zip(found, _pull(losses.weighted(each), scores, (labels, mask)), strict=True):
        np.testing.assert_array_equal(one, other)
    for metric in (metrics.accuracy, partial(metrics.recall, average="macro"), metrics.log_loss):
        measure: Any = metric
        value = metrics.with_lengths(measure)(scores, (labels, lengths))
        assert value == measure(scores, (labels, mask))
    assert metrics.better(metrics.with_lengths(metrics.log_loss)) == "min"
    for wrong, text in (
        (np.array([5, 1]), "`lengths` must lie in 0..4, got 5"),
        (np.array([4, 1, 1]), "`lengths` must have shape (2,), got (3,)"),
        (np.array([4.0, 1.0]), "`lengths` must be integers, got float64"),
    ):
        for call in (losses.weighted(each, lengths=True).apply, metrics.with_lengths(metrics.accuracy)):
            with pytest.raises((ValueError, TypeError)) as caught:
                call(scores, (labels, wrong))
            assert str(caught.value).endswith(text)


def test_probabilities_of_0_and_1_are_taken_at_their_word() -> None:
    loss = losses.binary_cross_entropy(reduction="none")
    value, slope = _pull(loss, np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0]))
    assert value.tolist() == [0, 0, inf, inf]
    assert slope.tolist() == [1, -1, -inf, inf]
    with pytest.raises(
        ValueError, match=r"^binary_cross_entropy: `prediction` must lie in 0\.\.1, got 2.0"
    ):
        loss.apply(np.full(3, 2.0), np.ones(3))


# --- every magnitude ------------------------------------------------------------------------------


def test_small_distances_and_large_logits_keep_their_digits() -> None:
    for mode in ("fast", "portable"):
        with numerics.use(mode):
            value = losses.log_cosh().apply(np.array([1e-4], f32), np.zeros(1, f32))[0]
            assert value == pytest.approx(5e-9, rel=1e-5)
            binary = losses.binary_cross_entropy_with_logits()
            slope = _pull(binary, np.array([-17], f32), np.zeros(1, f32))[1]
            assert slope == pytest.approx(4.1399376e-8, rel=1e-5)


def test_vectors_of_any_length_have_a_direction() -> None:
    x = np.array([[1, 2], [2, 1], [-1, 3], [0, 1]], f32)
    for scale in (1e-3, 1.0, 1e20, 3e37):
        same, slope = _pull(losses.contrastive(), x * f32(scale), np.array([0, 1, 0, 1]))
        assert same == pytest.approx(losses.contrastive().apply(x, np.array([0, 1, 0, 1]))[0], 1e-4)
        assert np.isfinite(slope).all()
        pair = (x * f32(scale), x[::-1] * f32(scale))
        value, slopes = _pull(losses.cosine_embedding(), pair, np.array([1, -1, 1, -1]))
        wanted = losses.cosine_embedding().apply((x, x[::-1]), np.array([1, -1, 1, -1]))[0]
        assert value == pytest.approx(wanted, rel=1e-4)
        assert np.isfinite(slopes).all()


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("norm", [1, 1.5, 2, 3, 8, 30, 1000, 1e6, 1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_points_have_a_slope_in_every_norm(norm: float, swap: bool, dtype: Any) -> None:
    loss = losses.triplet(norm_type=norm, swap=swap)
    point = np.ones((2, 3), dtype)
    for other in (point, point + dtype(1e-6), point + dtype(1e30)):
        for given in ((point, point, other), (point, other, point), (other, point, point)):
            value, slopes = _pull(loss, given, ())
            assert np.isfinite(value)
            assert np.isfinite(slopes).all()


def test_a_difference_of_minus_epsilon_has_the_slope_zero() -> None:
    point = np.zeros((1, 3))
    for norm in (1, 1.5, 2, 8):
        value, (da, dp, dn) = _pull(
            losses.triplet(norm_type=norm), (point, point + 1e-6, point + 2), ()
        )
        assert np.isfinite(value)
        assert not dp.any()
        assert np.isfinite([da, dn]).all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_mean_of_large_numbers_is_one_of_them(reduction: str) -> None:
    large = np.full((4, 3), 2e38, f32)
    assert losses.l1(reduction=reduction).apply(large, np.zeros_like(large))[0] == pytest.approx(2e38)


def test_a_bend_below_the_smallest_number_is_none() -> None:
    loss = losses.smooth_l1(beta=1e-300, reduction="none")
    value, slope = _pull(loss, np.array([1, 0, -2], f32), np.zeros(3, f32))
    assert value.tolist() == [1, 0, 2]
    assert slope.tolist() == [1, 0, -1]
    value, slope = _pull(losses.huber(delta=1e300, reduction="none"), value, np.zeros(3, f32))
    assert value.tolist() == [0.5, 0, 2]
    assert slope.tolist() == [1, 0, 2]


@pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in registry.losses()])
def test_nothing_warns_at_any_magnitude(case: LossCase) -> None:
    """Not even where the answer is infinite or NaN, in value or slope."""
    for size in (1e-45, 1e-30, 1e15, 1e30, 3e38, inf, nan):
        with np.errstate(all="ignore"):
            given = _times(case.prediction, size)
        try:
            _pull(case.loss, given, _single(case.target))
        except ValueError as refusal:  # negative counts and variances, probabilities above 1
            if not re.search("must not be negative|`prediction` must lie in 0..1", str(refusal)):
                raise


def _times(prediction: Any, size: float) -> Any:
    return tree.map(lambda leaf: (leaf * size).astype(f32), prediction)


def _single(target: Any) -> Any:
    if isinstance(target, (tuple, dict)):
        return tree.map(_single, target)
    floats = isinstance(target, np.ndarray) and target.dtype.kind == "f"
    return target.astype(f32) if floats else target


def test_every_loss_takes_float32_only_with_float32() -> None:
    target: Array = np.zeros((4, 3))
    with pytest.raises(TypeError, match="`target` must be float32 as the prediction is, got float64"):
        losses.l1().apply(target.astype(f32), target)


# --- refusals -------------------------------------------------------------------------------------


def _junk(leaf: Any, any_number: bool) -> Iterator[Any]:
    """What is no array of numbers, or of shapes that might pass; perhaps numbers of other kinds."""
    yield from (3, 2.5, "words", b"bytes", {"a": 1}, object(), [[1.0]], [list(range(999))] * 99)
    array = np.asarray(leaf)
    yield array.tolist()
    yield array.astype(object)
    yield array.astype(str)
    yield array.astype(complex)
    yield array.astype("datetime64[s]")
    yield np.ma.masked_array(array, np.zeros(array.shape, bool))
    if array.ndim == 2:
        yield array.view(np.matrix)
    yield np.zeros(array.shape, [("a", float)])
    if array.dtype.kind == "f" and not any_number:
        yield from (array.astype(np.float16), array.astype(array.dtype.newbyteorder("S")))
    for shape in ((), (1,), (0, 7), (2, 3, 4, 5), (7, 7), (1, 1), (1,) * 63 + (3,)):
        yield np.ones(shape, array.dtype)


def _places(tree: Any) -> Iterator[Any]:
    """Each leaf, with a function that puts another in its place; the whole tuple, too."""
    if isinstance(tree, tuple):
        for index, leaf in enumerate(tree):
            yield leaf, lambda new, index=index: (*tree[:index], new, *tree[index + 1 :])
    yield tree[0] if isinstance(tree, tuple) and tree else tree, lambda new: new


_KINDS = {case.loss.spec.kind: case for case in reversed(registry.losses()) if case.target is not None}


@pytest.mark.parametrize("kind", sorted(_KINDS))
def test_junk_is_refused_on_one_short_line(kind: str) -> None:
    case = _KINDS[kind]
    given = [
        (junk, put(junk), case.target)
        for leaf, put in _places(case.prediction)
        for junk in _junk(leaf, False)
    ]
    given += [
        (junk, case.prediction, put(junk))
        for leaf, put in _places(case.target)
        for junk in _junk(leaf, kind.startswith(("multi_label", "weighted")))
    ]
    for junk, prediction, target in given:
        with pytest.raises((ValueError, TypeError)) as caught:
            _pull(case.loss, prediction, target)
        text = str(caught.value)
        assert text.startswith((f"{kind}: ", f"{kind}/")), f"{junk!r}: {text}"
        assert len(text) < 300, text
        assert "\n" not in text, text


def test_shapes_of_many_axes_fit_on_a_line() -> None:
    long, other = np.ones((1,) * 63 + (2,)), np.ones((1,) * 64)
    for loss, prediction, target in (
        (losses.l1(), long, other),
        (losses.gaussian_nll(), (long, other), long),
        (losses.softmax_cross_entropy(), long, other[..., 0]),
        (losses.softmax_cross_entropy(), long, other),
        (losses.multi_label_margin(), long, other),
        (losses.weighted(losses.l1(reduction="none")), long, (long, other)),
    ):
        with pytest.raises(ValueError, match=r"^\w+: ") as caught:
            loss.apply(prediction, target)
        assert len(str(caught.value)) < 300, str(caught.value)


def test_one_hot_of_what_cannot_be_is_refused() -> None:
    labels = np.array([0, 2])
    for classes, dtype in ((3, "nonsense"), (3, object), (3, str), (2**62, f32), (10**30, f32)):
        with pytest.raises(
            (ValueError, TypeError), match=r"^one_hot: `(dtype|classes)` must "
        ) as caught:
            losses.one_hot(labels, classes, dtype)
        assert len(str(caught.value)) < 300
    assert losses.one_hot(labels, 3, bool).tolist() == [[True, False, False], [False, False, True]]
    assert losses.one_hot(labels, 3, "int8").dtype == np.int8
