"""Rows for minigrad/ops/casting.py; tests/test_tensor.py has those that change the dtype of floating tensors."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Error, Raw

CASES = [
    Case("cast", "copy", lambda d: (d.normal(2, 3, 4, 4), {"copy": True}), lambda x, copy: x, step=1),
    Case("cast", "integers", lambda d: (d.integers(-9, 9, 4), Raw(np.float64)), lambda x, dtype: x.astype(np.float64)),
    Case(
        "cast",
        "to integers",
        lambda d: (d.normal(2, 3), Raw(np.int64)),
        lambda x, dtype: np.trunc(x).astype(np.int64),
        nan=False,
        why="an integer cannot be NaN",
    ),
    Case("to", "copy", lambda d: (d.normal(2, 3), Raw("cpu"), {"copy": True}), lambda x, place, copy: x, step=1),
    Case("to", "booleans", lambda d: (d.booleans(5), Raw(np.int64)), lambda x, dtype: x.astype(np.int64)),
    Case("type_as", "other", lambda d: (d.integers(-9, 9, 4), d.integers(0, 2, 1)), lambda x, other: x, view=True),
]

ERRORS = [
    Error("cast", "complex", lambda d: (d.normal(3), Raw(np.complex64)), TypeError, "tensors hold booleans, integers or real"),
    Error("cast", "device", lambda d: (d.normal(3), None, "tpu"), ValueError, 'device must be "cpu", "cuda"'),
    Error("to", "nonsense", lambda d: (d.normal(3), Raw("floaty")), TypeError, "'floaty' names no device .* and no dtype"),
    Error("to", "list", lambda d: ([1.0], Raw(np.float32)), TypeError, "x must be a Tensor"),
    Error("type_as", "dtype", lambda d: (d.normal(3), Raw(np.float32)), TypeError, "other must be a Tensor"),
]
