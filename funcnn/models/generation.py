"""Texts that go on: a network says how likely each token is next, and one is drawn."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from funcnn import checks, numerics, random
from funcnn.checks import NET, Each, Flag, Integer, Number, Optional, Whatever, takes
from funcnn.models.stepping import Past, Unknown, stepped
from funcnn.types import Array, Key, Layer, Params

__all__ = ["generate"]


@takes(
    net=NET, temperature=Number(minimum=0), top_k=Optional(Integer(1)),
    top_p=Optional(Number(above=0, maximum=1)), count=Integer(1), stop=Optional(Integer(0)),
    window=Optional(Integer(1)), context=Each(Whatever(), "arrays"), cached=Flag(),
    return_logits=Flag(),
)  # fmt: skip
def generate(
    net: Layer[Any, Any],
    params: Params,
    prompt: Any,
    key: Key | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    *,
    count: int = 100,
    stop: int | None = None,
    window: int | None = None,
    context: tuple[Array, ...] = (),
    cached: bool = True,
    return_logits: bool = False,
) -> Any:
    """Go on with texts, token by token, each drawn as a network says.

    Parameters
    ----------
    net : Layer
        From tokens ``(N, T)`` to logits ``(N, T, V)`` of the token behind each.
    params : dict
        Its parameters.
    prompt : ndarray of ints, or a list of them
        What to go on with: one text ``(T,)``, several of one length ``(N, T)``, or a list of texts of
        different lengths.
    key : Key, optional
        Where the draws come from; not needed for temperature 0.
    temperature : float, default 1.0
        Divides the logits: below 1 likely tokens become likelier; 0 takes the likeliest.
    top_k : int, optional
        How many tokens, the likeliest, are drawn from.
    top_p : float, optional
        The fewest tokens are drawn from that together have this probability.
    count : int, default 100
        How many tokens follow each prompt.
    stop : int, optional
        A token that ends a text.
    window : int, optional
        How many tokens the network sees, the last ones; by default all.
    context : tuple of ndarrays, default ()
        What the network takes behind the tokens: what a translation is of, and its mask.
    cached : bool, default True
        Whether layers keep what they need of the tokens before, where all of the network can.
    return_logits : bool, default False
        Whether to give the logits of each new token, too.

    Returns
    -------
    ndarray or list of ndarrays
        Prompts with what follows. One text, and each in a list, ends with its stop; in an array the
        stop fills the rest. Or a tuple of this and the logits, ``(N, count, V)``; without N for one
        text, and 0 where nothing was drawn.

    Raises
    ------
    ValueError, TypeError
        For an option out of range, a prompt that is empty, no key where one is needed, logits that are
        NaN or infinite; and what the network refuses.

    Notes
    -----
    The arithmetic is portable: the same key writes the same text on every machine, alone or beside
    others, cached or not, and all logits are the same to the bit. Draw ``t`` of text ``i`` has the key
    ``fold_in(fold_in(key, i), t)``, for ``t`` the place of the token. First comes the temperature, then
    `top_k`, then `top_p`. A network is cached if its layers are attention that is causal, recurrent in
    one direction, causal convolutions, positions, and those that treat each step alone, also in a
    `graph`; any other is run from the first token for each.

    References
    ----------
    A. Holtzman et al., "The curious case of neural text degeneration", 2020, for `top_p`.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn import generate, models, random
    >>> net = models.transformer_lm(12, 20)
    >>> _, params = net.init(random.key(0), (1, 20))
    >>> generate(net, params, np.array([1, 2, 3]), random.key(1), count=5).shape
    (8,)
    """
    rows = _rows(prompt)
    if temperature and key is None:
        checks.refuse("`key` must be given for a temperature above 0, got None")
    keys = [None if key is None else random.fold_in(checks.key(key), i) for i in range(len(rows))]
    how = _Draw(temperature, top_k, top_p)
    ends = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), int(ends.max()) + count), np.int64)
    for row, known in zip(tokens, rows, strict=True):
        row[: len(known)] = known
    found: list[Array] = []
    stopped = np.zeros(len(rows), np.bool_)
    with numerics.portable():
        logits_behind = _reader(net, params, tokens, context, window, cached)
        for t in range(int(ends.min()), tokens.shape[1]):
            open_ = np.flatnonzero((t >= ends) & (t < ends + count) & ~stopped)
            if not open_.size and (t >= ends).all():
                break
            found.append(_checked(logits_behind(t), open_, stop))
            for i in open_:
                own = keys[i]
                tokens[i, t] = how.token(found[-1][i], None if own is None else random.fold_in(own, t))
                if stop is not None and tokens[i, t] == stop:
                    stopped[i], tokens[i, t:] = True, stop
    return _given(prompt, tokens, ends, count, stop, found if return_logits else None)


class _Draw(NamedTuple):
    """How a token is drawn."""

    temperature: float
    top_k: int | None
    top_p: float | None

    def token(self, logits: Array, key: Key | None) -> int:
        """One of those that are likely enough; of equals the first is the likeliest."""
        order = np.argsort(-logits, kind="stable")
        if not self.temperature or key is None:
            return int(order[0])
        order = order[: self.top_k]
        with np.errstate(over="ignore"):
            scores = (logits[order].astype(np.float64) - logits[order[0]]) / self.temperature
        chances = numerics.exp(scores)
        if self.top_p is not None:
            sums = list(accumulate(chances.tolist()))
            enough = next(i for i, total in enumerate(sums) if total >= self.top_p * sums[-1])
            order, chances = order[: enough + 1], chances[: enough + 1]
        chances = chances / numerics.sum(chances)
        return int(order[int(random.choice(key, len(order), weights=chances))])


def _reader(
    net: Layer[Any, Any],
    params: Params,
    tokens: Array,
    context: tuple[Any, ...],
    window: int | None,
    cached: bool,
) -> Any:
    """A function of ``t``: the logits behind the first ``t`` tokens, for ``t`` one after the other."""

    def whole(x: Array, of: Layer[Any, Any]) -> Array:
        out = of.apply(params, (x, *context) if context else x)[0]
        return checks.ranked(out, "N, T, V", "logits")[:, -1]

    def from_the_start(t: int) -> Array:
        return whole(tokens[:, max(0, t - window) if window else 0 : t], net)

    past = Past(min(window or tokens.shape[1], tokens.shape[1]))
    shape = (len(tokens), past.length)
    net.init(random.NO_DRAW, (shape, *map(np.shape, context)) if context else shape)  # it must fit
    from_the_start(1)  # and so must the parameters, which steps do not check
    try:
        step = stepped(net, past) if cached else None
    except Unknown:
        step = None
    if step is None:
        return from_the_start

    def go_on(t: int) -> Array:
        if t > past.length:
            return from_the_start(t)
        out = whole(tokens[:, past.at : t], step)
        past.at = t
        return out

    return go_on


def _rows(prompt: Any) -> list[Array]:
    """Each text by itself."""
    rows = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
    if len(rows) == 1 and isinstance(prompt, np.ndarray) and prompt.ndim == 2:
        rows = list(prompt)
    for row in rows:
        if isinstance(row, str):
            checks.refuse_type("`prompt` must be tokens, got str: write tokenizer.encode(prompt)")
        found = checks.integers(row, "prompt")
        if found.ndim != 1 or not found.size:
            checks.refuse(f"`prompt` must hold texts (T,) of at least 1 token, got shape {found.shape}")
    if not rows:
        checks.refuse("`prompt` must hold at least 1 text, got 0")
    return rows


def _checked(logits: Array, used: Array, stop: int | None) -> Array:
    """Logits that can be drawn from: numbers, or -inf for what is never drawn."""
    if stop is not None and stop >= logits.shape[1]:
        checks.refuse(f"`stop` must be below {logits.shape[1]}, the tokens of `net`, got {stop}")
    some = logits[used]
    top = np.max(some, -1, initial=-np.inf)
    if np.isnan(some).any() or not np.isfinite(top).all():
        checks.refuse("`net` must give logits that are numbers, got NaN or infinity")
    return logits


def _given(
    prompt: Any, tokens: Array, ends: Array, count: int, stop: int | None, logits: list[Array] | None
) -> Any:
    """The texts in the form of the prompt."""
    rows = [row[: end + count] for row, end in zip(tokens, ends, strict=True)]
    several = isinstance(prompt, np.ndarray) and prompt.ndim == 2
    if stop is not None and not several:
        for i, end in enumerate(ends):
            hits = np.flatnonzero(rows[i][end:] == stop)
            rows[i] = rows[i][: end + hits[0] + 1] if hits.size else rows[i]
    single = isinstance(prompt, np.ndarray) and not several
    out: Any = tokens if several else rows[0] if single else rows
    if logits is None:
        return out
    scores = np.zeros((len(tokens), count, logits[0].shape[1]), logits[0].dtype)
    for i, end in enumerate(ends - ends.min()):
        own = [step[i] for step in logits[end : end + count]]
        scores[i, : len(own)] = own
    return out, scores[0] if single else scores
