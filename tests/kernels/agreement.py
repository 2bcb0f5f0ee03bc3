"""What the kernel tests share: comparing arrays, and memory orders."""

from __future__ import annotations

import numpy as np

DTYPES = (np.float32, np.float64)
EPS64 = float(np.finfo(np.float64).eps)

# x (N, C, H, W) -> the same values with other strides
MEMORY_ORDERS = {
    "channels-first": np.ascontiguousarray,
    "channels-last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "sliced": lambda x: np.repeat(np.repeat(x, 2, axis=1), 2, axis=3)[:, ::2, :, ::2],
    "reversed": lambda x: x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1],
}


def eps(dtype) -> float:
    return float(np.finfo(dtype).eps)


def assert_close(actual, expected, bound, dtype=None) -> None:
    """NaN where expected is NaN, infinite where it is infinite, else within ``bound`` (a number or an array)."""
    assert actual.shape == expected.shape
    assert dtype is None or actual.dtype == dtype
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])  # equal NaN, equal signs of Inf
    error = np.abs(actual[finite].astype(np.float64) - expected[finite])
    bound = np.broadcast_to(bound, expected.shape)[finite]
    worst = np.max(error - bound, initial=-1.0)
    assert np.all(error <= bound), f"{worst:.3g} beyond the bound, of {error.size} errors the largest is {error.max():.3g}"


def assert_channels_last(*arrays) -> None:
    for array in arrays:
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous
