"""Each law can fail: a right layer and a right loss, and bugs planted into them one at a time."""

from __future__ import annotations

import random as pythons
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from funcnn import numerics, random, serial
from funcnn.testing import LAWS, LOSS_LAWS, Subject, check_layer, check_loss
from funcnn.types import Array, Cache, Key, Layer, Loss, Params, Shape, Spec, Vector

SHAPE = (4, 3)

# --- a right layer --------------------------------------------------------------------------------


def scale(shift: float = 0.0) -> Layer[Vector, Vector]:
    """``(x - running_mean) * weight + shift``, and noise on top in training."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        if len(shape) != 2:
            raise ValueError(f"scale: `shape` must have 2 axes, got {shape}")
        weight = random.normal(key, shape[1:])
        return shape, {"weight": weight, "running_mean": np.zeros_like(weight)}

    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Cache]:
        weight, mean = params["weight"], params["running_mean"]
        if not isinstance(x, np.ndarray) or x.dtype != weight.dtype:
            raise TypeError(f"scale: `x` must be an array of {weight.dtype}")
        if x.shape[1:] != weight.shape:
            raise ValueError(f"scale: `x` must have shape (N, {len(weight)}), got {x.shape}")
        centred = x - mean
        out, cache = centred * weight + x.dtype.type(shift), {"centred": centred, "weight": weight}
        if key is not None:
            out = out + random.normal(key, x.shape, dtype=x.dtype)
            cache["running_mean"] = x.max(axis=0, initial=0)
        return out, cache

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        dweight = numerics.sum(dout * cache["centred"], 0)
        dparams = {"weight": dweight, "running_mean": np.zeros_like(dweight)}
        return dparams, dout * cache["weight"]

    def params_vjp(cache: Cache, dout: Vector) -> Params:
        return vjp(cache, dout)[0]

    def statistics(cache: Cache) -> Params:
        return {name: cache[name] for name in ("running_mean",) if name in cache}

    spec = Spec(scale, (shift,) if shift else (), traits=frozenset({"statistics", "stochastic"}))
    return Layer(init, apply, vjp, spec, params_vjp, statistics=statistics)


def plain(factor: float = 2.0) -> Layer[Vector, Vector]:
    """``factor * x``, without parameters; monotone, or so it says."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {}

    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Cache]:
        if not isinstance(x, np.ndarray) or x.dtype.char not in "fd":
            raise TypeError("plain: `x` must be an array of floats")
        return x * x.dtype.type(factor), {}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        return {}, dout * dout.dtype.type(factor)

    args = () if factor == 2 else (factor,)
    return Layer(init, apply, vjp, Spec(plain, args, traits=frozenset({"monotone"})))


def centre() -> Layer[Vector, Vector]:
    """``x`` minus its mean over the batch, which is undefined for an empty one."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {}

    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Cache]:
        if not isinstance(x, np.ndarray) or x.dtype.char not in "fd":
            raise TypeError("centre: `x` must be an array of floats")
        return minus_mean(x), {}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        return {}, minus_mean(dout)

    def minus_mean(x: Array) -> Array:
        mean: Array = numerics.sum(x, 0, keepdims=True) / x.dtype.type(max(len(x), 1))
        return np.subtract(x, mean)

    return Layer(init, apply, vjp, Spec(centre, traits=frozenset({"couples_batch"})))


def masked() -> Layer[Vector, Vector]:
    """In training, half of ``x``."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {}

    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Cache]:
        if not isinstance(x, np.ndarray) or x.dtype.char not in "fd":
            raise TypeError("masked: `x` must be an array of floats")
        kept: Array = np.ones(x.shape) if key is None else random.uniform(key, x.shape) < 0.5
        kept = kept.astype(x.dtype)
        return x * kept, {"kept": kept, "training": key is not None}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        return {}, dout * cache["kept"]

    return Layer(init, apply, vjp, Spec(masked, traits=frozenset({"stochastic"})))


def lazily() -> Layer[Vector, Vector]:
    """``2 * x``, over the largest number of the first batch that it sees: wrong."""
    first: list[float] = []

    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Cache]:
        out, _ = right.apply(params, x)
        first.append(float(np.abs(x).max(initial=0)))
        factor = x.dtype.type(1 / first[0])
        return out * factor, {"factor": factor}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        return {}, 2 * dout * cache["factor"]

    right = plain()
    return Layer(right.init, apply, vjp, Spec(lazily))


def alias() -> Layer[Vector, Vector]:
    """Another name."""
    return scale()


def loss_alias() -> Loss:
    """Another name."""
    return half_square()


def test_right_layers_pass() -> None:
    check_layer(scale(), SHAPE)
    check_layer(scale(0.5), SHAPE, seed=3)
    check_layer(plain(), SHAPE)
    check_layer(centre(), SHAPE)
    check_layer(masked(), SHAPE)
    check_layer(plain(), (2, 3, 4), key=random.key(5))


def gain() -> Layer[Vector, Vector]:
    """All that a layer of one's own needs."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        return shape, {"weight": np.ones(shape[1:], np.float32)}

    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Cache]:
        weight = params["weight"]
        if x.dtype != weight.dtype:
            raise TypeError(f"gain: `x` must be {weight.dtype}, got {x.dtype}")
        if x.shape[1:] != weight.shape:
            raise ValueError(f"gain: `x` must fit {weight.shape}, got {x.shape}")
        return x * weight, {"x": x, "weight": weight}

    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        return {"weight": (cache["x"] * dout).sum(0)}, cache["weight"] * dout

    return Layer(init, apply, vjp, Spec(gain))


def test_a_small_layer_of_ones_own_passes() -> None:
    check_layer(gain(), SHAPE)
    check_layer(gain(), (2, 3, 4, 5))


# --- where a bug can be planted -------------------------------------------------------------------

Bug = Callable[..., Any]
Plant = Callable[[Layer[Any, Any], Bug], Layer[Any, Any]]


def in_init(layer: Layer[Any, Any], bug: Bug) -> Layer[Any, Any]:
    """``bug(key, shape, out_shape, params)`` instead of what `init` gives."""

    def init(key: Key, shape: Shape) -> Any:
        return bug(key, shape, *layer.init(key, shape))

    return layer._replace(init=init)


def in_apply(layer: Layer[Any, Any], bug: Bug) -> Layer[Any, Any]:
    """``bug(params, x, key, out, cache)`` instead of what `apply` gives."""

    def apply(params: Params, x: Any, *, key: Key | None = None) -> Any:
        return bug(params, x, key, *layer.apply(params, x, key=key))

    return layer._replace(apply=apply)


def before_apply(layer: Layer[Any, Any], bug: Bug) -> Layer[Any, Any]:
    """``bug(params, x)`` instead of `x`."""

    def apply(params: Params, x: Any, *, key: Key | None = None) -> Any:
        return layer.apply(params, bug(params, x), key=key)

    return layer._replace(apply=apply)


def in_vjp(layer: Layer[Any, Any], bug: Bug) -> Layer[Any, Any]:
    """``bug(cache, dout, dparams, dx)`` instead of what `vjp`, and with it `params_vjp`, gives."""

    def vjp(cache: Cache, dout: Any) -> Any:
        return bug(cache, dout, *layer.vjp(cache, dout))

    return layer._replace(vjp=vjp, params_vjp=lambda cache, dout: vjp(cache, dout)[0])


def in_params_vjp(layer: Layer[Any, Any], bug: Bug) -> Layer[Any, Any]:
    """``bug(cache, dout, dparams)`` instead of what `params_vjp` gives."""
    pull = layer.params_vjp
    assert pull is not None
    return layer._replace(params_vjp=lambda cache, dout: bug(cache, dout, pull(cache, dout)))


def in_spec(layer: Layer[Any, Any], bug: Bug) -> Layer[Any, Any]:
    """``bug(spec)`` instead of what the layer says of itself."""
    return layer._replace(spec=bug(layer.spec))


BUGS: list[Any] = []


def breaks(
    name: str, plant: Plant, base: Callable[[], Layer[Any, Any]] = scale
) -> Callable[[Bug], Bug]:
    """Say which law a bug breaks, where it is planted, and in which layer."""

    def register(bug: Bug) -> Bug:
        BUGS.append(pytest.param(name, plant(base(), bug), id=bug.__name__))
        return bug

    return register


# --- the bugs -------------------------------------------------------------------------------------


@breaks("nothing is mutated", in_apply)
def mutates_x(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    x += 1
    return out, cache


@breaks("nothing is mutated", in_apply)
def mutates_params_in_training(
    params: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    if key is not None:
        params["running_mean"] += 1
    return out, cache


@breaks("nothing is mutated", in_apply)
def adds_to_params(params: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    params["seen"] = x
    return out, cache


@breaks("nothing is mutated", in_vjp)
def mutates_an_array_of_the_cache(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    cache["centred"] *= 2
    return dparams, dx


@breaks("nothing is mutated", in_vjp)
def replaces_a_part_of_the_cache(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    cache["centred"] = cache["centred"] * 2
    return dparams, dx


@breaks("nothing is mutated", in_vjp)
def mutates_dout(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    dout *= 2
    return dparams, dx


_scratch: dict[tuple[int, ...], Array] = {}


@breaks("earlier results survive later calls", in_apply)
def gives_its_scratch_away(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    scratch = _scratch.setdefault(out.shape, np.zeros(out.shape))
    scratch[...] = out
    return scratch, cache


@breaks("earlier results survive later calls", in_apply)
def keeps_its_scratch_in_the_cache(
    _: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    scratch = _scratch.setdefault((0, *x.shape), np.zeros(x.shape))
    scratch[...] = cache["centred"]
    return out, {**cache, "centred": scratch}


@breaks("earlier results survive later calls", in_apply, plain)
def gives_its_scratch_away_in_float32(
    _: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    if x.dtype != np.float32:
        return out, cache
    scratch = _scratch.setdefault((3, *x.shape), np.zeros(x.shape, x.dtype))
    scratch[...] = out
    return scratch[:], cache


_turns: dict[tuple[str, tuple[int, ...]], list[Array]] = {}


@breaks("earlier results survive later calls", in_apply, plain)
def gives_two_in_turns_away(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    pair = _turns.setdefault((x.dtype.char, x.shape), [np.zeros_like(x), np.zeros_like(x)])
    pair.reverse()
    pair[0][...] = out
    return pair[0][:], cache


@breaks("earlier results survive later calls", in_params_vjp)
def gives_the_scratch_of_its_params_away(cache: Cache, dout: Array, dparams: Params) -> Any:
    dweight = dparams["weight"]
    scratch = _turns.setdefault((dout.dtype.char, dweight.shape), [np.zeros_like(dweight)])[0]
    scratch[...] = dweight
    return {**dparams, "weight": scratch[:]}


_calls: list[int] = []


@breaks("same key, same bits", in_init)
def counts_its_inits(key: Key, shape: Shape, out_shape: Shape, params: Params) -> Any:
    _calls.append(1)
    return out_shape, {**params, "weight": params["weight"] + np.float32(len(_calls))}


@breaks("same key, same bits", in_apply)
def uses_global_randomness(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return out + 1e-12 * np.random.random(), cache  # noqa: NPY002


@breaks("nothing outside is changed", in_apply)
def seeds_everybody(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    np.random.seed(0)  # noqa: NPY002
    return out, cache


@breaks("nothing outside is changed", in_vjp)
def seeds_python(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    pythons.seed(0)
    return dparams, dx


@breaks("nothing outside is changed", in_vjp)
def leaves_numpy_silent(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    np.seterr(all="ignore")
    return dparams, dx


@breaks("nothing outside is changed", in_params_vjp)
def silences_warnings(cache: Cache, dout: Array, dparams: Params) -> Any:
    warnings.simplefilter("ignore")
    return dparams


@breaks("the predicted shape is the real shape", in_init)
def predicts_another_shape(key: Key, shape: Shape, out_shape: Shape, params: Params) -> Any:
    return (shape[0], shape[1] + 1), params


@breaks("the predicted shape is the real shape", in_apply)
def gives_another_axis(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return out[None], cache


@breaks("gradient tree = params tree", in_vjp)
def forgets_a_gradient(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return {"weight": dparams["weight"]}, dx


@breaks("gradient tree = params tree", in_vjp)
def invents_a_gradient(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return {**dparams, "bias": dx}, dx


@breaks("gradient tree = params tree", in_vjp)
def keeps_an_axis(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return {**dparams, "weight": dparams["weight"][None]}, dx


@breaks("gradient tree = params tree", in_vjp)
def flattens_dx(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dx.ravel()


@breaks("gradient tree = params tree", in_vjp)
def halves_the_precision(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dx.astype(np.float32)


@breaks("float32 stays float32", in_apply)
def widens_out(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return out.astype(np.float64), cache


@breaks("float32 stays float32", in_vjp)
def widens_a_gradient(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return {**dparams, "weight": dparams["weight"].astype(np.float64)}, dx


@breaks("float32 stays float32", in_init)
def starts_in_float64(key: Key, shape: Shape, out_shape: Shape, params: Params) -> Any:
    return out_shape, {**params, "running_mean": params["running_mean"].astype(np.float64)}


@breaks("vjp agrees with central differences", in_vjp)
def scales_one_leaf(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return {**dparams, "weight": 1.0001 * dparams["weight"]}, dx


@breaks("vjp agrees with central differences", in_vjp)
def errs_in_one_element(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    dweight = dparams["weight"].copy()
    dweight[1] *= dweight.dtype.type(1.001)
    return {**dparams, "weight": dweight}, dx


@breaks("vjp agrees with central differences", in_vjp)
def doubles_dx(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, 2 * dx


@breaks("vjp agrees with central differences", in_vjp, plain)
def flips_a_sign(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, -dx


@breaks("vjp agrees with central differences", in_vjp)
def swaps_examples(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dx[::-1]


@breaks("vjp agrees with central differences", in_vjp)
def answers_nan(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return {**dparams, "weight": dparams["weight"] * dout.dtype.type(np.nan)}, dx


@breaks("vjp agrees with central differences", in_apply)
def ignores_its_weight_in_training(
    _: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    return (out if key is None else x), cache


@breaks("vjp is linear, and the same when called twice", in_vjp)
def clips_large_gradients(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, np.clip(dx, -2, 2)


@breaks("params_vjp is the part of vjp that it says", in_params_vjp)
def errs_without_dx(cache: Cache, dout: Array, dparams: Params) -> Any:
    return {**dparams, "weight": dparams["weight"] + 1}


@breaks("params_vjp is the part of vjp that it says", in_params_vjp)
def leaves_a_leaf_out(cache: Cache, dout: Array, dparams: Params) -> Any:
    return {"weight": dparams["weight"]}


@breaks("running statistics are no parameters", in_vjp)
def learns_its_statistics(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return {**dparams, "running_mean": -numerics.sum(dx, 0)}, dx


@breaks("running statistics are no parameters", in_apply)
def forgets_new_statistics(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return out, {name: part for name, part in cache.items() if name != "running_mean"}


@breaks("running statistics are no parameters", in_apply)
def changes_statistics_in_inference(
    _: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    return out, {**cache, "running_mean": x[0]}


@breaks("running statistics are no parameters", in_spec)
def does_not_tell_of_statistics(spec: Spec) -> Any:
    return spec._replace(traits=frozenset({"stochastic"}))


@breaks("traits tell the truth", in_apply, plain)
def changes_with_the_key(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return (out if key is None else out + 1), cache


@breaks("an axis without elements works, or is refused", in_apply, plain)
def divides_by_how_many(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return out * (x.shape[-1] // x.shape[-1]), cache


@breaks("an example keeps its bits beside any other, wherever they lie in memory", in_apply, plain)
def computes_rows_with_gaps_otherwise_beside_nan(
    _: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    gaps = x.strides[-1] > x.itemsize and np.isnan(out).any()
    return (np.nextafter(out, out.dtype.type(9)) if gaps else out), cache


@breaks("float32 says what float64 says", in_vjp, plain)
def is_wrong_in_float32_alone(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dx * dx.dtype.type(1 if dx.dtype == np.float64 else 1.01)


@breaks("float32 says what float64 says", in_vjp, gain)
def forgets_its_weight_in_float32(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dx if dout.dtype == np.float64 else 1 * dout  # right where the weight starts


@breaks("float32 says what float64 says", in_vjp, masked)
def is_wrong_in_float32_in_training(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    wrong = cache["training"] and dx.dtype == np.float32
    return dparams, dx * dx.dtype.type(1.01 if wrong else 1)


@breaks("float32 says what float64 says", in_params_vjp)
def errs_without_dx_in_float32(cache: Cache, dout: Array, dparams: Params) -> Any:
    wrong = dparams["weight"].dtype == np.float32
    return {**dparams, "weight": dparams["weight"] * dout.dtype.type(1.01 if wrong else 1)}


@breaks("no gradient comes from none", in_vjp)
def an_overflow_on_the_way_back(cache: Cache, dout: Vector, dparams: Params, dx: Vector) -> Any:
    with np.errstate(all="ignore"):
        return dparams, dx + dout * (cache["centred"] ** 2 - cache["centred"] ** 2)


@breaks("traits tell the truth", in_apply)
def draws_from_a_key_of_its_own(
    params: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    return out if key is None else scale().apply(params, x, key=random.key(0))[0], cache


@breaks("traits tell the truth", in_spec, plain)
def claims_to_be_a_maximum(spec: Spec) -> Any:
    return spec._replace(traits=frozenset({"maximum"}))


@breaks("traits tell the truth", in_spec, lambda: plain(-2.0))
def falls_though_monotone(spec: Spec) -> Any:
    return spec


@breaks("traits tell the truth", in_spec, centre)
def claims_to_be_elementwise(spec: Spec) -> Any:
    return spec._replace(traits=frozenset({"couples_batch", "monotone"}))


@breaks("a batch is its examples", in_spec, centre)
def does_not_tell_of_its_neighbours(spec: Spec) -> Any:
    return spec._replace(traits=frozenset())


@breaks("a batch is its examples", in_apply, plain)
def computes_seven_and_more_otherwise(
    _: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    return out * out.dtype.type(1.01 if len(x) >= 7 else 1), cache


@breaks("a batch is its examples", in_vjp)
def errs_for_three(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dx * dx.dtype.type(1.01 if len(dx) == 3 else 1)


@breaks("a batch is its examples", in_params_vjp)
def errs_for_three_without_dx(cache: Cache, dout: Array, dparams: Params) -> Any:
    return {**dparams, "weight": dparams["weight"] * dout.dtype.type(1.01 if len(dout) == 3 else 1)}


_ANY_SIZE = "vjp agrees with central differences in a batch of any size"


@breaks(_ANY_SIZE, in_vjp, centre)
def errs_for_seven_and_more(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dx * dx.dtype.type(1.01 if len(dx) >= 7 else 1)


@breaks(_ANY_SIZE, in_vjp, masked)
def errs_for_three_in_training(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    wrong = cache["training"] and len(dx) == 3
    return dparams, dx * dx.dtype.type(1.01 if wrong else 1)


@breaks("-1 stands for any batch", in_init)
def predicts_an_empty_batch(key: Key, shape: Shape, out_shape: Shape, params: Params) -> Any:
    return (max(shape[0], 0), *shape[1:]), params


@breaks("-1 stands for any batch", in_init)
def starts_smaller_for_large_batches(key: Key, shape: Shape, out_shape: Shape, params: Params) -> Any:
    return out_shape, {**params, "weight": params["weight"] / np.float32(abs(shape[0]))}


@breaks("an empty batch works", before_apply)
def refuses_an_empty_batch(params: Params, x: Array) -> Any:
    if isinstance(x, np.ndarray) and not len(x):
        raise ValueError("scale: `x` must have examples")
    return x


@breaks("an empty batch works", before_apply)
def divides_by_the_batch(params: Params, x: Array) -> Any:
    return x + 0 * np.mean(x, dtype=x.dtype) if isinstance(x, np.ndarray) else x


@breaks("a batch of one works", before_apply)
def refuses_one_example(params: Params, x: Array) -> Any:
    if isinstance(x, np.ndarray) and len(x) == 1:
        raise ValueError("scale: `x` must have more than one example")
    return x


@breaks("a batch of one works", in_apply)
def squeezes_one_example(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return out.squeeze(), cache


@breaks("the order in memory changes nothing", before_apply)
def reads_memory_in_its_order(params: Params, x: Array) -> Any:
    return x.ravel("K").reshape(x.shape) if isinstance(x, np.ndarray) else x


@breaks("the order in memory changes nothing", in_vjp)
def reads_a_gradient_in_its_order(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dout.ravel("K").reshape(dout.shape) * cache["weight"]


@breaks("the order in memory changes nothing", in_apply, plain)
def reads_columns_otherwise_in_float32(
    _: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    columns = x.dtype == np.float32 and 0 < x.strides[0] < x.strides[-1]
    return out * out.dtype.type(1.01 if columns else 1), cache


@breaks("the spec rebuilds the layer", in_spec, lazily)
def chooses_its_scale_late(spec: Spec) -> Any:
    return spec


@breaks("layer, params and cache survive pickling", in_apply)
def has_a_closure_in_its_cache(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return out, {**cache, "pull": lambda dout: dout * x}


@breaks("layer, params and cache survive pickling", in_spec)
def has_a_local_constructor(spec: Spec) -> Any:
    return spec._replace(build=lambda: scale())


@breaks("layer, params and cache survive pickling", in_spec, lambda: scale(0.5))
def forgets_an_option(spec: Spec) -> Any:
    return spec._replace(args=())


@breaks("the spec rebuilds the layer", in_spec)
def names_another_constructor(spec: Spec) -> Any:
    return spec._replace(build=alias)


@breaks("a wrong rank or size is refused", before_apply)
def takes_any_shape(params: Params, x: Array) -> Any:
    return np.resize(x, (len(x), 3)) if isinstance(x, np.ndarray) else x


@breaks("a wrong rank or size is refused", before_apply)
def refuses_without_its_name(params: Params, x: Array) -> Any:
    if isinstance(x, np.ndarray) and x.shape[1:] != params["weight"].shape:
        raise ValueError("operands could not be broadcast together")
    return x


@breaks("a wrong rank or size is refused", before_apply)
def refuses_with_another_kind(params: Params, x: Array) -> Any:
    if isinstance(x, np.ndarray) and x.shape[1:] != params["weight"].shape:
        raise IndexError("scale: `x` must fit")
    return x


@breaks("a wrong rank or size is refused", before_apply)
def computes_before_it_refuses(params: Params, x: Array) -> Any:
    if isinstance(x, np.ndarray):
        numerics.sum(x * x)
    return x


@breaks("a wrong rank or size is refused", in_init, plain)
def predicts_for_one_size_only(key: Key, shape: Shape, out_shape: Shape, params: Params) -> Any:
    return (out_shape[0], 3), params


@breaks("a wrong dtype is refused", before_apply)
def refuses_at_length(params: Params, x: Any) -> Any:
    if isinstance(x, np.ndarray) and x.dtype != params["weight"].dtype:
        raise TypeError(f"scale: `x` must be of another dtype, got {'a long story' * 30}")
    return x


@breaks("a wrong dtype is refused", before_apply)
def casts_its_input(params: Params, x: Any) -> Any:
    return np.asarray(x, params["weight"].dtype)


@breaks("a wrong dtype is refused", before_apply)
def refuses_a_dtype_as_a_value(params: Params, x: Any) -> Any:
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        raise ValueError("scale: `x` must be floating")
    return x


_LOCAL = "an output changes only when something it sees changes"


@breaks(_LOCAL, in_apply)
def adds_nothing_of_all_examples(_: Params, x: Array, key: Key | None, out: Array, cache: Cache) -> Any:
    return out + 0 * np.roll(x, 1), cache


@breaks(_LOCAL, in_apply)
def adds_and_takes_away_neighbours(
    _: Params, x: Array, key: Key | None, out: Array, cache: Cache
) -> Any:
    near = np.roll(x, 1, 1)
    return (out + near) - near, cache


@breaks(_LOCAL, in_vjp)
def pulls_back_nothing_of_all_examples(cache: Cache, dout: Array, dparams: Params, dx: Array) -> Any:
    return dparams, dx + 0 * np.roll(dout, 1)


def _let_others_in() -> None:
    """Long enough for the other thread, on a machine that has much else to do."""
    if threading.current_thread() is not threading.main_thread():
        time.sleep(0.05)


@breaks("threads do not disturb each other", before_apply)
def shares_its_scratch(params: Params, x: Array) -> Any:
    if not isinstance(x, np.ndarray) or x.dtype != np.float64:
        return x
    scratch = _scratch.setdefault((1, *x.shape), np.zeros(x.shape))
    scratch[...] = x
    _let_others_in()
    return scratch.copy()


@pytest.mark.parametrize(("name", "layer"), BUGS)
def test_the_law_rejects_the_bug(name: str, layer: Layer[Any, Any]) -> None:
    kind = layer.spec.kind
    with (
        _put_back(),
        pytest.raises(AssertionError, match=f"^law {name!r} broken by {re.escape(kind)}"),
    ):
        check_layer(layer, SHAPE)


@contextmanager
def _put_back() -> Iterator[None]:
    """What bugs change outside is as before."""
    mine, numpys = pythons.getstate(), np.random.get_state()  # noqa: NPY002
    with np.errstate():
        yield
    pythons.setstate(mine)
    np.random.set_state(numpys)  # noqa: NPY002


def test_every_law_has_a_bug() -> None:
    assert {law.name for law in LAWS} == {bug.values[0] for bug in BUGS}


def test_a_breach_says_where_and_what() -> None:
    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        dparams, dx = right.vjp(cache, dout)
        return {**dparams, "weight": 2 * dparams["weight"]}, dx

    right = scale()
    with pytest.raises(AssertionError) as caught:
        check_layer(right._replace(vjp=vjp), SHAPE)
    found = re.fullmatch(
        "law 'vjp agrees with central differences' broken by scale at params/weight "
        r"\(inference\): expected a slope of (\S+), got (\S+)",
        str(caught.value),
    )
    assert found
    assert float(found[2]) == pytest.approx(2 * float(found[1]), rel=1e-6)


def test_a_change_outside_is_named() -> None:
    def apply(params: Params, x: Vector, *, key: Key | None = None) -> tuple[Vector, Cache]:
        np.seterr(over="raise")
        return plain().apply(params, x)

    message = r"nothing outside is changed' broken by plain at numpy.geterr\(\) \(inference\): "
    with np.errstate(), pytest.raises(AssertionError, match=message):
        check_layer(plain()._replace(apply=apply), SHAPE)


def test_a_local_constructor_gets_a_clear_message() -> None:
    local = scale()._replace(spec=Spec(lambda: scale(), traits=scale().spec.traits))
    with pytest.raises(AssertionError, match="`build` at the top of a module"):
        check_layer(local, SHAPE)


# --- several inputs and outputs -------------------------------------------------------------------


@pytest.mark.parametrize("dmask", [0, 1])
def test_trees_of_inputs(dmask: int) -> None:
    """Numbers, a mask and tokens go in, two arrays come out; what is no number has no gradient."""
    shape = ((4, 3), (4, 3), (4,))
    x = (np.linspace(-1, 1, 12).reshape(4, 3), np.arange(12).reshape(4, 3) % 3 > 0, np.arange(4) % 2)
    layer = choose(dmask)
    if dmask:
        with pytest.raises(AssertionError, match=r"at x/1 .*: expected a gradient of zeros"):
            check_layer(layer, shape, x=x)
    else:
        check_layer(layer, shape, x=x)


def choose(dmask: int = 0) -> Layer[Any, Any]:
    """``(where(mask, weight[token] * x, 0), 3 x)``; `dmask` is the gradient of the mask."""

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        numbers, mask, tokens = shape
        if len(numbers) != 2 or mask != numbers or tokens != numbers[:1]:
            raise ValueError(f"choose: `shape` must be (N, F), (N, F), (N,), got {shape}")
        return (numbers, numbers), {"weight": random.normal(key, (2,))}

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        numbers, mask, tokens = x
        for part, kinds in zip(x, ("f", "b", "iu"), strict=True):
            if not isinstance(part, np.ndarray) or part.dtype.kind not in kinds:
                raise TypeError("choose: `x` must be numbers, a mask and tokens")
        if numbers.dtype != params["weight"].dtype:
            raise TypeError(f"choose: `x` must be {params['weight'].dtype}")
        if numbers.ndim != 2 or mask.shape != numbers.shape or tokens.shape != numbers.shape[:1]:
            raise ValueError("choose: `x` must have shapes (N, F), (N, F), (N,)")
        weight = params["weight"][tokens][:, None]
        return (np.where(mask, weight * numbers, numbers.dtype.type(0)), 3 * numbers), (x, weight)

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        (numbers, mask, tokens), weight = cache
        dweight = np.zeros(2, numbers.dtype)
        np.add.at(dweight, tokens, numerics.sum(dout[0] * np.where(mask, numbers, 0), 1))
        dx = np.where(mask, dout[0] * weight, 0) + 3 * dout[1]
        return {"weight": dweight}, (dx, np.full(mask.shape, dmask), np.zeros_like(tokens))

    return Layer(init, apply, vjp, Spec(choose, (dmask,) if dmask else ()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((scale, SHAPE), "check_layer: `layer` must be a Layer, got <function scale"),
        ((scale(), (1, 3)), "check_layer: `shape` must have a batch of at least 2, got (1, 3)"),
        ((scale(), (-1, 3)), "check_layer: `shape` must have a batch of at least 2, got (-1, 3)"),
    ],
)
def test_check_layer_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        check_layer(*arguments)
    with pytest.raises(ValueError, match=re.escape("`x` must have shape (4, 3), got (4, 2)")):
        check_layer(scale(), SHAPE, x=np.zeros((4, 2)))


def test_an_unknown_trait_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^check_layer: `traits` must be among .*, got 'stochasic'$"):
        check_layer(masked(), SHAPE, traits=["stochasic"])  # type: ignore[list-item]
    inside = masked()._replace(spec=Spec(masked, traits=frozenset({"couple_batch"})))  # type: ignore[arg-type]
    for layer in (inside, serial(inside)):
        with pytest.raises(ValueError, match="got 'couple_batch'"):
            check_layer(layer, SHAPE)


def test_what_is_stopped_must_be_zero() -> None:
    def vjp(cache: Cache, dout: Vector) -> tuple[Params, Vector]:
        return {}, np.zeros_like(dout)

    stopped = plain()._replace(vjp=vjp)
    with pytest.raises(AssertionError, match="central differences"):
        check_layer(stopped, SHAPE)
    stopped_law = next(law for law in LAWS if "differences" in law.name)
    stopped_law(Subject(stopped, SHAPE, stopped=["x"]))
    with pytest.raises(AssertionError, match="expected a gradient of zeros"):
        stopped_law(Subject(plain(), SHAPE, stopped=["x"]))


# --- losses ---------------------------------------------------------------------------------------


def half_square(reduction: str = "sum") -> Loss:
    """``(p - t)**2 / 2``, right."""

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        if not isinstance(prediction, np.ndarray) or prediction.dtype != target.dtype:
            raise TypeError("half_square: `prediction` must have the dtype of the target")
        if prediction.shape != target.shape:
            raise ValueError("half_square: `prediction` must have the shape of the target")
        error = prediction - target
        return numerics.sum(error * error)[()] / prediction.dtype.type(2), {"error": error}

    def vjp(cache: Cache) -> Array:
        error: Array = cache["error"]
        return error.copy()

    return Loss(apply, vjp, Spec(half_square, options={"reduction": reduction}), lambda target: 0.0)


P, T = np.linspace(-1, 2, 6).reshape(3, 2), np.linspace(1, -3, 6).reshape(3, 2) ** 2
LOSS_BUGS: list[Any] = []


def test_right_losses_pass() -> None:
    check_loss(half_square(), P, T)
    with pytest.raises(TypeError, match="check_loss: `loss` must be a Loss, got <function"):
        check_loss(half_square, P, T)  # type: ignore[arg-type]


def loss_breaks(name: str, part: str) -> Callable[[Bug], Bug]:
    """Say which law a bug breaks, and where: in `before`, `apply`, `vjp`, `spec` or `weight`."""

    def register(bug: Bug) -> Bug:
        right = half_square()

        def apply(prediction: Any, target: Any) -> tuple[Any, Cache]:
            if part == "before":
                prediction = bug(prediction, target)
            value, cache = right.apply(prediction, target)
            return bug(value, cache, prediction) if part == "apply" else (value, cache)

        def vjp(cache: Cache) -> Any:
            dprediction = right.vjp(cache)
            return bug(cache, dprediction) if part == "vjp" else dprediction

        spec = bug(right.spec) if part == "spec" else right.spec
        weight = bug(right.weight) if part == "weight" else right.weight
        LOSS_BUGS.append(pytest.param(name, Loss(apply, vjp, spec, weight), id=bug.__name__))
        return bug

    return register


@loss_breaks("nothing is mutated", "before")
def centres_the_prediction(prediction: Any, target: Any) -> Any:
    prediction -= 1
    return prediction


@loss_breaks("nothing is mutated", "vjp")
def divides_its_cache(cache: Cache, dprediction: Array) -> Any:
    cache["error"] /= 2
    return dprediction


@loss_breaks("earlier results survive later calls", "apply")
def gives_scratch_away(value: Any, cache: Cache, prediction: Array) -> Any:
    scratch = _scratch.setdefault((2, *prediction.shape), np.zeros(prediction.shape))
    scratch[...] = cache["error"]
    return value, {"error": scratch}


@loss_breaks("same input, same bits", "apply")
def adds_noise(value: Any, cache: Cache, prediction: Array) -> Any:
    return value + 1e-12 * np.random.random(), cache  # noqa: NPY002


@loss_breaks("the value is one finite number", "apply")
def does_not_reduce(value: Any, cache: Cache, prediction: Array) -> Any:
    return cache["error"] * cache["error"] / 2, cache


@loss_breaks("the value is one finite number", "apply")
def takes_a_logarithm_of_nothing(value: Any, cache: Cache, prediction: Array) -> Any:
    return value + prediction.dtype.type(np.inf), cache


@loss_breaks("the gradient has the prediction's shape and dtype", "apply")
def gives_a_python_float(value: Any, cache: Cache, prediction: Array) -> Any:
    return float(value), cache


@loss_breaks("the gradient has the prediction's shape and dtype", "vjp")
def widens(cache: Cache, dprediction: Array) -> Any:
    return dprediction.astype(np.float64)


@loss_breaks("the gradient has the prediction's shape and dtype", "vjp")
def sums_over_the_batch(cache: Cache, dprediction: Array) -> Any:
    return numerics.sum(dprediction, 0)


@loss_breaks("vjp agrees with central differences", "vjp")
def forgets_the_half(cache: Cache, dprediction: Array) -> Any:
    return 2 * dprediction


@loss_breaks("the order in memory changes nothing", "before")
def reads_in_memory_order(prediction: Any, target: Any) -> Any:
    right = isinstance(prediction, np.ndarray)
    return prediction.ravel("K").reshape(prediction.shape) if right else prediction


@loss_breaks("the mean is over what its weight says", "weight")
def counts_the_examples(weight: Any) -> Any:
    return None


@loss_breaks("the mean is over what its weight says", "weight")
def counts_batches(weight: Any) -> Any:
    return lambda target: 1.0


@loss_breaks("an empty batch is refused, or finite", "before")
def averages_nothing(prediction: Any, target: Any) -> Any:
    right = isinstance(prediction, np.ndarray)
    return prediction + 0 * np.mean(prediction, dtype=prediction.dtype) if right else prediction


@loss_breaks("loss and cache survive pickling", "apply")
def caches_a_closure(value: Any, cache: Cache, prediction: Array) -> Any:
    return value, {**cache, "pull": lambda: prediction}


@loss_breaks("loss and cache survive pickling", "spec")
def is_made_locally(spec: Spec) -> Any:
    return spec._replace(build=lambda **_: half_square())


@loss_breaks("the spec rebuilds the loss", "spec")
def is_made_under_another_name(spec: Spec) -> Any:
    return Spec(loss_alias)


@loss_breaks("a wrong shape is refused", "before")
def broadcasts(prediction: Any, target: Any) -> Any:
    fits = isinstance(prediction, np.ndarray) and prediction.dtype == target.dtype
    return np.resize(prediction, target.shape) if fits else prediction


@loss_breaks("a wrong dtype is refused", "before")
def casts(prediction: Any, target: Any) -> Any:
    return np.asarray(prediction, target.dtype)


@loss_breaks("threads do not disturb each other", "before")
def shares_scratch(prediction: Any, target: Any) -> Any:
    if not isinstance(prediction, np.ndarray) or prediction.dtype != np.float64:
        return prediction
    scratch = _scratch.setdefault((3, *prediction.shape), np.zeros(prediction.shape))
    scratch[...] = prediction
    _let_others_in()
    return scratch.copy()


def masks_by_multiplying() -> Loss:
    """Only the first column counts, but the others are not left alone: 0 times NaN is NaN."""
    right, mask = half_square(), np.array([1, 0])

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        fits = isinstance(prediction, np.ndarray) and prediction.shape == target.shape
        fits = fits and prediction.dtype == target.dtype
        return right.apply(prediction * mask.astype(target.dtype) if fits else prediction, target)

    def vjp(cache: Cache) -> Array:
        dprediction: Array = right.vjp(cache) * mask.astype(cache["error"].dtype)
        return dprediction

    return Loss(apply, vjp, right.spec, right.weight)


LOSS_BUGS.append(
    pytest.param(
        "what does not count may hold anything", masks_by_multiplying(), id="masks_by_multiplying"
    )
)


def forgets_the_target() -> Loss:
    """Only the first column counts; the prediction is left alone, the target is multiplied by 0."""
    right, mask = half_square(), np.array([1, 0])

    def apply(prediction: Array, target: Array) -> tuple[Any, Cache]:
        if not isinstance(prediction, np.ndarray) or prediction.shape != target.shape:
            return right.apply(prediction, target)
        kept = np.where(mask == 1, prediction, 0).astype(prediction.dtype)
        return right.apply(kept, target * mask.astype(target.dtype))

    return Loss(apply, right.vjp, right.spec, right.weight)


LOSS_BUGS.append(
    pytest.param("what does not count may hold anything", forgets_the_target(), id="forgets_the_target")
)


def looks_at_the_largest() -> Loss:
    """The values are the right ones; but all are computed anew where one is not finite."""
    right = half_square()

    def vjp(cache: Cache) -> Any:
        slopes = right.vjp(cache)
        return slopes if np.isfinite(slopes).all() else slopes * slopes.dtype.type(1 + 1e-6)

    return Loss(right.apply, vjp, right.spec, right.weight)


LOSS_BUGS.append(
    pytest.param("an example changes no bit of another's", looks_at_the_largest(), id="largest")
)


@pytest.mark.parametrize(("name", "loss"), LOSS_BUGS)
def test_the_law_of_losses_rejects_the_bug(name: str, loss: Loss) -> None:
    with pytest.raises(AssertionError, match=f"^law {name!r} broken by "):
        check_loss(loss, P, T)


def test_every_law_of_losses_has_a_bug() -> None:
    assert {law.name for law in LOSS_LAWS} == {bug.values[0] for bug in LOSS_BUGS}
