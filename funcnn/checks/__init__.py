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

from funcnn.checks.arrays import (
    Shapes,
    alone,
    any_ranked,
    any_shape,
    array,
    children,
    counts,
    counts_shape,
    exact_shape,
    feature_axis,
    float_dtype,
    floating,
    gradient,
    inputs,
    integer_dtype,
    kept,
    key,
    labels,
    leaves,
    mask,
    ranked,
    same_dtype,
    shape,
    sized,
    sizes,
    together,
)
from funcnn.checks.declarations import bare, declaration, declared, finished, named
from funcnn.checks.options import (
    Beside,
    Choice,
    Constraint,
    Either,
    Flag,
    Instance,
    Integer,
    Integers,
    Layers,
    Number,
    Optional,
    Several,
    Sides,
    Sizes,
    Whatever,
    When,
    beyond,
    refuse_beyond,
)
from funcnn.checks.refusals import (
    Refusal,
    RefusedType,
    RefusedValue,
    refuse,
    refuse_type,
    shown,
)

__all__ = [
    "Beside",
    "Choice",
    "Constraint",
    "Either",
    "Flag",
    "Instance",
    "Integer",
    "Integers",
    "Layers",
    "Number",
    "Optional",
    "Refusal",
    "RefusedType",
    "RefusedValue",
    "Several",
    "Sides",
    "Shapes",
    "Sizes",
    "Whatever",
    "When",
    "alone",
    "any_ranked",
    "any_shape",
    "array",
    "bare",
    "beyond",
    "children",
    "counts",
    "counts_shape",
    "declaration",
    "declared",
    "exact_shape",
    "feature_axis",
    "float_dtype",
    "finished",
    "floating",
    "gradient",
    "inputs",
    "integer_dtype",
    "kept",
    "key",
    "labels",
    "leaves",
    "mask",
    "named",
    "ranked",
    "refuse",
    "refuse_beyond",
    "refuse_type",
    "same_dtype",
    "shape",
    "shown",
    "sized",
    "sizes",
    "together",
]
