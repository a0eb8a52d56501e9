"""The public names of `funcnn.training`, and where each has its home."""

from funcnn.training.evaluation import evaluate as evaluate, predict as predict
from funcnn.training.events import tensorboard as tensorboard
from funcnn.training.gradients import value_and_grad as value_and_grad
from funcnn.training.loop import (
    Epoch as Epoch,
    FitResult as FitResult,
    fit as fit,
)
from funcnn.training.state import (
    TrainState as TrainState,
    train_state as train_state,
    train_step as train_step,
)
