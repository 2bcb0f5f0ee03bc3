"""Rows for minigrad/ops/arithmetic.py."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Draw, Error, const


def pair(d: Draw) -> tuple:
    return d.normal(2, 3), d.normal(2, 3)


def broadcast(d: Draw) -> tuple:
    return d.normal(2, 1, 4), d.normal(3, 1)


def quotient(d: Draw) -> tuple:
    return d.normal(2, 3), d.away(3, gap=0.5)


def separated(d: Draw) -> tuple:
    """Two operands that differ by at least 0.1 everywhere."""
    x = d.normal(3, 4)
    return x, x + d.away(3, 4)


def compared(d: Draw) -> tuple:
    """Two operands that are equal at some places."""
    return d.integers(-2, 3, 4, 5).astype(float), d.integers(-2, 3, 5).astype(float)


CASES = [
    # ---- binary -----------------------------------------------------------------------------------------------------
    Case("add", "same shape", pair, lambda x, y: x + y, torch="add", step=1),
    Case("add", "broadcast", broadcast, lambda x, y: x + y, torch="add", step=1),
    Case("add", "number", lambda d: (d.normal(4), 2.5), lambda x, y: x + y, torch="add", step=1),
    Case("add", "number first", lambda d: (1, d.normal(2, 2)), lambda x, y: x + y, step=1),
    Case("add", "alpha", lambda d: (*broadcast(d), {"alpha": -2}), lambda x, y, alpha: x + alpha * y, torch="add",
         scale="output"),
    Case("add", "0-d", lambda d: (d.normal(), d.normal(3)), lambda x, y: x + y, torch="add", step=1),
    Case("add", "empty", lambda d: (d.normal(0, 3), d.normal(3)), lambda x, y: x + y, torch="add"),
    Case("add", "images", lambda d: (d.normal(2, 3, 4, 4), d.normal(3, 1, 1)), lambda x, y: x + y, torch="add", step=1),
    Case("add", "itself", lambda d: (d.normal(3),) * 2, lambda x, y: x + y, torch="add", step=1),
    Case("sub", "same shape", pair, lambda x, y: x - y, torch="sub", step=1),
    Case("sub", "broadcast", broadcast, lambda x, y: x - y, torch="sub", step=1),
    Case("sub", "number first", lambda d: (1.5, d.normal(2, 2)), lambda x, y: x - y, step=1),
    Case("sub", "alpha", lambda d: (*pair(d), {"alpha": 3}), lambda x, y, alpha: x - alpha * y, torch="sub", scale="output"),
    Case("mul", "same shape", pair, lambda x, y: x * y, torch="mul", step=1),
    Case("mul", "broadcast", broadcast, lambda x, y: x * y, torch="mul", step=1),
    Case("mul", "itself", lambda d: (d.normal(2, 3),) * 2, lambda x, y: x * y, torch="mul"),
    Case("mul", "number", lambda d: (d.normal(2, 3), -3), lambda x, y: x * y, torch="mul", step=1),
    Case("mul", "one operand fixed", lambda d: (d.normal(2, 3), const(d.normal(3))), lambda x, y: x * y, torch="mul", step=1),
    Case("mul", "boolean operand", lambda d: (d.normal(2, 3), d.booleans(2, 3)), lambda x, y: x * y, torch="mul", step=1),
    Case("div", "same shape", lambda d: (d.normal(2, 3), d.away(2, 3, gap=0.5)), lambda x, y: x / y, torch="div"),
    Case("div", "broadcast", quotient, lambda x, y: x / y, torch="div"),
    Case("div", "number", lambda d: (d.normal(2, 3), 4), lambda x, y: x / y, torch="div", step=1),
    Case("div", "number first", lambda d: (2, d.away(3, gap=0.5)), lambda x, y: x / y),
    Case("div", "by zero", lambda d: (const(np.array([1.0, -1.0, 0.0])), 0), lambda x, y: x / np.zeros(3)),
    Case("div", "floor", lambda d: (*map(const, quotient(d)), {"rounding_mode": "floor"}),
         lambda x, y, rounding_mode: np.floor(x / y), torch="div"),
    Case("div", "trunc", lambda d: (*map(const, quotient(d)), {"rounding_mode": "trunc"}),
         lambda x, y, rounding_mode: np.trunc(x / y), torch="div"),
    Case("pow", "square", lambda d: (d.normal(2, 3), 2), lambda x, p: x * x, torch="pow"),
    Case("pow", "cube of negative", lambda d: (-d.positive(2, 3), 3), lambda x, p: x * x * x, torch="pow"),
    Case("pow", "root", lambda d: (d.positive(2, 3), 0.5), lambda x, p: np.sqrt(x), torch="pow"),
    Case("pow", "reciprocal", lambda d: (d.away(4, gap=0.5), -1), lambda x, p: 1 / x, torch="pow"),
    Case("pow", "exponent 0", lambda d: (np.array([0.0, 1.0, -2.0]), 0), lambda x, p: np.ones(3), torch="pow", nan=False,
         why="NaN ** 0 is 1 by IEEE"),
    Case("pow", "tensors", lambda d: (d.positive(2, 3), d.normal(3)), lambda x, p: np.exp(p * np.log(x)), torch="pow", ulp=16),
    Case("pow", "base a number", lambda d: (2.0, d.normal(2, 3)), lambda x, p: np.exp2(p)),
    Case("neg", "normal", lambda d: (d.normal(2, 3, 2, 2),), lambda x: 0 - x, torch="neg", step=1),
    Case("maximum", "same shape", separated, lambda x, y: np.where(x != x, x, np.where(x > y, x, y)), torch="maximum"),
    Case("maximum", "number", lambda d: (d.away(3, 4, points=(0.5,)), 0.5), lambda x, y: np.where(x < y, y, x)),
    Case("minimum", "same shape", separated, lambda x, y: np.where(x != x, x, np.where(x < y, x, y)), torch="minimum"),
    # ---- without gradient -------------------------------------------------------------------------------------------
    Case("eq", "broadcast", compared, lambda x, y: x == y, torch="eq"),
    Case("eq", "number", lambda d: (compared(d)[0], 1), lambda x, y: x == y, torch="eq"),
    Case("ne", "broadcast", compared, lambda x, y: x != y, torch="ne"),
    Case("lt", "broadcast", compared, lambda x, y: x < y, torch="lt"),
    Case("le", "broadcast", compared, lambda x, y: x <= y, torch="le"),
    Case("gt", "broadcast", compared, lambda x, y: x > y, torch="gt"),
    Case("ge", "broadcast", compared, lambda x, y: x >= y, torch="ge"),
    Case("logical_and", "booleans", lambda d: (d.booleans(4, 5), d.booleans(5)), lambda x, y: x & y, torch="logical_and"),
    Case("logical_and", "numbers", compared, lambda x, y: (x != 0) & (y != 0), torch="logical_and"),
    Case("logical_or", "booleans", lambda d: (d.booleans(4, 5), d.booleans(5)), lambda x, y: x | y, torch="logical_or"),
    Case("logical_not", "booleans", lambda d: (d.booleans(4, 5),), lambda x: ~x, torch="logical_not"),
    Case("floor_divide", "broadcast", quotient, lambda x, y: np.floor(x / y), torch="floor_divide"),
    Case("floor_divide", "integers", lambda d: (d.integers(-9, 9, 8), 4), lambda x, y: np.floor(x / y), torch="floor_divide"),
    Case("remainder", "broadcast", quotient, lambda x, y: x - y * np.floor(x / y), torch="remainder", scale="output"),
    Case("isnan", "mixed", lambda d: (np.array([0.0, np.nan, np.inf, -np.inf]),), lambda x: x != x, torch="isnan"),
    Case("isinf", "mixed", lambda d: (np.array([0.0, np.nan, np.inf, -np.inf]),), lambda x: np.abs(x) == np.inf, torch="isinf"),
    Case("isfinite", "mixed", lambda d: (np.array([0.0, np.nan, np.inf, -np.inf]),), lambda x: np.abs(x) < np.inf,
         torch="isfinite"),
    # ---- in place ---------------------------------------------------------------------------------------------------
    Case("add_", "same shape", pair, lambda x, y: x + y, torch="Tensor.add_", inplace=True, step=1),
    Case("add_", "broadcast", lambda d: (d.normal(2, 3), d.normal(3)), lambda x, y: x + y, torch="Tensor.add_", inplace=True,
         step=1),
    Case("add_", "alpha", lambda d: (*pair(d), {"alpha": -0.5}), lambda x, y, alpha: x + alpha * y, torch="Tensor.add_",
         inplace=True, step=1, scale="output"),
    Case("sub_", "broadcast", lambda d: (d.normal(2, 3), d.normal(3)), lambda x, y: x - y, torch="Tensor.sub_", inplace=True,
         step=1),
    Case("mul_", "broadcast", lambda d: (d.normal(2, 3), d.normal(3)), lambda x, y: x * y, torch="Tensor.mul_", inplace=True,
         step=1),
    Case("mul_", "number", lambda d: (d.normal(2, 3), 3), lambda x, y: x * y, torch="Tensor.mul_", inplace=True, step=1),
    Case("div_", "broadcast", quotient, lambda x, y: x / y, torch="Tensor.div_", inplace=True),
    Case("copy_", "broadcast", lambda d: (d.normal(2, 3), d.normal(3)), lambda x, y: np.stack([y, y]), torch="Tensor.copy_",
         inplace=True, step=1),
    Case("fill_", "number", lambda d: (d.normal(2, 3), 7), lambda x, value: np.full_like(x, 7), torch="Tensor.fill_",
         inplace=True),
    Case("zero_", "plain", lambda d: (d.normal(2, 3),), lambda x: np.zeros_like(x), torch="Tensor.zero_", inplace=True),
]  # fmt: skip


def _wrong_operands(op: str, inplace: bool = False) -> list[Error]:
    """What every op of two operands must refuse."""
    return [
        Error(
            op, "shapes", lambda d: (d.normal(2, 3), d.normal(2)), ValueError, r"\(2, 3\) and \(2,\) do not broadcast", inplace
        ),
        Error(op, "string", lambda d: (d.normal(2), "1"), TypeError, "expected a Tensor or a number, got str", inplace),
        Error(op, "list", lambda d: (d.normal(2), [1, 2]), TypeError, "got list: use mg.tensor", inplace),
    ]


ERRORS = [
    *(error for op in ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "logical_and",
                       "logical_or", "floor_divide", "remainder") for error in _wrong_operands(op)),
    *(error for op in ("add_", "sub_", "mul_", "div_", "copy_") for error in _wrong_operands(op, inplace=True)),
    Error("add", "two numbers", lambda d: (1, 2), TypeError, "at least one Tensor"),
    Error("div", "rounding mode", lambda d: (d.normal(2), d.normal(2), {"rounding_mode": "up"}), ValueError,
          "rounding_mode must be"),
    Error("neg", "list", lambda d: ([1, 2],), TypeError, r"x must be a Tensor, got list: use mg.tensor\(x\)"),
    *(Error(op, "number", lambda d: (1.0,), TypeError, "x must be a Tensor, got float")
      for op in ("isnan", "isinf", "isfinite", "logical_not")),
    Error("add_", "growing", lambda d: (d.normal(3), d.normal(2, 3)), ValueError, "does not fit into", inplace=True),
    Error("add_", "leaf", lambda d: (d.normal(3), 1), RuntimeError, "leaf tensor that requires grad"),
    Error("mul_", "float into integers", lambda d: (d.integers(0, 9, 3), 0.5), TypeError,
          "cannot be stored in a tensor of dtype"),
    Error("div_", "integers", lambda d: (d.integers(0, 9, 3), 2), TypeError, "quotient cannot be stored"),
    Error("fill_", "string", lambda d: (d.normal(3), "0"), TypeError, "expected a Tensor or a number", inplace=True),
    Error("zero_", "list", lambda d: ([1],), TypeError, "x must be a Tensor"),
]  # fmt: skip
