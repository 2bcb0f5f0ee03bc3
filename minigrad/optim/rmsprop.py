"""RMSprop: steps divided by the root of a running average of the squared gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minigrad.optim.adaptive import AdaptiveOptimizer, add_square, check_options, lerp
from minigrad.optim.optimizer import check_number

__all__ = ["RMSprop"]


class RMSprop(AdaptiveOptimizer):
    """Steps divided by the root of a running average of the squared gradient; for each element p with gradient g:

        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g^2             (square_avg)
        m = alpha * m + (1 - alpha) * g               (grad_avg; only with ``centered``, else 0)
        d = g / (sqrt(v - m^2) + eps)                 (with ``eps_inside_sqrt``: g / sqrt(v - m^2 + eps))
        b = momentum * b + d                          (momentum_buffer)
        p = p - lr * b

    ``params``           tensors, (name, tensor) pairs, or groups with options of their own (see Optimizer)
    ``lr``               learning rate, at least 0
    ``alpha``            how much of the average remains, 0 ... 1 (TensorFlow: ``decay`` or ``rho``)
    ``eps``              at least 0, keeps the divisor from zero
    ``weight_decay``     L2 penalty, at least 0
    ``momentum``         at least 0
    ``centered``         divide by the standard deviation of the gradient instead of its root mean square
    ``eps_inside_sqrt``  add ``eps`` under the root, as TensorFlow does
    ``maximize``         ascend instead of descend

    The formula is that of ``torch.optim.RMSprop``. Recipes that were written for TensorFlow (Inception-v3: alpha 0.9, eps 1;
    MobileNetV2 and EfficientNet: alpha 0.9, momentum 0.9, eps 1 or 0.001) mean their eps under the root: give it with
    ``eps_inside_sqrt=True``, or steps are up to 1 / sqrt(eps) times too long where v is small. (torchvision's recipes keep
    the other form with the root of the number, eps=0.0316.) Two more differences of TensorFlow remain: there v begins
    at 1 instead of 0, which is soon forgotten, and the learning rate is a factor of what is added to b instead of b itself,
    which matters when the rate changes.

    Where rounding makes v - m^2 negative it is taken as 0 (PyTorch gives NaN).

    Sources: Tieleman and Hinton, Lecture 6.5 of Neural Networks for Machine Learning, 2012; Graves 2013 (centered).
    """

    needed = ("square_avg",)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        eps_inside_sqrt: bool = False,
        maximize: bool = False,
    ):
        options = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "eps_inside_sqrt": eps_inside_sqrt,
            "maximize": maximize,
        }
        self.check_options(options)
        super().__init__(params, options)

    def check_options(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError if an option is out of range; numbers become Python numbers."""
        check_options(group, ("lr", "eps", "weight_decay", "momentum"), ("centered", "eps_inside_sqrt", "maximize"))
        group["alpha"] = check_number(group["alpha"], "alpha", low=0, high=1)

    def averages(self, group: dict[str, Any]) -> list[str]:
        wanted = {"square_avg": True, "momentum_buffer": group["momentum"] > 0, "grad_avg": group["centered"]}
        return [name for name, is_wanted in wanted.items() if is_wanted]

    def adapt(self, group, step, p, g, averages, s, t, xp) -> None:
        lr, alpha, eps = float(group["lr"]), group["alpha"], group["eps"]
        square = averages["square_avg"]
        add_square(square, g, alpha, s, xp)
        if group["centered"]:
            mean = averages["grad_avg"]
            lerp(mean, g, 1 - alpha, s, xp)
            xp.multiply(mean, mean, out=s)
            xp.subtract(square, s, out=s)
            square = xp.maximum(s, 0, out=s)
        if group["eps_inside_sqrt"]:
            xp.add(square, eps, out=s)
            xp.sqrt(s, out=s)
        else:
            xp.sqrt(square, out=s)
            s += eps
        if "momentum_buffer" in averages:
            buffer = averages["momentum_buffer"]
            xp.divide(g, s, out=s)
            buffer *= group["momentum"]
            buffer += s
            xp.multiply(buffer, -lr, out=t)
        else:
            xp.multiply(g, -lr, out=t)
            t /= s
        p += t
