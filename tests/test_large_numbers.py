"""Numbers near the largest: nothing warns, and what comes out is right or plainly not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from funcnn.testing import _values
from tests import registry
from tests.registry import Case

_ROOMS = (["convolution"], ["pooling"], ["normalization"])
_CASES = [
    pytest.param(case, id=case.id)
    for case in registry.layers()
    if case.layer.spec.build.__module__.split(".")[2:3] in _ROOMS
]


@pytest.mark.parametrize("case", _CASES)
def test_nothing_warns(case: Case) -> None:
    subject = registry.subject(case)
    for dtype, sizes in ((np.float32, (1e30, 3e38)), (np.float64, (1e300, 1.7e308))):
        params, unit = _values.cast((subject.params, np.clip(subject.x, -1, 1)), dtype)
        for size, mode in ((size, mode) for size in sizes for mode in subject.distinct_modes):
            x = unit * dtype(size)
            run = subject.fresh(mode, params, x)
            for scale in (1.0, size):
                subject.layer.vjp(run.cache, dtype(scale) * np.sign(run.dout))


@pytest.mark.parametrize("case", _CASES)
def test_what_is_finite_is_right(case: Case) -> None:
    subject = registry.subject(case)
    for mode, size in ((mode, size) for mode in subject.distinct_modes for size in (1e18, 1e30, 3e38)):
        params, x = _values.cast((subject.params, np.clip(subject.x, -1, 1) * size), np.float32)
        given: tuple[Any, Any] = _values.cast((params, x), np.float64)
        key = subject.modes[mode]
        found, expected = (subject.layer.apply(*pair, key=key)[0] for pair in ((params, x), given))
        finite = np.isfinite(found)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-5 * scale)
