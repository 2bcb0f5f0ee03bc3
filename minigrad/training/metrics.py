"""How well a classifier does: loss, top-1 and top-5 accuracy, confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.device import is_floating, to_numpy
from minigrad.tensor import Tensor

__all__ = ["MetricSums", "Metrics"]


@dataclass(frozen=True, eq=False)
class Metrics:
    """Averages over ``n`` samples.

    ``loss``       mean loss
    ``top1``       part of the samples whose class got the highest score, 0 ... 1
    ``top5``       part whose class was among the five highest (all of them where there are at most five classes)
    ``confusion``  int64 (K, K): how many samples of class row were taken for class column

    A sample with a NaN among its scores is never right, and in ``confusion`` taken for no class.
    """

    loss: float
    top1: float
    top5: float
    n: int
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        """The same as ``top1``."""
        return self.top1

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class: the samples rightly taken for it, in part of those of it or taken for it.

        float64 (K,); NaN for a class that neither occurs nor was given. Of pixels this measures how well areas agree.
        """
        right = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - right
        return np.where(union > 0, right / np.maximum(union, 1), np.nan)

    @property
    def per_class(self) -> np.ndarray:
        """The part of each class's samples that was recognized, float64 (K,); NaN for a class without samples."""
        totals = self.confusion.sum(1)
        return np.where(totals > 0, np.diag(self.confusion) / np.maximum(totals, 1), np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, ready for JSON."""
        return {"loss": self.loss, "top1": self.top1, "top5": self.top5, "n": self.n, "confusion": self.confusion.tolist()}

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, Metrics) else NotImplemented

    def __repr__(self) -> str:
        return f"Metrics(loss={self.loss:.4f}, top1={self.top1:.2%}, top5={self.top5:.2%}, n={self.n})"


class MetricSums:
    """What ``Metrics`` are averages of, added up batch by batch. Sums are exact or in float64, in the order of the batches.

    ``n`` counts samples, ``images`` the images that they are of, which are fewer where pixels are the samples.
    """

    def __init__(self):
        self.loss, self.top1, self.top5, self.n, self.images = 0.0, 0, 0, 0, 0
        self.confusion = np.zeros((0, 0), np.int64)

    def add(self, loss: float, scores: Tensor, target: Tensor) -> None:
        """One batch: its mean loss, the scores (N, K) and the classes (N,). Nothing changes on an error.

        Scores (N, K, H, W) and classes (N, H, W) count each pixel as a sample; of probabilities (N, K) in the place of classes,
        as those of mixed images, the class with the largest is meant.
        """
        scores, target = to_numpy(scores.data), to_numpy(target.data)
        images = len(scores)
        if scores.ndim == 4 and target.shape == (scores.shape[0], *scores.shape[2:]):
            scores, target = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1]), target.reshape(-1)
        elif target.shape == scores.shape and _are_probabilities(target):
            target = target.argmax(1)
        if scores.ndim != 2 or target.shape != scores.shape[:1] or target.dtype.kind not in "iu":
            raise ValueError(
                f"accuracy needs scores (N, classes) and classes (N,), got {scores.shape} and {target.dtype} {target.shape}"
            )
        count, classes = scores.shape
        if count and (target.min() < 0 or target.max() >= classes):
            raise ValueError(f"classes must lie in 0 ... {classes - 1}, got {target.min()} ... {target.max()}")
        if self.n and classes != len(self.confusion):
            raise ValueError(f"scores for {classes} classes after scores for {len(self.confusion)}")
        rank = _ranks(scores, target)
        self.loss += loss * count
        self.n += count
        self.images += images
        self.top1 += int((rank < 1).sum())
        self.top5 += int((rank < 5).sum())
        pairs = (target.astype(np.int64) * classes + scores.argmax(1))[~np.isnan(scores).any(1)]
        counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
        self.confusion = counts if self.confusion.size == 0 else self.confusion + counts

    def result(self) -> Metrics:
        """The averages. Raises ValueError if nothing was added."""
        if self.n == 0:
            raise ValueError("there are no samples to average over: the loader gave no batch")
        return Metrics(self.loss / self.n, self.top1 / self.n, self.top5 / self.n, self.n, self.confusion)

    def state_dict(self) -> dict[str, Any]:
        """The sums as plain numbers and lists, ready for JSON."""
        return {**self.__dict__, "confusion": self.confusion.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict()``."""
        confusion = np.array(state["confusion"], np.int64)
        self.__dict__.update({**state, "confusion": confusion if confusion.size else np.zeros((0, 0), np.int64)})


def _are_probabilities(target: np.ndarray) -> bool:
    """Whether the rows of an array (N, K) are probabilities of K classes, to the accuracy of float16."""
    if target.ndim != 2 or not is_floating(target.dtype):
        return False
    return bool((target >= 0).all() and np.allclose(target.sum(1, dtype=np.float64), 1, rtol=0, atol=1e-2))


def _ranks(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How many classes come before the right one: higher scores, and equal ones with a lower number.

    At least 5, and so wrong, where a score is NaN.
    """
    own = np.take_along_axis(scores, target[:, None], 1)
    before = np.arange(scores.shape[1]) < target[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(1)
    return np.where(np.isnan(scores).any(1), max(5, scores.shape[1]), rank)
