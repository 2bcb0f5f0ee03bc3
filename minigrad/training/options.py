"""Everything that decides what a training computes, as plain values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import models
from minigrad.data.registry import resolve_name
from minigrad.data.standard import AUGMENTATIONS, NORMALIZATIONS
from minigrad.training.mixed import AMP
from minigrad.training.recipes import OPTIMIZERS, SCHEDULES, Recipe, default_for, published

__all__ = ["Options"]

NUMBERS_FROM_ZERO = ("lr", "momentum", "weight_decay", "gamma", "warmup", "mixup", "cutmix")


@dataclass(frozen=True)
class Options(Recipe):
    """A recipe and what else is asked for; kept in the run's ``config.json`` and checkpoints.

    ``recipe``: the name of the published recipe that it began with. ``weights``: a file to begin with; a last layer for other
    classes is left out of it. ``freeze_until``: the module up to which nothing is learned, ``head_only``: only the last layer
    is, on features computed once and without augmentation; ``lr_factor``: each part of the model has this times the rate of the
    next one (see ``transfer.py``). ``grey_as_color``: grey images are given to the model three times over, as colors; None: if
    the weights to begin with are for colors. ``instances``: masks hold numbers of cells, not classes (see
    ``data.SegmentationDataset``). ``train_images``: so many of the training images, drawn by the seed. ``amp``: "fp16" or "bf16",
    mixed precision.
    """

    recipe: str | None = None
    data_dir: str | None = None
    image_size: int | None = None
    seed: int = 0
    device: str = "cpu"
    weights: str | None = None
    freeze_until: str | None = None
    head_only: bool = False
    lr_factor: float = 1.0
    grey_as_color: bool | None = None
    instances: bool = False
    train_images: int | None = None
    amp: str | None = None

    @classmethod
    def resolve(cls, **given: Any) -> Options:
        """The options that are given and not None; the rest from the recipe that is named, or from the one for the data set.

        Another model than the recipe's does not take over its ``model_options``; another number of epochs draws the schedule
        together. Raises ValueError on bad values.
        """
        given = {name: value for name, value in given.items() if value is not None}
        model = given.get("model")
        if model is not None:
            models.info(model)
        if "recipe" in given:
            recipe = published(given["recipe"])
            recipe = recipe if model in (None, recipe.model) else recipe.for_model(model)
            name = resolve_name(given.get("data", recipe.data))
        else:
            name = resolve_name(given.get("data", "digits"))
            recipe = default_for(name, model)
        if isinstance(given.get("epochs"), int) and given["epochs"] > 0:
            recipe = recipe.for_epochs(given["epochs"])
        given["model_options"] = {**recipe.model_options, **given.get("model_options", {})}
        options = cls(**{**dataclasses.asdict(recipe), **given, "data": name})
        options.check()
        return options

    @classmethod
    def from_config(cls, saved: Any, **changes: Any) -> Options:
        """The options that a run has kept, of this version or an earlier one. Raises TypeError if they are none."""
        saved = {**saved, **changes}
        if isinstance(saved.get("augment"), bool):  # as it was before there were several augmentations
            saved["augment"] = "standard" if saved["augment"] else "none"
        options = cls(**saved)
        options.check()
        return options

    def check(self) -> None:
        """Raise ValueError, naming the option, if a value is out of range."""
        for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in NUMBERS_FROM_ZERO:
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        for name, allowed in (
            ("schedule", SCHEDULES),
            ("optimizer", OPTIMIZERS),
            ("augment", AUGMENTATIONS),
            ("normalize", NORMALIZATIONS),
            ("amp", (None, *AMP)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(filter(None, allowed))}, got {getattr(self, name)!r}")
        if self.train_images is not None and self.train_images < 1:
            raise ValueError(f"train_images must be at least 1, got {self.train_images}")
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.head_only and self.freeze_until is not None:
            raise ValueError("head_only freezes everything but the last layer: leave freeze_until out")
        if (self.head_only or self.freeze_until is not None) and self.weights is None:
            raise ValueError("a part that is frozen before it has learned anything learns nothing: give weights as well")
        if not 0 < self.lr_factor <= 1:
            raise ValueError(f"lr_factor must be above 0 and at most 1, got {self.lr_factor}")
        if self.warmup and self.schedule in ("one-cycle", "plateau"):
            reason = "begins with a warm-up of its own" if self.schedule == "one-cycle" else "follows the loss, not the epoch"
            raise ValueError(f"warmup does not go with the schedule {self.schedule}, which {reason}")
        if self.instances and self.data != "masks":
            raise ValueError("instances is for the data set masks")
        if self.ema and self.head_only:
            raise ValueError("ema averages a model that learns as a whole: leave it out with head_only")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov needs the optimizer sgd and a momentum above 0")
        if self.mixup and self.cutmix:
            raise ValueError("give mixup or cutmix, not both")
