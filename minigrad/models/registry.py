"""The list of architectures: what exists, where it was published, and making one by name."""

from __future__ import annotations

import builtins
import inspect
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from minigrad._names import did_you_mean
from minigrad.nn import Module, init
from minigrad.weights import load_weights

__all__ = ["ModelInfo", "Paper", "create", "info", "list", "register"]


@dataclass(frozen=True)
class Paper:
    """Where an architecture was published."""

    authors: str
    title: str
    year: int
    arxiv: str | None = None  # "1512.03385"
    doi: str | None = None

    @property
    def url(self) -> str | None:
        """The address of the paper's page."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else None

    def __str__(self) -> str:
        place = f", arXiv:{self.arxiv}" if self.arxiv else f", doi:{self.doi}" if self.doi else ""
        return f"{self.authors}: {self.title} ({self.year}{place})"


@dataclass(frozen=True)
class ModelInfo:
    """What is known of one architecture.

    With the default arguments it has ``parameters`` learned numbers, and takes ``macs`` multiply-accumulates (of convolutions
    and matrix products) for one image of ``input_shape``: the published figures.
    """

    name: str
    factory: Callable[..., Module]
    paper: Paper
    input_shape: tuple[int, int, int]  # (C, H, W) that the model was made for
    parameters: int
    macs: int

    @property
    def year(self) -> int:
        return self.paper.year

    @property
    def description(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    @property
    def options(self) -> dict[str, object]:
        """The factory's arguments and their defaults."""
        return {name: p.default for name, p in inspect.signature(self.factory).parameters.items()}


_MODELS: dict[str, ModelInfo] = {}


def register(*, paper: Paper, input_shape: tuple[int, int, int], parameters: int, macs: int) -> Callable:
    """Decorator of a function that makes a model: adds it to the list under its own name. The figures: see ``ModelInfo``."""

    def decorator(factory: Callable[..., Module]) -> Callable[..., Module]:
        name = factory.__name__
        if name in _MODELS:
            raise ValueError(f"a model {name!r} is registered already")
        _MODELS[name] = ModelInfo(name, factory, paper, input_shape, parameters, macs)
        return factory

    return decorator


def list() -> builtins.list[str]:
    """The names of all architectures, in the order of the alphabet, and numbers by their size."""
    return sorted(_MODELS, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def info(name: str) -> ModelInfo:
    """What is known of the architecture ``name``. Raises ValueError with the nearest name if there is none."""
    if name not in _MODELS:
        hint = did_you_mean(name, _MODELS) or f": minigrad.models.list() gives the names of all {len(_MODELS)}"
        raise ValueError(f"there is no model {name!r}{hint}")
    return _MODELS[name]


def create(
    name: str,
    num_classes: int | None = None,
    in_channels: int | None = None,
    weights: str | os.PathLike | None = None,
    strict: bool = True,
    **options,
) -> Module:
    """A new model: ``create("cifar_resnet20", num_classes=100, option="B")``, ``create("resnet50", weights="resnet50.pth")``.

    ``num_classes`` and ``in_channels``: by default those that the model was made for; ``weights``: a file to load, of
    minigrad, safetensors or PyTorch, and ``strict=False`` leaves out of it what does not fit, as a classifier for other classes
    (see ``minigrad.weights.load_weights``); ``options``: further arguments of the model's function. Raises ValueError for an
    unknown name or option, naming the nearest one, and what ``load_weights`` raises.
    """
    model = info(name)
    known = model.options
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}{did_you_mean(option, known)} (it has {', '.join(known)})")
    for argument, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{argument} must be an integer of at least 1, got {value!r}")
    sizes = {"num_classes": num_classes, "in_channels": in_channels}
    given = {key: value for key, value in sizes.items() if value is not None}
    with init.skipped() if weights is not None and strict else nullcontext():
        made = model.factory(**given, **options)
    if weights is not None:
        load_weights(made, weights, strict)
    return made
