"""The only place that words a refusal.

A check says what must hold: ``checks.ranked(x, "N, C, H, W")``. Who refuses is added on the way out, by
`declared` for what a constructor builds and by `named` for a plain function, and a combinator puts its
child's name in front. Alone, a layer says ``conv: `x` must ...``; in a network, ``lenet/conv2: ...``.

Options are declared once, as data, where a constructor is defined::

    @declared(rate=Number(minimum=0, below=1))
    def dropout(rate: float) -> Preserving: ...

The declaration checks each call, gives what is built its `Spec`, and yields the tests of wrong options.
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
