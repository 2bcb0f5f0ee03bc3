"""Several opinions on one image: of several networks, and of one network on several views of the image.

AlexNet's published error is that of seven networks whose probabilities were averaged, each seeing ten crops (Krizhevsky et al.
2012, sections 4.1 and 6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from minigrad.autograd import no_grad
from minigrad.data import TenCrop
from minigrad.nn import Module
from minigrad.nn.functional import softmax
from minigrad.tensor import Tensor
from minigrad.training.evaluation import evaluation_mode, on_device
from minigrad.training.metrics import Metrics, MetricSums

__all__ = ["VIEWS", "average_metrics", "flips", "one_view", "probabilities", "ten_crops"]


def one_view(images: Tensor) -> list[Tensor]:
    """The images (N, C, H, W) as they are."""
    return [images]


def flips(images: Tensor) -> list[Tensor]:
    """The images and their mirror images, left and right exchanged."""
    return [images, images.flip(3)]


def ten_crops(images: Tensor) -> list[Tensor]:
    """The crops of ``data.TenCrop``, 7/8 as high and wide as the images (AlexNet's 224 of 256)."""
    crop = TenCrop(tuple(max(1, size * 7 // 8) for size in images.shape[2:]))
    crops = crop(images.numpy())  # ten in a row for each image
    return [Tensor(crops[k::10]) for k in range(10)]


VIEWS: dict[str, Callable[[Tensor], list[Tensor]]] = {"one": one_view, "flip": flips, "ten-crop": ten_crops}


def probabilities(model: Module, loader: Iterable, views: str = "one") -> tuple[np.ndarray, np.ndarray]:
    """The model's probabilities for each image of ``loader``, float64 (images, classes), and the classes (images,).

    ``views``: "one", "flip" or "ten-crop"; the probabilities of the views are averaged. The loader must not shuffle, if the
    probabilities of several models are to be averaged. Raises ValueError for another name, or if the loader gives nothing.
    """
    if views not in VIEWS:
        raise ValueError(f"views must be one of {', '.join(VIEWS)}, got {views!r}")
    found, classes = [], []
    with evaluation_mode(model), no_grad():
        for images, target in loader:
            seen = [softmax(model(*on_device(model, view)), dim=1) for view in VIEWS[views](images)]
            found.append(np.mean([p.cpu().numpy() for p in seen], axis=0, dtype=np.float64))
            classes.append(target.cpu().numpy())
    if not found:
        raise ValueError("there are no samples to average over: the loader gave no batch")
    return np.concatenate(found), np.concatenate(classes)


def average_metrics(opinions: Sequence[np.ndarray], classes: np.ndarray) -> Metrics:
    """The metrics of the average of several models' probabilities, each (images, classes); the loss is that of their logarithm.

    Raises ValueError if the opinions are on different images or classes.
    """
    shapes = {np.shape(p) for p in opinions}
    if len(shapes) != 1 or next(iter(shapes))[:1] != classes.shape:
        raise ValueError(f"all models must give probabilities for the same images and classes, got shapes {sorted(shapes)}")
    mean = np.mean(opinions, axis=0)
    with np.errstate(divide="ignore"):
        loss = -np.log(np.take_along_axis(mean, classes[:, None], 1)).mean()
    sums = MetricSums()
    sums.add(float(loss), Tensor(mean), Tensor(classes))
    return sums.result()
