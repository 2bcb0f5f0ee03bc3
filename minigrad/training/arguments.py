"""Checks of the arguments of ``fit``: each raises one error that names the argument, before anything is done."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np

from minigrad.nn import Module
from minigrad.optim import ExponentialMovingAverage, Optimizer
from minigrad.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

__all__ = [
    "check_additions",
    "check_clip_norm",
    "check_count",
    "check_parts",
    "check_schedule_length",
    "parse_interval",
    "steps_each_batch",
]


def check_parts(model, train_loader, test_loader, optimizer, scheduler, loss) -> None:
    """Raise TypeError or ValueError unless each of the things that are trained together is of its kind."""
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, got {type(model).__name__}")
    for name, loader in (("train_loader", train_loader), ("test_loader", test_loader)):
        missing = loader is None and name == "test_loader"
        if not missing and not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
            raise TypeError(f"{name} must give batches when it is iterated over, got {type(loader).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be an Optimizer such as mg.optim.SGD, got {type(optimizer).__name__}")
    if scheduler is not None and not isinstance(scheduler, LRScheduler):
        raise TypeError(f"scheduler must be a schedule of mg.optim.lr_scheduler, got {type(scheduler).__name__}")
    if scheduler is not None and scheduler.optimizer is not optimizer:
        raise ValueError("scheduler belongs to another optimizer")
    if not {id(p) for p in model.parameters()} & {id(p) for group in optimizer.param_groups for p in group["params"]}:
        raise ValueError("optimizer holds no parameter of model: make it from model.parameters()")
    if not callable(loss):
        raise TypeError(f"loss must be a function (scores, classes) -> loss, got {type(loss).__name__}")


def check_additions(model, test_loss, mixing, ema) -> None:
    """Raise TypeError or ValueError unless what may be added to a training is of its kind."""
    for name, value in (("test_loss", test_loss), ("mixing", mixing)):
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be a function or None, got {type(value).__name__}")
    if ema is not None and not isinstance(ema, ExponentialMovingAverage):
        raise TypeError(f"ema must be an optim.ExponentialMovingAverage, got {type(ema).__name__}")
    if ema is not None and ema.model is not model:
        raise ValueError("ema averages another model: make it from the model that is trained")


def parse_interval(value: int | str) -> tuple[float, float]:
    """(steps, seconds) between checkpoints from a number of steps (50, "50") or of seconds ("60s"); the other is infinite."""
    text = str(value).strip()
    number, unit = (text[:-1], "s") if text.endswith("s") else (text, "")
    try:
        amount = float(number) if unit else int(number)
    except ValueError:
        amount = math.nan
    if isinstance(value, bool) or not amount > 0:
        raise ValueError(f'checkpoint_every must be a number of steps such as 50, or of seconds such as "60s", got {value!r}')
    return (math.inf, amount) if unit else (amount, math.inf)


def steps_each_batch(scheduler_step: str, scheduler: LRScheduler | None) -> bool:
    """Whether the schedule is stepped after every batch, not after every epoch."""
    if scheduler_step not in ("auto", "epoch", "step"):
        raise ValueError(f'scheduler_step must be "auto", "epoch" or "step", got {scheduler_step!r}')
    if scheduler_step == "step" and isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError('scheduler_step="step" does not go with ReduceLROnPlateau, which looks at the loss of each epoch')
    return scheduler is not None and (
        scheduler_step == "step" or (scheduler_step == "auto" and isinstance(scheduler, OneCycleLR))
    )


def check_schedule_length(scheduler: LRScheduler | None, steps: float) -> None:
    """Raise ValueError if a OneCycleLR would be over before ``steps`` steps in all (infinite: their number is not known)."""
    if isinstance(scheduler, OneCycleLR) and math.isfinite(steps) and steps > scheduler.total_steps:
        raise ValueError(
            f"scheduler has total_steps={scheduler.total_steps}, but this training takes {steps} steps: "
            f"give it total_steps={steps}"
        )


def check_count(value: int, name: str) -> int:
    """``value`` as an integer of at least 1."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(value)


def check_clip_norm(value: float | None) -> float | None:
    """``value``, which must be positive, or None."""
    if value is not None and (not isinstance(value, Real) or isinstance(value, bool) or not value > 0):
        raise ValueError(f"clip_norm must be a number greater than 0, or None, got {value!r}")
    return value
