"""The sizes of a convolution, as kernels take them."""

from __future__ import annotations

import numpy as np

from ..geometry import ConvGeometry
from ._compiler import struct

__all__ = ["window"]


def window(g: ConvGeometry) -> np.ndarray:
    """The structure Window of window.cuh."""
    return struct(g.n, g.h, g.w, g.c, g.oh, g.ow, g.o, g.groups, g.kh, g.kw, g.sh, g.sw, g.top, g.left, g.dh, g.dw)
