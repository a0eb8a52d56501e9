"""The public names of `funcnn`, and where each has its home."""

from funcnn import (
    checkpoints as checkpoints,
    checks as checks,
    combinators as combinators,
    compile as compile,
    data as data,
    diagnose as diagnose,
    distributed as distributed,
    files as files,
    initializers as initializers,
    interop as interop,
    layers as layers,
    looking as looking,
    losses as losses,
    machine as machine,
    metrics as metrics,
    model_files as model_files,
    models as models,
    numerics as numerics,
    optimizers as optimizers,
    outline as outline,
    parameterless as parameterless,
    plots as plots,
    profiling as profiling,
    random as random,
    reparametrization as reparametrization,
    schedules as schedules,
    sequences as sequences,
    structure as structure,
    testing as testing,
    tracing as tracing,
    training as training,
    tree as tree,
    types as types,
)
from funcnn._kernels.convolution.textbook import col2im as col2im, im2col as im2col
from funcnn.combinators.chain import *
from funcnn.combinators.contexts import *
from funcnn.combinators.freezing import *
from funcnn.combinators.graphs import *
from funcnn.combinators.joining import *
from funcnn.combinators.reparametrization import *
from funcnn.combinators.sequences import *
from funcnn.doctor import doctor as doctor, show_config as show_config
from funcnn.layers import *
from funcnn.losses import *
from funcnn.model_files import load as load, save as save
from funcnn.models.generation import generate as generate
from funcnn.optimizers import (
    Optimizer as Optimizer,
    adam as adam,
    adamw as adamw,
    apply_updates as apply_updates,
    sgd as sgd,
    sgd_update as sgd_update,
)
from funcnn.profiling import summary as summary
from funcnn.training import (
    TrainState as TrainState,
    evaluate as evaluate,
    fit as fit,
    predict as predict,
    train_state as train_state,
    train_step as train_step,
    value_and_grad as value_and_grad,
)
from funcnn.types import (
    Key as Key,
    Layer as Layer,
    Loss as Loss,
    Params as Params,
    Shape as Shape,
    Spec as Spec,
)

__version__: str
