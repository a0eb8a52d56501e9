"""Several losses as one: of a network with several outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Number, Whatever, declared, shown
from funcnn.types import Array, Cache, Loss, Part, Spec, Trait

__all__ = ["sum_losses"]


@declared(losses=Whatever(), weights=Whatever())
def sum_losses(
    losses: Mapping[str, Loss] | tuple[Loss, ...],
    *,
    weights: Mapping[str, float] | tuple[float, ...] | None = None,
) -> Loss:
    """Add up the losses of several outputs.

    Parameters
    ----------
    losses : mapping of str to Loss, or tuple of Loss
        One for each output, by its name or its place; each gives one number.
    weights : mapping of str to float, or tuple of float, optional
        How much each counts, at least 0; by default 1, also of a name that is left out.

    Returns
    -------
    Loss
        ``prediction`` and ``target`` are dicts with the names of `losses`, or tuples in their order.
        `funcnn.fit` and `funcnn.evaluate` report each on its own, as ``loss_<name>``.

    Raises
    ------
    ValueError, TypeError
        For something else than losses, for other names or places, for negative weights; and what a
        loss refuses, with its name.

    Notes
    -----
    Forward: ``sum(weight * loss(prediction, target))`` over the outputs. Gradient: each loss's own,
    times its weight. A loss of which nothing counts in a batch, because all its labels are ignored,
    adds nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import l1, mean_squared_error, sum_losses
    >>> loss = sum_losses({"size": mean_squared_error(), "age": l1()}, weights={"age": 0.5})
    >>> prediction = {"size": np.array([[2.0]]), "age": np.array([[30.0]])}
    >>> value, cache = loss.apply(prediction, {"size": np.array([[0.0]]), "age": np.array([[32.0]])})
    >>> float(value), loss.vjp(cache)["age"]
    (5.0, array([[-0.5]]))
    """
    given = _losses(losses)
    factors = _factors(weights, given)
    parts = tuple(
        Part(place, order, loss, factors[place]) for order, (place, loss) in enumerate(given.items())
    )
    silent = [part._replace(loss=checks.bare(part.loss)) for part in parts]

    def apply(prediction: Any, target: Any) -> tuple[Any, Cache]:
        _check(prediction, parts, "prediction")
        _check(target, parts, "target")
        counted = [p for p in silent if not _is_idle(p, prediction, target)] or silent
        total, caches, kinds = np.float64(0), {}, []
        for part in counted:
            place = str(part.place)
            try:
                value, caches[place] = part.loss.apply(part.of(prediction), part.of(target))
                if np.ndim(value):
                    checks.refuse(f"the loss must give one number, got {shown(value)}: take the mean")
            except checks.Refusal as refusal:
                raise refusal.inside(place).inside("sum_losses")
            total += np.float64(value) * part.factor if part.factor else 0
            kinds.append(value.dtype)
        idle = {str(p.place): p.of(prediction) for p in parts if str(p.place) not in caches}
        whole = {"losses": caches, "zeros": tree.zeros_like(idle), "tuple": type(prediction) is tuple}
        return np.result_type(*kinds).type(total), whole

    def vjp(cache: Cache) -> Any:
        slopes = {}
        for part in silent:
            kept = cache["losses"].get(str(part.place))
            found = cache["zeros"][str(part.place)] if kept is None else part.loss.vjp(kept)
            slopes[part.place] = tree.map(partial(_times, part.factor), found)
        return tuple(slopes.values()) if cache["tuple"] else slopes

    def weight(target: Any) -> float:
        _check(target, parts, "target")
        return sum(_count(part, target) or 0.0 for part in parts)

    traits = frozenset[Trait]().union(*(part.loss.spec.traits for part in parts))
    plain = all(part.loss.weight is None for part in parts)
    return Loss(apply, vjp, Spec(traits=traits), None if plain else weight, parts)


def remade(loss: Loss, change: Callable[[Part], Loss]) -> Loss:
    """A sum of other losses, with the same weights."""
    losses: Any = {part.place: change(part) for part in loss.parts}
    weights: Any = {part.place: part.factor for part in loss.parts}
    if isinstance(loss.parts[0].place, int):
        losses, weights = tuple(losses.values()), tuple(weights.values())
    return sum_losses(losses, weights=weights)


def _losses(losses: Any) -> dict[Any, Loss]:
    """Each loss by its name or its place."""
    given = losses if isinstance(losses, Mapping) else losses if type(losses) is tuple else ()
    found: dict[Any, Loss] = dict(given) if isinstance(given, Mapping) else dict(enumerate(given))
    if not found:
        checks.refuse_type(f"`losses` must be a dict or a tuple of losses, got {shown(losses)}")
    for place, loss in found.items():
        checks.LOSS.check(f"losses[{shown(place)}]", loss)
        if loss.parts:
            checks.refuse(f"`losses` must not hold sums of losses, got {shown(loss)}")
    return found


def _factors(weights: Any, places: Collection[Any]) -> dict[Any, float]:
    """The weight of each loss."""
    if weights is None:
        return dict.fromkeys(places, 1.0)
    given = dict(weights) if isinstance(weights, Mapping) else {}
    if type(weights) is tuple:
        given = dict(enumerate(weights))
    short = type(weights) is tuple and len(weights) < len(places)
    if not given or short or not given.keys() <= set(places):
        wanted = f"those of {', '.join(map(str, places))}"
        checks.refuse(f"`weights` must be {wanted}, got {shown(weights)}")
    check = Number(minimum=0).check
    return {place: check(f"weights[{shown(place)}]", given.get(place, 1.0)) for place in places}


def _check(whole: Any, parts: tuple[Part, ...], name: str) -> None:
    """A dict or a tuple of what belongs to each loss."""
    places = [part.place for part in parts]
    named = isinstance(places[0], str)
    if type(whole) is tuple:
        fits = len(whole) == len(parts)
    else:
        fits = named and type(whole) is dict and whole.keys() == set(places)
    if not fits:
        wanted = f"a dict of {', '.join(map(str, places))}" if named else f"a tuple of {len(places)}"
        got = shown(whole)
        if type(whole) is tuple:
            got = f"a tuple of {len(whole)}"
        elif type(whole) is dict:
            got = f"a dict with {shown(list(whole))}"
        checks.refuse_type(f"`{name}` must be {wanted}, got {got}")


def _is_idle(part: Part, prediction: Any, target: Any) -> bool:
    """Whether nothing counts for a loss, of targets that are there."""
    if _count(part, target) != 0:
        return False
    (predicted, *_), (there, *_) = (tree.leaves(part.of(whole)) for whole in (prediction, target))
    return bool(np.shape(predicted[1])[:1] == np.shape(there[1])[:1] != (0,))


def _count(part: Part, target: Any) -> float | None:
    """How much a loss is a mean over; NaN for a target that it will refuse."""
    known = part.of(target)
    try:
        if part.loss.weight is not None:
            return part.loss.weight(known)
        return len(next(leaf for _, leaf in tree.leaves(known)))
    except Exception:
        return float("nan")


def _times(factor: float, slope: Array) -> Array:
    if factor == 1:
        return slope
    product = slope.astype(np.float64) * factor if factor else np.zeros_like(slope)
    return product.astype(slope.dtype)
