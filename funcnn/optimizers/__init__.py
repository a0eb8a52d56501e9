"""Optimizers: new parameters from gradients, nothing changed in place.

An optimizer is a pair of pure functions, ``init(params) -> state`` and
``update(grads, state, params) -> (updates, state)``; `apply_updates` adds the updates to the
parameters. Those known by a name, `adam` and the like, are chains of small transformations.

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

from typing import TYPE_CHECKING

from funcnn._lazy import lazily

if TYPE_CHECKING:
    from funcnn.optimizers.aliases import (
        adabelief,
        adadelta,
        adafactor,
        adagrad,
        adam,
        adamax,
        adamw,
        amsgrad,
        lamb,
        lars,
        lion,
        momentum,
        muon,
        nadam,
        nesterov,
        radam,
        rmsprop,
        sgd,
    )
    from funcnn.optimizers.core import (
        Optimizer,
        State,
        apply_updates,
        chain,
        learning_rate,
        sgd_update,
    )
    from funcnn.optimizers.limits import (
        add_decayed_weights,
        clip,
        clip_by_global_norm,
        clip_by_norm,
        freeze,
    )
    from funcnn.optimizers.matrices import (
        scale_by_factored_rms,
        scale_by_muon,
        scale_by_parameter_size,
    )
    from funcnn.optimizers.quasi_newton import lbfgs
    from funcnn.optimizers.scaling import (
        scale,
        scale_by_adadelta,
        scale_by_adagrad,
        scale_by_adam,
        scale_by_adamax,
        scale_by_amsgrad,
        scale_by_belief,
        scale_by_learning_rate,
        scale_by_lion,
        scale_by_nadam,
        scale_by_radam,
        scale_by_rms,
        scale_by_trust_ratio,
        trace,
    )
    from funcnn.optimizers.wrappers import (
        accumulate,
        ema,
        ema_params,
        lookahead,
        per_path,
        skip_nonfinite,
    )

__all__ = [
    "Optimizer",
    "State",
    "accumulate",
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "add_decayed_weights",
    "amsgrad",
    "apply_updates",
    "chain",
    "clip",
    "clip_by_global_norm",
    "clip_by_norm",
    "ema",
    "ema_params",
    "freeze",
    "lamb",
    "lars",
    "lbfgs",
    "learning_rate",
    "lion",
    "lookahead",
    "momentum",
    "muon",
    "nadam",
    "nesterov",
    "per_path",
    "radam",
    "rmsprop",
    "scale",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_belief",
    "scale_by_factored_rms",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_muon",
    "scale_by_nadam",
    "scale_by_parameter_size",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_trust_ratio",
    "sgd",
    "sgd_update",
    "skip_nonfinite",
    "trace",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "aliases": (
            "adabelief adadelta adafactor adagrad adam adamax adamw amsgrad lamb lars lion "
            "momentum muon nadam nesterov radam rmsprop sgd"
        ),
        "core": "Optimizer State apply_updates chain learning_rate sgd_update",
        "limits": "add_decayed_weights clip clip_by_global_norm clip_by_norm freeze",
        "matrices": "scale_by_factored_rms scale_by_muon scale_by_parameter_size",
        "quasi_newton": "lbfgs",
        "scaling": (
            "scale scale_by_adadelta scale_by_adagrad scale_by_adam scale_by_adamax "
            "scale_by_amsgrad scale_by_belief scale_by_learning_rate scale_by_lion scale_by_nadam "
            "scale_by_radam scale_by_rms scale_by_trust_ratio trace"
        ),
        "wrappers": "accumulate ema ema_params lookahead per_path skip_nonfinite",
    },
)
