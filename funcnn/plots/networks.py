"""Pictures of a network: its first filters, what its layers see, its gradients, the loss around it."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funcnn import checks, numerics, random, tree
from funcnn.checks import LOSS, NET, Integer, Number, takes
from funcnn.plots.style import BLUE, GREY, ORANGE, new_figure
from funcnn.tracing import trace, trace_backward
from funcnn.types import Array, Key, Layer, Loss, Params

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Landscape", "activations", "filters", "gradient_flow", "landscape", "loss_landscape"]

_SIGNED = "PuOr"  # negative and positive, told apart with any kind of colour vision
_MOST_FILTERS = 64
_MOST_CHANNELS = 12


# --- filters ------------------------------------------------------------------------------------------


@checks.named
def filters(params: Params | Array) -> Figure:
    """Draw the filters of a network's first layer.

    Parameters
    ----------
    params : dict or ndarray
        A network's parameters, the first ``weight`` of which is taken; or a weight: of a convolution
        ``(O, C, kh, kw)``, or of a dense layer ``(out, in)`` over square images of one channel.

    Returns
    -------
    matplotlib.figure.Figure
        One square for each filter, up to 64. Three channels are red, green and blue; of any other
        number, each channel has a square of its own.

    Raises
    ------
    ValueError, TypeError
        For parameters without a weight, or a weight that is no picture.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from funcnn import conv, random
    >>> _, params = conv(6, 5).init(random.key(0), (1, 1, 28, 28))
    >>> len(filters(params).axes)
    7
    """
    weight = _first_weight(params) if isinstance(params, dict) else params
    pictures = _as_pictures(checks.floating(weight, "weight"))
    shown = pictures[:_MOST_FILTERS]
    columns = min(8, len(shown)) if len(shown) != 6 else 6
    rows = -(-len(shown) // columns)
    figure = new_figure(max(1.0 * columns + 1.1, 4), 1.0 * rows + 0.8)
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    limit = float(np.abs(shown).max()) or 1.0
    for place, axes in enumerate(grid.ravel()):
        axes.set_axis_off()
        if place < len(shown) and shown.ndim == 4:
            axes.imshow(0.5 + 0.5 * shown[place] / limit)
        elif place < len(shown):
            image = axes.imshow(shown[place], cmap=_SIGNED, vmin=-limit, vmax=limit)
    if shown.ndim == 3:
        figure.colorbar(image, ax=grid, shrink=0.9).set_label("weight")
    rest = "" if len(shown) == len(pictures) else f", the first {len(shown)} of {len(pictures)} squares"
    figure.suptitle(f"filters {weight.shape}{rest}", size=10, color=GREY)
    return figure


def _first_weight(params: Params) -> Any:
    """The first leaf named ``weight``, in the network's order."""
    weights = [leaf for path, leaf in tree.items(params) if path.rpartition("/")[2] == "weight"]
    return weights[0] if weights else checks.refuse("`params` must hold a weight")


def _as_pictures(weight: Array) -> Array:
    """``(pictures, h, w)`` or, for colours, ``(pictures, h, w, 3)``."""
    if weight.ndim == 4 and weight.shape[1] == 3:
        return weight.transpose(0, 2, 3, 1)
    if weight.ndim == 4 and weight.size:
        return weight.reshape(-1, *weight.shape[2:])
    side = isqrt(weight.shape[1]) if weight.ndim == 2 else 0
    if weight.size and weight.ndim == 2 and side * side == weight.shape[1]:
        return weight.reshape(-1, side, side)
    return checks.refuse(
        f"`weight` must have shape (O, C, kh, kw), or (out, in) with a square `in`, got {weight.shape}",
    )


# --- activations --------------------------------------------------------------------------------------


@checks.named
def activations(net: Layer[Any, Any], params: Params, x: Array) -> Figure:
    """Draw what each layer makes of one example.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    x : ndarray, ``(N, ...)``
        A batch, the first example of which is drawn.

    Returns
    -------
    matplotlib.figure.Figure
        One row for the input and for each layer: of images, the first 12 channels; of vectors, a
        strip of bars.

    Raises
    ------
    ValueError, TypeError
        For an empty batch, or what the network refuses.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from funcnn import conv, dense, flatten, random, serial
    >>> net = serial(conv(2, 3), flatten(), dense(4))
    >>> _, params = net.init(random.key(0), (1, 1, 6, 6))
    >>> figure = activations(net, params, np.ones((1, 1, 6, 6), np.float32))
    >>> [part.get_suptitle() for part in figure.subfigs]
    ['input (1, 6, 6)', 'conv1 (2, 4, 4)', 'flatten1 (32,)', 'dense1 (4,)']
    """
    if not checks.array(x).size:
        checks.refuse("`x` must have at least one example")
    visits = [visit for visit in trace(net, params, x[:1]) if not visit.spec.children]
    rows = [("input", x[0]), *[(v.path or v.spec.kind, v.out[0]) for v in visits]]
    rows = [(name, out) for name, out in rows if isinstance(out, np.ndarray) and out.ndim > 0]
    heights = [0.8 if out.ndim == 3 else 1.0 for _, out in rows]
    figure = new_figure(9.0, sum(heights) + 0.1)
    parts: Any = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)
    for part, (name, out) in zip(parts.ravel(), rows, strict=True):
        part.suptitle(f"{name} {out.shape}", size=8, x=0.01, ha="left", color=GREY)
        _draw_images(part, out) if out.ndim == 3 else _draw_values(part, out)
    return figure


def _draw_images(part: Any, out: Array) -> None:
    count = min(len(out), _MOST_CHANNELS)
    low, high = float(out.min()), float(out.max())
    signed = low < 0
    limit = max(-low, high) or 1.0
    grid = part.subplots(1, _MOST_CHANNELS + 1, squeeze=False)[0]
    for axes in grid:
        axes.set_axis_off()
    for axes, channel in zip(grid, out[:count], strict=False):
        colours = {"cmap": _SIGNED, "vmin": -limit} if signed else {"cmap": "viridis", "vmin": 0}
        image = axes.imshow(channel, vmax=limit, **colours)
    bar = part.colorbar(image, ax=grid[-1], fraction=1.0, aspect=5)
    bar.ax.tick_params(labelsize=6)


def _draw_values(part: Any, out: Array) -> None:
    """Bars for a vector; for a sequence, a picture of steps across and features down."""
    axes = part.subplots()
    if out.ndim == 1:
        axes.bar(np.arange(len(out)), out, width=1.0 if len(out) > 40 else 0.8, color=BLUE)
        axes.set_xlim(-0.5, len(out) - 0.5)
    else:
        limit = float(np.abs(out).max()) or 1.0
        flat = out.reshape(len(out), -1).T
        axes.imshow(flat, cmap=_SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    axes.tick_params(labelsize=6)


# --- gradients ----------------------------------------------------------------------------------------


@takes(net=NET, loss=LOSS)
def gradient_flow(
    net: Layer[Any, Any], params: Params, loss: Loss, x: Any, y: Any, *, key: Key | None = None
) -> Figure:
    """Draw how large each leaf's gradient is on a batch: where gradients vanish or explode.

    Parameters
    ----------
    net : Layer
        The network.
    params : dict
        Its parameters.
    loss : Loss
        What is made small.
    x, y : ndarray
        A batch, and its targets.
    key : Key, optional
        With one, the pass is one of training.

    Returns
    -------
    matplotlib.figure.Figure
        For each leaf, first layer at the top, the root mean square of its gradient's elements and the
        largest of them, on a logarithmic scale. Gradients that are 0 are named, not drawn.

    Raises
    ------
    ValueError, TypeError
        For what the network or the loss refuses.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from funcnn import dense, mean_squared_error, random, serial
    >>> net = serial(dense(8), dense(2))
    >>> _, params = net.init(random.key(0), (1, 4))
    >>> x, y = np.ones((1, 4), np.float32), np.zeros((1, 2), np.float32)
    >>> axes = gradient_flow(net, params, mean_squared_error(), x, y).axes[0]
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['dense1/weight', 'dense1/bias', 'dense2/weight', 'dense2/bias']
    """
    grads = trace_backward(net, params, loss, x, y, key=key).grads
    leaves = [(path, leaf) for path, leaf in tree.items(grads) if not tree.is_statistic(path)]
    figure = new_figure(7.0, 1.0 + 0.28 * max(len(leaves), 3))
    axes = figure.subplots()
    for place, (_, leaf) in enumerate(leaves):
        mean = tree.norm({"leaf": leaf}) / np.sqrt(max(leaf.size, 1))
        largest = float(np.abs(leaf).max()) if leaf.size else 0.0
        if mean > 0:
            axes.plot([mean, largest], [place, place], color=GREY, alpha=0.5, zorder=1)
            axes.plot(mean, place, "o", color=BLUE)
            axes.plot(largest, place, "|", color=ORANGE, markersize=11, markeredgewidth=2.5)
        else:
            axes.text(0.02, place, "0", transform=axes.get_yaxis_transform(), va="center", color=ORANGE)
    axes.set_xscale("log")
    if not any(leaf.any() for _, leaf in leaves):
        axes.set_xlim(1e-3, 1)
    axes.set_yticks(range(len(leaves)), [path for path, _ in leaves])
    axes.set_ylim(len(leaves) - 0.5, -0.5)
    axes.set_xlabel("size of the gradient's elements")
    axes.grid(axis="x", alpha=0.3)
    axes.plot([], [], "o", color=BLUE, label="root mean square")
    axes.plot([], [], "|", color=ORANGE, markersize=11, markeredgewidth=2.5, label="largest")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


# --- the loss around the parameters -------------------------------------------------------------------


class Landscape(NamedTuple):
    """The loss on a plane through the parameters.

    Parameters
    ----------
    along : ndarray, ``(points,)``
        Steps along each of the two directions; 0 is where the parameters are.
    loss : ndarray, ``(points, points)``
        The first direction down, the second across.

    Examples
    --------
    >>> Landscape(np.array([0.0]), np.array([[0.5]])).loss.shape
    (1, 1)
    """

    along: Array
    loss: Array


@takes(net=NET, loss=LOSS, points=Integer(2), span=Number(above=0))
def landscape(
    net: Layer[Any, Any],
    params: Params,
    loss: Loss,
    x: Any,
    y: Any,
    *,
    key: Key,
    points: int = 15,
    span: float = 1.0,
) -> Landscape:
    """Compute the loss along two random, filter-normalised directions from the parameters.

    Parameters
    ----------
    net : Layer
        The network, which runs in inference.
    params : dict
        Its parameters.
    loss : Loss
        What was made small.
    x, y : ndarray
        A batch, and its targets.
    key : Key
        Draws the directions.
    points : int, default 15
        Along each direction; an odd number has the parameters in the middle.
    span : float, default 1.0
        How far to go either way; 1 is as far as the parameters are long.

    Returns
    -------
    Landscape

    Raises
    ------
    ValueError, TypeError
        For options out of range, and what the network or the loss refuses.

    Notes
    -----
    Each filter of a direction, a row of axis 0 of a leaf with at least 2 axes, is scaled to the norm
    of the same filter of the parameters: ``d <- d / |d| * |w|``. Biases, scales and running statistics
    stay as they are.

    References
    ----------
    H. Li, Z. Xu, G. Taylor, C. Studer and T. Goldstein, "Visualizing the loss landscape of neural
    nets", 2018.

    Examples
    --------
    >>> from funcnn import dense, mean_squared_error, random
    >>> _, params = dense(1).init(random.key(0), (1, 4))
    >>> x, y = np.ones((2, 4), np.float32), np.zeros((2, 1), np.float32)
    >>> landscape(dense(1), params, mean_squared_error(), x, y, key=random.key(1), points=3).along
    array([-1.,  0.,  1.])
    """
    loss.apply(net.apply(params, x)[0], y)  # refuses what does not fit
    one, other = (_direction(own, params) for own in random.split(checks.key(key)))
    along = -span + 2 * span * np.arange(points) / (points - 1)
    values = np.empty((points, points))
    with np.errstate(over="ignore", invalid="ignore"):  # far away the loss may be infinite
        for row, a in enumerate(along):
            moved = tree.add(params, tree.scale(one, a))
            for column, b in enumerate(along):
                out, _ = net.apply(tree.add(moved, tree.scale(other, b)), x)
                values[row, column] = float(loss.apply(out, y)[0])
    return Landscape(along, values)


def _direction(key: Key, params: Params) -> Params:
    """A random direction, each filter as long as that of the parameters."""

    def leaf(path: str, w: Array) -> Array:
        if w.ndim < 2 or w.dtype.kind != "f" or tree.is_statistic(path):
            return np.zeros_like(w)
        d = random.normal(random.fold_in(key, path), w.shape, dtype=w.dtype)
        axes = tuple(range(1, w.ndim))
        lengths = [np.sqrt(numerics.sum(part * part, axes, True)) for part in (w, d)]
        return np.asarray(d * (lengths[0] / np.maximum(lengths[1], np.finfo(w.dtype).tiny)))

    return tree.map_with_path(leaf, params)


def loss_landscape(
    net: Layer[Any, Any],
    params: Params,
    loss: Loss,
    x: Any,
    y: Any,
    *,
    key: Key,
    points: int = 15,
    span: float = 1.0,
) -> Figure:
    """Draw the loss along two random directions from the parameters: how flat the minimum is.

    Parameters
    ----------
    net, params, loss, x, y
        As for `landscape`.
    key, points, span
        As for `landscape`.

    Returns
    -------
    matplotlib.figure.Figure
        Contours of the loss, on a logarithmic scale; a cross where the parameters are.

    Raises
    ------
    ValueError, TypeError
        For what `landscape` refuses.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from funcnn import dense, mean_squared_error, random
    >>> _, params = dense(1).init(random.key(0), (1, 4))
    >>> x, y = np.ones((2, 4), np.float32), np.zeros((2, 1), np.float32)
    >>> key = random.key(1)
    >>> figure = loss_landscape(dense(1), params, mean_squared_error(), x, y, key=key, points=3)
    >>> figure.axes[1].get_ylabel()
    'loss'
    """
    figure = new_figure(6.2, 5.0)
    found = landscape(net, params, loss, x, y, key=key, points=points, span=span)
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MultipleLocator

    finite = found.loss[np.isfinite(found.loss) & (found.loss > 0)]
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 1.0)
    low, high = max(float(low), 1e-12), max(float(high), float(low) * 1.01, 1.01e-12)
    levels = low * numerics.power(np.full(21, high / low), np.arange(21) / 20)
    axes = figure.subplots()
    inside = np.clip(np.nan_to_num(found.loss, nan=high, posinf=high), low, high)
    across, down = np.meshgrid(found.along, found.along)
    image = axes.contourf(across, down, inside, levels, norm=LogNorm(low, high), cmap="viridis")
    axes.contour(across, down, inside, levels[::2], colors="white", linewidths=0.5, alpha=0.6)
    axes.plot(0, 0, "+", color="white", markersize=12, markeredgewidth=2)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    bar.set_label("loss")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(span / 2))
    axes.set_xlabel("along the second direction (lengths of the filters)")
    axes.set_ylabel("along the first direction (lengths of the filters)")
    axes.set_aspect("equal")
    return figure
