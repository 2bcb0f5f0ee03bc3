"""Adam and AdamW: running averages of the gradient and of its square."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from minigrad.optim.adaptive import AdaptiveOptimizer, add_square, check_options, lerp
from minigrad.optim.optimizer import check_number

__all__ = ["Adam", "AdamW"]


class Adam(AdaptiveOptimizer):
    """Adaptive moment estimation, with PyTorch's formula for each element p with gradient g in step t = 1, 2, ...:

        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g               (exp_avg)
        v = beta2 * v + (1 - beta2) * g^2             (exp_avg_sq)
        w = v                                         (with ``amsgrad``: the largest v so far, max_exp_avg_sq)
        p = p - lr * m / (1 - beta1^t) / (sqrt(w / (1 - beta2^t)) + eps)

    ``params``        tensors, (name, tensor) pairs, or groups with options of their own (see Optimizer)
    ``lr``            learning rate, at least 0
    ``betas``         (beta1, beta2), how much of the averages remains: at least 0, less than 1
    ``eps``           at least 0, keeps the divisor from zero
    ``weight_decay``  at least 0: an L2 penalty, which the divisor weakens where gradients are large
    ``amsgrad``       divide by the largest average so far
    ``maximize``      ascend instead of descend
    ``decoupled_weight_decay``  shrink the parameters by lr * weight_decay instead: that is AdamW

    Parameters without a gradient are left alone, and their t does not count on. ``state[p]`` holds "step" (t) and the averages.

    Sources: Kingma and Ba, Adam: a method for stochastic optimization, 2015; Reddi et al. 2018 (amsgrad).
    """

    needed = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ):
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        self.check_options(options)
        super().__init__(params, options)

    def check_options(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError if an option is out of range; numbers become Python numbers."""
        check_options(group, ("lr", "eps", "weight_decay"), ("amsgrad", "maximize", "decoupled_weight_decay"))
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)):
            raise TypeError(f"betas must be two numbers, got {betas!r}")
        betas = tuple(check_number(beta, "betas", low=0, high=1) for beta in betas)
        if len(betas) != 2 or 1 in betas:
            raise ValueError(f"betas must be two numbers of at least 0 and less than 1, got {betas}")
        group["betas"] = betas

    def averages(self, group: dict[str, Any]) -> list[str]:
        return ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"] if group["amsgrad"] else ["exp_avg", "exp_avg_sq"]

    def adapt(self, group, step, p, g, averages, s, t, xp) -> None:
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        if group["decoupled_weight_decay"] and group["weight_decay"]:
            p *= 1 - lr * group["weight_decay"]
        mean, square = averages["exp_avg"], averages["exp_avg_sq"]
        lerp(mean, g, 1 - beta1, s, xp)
        add_square(square, g, beta2, s, xp)
        if group["amsgrad"]:
            square = xp.maximum(averages["max_exp_avg_sq"], square, out=averages["max_exp_avg_sq"])
        xp.sqrt(square, out=s)
        s /= math.sqrt(1 - beta2**step)
        s += group["eps"]
        xp.multiply(mean, -lr / (1 - beta1**step), out=t)
        t /= s
        p += t


class AdamW(Adam):
    """Adam with decoupled weight decay: each step first shrinks the parameter, p = p * (1 - lr * weight_decay).

    The decay acts on every parameter alike, whatever its gradients. Arguments as in ``Adam``, but ``weight_decay`` is 0.01
    unless told otherwise. As in PyTorch the decay is a multiple of ``lr``; in the paper it is not, only of the schedule.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2019.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)

    def check_options(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError if an option is out of range; numbers become Python numbers."""
        group["decoupled_weight_decay"] = True  # also of groups that Adam saved
        super().check_options(group)
