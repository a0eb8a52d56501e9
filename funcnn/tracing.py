"""What happens inside a network on one batch: each layer's output, and each layer's gradients.

A network is built once more from its `Spec`, with every layer in it made to report what it does;
the layers compute what they always do, from the same parameters and keys, so the bits are the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from funcnn.checks import LOSS, NET, takes
from funcnn.structure import Place, watched
from funcnn.types import Array, Cache, Key, Layer, Loss, Params, Spec

__all__ = ["BackwardTrace", "Pullback", "Visit", "attention_weights", "trace", "trace_backward"]


class Visit(NamedTuple):
    """What a layer gave in the forward pass.

    Parameters
    ----------
    path : str
        Where its parameters are, or would be: ``"encoder/conv1"``; ``""`` for the whole network.
    spec : Spec
        What it is; one with children is a combinator.
    out : ndarray, or tuple of them
        Its output.

    Examples
    --------
    >>> from funcnn import dense
    >>> Visit("dense1", dense(3).spec, None).path
    'dense1'
    """

    path: str
    spec: Spec
    out: Any


class Pullback(NamedTuple):
    """What a layer gave in the backward pass.

    Parameters
    ----------
    path : str
        As in `Visit`.
    spec : Spec
        What it is.
    dparams : dict
        The gradient of its parameters.
    dx : ndarray, or tuple of them
        The gradient of its input.

    Examples
    --------
    >>> from funcnn import dense
    >>> Pullback("dense1", dense(3).spec, {}, None).path
    'dense1'
    """

    path: str
    spec: Spec
    dparams: Params
    dx: Any


class BackwardTrace(NamedTuple):
    """Both passes of a network and a loss.

    Parameters
    ----------
    visits : tuple of Visit
        The forward pass, first layer first; a combinator comes after what it combines.
    value : number
        The loss.
    dprediction : ndarray
        Its gradient with respect to the network's output.
    pullbacks : tuple of Pullback
        The backward pass, last layer first.
    grads : dict
        The gradient of all parameters.

    Examples
    --------
    >>> BackwardTrace((), 0.5, None, (), {}).value
    0.5
    """

    visits: tuple[Visit, ...]
    value: Any
    dprediction: Any
    pullbacks: tuple[Pullback, ...]
    grads: Params


@takes(net=NET)
def trace(net: Layer[Any, Any], params: Params, x: Any, *, key: Key | None = None) -> tuple[Visit, ...]:
    """Run a network and keep what every layer in it gives.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    x : ndarray, or tuple of them
        A batch.
    key : Key, optional
        With one, the pass is one of training.

    Returns
    -------
    tuple of Visit
        In the order of the layers; a combinator comes after what it combines, the network last.

    Raises
    ------
    ValueError, TypeError
        For what the network refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import dense, random, relu, serial
    >>> net = serial(dense(8), relu(), dense(2))
    >>> _, params = net.init(random.key(0), (1, 4))
    >>> [(visit.path, visit.out.shape) for visit in trace(net, params, np.ones((1, 4), np.float32))]
    [('dense1', (1, 8)), ('relu1', (1, 8)), ('dense2', (1, 2)), ('', (1, 2))]
    """
    recorder = Recorder()
    recorder.watch(net).apply(params, x, key=key)
    return tuple(recorder.visits)


@takes(net=NET, loss=LOSS)
def trace_backward(
    net: Layer[Any, Any], params: Params, loss: Loss, x: Any, y: Any, *, key: Key | None = None
) -> BackwardTrace:
    """Run a network and a loss forward and backward, and keep what every layer gives.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    loss : Loss
        What is made small.
    x, y : ndarray, or tuples of them
        A batch, and its targets.
    key : Key, optional
        With one, the pass is one of training.

    Returns
    -------
    BackwardTrace

    Raises
    ------
    ValueError, TypeError
        For what the network or the loss refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import dense, mean_squared_error, random, serial
    >>> net = serial(dense(8), dense(2))
    >>> _, params = net.init(random.key(0), (1, 4))
    >>> x, y = np.ones((1, 4), np.float32), np.zeros((1, 2), np.float32)
    >>> [pull.path for pull in trace_backward(net, params, mean_squared_error(), x, y).pullbacks]
    ['dense2', 'dense1', '']
    """
    recorder = Recorder()
    watched = recorder.watch(net)
    prediction, cache = watched.apply(params, x, key=key)
    value, loss_cache = loss.apply(prediction, y)
    dprediction = loss.vjp(loss_cache)
    grads, _ = watched.vjp(cache, dprediction)
    return BackwardTrace(tuple(recorder.visits), value, dprediction, tuple(recorder.pullbacks), grads)


@takes(net=NET)
def attention_weights(net: Layer[Any, Any], params: Params, x: Any) -> dict[str, Array]:
    """What each attention in a network looks at, as data for a plot.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    x : ndarray, or tuple of them
        A batch.

    Returns
    -------
    dict of ndarrays
        The weights ``(N, heads, T, S)`` of each `attention`, `multi_head_attention` and
        `cross_attention`, by its path, in the order in which they run.

    Raises
    ------
    ValueError, TypeError
        For what the network refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import models, random
    >>> from funcnn.tracing import attention_weights
    >>> net = models.transformer_lm(10, 6, depth=1)
    >>> _, params = net.init(random.key(0), (1, 6))
    >>> for path, weights in attention_weights(net, params, np.zeros((1, 6), int)).items():
    ...     print(path, weights.shape)
    block1/attention/multi_head_attention1 (1, 4, 6, 6)
    """
    found: dict[str, Array] = {}

    def see(place: Place, layer: Layer[Any, Any], made: Layer[Any, Any]) -> Layer[Any, Any]:
        if layer.spec.kind not in ("attention", "multi_head_attention", "cross_attention"):
            return made._replace(spec=layer.spec)

        def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
            out, cache = made.apply(params, x, key=key)
            found["/".join(place.path)] = cache.get("record", cache)["made"][1]
            return out, cache

        return made._replace(apply=apply, spec=layer.spec)

    watched(net, see).apply(params, x)
    return found


class Recorder:
    """What the layers of a network report, all into one list for each way."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.pullbacks: list[Pullback] = []
        self._going_back = 0

    def watch(self, net: Layer[Any, Any]) -> Layer[Any, Any]:
        """The same network, reporting."""
        return watched(net, self._see)

    def _see(self, place: Place, layer: Layer[Any, Any], made: Layer[Any, Any]) -> Layer[Any, Any]:
        if place.inner:  # the layer around it reports the same
            return made._replace(spec=layer.spec)
        spec, where = layer.spec, "/".join(place.path)

        def apply(params: Params, x: Any, *, key: Key | None = None) -> tuple[Any, Cache]:
            out, cache = made.apply(params, x, key=key)
            if not self._going_back:  # a layer may run forward once more, on the way back
                self.visits.append(Visit(where, spec, out))
            return out, cache

        def vjp(cache: Cache, dout: Any) -> tuple[Params, Any]:
            self._going_back += 1
            dparams, dx = made.vjp(cache, dout)
            self._going_back -= 1
            self.pullbacks.append(Pullback(where, spec, dparams, dx))
            return dparams, dx

        # in the order that is written: without the trait, `maximum_first` changes nothing
        return Layer(made.init, apply, vjp, spec._replace(traits=spec.traits - {"maximum"}))
