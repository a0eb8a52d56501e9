"""What flows where: recomputing a forward pass, stopping gradients, tying parameters together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, overload

import numpy as np

from funcnn import checks, tree
from funcnn.checks import Layers, Whatever, declared
from funcnn.parameterless import parameterless
from funcnn.structure import nodes, params_gradient, statistics, within
from funcnn.types import Cache, Key, Layer, Params, Preserving, Shape, X, Y

__all__ = ["freeze", "frozen_paths", "inference_mode", "remat", "stop_gradient", "tied"]


@overload
def remat(layer: Preserving) -> Preserving: ...
@overload
def remat(layer: Layer[X, Y]) -> Layer[X, Y]: ...
@declared(layer=Layers())
def remat(layer: Layer[Any, Any]) -> Layer[Any, Any]:
    """Compute a layer's forward pass again in its pullback, instead of keeping what it left.

    Parameters
    ----------
    layer : Layer
        One layer, or a whole part of a network.

    Returns
    -------
    Layer
        The same function, with the params of `layer` and, for its parent, its name.

    Raises
    ------
    ValueError, TypeError
        What `layer` refuses.

    Notes
    -----
    The cache holds the params, ``x`` and the key: all that a pure function needs to be run again
    with the same bits. A network of ``n`` layers in blocks of ``sqrt(n)`` keeps ``O(sqrt(n))``
    instead of ``O(n)`` activations, for one more forward pass. Running statistics come out of the
    first pass, as always.

    References
    ----------
    T. Chen et al., "Training deep nets with sublinear memory cost", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import dense, random, relu, remat, serial
    >>> block = remat(serial(dense(256), relu(), dense(4)))
    >>> _, params = block.init(random.key(0), (2, 4))
    >>> _, cache = block.apply(params, np.ones((2, 4), np.float32))
    >>> list(cache)
    ['params', 'x', 'key', 'statistics']
    """

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        out, cache = layer.apply(params, x, key=key)
        new = statistics(layer, cache)
        return out, {"params": params, "x": x, "key": key, "statistics": new}

    def again(cache: Cache) -> Cache:
        return layer.apply(cache["params"], cache["x"], key=cache["key"])[1]

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        return layer.vjp(again(cache), dout)

    def params_vjp(cache: Cache, dout: Any) -> Params:
        return params_gradient(layer, again(cache), dout)

    def carry(cache: Cache) -> Params:
        found: Params = cache["statistics"]
        return found

    return type(layer)(layer.init, apply, vjp, params_vjp=params_vjp, statistics=carry)


@declared()
def stop_gradient() -> Preserving:
    """Let values pass and no gradient come back: ``y = x``, ``dx = 0``.

    Returns
    -------
    Layer
        Without parameters; the shape stays.

    Raises
    ------
    ValueError, TypeError
        For an input that is not float32 or float64.

    Notes
    -----
    All that lies in front of it gets a gradient of zero. To keep parameters where they are and let
    the gradient pass to what lies in front, see `freeze`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import stop_gradient
    >>> out, cache = stop_gradient().apply({}, np.ones((1, 2)))
    >>> out, stop_gradient().vjp(cache, np.ones((1, 2)))[1]
    (array([[1., 1.]]), array([[0., 0.]]))
    """
    return parameterless(Preserving, lambda x: (x, {}), lambda cache, dout: np.zeros_like(dout))


@overload
def freeze(layer: Preserving) -> Preserving: ...
@overload
def freeze(layer: Layer[X, Y]) -> Layer[X, Y]: ...
@declared(layer=Layers())
def freeze(layer: Layer[Any, Any]) -> Layer[Any, Any]:
    """Keep a layer's parameters where they are: their gradients are zero, the input's is not.

    Parameters
    ----------
    layer : Layer
        One layer, or a whole part of a network.

    Returns
    -------
    Layer
        The same function, with the params of `layer` and, for its parent, its name.

    Raises
    ------
    ValueError, TypeError
        What `layer` refuses.

    Notes
    -----
    Pullback: ``dparams = 0``, ``dx`` as in `layer`. A gradient of zero alone does not move anything,
    but weight decay does: `frozen_paths` gives `funcnn.optimizers.freeze` the leaves whose updates
    it must set to zero. Running statistics go on, as what makes them is not a gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import dense, freeze, random
    >>> layer = freeze(dense(1))
    >>> _, params = layer.init(random.key(0), (1, 2))
    >>> _, cache = layer.apply(params, np.ones((1, 2), np.float32))
    >>> layer.vjp(cache, np.ones((1, 1), np.float32))[0]
    {'weight': array([[0., 0.]], dtype=float32), 'bias': array([0.], dtype=float32)}
    """

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        out, cache = layer.apply(params, x, key=key)
        return out, {"params": params, "layer": cache}

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        return params_vjp(cache, dout), layer.vjp(cache["layer"], dout)[1]

    def params_vjp(cache: Cache, dout: Any) -> Params:
        return tree.zeros_like(cache["params"])

    return type(layer)(layer.init, apply, vjp, params_vjp=params_vjp, statistics=within(layer))


@overload
def inference_mode(layer: Preserving) -> Preserving: ...
@overload
def inference_mode(layer: Layer[X, Y]) -> Layer[X, Y]: ...
@declared("inference", layer=Layers())
def inference_mode(layer: Layer[Any, Any]) -> Layer[Any, Any]:
    """Run a layer as in inference, in training too: nothing is dropped, running statistics stay.

    Parameters
    ----------
    layer : Layer
        One layer, or a whole part of a network.

    Returns
    -------
    Layer
        The same function, with the params of `layer` and, for its parent, its name.

    Raises
    ------
    ValueError, TypeError
        What `layer` refuses.

    Notes
    -----
    Forward: that of `layer` without a key. Pullback: that of `layer`, for its parameters too: to keep
    those where they are as well, write ``freeze(inference_mode(layer))``. So fine-tuning leaves the
    batch normalization of a trained network as it was.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import dropout, inference_mode, random
    >>> inference_mode(dropout(0.5)).apply({}, np.ones((1, 3)), key=random.key(0))[0]
    array([[1., 1., 1.]])
    """

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        if key is not None:
            checks.key(key)
        return layer.apply(params, x)

    return type(layer)(layer.init, apply, layer.vjp, params_vjp=layer.params_vjp)


@checks.named
def frozen_paths(net: Layer[Any, Any], shape: Shape) -> tuple[str, ...]:
    """The leaves of a network that `freeze` holds.

    Parameters
    ----------
    net : Layer
        The network.
    shape : Shape
        Of its input.

    Returns
    -------
    tuple of str
        Their paths, for ``chain(adamw(1e-3), optimizers.freeze(*paths))``.

    Raises
    ------
    ValueError, TypeError
        What the network refuses.

    Notes
    -----
    From shapes alone: no parameter is drawn.

    Examples
    --------
    >>> from funcnn import dense, freeze, named, relu, serial
    >>> net = serial(freeze(named("body", dense(4))), relu(), dense(2))
    >>> frozen_paths(net, (32, 3))
    ('body/bias', 'body/weight')
    """
    found: list[str] = []
    for node in nodes(Layers().check("net", net), shape):
        if node.spec.kind == "freeze":
            found += ["/".join((*node.path, leaf)) for leaf, _ in tree.leaves(node.params)]
    return tuple(dict.fromkeys(found))


@overload
def tied(layer: Preserving, *, ties: Mapping[str, str]) -> Preserving: ...
@overload
def tied(layer: Layer[X, Y], *, ties: Mapping[str, str]) -> Layer[X, Y]: ...
@declared(layer=Layers(), ties=Whatever())
def tied(layer: Layer[Any, Any], *, ties: Mapping[str, str]) -> Layer[Any, Any]:
    """Use one set of parameters in several places of a network.

    Parameters
    ----------
    layer : Layer
        The network.
    ties : mapping of str to str
        For each place in its tree, a leaf or a whole part, the path of what stands there too:
        ``{"decoder": "encoder"}``, ``{"dense1/weight": "embedding1/weight"}``.

    Returns
    -------
    Layer
        With the params of `layer` but for the places, which have no parameters of their own.

    Raises
    ------
    ValueError, TypeError
        For a path that is not there, places of other shapes, running statistics, chains of ties;
        and what `layer` refuses.

    Notes
    -----
    Forward: that of `layer`, with the parameters in all their places. Pullback: the gradients of
    all places add up. For one layer several times in a row, see `share`.

    References
    ----------
    O. Press and L. Wolf, "Using the output embedding to improve language models", 2017.

    Examples
    --------
    >>> from funcnn import dense, named, random, relu, serial, tied
    >>> twice = serial(named("first", dense(3)), relu(), named("second", dense(3)))
    >>> net = tied(twice, ties={"second/weight": "first/weight"})
    >>> _, params = net.init(random.key(0), (1, 3))
    >>> {name: list(part) for name, part in params.items()}
    {'first': ['weight', 'bias'], 'second': ['bias']}
    """
    pairs = _pairs(ties)
    places = {place for place, _ in pairs}

    def init(key: Key, shape: Shape) -> tuple[Shape, Params]:
        out_shape, params = layer.init(key, shape)
        for place, source in pairs:
            there, here = (_shapes(_at(params, path, "layer")) for path in (place, source))
            if there != here:
                both = f"{tree.place(place)} and {tree.place(source)}"
                checks.refuse(f"{both} must match, got {there} and {here}")
            if any(tree.is_statistic(leaf) for leaf, _ in there):
                checks.refuse(f"{tree.place(place)} must not have running statistics, got {there}")
        return out_shape, _without(params)

    def whole(params: Params) -> Params:
        """With the shared ones in all their places."""
        if not isinstance(params, dict):
            checks.refuse_type(f"`params` must be a dict, got {type(params).__name__}")
        for place, source in pairs:
            if _found(params, place) is not None:
                both = f"{tree.place(place)}, tied to {tree.place(source)}"
                checks.refuse(f"`params` must not hold {both}, got both")
            params = _with(params, place.split("/"), _at(params, source, "params"))
        return params

    def _without(params: Params) -> Params:
        """In the same order."""
        return tree.select(params, lambda path: not any(_lies_in(path, place) for place in places))

    def together(dparams: Params) -> Params:
        """Each shared one's gradient: the sum over its places."""
        for place, source in pairs:
            both = (_at(dparams, source, "dparams"), _at(dparams, place, "dparams"))
            dparams = _with(dparams, source.split("/"), tree.add(*both))
        return _without(dparams)

    def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
        return layer.apply(whole(params), x, key=key)

    def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
        dparams, dx = layer.vjp(cache, dout)
        return together(dparams), dx

    def params_vjp(cache: Cache, dout: Any) -> Params:
        return together(params_gradient(layer, cache, dout))

    return type(layer)(init, apply, vjp, params_vjp=params_vjp, statistics=partial(statistics, layer))


def _pairs(ties: object) -> tuple[tuple[str, str], ...]:
    """Places and sources, none of which lies in another place."""
    if not isinstance(ties, Mapping) or not ties:
        checks.refuse_type(f"`ties` must be a dict of paths, got {checks.shown(ties)}")
    for path in (*ties, *ties.values()):
        if not isinstance(path, str):
            checks.refuse_type(f"`ties` must be a dict of paths, got {checks.shown(path)}")
    for place in ties:
        for other in (*(one for one in ties if one != place), *ties.values()):
            if _lies_in(other, place) or _lies_in(place, other):
                both = f"{tree.place(place)} and {tree.place(other)}"
                checks.refuse(f"`ties` must not overlap, got {both}")
    return tuple(ties.items())


def _lies_in(path: str, place: str) -> bool:
    return f"{path}/".startswith(f"{place}/")


def _found(params: Params, path: str) -> Any:
    """The leaf or the part of a tree at a path; None where there is none."""
    node: Any = params
    for part in path.split("/"):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node


def _at(params: Params, path: str, name: str) -> Any:
    """The same, which must be there."""
    found = _found(params, path)
    if found is None:
        paths = ", ".join(leaf for leaf, _ in tree.leaves(params))
        checks.refuse(f"`{name}` must hold {tree.place(path)}, got {paths or 'nothing'}")
    return found


def _with(params: Params, path: list[str], new: Any) -> Params:
    """A tree with something else, or something new, at a path."""
    inner = new if len(path) == 1 else _with(params.get(path[0], {}), path[1:], new)
    return {**params, path[0]: inner}


def _shapes(node: Any) -> list[tuple[str, Shape]]:
    return [(path, np.shape(leaf)) for path, leaf in tree.leaves(node)]
