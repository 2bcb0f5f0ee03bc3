"""The loss of networks that give every pixel a class."""

from __future__ import annotations

from minigrad.creation import tensor
from minigrad.data import border_weights
from minigrad.device import to_numpy
from minigrad.nn.functional import cross_entropy
from minigrad.tensor import Tensor

__all__ = ["PixelLoss"]


class PixelLoss:
    """The mean over all pixels of the cross entropy: ``loss(scores (N, K, H, W), masks (N, H, W))``.

    ``instances``   False: masks hold classes, and all pixels count alike. True: they hold 0 for background and a number for each
                    cell; there are two classes, and pixels between cells that are near each other count more, so that the
                    net learns to keep touching cells apart: ``data.border_weights`` (Ronneberger et al. 2015, equations 1 and 2)
    ``w0, sigma``   height and width in pixels of these ridges
    """

    def __init__(self, instances: bool = False, w0: float = 10.0, sigma: float = 5.0) -> None:
        self.instances, self.w0, self.sigma = instances, w0, sigma

    def classes(self, masks: Tensor) -> Tensor:
        """The class of every pixel, which accuracy is measured with."""
        return (masks > 0).to(masks.dtype) if self.instances else masks

    def __call__(self, scores: Tensor, masks: Tensor) -> Tensor:
        if not self.instances:
            return cross_entropy(scores, masks)
        weights = border_weights(to_numpy(masks.data), self.w0, self.sigma)
        losses = cross_entropy(scores, self.classes(masks), reduction="none")
        return (losses * tensor(weights, dtype=losses.dtype, device=losses.device)).mean()
