"""Rows for minigrad/ops/math.py."""

from __future__ import annotations

import math

import numpy as np

from tests.ops.case import Case, Draw, Error, const

erf = np.vectorize(math.erf, otypes=[float])


def normal(d: Draw) -> tuple:
    return (d.normal(2, 3, 2, 2),)


def positive(d: Draw) -> tuple:
    return (d.positive(2, 3, 2, 2),)


def away(d: Draw) -> tuple:
    return (d.away(2, 3, 2, 2),)


def between_integers(d: Draw) -> tuple:
    return (d.away(3, 4, points=range(-3, 4)),)


def halves(d: Draw) -> tuple:
    return (const(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, -0.0, 1e9, np.inf, -np.inf])),)


def integers(d: Draw) -> tuple:
    return (d.integers(-3, 4, 2, 5),)


def around_limits(d: Draw) -> tuple:
    return (d.away(3, 4, points=(-1, 0.5)),)


def three(d: Draw) -> tuple:
    """Values, lower limits and upper limits, all at least 0.1 apart."""
    x = d.away(3, 4, points=(-1, 1))
    low = -1 + d.uniform(-0.05, 0.05, 4)
    return x, low, 1 + d.uniform(-0.05, 0.05, 3, 1)


def clamped(x, min=None, max=None):
    y = x if min is None else np.where(x < min, min, x)
    return y if max is None else np.where(y > max, max, y)


CASES = [
    # ---- exponentials, logarithms, powers ---------------------------------------------------------------------------
    Case("exp", "normal", normal, np.exp, torch="exp"),
    Case("exp", "limits", lambda d: (const(np.array([-np.inf, -1e4, 0.0, 1e4, np.inf])),), np.exp, torch="exp"),
    Case("exp", "integers", integers, np.exp, torch="exp", ulp=2**30, why="integers are computed in float32"),
    Case("expm1", "normal", normal, np.expm1, torch="expm1"),
    Case("expm1", "tiny", lambda d: (d.normal(5) * 1e-6,), np.expm1, torch="expm1"),
    Case("log", "positive", positive, np.log, torch="log", scale="output"),
    Case("log", "limits", lambda d: (const(np.array([-1.0, -0.0, 0.0, 1.0, np.inf])),), np.log, torch="log"),
    Case("log1p", "positive", positive, np.log1p, torch="log1p"),
    Case("log1p", "tiny", lambda d: (d.normal(5) * 1e-6,), np.log1p, torch="log1p"),
    Case("log2", "positive", positive, np.log2, torch="log2", scale="output"),
    Case("log10", "positive", positive, np.log10, torch="log10", scale="output"),
    Case("sqrt", "positive", positive, np.sqrt, torch="sqrt"),
    Case("sqrt", "limits", lambda d: (const(np.array([-1.0, 0.0, np.inf])),), np.sqrt, torch="sqrt"),
    Case("sqrt", "zero", lambda d: (np.array([0.0, 4.0]),), np.sqrt, torch="sqrt", kink=True),
    Case("rsqrt", "positive", positive, lambda x: 1 / np.sqrt(x), torch="rsqrt"),
    Case("square", "normal", normal, lambda x: x * x, torch="square"),
    Case("square", "integers", integers, lambda x: x * x, torch="square"),
    Case("reciprocal", "normal", lambda d: (d.away(2, 3, gap=0.5),), lambda x: 1 / x, torch="reciprocal"),
    # ---- trigonometry, erf ------------------------------------------------------------------------------------------
    Case("sin", "normal", normal, np.sin, torch="sin"),
    Case("cos", "normal", normal, np.cos, torch="cos", scale="output"),
    Case("tan", "normal", lambda d: (d.uniform(-1, 1, 2, 3),), np.tan, torch="tan"),
    Case("erf", "normal", normal, erf, torch="erf"),
    Case("erf", "every part", lambda d: (np.array([0.0, 1e-6, 0.3, -0.99, 1.01, -1.7, 2.9, -4.2, 6.5]),), erf, torch="erf"),
    Case("erf", "limits", lambda d: (const(np.array([-np.inf, -1e4, -0.0, 1e-30, 30.0, np.inf])),), erf, torch="erf"),
    # ---- sign and rounding ------------------------------------------------------------------------------------------
    Case("abs", "normal", away, np.abs, torch="abs", step=1e-2),
    Case("abs", "zero", lambda d: (np.zeros(2),), np.abs, torch="abs", kink=True),
    Case("abs", "integers", integers, np.abs, torch="abs"),
    Case("sign", "normal", away, np.sign, torch="sign", nan=False, why="PyTorch gives 0 for NaN; NaN stays NaN here"),
    Case("sign", "zero", lambda d: (np.array([0.0, -0.0, 2.0]),), np.sign, torch="sign", kink=True),
    *(case for op, function in (("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc), ("round", np.round)) for case in (
        Case(op, "normal", between_integers, function, torch=op),
        Case(op, "halves", halves, function, torch=op),
        Case(op, "integers", integers, lambda x: x, torch=op),
    )),
    Case("round", "decimals", lambda d: (const(d.normal(8)), 2), lambda x, decimals: np.round(x, decimals),
         torch=lambda torch, x, decimals: torch.round(x, decimals=decimals), scale="output"),
    # ---- clamp and where --------------------------------------------------------------------------------------------
    Case("clamp", "two limits", lambda d: (*around_limits(d), -1, 0.5), clamped, torch="clamp", step=1e-2),
    Case("clamp", "images", lambda d: (d.away(2, 3, 4, 4, points=(-1, 1)), -1, 1), clamped, torch="clamp", step=1e-2),
    Case("clamp", "min", lambda d: (*around_limits(d), {"min": -1}), clamped, torch="clamp", step=1e-2),
    Case("clamp", "max", lambda d: (*around_limits(d), {"max": 0.5}), clamped, torch="clamp", step=1e-2),
    Case("clamp", "at the limits", lambda d: (np.array([-1.0, 0.0, 1.0, 2.0]), -1, 1), clamped, torch="clamp", kink=True),
    Case("clamp", "limits crossed", lambda d: (d.normal(5) + 4, 2, 1), clamped, torch="clamp", nan=False, step=1e-2,
         why="np.where lets the limit win over NaN"),
    Case("clamp", "integers", lambda d: (*integers(d), -1, 1), clamped, torch="clamp"),
    Case("clamp", "integers by a fraction", lambda d: (*integers(d), {"max": 0.5}), clamped, torch="clamp"),
    Case("clamp", "tensors", three, clamped, torch="clamp", step=1e-2, nan=False, why="NaN limits are unspecified"),
    Case("clamp", "a tensor and a number", lambda d: (three(d)[0], three(d)[1], 1.0), clamped, torch=lambda torch, x, low, high:
         torch.minimum(torch.clamp(x, low), torch.tensor(high, dtype=x.dtype)), step=1e-2, nan=False,
         why="NaN limits are unspecified"),
    Case("clamp", "limits that are equal", lambda d: (np.array([0.0, 1.0, 2.0]), np.ones(3), np.ones(3)), clamped, torch="clamp",
         kink=True, nan=False, why="NaN limits are unspecified"),
    Case("clamp_", "two limits", lambda d: (*around_limits(d), -1, 0.5), clamped, torch="Tensor.clamp_", inplace=True, step=1e-2),
    Case("clamp_", "min", lambda d: (*around_limits(d), -1), clamped, torch="Tensor.clamp_", inplace=True, step=1e-2),
    Case("clamp_", "integers", lambda d: (*integers(d), -1, 1), clamped, torch="Tensor.clamp_", inplace=True),
    Case("where", "tensors", lambda d: (d.booleans(2, 3), d.normal(2, 3), d.normal(2, 3)), np.where, torch="where", step=1),
    Case("where", "broadcast", lambda d: (d.booleans(2, 1, 4), d.normal(3, 1), d.normal(4)), np.where, torch="where", step=1),
    Case("where", "a number", lambda d: (d.booleans(2, 3), d.normal(2, 3), 0), np.where, torch="where", step=1),
    Case("where", "number first", lambda d: (d.booleans(2, 3), 1.5, d.normal(3)), np.where, torch="where", step=1),
    Case("where", "two numbers", lambda d: (d.booleans(2, 3), 1.0, 0.0), np.where, torch="where"),
    Case("where", "integers and a fraction", lambda d: (d.booleans(2, 5), *integers(d), 0.5), np.where, torch="where"),
]  # fmt: skip

ELEMENTWISE = ("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "square", "reciprocal", "sin", "cos", "tan",
               "erf", "abs", "sign", "floor", "ceil", "trunc", "round")  # fmt: skip

ERRORS = [
    *(Error(op, "number", lambda d: (1.0,), TypeError, "x must be a Tensor, got float") for op in ELEMENTWISE),
    Error("clamp", "no limit", lambda d: (d.normal(2),), ValueError, "give min, max or both"),
    Error("clamp", "string", lambda d: (d.normal(2), "0"), TypeError, "min must be a number or a Tensor, got str"),
    Error("clamp", "shapes", lambda d: (d.normal(2, 3), d.normal(2)), ValueError, r"do not broadcast: x \(2, 3\), min \(2,\)"),
    Error("clamp", "dtypes", lambda d: (d.normal(2), d.integers(0, 2, 2)), TypeError, "min must have the dtype of x, float32"),
    Error("clamp_", "leaf", lambda d: (d.normal(2), 0), RuntimeError, "leaf tensor that requires grad"),
    Error("clamp_", "tensor", lambda d: (d.normal(2), d.normal(2)), TypeError, "use clamp for tensors", inplace=True),
    Error("clamp_", "fraction", lambda d: (d.integers(0, 9, 3), 0.5), TypeError, "cannot be stored in a tensor of dtype int64"),
    Error("where", "numbers as condition", lambda d: (d.normal(2), d.normal(2), 0), TypeError, "condition must hold booleans"),
    Error("where", "string", lambda d: (d.booleans(2), d.normal(2), "0"), TypeError, "y must be a Tensor or a number, got str"),
    Error(
        "where", "shapes", lambda d: (d.booleans(2), d.normal(3), 0), ValueError, r"do not broadcast: condition \(2,\), x \(3,\)"
    ),
]
