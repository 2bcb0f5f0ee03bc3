"""A training job from plain options: model, data, optimizer and schedule. ``minigrad train`` and ``eval`` are made of this."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import data, models
from minigrad.autograd import no_grad
from minigrad.data.registry import resolve_name
from minigrad.data.transforms import Compose
from minigrad.nn import Module
from minigrad.optim import SGD, lr_scheduler
from minigrad.random import manual_seed
from minigrad.tensor import Tensor
from minigrad.training.evaluation import evaluation_mode
from minigrad.training.recipes import SCHEDULES, recipe_for
from minigrad.training.transfer import HeadOnly, cached_features, freeze_until
from minigrad.weights import load_weights

__all__ = ["Job", "Options"]


@dataclass(frozen=True)
class Options:
    """Everything that decides what a run computes; plain values, kept in the run's ``config.json`` and checkpoints.

    ``weights``: a file to begin with; a last layer for other classes is left out of it. ``freeze_until``: the module up to
    which nothing is learned, ``head_only``: only the last layer is, on features computed once and without augmentation
    (see ``transfer.py``). ``train_images``: so many of the training images, drawn by the seed.
    """

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
    weights: str | None = None
    freeze_until: str | None = None
    head_only: bool = False
    train_images: int | None = None

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
        if self.train_images is not None and self.train_images < 1:
            raise ValueError(f"train_images must be at least 1, got {self.train_images}")
        if self.head_only and self.freeze_until is not None:
            raise ValueError("head_only freezes everything but the last layer: leave freeze_until out")
        if (self.head_only or self.freeze_until is not None) and self.weights is None:
            raise ValueError("a part that is frozen before it has learned anything learns nothing: give weights as well")
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
        shape = _image_shape(options, test.image_shape)
        self.model = models.create(options.model, num_classes=len(self.classes), in_channels=shape[0])
        self.size = _input_size(self.model, options, shape)
        self.report = None  # of what was loaded
        if training and options.weights is not None:
            self.report = load_weights(self.model, options.weights, strict=False)
        if options.freeze_until is not None:
            freeze_until(self.model, options.freeze_until)
        self.model.to(options.device)
        self.test_loader = self._loader(test, num_workers, False)
        if not training:
            return
        train = _training_part(_data_set(options, train=True), options)
        self.train_loader = self._loader(train, num_workers, True)
        self.learner: Module = self.model  # what is trained
        if options.head_only:
            self.learner = HeadOnly(self.model)
            still = data.DataLoader(train, 256, num_workers=num_workers, transform=self._transform(train, False))
            features = cached_features(self.model, still), cached_features(self.model, self.test_loader)
            self.train_loader = data.DataLoader(features[0], options.batch_size, shuffle=True, seed=options.seed)
            self.test_loader = data.DataLoader(features[1], 256)
        learned = [(name, p) for name, p in self.learner.named_parameters() if p.requires_grad]
        self.optimizer = SGD(learned, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay)
        self.scheduler = _schedule(options, self.optimizer, len(self.train_loader))

    def _loader(self, images: Any, num_workers: int, train: bool) -> data.DataLoader:
        options = self.options
        shuffled = {"batch_size": options.batch_size, "shuffle": True, "seed": options.seed} if train else {"batch_size": 256}
        transform = self._transform(images, train and options.augment)
        return data.DataLoader(images, num_workers=num_workers, transform=transform, **shuffled)

    def _transform(self, images: Any, augment: bool) -> Compose:
        whole = images.dataset if isinstance(images, data.Subset) else images
        steps = data.standard_transforms(whole, train=augment, size=self.size)
        return Compose([steps, _grey_as_color]) if self.options.weights is not None else steps

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
        learned = sum(p.numel() for p in self.learner.parameters() if p.requires_grad)
        c, h, w = _data_set(self.options, train=False).image_shape
        train, test = len(self.train_loader.dataset), len(self.test_loader.dataset)
        begun = f", from {self.options.weights}: {str(self.report).replace(chr(10), '; ')}" if self.report else ""
        frozen = f", of which {learned:,} learn" if learned < count else ""
        return (
            f"model  {self.options.model}, {count:,} parameters{frozen}{begun}\n"
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


def _training_part(train: Any, options: Options) -> Any:
    """All training images, or as many of them as the options say, drawn by the seed."""
    if options.train_images is None:
        return train
    if options.train_images > len(train):
        raise ValueError(f"train_images must be at most {len(train)}, the training images of {options.data}")
    drawn = np.random.Generator(np.random.Philox(options.seed)).permutation(len(train))[: options.train_images]
    return data.Subset(train, np.sort(drawn))


def _image_shape(options: Options, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(C, H, W) of what the model sees: a network that was trained on colors sees grey images as such."""
    made_for = models.info(options.model).input_shape
    grey_as_color = options.weights is not None and image_shape[0] == 1 and made_for[0] == 3
    return (3, *image_shape[1:]) if grey_as_color else image_shape


def _grey_as_color(images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """(N, 1, H, W) with its one channel three times; color images as they are."""
    return np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images


def _input_size(model: Module, options: Options, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width that the model is given: the images' own if it takes them, else those it was made for.

    A network that was trained already gets what it was made for, if smaller images can be padded to that.
    """
    name = options.model
    own, made_for = image_shape[1:], models.info(name).input_shape[1:]
    smaller = all(0 <= m - n <= n // 2 and (m - n) % 2 == 0 for m, n in zip(made_for, own, strict=True))
    if options.weights is not None and smaller:
        return made_for
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
