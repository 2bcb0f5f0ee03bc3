"""The constants of normalization and running statistics: the reference by hand, the others against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, eps

KERNELS = {"reference": reference, "cpu": cpu, "cuda": cuda}
EVERY = pytest.mark.parametrize("kernels", KERNELS.values(), ids=KERNELS)


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(0.5, 2, shape).astype(dtype)


def test_reference_by_hand():
    mean, var = np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]])
    kept, rstd, weight, bias = reference.normalization_constants(mean, var, None, None, 1.0, True, True)
    np.testing.assert_allclose(rstd, [[0.5, 1.0]], rtol=1e-15)
    assert (weight, bias) == (None, None)
    np.testing.assert_array_equal(kept, mean)
    running_mean, running_var = np.array([0.0, 10.0]), np.array([1.0, 1.0])
    reference.update_running(running_mean, running_var, np.array([4.0, 0.0]), np.array([3.0, 3.0]), 0.25, 4 / 3)
    np.testing.assert_allclose(running_mean, [1.0, 7.5], rtol=1e-15)
    np.testing.assert_allclose(running_var, [1.75, 1.75], rtol=1e-15)


@EVERY
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 5), (0, 3)], ids=str)
def test_constants(shape, dtype, kernels):
    mean, var, weight = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype, seed=1), draw(shape[1], 4, dtype=dtype)
    bias = draw(shape[1], 4, dtype=dtype, seed=2)
    for own in (False, True):
        kept, rstd, w, b = kernels.normalization_constants(mean, var, weight, bias, 1e-5, own, own)
        np.testing.assert_allclose(rstd, 1 / np.sqrt(var.astype(np.float64) + 1e-5), rtol=4 * eps(dtype))
        for given, found in ((mean, kept), (weight, w), (bias, b)):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, given)
            assert not own or not np.shares_memory(given, found)
    assert kernels.normalization_constants(mean, var, weight, None, 1e-5, True, True)[3] is None


@EVERY
@pytest.mark.parametrize("dtype", DTYPES)
def test_running(dtype, kernels):
    for size in (1, 300):
        mean, var = draw(size, dtype=dtype), draw(size, dtype=dtype, seed=1)
        running = [draw(size, dtype=dtype, seed=2), draw(size, dtype=dtype, seed=3)]
        right = [0.9 * running[0] + 0.1 * mean, 0.9 * running[1] + 0.1 * 1.25 * var]
        for left_out in (None, 0, 1):
            given = [None if i == left_out else r.copy() for i, r in enumerate(running)]
            kernels.update_running(*given, mean, var, 0.1, 1.25)
            for i, array in enumerate(given):
                if array is not None:
                    np.testing.assert_allclose(array, right[i], rtol=8 * eps(dtype))


@EVERY
def test_running_statistics_of_another_kind(kernels):
    """They may be float64 beside a float32 image, and lie anywhere."""
    wide, mean, var = np.zeros(10), draw(5, dtype=np.float32), draw(5, dtype=np.float32, seed=1)
    kernels.update_running(wide[::2], None, mean, var, 1.0, 2.0)
    np.testing.assert_allclose(wide, np.insert(mean, range(1, 6), 0), rtol=1e-6)


@EVERY
def test_nan_and_infinity(kernels):
    var = np.array([[np.nan, np.inf, 0.0]])
    np.testing.assert_array_equal(
        kernels.normalization_constants(var, var, None, None, 0.0, False, False)[1], [[np.nan, 0.0, np.inf]]
    )


@EVERY
def test_batches_are_counted(kernels):
    counter, mean = np.array(6), draw(3)
    kernels.update_running(mean.copy(), None, mean, mean, 0.1, 1.0, counter)
    kernels.update_running(None, None, mean, mean, 0.1, 1.0, counter)
    assert counter == 8
