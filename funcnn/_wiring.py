"""How layers may be joined, in the words of a type checker: one signature for each length.

Each place of a chain asks for a method of its own, ``_at1`` to ``_at20``, that takes what the place
before gives. `Preserving` has them as generic methods, ``T -> T``, each with a type variable of its
own: so a checker solves a whole chain at once, wherever the shape-preserving layers stand. Of more
than twenty layers, as of a list with a star, it checks the first twenty places. A joint that does not
fit is named by its type variable: ``From1To2`` is what layer 1 gives and layer 2 takes. `Alike` is for
any number of layers with the same types, such as those of `funcnn.residual`.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, overload

from funcnn.types import Layer, Preserving

Into1 = TypeVar("Into1")
From1To2 = TypeVar("From1To2")
From2To3 = TypeVar("From2To3")
From3To4 = TypeVar("From3To4")
From4To5 = TypeVar("From4To5")
From5To6 = TypeVar("From5To6")
From6To7 = TypeVar("From6To7")
From7To8 = TypeVar("From7To8")
From8To9 = TypeVar("From8To9")
From9To10 = TypeVar("From9To10")
From10To11 = TypeVar("From10To11")
From11To12 = TypeVar("From11To12")
From12To13 = TypeVar("From12To13")
From13To14 = TypeVar("From13To14")
From14To15 = TypeVar("From14To15")
From15To16 = TypeVar("From15To16")
From16To17 = TypeVar("From16To17")
From17To18 = TypeVar("From17To18")
From18To19 = TypeVar("From18To19")
From19To20 = TypeVar("From19To20")
From20To21 = TypeVar("From20To21")
X_in = TypeVar("X_in", contravariant=True)
Y_out = TypeVar("Y_out", covariant=True)


# fmt: off
class Alike(Protocol[X_in, Y_out]):
    def _alike(self, x: X_in, /) -> Y_out: ...


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


class At13(Protocol[X_in, Y_out]):
    def _at13(self, x: X_in, /) -> Y_out: ...


class At14(Protocol[X_in, Y_out]):
    def _at14(self, x: X_in, /) -> Y_out: ...


class At15(Protocol[X_in, Y_out]):
    def _at15(self, x: X_in, /) -> Y_out: ...


class At16(Protocol[X_in, Y_out]):
    def _at16(self, x: X_in, /) -> Y_out: ...


class At17(Protocol[X_in, Y_out]):
    def _at17(self, x: X_in, /) -> Y_out: ...


class At18(Protocol[X_in, Y_out]):
    def _at18(self, x: X_in, /) -> Y_out: ...


class At19(Protocol[X_in, Y_out]):
    def _at19(self, x: X_in, /) -> Y_out: ...


class At20(Protocol[X_in, Y_out]):
    def _at20(self, x: X_in, /) -> Y_out: ...


class Serial(Protocol):
    """The type of `funcnn.serial`."""

    @overload
    def __call__(self, *layers: Preserving) -> Preserving: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], /) -> Layer[Into1, From1To2]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], /) -> Layer[Into1, From2To3]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], /) -> Layer[Into1, From3To4]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], /) -> Layer[Into1, From4To5]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], /) -> Layer[Into1, From5To6]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], /) -> Layer[Into1, From6To7]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], /) -> Layer[Into1, From7To8]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], /) -> Layer[Into1, From8To9]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], /) -> Layer[Into1, From9To10]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], /) -> Layer[Into1, From10To11]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], /) -> Layer[Into1, From11To12]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], /) -> Layer[Into1, From12To13]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], /) -> Layer[Into1, From13To14]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], l14: At14[From13To14, From14To15], /) -> Layer[Into1, From14To15]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], l14: At14[From13To14, From14To15], l15: At15[From14To15, From15To16], /) -> Layer[Into1, From15To16]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], l14: At14[From13To14, From14To15], l15: At15[From14To15, From15To16], l16: At16[From15To16, From16To17], /) -> Layer[Into1, From16To17]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], l14: At14[From13To14, From14To15], l15: At15[From14To15, From15To16], l16: At16[From15To16, From16To17], l17: At17[From16To17, From17To18], /) -> Layer[Into1, From17To18]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], l14: At14[From13To14, From14To15], l15: At15[From14To15, From15To16], l16: At16[From15To16, From16To17], l17: At17[From16To17, From17To18], l18: At18[From17To18, From18To19], /) -> Layer[Into1, From18To19]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], l14: At14[From13To14, From14To15], l15: At15[From14To15, From15To16], l16: At16[From15To16, From16To17], l17: At17[From16To17, From17To18], l18: At18[From17To18, From18To19], l19: At19[From18To19, From19To20], /) -> Layer[Into1, From19To20]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], l14: At14[From13To14, From14To15], l15: At15[From14To15, From15To16], l16: At16[From15To16, From16To17], l17: At17[From16To17, From17To18], l18: At18[From17To18, From18To19], l19: At19[From18To19, From19To20], l20: At20[From19To20, From20To21], /) -> Layer[Into1, From20To21]: ...
    @overload
    def __call__(self, l1: At1[Into1, From1To2], l2: At2[From1To2, From2To3], l3: At3[From2To3, From3To4], l4: At4[From3To4, From4To5], l5: At5[From4To5, From5To6], l6: At6[From5To6, From6To7], l7: At7[From6To7, From7To8], l8: At8[From7To8, From8To9], l9: At9[From8To9, From9To10], l10: At10[From9To10, From10To11], l11: At11[From10To11, From11To12], l12: At12[From11To12, From12To13], l13: At13[From12To13, From13To14], l14: At14[From13To14, From14To15], l15: At15[From14To15, From15To16], l16: At16[From15To16, From16To17], l17: At17[From16To17, From17To18], l18: At18[From17To18, From18To19], l19: At19[From18To19, From19To20], l20: At20[From19To20, From20To21], /, *more: Layer[Any, Any]) -> Layer[Into1, Any]: ...
# fmt: on
