"""``torch.cuda.amp``: autocast and the gradient scaler under their old names, where the device is always "cuda"."""

from __future__ import annotations

import numpy as np

from minigrad import amp, precision

__all__ = ["GradScaler", "autocast"]


class autocast(precision.autocast):
    """``mg.autocast("cuda", dtype, enabled, cache_enabled)``."""

    def __init__(self, enabled: bool = True, dtype=np.float16, cache_enabled: bool = True):
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """``mg.amp.GradScaler("cuda", ...)``."""

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
