"""ONNX's Einsum: products over named axes, each pair of arrays one product of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.checks import shown
from funcnn.interop.onnx.loading_elementwise import A, Operator
from funcnn.types import Array, Shape


def _terms(a: A, inputs: Sequence[Array]) -> tuple[list[str], str]:
    """The letters of the axes of each input, and of the output; dots stand for letters of their own."""
    left, arrow, right = a.equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [letter for letter in ascii_letters if letter not in a.equation]
    if len(terms) != len(inputs):
        raise ValueError(f"{len(terms)} terms for {len(inputs)} inputs")
    wide = 0
    for at, (term, x) in enumerate(zip(terms, inputs, strict=True)):
        hidden = x.ndim - len(term.replace("...", ""))
        if hidden and "..." not in term:
            raise ValueError(f"{shown(term)} for {x.ndim} axes")
        wide = max(wide, hidden)
        terms[at] = term.replace("...", "".join(free[:hidden]))
    once = sorted(letter for letter in {*left} - {*",."} if left.count(letter) == 1)
    dots = "".join(free[:wide])
    out = right.replace("...", dots) if arrow else dots + "".join(once)
    for term in (*terms, out):
        if not term.isalpha() * len({*term}) == len(term) or not {*out} <= {*"".join(terms)}:
            raise ValueError(f"{shown(a.equation)} must name each axis once in each part")
    return terms, out


def _sizes(a: A, *inputs: Array) -> Shape:
    terms, out = _terms(a, inputs)
    known: dict[str, int] = {}
    for term, x in zip(terms, inputs, strict=True):
        for letter, size in zip(term, x.shape, strict=True):
            if known.setdefault(letter, size) != size:
                raise ValueError(f"{shown(letter)} has sizes {known[letter]} and {size}")
    return tuple(known[letter] for letter in out)


def _without(term: str, x: Array, kept: str) -> tuple[str, Array]:
    """Summed over all axes but these."""
    gone = tuple(at for at, letter in enumerate(term) if letter not in kept)
    left = "".join(letter for letter in term if letter in kept)
    return left, (numerics.sum(x, gone) if gone else x)


def _pair(first: tuple[str, Array], second: tuple[str, Array], kept: str) -> tuple[str, Array]:
    """The product of two arrays, summed over what is in both and not kept."""
    (one, x), (two, y) = (
        _without(*this, kept + that[0]) for this, that in ((first, second), (second, first))
    )
    batch = [letter for letter in one if letter in two and letter in kept]
    inner = [letter for letter in one if letter in two and letter not in kept]
    rows, columns = ([c for c in term if c not in other] for term, other in ((one, two), (two, one)))
    size = dict(zip(one + two, x.shape + y.shape, strict=True))
    counts = [prod(size[c] for c in part) for part in (batch, rows, inner, columns)]
    x = x.transpose([one.index(c) for c in (*batch, *rows, *inner)]).reshape(counts[:3])
    y = y.transpose([two.index(c) for c in (*batch, *inner, *columns)])
    out = numerics.matmul(x, y.reshape(counts[0], counts[2], counts[3]))
    found = (*batch, *rows, *columns)
    return "".join(found), out.reshape([size[c] for c in found])


def _contracted(terms: Sequence[str], arrays: Sequence[Array], out: str) -> Array:
    """All of them, from the first on."""
    found = terms[0], arrays[0]
    for at in range(1, len(terms)):
        found = _pair(found, (terms[at], arrays[at]), out + "".join(terms[at + 1 :]))
    term, x = _without(*found, out)
    return x.transpose([term.index(letter) for letter in out])


def _einsum(a: A, *inputs: Array) -> Any:
    terms, out = _terms(a, inputs)
    wide = [x if x.dtype.kind == "f" else x.astype(np.float64) for x in inputs]
    return _contracted(terms, wide, out).astype(inputs[0].dtype)


def _einsum_back(a: A, inputs: Any, out: Array, dout: Array) -> tuple[Any, ...]:
    """The same with an input and the output in each other's place; what only it has is repeated."""
    terms, last = _terms(a, inputs)
    found = []
    for at, (term, x) in enumerate(zip(terms, inputs, strict=True)):
        others = [*terms[:at], *terms[at + 1 :], last]
        arrays = [*inputs[:at], *inputs[at + 1 :], dout]
        shared = "".join(letter for letter in term if letter in "".join(others))
        alone = tuple(place for place, letter in enumerate(term) if letter not in shared)
        d = np.expand_dims(_contracted(others, arrays, shared), alone)
        found.append(np.broadcast_to(d, x.shape))
    return tuple(found)


CONTRACTIONS: dict[str, Operator] = {
    "Einsum": Operator(_einsum, _einsum_back, _sizes, {"equation": None}),
}
