"""A training job from plain options: model, data, optimizer and schedule. ``minigrad train`` and ``eval`` are made of this."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from minigrad import data, models
from minigrad.device import device
from minigrad.nn import Module
from minigrad.nn.functional import cross_entropy
from minigrad.optim import ExponentialMovingAverage
from minigrad.random import manual_seed
from minigrad.training import images
from minigrad.training.options import Options
from minigrad.training.segmentation import PixelLoss
from minigrad.training.setting_up import make_loss, make_mixing, make_optimizer, make_schedule
from minigrad.training.transfer import HeadOnly, cached_features, check_frozen, freeze_until, head_of
from minigrad.weights import load_weights

__all__ = ["Job"]


class Job:
    """What ``options`` describe, ready for ``fit``: ``model``, ``train_loader``, ``test_loader``, ``optimizer``, ``scheduler``.

    The initial weights, the order of the samples and the augmentation derive from ``options.seed``.
    ``classes``: the names of the classes (given: those that a run has kept, for data whose pixels have classes).
    ``learner``: what is trained. ``additions``: further arguments of ``fit``. ``training=False`` leaves out what only training
    needs.
    """

    def __init__(self, options: Options, num_workers: int = 0, training: bool = True, classes: list[str] | None = None):
        test = images.data_set(options, train=False)
        train = images.data_set(options, train=True) if training else None
        if options.grey_as_color is None:
            options = dataclasses.replace(options, grey_as_color=images.sees_colors(options, test, look=training))
        self.options = options
        self.classes = list(test.classes)
        if images.has_masks(test):  # a class of pixels may occur in one part only
            self.classes = classes or max(self.classes, list(train.classes) if training else [], key=len)
        self.image_shape = test.image_shape
        manual_seed(options.seed)
        shape = images.shape_of_input(options, test)
        self.model = models.create(options.model, len(self.classes), shape[0], **options.model_options)
        self.transform = images.Preparation(options, test, self.model, shape)
        self.report = None  # of what was loaded
        if training and options.weights is not None:
            self.report = load_weights(self.model, options.weights, strict=False)
        frozen = [] if options.freeze_until is None else freeze_until(self.model, options.freeze_until)
        if options.head_only:
            last = head_of(self.model)[0]
            frozen = [name for name, _ in self.model.named_parameters() if not name.startswith(f"{last}.")]
        if self.report is not None:
            check_frozen(frozen, self.report, options.weights)
        self.model.to(options.device)
        self.loss, self.test_loss = self._losses(test)
        ahead = {"num_workers": num_workers, "pin_memory": device(options.device).type == "cuda"}
        self.test_loader = data.DataLoader(test, images.evaluation_batch(test), transform=self.transform.for_test(), **ahead)
        if training:
            self._prepare_training(images.training_part(train, options), ahead)

    def _losses(self, test: Any) -> tuple[Callable, Callable]:
        if images.has_masks(test):
            loss = PixelLoss(test.instances, sigma=images.scaled(5, test))
            return loss, loss
        return make_loss(self.options), cross_entropy

    def _prepare_training(self, train: Any, ahead: dict[str, Any]) -> None:
        options = self.options
        order = {"batch_size": options.batch_size, "shuffle": True, "seed": options.seed}
        self.learner: Module = self.model
        if options.head_only:
            self.learner = HeadOnly(self.model)
            still = data.DataLoader(train, 256, transform=self.transform.for_test(), **ahead)
            features = cached_features(self.model, still), cached_features(self.model, self.test_loader)
            self.train_loader = data.DataLoader(features[0], **order)
            self.test_loader = data.DataLoader(features[1], 256)
        else:
            self.train_loader = data.DataLoader(train, transform=self.transform.for_training(), **ahead, **order)
        self.optimizer = make_optimizer(options, self.learner)
        self.scheduler = make_schedule(options, self.optimizer, len(self.train_loader))
        self.additions: dict[str, Any] = {"loss": self.loss, "test_loss": self.test_loss}
        if options.amp:
            self.additions["amp"] = options.amp
        if options.mixup or options.cutmix:
            if images.has_masks(train) or options.head_only:
                raise ValueError("mixup and cutmix mix images that have one class each: leave them out here")
            self.additions["mixing"] = make_mixing(options, len(self.classes))
        if options.ema:
            self.additions["ema"] = ExponentialMovingAverage(self.learner, options.ema)

    @property
    def config(self) -> dict[str, Any]:
        """What goes into the run's records: enough to make the same job again."""
        title = f"{self.options.model} on {self.options.data}"
        return {"title": title, "options": dataclasses.asdict(self.options), "classes": self.classes}

    @classmethod
    def from_config(cls, config: dict[str, Any], num_workers: int = 0, training: bool = True, **changes: Any) -> Job:
        """The job that a run's records describe. Raises ValueError if they are not those of ``minigrad train``."""
        try:
            options = Options.from_config(config["options"], **changes)
        except (TypeError, KeyError):
            raise ValueError("it was not written by minigrad train: its options are missing") from None
        return cls(options, num_workers, training, config.get("classes"))

    def describe(self) -> str:
        """Two or three lines of text: the model, the data and the recipe."""
        options = self.options
        count = sum(p.numel() for p in self.model.parameters())
        learned = sum(p.numel() for p in self.learner.parameters() if p.requires_grad)
        c, h, w = self.image_shape
        train, test = len(self.train_loader.dataset), len(self.test_loader.dataset)
        begun = f", from {options.weights}: {str(self.report).replace(chr(10), '; ')}" if self.report else ""
        frozen = f", of which {learned:,} learn" if learned < count else ""
        recipe = f"\nrecipe {options.recipe}: {options.source}" if options.recipe else ""
        return (
            f"model  {options.model}, {count:,} parameters{frozen}{begun}\n"
            f"data   {options.data}: {train:,} training and {test:,} test images of {c} x {h} x {w} "
            f"in {len(self.classes)} classes{recipe}"
        )
