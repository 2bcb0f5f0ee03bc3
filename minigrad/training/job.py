"""A training job from plain options: model, data, optimizer and schedule. ``minigrad train`` and ``eval`` are made of this."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import data, models
from minigrad.autograd import no_grad
from minigrad.data.registry import resolve_name
from minigrad.nn import Module
from minigrad.optim import SGD, lr_scheduler
from minigrad.random import manual_seed
from minigrad.tensor import Tensor
from minigrad.training.evaluation import evaluation_mode
from minigrad.training.recipes import SCHEDULES, recipe_for

__all__ = ["Job", "Options"]


@dataclass(frozen=True)
class Options:
    """Everything that decides what a run computes; plain values, kept in the run's ``config.json`` and checkpoints."""

    data: str
    model: str
    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    augment: bool
    data_dir: str | None = None
    image_size: int | None = None
    seed: int = 0
    device: str = "cpu"

    @classmethod
    def resolve(cls, **given: Any) -> Options:
        """The options that are given and not None; the rest from the recipe for the data set. Raises ValueError on bad ones."""
        given = {name: value for name, value in given.items() if value is not None}
        name = resolve_name(given.get("data", "digits"))
        model = given.get("model")
        if model is not None:
            models.info(model)
        recipe = dataclasses.asdict(recipe_for(name, model))
        options = cls(**{**recipe, **given, "data": name})
        options.check()
        return options

    def check(self) -> None:
        """Raise ValueError, naming the option, if a value is out of range."""
        for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("lr", "momentum", "weight_decay"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")


class Job:
    """What ``options`` describe, ready for ``fit``: ``model``, ``train_loader``, ``test_loader``, ``optimizer``, ``scheduler``.

    The initial weights, the order of the samples and the augmentation derive from ``options.seed``.
    ``classes``: the names of the classes. ``training=False`` leaves out what only training needs.
    """

    def __init__(self, options: Options, num_workers: int = 0, training: bool = True):
        self.options = options
        test = _data_set(options, train=False)
        self.classes = list(test.classes)
        manual_seed(options.seed)
        self.model = models.create(options.model, num_classes=len(self.classes), in_channels=test.image_shape[0])
        self.size = _input_size(self.model, options.model, test.image_shape)
        self.model.to(options.device)
        self.test_loader = data.DataLoader(
            test, 256, num_workers=num_workers, transform=data.standard_transforms(test, train=False, size=self.size)
        )
        if not training:
            return
        train = _data_set(options, train=True)
        self.train_loader = data.DataLoader(
            train,
            options.batch_size,
            shuffle=True,
            seed=options.seed,
            num_workers=num_workers,
            transform=data.standard_transforms(train, train=options.augment, size=self.size),
        )
        self.optimizer = SGD(
            self.model.named_parameters(), lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
        self.scheduler = _schedule(options, self.optimizer, len(self.train_loader))

    @property
    def config(self) -> dict[str, Any]:
        """What goes into the run's records: enough to make the same job again."""
        title = f"{self.options.model} on {self.options.data}"
        return {"title": title, "options": dataclasses.asdict(self.options), "classes": self.classes}

    @classmethod
    def from_config(cls, config: dict[str, Any], num_workers: int = 0, training: bool = True, **changes: Any) -> Job:
        """The job that a run's records describe. Raises ValueError if they are not those of ``minigrad train``."""
        options = config.get("options") if isinstance(config, dict) else None
        try:
            options = Options(**{**options, **changes})
            options.check()
        except TypeError:
            raise ValueError("it was not written by minigrad train: its options are missing") from None
        return cls(options, num_workers, training)

    def describe(self) -> str:
        """Two lines of text: the model and the data."""
        count = sum(p.numel() for p in self.model.parameters())
        c, h, w = self.test_loader.dataset.image_shape
        train, test = len(self.train_loader.dataset), len(self.test_loader.dataset)
        return (
            f"model  {self.options.model}, {count:,} parameters\n"
            f"data   {self.options.data}: {train:,} training and {test:,} test images of {c} x {h} x {w} "
            f"in {len(self.classes)} classes"
        )


def _data_set(options: Options, train: bool) -> Any:
    extra = {}
    if options.data == "folder":
        extra["size"] = options.image_size or models.info(options.model).input_shape[1:]
    elif options.image_size is not None:
        raise ValueError("image_size is for folders of images; the other data sets have one size")
    return data.create(options.data, options.data_dir, train, **extra)


def _input_size(model: Module, name: str, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width that the model is given: the images' own if it takes them, else those it was made for."""
    own, made_for = image_shape[1:], models.info(name).input_shape[1:]
    try:
        with evaluation_mode(model), no_grad():
            model(Tensor(np.zeros((1, *image_shape), np.float32)))
    except ValueError as error:
        if own[0] > made_for[0] or own[1] > made_for[1] or own == made_for:
            raise ValueError(f"{name} cannot take images of {own[0]} x {own[1]} ({error}): choose another model") from None
        return made_for
    return own


def _schedule(options: Options, optimizer: SGD, steps_per_epoch: int) -> lr_scheduler.LRScheduler | None:
    if options.schedule == "one-cycle":
        steps = options.epochs * steps_per_epoch
        return lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps, cycle_momentum=options.momentum > 0)
    if options.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)
    if options.schedule == "step":
        milestones = [max(1, options.epochs // 2), max(2, options.epochs * 3 // 4)]
        return lr_scheduler.MultiStepLR(optimizer, milestones)
    return None
