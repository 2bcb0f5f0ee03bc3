"""Training in mixed precision: ``autocast`` and the gradient scaler, under the names of ``torch.amp``.

    scaler = mg.amp.GradScaler("cuda")
    for images, classes in loader:
        optimizer.zero_grad()
        with mg.autocast("cuda"):
            loss = F.cross_entropy(model(images), classes)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

With ``dtype=mg.bfloat16``, whose exponents are those of float32, no scaler is needed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.device import cuda_is_available, device, device_of
from minigrad.kernels import for_array
from minigrad.precision import autocast, is_autocast_available
from minigrad.tensor import Tensor

__all__ = ["GradScaler", "autocast", "is_autocast_available"]

READY, UNSCALED, STEPPED = "ready", "unscaled", "stepped"


class GradScaler:
    """Multiplies the loss by a scale, so that small gradients do not vanish in float16, and divides the gradients by it again.

    The scale looks for its own size: where a gradient became infinite or NaN, the step is left out (parameters and optimizer
    stay as they are) and the scale shrinks; after ``growth_interval`` good steps in a row it grows.

    ``device``           "cuda" or "cpu": where the model is. For "cuda" without a graphics card it warns and does nothing
    ``init_scale``       the first scale
    ``growth_factor``    by which it grows, above 1
    ``backoff_factor``   by which it shrinks, between 0 and 1
    ``growth_interval``  good steps after which it grows
    ``enabled``          False: ``step`` is ``optimizer.step``, and everything else does nothing
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        self._device, self._enabled = _device_type(device), bool(enabled)
        if self._enabled and self._device == "cuda" and not cuda_is_available():
            warnings.warn('no graphics card is found, so the GradScaler for "cuda" does nothing', stacklevel=2)
            self._enabled = False
        self._scale = _positive(init_scale, "init_scale")
        self.set_growth_factor(growth_factor)
        self.set_backoff_factor(backoff_factor)
        self.set_growth_interval(growth_interval)
        self._good_steps = 0  # since the scale last changed
        self._has_scaled = False
        self._stages: dict[int, list] = {}  # id of an optimizer -> [it, its stage, whether a gradient was not finite]

    # ---- a step --------------------------------------------------------------------------------------------------------

    def scale(self, outputs: Tensor | Iterable[Tensor]) -> Any:
        """The loss, or each of several in a list or tuple, times the scale: what to call ``backward()`` of."""
        if not self._enabled:
            return outputs
        self._has_scaled = True
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, (list, tuple)):
            return type(outputs)(map(self.scale, outputs))
        if isinstance(outputs, Iterable):
            return map(self.scale, outputs)
        raise ValueError(f"outputs must be a Tensor or an iterable of Tensors, got {type(outputs).__name__}")

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, in place: to clip or look at them before ``step``.

        At most once for each optimizer between two calls of ``update``, after all gradients were added up.
        """
        if not self._enabled:
            return
        entry = self._entry(optimizer, "unscale_()")
        if entry[1] is UNSCALED:
            raise RuntimeError("unscale_() was called for this optimizer already since the last update()")
        if entry[1] is STEPPED:
            raise RuntimeError("unscale_() was called after step() of this optimizer: call it before, or update() in between")
        gradients = _gradients(optimizer)
        entry[2] = unscale(gradients, float(np.float32(1 / self._scale)))
        entry[1] = UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step(*args, **kwargs)`` with the gradients unscaled, unless one of them is infinite or NaN.

        Returns what the optimizer's step returns, and None if it is left out.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or any(map(callable, args)):
            raise RuntimeError("a closure is not possible with GradScaler: compute the loss before step()")
        entry = self._entry(optimizer, "step()")
        if entry[1] is STEPPED:
            raise RuntimeError("step() was called for this optimizer already since the last update()")
        if entry[1] is READY:
            self.unscale_(optimizer)
        result = None if entry[2] else optimizer.step(*args, **kwargs)
        optimizer.stepped = True  # a schedule that is stepped next is stepped in the right order, also if nothing was done
        entry[1] = STEPPED
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """After ``step`` of every optimizer: shrink the scale if a step was left out, grow it if its time has come.

        ``new_scale`` sets the scale instead.
        """
        if not self._enabled:
            return
        self._check_scaled("update()")
        if new_scale is not None:
            self._scale = _positive(new_scale.item() if isinstance(new_scale, Tensor) else new_scale, "new_scale")
        elif not any(stage is not READY for _, stage, _ in self._stages.values()):
            raise RuntimeError("update() was called before step() or unscale_(): no gradients were looked at")
        elif any(found for _, _, found in self._stages.values()):
            self._scale, self._good_steps = _float32(self._scale * self._backoff_factor), 0
        else:
            self._good_steps += 1
            if self._good_steps == self._growth_interval:
                larger = _float32(self._scale * self._growth_factor)
                self._scale, self._good_steps = larger if math.isfinite(larger) else self._scale, 0
        self._stages = {}

    def _check_scaled(self, call: str) -> None:
        if not self._has_scaled:
            raise RuntimeError(f"{call} was called before scale(): use scaler.scale(loss).backward()")

    def _entry(self, optimizer: Any, call: str) -> list:
        """What is known about an optimizer since the last update()."""
        self._check_scaled(call)
        return self._stages.setdefault(id(optimizer), [optimizer, READY, False])

    # ---- the numbers ---------------------------------------------------------------------------------------------------

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def get_scale(self) -> float:
        """The scale; 1 where the scaler is not enabled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """The factor by which the scale grows."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set the factor by which the scale grows; it must be above 1."""
        if not new_factor > 1:
            raise ValueError(f"growth_factor must be above 1, got {new_factor!r}")
        self._growth_factor = float(new_factor)

    def get_backoff_factor(self) -> float:
        """The factor by which the scale shrinks."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set the factor by which the scale shrinks; it must be between 0 and 1."""
        if not 0 < new_factor < 1:
            raise ValueError(f"backoff_factor must be between 0 and 1, got {new_factor!r}")
        self._backoff_factor = float(new_factor)

    def get_growth_interval(self) -> int:
        """The number of good steps after which the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set the number of good steps after which the scale grows."""
        if not isinstance(new_interval, int) or isinstance(new_interval, bool) or new_interval < 1:
            raise ValueError(f"growth_interval must be an integer of at least 1, got {new_interval!r}")
        self._growth_interval = new_interval

    # ---- saving and restoring ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The scale and what decides about it, under PyTorch's keys; empty where the scaler is not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._good_steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave (PyTorch's too). Nothing changes on an error, or where the scaler is not enabled."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("the state dict is empty: was it saved from a GradScaler that was not enabled?")
        missing = [key for key in self.state_dict() if key not in state_dict]
        if missing:
            raise ValueError(f"the state dict of a GradScaler must hold {', '.join(missing)}")
        checked = GradScaler("cpu", *(state_dict[key] for key in ("scale", "growth_factor", "backoff_factor", "growth_interval")))
        for name in ("_scale", "_growth_factor", "_backoff_factor", "_growth_interval"):
            setattr(self, name, getattr(checked, name))
        self._good_steps = int(state_dict["_growth_tracker"])


def _device_type(name: Any) -> str:
    return device(name).type


def _float32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _positive(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, got {value!r}")
    return _float32(value)


def _gradients(optimizer: Any) -> list[Tensor]:
    """The gradients of an optimizer's parameters."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not gradients:
        raise RuntimeError("no parameter of this optimizer has a gradient: call scaler.scale(loss).backward() before")
    if any(g.dtype == np.float16 for g in gradients):
        raise ValueError(
            "gradients of float16 cannot be unscaled: leave the model in float32, and use autocast for the forward pass"
        )
    return gradients


def unscale(gradients: list[Tensor], factor: float) -> bool:
    """Multiply gradients by ``factor`` in place; whether one of them is infinite or NaN then. One look at each device."""
    places: dict[Any, list] = {}
    for g in gradients:
        places.setdefault(device_of(g.array), []).append(g.array)
    found = [for_array(arrays[0]).scale_all(arrays, factor) for arrays in places.values()]
    for g in gradients:
        g.bump_version()
    return any(map(bool, found))
