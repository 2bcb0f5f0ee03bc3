"""Recipes: for each data set a model and settings that train it well in little time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

__all__ = ["RECIPES", "SCHEDULES", "Recipe", "recipe_for"]

SCHEDULES = ("one-cycle", "cosine", "step", "constant")


@dataclass(frozen=True)
class Recipe:
    """What ``minigrad train`` does where no option says otherwise. The optimizer is SGD with momentum.

    ``schedule`` of the learning rate: "one-cycle" (up to ``lr`` and down, with the momentum against it), "cosine" (from ``lr``
    to 0), "step" (a tenth after a half, a hundredth after three quarters of the epochs), "constant".
    """

    model: str
    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    augment: bool = True


RECIPES = {
    "digits": Recipe("cifar_resnet14", epochs=15, batch_size=64, lr=0.2),
    "mnist": Recipe("lenet5", epochs=5, batch_size=64, lr=0.1),
    "fashion-mnist": Recipe("lenet5", epochs=15, batch_size=64, lr=0.1),
    "kmnist": Recipe("lenet5", epochs=15, batch_size=64, lr=0.1),
    "cifar10": Recipe("cifar_resnet20", epochs=30, batch_size=128, lr=0.4),
    "cifar100": Recipe("cifar_resnet56", epochs=60, batch_size=128, lr=0.4),
    "folder": Recipe("cifar_resnet20", epochs=30, batch_size=64, lr=0.1),
}

# Models without normalization diverge at rates that suit the others.
LARGEST_LR = {
    **{"lenet5": 0.1, "lenet5_1998": 0.001},
    **dict.fromkeys(("alexnet", "alexnet_2012", "cifar_nin", "googlenet_2014", "nin", "zfnet"), 0.01),
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), 0.01),
}


def recipe_for(data: str, model: str | None = None) -> Recipe:
    """The recipe for a data set, with another model in the place of its own if one is named."""
    recipe = RECIPES[data]
    if model is None:
        return recipe
    return dataclasses.replace(recipe, model=model, lr=min(recipe.lr, LARGEST_LR.get(model, recipe.lr)))
