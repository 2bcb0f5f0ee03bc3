"""Rows for minigrad/ops/linalg.py."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Draw, Error, const


def product(id: str, a: tuple, b: tuple, op: str = "matmul") -> Case:
    def draw(d: Draw) -> tuple:
        return d.normal(*a), d.normal(*b)

    return Case(op, id, draw, lambda x, other: np.matmul(x, other), torch=op, scale="absolute", ulp=8, step=1)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    y = np.einsum("...i,oi->...o", x, weight)
    return y if bias is None else y + bias


CASES = [
    product("matrices", (2, 3), (3, 4)),
    product("vector and vector", (3,), (3,)),
    product("vector and matrix", (3,), (3, 4)),
    product("matrix and vector", (2, 3), (3,)),
    product("stack and matrix", (5, 2, 3), (3, 4)),
    product("stack and vector", (5, 2, 3), (3,)),
    product("matrix and stack", (2, 3), (5, 3, 4)),
    product("vector and stack", (3,), (5, 3, 4)),
    product("stacks", (5, 2, 3), (5, 3, 4)),
    product("broadcast stacks", (5, 1, 2, 3), (6, 3, 4)),
    product("many rows", (2, 3, 4, 5), (5, 2)),
    product("nothing to sum", (2, 0), (0, 3)),
    product("empty", (0, 3), (3, 4)),
    Case("matmul", "with itself", lambda d: (d.normal(3, 3),) * 2, np.matmul, torch="matmul", scale="absolute", ulp=8),
    Case("matmul", "one fixed", lambda d: (d.normal(2, 3), const(d.normal(3, 2))), np.matmul, torch="matmul", scale="absolute",
         ulp=8, step=1),
    Case("matmul", "integers", lambda d: (d.integers(-5, 5, 2, 3), d.integers(-5, 5, 3, 2)), np.matmul, torch="matmul"),
    product("matrices", (2, 3), (3, 4), op="mm"),
    product("stacks", (5, 2, 3), (5, 3, 4), op="bmm"),
    product("matrix and vector", (2, 3), (3,), op="mv"),
    product("vectors", (3,), (3,), op="dot"),
    Case("outer", "vectors", lambda d: (d.normal(3), d.normal(4)), lambda x, other: x[:, None] * other, torch="outer", step=1),
    Case("linear", "matrix", lambda d: (d.normal(4, 3), d.normal(2, 3), d.normal(2)), linear, torch="nn.functional.linear",
         scale="absolute", ulp=8),
    Case("linear", "no bias", lambda d: (d.normal(4, 3), d.normal(2, 3)), linear, torch="nn.functional.linear", scale="absolute",
         ulp=8),
    Case("linear", "vector", lambda d: (d.normal(3), d.normal(2, 3), d.normal(2)), linear, torch="nn.functional.linear",
         scale="absolute", ulp=8),
    Case("linear", "stack", lambda d: (d.normal(2, 5, 3), d.normal(2, 3), d.normal(2)), linear, torch="nn.functional.linear",
         scale="absolute", ulp=8),
    Case("linear", "empty batch", lambda d: (d.normal(0, 3), d.normal(2, 3), d.normal(2)), linear, torch="nn.functional.linear"),
    Case("linear", "input fixed", lambda d: (const(d.normal(4, 3)), d.normal(2, 3), d.normal(2)), linear,
         torch="nn.functional.linear", scale="absolute", ulp=8),
]  # fmt: skip


def layer(x: tuple, weight: tuple, *bias: tuple):
    return lambda d: tuple(d.normal(*shape) for shape in (x, weight, *bias))


ERRORS = [
    Error("matmul", "inner lengths", lambda d: (d.normal(2, 3), d.normal(2, 3)), ValueError,
          r"\(2, 3\) and \(2, 3\) do not fit: the rows of x are 3 long, the columns of other 2"),
    Error("matmul", "leading", lambda d: (d.normal(2, 2, 3), d.normal(3, 3, 2)), ValueError, "leading dimensions"),
    Error("matmul", "number", lambda d: (d.normal(), d.normal(3)), ValueError, "at least 1 dimension"),
    Error("matmul", "dtypes", lambda d: (d.normal(2, 3), d.integers(0, 3, 3)), TypeError, "one dtype, but x is float"),
    Error("matmul", "python number", lambda d: (d.normal(2, 3), 2.0), TypeError, "other must be a Tensor, got float"),
    Error("mm", "stack", lambda d: (d.normal(2, 2, 3), d.normal(3, 2)), ValueError, "x must have 2 dimensions"),
    Error("bmm", "lengths", lambda d: (d.normal(2, 2, 3), d.normal(3, 3, 2)), ValueError, "equally long"),
    Error("mv", "matrix", lambda d: (d.normal(2, 3), d.normal(3, 1)), ValueError, "other must have 1 dimension, got"),
    Error("dot", "matrix", lambda d: (d.normal(2, 3), d.normal(3)), ValueError, "x must have 1 dimension, got"),
    Error("outer", "matrix", lambda d: (d.normal(2), d.normal(3, 1)), ValueError, "other must have 1 dimension"),
    Error("linear", "features", layer((2, 5), (4, 3)), ValueError, "expects 3 features, got 5: the in_features"),
    Error("linear", "pooling", layer((2, 64), (4, 16)), ValueError, "expects 16 features, got 64: is a pooling layer missing"),
    Error("linear", "not flattened", layer((2, 3, 2, 2), (4, 12)), ValueError, r"flatten it first \(3 x 2 x 2 = 12\)"),
    Error("linear", "no flattening seen", layer((2, 3, 2, 5), (4, 12)), ValueError, "is a flatten missing"),
    Error("linear", "bias", layer((2, 3), (4, 3), (3,)), ValueError, r"bias must have the shape \(4,\)"),
    Error("linear", "weight", layer((2, 3), (3,)), ValueError, r"weight must have the shape \(out, in\)"),
    Error("linear", "number", layer((), (4, 3)), ValueError, "0-d"),
    Error("linear", "integers", lambda d: (d.integers(0, 3, 2, 3), d.normal(4, 3)), TypeError, "x must hold floating-point"),
]  # fmt: skip
