"""The law of what lies outside: a layer changes nothing there, neither settings nor generators."""
# ruff: noqa: NPY002 - NumPy's old generator is what everybody shares

from __future__ import annotations

import pickle
import random
import warnings
from typing import Any

import numpy as np

from funcnn.testing._laws import breach, law
from funcnn.testing._subject import Subject


@law("nothing outside is changed")
def outside(subject: Subject) -> None:
    # From states and settings that nobody has, so that whatever is set shows.
    mine, numpys = random.getstate(), np.random.get_state(legacy=False)
    try:
        for mode in subject.distinct_modes:
            with np.errstate(all="call", call=lambda *_: None):
                random.random()
                np.random.random()
                before = _world()
                subject.layer.init(subject.init_key, subject.shape)
                subject.fresh(mode, subject.params, subject.x)
                for what, state in _world().items():
                    if state != before[what]:
                        breach(f"{what} ({mode})", "what it was before", "a change")
    finally:
        random.setstate(mine)
        np.random.set_state(numpys)


def _world() -> dict[str, Any]:
    """What everybody shares, by its name."""
    return {
        "numpy.random": pickle.dumps(np.random.get_state(legacy=False)),
        "random": random.getstate(),
        "numpy.geterr()": np.geterr(),
        "warnings.filters": list(warnings.filters),
    }
