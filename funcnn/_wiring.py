"""How layers may be joined, in the words of a type checker: one signature for each length.

Each place of a chain asks for a method of its own, ``_at1`` to ``_at12``, that takes what the place
before gives. `Preserving` has them as generic methods, ``T -> T``, each with a type variable of its
own: so a checker solves a whole chain at once, wherever the shape-preserving layers stand. Only
beyond twelve layers do the joints go unchecked.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, overload

from funcnn.types import Layer, Preserving

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
I = TypeVar("I")
J = TypeVar("J")
K = TypeVar("K")
L = TypeVar("L")
M = TypeVar("M")
X_in = TypeVar("X_in", contravariant=True)
Y_out = TypeVar("Y_out", covariant=True)


# fmt: off
class At1(Protocol[X_in, Y_out]):
    def _at1(self, x: X_in, /) -> Y_out: ...


class At2(Protocol[X_in, Y_out]):
    def _at2(self, x: X_in, /) -> Y_out: ...


class At3(Protocol[X_in, Y_out]):
    def _at3(self, x: X_in, /) -> Y_out: ...


class At4(Protocol[X_in, Y_out]):
    def _at4(self, x: X_in, /) -> Y_out: ...


class At5(Protocol[X_in, Y_out]):
    def _at5(self, x: X_in, /) -> Y_out: ...


class At6(Protocol[X_in, Y_out]):
    def _at6(self, x: X_in, /) -> Y_out: ...


class At7(Protocol[X_in, Y_out]):
    def _at7(self, x: X_in, /) -> Y_out: ...


class At8(Protocol[X_in, Y_out]):
    def _at8(self, x: X_in, /) -> Y_out: ...


class At9(Protocol[X_in, Y_out]):
    def _at9(self, x: X_in, /) -> Y_out: ...


class At10(Protocol[X_in, Y_out]):
    def _at10(self, x: X_in, /) -> Y_out: ...


class At11(Protocol[X_in, Y_out]):
    def _at11(self, x: X_in, /) -> Y_out: ...


class At12(Protocol[X_in, Y_out]):
    def _at12(self, x: X_in, /) -> Y_out: ...


class Serial(Protocol):
    """The type of `funcnn.serial`."""

    @overload
    def __call__(self, *layers: Preserving) -> Preserving: ...
    @overload
    def __call__(self, l1: At1[A, B], /) -> Layer[A, B]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], /) -> Layer[A, C]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], /) -> Layer[A, D]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], /) -> Layer[A, E]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], l5: At5[E, F], /) -> Layer[A, F]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], l5: At5[E, F], l6: At6[F, G], /) -> Layer[A, G]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], l5: At5[E, F], l6: At6[F, G], l7: At7[G, H], /) -> Layer[A, H]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], l5: At5[E, F], l6: At6[F, G], l7: At7[G, H], l8: At8[H, I], /) -> Layer[A, I]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], l5: At5[E, F], l6: At6[F, G], l7: At7[G, H], l8: At8[H, I], l9: At9[I, J], /) -> Layer[A, J]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], l5: At5[E, F], l6: At6[F, G], l7: At7[G, H], l8: At8[H, I], l9: At9[I, J], l10: At10[J, K], /) -> Layer[A, K]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], l5: At5[E, F], l6: At6[F, G], l7: At7[G, H], l8: At8[H, I], l9: At9[I, J], l10: At10[J, K], l11: At11[K, L], /) -> Layer[A, L]: ...
    @overload
    def __call__(self, l1: At1[A, B], l2: At2[B, C], l3: At3[C, D], l4: At4[D, E], l5: At5[E, F], l6: At6[F, G], l7: At7[G, H], l8: At8[H, I], l9: At9[I, J], l10: At10[J, K], l11: At11[K, L], l12: At12[L, M], /) -> Layer[A, M]: ...
    @overload
    def __call__(self, l1: At1[A, Any], l2: Layer[Any, Any], l3: Layer[Any, Any], l4: Layer[Any, Any], l5: Layer[Any, Any], l6: Layer[Any, Any], l7: Layer[Any, Any], l8: Layer[Any, Any], l9: Layer[Any, Any], l10: Layer[Any, Any], l11: Layer[Any, Any], l12: Layer[Any, Any], l13: Layer[Any, Any], /, *more: Layer[Any, Any]) -> Layer[A, Any]: ...
# fmt: on
