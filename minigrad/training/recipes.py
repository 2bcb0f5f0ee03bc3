"""Recipes: settings of a whole training, as a paper published them, or as they suit a data set that is to be learned quickly.

``RECIPES`` are the published ones (``minigrad recipes`` lists them, ``minigrad train --recipe NAME`` follows one), ``DEFAULTS``
what ``minigrad train --data NAME`` does where no recipe is named. Every value can be replaced by an option of the command.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from minigrad._names import did_you_mean

__all__ = ["DEFAULTS", "OPTIMIZERS", "RECIPES", "SCHEDULES", "Recipe", "default_for", "published"]

SCHEDULES = ("one-cycle", "cosine", "step", "exponential", "plateau", "constant")
OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw")


@dataclass(frozen=True)
class Recipe:
    """What a training does.

    ``data``            the data set that it is for ("folder": ImageNet, or another folder of images)
    ``optimizer``       "sgd", "rmsprop" (its running mean of squares keeps 0.9), "adam" or "adamw"
    ``lr``              the learning rate; the highest one of a schedule
    ``momentum``        of sgd and rmsprop; ``nesterov``: in Nesterov's form
    ``eps``             what keeps the divisor of rmsprop (under the root, as in TensorFlow) and adam from zero; None: 1e-8
    ``weight_decay``    L2 penalty; ``decay_all``: of biases and normalizations too
    ``schedule``        of the learning rate:
                        "one-cycle": up to ``lr`` and down again in every step, with the momentum against it;
                        "cosine": from ``lr`` to 0;
                        "step": times ``gamma`` after each of the epochs ``milestones`` (None: after a half and three quarters);
                        "exponential": times ``gamma`` after every ``every`` epochs;
                        "plateau": times ``gamma`` when the test loss has not fallen for ``every`` epochs;
                        "constant"
    ``warmup``          epochs in which the rate rises from a tenth of what it would be
    ``augment``         what is done to the training images: see ``data.AUGMENTATIONS``
    ``normalize``       with whose mean and standard deviation: "own" (the data set's), "imagenet", or "half" (0.5 and 0.5)
    ``label_smoothing`` part of the target's probability that is spread over all classes, 0 ... 1
    ``mixup, cutmix``   alpha of images that are mixed in pairs; 0: they are not
    ``ema``             decay of averaged weights, which are the ones that are evaluated and kept; 0: none
    ``model_options``   further arguments of the model: ``{"dropout": 0.3}``
    ``source``          where the values come from, and what of the source is not followed
    """

    model: str
    epochs: int
    batch_size: int
    lr: float
    data: str = "digits"
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    eps: float | None = None
    weight_decay: float = 5e-4
    decay_all: bool = True
    schedule: str = "one-cycle"
    milestones: tuple[float, ...] | None = None
    gamma: float = 0.1
    every: float = 1
    warmup: float = 0
    augment: str = "standard"
    normalize: str = "own"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    model_options: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    def for_epochs(self, epochs: int) -> Recipe:
        """The recipe drawn together (or out) to another number of epochs: what is counted in epochs keeps its part of them."""
        part = epochs / self.epochs
        milestones = None if self.milestones is None else tuple(m * part for m in self.milestones)
        return dataclasses.replace(self, epochs=epochs, milestones=milestones, every=self.every * part, warmup=self.warmup * part)

    def for_model(self, model: str, largest_lr: float | None = None) -> Recipe:
        """The recipe for another model, at a rate of at most ``largest_lr``."""
        lr = self.lr if largest_lr is None else min(self.lr, largest_lr)
        return dataclasses.replace(self, model=model, lr=lr, model_options={})


# ---- as published ------------------------------------------------------------------------------------------------------

_CIFAR = Recipe("cifar_resnet20", epochs=164, batch_size=128, lr=0.1, data="cifar10", weight_decay=1e-4, schedule="step")
_IMAGENET = Recipe("resnet50", epochs=120, batch_size=256, lr=0.1, data="folder", weight_decay=1e-4, schedule="plateau", every=5)

RECIPES = {
    "alexnet-2012": Recipe(
        **{"model": "alexnet_2012", "epochs": 90, "batch_size": 128, "lr": 0.01, "data": "folder", "weight_decay": 5e-4},
        **{"schedule": "plateau", "gamma": 0.1, "every": 5, "augment": "alexnet"},
        source="Krizhevsky et al. 2012, sections 4 and 5. The authors lowered the rate by hand, three times, when the "
        "validation error stopped improving; here five epochs without progress decide",
    ),
    "vgg-2014": dataclasses.replace(
        _IMAGENET,
        **{"model": "vgg16", "epochs": 74, "lr": 0.01, "weight_decay": 5e-4, "augment": "alexnet"},
        source="Simonyan and Zisserman 2014, section 3.1; images of one scale",
    ),
    "resnet-imagenet": dataclasses.replace(
        _IMAGENET,
        augment="alexnet",
        source="He et al. 2015, section 3.4: 60 * 10^4 steps are 120 epochs; images of one scale, without scale augmentation",
    ),
    "resnet-cifar": dataclasses.replace(
        _CIFAR,
        milestones=(82, 123),
        source="He et al. 2015, section 4.2: 64,000 steps, which are 164 epochs of 50,000 images, and a tenth of the rate after "
        "32,000 and 48,000",
    ),
    "resnet110-cifar": dataclasses.replace(
        _CIFAR,
        **{"model": "cifar_resnet110", "milestones": (82, 123), "warmup": 1},
        source="He et al. 2015, section 4.2: as resnet-cifar, but begun at a rate of 0.01 until the net has begun to learn",
    ),
    "resnet-notes": dataclasses.replace(
        _CIFAR,
        **{"model": "cifar_resnet14", "epochs": 300, "weight_decay": 5e-4, "milestones": (50, 100, 150, 200, 250)},
        normalize="half",
        source="The recipe of the lecture notes (3-min-pytorch, chapter 5): StepLR with step 50 and gamma 0.1",
    ),
    "wide-resnet-cifar": dataclasses.replace(
        _CIFAR,
        **{"model": "cifar_wrn28_10", "epochs": 200, "weight_decay": 5e-4, "nesterov": True},
        **{"milestones": (60, 120, 160), "gamma": 0.2, "model_options": {"dropout": 0.3}},
        source="Zagoruyko and Komodakis 2016, section 3, with the dropout of section 3.4",
    ),
    "densenet-cifar": dataclasses.replace(
        _CIFAR,
        **{"model": "cifar_densenet_bc100_12", "epochs": 300, "batch_size": 64, "nesterov": True, "milestones": (150, 225)},
        source="Huang et al. 2016, section 4.2",
    ),
    "densenet-imagenet": dataclasses.replace(
        _IMAGENET,
        **{"model": "densenet121", "epochs": 90, "nesterov": True, "schedule": "step", "milestones": (30, 60)},
        augment="inception",
        source="Huang et al. 2016, section 4.2, with the augmentation of fb.resnet.torch that it names",
    ),
    "resnext-cifar": dataclasses.replace(
        _CIFAR,
        **{"model": "cifar_resnext29_8x64d", "epochs": 300, "weight_decay": 5e-4, "milestones": (150, 225)},
        source="Xie et al. 2016, section 5.3",
    ),
    "resnext-imagenet": dataclasses.replace(
        _IMAGENET,
        **{"model": "resnext50_32x4d", "epochs": 90, "nesterov": True, "schedule": "step", "milestones": (30, 60)},
        augment="inception",
        source="Xie et al. 2016, section 4, with the schedule of fb.resnet.torch that it names (the paper says three drops "
        "of the rate; that schedule has two in its 90 epochs)",
    ),
    "senet-2017": dataclasses.replace(
        _IMAGENET,
        **{"model": "se_resnet50", "epochs": 100, "batch_size": 1024, "lr": 0.6, "schedule": "step"},
        **{"milestones": (30, 60, 90), "augment": "inception"},
        source="Hu et al. 2017, section 5",
    ),
    "mobilenet-v2": Recipe(
        **{"model": "mobilenet_v2", "epochs": 300, "batch_size": 96, "lr": 0.045, "data": "folder", "optimizer": "rmsprop"},
        **{"eps": 1.0, "weight_decay": 4e-5, "schedule": "exponential", "gamma": 0.98, "augment": "inception"},
        source="Sandler et al. 2018, section 6.1: 16 workers of 96 images each, which wrote into the same weights; here one. "
        "The epochs are torchvision's, the epsilon that of the authors' code",
    ),
    "efficientnet": Recipe(
        **{"model": "efficientnet_b0", "epochs": 350, "batch_size": 4096, "lr": 0.256, "data": "folder"},
        **{"optimizer": "rmsprop", "eps": 1e-3, "weight_decay": 1e-5, "decay_all": False, "schedule": "exponential"},
        **{"gamma": 0.97, "every": 2.4, "warmup": 5, "augment": "inception", "label_smoothing": 0.1, "ema": 0.9999},
        source="Tan and Le 2019, section 5.2; warm-up, averages and what is not decayed are of the authors' code. With "
        "colour jitter in the place of AutoAugment. Dropout and stochastic depth are the models' own",
    ),
    "unet-2015": Recipe(
        **{"model": "unet_2015", "epochs": 20, "batch_size": 1, "lr": 3e-3, "data": "cells", "momentum": 0.99},
        **{"weight_decay": 0.0, "schedule": "constant", "augment": "elastic"},
        source="Ronneberger et al. 2015, section 3: momentum 0.99 and one image in a step, elastic deformation, pixels "
        "between cells weighted. The paper does not give the rate and the length of the training",
    ),
}


def published(name: str) -> Recipe:
    """The published recipe ``name``. Raises ValueError with the nearest name for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}{did_you_mean(name, RECIPES)}; see minigrad recipes")
    return RECIPES[name]


# ---- for a data set ----------------------------------------------------------------------------------------------------

_SEGMENTATION = Recipe(
    **{"model": "unet", "epochs": 12, "batch_size": 4, "data": "cells", "optimizer": "adam", "lr": 0.01, "weight_decay": 0.0},
    **{"augment": "elastic", "model_options": {"base_channels": 16}},
)

DEFAULTS = {
    "digits": Recipe("cifar_resnet14", epochs=15, batch_size=64, lr=0.2),
    "mnist": Recipe("lenet5", epochs=5, batch_size=64, lr=0.1, data="mnist"),
    "fashion-mnist": Recipe("lenet5", epochs=15, batch_size=64, lr=0.1, data="fashion-mnist"),
    "kmnist": Recipe("lenet5", epochs=15, batch_size=64, lr=0.1, data="kmnist"),
    "cifar10": Recipe("cifar_resnet20", epochs=30, batch_size=128, lr=0.4, data="cifar10"),
    "cifar100": Recipe("cifar_resnet56", epochs=60, batch_size=128, lr=0.4, data="cifar100"),
    "folder": Recipe("cifar_resnet20", epochs=30, batch_size=64, lr=0.1, data="folder"),
    "cells": _SEGMENTATION,
    "masks": dataclasses.replace(_SEGMENTATION, data="masks", epochs=30),
}

# Models without normalization diverge at rates that suit the others.
LARGEST_LR = {
    **{"lenet5": 0.1, "lenet5_1998": 0.001},
    **dict.fromkeys(("alexnet", "alexnet_2012", "cifar_nin", "googlenet_2014", "nin", "zfnet", "unet_2015"), 0.01),
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), 0.01),
}


def default_for(data: str, model: str | None = None) -> Recipe:
    """The recipe for a data set, with another model in the place of its own if one is named."""
    recipe = DEFAULTS[data]
    return recipe if model in (None, recipe.model) else recipe.for_model(model, LARGEST_LR.get(model))
