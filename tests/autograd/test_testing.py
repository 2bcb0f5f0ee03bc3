"""Comparing tensors: equal, allclose and assert_close."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.testing import assert_close
from tests.autograd.helpers import leaf


def test_equal():
    x = mg.tensor([1.0, 2.0])
    assert mg.equal(x, leaf(1, 2)) is True
    assert x.equal(mg.tensor([1.0, 2.5])) is False
    assert not mg.equal(x, mg.tensor([[1.0, 2.0]]))
    assert not mg.equal(x, mg.tensor(1.0))
    assert not mg.equal(mg.tensor([math.nan]), mg.tensor([math.nan]))
    assert mg.equal(mg.zeros(0), mg.zeros(0))
    with pytest.raises(TypeError, match="other must be a Tensor, got ndarray"):
        mg.equal(x, x.numpy())


def test_allclose():
    x = mg.tensor([1.0, 100.0])
    assert mg.allclose(x, x * (1 + 1e-6)) is True
    assert mg.allclose(x, x * (1 + 1e-4)) is False
    assert x.allclose(x + 0.5, atol=1)
    assert x.allclose(x * 1.5, rtol=1)
    nan = mg.tensor([math.nan])
    assert not mg.allclose(nan, nan)
    assert mg.allclose(nan, nan, equal_nan=True)


@pytest.mark.parametrize(("dtype", "rtol", "atol"), [("float16", 1e-3, 1e-5), ("float32", 1.3e-6, 1e-5), ("float64", 1e-7, 1e-7)])
def test_tolerances_of_assert_close_are_pytorchs(dtype, rtol, atol):
    torch = pytest.importorskip("torch")
    one = np.array([1.0, 1000.0], dtype)
    for factor in (0.3, 3):
        for other in (one * (1 + factor * rtol), np.array([0, factor * atol], dtype)):
            other = other.astype(dtype)
            expected = one if other[0] else np.zeros(2, dtype)
            verdicts = []
            for check, make in ((assert_close, mg.tensor), (torch.testing.assert_close, torch.tensor)):
                try:
                    check(make(other), make(expected))
                    verdicts.append(True)
                except AssertionError:
                    verdicts.append(False)
            assert verdicts[0] == verdicts[1]


def test_assert_close_passes():
    assert_close(mg.tensor([1.0]), np.array([1.0], np.float32))
    assert_close(leaf(1, 2), leaf(1, 2))
    assert_close(1.0, 1.0 + 1e-9)
    assert_close(mg.tensor([math.inf]), mg.tensor([math.inf]))
    assert_close(mg.tensor([math.nan]), mg.tensor([math.nan]), equal_nan=True)
    assert_close(mg.zeros(0, 2), mg.zeros(0, 2))
    assert_close(mg.tensor([1, 2]), mg.tensor([1, 2]))
    assert_close(mg.tensor([1.0]), mg.tensor([1.4]), rtol=0, atol=0.5)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (mg.ones(2), mg.ones(2, 1), r"shapes differ: \(2,\), expected \(2, 1\)"),
        (mg.ones(2), mg.ones(2, dtype=mg.float64), "dtypes differ: float32, expected float64"),
        (
            mg.tensor([[0.0, 1.0], [2.0, 5.0]]),
            mg.tensor([[0.0, 1.1], [2.0, 3.0]]),
            r"2 of 4 .*most at \(1, 1\): .*5.0.*3.0",
        ),
        (mg.tensor([1, 2]), mg.tensor([1, 3]), r"1 of 2 elements .*most at \(1,\)"),
        (mg.tensor([True]), mg.tensor([False]), "1 of 1 elements"),
        (mg.tensor([math.nan, 1.0]), mg.tensor([math.nan, 1.0]), r"1 of 2 elements .*most at \(0,\): .*nan"),
        (mg.tensor([1e30, math.inf]), mg.tensor([0.0, 1.0]), r"most at \(1,\): .*inf"),
        (mg.tensor(1.0), mg.tensor(1.5), r"most at \(\)"),
        (mg.tensor([0], dtype=mg.uint8), mg.tensor([255], dtype=mg.uint8), "1 of 1 elements"),
    ],
    ids=["shape", "dtype", "worst", "integers", "booleans", "nan", "inf", "number", "uint8"],
)
def test_assert_close_fails(actual, expected, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(actual, expected)


def test_tolerances_come_in_pairs():
    with pytest.raises(ValueError, match="rtol and atol must be given together"):
        assert_close(1.0, 1.0, rtol=1e-3)
