"""Metrics: what a person wants to know of predictions, ``(prediction, target) -> float``.

Each is a mean over what counts: `ignore_index` names a label that does not, `weight` says how much each
example counts, or which do (booleans); so does a target that is a tuple ``(target, weight)``, as for
`funcnn.weighted`. `functools.partial` gives a metric options for `funcnn.fit`.

Examples
--------
>>> from functools import partial
>>> import numpy as np
>>> from funcnn import metrics
>>> masked = partial(metrics.accuracy, ignore_index=-1)
>>> masked(np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.6]]), np.array([1, 1, -1]))
0.5
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
