"""Comparing tensors: equal, allclose, and an assertion that says where two tensors differ most."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.device import array_module, to_numpy
from minigrad.tensor import Tensor

__all__ = ["allclose", "assert_close", "equal"]

# The relative and absolute tolerance of assert_close for each dtype (PyTorch's); everything else must be equal.
TOLERANCES = {"bfloat16": (1.6e-2, 1e-5), "float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def _check_pair(x: Tensor, other: Tensor) -> None:
    for name, t in (("x", x), ("other", other)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} must be a Tensor, got {type(t).__name__}")
    if type(x.array) is not type(other.array):
        raise RuntimeError(f"both tensors must be on one device, got {x.device} and {other.device}: move one with .to(device)")


def equal(x: Tensor, other: Tensor) -> bool:
    """Whether both tensors have the same shape and the same elements (NaN differs from everything)."""
    _check_pair(x, other)
    return x.shape == other.shape and bool((x.array == other.array).all())


def allclose(x: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |x - other| <= atol + rtol * |other| everywhere, broadcast."""
    _check_pair(x, other)
    return bool(array_module(x.array).allclose(x.array, other.array, rtol=rtol, atol=atol, equal_nan=equal_nan))


def assert_close(
    actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None, equal_nan: bool = False
) -> None:
    """Raise AssertionError unless both (tensors, arrays or numbers) agree in shape, dtype and, within tolerances, in value.

    |actual - expected| <= atol + rtol * |expected|; give both tolerances or none (then PyTorch's for the dtype are used). The
    message names the element that differs most.
    """
    if (rtol is None) != (atol is None):
        raise ValueError("rtol and atol must be given together")
    a, e = (to_numpy(x.array) if isinstance(x, Tensor) else np.asarray(x) for x in (actual, expected))
    if a.shape != e.shape:
        raise AssertionError(f"shapes differ: {a.shape}, expected {e.shape}")
    if a.dtype != e.dtype:
        raise AssertionError(f"dtypes differ: {a.dtype}, expected {e.dtype}")
    if rtol is None or atol is None:
        rtol, atol = TOLERANCES.get(a.dtype.name, (0.0, 0.0))
    if a.dtype.kind == "V":  # NumPy cannot compare bfloat16 so
        a, e = a.astype(np.float32), e.astype(np.float32)
    close = np.isclose(a, e, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if close.all():
        return
    with np.errstate(invalid="ignore"):
        error = np.where(close, 0, np.nan_to_num(np.abs(a.astype(np.float64) - e.astype(np.float64)), nan=np.inf))
    at = np.unravel_index(int(error.argmax()), error.shape)
    raise AssertionError(
        f"{np.count_nonzero(~close)} of {close.size} elements differ by more than atol={atol:g} + rtol={rtol:g} * |expected|; "
        f"most at {tuple(map(int, at))}: {a[at]!r}, expected {e[at]!r}"
    )
