"""Small things that the tests of the core share."""

from __future__ import annotations

import minigrad as mg
from minigrad import Tensor


def leaf(*values: float, dtype=mg.float32) -> Tensor:
    """A vector of ``values`` that requires a gradient."""
    return mg.tensor(list(map(float, values)), dtype=dtype, requires_grad=True)
