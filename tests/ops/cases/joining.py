"""Rows for minigrad/ops/joining.py."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Draw, Error


def three(d: Draw) -> list[np.ndarray]:
    return [d.normal(2, 1, 2), d.normal(2, 3, 2), d.normal(2, 2, 2)]


def maps(d: Draw) -> list[np.ndarray]:
    return [d.normal(2, 3, 4, 4), d.normal(2, 1, 4, 4)]


CASES = [
    *(
        case
        for op in ("cat",)
        for case in (
            Case(op, "dim 0", lambda d: ([d.normal(2, 3), d.normal(1, 3)],), lambda xs: np.concatenate(xs), torch="cat", step=1),
            Case(op, "dim 1", lambda d: (three(d), {"dim": 1}), lambda xs, dim: np.concatenate(xs, 1), torch="cat", step=1),
            Case(op, "channels", lambda d: (maps(d), 1), lambda xs, dim: np.concatenate(xs, 1), torch="cat", step=1),
            Case(op, "one", lambda d: ([d.normal(3)], -1), lambda xs, dim: xs[0], torch="cat", step=1),
            Case(op, "the same twice", lambda d: ([d.normal(3)] * 2,), lambda xs: np.concatenate(xs), torch="cat", step=1),
            Case(op, "with an empty one", lambda d: ([d.normal(0), d.normal(2, 2)],), lambda xs: xs[1], torch="cat", step=1),
            Case(op, "integers", lambda d: ([d.integers(0, 9, 2), d.integers(0, 9, 3)],),
                 lambda xs: np.concatenate(xs), torch="cat"),
        )
    ),
    Case("stack", "dim 0", lambda d: ([d.normal(2, 3), d.normal(2, 3)],), lambda xs: np.stack(xs), torch="stack", step=1),
    Case("stack", "last", lambda d: ([d.normal(2, 3), d.normal(2, 3)], -1), lambda xs, dim: np.stack(xs, -1),
         torch="stack", step=1),
    Case("stack", "numbers", lambda d: ([d.normal(), d.normal()],), lambda xs: np.stack(xs), torch="stack", step=1),
    Case("split", "size", lambda d: (d.normal(5, 2), 2), lambda x, n: (x[:2], x[2:4], x[4:]), torch="split", view=True, step=1),
    Case("split", "sizes", lambda d: (d.normal(2, 5), [1, 4], 1), lambda x, n, dim: (x[:, :1], x[:, 1:]),
         torch="split", view=True,
         step=1),
    Case("split", "channels", lambda d: (d.normal(2, 4, 3, 3), 2, 1), lambda x, n, dim: (x[:, :2], x[:, 2:]), torch="split",
         view=True, step=1),
    Case("chunk", "uneven", lambda d: (d.normal(5, 2), 3), lambda x, n: (x[:2], x[2:4], x[4:]), torch="chunk", view=True, step=1),
    Case("chunk", "channels", lambda d: (d.normal(2, 4, 3, 3), 2, 1), lambda x, n, dim: (x[:, :2], x[:, 2:]), torch="chunk",
         view=True, step=1),
    Case("unbind", "first", lambda d: (d.normal(3, 2),), lambda x: tuple(x), torch="unbind", view=True, step=1),
    Case("unbind", "last", lambda d: (d.normal(2, 3), -1), lambda x, dim: tuple(x.T), torch="unbind", view=True, step=1),
]  # fmt: skip

ERRORS = [
    *(
        error
        for op in ("cat", "stack")
        for error in (
            Error(op, "no list", lambda d: (d.normal(2, 2),), TypeError, "tensors must be a list or tuple of Tensors"),
            Error(op, "empty", lambda d: ([],), ValueError, "at least one Tensor"),
            Error(op, "array inside", lambda d: ([d.normal(2), 1.0],), TypeError, r"tensors\[1\] must be a Tensor, got float"),
            Error(op, "dtypes", lambda d: ([d.normal(2), d.integers(0, 3, 2)],), TypeError, r"one dtype, but tensors\[0\] is"),
            Error(op, "range", lambda d: ([d.normal(2)], 3), IndexError, "dim=3 is out of range"),
        )
    ),
    *(
        error
        for op in ("cat",)
        for error in (
            Error(op, "shapes", lambda d: ([d.normal(2, 3), d.normal(2, 4)], 0), ValueError,
                  r"agree except along dim=0: \(2, 3\) and tensors\[1\] of shape \(2, 4\)"),
            Error(op, "numbers", lambda d: ([d.normal(), d.normal()],), ValueError, "use stack"),
        )
    ),
    Error("stack", "shapes", lambda d: ([d.normal(2), d.normal(3)],), ValueError, r"tensors\[0\] has \(2,\), tensors\[1\] has"),
    Error("split", "sum", lambda d: (d.normal(5), [2, 2]), ValueError, r"add up to 5, the length of dimension 0: 2 \+ 2 = 4"),
    Error("split", "zero", lambda d: (d.normal(5), 0), ValueError, "at least 1"),
    Error("split", "float", lambda d: (d.normal(5), 2.0), TypeError, "an integer or a list"),
    Error("chunk", "zero", lambda d: (d.normal(5), 0), ValueError, "at least 1"),
    Error("unbind", "number", lambda d: (d.normal(),), ValueError, "no dimension to unbind"),
]  # fmt: skip
