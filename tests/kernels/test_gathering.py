"""Sums of rows that belong together: against loops, in every dtype, with what must not reach its neighbours."""

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from tests.cuda.on_device import cuda

IMPLEMENTATIONS = [reference, cpu, cuda]
# M, K, count
SIZES = [(7, 3, 5), (300, 4, 20), (5, 1, 40), (6, 2, 1), (0, 3, 4), (4, 0, 3)]


def draw(m, k, count, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return (100 * rng.standard_normal((m, k))).astype(dtype), rng.integers(0, count, m)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("sizes", SIZES)
def test_sums(sizes, dtype, implementation):
    rows, position = draw(*sizes, dtype)
    sums = implementation.sums_by_position(rows, position, sizes[2])
    wide = np.float64 if np.dtype(dtype).kind == "f" else np.int64
    expected = [sum((row.astype(wide) for row in rows[position == p]), np.zeros(sizes[1], wide)) for p in range(sizes[2])]
    expected = np.array(expected, wide).astype(dtype)
    assert sums.dtype == dtype
    # NumPy adds long columns in another order: a difference in float64 that may turn one rounding
    tolerance = float(np.finfo(dtype).eps) if wide is np.float64 else 0
    np.testing.assert_allclose(sums, expected, rtol=tolerance, atol=len(rows) * 1e-13 if wide is np.float64 else 0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_infinity_and_large_numbers_stay_where_they_are(implementation):
    rows = np.array([[1e30], [3.0], [np.nan], [4.0], [np.inf], [5.0], [-1e30], [6.0]], np.float32)
    sums = implementation.sums_by_position(rows, np.array([0, 1, 2, 3, 4, 5, 0, 1]), 7)
    np.testing.assert_array_equal(sums.ravel(), [0, 9, np.nan, 4, np.inf, 5, 0])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_whole_numbers_beyond_float64_are_exact(implementation):
    rows = np.array([[2**60 + 1], [2**60], [7]])
    np.testing.assert_array_equal(implementation.sums_by_position(rows, np.array([1, 1, 0]), 2), [[7], [2**61 + 1]])
