"""The optimizer, schedule, loss and mixing that options ask for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from minigrad.data import CutMix, Mixup
from minigrad.nn import Module
from minigrad.nn.functional import cross_entropy
from minigrad.optim import SGD, Adam, AdamW, Optimizer, RMSprop, lr_scheduler
from minigrad.training.options import Options
from minigrad.training.transfer import parameter_groups

__all__ = ["make_loss", "make_mixing", "make_optimizer", "make_schedule"]

WARMUP_START = 0.1  # of the rate


def make_optimizer(options: Options, model: Module) -> Optimizer:
    """The optimizer of the parameters of ``model`` that are not frozen."""
    groups = parameter_groups(model, options.lr, options.lr_factor) if options.lr_factor < 1 else _one_group(model)
    if not options.decay_all:
        groups = [part for group in groups for part in _without_decay(group)]
    common = {"lr": options.lr, "weight_decay": options.weight_decay}
    eps = {} if options.eps is None else {"eps": options.eps}
    if options.optimizer == "sgd":
        return SGD(groups, momentum=options.momentum, nesterov=options.nesterov, **common)
    if options.optimizer == "rmsprop":
        return RMSprop(groups, alpha=0.9, momentum=options.momentum, eps_inside_sqrt=True, **eps, **common)
    return (Adam if options.optimizer == "adam" else AdamW)(groups, **eps, **common)


def _one_group(model: Module) -> list[dict[str, Any]]:
    return [{"params": [(name, p) for name, p in model.named_parameters() if p.requires_grad]}]


def _without_decay(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The group in two: weights, and without weight decay what has one axis (biases and normalizations)."""
    weights = [(name, p) for name, p in group["params"] if p.ndim > 1]
    others = [(name, p) for name, p in group["params"] if p.ndim <= 1]
    parts = [{**group, "params": weights}, {**group, "params": others, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]


def make_schedule(options: Options, optimizer: Optimizer, steps_per_epoch: int) -> lr_scheduler.LRScheduler | None:
    """The schedule of the learning rate; all but "one-cycle" are stepped after each epoch."""
    if options.schedule == "one-cycle":
        steps = options.epochs * steps_per_epoch
        rates = [group["lr"] for group in optimizer.param_groups]
        cycled = options.momentum > 0 or options.optimizer in ("adam", "adamw")  # of Adam it is the first beta
        return lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, cycle_momentum=cycled)
    if options.schedule == "plateau":
        patience = max(0, math.ceil(options.every) - 1)
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=options.gamma, patience=patience)
    warmup = round(options.warmup)
    if options.schedule == "cosine":
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, options.epochs - warmup))
        if not warmup:
            return cosine
        rise = lr_scheduler.LinearLR(optimizer, WARMUP_START, total_iters=warmup)
        return lr_scheduler.SequentialLR(optimizer, [rise, cosine], milestones=[warmup])
    if options.schedule == "exponential":
        return lr_scheduler.LambdaLR(optimizer, Staircase(options.gamma, options.every, warmup))
    if options.schedule == "constant":
        return lr_scheduler.LinearLR(optimizer, WARMUP_START, total_iters=warmup) if warmup else None
    given = options.milestones or (options.epochs / 2, options.epochs * 3 / 4)
    steps = lr_scheduler.MultiStepLR(optimizer, [max(1, round(m)) for m in given], options.gamma)
    if not warmup:
        return steps
    rise = lr_scheduler.LinearLR(optimizer, WARMUP_START, total_iters=warmup)
    return lr_scheduler.ChainedScheduler([steps, rise])


class Staircase:
    """``gamma`` to the power of the whole number of times that ``every`` epochs have passed, after a rise over ``warmup``."""

    def __init__(self, gamma: float, every: float, warmup: int = 0) -> None:
        self.gamma, self.every, self.warmup = gamma, every, warmup

    def __call__(self, epoch: int) -> float:
        rise = WARMUP_START + (1 - WARMUP_START) * min(1.0, epoch / self.warmup) if self.warmup else 1.0
        return rise * self.gamma ** math.floor(epoch / self.every + 1e-9)


def make_loss(options: Options) -> Callable:
    """The loss of training: cross entropy, with smoothed labels where the options say so."""
    smoothing = options.label_smoothing
    return functools.partial(cross_entropy, label_smoothing=smoothing) if smoothing else cross_entropy


def make_mixing(options: Options, num_classes: int) -> Callable | None:
    """What mixes the images of a batch, and their classes, in pairs; None if nothing does."""
    if options.mixup:
        return Mixup(options.mixup, num_classes)
    return CutMix(options.cutmix, num_classes) if options.cutmix else None
