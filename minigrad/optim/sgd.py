"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minigrad.device import array_module
from minigrad.kernels import for_array
from minigrad.modes import state
from minigrad.optim.optimizer import Optimizer, check_alike, check_number
from minigrad.tensor import Tensor

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with PyTorch's formula for each parameter p with gradient g and velocity v:

        g = g + weight_decay * p
        v = momentum * v + (1 - dampening) * g        (v = g in the first step)
        p = p - lr * v                                (with Nesterov's momentum: p - lr * (g + momentum * v))

    ``params``        tensors, (name, tensor) pairs, or groups with options of their own (see Optimizer)
    ``lr``            learning rate, at least 0
    ``momentum``      at least 0, usually 0.9; 0 is plain gradient descent and keeps no velocity
    ``dampening``     how much of the new gradient is left out of the velocity; must be 0 with ``nesterov``
    ``weight_decay``  L2 penalty, at least 0
    ``nesterov``      look ahead by one step of momentum; needs ``momentum`` > 0
    ``maximize``      ascend instead of descend

    The whole update is one pass over memory (the kernel ``sgd_momentum_all``). Parameters without a gradient are left alone.
    ``state[p]["momentum_buffer"]`` is the velocity. The learning rate stands outside it, so a change acts at once; Caffe and
    some papers put it inside, which gives other trajectories when the rate changes.

    Sources: Polyak 1964; Sutskever et al. 2013 (Nesterov's form); the formula is that of ``torch.optim.SGD``.
    """

    can_be_captured = True

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ):
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        self.check_options(options)
        super().__init__(params, options)

    def check_options(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError if an option is out of range; numbers become Python numbers."""
        for name in ("lr", "momentum", "weight_decay"):
            group[name] = check_number(group[name], name, low=0)
        group["dampening"] = check_number(group["dampening"], "dampening")
        for name in ("nesterov", "maximize"):
            if not isinstance(group[name], bool):
                raise TypeError(f"{name} must be True or False, got {group[name]!r}")
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "nesterov=True needs momentum > 0 and dampening = 0, "
                f"got momentum={group['momentum']} and dampening={group['dampening']}"
            )

    def update(self) -> None:
        """One step of every parameter that has a gradient."""
        calls = []  # everything is checked and allocated before the first parameter changes
        for number, group in enumerate(self.param_groups):
            kinds: dict[Any, list] = {}  # parameters may lie on several devices
            for i, p in enumerate(group["params"]):
                if p.grad is not None:
                    kinds.setdefault(for_array(p.array), []).append((p, *self._velocity(p, group, i)))
            calls += [(kernels, number, *zip(*members, strict=True)) for kernels, members in kinds.items()]
        for kernels, number, parameters, velocities, first in calls:
            group = self.param_groups[number]
            kernels.sgd_momentum_all(
                [p.array for p in parameters],
                [p.grad.array for p in parameters],
                velocities if group["momentum"] else None,
                group["lr"] if state.capture is None else self._changing_rate(kernels, number),
                group["momentum"],
                group["dampening"],
                group["weight_decay"],
                group["nesterov"],
                group["maximize"],
                first,
            )
            for p, velocity, new in zip(parameters, velocities, first, strict=True):
                p.bump_version()
                if new:
                    self.state[p] = {"momentum_buffer": Tensor(velocity)}

    def _changing_rate(self, kernels: Any, number: int) -> Any:
        """Memory that holds the learning rate of a group at every replay of a CUDA graph; the other options stay as they are."""
        fixed = [name for name in self.defaults if name != "lr"]
        captured = {name: self.param_groups[number][name] for name in fixed}

        def check() -> None:
            for name, value in captured.items():
                if self.param_groups[number][name] != value:
                    raise RuntimeError(
                        f"{name} of SGD was {value} when the step was captured and is {self.param_groups[number][name]} now: "
                        "only the learning rate may change, so capture the step anew with cuda.graph"
                    )

        state.capture.checks.append(check)
        return kernels.number_of_replay(lambda: self.param_groups[number]["lr"])

    def _velocity(self, p: Tensor, group: dict[str, Any], index: int) -> tuple[Any, bool]:
        """The velocity's array (None without momentum) and whether this is its first step."""
        check_alike(p.grad.array, p, group, index, "gradient")
        if group["momentum"] == 0:
            return None, False
        state = self.state.get(p)
        velocity = None if state is None else state.get("momentum_buffer")
        if velocity is None:
            return array_module(p.array).empty_like(p.array), True
        check_alike(velocity.array, p, group, index, "velocity")
        return velocity.array, False
