"""Evaluating a model on the batches of a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

from minigrad.autograd import no_grad
from minigrad.data import to_device
from minigrad.device import Device, device_of
from minigrad.nn import Module
from minigrad.nn.functional import cross_entropy
from minigrad.tensor import Tensor
from minigrad.training.metrics import Metrics, MetricSums

__all__ = ["evaluate"]


def evaluate(
    model: Module, loader: Iterable, loss: Callable = cross_entropy, *, after_batch: Callable[[MetricSums], None] | None = None
) -> Metrics:
    """Loss, accuracy and confusion matrix of ``model`` over all batches ``(images, classes)`` of ``loader``.

    The model is in evaluation mode meanwhile, and every module is put back into its own mode afterwards; no gradients are
    recorded. ``loss(scores, classes)`` gives the mean over a batch. ``after_batch(sums so far)`` is called after each one.
    Raises ValueError if the loader gives nothing.
    """
    sums = MetricSums()
    where = device_of_model(model)
    with evaluation_mode(model), no_grad(), closing(to_device(loader, where)) as batches:
        for images, target in batches:
            images, target = on_device(model, images, target)
            scores = model(images)
            sums.add(loss(scores, target).item(), scores, classes_of(loss, target))
            if after_batch is not None:
                after_batch(sums)
    return sums.result()


def classes_of(loss: Callable, target: Tensor) -> Tensor:
    """The classes that accuracy is measured with: those that ``loss`` makes of its target, if it is a loss that does."""
    return loss.classes(target) if hasattr(loss, "classes") else target


@contextmanager
def evaluation_mode(model: Module) -> Iterator[None]:
    """Evaluation mode for a while; then each module's own mode again (a frozen part may be in evaluation mode always)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def on_device(model: Module, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors where the model's parameters are."""
    place = device_of_model(model)
    return tuple(t if t.device == place else t.to(place) for t in tensors)


def device_of_model(model: Module) -> Device:
    """The device of the first parameter; "cpu" for a model without any."""
    first = next(iter(model.parameters()), None)
    return Device("cpu") if first is None else device_of(first.data)
