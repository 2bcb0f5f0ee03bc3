"""Rows for minigrad/ops/pooling.py."""

from __future__ import annotations

import numpy as np

from tests.ops import references
from tests.ops.case import Case, Error


def largest(id: str, x: tuple, kernel_size, **kwargs) -> Case:
    return Case("max_pool2d", id, lambda d: (d.distinct(*x), kernel_size, kwargs), references.max_pool2d,
                torch="nn.functional.max_pool2d")  # fmt: skip


def mean(id: str, x: tuple, kernel_size, **kwargs) -> Case:
    return Case("avg_pool2d", id, lambda d: (d.normal(*x), kernel_size, kwargs), references.avg_pool2d,
                torch="nn.functional.avg_pool2d", scale="absolute", step=1)  # fmt: skip


def adaptive_mean(id: str, x: tuple, output_size) -> Case:
    return Case("adaptive_avg_pool2d", id, lambda d: (d.normal(*x), output_size), references.adaptive_avg_pool2d,
                torch="nn.functional.adaptive_avg_pool2d", scale="absolute", ulp=8, step=1)  # fmt: skip


def adaptive_largest(id: str, x: tuple, output_size, **kwargs) -> Case:
    return Case("adaptive_max_pool2d", id, lambda d: (d.distinct(*x), output_size, kwargs), references.adaptive_max_pool2d,
                torch="nn.functional.adaptive_max_pool2d")  # fmt: skip


CASES = [
    largest("2x2", (2, 3, 4, 6), 2),
    largest("3x3 stride 2 padding 1", (2, 3, 7, 8), 3, stride=2, padding=1),
    largest("sizes that do not divide", (1, 2, 5, 7), (2, 3)),
    largest("ceil mode", (1, 2, 5, 7), (2, 3), ceil_mode=True),
    largest("ceil mode with padding", (1, 2, 6, 5), 3, stride=2, padding=1, ceil_mode=True),
    largest("dilation", (1, 2, 8, 9), (2, 3), stride=(1, 2), dilation=(3, 2), padding=(1, 0)),
    largest("overlapping", (2, 2, 5, 5), 3, stride=1),
    largest("indices", (2, 2, 5, 6), 3, stride=2, padding=1, return_indices=True),
    largest("empty batch", (0, 2, 4, 4), 2),
    Case("max_pool2d", "all negative with padding", lambda d: (d.distinct(1, 2, 4, 4) - 3, 3, {"padding": 1, "stride": 1}),
         references.max_pool2d, torch="nn.functional.max_pool2d"),
    Case("max_pool2d", "ties go to the first", lambda d: (np.zeros((1, 1, 4, 4)), 2, {"return_indices": True}),
         lambda x, k, return_indices: (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2],
                                       np.array([[[[0, 2], [8, 10]]]])), torch="nn.functional.max_pool2d", nan=False,
         why="the reference holds the indices of ties only", kink=True),
    mean("2x2", (2, 3, 4, 6), 2),
    mean("3x3 stride 2 padding 1", (2, 3, 7, 8), 3, stride=2, padding=1),
    mean("padding not counted", (2, 3, 7, 8), 3, stride=2, padding=1, count_include_pad=False),
    mean("ceil mode", (1, 2, 6, 8), 3, stride=(2, 3), padding=1, ceil_mode=True),
    mean("ceil mode, padding not counted", (1, 2, 6, 8), 3, stride=(2, 3), padding=1, ceil_mode=True, count_include_pad=False),
    mean("sizes that do not divide", (1, 2, 5, 7), (2, 3)),
    mean("divisor", (1, 2, 5, 5), 3, stride=1, divisor_override=2),
    mean("empty batch", (0, 2, 4, 4), 2),
    adaptive_mean("to one pixel", (2, 3, 5, 4), 1),
    adaptive_mean("sizes that do not divide", (2, 3, 7, 5), (3, 2)),
    adaptive_mean("larger than the input", (1, 2, 3, 2), (5, 4)),
    adaptive_mean("height kept", (1, 2, 5, 6), (None, 3)),
    adaptive_mean("empty batch", (0, 2, 4, 4), 2),
    adaptive_largest("to one pixel", (2, 3, 5, 4), 1),
    adaptive_largest("sizes that do not divide", (2, 3, 7, 5), (3, 2)),
    adaptive_largest("width kept, indices", (1, 2, 5, 6), (2, None), return_indices=True),
    adaptive_largest("empty batch", (0, 2, 4, 4), 2),
]  # fmt: skip

ERRORS = [
    *(error for op in ("max_pool2d", "avg_pool2d") for error in (
        Error(op, "3 dimensions", lambda d: (d.normal(3, 4, 4), 2), ValueError, "x must have 4 dimensions"),
        Error(op, "window too large", lambda d: (d.normal(1, 1, 2, 4), 3), ValueError, "larger"),
        Error(op, "padding", lambda d: (d.normal(1, 1, 4, 4), 2, {"padding": 2}), ValueError, "at most half of kernel_size"),
        Error(op, "stride", lambda d: (d.normal(1, 1, 4, 4), 2, {"stride": 0}), ValueError, "stride must be at least 1"),
        Error(op, "kernel size", lambda d: (d.normal(1, 1, 4, 4), "2"), TypeError, "kernel_size must be an integer"),
        Error(op, "integers", lambda d: (d.integers(0, 9, 1, 1, 4, 4), 2), TypeError, "x must hold floating-point numbers"),
        Error(op, "list", lambda d: ([[1.0]], 2), TypeError, "x must be a Tensor, got list"),
    )),
    Error("avg_pool2d", "divisor", lambda d: (d.normal(1, 1, 4, 4), 2, {"divisor_override": 0}), ValueError, "divisor_override"),
    *(error for op in ("adaptive_avg_pool2d", "adaptive_max_pool2d") for error in (
        Error(op, "3 dimensions", lambda d: (d.normal(3, 4, 4), 2), ValueError, "x must have 4 dimensions"),
        Error(op, "output size 0", lambda d: (d.normal(1, 1, 4, 4), 0), ValueError, "output_size must be at least 1"),
        Error(op, "three sizes", lambda d: (d.normal(1, 1, 4, 4), (1, 2, 3)), TypeError,
              "output_size must be an integer or a pair"),
        Error(op, "no pixels", lambda d: (d.normal(1, 1, 0, 4), 1), ValueError, "no pixels"),
    )),
]  # fmt: skip
