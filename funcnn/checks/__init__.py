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
    Shapes as Shapes,
    alone as alone,
    any_ranked as any_ranked,
    any_shape as any_shape,
    array as array,
    children as children,
    counts as counts,
    counts_shape as counts_shape,
    exact_shape as exact_shape,
    feature_axis as feature_axis,
    float_dtype as float_dtype,
    floating as floating,
    gradient as gradient,
    inputs as inputs,
    integer_dtype as integer_dtype,
    integers as integers,
    kept as kept,
    key as key,
    labels as labels,
    leaves as leaves,
    mask as mask,
    number_dtype as number_dtype,
    ranked as ranked,
    same_dtype as same_dtype,
    shape as shape,
    sized as sized,
    sizes as sizes,
    together as together,
    weights as weights,
)
from funcnn.checks.declarations import (
    DEEPEST as DEEPEST,
    bare as bare,
    declaration as declaration,
    declared as declared,
    declaring as declaring,
    named as named,
    takes as takes,
)
from funcnn.checks.options import (
    LOSS as LOSS,
    NET as NET,
    STR as STR,
    Beside as Beside,
    Choice as Choice,
    Constraint as Constraint,
    Each as Each,
    Either as Either,
    Flag as Flag,
    Function as Function,
    Instance as Instance,
    Integer as Integer,
    Integers as Integers,
    Layers as Layers,
    Number as Number,
    Optional as Optional,
    Several as Several,
    Sides as Sides,
    Sizes as Sizes,
    Whatever as Whatever,
    When as When,
    beyond as beyond,
    refuse_beyond as refuse_beyond,
    within as within,
)
from funcnn.checks.refusals import (
    Refusal as Refusal,
    RefusedType as RefusedType,
    RefusedValue as RefusedValue,
    refuse as refuse,
    refuse_type as refuse_type,
    shown as shown,
)
