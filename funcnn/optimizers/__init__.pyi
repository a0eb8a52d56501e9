"""The public names of `funcnn.optimizers`, and where each has its home."""

from funcnn.optimizers.adam_variants import (
    adabelief as adabelief,
    adamax as adamax,
    radam as radam,
    scale_by_adamax as scale_by_adamax,
    scale_by_belief as scale_by_belief,
    scale_by_radam as scale_by_radam,
)
from funcnn.optimizers.adaptive_moments import (
    adam as adam,
    adamw as adamw,
    amsgrad as amsgrad,
    nadam as nadam,
    scale_by_adam as scale_by_adam,
    scale_by_amsgrad as scale_by_amsgrad,
    scale_by_nadam as scale_by_nadam,
)
from funcnn.optimizers.clipping import (
    add_decayed_weights as add_decayed_weights,
    clip as clip,
    clip_by_global_norm as clip_by_global_norm,
    clip_by_norm as clip_by_norm,
    freeze as freeze,
)
from funcnn.optimizers.core import (
    Optimizer as Optimizer,
    State as State,
    apply_updates as apply_updates,
    check_state as check_state,
    learning_rate as learning_rate,
    sgd_update as sgd_update,
)
from funcnn.optimizers.descent import (
    asgd as asgd,
    momentum as momentum,
    nesterov as nesterov,
    scale as scale,
    scale_by_learning_rate as scale_by_learning_rate,
    sgd as sgd,
    trace as trace,
)
from funcnn.optimizers.foreign import from_optax as from_optax
from funcnn.optimizers.large_batches import (
    lamb as lamb,
    lars as lars,
    scale_by_trust_ratio as scale_by_trust_ratio,
)
from funcnn.optimizers.matrices import (
    adafactor as adafactor,
    muon as muon,
    scale_by_factored_rms as scale_by_factored_rms,
    scale_by_muon as scale_by_muon,
    scale_by_parameter_size as scale_by_parameter_size,
)
from funcnn.optimizers.parts import chain as chain
from funcnn.optimizers.quasi_newton import lbfgs as lbfgs
from funcnn.optimizers.rms import (
    adadelta as adadelta,
    adagrad as adagrad,
    rmsprop as rmsprop,
    scale_by_adadelta as scale_by_adadelta,
    scale_by_adagrad as scale_by_adagrad,
    scale_by_rms as scale_by_rms,
)
from funcnn.optimizers.signs import (
    lion as lion,
    rprop as rprop,
    scale_by_lion as scale_by_lion,
    scale_by_rprop as scale_by_rprop,
)
from funcnn.optimizers.wrappers import (
    accumulate as accumulate,
    average as average,
    ema as ema,
    ema_params as ema_params,
    lookahead as lookahead,
    per_path as per_path,
    skip_nonfinite as skip_nonfinite,
)
