"""Training: gradients of a loss, one pure step, and a loop that people like to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funcnn._lazy import lazily

if TYPE_CHECKING:
    from funcnn.training.events import tensorboard
    from funcnn.training.gradients import value_and_grad
    from funcnn.training.loop import Epoch, FitResult, evaluate, fit, predict
    from funcnn.training.state import TrainState, train_state, train_step

__all__ = [
    "Epoch",
    "FitResult",
    "TrainState",
    "evaluate",
    "fit",
    "predict",
    "tensorboard",
    "train_state",
    "train_step",
    "value_and_grad",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "events": "tensorboard",
        "gradients": "value_and_grad",
        "loop": "Epoch FitResult evaluate fit predict",
        "state": "TrainState train_state train_step",
    },
)
