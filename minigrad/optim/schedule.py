"""The base of learning-rate schedules."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from minigrad.optim.optimizer import Optimizer, check_count

__all__ = ["LRScheduler"]


class LRScheduler:
    """Base of schedules: a subclass defines ``get_lr()``, the rate of each group for step ``last_epoch``.

    ``optimizer``   whose groups' "lr" is set; the rate that a group starts with is kept there as "initial_lr"
    ``last_epoch``  steps done so far; -1 starts afresh, a larger number needs groups that have an "initial_lr"
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        self.optimizer = check_optimizer(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"group {i} of the optimizer has no initial_lr: load the optimizer's state_dict first")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = check_count(last_epoch, "last_epoch", low=-1)
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        self.step()
        self._is_initial = False

    def get_lr(self) -> list[float]:
        """The learning rates of the groups for the step ``last_epoch``."""
        raise NotImplementedError(f"{type(self).__name__} must define get_lr()")

    def get_last_lr(self) -> list[float]:
        """The learning rates that were set last, one for each group."""
        return self._last_lr

    def step(self) -> None:
        """Set the next learning rates; nothing changes on an error."""
        if self._step_count == 1 and not self.optimizer.stepped:
            message = "lr_scheduler.step() was called before optimizer.step(): the first learning rate is skipped"
            warnings.warn(message, UserWarning, stacklevel=2)
        self._set(self.last_epoch + 1)
        self._step_count += 1

    def _set(self, epoch: int, closed_form: bool = False) -> None:
        before, self.last_epoch = self.last_epoch, epoch
        try:
            rates = self.closed_form() if closed_form and hasattr(self, "closed_form") else self.get_lr()
        except Exception:
            self.last_epoch = before
            raise
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = self._rates()

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _times(self, factor: float) -> list[float]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, whose own state_dict must be saved with it (it holds the present rates)."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken. Raises ValueError (and changes nothing) if it is another schedule's."""
        self.check_state(state_dict)
        self.__dict__.update(state_dict)

    def check_state(self, state_dict: dict[str, Any]) -> None:
        """Raise ValueError unless ``state_dict`` can be loaded."""
        ours = self.state_dict()
        if not isinstance(state_dict, dict) or state_dict.keys() != ours.keys():
            found = sorted(state_dict) if isinstance(state_dict, dict) else type(state_dict).__name__
            raise ValueError(f"state_dict is not one of {type(self).__name__}: it holds {found}, expected {sorted(ours)}")
        groups = len(state_dict["_last_lr"])
        if groups != len(self.optimizer.param_groups):
            raise ValueError(f"state_dict is for {groups} parameter groups, the optimizer has {len(self.optimizer.param_groups)}")


def check_optimizer(optimizer: Any) -> Optimizer:
    """``optimizer``, or a TypeError if it is none."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be an Optimizer, got {type(optimizer).__name__}")
    return optimizer


def for_groups(value: Any, name: str, optimizer: Optimizer) -> list:
    """``value`` once for each parameter group; a list or tuple must have one entry for each."""
    count = len(check_optimizer(optimizer).param_groups)
    if not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} must have one entry for each of the {count} parameter groups, got {len(value)}")
    return list(value)
