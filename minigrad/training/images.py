"""The images of a job: which ones, how large the model sees them, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import data, models
from minigrad.autograd import no_grad
from minigrad.data.standard import normalization, stored_size
from minigrad.models.unet import UNet
from minigrad.nn import Module, init
from minigrad.tensor import Tensor
from minigrad.training.evaluation import evaluation_mode
from minigrad.training.options import Options
from minigrad.training.smallest import smallest_hint
from minigrad.weights import load_weights

__all__ = ["Preparation", "data_set", "evaluation_batch", "has_masks", "scaled", "sees_colors", "shape_of_input", "training_part"]

SIZED = ("folder", "masks", "cells")  # data sets whose images can have any size


def data_set(options: Options, train: bool) -> Any:
    """The training or test images that the options name."""
    extra: dict[str, Any] = {}
    made_for = models.info(options.model).input_shape
    if options.data == "folder":
        size = (options.image_size,) * 2 if options.image_size else made_for[1:]
        extra["size"] = stored_size(size, options.augment)
    elif options.data == "masks":
        extra = {"size": options.image_size, "mode": "L" if made_for[0] == 1 else "RGB", "instances": options.instances}
    elif options.data == "cells":
        extra = {"size": options.image_size} if options.image_size else {}
    elif options.image_size is not None:
        raise ValueError(f"image_size is for {', '.join(SIZED)}; the other data sets have one size")
    return data.create(options.data, options.data_dir, train, **extra)


def has_masks(images: Any) -> bool:
    """Whether the images have a class for every pixel."""
    whole = images.dataset if isinstance(images, data.Subset) else images
    return isinstance(whole, data.SegmentationDataset)


def training_part(train: Any, options: Options) -> Any:
    """All training images, or as many of them as the options say, drawn by the seed."""
    if options.train_images is None:
        return train
    if options.train_images > len(train):
        raise ValueError(f"train_images must be at most {len(train)}, the training images of {options.data}")
    drawn = np.random.Generator(np.random.Philox(options.seed)).permutation(len(train))[: options.train_images]
    return data.Subset(train, np.sort(drawn))


def evaluation_batch(images: Any) -> int:
    """Images that are evaluated at once: about as many pixels as 256 images of 32 x 32, so that memory does not decide."""
    _, height, width = images.image_shape
    return int(np.clip(256 * 32 * 32 // max(1, height * width), 4, 256))


def scaled(pixels: float, images: Any) -> float:
    """A length that U-Net's paper gives for its images of 512 x 512, in pixels of these images."""
    return pixels * min(images.image_shape[1:]) / 512


def shape_of_input(options: Options, images: Any) -> tuple[int, int, int]:
    """(C, H, W) of what the model sees before any padding."""
    channels, height, width = images.image_shape
    if options.data == "folder":
        height, width = (options.image_size,) * 2 if options.image_size else models.info(options.model).input_shape[1:]
    return (3 if options.grey_as_color else channels, height, width)


def sees_colors(options: Options, images: Any, look: bool = True) -> bool:
    """Whether grey images must be given to the model as colors, because the weights that it begins with are for colors.

    ``look``: into the file of the weights; without it (it may be gone) the model's usual input decides.
    """
    if options.weights is None or images.image_shape[0] != 1 or models.info(options.model).input_shape[0] != 3:
        return False
    if not look:
        return True
    with init.skipped():
        colored = models.create(options.model, in_channels=3, **options.model_options)
    first = next(iter(colored.state_dict()))
    return first in load_weights(colored, options.weights, strict=False).loaded


class Preparation:
    """What is done to the images of ``images`` (the test images, for their shape and constants) before ``model`` sees them."""

    def __init__(self, options: Options, images: Any, model: Module, shape: tuple[int, int, int]):
        self.options, self.images = options, images
        if has_masks(images):
            self.margin = margin(model, options.model, shape)
            return
        if isinstance(model, UNet):
            raise ValueError(
                f"{options.model} gives each pixel a class, but the images of {options.data} have one class each: choose another "
                "model, or --data cells or masks"
            )
        self.size = _input_size(model, options, shape)

    def for_training(self) -> Callable:
        """With augmentation."""
        return self._masked(True) if has_masks(self.images) else self._plain(True)

    def for_test(self) -> Callable:
        """Without augmentation."""
        return self._masked(False) if has_masks(self.images) else self._plain(False)

    def _plain(self, train: bool) -> Callable:
        options = self.options
        steps = data.standard_transforms(
            self.images, train=train, size=self.size, augment=options.augment, normalize=options.normalize
        )
        return data.transforms.Compose([steps, _grey_as_color]) if options.grey_as_color else steps

    def _masked(self, train: bool) -> Callable:
        steps: list = []
        if train and self.options.augment != "none":
            steps.append(data.RandomFlipsAndTurns())
        if train and self.options.augment == "elastic":
            steps.append(data.GridDeformation(scaled(10, self.images)))
        steps.append(normalization(self.images, self.options.normalize))
        if self.margin:
            steps.append(data.MirrorPad(self.margin))
        return data.JointCompose(steps)


def _grey_as_color(images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """(N, 1, H, W) with its one channel three times; color images as they are."""
    return np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images


def _input_size(model: Module, options: Options, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width that the model is given: the images' own if it takes them, else those it was made for.

    A network that was trained already gets what it was made for, if smaller images can be padded to that.
    """
    name = options.model
    own, made_for = shape[1:], models.info(name).input_shape[1:]
    smaller = all(0 <= m - n <= n // 2 and (m - n) % 2 == 0 for m, n in zip(made_for, own, strict=True))
    if options.weights is not None and smaller:
        return made_for
    try:
        with evaluation_mode(model), no_grad():
            model(Tensor(np.zeros((1, *shape), np.float32)))
    except ValueError as error:
        if own[0] > made_for[0] or own[1] > made_for[1] or own == made_for:
            hint = smallest_hint(model, *shape)
            raise ValueError(f"{name} cannot take images of {own[0]} x {own[1]} ({error}{hint}): choose another model") from None
        return made_for
    return own


def margin(model: Module, name: str, shape: tuple[int, int, int]) -> int:
    """Pixels that must be mirrored around an image so that the model gives every pixel of it a class.

    Raises ValueError if the model gives images one class, or does not take this size.
    """
    if not isinstance(model, UNet):
        raise ValueError(f"{name} gives an image one class, not one for each pixel: choose unet or unet_2015")
    try:
        model.check_size(*(n + 2 * model.margin for n in shape[1:]))
    except ValueError as error:
        around = f" (with {model.margin} mirrored pixels on each side; image_size 132 fits)" if model.margin else ""
        raise ValueError(f"{name} cannot take images of {shape[1]} x {shape[2]}{around}: {error}") from None
    return model.margin
