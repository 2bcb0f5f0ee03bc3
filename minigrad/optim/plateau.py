"""The schedule that watches a measure of success."""

from __future__ import annotations

import math
from collections.abc import Sequence

from minigrad.optim.optimizer import Optimizer, check_count, check_number
from minigrad.optim.schedule import LRScheduler, check_optimizer, for_groups

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by ``factor`` when a measure has not improved for more than ``patience`` epochs.

    Call ``step(value)`` after each epoch with the measure, for example the test loss.

    ``mode``            "min" (a loss) or "max" (an accuracy)
    ``threshold``       improvements smaller than this do not count: a part of the best value ("rel") or a difference ("abs")
    ``threshold_mode``  "rel" or "abs"
    ``cooldown``        epochs after a reduction during which none is counted as bad
    ``min_lr``          the rate does not fall below this (a list gives one for each group)
    ``eps``             reductions that are not larger than this are left out
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ):
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max", got {mode!r}')
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f'threshold_mode must be "rel" or "abs", got {threshold_mode!r}')
        self.factor = check_number(factor, "factor", low=0)
        if factor >= 1:
            raise ValueError(f"factor must be less than 1, got {factor}")
        self.optimizer = check_optimizer(optimizer)
        self.mode, self.threshold_mode = mode, threshold_mode
        self.patience, self.cooldown = check_count(patience, "patience", low=0), check_count(cooldown, "cooldown", low=0)
        self.threshold, self.eps = check_number(threshold, "threshold", low=0), check_number(eps, "eps", low=0)
        self.min_lrs = [check_number(lr, "min_lr", low=0) for lr in for_groups(min_lr, "min_lr", optimizer)]
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = self._rates()

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Take the measure of one more epoch into account. NaN counts as no improvement."""
        if len(self.min_lrs) != len(self.optimizer.param_groups):
            raise RuntimeError("the optimizer was given another parameter group: make the schedule again")
        current = float(metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._rates()

    def _is_better(self, value: float) -> bool:
        if self.threshold_mode == "rel":
            return value < self.best * (1 - self.threshold) if self.mode == "min" else value > self.best * (1 + self.threshold)
        return value < self.best - self.threshold if self.mode == "min" else value > self.best + self.threshold

    def _reduce(self) -> None:
        for group, low in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lr = max(group["lr"] * self.factor, low)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr
