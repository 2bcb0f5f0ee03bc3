"""Many arrays multiplied by a number, with a look whether they are finite."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from tests.cuda import standin
from tests.cuda.on_device import cuda, has_card

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": BFLOAT16}
IMPLEMENTATIONS = pytest.mark.parametrize("kernels", [reference, cpu, cuda], ids=["reference", "cpu", "cuda"])
SHAPES = [(), (0,), (1,), (7,), (2, 3, 5), (2048,), (2049,), (5000,), (3, 0, 2)]


def draw(shape, dtype, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_products(kernels, dtype):
    arrays = [draw(shape, dtype, i) for i, shape in enumerate(SHAPES)]
    expected = [(a.astype(np.float64) * 0.375).astype(dtype) for a in arrays]  # exact in float32
    found = kernels.scale_all(arrays, 0.375)
    assert (found.shape, found.dtype, int(found)) == ((), np.int32, 0)
    for ours, theirs in zip(arrays, expected, strict=True):
        assert np.array_equal(ours, theirs)


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 1, 2047, 2048, 4999, -1])
def test_one_bad_value_is_found(kernels, dtype, value, place):
    arrays = [draw(5000, dtype), draw(5001, dtype)]
    arrays[place < 0][place] = value
    assert int(kernels.scale_all(arrays, 0.5)) == 1
    kept = arrays[place < 0][place]
    assert np.isnan(kept) if np.isnan(value) else kept == value


@IMPLEMENTATIONS
def test_products_that_overflow_are_found(kernels):
    arrays = [np.full(3, 3e38, np.float32)]
    assert int(kernels.scale_all(arrays, 4.0)) == 1
    assert np.isinf(arrays[0]).all()


@IMPLEMENTATIONS
def test_the_largest_numbers_are_good(kernels):
    for dtype in DTYPES.values():
        largest = np.array([ml_dtypes.finfo(dtype).max, ml_dtypes.finfo(dtype).min]).astype(dtype)
        arrays = [largest.copy()]
        assert int(kernels.scale_all(arrays, 1.0)) == 0
        assert np.array_equal(arrays[0], largest)


@IMPLEMENTATIONS
def test_no_arrays(kernels):
    kernels = cuda.module if kernels is cuda else kernels  # the proxy would not know that the result is on the card
    assert int(kernels.scale_all([], 2.0)) == 0


@IMPLEMENTATIONS
def test_memory_orders(kernels):
    """Transposed, with gaps, and at odd places in memory; what lies in the gaps stays."""
    base = draw((6, 40), np.float32)
    before = base.copy()
    arrays = [base[::2, 1:33:3], draw((4, 3, 2), np.float32).transpose(2, 0, 1), draw(100, np.float32)[1:]]
    expected = [a * np.float32(0.5) for a in arrays]
    assert int(kernels.scale_all(arrays, 0.5)) == 0
    for ours, theirs in zip(arrays, expected, strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(base[1::2], before[1::2])
    assert np.array_equal(base[:, 0], before[:, 0])


@pytest.mark.parametrize("count", [1, 191, 192, 193, 400])
def test_how_many_arrays_a_launch_takes(count):
    arrays = [draw((1 + k % 5,), np.float32, k) for k in range(count)]
    expected = [a * np.float32(0.25) for a in arrays]
    before = standin.RawKernel.launches
    assert int(cuda.scale_all(arrays, 0.25)) == 0
    assert has_card() or standin.RawKernel.launches - before == -(-count // 192)
    assert all(map(np.array_equal, arrays, expected))
    arrays[-1][0] = np.nan
    assert int(cuda.scale_all(arrays, 0.25)) == 1


def test_the_values_of_a_launch_fit():
    """The table, a factor of 8 bytes, a pointer and an int, into the 4096 bytes that every card has for them."""
    assert cuda.module.scaling.LIMIT * 20 + 8 + 8 + 8 <= 4096
