"""Rows for minigrad/ops/activations.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.ops.case import Case, Draw, Error, const

erf = np.vectorize(math.erf, otypes=[float])
EXTREMES = np.array([0.0, -0.0, 1e-30, -1e-30, 20.0, -20.0, 1e4, -1e4, np.inf, -np.inf])


def away_from(*points: float) -> Callable:
    return lambda d: (d.away(2, 3, 2, 4, points=points),)


def normal(d: Draw) -> tuple:
    return (d.normal(2, 3, 2, 4) * 2,)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def limited(x, low, high):
    return np.where(x < low, low, np.where(x > high, high, x))


def softmax(x, dim):
    e = np.exp(x - x.max(axis=dim, keepdims=True)) if x.size else x
    return e / e.sum(axis=dim, keepdims=True)


def log_softmax(x, dim):
    z = x - x.max(axis=dim, keepdims=True) if x.size else x
    return z - np.log(np.exp(z).sum(axis=dim, keepdims=True))


def hardswish(x, inplace=False):
    return x * limited(x + 3, 0, 6) / 6


def gelu(x, approximate="none"):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(torch, x, approximate):
    return torch.nn.functional.gelu(x, approximate=approximate)


def softplus(x, beta=1.0, threshold=20.0):
    return np.where(beta * x > threshold, x, np.log1p(np.exp(beta * x)) / beta)


def elu(x, alpha=1.0, inplace=False):
    return np.where(x > 0, x, alpha * np.expm1(x))


# op, PyTorch's name, inputs, reference, its kinks, whether it has inplace=
ELEMENTWISE = [
    ("relu", "nn.functional.relu", lambda x, inplace=False: np.where(x < 0, 0, x), (0,), True),
    ("relu6", "nn.functional.relu6", lambda x, inplace=False: limited(x, 0, 6), (0, 6), True),
    ("hardtanh", "nn.functional.hardtanh", lambda x, inplace=False: limited(x, -1, 1), (-1, 1), True),
    ("leaky_relu", "nn.functional.leaky_relu", lambda x, inplace=False: np.where(x > 0, x, 0.01 * x), (0,), True),
    ("elu", "nn.functional.elu", elu, (0,), True),
    ("selu", "nn.functional.selu", lambda x, inplace=False: 1.0507009873554805 * elu(x, 1.6732632423543772), (0,), True),
    ("hardsigmoid", "nn.functional.hardsigmoid", lambda x, inplace=False: limited(x + 3, 0, 6) / 6, (-3, 3), True),
    ("hardswish", "nn.functional.hardswish", hardswish, (-3, 3), True),
    ("silu", "nn.functional.silu", lambda x, inplace=False: x / (1 + np.exp(-x)), (), True),
    ("mish", "nn.functional.mish", lambda x, inplace=False: x * np.tanh(np.logaddexp(0, x)), (), True),
    ("sigmoid", "sigmoid", sigmoid, (), False),
    ("tanh", "tanh", np.tanh, (), False),
    ("logsigmoid", "nn.functional.logsigmoid", lambda x: -np.logaddexp(0, -x), (), False),
    ("softplus", "nn.functional.softplus", softplus, (), False),
    ("gelu", "nn.functional.gelu", gelu, (), False),
]


def rows(op: str, torch: str, reference: Callable, kinks: tuple, inplace: bool) -> list[Case]:
    """What every elementwise activation is called with."""
    # PyTorch's 1/6 is a float32 number in float64 too.
    oracle = {"torch": torch, "torch_tolerance": 1e-7 if op == "hardsigmoid" else 1e-10}
    step = 1e-2 if op in ("relu", "relu6", "hardtanh", "leaky_relu", "hardsigmoid") else 1e-3
    smooth = {**oracle, "step": step, "scale": "output", "ulp": 8}
    values = away_from(*kinks) if kinks else normal
    found = [
        Case(op, "normal", values, reference, **smooth),
        Case(op, "extremes", lambda d: (EXTREMES,), reference, **oracle, kink=True, nan=False, gradient_ulp=64,
             why="the inputs hold infinities, whose products are NaN already"),
        Case(op, "0-d", lambda d: (d.positive(),), reference, **smooth),
        Case(op, "empty", lambda d: (d.normal(0, 3),), reference, **oracle),
    ]  # fmt: skip
    if kinks:
        found.append(Case(op, "kinks", lambda d: (np.array(kinks, float),), reference, **oracle, kink=True))
    if inplace:
        found.append(Case(op, "in place", lambda d: (*values(d), {"inplace": True}), reference, **smooth, inplace=True))
    return found


CASES = [
    *(case for row in ELEMENTWISE for case in rows(*row)),
    Case("relu_", "normal", away_from(0), lambda x: np.where(x < 0, 0, x), torch="relu_", inplace=True, step=1e-2),
    Case("hardtanh", "limits", lambda d: (d.away(4, 3, points=(-2, 0.5)), -2, 0.5), limited, torch="nn.functional.hardtanh",
         step=1e-2),
    Case("leaky_relu", "slope", lambda d: (d.away(4, 3), 0.2), lambda x, slope: np.where(x > 0, x, slope * x),
         torch="nn.functional.leaky_relu", step=1e-2),
    Case("elu", "alpha", lambda d: (d.away(4, 3), 0.5), elu, torch="nn.functional.elu", scale="output"),
    Case("gelu", "tanh", lambda d: (*normal(d), "tanh"), gelu, torch=gelu_tanh, scale="output", ulp=8),
    Case("gelu", "tanh extremes", lambda d: (const(EXTREMES[:-2]), "tanh"), gelu, torch=gelu_tanh),
    Case("softplus", "beta and threshold", lambda d: (d.away(4, 3, points=(1.5,)), 2.0, 3.0), softplus,
         torch="nn.functional.softplus", scale="output"),
    *(case for op, reference in (("softmax", softmax), ("log_softmax", log_softmax)) for case in (
        Case(op, "rows", lambda d: (d.normal(4, 5) * 3, 1), reference, torch=op, scale="output", ulp=8),
        Case(op, "columns", lambda d: (d.normal(4, 5), 0), reference, torch=op, scale="output", ulp=8),
        Case(op, "images", lambda d: (d.normal(2, 3, 2, 4), {"dim": -3}), reference, torch=op, scale="output", ulp=8),
        Case(op, "large logits", lambda d: (np.array([[1e4, -1e4, 0.0], [9999.0, 1e4, 1e4]]), 1), reference, torch=op,
             scale="output"),
        Case(op, "an impossible class", lambda d: (np.array([[0.5, -np.inf, 1.0]]), 1), reference, torch=op, kink=True,
             scale="output"),
        Case(op, "nothing possible", lambda d: (const(np.array([[-np.inf, -np.inf], [np.inf, 0.0]])), 1), reference, torch=op),
        Case(op, "one class", lambda d: (d.normal(3, 1), 1), reference, torch=op),
        Case(op, "0-d", lambda d: (d.normal(), 0), lambda x, dim, f=reference: f(x.reshape(1), 0).reshape(()), torch=op),
        Case(op, "empty batch", lambda d: (d.normal(0, 3), 1), reference, torch=op),
    )),
]  # fmt: skip

ERRORS = [
    *(error for op in (*(row[0] for row in ELEMENTWISE), "relu_") for error in (
        Error(op, "list", lambda d: ([1.0],), TypeError, r"x must be a Tensor, got list: use mg.tensor\(x\)"),
        Error(op, "integers", lambda d: (d.integers(0, 3, 4),), TypeError, r"got dtype int64: use x.float\(\)"),
    )),
    *(Error(row[0], "leaf in place", lambda d: (d.normal(3), {"inplace": True}), RuntimeError, "leaf tensor that requires grad")
      for row in ELEMENTWISE if row[-1] and row[0] != "relu"),
    Error("relu_", "leaf", lambda d: (d.normal(3),), RuntimeError, "leaf tensor that requires grad"),
    Error("hardtanh", "limits crossed", lambda d: (d.normal(3), 1, -1), ValueError, "min_val must not be larger than max_val"),
    Error("gelu", "approximate", lambda d: (d.normal(3), "erf"), ValueError, 'approximate must be "none" or "tanh"'),
    Error("softplus", "beta", lambda d: (d.normal(3), 0), ValueError, "beta must not be 0"),
    *(error for op in ("softmax", "log_softmax") for error in (
        Error(op, "no dim", lambda d: (d.normal(2, 3), None), TypeError, "dim must be one integer"),
        Error(op, "dim out of range", lambda d: (d.normal(2, 3), 2), IndexError, "dim=2 is out of range"),
        Error(op, "integers", lambda d: (d.integers(0, 3, 4), 0), TypeError, "must hold floating-point numbers"),
    )),
]  # fmt: skip
