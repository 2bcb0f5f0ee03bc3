"""The one-cycle schedule of learning rate and momentum."""

from __future__ import annotations

import math
from collections.abc import Sequence

from minigrad.optim.optimizer import Optimizer, check_count, check_number
from minigrad.optim.schedule import LRScheduler, check_optimizer, for_groups

__all__ = ["OneCycleLR"]


class OneCycleLR(LRScheduler):
    """One rise of the rate to ``max_lr`` and a long fall, while the momentum falls and rises again. Step it after every batch.

    ``max_lr``            the highest rate (a list gives one for each group)
    ``total_steps``       steps of the whole training; or give ``epochs`` and ``steps_per_epoch``
    ``pct_start``         the part of the steps during which the rate rises, 0 ... 1
    ``anneal_strategy``   "cos" or "linear"
    ``cycle_momentum``    whether the momentum (of Adam: the first of ``betas``) goes from ``max_momentum`` to ``base_momentum``
                          and back
    ``div_factor``        the rate starts at max_lr / div_factor ...
    ``final_div_factor``  ... and ends at that divided by final_div_factor
    ``three_phase``       fall back to the start as fast as it rose, then fall to the end

    ``step()`` raises ValueError when it is called more than ``total_steps`` times. Source: Smith and Topin, Super-convergence:
    very fast training of neural networks using large learning rates, 2018.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        check_optimizer(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("give total_steps, or both epochs and steps_per_epoch")
            total_steps = check_count(epochs, "epochs") * check_count(steps_per_epoch, "steps_per_epoch")
        self.total_steps = check_count(total_steps, "total_steps")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f'anneal_strategy must be "cos" or "linear", got {anneal_strategy!r}')
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, bool(cycle_momentum)
        if self.cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise ValueError(f"cycle_momentum=True needs an optimizer with momentum, {type(optimizer).__name__} has none")
        self.phases = _phases(check_number(pct_start, "pct_start", low=0, high=1), self.total_steps, bool(three_phase))

        div_factor = _positive(div_factor, "div_factor")
        final_div_factor = _positive(final_div_factor, "final_div_factor")
        groups = optimizer.param_groups
        tops, lows, highs = (
            [check_number(v, name, low=0) for v in for_groups(value, name, optimizer)]
            for value, name in ((max_lr, "max_lr"), (base_momentum, "base_momentum"), (max_momentum, "max_momentum"))
        )
        if last_epoch == -1:
            for group, top, low, high in zip(groups, tops, lows, highs, strict=True):
                initial = top / div_factor
                group.update(initial_lr=initial, max_lr=top, min_lr=initial / final_div_factor)
                if self.cycle_momentum:
                    group.update(max_momentum=high, base_momentum=low)
                    _set_momentum(group, high)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"this schedule has {self.total_steps} steps and is over: make it longer with total_steps=")
        starts = [0.0, *(phase[0] for phase in self.phases[:-1])]
        for start, (end, *names) in zip(starts, self.phases, strict=True):  # noqa: B007 (the last phase stays if none is found)
            if self.last_epoch <= end:
                break
        part = (self.last_epoch - start) / (end - start) if end > start else 1.0
        anneal = _cosine if self.anneal_strategy == "cos" else _linear
        start_lr, end_lr, start_momentum, end_momentum = names
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                _set_momentum(group, anneal(group[start_momentum], group[end_momentum], part))
        return [anneal(group[start_lr], group[end_lr], part) for group in self.optimizer.param_groups]


def _set_momentum(group: dict, value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def _phases(rise: float, total_steps: int, three_phase: bool) -> list[list]:
    """For each phase: its last step; the rates at its two ends, and the momenta, by their names in the groups."""
    up = [rise * total_steps - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum"]
    if not three_phase:
        return [up, [total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum"]]
    down = [2 * rise * total_steps - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"]
    return [up, down, [total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"]]


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)


def _linear(start: float, end: float, part: float) -> float:
    return (end - start) * part + start


def _positive(value: float, name: str) -> float:
    if check_number(value, name, low=0) == 0:
        raise ValueError(f"{name} must be greater than 0")
    return value
