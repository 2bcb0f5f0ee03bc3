"""The known architectures: ``models.list()``, ``models.create("cifar_resnet20", num_classes=10)``, or a function for each."""

from __future__ import annotations

from minigrad._names import missing
from minigrad.models.cifar_resnet import (
    CifarResNet,
    cifar_resnet14,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
    cifar_resnet110,
)
from minigrad.models.lenet import LeNet5, lenet5
from minigrad.models.registry import ModelInfo, Paper, create, info, list, register

__all__ = [
    "CifarResNet",
    "LeNet5",
    "ModelInfo",
    "Paper",
    "cifar_resnet14",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "create",
    "info",
    "lenet5",
    "list",
    "register",
]


def __getattr__(name: str):
    raise missing("minigrad.models", name, __all__)
