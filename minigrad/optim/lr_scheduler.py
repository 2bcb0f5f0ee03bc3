"""Learning-rate schedules. Call ``scheduler.step()`` after each epoch (OneCycleLR: after each batch).

The names, arguments and values are those of ``torch.optim.lr_scheduler``. Most schedules compute the next rate from the present
one, as PyTorch's do, so that several can act on one optimizer and a rate that was changed by hand stays changed.
Everything a schedule remembers is plain numbers and lists, so its ``state_dict`` can be written as JSON.
"""

from minigrad.optim.one_cycle import OneCycleLR
from minigrad.optim.plateau import ReduceLROnPlateau
from minigrad.optim.schedule import LRScheduler
from minigrad.optim.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from minigrad.optim.sequential import ChainedScheduler, SequentialLR

_LRScheduler = LRScheduler  # the base class's name before PyTorch 2.0

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
