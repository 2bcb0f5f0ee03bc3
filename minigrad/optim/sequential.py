"""Schedules one after the other, and several at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from minigrad.optim.optimizer import Optimizer, check_count
from minigrad.optim.plateau import ReduceLROnPlateau
from minigrad.optim.schedule import LRScheduler, check_optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Composite(LRScheduler):
    """Base of schedules that are made of others, ``_schedulers``."""

    _schedulers: list[LRScheduler]

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer) -> None:
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
                raise TypeError(f"schedulers[{i}] must be a schedule of the epoch, got {type(scheduler).__name__}")
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"schedulers[{i}] belongs to another optimizer")
        self._schedulers = list(schedulers)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        schedulers = self._schedulers
        super().load_state_dict(state_dict)
        for scheduler, state in zip(schedulers, self._schedulers, strict=True):
            scheduler.load_state_dict(state)
        self._schedulers = schedulers

    def check_state(self, state_dict: dict[str, Any]) -> None:
        super().check_state(state_dict)
        if len(state_dict["_schedulers"]) != len(self._schedulers):
            raise ValueError(
                f"state_dict is one of {len(state_dict['_schedulers'])} schedules, there are {len(self._schedulers)}"
            )
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.check_state(state)


class SequentialLR(_Composite):
    """Follows ``schedulers[0]`` until the first of the ``milestones``, then ``schedulers[1]``, and so on.

    ``schedulers``  schedules of the same optimizer, each counting its own epochs from 0
    ``milestones``  the epochs at which the next one begins: one fewer than schedules, increasing
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1):
        self.optimizer = check_optimizer(optimizer)
        self._milestones = [check_count(m, "milestones") for m in milestones]
        if len(schedulers) < 1 or len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"milestones must be one fewer than schedulers, got {len(milestones)} milestones for {len(schedulers)} schedulers"
            )
        if any(a >= b for a, b in zip(self._milestones, self._milestones[1:], strict=False)):
            raise ValueError(f"milestones must increase, got {list(milestones)}")
        self._take(schedulers, optimizer)
        self.last_epoch = check_count(last_epoch, "last_epoch", low=-1) + 1
        # Making the schedules has set the rate once for each of them: back to the start, then only the first one's first step.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo(self._schedulers)
        self._schedulers[0]._initial_step()
        self._last_lr = self._schedulers[0].get_last_lr()

    def step(self) -> None:
        """Let the schedule whose turn it is set the next rates."""
        epoch = self.last_epoch + 1
        index = bisect_right(self._milestones, epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == epoch:
            scheduler._set(0, closed_form=True)
        else:
            scheduler.step()
        self.last_epoch, self._last_lr = epoch, scheduler.get_last_lr()


class ChainedScheduler(_Composite):
    """Lets several schedules act on the rate at once: each multiplies what the ones before it have left.

    ``schedulers``  schedules of the same optimizer. Those that set the rate whatever it is (LambdaLR, OneCycleLR,
                    CosineAnnealingWarmRestarts) only make sense in the first place
    ``optimizer``   their optimizer; it need not be given
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None):
        if len(schedulers) < 1:
            raise ValueError("schedulers is empty: give at least one schedule")
        self.optimizer = check_optimizer(getattr(schedulers[0], "optimizer", None) if optimizer is None else optimizer)
        self._take(schedulers, self.optimizer)
        self.last_epoch, self._last_lr = 0, self._rates()

    def step(self) -> None:
        """Let every schedule change the rates, in their order."""
        for scheduler in self._schedulers:
            scheduler.step()
        self.last_epoch, self._last_lr = self.last_epoch + 1, self._rates()

    def _initial_step(self) -> None:
        """Begin again; a SequentialLR asks for it when this schedule's turn comes."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _begin(self._schedulers)
        self.last_epoch, self._last_lr = 0, self._rates()

    def _set(self, epoch: int, closed_form: bool = False) -> None:
        self._initial_step()


def _begin(schedulers: list[LRScheduler]) -> None:
    """Take the first step of each schedule again, and of those that it is made of."""
    for scheduler in schedulers:
        if isinstance(scheduler, _Composite):
            scheduler.last_epoch = 0
            _begin(scheduler._schedulers[:1] if isinstance(scheduler, SequentialLR) else scheduler._schedulers)
        else:
            scheduler.last_epoch = -1
            scheduler._initial_step()


def _undo(schedulers: list[LRScheduler]) -> None:
    """Take back the first step of each schedule, and of those that it is made of."""
    for scheduler in schedulers:
        if isinstance(scheduler, _Composite):
            _undo(scheduler._schedulers)
        else:
            scheduler.last_epoch -= 1
