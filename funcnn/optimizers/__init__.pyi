"""The public names of `funcnn.optimizers`, and where each has its home."""

from funcnn.optimizers.aliases import (
    adabelief as adabelief,
    adadelta as adadelta,
    adafactor as adafactor,
    adagrad as adagrad,
    adam as adam,
    adamax as adamax,
    adamw as adamw,
    amsgrad as amsgrad,
    lamb as lamb,
    lars as lars,
    lion as lion,
    momentum as momentum,
    muon as muon,
    nadam as nadam,
    nesterov as nesterov,
    radam as radam,
    rmsprop as rmsprop,
    sgd as sgd,
)
from funcnn.optimizers.core import (
    Optimizer as Optimizer,
    State as State,
    apply_updates as apply_updates,
    chain as chain,
    learning_rate as learning_rate,
    sgd_update as sgd_update,
)
from funcnn.optimizers.limits import (
    add_decayed_weights as add_decayed_weights,
    clip as clip,
    clip_by_global_norm as clip_by_global_norm,
    clip_by_norm as clip_by_norm,
    freeze as freeze,
)
from funcnn.optimizers.matrices import (
    scale_by_factored_rms as scale_by_factored_rms,
    scale_by_muon as scale_by_muon,
    scale_by_parameter_size as scale_by_parameter_size,
)
from funcnn.optimizers.quasi_newton import lbfgs as lbfgs
from funcnn.optimizers.scaling import (
    scale as scale,
    scale_by_adadelta as scale_by_adadelta,
    scale_by_adagrad as scale_by_adagrad,
    scale_by_adam as scale_by_adam,
    scale_by_adamax as scale_by_adamax,
    scale_by_amsgrad as scale_by_amsgrad,
    scale_by_belief as scale_by_belief,
    scale_by_learning_rate as scale_by_learning_rate,
    scale_by_lion as scale_by_lion,
    scale_by_nadam as scale_by_nadam,
    scale_by_radam as scale_by_radam,
    scale_by_rms as scale_by_rms,
    scale_by_trust_ratio as scale_by_trust_ratio,
    trace as trace,
)
from funcnn.optimizers.wrappers import (
    accumulate as accumulate,
    ema as ema,
    ema_params as ema_params,
    lookahead as lookahead,
    per_path as per_path,
    skip_nonfinite as skip_nonfinite,
)
