"""Transfer learning: a network that has learned one data set goes on with another.

    model = models.create("cifar_resnet20", weights="resnet20.th")
    replace_head(model, num_classes=5)           few images: train the new last layer alone,
    freeze_until(model, "layer3")                more: also what follows a frozen part,
    parameter_groups(model, lr=0.01, factor=0.3) or all, the earlier layers with smaller steps

While the whole trunk (everything before the last layer) is frozen, its features of an image never change: ``cached_features``
computes them once, and training the last layer on them takes seconds (``HeadOnly``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minigrad._names import did_you_mean
from minigrad.autograd import no_grad
from minigrad.data import TensorDataset
from minigrad.nn import BatchNorm2d, Conv2d, Linear, Module, Parameter
from minigrad.tensor import Tensor
from minigrad.training.evaluation import evaluation_mode, on_device
from minigrad.weights import LoadReport

__all__ = ["HeadOnly", "cached_features", "check_frozen", "freeze_until", "head_of", "parameter_groups", "replace_head"]


def head_of(model: Module) -> tuple[str, Module]:
    """The path and the module of the last layer: the last one with parameters, which must be linear or a 1x1 convolution."""
    layers = [(name, m) for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layers with parameters")
    name, head = layers[-1]
    if not isinstance(head, Linear) and not (isinstance(head, Conv2d) and head.kernel_size == (1, 1)):
        kind = type(head).__name__
        raise ValueError(f"the last layer, {name}, must be a Linear or a 1x1 Conv2d that gives the classes, not a {kind}")
    return name, head


def replace_head(model: Module, num_classes: int) -> Module:
    """Give ``model`` a new last layer, with new weights, for ``num_classes`` classes; returns that layer."""
    name, head = head_of(model)
    bias = head.bias is not None
    like = {"device": head.weight.device, "dtype": head.weight.dtype}
    if isinstance(head, Linear):
        new: Module = Linear(head.in_features, num_classes, bias=bias, **like)
    else:
        new = Conv2d(head.in_channels, num_classes, 1, bias=bias, **like)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)
    return new


def freeze_until(model: Module, name: str, batch_norm: str = "frozen") -> list[str]:
    """Freeze everything from the input up to and with the module ``name`` ("layer3"); returns the frozen parameters' names.

    "Up to" is the order of the parameters, which in minigrad's models is that of the computation. ``batch_norm`` says what
    becomes of the statistics in the frozen part: "frozen" normalizes with the learned ones, which stay as they are (right for
    few images or small batches); "batch" goes on normalizing with those of each batch and updating the running ones.
    Raises ValueError for a module that the model does not have, naming the nearest one.
    """
    if batch_norm not in ("frozen", "batch"):
        allowed = '"frozen" (the learned statistics) or "batch" (those of each batch)'
        raise ValueError(f"batch_norm must be {allowed}, got {batch_norm!r}")
    modules = dict(model.named_modules())
    if not name or name not in modules:
        parts = ", ".join(dict(model.named_children()))
        raise ValueError(f"the model has no module {name!r}{did_you_mean(name, modules)} (its parts: {parts})")
    names = [key for key, _ in model.named_parameters()]
    inside = [number for number, key in enumerate(names) if key.startswith(name + ".")]
    if not inside:
        raise ValueError(f"the module {name!r} has no parameters: name one before it that has some")
    frozen = names[: inside[-1] + 1]
    parameters = dict(model.named_parameters())
    for key in frozen:
        parameters[key].requires_grad_(False)
    if batch_norm == "frozen":
        for module in {key.rpartition(".")[0]: None for key in frozen}:
            if isinstance(modules[module], BatchNorm2d):
                modules[module].register_forward_pre_hook(_stay_in_evaluation)
                modules[module].eval()
    return frozen


def check_frozen(frozen: Iterable[str], report: LoadReport, path: str) -> None:
    """Raise ValueError if a parameter that is frozen did not come from the file: it would stay random for good."""
    loaded = set(report.loaded)
    random = [name for name in frozen if name not in loaded]
    if random:
        sizes = report.mismatched.get(random[0])
        reason = "is not in" if sizes is None else f"has the shape {sizes[0]}, but {sizes[1]} in"
        raise ValueError(
            f"{random[0]} is to be frozen, but {reason} {path} ({len(random)} such): it would keep its random values; "
            "freeze less, or begin with other weights"
        )


def _stay_in_evaluation(module: Module, args: tuple) -> None:
    module.training = False  # also after model.train()


def parameter_groups(model: Module, lr: float, factor: float = 1.0) -> list[dict[str, Any]]:
    """Groups for an optimizer, one for each part of the model; the last has ``lr``, each earlier one ``factor`` times the next.

    Frozen parameters are left out (discriminative learning rates: Howard & Ruder 2018, section 3.2). ``factor`` in 0 ... 1.
    """
    if not 0 < factor <= 1:
        raise ValueError(f"factor must be above 0 and at most 1, got {factor!r}")
    parts: dict[str, list[tuple[str, Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts.setdefault(name.partition(".")[0], []).append((name, parameter))
    if not parts:
        raise ValueError("all parameters are frozen: there is nothing to train")
    return [{"params": p, "lr": lr * factor ** (len(parts) - 1 - number)} for number, p in enumerate(parts.values())]


# ---- cached features ---------------------------------------------------------------------------------------------------


def cached_features(model: Module, loader: Iterable) -> TensorDataset:
    """What the last layer of ``model`` sees of each image of ``loader``, with its class: the trunk runs once, in evaluation mode.

    The result holds features (images, F) and int64 classes in the order of the loader, which should neither shuffle nor
    augment. Raises ValueError if the loader gives nothing, or if the model does something with the output of its last layer
    (a mean over the image, say), so that training that layer alone would not train the model.
    """
    name, head = head_of(model)
    seen: list[np.ndarray] = []
    scores: list[Tensor] = []
    handles = [
        head.register_forward_pre_hook(lambda module, args: seen.append(_host(args[0]))),
        head.register_forward_hook(lambda module, args, output: scores.append(output)),
    ]
    classes = []
    try:
        with evaluation_mode(model), no_grad():
            for images, target in loader:
                output = model(*on_device(model, images))
                if not _is_same(output, scores.pop().flatten(1)):
                    raise ValueError(
                        f"the output of the last layer with parameters, {name}, is not that of the model: what follows it would "
                        "be left out, so this model cannot be trained by its last layer alone"
                    )
                classes.append(_host(target))
    finally:
        for handle in handles:
            handle.remove()
    if not classes:
        raise ValueError("the loader gives no batches: there are no features to keep")
    return TensorDataset(np.concatenate(seen), np.concatenate(classes))


def _is_same(output: Any, scores: Tensor) -> bool:
    return isinstance(output, Tensor) and np.array_equal(_host(output), _host(scores), equal_nan=True)


def _host(t: Tensor) -> np.ndarray:
    return np.array(t.detach().cpu().numpy())


class HeadOnly(Module):
    """The last layer of a model, to be trained on ``cached_features``, that saves and loads as the whole model does.

    So ``fit`` trains it, and what it writes are weights of the model.
    """

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.head = head_of(model)[1]
        self._whole = (model,)  # in a tuple, so that it is no part of this module

    @property
    def model(self) -> Module:
        """The whole model."""
        return self._whole[0]

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features).flatten(1)

    def state_dict(self, **options: Any) -> dict[str, Tensor]:
        return self.model.state_dict(**options)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        return self.model.load_state_dict(state_dict, strict)
