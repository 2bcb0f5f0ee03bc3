"""Autocast: inside a block each op computes in the precision that suits it. PyTorch's ``torch.autocast``.

    with mg.autocast("cuda"):                # or mg.autocast("cpu", dtype=mg.bfloat16)
        scores = model(images)               # convolutions and products in 16 bits, normalization's statistics in 32
        loss = F.cross_entropy(scores, classes)
    loss.backward()                          # outside: gradients of parameters are float32, like the parameters

Which op computes in which precision is listed in ``ops/_precision_lists.py``; ``ops/_precision.py`` does the casting. Here are
the switches. With float16 small gradients vanish: see ``mg.amp.GradScaler``.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np

from minigrad.device import bfloat16, cuda_is_available, device
from minigrad.modes import state, update_plain, use_16_bits

__all__ = [
    "autocast",
    "clear_autocast_cache",
    "get_autocast_dtype",
    "is_autocast_available",
    "is_autocast_cache_enabled",
    "is_autocast_enabled",
    "set_autocast_cache_enabled",
    "set_autocast_dtype",
    "set_autocast_enabled",
]


class autocast:
    """Inside ``with autocast(device_type):`` (or a decorated function) ops on tensors of this device choose their precision.

    ``device_type``    "cuda" or "cpu"
    ``dtype``          of the ops that are fast in 16 bits: float16 (the default on cuda) or bfloat16 (the default on the cpu)
    ``enabled``        False: ops compute in the dtype of their tensors, also inside another autocast
    ``cache_enabled``  keep the casts of parameters until the outermost block ends; None: as it is set outside

    Only float32, float16 and bfloat16 tensors are cast, and in-place ops never cast. The setting is the thread's own.
    On the processor it saves no time: 16-bit numbers are computed in float32 and rounded. Raises ValueError for another device,
    TypeError for another dtype; without a graphics card autocast for "cuda" warns and has no effect.
    """

    def __init__(self, device_type: str, dtype=None, enabled: bool = True, cache_enabled: bool | None = None):
        self.device = _device_type(device_type)
        self.dtype, self.cache_enabled = None if dtype is None else _low(dtype), cache_enabled
        self.enabled = bool(enabled)
        if self.enabled and self.device == "cuda" and not cuda_is_available():
            warnings.warn('no graphics card is found, so autocast for "cuda" has no effect', stacklevel=2)
            self.enabled = False
        self._before: list[tuple] = []

    def __enter__(self) -> autocast:
        dtype = self.dtype or get_autocast_dtype(self.device) if self.enabled else None
        self._before.append((state.autocast, state.autocast_caches))
        state.autocast = _changed(self.device, dtype)
        state.autocast_depth += 1
        if dtype is not None:
            use_16_bits()
        if self.cache_enabled is not None:
            state.autocast_caches = bool(self.cache_enabled)
        update_plain()
        return self

    def __exit__(self, *exc_info) -> None:
        state.autocast, state.autocast_caches = self._before.pop()
        state.autocast_depth -= 1
        if not state.autocast_depth:
            clear_autocast_cache()
        update_plain()

    def __call__(self, function: Callable) -> Callable:
        if not callable(function):
            raise TypeError(f"autocast decorates functions, got {type(function).__name__}")

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with autocast(self.device, self.dtype, self.enabled, self.cache_enabled):  # one for each call: threads do not meet
                return function(*args, **kwargs)

        return wrapper


def _device_type(name: str) -> str:
    if not isinstance(name, str):
        raise ValueError(f'device_type must be "cuda" or "cpu", got {name!r}')
    return device(name).type


def _low(dtype) -> np.dtype:
    """float16 or bfloat16; TypeError for any other."""
    if dtype == np.float16:
        return np.dtype(np.float16)
    if getattr(dtype, "name", dtype) == "bfloat16":
        return bfloat16()
    raise TypeError(f"autocast computes in float16 or bfloat16, got {dtype!r}")


def _changed(device_type: str, dtype: np.dtype | None) -> dict[str, np.dtype]:
    """The devices with autocast, where this one has ``dtype``, or none."""
    others = {name: kept for name, kept in state.autocast.items() if name != device_type}
    return others if dtype is None else {**others, device_type: dtype}


# ---- PyTorch's functions for one switch each -----------------------------------------------------------------------------


def is_autocast_available(device_type: str) -> bool:
    """Whether there is autocast for this type of device: for "cpu" and "cuda"."""
    return device_type in ("cpu", "cuda")


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether ops of this thread on this type of device choose their precision."""
    return _device_type(device_type) in state.autocast


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Switch autocast on or off for the ops of this thread; ``autocast`` as a block is safer."""
    state.autocast = _changed(_device_type(device_type), get_autocast_dtype(device_type) if enabled else None)
    if enabled:
        use_16_bits()
    update_plain()


def get_autocast_dtype(device_type: str) -> np.dtype:
    """The dtype of the ops that autocast computes in 16 bits: float16 on "cuda", bfloat16 on "cpu", unless set otherwise."""
    name = _device_type(device_type)
    chosen = state.autocast.get(name) or state.autocast_dtypes.get(name)
    return chosen or (np.dtype(np.float16) if name == "cuda" else bfloat16())


def set_autocast_dtype(device_type: str, dtype) -> None:
    """Set what ``get_autocast_dtype`` gives in this thread, also where autocast is on already."""
    name, dtype = _device_type(device_type), _low(dtype)
    state.autocast_dtypes = {**state.autocast_dtypes, name: dtype}
    if name in state.autocast:
        state.autocast = _changed(name, dtype)


def is_autocast_cache_enabled() -> bool:
    """Whether the casts of parameters are kept until the outermost autocast block ends."""
    return state.autocast_caches


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Whether the casts of parameters are kept until the outermost autocast block ends."""
    state.autocast_caches = bool(enabled)


def clear_autocast_cache() -> None:
    """Forget the casts of parameters that were kept."""
    state.autocast_cache.clear()
