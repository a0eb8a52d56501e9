"""Optimizers: new parameters from gradients, nothing changed in place.

An optimizer is a pair of pure functions, ``init(params) -> state`` and
``update(grads, state, params) -> (updates, state)``; `apply_updates` adds the updates to the
parameters. Those known by a name, `adam` and the like, are chains of small transformations. Updates in
float32 are those of float64, rounded, whatever the size of gradients and options; an option whose
update float32 cannot hold is refused.

Examples
--------
>>> import numpy as np
>>> from funcnn import optimizers
>>> params = {"w": np.array([1.0, -2.0])}
>>> optimizer = optimizers.chain(optimizers.clip_by_global_norm(1.0), optimizers.adam(0.1))
>>> state = optimizer.init(params)
>>> for _ in range(100):
...     updates, state = optimizer.update(params, state, params)  # the gradient of sum(w**2) / 2
...     params = optimizers.apply_updates(params, updates)
>>> bool(np.abs(params["w"]).max() < 0.1)
True
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
