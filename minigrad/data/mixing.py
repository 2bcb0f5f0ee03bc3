"""Mixup and CutMix: batches whose images and labels are mixed in pairs.

Unlike the other transforms these need the labels, so they act on a batch that the loader has given, and what they give is
labels of class probabilities, which ``F.cross_entropy`` takes::

    mixup = Mixup(alpha=0.2, num_classes=10)
    for images, labels in loader:
        images, labels = mixup(images, labels)  # labels (N, 10)
        loss = F.cross_entropy(model(images), labels)

Training accuracy on mixed batches says little; on those labels it would be taken with ``labels.argmax(1)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import random
from minigrad.data.checks import check_images, check_probability
from minigrad.data.images import check_labels
from minigrad.kernels.layout import nhwc
from minigrad.tensor import Tensor

__all__ = ["CutMix", "Mixup"]


@dataclass(frozen=True)
class _Mixing:
    """What the two share: arguments, checks, the pairs of a batch, and the mixed labels."""

    alpha: float
    num_classes: int | None = None
    p: float = 1.0

    def __post_init__(self):
        if not isinstance(self.alpha, (int, float)) or isinstance(self.alpha, bool) or not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be a number above 0 (p=0 turns mixing off), got {self.alpha!r}")
        k = self.num_classes
        if k is not None and (not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1):
            raise ValueError(f"num_classes must be an integer of at least 1, or None for labels of probabilities, got {k!r}")
        check_probability(self.p)

    def __call__(self, images: Any, labels: Any, rng: np.random.Generator | None = None) -> tuple[Any, Any]:
        """The mixed images, in the shape and dtype of ``images``, and their labels: probabilities (N, num_classes).

        ``images`` (N, C, H, W), uint8 or float. ``labels``: N class indices, or probabilities (N, K), as an earlier Mixup or
        CutMix gave. Both may be arrays or Tensors (on the CPU); each result is of the same kind.
        """
        rng = random.generator() if rng is None else rng
        x = nhwc(check_images(_array(images, "images")))
        soft = self._probabilities(_array(labels, "labels"), x)
        if rng.random() < self.p:
            share, partners = rng.beta(self.alpha, self.alpha), rng.permutation(len(x))
            y, share = self._mix(x, partners, share, rng)
            soft = share * soft + (1 - share) * soft[partners]
        else:
            y = x.copy()
        y = y.transpose(0, 3, 1, 2)
        return Tensor(y) if isinstance(images, Tensor) else y, Tensor(soft) if isinstance(labels, Tensor) else soft

    def _probabilities(self, labels: np.ndarray, x: np.ndarray) -> np.ndarray:
        """``labels`` as rows of probabilities (N, K): of the images' dtype if that is float, else float32."""
        if labels.ndim == 2 and labels.dtype.kind == "f" and len(labels) == len(x):
            if self.num_classes not in (None, labels.shape[1]):
                raise ValueError(f"labels has probabilities of {labels.shape[1]} classes, num_classes is {self.num_classes}")
            return labels.copy()
        if labels.ndim == 1 and self.num_classes is None:
            raise ValueError(f"labels that are class indices need their number: {type(self).__name__}(num_classes=...)")
        if labels.ndim != 1:
            raise ValueError(
                f"labels must be {len(x)} class indices, or float probabilities ({len(x)}, classes),"
                f" got {labels.dtype} of shape {labels.shape}"
            )
        soft = np.zeros((len(x), self.num_classes), np.float32 if x.dtype == np.uint8 else x.dtype)
        soft[np.arange(len(x)), check_labels(labels, len(x), self.num_classes)] = 1
        return soft

    def _mix(self, x: np.ndarray, partners: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """The images x (N, H, W, C) mixed with ``x[partners]``, and the share of x that is left."""
        raise NotImplementedError(f"{type(self).__name__} must define _mix")


@dataclass(frozen=True)
class Mixup(_Mixing):
    """Mix each image with another one of the batch: ``lam * image + (1 - lam) * other``, and their labels alike.

    Zhang et al. 2018, arXiv 1710.09412: one lam for each batch, from Beta(alpha, alpha); the others are a random permutation of
    the batch. The paper's alpha is 0.2 for ImageNet (0.1 ... 0.4) and 1 for CIFAR.

    ``alpha``        above 0: small values give batches that are hardly mixed
    ``num_classes``  the number of classes; None if the labels are probabilities already
    ``p``            the probability that a batch is mixed; otherwise its labels are probabilities 0 and 1
    """

    alpha: float = 0.2

    def _mix(self, x: np.ndarray, partners: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        y = x.astype(np.float32) if x.dtype == np.uint8 else x.copy()
        y *= share
        y += (1 - share) * x[partners].astype(y.dtype, copy=False)
        return (np.rint(y).astype(np.uint8), share) if x.dtype == np.uint8 else (y, share)


@dataclass(frozen=True)
class CutMix(_Mixing):
    """Replace a rectangle of each image by the same rectangle of another one of the batch; the labels mix by area.

    Yun et al. 2019, arXiv 1905.04899: one rectangle for each batch, of the images' proportions and a share 1 - lam of their area,
    lam from Beta(alpha, alpha); its centre is uniform, what lies outside the image is cut off, and the labels count the
    pixels that were really replaced. The paper's alpha is 1, on ImageNet with p = 1 and on CIFAR with p = 0.5.

    ``alpha``        above 0
    ``num_classes``  the number of classes; None if the labels are probabilities already
    ``p``            the probability that a batch is mixed; otherwise its labels are probabilities 0 and 1
    """

    alpha: float = 1.0

    def _mix(self, x: np.ndarray, partners: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        height, width = x.shape[1:3]
        rows, columns = (_interval(size, math.sqrt(1 - share), rng) for size in (height, width))
        y = x.copy()
        y[:, rows, columns] = x[partners, rows, columns]
        replaced = (rows.stop - rows.start) * (columns.stop - columns.start)
        return y, 1 - replaced / (height * width)


def _interval(size: int, share: float, rng: np.random.Generator) -> slice:
    """A piece of 0 ... size around a random centre, of ``share`` of its length, cut off at both ends."""
    half, centre = int(size * share) // 2, int(rng.integers(size))
    return slice(max(centre - half, 0), min(centre + half, size))


def _array(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Tensor):
        if value.is_cuda:
            raise ValueError(f'{name} lie on a CUDA device: mix a batch on the CPU, before {name}.to("cuda")')
        return value.numpy()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array or a Tensor, got {type(value).__name__}")
    return value
