"""Rows for minigrad/ops/dropout.py."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Error


def check(y, x, p=0.5, training=True, inplace=False):
    """Every element is 0 or x / (1 - p), and about the share p of them is 0."""
    _check_values(y, x, p)
    zeros = (y == 0).mean()
    assert abs(zeros - p) < 5 * np.sqrt(p * (1 - p) / x.size)


def check_channels(y, x, p=0.5, training=True, inplace=False):
    """The same, and a channel is 0 as a whole or not at all."""
    _check_values(y, x, p)
    dropped = (y == 0).reshape(*x.shape[:2], -1)
    assert (dropped.all(axis=2) == dropped.any(axis=2)).all()
    assert abs(dropped.mean() - p) < 5 * np.sqrt(p * (1 - p) / (x.shape[0] * x.shape[1]))


def _check_values(y, x, p):
    tolerance = 4 * np.finfo(y.dtype).eps
    assert ((y == 0) | np.isclose(y * (1 - p), x, rtol=tolerance, atol=0)).all()


CASES = [
    Case("dropout", "half", lambda d: (d.away(20, 50),), None, check=check, step=1e-2),
    Case("dropout", "a tenth of images", lambda d: (d.away(5, 6, 7, 8), {"p": 0.1}), None, check=check, step=1e-2),
    Case("dropout", "most", lambda d: (d.away(1000), 0.9), None, check=check, step=1e-2),
    Case("dropout", "in place", lambda d: (d.away(20, 50), {"inplace": True}), None, check=check, inplace=True, step=1e-2),
    Case("dropout", "everything", lambda d: (d.normal(3, 4), 1), lambda x, p: 0 * x, torch="nn.functional.dropout", step=1),
    Case("dropout", "nothing", lambda d: (d.normal(3, 4), 0.0), lambda x, p: x, torch="nn.functional.dropout", view=True, step=1),
    Case("dropout", "evaluation", lambda d: (d.normal(3, 4), {"training": False}), lambda x, training: x,
         torch="nn.functional.dropout", view=True, step=1),
    Case("dropout2d", "half", lambda d: (d.away(20, 30, 2, 3),), None, check=check_channels, step=1e-2),
    Case("dropout2d", "a fifth", lambda d: (d.away(40, 30, 3, 2), {"p": 0.2}), None, check=check_channels, step=1e-2),
    Case("dropout2d", "in place", lambda d: (d.away(20, 30, 2, 3), {"inplace": True}), None, check=check_channels, inplace=True,
         step=1e-2),
    Case("dropout2d", "everything", lambda d: (d.normal(2, 3, 2, 2), 1.0), lambda x, p: 0 * x, torch="nn.functional.dropout2d",
         step=1),
    Case("dropout2d", "evaluation", lambda d: (d.normal(2, 3, 2, 2), {"training": False}), lambda x, training: x,
         torch="nn.functional.dropout2d", view=True, step=1),
]  # fmt: skip

ERRORS = [
    *(error for op in ("dropout", "dropout2d") for error in (
        Error(op, "p above 1", lambda d: (d.normal(1, 2, 3, 4), 1.5), ValueError, "p must be a probability.* got 1.5"),
        Error(op, "p NaN", lambda d: (d.normal(1, 2, 3, 4), float("nan")), ValueError, "p must be a probability"),
        Error(op, "p a boolean", lambda d: (d.normal(1, 2, 3, 4), True), ValueError, "p must be a probability"),
        Error(op, "list", lambda d: ([1.0],), TypeError, "x must be a Tensor, got list"),
        Error(op, "integers", lambda d: (d.integers(0, 9, 1, 2, 3, 4),), TypeError, "must hold floating-point numbers"),
        Error(op, "leaf in place", lambda d: (d.normal(1, 2, 3, 4), {"inplace": True}), RuntimeError, "leaf tensor that"),
    )),
    Error("dropout2d", "rows", lambda d: (d.normal(3, 4),), ValueError, r"x must be \(N, C, H, W\), got shape \(3, 4\)"),
]  # fmt: skip
